"""Dump streams that end too early, are damaged, or are none that can be recovered."""

import os
import stat
from pathlib import Path

import pytest

from mover.ring import Kind, Verdict
from tests.data.dump_writer import DumpWriter, attribute_blob
from tests.data.recover_runner import name, recover, recover_here
from tests.data.small_stream import ALL, LARGE, REGULAR, listing, own, small_stream


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (Kind.END, "the stream ends after"),
        (Kind.FAILED, "the other side failed after"),
        (Verdict.BROKEN, "the data connection was broken"),
        (Verdict.CLOSED, "the data connection was closed"),
    ],
)
def test_a_stream_that_ends_too_early(tmp_path: Path, end: Kind | Verdict, text: str) -> None:
    stream = small_stream()
    cut_at = stream.index(LARGE[:4096]) + 200_000
    outcome = recover(stream[:cut_at], [name(tmp_path), name(tmp_path, b"top", below=b"t")], end=end, lengths=1024)
    assert outcome.finished.reason == 4
    assert text in outcome.finished.text
    assert outcome.status == {b"": 5, b"top": 0} or isinstance(end, Verdict)
    assert outcome.status[b""] == 5
    # A verdict drops what is still in the ring; an end in band comes behind all bytes.
    if isinstance(end, Kind):
        assert (tmp_path / "large").stat().st_size == len(LARGE)
        assert b"/large: a part of it is lost in the stream" in outcome.text()
        assert b"not reached: 4 entries" in outcome.text()
        assert stat.S_IMODE((tmp_path / "dir").stat().st_mode) == 0o2750


def test_an_incomplete_file_does_not_replace_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / "large").write_text("old")
    stream = small_stream()
    outcome = recover(stream[: stream.index(LARGE[:4096]) + 200_000], [name(tmp_path)])
    assert (tmp_path / "large").read_text() == "old"
    assert b"what has its name stays" in outcome.text()
    assert not [path for path in listing(tmp_path) if "mover" in path]


@pytest.mark.parametrize("holes", [False, True])
def test_nor_does_one_that_ends_behind_its_only_header(tmp_path: Path, holes: bool) -> None:
    (tmp_path / "old").write_text("old")
    content = b"x" * 20_000 + bytes(20_000) + b"y" * 20_000
    writer = DumpWriter().begin(range(2, 5))
    writer.directory(2, [(3, b"old"), (4, b"none")], meta=own(0o40755))
    for number in (3, 4):
        writer.content(number, own(REGULAR), content, holes=holes)
    stream = writer.end()
    for number, path in ((3, tmp_path / "old"), (4, tmp_path / "none")):
        outcome = recover(stream[: writer.offsets[number] + 1024 + 30_000], [name(tmp_path)])
        assert b"%s: a part of it is lost in the stream" % os.fsencode(path) in outcome.text()
        assert listing(tmp_path) == {"old"} | {path.name}
        assert number == 4 or path.read_text() == "old"


