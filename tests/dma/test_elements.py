"""What changers say, right and wrong: our own emulation's answers, cut and changed anywhere."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.dma import ChangerError
from mover.dma.elements import Element, ElementKind, read_assignment, read_status

# Source: SMC-3 tables 36 to 45. One drive with voltag and designator, full from element 0x200; two slots.
DRIVE = bytes.fromhex("0001 09 00 0000 0000 00 81 0200") + b"VTL00001".ljust(36) + b"\x02\x01\x00\x08MOVER-12"
DRIVES = bytes.fromhex("0001 0001 00 000044 04 80 003c 00 00003c") + DRIVE
SLOTS = bytes.fromhex("0200 0002 00 000028 02 00 0010 00 000020") + bytes.fromhex(
    "0200 08 00 0000 0000 00 00 0000 00000000 0201 09 00 0000 0000 00 01 0000 00000000"
)
PAGE = bytes.fromhex("17 00 00 00 1d 12 0000 0001 0200 0008 0101 0002 0001 0001 0000")


def test_elements() -> None:
    assert read_status(DRIVES, ElementKind.DATA_TRANSFER) == [
        Element(1, ElementKind.DATA_TRANSFER, True, "VTL00001", 0x200, True, b"MOVER-12")
    ]
    slots = read_status(SLOTS, ElementKind.STORAGE)
    assert [(each.address, each.full, each.barcode, each.source) for each in slots] == [
        (0x200, False, "", None), (0x201, True, "", None),
    ]  # fmt: skip
    assert read_status(SLOTS, ElementKind.DATA_TRANSFER) == []


def test_addresses() -> None:
    assert read_assignment(PAGE) == {
        ElementKind.STORAGE: range(0x200, 0x208),
        ElementKind.IMPORT_EXPORT: range(0x101, 0x103),
        ElementKind.DATA_TRANSFER: range(1, 2),
    }
    with_block = bytes([0x1F, 0, 0, 8]) + bytes(8) + PAGE[4:]
    assert read_assignment(with_block) == read_assignment(PAGE)
    for cut in range(22):
        with pytest.raises(ChangerError):
            read_assignment(PAGE[:cut])


def test_descriptors_that_are_no_descriptors() -> None:
    with pytest.raises(ChangerError, match="11 bytes each"):
        read_status(SLOTS[:10] + b"\0\x0b" + SLOTS[12:], ElementKind.STORAGE)


@pytest.mark.parametrize(("data", "enough"), [(DRIVES, 44), (SLOTS, 12)])
def test_cut_anywhere(data: bytes, enough: int) -> None:
    kind = ElementKind(data[8])
    whole = read_status(data, kind)
    size = len(data[16:]) // len(whole)
    for cut in range(len(data)):
        there, rest = divmod(max(cut - 16, 0), size)
        elements = read_status(data[:cut], kind)
        assert elements[:there] == whole[:there]
        assert [(each.barcode, each.full, each.designator) for each in elements[there:]] == [
            (whole[there].barcode, whole[there].full, b"")
        ] * (rest >= enough)


@settings(max_examples=100)
@given(st.binary(max_size=300), st.sampled_from(ElementKind))
def test_any_bytes(data: bytes, kind: ElementKind) -> None:
    for read in (lambda: read_status(data, kind), lambda: read_assignment(data)):
        with contextlib.suppress(ChangerError):
            read()
