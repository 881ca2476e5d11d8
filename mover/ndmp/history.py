"""Bodies of file history posts, encoded fast: one array element per call, for the data worker.

The worker joins elements and puts their count in front (`body`); control only frames the result. Nothing here
imports the rest of the protocol but its numbers. The bytes equal those of `mover.ndmp.xdr`, property-tested.
A time outside 32 bits is clamped; a node number of versions 1 and 2
that needs more than 32 bits gets a small one.
Source: NDMPv4 section 3.9 (FH), NDMPv1 section 4.3 and NDMPv2 (FH_ADD_UNIX, the same bytes in both).
"""

import stat
import struct
from collections.abc import Sequence
from typing import Final, Protocol

from mover.ndmp.enums import U32_MAX, FileType, MessageCode

FILE_TYPES: Final[dict[int, int]] = {
    stat.S_IFDIR: int(FileType.DIR),
    stat.S_IFIFO: int(FileType.FIFO),
    stat.S_IFCHR: int(FileType.CSPEC),
    stat.S_IFBLK: int(FileType.BSPEC),
    stat.S_IFREG: int(FileType.REG),
    stat.S_IFLNK: int(FileType.SLINK),
    stat.S_IFSOCK: int(FileType.SOCK),
}
"""stat.S_IFMT(st_mode) -> ftype."""

_PERMISSIONS = 0o7777
_count = struct.Struct(">I").pack
# an array of one UNIX name: count 1, fs_type 0, length of the path
_name = struct.Struct(">III").pack
# pad of the name, then node and parent; indexed by length & 3
_dir_tails = tuple(struct.Struct(f">{pad}xQQ").pack for pad in (0, 3, 2, 1))
# count 1, unsupported 0, fs_type 0, ftype, 3 times, owner, group, fattr, size, links, node, fh_info
_node = struct.Struct(">IIIIIIIIIIQIQQ").pack
_file_tails = tuple(struct.Struct(f">{pad}xIIIIIIIIIIQIQQ").pack for pad in (0, 3, 2, 1))
_dir_tails_v2 = tuple(struct.Struct(f">{pad}xII").pack for pad in (0, 3, 2, 1))
# ftype, 3 times, uid, gid, mode, size, fh_info; then node
_node_v2 = struct.Struct(">IIIIIIIQQI").pack
_file_tails_v2 = tuple(struct.Struct(f">{pad}xIIIIIIIQQ").pack for pad in (0, 3, 2, 1))


class DirEntry(Protocol):
    def __call__(self, name: bytes, node: int, parent: int, /) -> bytes:
        """An element of FH_ADD_DIR: base name, node of the object, node of its directory."""


class NodeEntry(Protocol):
    def __call__(
        self,
        node: int,
        ftype: int,
        mtime: int,
        atime: int,
        ctime: int,
        uid: int,
        gid: int,
        mode: int,
        size: int,
        links: int,
        fh_info: int,
        /,
    ) -> bytes:
        """An element of FH_ADD_NODE; times in whole seconds, mode as of stat, size in bytes."""  # fmt: skip


class FileEntry(Protocol):
    def __call__(
        self,
        path: bytes,
        node: int,
        ftype: int,
        mtime: int,
        atime: int,
        ctime: int,
        uid: int,
        gid: int,
        mode: int,
        size: int,
        links: int,
        fh_info: int,
        /,
    ) -> bytes:
        """An element of FH_ADD_FILE; path relative to the backup root, beginning with a separator."""  # fmt: skip


def body(entries: Sequence[bytes]) -> bytes:
    """The body of a post: the count and the elements."""
    return _count(len(entries)) + b"".join(entries)


def clamp_time(seconds: int) -> int:
    """A time as 32 bits can say it: before 1970 and after 2106 the nearest that there is."""
    return min(max(seconds, 0), U32_MAX)


def _dir_entry(name: bytes, node: int, parent: int) -> bytes:
    length = len(name)
    return _name(1, 0, length) + name + _dir_tails[length & 3](node, parent)


def _node_entry(
    node: int, ftype: int, mtime: int, atime: int, ctime: int, uid: int, gid: int, mode: int,
    size: int, links: int, fh_info: int,
) -> bytes:  # fmt: skip
    mode &= _PERMISSIONS
    try:
        return _node(1, 0, 0, ftype, mtime, atime, ctime, uid, gid, mode, size, links, node, fh_info)
    except struct.error:
        mtime, atime, ctime = clamp_time(mtime), clamp_time(atime), clamp_time(ctime)
        return _node(1, 0, 0, ftype, mtime, atime, ctime, uid, gid, mode, size, links, node, fh_info)


