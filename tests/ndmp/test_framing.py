"""Record marking: fragments of any cut, bounds, hopeless streams."""

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.ndmp.errors import FramingError
from mover.ndmp.framing import EMPTY_FRAGMENTS_MAX, RecordReader, mark

LAST = 0x8000_0000


def fragment(payload: bytes, *, last: bool) -> bytes:
    return struct.pack(">I", (LAST if last else 0) | len(payload)) + payload


def read_all(reader: RecordReader) -> list[bytes]:
    records = []
    while (record := reader.next_record()) is not None:
        records.append(record)
    return records


@settings(max_examples=80, deadline=None)
@given(
    messages=st.lists(st.lists(st.binary(max_size=12), min_size=1, max_size=5), max_size=5),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=20),
)
def test_any_fragments_cut_anywhere(messages: list[list[bytes]], cuts: list[int]) -> None:
    stream = b"".join(
        fragment(part, last=index == len(parts) - 1) for parts in messages for index, part in enumerate(parts)
    )
    reader = RecordReader()
    records: list[bytes] = []
    start = turn = 0
    while start < len(stream):
        end = start + cuts[turn % len(cuts)]
        reader.feed(stream[start:end])
        records += read_all(reader)
        start, turn = end, turn + 1
    assert records == [b"".join(parts) for parts in messages]
    assert not reader.inside_record


def test_the_mark_of_one_fragment() -> None:
    assert mark(28) == bytes.fromhex("8000001c")


def test_the_end_inside_a_record_is_seen() -> None:
    reader = RecordReader()
    inside = [reader.inside_record]
    for data in (fragment(b"ab", last=False), fragment(b"", last=False), b"\x80", b"\0\0\0"):
        reader.feed(data)
        record = reader.next_record()
        inside.append(reader.inside_record)
    assert record == b"ab"
    assert inside == [False, True, True, True, False]


def test_a_two_gibibyte_fragment_is_refused_from_its_header() -> None:
    reader = RecordReader()
    reader.feed(struct.pack(">I", LAST | 0x7FFF_FFFF))
    with pytest.raises(FramingError):
        reader.next_record()
    reader.feed(fragment(b"fine", last=True))
    with pytest.raises(FramingError):  # it stays broken
        reader.next_record()


def test_the_limit_is_on_the_sum_of_the_fragments() -> None:
    reader = RecordReader(limit=10)
    reader.feed(fragment(b"12345", last=False) + fragment(b"67890", last=True))
    assert reader.next_record() == b"1234567890"
    reader.feed(fragment(b"12345", last=False) + struct.pack(">I", LAST | 6))
    with pytest.raises(FramingError, match="over 10 bytes"):
        reader.next_record()


def test_empty_fragments_are_taken_up_to_a_bound() -> None:
    empty = fragment(b"", last=False)
    reader = RecordReader()
    for _ in range(2):  # the count begins anew with each message
        reader.feed(empty * EMPTY_FRAGMENTS_MAX + fragment(b"x", last=True))
        assert reader.next_record() == b"x"
    reader.feed(empty * (EMPTY_FRAGMENTS_MAX + 1))
    with pytest.raises(FramingError, match="empty fragments"):
        reader.next_record()


@pytest.mark.slow
def test_a_message_of_tiny_fragments_takes_its_length_in_memory_and_not_many_times_it() -> None:
    reader = RecordReader()
    piece = fragment(b"x", last=False) * 1000
    tracemalloc.start()
    try:
        for _ in range(100):
            reader.feed(piece)
            assert reader.next_record() is None
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 200_000
    reader.feed(fragment(b"", last=True))
    assert reader.next_record() == b"x" * 100_000
