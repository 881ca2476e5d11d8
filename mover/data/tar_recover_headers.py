"""The good headers of a tar stream; what is damaged is stepped over.

A header that is none costs its object: the next good header on a block's boundary goes on. Where every member so far
came with an extended header, only such a one is believed there, because without it names are cut and holes are
missing; and in a stream of our own only one that names this stream, so that an archive within a file is not taken for
more of this one.

Source: tar.md; GNU tar manual, "Basic Tar Format".
"""

from collections.abc import Callable
from typing import Final

from mover.data.dump_format import MAGIC as DUMP_MAGIC
from mover.data.stream_blocks import BlockReader, Source, StreamEnded, StreamRefused
from mover.data.tar_format import (
    BLOCK_BYTES,
    EXTENDED,
    GNU_LONG_LINK,
    GNU_LONG_NAME,
    GNU_MULTI_VOLUME,
    RECORD_BYTES,
    FormatError,
)
from mover.data.tar_headers import Header, parse_header

_ZEROS: Final = bytes(BLOCK_BYTES)
_LOOK_BLOCKS: Final = 2048  # so far into a stream its first header is looked for
_EXTENDED_OLD: Final = b"X"  # Solaris
PAX_TYPES: Final = frozenset({EXTENDED, _EXTENDED_OLD})


class HeaderReader(BlockReader):
    """A tar stream's headers; what follows each is read in between, as blocks.

    Attributes:
        skips: resynchronisations so far.
        identity: the name of the first extended header of a stream of ours, else b"".
        length: bytes of the stream, as the environment tells them; None = not known.
    """

    def __init__(
        self, source: Source, skipped: Callable[[int, int, str, bool], None], on_slot: Callable[[], None]
    ) -> None:
        """Args: skipped, on_slot: as RecordReader."""
        super().__init__(source, on_slot, BLOCK_BYTES, "the tar stream's end")
        self.skips = 0
        self.identity = b""
        self.length: int | None = None
        self._skipped = skipped
        self._strict = False  # what is damaged is an error
        self._members = 0
        self._all_extended = True

    def _block(self) -> bytes:
        with self.take(1) as piece:
            return bytes(piece)

    def _unread(self) -> None:
        """Let ``_block`` return the same one again; only directly after it."""
        self.pos -= BLOCK_BYTES

    def _lost(self, offset: int, why: str, blocks: int = 1, *, zeros: bool = False) -> None:
        self.skips += 1
        self._skipped(blocks, offset, why, zeros)

    def _header(self) -> Header | None:
        """The next good header, None at the stream's end; anything else on the way is skipped and told."""
        count = zeros = 0  # blocks skipped, and how many zeros the last of them are
        first, why = 0, ""
        while True:
            try:
                block = self._block()
            except StreamEnded:
                if zeros < 2 or zeros == count:
                    raise
                self._lost(first, why, count - zeros)
                return None
            if block == _ZEROS:
                if self._strict:
                    raise FormatError("a block of zeros")
                if not count:
                    if self._block() == _ZEROS:
                        if not self._goes_on():
                            return None
                        count = zeros = 2
                        first, why = (
                            self.offset - 2 * BLOCK_BYTES,
                            "they begin with zeros, and the stream does not end yet",
                        )
                        continue
                    self._unread()
                    self._lost(self.offset - BLOCK_BYTES, "a lone block of zeros", zeros=True)
                    continue
                count += 1
                zeros += 1
                continue
            try:
                header = parse_header(block)
                wrong = self._wrong(header) if count else ""
            except FormatError as error:
                wrong = str(error)
            if not wrong:
                if count:
                    self._lost(first, why, count)
                if header.type == GNU_MULTI_VOLUME:
                    raise StreamRefused("a part of a tar archive on several volumes, which is not supported")
                return header
            if self._strict:
                raise FormatError(wrong)
            if not count:
                first, why = self.offset - BLOCK_BYTES, wrong
            count, zeros = count + 1, 0
            if not self._members and self.offset == BLOCK_BYTES:
                _refuse_dump(block)
            if not self._members and count > _LOOK_BLOCKS:
                raise StreamRefused(f"not a tar stream: no header in its first {count * BLOCK_BYTES} bytes")

    def _goes_on(self) -> bool:
        """Whether more must follow than the padding of a stream of ours; of no other stream is that known."""
        return bool(self.identity) and self.length is not None and self.length - self.offset >= RECORD_BYTES

    def _wrong(self, header: Header) -> str:
        """Why a good header behind a damaged place is not believed; "" = it is."""
        if self.identity and not (header.type == EXTENDED and header.name == self.identity):
            return "a header of another archive"
        if self._members and self._all_extended and header.type not in PAX_TYPES | {GNU_LONG_NAME, GNU_LONG_LINK}:
            return "a header without the extended one that belongs to it"
        return ""


def tell_nobody(*_: object) -> None:
    """The first reader tells."""


def _refuse_dump(block: bytes) -> None:
    """What begins as a dump may hold an archive in a file further on, which is not the stream that is wanted."""
    if DUMP_MAGIC in {int.from_bytes(block[24:28], "little"), int.from_bytes(block[24:28], "big")}:
        raise StreamRefused("not a tar stream but one of dump: name the type 'dump'")
