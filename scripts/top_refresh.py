"""Measures how fast `mover top` draws 100 connections and 20 jobs: a real process on a pseudo terminal.

Started by scripts/top-refresh. The control process is one that gives replies made by hand, other figures in every row
each time. A refresh is timed from when its question has come there to the last byte that is drawn of it.
"""

import argparse
import asyncio
import fcntl
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import psutil
from bench_measure import commit, conduct, now, say
from bench_report import Limit, Report, machine

from mover.admin.statistics import StatisticsReply
from tests.support.moments import FakeServer, many, rates
from tests.support.servers import mover_command

CONNECTIONS: Final = 100
JOBS: Final = 20
BAR_MS: Final = 100.0
INTERVAL_S: Final = 1.0
START_S: Final = 60.0
WARM: Final = 2  # refreshes of the beginning that do not count
SIZES: Final = ((80, 24), (160, 50), (240, 70))


class Measured(NamedTuple):
    """One size of terminal."""

    columns: int
    lines: int
    refreshes_ms: list[float]
    drawn_bytes: int
    cpu_ms: float
    """Processor time of the whole process, for each refresh."""


def replies(number: int) -> list[StatisticsReply]:
    """Moments in which every row has other figures."""
    first = many(CONNECTIONS, JOBS)
    found = []
    for step in range(number):
        jobs = [
            msgspec.structs.replace(job, stream_bytes=job.stream_bytes + (step << 24), rate=rates(1e6 * (step + 1)))
            for job in first.jobs
        ]
        rings = [
            msgspec.structs.replace(ring, fill_ratio=(step % 9) / 9, rate=rates(1e6 * step)) for ring in first.rings
        ]
        processes = [
            msgspec.structs.replace(
                each, cpu_seconds=each.cpu_seconds + step, cpu_rate=rates((step + each.pid) % 7 / 7)
            )
            for each in first.processes
        ]
        sessions = [
            msgspec.structs.replace(each, requests=step * each.session_id, elapsed_seconds=float(step))
            for each in first.sessions
        ]
        drives = [
            msgspec.structs.replace(each, block_number=step, written_rate=rates(1e6 * step)) for each in first.drives
        ]
        moment = {"time": first.time + step, "uptime_seconds": first.uptime_seconds + step}
        found.append(
            msgspec.structs.replace(
                first, **moment, jobs=jobs, rings=rings, processes=processes, sessions=sessions, drives=drives
            )
        )  # fmt: skip
    return found


class Watched(FakeServer):
    """Gives one moment after the other, and remembers when."""

    def __init__(self, path: str, moments: list[StatisticsReply]) -> None:
        super().__init__(path, moments[0])
        self._moments = moments
        self.began: list[float] = []
        self.ended: list[float] = []
        self.drawn_bytes = 0
        self._wanted = 0
        self._enough = asyncio.Event()

    def about_to_answer(self) -> None:
        if self.asked >= self._wanted:
            self._enough.set()
        self.now = self._moments[self.asked % len(self._moments)]
        self.began.append(time.perf_counter())
        self.ended.append(0.0)

    async def until(self, asked: int) -> None:
        """Until so many questions were answered, and the next one came."""
        self._wanted = asked
        self._enough.clear()
        async with asyncio.timeout(START_S + asked * INTERVAL_S * 3):
            await self._enough.wait()

    def drawn(self, number: int) -> None:
        """Something came at the terminal."""
        if self.ended:
            self.ended[-1] = time.perf_counter()
            self.drawn_bytes += number


def start(socket: str, columns: int, lines: int, interval_s: float) -> tuple[subprocess.Popen[bytes], int]:
    """`mover top` on a new terminal, and our end of that."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [*mover_command(), "top", "--admin-socket", socket, "--interval", str(interval_s)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    os.close(theirs)
    return process, ours


async def watch(columns: int, lines: int, refreshes: int, interval_s: float, directory: Path) -> Measured:
    """Run `mover top` on a terminal of this size."""
    server = Watched(str(directory / "admin.sock"), replies(10))
    await server.start()
    process, ours = start(server.path, columns, lines, interval_s)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, lambda: server.drawn(len(os.read(ours, 1 << 16))))
    try:
        family = psutil.Process(process.pid)
        await server.until(WARM)
        before, first_bytes = family.cpu_times(), server.drawn_bytes
        await server.until(WARM + refreshes)
        after, last_bytes = family.cpu_times(), server.drawn_bytes
    finally:
        loop.remove_reader(ours)
        process.terminate()
        process.wait(START_S)
        os.close(ours)
        await server.stop()
    spent = after.user + after.system - before.user - before.system
    pairs = list(zip(server.began, server.ended, strict=True))[WARM : WARM + refreshes]
    return Measured(
        columns, lines, [1e3 * (ended - began) for began, ended in pairs],
        (last_bytes - first_bytes) // refreshes, 1e3 * spent / refreshes,
    )  # fmt: skip


def limit(seen: Measured) -> Limit:
    """The row of one size. The bar is for processor time, which others on the machine do not change much."""
    median, most = statistics.median(seen.refreshes_ms), max(seen.refreshes_ms)
    return Limit(
        work=f"a refresh on {seen.columns}x{seen.lines}: processor time of the whole process", bar=BAR_MS, unit="ms",
        value=seen.cpu_ms,
        seen=f"from the question to the last of {seen.drawn_bytes:,} bytes drawn: median {median:.1f} ms, at the most"
        f" {most:.1f} ms; {len(seen.refreshes_ms)} refreshes, load average {os.getloadavg()[0]:.1f}",
    )  # fmt: skip


def run(refreshes: int, interval_s: float) -> Report:
    """The whole table."""
    found: list[Limit] = []
    with tempfile.TemporaryDirectory(prefix="mover-top-") as directory:
        for columns, lines in SIZES:
            say(f"{columns}x{lines}")
            seen = asyncio.run(watch(columns, lines, refreshes, interval_s, Path(directory)))
            found.append(limit(seen))
    conditions = {
        **machine(),
        "replies": f"{CONNECTIONS} sessions, {JOBS} jobs, {2 * JOBS} rings with ten minutes of history each,"
        f" {2 * JOBS} workers, {JOBS} drives; other figures in each row every time",
        "runs": f"{refreshes} refreshes for each size, {interval_s:g} s apart",
    }
    return Report(date=now(), commit=commit(), conditions=conditions, ratios=[], limits=found)


def main() -> int:
    """Parses the command line, measures, prints, stores."""
    parser = argparse.ArgumentParser(prog="scripts/top-refresh", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few refreshes, to try it; nothing is stored")
    options = parser.parse_args()
    number, interval_s = (3, 0.3) if options.quick else (60, INTERVAL_S)
    return conduct("top", lambda: run(number, interval_s), keep=not options.quick)


if __name__ == "__main__":
    sys.exit(main())
