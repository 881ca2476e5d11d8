"""Reads a stream from the ring as blocks of one size, in place wherever a block lies in one slot."""

from collections.abc import Callable
from typing import Final, Protocol

from mover.ring import Entry, Kind, RingClosed, Verdict

JOINED_BYTES_MAX: Final = 64 << 10
"""What is worth a copy to have it in one piece: many times faster read than piece by piece."""


class StreamBroken(Exception):  # noqa: N818 - an end of the stream
    """The stream ended before its own end; the text says how."""


class StreamEnded(StreamBroken):
    """The other side says that there is no more, in order."""


class StreamRefused(Exception):  # noqa: N818 - a decision about the whole stream
    """The stream is none that can be recovered; the text says why, in one line."""


class Source(Protocol):
    """Where entries come from: a ring's Consumer, or one that does more beside it."""

    def peek(self) -> Entry: ...

    def release(self) -> None: ...


class BlockReader:
    """Whole blocks out of ring entries of any length.

    ``view[pos:end]`` are the blocks at hand and not used yet; a hot loop may use and advance ``pos`` itself and calls
    ``more`` when it reaches ``end``. What ``view`` showed before is gone then. A block that straddles two entries is
    copied, and what is wanted in one piece (``join``); no other byte is.

    Args:
        source: the ring's side, read from its next entry on; it may be replaced between two entries.
        on_slot: called whenever a slot is finished, to publish gauges.
        block_bytes: the stream's unit.
        end_name: what should have come when the stream ends too early.
    """

    def __init__(self, source: Source, on_slot: Callable[[], None], block_bytes: int, end_name: str) -> None:
        self.view = memoryview(b"")
        self.pos = 0
        self.end = 0
        self._base = 0  # stream offset of view[0]
        self.source = source
        self.on_slot = on_slot
        self._block_bytes = block_bytes
        self._end_name = end_name
        self._slot: memoryview | None = None
        self._slot_pos = 0
        self.view_at = 0  # where view lies in its slot; -1 = it was copied
        self._straddler = bytearray(block_bytes)
        self._straddled = 0
        self._revisits = False
        self._broken: StreamBroken | None = None  # met before all at hand was used

    @property
    def has_ended(self) -> bool:
        """Whether nothing comes behind what is at hand; False also means that this is not known."""
        return self._broken is not None

    @property
    def offset(self) -> int:
        """Position in the stream, in bytes, of the block at ``pos``."""
        return self._base + self.pos

    def more(self) -> None:
        """Make at least one further block available; all at hand must be used.

        Raises:
            StreamBroken: none will come.
        """
        if self._revisits:
            raise StreamBroken("a member of the stream leads out of its own blocks")
        self._base += self.end
        self.view.release()
        self.view, self.pos, self.end = memoryview(b""), 0, 0
        if self._broken is not None:
            raise self._broken
        unit = self._block_bytes
        while True:
            slot = self._slot
            if slot is None:
                self._next_slot()
                continue
            left = len(slot) - self._slot_pos
            if not self._straddled and left >= unit:
                whole = left // unit * unit
                self.view = slot[self._slot_pos : self._slot_pos + whole]
                self.view_at = self._slot_pos
                self._slot_pos += whole
                break
            if left:
                part = min(unit - self._straddled, left)
                at = self._slot_pos
                self._straddler[self._straddled : self._straddled + part] = slot[at : at + part]
                self._straddled += part
                self._slot_pos += part
                if self._straddled == unit:
                    self._straddled = 0
                    self.view, self.view_at = memoryview(self._straddler), -1
                    break
            self.release_slot()
        self.end = len(self.view)

    def join(self, wanted: int) -> None:
        """Have the next bytes at hand in one piece, copied where they lie in several; fewer only where ``has_ended``.

        Args:
            wanted: whole blocks, in bytes; few, since they may be copied.
        """
        if self.end - self.pos >= wanted:
            return
        base, joined = self.offset, bytearray(self.view[self.pos : self.end])
        while len(joined) < wanted:
            self.pos = self.end
            try:
                self.more()
            except StreamBroken as broken:
                self._broken = broken
                break
            part = min(wanted - len(joined), self.end)
            joined += self.view[:part]
            if part < self.end:  # then it lies in its slot, and the rest of it comes behind what was copied
                self._slot_pos = self.view_at + part
                self.end = part
        self.view.release()
        self._base = base
        self.view, self.pos, self.end, self.view_at = memoryview(joined), 0, len(joined), -1

    def _next_slot(self) -> None:
        try:
            slot, kind = self.source.peek()
        except RingClosed as closed:
            ended = "was broken" if closed.verdict is Verdict.BROKEN else "was closed"
            raise StreamBroken(f"the data connection {ended} after {self._base} bytes") from closed
        except ValueError as error:
            raise StreamBroken(f"the ring is damaged: {error}") from error
        if kind == Kind.DATA:
            self._slot, self._slot_pos = slot, 0
            return
        slot.release()
        self.source.release()
        if kind == Kind.END:
            raise StreamEnded(f"the stream ends after {self._base + self._straddled} bytes, before {self._end_name}")
        raise StreamBroken(f"the other side failed after {self._base + self._straddled} bytes of the stream")

    def release_slot(self) -> None:
        """Give the slot at hand back; its views must not be used any more."""
        self.on_slot()
        if self._slot is not None:
            self._slot.release()
            self._slot = None
            self.source.release()

    def jump(self, offset: int) -> None:
        """The source goes on at another offset; all at hand must be used."""
        assert self.pos == self.end
        self._base = offset - self.end

    def slot_at_hand(self) -> memoryview | None:
        """A view of the slot that was taken and not given back."""
        return self._slot[:] if self._slot is not None else None

    def close(self) -> None:
        """Give everything back; no block can be read any more."""
        self._base += self.pos
        self.view.release()
        self.view, self.pos, self.end = memoryview(b""), 0, 0
        self.release_slot()

    def revisit(self, blocks: memoryview) -> tuple[memoryview, int, int]:
        """Read these blocks next, and nothing behind them; returns what ``resume`` wants."""
        self._revisits = True
        before = self.view, self.pos, self.end
        self.view, self.pos, self.end = blocks, 0, len(blocks)
        return before

    def resume(self, before: tuple[memoryview, int, int]) -> None:
        """Go on where ``revisit`` left off."""
        self._revisits = False
        self.view, self.pos, self.end = before

    def take(self, blocks: int) -> memoryview:
        """The next of ``blocks`` blocks, as many as lie in one piece; the view is good until the next call.

        Raises:
            StreamBroken: none will come.
        """
        if self.pos == self.end:
            self.more()
        start = self.pos
        self.pos = min(start + blocks * self._block_bytes, self.end)
        return self.view[start : self.pos]

    def skip(self, blocks: int) -> None:
        """Step over blocks."""
        while blocks:
            with self.take(blocks) as piece:
                blocks -= len(piece) // self._block_bytes

    def read(self, blocks: int) -> bytes:
        """Copy blocks out; for small things that are needed whole."""
        data = bytearray()
        while len(data) < blocks * self._block_bytes:
            with self.take(blocks - len(data) // self._block_bytes) as piece:
                data += piece
        return bytes(data)
