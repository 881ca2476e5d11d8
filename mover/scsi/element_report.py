"""What a real changer reports of its elements: MODE SENSE 1Dh and READ ELEMENT STATUS, read with care.

Changers of the field report data that is a few bytes short, or whose counts do not fit; so every length is held against
the bytes that are there, and what is not whole is not told. One type of element is asked for at a time, because some
changers cannot put several into one report. Source: SMC-3 6.10, 6.11, 7.3.3.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from mover.scsi.elements import VOLUME_ID_BYTES, VOLUME_TAG_BYTES, ElementKind

ASSIGNMENT_PAGE: Final = 0x1D
ELEMENTS_MAX: Final = 0xFFFF
_HEADER: Final = 8
_SHORTEST: Final = 12  # a descriptor up to the source address
_IN_ASSIGNMENT: Final = (
    ElementKind.TRANSPORT, ElementKind.STORAGE, ElementKind.IMPORT_EXPORT, ElementKind.DATA_TRANSFER,
)  # fmt: skip


class ReportedElement(NamedTuple):
    """An element as the changer tells of it.

    Attributes:
        barcode: primary volume tag; "" = none.
        source: the storage element that the cartridge came from; None = not known.
        imported: an operator put it there.
        exception: additional sense code and qualifier of an element in an abnormal state; None = it is well.
        device: of a drive: its serial number, or what else it is known by; "" = not told.
    """

    kind: ElementKind
    address: int
    full: bool
    barcode: str = ""
    source: int | None = None
    imported: bool = False
    exception: tuple[int, int] | None = None
    device: str = ""


class AssignmentRequest(NamedTuple):
    """A way to ask for the element addresses: the CDB, and how long the header before the page is."""

    cdb: bytes
    header: int


ASSIGNMENT_REQUESTS: Final = (
    AssignmentRequest(bytes([0x1A, 0x08, ASSIGNMENT_PAGE, 0, 0xFF, 0]), 4),  # MODE SENSE(6)
    AssignmentRequest(bytes([0x5A, 0x08, ASSIGNMENT_PAGE, 0, 0, 0, 0, 0, 0xFF, 0]), 8),  # MODE SENSE(10)
)
"""Without block descriptors; a changer knows one of them, or both."""


def read_assignment(data: bytes, header: int) -> dict[ElementKind, range]:
    """The addresses of each kind, from what one of ASSIGNMENT_REQUESTS brought; {} = the page is not in it."""
    if len(data) < header:
        return {}
    blocks = data[3] if header == ASSIGNMENT_REQUESTS[0].header else int.from_bytes(data[6:8], "big")
    page = data[header + blocks : header + blocks + 20]
    if len(page) < 18 or page[0] & 0x3F != ASSIGNMENT_PAGE:
        return {}
    found = {}
    for index, kind in enumerate(_IN_ASSIGNMENT):
        first, count = (int.from_bytes(page[2 + 4 * index + part : 4 + 4 * index + part], "big") for part in (0, 2))
        found[kind] = range(first, min(first + count, ELEMENTS_MAX + 1))
    return found


def status_request(kind: ElementKind, addresses: range, length: int, *, device_ids: bool = False) -> bytes:
    """READ ELEMENT STATUS of these elements, with volume tags.

    Args:
        length: bytes there is room for.
        device_ids: with what the drives are known by; not every changer has that.
    """
    return (
        bytes([0xB8, 0x10 | kind])
        + addresses.start.to_bytes(2, "big")
        + len(addresses).to_bytes(2, "big")
        + bytes([device_ids])
        + length.to_bytes(3, "big")
        + bytes(2)
    )


def move_request(transport: int, source: int, destination: int) -> bytes:
    """MOVE MEDIUM. Source: SMC-3 6.6."""
    addresses = b"".join(each.to_bytes(2, "big") for each in (transport, source, destination))
    return b"\xa5\0" + addresses + bytes(4)


def read_elements(data: bytes, kind: ElementKind) -> list[ReportedElement]:
    """The whole descriptors of one kind in READ ELEMENT STATUS data, in the order they come; each address once."""
    found: dict[int, ReportedElement] = {}
    at = _HEADER
    while at + _HEADER <= len(data):
        page, flags, size = data[at], data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        length = int.from_bytes(data[at + 5 : at + 8], "big")
        body = data[at + _HEADER : at + _HEADER + length]
        if page == kind and size >= _SHORTEST:
            for element in _descriptors(body, kind, size, tags=bool(flags & 0x80), alternate=bool(flags & 0x40)):
                found.setdefault(element.address, element)
        at += _HEADER + length
    return list(found.values())


def _descriptors(
    body: bytes, kind: ElementKind, size: int, *, tags: bool, alternate: bool
) -> Iterator[ReportedElement]:
    for start in range(0, len(body), size):
        each = body[start : start + size]
        if len(each) < _SHORTEST + (VOLUME_ID_BYTES if tags else 0):
            return  # cut: some changers count their headers wrongly
        flags, rest = each[2], _SHORTEST + VOLUME_TAG_BYTES * (tags + alternate)
        yield ReportedElement(
            kind=kind,
            address=int.from_bytes(each[:2], "big"),
            full=bool(flags & 0x01),
            barcode=_name(each[_SHORTEST : _SHORTEST + VOLUME_ID_BYTES]) if tags and flags & 0x01 else "",
            source=int.from_bytes(each[10:12], "big") if each[9] & 0x80 else None,
            imported=kind is ElementKind.IMPORT_EXPORT and bool(flags & 0x02),
            exception=(each[4], each[5]) if flags & 0x04 else None,
            device=_device(each[rest:]) if kind is ElementKind.DATA_TRANSFER else "",
        )


def _device(data: bytes) -> str:
    """The identifier behind the volume tags; one that is cut might be another's. Source: SMC-3 table 48."""
    if len(data) < 4 or not 0 < data[3] <= len(data) - 4:
        return ""
    body = data[4 : 4 + data[3]]
    return _name(body) if data[0] & 0x0F in {2, 3} else body.hex()


def _name(data: bytes) -> str:
    """ASCII without what is around it; what is not printable becomes a question mark."""
    name = data.split(b"\0", 1)[0].strip(b" ")
    return "".join(chr(each) if 0x20 <= each < 0x7F else "?" for each in name)
