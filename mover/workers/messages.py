"""Worker messages: one closed tagged union per direction, and the bounds of one message.

Control asks, a worker answers each request with exactly one reply, in order; events come by themselves at any
time. Descriptors travel beside a message, in the order that its docstring names. Numbers named ``error`` are
NDMP error codes (messages.md section 2), ``reason`` NDMP halt and pause reasons in version 4's values; a worker
room does not import the protocol, so they travel as integers. Paths and names are bytes.

The messages of one kind of worker stand in a module of their own. Here are those that any of them sends, and the
unions.
"""

from typing import Final

import msgspec.msgpack

from mover.workers.data_messages import (
    CheckBackup,
    DataFinished,
    FileRecovered,
    PhaseEntered,
    StartBackup,
    StartRecover,
    StartRecoverFilehist,
    WantData,
)
from mover.workers.device_messages import (
    CloseDevice,
    CommandDone,
    DeviceOpened,
    ExecuteCommand,
    OpenDevice,
)
from mover.workers.message import Message
from mover.workers.relay_messages import AttachConnection, ConnectionLost, RelayFinished, StartRelay
from mover.workers.snapshot_messages import (
    CommandEnded,
    FindSnapshots,
    MakeSnapshot,
    RemoveSnapshot,
    RunCommand,
    SnapshotMade,
    SnapshotsFound,
)
from mover.workers.tape_messages import (
    CloseDrive,
    DriveOpened,
    DriveState,
    GetDriveState,
    GetTapePosition,
    LocateTape,
    MotionDone,
    MoverHalted,
    MoverPaused,
    MoveTape,
    OpenDrive,
    ReadRecord,
    ReadStream,
    RecordDone,
    StartMover,
    StopMover,
    TapePosition,
    WriteRecord,
)

MESSAGE_BYTES_MAX: Final = 48 * 1024 * 1024  # holds the longest name list that an NDMP message can carry
DESCRIPTORS_MAX: Final = 8


class Done(Message, frozen=True):
    """The request is done, or accepted where its work follows."""


class Refused(Message, frozen=True):
    """The request is not done: NDMP error code and one line that names the thing and what to do."""

    error: int
    text: str


class LogLine(Message, frozen=True):
    """One line for the DMA (LOG_MESSAGE) and the log; log_type: NORMAL 0, DEBUG 1, ERROR 2, WARNING 3.

    cause: of a line that tells of a counted error, as in Cause; else "". path_bytes: with so many the text begins.
    """

    log_type: int
    text: bytes
    cause: str = ""
    path_bytes: int = 0


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
