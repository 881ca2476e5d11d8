"""The file systems a recover has written to, and how they are made durable before it is called successful.

One syncfs a file system and not one fsync a file: it costs the same writing once, whatever the number of files. It
also waits for what others have written there, and a write error of theirs counts as ours: nobody can tell them apart.
"""

import ctypes
import os
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syncfs.argtypes = [ctypes.c_int]
_libc.syncfs.restype = ctypes.c_int


def syncfs(fd: int) -> None:
    """Write all that is dirty on the file system of ``fd``, and wait for it; Python 3.11 has none of its own.

    Raises:
        OSError: something could not be written since ``fd`` was opened (Linux 5.8 and later tell of it).
    """
    if _libc.syncfs(fd) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class FlushFailed(Exception):  # noqa: N818 - the end of the whole job
    """What was written is not all on disk."""


class FileSystems:
    """Holds a descriptor of each, from before the first byte is written there, so that no error is missed."""

    def __init__(self) -> None:
        self._held: dict[int, int] = {}

    def note(self, fd: int, device: int) -> None:
        """Something will be made in the directory ``fd``, which lies on ``device``."""
        if device not in self._held:
            self._held[device] = os.dup(fd)

    def flush(self) -> None:
        """Make everything durable.

        Raises:
            FlushFailed: it could not be.
        """
        for fd in self._held.values():
            try:
                syncfs(fd)
            except OSError as error:
                raise FlushFailed(f"what was recovered is not all on disk: {error.strerror}") from error

    def close(self) -> None:
        """Close every descriptor."""
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()
