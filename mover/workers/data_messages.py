"""The messages between control and a data worker; see :mod:`mover.workers.messages`."""

from typing import Literal

from msgspec import Struct

from mover.workers.message import Message

Pairs = list[tuple[bytes, bytes]]


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


class PhaseEntered(Message, frozen=True):
    """The data operation has come to this DataPhase."""

    phase: int


class Cause(Struct, frozen=True, gc=False):
    """Errors of one cause: the symbol of an error number, or a word; ``paths`` are the first of them."""

    name: str
    count: int
    paths: list[bytes]


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


Request = CheckBackup | StartBackup | StartRecover | StartRecoverFilehist
Event = PhaseEntered | WantData | FileRecovered | DataFinished
