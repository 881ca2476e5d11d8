"""How long a device may take for each operation: one table for whatever waits for a drive or a changer.

A worker gives a device less than its deadline where it can, and then says which command was not answered. Past the
deadline nobody waits any more: the worker is killed. The configuration may set another time for a device, in the place
of every row.
"""

from typing import Final, Literal

from mover.workers.messages import (
    CloseDrive,
    GetDriveState,
    GetTapePosition,
    LocateTape,
    MoveTape,
    OpenDrive,
    ReadRecord,
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
}
_DRIVES: Final[dict[DriveKind, dict[type, float]]] = {"virtual": _VIRTUAL, "iscsi": _REAL, "st": _REAL}
CLOSE_MAX_S: Final = max(deadlines[CloseDrive] for deadlines in _DRIVES.values())


def drive_deadline_s(kind: DriveKind, operation: type, timeout_s: float | None) -> float:
    """How long a drive may take for what a worker is asked.

    Args:
        operation: the type of the message.
        timeout_s: what the configuration says of this drive; None = nothing.
    """
    row = _DRIVES[kind][operation]
    return row if timeout_s is None else timeout_s
