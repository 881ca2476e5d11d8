"""How much memory processes take: one of them, or all data workers of a server together."""

import contextlib
import threading
from types import TracebackType
from typing import Literal, Self

from tests.support.processes import workers
from tests.support.servers import Server

EVERY_S = 0.1


def beyond_rings(pid: int, kind: Literal["Rss", "Pss"]) -> int:
    """Bytes of a process's resident or proportional set, less a memfd's.

    Memory that forked copies share counts once in the sum of their proportional sets.
    """
    total = 0
    counted = True
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as smaps:
        for line in smaps:
            if line.startswith(f"{kind}:"):
                total += int(line.split()[1]) * 1024 if counted else 0
            elif not line[:1].isupper():  # the head of a mapping: an address range
                counted = "memfd:" not in line
    return total


def data_workers(server: Server) -> int:
    """Bytes that all data workers take now, template and spares included."""
    total = 0
    for pid in workers(server, "data"):
        with contextlib.suppress(OSError, ProcessLookupError):  # it has just left
            total += beyond_rings(pid, "Pss")
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
