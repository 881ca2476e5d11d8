"""Streams made to do harm, cut streams and damaged ones: nothing is written outside, all ends and is reported."""

import errno
import gc
import os
import stat
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mover.data import beneath, recover_catalogue, tree_writer
from mover.data.recover_plan import Target
from mover.ring import Kind
from tests.data.dump_writer import DumpWriter, Meta, attribute_blob
from tests.data.recover_runner import Outcome, name, recover_here

SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """The destination, and beside it what must not change."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    inside.mkdir()
    return inside, outside


def untouched(outside: Path) -> bool:
    names = sorted(path.name for path in outside.parent.iterdir())
    return (
        names == ["inside", "outside"]
        and [path.name for path in outside.iterdir()] == ["kept"]
        and (outside / "kept").read_text() == "kept"
    )


def ended(outcome: Outcome) -> bool:
    return outcome.finished.reason in {1, 3, 4} and set(outcome.status) == {b""}


@pytest.mark.parametrize(
    "bad", [b"..", b".", b"../outside/new", b"/tmp/new", b"a/b", b"a\0b", b"", b"sub/../../outside/kept"]
)
def test_names_that_lead_away(places: tuple[Path, Path], bad: bytes) -> None:
    inside, outside = places
    for as_directory in (False, True):
        writer = DumpWriter().begin([2, 3, 4])
        writer.directory(2, [(3, bad), (4, b"good")])
        if as_directory and bad != b"..":
            writer.directory(3, [])
        elif not as_directory:
            writer.file(3, b"harm")
        writer.file(4, b"good")
        outcome = recover_here(writer.end(), [name(inside)])
        assert untouched(outside)
        assert sorted(path.name for path in inside.iterdir()) == ["good"]
        assert outcome.finished.reason == 1
        assert outcome.finished.errors == 1
        assert outcome.status == {b"": 5}
        assert b"in the dump is not allowed" in outcome.text()


def test_a_link_and_then_something_through_it(places: tuple[Path, Path]) -> None:
    inside, outside = places
    writer = DumpWriter().begin(range(2, 8))
    # "way" is a symbolic link to outside, and a directory with a file, and twice a file.
    writer.directory(2, [(4, b"way"), (3, b"way"), (6, b"way"), (7, b"way")])
    writer.directory(3, [(5, b"kept")])
    writer.content(4, Meta(stat.S_IFLNK | 0o777), bytes(outside))
    writer.file(5, b"harm")
    writer.file(6, b"harm")
    writer.content(7, Meta(stat.S_IFLNK | 0o777), bytes(outside / "kept"))
    outcome = recover_here(writer.end(), [name(inside)])
    assert untouched(outside)
    assert (inside / "way").is_dir()
    assert not (inside / "way").is_symlink()
    assert outcome.finished.errors == 3

    without = DumpWriter().begin(range(2, 8))
    without.directory(2, [(4, b"kept"), (5, b"kept"), (6, b"kept")])
    without.content(4, Meta(stat.S_IFLNK | 0o777), bytes(outside / "kept"))
    without.file(5, b"harm")
    without.content(6, Meta(stat.S_IFREG | 0o4777, 1, 1), b"harm")
    outcome = recover_here(without.end(), [name(inside, below=b"second")])
    assert untouched(outside)
    assert outcome.finished.files == 3
    assert not (inside / "second/kept").is_symlink()


def test_hard_link_to_what_a_symbolic_link_means(places: tuple[Path, Path]) -> None:
    inside, outside = places
    writer = DumpWriter().begin(range(2, 5))
    writer.directory(2, [(3, b"a"), (3, b"b")])
    writer.content(3, Meta(stat.S_IFLNK | 0o777, nlink=2), bytes(outside / "kept"))
    writer.extension(3, Meta(stat.S_IFLNK | 0o777), attribute_blob([(1, b"x", b"1")]))
    recover_here(writer.end(), [name(inside)])
    assert untouched(outside)
    assert os.listxattr(outside / "kept") == []
    assert (outside / "kept").stat().st_nlink == 1
    assert (inside / "a").is_symlink()
    assert (inside / "b").is_symlink()


def test_directories_in_circles(places: tuple[Path, Path]) -> None:
    inside, _ = places
    writer = DumpWriter().begin([2, 3, 4])
    writer.directory(2, [(3, b"a")])
    writer.directory(3, [(4, b"b"), (3, b"self"), (2, b"root")])
    writer.directory(4, [(3, b"up")], parent=3)
    outcome = recover_here(writer.end(), [name(inside)])
    assert sorted(path.name for path in inside.rglob("*")) == ["a", "b"]
    assert outcome.finished.errors == 3


def test_numbers_that_cannot_be(places: tuple[Path, Path]) -> None:
    inside, outside = places
    writer = DumpWriter().begin(range(2, 12))
    writer.directory(2, [(number, b"n%d" % number) for number in range(3, 11)])
    writer.header(2, inumber=3, meta=Meta(stat.S_IFREG | 0o644), size=2**64 - 1)
    writer.header(2, inumber=4, meta=Meta(stat.S_IFREG | 0o644), size=2**63 - 1)
    writer.header(2, inumber=5, meta=Meta(stat.S_IFREG | 0o644), size=10, count=0xFFFF_FFFF)
    writer.header(2, inumber=6, meta=Meta(stat.S_IFLNK | 0o777), size=5)
    writer.content(7, Meta(stat.S_IFLNK | 0o777), b"n\0n")
    writer.header(2, inumber=8, meta=Meta(0o644), size=0)
    writer.header(2, inumber=9, meta=Meta(stat.S_IFREG | 0o644, mtime_s=0xFFFF_FFFF, mtime_us=0xFFFF_FFFF))
    writer.extension(9, Meta(stat.S_IFREG), b"\xff" * 3000)
    writer.header(2, inumber=10, meta=Meta(stat.S_IFREG | 0o644, 0xFFFF_FFFF, 0xFFFF_FFFF))
    writer.extension(10, Meta(stat.S_IFREG), attribute_blob([(1, b"", b"1"), (1, b"a\0b", b"1")]))
    outcome = recover_here(writer.end(), [name(inside)])
    assert untouched(outside)
    assert outcome.finished.reason == 1
    assert {path.name for path in inside.iterdir()} >= {"n9", "n10"}
    assert not {path.name for path in inside.iterdir()} & {"n3", "n5", "n6", "n7", "n8"}


def test_holes_in_a_directory_are_damage_and_no_memory(places: tuple[Path, Path]) -> None:
    inside, _ = places
    writer = DumpWriter().begin([2, 3])
    meta = Meta(stat.S_IFDIR | 0o755)
    first = DumpWriter().directory(2, [(3, b"good")], meta=meta, chunk=1024)
    size, holes = 1 << 40, 200
    writer.header(2, inumber=2, meta=meta, size=size, addr=b"\1")
    writer.stream += first.stream[1024:]
    for _ in range(holes):
        writer.header(4, inumber=2, meta=meta, size=size, count=512)
    writer.file(3, b"good")
    tracemalloc.start()
    try:
        outcome = recover_here(writer.end(), [name(inside)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20
    assert [path.name for path in inside.iterdir()] == ["good"]
    assert b"%d damaged pieces of the directory" % (512 * holes) in outcome.text()
    assert outcome.status == {b"": 5}


def test_depth_is_not_paid_for_at_every_level(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    depth = 2_000
    inside = tmp_path_factory.mktemp("deep")
    writer = DumpWriter().begin(range(2, depth + 3))
    for number in range(2, depth + 2):
        writer.directory(number, [(number + 1, b"d")])
    writer.file(depth + 2, b"bottom")
    walked: list[int] = []
    paths: list[bytes] = []
    open_beneath, path = beneath.open_beneath, Target.path

    def counting(root: int, parts: list[bytes]) -> int:
        walked.append(len(parts))
        return open_beneath(root, parts)

    def asked(target: Target, name: bytes = b"") -> bytes:
        paths.append(path(target, name))
        return paths[-1]

    monkeypatch.setattr(tree_writer, "open_beneath", counting)
    monkeypatch.setattr(Target, "path", asked)
    try:
        outcome = recover_here(writer.end(), [name(inside)])
    finally:
        found = subprocess.run(["find", inside, "-name", "d", "-type", "f"], capture_output=True, check=True)
        subprocess.run(["rm", "-rf", inside], check=True)  # deeper than Python's recursion goes
    assert (outcome.finished.directories, outcome.finished.files, outcome.finished.errors) == (depth, 1, 0)
    assert found.stdout.strip() == bytes(inside) + b"/d" * depth
    assert sum(walked) < 50 * depth
    assert len(paths) < 10


def test_what_cannot_take_its_place_leaves_nothing_beside_it(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, _ = places
    for old in ("file", "link", "hard"):
        (inside / old).write_text("old")

    def busy(*_: object, **__: object) -> None:  # as for a file that something is mounted on, or that is immutable
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "rename", busy)
    writer = DumpWriter().begin(range(2, 6))
    writer.directory(2, [(3, b"file"), (3, b"other"), (4, b"link"), (5, b"first"), (5, b"hard")])
    writer.content(3, Meta(stat.S_IFREG | 0o644, nlink=2), b"new")
    writer.content(4, Meta(stat.S_IFLNK | 0o777), b"new")
    writer.content(5, Meta(stat.S_IFREG | 0o644, nlink=2), b"new")
    outcome = recover_here(writer.end(), [name(inside)])
    assert sorted(path.name for path in inside.iterdir()) == ["file", "first", "hard", "link"]
    assert {(inside / old).read_text() for old in ("file", "link", "hard")} == {"old"}
    assert (outcome.finished.errors, outcome.text().count(b"EBUSY")) == (4, 3)
    assert b"/other: it could not be made under another of its names" in outcome.text()


@pytest.mark.parametrize("old", [False, True])
def test_what_cannot_become_whole_leaves_nothing(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    inside, _ = places
    if old:
        for kept in ("sparse", "copy"):
            (inside / kept).write_text("old")

    ftruncate = os.ftruncate

    def too_large(fd: int, length: int) -> None:
        if length == 1 << 62:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        ftruncate(fd, length)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "ftruncate", too_large)
    monkeypatch.setattr(os, "sendfile", full)
    writer = DumpWriter().begin(range(2, 5))
    writer.directory(2, [(3, b"sparse"), (4, b"twice")])
    writer.header(2, inumber=3, meta=Meta(stat.S_IFREG | 0o644), size=1 << 62)
    writer.file(4, b"content")
    wanted = [name(inside, b"sparse", below=b"sparse"), name(inside, b"twice", below=b"one")]
    outcome = recover_here(writer.end(), [*wanted, name(inside, b"twice", below=b"copy")])
    assert outcome.finished.errors == 2
    assert (inside / "one").read_bytes() == b"content"
    assert {path.name: path.read_bytes() for path in inside.iterdir() if path.name != "one"} == (
        {"sparse": b"old", "copy": b"old"} if old else {}
    )


def test_what_lies_behind_the_size_of_a_directory_is_not_kept(places: tuple[Path, Path]) -> None:
    inside, _ = places
    writer = DumpWriter().begin([2, 3, 4])
    meta = Meta(stat.S_IFDIR | 0o755)
    for kind, entry in ((2, (3, b"in")), (4, (4, b"behind"))):
        writer.header(kind, inumber=2, meta=meta, size=1024, addr=b"\1")
        writer.stream += DumpWriter().directory(2, [entry], meta=meta).stream[1024:].ljust(1024, b"\0")
    writer.file(3, b"in").file(4, b"behind")
    recover_here(writer.end(), [name(inside)])
    assert [path.name for path in inside.iterdir()] == ["in"]


def test_the_last_map_counts_and_half_a_map_is_none(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    inside, _ = places
    monkeypatch.setattr(recover_catalogue, "MAP_BYTES_MAX", 1024)
    for number in (1, 2):
        writer = DumpWriter().begin([2])  # a map without 3
        if number == 1:
            writer.header(4, inumber=0, addr=b"\1")  # goes on, beyond what is kept
            writer.stream += bytes(1024)
        else:
            writer.header(3, count=1)
            writer.stream += b"\xff" * 1024
        writer.directory(2, [(3, b"file%d" % number)]).file(3, b"content")
        assert recover_here(writer.end(), [name(inside)]).status == {b"": 0}
    assert sorted(path.name for path in inside.iterdir()) == ["file1", "file2"]


def sample() -> tuple[bytes, int]:
    """A stream with one of everything, and the offset where its head ends."""
    writer = DumpWriter().begin(range(2, 9))
    writer.directory(2, [(3, b"dir"), (4, b"one"), (5, b"link"), (6, b"fifo"), (7, b"large")])
    writer.directory(3, [(8, b"inner"), (4, b"hard")])
    head = len(writer.stream)
    writer.content(4, Meta(stat.S_IFREG | 0o644, nlink=2), b"one" * 700)
    writer.extension(4, Meta(stat.S_IFREG), attribute_blob([(1, b"x", b"1")]))
    writer.content(5, Meta(stat.S_IFLNK | 0o777), b"../outside/kept")
    writer.content(6, Meta(stat.S_IFIFO | 0o600), b"")
    writer.content(7, Meta(stat.S_IFREG | 0o644), b"large" * 120_000)
    writer.file(8, b"inner")
    return writer.end(2), head


STREAM, HEAD = sample()


@settings(max_examples=60, deadline=None, suppress_health_check=SUPPRESSED)
@given(length=st.integers(0, len(STREAM) - 4097), failed=st.booleans())
def test_cut_anywhere(tmp_path_factory: pytest.TempPathFactory, length: int, failed: bool) -> None:
    base = tmp_path_factory.mktemp("cut")
    inside, outside = base / "inside", base / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("kept")
    outcome = recover_here(STREAM[:length], [name(inside)], end=Kind.FAILED if failed else Kind.END)
    assert untouched(outside)
    assert outcome.finished.reason == 4
    assert outcome.status == {b"": 5}


@settings(max_examples=150, deadline=None, suppress_health_check=SUPPRESSED)
@given(
    flips=st.lists(st.tuples(st.one_of(st.integers(0, HEAD), st.integers(0, len(STREAM) - 1)), st.integers(0, 7)),
                   min_size=1, max_size=6),
    resum=st.booleans(),
)  # fmt: skip
def test_flipped_bits(tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], resum: bool) -> None:
    """Also with the checksum made right again, as someone who means it would."""
    stream = bytearray(STREAM)
    for at, bit in flips:
        stream[at] ^= 1 << bit
        record = at // 1024 * 1024
        if resum and int.from_bytes(stream[record + 24 : record + 28], "little") == 60012:
            stream[record + 28 : record + 32] = bytes(4)
            total = sum(int.from_bytes(stream[word : word + 4], "little") for word in range(record, record + 1024, 4))
            stream[record + 28 : record + 32] = (84446 - total & 0xFFFF_FFFF).to_bytes(4, "little")
    base = tmp_path_factory.mktemp("flip")
    inside, outside = base / "inside", base / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("kept")
    outcome = recover_here(bytes(stream), [name(inside)])
    assert untouched(outside)
    assert ended(outcome)
    assert "error of its own" not in outcome.finished.text
    inside.chmod(0o700)


def test_descriptors_do_not_leak(tmp_path: Path) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for length in (0, 5000, HEAD, HEAD + 3000, len(STREAM) - 3000, len(STREAM)):
        recover_here(STREAM[:length], [name(tmp_path)])
    assert len(os.listdir("/proc/self/fd")) == before
