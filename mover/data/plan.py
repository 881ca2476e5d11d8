"""The plan of a backup: every entry that the scan has found, numbered, and which of them are backed up.

A directory's entries have consecutive keys in the order of the listing, directories come parents first; so a key is
found by its directory and its place there. An entry costs its name and ten bytes, a directory its name once more and
120 bytes. In a full backup the key is the dump's inode number too; in an incremental one mover.data.numbering gives the
inode numbers.

Source: dump.md section 10.
"""

import functools
import itertools
import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from mover.data.byte_strings import ByteStrings
from mover.data.dump_format import DT_FILE, FIRST_INUMBER, Inode
from mover.data.links import Links
from mover.data.xattr_blob import Attribute

OTHER_NAME: Final = 0  # in place of a type: a further name of an inode that comes before
FIRST_NAME: Final = 16  # in place of a type: a regular file that further names are told to be of
_LISTINGS_KEPT: Final = 4  # directories whose names stay cut apart, for numbers that go back and forth between them
_BILLION: Final = 1_000_000_000
_METADATA: Final = struct.Struct("<HIIIQqIqIqI")


def inode_of(stat: os.stat_result) -> Inode:
    """What a header says of an object; flags and generation are left 0 (dump.md section 2: safe)."""
    return Inode(
        stat.st_mode,
        stat.st_nlink,
        stat.st_uid,
        stat.st_gid,
        stat.st_size,
        stat.st_atime_ns,
        stat.st_mtime_ns,
        stat.st_ctime_ns,
        stat.st_rdev,
        0,
        stat.st_blocks,
    )


class Run(NamedTuple):
    """Some entries of one directory, as they are backed up; ``types`` may say OTHER_NAME and FIRST_NAME."""

    ordinal: int
    names: list[bytes]
    types: bytes
    inumbers: Sequence[int]


class Selection(NamedTuple):
    """What an incremental backup takes of a plan, and the inode numbers it gives.

    Attributes:
        numbers: inode number of the entry with key FIRST_INUMBER + k.
        directories: for each ordinal, 1 = the directory is in the backup.
        others: for the entry with key FIRST_INUMBER + k, 1 = it is no directory and in the backup.
        inodes: how many are in the backup.
        hidden: numbers of the base that may still be in use in directories that could not be opened.
    """

    numbers: "array[int]"
    directories: bytearray
    others: bytearray
    inodes: int
    hidden: "array[int]"


