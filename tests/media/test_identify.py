"""What a first record is: real layouts of each program, cut anywhere, and bytes that are nothing."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.media import Identified, Label, encode_label, identify

OURS = encode_label(Label("A00001", "0" * 32, 1_700_000_000))
AMANDA = b"AMANDA: TAPESTART DATE 20240101000000 TAPE Daily-01\n\014\n".ljust(32768, b"\0")
AMANDA_FILE = b"AMANDA: SPLIT_FILE 20240101 host /srv part 1/-1 lev 0 comp .gz program /bin/tar\n".ljust(32768, b"\0")
# Media header, as its maker's support pages show it.
NETBACKUP = (b"VOL1ABC123".ljust(0x70, b"\0") + b"ThIs Is A BP tApE hEaDer").ljust(1024, b"\0")
LTFS = b"VOL1LTO123L".ljust(24) + b"LTFS".ljust(55) + b"4"


def bacula(identifier: bytes, index: int, data: bytes) -> bytes:
    """A block with one record, in both formats of blocks."""
    fields = struct.pack(">iII", index, 0, len(data))
    if identifier == b"BB01":
        fields = struct.pack(">II", 1, 2) + fields
    else:
        identifier += struct.pack(">II", 1, 2)
    rest = struct.pack(">I", 0) + identifier + fields + data
    return struct.pack(">II", 0x12345678, len(rest) + 8) + rest


def volume_label(program: bytes) -> bytes:
    times = struct.pack(">qqdd", 1, 2, 0.0, 0.0)
    strings = b"\0".join([b"Full-0001", b"", b"Full", b"Backup", b"LTO", b"host", b"bareos-sd", b""])
    return program + b"\n\0" + struct.pack(">I", 11) + times + strings


RECORDS = {
    "ours": (OURS, Identified("label", "mover", "A00001")),
    "ours, broken": (
        OURS.replace(b"A00001", b"A00002"),
        Identified("label", "mover", "(a label of mover whose checksum is wrong)"),
    ),
    "ndmjob": (b"##ndmjob -m TAPE01\n".ljust(512, b"\0"), Identified("label", "ndmjob", "TAPE01")),
    "ndmjob's volume": (b"##ndmjob -V TAPE01\n".ljust(512, b"\0"), Identified("label", "ndmjob", "TAPE01")),
    "Amanda": (AMANDA, Identified("label", "amanda", "Daily-01")),
    "Amanda's dump": (
        AMANDA_FILE,
        Identified("header", "amanda", "SPLIT_FILE 20240101 host /srv part 1/-1 lev 0 comp .gz program /bin/tar"),
    ),
    "Amanda's end": (b"AMANDA: TAPEEND DATE X\n", Identified("label", "amanda", "TAPEEND DATE X")),
    "Bareos": (bacula(b"BB02", -2, volume_label(b"Bareos 2.0 immortal")), Identified("label", "bacula", "Full-0001")),
    "Bacula": (bacula(b"BB01", -1, volume_label(b"Bacula 1.0 immortal")), Identified("label", "bacula", "Full-0001")),
    "Bacula's blocks": (bacula(b"BB02", 1, b"data"), Identified("blocks", "bacula")),
    "NetBackup": (NETBACKUP, Identified("label", "netbackup", "ABC123")),
    "LTFS": (LTFS, Identified("label", "ltfs", "LTO123")),
    "ANSI": (b"VOL1SCRATC".ljust(79) + b"3", Identified("label", "ansi", "SCRATC")),
    "ANSI, of a file": (b"HDR1PAYROLL".ljust(80), Identified("label", "ansi", "HDR1 PAYROLL")),
    "IBM": ("VOL1IBM001".ljust(80).encode("cp037"), Identified("label", "ibm", "IBM001")),
    "dump": (struct.pack("<6Ii", 1, 0, 0, 0, 0, 0, 60012).ljust(1024, b"\1"), Identified("dump")),
    "dump, big-endian": (struct.pack(">6Ii", 1, 0, 0, 0, 0, 0, 60012).ljust(1024, b"\1"), Identified("dump")),
    "tar": (bytes(257) + b"ustar\x0000" + bytes(248), Identified("tar")),
    "zeros": (bytes(1024), Identified("unknown")),
    "nothing": (b"", Identified("unknown")),
}


@pytest.mark.parametrize("name", RECORDS)
def test_what_a_record_is(name: str) -> None:
    record, expected = RECORDS[name]
    assert identify(record) == expected


@pytest.mark.parametrize("name", RECORDS)
def test_records_cut_anywhere(name: str) -> None:
    record = RECORDS[name][0][:2048]
    for end in range(0, len(record), 1 if len(record) < 300 else 7):
        found = identify(record[:end])
        assert len(found.text) < 400
        assert found.text.isprintable()


@settings(max_examples=200)
@given(
    st.sampled_from(
        [b"", b"AMANDA: ", b"##ndmjob -m", b"VOL1", b"mover label 1\n", bytes(12) + b"BB02", b"\xe5\xd6\xd3\xf1"]
    ),
    st.binary(max_size=600),
)
def test_anything_is_something_printable(start: bytes, rest: bytes) -> None:
    found = identify(start + rest)
    assert found.text.isprintable()
