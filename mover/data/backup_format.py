"""The door between a backup and the format of its stream: what the one asks for, what the other writes."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from mover.data.backup_history import HistorySender
from mover.data.backup_objects import AttributeReader
from mover.data.backup_report import BackupReport
from mover.data.backup_stream import BackupStream
from mover.data.dump_format import Inode
from mover.data.environment import BackupOptions
from mover.data.open_directories import OpenDirectories
from mover.data.plan import Plan
from mover.data.xattr_blob import Attribute
from mover.ring import Producer
from mover.workers.data_messages import BackupDate, Pairs


class Job(NamedTuple):
    """One backup as a format sees it.

    Attributes:
        root: descriptor of the directory that is backed up.
        filesystem: its name, as the DMA gave it.
        host: name of this host.
        date: of the backup, in seconds; nothing was looked at before.
        level: of the backup, 0 = it is full.
        base: what it is based on; None = it is full.
        data: the ring of the stream.
        history: where file history goes, None where none is wanted.
        private_fd: what a copy of this process must not hold, the control socket.
    """

    root: int
    filesystem: bytes
    host: bytes
    date: int
    level: int
    base: BackupDate | None
    options: BackupOptions
    data: Producer
    history: HistorySender | None
    report: BackupReport
    attributes: AttributeReader
    private_fd: int


class BackupWriter(Protocol):
    """Writes the stream of one backup; there is one such class for each backup type."""

    stream: BackupStream | None
    """The stream, once it has begun."""

    @property
    def names_paths(self) -> bool:
        """Whether the stream names objects by path, so that what was moved is to be written again."""

    @property
    def object_bytes(self) -> int:
        """What an object costs beside its content, as a rule."""

    def __init__(self, job: Job) -> None: ...

    def write(self, plan: Plan, directories: OpenDirectories) -> None:
        """The whole stream, its end included."""

    def environment(self) -> Pairs:
        """Pairs that GET_ENV returns of this format."""


class Written(NamedTuple):
    """An inode that is in the stream and has further names."""

    inumber: int
    path: bytes
    inode: Inode
    offset: int


class PackSmall(Protocol):
    """Puts the headers of a small file into a slot, at ``position``; its content already lies behind them.

    ``offset`` is that of the stream, ``inumber`` of the plan; the times are in seconds, and again in nanoseconds.
    """

    def __call__(
        self, slot: memoryview, position: int, offset: int, inumber: int, name: bytes, mode: int, uid: int, gid: int,
        size: int, blocks: int, atime: int, mtime: int, ctime: int, atime_ns: int, mtime_ns: int, ctime_ns: int, /,
    ) -> None: ...  # fmt: skip


class ObjectWriter(Protocol):
    """Puts objects into the stream, in the order of the plan. Paths are relative to the root.

    Attributes:
        head_bytes: of the headers of a small file.
        unit_bytes: content ends on a multiple of it, at most 1024.
        small_bytes_max: content of a small file.
        ascending: whether objects come in ascending inode number, all directories before them; else by directory.
        names_links: whether an inode's further names want to be told by :meth:`link`.
        not_held: bits 12 to 15 of the mode of what the format has no place for -> why.
    """

    @property
    def head_bytes(self) -> int: ...
    @property
    def unit_bytes(self) -> int: ...
    @property
    def small_bytes_max(self) -> int: ...
    @property
    def ascending(self) -> bool: ...
    @property
    def names_links(self) -> bool: ...
    @property
    def not_held(self) -> dict[int, str]: ...

    def directory(self, ordinal: int) -> None:
        """The entries of this directory come next."""

    def packer(self, ordinal: int) -> tuple[PackSmall, int]:
        """What packs the headers of small files in this directory, and the longest name it takes.

        Their times are in 32 bits of seconds.
        """

    def regular(
        self, fd: int, inumber: int, path: Callable[[], bytes], inode: Inode, attributes: list[Attribute]
    ) -> None:
        """A regular file of any size and shape; the stream says what could not be read."""

    def special(
        self, inumber: int, path: Callable[[], bytes], inode: Inode, target: bytes, attributes: list[Attribute]
    ) -> None:
        """What is neither a regular file nor a directory; ``target`` is that of a symbolic link."""

    def link(self, path: bytes, first: Written) -> None:
        """A further name of what was written."""

    def leave_out(self, inumber: int) -> None:
        """What could not be read."""
