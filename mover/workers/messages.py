"""Worker messages: one closed tagged union per direction, and the bounds of one message.

Control asks, a worker answers each request with exactly one reply, in order; events come by themselves at any
time. Descriptors travel beside a message, in the order that its docstring names. Numbers named ``error`` are
NDMP error codes (messages.md section 2), ``reason`` NDMP halt and pause reasons in version 4's values; a worker
room does not import the protocol, so they travel as integers. Paths and names are bytes.
"""

from typing import Final, Literal

import msgspec.msgpack
from msgspec import Struct

from mover.workers.device_messages import (
    CloseDevice,
    CommandDone,
    DeviceOpened,
    DeviceSpec,
    ExecuteCommand,
    OpenDevice,
)
from mover.workers.message import Message
from mover.workers.snapshot_messages import (
    CommandEnded,
    FindSnapshots,
    MakeSnapshot,
    RemoveSnapshot,
    RunCommand,
    SnapshotMade,
    SnapshotsFound,
)

MESSAGE_BYTES_MAX: Final = 48 * 1024 * 1024  # holds the longest name list that an NDMP message can carry
DESCRIPTORS_MAX: Final = 8

Pairs = list[tuple[bytes, bytes]]


# --- to any worker -------------------------------------------------------------------------------------------


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


# --- to a data worker -----------------------------------------------------------------------------------------


class Place(Struct, frozen=True, gc=False):
    """A path below a volume: both as bytes, ``path`` relative, without a leading separator, "" = the volume."""

    volume: bytes
    path: bytes


class HistoryPlan(Struct, frozen=True):
    """Which file history to send: the protocol version (1 to 4) and the form."""

    version: int
    form: Literal["dir", "file"]


class BackupDate(Struct, frozen=True):
    """What names a backup that others can be based on: its level (0 = it is full), its date in seconds."""

    level: int
    date: int


class CheckBackup(Message, frozen=True):
    """Data: whether StartBackup with these would be refused; nothing follows. Reply: Done or Refused."""

    butype: str
    root: Place
    filesystem: bytes
    env: Pairs


class ReadSnapshot(Struct, frozen=True):
    """What a backup reads in the place of the live tree.

    Attributes:
        kind: as in the configuration.
        of: the place that the dump dates go by.
        device, inode: st_dev and st_ino that the volume has there, or it is not in the snapshot.
        hidden: where snapshots lie, relative to the root: left out. b"" = not below it.
    """

    kind: str
    of: Place
    device: int
    inode: int
    hidden: bytes


class StartBackup(Message, frozen=True):
    """Data: back up. Descriptors: the data ring, then (history is not None) the history ring, then (base is not None)
    the base's inode table, then (keeps_table) an empty file for that of this backup. Reply: Done or Refused.

    root is opened and checked before the reply; the work comes after it. filesystem is the DMA's own name of it.
    date, in whole seconds, is the backup's: nothing of the tree is looked at before. level is that of an incremental
    backup; whatever it is, a backup without a base is full, and of level 0. warnings are lines for the log. snapshot:
    root is a place in one.
    """

    butype: str
    root: Place
    filesystem: bytes
    env: Pairs
    history: HistoryPlan | None
    host: str
    date: int = 0
    level: int = 0
    base: BackupDate | None = None
    keeps_table: bool = False
    warnings: list[str] = []
    snapshot: ReadSnapshot | None = None


class RecoverName(Struct, frozen=True, gc=False):
    """One entry of the recover list, resolved by control.

    Attributes:
        original: path relative to the backup root, no leading separator, "" = everything.
        target: where the object itself goes.
        reported: the name for LOG_FILE, byte for byte as received.
        node, fh_info: as received; all ones = unknown.
    """

    original: bytes
    target: Place
    reported: bytes
    node: int
    fh_info: int


class StartRecover(Message, frozen=True):
    """Data: recover. Descriptors: the data ring, and ``tables`` files. Reply: Done or Refused.

    recursive: directories with contents.
    tables: files for the names that the destination holds (mover/data/name_table.py): 0, 1 = an empty one for the table
    of this recover, 2 = behind it the table of the recover before, which is marked as soon as it does not hold.

    env: as the DMA sent it; looked at for what mover/data/rights.py and mover/data/dump_identity.py name.
    direct: read only the pieces of the stream that ``fh_info`` of the names points to.
    direct_directories: also where the list has directories with what they hold; else all is read because of one.
    """

    butype: str
    names: list[RecoverName]
    env: Pairs
    recursive: bool
    tables: int = 0
    direct: bool = False
    direct_directories: bool = True


class StartRecoverFilehist(Message, frozen=True):
    """Data: read the stream, send its history. Descriptors: data ring, history ring. Reply: Done or Refused.

    env: as in StartRecover.
    """

    butype: str
    env: Pairs
    history: HistoryPlan


# --- to a relay ----------------------------------------------------------------------------------------------


class ListenerKeys(Struct, frozen=True, tag=True):
    """What the listening side of an encrypted data connection has: certificate and key (PEM), and who may connect."""

    certificate: bytes
    token: bytes

    def __repr__(self) -> str:
        """Without the secrets, wherever a message is printed."""
        return "ListenerKeys()"


