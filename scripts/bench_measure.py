"""How the benchmarks measure: interleaved pairs, on a machine that is at rest, again while the peer is unsteady."""

import datetime
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
from bench_report import Ratio, Report, store

from tests.support.servers import ServerError

CHECKOUT = Path(__file__).resolve().parent.parent
MEMORY = Path("/dev/shm")
ATTEMPTS = 3  # sets of pairs, while the peer is unsteady or the machine not idle
IDLE_PART = 0.06  # of all cores: what a machine at rest may use
IDLE_WAIT_S = 30.0
STOLEN_PART = 0.03


def say(text: str) -> None:
    print(text, flush=True)


def wait_until_idle(wait_s: float) -> bool:
    """Waits until nobody else uses the machine; False when that does not come to pass in time."""
    deadline = time.monotonic() + wait_s
    while True:
        busy = psutil.cpu_percent(interval=0.5) / 100
        if busy <= IDLE_PART:
            return True
        if time.monotonic() > deadline:
            return False


def stolen_s() -> float:
    """Seconds that a hypervisor kept from this machine, over all cores."""
    return float(psutil.cpu_times().steal)


class Comparison(NamedTuple):
    """A ratio to measure."""

    work: str
    peer: str
    bar: float
    unit: str
    amount: float  # of the unit, in one run
    mover_s: Callable[[], float]
    peer_s: Callable[[], float]


def measure(comparison: Comparison, pairs: int, attempts: int, *, idle_wait_s: float = IDLE_WAIT_S) -> Ratio:
    """Interleaved pairs; measured again while the peer is unsteady or the machine not idle, the steadiest is kept."""
    best: Ratio | None = None
    for attempt in range(1, attempts + 1):
        ours: list[float] = []
        theirs: list[float] = []
        undisturbed = True
        for number in range(pairs):
            idle = wait_until_idle(idle_wait_s)
            began, stolen = time.monotonic(), stolen_s()
            ours.append(comparison.amount / comparison.mover_s())
            theirs.append(comparison.amount / comparison.peer_s())
            part = (stolen_s() - stolen) / (time.monotonic() - began)
            undisturbed = undisturbed and idle and part <= STOLEN_PART
            say(
                f"  {comparison.work}, pair {number + 1}: {ours[-1]:,.0f} against {theirs[-1]:,.0f} {comparison.unit}"
                f" = {ours[-1] / theirs[-1]:.2f}{'' if idle else ' (machine not idle)'}"
            )
        seen = Ratio(
            work=comparison.work, peer=comparison.peer, bar=comparison.bar, unit=comparison.unit,
            mover=ours, peers=theirs, undisturbed=undisturbed, attempts=attempt,
        )  # fmt: skip
        if best is None or (seen.undisturbed, -seen.peer_spread) > (best.undisturbed, -best.peer_spread):
            best = seen
        if seen.steady:
            break
        say(f"  {comparison.work}: the peer varied by {seen.peer_spread:.0%}, or the machine was not idle")
    assert best is not None
    return best


def percentile(values: list[float], part: float) -> float:
    """The smallest value that this part of all values does not exceed."""
    return sorted(values)[math.ceil(part * len(values)) - 1]


def commit() -> str:
    """The checkout's commit, marked when something is changed."""
    command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def conduct(name: str, run: Callable[[], Report], *, keep: bool) -> int:
    """Runs a benchmark and prints its table; returns the exit status.

    Args:
        keep: store what was found in docs.
    """
    os.environ.pop("PYTHONPATH", None)  # of the script that started us, for its imports
    if not os.access(MEMORY, os.W_OK):
        print(f"{name}: {MEMORY} is not a tmpfs to write to", file=sys.stderr)
        return 1
    try:
        report = run()
    except (ServerError, RuntimeError, OSError, subprocess.SubprocessError, AssertionError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 1
    say("")
    say(report.table())
    if keep:
        store(name, report, CHECKOUT / "docs")
        say(f"\nstored in {CHECKOUT / 'docs'}")
    return 0


def now() -> str:
    """The date of a report."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
