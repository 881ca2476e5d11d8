"""The BSD dump stream's records: header, directory chunk and bitmap, packed and parsed, without I/O.

Everything is made of 1024-byte records; a header describes up to 512 of them. We write little endian and read both.
What the format cannot hold, the parts of a time below a microsecond and above 32 bits of seconds, lies in two
inode words that other readers ignore (``_TIME_MARK`` in c_spare says that they mean this).

Source: dump.md sections 1 to 5.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

RECORD_BYTES: Final = 1024  # TP_BSIZE
HEADER_RECORDS_MAX: Final = 512  # records one header describes: TP_NINDIR
HEADER_SPAN_BYTES: Final = HEADER_RECORDS_MAX * RECORD_BYTES
DIRECTORY_CHUNK_BYTES: Final = 1024
TAPE_BLOCK_RECORDS: Final = 10  # c_ntrec: END fills the stream up to a multiple of it
MAGIC: Final = 60012
MAGIC_OLD: Final = 60011
CHECKSUM: Final = 84446  # what the words of a whole header add up to
ROOT_INUMBER: Final = 2
FIRST_INUMBER: Final = 3  # of what is not the root
NLINK_MAX: Final = 32767
NAME_BYTES_MAX: Final = 255

# c_flags
FLAG_NEW_HEADER: Final = 0x1  # TAPE only
FLAG_NEW_INODE_FORMAT: Final = 0x2  # every header
FLAG_COMPRESSED: Final = 0x80
FLAG_METADATA_ONLY: Final = 0x100  # an inode without its content: dump -m, where only the attributes have changed
FLAG_EXTENSION: Final = 0x8000

# c_extattributes
EXTENSION_NONE: Final = 0
EXTENSION_XATTR: Final = 3  # the ext2 attribute block of mover.data.xattr_blob.encode, at most 4096 bytes
EXTENSION_MORE_XATTR: Final = 0x4D560001  # ours: what did not fit there, mover.data.xattr_blob.encode_private
EXTENSION_XATTR_BYTES_MAX: Final = 4096

# Type byte of a directory entry: bits 12 to 15 of the mode.
DT_DIRECTORY: Final = 4
DT_FILE: Final = 8
DT_SYMLINK: Final = 10

# Offsets into the header that writers and readers of a hot loop patch or look at.
OFFSET_TAPEA: Final = 16
OFFSET_CHECKSUM: Final = 28
OFFSET_ADDR: Final = 164
OFFSET_FLAGS: Final = 888
OFFSET_EXTENSION: Final = 900
OFFSET_SPARE: Final = 904
TIME_MARK: Final = b"moverns1"  # at OFFSET_SPARE: the inode's spare words hold the rest of its times

_BILLION: Final = 1_000_000_000
_FIELDS: Final = "IIIiIIIIHhHHQIIIIIIII52xIIIIIIIi512s16si64s64s64sIiiI8s112x"
LITTLE: Final = struct.Struct("<" + _FIELDS)
BIG: Final = struct.Struct(">" + _FIELDS)
_WORDS_LITTLE: Final = struct.Struct("<256I")
_WORDS_BIG: Final = struct.Struct(">256I")
_ALL_PRESENT: Final = b"\1" * HEADER_RECORDS_MAX
assert LITTLE.size == RECORD_BYTES


class FormatError(ValueError):
    """Bytes that cannot be a record of a dump stream."""


class RecordType(IntEnum):
    """c_type."""

    TAPE = 1
    INODE = 2
    BITS = 3  # map of the inodes contained in this dump
    ADDR = 4  # continuation of an inode
    END = 5
    CLRI = 6  # map of the inodes in use


class Inode(NamedTuple):
    """The inode in a header; times in nanoseconds, device as st_rdev (its low 32 bits)."""

    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    device: int = 0
    flags: int = 0
    blocks: int = 0  # of 512 bytes, informative
    generation: int = 0


NO_INODE: Final = Inode(0, 0, 0, 0, 0, 0, 0, 0)


class Header(NamedTuple):
    """A header as read; ``records`` is c_count, ``addr`` has a byte per described record, 0 = hole."""

    type: int
    date: int
    ddate: int
    volume: int
    tapea: int
    inumber: int
    inode: Inode
    records: int
    addr: bytes
    label: bytes
    level: int
    filesystem: bytes
    device: bytes
    host: bytes
    flags: int
    first_record: int
    tape_block_records: int
    extension: int
    little_endian: bool

    @property
    def is_extension(self) -> bool:
        """Whether the records are extended attributes of the inode instead of its content."""
        return bool(self.flags & FLAG_EXTENSION) and self.extension != EXTENSION_NONE

    @property
    def is_metadata_only(self) -> bool:
        """Whether the object's content is in an earlier dump and not in this one."""
        return bool(self.flags & FLAG_METADATA_ONLY)

    @property
    def data_records(self) -> int:
        """Records that follow in the stream: ``records`` without the holes; a map may be longer than ``addr``."""
        if self.type in {RecordType.BITS, RecordType.CLRI} or self.is_extension:
            return self.records
        if self.type in {RecordType.INODE, RecordType.ADDR}:
            return self.records - self.addr.count(0, 0, self.records)
        return 0


