"""The elements of a library as a media changer numbers them, and READ ELEMENT STATUS data.

Addresses are fixed by kind, so that they stay when a library gets more slots: transport 0, drives from 1 (at most 256),
import/export elements from 0x101 (at most 255), storage elements from 0x200. Source: SMC-3 sections 4 and 6.10.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

VOLUME_TAG_BYTES: Final = 36
VOLUME_ID_BYTES: Final = 32
_HEADER: Final = 8
_DATA_MEDIUM: Final = 0x01


class ElementKind(IntEnum):
    """Element type code. Source: SMC-3 table 13."""

    TRANSPORT = 1  # the robot's hand
    STORAGE = 2  # slots
    IMPORT_EXPORT = 3  # the mail slot
    DATA_TRANSFER = 4  # drives


FIRST: Final = {
    ElementKind.TRANSPORT: 0,
    ElementKind.DATA_TRANSFER: 0x001,
    ElementKind.IMPORT_EXPORT: 0x101,
    ElementKind.STORAGE: 0x200,
}
TRANSPORT_ADDRESS: Final = FIRST[ElementKind.TRANSPORT]


class Occupant(NamedTuple):
    """A cartridge in an element.

    Attributes:
        source: address of the storage element that it came from; None = not known.
        imported: an operator put it there, not the robot.
    """

    barcode: str
    source: int | None = None
    imported: bool = False


class Elements(Protocol):
    """What a changer asks of its library at the moment of a command."""

    def occupant(self, address: int) -> Occupant | None:
        """The cartridge in an element."""
        ...

    def accessible(self, address: int) -> bool:
        """Whether the robot can put a cartridge into this drive, or take one out."""
        ...

    def designator(self, address: int) -> bytes:
        """The drive's identity, as in page 83h of its INQUIRY."""
        ...


class Geometry:
    """How many elements of each kind a library has; it has one transport."""

    def __init__(self, *, drives: int, slots: int, import_export: int) -> None:
        counts = {
            ElementKind.TRANSPORT: 1,
            ElementKind.DATA_TRANSFER: drives,
            ElementKind.IMPORT_EXPORT: import_export,
            ElementKind.STORAGE: slots,
        }
        self._addresses = {kind: range(FIRST[kind], FIRST[kind] + count) for kind, count in counts.items()}

    def addresses(self, kind: ElementKind) -> range:
        """The addresses of all elements of a kind."""
        return self._addresses[kind]

    def kind_of(self, address: int) -> ElementKind | None:
        """The kind of the element with this address; None = there is none."""
        for kind, addresses in self._addresses.items():
            if address in addresses:
                return kind
        return None


class StatusRequest(NamedTuple):
    """READ ELEMENT STATUS: which elements, and what of them.

    Attributes:
        kinds: in the order of their pages.
        first: lowest address to report.
        most: so many elements at most.
    """

    kinds: tuple[ElementKind, ...]
    first: int
    most: int
    volume_tags: bool
    device_ids: bool


def element_status(geometry: Geometry, elements: Elements, request: StatusRequest, length: int) -> bytes:
    """READ ELEMENT STATUS data; of descriptors that do not fit into ``length`` bytes, only whole ones are left.

    The counts in the headers are those of the whole report. Source: SMC-3 6.10; SCSI-2 17.2.5 (whole descriptors).
    """
    pages = list(_pages(geometry, elements, request))
    reported = [address for addresses, _, _ in pages for address in addresses]
    total = sum(_HEADER + len(body) for _, _, body in pages)
    data = bytearray(
        (reported[0] if reported else 0).to_bytes(2, "big")
        + len(reported).to_bytes(2, "big")
        + bytes(1)
        + total.to_bytes(3, "big")
    )
    for addresses, header, body in pages:
        room = length - len(data) - _HEADER
        if room < 0:
            break
        size = len(body) // len(addresses)
        data += header + body[: room // size * size]
        if room < len(body):
            break
    return bytes(data[:length])


def _pages(geometry: Geometry, elements: Elements, request: StatusRequest) -> Iterator[tuple[list[int], bytes, bytes]]:
    left = request.most
    for kind in request.kinds:
        addresses = [each for each in geometry.addresses(kind) if each >= request.first][:left]
        if not addresses:
            continue
        left -= len(addresses)
        descriptors = [_descriptor(kind, address, elements, request) for address in addresses]
        body = b"".join(descriptors)
        flags = 0x80 if request.volume_tags else 0
        header = bytes([kind, flags]) + len(descriptors[0]).to_bytes(2, "big") + bytes(1) + len(body).to_bytes(3, "big")
        yield addresses, header, body


def _descriptor(kind: ElementKind, address: int, elements: Elements, request: StatusRequest) -> bytes:
    occupant = elements.occupant(address)
    flags = 0x01 if occupant is not None else 0
    place = b"\0\0"
    match kind:
        case ElementKind.STORAGE:
            flags |= 0x08  # ACCESS
        case ElementKind.IMPORT_EXPORT:
            flags |= 0x38  # INENAB, EXENAB, ACCESS
            flags |= 0x02 if occupant is not None and occupant.imported else 0
        case ElementKind.DATA_TRANSFER:
            flags |= 0x08 if elements.accessible(address) else 0
            target = address - FIRST[kind] + 1
            place = bytes([0x30, target]) if target <= 0xFF else place  # LUN and bus address are valid; SMC-2
        case _:
            pass
    source = b"\0\0\0"
    if occupant is not None:
        known = occupant.source is not None
        source = bytes([(0x80 if known else 0) | _DATA_MEDIUM]) + (occupant.source or 0).to_bytes(2, "big")
    data = address.to_bytes(2, "big") + bytes([flags, 0, 0, 0]) + place + b"\0" + source
    if request.volume_tags:
        data += volume_tag(occupant.barcode) if occupant is not None else bytes(VOLUME_TAG_BYTES)
    if request.device_ids and kind is ElementKind.DATA_TRANSFER:
        designator = elements.designator(address)
        return data + bytes([0x02, 0x01, 0, len(designator)]) + designator
    return data + bytes(4)


def volume_tag(barcode: str) -> bytes:
    """Primary volume tag information: identifier, padded with blanks, and a sequence number. Source: SMC-3 table 41."""
    return barcode.encode("ascii", "replace")[:VOLUME_ID_BYTES].ljust(VOLUME_ID_BYTES) + bytes(4)
