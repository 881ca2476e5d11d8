"""Writes one object into the stream: its header, its content, its extended attributes. The general way, any kind.

The usual small file has a faster way of its own in :mod:`mover.data.backup_files`.
"""

import errno
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

from mover.data.backup_report import BackupReport
from mover.data.backup_stream import ZEROS, DumpStream
from mover.data.dump_format import (
    EXTENSION_MORE_XATTR,
    EXTENSION_NONE,
    EXTENSION_XATTR,
    HEADER_RECORDS_MAX,
    HEADER_SPAN_BYTES,
    OFFSET_CHECKSUM,
    OFFSET_TAPEA,
    RECORD_BYTES,
    DumpLabel,
    Inode,
    RecordType,
    pack_header,
)
from mover.data.report import reason
from mover.data.xattr_blob import Attribute, encode_private, split

_ALL_PRESENT: Final = b"\1" * HEADER_RECORDS_MAX
_WORD: Final = struct.Struct("<I")
_NOT_SUPPORTED: Final = frozenset({errno.ENOTSUP, errno.ENOSYS})


class AttributeReader:
    """Reads extended attributes. A file system without them is asked for each object, which costs next to nothing."""

    def __init__(self, report: BackupReport) -> None:
        self._report = report

    def read(self, target: int | bytes, path: Callable[[], bytes]) -> list[Attribute]:
        """All attributes of an open object, or of the one that a path names (a symbolic link itself).

        What cannot be read is reported under ``path`` and left out.
        """
        follow = isinstance(target, int)
        attributes: list[Attribute] = []
        try:
            for name in os.listxattr(target, follow_symlinks=follow):
                try:
                    attributes.append((os.fsencode(name), os.getxattr(target, name, follow_symlinks=follow)))
                except OSError as error:
                    if error.errno != errno.ENODATA:  # removed between the two calls
                        self._report.error(path(), f"attribute {name!r} left out: {reason(error)}")
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                self._report.error(path(), f"extended attributes left out: {reason(error)}")
        return attributes


class ObjectWriter:
    """Appends whole objects to the stream."""

    def __init__(self, stream: DumpStream, label: DumpLabel) -> None:
        self._stream = stream
        self.label = label

    @property
    def offset(self) -> int:
        """Stream offset of the next header."""
        return self._stream.offset

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
            self.label,
            record_type,
            stream.tapea,
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
            self._stream.write_padded(piece)
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
        self._stream.write_padded(blob)

    def regular(self, fd: int, inumber: int, inode: Inode) -> None:
        """A regular file of ``inode.size`` bytes, holes left out; the stream says what could not be read."""
        stream = self._stream
        stream.missing_bytes, stream.read_error = 0, None
        if not inode.size:
            self.header(RecordType.INODE, inumber, inode, 0)
            return
        sparse = inode.blocks * 512 < inode.size
        record_type = RecordType.INODE
        repeated = bytearray()
        previous = b""
        for start, addr in _sparse_spans(fd, inode.size) if sparse else _dense_spans(inode.size):
            if addr == previous and repeated:
                _move(repeated, stream.tapea)
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
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a hole to the end
            # The file system does not tell: everything is data.
            start, end = offset, size
        yield start // RECORD_BYTES, -(-min(end, size) // RECORD_BYTES)
        offset = end


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
