"""Measures mover against cp, tar and a minimal pair of programs, and its memory and latencies.

Started by scripts/bench. Every ratio comes from interleaved pairs (mover, peer, mover, peer ...) in one run; a set is
measured again when the peer itself varied or the machine was not idle. Source and tape files are on tmpfs.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench_direct import direct_access
from bench_iscsi import missing, timed
from bench_jobs import (
    TAR,
    Bench,
    cp,
    dd,
    latencies,
    memory,
    records,
    restore_all,
    socket_pair,
    tar_create,
    tar_extract,
    timed_backup,
    timed_recover,
)
from bench_measure import ATTEMPTS, IDLE_WAIT_S, MEMORY, Comparison, commit, conduct, measure, now, percentile, say
from bench_report import Limit, Report, machine
from bench_tape import tape_limits

from tests.data.backup_runner import backup_here, request
from tests.support.trees import make_large_file, make_small_files

KIB, MIB = 1 << 10, 1 << 20
AGAIN_S = 300.0
"""A run that has lasted so long measures no set of pairs again, and waits no more for a machine at rest."""


class Scale(NamedTuple):
    """How much to measure."""

    large_bytes: int
    files: int
    directories: int
    pairs: int
    rounds: int
    direct_bytes: int
    direct_files: int


FULL = Scale(2 << 30, 50_000, 100, 5, 20, 10 << 30, 100_000)
QUICK = Scale(64 << 20, 2000, 10, 2, 3, 256 << 20, 5000)


def comparisons(bench: Bench, scale: Scale) -> list[Comparison]:
    """The ratios of the table; makes their trees."""
    large = bench.source / "large"
    large.mkdir()
    file = large / "file"
    make_large_file(file, size=scale.large_bytes)
    small = bench.source / "small"
    make_small_files(small, files=scale.files, directories=scale.directories)
    archive = bench.place / "small.tar"
    subprocess.run([*TAR, "-C", small, "-cf", archive, "."], check=True)
    dump = bench.place / "small.dump"
    dump.write_bytes(backup_here(request(small)).stream)

    def backup_with_history(butype: str = "dump") -> float:
        times = timed_backup(bench, small, history=True, butype=butype)
        posts = 2 if butype == "dump" else 1  # of one object: its name and its attributes, or both together
        wanted = posts * (scale.files + scale.directories + 1)
        if times.history_entries < wanted:
            raise RuntimeError(f"{times.history_entries} entries of file history came, not {wanted}")
        return times.whole_s

    mebibytes = scale.large_bytes / MIB
    tar = " ".join(TAR)
    tree = f"{scale.files:,} files of 4 KiB in {scale.directories} directories"
    size = f"{mebibytes / 1024:g} GiB" if mebibytes >= 1024 else f"{mebibytes:g} MiB"
    return [
        Comparison(
            f"local dump of one {size} file in records of {bench.record_size // KIB} KiB, streaming phase", "`cp`", 0.8,
            "MiB/s", mebibytes,
            lambda: timed_backup(bench, large).streaming_s, lambda: cp(bench, file),
        ),
        Comparison(
            "the same with records of 1 MiB", "`cp`", 0.8, "MiB/s", mebibytes,
            lambda: timed_backup(bench, large, record_size=MIB).streaming_s, lambda: cp(bench, file),
        ),
        Comparison(
            f"TAPE_WRITE inside the tape worker: {size} in records of 64 KiB", "`dd bs=64k`", 0.6, "MiB/s", mebibytes,
            lambda: records(bench, file, 64 * KIB), lambda: dd(bench, file, 64 * KIB),
        ),
        Comparison(
            f"three-way dump on loopback of one {size} file, streaming phase", "a minimal Python pair", 0.8, "MiB/s",
            mebibytes, lambda: timed_backup(bench, large, three_way=True).streaming_s,
            lambda: socket_pair(bench, file),
        ),
        Comparison(
            f"dump of {tree}, history off", f"`{tar} -cf - DIR \\| cat`", 1.3, "files/s", scale.files,
            lambda: timed_backup(bench, small).whole_s, lambda: tar_create(small),
        ),
        Comparison(
            "the same with file history sent to a client", "the same tar", 1.1, "files/s", scale.files,
            backup_with_history, lambda: tar_create(small),
        ),
        Comparison(
            "type tar: backup of those files, history off", "the same tar", 1.2, "files/s", scale.files,
            lambda: timed_backup(bench, small, butype="tar").whole_s, lambda: tar_create(small),
        ),
        Comparison(
            "type tar: the same with file history sent to a client", "the same tar", 1.0, "files/s", scale.files,
            lambda: backup_with_history("tar"), lambda: tar_create(small),
        ),
        Comparison(
            "recover of those files to tmpfs", "`tar -xf`", 1.2, "files/s", scale.files,
            lambda: timed_recover(bench, small), lambda: tar_extract(bench, archive),
        ),
        Comparison(
            "the same recover", "`restore -rf` of the same dump", 1.0, "files/s", scale.files,
            lambda: timed_recover(bench, small), lambda: restore_all(bench, dump),
        ),
        Comparison(
            "type tar: recover of those files to tmpfs", "`tar -xf`", 1.2, "files/s", scale.files,
            lambda: timed_recover(bench, small, butype="tar"), lambda: tar_extract(bench, archive),
        ),
        Comparison(
            "type tar: the same recover", "`restore -rf` of the dump", 1.0, "files/s", scale.files,
            lambda: timed_recover(bench, small, butype="tar"), lambda: restore_all(bench, dump),
        ),
    ]  # fmt: skip


def of_peers(bench: Bench, scale: Scale) -> list[Comparison]:
    """The ratios that need programs which need not be here."""
    absent = missing()
    if absent:
        say(f"without drives over iSCSI: {absent} not installed")
        return []
    size, records = 256 * KIB, min(scale.large_bytes, 1 << 30) // (256 * KIB)
    return [
        Comparison(
            "records of 256 KiB written to and read from a drive over iSCSI, inside the tape worker",
            "a bare loop of libiscsi", 0.8, "MiB/s", 2 * records * size / MIB,
            lambda: timed(bench, "worker", size, records), lambda: timed(bench, "bare", size, records),
        )
    ]  # fmt: skip


def limits(bench: Bench, scale: Scale) -> list[Limit]:
    """Memory and latencies."""
    small = bench.source / "small"
    inodes = scale.files + scale.directories + 1
    found = []
    say("  memory")
    for kind, peak in sorted(memory(bench, small).items()):
        bar = 80.0 if kind == "control" else 60 + 200 * inodes / 1e6
        process = "control" if kind == "control" else f"a {kind} worker, rings left out"
        found.append(
            Limit(
                work=f"memory of {process}", bar=bar, unit="MB", value=peak / 1e6,
                seen=f"peak over a backup with history and a recover of {inodes:,} inodes",
            )
        )  # fmt: skip
    tiny = bench.source / "tiny"
    make_small_files(tiny, files=20, directories=2)
    say("  latencies")
    alone = latencies(bench, tiny, at_once=1, rounds=scale.rounds)
    together = latencies(bench, tiny, at_once=10, rounds=max(1, scale.rounds // 4))
    for name, one, ten in (
        ("TAPE_OPEN", alone.tape_open, together.tape_open),
        ("START_BACKUP", alone.start_backup, together.start_backup),
    ):
        found.append(_latency(f"{name}, request to reply, median", 5.0, statistics.median(one), one))
        found.append(_latency(f"{name}, ten at once, 90th percentile", 150.0, percentile(ten, 0.9), ten))
    return found


def _latency(work: str, bar_ms: float, value_s: float, all_s: list[float]) -> Limit:
    seen = f"{len(all_s)} requests, {min(all_s) * 1e3:.1f} to {max(all_s) * 1e3:.1f} ms"
    return Limit(work=work, bar=bar_ms, unit="ms", value=value_s * 1e3, seen=seen)


def run(scale: Scale, record_size: int, only: str | None, attempts: int) -> Report:
    """The whole table."""
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="mover-bench-", dir=MEMORY))
    try:
        bench = Bench(place, record_size=record_size)
        say("making the trees")
        rows = [*comparisons(bench, scale), *of_peers(bench, scale)]
        bench.keep_memory(2 * scale.large_bytes + 2 * scale.files * 10 * KIB)
        wanted = [each for each in rows if only is None or only in each.work]
        ratios = []
        for each in wanted:
            late = time.monotonic() - began > AGAIN_S
            ratios.append(measure(each, scale.pairs, 1 if late else attempts, idle_wait_s=0 if late else IDLE_WAIT_S))
        figures = limits(bench, scale) if only is None else []
        if only is None or only in "direct access":
            say("  direct access")
            figures += direct_access(
                bench, stream_bytes=scale.direct_bytes, files=scale.direct_files, rounds=scale.rounds
            )
        if only is None or only in "tape service":
            say("  tape service")
            figures += tape_limits(bench.new_directory("tape"), scale.rounds)
    finally:
        shutil.rmtree(place)
    conditions = {
        **machine(),
        "file system": "tmpfs for source, tape files, state and recovered trees; page cache warm",
        "record size": f"{record_size // 1024} KiB",
        "ring": "8 MiB (the default)",
        "tree": f"{scale.large_bytes // MIB:,} MiB in one file; {scale.files:,} files of 4 KiB in {scale.directories}"
        " directories",
        "pairs": f"{scale.pairs}, interleaved; each run with new servers and new cartridges",
        "clock": "streaming phase: START_BACKUP's reply to both HALTED; small files: from the request",
    }
    return Report(date=now(), commit=commit(), conditions=conditions, ratios=ratios, limits=figures)


def main() -> int:
    """Parses the command line, measures, prints, stores."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to try it; nothing is stored")
    parser.add_argument(
        "--only",
        metavar="TEXT",
        help="only the ratios whose name has TEXT, or direct access, or tape service; nothing is stored",
    )
    parser.add_argument("--record-size", type=int, default=256, metavar="KIB", help="mover record size (default: 256)")
    parser.add_argument(
        "--attempts", type=int, default=ATTEMPTS, metavar="N", help=f"sets of pairs at the most (default: {ATTEMPTS})"
    )
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    return conduct(
        "bench",
        lambda: run(scale, options.record_size * 1024, options.only, max(1, options.attempts)),
        keep=not options.quick and options.only is None,
    )


if __name__ == "__main__":
    sys.exit(main())
