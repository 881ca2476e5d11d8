"""Measures how mover answers hundreds of connections while it streams a backup, and what that costs the stream.

Started by scripts/load. Each connection asks DATA_GET_STATE once a second in an open loop (load_client.py). The same
backups run without the load in turn with those under it, in interleaved pairs. The same client also asks a responder
that does nothing but answer, which tells what of the times is the client's and the machine's, and ndmjob's daemon.
"""

import argparse
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
from bench_jobs import MIB, Bench, backup, stop
from bench_measure import MEMORY, Comparison, commit, conduct, measure, now, say
from bench_report import Limit, machine
from load_client import Plan
from load_report import Answers, LoadReport, Run, answers
from load_runs import START_S, forked, ndmjob, responder, under_load, wait_idly

from mover.ndmp.enums import TapeMode, TapeOperation
from mover.ndmp.messages import TapeCloseRequest, TapeMtioRequest, TapeOpenRequest
from tests.support import peers
from tests.support.ndmp_client import Job
from tests.support.servers import Login, Server
from tests.support.trees import make_large_file

PERCENTILE_BAR_MS = 20.0
STREAM_BAR = 0.9
NDMJOB_LOGIN = Login("ndmp", "ndmp")  # its own, built in


class Scale(NamedTuple):
    """How much to measure."""

    connections: int
    seconds: int
    """Of each run that a bar is about, and of its counterpart on ndmjob."""
    pairs: int
    file_bytes: int
    idle_wait_s: float

    @property
    def short_s(self) -> int:
        """Of every other run."""
        return min(self.seconds, SHORT_S)


SHORT_S = 20  # a dozen backups; six thousand requests
FULL = Scale(300, 60, 5, 2 << 30, 10.0)
QUICK = Scale(300, 8, 2, 128 << 20, 0.0)


# ---- the stream


def empty(job: Job) -> None:
    """Cut the cartridge back to a filemark, so that the next backup need not, and leave it rewound."""
    job.tape.ok(TapeOpenRequest(job.drive.encode(), TapeMode.RDWR))
    for operation in (TapeOperation.REW, TapeOperation.EOF, TapeOperation.REW):
        job.tape.ok(TapeMtioRequest(operation, 1))
    job.tape.ok(TapeCloseRequest())


def stream(bench: Bench, server: Server, tree: Path, end: float) -> float:
    """Backups of the tree, one after the other, until `end` (monotonic); the median of their streaming phases, in s.

    One that is not through by then does not count.

    Raises:
        RuntimeError: no backup fits.
    """
    taken: list[float] = []
    began = time.monotonic()
    while time.monotonic() < end:
        with bench.job(server, server) as job:
            times = backup(bench, job, tree)
            in_time = time.monotonic() <= end
            stop(job)
            empty(job)
        if not in_time:
            break
        taken.append(times.streaming_s)
    if not taken:
        raise RuntimeError("no backup was through before the load ended: it needs more --seconds")
    say(f"    {len(taken)} backups; streaming for {sum(taken) / (end - began):.0%} of the time")
    return statistics.median(taken)


def control(server: Server) -> list[psutil.Process]:
    """The process of mover that answers."""
    return [psutil.Process(server.pid)]


# ---- the whole


class Measurement:
    """The runs of one report."""

    def __init__(self, bench: Bench, scale: Scale, tree: Path) -> None:
        self.bench, self.scale, self.tree = bench, scale, tree
        self.loaded: list[Run] = []
        """On mover while it streams, in the order of the pairs."""

    def plan(self, address: str, login: Login | None, seconds: int) -> Plan:
        """The load on one server."""
        return Plan(address, login, self.scale.connections, seconds)

    @contextlib.contextmanager
    def server(self) -> Iterator[Server]:
        """A mover that takes all the connections and those of the backup."""
        with self.bench.servers(sessions=self.scale.connections + 16) as (server, _, _):
            yield server

    def streaming_alone_s(self) -> float:
        """The median streaming phase without the load."""
        with self.server() as server:
            return stream(self.bench, server, self.tree, time.monotonic() + START_S + self.scale.short_s)

    def streaming_loaded_s(self) -> float:
        """The median streaming phase under the load."""
        taken: list[float] = []
        with self.server() as server:

            def work(end: float) -> None:
                taken.append(stream(self.bench, server, self.tree, end))

            plan = self.plan(server.address, self.bench.login, self.scale.seconds)
            self.loaded.append(under_load(plan, lambda: control(server), work))
        return taken[0]

    def idle(self) -> Run:
        """On mover while nothing streams."""
        with self.server() as server:
            plan = self.plan(server.address, self.bench.login, self.scale.short_s)
            return under_load(plan, lambda: control(server), wait_idly)

    def beside_stream(self, plan: Plan, processes: Callable[[], list[psutil.Process]]) -> Run:
        """On another server while mover, which nobody asks, streams on the same machine."""
        with self.server() as server:

            def work(end: float) -> None:
                stream(self.bench, server, self.tree, end)

            return under_load(plan, processes, work)

    def floor(self) -> list[Answers]:
        """What the client and the machine themselves take."""
        with responder() as (address, pid):
            processes = partial(forked, pid)
            plan = self.plan(address, None, self.scale.short_s)
            quiet = under_load(plan, processes, wait_idly)
            busy = self.beside_stream(plan, processes)
        return [
            answers("nothing but replies", [quiet]),
            answers("nothing but replies, mover streaming beside it", [busy]),
        ]

    def peer(self, program: Path) -> list[Answers]:
        """ndmjob's daemon."""
        place = self.bench.new_directory("ndmjob")
        found = []
        for name, streaming in (("", False), (", mover streaming beside it", True)):
            with ndmjob(program, place) as (address, pid):
                processes = partial(forked, pid)
                if streaming:
                    run = self.beside_stream(self.plan(address, NDMJOB_LOGIN, self.scale.seconds), processes)
                else:
                    run = under_load(self.plan(address, NDMJOB_LOGIN, self.scale.short_s), processes, wait_idly)
            found.append(answers(f"`ndmjob -o daemon`{name}", [run]))
        return found


