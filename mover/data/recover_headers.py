"""A quick look at little-endian headers for the loops that make small files: most of a header repeats the last one.

Of the 256 words that a checksum adds up, 41 vary from file to file; the other 215 are compared as bytes, and only when
they differ are they looked at again.
"""

import struct
from typing import Final, NamedTuple

from mover.data.dump_format import (
    EXTENSION_NONE,
    FLAG_EXTENSION,
    FLAG_METADATA_ONLY,
    HEADER_RECORDS_MAX,
    OFFSET_ADDR,
    OFFSET_EXTENSION,
    OFFSET_FLAGS,
    OFFSET_SPARE,
    RECORD_BYTES,
    TIME_MARK,
)

HEAD: Final = struct.Struct("<41I")  # up to OFFSET_ADDR
EXTENSION_BYTE: Final = OFFSET_FLAGS + 1  # its highest bit is FLAG_EXTENSION
_TAIL: Final = struct.Struct("<215I")
assert HEAD.size == OFFSET_ADDR
assert OFFSET_ADDR + _TAIL.size == RECORD_BYTES
_FLAGS_AT: Final = OFFSET_FLAGS - OFFSET_ADDR
_EXTENSION_AT: Final = OFFSET_EXTENSION - OFFSET_ADDR
_SPARE_AT: Final = OFFSET_SPARE - OFFSET_ADDR


class Tail(NamedTuple):
    """What a header says from OFFSET_ADDR on.

    Attributes:
        total: sum of its words.
        present: records it describes before the first hole.
        plain: its records are an object's content, all of it, and no extended attributes.
        marked: the inode's spare words hold the rest of its times.
    """

    total: int
    present: int
    plain: bool
    marked: bool


def read_tail(tail: bytes) -> Tail:
    """The meaning of a header's bytes from OFFSET_ADDR on."""
    present = tail.find(b"\0", 0, HEADER_RECORDS_MAX)
    flags = int.from_bytes(tail[_FLAGS_AT : _FLAGS_AT + 4], "little")
    extension = int.from_bytes(tail[_EXTENSION_AT : _EXTENSION_AT + 4], "little")
    return Tail(
        sum(_TAIL.unpack(tail)),
        HEADER_RECORDS_MAX if present < 0 else present,
        not (flags & FLAG_METADATA_ONLY or (flags & FLAG_EXTENSION and extension != EXTENSION_NONE)),
        tail[_SPARE_AT : _SPARE_AT + len(TIME_MARK)] == TIME_MARK,
    )
