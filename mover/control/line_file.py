"""A file of lines that is added to at once and whole, and begun anew when it is long."""

import os
import threading
from typing import Final

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class LineFile:
    """A file of mode 0600; older ones have .1, .2 and so on behind its name.

    Args:
        size_max: bytes from which on a new file is begun.
        old: how many older files are kept; at least one.
    """

    def __init__(self, path: str, *, size_max: int, old: int) -> None:
        self.path = path
        self._size_max = size_max
        self._old = old
        self._lock = threading.Lock()

    def append(self, line: bytes) -> None:
        """Add a line with its newline, whole or not at all. Raises OSError."""
        with self._lock:
            fd = os.open(self.path, _FLAGS, 0o600)
            try:
                size = os.fstat(fd).st_size
                if size and size + len(line) > self._size_max:
                    self._rotate()
                    os.close(fd)
                    fd = -1
                    fd = os.open(self.path, _FLAGS, 0o600)
                    size = os.fstat(fd).st_size
                if size and os.pread(fd, 1, size - 1) != b"\n":
                    line = b"\n" + line  # the host crashed in the midst of a line
                try:
                    written = os.write(fd, line)
                    while written < len(line):
                        written += os.write(fd, line[written:])
                except OSError:
                    os.ftruncate(fd, size)  # a disk that filled up within the line
                    raise
            finally:
                if fd >= 0:
                    os.close(fd)

    def _rotate(self) -> None:
        for number in range(self._old - 1, 0, -1):
            if os.path.lexists(f"{self.path}.{number}"):
                os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.rename(self.path, f"{self.path}.1")
