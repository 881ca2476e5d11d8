"""The system calls of the Linux st driver on one tape device, and what its status says.

Source: linux/Documentation/scsi/st.rst; linux/mtio.h.
"""

import errno
import fcntl
import os
import struct
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple, Protocol

_MTOP: Final = struct.Struct("@hi")
_MTGET: Final = struct.Struct("@lllllii")
_MTPOS: Final = struct.Struct("@l")
_WRITE: Final = 1
_READ: Final = 2


def _number(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("m") << 8 | number


MTIOCTOP: Final = _number(_WRITE, 1, _MTOP.size)
MTIOCGET: Final = _number(_READ, 2, _MTGET.size)
MTIOCPOS: Final = _number(_READ, 3, _MTPOS.size)
BLOCK_SIZE_MASK: Final = 0xFFFFFF  # of mt_dsreg; the density is above it
SOFT_ERRORS_MASK: Final = 0xFFFF  # of mt_erreg


class Operation(IntEnum):
    """Operations of MTIOCTOP that are used here."""

    FSF = 1
    BSF = 2
    FSR = 3
    BSR = 4
    WEOF = 5
    REW = 6
    OFFL = 7
    EOM = 12
    SETBLK = 20
    SEEK = 22


class General(IntFlag):
    """Bits of mt_gstat that are used here."""

    BOT = 0x4000_0000
    EOT = 0x2000_0000  # early warning was met
    EOD = 0x0800_0000
    WR_PROT = 0x0400_0000
    ONLINE = 0x0100_0000
    DR_OPEN = 0x0004_0000  # no tape


class Option(IntFlag):
    """Options of the driver that change what it promises, as its ``options`` in sysfs has them."""

    SYSV = 0x1000  # a close behind a read goes on to the next file
    NOWAIT_EOF = 0x8000  # a filemark is told before it is on tape


class Status(NamedTuple):
    """What MTIOCGET says. mt_resid is the partition; of a motion that fell short it says nothing.

    Attributes:
        file_num, blockno: the driver's own count; None = it does not know.
        block_size: 0 = variable.
        soft_errors: recovered since the last look.
    """

    file_num: int | None
    blockno: int | None
    block_size: int
    soft_errors: int
    flags: General


class Tape(Protocol):
    """An open tape device. Every call may raise OSError."""

    def read(self, view: memoryview) -> int:
        """One record, or in fixed block mode as many blocks as fit; 0 = a filemark was passed, or the end of data.

        ENOMEM: the record is longer, and was passed.
        """
        ...

    def write(self, view: memoryview) -> int:
        """One record. ENOSPC: nothing was written, early warning or the end of the medium."""
        ...

    def operate(self, operation: Operation, count: int) -> None:
        """MTIOCTOP."""
        ...

    def status(self) -> Status:
        """MTIOCGET; a write that was not awaited is, and its error raised."""
        ...

    def tell(self) -> int:
        """MTIOCPOS: objects between BOT and here. EIO: the device does not say."""
        ...

    def options(self) -> Option:
        """Options that are set for the device; none where the kernel does not tell."""
        ...

    def close(self) -> None:
        """Give it back, also where that fails."""
        ...


class StDevice:
    """A tape device by its non-rewinding node; see :class:`Tape`.

    Args:
        path: such as ``/dev/nst0``, or a link to it.

    Raises:
        OSError: EBUSY = another process has it open.
    """

    def __init__(self, path: str, *, writable: bool) -> None:
        # O_NONBLOCK: also without a tape, and without waiting for one.
        access = os.O_RDWR if writable else os.O_RDONLY
        self._fd = os.open(path, access | os.O_NONBLOCK | os.O_CLOEXEC)
        self._name = os.path.basename(os.path.realpath(path))

    def read(self, view: memoryview) -> int:
        return os.readv(self._fd, [view])

    def write(self, view: memoryview) -> int:
        return os.write(self._fd, view)

    def operate(self, operation: Operation, count: int) -> None:
        fcntl.ioctl(self._fd, MTIOCTOP, _MTOP.pack(operation, count))

    def status(self) -> Status:
        buffer = bytearray(_MTGET.size)
        fcntl.ioctl(self._fd, MTIOCGET, buffer)
        _, _, register, general, errors, file_num, blockno = _MTGET.unpack(buffer)
        return Status(
            file_num if file_num >= 0 else None,
            blockno if blockno >= 0 else None,
            register & BLOCK_SIZE_MASK,
            errors & SOFT_ERRORS_MASK,
            General(general & sum(General)),
        )

    def tell(self) -> int:
        buffer = bytearray(_MTPOS.size)
        fcntl.ioctl(self._fd, MTIOCPOS, buffer)
        (position,) = _MTPOS.unpack(buffer)
        if position < 0:
            raise OSError(errno.EIO, "the drive gives no position")
        return int(position)

    def options(self) -> Option:
        try:
            with open(options_path(self._name), "rb") as file:
                return Option(int(file.read(32), 16) & sum(Option))
        except FileNotFoundError:
            return Option(0)

    def close(self) -> None:
        os.close(self._fd)


def options_path(name: str) -> str:
    """Where the kernel tells the options of tape device ``name``."""
    return f"/sys/class/scsi_tape/{name}/options"
