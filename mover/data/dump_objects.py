"""Writes one object into a dump stream: its header, its content, its extended attributes.

The header of a usual small file is a copy of a template with one ``pack_into``, its sum the template's plus the
varying words; all other objects go the general way. Source: dump.md sections 2 to 4.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final

from mover.data.backup_format import PackSmall, Written
from mover.data.backup_objects import data_ranges, may_have_holes
from mover.data.backup_stream import ZEROS, BackupStream
from mover.data.dump_format import (
    CHECKSUM,
    EXTENSION_MORE_XATTR,
    EXTENSION_NONE,
    EXTENSION_XATTR,
    HEADER_RECORDS_MAX,
    HEADER_SPAN_BYTES,
    MAGIC,
    NAME_BYTES_MAX,
    OFFSET_CHECKSUM,
    OFFSET_TAPEA,
    RECORD_BYTES,
    DumpLabel,
    Inode,
    RecordType,
    pack_header,
    word_sum,
)
from mover.data.left_out import LeftOut
from mover.data.xattr_blob import Attribute, encode_private, split

_ALL_PRESENT: Final = b"\1" * HEADER_RECORDS_MAX
_WORD: Final = struct.Struct("<I")
# From c_tapea to the end of the inode: dump.md section 2.
_VARYING: Final = struct.Struct("<4I4HQ6I60x7I")
assert OFFSET_TAPEA + _VARYING.size == 160
_BILLION: Final = 1_000_000_000


class _Templates(dict[int, tuple[bytes, int]]):
    """Number of records -> INODE header of a file with one name, and the sum of its constant words."""

    def __init__(self, label: DumpLabel) -> None:
        super().__init__()
        self._label = label

    def __missing__(self, records: int) -> tuple[bytes, int]:
        inode = Inode(0, 1, 0, 0, 0, 0, 0, 0)
        record = bytearray(pack_header(self._label, RecordType.INODE, 0, inode=inode, count=records))
        record[OFFSET_CHECKSUM : OFFSET_CHECKSUM + 4] = bytes(4)
        self[records] = bytes(record), word_sum(record)
        return self[records]


def _small_packer(templates: _Templates) -> PackSmall:
    pack_into = _VARYING.pack_into

    def pack(
        slot: memoryview, position: int, offset: int, inumber: int, name: bytes, mode: int, uid: int, gid: int,
        size: int, blocks: int, atime: int, mtime: int, ctime: int, atime_ns: int, mtime_ns: int, ctime_ns: int,
    ) -> None:  # fmt: skip
        template, total = templates[(size + RECORD_BYTES - 1) // RECORD_BYTES]
        slot[position : position + RECORD_BYTES] = template
        # The part of each time below a second: microseconds, and what is left below them.
        a_low = atime_ns - atime * _BILLION
        m_low = mtime_ns - mtime * _BILLION
        c_low = ctime_ns - ctime * _BILLION
        a_us, m_us, c_us = a_low // 1000, m_low // 1000, c_low // 1000
        low = a_low - a_us * 1000 | m_low - m_us * 1000 << 10 | c_low - c_us * 1000 << 20
        tapea = offset >> 10 & 0xFFFFFFFF
        uid16, gid16 = uid & 0xFFFF, gid & 0xFFFF
        total += tapea + inumber + mode + uid16 + (gid16 << 16) + size + uid + gid + blocks
        total += atime + a_us + mtime + m_us + ctime + c_us + low
        pack_into(
            slot, position + 16,
            tapea, inumber, MAGIC, (CHECKSUM - total) & 0xFFFFFFFF,
            mode, 1, uid16, gid16, size, atime, a_us, mtime, m_us, ctime, c_us,
            0, blocks & 0xFFFFFFFF, 0, uid, gid, low, 0,
        )  # fmt: skip

    return pack


class DumpObjects:
    """Appends whole objects to a dump stream.

    Attributes:
        left_out: inodes that the directories name and that could not be read.
    """

    head_bytes = RECORD_BYTES
    unit_bytes = RECORD_BYTES
    small_bytes_max = HEADER_SPAN_BYTES
    names_links = False  # directories name them
    ascending = True
    not_held: Final[dict[int, str]] = {}

    def __init__(self, stream: BackupStream, label: DumpLabel) -> None:
        self._stream = stream
        self._label = label
        self._pack_small = _small_packer(_Templates(label))
        self.left_out = LeftOut()

    def directory(self, ordinal: int) -> None:
        """Directories are in the stream already."""

    def packer(self, ordinal: int) -> tuple[PackSmall, int]:
        return self._pack_small, NAME_BYTES_MAX

    @property
    def tapea(self) -> int:
        """Index of the next record."""
        return self._stream.offset // RECORD_BYTES

    def header(
        self,
        record_type: RecordType,
        inumber: int,
        inode: Inode,
        count: int,
        *,
        addr: bytes | None = None,
        extension: int = EXTENSION_NONE,
    ) -> bytes:
        """Append a header; returns it."""
        stream = self._stream
        record = pack_header(
            self._label,
            record_type,
            self.tapea,
            inumber=inumber,
            inode=inode,
            count=count,
            addr=addr,
            extension=extension,
        )
        stream.write(record)
        return record

    def held(self, inumber: int, inode: Inode, data: bytes | bytearray) -> None:
        """An object whose content is in memory: a directory, a symbolic link, or one with none at all."""
        record_type = RecordType.INODE
        at = 0
        while True:
            piece = data[at : at + HEADER_SPAN_BYTES]
            self.header(record_type, inumber, inode, -(-len(piece) // RECORD_BYTES))
            self._stream.write_padded(piece, RECORD_BYTES)
            at += HEADER_SPAN_BYTES
            if at >= len(data):
                return
            record_type = RecordType.ADDR

    def attributes(self, inumber: int, inode: Inode, attributes: list[Attribute]) -> None:
        """The extended attributes of the object just written."""
        if not attributes:
            return
        standard, left = split(attributes)
        if standard:
            self._extension(inumber, inode, standard, EXTENSION_XATTR)
        for private in encode_private(left):
            self._extension(inumber, inode, private, EXTENSION_MORE_XATTR)

    def _extension(self, inumber: int, inode: Inode, blob: bytes, kind: int) -> None:
        size = inode._replace(size=len(blob))
        self.header(RecordType.INODE, inumber, size, -(-len(blob) // RECORD_BYTES), extension=kind)
        self._stream.write_padded(blob, RECORD_BYTES)

    def regular(
        self, fd: int, inumber: int, path: Callable[[], bytes], inode: Inode, attributes: list[Attribute]
    ) -> None:
        self._content(fd, inumber, inode, sparse=may_have_holes(inode, attributes))
        self.attributes(inumber, inode, attributes)

    def special(
        self, inumber: int, path: Callable[[], bytes], inode: Inode, target: bytes, attributes: list[Attribute]
    ) -> None:
        self.held(inumber, inode, target)
        self.attributes(inumber, inode, attributes)

    def link(self, path: bytes, first: Written) -> None:
        """Nothing: a directory names it."""

    def leave_out(self, inumber: int) -> None:
        self.left_out.add(inumber)

    def _content(self, fd: int, inumber: int, inode: Inode, *, sparse: bool) -> None:
        """A regular file of ``inode.size`` bytes, holes left out; the stream says what could not be read."""
        stream = self._stream
        stream.missing_bytes, stream.read_error = 0, None
        if not inode.size:
            self.header(RecordType.INODE, inumber, inode, 0)
            return
        record_type = RecordType.INODE
        repeated = bytearray()
        previous = b""
        for start, addr in _sparse_spans(fd, inode.size) if sparse else _dense_spans(inode.size):
            if addr == previous and repeated:
                _move(repeated, self.tapea)
                stream.write(repeated)
            else:
                record = self.header(record_type, inumber, inode, len(addr), addr=addr)
                repeated = bytearray(record if record_type is RecordType.ADDR else b"")
                previous = addr
            for offset, end in _runs(addr):
                stop = min(start + end, inode.size)
                stream.read(fd, start + offset, stop - start - offset)
            record_type = RecordType.ADDR
        # Only the last record can be short, and only when it is no hole.
        if inode.size % RECORD_BYTES and previous[-1]:
            stream.write(ZEROS[: -inode.size % RECORD_BYTES])
        stream.complete_reads()


def _move(header: bytearray, tapea: int) -> None:
    """Give a header another place in the stream; everything else in it, and so most of its sum, stays."""
    (old_tapea,) = _WORD.unpack_from(header, OFFSET_TAPEA)
    (checksum,) = _WORD.unpack_from(header, OFFSET_CHECKSUM)
    tapea &= 0xFFFF_FFFF
    _WORD.pack_into(header, OFFSET_TAPEA, tapea)
    _WORD.pack_into(header, OFFSET_CHECKSUM, (checksum + old_tapea - tapea) & 0xFFFF_FFFF)


def _dense_spans(size: int) -> Iterator[tuple[int, bytes]]:
    """(file offset, a byte per record) of each header of a file without holes."""
    records = -(-size // RECORD_BYTES)
    for first in range(0, records, HEADER_RECORDS_MAX):
        yield first * RECORD_BYTES, _ALL_PRESENT[: records - first]


def _data_records(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of records that hold data, rounded outward; they may touch, or overlap by one."""
    for start, end in data_ranges(fd, size):
        yield start // RECORD_BYTES, -(-end // RECORD_BYTES)


def _sparse_spans(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """As _dense_spans, with 0 for the records that are holes."""
    ranges = _data_records(fd, size)
    current = next(ranges, None)
    records = -(-size // RECORD_BYTES)
    for first in range(0, records, HEADER_RECORDS_MAX):
        count = min(HEADER_RECORDS_MAX, records - first)
        addr = bytearray(count)
        while current is not None and current[0] < first + count:
            start, end = max(current[0] - first, 0), min(current[1] - first, count)
            if start < end:
                addr[start:end] = _ALL_PRESENT[: end - start]
            if current[1] > first + count:
                break
            current = next(ranges, None)
        yield first * RECORD_BYTES, bytes(addr)


def _runs(addr: bytes) -> Iterator[tuple[int, int]]:
    """Byte ranges of the records that are present, relative to the header's span."""
    start = addr.find(1)
    while start >= 0:
        end = addr.find(0, start)
        if end < 0:
            end = len(addr)
        yield start * RECORD_BYTES, end * RECORD_BYTES
        start = addr.find(1, end)
