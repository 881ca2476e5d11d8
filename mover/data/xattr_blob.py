"""Extended attributes and POSIX ACLs in a dump stream: the ext2-style blob, and ours for what it cannot hold.

The blob is the one that restore(8) reads: little endian always, at most 4096 bytes, one an inode, five kinds of
names. :func:`split` puts there what fits and leaves the rest for records with an extension number of our own,
which other readers step over; so nothing is lost.

Source: dump.md section 4, "Extended attributes and ACLs".
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from mover.data.dump_format import EXTENSION_XATTR_BYTES_MAX, HEADER_SPAN_BYTES, FormatError

Attribute = tuple[bytes, bytes]  # full name with its namespace, value in the kernel's form

ACL_ACCESS: Final = b"system.posix_acl_access"
ACL_DEFAULT: Final = b"system.posix_acl_default"

_MAGIC_BLOCK: Final = 0xEA020000
_MAGIC_IN_INODE: Final = 0xEA020001
_HEAD: Final = struct.Struct("<IIII16x")
_ENTRY: Final = struct.Struct("<BBHIII")
_WORD: Final = struct.Struct("<I")
_PREFIXES: Final = {1: b"user.", 4: b"trusted.", 6: b"security."}
_WHOLE_NAMES: Final = {2: ACL_ACCESS, 3: ACL_DEFAULT}
# ACLs and capabilities are worth most to another reader, so they get the blob's room first.
_ORDER: Final = {2: 0, 3: 1, 6: 2, 1: 3, 4: 4}

_ACL_KERNEL_VERSION: Final = 2
_ACL_DISK_VERSION: Final = 1
_ACL_ENTRY: Final = struct.Struct("<HHI")
_ACL_SHORT_ENTRY: Final = struct.Struct("<HH")
_ACL_NAMED: Final = frozenset({0x02, 0x08})  # tags ACL_USER and ACL_GROUP carry an id
_ACL_NO_ID: Final = 0xFFFF_FFFF

_PRIVATE: Final = struct.Struct("<HI")


# --- ACLs ----------------------------------------------------------------------------------------------------


def acl_to_disk(value: bytes) -> bytes:
    """A POSIX ACL in the kernel's attribute form (version 2) as the blob holds it (version 1).

    Raises:
        FormatError: not a version 2 ACL.
    """
    if len(value) < 4 or (len(value) - 4) % _ACL_ENTRY.size or _WORD.unpack_from(value)[0] != _ACL_KERNEL_VERSION:
        raise FormatError(f"{len(value)} bytes that are no POSIX ACL of version 2")
    disk = bytearray(_WORD.pack(_ACL_DISK_VERSION))
    for tag, permissions, identity in _ACL_ENTRY.iter_unpack(value[4:]):
        disk += _ACL_SHORT_ENTRY.pack(tag, permissions)
        if tag in _ACL_NAMED:
            disk += _WORD.pack(identity)
    return bytes(disk)


def acl_from_disk(value: bytes) -> bytes:
    """The reverse of :func:`acl_to_disk`.

    Raises:
        FormatError: not a version 1 ACL.
    """
    if len(value) < 4 or _WORD.unpack_from(value)[0] != _ACL_DISK_VERSION:
        raise FormatError(f"{len(value)} bytes that are no POSIX ACL of version 1")
    kernel = bytearray(_WORD.pack(_ACL_KERNEL_VERSION))
    at = 4
    while at < len(value):
        if at + 4 > len(value):
            raise FormatError("a POSIX ACL that ends inside an entry")
        tag, permissions = _ACL_SHORT_ENTRY.unpack_from(value, at)
        at += 4
        identity = _ACL_NO_ID
        if tag in _ACL_NAMED:
            if at + 4 > len(value):
                raise FormatError("a POSIX ACL that ends inside an entry")
            (identity,) = _WORD.unpack_from(value, at)
            at += 4
        kernel += _ACL_ENTRY.pack(tag, permissions, identity)
    return bytes(kernel)


# --- the standard blob ---------------------------------------------------------------------------------------


def _disk_form(name: bytes, value: bytes) -> tuple[int, bytes, bytes] | None:
    """Index, short name and value as the blob holds them; None when it has no place for this attribute."""
    for index, whole in _WHOLE_NAMES.items():
        if name == whole:
            try:
                return index, b"", acl_to_disk(value)
            except FormatError:
                return None
    for index, prefix in _PREFIXES.items():
        if name.startswith(prefix) and len(name) - len(prefix) <= 255:
            return index, name[len(prefix) :], value
    return None


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _build(entries: Sequence[tuple[int, bytes, bytes]]) -> bytes:
    names_end = _HEAD.size + sum(_ENTRY.size + _padded(len(name)) for _, name, _ in entries) + 4
    head = bytearray(_HEAD.pack(_MAGIC_BLOCK, 1, 1, 0))
    values = bytearray()
    for index, name, value in entries:
        offset = names_end + len(values) if value else 0
        head += _ENTRY.pack(len(name), index, offset, 0, len(value), 0)
        head += name + bytes(_padded(len(name)) - len(name))
        values += value + bytes(_padded(len(value)) - len(value))
    return bytes(head + bytes(4) + values)


def split(attributes: Iterable[Attribute]) -> tuple[bytes, list[Attribute]]:
    """The standard blob with as many attributes as fit (b"" = none), and those left over."""
    candidates: list[tuple[int, int, tuple[int, bytes, bytes]]] = []
    left: list[Attribute] = []
    ordered = list(attributes)
    for position, (name, value) in enumerate(ordered):
        form = _disk_form(name, value)
        if form is None:
            left.append((name, value))
        else:
            candidates.append((_ORDER[form[0]], position, form))
    used = _HEAD.size + 4
    chosen: list[tuple[int, bytes, bytes]] = []
    for _, position, (index, name, value) in sorted(candidates, key=lambda candidate: candidate[:2]):
        needed = _ENTRY.size + _padded(len(name)) + _padded(len(value))
        if used + needed > EXTENSION_XATTR_BYTES_MAX:
            left.append(ordered[position])
        else:
            used += needed
            chosen.append((index, name, value))
    return (_build(chosen) if chosen else b""), left


class Decoded(NamedTuple):
    """What a blob holds: the attributes, and a line for each one that cannot be used or for what is no blob at all."""

    attributes: list[Attribute]
    problems: list[str]


def decode(blob: bytes | bytearray | memoryview) -> Decoded:
    """The attributes in a standard blob, ACLs in the kernel's form again; one that is unknown costs no other."""
    blob = bytes(blob)
    decoded = Decoded([], [])
    magic = _WORD.unpack_from(blob)[0] if len(blob) >= 4 else 0
    if magic == _MAGIC_BLOCK:
        at, base = _HEAD.size, 0
    elif magic == _MAGIC_IN_INODE:
        at, base = 4, 4  # value offsets count from behind this head
    else:
        decoded.problems.append(f"extended attributes with the magic {magic:#x}")
        return decoded
    room = len(blob)  # values of one blob never overlap: else half a MiB of them could mean gigabytes
    while at + 4 <= len(blob) and _WORD.unpack_from(blob, at)[0]:
        if at + _ENTRY.size > len(blob):
            decoded.problems.append("extended attributes that end inside an entry")
            break
        name_length, index, offset, _, size, _ = _ENTRY.unpack_from(blob, at)
        at += _ENTRY.size
        short = blob[at : at + name_length]
        value = blob[base + offset : base + offset + size]
        at += _padded(name_length)
        room -= len(value)
        if room < 0:
            decoded.problems.append(f"extended attributes that overlap in their blob of {len(blob)} bytes")
            break
        if len(short) != name_length or len(value) != size:
            decoded.problems.append(f"an extended attribute of {size} bytes outside its blob of {len(blob)}")
        elif index in _WHOLE_NAMES:
            try:
                decoded.attributes.append((_WHOLE_NAMES[index], acl_from_disk(value)))
            except FormatError as error:
                decoded.problems.append(str(error))
        elif index in _PREFIXES:
            decoded.attributes.append((_PREFIXES[index] + short, value))
        else:
            decoded.problems.append(f"an extended attribute {short!r} of the unknown kind {index}")
    return decoded


