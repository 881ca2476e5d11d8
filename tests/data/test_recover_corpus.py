"""The corpus of hostile streams, and every byte of every kind of header turned: nothing outside, no end of its own."""

import os
import struct
import tracemalloc
from pathlib import Path

import pytest

from mover.data.recover_catalogue import ATTRIBUTE_BYTES_MAX
from tests.data.dump_writer import RECORD
from tests.data.hostile_streams import STREAMS, begun, ended, good
from tests.data.recover_runner import Outcome, name, recover_here
from tests.data.test_recover_hostile import STREAM

_HEADERS = [at for at in range(0, len(STREAM), RECORD) if STREAM[at + 24 : at + 28] == struct.pack("<I", 60012)]
_FIELDS = [*range(168), *range(676, 700, 4), *range(888, 924)]
"""Bytes of a header that mean something: up to the first of c_addr, label, level, flags and what is behind them."""


_WHOLE = ended(good(begun([(4, b"next")])).file(4, b"next"))
"""Nothing is wrong with it."""


def prepared(base: Path) -> Path:
    """The destination, in a directory with something that must not change."""
    inside, outside = base / "inside", base / "outside"
    for path in (inside, outside):
        path.mkdir()
    (outside / "kept").write_text("kept")
    return inside


def assert_untouched(base: Path) -> None:
    assert sorted(path.name for path in base.iterdir()) == ["inside", "outside"]
    assert [path.name for path in (base / "outside").iterdir()] == ["kept"]
    assert (base / "outside/kept").read_text() == "kept"
    assert os.listxattr(base / "outside/kept") == []
    assert (base / "outside/kept").stat().st_nlink == 1


def assert_ended(outcome: Outcome) -> None:
    assert outcome.finished.reason in {1, 3, 4}
    assert set(outcome.status) == {b""}
    assert "error of its own" not in outcome.finished.text


def test_there_are_many() -> None:
    assert len(STREAMS) >= 60


@pytest.mark.parametrize("what", STREAMS)
def test_harm_is_told_of_and_not_done(tmp_path: Path, what: str) -> None:
    inside = prepared(tmp_path)
    stream = STREAMS[what]()
    tracemalloc.start()
    try:
        outcome = recover_here(stream, [name(inside)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_untouched(tmp_path)
    assert_ended(outcome)
    assert outcome.finished.errors or outcome.finished.reason != 1 or outcome.lines[:-1], "not a word"
    assert peak < 4 * len(stream) + (8 << 20)
    inside.chmod(0o700)


def test_attributes_of_one_object_are_bounded(tmp_path: Path) -> None:
    inside = prepared(tmp_path)
    outcome = recover_here(STREAMS["attributes without end"](), [name(inside)])
    assert outcome.status == {b"": 5}
    assert b"or %d bytes" % ATTRIBUTE_BYTES_MAX in outcome.text()
    assert (inside / "good").read_bytes() == b"good"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("header", _HEADERS)
def test_every_byte_of_a_header_turned(tmp_path: Path, header: int) -> None:
    """With a sum that is right again: as someone does who means it."""
    inside = prepared(tmp_path)
    for offset in _FIELDS:
        stream = bytearray(STREAM)
        stream[header + offset] ^= 1 << offset % 8 | 0x80
        struct.pack_into("<I", stream, header + 28, 0)
        total = sum(struct.unpack_from("<256I", stream, header))
        struct.pack_into("<I", stream, header + 28, (84446 - total) & 0xFFFF_FFFF)
        outcome = recover_here(bytes(stream), [name(inside, below=b"%d" % offset)])
        assert_untouched(tmp_path)
        assert_ended(outcome)


@pytest.mark.parametrize("header", _HEADERS)
def test_a_header_that_is_lost_is_told_of(tmp_path: Path, header: int) -> None:
    inside = prepared(tmp_path)
    stream = bytearray(STREAM)
    stream[header + 40] ^= 1
    outcome = recover_here(bytes(stream), [name(inside)])
    assert_untouched(tmp_path)
    assert_ended(outcome)
    if header < len(STREAM) - 2 * RECORD:  # one END of two is enough
        assert outcome.finished.errors or outcome.finished.reason != 1


@pytest.mark.slow
def test_a_wrong_bit_in_any_byte_of_a_header_is_told_of(tmp_path: Path) -> None:
    """Each byte once, of one kind of header after the other; that no bit is overlooked is in test_dump_format.py."""
    inside = prepared(tmp_path)
    outcome = recover_here(_WHOLE, [name(inside, below=b"whole")])
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0)
    headers = [at for at in range(0, len(_WHOLE), RECORD) if _WHOLE[at + 24 : at + 28] == struct.pack("<I", 60012)]
    headers = headers[:-2]  # one END of two is enough
    assert len(headers) > 4
    for offset in range(RECORD):
        stream = bytearray(_WHOLE)
        stream[headers[offset % len(headers)] + offset] ^= 1 << offset // 8 % 8
        outcome = recover_here(bytes(stream), [name(inside, below=b"%d" % offset)])
        assert_ended(outcome)
        assert outcome.finished.errors or outcome.finished.reason != 1, offset
    assert_untouched(tmp_path)


@pytest.mark.parametrize(
    "what",
    ["a header of another dump within a lost file", "a header of the same date and the right place within a lost file"],
)
def test_behind_a_lost_header_the_content_of_its_file_is_not_believed(tmp_path: Path, what: str) -> None:
    outcome = recover_here(STREAMS[what](), [name(tmp_path)])
    assert outcome.finished.errors
    assert (tmp_path / "after").read_bytes() == b"after"
