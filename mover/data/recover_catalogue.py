"""The head of a dump stream: its maps and its directories, kept as they lie in the stream until they are wanted."""

import operator
import struct
from collections.abc import Sequence
from itertools import compress
from typing import Final, NamedTuple

from mover.data.beneath import NAME_MAX, is_plain_name
from mover.data.codes import LogType
from mover.data.dump_format import (
    DIRECTORY_CHUNK_BYTES,
    EXTENSION_MORE_XATTR,
    EXTENSION_XATTR,
    RECORD_BYTES,
    Header,
    Inode,
    RecordType,
    bit_is_set,
)
from mover.data.dump_identity import wrong_dump
from mover.data.recover_report import RecoverReport
from mover.data.recover_stream import RecordReader, is_map
from mover.data.stream_blocks import StreamRefused
from mover.data.xattr_blob import Attribute, decode, decode_private
from mover.workers.data_messages import Pairs

S_IFMT: Final = 0o170000
S_IFDIR: Final = 0o040000
ATTRIBUTES_MAX: Final = 32_768  # of one object: more names than listxattr(2) tells of
ATTRIBUTE_BYTES_MAX: Final = 16 << 20
_ENTRY_BYTES: Final = 8  # of an entry, in front of its name
MAP_BYTES_MAX: Final = 64 << 20  # of 512 million inodes; a longer map is not kept


class DirectoryRecord:
    """A directory as it came: its inode, the raw data of its entries and its extended attributes.

    Attributes:
        offset: of its header in the stream.
        holes: records of its data that the stream says are holes.
        is_damaged: whether something of it was lost in the stream, which has been reported.
    """

    __slots__ = ("attributes", "data", "holes", "inode", "is_damaged", "offset")

    def __init__(self, inode: Inode, offset: int) -> None:
        self.inode = inode
        self.offset = offset
        self.holes = 0
        self.is_damaged = False
        self.data = bytearray()
        self.attributes: list[Attribute] = []


