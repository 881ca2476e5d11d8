"""What other programs may write into a dump, and Debian's restore reads: so do we, with nothing to say of it.

Source: dump.md sections 2 to 6.
"""

import os
import random
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.dump_writer import RECORD, DumpWriter, attribute_blob
from tests.data.recover_runner import Outcome, name, recover_here
from tests.data.small_stream import check_small_tree, own, small_stream

DIRECTORY = own(stat.S_IFDIR | 0o755, nlink=2)
FILE = own(stat.S_IFREG | 0o644)
END = 5


def headers(stream: bytes) -> list[int]:
    return [at for at in range(0, len(stream), RECORD) if stream[at + 24 : at + 28] == struct.pack("<I", 60012)]


def kind(stream: bytes | bytearray, at: int) -> int:
    return int(struct.unpack_from("<I", stream, at)[0])


def put(offset: int, form: str, *values: int) -> Callable[[bytes], bytes]:
    """Every header with these words at an offset, and its sum right again."""

    def change(stream: bytes) -> bytes:
        changed = bytearray(stream)
        for at in headers(stream):
            struct.pack_into("<" + form, changed, at + offset, *values)
            with_sum(changed, at)
        return bytes(changed)

    return change


def with_sum(stream: bytearray, at: int) -> None:
    struct.pack_into("<I", stream, at + 28, 0)
    total = sum(struct.unpack_from("<256I", stream, at))
    struct.pack_into("<I", stream, at + 28, (84446 - total) & 0xFFFF_FFFF)


def first_end(stream: bytes) -> int:
    return next(at for at in headers(stream) if kind(stream, at) == END)


def end_like_the_inode_before(stream: bytes) -> bytes:
    """Debian's dump leaves the fields of the last inode in its END headers."""
    changed, last = bytearray(stream), 0
    for at in headers(stream):
        if kind(stream, at) == END:
            changed[at + 20 : at + 24] = stream[last + 20 : last + 24]
            changed[at + 32 : at + 676] = stream[last + 32 : last + 676]
            with_sum(changed, at)
        else:
            last = at
    return bytes(changed)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda stream: stream,
    "garbage behind the end": lambda stream: stream + random.Random(1).randbytes(1 << 20),
    "zeros behind the end": lambda stream: stream + bytes(1 << 20),
    "one END and no fill": lambda stream: stream[: first_end(stream) + RECORD],
    "an END like the inode before it": end_like_the_inode_before,
    "no number of a record": put(16, "I", 0),
    "no size of a tape block": put(896, "I", 0),
    "rubbish in the spare words": put(904, "30I", *range(1, 31)),
    "a first record of the volume": put(892, "I", 77),
}


@pytest.mark.parametrize("what", CHANGES)
def test_small_differences(tmp_path: Path, what: str) -> None:
    outcome = recover_here(CHANGES[what](small_stream()), [name(tmp_path, below=b"to")])
    assert_silent(outcome)
    check_small_tree(tmp_path / "to")


def test_flags_that_nobody_knows(tmp_path: Path) -> None:
    stream = bytearray(small_stream())
    for at in headers(bytes(stream)):
        (flags,) = struct.unpack_from("<I", stream, at + 888)
        struct.pack_into("<I", stream, at + 888, flags | 0x10 | 0x4000)
        with_sum(stream, at)
    assert_silent(recover_here(bytes(stream), [name(tmp_path, below=b"to")]))
    check_small_tree(tmp_path / "to")


def assert_silent(outcome: Outcome) -> None:
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), outcome.text()
    assert len(outcome.lines) == 1, outcome.text()  # what was recovered


@pytest.mark.parametrize("chunk", [512, 1024])
@pytest.mark.parametrize("root_last", [False, True])
def test_directories_in_any_order_and_chunk(tmp_path: Path, chunk: int, root_last: bool) -> None:
    writer = DumpWriter().begin(range(2, 60))
    names = [(number, b"file-%02d" % number + b"x" * number) for number in range(10, 60)]
    made = [(2, [(3, b"sub"), (4, b"other")], 2), (3, names[:25], 2), (4, names[25:], 2)]
    for inumber, entries, parent in reversed(made) if root_last else made:
        writer.directory(inumber, entries, parent=parent, chunk=chunk, meta=DIRECTORY)
    for number, content in names:
        writer.content(number, FILE, content)
    assert_silent(recover_here(writer.end(), [name(tmp_path)]))
    found = {path.name: path.read_bytes() for path in tmp_path.rglob("file-*")}
    assert found == {os.fsdecode(each): each for _, each in names}


