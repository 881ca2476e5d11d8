"""Reads a cartridge file with no server: what is on it, and one tape file's stream as a plain file."""

from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

from mover.media import HEAD_BYTES, identify
from mover.tape.cartridge import Cartridge, CartridgeError
from mover.tape.tape_map import LENGTH_BITS

__all__ = ["Contents", "Extracted", "OfflineError", "TapeFileContents", "extract", "list_files"]

Kind = Literal["dump", "tar", "label", "unknown", "empty"]
STREAMS: Final = ("dump", "tar")
DUMP_MAGIC: Final = 60012
DUMP_UNIT: Final = 1024
DUMP_END: Final = 5
# Type and magic of an END header, in both byte orders.
END_LITTLE: Final = DUMP_END.to_bytes(4, "little") + DUMP_MAGIC.to_bytes(4, "little")
END_BIG: Final = DUMP_END.to_bytes(4, "big") + DUMP_MAGIC.to_bytes(4, "big")
BUFFER_BYTES: Final = 1 << 20
DAMAGES_MAX: Final = 100  # lines; the rest is counted


class OfflineError(Exception):
    """A cartridge cannot be read, or holds no such tape file; one line for the operator."""


class TapeFileContents(Struct, frozen=True):
    """One tape file.

    Attributes:
        number: filemarks before it, as NDMP's file_num.
        records, bytes: their number and size together, padding included.
        record_bytes: size of the first record, 0 without one.
        kind: what the first record says it is; behind a header, what the one after it says.
        writer: the backup program whose label, header or blocks these are; "" = not known.
        label: text of a label or header, else "".
    """

    number: int
    records: int
    bytes: int
    record_bytes: int
    kind: Kind
    writer: str
    label: str


class Contents(Struct, frozen=True):
    """What is on a cartridge; ``warning`` tells of a torn or unreadable end, else ""."""

    files: list[TapeFileContents]
    warning: str


class Extracted(Struct, frozen=True):
    """What was extracted.

    Attributes:
        number: of the tape file.
        bytes: of stream in the output.
        warning: as in Contents.
        missing: why the stream is not whole, else "".
        damages: a line for each record that has changed or cannot be read, where such are taken; of the first ones.
        damaged: how many there are.
    """

    number: int
    kind: Kind
    bytes: int
    warning: str
    missing: str
    damages: list[str] = []
    damaged: int = 0


def list_files(path: str) -> Contents:
    """The tape files of a cartridge, in order; empty ones behind the last filemarks are left out.

    Raises:
        OfflineError: it cannot be read.
    """
    cartridge = _open(path)
    try:
        files = [_look(_Reader(cartridge), number)[0] for number in range(len(cartridge.map.files))]
    except CartridgeError as error:
        raise OfflineError(str(error)) from error
    finally:
        cartridge.abandon()
    while files and not files[-1].records:
        files.pop()
    return Contents(files, cartridge.warning)


def extract(path: str, output_path: str, file_number: int | None = None, *, damaged: bool = False) -> Extracted:
    """Write the stream in a tape file, without its padding, to ``output_path``.

    A dump stream ends behind its last END record. A tar stream ends with zero blocks of its own, so the zeros of the
    last record are left to it; tar ignores them. A header in front of the stream (Amanda's) is no part of it.

    Args:
        file_number: which tape file; None = the first one that is a stream.
        damaged: take records that have changed as they lie there, and zeros for those that cannot be read.

    Raises:
        OfflineError: no such tape file, or reading or writing failed.
    """
    cartridge = _open(path)
    reader = _Reader(cartridge, damaged=damaged)
    try:
        chosen, first = _choose(reader, path, file_number)
        length = left = chosen.bytes - (chosen.record_bytes if first else 0)
        end = _dump_end(reader, chosen.number, first, length) if chosen.kind == "dump" else None
        missing = ""
        if chosen.kind == "dump" and end is None:
            missing = "the dump has no end"
        elif end is None and cartridge.warning and chosen.number == len(cartridge.map.files) - 1:
            missing = "the cartridge ends in it"
        if end is not None:
            length = left = end
        with open(output_path, "wb") as output:
            for piece in reader.pieces(chosen.number, first):
                part = piece[:left]
                output.write(part)
                left -= len(part)
    except CartridgeError as error:
        raise OfflineError(str(error)) from error
    except OSError as error:
        raise OfflineError(f"{output_path}: {error.strerror}") from error
    finally:
        cartridge.abandon()
    warning = cartridge.warning
    return Extracted(chosen.number, chosen.kind, length, warning, missing, reader.damages, reader.damaged)


