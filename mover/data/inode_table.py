"""The table of a backup's inodes: which number each one has in the stream, for the incremental backups that follow.

Control keeps it as a file, a worker gets the open descriptor. Little endian:

| part | what |
| --- | --- |
| head | ``_HEAD``: magic with version, the tree it belongs to, inode of its root, date and level of the backup |
| rows | blocks of at most ``BLOCK_ROWS`` rows: so many keys of 8 bytes, then so many codes of 8 bytes |
| odd rows | the same, of directories that are known by their parent's listing alone |
| foot | ``_FOOT``: next free number, rows, odd rows, how many are stale, then the digest of everything before it |

A key is an inode number of the file system; the device does not come into it, because everything in a backup lies on
the root's own and a snapshot of Btrfs has another one each time (dump.md section 10). A code is the number in the
stream << 5, 16 if the backup does not have the object as it should (stale), and the type of dump.md section 4.
"""

import hashlib
import os
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from mover.workers.data_messages import Place

BLOCK_ROWS: Final = 1 << 19  # of which a reader makes a dictionary: some 50 MB
TYPE_MASK: Final = 15
STALE: Final = 16
NUMBER_SHIFT: Final = 5
_MAGIC: Final = b"moverit1"
_HEAD: Final = struct.Struct("<8s32sQqI4x")
_FOOT: Final = struct.Struct("<QQQQ32s")
_DIGEST_BYTES: Final = 32
_ROW_BYTES: Final = 16
_CHUNK: Final = 1 << 20

Block = tuple["array[int]", "array[int]"]
"""Keys and codes of some rows."""


class TableError(Exception):
    """A table that cannot be a base; the text says why in one line."""


class Origin(NamedTuple):
    """What a table is of.

    Attributes:
        tree: made by :func:`tree_digest`.
        root_inode: inode number of the backup's root on its file system.
        date: of the backup, in seconds.
    """

    tree: bytes
    root_inode: int
    date: int
    level: int


def tree_digest(butype: str, root: Place, name: bytes = b"") -> bytes:
    """Names a tree: two with the same digest are of one backup type, volume, path, and name of a set of subtrees."""
    names = (butype.encode(), root.volume, root.path) + ((name,) if name else ())
    return hashlib.blake2b(b"".join(b"%d:%s" % (len(name), name) for name in names), digest_size=32).digest()


def write_table(fd: int, origin: Origin, next_number: int, rows: Iterable[Block], odd_rows: Iterable[Block]) -> None:
    """Write a whole table into an empty file.

    Args:
        next_number: the lowest number that neither this backup has given nor any that it is based on.

    Raises:
        OSError: it does not go in.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    counts = [0, 0]
    stale = 0

    def put(data: bytes | memoryview) -> None:
        digest.update(data)
        _write(fd, data)

    put(_HEAD.pack(_MAGIC, *origin))
    for place, blocks in enumerate((rows, odd_rows)):
        for keys, codes in _full_blocks(blocks):
            counts[place] += len(keys)
            stale += sum(1 for code in codes if code & STALE)
            for column in (keys, codes):
                if sys.byteorder == "big":
                    column.byteswap()
                put(memoryview(column).cast("B"))
    foot = _FOOT.pack(next_number, *counts, stale, bytes(_DIGEST_BYTES))[:-_DIGEST_BYTES]
    put(foot)
    _write(fd, digest.digest())


def _write(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _full_blocks(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same rows in blocks that are full but for the last, which is how a reader finds them."""
    keys, codes = array("Q"), array("Q")
    for more_keys, more_codes in blocks:
        keys += more_keys
        codes += more_codes
        while len(keys) >= BLOCK_ROWS:
            yield keys[:BLOCK_ROWS], codes[:BLOCK_ROWS]
            del keys[:BLOCK_ROWS], codes[:BLOCK_ROWS]
    if keys:
        yield keys, codes


class InodeTable:
    """A table that is there and whole; the descriptor stays the caller's.

    Attributes:
        next_number: the lowest number that is free.
        stale: how many rows say that the object is to be taken again.
    """

    def __init__(self, fd: int, origin: Origin) -> None:
        """Look at all of it.

        Raises:
            TableError: it is damaged, or of something else than ``origin``.
        """
        self._fd = fd
        try:
            size = os.fstat(fd).st_size
            if size < _HEAD.size + _FOOT.size:
                raise TableError(f"it is cut off at {size} bytes")
            magic, *found = _HEAD.unpack(_read(fd, 0, _HEAD.size))
            foot = _FOOT.unpack(_read(fd, size - _FOOT.size, _FOOT.size))
            self.next_number, self._rows, self._odd_rows, self.stale, digest = foot
            if magic != _MAGIC:
                raise TableError("it is no table of inodes, or of another version of mover")
            if size != _HEAD.size + (self._rows + self._odd_rows) * _ROW_BYTES + _FOOT.size:
                raise TableError(f"{size} bytes do not hold the {self._rows + self._odd_rows} rows it speaks of")
            if digest != self._digest(size - _DIGEST_BYTES):
                raise TableError("its checksum is wrong")
        except OSError as error:
            raise TableError(f"it cannot be read: {error.strerror}") from error
        _compare(Origin(*found), origin)

    def _digest(self, length: int) -> bytes:
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for start in range(0, length, _CHUNK):
            digest.update(_read(self._fd, start, min(_CHUNK, length - start)))
        return digest.digest()

    def rows(self) -> Iterator[Block]:
        """Everything but the odd rows, a block at a time."""
        return self._blocks(_HEAD.size, self._rows)

    def odd_rows(self) -> Iterator[Block]:
        """Directories that are known by their parent's listing alone."""
        return self._blocks(_HEAD.size + self._rows * _ROW_BYTES, self._odd_rows)

    def _blocks(self, start: int, rows: int) -> Iterator[Block]:
        for first in range(0, rows, BLOCK_ROWS):
            count = min(BLOCK_ROWS, rows - first)
            columns = []
            for _ in range(2):
                column = array("Q", _read(self._fd, start, count * 8))
                if sys.byteorder == "big":
                    column.byteswap()
                columns.append(column)
                start += count * 8
            yield columns[0], columns[1]


def _read(fd: int, start: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.pread(fd, length, start)
        if not part:
            raise TableError("it was cut off while it was read")
        parts.append(part)
        start += len(part)
        length -= len(part)
    return b"".join(parts)


def _compare(found: Origin, wanted: Origin) -> None:
    if found.tree != wanted.tree:
        raise TableError("it belongs to another tree")
    if found.root_inode != wanted.root_inode:
        raise TableError(
            f"the directory was another one then (inode {found.root_inode}, now {wanted.root_inode}):"
            " it was replaced, or another file system is mounted"
        )
    if (found.date, found.level) != (wanted.date, wanted.level):
        raise TableError(f"it is of a backup of level {found.level} at {found.date}")
