"""The emulated tape drive, CDB by CDB, against SSC-4 and SPC-4."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mover.scsi import (
    DISTURBING,
    SSC_4,
    TAPE_DRIVE,
    Answer,
    Fault,
    Identity,
    LoadUnload,
    Locate,
    Status,
    TapeDrive,
    TapeStatus,
)
from mover.scsi.drive import COMMANDS

IDENTITY = Identity("VIRTUAL DRIVE", "0.1", "9876543210", TAPE_DRIVE, SSC_4)
TAPE = TapeStatus(objects=5, file_num=2, space=100 << 20, remaining=99 << 20)


def drive(tape: TapeStatus | None = TAPE, *, write_protected: bool = False, ejects: bool = False) -> TapeDrive:
    return TapeDrive(IDENTITY, tape, write_protected=write_protected, record_bytes_max=1 << 20, ejects=ejects)


def good(cdb: str, unit: TapeDrive | None = None) -> bytes:
    answer = (unit or drive()).execute(bytes.fromhex(cdb))
    assert isinstance(answer, Answer)
    assert (answer.status, answer.sense) == (Status.GOOD, b"")
    return answer.data


def fault(cdb: str, unit: TapeDrive | None = None) -> Fault:
    answer = (unit or drive()).execute(bytes.fromhex(cdb))
    assert isinstance(answer, Answer)
    assert answer.status is Status.CHECK_CONDITION
    code = (answer.sense[2], answer.sense[12], answer.sense[13])
    return next(each for each in Fault if (each.key, each.asc, each.ascq) == code)


def test_who_it_is() -> None:
    assert good("12 00 00 00 24 00")[8:] == b"MOVER   VIRTUAL DRIVE   0.1 "
    assert good("12 00 00 00 ff 00")[:2] == b"\x01\x80"
    assert good("12 01 80 00 ff 00") == bytes.fromhex("01 80 000a") + b"9876543210"
    assert good("12 01 83 00 ff 00")[8:] == b"MOVER   VIRTUAL DRIVE   9876543210"


def test_without_a_cartridge() -> None:
    empty = drive(None)
    for cdb in ("00 00 00 00 00 00", "34 00 00 00 00 00 00 00 00 00", "01 00 00 00 00 00"):
        assert fault(cdb, empty) is Fault.NO_MEDIUM
    assert good("05 00 00 00 00 00", empty) == bytes.fromhex("00 100000 0001")
    assert good("4d 00 40 00 00 00 00 00 ff 00", empty)[4:] == bytes.fromhex("00 2e")


def test_read_position() -> None:
    assert good("00 00 00 00 00 00") == b""
    assert good("34 00 00 00 00 00 00 00 00 00").hex() == "00000000" + "00000005" * 2 + "00" * 8
    assert good("34 06 00 00 00 00 00 00 00 00").hex() == "00" * 8 + f"{5:016x}{2:016x}" + "00" * 8
    begin, late = drive(TapeStatus(objects=0)), drive(TapeStatus(objects=9, early_warning=True))
    assert good("34 00 00 00 00 00 00 00 00 00", begin)[0] == 0x80
    assert good("34 06 00 00 00 00 00 00 00 00", late)[0] == 0x01
    far = drive(TapeStatus(objects=1 << 33))
    assert good("34 00 00 00 00 00 00 00 00 00", far)[:8].hex() == "0600000000000000"
    assert good("34 06 00 00 00 00 00 00 00 00", far)[8:16] == (1 << 33).to_bytes(8, "big")
    unknown = drive(TapeStatus())
    assert good("34 00 00 00 00 00 00 00 00 00", unknown)[0] == 0x04
    assert good("34 06 00 00 00 00 00 00 00 00", unknown)[0] == 0x0C
    assert fault("34 08 00 00 00 00 00 00 00 00") is Fault.FIELD_IN_CDB


def test_motion() -> None:
    unit = drive()
    assert unit.execute(bytes.fromhex("01 00 00 00 00 00")) == Locate("object", 0)
    assert unit.execute(bytes.fromhex("2b 00 00 00000102 00 00 00")) == Locate("object", 0x102)
    assert unit.execute(bytes.fromhex("92 00 00 00 0000000100000000 00 00 00 00")) == Locate("object", 1 << 32)
    assert unit.execute(bytes.fromhex("92 08 00 00 0000000000000003 00 00 00 00")) == Locate("file", 3)
    assert unit.execute(bytes.fromhex("92 18 00 00 0000000000000003 00 00 00 00")) == Locate("end")
    assert unit.execute(bytes.fromhex("2b 02 00 00000001 00 00 00")) == Locate("object", 1)
    for cdb in (
        "2b 04 00 00000001 00 00 00",
        "2b 02 00 00000001 00 01 00",
        "92 10 00 00 0000000000000003 00 00 00 00",
        "92 02 00 01 0000000000000003 00 00 00 00",
    ):
        assert fault(cdb) is Fault.FIELD_IN_CDB
    assert fault("01 00 00 00 00 00", drive(TapeStatus())) is Fault.OPERATION_CODE


def test_load_and_unload_where_nobody_has_the_tape_open() -> None:
    assert fault("1b 00 00 00 01 00") is Fault.OPERATION_CODE
    unit = drive(None, ejects=True)
    assert unit.execute(bytes.fromhex("1b 00 00 00 01 00")) == LoadUnload(load=True)
    assert unit.execute(bytes.fromhex("1b 01 00 00 00 00")) == LoadUnload(load=False)
    assert fault("1b 00 00 00 08 00", unit) is Fault.FIELD_IN_CDB


def test_pages() -> None:
    descriptor = "0000000000000000"
    assert good("1a 00 00 00 ff 00").hex() == "0b001008" + descriptor
    assert (
        good("1a 08 10 00 ff 00", drive(write_protected=True)).hex()
        == "13009000" + "100e000000000000" + "40" + "00" * 7
    )
    assert good("5a 00 3f 00 00 00 00 00 ff 00").hex()[:16] == "002e001000000008"
    assert good("4d 00 40 00 00 00 00 00 ff 00")[4:] == bytes.fromhex("00 2e 31")
    assert (
        good("4d 00 71 00 00 00 00 00 ff 00").hex() == "31000010" + "00010304" + f"{99:08x}" + "00030304" + f"{100:08x}"
    )
    alerts = good("4d 00 6e 00 00 00 00 ff ff 00", drive(TAPE._replace(failed=True)))
    assert (len(alerts), alerts[4 + 2 * 5 : 4 + 3 * 5].hex()) == (4 + 64 * 5, "0003030101")
    assert sum(alerts[8::5]) == 1


def test_what_disturbs_is_not_what_is_answered() -> None:
    assert not DISTURBING & COMMANDS.keys()


@settings(max_examples=300, deadline=None)
@given(
    opcode=st.sampled_from(sorted(COMMANDS)) | st.integers(0, 255),
    rest=st.binary(max_size=20),
    tape=st.none() | st.builds(TapeStatus, objects=st.none() | st.integers(0, 1 << 40)),
)
def test_every_cdb_has_an_answer(opcode: int, rest: bytes, tape: TapeStatus | None) -> None:
    answer = drive(tape, ejects=True).execute(bytes([opcode]) + rest)
    if isinstance(answer, Answer):
        assert (answer.status is Status.CHECK_CONDITION) == bool(answer.sense)
