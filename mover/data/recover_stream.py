"""Reads a dump stream from the ring as records of 1024 bytes."""

from collections.abc import Callable
from typing import Final

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
from mover.data.stream_blocks import BlockReader, Source, StreamRefused

ALL_ONES: Final = 2**64 - 1  # WantData's length: to the end of the stream
_MAPS: Final = frozenset({RecordType.BITS, RecordType.CLRI})
_WITH_RECORDS: Final = frozenset({RecordType.INODE, RecordType.ADDR})


class RecordReader(BlockReader):
    """A dump stream's records.

    Args:
        source, on_slot: as BlockReader.
        skipped: called after a resynchronisation with the number of records skipped, the position in bytes of the
            first of them, why, and whether all were zeros.
    """

    def __init__(
        self,
        source: Source,
        skipped: Callable[[int, int, str, bool], None],
        on_slot: Callable[[], None],
    ) -> None:
        super().__init__(source, on_slot, RECORD_BYTES, "the dump's end")
        self.little_endian = True
        self.date = 0
        self.label = b""
        self.skips = 0  # resynchronisations so far
        self._skipped = skipped
        # restore accepts streams whose c_tapea is not the position, so do we; but where it is, it proves a header.
        self._positions_hold = True

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
        self.date, self.label = header.date, header.label
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
            if (header.date, header.label) != (self.date, self.label):
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
