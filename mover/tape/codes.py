"""The NDMP numbers that a tape worker sends; the room does not import the protocol, so they are named here again.

Source: messages.md sections 2 (errors), 7 (tape) and 9 (mover).
"""

from enum import IntEnum, IntFlag
from typing import Final

ALL_ONES: Final = (1 << 64) - 1  # "unbounded" of windows and reads, "unknown" of gauges


class Error(IntEnum):
    """NDMP error codes that a drive can answer with."""

    NO_ERR = 0
    NOT_SUPPORTED = 1
    DEVICE_BUSY = 2
    DEVICE_OPENED = 3
    PERMISSION = 5
    DEV_NOT_OPEN = 6
    IO = 7
    TIMEOUT = 8
    ILLEGAL_ARGS = 9
    NO_TAPE_LOADED = 10
    WRITE_PROTECT = 11
    EOF = 12
    EOM = 13
    ILLEGAL_STATE = 19
    READ_IN_PROGRESS = 25


class TapeMode(IntEnum):
    """How a drive is opened."""

    READ = 0
    RDWR = 1
    RAW = 2  # as RDWR, and an empty or protected drive may be opened too


class TapeOperation(IntEnum):
    """Operations of TAPE_MTIO."""

    FSF = 0
    BSF = 1
    FSR = 2
    BSR = 3
    REW = 4
    EOF = 5  # write filemarks
    OFF = 6  # unload
    TUR = 7  # test unit ready


class TapeFlag(IntFlag):
    """Flags of TAPE_GET_STATE."""

    NOREWIND = 0x08
    WR_PROT = 0x10
    ERROR = 0x20
    UNLOAD = 0x40


class MoverMode(IntEnum):
    """What the mover does with the data connection."""

    READ = 0  # reads it, writes tape
    WRITE = 1  # writes it, reads tape


class PauseReason(IntEnum):
    """Why the mover paused."""

    EOM = 1
    EOF = 2
    SEEK = 3
    MEDIA_ERROR = 4  # versions 2 and 3
    EOW = 5


class HaltReason(IntEnum):
    """Why the mover halted."""

    CONNECT_CLOSED = 1
    ABORTED = 2
    INTERNAL_ERROR = 3
    CONNECT_ERROR = 4
    MEDIA_ERROR = 5  # version 4
