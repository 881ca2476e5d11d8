"""Reads a cartridge file with no server: what is on it, and one tape file's stream as a plain file."""

from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

from mover.tape.cartridge import Cartridge, CartridgeError
from mover.tape.tape_map import LENGTH_BITS

__all__ = ["Contents", "Extracted", "OfflineError", "TapeFileContents", "extract", "list_files"]

Kind = Literal["dump", "tar", "label", "unknown", "empty"]
STREAMS: Final = ("dump", "tar")
DUMP_MAGIC: Final = 60012  # at offset 24 of every header, in the writer's byte order
DUMP_UNIT: Final = 1024
DUMP_END: Final = 5
# Type and magic of an END header, in both byte orders.
END_LITTLE: Final = DUMP_END.to_bytes(4, "little") + DUMP_MAGIC.to_bytes(4, "little")
END_BIG: Final = DUMP_END.to_bytes(4, "big") + DUMP_MAGIC.to_bytes(4, "big")
LABEL: Final = b"##ndmjob -m"
BUFFER_BYTES: Final = 1 << 20


class OfflineError(Exception):
    """A cartridge cannot be read, or holds no such tape file; one line for the operator."""


class TapeFileContents(Struct, frozen=True):
    """One tape file.

    Attributes:
        number: filemarks before it, as NDMP's file_num.
        records, bytes: their number and size together, padding included.
        record_bytes: size of the first record, 0 without one.
        kind: what the first record says it is.
        label: text of a label, else "".
    """

    number: int
    records: int
    bytes: int
    record_bytes: int
    kind: Kind
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
        files = [_describe(cartridge, number) for number in range(len(cartridge.map.files))]
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
    last record are left to it; tar ignores them.

    Args:
        file_number: which tape file; None = the first one that is a stream.

    Raises:
        OfflineError: no such tape file, or reading or writing failed.
    """
    cartridge = _open(path)
    try:
        chosen = _choose(cartridge, path, file_number)
        end = _dump_end(cartridge, chosen) if chosen.kind == "dump" else None
        missing = ""
        if chosen.kind == "dump" and end is None:
            missing = "the dump has no end"
        elif end is None and cartridge.warning and chosen.number == len(cartridge.map.files) - 1:
            missing = "the cartridge ends in it"
        length = left = chosen.bytes if end is None else end
        with open(output_path, "wb") as output:
            for piece in _pieces(cartridge, chosen.number):
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


def _choose(cartridge: Cartridge, path: str, file_number: int | None) -> TapeFileContents:
    files = cartridge.map.files
    if file_number is None:
        for number in range(len(files)):
            found = _describe(cartridge, number)
            if found.kind in STREAMS:
                return found
        raise OfflineError(f"{path}: no tape file holds a stream; name one with its number")
    if not 0 <= file_number < len(files) or not files[file_number].records:
        raise OfflineError(f"{path}: no tape file {file_number}")
    return _describe(cartridge, file_number)


def _describe(cartridge: Cartridge, number: int) -> TapeFileContents:
    file = cartridge.map.files[number]
    if not file.records:
        return TapeFileContents(number, 0, 0, 0, "empty", "")
    runs = file.runs()
    kind, label = _identify(_record(cartridge, number, 0, DUMP_UNIT))
    size = sum((word & LENGTH_BITS) * count for word, count in runs)
    return TapeFileContents(number, file.records, size, runs[0][0] & LENGTH_BITS, kind, label)


def _identify(head: bytes) -> tuple[Kind, str]:
    if DUMP_MAGIC in {int.from_bytes(head[24:28], "little"), int.from_bytes(head[24:28], "big")}:
        return "dump", ""
    if head[257:262] == b"ustar":
        return "tar", ""
    if head.startswith(LABEL):
        text = head[len(LABEL) :].split(b"\n")[0].rstrip(b"\0 ").strip()
        return "label", text.decode("utf-8", "replace")
    return "unknown", ""


def _record(cartridge: Cartridge, number: int, block: int, limit: int) -> bytes:
    """The first ``limit`` bytes of a record."""
    buffer = bytearray(limit)
    length = cartridge.read_record(number, block, memoryview(buffer))
    return bytes(buffer[:length])


def _pieces(cartridge: Cartridge, number: int) -> Iterator[memoryview]:
    """The tape file's bytes, record after record; a piece is good until the next one is asked for."""
    file = cartridge.map.files[number]
    buffer = memoryview(bytearray(BUFFER_BYTES))
    block = 0
    while block < file.records:
        size = file.place(block).word & LENGTH_BITS
        if size > len(buffer):
            buffer = memoryview(bytearray(size))
        count = cartridge.read_run(number, block, buffer, size)
        if not count:  # a record that was written as bad: reading it by itself says so
            cartridge.read_record(number, block, buffer)
        yield buffer[: count * size]
        block += count


def _dump_end(cartridge: Cartridge, chosen: TapeFileContents) -> int | None:
    """Bytes of a dump stream up to its last END record; None when the tape file does not end with one."""
    file = cartridge.map.files[chosen.number]
    begin, tail = chosen.bytes, b""
    for block in range(file.records - 1, -1, -1):
        size = file.place(block).word & LENGTH_BITS
        begin -= size
        tail = (_record(cartridge, chosen.number, block, size) + tail).rstrip(b"\0")
        if not tail:
            continue
        end = -(-(begin + len(tail)) // DUMP_UNIT) * DUMP_UNIT
        if end - DUMP_UNIT < begin:
            continue  # its header begins in an earlier record
        header = tail[end - DUMP_UNIT - begin :]
        return min(end, chosen.bytes) if header[:4] + header[24:28] in {END_LITTLE, END_BIG} else None
    return None