class ConnectorKeys(Struct, frozen=True, tag=True):
    """What the connecting side has: SHA-256 of the listener's certificate, and the token to show."""

    fingerprint: bytes
    token: bytes

    def __repr__(self) -> str:
        """Without the secret."""
        return f"ConnectorKeys({self.fingerprint.hex()!r})"


class AttachConnection(Message, frozen=True):
    """Relay: take the data connection. Descriptors: the connected socket. Reply: Done or Refused.

    watch: until StartRelay a peer that closes is lost. Without it what the peer sent and its end of file wait for
    StartRelay: a short stream may be over before the ring stands.
    keys: it is to be encrypted; Done then says that the peer is the right one, within handshake_s. None = it is plain.
    """

    peer_timeout_s: float
    watch: bool
    keys: ListenerKeys | ConnectorKeys | None = None
    handshake_s: float = 0.0


class StartRelay(Message, frozen=True):
    """Relay: begin to carry. Descriptors: the data ring. direction: ring to socket, or socket to ring. Reply: Done."""

    direction: Literal["send", "receive"]


ToWorker = (
    OpenDrive
    | CloseDrive
    | GetDriveState
    | MoveTape
    | GetTapePosition
    | LocateTape
    | OpenDevice
    | ExecuteCommand
    | CloseDevice
    | WriteRecord
    | ReadRecord
    | StartMover
    | ReadStream
    | StopMover
    | StartBackup
    | StartRecover
    | StartRecoverFilehist
    | AttachConnection
    | StartRelay
    | CheckBackup
    | RunCommand
    | MakeSnapshot
    | RemoveSnapshot
    | FindSnapshots
)

# --- replies --------------------------------------------------------------------------------------------------


class Done(Message, frozen=True):
    """The request is done, or accepted where its work follows."""


class Refused(Message, frozen=True):
    """The request is not done: NDMP error code and one line that names the thing and what to do."""

    error: int
    text: str


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


# --- events ---------------------------------------------------------------------------------------------------


class LogLine(Message, frozen=True):
    """One line for the DMA (LOG_MESSAGE) and the log; log_type: NORMAL 0, DEBUG 1, ERROR 2, WARNING 3.

    cause: of a line that tells of a counted error, as in Cause; else "". path_bytes: with so many the text begins.
    """

    log_type: int
    text: bytes
    cause: str = ""
    path_bytes: int = 0


class PhaseEntered(Message, frozen=True):
    """The data operation has come to this DataPhase."""

    phase: int


class Cause(Struct, frozen=True, gc=False):
    """Errors of one cause: the symbol of an error number, or a word; ``paths`` are the first of them."""

    name: str
    count: int
    paths: list[bytes]


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


class WantData(Message, frozen=True):
    """The data worker wants this piece of the stream next (NOTIFY_DATA_READ); length all ones = to the end."""

    offset: int
    length: int


class FileRecovered(Message, frozen=True):
    """One entry of the recover list is finished: version 4's recovery_status (messages.md section 11)."""

    name: bytes
    status: int


class DataFinished(Message, frozen=True):
    """The data operation ended: DataHaltReason, a line saying why, and figures.

    stream_bytes: of the stream made or read. env: pairs that GET_ENV adds or replaces. table_kept: the file that
    control gave for the new table holds a whole one. date: of a backup whose inode table is kept. causes: the errors.
    left_out: reason -> what was left out for it without an error. The counts by kind and size are gauges of the ring.
    """

    reason: int
    text: str
    directories: int
    files: int
    errors: int
    file_bytes: int
    stream_bytes: int
    history_entries: int
    env: Pairs
    table_kept: bool = False
    date: BackupDate | None = None
    causes: list[Cause] = []
    left_out: dict[str, int] = {}


class ConnectionLost(Message, frozen=True):
    """The data connection ended before StartRelay."""

    text: str


class RelayFinished(Message, frozen=True):
    """The data connection is over.

    orderly: the stream's end went through: the in-band END was sent and acknowledged, the peer's end was received, or
    the consumer had all it wanted and the peer was told so. peer_closed: a sender's peer closed in good order before
    the end (a recover that has all it wants; in a backup that is a failure).
    """

    orderly: bool
    peer_closed: bool
    text: str
    socket_bytes: int


Event = (
    LogLine
    | PhaseEntered
    | MoverPaused
    | MoverHalted
    | WantData
    | FileRecovered
    | DataFinished
    | ConnectionLost
    | RelayFinished
)
Reply = (
    Done
    | Refused
    | DriveOpened
    | DriveState
    | MotionDone
    | TapePosition
    | RecordDone
    | DeviceOpened
    | CommandDone
    | CommandEnded
    | SnapshotMade
    | SnapshotsFound
)
FromWorker = Reply | Event

to_worker_decoder: Final = msgspec.msgpack.Decoder(ToWorker)
from_worker_decoder: Final = msgspec.msgpack.Decoder(FromWorker)
encoder: Final = msgspec.msgpack.Encoder()