class Plan:
    """What is to be dumped. Directories have ordinals in the order of the scan, the root is 0.

    Attributes:
        inumbers: of each directory.
        parents: ordinal of each directory's parent; the root's is its own.
        firsts: key of each directory's first entry; entry k has ``firsts[ordinal] + k``.
        names: base name of each directory, b"." for the root.
        types: a DT byte for each entry of each directory.
        attributes: ordinal -> extended attributes, of those directories that have any.
        links: which entries are other names of earlier ones.
        absent: keys of directories that vanished during the scan.
        next_inumber: one more than the highest number given.
        selection: of an incremental backup; None = everything, and an entry's key is its inode number.
        inodes: of the entry with key FIRST_INUMBER + k, on its file system; 0 = a directory.
        directory_inodes: of each ordinal: as its parent lists it, or its own where that is the same.
        mask: called with an ordinal: what the ``inodes`` of its entries were taken with.
        own_inodes: of each ordinal, by its own word; 0 = it could not be looked into.
        odd: for each ordinal, 1 = it is known by its listing alone: a mount, or a subvolume of Btrfs.
        ambiguous: inodes that several different objects have; such objects are known again by nothing.
        changed: for the entry with key FIRST_INUMBER + k that is no directory, 1 = it changed since the base.
        changed_bytes: of content, in those that changed by their time.
        changed_count: how many those were.
        without_birth: how many would not be among them if their file systems knew when they were made.
        directory_changed: the same for each ordinal.
        closed: ordinals of directories that could not be opened: what is in them is not known.
        excluded: ordinal -> names that were to be left out, of those directories that have any.
        unsound: inode numbers of what is not in the backup as it should be; a later one is to take them again.
    """

    def __init__(self) -> None:
        self.inumbers = array("I")
        self.parents = array("I")
        self.firsts = array("I")
        self.names = ByteStrings()
        self.types = ByteStrings("I")
        self.attributes: dict[int, list[Attribute]] = {}
        self.links = Links()
        self.absent: set[int] = set()
        self.next_inumber = FIRST_INUMBER
        self.selection: Selection | None = None
        self.inodes = array("Q")
        self.directory_inodes = array("Q")
        self.own_inodes = array("Q")
        self.mask: Callable[[int], int] = _no_mask
        self.odd = bytearray()
        self.ambiguous: set[int] = set()
        self.changed = bytearray()
        self.changed_bytes = self.changed_count = self.without_birth = 0
        self.directory_changed = bytearray()
        self.closed: set[int] = set()
        self.excluded: dict[int, list[bytes]] = {}
        self.unsound: set[int] = set()
        self._listings = ByteStrings()  # names joined by NUL
        self._metadata = bytearray()  # of _METADATA

    def __len__(self) -> int:
        """Directories."""
        return len(self.inumbers)

    @property
    def entries(self) -> int:
        """Objects to dump, the root included."""
        if self.selection is not None:
            return self.selection.inodes
        return self.next_inumber - FIRST_INUMBER + 1 - len(self.links) - len(self.absent)

    def add(self, inumber: int, parent: int, name: bytes) -> int:
        """A directory before it is opened; returns its ordinal."""
        self.inumbers.append(inumber)
        self.parents.append(parent)
        self.firsts.append(self.next_inumber)
        self.names.append(name)
        self.types.append(b"")
        self._listings.append(b"")
        self._metadata += bytes(_METADATA.size)
        self.directory_inodes.append(0)
        self.own_inodes.append(0)
        self.odd.append(0)
        self.directory_changed.append(0)
        return len(self.inumbers) - 1

    def drop_last(self) -> None:
        """Take back the directory added last: it is not there any more."""
        for column in (self.parents, self.firsts, self.names, self.types, self._listings):
            column.pop()
        del self._metadata[-_METADATA.size :]
        for more in (self.directory_inodes, self.own_inodes, self.odd, self.directory_changed):
            more.pop()
        self.absent.add(self.inumbers.pop())

    def set_metadata(self, ordinal: int, stat: os.stat_result) -> None:
        a_s, a_ns = divmod(stat.st_atime_ns, _BILLION)
        m_s, m_ns = divmod(stat.st_mtime_ns, _BILLION)
        c_s, c_ns = divmod(stat.st_ctime_ns, _BILLION)
        owner = (stat.st_nlink & 0xFFFF_FFFF, stat.st_uid, stat.st_gid)
        fields = (stat.st_mode, *owner, stat.st_blocks, a_s, a_ns, m_s, m_ns, c_s, c_ns)
        _METADATA.pack_into(self._metadata, ordinal * _METADATA.size, *fields)

    def set_listing(self, names: Sequence[str], types: bytes | bytearray) -> None:
        """What is in the directory added last."""
        self._listings.put_last(os.fsencode("\0".join(names)))
        self.types.put_last(types)
        self.next_inumber += len(types)

    def entry_names(self, ordinal: int) -> list[bytes]:
        """Base names of a directory's entries, in the order of their numbers."""
        return self._listings[ordinal].split(b"\0") if self.types.length(ordinal) else []

    def numbered_entries(self, ordinal: int) -> list[tuple[int, int, bytes]]:
        """A directory's entries with number and type; another name of an earlier inode has the number of that."""
        first = self.firsts[ordinal]
        names, types = self.entry_names(ordinal), self.types[ordinal]
        keys = range(first, first + len(names))
        absent = self.absent
        if self.selection is not None:
            numbers = self.selection.numbers[first - FIRST_INUMBER : first - FIRST_INUMBER + len(names)]
            entries = zip(keys, numbers, types, names, strict=True)
            return [(number, kind, name) for key, number, kind, name in entries if key not in absent]
        if self.links or absent:
            links = self.links
            named = zip(keys, types, names, strict=True)
            return [(links.first(key), kind, name) for key, kind, name in named if key not in absent]
        return list(zip(keys, types, names, strict=True))

    def inumber_of(self, key: int) -> int:
        """The inode number of an entry."""
        if self.selection is not None:
            return self.selection.numbers[key - FIRST_INUMBER]
        return self.links.first(key)

    def directories(self) -> Iterator[int]:
        """Ordinals of the directories to dump, parents first."""
        if self.selection is None:
            return iter(range(len(self)))
        return itertools.compress(range(len(self)), self.selection.directories)

    def runs(self) -> Iterator[Run]:
        """All entries to dump by directory: each directory to dump once, what is to be dumped of it behind it."""
        for ordinal in self.directories():
            first, names, types = self.firsts[ordinal], self.entry_names(ordinal), self.types[ordinal]
            if self.links:
                types = bytes(map(self._kind, range(first, first + len(types)), types))
            if self.selection is None:
                numbers: Sequence[int] = range(first, first + len(names))
                if self.links:
                    numbers = list(map(self.links.first, numbers))
                yield Run(ordinal, names, types, numbers)
                continue
            start, end = first - FIRST_INUMBER, first - FIRST_INUMBER + len(names)
            others = self.selection.others[start:end]
            numbers = list(itertools.compress(self.selection.numbers[start:end], others))
            yield Run(
                ordinal, list(itertools.compress(names, others)), bytes(itertools.compress(types, others)), numbers
            )

    def _kind(self, key: int, kind: int) -> int:
        """The type of an entry, or what stands in its place."""
        if key in self.links:
            return OTHER_NAME
        return FIRST_NAME if kind == DT_FILE and self.links.is_first(key) else kind

    def ascending_runs(self) -> Iterator[Run]:
        """All entries to dump that are no directories, in ascending inode number."""
        if self.selection is None:
            return self.runs()
        numbers, others = self.selection.numbers, self.selection.others
        # An array, so that a copy of this process that goes through it shares its memory.
        places = array("Q", sorted(itertools.compress(range(len(others)), others), key=numbers.__getitem__))
        return self._runs_in_order(self.selection.numbers, places)

    def _runs_in_order(self, numbers: Sequence[int], places: Sequence[int]) -> Iterator[Run]:
        listing = functools.lru_cache(_LISTINGS_KEPT)(self.entry_names)
        for ordinal, keys in itertools.groupby((place + FIRST_INUMBER for place in places), self.directory_of):
            first, names, types = self.firsts[ordinal], listing(ordinal), self.types[ordinal]
            chosen = list(keys)
            yield Run(
                ordinal,
                [names[key - first] for key in chosen],
                bytes(self._kind(key, types[key - first]) for key in chosen),
                [numbers[key - FIRST_INUMBER] for key in chosen],
            )

    def inode(self, ordinal: int, size: int) -> Inode:
        """A directory's inode; ``size`` is that of its data in the stream."""
        mode, nlink, uid, gid, blocks, a_s, a_ns, m_s, m_ns, c_s, c_ns = _METADATA.unpack_from(
            self._metadata, ordinal * _METADATA.size
        )
        times = (a_s * _BILLION + a_ns, m_s * _BILLION + m_ns, c_s * _BILLION + c_ns)
        return Inode(mode, nlink, uid, gid, size, *times, 0, 0, blocks)

    def directory_of(self, inumber: int) -> int:
        """The ordinal of the directory that lists an entry."""
        return bisect_right(self.firsts, inumber) - 1

    def path(self, ordinal: int, name: bytes = b"") -> bytes:
        """A directory's path relative to the root, or that of an entry in it; b"" is the root itself."""
        parts = self.components(ordinal)
        return b"/".join([*parts, name] if name else parts)

    def components(self, ordinal: int, most: int = 1 << 31) -> list[bytes]:
        """The components of a directory's path, of a very deep one only the last ``most``."""
        parts: list[bytes] = []
        while ordinal and len(parts) < most:
            parts.append(self.names[ordinal])
            ordinal = self.parents[ordinal]
        parts.reverse()
        return parts


def _no_mask(_: int) -> int:
    """All is on one file system."""
    return 0


def identity(plan: Plan, ordinal: int) -> int:
    """How a directory is told from every other, for ``ambiguous``: an odd one has a negative number."""
    inode = plan.directory_inodes[ordinal]
    return ~inode if plan.odd[ordinal] else inode
