"""Reports of real changers, whole, cut and hostile. Source: SMC-3 6.10."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.scsi import (
    ASSIGNMENT_REQUESTS,
    MEDIA_CHANGER,
    SMC_3,
    Changer,
    ElementKind,
    Geometry,
    Identity,
    Occupant,
    ReportedElement,
    Sense,
    move_request,
    read_assignment,
    read_elements,
    read_sense,
    status_request,
)
from mover.scsi.unit import Answer

IDENTITY = Identity("LIBRARY", "1", "SERIAL", MEDIA_CHANGER, SMC_3)
GEOMETRY = Geometry(drives=2, slots=3, import_export=1)
FULL = {0x200: Occupant("TAPE01L4"), 0x002: Occupant("TAPE02L4", source=0x201), 0x101: Occupant("NEW", imported=True)}


class Elements:
    """What is in the library."""

    def occupant(self, address: int) -> Occupant | None:
        return FULL.get(address)

    def accessible(self, address: int) -> bool:
        return True

    def designator(self, address: int) -> bytes:
        return b"DRV%07d" % address


def ask(cdb: bytes) -> bytes:
    answer = Changer(IDENTITY, GEOMETRY, Elements()).execute(cdb)
    assert isinstance(answer, Answer)
    assert answer.status == 0
    return answer.data


def report(kind: ElementKind, *, device_ids: bool = False) -> bytes:
    return ask(status_request(kind, GEOMETRY.addresses(kind), 0xFFFF, device_ids=device_ids))


def test_the_emulated_changer_is_read_back() -> None:
    for cdb, header in ASSIGNMENT_REQUESTS:
        assert read_assignment(ask(cdb), header) == {kind: GEOMETRY.addresses(kind) for kind in ElementKind}
    assert read_elements(report(ElementKind.STORAGE), ElementKind.STORAGE) == [
        ReportedElement(ElementKind.STORAGE, 0x200, True, "TAPE01L4"),
        ReportedElement(ElementKind.STORAGE, 0x201, False),
        ReportedElement(ElementKind.STORAGE, 0x202, False),
    ]
    assert read_elements(report(ElementKind.DATA_TRANSFER, device_ids=True), ElementKind.DATA_TRANSFER) == [
        ReportedElement(ElementKind.DATA_TRANSFER, 1, False, device="DRV0000001"),
        ReportedElement(ElementKind.DATA_TRANSFER, 2, True, "TAPE02L4", source=0x201, device="DRV0000002"),
    ]
    assert read_elements(report(ElementKind.IMPORT_EXPORT), ElementKind.IMPORT_EXPORT) == [
        ReportedElement(ElementKind.IMPORT_EXPORT, 0x101, True, "NEW", imported=True)
    ]


def test_a_report_that_is_eight_bytes_short_still_names_its_last_cartridge() -> None:
    data = bytearray(report(ElementKind.STORAGE))
    data[-52 + 2] |= 1  # the last slot is full too
    data[-52 + 12 : -52 + 20] = b"TAPE03L4"
    elements = read_elements(bytes(data[:-8]), ElementKind.STORAGE)
    assert [(each.address, each.barcode) for each in elements if each.full] == [
        (0x200, "TAPE01L4"),
        (0x202, "TAPE03L4"),
    ]
    assert [each.address for each in read_elements(bytes(data[:-9]), ElementKind.STORAGE)] == [0x200, 0x201]


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_a_cut_report_tells_whole_elements_only(cut: int) -> None:
    whole = report(ElementKind.STORAGE)
    elements = read_elements(whole[:cut], ElementKind.STORAGE)
    assert elements == read_elements(whole, ElementKind.STORAGE)[: len(elements)]


def test_another_kind_is_passed_over() -> None:
    both = report(ElementKind.STORAGE) + report(ElementKind.DATA_TRANSFER)[8:]
    assert [each.address for each in read_elements(both, ElementKind.DATA_TRANSFER)] == [1, 2]


def test_what_an_exception_and_odd_names_look_like() -> None:
    each = bytearray(52)
    each[1], each[2], each[4], each[5] = 0x05, 0x05, 0x83, 0x02
    each[12:44] = b"A\x01B" + b"\0" * 29
    data = bytes(8) + bytes([4, 0x80, 0, 52, 0, 0, 0, 52]) + each
    assert read_elements(data, ElementKind.DATA_TRANSFER) == [
        ReportedElement(ElementKind.DATA_TRANSFER, 5, True, "A?B", exception=(0x83, 0x02))
    ]


def test_sense_data_in_both_formats_and_cut() -> None:
    assert read_sense(bytes.fromhex("70 00 05 00000000 0a 00000000 3b 0d 00000000")) == Sense(5, 0x3B, 0x0D)
    assert read_sense(bytes.fromhex("72 05 3b 0e 00 00 00 00")) == Sense(5, 0x3B, 0x0E)
    assert read_sense(b"\x70\0\x06") == Sense(6, 0, 0)
    assert read_sense(b"") == Sense(0, 0, 0)
    assert str(Sense(5, 0x3B, 0x0D)) == "medium destination element full"
    assert str(Sense(0xB, 0x4B, 0)) == "sense Bh, 4Bh/00h"


def test_descriptors_without_a_size_do_not_hold_us_up() -> None:
    for size in (0, 1, 11):
        page = bytes([2, 0x80]) + size.to_bytes(2, "big") + b"\0\xff\xff\xff"
        assert read_elements(bytes(8) + page + bytes(4096), ElementKind.STORAGE) == []


def test_commands() -> None:
    assert move_request(1, 0x1000, 0x100).hex() == "a5000001100001000000" + "0000"
    request = status_request(ElementKind.DATA_TRANSFER, range(256, 258), 4096, device_ids=True)
    assert request.hex() == "b81401000002010010000000"
    assert read_assignment(b"", 8) == read_assignment(bytes(28), 8) == read_assignment(bytes(28), 4) == {}


@settings(max_examples=200)
@given(st.binary(max_size=400), st.sampled_from(ElementKind))
def test_anything_is_read_without_harm(data: bytes, kind: ElementKind) -> None:
    assert all(each.kind is kind for each in read_elements(data, kind))
    for _, header in ASSIGNMENT_REQUESTS:
        assert all(each.stop <= 0x10000 for each in read_assignment(data, header).values())
