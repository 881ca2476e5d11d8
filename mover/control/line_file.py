"""A file of lines that is added to at once and whole, and begun anew when it is long.

What cannot be written costs the file its lines, and is said once in the server's log; no job is any the worse.
"""

import os
import threading
from typing import Final

import structlog

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC

log = structlog.get_logger()


class LineFile:
    """A file of mode 0600; older ones have .1, .2 and so on behind its name.

    Args:
        name: what the server's log calls it.
        path: where it is.
        size_max: bytes from which on a new file is begun.
        old: how many older files are kept.
    """

    def __init__(self, name: str, path: str, *, size_max: int, old: int) -> None:
        self.path = path
        self.size_max = size_max
        self.old = old
        self._lost = f"{name} cannot be written, lines are lost"
        self._back = f"{name} is written again"
        self._not_durable = f"{name} is not on disk"
        self._failing = False
        self._lock = threading.Lock()  # a configuration is taken outside of trio's thread

    def write(self, lines: bytes) -> None:
        """Add lines, each with its newline, into the page cache."""
        try:
            with self._lock:
                self._append(lines)
        except OSError as error:
            if not self._failing:
                log.error(self._lost, path=self.path, error=error.strerror)
            self._failing = True
        else:
            if self._failing:
                log.warning(self._back, path=self.path)
            self._failing = False

    def _append(self, lines: bytes) -> None:
        """Add lines, whole or not at all. Raises OSError."""
        fd = os.open(self.path, _FLAGS, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size and size + len(lines) > self.size_max:
                self._rotate()
                os.close(fd)
                fd = -1
                fd = os.open(self.path, _FLAGS, 0o600)
                size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                lines = b"\n" + lines  # the host crashed in the midst of a line
            try:
                written = os.write(fd, lines)
                while written < len(lines):
                    written += os.write(fd, lines[written:])
            except OSError:
                os.ftruncate(fd, size)  # a disk that filled up within the line
                raise
        finally:
            if fd >= 0:
                os.close(fd)

    def _rotate(self) -> None:
        """Make place for a new file. Raises OSError."""
        if not self.old:
            os.unlink(self.path)
            return
        for number in range(self.old - 1, 0, -1):
            if os.path.lexists(f"{self.path}.{number}"):
                os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.rename(self.path, f"{self.path}.1")
        number = self.old + 1
        while os.path.lexists(f"{self.path}.{number}"):  # more were kept before
            os.unlink(f"{self.path}.{number}")
            number += 1

    def sync(self) -> None:
        """Make the lines written so far durable. Blocks. What fails is said as a line that is lost is."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            log.error(self._not_durable, path=self.path, error=error.strerror)
