"""The NDMP numbers that a data worker sends; the room does not import the protocol, so they are named here again.

Source: messages.md sections 2 (errors), 8 (data) and 11 (log, recovery status).
"""

from enum import IntEnum
from typing import Final

ILLEGAL_ARGS: Final = 9  # NDMP_ILLEGAL_ARGS_ERR
BUTYPE: Final = "dump"
TAR: Final = "tar"
BUTYPES: Final = (BUTYPE, TAR)


class HaltReason(IntEnum):
    """Why the data service halted, as far as a data worker knows it."""

    SUCCESSFUL = 1
    INTERNAL_ERROR = 3
    CONNECT_ERROR = 4


class LogType(IntEnum):
    """Kind of a log line."""

    NORMAL = 0
    ERROR = 2
    WARNING = 3


class RecoveryStatus(IntEnum):
    """What became of an entry of the recover list (LOG_FILE of version 4)."""

    SUCCESSFUL = 0
    PERMISSION = 1
    NOT_FOUND = 2
    NO_DIRECTORY = 3
    OUT_OF_MEMORY = 4
    IO_ERROR = 5
    UNDEFINED = 6
    PATH_EXISTS = 7