def test_nor_does_one_whose_attributes_are_cut_off(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    writer = DumpWriter().begin(range(2, 4))
    writer.directory(2, [(3, b"old")], meta=own(0o40755))
    writer.content(3, own(REGULAR), b"new")
    writer.extension(3, own(REGULAR), attribute_blob([(1, b"first", b"1" * 1500)]))
    outcome = recover(bytes(writer.stream[:-1024]), [name(tmp_path)])
    assert b"/old: a part of it is lost in the stream: what has its name stays" in outcome.text()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old": "old"}


def test_a_lost_header_costs_one_file(tmp_path: Path) -> None:
    stream = bytearray(small_stream())
    at = stream.index(b"top", 10_000) - 1024 + 500  # in the header before the content of "top"
    stream[at] ^= 0x40
    outcome = recover(bytes(stream), [name(tmp_path)])
    assert listing(tmp_path) == ALL - {"top"}
    assert outcome.finished.reason == 1
    assert outcome.finished.errors == 2
    assert b"2 records of the stream" in outcome.text()
    assert b"wrong checksum" in outcome.text()
    assert b"/top: named in the dump but not in it" in outcome.text()
    assert outcome.status == {b"": 5}


def test_a_lost_continuation_is_reported_and_what_follows_not_written_to_a_wrong_place(tmp_path: Path) -> None:
    writer = DumpWriter().begin([2, 3, 4])
    writer.directory(2, [(3, b"large"), (4, b"next")])
    writer.file(3, b"x" * (512 * 1024) + b"y" * (512 * 1024) + b"z" * 1024)
    writer.file(4, b"next")
    stream = bytearray(writer.end())
    second = stream.index(b"y" * 100) - 1024
    stream[second + 10] ^= 1
    outcome = recover(bytes(stream), [name(tmp_path)])
    data = (tmp_path / "large").read_bytes()
    assert data == b"x" * (512 * 1024) + bytes(512 * 1024 + 1024)
    assert (tmp_path / "next").read_bytes() == b"next"
    assert b"/large: a part of it is lost" in outcome.text()


def test_who_asked_for_a_damaged_directory_or_file_hears_of_it(tmp_path: Path) -> None:
    writer = DumpWriter().begin(range(2, 47))
    writer.directory(2, [(3, b"whole"), (4, b"cut"), (5, b"bare"), (6, b"file")], meta=own(0o40755))
    writer.directory(3, [(7, b"in")], meta=own(0o40755))
    cut = len(writer.stream)
    writer.directory(4, [(number, b"%d" % number * 40) for number in range(8, 47)], meta=own(0o40755))
    writer.directory(5, [], meta=own(0o40755))
    writer.extension(5, own(0o40755), b"no attributes" * 9)
    writer.content(6, own(REGULAR), b"content")
    writer.extension(6, own(REGULAR), b"no attributes" * 9)
    for number in range(7, 47):
        writer.content(number, own(REGULAR), b"")
    stream = bytearray(writer.end())
    stream[cut + 2048 + 10] ^= 1  # the second header of "cut"
    parts = [b"whole", b"cut", b"bare", b"file"]
    outcome = recover(bytes(stream), [name(tmp_path, part, below=part) for part in parts])
    assert outcome.status == {b"whole": 0, b"cut": 5, b"bare": 5, b"file": 5}
    assert outcome.finished.errors == 4
    assert (tmp_path / "file").read_bytes() == b"content"
    outcome = recover(bytes(stream), [name(tmp_path, below=b"all")])
    assert outcome.status == {b"": 5}


def test_a_dump_inside_a_file_is_not_taken_for_the_stream(tmp_path: Path) -> None:
    inner = DumpWriter().begin([2, 3])
    inner.directory(2, [(3, b"top")])
    inner.file(3, b"WRONG")
    outer = DumpWriter().begin([2, 3, 4])
    outer.directory(2, [(3, b"top"), (4, b"image")])
    outer.file(3, b"right")
    at = len(outer.stream)
    outer.file(4, inner.end())
    stream = bytearray(outer.end())
    stream[at + 3] ^= 1
    outcome = recover(bytes(stream), [name(tmp_path)])
    assert (tmp_path / "top").read_bytes() == b"right"
    assert not (tmp_path / "image").exists()
    assert outcome.finished.reason == 1
    assert outcome.finished.errors == 2


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"P" * 4096, "not a dump stream: no dump header"),
        (DumpWriter(volume=2).begin([2]).end(), "volume 2 of a dump on several volumes"),
        (DumpWriter(flags=0x82).begin([2]).end(), "a compressed dump"),
        (DumpWriter(flags=0).begin([2]).end(), "a dump with directories of the format before 4.4BSD"),
        (DumpWriter().end(), "not the beginning of a dump stream"),
    ],
)
def test_streams_that_cannot_be_read(tmp_path: Path, stream: bytes, text: str) -> None:
    outcome = recover_here(stream, [name(tmp_path)])
    assert outcome.finished.reason == 3
    assert outcome.finished.text.startswith(text)
    assert "\n" not in outcome.finished.text
    assert outcome.status == {b"": 5}


def test_a_second_volume_in_the_stream_is_refused_where_it_begins(tmp_path: Path) -> None:
    writer = DumpWriter().begin([2, 3, 4])
    writer.directory(2, [(3, b"one"), (4, b"two")])
    writer.file(3, b"one")
    writer.volume = 2
    writer.header(1, flags=1)
    writer.volume = 1
    writer.file(4, b"two")
    outcome = recover_here(writer.end(), [name(tmp_path)])
    assert outcome.finished.reason == 3
    assert "several volumes" in outcome.finished.text
    assert listing(tmp_path) == {"one"}


def test_zeros_between_inodes_are_no_error(tmp_path: Path) -> None:
    writer = DumpWriter().begin([2, 3, 4])
    writer.directory(2, [(3, b"one"), (4, b"two")])
    writer.file(3, b"one")
    writer.stream += bytes(10 * 1024)
    writer.file(4, b"two")
    outcome = recover_here(writer.end(), [name(tmp_path)])
    assert listing(tmp_path) == {"one", "two"}
    assert outcome.finished.errors == 0
    assert b"10 records of the stream" in outcome.text()


def test_inodes_out_of_order_and_twice(tmp_path: Path) -> None:
    writer = DumpWriter().begin([2, 3, 4, 5])
    writer.directory(2, [(3, b"three"), (4, b"four"), (5, b"five")])
    for inumber, content in [(5, b"5"), (4, b"4"), (3, b"3"), (4, b"again"), (5, b"again")]:
        writer.content(inumber, own(REGULAR), content)
    outcome = recover_here(writer.end(), [name(tmp_path)])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"three": b"3", "four": b"4", "five": b"5"}
    assert outcome.finished.files == 3
