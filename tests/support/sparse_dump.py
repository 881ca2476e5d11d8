"""A cartridge with a large dump on it that takes little room: most of the stream is zeros, and those are holes.

The stream is a dump of a tree of small files with one large file in their midst, as a backup of it would write it.
"""

import os
from pathlib import Path
from typing import NamedTuple

from mover.data.dump_format import (
    DT_DIRECTORY,
    DT_FILE,
    HEADER_SPAN_BYTES,
    NO_INODE,
    RECORD_BYTES,
    TAPE_BLOCK_RECORDS,
    DumpLabel,
    Inode,
    RecordType,
    full_bitmap,
    pack_directory,
    pack_header,
)

SMALL_BYTES = 4096
_ROOT = 2
_DATE = 1_700_000_000
_LABEL = DumpLabel(_DATE, label=b"sparsedump", filesystem=b"/sparse")


class Place(NamedTuple):
    """A small file: its path, what a file history says of it, and its content."""

    path: bytes
    node: int
    fh_info: int
    content: bytes


class SparseDump(NamedTuple):
    """What is on the cartridge.

    Attributes:
        env: what the backup's GET_ENV would have returned.
        places: of the small files, by number.
        directories: offsets of their headers, by number; their inodes begin with 3.
    """

    stream_bytes: int
    env: dict[str, str]
    places: list[Place]
    directories: list[int]


class _Cartridge:
    """A .tap file that is written anywhere by offset in its stream."""

    def __init__(self, path: Path, record_size: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._size = record_size
        self.offset = 0

    def write(self, data: bytes) -> None:
        """Append to the stream."""
        while data:
            record, inside = divmod(self.offset, self._size)
            part = data[: self._size - inside]
            os.pwrite(self._fd, part, record * (self._size + 8) + 4 + inside)
            self.offset += len(part)
            data = data[len(part) :]

    def skip(self, count: int) -> None:
        """Append zeros."""
        self.offset += count

    def finish(self) -> None:
        """Pad the last record, write the length words and a filemark."""
        records = -(-self.offset // self._size)
        word = self._size.to_bytes(4, "little")
        for record in range(records):
            at = record * (self._size + 8)
            os.pwrite(self._fd, word * 2 if record else word, at - 4 if record else 0)
        end = records * (self._size + 8)
        os.pwrite(self._fd, word + bytes(4), end - 4)
        os.close(self._fd)


def make_sparse_dump(path: Path, *, files: int, directories: int, large_bytes: int, record_size: int) -> SparseDump:
    """Write the cartridge.

    Args:
        files: small ones, in as many directories as told.
        large_bytes: of the file that lies behind half of them.
    """
    tape = _Cartridge(path, record_size)
    first = _ROOT + 1 + directories
    large = first + files // 2
    numbers = [number + (number >= large) for number in range(first, first + files)]
    heads = _head(tape, numbers, directories, large)
    places: list[Place] = []
    for at, inumber in enumerate(numbers):
        if at == files // 2:
            _large(tape, large, large_bytes)
        start = b"small file %d\n" % at
        places.append(
            Place(b"/d%d/f%d" % (at % directories, at), inumber, tape.offset, start.ljust(SMALL_BYTES, b"\0"))
        )
        inode = _inode(0o100644, SMALL_BYTES)
        tape.write(_header(tape, RecordType.INODE, inumber, inode, SMALL_BYTES // RECORD_BYTES) + start)
        tape.skip(SMALL_BYTES - len(start))
    for _ in range(TAPE_BLOCK_RECORDS - tape.offset // RECORD_BYTES % TAPE_BLOCK_RECORDS):
        tape.write(_header(tape, RecordType.END, 0, NO_INODE, 0))
    env = {
        "FILESYSTEM": "/sparse",
        "MOVER_DUMP_ID": _LABEL.label.decode(),
        "MOVER_STREAM_BYTES": str(tape.offset),
    }
    made = SparseDump(tape.offset, env, places, heads)
    tape.finish()
    return made


def _header(tape: _Cartridge, kind: RecordType, inumber: int, inode: Inode, count: int) -> bytes:
    return pack_header(_LABEL, kind, tape.offset // RECORD_BYTES, inumber=inumber, inode=inode, count=count)


def _inode(mode: int, size: int) -> Inode:
    time_ns = _DATE * 1_000_000_000
    return Inode(mode, 1, os.geteuid(), os.getegid(), size, time_ns, time_ns, time_ns, blocks=-(-size // 512))


def _head(tape: _Cartridge, numbers: list[int], directories: int, large: int) -> list[int]:
    """TAPE, both maps and every directory; where those below the root lie."""
    tape.write(_header(tape, RecordType.TAPE, 0, NO_INODE, 0))
    bitmap = bytes(full_bitmap(max(*numbers, large)))
    for kind in (RecordType.CLRI, RecordType.BITS):
        tape.write(_header(tape, kind, 0, NO_INODE, len(bitmap) // RECORD_BYTES))
        tape.write(bitmap)
    inner = [_ROOT + 1 + at for at in range(directories)]
    names = [(inumber, DT_DIRECTORY, b"d%d" % at) for at, inumber in enumerate(inner)]
    _directory(tape, _ROOT, [*names, (large, DT_FILE, b"large")])
    offsets = []
    for at, inumber in enumerate(inner):
        offsets.append(tape.offset)
        members = range(at, len(numbers), directories)
        _directory(tape, inumber, [(numbers[number], DT_FILE, b"f%d" % number) for number in members])
    return offsets


def _directory(tape: _Cartridge, inumber: int, entries: list[tuple[int, int, bytes]]) -> None:
    data = pack_directory([(inumber, DT_DIRECTORY, b"."), (_ROOT, DT_DIRECTORY, b".."), *entries])
    _content(tape, inumber, _inode(0o040755, len(data)), data)


def _large(tape: _Cartridge, inumber: int, size: int) -> None:
    _content(tape, inumber, _inode(0o100644, size), None)


def _content(tape: _Cartridge, inumber: int, inode: Inode, data: bytes | None) -> None:
    """An inode with its content, in as many headers as it takes; None = zeros."""
    for at in range(0, inode.size, HEADER_SPAN_BYTES):
        length = min(HEADER_SPAN_BYTES, inode.size - at)
        kind = RecordType.ADDR if at else RecordType.INODE
        tape.write(_header(tape, kind, inumber, inode, -(-length // RECORD_BYTES)))
        if data is None:
            tape.skip(-(-length // RECORD_BYTES) * RECORD_BYTES)
        else:
            tape.write(data[at : at + length])
