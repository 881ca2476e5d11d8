"""A .tap reader and writer of the tests' own, from the format's description: no code of the tape room."""

import struct
from pathlib import Path

MARK = None
Tape = list[bytes | None]  # records and marks in order


def parse(data: bytes) -> Tape:
    """Every record and filemark of a cartridge file that is whole."""
    tape: Tape = []
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if length == 0:
            tape.append(MARK)
            continue
        assert length < 1 << 28, f"marker {length:#x} at {at - 4}"
        record = data[at : at + length]
        assert len(record) == length
        at += length + length % 2
        assert struct.unpack_from("<I", data, at) == (length,)
        at += 4
        tape.append(record)
    return tape


def build(tape: Tape) -> bytes:
    """The file that holds these records and marks."""
    parts = []
    for item in tape:
        if item is None:
            parts.append(b"\0\0\0\0")
        else:
            word = struct.pack("<I", len(item))
            parts.append(word + item + b"\0" * (len(item) % 2) + word)
    return b"".join(parts)


def read(path: Path) -> Tape:
    return parse(path.read_bytes())


def create(path: Path) -> None:
    """An empty cartridge, which must not exist yet."""
    with path.open("xb"):
        pass
