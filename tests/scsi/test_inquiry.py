"""Who real devices say they are. Source: SPC-4 6.6, 7.8."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mover.scsi import (
    IDENTIFICATION_PAGE,
    MEDIA_CHANGER,
    SERIAL_PAGE,
    SMC_3,
    SSC_4,
    TAPE_DRIVE,
    Identity,
    TapeDrive,
    inquiry,
    read_identity,
)
from mover.scsi.unit import Answer

STANDARD = bytes([1, 0x80, 6, 2, 91, 0, 0, 0]) + b"IBM     ULT3580-TD4     C7QH" + bytes(60)
SERIAL = b"\x01\x80\0\x0a" + b"DRV0000001"


def page_83(*designators: bytes) -> bytes:
    body = b"".join(designators)
    return b"\x01\x83" + len(body).to_bytes(2, "big") + body


T10 = b"\x02\x01\0\x22IBM     ULT3580-TD4     DRV0000002"
NAA = b"\x01\x03\0\x08" + bytes.fromhex("5005076300000001")
PORT = b"\x02\x11\0\x04PORT"


def test_an_identity_of_all_pages() -> None:
    assert read_identity(STANDARD, SERIAL) == Identity("ULT3580-TD4", "C7QH", "DRV0000001", TAPE_DRIVE, 0, vendor="IBM")


def test_the_serial_number_is_looked_for_where_it_may_be() -> None:
    def serial(*pages: bytes) -> str:
        identity = read_identity(STANDARD, *pages)
        assert identity is not None
        return identity.serial

    assert serial(b"", page_83(PORT, NAA, T10)) == "DRV0000002"
    assert serial(b"", page_83(PORT, NAA)) == "5005076300000001"
    assert serial(b"\x01\x80\0\x04    ", page_83(NAA)) == "5005076300000001"
    assert serial(SERIAL[:8]) == "DRV0"  # cut
    assert serial(b"\x01\x00" + SERIAL[2:]) == ""  # another page
    assert serial() == ""
    assert serial(b"\x01\x80\0\x03A\xffB") == "A?B"


def test_nobody_there() -> None:
    assert read_identity(b"") is None
    assert read_identity(STANDARD[:35]) is None
    assert read_identity(b"\x7f" + STANDARD[1:]) is None


def test_our_own_drive_is_read_back() -> None:
    identity = Identity("VIRTUAL DRIVE", "0.1", "9876543210", TAPE_DRIVE, SSC_4)
    drive = TapeDrive(identity, None, write_protected=False, record_bytes_max=1 << 20)

    def ask(page: int | None) -> bytes:
        answer = drive.execute(inquiry(page))
        assert isinstance(answer, Answer)
        return answer.data

    seen = read_identity(ask(None), ask(SERIAL_PAGE), ask(IDENTIFICATION_PAGE))
    assert seen is not None
    assert (seen.vendor, seen.product, seen.serial) == ("MOVER", "VIRTUAL DRIVE", "9876543210")
    assert read_identity(ask(None), b"", ask(IDENTIFICATION_PAGE)) == seen
    assert seen.standard != SMC_3
    assert seen.device_type != MEDIA_CHANGER


@settings(max_examples=200)
@given(st.binary(min_size=30, max_size=120), st.binary(max_size=60), st.binary(max_size=60))
def test_anything_is_read_without_harm(standard: bytes, serial: bytes, identification: bytes) -> None:
    identity = read_identity(standard, b"\x01\x80" + serial, b"\x01\x83" + identification)
    assert identity is None or identity.serial.isprintable()