def _file_entry(
    path: bytes, node: int, ftype: int, mtime: int, atime: int, ctime: int, uid: int, gid: int, mode: int,
    size: int, links: int, fh_info: int,
) -> bytes:  # fmt: skip
    length = len(path)
    head = _name(1, 0, length) + path
    tail = _file_tails[length & 3]
    mode &= _PERMISSIONS
    try:
        return head + tail(1, 0, 0, ftype, mtime, atime, ctime, uid, gid, mode, size, links, node, fh_info)
    except struct.error:
        mtime, atime, ctime = clamp_time(mtime), clamp_time(atime), clamp_time(ctime)
        return head + tail(1, 0, 0, ftype, mtime, atime, ctime, uid, gid, mode, size, links, node, fh_info)


class _Version2:
    """Entries of versions 1 and 2: attributes without links, node numbers of 32 bits."""

    def __init__(self) -> None:
        self._small: dict[int, int] = {}  # node of more than 32 bits -> number that stands for it

    def _node_number(self, node: int) -> int:
        # Counts down from the highest number that is not reserved: real node numbers count up from 1.
        return node if node < U32_MAX else self._small.setdefault(node, U32_MAX - 1 - len(self._small))

    def dir_entry(self, name: bytes, node: int, parent: int, /) -> bytes:
        length = len(name)
        tail = _dir_tails_v2[length & 3](self._node_number(node), self._node_number(parent))
        return _count(length) + name + tail

    def node_entry(
        self, node: int, ftype: int, mtime: int, atime: int, ctime: int, uid: int, gid: int, mode: int,
        size: int, links: int, fh_info: int, /,
    ) -> bytes:  # fmt: skip
        node = self._node_number(node)
        mode &= _PERMISSIONS
        try:
            return _node_v2(ftype, mtime, atime, ctime, uid, gid, mode, size, fh_info, node)
        except struct.error:
            mtime, atime, ctime = clamp_time(mtime), clamp_time(atime), clamp_time(ctime)
            return _node_v2(ftype, mtime, atime, ctime, uid, gid, mode, size, fh_info, node)

    def file_entry(
        self, path: bytes, node: int, ftype: int, mtime: int, atime: int, ctime: int, uid: int, gid: int,
        mode: int, size: int, links: int, fh_info: int, /,
    ) -> bytes:  # fmt: skip
        length = len(path)
        tail = _file_tails_v2[length & 3]
        mode &= _PERMISSIONS
        try:
            fstat = tail(ftype, mtime, atime, ctime, uid, gid, mode, size, fh_info)
        except struct.error:
            mtime, atime, ctime = clamp_time(mtime), clamp_time(atime), clamp_time(ctime)
            fstat = tail(ftype, mtime, atime, ctime, uid, gid, mode, size, fh_info)
        return _count(length) + path + fstat


class HistoryEncoder:
    """Encodes the file history of one backup.

    Attributes:
        dir_entry, node_entry, file_entry: functions of one element each.
        dir_code, node_code, file_code: message numbers of the posts that carry them.
    """

    def __init__(self, version: int) -> None:
        """Args: version: of the session, 1 to 4. Raises: ValueError for another."""
        self.dir_entry: DirEntry
        self.node_entry: NodeEntry
        self.file_entry: FileEntry
        match version:
            case 1 | 2:
                second = _Version2()
                self.dir_entry = second.dir_entry
                self.node_entry = second.node_entry
                self.file_entry = second.file_entry
                self.dir_code = MessageCode.FH_ADD_UNIX_DIR
                self.node_code = MessageCode.FH_ADD_UNIX_NODE
                self.file_code = MessageCode.FH_ADD_UNIX_PATH
            case 3 | 4:
                self.dir_entry = _dir_entry
                self.node_entry = _node_entry
                self.file_entry = _file_entry
                self.dir_code = MessageCode.FH_ADD_DIR
                self.node_code = MessageCode.FH_ADD_NODE
                self.file_code = MessageCode.FH_ADD_FILE
            case _:
                raise ValueError(f"no file history in version {version}")