def _open(path: str) -> Cartridge:
    try:
        return Cartridge(path, writable=False, exclusive=False)
    except CartridgeError as error:
        raise OfflineError(str(error)) from error


class _Reader:
    """Reads the records of a cartridge.

    Args:
        damaged: also those that have changed or cannot be read, and notes them as they come in ``pieces``.
    """

    def __init__(self, cartridge: Cartridge, *, damaged: bool = False) -> None:
        self.cartridge = cartridge
        self._takes_damaged = damaged
        self.damages: list[str] = []
        self.damaged = 0

    def record(self, number: int, block: int, limit: int) -> bytes:
        """The first ``limit`` bytes of a record. Raises CartridgeError."""
        buffer = memoryview(bytearray(limit))
        try:
            length = self.cartridge.read_record(number, block, buffer)
        except CartridgeError:
            if not self._takes_damaged:
                raise
            length = self.cartridge.read_damaged(number, block, buffer)
        return bytes(buffer[:length])

    def pieces(self, number: int, first: int) -> Iterator[memoryview]:
        """A tape file's bytes from a record on, record after record; one is good until the next is asked for.

        Raises:
            CartridgeError: a record has changed or cannot be read, and such are not taken.
        """
        file = self.cartridge.map.files[number]
        buffer = memoryview(bytearray(BUFFER_BYTES))
        block = first
        while block < file.records:
            size = file.place(block).word & LENGTH_BITS
            if size > len(buffer):
                buffer = memoryview(bytearray(size))
            count = self._run(number, block, buffer, size)
            yield buffer[: count * size]
            block += count

    def _run(self, number: int, block: int, buffer: memoryview, size: int) -> int:
        """Read as many records as go in one call, at least one."""
        try:
            count = self.cartridge.read_run(number, block, buffer, size)
            if count:
                return count
        except CartridgeError:  # one of the run: the record here, by itself, tells whether it is that one
            pass
        try:
            self.cartridge.read_record(number, block, buffer)  # a record that was written as bad says so here
        except CartridgeError as error:
            if not self._takes_damaged:
                raise
            self.damaged += 1
            if len(self.damages) < DAMAGES_MAX:
                self.damages.append(str(error))
            self.cartridge.read_damaged(number, block, buffer)
        return 1


def _choose(reader: _Reader, path: str, file_number: int | None) -> tuple[TapeFileContents, int]:
    """The tape file, and the number of its first record that is not a header."""
    files = reader.cartridge.map.files
    if file_number is None:
        for number in range(len(files)):
            found, first = _look(reader, number)
            if found.kind in STREAMS:
                return found, first
        raise OfflineError(f"{path}: no tape file holds a stream; name one with its number")
    if not 0 <= file_number < len(files) or not files[file_number].records:
        raise OfflineError(f"{path}: no tape file {file_number}")
    return _look(reader, file_number)


def _look(reader: _Reader, number: int) -> tuple[TapeFileContents, int]:
    file = reader.cartridge.map.files[number]
    if not file.records:
        return TapeFileContents(number, 0, 0, 0, "empty", "", ""), 0
    runs = file.runs()
    size = sum((word & LENGTH_BITS) * count for word, count in runs)
    found = identify(reader.record(number, 0, HEAD_BYTES))
    kind, first = found.kind, 0
    if kind == "header":
        first = 1
        kind = identify(reader.record(number, 1, HEAD_BYTES)).kind if file.records > 1 else "unknown"
    of_ours: Kind = kind if kind in {"dump", "tar", "label", "unknown"} else "unknown"
    contents = TapeFileContents(number, file.records, size, runs[0][0] & LENGTH_BITS, of_ours, found.writer, found.text)
    return contents, first


def _dump_end(reader: _Reader, number: int, first: int, length: int) -> int | None:
    """Bytes of a dump stream up to its last END record; None when the tape file does not end with one.

    Args:
        first: the record that it begins with.
        length: bytes from there to the end of the tape file.
    """
    file = reader.cartridge.map.files[number]
    begin, tail = length, b""
    for block in range(file.records - 1, first - 1, -1):
        size = file.place(block).word & LENGTH_BITS
        begin -= size
        tail = (reader.record(number, block, size) + tail).rstrip(b"\0")
        if not tail:
            continue
        end = -(-(begin + len(tail)) // DUMP_UNIT) * DUMP_UNIT
        if end - DUMP_UNIT < begin:
            continue  # its header begins in an earlier record
        header = tail[end - DUMP_UNIT - begin :]
        return min(end, length) if header[:4] + header[24:28] in {END_LITTLE, END_BIG} else None
    return None
