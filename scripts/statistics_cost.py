"""Measures what statistics cost: control's processor time beside many jobs, and that of a job.

Started by scripts/statistics-cost. The same server with 100 connections, 20 of which run a job on a slow drive, is
looked at with statistics and without; with them somebody asks for everything once a second, as `mover top` does. Then
the same backup runs with and without them in turn, and all its processes' time counts, those that have ended too.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from operator import sub
from pathlib import Path
from typing import Final, NamedTuple

import psutil
from bench_jobs import MIB, finish, stop
from bench_measure import MEMORY, commit, conduct, now, say
from bench_report import Limit, Report, machine

from mover.admin.client import AdminClient
from mover.admin.statistics import StatisticsReply, StatisticsShow
from mover.ndmp.enums import DataHaltReason
from mover.ndmp.messages import DataAbortRequest
from tests.support.ndmp_client import Job, NdmpClient
from tests.support.servers import Login, Server, write_config
from tests.support.trees import make_large_file, make_small_files

SESSIONS: Final = 120
CONTROL_BAR: Final = 3.0  # percent of a core
JOB_BAR: Final = 1.0  # percent of processor time
SLOW_BYTES_S: Final = 2 * MIB
LOOKS: Final = 100
STILL_S: Final = 0.03  # between two looks: three ticks
LOGIN: Final = Login("bench", "the secret of the benchmark")


class Size(NamedTuple):
    """How much is measured.

    Attributes:
        connections: at the server while it is looked at; ``jobs`` of them run one.
        seconds: of one look. looks: with statistics and without.
        files: small ones of the job that runs with and without. large: bytes of its large one. pairs: of its runs.
    """

    connections: int = 100
    jobs: int = 20
    seconds: int = 20
    looks: int = 3
    files: int = 40_000
    large: int = 1024 * MIB
    pairs: int = 8


QUICK: Final = Size(connections=12, jobs=3, seconds=2, looks=1, files=500, large=64 * MIB, pairs=1)


def configure(directory: Path, source: Path, *, drives: int, on: bool, slow: bool) -> Path:
    """A server's configuration."""
    faults = [
        f'[[fault]]\ndrive = "vtl0/drive{drive}"\nkind = "slow"\nrate = "{SLOW_BYTES_S}B"'
        for drive in range(drives)
        if slow
    ]
    limits = f"[limits]\nsessions = {SESSIONS}\n"
    return write_config(
        directory, LOGIN, volumes={"source": source}, drives=drives,
        node=f"statistics_interval_s = {int(on)}", extra=limits + "\n".join(faults),
    )  # fmt: skip


@contextlib.contextmanager
def server(place: Path, source: Path, *, drives: int, on: bool, slow: bool = False) -> Iterator[Server]:
    """A new server with loaded drives."""
    directory = place / ("on" if on else "off")
    try:
        with Server(configure(directory, source, drives=drives, on=on, slow=slow)) as running:
            for drive in range(drives):
                running.ask("tape", "load", f"vtl0/drive{drive}")
            yield running
    finally:
        shutil.rmtree(directory)


def used_s(process: psutil.Process) -> float:
    """Its processor time and that of what it has reaped."""
    return float(sum(process.cpu_times()[:4]))


class Busy:
    """What was seen of control in one stretch of time: percent of a core, and how long replies took."""

    def __init__(self, percent: float, replies_ms: list[float], reply_bytes: int) -> None:
        self.percent = percent
        self.replies_ms = replies_ms
        self.reply_bytes = reply_bytes


def busy(place: Path, source: Path, wanted: Size, *, on: bool) -> Busy:
    """Connections and jobs for a while."""
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(server(place, source, drives=wanted.jobs, on=on, slow=True))
        jobs = []
        for drive in range(wanted.jobs):
            client = stack.enter_context(NdmpClient(running.address, login=LOGIN))
            job = Job(client, client, f"vtl0/drive{drive}")
            job.start_backup(str(source / "large"), HIST="n")
            jobs.append(job)
        for _ in range(wanted.connections - wanted.jobs):
            stack.enter_context(NdmpClient(running.address, login=LOGIN))
        control = psutil.Process(running.pid)
        replies: list[float] = []
        size = 0
        time.sleep(2)  # until the rings are full
        began, before = time.monotonic(), sum(control.cpu_times()[:2])
        while time.monotonic() < began + wanted.seconds:
            asked = time.monotonic()
            if on:
                with AdminClient(running.ready.admin_socket) as admin:
                    reply = admin.ask(StatisticsShow(history=True))
                assert isinstance(reply, StatisticsReply)
                assert (len(reply.jobs), len(reply.sessions)) == (wanted.jobs, wanted.connections)
                replies.append((time.monotonic() - asked) * 1000)
                size = len(repr(reply))
            time.sleep(max(0.0, asked + 1 - time.monotonic()))
        passed, used = time.monotonic() - began, sum(control.cpu_times()[:2]) - before
        for job in jobs:
            job.data.ok(DataAbortRequest())
        for job in jobs:
            assert job.data.data_halted() == DataHaltReason.ABORTED
        return Busy(100 * used / passed, replies, size)


