"""A quick look at little-endian headers for the loop that makes small files: most of a header repeats the last one.

Of the 256 words that a checksum adds up, 16 vary from file to file; the other 240 are compared as bytes, and only when
they differ are they looked at again.
"""

import struct
from functools import lru_cache
from typing import Final, NamedTuple

from mover.data.dump_format import (
    CHECKSUM,
    EXTENSION_NONE,
    FLAG_EXTENSION,
    FLAG_METADATA_ONLY,
    HEADER_RECORDS_MAX,
    MAGIC,
    OFFSET_ADDR,
    OFFSET_EXTENSION,
    OFFSET_FLAGS,
    OFFSET_SPARE,
    RECORD_BYTES,
    TIME_MARK,
)

VARYING: Final = struct.Struct("<16x2I4x11I80x3I")
"""Position, inode number; checksum, mode and links, old owner, size (two words), times of access, modification and
change (seconds, microseconds); the two spare words that hold the rest of the times, records described."""
REPEATED: Final = struct.Struct("<16s8x4s44x80s12x860s")
"""Type, dates and volume; magic; from the device to the owner; from OFFSET_ADDR on."""
EXTENSION_BYTE: Final = OFFSET_FLAGS + 1  # its highest bit is FLAG_EXTENSION
assert VARYING.size == OFFSET_ADDR
assert REPEATED.size == RECORD_BYTES
_WORDS: Final = struct.Struct(f"<{(16 + 4 + 80 + 860) // 4}I")
_OWNER: Final = struct.Struct("<72xII")
_FLAGS_AT: Final = OFFSET_FLAGS - OFFSET_ADDR
_EXTENSION_AT: Final = OFFSET_EXTENSION - OFFSET_ADDR
_SPARE_AT: Final = OFFSET_SPARE - OFFSET_ADDR
_NEVER: Final = -1


class Repeated(NamedTuple):
    """What headers that follow each other have in common.

    Attributes:
        expected: what the varying words of a good header add up to, modulo 2^32; of one without the magic nothing does.
        type: a RecordType, if it is one.
        uid, gid: of the inode.
        addr: what of the records described is present, a byte each.
        present: records described before the first hole.
        plain: the records are an object's content, all of it, and no extended attributes.
        marked: the inode's spare words hold the rest of its times.
    """

    expected: int
    type: int
    uid: int
    gid: int
    addr: bytes
    present: int
    plain: bool
    marked: bool


@lru_cache(maxsize=64)  # files of a few sizes differ in nothing else
def read_repeated(front: bytes, magic: bytes, owner: bytes, tail: bytes) -> Repeated:
    """The meaning of a header's parts that REPEATED cuts out."""
    uid, gid = _OWNER.unpack(owner)
    present = tail.find(b"\0", 0, HEADER_RECORDS_MAX)
    flags = int.from_bytes(tail[_FLAGS_AT : _FLAGS_AT + 4], "little")
    extension = int.from_bytes(tail[_EXTENSION_AT : _EXTENSION_AT + 4], "little")
    total = sum(_WORDS.unpack(front + magic + owner + tail))
    return Repeated(
        CHECKSUM - total & 0xFFFF_FFFF if int.from_bytes(magic, "little") == MAGIC else _NEVER,
        int.from_bytes(front[:4], "little"),
        uid,
        gid,
        tail[:HEADER_RECORDS_MAX],
        HEADER_RECORDS_MAX if present < 0 else present,
        not (flags & FLAG_METADATA_ONLY or (flags & FLAG_EXTENSION and extension != EXTENSION_NONE)),
        tail[_SPARE_AT : _SPARE_AT + len(TIME_MARK)] == TIME_MARK,
    )
