"""The POSIX pax stream's blocks: header, extended header, map of a sparse file, packed without I/O.

Everything is made of 512-byte blocks. A member of ours is an extended header, its records, the header proper and the
content; the extended header comes with every member, because it holds the times to the nanosecond, and a member is
found by its place. There are no global headers: who begins to read in the middle would miss them.

Source: tar.md, POSIX.1-2017 pax "ustar Interchange Format" and "pax Extended Header".
"""

import struct
from array import array
from collections.abc import Iterable
from typing import Final

from mover.data.xattr_blob import ACL_ACCESS, ACL_DEFAULT, Attribute

BLOCK_BYTES: Final = 512
RECORD_BYTES: Final = 20 * BLOCK_BYTES  # a stream ends on a multiple of it
TRAILER: Final = bytes(2 * BLOCK_BYTES)  # what a stream ends with

# typeflag
REGULAR: Final = b"0"
REGULAR_OLD: Final = b"\0"
HARD_LINK: Final = b"1"  # never with content: GNU tar loses its place
SYMBOLIC_LINK: Final = b"2"
CHARACTER_DEVICE: Final = b"3"
BLOCK_DEVICE: Final = b"4"
DIRECTORY: Final = b"5"
FIFO: Final = b"6"
CONTIGUOUS: Final = b"7"
EXTENDED: Final = b"x"
EXTENDED_GLOBAL: Final = b"g"
GNU_DIRECTORY: Final = b"D"
GNU_LONG_LINK: Final = b"K"
GNU_LONG_NAME: Final = b"L"
GNU_MULTI_VOLUME: Final = b"M"
GNU_SPARSE: Final = b"S"
GNU_VOLUME_LABEL: Final = b"V"

TYPES: Final = {
    1: FIFO,
    2: CHARACTER_DEVICE,
    4: DIRECTORY,
    6: BLOCK_DEVICE,
    8: REGULAR,
    10: SYMBOLIC_LINK,
}
"""Bits 12 to 15 of a mode -> typeflag. A socket has none."""

NAMED_TYPES: Final = frozenset({REGULAR, SYMBOLIC_LINK, FIFO})
"""Types whose devminor tells, in a stream of ours, how many names an object has; 0 = one."""

_PLACE_BITS: Final = 21  # what devmajor or devminor holds: seven octal digits


def place_numbers(offset: int) -> tuple[int, int]:
    """devmajor and devminor of a further name in a stream of ours: where the member with the content lies, in blocks.

    Zeros from 2 PiB on, which no reader takes for a place.
    """
    blocks = offset // BLOCK_BYTES
    return divmod(blocks, 1 << _PLACE_BITS) if blocks < 1 << 2 * _PLACE_BITS else (0, 0)


def first_place(major: int, minor: int) -> int:
    """The offset that ``place_numbers`` has put there; -1 = none."""
    if not (0 <= major < 1 << _PLACE_BITS and 0 <= minor < 1 << _PLACE_BITS) or not major | minor:
        return -1
    return ((major << _PLACE_BITS) + minor) * BLOCK_BYTES


# The header: name, mode, uid, gid, size, mtime, chksum, typeflag, linkname, magic and version, uname, gname,
# devmajor, devminor, prefix.
HEADER: Final = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
MAGIC: Final = b"ustar\x0000"
MAGIC_GNU: Final = b"ustar  \0"
NAME_BYTES: Final = 100
PREFIX_BYTES: Final = 155
OFFSET_MODE: Final = 100  # mode, uid, gid, size, mtime follow each other up to the checksum
OFFSET_SIZE: Final = 124
OFFSET_MTIME: Final = 136
OFFSET_CHECKSUM: Final = 148
OFFSET_TYPE: Final = 156
OFFSET_LINK: Final = 157
OFFSET_MAGIC: Final = 257
OFFSET_PREFIX: Final = 345
SMALL_NUMBER_MAX: Final = 0o7777777  # mode, uid, gid, devmajor, devminor
LARGE_NUMBER_MAX: Final = 0o77777777777  # size, mtime
assert HEADER.size == BLOCK_BYTES

# Keywords of extended headers.
PATH: Final = b"path"
LINK_PATH: Final = b"linkpath"
CHARSET: Final = b"hdrcharset"
CHARSET_BINARY: Final = b"BINARY"
COMMENT: Final = b"comment"
SPARSE_MAJOR: Final = b"GNU.sparse.major"
SPARSE_MINOR: Final = b"GNU.sparse.minor"
SPARSE_NAME: Final = b"GNU.sparse.name"
SPARSE_SIZE: Final = b"GNU.sparse.realsize"
DUMPDIR: Final = b"GNU.dumpdir"
XATTR: Final = b"SCHILY.xattr."
ACL_KEYWORDS: Final = {ACL_ACCESS: b"SCHILY.acl.access", ACL_DEFAULT: b"SCHILY.acl.default"}

SEGMENTS_MAX: Final = 1 << 20  # of a sparse file; what lies behind the last of them counts as data

EXTENDED_BYTES_MAX: Final = 32 << 20  # of all extended headers of a member, for a reader; a writer keeps below
EXTENDED_PREFIX: Final = b"PaxHeaders"
IDENTITY_NAME: Final = b"mover."
"""An extended header of ours is named EXTENDED_PREFIX/IDENTITY_NAME and the stream's random id: so each member tells
of which stream it is, and other readers do not look at that name."""

_BILLION: Final = 1_000_000_000


class FormatError(ValueError):
    """What cannot be put into a tar stream."""


# --- headers -------------------------------------------------------------------------------------------------


