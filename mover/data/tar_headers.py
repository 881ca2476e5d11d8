"""A tar stream's header blocks and extended records as they are read, of every dialect: v7, ustar, pax, GNU, star.

Nothing here does I/O. Every number and length comes from strangers and is bounded before it is used.

Source: tar.md; POSIX.1-2017 pax; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from mover.data.tar_format import (
    BLOCK_BYTES,
    HEADER,
    MAGIC,
    MAGIC_GNU,
    OFFSET_CHECKSUM,
    OFFSET_TYPE,
    FormatError,
    byte_sum,
)

SIZE_MAX: Final = 2**63 - 1
TIME_S_MAX: Final = 2**55  # some thousand million years: what Python turns into nanoseconds and the kernel refuses
KEYWORD_BYTES_MAX: Final = 1024
RECORDS_MAX: Final = 1 << 20  # of one extended header
NS: Final = 1_000_000_000
# star's header: a shorter prefix, and two times behind it.
_STAR_MAGIC: Final = b"tar\0"
_STAR_PREFIX_BYTES: Final = 131
_STAR_ATIME: Final = slice(476, 488)
_STAR_CTIME: Final = slice(488, 500)
_GNU_ATIME: Final = slice(345, 357)
_GNU_CTIME: Final = slice(357, 369)
_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]?")
_DECIMAL: Final = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]{0,40}))?")


class Header(NamedTuple):
    """A header block: fields as they lie there; ``block`` for what only some types look at."""

    name: bytes  # with its prefix
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    atime_ns: int | None
    ctime_ns: int | None
    type: bytes
    link: bytes
    major: int
    minor: int
    is_gnu: bool
    block: bytes


def number(field: bytes, what: str) -> int:
    """A number field: octal, or base 256 (GNU, star) where its first bit is set.

    Raises:
        FormatError: neither.
    """
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if field[0] & 0x40 else value
    found = _OCTAL.match(field)
    if found is None or field[found.end() :].strip(b" \0"):
        raise FormatError(f"{field!r} for its {what}")
    return int(found[1] or b"0", 8)


def _time_ns(field: bytes, what: str) -> int:
    seconds = number(field, what)
    if abs(seconds) > TIME_S_MAX:
        raise FormatError(f"{seconds} seconds for its {what}")
    return seconds * NS


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def sum_is_good(block: bytes) -> bool:
    """Whether a header's checksum is right, of its bytes without or with a sign (old tars add them up with one)."""
    try:
        told = number(block[OFFSET_CHECKSUM:OFFSET_TYPE], "checksum")
    except FormatError:
        return False
    total = byte_sum(block)
    if total == told:
        return True
    others = block[:OFFSET_CHECKSUM] + block[OFFSET_TYPE:]
    return total - 256 * sum(byte >= 0x80 for byte in others) == told


def parse_header(block: bytes) -> Header:
    """A header block.

    Raises:
        FormatError: it is none, or one of its fields cannot be.
    """
    if len(block) != BLOCK_BYTES or not sum_is_good(block):
        raise FormatError("a block that is no header")
    name, mode, uid, gid, size, mtime, _, flag, link, magic, _, _, major, minor, prefix = HEADER.unpack(block)
    length = number(size, "size")
    if not 0 <= length <= SIZE_MAX:
        raise FormatError(f"a size of {length} bytes")
    atime_ns = ctime_ns = None
    is_gnu = magic == MAGIC_GNU
    path = _text(name)
    if magic[:6] == MAGIC[:6]:
        if block[-4:] == _STAR_MAGIC:
            prefix = prefix[:_STAR_PREFIX_BYTES]
            atime_ns, ctime_ns = _time_ns(block[_STAR_ATIME], "atime"), _time_ns(block[_STAR_CTIME], "ctime")
        if above := _text(prefix):
            path = above + b"/" + path
    elif is_gnu:
        atime_ns = _time_ns(block[_GNU_ATIME], "atime") or None  # zeros where it was not asked for
        ctime_ns = _time_ns(block[_GNU_CTIME], "ctime") or None
    return Header(
        path,
        number(mode, "mode") & 0o7777,
        number(uid, "uid"),
        number(gid, "gid"),
        length,
        _time_ns(mtime, "mtime"),
        atime_ns,
        ctime_ns,
        flag,
        _text(link),
        # v7 has no such fields, and what lies there may be anything.
        number(major, "device number") if magic[:5] == MAGIC[:5] else 0,
        number(minor, "device number") if magic[:5] == MAGIC[:5] else 0,
        is_gnu,
        block,
    )


# --- extended headers ----------------------------------------------------------------------------------------


def pax_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keyword and value of each record of an extended header.

    Raises:
        FormatError: at the first record that is none.
    """
    at, end_of_data, count = 0, len(data), 0
    while at < end_of_data:
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > at else b""
        length = int(digits) if digits.isdigit() else 0
        end = at + length
        equals = data.find(b"=", space + 1, min(end, space + 2 + KEYWORD_BYTES_MAX)) if length else -1
        if equals <= space + 1 or end > end_of_data or data[end - 1] != 0x0A or equals >= end - 1:
            raise FormatError(f"an extended header whose record at byte {at} is none")
        count += 1
        if count > RECORDS_MAX:
            raise FormatError(f"an extended header of more than {RECORDS_MAX} records")
        yield data[space + 1 : equals], data[equals + 1 : end - 1]
        at = end


def pax_integer(value: bytes, what: str, most: int = SIZE_MAX) -> int:
    """A number of an extended header, from 0 to ``most``.

    Raises:
        FormatError: another text, or too large.
    """
    found = int(value) if value.isdigit() and len(value) <= 20 else -1
    if not 0 <= found <= most:
        raise FormatError(f"{value[:40]!r} for its {what}")
    return found


def pax_time_ns(value: bytes, what: str) -> int:
    """Seconds with any number of decimals, as nanoseconds; what lies below them is dropped.

    Raises:
        FormatError: another text, or out of all range.
    """
    found = _DECIMAL.fullmatch(value)
    seconds = int(found[2]) if found else TIME_S_MAX + 1
    if found is None or seconds > TIME_S_MAX:
        raise FormatError(f"{value[:40]!r} for its {what}")
    time_ns = seconds * NS + int(((found[3] or b"") + b"000000000")[:9])
    return -time_ns if found[1] else time_ns
