"""The leases of snapshots: what is to be undone when its backup is over, also after a crash. Files in the state.

A lease is on disk before the first command of its snapshot begins, and goes when the last one has ended well.
"""

import os
from contextlib import suppress
from typing import Final

import msgspec.json
import structlog
from msgspec import Struct

from mover.control.durable import sync_directory
from mover.workers.snapshot_messages import SnapshotSource

DIRECTORY: Final = "snapshots"
SUFFIX: Final = ".json"
_NEW: Final = ".new"
BYTES_MAX: Final = 1 << 20

log = structlog.get_logger()


class Lease(Struct, frozen=True):
    """What one backup has to undo.

    Attributes:
        name: of the snapshot.
        volume: its name in the configuration.
        source: what it is made of; None = no snapshot belongs to it.
        post: the command that is still to be run; empty = none.
        timeout_s: of each command.
    """

    name: str
    volume: str
    source: SnapshotSource | None
    post: list[str]
    timeout_s: int


class Leases:
    """All leases of a node. Everything here blocks.

    Args:
        directory: where they lie; made when it is wanted first.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def keep(self, lease: Lease) -> None:
        """Write a lease, new or changed; it is on disk at return. Raises OSError."""
        if not os.path.isdir(self.directory):
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            sync_directory(os.path.dirname(self.directory))
        path = self._path(lease.name)
        try:
            fd = os.open(path + _NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(msgspec.json.encode(lease))
                file.flush()
                os.fsync(fd)
            os.rename(path + _NEW, path)
        except OSError:
            with suppress(OSError):
                os.unlink(path + _NEW)
            raise
        sync_directory(self.directory)

    def drop(self, lease: Lease) -> None:
        """All is undone. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(self._path(lease.name))
            sync_directory(self.directory)

    def read(self) -> list[Lease]:
        """What is there; a file that is no lease is logged and stays. Raises OSError."""
        found = []
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return []
        for name in names:
            path = os.path.join(self.directory, name)
            if name.endswith(SUFFIX + _NEW):  # a server was killed before it had replaced the lease
                os.unlink(path)
            if not name.endswith(SUFFIX):
                continue
            try:
                with open(path, "rb") as file:
                    lease = msgspec.json.decode(file.read(BYTES_MAX), type=Lease)
                if self._path(lease.name) != path:
                    raise ValueError(f"it speaks of {lease.name}")
            except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
                log.error("a snapshot may be left that nobody removes", lease=path, why=str(error))
                continue
            found.append(lease)
        return found

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name + SUFFIX)
