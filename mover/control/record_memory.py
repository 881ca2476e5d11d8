"""The record memory: one tape record shared between control and a tape worker, for TAPE_READ and TAPE_WRITE."""

import fcntl
import mmap
import os
from typing import Final

SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL  # as a ring's


class RecordMemory:
    """A memfd of one record; control's mapping of it.

    Attributes:
        fd: to send to the worker; stays owned here.
    """

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("mover-record", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, size)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, SEALS)
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
