"""The emulated media changer, CDB by CDB, against SMC-3 and SPC-4."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.scsi import (
    MEDIA_CHANGER,
    SMC_3,
    Answer,
    Changer,
    Fault,
    Geometry,
    Identity,
    Moves,
    Occupant,
    Status,
    TakeInventory,
)
from mover.scsi.changer import COMMANDS

IDENTITY = Identity("VIRTUAL LIBRARY", "0.1", "0123456789", MEDIA_CHANGER, SMC_3)
SLOT, MAIL, DRIVE = 0x200, 0x101, 0x001


class Shelf:
    """Elements as a table; drive 1 is open."""

    def __init__(self) -> None:
        self.there = {
            SLOT: Occupant("A", SLOT),
            SLOT + 2: Occupant("C"),
            MAIL: Occupant("M", None, imported=True),
            DRIVE + 1: Occupant("D", SLOT + 1),
        }

    def occupant(self, address: int) -> Occupant | None:
        return self.there.get(address)

    def accessible(self, address: int) -> bool:
        return address != DRIVE + 1

    def designator(self, address: int) -> bytes:
        return b"drive %d" % address


@pytest.fixture
def changer() -> Changer:
    return Changer(IDENTITY, Geometry(drives=2, slots=3, import_export=1), Shelf())


def good(changer: Changer, cdb: str, data_out: bytes = b"") -> bytes:
    answer = changer.execute(bytes.fromhex(cdb), data_out)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.sense) == (Status.GOOD, b"")
    return answer.data


def fault(changer: Changer, cdb: str, data_out: bytes = b"") -> tuple[Fault, int | None]:
    """The sense data as a row of the table, and the wrong field."""
    answer = changer.execute(bytes.fromhex(cdb), data_out)
    assert isinstance(answer, Answer)
    assert answer.status is Status.CHECK_CONDITION
    sense = answer.sense
    assert (sense[0], len(sense), sense[7]) == (0x70, 18, 10)
    (found,) = [each for each in Fault if (each.key, each.asc, each.ascq) == (sense[2], sense[12], sense[13])]
    return found, int.from_bytes(sense[16:18], "big") if sense[15] & 0x80 else None


def test_inquiry(changer: Changer) -> None:
    data = good(changer, "12 00 00 00 ff 00")
    assert data[:5] == bytes([0x08, 0x80, 0x06, 0x02, len(data) - 5])
    assert data[8:36] == b"MOVER   VIRTUAL LIBRARY 0.1 "
    assert data[58:62].hex() == "04600480"
    assert good(changer, "12 00 00 00 05 00") == data[:5]
    assert fault(changer, "12 00 80 00 ff 00") == (Fault.FIELD_IN_CDB, 2)


def test_vital_product_data(changer: Changer) -> None:
    assert good(changer, "12 01 00 00 ff 00") == bytes.fromhex("08 00 0003 00 80 83")
    assert good(changer, "12 01 80 00 ff 00") == bytes.fromhex("08 80 000a") + b"0123456789"
    designator = b"MOVER   VIRTUAL LIBRARY 0123456789"
    assert good(changer, "12 01 83 00 ff 00") == bytes.fromhex("08 83 0026 02 01 00 22") + designator
    assert fault(changer, "12 01 b0 00 ff 00") == (Fault.FIELD_IN_CDB, 2)


def test_ready_sense_and_luns(changer: Changer) -> None:
    assert good(changer, "00 00 00 00 00 00") == b""
    assert good(changer, "03 00 00 00 ff 00") == bytes.fromhex("70 00 00 00000000 0a") + bytes(10)
    assert fault(changer, "03 01 00 00 ff 00") == (Fault.FIELD_IN_CDB, 1)
    assert good(changer, "a0 00 00 00 00 00 00 00 00 40 00 00") == bytes.fromhex("00000008 00000000") + bytes(8)
    assert good(changer, "a0 00 01 00 00 00 00 00 00 40 00 00") == bytes(8)


ADDRESSES = "1d 12 0000 0001 0200 0003 0101 0001 0001 0002 0000"
GEOMETRY = "1e 02 00 00"
CAPABILITIES = "1f 12 0e 00 00 0e 0e 0e 00000000 00 0e 0e 0e 00000000"


def test_mode_pages(changer: Changer) -> None:
    assert good(changer, "1a 08 1d 00 ff 00") == bytes.fromhex("17 00 00 00" + ADDRESSES)
    assert good(changer, "1a 00 1e 00 ff 00") == bytes.fromhex("07 00 00 00" + GEOMETRY)
    assert good(changer, "1a 00 1f 00 ff 00") == bytes.fromhex("17 00 00 00" + CAPABILITIES)
    every = bytes.fromhex(ADDRESSES + GEOMETRY + CAPABILITIES)
    assert good(changer, "1a 00 3f 00 ff 00") == bytes([3 + len(every), 0, 0, 0]) + every
    assert good(changer, "5a 00 3f 00 00 00 00 02 00 00") == bytes([0, 6 + len(every), *bytes(6)]) + every
    assert good(changer, "5a 00 3f ff 00 00 00 00 09 00") == bytes([0, 6 + len(every), *bytes(6), 0x1D])
    assert good(changer, "1a 00 5e 00 ff 00") == bytes.fromhex("07 00 00 00 1e 02 00 00")  # changeable: nothing
    assert fault(changer, "1a 00 de 00 ff 00") == (Fault.SAVING_PARAMETERS, None)
    assert fault(changer, "1a 00 10 00 ff 00") == (Fault.FIELD_IN_CDB, 2)
    assert fault(changer, "1a 00 1d 01 ff 00") == (Fault.FIELD_IN_CDB, 3)
    assert fault(changer, "1a 00 00 00 ff 00") == (Fault.FIELD_IN_CDB, 2)


def test_a_library_without_a_mail_slot_says_so() -> None:
    changer = Changer(IDENTITY, Geometry(drives=1, slots=1, import_export=0), Shelf())
    assert good(changer, "1a 00 1d 00 ff 00")[4:] == bytes.fromhex("1d 12 0000 0001 0200 0001 0000 0000 0001 0001 0000")
    assert good(changer, "1a 00 1f 00 ff 00")[6:12] == bytes.fromhex("0a 00 00 0a 00 0a")
    assert fault(changer, f"a5 00 0000 0200 {MAIL:04x} 0000 00 00") == (Fault.ELEMENT_ADDRESS, None)


def test_mode_select_takes_what_is_so(changer: Changer) -> None:
    page = bytes.fromhex(GEOMETRY)
    answer = changer.execute(bytes.fromhex("15 10 00 00 08 00"), bytes(4) + page)
    assert answer == Answer(taken=8)
    answer = changer.execute(bytes.fromhex("55 10 00 00 00 00 00 00 0c 00"), bytes(8) + page)
    assert answer == Answer(taken=12)
    assert changer.execute(bytes.fromhex("15 10 00 00 00 00")) == Answer()
    wrong = bytes(4) + bytes.fromhex("1e 02 01 00")
    assert fault(changer, "15 10 00 00 08 00", wrong) == (Fault.FIELD_IN_PARAMETERS, 4)
    assert fault(changer, "15 10 00 00 08 00", bytes(4))[0] is Fault.PARAMETER_LIST_LENGTH
    assert fault(changer, "15 10 00 00 07 00", bytes(4) + page)[0] is Fault.PARAMETER_LIST_LENGTH
    assert fault(changer, "15 10 00 00 02 00", bytes(4))[0] is Fault.PARAMETER_LIST_LENGTH
    assert fault(changer, "15 00 00 00 00 00") == (Fault.FIELD_IN_CDB, 1)
    assert fault(changer, "15 11 00 00 00 00") == (Fault.SAVING_PARAMETERS, None)


def test_log_pages_count_moves(changer: Changer) -> None:
    assert good(changer, "4d 00 40 00 00 00 00 00 ff 00") == bytes.fromhex("00 00 0002 00 14")
    changer.moved(3)
    counter = "03 04 00000003"
    assert good(changer, "4d 00 54 00 00 00 00 00 ff 00") == bytes.fromhex(
        f"14 00 0018 0000 {counter} 0001 {counter} 0003 {counter}"
    )
    assert fault(changer, "4d 00 6e 00 00 00 00 00 ff 00") == (Fault.FIELD_IN_CDB, 2)
    assert fault(changer, "4d 00 14 00 00 00 00 00 ff 00") == (Fault.FIELD_IN_CDB, 2)
    assert fault(changer, "4d 01 54 00 00 00 00 00 ff 00") == (Fault.SAVING_PARAMETERS, None)


A_TAG = b"A".ljust(32) + bytes(4)
EMPTY_SLOT = "0201 08 000000 0000 00 00 0000"
STORAGE_PAGE = (
    bytes.fromhex("02 80 0034 00 00009c")
    + bytes.fromhex("0200 09 000000 0000 00 81 0200") + A_TAG + bytes(4)
    + bytes.fromhex(EMPTY_SLOT) + bytes(36) + bytes(4)
    + bytes.fromhex("0202 09 000000 0000 00 01 0000") + b"C".ljust(32) + bytes(8)
)  # fmt: skip


def test_read_element_status_of_slots_with_volume_tags(changer: Changer) -> None:
    data = good(changer, "b8 12 0000 ffff 00 001000 00 00")
    assert data == bytes.fromhex("0200 0003 00 0000a4") + STORAGE_PAGE
    assert good(changer, "b8 02 0201 0001 00 001000 00 00") == bytes.fromhex(
        f"0201 0001 00 000018 02 00 0010 00 000010 {EMPTY_SLOT} 00000000"
    )
    assert good(changer, "b8 02 ffff 0001 00 001000 00 00") == bytes.fromhex("0000 0000 00 000000")


def test_read_element_status_of_all_kinds(changer: Changer) -> None:
    data = good(changer, "b8 00 0000 ffff 01 001000 00 00")
    transport = "01 00 0010 00 000010 0000 00 000000 0000 00 00 0000 00000000"
    storage = (
        "02 00 0010 00 000030 0200 09 000000 0000 00 81 0200 00000000"
        f"{EMPTY_SLOT} 00000000 0202 09 000000 0000 00 01 0000 00000000"
    )
    mail = "03 00 0010 00 000010 0101 3b 000000 0000 00 01 0000 00000000"
    drives = (
        bytes.fromhex("04 00 0017 00 00002e 0001 08 000000 3001 00 00 0000 02 01 00 07") + b"drive 1"
        + bytes.fromhex("0002 01 000000 3002 00 81 0201 02 01 00 07") + b"drive 2"
    )  # fmt: skip
    pages = bytes.fromhex(transport + storage + mail) + drives
    assert data == bytes.fromhex("0000 0007 00") + len(pages).to_bytes(3, "big") + pages
    first_five = good(changer, "b8 00 0000 0005 01 001000 00 00")
    assert first_five[2:4] == b"\0\5"
    assert first_five[8:] == bytes.fromhex(transport + storage + mail)


@pytest.mark.parametrize(
    ("length", "given"), [(0, 0), (5, 5), (8, 8), (15, 8), (16, 16), (67, 16), (68, 68), (171, 120), (172, 172)]
)
def test_descriptors_come_whole_and_the_header_tells_of_all(changer: Changer, length: int, given: int) -> None:
    whole = bytes.fromhex("0200 0003 00 0000a4") + STORAGE_PAGE
    assert good(changer, f"b8 12 0000 ffff 00 {length:06x} 00 00") == whole[:given]


def test_element_types_that_are_none(changer: Changer) -> None:
    assert fault(changer, "b8 05 0000 ffff 00 001000 00 00") == (Fault.FIELD_IN_CDB, 1)


def test_moves(changer: Changer) -> None:
    assert changer.execute(bytes.fromhex("a5 00 0000 0200 0001 0000 00 00")) == Moves(((0x200, 1),))
    assert changer.execute(bytes.fromhex("a6 00 0000 0200 0001 0101 00 00")) == Moves(((1, 0x101), (0x200, 1)))
    assert changer.execute(bytes.fromhex("a6 00 0000 0200 0001 0200 00 00")) == Moves(((1, 0x200), (0x200, 1)))
    assert good(changer, "2b 00 0000 0202 0000 00 00") == b""
    assert fault(changer, "a5 00 0001 0200 0001 0000 00 00") == (Fault.ELEMENT_ADDRESS, None)
    assert fault(changer, "a5 00 0000 0203 0001 0000 00 00") == (Fault.ELEMENT_ADDRESS, None)
    assert fault(changer, "a5 00 0000 0200 0100 0000 00 00") == (Fault.ELEMENT_ADDRESS, None)
    assert fault(changer, "a5 00 0000 0200 0000 0000 00 00") == (Fault.FIELD_IN_CDB, 6)
    assert fault(changer, "a5 00 0000 0200 0001 0000 01 00") == (Fault.FIELD_IN_CDB, 10)
    assert fault(changer, "a6 00 0000 0200 0001 0001 00 00") == (Fault.FIELD_IN_CDB, 6)
    assert fault(changer, "a6 00 0000 0200 0001 0101 02 00") == (Fault.FIELD_IN_CDB, 10)
    assert fault(changer, "2b 00 0000 0300 0000 00 00") == (Fault.ELEMENT_ADDRESS, None)
    assert fault(changer, "2b 00 0000 0200 0000 01 00") == (Fault.FIELD_IN_CDB, 8)


def test_inventories(changer: Changer) -> None:
    for cdb in ("07 00 00 00 00 00", "37 00 ffff 0000 0000 00 00", "e7 01 0200 0000 0001 00 00"):
        assert changer.execute(bytes.fromhex(cdb)) == TakeInventory()
    assert fault(changer, "37 01 ffff 0000 0001 00 00") == (Fault.ELEMENT_ADDRESS, None)


def test_locks_hold_until_they_are_lifted_reset_or_forgotten(changer: Changer) -> None:
    def lock() -> None:
        good(changer, "1e 00 00 00 01 00")
        good(changer, "16 00 00 00 00 00")
        assert (changer.removal_prevented, changer.reserved) == (True, True)

    lock()
    good(changer, "1e 00 00 00 00 00")
    good(changer, "57 00 00 00 00 00 00 00 00 00")
    assert (changer.removal_prevented, changer.reserved) == (False, False)
    lock()
    changer.reset(Fault.DEVICE_RESET)
    assert (changer.removal_prevented, changer.reserved) == (False, False)
    assert fault(changer, "00 00 00 00 00 00") == (Fault.DEVICE_RESET, None)
    lock()
    changer.forget()
    assert (changer.removal_prevented, changer.reserved) == (False, False)
    assert fault(changer, "1e 00 00 00 02 00") == (Fault.FIELD_IN_CDB, 4)
    assert fault(changer, "56 01 00 00 00 00 00 00 00 00") == (Fault.FIELD_IN_CDB, 1)


def test_unit_attentions_are_told_once_each_and_in_order(changer: Changer) -> None:
    changer.attend(Fault.IMPORT_EXPORT_ACCESSED)
    changer.attend(Fault.MEDIUM_CHANGED)
    changer.attend(Fault.IMPORT_EXPORT_ACCESSED)
    assert good(changer, "12 00 00 00 05 00")  # not concerned
    assert good(changer, "a0 00 00 00 00 00 00 00 00 40 00 00")
    assert fault(changer, "b8 00 0000 ffff 00 001000 00 00") == (Fault.IMPORT_EXPORT_ACCESSED, None)
    assert good(changer, "03 00 00 00 12 00")[12:14] == bytes.fromhex("2800")
    assert good(changer, "00 00 00 00 00 00") == b""
    changer.attend(Fault.MEDIUM_CHANGED)
    changer.forget()
    assert good(changer, "00 00 00 00 00 00") == b""


def test_who_does_not_have_it_may_ask_its_name(changer: Changer) -> None:
    for cdb in ("12 00 00 00 24 00", "03 00 00 00 12 00", "a0 00 00 00 00 00 00 00 00 40 00 00"):
        answer = changer.execute(bytes.fromhex(cdb), owner=False)
        assert isinstance(answer, Answer)
        assert answer.status is Status.GOOD
    for cdb in ("00 00 00 00 00 00", "a5 00 0000 0200 0001 0000 00 00", "ff", ""):
        assert changer.execute(bytes.fromhex(cdb), owner=False) == Answer(Status.RESERVATION_CONFLICT)


def test_broken_cdbs(changer: Changer) -> None:
    assert fault(changer, "") == (Fault.OPERATION_CODE, 0)
    assert fault(changer, "ff 00 00 00 00 00") == (Fault.OPERATION_CODE, 0)
    assert fault(changer, "a5 00 0000 0200") == (Fault.FIELD_IN_CDB, 6)
    assert fault(changer, "00 00 00 00 00 04") == (Fault.FIELD_IN_CDB, 5)  # NACA


@settings(max_examples=300, deadline=None)
@given(
    opcode=st.sampled_from(sorted(COMMANDS)) | st.integers(0, 255),
    rest=st.binary(max_size=20),
    out=st.binary(max_size=40),
)
def test_every_cdb_has_an_answer(opcode: int, rest: bytes, out: bytes) -> None:
    changer = Changer(IDENTITY, Geometry(drives=2, slots=3, import_export=1), Shelf())
    answer = changer.execute(bytes([opcode]) + rest, out)
    match answer:
        case Moves():
            for source, destination in answer.steps:
                assert changer.geometry.kind_of(source) is not None
                assert changer.geometry.kind_of(destination) is not None
        case Answer(status=Status.CHECK_CONDITION):
            assert len(answer.sense) == 18
            assert answer.data == b""
        case Answer():
            assert answer.sense == b""
            assert answer.taken <= len(out)
        case _:
            assert answer == TakeInventory()
