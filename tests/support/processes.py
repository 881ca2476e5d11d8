"""Looks at a server's workers from outside, by what the kernel says of them."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.servers import Server


def workers(server: Server, kind: str) -> list[int]:
    """The pids of the server's workers of this kind, spares included."""
    return [process.pid for process in server.processes() if f"mover.{kind}" in _command(process)]


def busy_worker(server: Server, kind: str) -> int:
    """The pid of the one worker of this kind that has a data ring mapped."""
    found = [pid for pid in workers(server, kind) if mapped_rings(pid)]
    assert len(found) == 1, f"{len(found)} {kind} workers hold a ring"
    return found[0]


def mapped_rings(pid: int) -> set[str]:
    """The data rings that a process has mapped, by the memfd's inode number."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {line.split()[4] for line in maps.splitlines() if "mover-data-ring" in line}


def memory_descriptors(pid: int) -> list[str]:
    """Every memfd a process holds open."""
    names = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue  # closed between listing and look
    return [name for name in names if "memfd:" in name]


def zombies(server: Server) -> list[int]:
    """Children of the control process that nobody has waited for."""
    return [
        process.pid
        for process in psutil.Process(server.pid).children(recursive=True)
        if _status(process) == psutil.STATUS_ZOMBIE
    ]


def settle(condition: Callable[[], bool], what: str, deadline_s: float = 10.0, *, step_s: float = 0.01) -> None:
    """Wait until a condition of the outside world holds; a costly one is worth a longer step."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {deadline_s:g} s: {what}"
        time.sleep(step_s)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has waited for it yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _status(process: psutil.Process) -> str:
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return ""


@contextmanager
def expect_no_new_descriptors(server: Server) -> Iterator[None]:
    """The control process holds no more descriptors afterwards than before."""
    before = psutil.Process(server.pid).num_fds()
    yield
    settle(
        lambda: psutil.Process(server.pid).num_fds() <= before,
        f"control back to {before} descriptors",
    )