class Used(NamedTuple):
    """Processor seconds of all of a server's processes, and of control among them."""

    everything: float
    control: float


def used_by(running: Server) -> Used:
    """Since they began. What ends between a look at its parent and at itself is missed, but not by the next look."""
    control = psutil.Process(running.pid)
    last = -1.0
    for _ in range(LOOKS):
        own = float(sum(control.cpu_times()[:2]))
        total = own
        for process in control.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += used_s(process)
        if abs(total - last) < STILL_S:
            return Used(total, own)
        last = total
        time.sleep(0.3)
    raise RuntimeError("a server that has nothing to do does not come to rest")


def job_s(place: Path, source: Path, *, on: bool) -> Used:
    """What one backup takes."""
    with server(place, source, drives=1, on=on) as running:
        time.sleep(1)  # until the spares begin to be made
        before = used_by(running)
        with Job.connect(running, running, LOGIN) as job:
            job.start_backup(str(source), HIST="y")
            finish(job)
            after = used_by(running)
            stop(job)
        return Used(*map(sub, after, before))


def run(wanted: Size) -> Report:
    """The whole report."""
    place = Path(tempfile.mkdtemp(prefix="mover-statistics-", dir=MEMORY))
    others = os.getloadavg()[0]
    try:
        source = place / "source"
        source.mkdir()
        make_small_files(source / "small", files=wanted.files, directories=wanted.files // 100)
        (source / "large").mkdir()
        make_large_file(source / "large" / "file", size=wanted.large)
        say("control, busy")
        looks = [
            (busy(place, source, wanted, on=True), busy(place, source, wanted, on=False)) for _ in range(wanted.looks)
        ]
        for with_them, without in looks:
            say(f"  {with_them.percent:.2f} % with statistics, {without.percent:.2f} % without")
        say("a job")
        times = []
        for number in range(wanted.pairs):
            # In turn also who is first, for the second finds a warmer machine.
            found = {on: job_s(place, source, on=on) for on in ((True, False) if number % 2 else (False, True))}
            times.append((found[True], found[False]))
            say(f"  {found[True].everything:.2f} s with statistics, {found[False].everything:.2f} s without")
    finally:
        shutil.rmtree(place)
    replies = [each for with_them, _ in looks for each in with_them.replies_ms]
    medians = [statistics.median(each.everything for each in side) for side in zip(*times, strict=True)]
    ours_s, theirs_s = (statistics.median(each.control for each in side) for side in zip(*times, strict=True))
    return Report(
        date=now(),
        commit=commit(),
        conditions={
            **machine(),
            "others": f"a load of {others:.1f} by others as it began",
            "control": f"{wanted.connections} connections, logged in, {wanted.jobs} of them with a backup onto a drive"
            f" of {SLOW_BYTES_S // MIB} MiB/s; {wanted.looks} times {wanted.seconds} s in turn with as long and"
            " `statistics_interval_s = 0`",
            "asking": "StatisticsShow with history, once a second on a new connection; a time is that of the whole"
            f" round trip in Python, decoding included; a reply is some {looks[0][0].reply_bytes // 1024} KiB,"
            f" and took {statistics.median(replies):.0f} ms, {max(replies):.0f} ms at the most",
            "job": f"local dump of {wanted.files:,} small files and one of {wanted.large // MIB:,} MiB, with history;"
            f" {wanted.pairs} pairs in turn; processor time of control, templates and workers",
        },
        ratios=[],
        limits=[
            Limit(
                work="control's processor time for statistics, asked for once a second",
                bar=CONTROL_BAR, unit="% of a core",
                value=statistics.median(ours.percent - theirs.percent for ours, theirs in looks),
                seen=", ".join(f"{ours.percent:.1f} against {theirs.percent:.1f}" for ours, theirs in looks),
            ),
            Limit(
                work="more processor time of the same job", bar=JOB_BAR, unit="%",
                value=100 * (medians[0] / medians[1] - 1),
                seen=f"medians {medians[0]:.2f} s and {medians[1]:.2f} s; pairs "
                + ", ".join(f"{ours.everything:.2f}/{theirs.everything:.2f}" for ours, theirs in times),
            ),
            Limit(
                work="what control alone takes more of it", bar=JOB_BAR, unit="% of the job's",
                value=100 * (ours_s - theirs_s) / medians[1],
                seen=f"medians {ours_s:.2f} s and {theirs_s:.2f} s; workers are not told of statistics",
            ),
        ],
    )  # fmt: skip


def main() -> int:
    """Parses the command line, measures, prints, stores."""
    parser = argparse.ArgumentParser(prog="scripts/statistics-cost", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few seconds of a small server instead of four minutes; nothing is stored",
    )
    options = parser.parse_args()
    return conduct("statistics-cost", partial(run, QUICK if options.quick else Size()), keep=not options.quick)


if __name__ == "__main__":
    sys.exit(main())