def test_empty_slots_in_a_directory(tmp_path: Path) -> None:
    writer = DumpWriter().begin([2, 3])
    writer.directory(2, [(0, b"gone"), (3, b"file"), (0, b"gone too")], meta=DIRECTORY).content(3, FILE, b"content")
    assert_silent(recover_here(writer.end(), [name(tmp_path)]))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_maps_that_go_on_in_headers_of_their_own(tmp_path: Path) -> None:
    """Above 512 records; Linux writes a larger number into the one header."""
    number = 600 * RECORD * 8
    writer = DumpWriter()
    writer.header(1, flags=1)
    bitmap = bytearray(-(-number // 8 // RECORD) * RECORD)
    for each in (2, number):
        bitmap[(each - 1) // 8] |= 1 << (each - 1) % 8
    for map_kind in (6, 3):
        for first in range(0, len(bitmap), 512 * RECORD):
            part = bitmap[first : first + 512 * RECORD]
            writer.header(4 if first else map_kind, addr=b"\1" * (len(part) // RECORD))
            writer.stream += part
    writer.directory(2, [(number, b"far")], meta=DIRECTORY).content(number, FILE, b"content")
    assert_silent(recover_here(writer.end(), [name(tmp_path)]))
    assert (tmp_path / "far").read_bytes() == b"content"


def test_several_blocks_of_attributes_of_one_object(tmp_path: Path) -> None:
    """Debian's dump writes two: those in the inode, and those of a block."""
    writer = DumpWriter().begin([2, 3, 4]).directory(2, [(3, b"directory"), (4, b"file")], meta=DIRECTORY)
    writer.directory(3, [], meta=DIRECTORY)
    two = [attribute_blob([(1, b"one", b"1")], in_inode=True), attribute_blob([(1, b"two", b"2")])]
    for blob in two:
        writer.extension(3, DIRECTORY, blob)
    writer.content(4, FILE, b"content")
    for blob in two:
        writer.extension(4, FILE, blob)
    assert_silent(recover_here(writer.end(), [name(tmp_path)]))
    for each in ("directory", "file"):
        assert set(os.listxattr(tmp_path / each)) >= {"user.one", "user.two"}


def test_a_hole_at_the_end_that_is_not_written(tmp_path: Path) -> None:
    writer = DumpWriter().begin([2, 3, 4]).directory(2, [(3, b"sparse"), (4, b"next")], meta=DIRECTORY)
    writer.header(2, inumber=3, meta=FILE, size=5 << 20, addr=b"\1")
    writer.stream += b"x" * RECORD
    writer.content(4, FILE, b"next")
    assert_silent(recover_here(writer.end(), [name(tmp_path)]))
    assert (tmp_path / "sparse").read_bytes() == (b"x" * RECORD).ljust(5 << 20, b"\0")
    assert (tmp_path / "sparse").stat().st_blocks * 512 < 100_000
    assert (tmp_path / "next").read_bytes() == b"next"


def test_more_records_than_the_size_says(tmp_path: Path) -> None:
    writer = DumpWriter().begin([2, 3, 4]).directory(2, [(3, b"short"), (4, b"next")], meta=DIRECTORY)
    writer.header(2, inumber=3, meta=FILE, size=100, addr=b"\1\1\1")
    writer.stream += b"x" * 3 * RECORD
    writer.content(4, FILE, b"next")
    assert_silent(recover_here(writer.end(), [name(tmp_path)]))
    assert (tmp_path / "short").read_bytes() == b"x" * 100
    assert (tmp_path / "next").read_bytes() == b"next"


def test_a_name_of_255_bytes_in_a_dump_of_debians_costs_no_other_name(tmp_path: Path) -> None:
    """That build takes its length for none, so the next entry lies where the name was to be (dump.md, section 6)."""
    data = b""
    for inumber, text in ((2, b"."), (2, b".."), (3, b"before"), (4, bytes(255)), (5, b"behind"), (6, b"last")):
        held = b"" if len(text) == 255 else text + bytes(4 - len(text) % 4)
        length = 8 + len(held) if text != b"last" else 512 - len(data)
        data += struct.pack("<IHBB", inumber, length, 0, len(text)) + held
    writer = DumpWriter().begin(range(2, 7)).content(2, DIRECTORY, data.ljust(512, b"\0"), span=1)
    for inumber in range(3, 7):
        writer.content(inumber, FILE, b"content")
    outcome = recover_here(writer.end(), [name(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before", "behind", "last"]
    assert b": 1 damaged piece of the directory: names are missing" in outcome.text()
    assert outcome.finished.errors == 1
