"""Which running jobs of a catalogue have a DMA: each holds the lock on a file beside it, which goes with the process.

However it ends, the kernel lets go of its lock, and no other process can be taken for it, as by its pid.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class JobLocks:
    """The locks of the jobs that this process runs, in the catalogue at a path. Every method raises OSError."""

    def __init__(self, catalogue: Path) -> None:
        self._catalogue = catalogue
        self._held: dict[int, int] = {}  # job -> descriptor

    def _path(self, job: int) -> str:
        return f"{self._catalogue}.{job}.running"

    def hold(self, job: int) -> None:
        """A job of ours begins."""
        fd = self._held[job] = os.open(self._path(job), _FLAGS | os.O_CREAT, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def end(self, job: int) -> None:
        """It has ended, and the catalogue knows."""
        fd = self._held.pop(job, None)
        if fd is not None:
            os.unlink(self._path(job))
            os.close(fd)

    def is_lost(self, job: int) -> bool:
        """Whether a running job has no DMA any more. One of which nothing is known, from an earlier program, is not."""
        try:
            fd = os.open(self._path(job), _FLAGS)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(fd)

    def forget(self, job: int) -> None:
        """A lost one is known as ended."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(job))

    def close(self) -> None:
        """Let go of all; what is still running then is lost."""
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()
