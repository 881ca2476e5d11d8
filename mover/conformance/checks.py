"""A check: what it asks, what it needs, the clause behind it, and the function that asks."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

import msgspec

from mover.conformance.session import Session

# NDMPv4's sections by interface; the texts of versions 2 and 3 are cited by message.
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
    section = _SECTIONS_4.get(message.partition("_")[0], "") if version == 4 else ""
    return f"NDMPv{version} {section + ' ' if section else ''}{message}; {notes}"
