"""How much memory the data workers of a server take, all of them together."""

import contextlib
import threading
from types import TracebackType
from typing import Self

from tests.support.processes import workers
from tests.support.servers import Server

EVERY_S = 0.1


def proportional_beyond_rings(pid: int) -> int:
    """Bytes of a process's proportional set: memory that forked copies share counts once. A memfd's are left out."""
    total = 0
    counted = True
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as smaps:
        for line in smaps:
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024 if counted else 0
            elif not line[:1].isupper():  # the head of a mapping: an address range
                counted = "memfd:" not in line
    return total


def data_workers(server: Server) -> int:
    """Bytes that all data workers take now, template and spares included."""
    total = 0
    for pid in workers(server, "data"):
        with contextlib.suppress(OSError, ProcessLookupError):  # it has just left
            total += proportional_beyond_rings(pid)
    return total


class Peak:
    """Looks again and again while its block runs.

    Attributes:
        before: bytes when it began.
        growth: by how much they grew, at the most.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.before = data_workers(server)
        self.growth = 0

    def _look(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.growth = max(self.growth, data_workers(self._server) - self.before)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
