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
    """

    number: int
    kind: Kind
    bytes: int
    warning: str
    missing: str


def list_files(path: str) -> Contents:
    """The tape files of a cartridge, in order; empty ones behind the last filemarks are left out.

    Raises:
        OfflineError: it cannot be read.
    """
    cartridge = _open(path)
    try:
        files = [_look(cartridge, number)[0] for number in range(len(cartridge.map.files))]
    except CartridgeError as error:
        raise OfflineError(str(error)) from error
    finally:
        cartridge.abandon()
    while files and not files[-1].records:
        files.pop()
    return Contents(files, cartridge.warning)


def extract(path: str, output_path: str, file_number: int | None = None) -> Extracted:
    """Write the stream in a tape file, without its padding, to ``output_path``.

    A dump stream ends behind its last END record. A tar stream ends with zero blocks of its own, so the zeros of the
    last record are left to it; tar ignores them. A header in front of the stream (Amanda's) is no part of it.

    Args:
        file_number: which tape file; None = the first one that is a stream.

    Raises:
        OfflineError: no such tape file, or reading or writing failed.
    """
    cartridge = _open(path)
    try:
        chosen, first = _choose(cartridge, path, file_number)
        length = left = chosen.bytes - (chosen.record_bytes if first else 0)
        end = _dump_end(cartridge, chosen.number, first, length) if chosen.kind == "dump" else None
        missing = ""
        if chosen.kind == "dump" and end is None:
            missing = "the dump has no end"
        elif end is None and cartridge.warning and chosen.number == len(cartridge.map.files) - 1:
            missing = "the cartridge ends in it"
        if end is not None:
            length = left = end
        with open(output_path, "wb") as output:
            for piece in _pieces(cartridge, chosen.number, first):
                part = piece[:left]
                output.write(part)
                left -= len(part)
    except CartridgeError as error:
        raise OfflineError(str(error)) from error
    except OSError as error:
        raise OfflineError(f"{output_path}: {error.strerror}") from error
    finally:
        cartridge.abandon()
    return Extracted(chosen.number, chosen.kind, length, cartridge.warning, missing)


def _open(path: str) -> Cartridge:
    try:
        return Cartridge(path, writable=False, exclusive=False)
    except CartridgeError as error:
        raise OfflineError(str(error)) from error


def _choose(cartridge: Cartridge, path: str, file_number: int | None) -> tuple[TapeFileContents, int]:
    """The tape file, and the number of its first record that is not a header."""
    files = cartridge.map.files
    if file_number is None:
        for number in range(len(files)):
            found, first = _look(cartridge, number)
            if found.kind in STREAMS:
                return found, first
        raise OfflineError(f"{path}: no tape file holds a stream; name one with its number")
    if not 0 <= file_number < len(files) or not files[file_number].records:
        raise OfflineError(f"{path}: no tape file {file_number}")
    return _look(cartridge, file_number)


def _look(cartridge: Cartridge, number: int) -> tuple[TapeFileContents, int]:
    file = cartridge.map.files[number]
    if not file.records:
        return TapeFileContents(number, 0, 0, 0, "empty", "", ""), 0
    runs = file.runs()
    size = sum((word & LENGTH_BITS) * count for word, count in runs)
    found = identify(_record(cartridge, number, 0, HEAD_BYTES))
    kind, first = found.kind, 0
    if kind == "header":
        first = 1
        kind = identify(_record(cartridge, number, 1, HEAD_BYTES)).kind if file.records > 1 else "unknown"
    of_ours: Kind = kind if kind in {"dump", "tar", "label", "unknown"} else "unknown"
    contents = TapeFileContents(number, file.records, size, runs[0][0] & LENGTH_BITS, of_ours, found.writer, found.text)
    return contents, first


def _record(cartridge: Cartridge, number: int, block: int, limit: int) -> bytes:
    """The first ``limit`` bytes of a record."""
    buffer = bytearray(limit)
    length = cartridge.read_record(number, block, memoryview(buffer))
    return bytes(buffer[:length])


def _pieces(cartridge: Cartridge, number: int, first: int) -> Iterator[memoryview]:
    """The tape file's bytes from a record on, record after record; a piece is good until the next one is asked for."""
    file = cartridge.map.files[number]
    buffer = memoryview(bytearray(BUFFER_BYTES))
    block = first
    while block < file.records:
        size = file.place(block).word & LENGTH_BITS
        if size > len(buffer):
            buffer = memoryview(bytearray(size))
        count = cartridge.read_run(number, block, buffer, size)
        if not count:  # a record that was written as bad: reading it by itself says so
            cartridge.read_record(number, block, buffer)
        yield buffer[: count * size]
        block += count


def _dump_end(cartridge: Cartridge, number: int, first: int, length: int) -> int | None:
    """Bytes of a dump stream up to its last END record; None when the tape file does not end with one.

    Args:
        first: the record that it begins with.
        length: bytes from there to the end of the tape file.
    """
    file = cartridge.map.files[number]
    begin, tail = length, b""
    for block in range(file.records - 1, first - 1, -1):
        size = file.place(block).word & LENGTH_BITS
        begin -= size
        tail = (_record(cartridge, number, block, size) + tail).rstrip(b"\0")
        if not tail:
            continue
        end = -(-(begin + len(tail)) // DUMP_UNIT) * DUMP_UNIT
        if end - DUMP_UNIT < begin:
            continue  # its header begins in an earlier record
        header = tail[end - DUMP_UNIT - begin :]
        return min(end, length) if header[:4] + header[24:28] in {END_LITTLE, END_BIG} else None
    return None
