"""Who a real device says it is: INQUIRY data and the pages of its serial number, read with care.

What comes is a stranger's: every length in it is held against the bytes that are there, and a page that was not asked
for says nothing. Source: SPC-4 6.6, 7.8.
"""

from collections.abc import Iterator
from typing import Final

from mover.scsi.unit import COMMON, Answer, Identity, LogicalUnit

INQUIRY_BYTES: Final = 96
PAGE_BYTES: Final = 252
SERIAL_PAGE: Final = 0x80
IDENTIFICATION_PAGE: Final = 0x83
_STANDARD_BYTES: Final = 36
_T10: Final = 1  # designator type
_NO_UNIT: Final = 0x1F  # device type: there is nothing at this LUN


def inquiry(page: int | None = None) -> bytes:
    """The CDB that asks for a vital product data page; None = for the standard data."""
    length = INQUIRY_BYTES if page is None else PAGE_BYTES
    return bytes([0x12, page is not None, page or 0]) + length.to_bytes(2, "big") + b"\0"


def read_identity(standard: bytes, serial_page: bytes = b"", identification_page: bytes = b"") -> Identity | None:
    """The identity that these tell; None = there is no device, or its answer is cut.

    Args:
        serial_page, identification_page: b"" = the device does not have it.
    """
    if len(standard) < _STANDARD_BYTES or standard[0] & 0x1F == _NO_UNIT:
        return None
    serial = _text(_page(serial_page, SERIAL_PAGE))
    return Identity(
        product=_text(standard[16:32]),
        revision=_text(standard[32:36]),
        serial=serial or _serial_of(_page(identification_page, IDENTIFICATION_PAGE), _text(standard[16:32])),
        device_type=standard[0] & 0x1F,
        standard=int.from_bytes(standard[58:60], "big"),
        vendor=_text(standard[8:16]),
    )


def _page(data: bytes, code: int) -> bytes:
    """What stands in a page; b"" unless it is this one."""
    if len(data) < 4 or data[1] != code:
        return b""
    return data[4 : 4 + int.from_bytes(data[2:4], "big")]


def _serial_of(page: bytes, product: str) -> str:
    """The serial number in the designator of the T10 vendor kind, behind vendor and product; else any designator."""
    names = {kind: text for kind, text in _designators(page) if text}
    if _T10 in names:
        return names[_T10][8:].removeprefix(product).strip()
    return next(iter(names.values()), "")


def _designators(page: bytes) -> Iterator[tuple[int, str]]:
    at = 0
    while at + 4 <= len(page):
        code_set, kind, length = page[at] & 0x0F, page[at + 1] & 0x0F, page[at + 3]
        of_unit = page[at + 1] & 0x30 == 0  # not of the port, nor of the target
        body = page[at + 4 : at + 4 + length]
        if of_unit and len(body) == length:
            yield kind, _text(body) if code_set in {2, 3} else body.hex()
        at += 4 + length


def _text(data: bytes) -> str:
    """ASCII without what is around it; what is not printable becomes a question mark."""
    return "".join(chr(each) if 0x20 <= each < 0x7F else "?" for each in data.strip(b" \0"))


class _Bystander(LogicalUnit):
    commands = COMMON


def tell_bystander(identity: Identity, cdb: bytes) -> Answer:
    """What a command from somebody who does not have the device ends with: who it is, or RESERVATION CONFLICT."""
    answer = _Bystander(identity).look_up(cdb, b"", owner=False)
    assert isinstance(answer, Answer)
    return answer
