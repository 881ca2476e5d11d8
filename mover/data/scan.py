"""Phases I and II of a dump: finds every entry below the root and numbers it, without a stat per file.

A directory's entries get consecutive dump inode numbers in the order of the listing, directories are visited
parents first; so a number is found by its directory and its place there, and an entry costs its name, a type byte
and eight bytes of inode. Hard links are regular files (and other non-directories) whose inode number occurs twice;
only those are looked at with a stat, because a mount can show equal numbers for different files.

Source: dump.md section 10, performance.md "Recommended backup path".
"""

import errno
import functools
import itertools
import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final

from mover.data.backup_report import BackupReport
from mover.data.dump_format import (
    DT_DIRECTORY,
    DT_FILE,
    DT_SYMLINK,
    FIRST_INUMBER,
    ROOT_INUMBER,
    Inode,
)
from mover.data.environment import Exclusion
from mover.data.report import reason
from mover.data.xattr_blob import Attribute

OPEN_DIRECTORIES_MAX: Final = 64  # descriptors kept for going up and down the tree
_LINK_PARTITION: Final = 1 << 20  # inodes examined for hard links at once: bounds the memory it takes
_BILLION: Final = 1_000_000_000
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
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


class Plan:
    """What is to be dumped. Directories have ordinals in the order of the scan, the root is 0.

    Attributes:
        inumbers: of each directory.
        parents: ordinal of each directory's parent; the root's is its own.
        firsts: number of each directory's first entry; entry k has ``firsts[ordinal] + k``.
        names: base name of each directory, b"." for the root.
        types: a DT byte for each entry of each directory.
        attributes: ordinal -> extended attributes, of those directories that have any.
        links: number of an entry that is another name of an earlier one -> number of that one.
        absent: numbers of directories that vanished during the scan.
        next_inumber: one more than the highest number given.
    """

    def __init__(self) -> None:
        self.inumbers = array("I")
        self.parents = array("I")
        self.firsts = array("I")
        self.names: list[bytes] = []
        self.types: list[bytes] = []
        self.attributes: dict[int, list[Attribute]] = {}
        self.links: dict[int, int] = {}
        self.absent: set[int] = set()
        self.next_inumber = FIRST_INUMBER
        self._listings: list[bytes] = []  # names joined by NUL
        self._metadata: list[bytes] = []

    def __len__(self) -> int:
        """Directories."""
        return len(self.inumbers)

    @property
    def entries(self) -> int:
        """Objects to dump, the root included."""
        return self.next_inumber - FIRST_INUMBER + 1 - len(self.links) - len(self.absent)

    def add(self, inumber: int, parent: int, name: bytes) -> int:
        """A directory before it is opened; returns its ordinal."""
        self.inumbers.append(inumber)
        self.parents.append(parent)
        self.firsts.append(self.next_inumber)
        self.names.append(name)
        self.types.append(b"")
        self._listings.append(b"")
        self._metadata.append(b"")
        return len(self.inumbers) - 1

    def drop_last(self) -> None:
        """Take back the directory added last: it is not there any more."""
        for column in (self.parents, self.firsts, self.names, self.types, self._listings, self._metadata):
            column.pop()
        self.absent.add(self.inumbers.pop())

    def set_metadata(self, ordinal: int, stat: os.stat_result) -> None:
        a_s, a_ns = divmod(stat.st_atime_ns, _BILLION)
        m_s, m_ns = divmod(stat.st_mtime_ns, _BILLION)
        c_s, c_ns = divmod(stat.st_ctime_ns, _BILLION)
        owner = (stat.st_nlink & 0xFFFF_FFFF, stat.st_uid, stat.st_gid)
        self._metadata[ordinal] = _METADATA.pack(stat.st_mode, *owner, stat.st_blocks, a_s, a_ns, m_s, m_ns, c_s, c_ns)

    def set_listing(self, ordinal: int, names: Sequence[str], types: bytes) -> None:
        self._listings[ordinal] = os.fsencode("\0".join(names))
        self.types[ordinal] = types
        self.next_inumber += len(types)

    def entry_names(self, ordinal: int) -> list[bytes]:
        """Base names of a directory's entries, in the order of their numbers."""
        return self._listings[ordinal].split(b"\0") if self.types[ordinal] else []

    def numbered_entries(self, ordinal: int) -> list[tuple[int, int, bytes]]:
        """A directory's entries with number and type; another name of an earlier inode has the number of that."""
        first = self.firsts[ordinal]
        names, types = self.entry_names(ordinal), self.types[ordinal]
        entries = list(zip(range(first, first + len(names)), types, names, strict=True))
        if self.links or self.absent:
            links, absent = self.links, self.absent
            return [(links.get(number, number), kind, name) for number, kind, name in entries if number not in absent]
        return entries

    def inode(self, ordinal: int, size: int) -> Inode:
        """A directory's inode; ``size`` is that of its data in the stream."""
        mode, nlink, uid, gid, blocks, a_s, a_ns, m_s, m_ns, c_s, c_ns = _METADATA.unpack(self._metadata[ordinal])
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


