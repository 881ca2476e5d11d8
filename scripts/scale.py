"""Measures mover on trees of millions of entries: time of an incremental backup against find, memory, and an abort.

Started by scripts/scale. Trees are made of empty files and hard links: the tree of a million entries on tmpfs, the
larger one, of which tmpfs would hold every name in memory for good, below --place.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from bench_jobs import Bench, finish, settle, stop
from bench_measure import ATTEMPTS, IDLE_WAIT_S, MEMORY, Comparison, commit, conduct, measure, now, say
from bench_report import Limit, Ratio, Report, machine
from scale_memory import EVERY_S, Peak
from scale_trees import Shape, change_files, make_tree

from mover.ndmp.enums import DataHaltReason, MoverMode
from mover.ndmp.messages import (
    DataAbortRequest,
    DataGetStateReply,
    DataGetStateRequest,
    DataStartBackupRequest,
    DataStartRecoverRequest,
    MoverAbortRequest,
    NotifyDataHaltedPost,
    RecoverName,
)
from tests.support.ndmp_client import Job, pairs
from tests.support.processes import mapped_rings, workers
from tests.support.servers import Server, write_config

DEADLINE_S: Final = 1800.0
MIB: Final = 1 << 20
FULL_DRIVE: Final = "vtl0/drive0"
LEVEL_DRIVE: Final = "vtl0/drive1"
CHANGED: Final = 100
BYTES_AN_INODE: Final = 120.0
PEAK_MIB: Final = 1536.0
ABORT_MS: Final = 1000.0
RECOVER_BASE_MB, RECOVER_MB_PER_MILLION = 60.0, 200.0
POLL_S: Final = 0.005


class Scale(NamedTuple):
    """How much to measure."""

    tree: Shape
    larger: Shape
    pairs: int
    aborts: int
    idle_wait_s: float


FULL = Scale(Shape(9_900, 100, 1), Shape(10_000, 200, 5), 5, 8, IDLE_WAIT_S)
QUICK = Scale(Shape(30, 100, 1), Shape(10, 50, 5), 1, 2, 0.0)


class Place:
    """A server with one tree to back up, and two drives: a cartridge for the full backup, one for the levels."""

    def __init__(self, bench: Bench, server: Server, tree: Path) -> None:
        self._bench = bench
        self._server = server
        self._tree = tree

    def _start(self, job: Job, level: int) -> float:
        job.connect_data(MoverMode.READ, record_size=self._bench.record_size)
        env = pairs(FILESYSTEM=str(self._tree), HIST="n", LEVEL=str(level), UPDATE="y")
        began = time.monotonic()
        job.data.ok(DataStartBackupRequest(b"dump", env))
        return began

    def backup(self, level: int) -> float:
        """Seconds from START_BACKUP to the later of both HALTED."""
        settle([self._server])
        with self._job(level) as job:
            began = self._start(job, level)
            ended = finish(job)
            stop(job)
            if level and not any(f" and {CHANGED} files" in line for line in job.data.log()):
                raise RuntimeError(f"level {level} is not of {CHANGED} files: {job.data.log()}")
        return ended - began

    def _job(self, level: int) -> Job:
        login = self._bench.login
        return Job.connect(self._server, self._server, login, drive=LEVEL_DRIVE if level else FULL_DRIVE)

    def first_byte(self) -> float:
        """Seconds from START_BACKUP of a full backup to the first byte of its stream; what follows is aborted."""
        settle([self._server])
        with self._job(1) as job:
            began = self._start(job, 0)
            while not _processed(job):
                time.sleep(POLL_S)
            found = time.monotonic() - began
            self._abort(job)
        return found

    def abort(self, level: int, after_s: float) -> float:
        """Seconds from ABORT, so long behind START_BACKUP, until no process works on the backup any more."""
        settle([self._server])
        with self._job(level) as job:
            self._start(job, level)
            time.sleep(after_s)
            return self._abort(job)

    def _abort(self, job: Job) -> float:
        began = time.monotonic()
        job.data.ok(DataAbortRequest())
        job.data.data_halted(deadline_s=DEADLINE_S)
        while any(mapped_rings(pid) for pid in workers(self._server, "data")):
            time.sleep(POLL_S)
        ended = time.monotonic()
        job.data.send(MoverAbortRequest())
        job.data.mover_halted(deadline_s=DEADLINE_S)
        stop(job)
        return ended - began

    def memory_of_backup(self, level: int) -> Peak:
        """What the data workers take for one."""
        settle([self._server])
        with Peak(self._server) as peak:
            self.backup(level)
        return peak

    def memory_of_recover(self, destination: Path) -> Peak:
        """What the data workers take to recover the full backup."""
        settle([self._server])
        with Peak(self._server) as peak, self._job(0) as job:
            job.connect_data(MoverMode.WRITE, record_size=self._bench.record_size)
            names = (RecoverName(b"", str(destination).encode()),)
            job.data.ok(DataStartRecoverRequest(pairs(FILESYSTEM=str(self._tree)), names, b"dump"))
            reason = job.data.wait_for(NotifyDataHaltedPost, deadline_s=DEADLINE_S).reason
            if reason != DataHaltReason.SUCCESSFUL:
                raise RuntimeError(f"the recover halted with reason {reason}: {job.data.log()}")
        return peak


def _processed(job: Job) -> int:
    reply = job.data.ok(DataGetStateRequest())
    assert isinstance(reply, DataGetStateReply)
    return reply.bytes_processed


@contextmanager
def place_of(bench: Bench, above: Path, shape: Shape, recovered: Path) -> Iterator[Place]:
    """A server with a new tree below a directory."""
    home = bench.new_directory("server")
    tree = above / "tree"
    say(f"making a tree of {shape.entries:,} entries below {above}")
    make_tree(tree, shape)
    volumes = {"source": above, "recovered": recovered}
    try:
        with Server(write_config(home, bench.login, volumes=volumes, drives=2)) as server:
            for drive in (FULL_DRIVE, LEVEL_DRIVE):
                server.ask("tape", "load", drive)
            time.sleep(2)  # what was made in the second of the full backup would be in the level, too
            yield Place(bench, server, tree)
    finally:
        shutil.rmtree(home)
        shutil.rmtree(tree)


def find(tree: Path) -> float:
    """Seconds of find, which looks at every entry's time of change as a level has to."""
    began = time.monotonic()
    with subprocess.Popen(["find", tree, "-printf", "%C@\n"], stdout=subprocess.DEVNULL) as process:
        if process.wait():
            raise RuntimeError(f"find ended with {process.returncode}")
    return time.monotonic() - began


