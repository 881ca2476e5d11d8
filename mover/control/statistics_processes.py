"""What /proc says of this server's processes: read straight from its files, for that is done for each every second.

Source: proc(5): /proc/pid/stat, /proc/pid/io, /proc/pid/status, /proc/pid/fd, /proc/pid/task/tid/children.
"""

import os
import re
import time
from collections.abc import Collection
from typing import Final, NamedTuple

CHILDREN_MAX: Final = 8  # copies of itself that a data worker works with; it has two at the most
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_SWITCHES: Final = re.compile(rb"^voluntary_ctxt_switches:\s*(\d+)\nnonvoluntary_ctxt_switches:\s*(\d+)$", re.MULTILINE)
_STATES: Final = {
    "R": "running", "S": "sleeping", "D": "disk-sleep", "T": "stopped", "t": "stopped", "Z": "zombie", "X": "dead",
    "I": "idle",
}  # fmt: skip


class Figures(NamedTuple):
    """One process, and what its copies of itself add; see ProcessRow.

    Attributes:
        began: ticks since the host started: with the pid it names a process for ever.
    """

    pid: int
    began: int
    state: str
    cpu_seconds: float
    resident_bytes: int
    threads: int
    read_bytes: int = 0
    write_bytes: int = 0

    @property
    def age_seconds(self) -> float:
        """Since it began."""
        return round(max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - self.began * _TICK_S), 2)


class Details(NamedTuple):
    """What costs more to ask, and is asked only to be shown."""

    context_switches: int = 0
    involuntary_switches: int = 0
    open_files: int = 0


def _read(path: str) -> bytes:
    """A file of /proc. Raises OSError: the process is gone, or is not ours to look at."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 16_384)
    finally:
        os.close(fd)


def _stat(pid: int) -> Figures:
    content = _read(f"/proc/{pid}/stat")
    fields = content[content.rindex(b")") + 1 :].split()
    # Of all that it has reaped too: copies of itself that have ended.
    ticks = sum(map(int, fields[11:15]))
    letter = fields[0].decode()
    state = _STATES.get(letter, letter)
    resident = int(fields[21]) * _PAGE
    return Figures(pid, int(fields[19]), state, ticks * _TICK_S, resident, int(fields[17]))


def _children(pid: int) -> list[int]:
    try:
        names = _read(f"/proc/{pid}/task/{pid}/children").split()
    except OSError:
        return []  # a kernel without CONFIG_PROC_CHILDREN
    return [int(name) for name in names[:CHILDREN_MAX]]


def find_helpers(known: Collection[int]) -> dict[int, str]:
    """Children of this process that are started for one request: pid -> ``snapshot`` or ``auth``."""
    found: dict[int, str] = {}
    for thread in os.listdir("/proc/self/task"):  # a child is that of the thread that has started it
        try:
            children = [int(name) for name in _read(f"/proc/self/task/{thread}/children").split()]
        except OSError:
            continue
        for pid in children:
            if pid not in known and (kind := _kind_of(pid)):
                found[pid] = kind
    return found


def _kind_of(pid: int) -> str:
    try:
        arguments = _read(f"/proc/{pid}/cmdline").split(b"\0")
    except OSError:
        return ""
    return next((kind for kind in ("snapshot", "auth") if b"mover." + kind.encode() in arguments), "")


def _transferred(pid: int) -> tuple[int, int]:
    try:
        lines = _read(f"/proc/{pid}/io").split()
    except OSError:
        return 0, 0
    return int(lines[1]), int(lines[3])


def read_process(pid: int, *, copies: bool = False) -> Figures | None:
    """The figures of a process now; None = it is gone.

    Args:
        copies: it works with forked copies of itself: their processor time and I/O are its own.
    """
    try:
        own = _stat(pid)
    except OSError:
        return None
    cpu = own.cpu_seconds
    read, written = _transferred(pid)
    for child in _children(pid) if copies else ():
        try:
            figures = _stat(child)
        except OSError:
            continue
        cpu += figures.cpu_seconds
        more = _transferred(child)
        read, written = read + more[0], written + more[1]
    return Figures(own.pid, own.began, own.state, round(cpu, 2), own.resident_bytes, own.threads, read, written)


def read_details(pid: int) -> Details:
    """The rest; zeros where the process is gone."""
    try:
        found = _SWITCHES.search(_read(f"/proc/{pid}/status"))
        files = _open_files(f"/proc/{pid}/fd")
    except OSError:
        return Details()
    voluntary, involuntary = map(int, found.groups()) if found is not None else (0, 0)
    return Details(voluntary, involuntary, files)


def _open_files(directory: str) -> int:
    """How many there are in a directory of descriptors: its size since Linux 6.2, which is 0 in earlier ones."""
    return os.stat(directory).st_size or len(os.listdir(directory))
