"""The way of a CDB to a device: one command at a time, with its data, status and sense; over iSCSI or the sg driver.

Source: SAM-5 5 (status, sense data); SPC-4 4.5.
"""

from enum import IntEnum
from typing import NamedTuple, Protocol, runtime_checkable


class Status(IntEnum):
    """Status of a command. Source: SAM-5 table 37."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28


class Reply(NamedTuple):
    """What became of a command.

    Attributes:
        status: see Status; others are left as they came.
        sense: sense data of CHECK CONDITION, at most 252 bytes; else empty.
        transferred: bytes of data that were moved, as the transport knows it; at most the length of the buffer.
    """

    status: int
    sense: bytes
    transferred: int


class TransportError(Exception):
    """A command did not reach the device, or its answer did not come back; what the device has done is not known.

    Attributes:
        timed_out: no answer within the time given; else the way to the device is broken.
    """

    def __init__(self, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


class Transport(Protocol):
    """An open way to one logical unit; blocking, for one thread."""

    def execute(self, cdb: bytes, data: memoryview | None = None, *, writes: bool = False, timeout_s: float) -> Reply:
        """Have the device do a command.

        Args:
            data: what goes out (``writes``), or room for what comes in; None = no data phase.

        Raises:
            TransportError: see there.
        """
        ...

    def close(self) -> None:
        """Give it back; a second time does nothing."""
        ...


@runtime_checkable
class TakesCommands(Protocol):
    """A drive that passes CDBs on beside what it does itself."""

    @property
    def transport(self) -> Transport:
        """Its way to the device; a command that moves the tape makes the drive's own count wrong."""
        ...