def a_million(bench: Bench, scale: Scale, attempts: int) -> tuple[list[Ratio], list[Limit]]:
    """The rows of the smaller tree."""
    shape = scale.tree
    recovered = bench.new_directory("recovered")
    with place_of(bench, bench.source, shape, recovered) as place:
        tree = bench.source / "tree"
        say("  level 0")
        full = place.memory_of_backup(0)
        change_files(tree, shape, CHANGED)
        entries = f"{shape.entries:,} entries"
        peer = "`find DIR -printf '%C@\\n'`"
        ratios = [
            measure(
                Comparison(
                    f"level 1 of a tree of {entries} with {CHANGED} changed, START_BACKUP to HALTED", peer, 0.5,
                    "entries/s", shape.entries, lambda: place.backup(1), lambda: find(tree),
                ),
                scale.pairs, attempts, idle_wait_s=scale.idle_wait_s,
            ),
            measure(
                Comparison(
                    f"level 0 of {entries}, START_BACKUP to the first byte of the stream", peer, 1.0,
                    "entries/s", shape.entries, place.first_byte, lambda: find(tree),
                ),
                scale.pairs, attempts, idle_wait_s=scale.idle_wait_s,
            ),
        ]  # fmt: skip
        say("  level 1, an abort, a recover")
        incremental = place.memory_of_backup(1)
        whole_s = shape.entries / statistics.median(ratios[0].mover)
        aborts = [place.abort(1, whole_s * part / scale.aborts) for part in range(scale.aborts)]
        recover = place.memory_of_recover(recovered)
    shutil.rmtree(recovered)
    limits = [
        Limit(
            work=f"memory of level {level} of {entries}, an inode", bar=BYTES_AN_INODE, unit="bytes",
            value=peak.growth / shape.inodes, seen=_grown(peak),
        )
        for level, peak in enumerate((full, incremental))
    ]  # fmt: skip
    limits.append(
        Limit(
            work=f"abort of a level 1 of {entries}, until no process works on it, at the most", bar=ABORT_MS,
            unit="ms", value=max(aborts) * 1e3,
            seen=f"{len(aborts)} places of it, {min(aborts) * 1e3:.0f} to {max(aborts) * 1e3:.0f} ms",
        )
    )  # fmt: skip
    limits.append(
        Limit(
            work=f"memory of a recover of {entries}",
            bar=RECOVER_BASE_MB + RECOVER_MB_PER_MILLION * shape.inodes / 1e6, unit="MB",
            value=(recover.before + recover.growth) / 1e6, seen=_grown(recover),
        )
    )  # fmt: skip
    return ratios, limits


