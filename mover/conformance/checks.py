"""A check: what it asks, what it needs, the clause behind it, and the function that asks."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

import msgspec

from mover.conformance.session import Session

# NDMPv1's sections by message, NDMPv4's by interface; the texts of versions 2 and 3 are cited by message.
_SECTIONS_1: Final = {
    "CONNECT_OPEN": "3.1.1",
    "CONNECT_AUTH": "3.1.2",
    "CONNECT_CLOSE": "3.1.3",
    "CONFIG_GET_HOST_INFO": "3.2.1",
    "CONFIG_GET_BUTYPE_ATTR": "3.2.2",
    "SCSI_OPEN": "3.3.1",
    "SCSI_CLOSE": "3.3.2",
    "SCSI_GET_STATE": "3.3.3",
    "SCSI_SET_TARGET": "3.3.4",
    "SCSI_RESET_DEVICE": "3.3.5",
    "SCSI_RESET_BUS": "3.3.6",
    "SCSI_EXECUTE_CDB": "3.3.7",
    "TAPE_OPEN": "3.4.1",
    "TAPE_CLOSE": "3.4.2",
    "TAPE_GET_STATE": "3.4.3",
    "TAPE_MTIO": "3.4.4",
    "TAPE_WRITE": "3.4.5",
    "TAPE_READ": "3.4.6",
    "TAPE_SET_RECORD_SIZE": "3.4.7",
    "TAPE_EXECUTE_CDB": "3.4.8",
    "DATA_GET_STATE": "3.5.1",
    "DATA_START_BACKUP": "3.5.2",
    "DATA_START_RECOVER": "3.5.3",
    "DATA_ABORT": "3.5.4",
    "DATA_STOP": "3.5.5",
    "DATA_CONTINUE": "3.5.6",
    "DATA_GET_ENV": "3.5.7",
    "NOTIFY_PAUSED": "4.1.1",
    "NOTIFY_HALTED": "4.1.2",
    "NOTIFY_CONNECTED": "4.1.3",
    "header": "2.6",
    "NOT_AUTHORIZED_ERR": "2.7",
    "NOT_SUPPORTED_ERR": "2.7",
    "XDR_DECODE_ERR": "2.7",
}
_SECTIONS_4: Final = {
    "CONNECT": "3.1",
    "CONFIG": "3.2",
    "SCSI": "3.3",
    "TAPE": "3.4",
    "DATA": "3.5",
    "MOVER": "3.6",
    "NOTIFY": "3.7",
    "LOG": "3.8",
    "FH": "3.9",
}


class Need(StrEnum):
    """What a check uses of the server beyond a login."""

    TAPE = "tape"
    WRITE = "write"
    FILESYSTEM = "filesystem"
    RECOVER_TO = "recover-to"
    CHANGER = "changer"
    SESSIONS = "sessions"


READS_TAPE: Final = frozenset({Need.TAPE})
WRITES_TAPE: Final = frozenset({Need.TAPE, Need.WRITE})
NOTHING: Final[frozenset[Need]] = frozenset()


class Check(msgspec.Struct, frozen=True):
    """One row of the report.

    Attributes:
        interface: without which there is nothing to ask ("DATA"); "" = none.
        logged_in, negotiated: how far the session that `run` gets has been brought.
    """

    name: str
    clause: str
    run: Callable[[Session], None]
    needs: frozenset[Need] = NOTHING
    interface: str = ""
    negotiated: bool = True
    logged_in: bool = True


Group = Callable[[int], Iterator[Check]]
"""The checks of one group in one version."""


def clause(version: int, message: str, notes: str) -> str:
    """Where the specification of a version says it, and where the project's notes weigh the sources.

    Args:
        message: the message, or a section's heading.
        notes: file and section of the notes: `states.md 4.1`.
    """
    sections = {1: _SECTIONS_1.get(message, ""), 4: _SECTIONS_4.get(message.partition("_")[0], "")}
    section = sections.get(version, "")
    return f"NDMPv{version} {section + ' ' if section else ''}{message}; {notes}"
