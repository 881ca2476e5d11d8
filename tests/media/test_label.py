"""Our label: there and back, and every byte of it wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.media import LABEL_BYTES, Label, LabelError, check_name, decode_label, encode_label

LABEL = Label("VTL00001", "0f0e0d0c0b0a09080706050403020100", 1_700_000_000)
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)


def test_a_label_in_full() -> None:
    text = b"mover label 1\nname=VTL00001\nid=0f0e0d0c0b0a09080706050403020100\nwritten=1700000000\n"
    record = encode_label(LABEL)
    assert record[: len(text) + 6] == text + b"check="
    assert record[len(text) + 14 :] == b"\n".ljust(LABEL_BYTES - len(text) - 14, b"\0")


@settings(max_examples=50)
@given(NAMES, st.binary(min_size=16, max_size=16), st.integers(0, 10**12 - 1))
def test_there_and_back(name: str, number: bytes, written: int) -> None:
    label = Label(name, number.hex(), written)
    assert decode_label(encode_label(label)) == label


@pytest.mark.parametrize("name", ["", "a b", "\u00fc", "a\n", "x" * 65])
def test_names_that_no_label_carries(name: str) -> None:
    with pytest.raises(LabelError):
        check_name(name)


def test_what_is_no_label_and_what_is_a_broken_one() -> None:
    record = encode_label(LABEL)
    assert decode_label(b"") is None
    assert decode_label(bytes(512)) is None
    for broken in (record[:-1], record + b"\0", record[:100], record.replace(b"VTL00001", b"VTL00002")):
        with pytest.raises(LabelError):
            decode_label(broken)


def test_every_byte_counts() -> None:
    record = encode_label(LABEL)
    for at in range(LABEL_BYTES):
        changed = bytearray(record)
        changed[at] ^= 0x41
        try:
            assert decode_label(bytes(changed)) is None  # another beginning: somebody else's
        except LabelError:
            continue
