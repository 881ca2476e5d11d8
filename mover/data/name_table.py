"""The names that a recover of everything has given: what the next level of the chain needs to rename and to remove.

Control keeps one file of it per destination and hands it over as an open descriptor. Layout, little endian:

    head (256 bytes)  magic, version, state, CRC-32 of all but these two, date and level of the dump applied last, inode
                      number of the destination's own directory, directories D, entries E, bytes of names N, file system
    D x u32           dump inode number of each directory; the root first, each before those in it
    D x u32           its entries
    D x u32           bytes of their names
    E x u32           dump inode number of each entry, directory by directory
    E x u8            1 = a directory
    N bytes           names, each with a NUL behind it

The state is set to CHANGING, on disk, before the destination is touched; so a recover that does not reach its end
leaves a table that says so. It goes by its directories: five bytes an object and its name.
"""

import os
import struct
import sys
import zlib
from array import array
from collections.abc import Sequence
from typing import Final

from mover.data.dump_format import ROOT_INUMBER

WHOLE: Final = 1
CHANGING: Final = 2
_MAGIC: Final = b"moverNT1"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<8sIIIIiQIQQ64s")
_HEAD_BYTES: Final = 256
_WORD: Final = struct.Struct("<I")
_STATE_AT: Final = 12
_SUMMED_FROM: Final = 20
_PIECE_BYTES: Final = 1 << 20
_U32_MAX: Final = 2**32 - 1


class TableError(Exception):
    """Bytes that are no name table, or not whole; the text says why in one line."""


class NameTable:
    """The tree that a destination holds, by the dump's inode numbers.

    Attributes:
        date, level: of the dump that was applied last.
        filesystem: what it is a dump of.
        root_inode: inode number, on its own file system, of the destination's directory.
        numbers: of the directories, the root first.
        inumbers: of the entries, directory by directory.
        kinds: of the entries, 1 = a directory.
        is_changing: a recover has begun to change the destination and has not ended well.
    """

    def __init__(self) -> None:
        self.date = 0
        self.level = 0
        self.filesystem = b""
        self.root_inode = 0
        self.is_changing = False
        self.numbers: array[int] = array("I")
        self.counts: array[int] = array("I")
        self.lengths: array[int] = array("I")
        self.inumbers: array[int] = array("I")
        self.kinds = bytearray()
        self.names = bytearray()

    def add(self, number: int, inumbers: Sequence[int], kinds: bytes, names: Sequence[bytes]) -> None:
        """A further directory with its entries."""
        self._add(number, array("I", inumbers), kinds, b"".join([name + b"\0" for name in names]))

    def _add(self, number: int, inumbers: "array[int]", kinds: bytes | bytearray, names: bytes | bytearray) -> None:
        self.numbers.append(number)
        self.counts.append(len(inumbers))
        self.lengths.append(len(names))
        self.inumbers.extend(inumbers)
        self.kinds += kinds
        self.names += names

    def write(self, fd: int) -> None:
        """Write it to an empty file, and wait until it is on disk.

        Raises:
            OSError: it could not be written.
        """
        columns = (self.numbers, self.counts, self.lengths, self.inumbers)
        sections: list[bytes | bytearray] = [*map(_little_endian, columns), self.kinds, self.names]
        sizes = (len(self.numbers), len(self.inumbers), len(self.names))
        said = (self.date & _U32_MAX, self.level, self.root_inode, *sizes, self.filesystem[:64])
        head = bytearray(_HEAD.pack(_MAGIC, _VERSION, WHOLE, 0, *said).ljust(_HEAD_BYTES, b"\0"))
        checksum = zlib.crc32(head[_SUMMED_FROM:])
        at = _HEAD_BYTES
        for section in sections:
            view = memoryview(section)
            checksum = zlib.crc32(view, checksum)
            for start in range(0, len(view), _PIECE_BYTES):
                at += _write_all(fd, view[start : start + _PIECE_BYTES], at)
        _WORD.pack_into(head, _SUMMED_FROM - _WORD.size, checksum)
        _write_all(fd, memoryview(head), 0)
        os.fsync(fd)


def mark_changing(fd: int) -> None:
    """From here on the table of this file does not tell what its destination holds; on disk when this returns.

    Raises:
        OSError: that could not be written.
    """
    os.pwrite(fd, _WORD.pack(CHANGING), _STATE_AT)
    os.fdatasync(fd)