class DumpLabel(NamedTuple):
    """What every header of one dump repeats."""

    date: int  # of this dump, seconds; 32 bits without a sign, restore(8) reads them with one
    ddate: int = 0  # of the dump it is based on; 0 = level 0
    level: int = 0
    label: bytes = b"none"
    filesystem: bytes = b""
    device: bytes = b""
    host: bytes = b""
    tape_block_records: int = TAPE_BLOCK_RECORDS


# --- checksum ------------------------------------------------------------------------------------------------


def word_sum(record: bytes | bytearray | memoryview, *, little_endian: bool = True) -> int:
    """The sum of a record's 256 words modulo 2^32."""
    words = _WORDS_LITTLE if little_endian else _WORDS_BIG
    total: int = sum(words.unpack(record))
    return total & 0xFFFF_FFFF


# --- times ---------------------------------------------------------------------------------------------------


def time_words(atime_ns: int, mtime_ns: int, ctime_ns: int) -> tuple[int, int]:
    """The two spare words: parts below a microsecond (10 bits each), and bits 32 to 39 of the seconds."""
    low = atime_ns % 1000 | mtime_ns % 1000 << 10 | ctime_ns % 1000 << 20
    high = 0
    for shift, time_ns in ((0, atime_ns), (8, mtime_ns), (16, ctime_ns)):
        high |= (time_ns // _BILLION >> 32 & 0xFF) << shift
    return low, high


def _time_ns(seconds: int, microseconds: int, low: int, high: int) -> int:
    if high & 0x80:
        high -= 0x100
    seconds += high << 32
    return seconds * _BILLION + microseconds * 1000 + low


def _split_ns(time_ns: int) -> tuple[int, int]:
    seconds, rest = divmod(time_ns, _BILLION)
    return seconds & 0xFFFF_FFFF, rest // 1000


# --- headers -------------------------------------------------------------------------------------------------


def pack_header(
    label: DumpLabel,
    record_type: RecordType,
    tapea: int,
    *,
    inumber: int = 0,
    inode: Inode = NO_INODE,
    count: int = 0,
    addr: bytes | None = None,
    extension: int = EXTENSION_NONE,
) -> bytes:
    """A whole header with its checksum.

    Args:
        tapea: index of this record in the stream; wraps at 2^32.
        count: records described.
        addr: a byte per described record, 0 = hole; None = all are present.
        extension: c_extattributes; sets the extension flag when it is not NONE.
    """
    flags = FLAG_NEW_INODE_FORMAT
    if record_type is RecordType.TAPE:
        flags |= FLAG_NEW_HEADER
    if extension != EXTENSION_NONE:
        flags |= FLAG_EXTENSION
    if addr is None:
        # TAPE and END: anything here would be taken for a table of first inodes per volume.
        addr = _ALL_PRESENT[: min(count, HEADER_RECORDS_MAX)]
    low, high = time_words(inode.atime_ns, inode.mtime_ns, inode.ctime_ns)
    fields = (
        *(record_type, label.date & 0xFFFF_FFFF, label.ddate & 0xFFFF_FFFF, 1, tapea & 0xFFFF_FFFF, inumber, MAGIC),
        *(inode.mode, min(inode.nlink, NLINK_MAX), inode.uid & 0xFFFF, inode.gid & 0xFFFF, inode.size),
        *_split_ns(inode.atime_ns),
        *_split_ns(inode.mtime_ns),
        *_split_ns(inode.ctime_ns),
        *(inode.device & 0xFFFF_FFFF, 0, inode.flags, inode.blocks & 0xFFFF_FFFF, inode.generation),
        *(inode.uid, inode.gid, low, high, count, addr, label.label[:15], label.level),
        *(label.filesystem[:63], label.device[:63], label.host[:63]),
        *(flags, 0, label.tape_block_records, extension, TIME_MARK),
    )
    unsummed = LITTLE.pack(*fields[:7], 0, *fields[7:])
    checksum: int = (CHECKSUM - word_sum(unsummed)) & 0xFFFF_FFFF
    return unsummed[:OFFSET_CHECKSUM] + checksum.to_bytes(4, "little") + unsummed[OFFSET_CHECKSUM + 4 :]


def parse_header(record: bytes | bytearray | memoryview, *, verify: bool = True) -> Header:
    """The header in a 1024-byte record of either byte order.

    Args:
        verify: False when the caller has checked the sum in a cheaper way.

    Raises:
        FormatError: not a header: wrong length, magic or checksum.
    """
    if len(record) != RECORD_BYTES:
        raise FormatError(f"a record of {len(record)} bytes")
    fields = LITTLE.unpack(record)
    little_endian = fields[6] == MAGIC
    if not little_endian:
        fields = BIG.unpack(record)
        if fields[6] != MAGIC:
            if MAGIC_OLD in {fields[6], LITTLE.unpack(record)[6]}:
                raise FormatError("a dump of the format before 4.4BSD (magic 60011), which is not supported")
            raise FormatError(f"no dump header: magic {fields[6]:#x}")
    if verify and word_sum(record, little_endian=little_endian) != CHECKSUM:
        raise FormatError(f"a header with a wrong checksum (c_tapea {fields[4]}, inode {fields[5]})")
    record_type, date, ddate, volume, tapea, inumber = fields[:6]
    mode, nlink, _, _, size, a_s, a_us, m_s, m_us, c_s, c_us, device, wide_device = fields[8:21]
    inode_flags, blocks, generation, uid, gid, low, high, count, addr = fields[21:30]
    label, level, filesystem, device_name, host, flags, first_record, tape_block_records, extension, mark = fields[30:]
    if mark != TIME_MARK:
        low = high = 0
    inode = Inode(
        mode,
        nlink,
        uid,
        gid,
        size,
        _time_ns(a_s, a_us, low & 0x3FF, high & 0xFF),
        _time_ns(m_s, m_us, low >> 10 & 0x3FF, high >> 8 & 0xFF),
        _time_ns(c_s, c_us, low >> 20 & 0x3FF, high >> 16 & 0xFF),
        device or wide_device,  # ext4, and so Linux dump, has a number above 8 bits each in the second word only
        inode_flags,
        blocks,
        generation,
    )
    if count < 0:
        raise FormatError(f"a header that describes {count} records (c_tapea {tapea}, inode {inumber})")
    return Header(
        record_type,
        date,
        ddate,
        volume,
        tapea,
        inumber,
        inode,
        count,
        addr,
        label.rstrip(b"\0"),
        level,
        filesystem.rstrip(b"\0"),
        device_name.rstrip(b"\0"),
        host.rstrip(b"\0"),
        flags,
        first_record,
        tape_block_records,
        extension,
        little_endian,
    )


# --- directories ---------------------------------------------------------------------------------------------

# The whole of an entry by the length of its name: NUL and pad included.
_NAMED_ENTRIES: Final = tuple(
    struct.Struct(f"<IHBB{((length + 12) & ~3) - 8}s") for length in range(NAME_BYTES_MAX + 1)
)  # fmt: skip


def pack_directory(entries: Iterable[tuple[int, int, bytes]]) -> bytes:
    """The data of a directory: entries (inumber, type, name) in the order given, ``.`` and ``..`` included.

    No entry crosses a 1024-byte chunk; the last of each chunk reaches to its end.
    """
    parts: list[bytes] = []
    add, forms = parts.append, _NAMED_ENTRIES
    used = last = 0  # bytes of the chunk, and of its last entry
    for inumber, entry_type, name in entries:
        form = forms[len(name)]
        length = form.size
        if used + length > DIRECTORY_CHUNK_BYTES:
            _stretch(parts, last, DIRECTORY_CHUNK_BYTES - used)
            used = 0
        add(form.pack(inumber, length, entry_type, len(name), name))
        used += length
        last = length
    if parts:
        _stretch(parts, last, DIRECTORY_CHUNK_BYTES - used)
    return b"".join(parts)


def _stretch(parts: list[bytes], last: int, room: int) -> None:
    """Let the last entry of a chunk, of ``last`` bytes, reach to the chunk's end."""
    entry = parts[-1]
    parts[-1] = entry[:4] + (last + room).to_bytes(2, "little") + entry[6:] + bytes(room)


# --- maps ----------------------------------------------------------------------------------------------------


def full_bitmap(highest_inumber: int, absent: Iterable[int] = (1,)) -> bytearray:
    """A map in which every inode up to ``highest_inumber`` is set but ``absent``, in whole records.

    restore ignores names whose number does not lie below the map's bits, so it reaches one further.
    """
    records = max(1, -(-(highest_inumber + 1) // (RECORD_BYTES * 8)))
    whole, rest = divmod(highest_inumber, 8)
    bitmap = bytearray(b"\xff" * whole)
    bitmap.append((1 << rest) - 1)
    bitmap += bytes(max(0, records * RECORD_BYTES - len(bitmap)))
    del bitmap[records * RECORD_BYTES :]
    for inumber in absent:
        if inumber <= highest_inumber:
            bitmap[(inumber - 1) >> 3] &= ~(1 << ((inumber - 1) & 7)) & 0xFF
    return bitmap


def bitmap(highest_inumber: int, present: bytearray) -> bytes:
    """A map of the inodes whose byte in ``present`` is 1, as large as :func:`full_bitmap` makes it.

    Args:
        present: byte n is 1 for inode n + 1; none is beyond the highest.
    """
    records = max(1, -(-(highest_inumber + 1) // (RECORD_BYTES * 8)))
    bits = 0
    for shift in range(8):  # each byte of a column is one bit of a byte of the map, so nothing is carried
        bits |= int.from_bytes(present[shift::8], "little") << shift
    return bits.to_bytes(records * RECORD_BYTES, "little")


def bit_is_set(bitmap: bytes | bytearray | memoryview, inumber: int) -> bool:
    """Whether a map names this inode; a number beyond the map is not in it."""
    at = (inumber - 1) >> 3
    return 0 <= at < len(bitmap) and bool(bitmap[at] >> ((inumber - 1) & 7) & 1)
