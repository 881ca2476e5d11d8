"""How long a device may take for each operation: one table for whatever waits for a drive or a changer.

A worker gives a device less than its deadline where it can, and then says which command was not answered. Past the
deadline nobody waits any more: the worker is killed. The configuration may set another time for a device, in the place
of every row.
"""

from typing import Final, Literal

from mover.workers.tape_messages import (
    CloseDrive,
    GetDriveState,
    GetTapePosition,
    LocateTape,
    MoveTape,
    OpenDrive,
    ReadRecord,
    StartMover,
    WriteRecord,
)

DriveKind = Literal["virtual", "iscsi", "st"]

# A virtual drive moves by arithmetic and waits for its disk only.
_VIRTUAL: Final[dict[type, float]] = {
    OpenDrive: 120,  # a cartridge without an index is walked through
    CloseDrive: 120,
    GetDriveState: 60,
    MoveTape: 600,
    GetTapePosition: 60,
    LocateTape: 600,
    WriteRecord: 600,
    ReadRecord: 600,
    StartMover: 1200,  # each call of a mover at work: the records of one slot, or the way to one
}
# A real one moves a kilometre of tape. The st driver waits 900 s for a record and 14,000 s for a motion, which is the
# time of an erase (Linux, drivers/scsi/st.c: ST_TIMEOUT, ST_LONG_TIMEOUT); LTO drives themselves ask for about half an
# hour for their longest LOCATE, SPACE and WRITE FILEMARKS (REPORT SUPPORTED OPERATION CODES with RCTD; SPC-4 6.35.4).
_REAL: Final[dict[type, float]] = {
    OpenDrive: 900,  # a cartridge that was just put in is threaded first
    CloseDrive: 2400,  # what the drive has buffered, and filemarks
    GetDriveState: 120,
    MoveTape: 2400,
    GetTapePosition: 120,
    LocateTape: 2400,
    WriteRecord: 1200,  # with the retries of the driver
    ReadRecord: 1200,
    StartMover: 2400,  # each call of a mover at work
}
_DRIVES: Final[dict[DriveKind, dict[type, float]]] = {"virtual": _VIRTUAL, "iscsi": _REAL, "st": _REAL}
CLOSE_MAX_S: Final = max(deadlines[CloseDrive] for deadlines in _DRIVES.values())


def drive_deadline_s(kind: DriveKind, operation: type, timeout_s: float | None) -> float:
    """How long a drive may take for what a worker is asked.

    Args:
        operation: the type of the message.
        timeout_s: what the configuration says of this drive; None = nothing.
    """
    if timeout_s is None:
        return _DRIVES[kind][operation]
    return timeout_s if kind == "virtual" else timeout_s + LATE_S  # its worker says first what did not answer


def mover_deadline_s(kind: DriveKind, timeout_s: float | None, records: int) -> float:
    """How long a drive may take for one call of a mover at work.

    Args:
        timeout_s: what the configuration says of this drive, for one record; None = nothing.
        records: as many as one call has at most.
    """
    if timeout_s is None:
        return drive_deadline_s(kind, StartMover, None)
    return drive_deadline_s(kind, StartMover, timeout_s * max(1, records))


# Of commands that a device is passed, by operation code. Robots may look at every element first, when they were just
# switched on; who asks for less time has it.
OPEN_DEVICE_S: Final = 60.0
_COMMANDS: Final[dict[int, float]] = {
    0x01: 2400,  # REWIND
    0x04: 14_000,  # FORMAT MEDIUM; as the st driver's longest
    0x07: 3600,  # INITIALIZE ELEMENT STATUS: a large library takes an hour
    0x08: 1200,  # READ(6)
    0x0A: 1200,  # WRITE(6)
    0x10: 2400,  # WRITE FILEMARKS(6)
    0x11: 2400,  # SPACE(6)
    0x13: 14_000,  # VERIFY(6)
    0x19: 14_000,  # ERASE(6)
    0x1B: 900,  # LOAD UNLOAD
    0x2B: 2400,  # LOCATE(10), POSITION TO ELEMENT
    0x37: 3600,  # INITIALIZE ELEMENT STATUS WITH RANGE
    0x80: 2400,  # WRITE FILEMARKS(16)
    0x91: 2400,  # SPACE(16)
    0x92: 2400,  # LOCATE(16)
    0x93: 14_000,  # ERASE(16)
    0xA5: 900,  # MOVE MEDIUM
    0xA6: 1800,  # EXCHANGE MEDIUM
    0xB8: 900,  # READ ELEMENT STATUS
    0xE7: 3600,  # INITIALIZE ELEMENT STATUS WITH RANGE of older libraries
}
_COMMAND_S: Final = 120.0
COMMAND_MAX_S: Final = max(_COMMANDS.values())
LATE_S: Final = 10.0  # how much longer than its device a worker may take to say what became of a command


def command_timeout_s(cdb: bytes, timeout_s: float | None, wanted_s: float = 0) -> float:
    """How long a device may take for a command.

    Args:
        timeout_s: what the configuration says of this device; None = nothing.
        wanted_s: what the client says, which counts; 0 = nothing.
    """
    if wanted_s:
        return min(wanted_s, COMMAND_MAX_S)
    return timeout_s if timeout_s is not None else _COMMANDS.get(cdb[0], _COMMAND_S)
