"""Reads a dump stream from the ring as records of 1024 bytes, in place wherever a record lies in one slot."""

from collections.abc import Callable
from typing import Final, Protocol

from mover.data.dump_format import (
    FLAG_COMPRESSED,
    FLAG_NEW_INODE_FORMAT,
    HEADER_RECORDS_MAX,
    RECORD_BYTES,
    FormatError,
    Header,
    RecordType,
    parse_header,
)
from mover.ring import Entry, Kind, RingClosed, Verdict

ALL_ONES: Final = 2**64 - 1  # WantData's length: to the end of the stream
_MAPS: Final = frozenset({RecordType.BITS, RecordType.CLRI})
_WITH_RECORDS: Final = frozenset({RecordType.INODE, RecordType.ADDR})


class StreamBroken(Exception):  # noqa: N818 - an end of the stream
    """The stream ended before the dump's own END; the text says how."""


class StreamRefused(Exception):  # noqa: N818 - a decision about the whole stream
    """The stream is none that can be recovered; the text says why, in one line."""


class Source(Protocol):
    """Where entries come from: a ring's Consumer, or one that does more beside it."""

    def peek(self) -> Entry: ...

    def release(self) -> None: ...


class RecordReader:
    """Whole records out of ring entries of any length.

    ``view[pos:end]`` are the records at hand and not used yet; a hot loop may use and advance ``pos`` itself and calls
    ``more`` when it reaches ``end``. What ``view`` showed before is gone then. A record that straddles two entries is
    copied, no other byte is.

    Args:
        source: the ring's side, read from its next entry on; it may be replaced between two entries.
        skipped: called after a resynchronisation with the number of records skipped, the position in bytes of the
            first of them, why, and whether all were zeros.
        on_slot: called whenever a slot is finished, to publish gauges.
    """

    def __init__(
        self,
        source: Source,
        skipped: Callable[[int, int, str, bool], None],
        on_slot: Callable[[], None],
    ) -> None:
        self.view = memoryview(b"")
        self.pos = 0
        self.end = 0
        self.little_endian = True
        self.date = 0
        self.skips = 0  # resynchronisations so far
        self._base = 0  # stream offset of view[0]
        self.source = source
        self._skipped = skipped
        self.on_slot = on_slot
        self._slot: memoryview | None = None
        self._slot_pos = 0
        self.view_at = 0  # where view lies in its slot; of no meaning for a record that straddles two
        self._straddler = bytearray(RECORD_BYTES)
        self._straddled = 0
        # restore accepts streams whose c_tapea is not the position, so do we; but where it is, it proves a header.
        self._positions_hold = True

    @property
    def offset(self) -> int:
        """Position in the stream, in bytes, of the record at ``pos``."""
        return self._base + self.pos

    def more(self) -> None:
        """Make at least one further record available; all at hand must be used.

        Raises:
            StreamBroken: none will come.
        """
        self._base += self.end
        self.view.release()
        self.view, self.pos, self.end = memoryview(b""), 0, 0
        while True:
            slot = self._slot
            if slot is None:
                self._next_slot()
                continue
            left = len(slot) - self._slot_pos
            if not self._straddled and left >= RECORD_BYTES:
                whole = left // RECORD_BYTES * RECORD_BYTES
                self.view = slot[self._slot_pos : self._slot_pos + whole]
                self.view_at = self._slot_pos
                self._slot_pos += whole
                break
            if left:
                part = min(RECORD_BYTES - self._straddled, left)
                at = self._slot_pos
                self._straddler[self._straddled : self._straddled + part] = slot[at : at + part]
                self._straddled += part
                self._slot_pos += part
                if self._straddled == RECORD_BYTES:
                    self._straddled = 0
                    self.view = memoryview(self._straddler)
                    break
            self.release_slot()
        self.end = len(self.view)

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
            raise StreamBroken(f"the stream ends after {self._base + self._straddled} bytes, before the dump's end")
        raise StreamBroken(f"the other side failed after {self._base + self._straddled} bytes of the stream")

    def release_slot(self) -> None:
        """Give the slot at hand back; its views must not be used any more."""
        self.on_slot()
        if self._slot is not None:
            self._slot.release()
            self._slot = None
            self.source.release()

    def slot_at_hand(self) -> memoryview | None:
        """A view of the slot that was taken and not given back."""
        return self._slot[:] if self._slot is not None else None

    def close(self) -> None:
        """Give everything back; no record can be read any more."""
        self._base += self.pos
        self.view.release()
        self.view, self.pos, self.end = memoryview(b""), 0, 0
        self.release_slot()

    def revisit(self, records: memoryview) -> tuple[memoryview, int, int]:
        """Read these records next, whatever comes after them; returns what ``resume`` wants."""
        before = self.view, self.pos, self.end
        self.view, self.pos, self.end = records, 0, len(records)
        return before

    def resume(self, before: tuple[memoryview, int, int]) -> None:
        """Go on where ``revisit`` left off."""
        self.view, self.pos, self.end = before

    def take(self, records: int) -> memoryview:
        """The next of ``records`` records, as many as lie in one piece; the view is good until the next call.

        Raises:
            StreamBroken: none will come.
        """
        if self.pos == self.end:
            self.more()
        start = self.pos
        self.pos = min(start + records * RECORD_BYTES, self.end)
        return self.view[start : self.pos]

    def skip(self, records: int) -> None:
        """Step over records."""
        while records:
            with self.take(records) as piece:
                records -= len(piece) // RECORD_BYTES

    def read(self, records: int) -> bytes:
        """Copy records out; for small things that are needed whole."""
        data = bytearray()
        while len(data) < records * RECORD_BYTES:
            with self.take(records - len(data) // RECORD_BYTES) as piece:
                data += piece
        return bytes(data)

    def first_header(self) -> Header:
        """The header that a dump stream begins with; decides on byte order and on everything we do not read.

        Raises:
            StreamRefused: no dump stream, or one of a kind that is not supported.
            StreamBroken: the stream is empty.
        """
        with self.take(1) as record:
            try:
                header = parse_header(record)
            except FormatError as error:
                raise StreamRefused(f"not a dump stream: {error}") from error
        if header.type != RecordType.TAPE:
            raise StreamRefused(f"not the beginning of a dump stream: its first record is of type {header.type}")
        refuse_foreign(header)
        self.little_endian = header.little_endian
        self.date = header.date
        return header

    def header(self) -> Header:
        """The next good header; anything else on the way is skipped and told to ``skipped``.

        Raises:
            StreamRefused: the stream goes on with another volume.
            StreamBroken: no further header will come.
        """
        count = 0
        first = 0
        why = ""
        zeros = True
        try:
            while True:
                if self.pos == self.end:
                    self.more()
                with self.view[self.pos : self.pos + RECORD_BYTES] as record:
                    wrong = ""
                    try:
                        header = parse_header(record)
                        wrong = self._wrong(header, resynchronising=bool(count))
                    except FormatError as error:
                        wrong = str(error)
                    if wrong:
                        zeros = zeros and not any(record)
                if not wrong:
                    break
                if not count:
                    first, why = self.offset, wrong
                count += 1
                self.pos += RECORD_BYTES
        finally:
            if count:
                self.skips += 1
                self._skipped(count, first, why, zeros)
        if header.tapea != (self.offset // RECORD_BYTES) & 0xFFFF_FFFF:
            self._positions_hold = False
        self.pos += RECORD_BYTES
        if header.type == RecordType.TAPE:
            refuse_foreign(header)
        return header

    def unread_header(self) -> None:
        """Let ``header`` return the same one again; only directly after it."""
        self.pos -= RECORD_BYTES

    def _wrong(self, header: Header, *, resynchronising: bool) -> str:
        """Why a header with a good sum is none of this stream; "" = it is one."""
        if header.little_endian is not self.little_endian:
            return "a header of the other byte order"
        if header.type in _WITH_RECORDS and header.records > HEADER_RECORDS_MAX:
            return f"a header of inode {header.inumber} that describes {header.records} records"
        if resynchronising:
            # A file's content may hold a dump stream: behind a lost header only what fits this one is believed.
            if header.date != self.date:
                return "a header of another dump"
            if self._positions_hold and header.tapea != (self.offset // RECORD_BYTES) & 0xFFFF_FFFF:
                return "a header that belongs elsewhere"
        return ""


def refuse_foreign(header: Header) -> None:
    """Raise StreamRefused for a TAPE header of a kind that is not supported."""
    if header.volume != 1:
        raise StreamRefused(
            f"volume {header.volume} of a dump on several volumes, which is not supported: restore it with restore(8)"
        )
    if header.flags & FLAG_COMPRESSED:
        raise StreamRefused("a compressed dump (dump -z or -j), which is not supported: restore it with restore(8)")
    if not header.flags & FLAG_NEW_INODE_FORMAT:
        raise StreamRefused("a dump with directories of the format before 4.4BSD, which is not supported")


def is_map(header: Header) -> bool:
    """Whether a header's records are a bitmap of inodes."""
    return header.type in _MAPS
