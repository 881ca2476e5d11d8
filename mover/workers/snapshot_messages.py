"""The messages between control and a snapshot helper; see :mod:`mover.workers.messages`."""

from typing import Literal

from msgspec import Struct

from mover.workers.message import Message

# --- requests


class SnapshotSource(Struct, frozen=True):
    """What snapshots of a volume are made of, as the configuration has it.

    Attributes:
        volume: its directory.
        directory: Btrfs: where snapshots go, b"" = a hidden directory in the subvolume. LVM: where they are mounted.
        origin: LVM: group/volume. ZFS: the dataset.
        size_bytes: LVM: room for what changes meanwhile; 0 = a thin volume, whose pool has it.
        mount_options: LVM: beside those that the file system needs.
    """

    kind: Literal["btrfs", "lvm", "zfs"]
    volume: bytes
    directory: bytes = b""
    origin: str = ""
    size_bytes: int = 0
    mount_options: str = ""


class RunCommand(Message, frozen=True):
    """Snapshot: run a command of the configuration, without a shell. Reply: CommandEnded."""

    arguments: list[str]
    timeout_s: int


class MakeSnapshot(Message, frozen=True):
    """Snapshot: make one. Reply: SnapshotMade or Refused: ILLEGAL_STATE_ERR = there is none, else it may be there."""

    source: SnapshotSource
    name: str
    timeout_s: int


class RemoveSnapshot(Message, frozen=True):
    """Snapshot: remove it, if it is there. Reply: Done or Refused."""

    source: SnapshotSource
    name: str
    timeout_s: int


class FindSnapshots(Message, frozen=True):
    """Snapshot: which ones with names of ours are there? Reply: SnapshotsFound or Refused."""

    source: SnapshotSource
    timeout_s: int


# --- replies


class CommandEnded(Message, frozen=True):
    """A command is over.

    Attributes:
        status: its exit status, negative = it was killed by that signal, None = its deadline came.
        text: what went wrong; "" = nothing.
    """

    status: int | None
    text: str


class SnapshotMade(Message, frozen=True):
    """A snapshot stands.

    Attributes:
        path: the volume in it.
        device, inode: of the volume's directory in it; all that is in it has that st_dev.
        hidden: where snapshots lie in the volume; b"" = nowhere.
        mounted: what is mounted in the volume, relative to it: not in the snapshot.
    """

    path: bytes
    device: int
    inode: int
    hidden: bytes
    mounted: list[bytes]


class SnapshotsFound(Message, frozen=True):
    """The names of the snapshots of ours."""

    names: list[str]


Request = RunCommand | MakeSnapshot | RemoveSnapshot | FindSnapshots
Reply = CommandEnded | SnapshotMade | SnapshotsFound