def ten_millions(bench: Bench, above: Path, shape: Shape) -> list[Limit]:
    """The rows of the larger tree."""
    limits = []
    with place_of(bench, above, shape, above) as place:
        for level in (0, 1):
            say(f"  level {level}")
            began = time.monotonic()
            peak = place.memory_of_backup(level)
            took_s = time.monotonic() - began
            what = f"{shape.entries:,} entries, {shape.inodes:,} inodes"
            limits.append(
                Limit(
                    work=f"memory of level {level} of a tree of {what}", bar=PEAK_MIB, unit="MiB",
                    value=(peak.before + peak.growth) / MIB, seen=f"{_grown(peak)}; {took_s:.0f} s in all",
                )
            )  # fmt: skip
            if not level:
                change_files(above / "tree", shape, CHANGED)
    return limits


def _grown(peak: Peak) -> str:
    return f"grown by {peak.growth / MIB:,.1f} MiB at the most, all data workers together"


def run(scale: Scale, above: Path, only: str | None, attempts: int) -> Report:
    """The whole table."""
    ratios: list[Ratio] = []
    limits: list[Limit] = []
    memory = Path(tempfile.mkdtemp(prefix="mover-scale-", dir=MEMORY))
    disk = Path(tempfile.mkdtemp(prefix="mover-scale-", dir=above))
    try:
        bench = Bench(memory, record_size=256 * 1024)
        if only != "larger":
            ratios, limits = a_million(bench, scale, attempts)
        if only != "smaller":
            limits += ten_millions(bench, disk, scale.larger)
    finally:
        shutil.rmtree(memory)
        shutil.rmtree(disk)
    conditions = {
        **machine(),
        "file systems": "tmpfs for the smaller tree, cartridges and state, that of --place for the larger tree; page"
        " cache warm",
        "smaller tree": f"empty files, {scale.tree.files} in a directory",
        "larger tree": f"empty files, {scale.larger.files} in a directory, {scale.larger.names} names each",
        "pairs": f"{scale.pairs}, interleaved; history off, UPDATE=y; entries/s of find divide ours",
        "memory": f"proportional set, rings left out, looked at every {1000 * EVERY_S:.0f} ms; an inode's: how much it"
        " grew over the whole backup",
    }
    return Report(date=now(), commit=commit(), conditions=conditions, ratios=ratios, limits=limits)


def main() -> int:
    """Parses the command line, measures, prints, stores."""
    parser = argparse.ArgumentParser(prog="scripts/scale", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small trees, to try it; nothing is stored, and bars mean nothing"
    )
    parser.add_argument("--only", choices=["smaller", "larger"], help="only one of the trees; nothing is stored")
    parser.add_argument(
        "--place", type=Path, default=Path("/var/tmp"), metavar="DIR", help="where the larger tree is made"
    )
    parser.add_argument(
        "--attempts", type=int, default=ATTEMPTS, metavar="N", help=f"sets of pairs at the most (default: {ATTEMPTS})"
    )
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    return conduct(
        "scale",
        lambda: run(scale, options.place, options.only, max(1, options.attempts)),
        keep=not options.quick and options.only is None,
    )


if __name__ == "__main__":
    sys.exit(main())
