"""The record memory: one tape record shared between control and a tape worker, for TAPE_READ and TAPE_WRITE."""

import fcntl
import mmap
import os
from typing import Final

F_ADD_SEALS: Final = 1033
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW = 1, 2, 4


class RecordMemory:
    """A memfd of one record; control's mapping of it.

    Attributes:
        fd: to send to the worker; stays owned here.
    """

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("mover-record", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, size)
            fcntl.fcntl(self.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
            self._map = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise

    def store(self, data: bytes) -> None:
        """Put a record's bytes at the beginning."""
        self._map[: len(data)] = data

    def load(self, count: int) -> bytes:
        """The first ``count`` bytes."""
        return self._map[:count]

    def close(self) -> None:
        self._map.close()
        os.close(self.fd)
