"""Blocks out of ring entries: what lies in several of them, joined and read on."""

import random
from collections.abc import Sequence

import pytest

from mover.data.stream_blocks import BlockReader, StreamBroken, StreamEnded
from mover.ring import Entry, Kind

_UNIT = 512


class _Entries:
    """A source that holds its entries; the last is followed by an end."""

    def __init__(self, pieces: Sequence[bytes], end: Kind = Kind.END) -> None:
        self._left = [*pieces]
        self._end: Kind | None = end
        self.released = 0

    def peek(self) -> Entry:
        if self._left:
            return Entry(memoryview(self._left[0]), Kind.DATA)
        assert self._end is not None, "asked again behind the end"
        end, self._end = self._end, None
        return Entry(memoryview(b""), end)

    def release(self) -> None:
        self.released += 1
        if self._left:
            del self._left[0]


def _reader(source: _Entries) -> BlockReader:
    return BlockReader(source, lambda: None, _UNIT, "the stream's end")


def _pieces(stream: bytes, lengths: Sequence[int]) -> list[bytes]:
    ends = [sum(lengths[: at + 1]) for at in range(len(lengths))]
    return [stream[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def test_what_is_joined_and_what_follows_is_the_stream() -> None:
    draw = random.Random(5)
    stream = draw.randbytes(200 * _UNIT)
    for _ in range(200):
        lengths: list[int] = []
        while sum(lengths) < len(stream):
            lengths.append(min(draw.choice([1, 511, 512, 700, 5_120, 9_999]), len(stream) - sum(lengths)))
        source = _Entries(_pieces(stream, lengths))
        reader = _reader(source)
        read = bytearray()
        while len(read) < len(stream):
            assert reader.offset == len(read)
            blocks = min(draw.randrange(1, 30), (len(stream) - len(read)) // _UNIT)
            if draw.randrange(2):
                reader.join(blocks * _UNIT)
                assert reader.end - reader.pos >= blocks * _UNIT
                assert reader.offset == len(read)
                piece = reader.view[reader.pos : reader.pos + blocks * _UNIT]
                if draw.randrange(4):  # else it is looked at and left
                    read += piece
                    reader.pos += blocks * _UNIT
                piece.release()
            else:
                read += reader.read(blocks)
        assert bytes(read) == stream
        with pytest.raises(StreamEnded):
            reader.more()
        reader.close()
        assert source.released == len(lengths) + 1


@pytest.mark.parametrize("end", [Kind.END, Kind.FAILED])
def test_stream_that_ends_in_what_is_joined(end: Kind) -> None:
    reader = _reader(_Entries([bytes(3 * _UNIT), b"x" * 2 * _UNIT], end))
    reader.skip(2)
    ended = [reader.has_ended]
    reader.join(9 * _UNIT)
    assert [*ended, reader.has_ended] == [False, True]
    assert reader.offset == 2 * _UNIT
    assert bytes(reader.view[reader.pos : reader.end]) == bytes(_UNIT) + b"x" * 2 * _UNIT
    reader.join(9 * _UNIT)  # nothing is asked for again
    assert reader.read(3) == bytes(_UNIT) + b"x" * 2 * _UNIT
    for _ in range(2):
        with pytest.raises(StreamBroken, match="after 2560 bytes"):
            reader.take(1)


def test_view_of_what_was_copied_has_no_place_in_a_slot() -> None:
    reader = _reader(_Entries([bytes(3 * _UNIT), bytes(5 * _UNIT)]))
    reader.more()
    places = [reader.view_at]
    reader.skip(2)
    reader.join(2 * _UNIT)
    places.append(reader.view_at)
    reader.skip(2)
    reader.more()
    assert [*places, reader.view_at] == [0, -1, _UNIT]