def byte_sum(header: bytes | bytearray | memoryview) -> int:
    """The sum of a header's bytes, its checksum field counted as blanks."""
    return sum(header) - sum(header[OFFSET_CHECKSUM:OFFSET_TYPE]) + 8 * 0x20


def _octal(number: int, digits: int) -> bytes:
    """A number field; what does not fit is its nearest neighbour, and an extended record has the truth."""
    return b"%0*o" % (digits, min(max(number, 0), 8**digits - 1))


def split_path(path: bytes, *, at_directory: bool = False) -> tuple[bytes, bytes] | None:
    """Prefix and name as the header holds a path; None when it cannot.

    Args:
        at_directory: the prefix is the whole directory wherever both fit, and not only where it must be: so all that
            is in one directory has the same prefix.
    """
    if at_directory:
        slash = path.rfind(b"/")
        if 0 < slash <= PREFIX_BYTES and len(path) - slash - 1 <= NAME_BYTES:
            return path[:slash], path[slash + 1 :]
    if len(path) <= NAME_BYTES:
        return b"", path
    # The slash between the two is not stored. The one that ends a directory's path belongs to its name.
    slash = path.find(b"/", len(path) - NAME_BYTES - 1, len(path) - 1)
    if not 0 < slash <= PREFIX_BYTES:
        return None
    return path[:slash], path[slash + 1 :]


def pack_header(
    name: bytes,
    prefix: bytes,
    type_flag: bytes,
    *,
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
) -> bytes:
    """A header block with its checksum; names that are too long are cut, numbers too large are clipped.

    User and group are told by number alone: their names need not mean the same where the stream is read.
    """
    header = bytearray(
        HEADER.pack(
            *(name, _octal(mode & 0o7777, 7), _octal(uid, 7), _octal(gid, 7), _octal(size, 11), _octal(mtime, 11)),
            *(b" " * 8, type_flag, link, MAGIC, b"", b"", _octal(major, 7), _octal(minor, 7), prefix),
        )
    )
    header[OFFSET_CHECKSUM:OFFSET_TYPE] = b"%06o\0 " % byte_sum(header)
    return bytes(header)


# --- extended headers ----------------------------------------------------------------------------------------


def pax_record(keyword: bytes, value: bytes) -> bytes:
    """``length keyword=value``: the length counts itself."""
    length = len(keyword) + len(value) + 3
    digits = len(b"%d" % length)
    if len(b"%d" % (length + digits)) > digits:
        digits += 1
    return b"%d %b=%b\n" % (length + digits, keyword, value)


def pax_time(time_ns: int) -> bytes:
    """Seconds with nine decimals."""
    seconds, rest = divmod(abs(time_ns), _BILLION)
    return b"%b%d.%09d" % (b"-" if time_ns < 0 else b"", seconds, rest)


def xattr_keyword(name: bytes) -> bytes:
    """The keyword of an extended attribute; ``=`` would end it, so it is written as a percent code."""
    return XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D")


_ACL_HEAD: Final = struct.Struct("<I")
_ACL_ENTRY: Final = struct.Struct("<HHI")
_ACL_VERSION: Final = 2
_ACL_TAGS: Final = {
    0x01: b"user:",
    0x02: b"user:%d",
    0x04: b"group:",
    0x08: b"group:%d",
    0x10: b"mask:",
    0x20: b"other:",
}
_ACL_PERMISSIONS: Final = tuple(
    b"".join(letter if bits & bit else b"-" for bit, letter in ((4, b"r"), (2, b"w"), (1, b"x"))) for bits in range(8)
)


def acl_text(value: bytes) -> bytes:
    """A POSIX ACL in the kernel's attribute form as long text, a line an entry, ids as numbers.

    Raises:
        FormatError: not a version 2 ACL.
    """
    if len(value) < 4 or (len(value) - 4) % _ACL_ENTRY.size or _ACL_HEAD.unpack_from(value)[0] != _ACL_VERSION:
        raise FormatError(f"{len(value)} bytes that are no POSIX ACL of version 2")
    lines = []
    for tag, permissions, identity in _ACL_ENTRY.iter_unpack(value[4:]):
        form = _ACL_TAGS.get(tag)
        if form is None or permissions > 7:
            raise FormatError(f"a POSIX ACL entry of the unknown kind {tag:#x} with permissions {permissions:#o}")
        who = form % identity if b"%" in form else form
        lines.append(b"%b:%b\n" % (who, _ACL_PERMISSIONS[permissions]))
    return b"".join(lines)


def attribute_records(attributes: Iterable[Attribute]) -> list[bytes]:
    """The records of extended attributes; POSIX ACLs among them as text."""
    records = []
    for name, value in attributes:
        keyword = ACL_KEYWORDS.get(name)
        if keyword is not None:
            try:
                records.append(pax_record(keyword, acl_text(value)))
                continue
            except FormatError:
                pass  # as an attribute like any other it is kept byte for byte
        records.append(pax_record(xattr_keyword(name), value))
    return records


def is_utf8(text: bytes) -> bool:
    """Whether an extended header may hold this text without naming a character set."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- sparse files --------------------------------------------------------------------------------------------


def sparse_map(segments: "array[int]", size: int) -> bytes:
    """The map of GNU format 1.0 that precedes the content, in whole blocks.

    Args:
        segments: offset and length of each range that holds data, one after the other.
        size: of the file; where it ends with a hole, an empty segment says where.
    """
    values = segments.tolist()
    if not values or values[-2] + values[-1] < size:
        values += (size, 0)
    text = b"%d\n" % (len(values) // 2) + b"".join(b"%d\n" % value for value in values)
    return text + bytes(-len(text) % BLOCK_BYTES)
