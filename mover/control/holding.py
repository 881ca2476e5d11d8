"""A directory held by one `mover serve` alone: two that write the same state or move the same cartridges destroy both.

By flock on the directory itself, so that nothing is left behind and a server that was killed holds nothing.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger()


class HeldError(Exception):
    """Somebody else holds the directory."""


@contextmanager
def hold(directory: str) -> Iterator[None]:
    """Hold the directory until the end of the block.

    A file system that knows no such locks is noted, and then nothing is held.

    Raises:
        HeldError: another process, or another library of this one, holds it.
        OSError: it cannot be opened.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(directory) from None
        except OSError as error:
            log.warning("directory cannot be locked", directory=directory, error=error.strerror)
        yield
    finally:
        os.close(fd)
