"""Extended attributes and POSIX ACLs of tar's extended headers in the kernel's form.

Source: tar.md section 1; star(5) for the text of ACLs; acl(5).
"""

import base64
import binascii
import re
import struct
from typing import Final

from mover.data.tar_format import ACL_KEYWORDS, XATTR, FormatError
from mover.data.xattr_blob import ACL_ACCESS, ACL_DEFAULT, Attribute

LIBARCHIVE_XATTR: Final = b"LIBARCHIVE.xattr."
SELINUX: Final = b"RHT.security.selinux"
NFS4_ACL: Final = b"SCHILY.acl.ace"
VALUE_BYTES_MAX: Final = 64 * 1024  # of one attribute: Linux's own bound
NAME_BYTES_MAX: Final = 255
ATTRIBUTES_MAX: Final = 65_536  # of one object
_ACL_OF: Final = {keyword: name for name, keyword in ACL_KEYWORDS.items()}
_SELINUX_XATTR: Final = b"security.selinux"
_CODE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_ACL_HEAD: Final = struct.pack("<I", 2)
_ACL_ENTRY: Final = struct.Struct("<HHI")
_ACL_ENTRIES_MAX: Final = VALUE_BYTES_MAX // _ACL_ENTRY.size
_ACL_TEXT_MAX: Final = 1 << 20
_NO_ID: Final = 0xFFFF_FFFF
_OWNER_TAGS: Final = {b"user": (0x01, 0x02), b"u": (0x01, 0x02), b"group": (0x04, 0x08), b"g": (0x04, 0x08)}
_OTHER_TAGS: Final = {b"mask": 0x10, b"m": 0x10, b"other": 0x20, b"o": 0x20}
_PERMISSIONS: Final = re.compile(rb"[rwx-]{1,3}")
PASSWD: Final = b"/etc/passwd"
GROUP: Final = b"/etc/group"
_ACCOUNTS_BYTES_MAX: Final = 16 << 20


class Accounts:
    """User and group numbers by name, for ACLs that hold names; of the local files alone, read when first asked."""

    def __init__(self) -> None:
        self._ids: dict[bytes, dict[bytes, int]] = {}

    def find(self, path: bytes, name: bytes) -> int | None:
        """The number of a name in ``PASSWD`` or ``GROUP``, None when there is none."""
        if name.isdigit() and len(name) <= 10:
            return int(name)
        ids = self._ids.get(path)
        if ids is None:
            ids = self._ids[path] = _read_accounts(path)
        return ids.get(name)


def _read_accounts(path: bytes) -> dict[bytes, int]:
    try:
        with open(path, "rb") as file:
            lines = file.read(_ACCOUNTS_BYTES_MAX).split(b"\n")
    except OSError:
        return {}  # a name that is not found is reported with what was to get it
    fields = (line.split(b":") for line in lines)
    return {field[0]: int(field[2]) for field in fields if len(field) > 2 and field[2].isdigit()}


class AttributeReader:
    """Gathers the attributes of one object from the records of its extended headers.

    Attributes:
        problems: a line for each one that cannot be used.
    """

    def __init__(self, accounts: Accounts) -> None:
        self.problems: list[str] = []
        self._accounts = accounts
        self._found: dict[bytes, bytes] = {}
        self._less: dict[bytes, bytes] = {}  # of the same attributes, where they come in a second form too

    def take(self, keyword: bytes, value: bytes) -> bool:
        """Use a record; False when it holds no attribute."""
        try:
            if keyword.startswith(XATTR):
                self._add(self._found, keyword[len(XATTR) :].replace(b"%3D", b"=").replace(b"%25", b"%"), value)
            elif keyword.startswith(LIBARCHIVE_XATTR):
                name = _CODE.sub(lambda code: bytes([int(code[1], 16)]), keyword[len(LIBARCHIVE_XATTR) :])
                if len(value) > 2 * VALUE_BYTES_MAX:
                    raise FormatError(f"the attribute {name[:40]!r} of {len(value)} bytes in base 64")
                padded = value + b"=" * (-len(value) % 4)
                self._add(self._less, name, base64.b64decode(padded, validate=True))
            elif keyword in _ACL_OF:
                if value:
                    self._found[_ACL_OF[keyword]] = acl_of_text(value, self._accounts)
            elif keyword == SELINUX:
                self._add(self._less, _SELINUX_XATTR, value + b"\0")  # as setfilecon(3) stores it
            elif keyword == NFS4_ACL:
                raise FormatError("an NFSv4 ACL, which Linux does not keep")
            else:
                return False
        except (FormatError, binascii.Error) as error:
            self.problems.append(str(error))
        return True

    def _add(self, where: dict[bytes, bytes], name: bytes, value: bytes) -> None:
        if not 0 < len(name) <= NAME_BYTES_MAX or b"\0" in name:
            raise FormatError(f"an attribute with the name {name[:40]!r} of {len(name)} bytes")
        if len(value) > VALUE_BYTES_MAX:
            raise FormatError(f"the attribute {name!r} of {len(value)} bytes")
        if len(where) >= ATTRIBUTES_MAX and name not in where:
            raise FormatError(f"more than {ATTRIBUTES_MAX} attributes")
        where[name] = value

    def attributes(self) -> list[Attribute]:
        """All of them, ACLs last, because they belong to the mode."""
        found = {**self._less, **self._found}
        return sorted(found.items(), key=lambda item: item[0] in {ACL_ACCESS, ACL_DEFAULT})


