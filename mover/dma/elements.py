"""What a media changer says of its elements: element addresses and element status, bytes in and structs out.

The bytes come from a device and are read as far as they are there. Source: SMC-3 6.10 (READ ELEMENT STATUS), 7.3
(MODE SENSE page 1Dh).
"""

from enum import IntEnum
from typing import Final

import msgspec

from mover.dma.errors import ChangerError

ASSIGNMENT_PAGE: Final = 0x1D
VOLUME_TAG_BYTES: Final = 36
_VOLUME_ID_BYTES: Final = 32
_HEADER: Final = 8
_DESCRIPTOR_MIN: Final = 12
_FULL, _EXCEPT, _ACCESS = 0x01, 0x04, 0x08


class ElementKind(IntEnum):
    """Element type codes that hold cartridges. Source: SMC-3 table 13."""

    STORAGE = 2  # slots
    IMPORT_EXPORT = 3  # the mail slot
    DATA_TRANSFER = 4  # drives


# Where page 1Dh has first address and number of elements of a kind, from the page's beginning.
_ASSIGNED_AT: Final = {ElementKind.STORAGE: 6, ElementKind.IMPORT_EXPORT: 10, ElementKind.DATA_TRANSFER: 14}


class Element(msgspec.Struct, frozen=True):
    """One element.

    Attributes:
        address: as MOVE MEDIUM has it.
        full: a cartridge is in it.
        barcode: of the cartridge; "" without one.
        source: storage element that the cartridge came from; None = not known.
        accessible: the robot can get at it.
        designator: identifier of a drive, as in page 83h of its INQUIRY; b"" = not told.
    """

    address: int
    kind: ElementKind
    full: bool
    barcode: str = ""
    source: int | None = None
    accessible: bool = True
    designator: bytes = b""


def read_assignment(data: bytes) -> dict[ElementKind, range]:
    """The addresses of each kind, from MODE SENSE(6) data of page 1Dh.

    Raises:
        ChangerError: the page is not there.
    """
    page = data[4 + data[3] :] if len(data) > 4 else b""
    if len(page) < 18 or page[0] & 0x3F != ASSIGNMENT_PAGE:
        raise ChangerError("the changer does not tell its element addresses (mode page 1Dh)")

    def pair(at: int) -> range:
        first, count = int.from_bytes(page[at : at + 2], "big"), int.from_bytes(page[at + 2 : at + 4], "big")
        return range(first, min(first + count, 1 << 16))

    return {kind: pair(at) for kind, at in _ASSIGNED_AT.items()}


def read_status(data: bytes, kind: ElementKind) -> list[Element]:
    """The elements of one kind, from READ ELEMENT STATUS data.

    A descriptor that was cut counts as far as its volume identifier is there, because some changers count their headers
    wrongly and leave out the end of the last one.

    Raises:
        ChangerError: the data contradict themselves.
    """
    elements: list[Element] = []
    at = _HEADER
    while at + _HEADER <= len(data):
        page_kind, tags = data[at], data[at + 1]
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        end = min(at + _HEADER + int.from_bytes(data[at + 5 : at + 8], "big"), len(data))
        at += _HEADER
        if size < _DESCRIPTOR_MIN and end > at:
            raise ChangerError(
                f"the changer tells of elements in {size} bytes each, at least {_DESCRIPTOR_MIN} are due"
            )
        if page_kind == kind:
            whole = min(size, _DESCRIPTOR_MIN + (_VOLUME_ID_BYTES if tags & 0x80 else 0))
            descriptors = (data[each : min(each + size, end)] for each in range(at, end, max(size, 1)))
            elements += [_element(each, kind, tags) for each in descriptors if len(each) >= whole]
        at = end
    return elements


def _element(descriptor: bytes, kind: ElementKind, tags: int) -> Element:
    flags = descriptor[2]
    at = _DESCRIPTOR_MIN
    barcode = ""
    if tags & 0x80:
        barcode = _text(descriptor[at : at + _VOLUME_ID_BYTES])
        at += VOLUME_TAG_BYTES
    if tags & 0x40:  # the alternate volume tag is nobody's barcode
        at += VOLUME_TAG_BYTES
    full = bool(flags & _FULL)
    designator = descriptor[at + 4 : at + 4 + descriptor[at + 3]] if len(descriptor) > at + 4 else b""
    return Element(
        int.from_bytes(descriptor[:2], "big"),
        kind,
        full,
        barcode if full else "",
        int.from_bytes(descriptor[10:12], "big") if full and descriptor[9] & 0x80 else None,
        bool(flags & _ACCESS) and not flags & _EXCEPT,
        designator if designator and len(designator) == descriptor[at + 3] else b"",  # a part might be another drive's
    )


def _text(raw: bytes) -> str:
    return "".join(chr(byte) for byte in raw if 0x21 <= byte <= 0x7E)