def limits(of: Answers) -> list[Limit]:
    """The bars on mover's replies."""
    by_run = ", ".join(f"{each:.1f}" for each in of.percentile_99_by_run)
    seen = f"{of.requests:,} requests; by run: {by_run} ms; median {of.median:.2f}, max {of.longest:.1f} ms"
    return [
        Limit(
            work=f"DATA_GET_STATE on {of.connections} connections beside that backup, 99th percentile",
            bar=PERCENTILE_BAR_MS,
            unit="ms",
            value=of.percentile_99,
            seen=seen,
        ),
        Limit(
            work="the same, errors",
            bar=0.0,
            unit="errors",
            value=float(sum(of.errors.values())),
            seen=", ".join(of.errors) or "every reply as it should be",
        ),
    ]


def run(scale: Scale, attempts: int) -> LoadReport:
    """The whole report."""
    place = Path(tempfile.mkdtemp(prefix="mover-load-", dir=MEMORY))
    try:
        bench = Bench(place, record_size=256 * 1024)
        tree = bench.source / "large"
        tree.mkdir()
        make_large_file(tree / "file", size=scale.file_bytes)
        measurement = Measurement(bench, scale, tree)
        say("the floor")
        found = measurement.floor()
        say("mover, nothing streaming")
        found.append(answers("mover", [measurement.idle()]))
        say("mover, streaming")
        size = f"{scale.file_bytes // MIB:,} MiB"
        ratio = measure(
            Comparison(
                f"local dump of one {size} file while {scale.connections} connections ask once a second, streaming"
                " phase", "the same without them", STREAM_BAR, "MiB/s", scale.file_bytes / MIB,
                measurement.streaming_loaded_s, measurement.streaming_alone_s,
            ),
            scale.pairs, attempts, idle_wait_s=scale.idle_wait_s,
        )  # fmt: skip
        first = (ratio.attempts - 1) * scale.pairs
        loaded = answers("mover, one backup streaming", measurement.loaded[first : first + scale.pairs])
        found.append(loaded)
        program = peers.find("ndmjob")
        if program is None:
            say("ndmjob is not installed: no rows of it")
        else:
            say("ndmjob's daemon")
            found += measurement.peer(program)
    finally:
        shutil.rmtree(place)
    conditions = {
        **machine(),
        "file system": "tmpfs for source, tape files and state; page cache warm",
        "load": f"{scale.connections} connections, logged in, each one DATA_GET_STATE a second; times count from when a"
        " request was due, which is fixed beforehand",
        "runs": f"{scale.seconds} s: mover and ndmjob beside a stream; {scale.short_s} s: everything else",
        "stream": f"one file of {size}, record size 256 KiB, ring 8 MiB, backed up again and again on one drive",
        "pairs": f"{scale.pairs}, interleaved; each run with a new server and a new cartridge",
    }
    return LoadReport(
        date=now(), commit=commit(), conditions=conditions, ratios=[ratio], limits=limits(loaded), answers=found
    )


def main() -> int:
    """Parses the command line, measures, prints, stores."""
    parser = argparse.ArgumentParser(prog="scripts/load", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes instead of eleven; nothing is stored")
    for name, metavar, what in (
        ("connections", "N", f"at once (default: {FULL.connections})"),
        (
            "seconds",
            "S",
            f"of each run with a stream under load (default: {FULL.seconds}); others {SHORT_S} at the most",
        ),
        ("pairs", "N", f"of runs with and without the load (default: {FULL.pairs})"),
    ):
        parser.add_argument(f"--{name}", type=int, metavar=metavar, help=f"{what}; nothing is stored")
    parser.add_argument(
        "--attempts",
        type=int,
        default=1,
        metavar="N",
        help="sets of pairs, while the stream alone varies by over 20 %% or the machine is not idle (default: 1)",
    )
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    given = {name: getattr(options, name) for name in ("connections", "seconds", "pairs")}
    changes = {name: value for name, value in given.items() if value is not None}
    if any(value < 1 for value in (*changes.values(), options.attempts)):
        parser.error("numbers begin at 1")
    attempts = 1 if options.quick else options.attempts
    return conduct("load", lambda: run(scale._replace(**changes), attempts), keep=not options.quick and not changes)


if __name__ == "__main__":
    sys.exit(main())