def acl_of_text(text: bytes, accounts: Accounts) -> bytes:
    """A POSIX ACL in the kernel's form; entries are separated by newlines (GNU tar, star) or commas (libarchive).

    A fourth field of an entry is the number of its name.

    Raises:
        FormatError: an entry that cannot be understood, or a name that nobody has here.
    """
    if len(text) > _ACL_TEXT_MAX:
        raise FormatError(f"an ACL of {len(text)} bytes of text")
    entries = []
    for item in re.split(rb"[\n,]", text):
        words = item.split(b"#", 1)[0].strip()
        if not words:
            continue
        fields = words.split(b":")
        if fields[0] in {b"default", b"d"}:
            fields = fields[1:]
        if len(fields) < 3 and fields[0] in _OTHER_TAGS:
            fields.insert(1, b"")  # "mask:rwx"
        if len(fields) not in {3, 4} or not _PERMISSIONS.fullmatch(fields[2]):
            raise FormatError(f"an ACL with the entry {words[:60]!r}")
        entries.append((*_tag(fields, words, accounts), _bits(fields[2])))
        if len(entries) > _ACL_ENTRIES_MAX:
            raise FormatError("an ACL of too many entries")
    if not entries:
        raise FormatError("an ACL without an entry")
    return _ACL_HEAD + b"".join(_ACL_ENTRY.pack(tag, bits, identity) for tag, identity, bits in sorted(entries))


def _tag(fields: list[bytes], words: bytes, accounts: Accounts) -> tuple[int, int]:
    kind, name = fields[0], fields[1]
    if kind in _OTHER_TAGS:
        return _OTHER_TAGS[kind], _NO_ID
    if kind not in _OWNER_TAGS:
        raise FormatError(f"an ACL with the entry {words[:60]!r}")
    plain, named = _OWNER_TAGS[kind]
    if not name:
        return plain, _NO_ID
    number = accounts.find(PASSWD if named == 0x02 else GROUP, fields[3] if len(fields) == 4 else name)
    if number is None or number >= _NO_ID:
        raise FormatError(f"an ACL that names {name[:60]!r}, whom nobody knows here")
    return named, number


def _bits(text: bytes) -> int:
    return 4 * (b"r" in text) | 2 * (b"w" in text) | (b"x" in text)


def mode_with_acl(mode: int, attributes: list[Attribute]) -> int:
    """The mode that goes with an access ACL among attributes: libarchive tells the one of the file without it."""
    access = dict(attributes).get(ACL_ACCESS)
    if access is None or len(access) < len(_ACL_HEAD) or (len(access) - len(_ACL_HEAD)) % _ACL_ENTRY.size:
        return mode
    bits: dict[int, int] = {
        tag: permissions & 7 for tag, permissions, _ in _ACL_ENTRY.iter_unpack(access[len(_ACL_HEAD) :])
    }
    group = bits.get(_OTHER_TAGS[b"mask"], bits.get(0x04, mode >> 3 & 7))
    return mode & ~0o777 | bits.get(0x01, mode >> 6 & 7) << 6 | group << 3 | bits.get(_OTHER_TAGS[b"other"], mode & 7)
