"""The messages between control and a tape worker: its drive, the tape in it, and the mover.

See :mod:`mover.workers.messages`; those about real devices are in :mod:`mover.workers.device_messages`.
"""

from typing import Literal

from msgspec import Struct

from mover.workers.device_messages import DeviceSpec
from mover.workers.message import Message


class DriveFault(Struct, frozen=True):
    """A fault that a virtual drive is to rehearse.

    Attributes:
        record: counted from 1 since the drive was opened, of a write-error those written, of a read-error those read,
            of a hang both.
        at_bytes: early-warning: how much of the cartridge lies before it.
        rate_bytes, buffer_bytes, reposition_ms: slow: bytes a second, bytes, and how long it takes to start again.
        seconds: hang.
    """

    kind: Literal["write-error", "read-error", "early-warning", "slow", "hang"]
    record: int = 0
    at_bytes: int = 0
    rate_bytes: int = 0
    buffer_bytes: int = 0
    reposition_ms: int = 0
    seconds: int = 0


class DriveSpec(Struct, frozen=True, tag=True):
    """A virtual drive as the tape worker needs to know it.

    Attributes:
        name: as in the configuration, ``vtl0/drive0``.
        path: the cartridge file that is loaded; None = the drive is empty (raw mode only).
        capacity_bytes, early_warning_bytes: of the cartridge; early warning begins so many bytes before the end.
        loading: names this loading of the cartridge into the drive. Closing does not lose the tape's position: it is
            kept beside the cartridge for the next open in the same drive and loading; otherwise the tape is at BOT.
        faults: what it rehearses.
    """

    name: str
    path: str | None
    capacity_bytes: int
    early_warning_bytes: int
    loading: str = ""
    faults: tuple[DriveFault, ...] = ()


class OpenDrive(Message, frozen=True):
    """Tape: open the drive. Descriptors: the record memory (one slot for TAPE_READ/TAPE_WRITE bytes).

    mode: NDMP tape mode of version 4 (READ 0, RDWR 1, RAW 2). implicit_filemark: version 4's rule (states.md 5.4).
    Reply: DriveOpened or Refused.
    """

    drive: DriveSpec | DeviceSpec
    mode: int
    implicit_filemark: bool


class CloseDrive(Message, frozen=True):
    """Tape: write the implicit filemark where due, make everything durable, close. Reply: Done or Refused.

    After Refused the drive is still open and a second CloseDrive closes it whatever happens (states.md 5.3).
    """


class GetDriveState(Message, frozen=True):
    """Tape: reply DriveState."""


class MoveTape(Message, frozen=True):
    """Tape: MTIO. crosses_filemark: FSR/BSR of versions 2 and 3 cross the mark they meet (states.md 5.7).

    Reply: MotionDone.
    """

    operation: int
    count: int
    crosses_filemark: bool


class GetTapePosition(Message, frozen=True):
    """Tape: where the tape stands, in logical objects (SSC-4 4.2.6). Reply: TapePosition."""


class LocateTape(Message, frozen=True):
    """Tape: move behind so many objects (records and filemarks), so many filemarks, or to the end of data.

    Reply: MotionDone; residual 1 = the tape ends before, and stands at the end of data.
    """

    unit: Literal["object", "file", "end"]
    number: int


class WriteRecord(Message, frozen=True):
    """Tape: TAPE_WRITE of the first ``length`` bytes of the record memory as one record. Reply: RecordDone."""

    length: int


class ReadRecord(Message, frozen=True):
    """Tape: TAPE_READ of at most ``count`` bytes into the record memory. Reply: RecordDone.

    crosses_filemark: a filemark is passed (versions 2, 3) or stays ahead (version 4); error EOF either way.
    """

    count: int
    crosses_filemark: bool


class MoverPosition(Struct, frozen=True):
    """Where a mover stands; all a successor needs to go on after a pause (states.md 4.3).

    Attributes:
        bytes_moved: stream bytes on tape (READ) or put on the data connection (WRITE).
        record_num: MOVER record_num.
        read_offset: stream offset of the next byte of the MOVER_READ under way.
        bytes_left: of that MOVER_READ; 0 = none under way.
        window_written: bytes written since SET_WINDOW (mode READ).
    """

    bytes_moved: int = 0
    record_num: int = 0
    read_offset: int = 0
    bytes_left: int = 0
    window_written: int = 0


class StartMover(Message, frozen=True):
    """Tape: take up the mover's work on the open drive. Descriptors: the data ring (memory, free, filled). Reply: Done.

    mode: MoverMode READ 0 (ring to tape) or WRITE 1 (tape to ring). window_length: all ones = unbounded.
    position: zero at the start, that of the last MoverPaused at MOVER_CONTINUE. In mode WRITE the tape stands at
    the window's first record when ``window_is_new`` (states.md 4.6); else the worker's own note of where the window
    began still holds, or, on another drive or in another tape file, the stream goes on where it stopped.
    local: the ring's other side is a data worker, not a relay.
    start_percent, stop_percent: of the ring's slots; a drive that had to stop goes on when so many are filled (mode
    READ) or free (WRITE), and stops when no more than that are.
    """

    mode: int
    record_size: int
    window_offset: int
    window_length: int
    window_is_new: bool
    position: MoverPosition
    version: int
    local: bool = False
    start_percent: int = 0
    stop_percent: int = 0


class ReadStream(Message, frozen=True):
    """Tape: MOVER_READ, or what a local data worker wants; length all ones = to the end. Reply: Done or Refused."""

    offset: int
    length: int


class StopMover(Message, frozen=True):
    """Tape: leave the ring and halt with this reason. No reply; MoverHalted follows unless it came before."""

    reason: int


class DriveOpened(Message, frozen=True):
    """The drive is open; ``warning`` tells of a torn last record that was cut back, else ""."""

    write_protected: bool
    warning: str


class DriveState(Message, frozen=True):
    """TAPE_GET_STATE: flags of messages.md section 7; None = not known."""

    flags: int
    file_num: int | None
    blockno: int | None
    block_size: int
    soft_errors: int
    total_space: int | None
    space_remain: int | None


class MotionDone(Message, frozen=True):
    """MTIO's outcome: error code, residual count, and a line for the log when error is not 0."""

    error: int
    residual: int
    text: str


class TapePosition(Message, frozen=True):
    """Logical objects between BOT and here; None = not known."""

    objects: int | None


class RecordDone(Message, frozen=True):
    """A record's outcome: error code, bytes written or read, and a line for the log when error is not 0."""

    error: int
    count: int
    text: str


class MoverPaused(Message, frozen=True):
    """The mover paused and left the ring, everything up to ``position`` is on tape or in the ring.

    seek_position: the offset wanted (reason SEEK). The pending record stays in the ring.
    """

    reason: int
    seek_position: int
    position: MoverPosition
    text: str


class MoverHalted(Message, frozen=True):
    """The mover halted and left the ring."""

    reason: int
    position: MoverPosition
    text: str


Request = (
    OpenDrive
    | CloseDrive
    | GetDriveState
    | MoveTape
    | GetTapePosition
    | LocateTape
    | WriteRecord
    | ReadRecord
    | StartMover
    | ReadStream
    | StopMover
)
Reply = DriveOpened | DriveState | MotionDone | TapePosition | RecordDone
Event = MoverPaused | MoverHalted
