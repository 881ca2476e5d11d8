"""Sense data taken apart, whatever a device sends, and its meaning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mover.tape.codes import Error
from mover.tape.sense import MEANINGS, Key, Meaning, Sense, parse_sense


def fixed(key: int, asc: int, ascq: int, *, flags: int = 0, information: int | None = None, code: int = 0x70) -> bytes:
    valid = 0x80 if information is not None else 0
    return (
        bytes([valid | code, 0, flags | key])
        + (information or 0).to_bytes(4, signed=True)
        + bytes([10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0])
    )


def descriptors(key: int, asc: int, ascq: int, *parts: bytes, code: int = 0x72) -> bytes:
    rest = b"".join(parts)
    return bytes([code, key, asc, ascq, 0, 0, 0, len(rest)]) + rest


INFORMATION = b"\x00\x0a\x80\x00"
STREAM = b"\x04\x02\x00"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (fixed(0, 0, 1, flags=0x80, information=3), Sense(Key.NO_SENSE, 0, 1, 3, filemark=True)),
        (fixed(0, 0, 0, flags=0x20, information=-100), Sense(Key.NO_SENSE, 0, 0, -100, ili=True)),
        (fixed(8, 0, 5), Sense(Key.BLANK_CHECK, 0, 5)),
        (fixed(3, 0x11, 0, code=0x71), Sense(Key.MEDIUM_ERROR, 0x11, 0, deferred=True)),
        (b"\x70\x00\x42", Sense(Key.NOT_READY, eom=True)),
        (
            descriptors(0, 0, 1, INFORMATION + (7).to_bytes(8), STREAM + b"\x80"),
            Sense(Key.NO_SENSE, 0, 1, 7, filemark=True),
        ),
        (
            descriptors(0, 0, 0, INFORMATION + (-512).to_bytes(8, signed=True), STREAM + b"\x20"),
            Sense(Key.NO_SENSE, 0, 0, -512, ili=True),
        ),
        (
            descriptors(0, 0, 0, INFORMATION + (0xFFFFFE00).to_bytes(8), STREAM + b"\x20"),
            Sense(Key.NO_SENSE, 0, 0, -512, ili=True),
        ),
        (descriptors(5, 0x20, 0, b"\x80\x03abc", code=0x73), Sense(Key.ILLEGAL_REQUEST, 0x20, deferred=True)),
    ],
)
def test_both_formats(data: bytes, expected: Sense) -> None:
    assert parse_sense(data) == expected


@given(st.binary(max_size=300))
def test_whatever_comes_is_taken_apart_or_refused(data: bytes) -> None:
    sense = parse_sense(data)
    assert sense is None or str(sense).startswith(sense.meaning.words)


@pytest.mark.parametrize("cut", range(24))
def test_cut_anywhere(cut: int) -> None:
    whole = descriptors(0, 0, 1, INFORMATION + (7).to_bytes(8), STREAM + b"\x80")
    sense = parse_sense(whole[:cut])
    assert (sense is None) == (cut < 4)


@pytest.mark.parametrize(
    ("sense", "meaning", "error"),
    [
        (Sense(Key.NO_SENSE), Meaning.NOTHING, Error.NO_ERR),
        (Sense(Key.NO_SENSE, filemark=True), Meaning.FILEMARK, Error.NO_ERR),
        (Sense(Key.RECOVERED_ERROR, 0x17, 1, filemark=True), Meaning.FILEMARK, Error.NO_ERR),
        (Sense(Key.NO_SENSE, eom=True), Meaning.EARLY_WARNING, Error.NO_ERR),
        (Sense(Key.NO_SENSE, 0, 2, eom=True), Meaning.EARLY_WARNING, Error.NO_ERR),
        (Sense(Key.NO_SENSE, 0, 4, eom=True), Meaning.BEGINNING, Error.NO_ERR),
        (Sense(Key.NO_SENSE, 0, 5), Meaning.END_OF_DATA, Error.NO_ERR),
        (Sense(Key.BLANK_CHECK, eom=True), Meaning.END_OF_DATA, Error.NO_ERR),
        (Sense(Key.VOLUME_OVERFLOW, 0, 2, eom=True), Meaning.END_OF_MEDIUM, Error.IO),
        (Sense(Key.MEDIUM_ERROR, 0, 2, eom=True), Meaning.END_OF_MEDIUM, Error.IO),
        (Sense(Key.MEDIUM_ERROR, 0x31, 0), Meaning.MEDIUM_ERROR, Error.IO),
        (Sense(Key.NOT_READY, 0x3A, 2), Meaning.NO_MEDIUM, Error.NO_TAPE_LOADED),
        (Sense(Key.NOT_READY, 4, 1), Meaning.BECOMING_READY, Error.NO_TAPE_LOADED),
        (Sense(Key.UNIT_ATTENTION, 0x29, 0), Meaning.RESET, Error.IO),
        (Sense(Key.UNIT_ATTENTION, 0x28, 0), Meaning.MEDIUM_CHANGED, Error.IO),
        (Sense(Key.UNIT_ATTENTION, 0x77, 7), Meaning.ATTENTION, Error.IO),
        (Sense(Key.DATA_PROTECT, 0x27, 0), Meaning.WRITE_PROTECTED, Error.WRITE_PROTECT),
        (Sense(Key.ILLEGAL_REQUEST, 0x20, 0), Meaning.UNSUPPORTED, Error.IO),
        (Sense(Key.COPY_ABORTED, 1, 2), Meaning.OTHER, Error.IO),
    ],
)
def test_meaning(sense: Sense, meaning: Meaning, error: Error) -> None:
    assert (sense.meaning, sense.meaning.error) == (meaning, error)


def test_every_row_names_its_clause() -> None:
    for (_, asc, ascq), (_, source) in MEANINGS.items():
        assert source.split()[0] in {"SPC-4", "SSC-4", "SAM-5"}
        assert not (asc is None and ascq is not None)


def test_words() -> None:
    assert str(Sense(Key.MEDIUM_ERROR, 0x11, 0)) == "medium error (3/11/00)"
