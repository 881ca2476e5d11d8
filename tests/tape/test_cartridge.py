"""Cartridge files: the format, torn tails, markers, and what is no cartridge."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.tape.cartridge import Cartridge, CartridgeError
from mover.tape.codes import Error
from mover.tape.tape_map import MARKS_MAX
from tests.tape import tap
from tests.tape.cartridges import append, being_written, contents, opened

tapes = st.lists(st.none() | st.binary(min_size=1, max_size=40), max_size=12)


@settings(max_examples=100, deadline=None)
@given(tapes)
def test_what_is_written_is_what_the_format_says(tmp_path_factory: pytest.TempPathFactory, tape: tap.Tape) -> None:
    path = tmp_path_factory.mktemp("tape") / "a.tap"
    tap.create(path)
    cartridge = opened(path)
    append(cartridge, *tape)
    cartridge.close((0, 0), "drive")
    assert tap.read(path) == tape
    for indexed in (True, False):
        if not indexed:
            os.unlink(f"{path}.idx")
        cartridge = opened(path, writable=False)
        assert (cartridge.kept is not None) is indexed
        assert contents(cartridge) == tape
        cartridge.abandon()


def test_many_records_in_one_call(path: Path) -> None:
    """More than one call of writev and readv takes (IOV_MAX), with the pad byte of odd records."""
    for size in (3, 4):
        data = os.urandom(size * 2000)
        cartridge = opened(path)
        cartridge.cut(0, 0)
        assert cartridge.append_records(memoryview(data), size) == (2000, None)
        assert tap.read(path) == [data[at : at + size] for at in range(0, len(data), size)]
        found = bytearray(len(data))
        done = 0
        while done < 2000:
            count = cartridge.read_run(0, done, memoryview(found)[done * size :], size)
            assert count
            done += count
        assert bytes(found) == data
        cartridge.abandon()


@pytest.mark.parametrize("tape", [[b"abc", None, b"defg"], [b"abcd"], [None, b"x" * 9]])
def test_a_tail_torn_at_any_byte_is_cut_back_to_whole_records(tmp_path: Path, tape: tap.Tape) -> None:
    whole = tap.build(tape)
    ends = {len(tap.build(tape[:count])): count for count in range(len(tape) + 1)}
    for size in range(len(whole) + 1):
        path = tmp_path / f"{size}.tap"
        path.write_bytes(whole[:size])
        being_written(path)
        kept = tape[: ends[max(end for end in ends if end <= size)]]
        reader = opened(path, writable=False)
        assert contents(reader) == kept
        assert bool(reader.warning) is (size not in ends)
        reader.close((0, 0), "drive")
        assert path.stat().st_size == size
        writer = opened(path)
        assert bool(writer.warning) is (size not in ends)
        assert contents(writer) == kept
        append(writer, b"next")
        writer.close((0, 0), "drive")
        assert tap.read(path) == [*kept, b"next"]


def test_gaps_and_end_of_medium_and_bad_records_are_known(path: Path) -> None:
    gap, end = b"\xfe\xff\xff\xff", b"\xff\xff\xff\xff"
    bad = b"\x04\0\0\x80" + b"evil" + b"\x04\0\0\x80"
    path.write_bytes(
        tap.build([b"ab"]) + gap + tap.build([b"cd"]) + bad + gap + tap.build([None, b"ef"]) + end + b"junk"
    )
    cartridge = opened(path)
    assert [file.records for file in cartridge.map.files] == [3, 1]
    buffer = memoryview(bytearray(10))
    assert [cartridge.read_record(0, block, buffer) for block in (0, 1)] == [2, 2]
    assert bytes(buffer[:2]) == b"cd"
    with pytest.raises(CartridgeError, match="bad record at byte 24") as caught:
        cartridge.read_record(0, 2, buffer)
    assert caught.value.error == Error.IO
    append(cartridge, b"gh")
    assert contents_of_file(cartridge, 1) == [b"ef", b"gh"]
    cartridge.abandon()


def contents_of_file(cartridge: Cartridge, number: int) -> list[bytes]:
    records = []
    for block in range(cartridge.map.files[number].records):
        buffer = bytearray(100)
        records.append(bytes(buffer[: cartridge.read_record(number, block, memoryview(buffer))]))
    return records


@pytest.mark.parametrize(
    "tail",
    [
        b"\xff\xff\xfe\xff" + b"x" * 20,
        b"\x04\0\0\x10" + b"x" * 20,
        b"\x04\0\0\0abcd\x05\0\0\0",
        b"\0\0\0\x0f" + b"x" * 20,
    ],
    ids=["half gap", "private record", "length words differ", "absurd length"],
)
def test_what_is_not_understood_ends_the_tape_and_is_left_alone(path: Path, tail: bytes) -> None:
    path.write_bytes(tap.build([b"ab"]) + tail)
    cartridge = opened(path)
    assert "byte 10" in cartridge.map.damage
    assert cartridge.map.damage in cartridge.warning
    assert contents(cartridge) == [b"ab"]
    cartridge.close((0, 0), "drive")
    assert path.read_bytes() == tap.build([b"ab"]) + tail
    assert not Path(f"{path}.idx").exists()


def test_a_file_of_zeros_is_not_filemarks_without_end(path: Path) -> None:
    os.truncate(path, 1 << 30)
    cartridge = opened(path, writable=False)
    assert cartridge.map.marks == MARKS_MAX
    assert f"more than {MARKS_MAX} filemarks" in cartridge.warning
    cartridge.abandon()
    assert path.stat().st_size == 1 << 30


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        b"An important letter that somebody named wrongly.\n" * 100,
        b"\x1f\x8b\x08\0 as a compressed one begins, which is a length word too",
        b"\x13\0\0\0 a tape of another kind",
        b"abc",
    ],
    ids=["text", "gzip", "other tape", "short"],
)
def test_a_file_that_is_no_cartridge_is_refused_by_name(path: Path, text: bytes, writable: bool) -> None:
    path.write_bytes(text)
    with pytest.raises(CartridgeError, match=r"a\.tap is no cartridge: .* at byte 0") as caught:
        opened(path, writable=writable)
    assert caught.value.error == Error.IO
    assert path.read_bytes() == text


def test_a_torn_record_is_cut_off_only_where_a_crash_of_ours_has_torn_it(path: Path) -> None:
    torn = tap.build([b"ab", None, b"cd"]) + b"\x09\0\0\0torn"
    path.write_bytes(torn)  # a copy that was interrupted
    being_written(path)
    other = path.with_name("other.tap")
    shutil.copy(path, other)
    shutil.copy(f"{path}.idx.cut", f"{other}.idx.cut")
    for foreign in (other, path):
        if foreign is path:
            os.unlink(f"{path}.idx.cut")
        with pytest.raises(CartridgeError, match=r"nothing beside it says .* `truncate -s 24` cuts it off"):
            opened(foreign)
        reader = opened(foreign, writable=False)
        assert contents(reader) == [b"ab", None, b"cd"]
        assert "its 8 bytes are ignored" in reader.warning
        reader.close((0, 0), "drive")
        assert foreign.read_bytes() == torn
    os.truncate(path, 24)
    assert contents(opened(path)) == [b"ab", None, b"cd"]


def test_what_lies_behind_damage_is_not_destroyed_by_appending(path: Path) -> None:
    before = tap.build([b"ab"]) + b"\x05\0\0\0abcd\x04\0\0\0" + tap.build([b"ef"] * 9)
    path.write_bytes(before)
    cartridge = opened(path)
    with pytest.raises(OSError, match="to write here would destroy what lies behind it"):
        cartridge.cut(0, 1)
    assert path.read_bytes() == before
    append(cartridge, b"label", at=(0, 0))  # the tape begins anew
    cartridge.close((0, 1), "drive")
    assert tap.read(path) == [b"label"]