# --- ours ----------------------------------------------------------------------------------------------------


def encode_private(attributes: Iterable[Attribute]) -> list[bytes]:
    """Blobs for records with EXTENSION_MORE_XATTR, each at most what one header describes (512 KiB).

    An attribute is u16 name length, u32 value length, name, value; it never crosses blobs (Linux bounds a value to 64
    KiB).
    """
    blobs = [bytearray()]
    for name, value in attributes:
        needed = _PRIVATE.size + len(name) + len(value)
        if len(blobs[-1]) + needed > HEADER_SPAN_BYTES:
            blobs.append(bytearray())
        blobs[-1] += _PRIVATE.pack(len(name), len(value)) + name + value
    return [bytes(blob) for blob in blobs if blob]


def decode_private(blob: bytes | bytearray | memoryview) -> Decoded:
    """The attributes in one of our blobs, those before the place where it is cut short if it is."""
    blob = bytes(blob)
    decoded = Decoded([], [])
    at = 0
    while at + _PRIVATE.size <= len(blob):
        name_length, value_length = _PRIVATE.unpack_from(blob, at)
        name_at = at + _PRIVATE.size
        value_at, end = name_at + name_length, name_at + name_length + value_length
        if end > len(blob):
            break
        decoded.attributes.append((blob[name_at:value_at], blob[value_at:end]))
        at = end
    if at < len(blob):
        decoded.problems.append("further extended attributes that end inside an entry")
    return decoded
