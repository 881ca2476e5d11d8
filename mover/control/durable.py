"""New files that are still there after a crash of the host."""

import os


def make_file(path: str, *, exclusive: bool) -> None:
    """Make an empty file, and wait until it and its name are on disk.

    Args:
        exclusive: it must not exist yet; else one that exists is left as it is.

    Raises:
        OSError: FileExistsError where it exists and must not; any other, and nothing is left of a file of ours.
    """
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if exclusive else 0)
    fd = os.open(path, flags, 0o600)
    try:
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_directory(os.path.dirname(path))
    except OSError:
        if exclusive:
            os.unlink(path)
        raise


def sync_directory(path: str) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
