"""The stream of a recover by direct access: asks for pieces of it by offset, and reads them as one source.

A piece is one WantData, which becomes one NOTIFY_DATA_READ or one read of the local mover. The next is asked for only
when every byte of the last one has come: two reads at a time are an error (states.md 4.7). Where the stream's length is
not known, no byte is asked for of which the reader does not know that it is there: a mover that meets the end of its
tape file pauses, and a DMA then looks for a further tape. Nothing here knows what the bytes mean.
"""

from collections.abc import Callable, Sequence
from typing import Final

from mover.data.stream_blocks import BlockReader, Source, StreamBroken
from mover.ring import Entry, Kind

FIRST_BYTES: Final = 16 * 1024  # of a piece behind a jump, where the stream's length is known
AHEAD_BYTES_MAX: Final = 1 << 20  # what a piece may grow to as long as all is read in order
LIKELY_BYTES_MAX: Final = 64 << 20  # of a piece that is made long because one object is said to be
NEAR_BYTES: Final = 256 * 1024  # what begins so close behind one another is read in one piece


class Pieces:
    """A source of entries for a BlockReader.

    Args:
        source: the ring's side.
        want: asks for ``length`` bytes of the stream from ``offset`` on.
        block_bytes: the reader's unit; pieces are made of whole blocks.
        end: length of the stream in bytes, of which the whole blocks count; None = not known.

    Attributes:
        until: offset behind the last byte asked for.
        received: bytes that have come.
    """

    def __init__(
        self, source: Source, want: Callable[[int, int], None], block_bytes: int, end: int | None = None
    ) -> None:
        self.end = None if end is None else end - end % block_bytes
        self.until = 0
        self.received = 0
        self._source = source
        self._want = want
        self._block_bytes = block_bytes
        self._left = 0
        self._certain = 0
        self._likely = 0
        self._ahead = FIRST_BYTES

    def expect(self, certain: int) -> None:
        """The stream reaches to this offset, and up to there it is wanted."""
        self._certain = certain

    def guess(self, likely: int) -> None:
        """Up to this offset it will be wanted, as far as one knows; looked at where the stream's length is known."""
        self._likely = likely

    def go_to(self, reader: BlockReader, offset: int) -> None:
        """Make the block at ``offset`` the reader's next one; what was asked for before and lies between is read over.

        Raises:
            StreamBroken: the rest of the last piece does not come.
        """
        here = reader.offset
        inside = here <= offset <= self.until
        reader.skip(((offset if inside else self.until) - here) // self._block_bytes)
        if not inside:
            reader.jump(offset)
            self.until = offset
            self._certain = self._likely = 0
            self._ahead = FIRST_BYTES

    def peek(self) -> Entry:
        """The next entry of the piece at hand, or of the next one, which is asked for now.

        Raises:
            StreamBroken: the stream has no more, or the other side sends more than it was asked for.
            RingClosed: as the ring does.
        """
        if not self._left:
            self._ask()
        entry = self._source.peek()
        if entry.kind == Kind.DATA:
            length = len(entry.view)
            if length > self._left:
                entry.view.release()
                raise StreamBroken(f"the mover sent {length} bytes where {self._left} of a read were left")
            self._left -= length
            self.received += length
        return entry

    def release(self) -> None:
        """Give the oldest peeked entry back."""
        self._source.release()

    def _ask(self) -> None:
        start = self.until
        until = max(min(self._certain, start + LIKELY_BYTES_MAX), start + self._block_bytes)
        if self.end is not None:
            likely = min(self._likely, start + LIKELY_BYTES_MAX)
            until = max(until, likely, start + self._ahead)
            self._ahead = min(2 * self._ahead, AHEAD_BYTES_MAX)
        until += -until % self._block_bytes
        if self.end is not None:
            until = min(until, self.end)
            if until <= start:
                raise StreamBroken(f"the stream is wanted from byte {start} on and ends at {self.end}")
        self.until = until
        self._left = until - start
        self._want(start, self._left)


def reaches(offsets: Sequence[int], head_bytes: int) -> list[int]:
    """Up to where a piece that begins at each of the offsets goes: to the last header of those that lie near.

    Args:
        offsets: of headers, ascending.
        head_bytes: what lies at each of them at the least.
    """
    found: list[int] = []
    for at in reversed(range(len(offsets))):
        near = bool(found) and offsets[at + 1] - offsets[at] <= NEAR_BYTES
        found.append(found[-1] if near else offsets[at] + head_bytes)
    return found[::-1]