class OpenDirectories:
    """Descriptors of the directories of a plan, opened from their parents, a bounded number at a time.

    No path is ever given to the kernel, so neither depth nor length of a path is bounded, and no symbolic link is
    followed.
    """

    def __init__(self, plan: Plan, root: int) -> None:
        """Args: root: descriptor of the root, owned by the caller."""
        self._plan = plan
        self._root = root
        self._open: dict[int, int] = {}  # ordinal -> descriptor, least recently used first

    def open(self, ordinal: int) -> int:
        """The directory's descriptor, good until the next call.

        Raises:
            OSError: it, or one above it, cannot be opened.
        """
        if ordinal == 0:
            return self._root
        opened = self._open
        chain: list[int] = []
        while ordinal and ordinal not in opened:
            chain.append(ordinal)
            ordinal = self._plan.parents[ordinal]
        fd = self._root
        if ordinal:
            fd = opened.pop(ordinal)
            opened[ordinal] = fd
        while chain:
            ordinal = chain.pop()
            fd = os.open(self._plan.names[ordinal], _OPEN_DIRECTORY, dir_fd=fd)
            opened[ordinal] = fd
            if len(opened) > OPEN_DIRECTORIES_MAX:
                oldest = next(iter(opened))
                os.close(opened.pop(oldest))
        return fd

    def forget(self, ordinal: int) -> None:
        """Close a directory that goes out of the plan."""
        fd = self._open.pop(ordinal, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()


class Scanner:
    """Walks the tree below ``root`` into a plan."""

    def __init__(
        self,
        root: int,
        *,
        exclusion: Exclusion,
        report: BackupReport,
        attributes: Callable[[int, Callable[[], bytes]], list[Attribute]],
        check: Callable[[int], None],
    ) -> None:
        """Args:
        root: descriptor of the root directory.
        attributes: reads the extended attributes of an open directory whose path it can ask for.
        check: called once a directory with the number of entries found; may raise to end the scan.
        """
        self._exclusion = exclusion
        self._report = report
        self._attributes = attributes
        self._check = check
        self._device = 0
        self._inodes = array("Q")  # of entry number FIRST_INUMBER + k; 0 = a directory, never a link
        self.plan = Plan()
        self.open_directories = OpenDirectories(self.plan, root)

    def run(self) -> Plan:
        """The whole scan.

        Raises:
            OSError: the root itself cannot be read.
        """
        plan, walk = self.plan, self.open_directories
        pending = [(0, ".", ROOT_INUMBER)]  # parent's ordinal, name, number; a stack, so that depth costs nothing
        while pending:
            self._check(plan.next_inumber)
            parent, name, inumber = pending.pop()
            ordinal = plan.add(inumber, parent, os.fsencode(name))
            try:
                fd = walk.open(ordinal)
                stat = os.fstat(fd)
            except OSError as error:
                if ordinal == 0:
                    raise
                self._closed_directory(ordinal, error)
                continue
            if ordinal == 0:
                self._device = stat.st_dev
            plan.set_metadata(ordinal, stat)
            found = self._attributes(fd, functools.partial(plan.path, ordinal))
            if found:
                plan.attributes[ordinal] = found
            if stat.st_dev != self._device:
                path = plan.path(ordinal)
                self._report.warning(path, "is on another file system: backed up as an empty directory")
                continue
            children = self._list(ordinal, fd)
            pending += reversed(children)
        self._find_links()
        return plan

    def _closed_directory(self, ordinal: int, error: OSError) -> None:
        """A directory that cannot be opened: left out when it is gone, else dumped without its entries."""
        plan, walk = self.plan, self.open_directories
        path = plan.path(ordinal)
        parent, name = plan.parents[ordinal], plan.names[ordinal]
        try:
            stat = os.stat(name, dir_fd=walk.open(parent), follow_symlinks=False)
            if stat.st_mode >> 12 != DT_DIRECTORY:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except OSError as gone:
            walk.forget(ordinal)
            plan.drop_last()
            self._report.error(path, f"left out: {reason(gone)}")
        else:
            plan.set_metadata(ordinal, stat)
            self._report.error(path, f"backed up as an empty directory: {reason(error)}")

    def _list(self, ordinal: int, fd: int) -> list[tuple[int, str, int]]:
        """Read one directory into the plan; returns its directories as they become pending."""
        names: list[str] = []
        types = bytearray()
        inodes = self._inodes
        children: list[tuple[int, str, int]] = []
        first = self.plan.next_inumber
        exclusion = self._exclusion
        excluding = bool(exclusion)
        prefix = self.plan.path(ordinal) if exclusion.by_path else b""
        if prefix:
            prefix += b"/"
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = entry.name
                    if excluding:
                        raw = os.fsencode(name)
                        if exclusion.leaves_out(raw, prefix + raw):
                            continue
                    if entry.is_file(follow_symlinks=False):
                        types.append(DT_FILE)
                        inodes.append(entry.inode())
                    elif entry.is_dir(follow_symlinks=False):
                        children.append((ordinal, name, first + len(names)))
                        types.append(DT_DIRECTORY)
                        inodes.append(0)
                    elif entry.is_symlink():
                        types.append(DT_SYMLINK)
                        inodes.append(entry.inode())
                    else:
                        try:
                            types.append(entry.stat(follow_symlinks=False).st_mode >> 12)
                        except FileNotFoundError:
                            continue  # gone between the listing and here, as if it had never been listed
                        inodes.append(entry.inode())
                    names.append(name)
        except OSError as error:
            del inodes[first - FIRST_INUMBER + len(names) :], types[len(names) :]
            self._report.error(self.plan.path(ordinal), f"listed only in part: {reason(error)}")
            children = [child for child in children if child[2] < first + len(names)]
        self.plan.set_listing(ordinal, names, bytes(types))
        return children

    def _find_links(self) -> None:
        """Give all names of one inode the number of the first."""
        inodes = self._inodes
        parts = len(inodes) // _LINK_PARTITION + 1
        for part in range(parts):
            members = inodes if parts == 1 else [inode for inode in inodes if inode % parts == part]
            distinct = set(members)
            distinct.discard(0)
            if len(members) - members.count(0) == len(distinct):
                continue
            ordered = sorted(members)
            repeated = {one for one, other in itertools.pairwise(ordered) if one == other}
            repeated.discard(0)
            self._verify_links(repeated)
        self._inodes = array("Q")

    def _verify_links(self, repeated: set[int]) -> None:
        plan = self.plan
        first_of: dict[tuple[int, int, int], int] = {}
        at, names = -1, list[bytes]()
        for place, inode in enumerate(self._inodes):
            if inode not in repeated:
                continue
            inumber = FIRST_INUMBER + place
            ordinal = plan.directory_of(inumber)
            if ordinal != at:
                at, names = ordinal, plan.entry_names(ordinal)
            name = names[inumber - plan.firsts[ordinal]]
            try:
                stat = os.stat(name, dir_fd=self.open_directories.open(ordinal), follow_symlinks=False)
            except OSError:
                continue  # gone or hidden: it stays an inode of its own, and reading it will report that
            first = first_of.setdefault((stat.st_dev, stat.st_ino, stat.st_mode >> 12), inumber)
            if first != inumber:
                plan.links[inumber] = first