class Catalogue:
    """Which inodes a dump holds and how its directories name them."""

    def __init__(self, first: Header) -> None:
        self.first = first
        self.directories: dict[int, DirectoryRecord] = {}
        self.contained = bytearray()  # BITS; empty = not known
        self.used = bytearray()  # CLRI of an incremental dump; empty = not known
        self._entry = struct.Struct("<IHBB" if first.little_endian else ">IHBB")

    def contains(self, inumber: int) -> bool:
        """Whether this inode should be in the stream; yes when that is not known."""
        return not self.contained or bit_is_set(self.contained, inumber)

    def uses_all(self, inumbers: Sequence[int]) -> bool:
        """Whether all of these are in use; yes when that is not known, and where the maps contradict each other."""
        used = self.used
        if not used or not inumbers or _are_set(used, inumbers):
            return True
        return all(bit_is_set(used, inumber) or self.contains(inumber) for inumber in inumbers)

    def uses(self, inumber: int) -> bool:
        """As :meth:`uses_all`, for one."""
        return self.uses_all([inumber])

    def contains_all(self, inumbers: list[int]) -> bool:
        """Whether certainly all of these should be in the stream; quick, and False where only a closer look tells."""
        return not self.contained or _are_set(self.contained, inumbers)

    def names(self, inumber: int) -> "Names":
        """The entries of a directory without "." and ".."."""
        record = self.directories[inumber]
        data = bytes(record.data)
        length_of_data = len(data)
        end = min(length_of_data, record.inode.size)
        unpack = self._entry.unpack_from
        inumbers: list[int] = []
        kinds: list[int] = []
        names: list[bytes] = []
        add_inumber, add_kind, add_name = inumbers.append, kinds.append, names.append
        refused: list[bytes] = []
        damaged = record.holes
        at, chunk_end, last = 0, min(DIRECTORY_CHUNK_BYTES, length_of_data), end - _ENTRY_BYTES
        while at <= last:
            child, length, kind, name_length = unpack(data, at)
            begin, following = at + _ENTRY_BYTES, at + length
            name_end = begin + name_length
            if name_end > following or length & 3 or following > chunk_end:
                damaged += 1
                if (length, name_length) == (_ENTRY_BYTES, NAME_MAX) and following < chunk_end:
                    at = following  # Debian's dump takes such a name for none: the next entry lies where it was to be
                    continue
                at = (at // DIRECTORY_CHUNK_BYTES + 1) * DIRECTORY_CHUNK_BYTES
                chunk_end = min(at + DIRECTORY_CHUNK_BYTES, length_of_data)
                continue
            if child:
                name = data[begin:name_end]
                if name_length < 3 and not is_plain_name(name):
                    # "." and ".." stand for the directory itself and one above; as any other inode they are hostile.
                    if not ((name == b"." and child == inumber) or (name == b".." and child in self.directories)):
                        refused.append(name)
                else:
                    add_inumber(child)
                    add_kind(kind)
                    add_name(name)
            at = following
            if at == chunk_end:
                chunk_end = min(at + DIRECTORY_CHUNK_BYTES, length_of_data)
        together = b"/".join(names)  # looked at once, which costs a tenth of a look at each
        if 0 in together or together.count(b"/") >= len(names) > 0:
            good = [is_plain_name(name) for name in names]
            refused += compress(names, map(operator.not_, good))
            inumbers, kinds = list(compress(inumbers, good)), list(compress(kinds, good))
            names = list(compress(names, good))
        return Names(inumbers, kinds, names, refused, damaged)


class Names(NamedTuple):
    """What a directory holds: inode numbers, types (DT numbers, 0 = not known) and names, side by side.

    Attributes:
        refused: names that cannot be used.
        damaged: number of chunks and of single names that were skipped.
    """

    inumbers: list[int]
    kinds: list[int]
    names: list[bytes]
    refused: list[bytes]
    damaged: int


def _are_set(bitmap: bytearray, inumbers: Sequence[int]) -> bool:
    """Whether a map certainly names all of these, by a look at the bytes between the lowest and the highest."""
    low, high = min(inumbers), max(inumbers)
    if high - low > 16 * len(inumbers):
        return False
    first, last = (low - 1) >> 3, (high - 1) >> 3
    return last < len(bitmap) and bitmap.count(0xFF, first, last + 1) == last + 1 - first


def read_attributes(reader: RecordReader, header: Header, held: list[Attribute]) -> list[str]:
    """Add the extended attributes in an extension header's records to those that its object has already.

    An extension of unknown number is stepped over.

    Returns:
        a line for each that is lost.
    """
    if header.extension not in {EXTENSION_XATTR, EXTENSION_MORE_XATTR}:
        reader.skip(header.data_records)
        return []
    size = header.data_records * RECORD_BYTES
    if len(held) >= ATTRIBUTES_MAX or size + sum(len(value) for _, value in held) > ATTRIBUTE_BYTES_MAX:
        reader.skip(header.data_records)
        return [f"extended attributes beyond {ATTRIBUTES_MAX} of them or {ATTRIBUTE_BYTES_MAX} bytes"]
    blob = reader.read(header.data_records)[: header.inode.size]
    decoded = decode(blob) if header.extension == EXTENSION_XATTR else decode_private(blob)
    held += decoded.attributes
    return decoded.problems


def read_catalogue(reader: RecordReader, report: RecoverReport, env: Pairs) -> Catalogue:
    """Read up to the first header behind the directories, which is left to be read next.

    Raises:
        StreamBroken, StreamRefused: as the reader does, or the environment names another dump.
    """
    first = reader.first_header()
    if wrong := wrong_dump(first, env):
        raise StreamRefused(wrong)
    catalogue = Catalogue(first)
    current: DirectoryRecord | None = None
    number = 0
    map_open: bytearray | None = None
    while True:
        skips = reader.skips
        header = reader.header()
        if skips != reader.skips and current is not None and len(current.data) < current.inode.size:
            report.damage(f"a part of directory inode {number} is lost: names in it are missing")
            current.is_damaged = True
            current = None
        if is_map(header):
            current = None
            is_wanted = header.type == RecordType.BITS or first.ddate
            if is_wanted and header.records * RECORD_BYTES <= MAP_BYTES_MAX:
                map_open = bytearray(reader.read(header.records))
                if header.type == RecordType.BITS:
                    catalogue.contained = map_open
                else:
                    catalogue.used = map_open
            else:
                map_open = None
                reader.skip(header.records)
        elif header.type == RecordType.INODE:
            map_open = None
            if header.is_extension:
                of_current = current is not None and header.inumber == number
                problems = read_attributes(reader, header, current.attributes if current and of_current else [])
                for problem in problems:
                    report.error(b"directory inode %d" % header.inumber, f"lost: {problem}")
                if current is not None and of_current:
                    current.is_damaged |= bool(problems)
                continue
            if header.inode.mode & S_IFMT != S_IFDIR:
                reader.unread_header()
                return catalogue
            number = header.inumber
            current = catalogue.directories.get(number)
            if current is None:
                current = DirectoryRecord(header.inode, reader.offset - RECORD_BYTES)
                catalogue.directories[number] = current
            _add_data(reader, header, current)
        elif header.type == RecordType.ADDR:
            if current is not None and header.inumber == number:
                _add_data(reader, header, current)
            elif map_open is not None and len(map_open) + header.records * RECORD_BYTES <= MAP_BYTES_MAX:
                map_open += reader.read(header.data_records)
            else:
                if map_open is not None:
                    map_open.clear()  # half a map would say of the others that they are not there
                    map_open = None
                reader.skip(header.data_records)
        elif header.type == RecordType.END:
            reader.unread_header()
            return catalogue
        else:
            report.log(LogType.WARNING, f"a record of the unknown type {header.type} was skipped".encode())


def _add_data(reader: RecordReader, header: Header, directory: DirectoryRecord) -> None:
    """Append a header's records to a directory.

    No dump makes holes in a directory. Those of a stream that says so are counted and not kept: a KiB of headers would
    become half a MiB of zeros in memory. For the same reason nothing is kept behind the size of the directory.
    """
    directory.holes += header.records - header.data_records
    kept = min(header.data_records, -(-max(0, directory.inode.size - len(directory.data)) // RECORD_BYTES))
    if kept:
        directory.data += reader.read(kept)
    reader.skip(header.data_records - kept)