def read_table(fd: int) -> NameTable:
    """The table in an open file.

    Raises:
        TableError: it is none, or damaged.
        OSError: it cannot be read.
    """
    head = os.pread(fd, _HEAD_BYTES, 0)
    if len(head) < _HEAD_BYTES or not head.startswith(_MAGIC):
        raise TableError("it is no table of names")
    fields = _HEAD.unpack_from(head)
    _, version, state, checksum, date, level, root_inode, directories, entries, name_bytes, filesystem = fields
    if version != _VERSION:
        raise TableError(f"it is of version {version}, which this server does not know")
    sizes = (4 * directories,) * 3 + (4 * entries, entries, name_bytes)
    if os.fstat(fd).st_size != _HEAD_BYTES + sum(sizes):
        raise TableError("it has another length than it says")
    table = NameTable()
    table.date, table.level, table.root_inode = date, level, root_inode
    table.filesystem = filesystem.rstrip(b"\0")
    table.is_changing = state != WHOLE
    found = zlib.crc32(head[_SUMMED_FROM:])
    at = _HEAD_BYTES
    sections: list[bytearray] = []
    for size in sizes:
        section = _read_all(fd, size, at)
        found = zlib.crc32(section, found)
        at += size
        sections.append(section)
    if found != checksum:
        raise TableError("its checksum is wrong")
    for column, section in zip((table.numbers, table.counts, table.lengths, table.inumbers), sections, strict=False):
        column.frombytes(section)
        if sys.byteorder == "big":
            column.byteswap()
    table.kinds, table.names = sections[4], sections[5]
    return table


class NameIndex:
    """A table to look things up in.

    Raises:
        TableError: when made: the table's parts do not fit each other.
    """

    def __init__(self, table: NameTable) -> None:
        self.table = table
        self.ordinals = {number: ordinal for ordinal, number in enumerate(table.numbers)}
        self.firsts: array[int] = array("Q", [0])
        self._name_ats: array[int] = array("Q", [0])
        for count, length in zip(table.counts, table.lengths, strict=True):
            self.firsts.append(self.firsts[-1] + count)
            self._name_ats.append(self._name_ats[-1] + length)
        self.parents: array[int] = array("I", bytes(4 * len(table.numbers)))
        self.places: array[int] = array("Q", bytes(8 * len(table.numbers)))
        self._check()

    def _check(self) -> None:
        table = self.table
        if not table.numbers or table.numbers[0] != ROOT_INUMBER or len(self.ordinals) != len(table.numbers):
            raise TableError("its directories cannot be")
        if self.firsts[-1] != len(table.inumbers) or self._name_ats[-1] != len(table.names):
            raise TableError("its entries cannot be")
        found = 1
        for ordinal in range(len(table.numbers)):
            for entry in self.directories_in(ordinal):
                child = self.ordinals.get(table.inumbers[entry], 0)
                if child <= ordinal or self.places[child]:
                    raise TableError("its directories cannot be")
                self.parents[child], self.places[child] = ordinal, entry + 1
                found += 1
        if found != len(table.numbers):
            raise TableError("its directories cannot be")

    def directories_in(self, ordinal: int) -> list[int]:
        """The entries of a directory that are directories."""
        kinds, end = self.table.kinds, self.firsts[ordinal + 1]
        entries: list[int] = []
        at = kinds.find(1, self.firsts[ordinal], end)
        while at >= 0:
            entries.append(at)
            at = kinds.find(1, at + 1, end)
        return entries

    def names(self, ordinal: int) -> list[bytes]:
        """The names of a directory's entries.

        Raises:
            TableError: they are not as many as the entries.
        """
        names = bytes(self.table.names[self._name_ats[ordinal] : self._name_ats[ordinal + 1]]).split(b"\0")
        if names.pop() or len(names) != self.firsts[ordinal + 1] - self.firsts[ordinal]:
            raise TableError("its names cannot be")
        return names

    def copy(self, ordinal: int, to: NameTable) -> None:
        """Add a directory to another table as it is here."""
        table, first, end = self.table, self.firsts[ordinal], self.firsts[ordinal + 1]
        to._add(
            table.numbers[ordinal],
            table.inumbers[first:end],
            table.kinds[first:end],
            table.names[self._name_ats[ordinal] : self._name_ats[ordinal + 1]],
        )


def _little_endian(column: "array[int]") -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _write_all(fd: int, view: memoryview, at: int) -> int:
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done:], at + done)
    return done


def _read_all(fd: int, size: int, at: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size:
        count = os.preadv(fd, [view[done : done + _PIECE_BYTES]], at + done)
        if not count:
            raise TableError("it is cut short")
        done += count
    return data
