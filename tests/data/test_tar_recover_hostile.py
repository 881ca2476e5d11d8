"""Tar streams made to do harm, cut ones and damaged ones: nothing is written outside, all ends and is reported."""

import gzip
import os
import random
import stat
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mover.data import file_systems, tar_recover_members
from mover.ring import Kind
from tests.data.dump_writer import DumpWriter
from tests.data.recover_runner import Outcome, name, recover_here
from tests.data.tar_writer import BLOCK, TarWriter, base_256, octal, record

SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
GNU = b"ustar  \0"
MIB = 1 << 20
Corpus = dict[str, Callable[[bytes], bytes]]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "syncfs", lambda fd: None)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """The destination, and beside it what must not change."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    inside.mkdir()
    (inside / "older").write_text("older")
    return inside, outside


def take(stream: bytes, inside: Path) -> Outcome:
    return recover_here(stream, [name(inside)], butype="tar")


def untouched(outside: Path) -> bool:
    kept = outside / "kept"
    return (
        sorted(path.name for path in outside.parent.iterdir()) == ["inside", "outside"]
        and [path.name for path in outside.iterdir()] == ["kept"]
        and kept.read_text() == "kept"
        and kept.stat().st_nlink == 1
        and stat.S_IMODE(kept.stat().st_mode) & 0o7000 == 0
        and os.listxattr(kept) == []
    )


def names_below(root: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(directory, each), root)
        for directory, directories, files in os.walk(root)
        for each in directories + files
    }


def _sparse(
    text: bytes, data: bytes = b"x" * 10, *, size: bytes = b"100", version: tuple[bytes, bytes] = (b"1", b"0")
) -> bytes:
    """A sparse member of format 1.0 with this text as its map."""
    keys = [(b"GNU.sparse.major", version[0]), (b"GNU.sparse.minor", version[1])]
    keys += [(b"GNU.sparse.name", b"sparse"), (b"GNU.sparse.realsize", size)]
    body = text + bytes(-len(text) % BLOCK) + data
    return TarWriter().pax(keys).file(b"GNUSparseFile.0/sparse", body).file(b"good", b"good").end()


def _old_sparse(entries: bytes, size: bytes, data: bytes = b"", extended: bytes = b"\0") -> TarWriter:
    fields = {386: entries, 482: extended, 483: size}
    return TarWriter().file(b"sparse", data, b"S", magic=GNU, at=fields)


def _pax(*records: tuple[bytes, bytes]) -> bytes:
    """A file with these records, between two that are good."""
    return TarWriter().file(b"first", b"1").pax(list(records)).file(b"pax", b"harm").file(b"good", b"good").end()


def _raw(data: bytes) -> bytes:
    return TarWriter().file(b"first", b"1").pax(data).file(b"pax", b"harm").file(b"good", b"good").end()


def _name(path: bytes) -> bytes:
    return TarWriter().file(path, b"harm").file(b"good", b"good").end()


def _with(writer: TarWriter) -> bytes:
    return writer.file(b"good", b"good").end()


# What is made to do harm -> the stream, given the path of what must not change. Each is told of, and behind it
# comes a file "good".
HARM: Corpus = {
    "absolute": lambda outside: _name(outside + b"/new"),
    "parent": lambda outside: _name(b"../outside/new"),
    "parent-inside": lambda outside: _name(b"a/../../outside/new"),
    "parent-itself": lambda outside: _name(b".."),
    "parent-directory": lambda outside: _with(TarWriter().directory(b"../outside/", 0o777)),
    "parent-prefix": lambda outside: _with(TarWriter().file(b"new", b"harm", prefix=b"../outside")),
    "parent-long": lambda outside: _with(TarWriter().long(b"../outside/new").file(b"x", b"harm")),
    "parent-pax": lambda outside: _pax((b"path", b"../outside/new")),
    "parent-sparse-name": lambda outside: _pax(
        (b"GNU.sparse.major", b"0"), (b"GNU.sparse.name", b"../outside/new"), (b"GNU.sparse.size", b"4"),
        (b"GNU.sparse.map", b"0,4"),
    ),
    "absolute-pax": lambda outside: _pax((b"path", outside + b"/new")),
    "parent-global": lambda outside: _with(
        TarWriter().pax([(b"path", b"../outside/new")], b"g").file(b"x", b"harm").pax([(b"path", b"good")])
    ),
    "empty-name": lambda outside: _name(b""),
    "root-as-file": lambda outside: _with(TarWriter().file(b"/", b"harm", mode=0o755)),
    "dot-as-file": lambda outside: _name(b"."),
    "dot-as-link": lambda outside: _with(TarWriter().symlink(b"./", outside)),
    "nul-in-path": lambda outside: _pax((b"path", b"a\0b")),
    "long-component": lambda outside: _pax((b"path", b"n" * 256)),
    "giant-path": lambda outside: _pax((b"path", b"p/" * 200_000)),
    "deep-path": lambda outside: _pax((b"path", b"d/" * 9_000 + b"x")),
    "giant-long-name": lambda outside: _with(TarWriter().long(b"n" * MIB).file(b"x", b"harm")),
    "through-a-symlink": lambda outside: _with(TarWriter().symlink(b"way", outside).file(b"way/kept", b"harm")),
    "new-through-a-symlink": lambda outside: _with(TarWriter().symlink(b"way", outside).file(b"way/new", b"harm")),
    "directory-over-symlink": lambda outside: _with(TarWriter().symlink(b"way", outside).directory(b"way/", 0o777)),
    "directory-through-symlink": lambda outside: _with(TarWriter().symlink(b"way", outside).directory(b"way/sub/")),
    "through-two-symlinks": lambda outside: _with(
        TarWriter().symlink(b"a", b"b").symlink(b"b", outside).file(b"a/kept", b"harm")
    ),
    "through-a-relative-symlink": lambda outside: _with(
        TarWriter().symlink(b"up", b"../outside").symlink(b"sub", b"up").file(b"sub/kept", b"harm")
    ),
    "link-absolute": lambda outside: _with(TarWriter().link(b"link", outside + b"/kept")),
    "link-parent": lambda outside: _with(TarWriter().link(b"link", b"../outside/kept")),
    "link-through-symlink": lambda outside: _with(TarWriter().symlink(b"way", outside).link(b"link", b"way/kept")),
    "link-to-a-directory": lambda outside: _with(TarWriter().directory(b"dir/").link(b"link", b"dir")),
    "link-to-nothing": lambda outside: _with(TarWriter().link(b"link", b"nothing")),
    "link-to-what-was-there": lambda outside: _with(TarWriter().link(b"link", b"older")),
    "link-circle": lambda outside: _with(TarWriter().link(b"a", b"b").link(b"b", b"a")),
    "link-to-itself": lambda outside: _with(TarWriter().link(b"a", b"a")),
    "link-nul": lambda outside: _with(TarWriter().pax([(b"linkpath", b"a\0b")]).link(b"link", b"x")),
    "link-giant": lambda outside: _with(TarWriter().pax([(b"linkpath", b"a/" * 200_000)]).link(b"link", b"x")),
    "device-number": lambda outside: _with(
        TarWriter().pax([(b"SCHILY.devmajor", b"1048576"), (b"SCHILY.devminor", b"1")]).header(b"dev", b"3")
    ),
    "device-number-negative": lambda outside: _with(TarWriter().header(b"dev", b"4", at={329: base_256(-1, 8)})),
    "symlink-empty": lambda outside: _with(TarWriter().symlink(b"link", b"")),
    "symlink-long": lambda outside: _with(TarWriter().long(b"t" * 5000, b"K").symlink(b"link", b"t")),
    "symlink-nul": lambda outside: _with(TarWriter().pax([(b"linkpath", b"a\0b")]).symlink(b"link", b"x")),
    "unknown-type": lambda outside: _with(TarWriter().file(b"odd", b"harm", b"Z")),
    "record-length-zero": lambda outside: _raw(b"0 path=../outside/new\n"),
    "record-length-beyond": lambda outside: _raw(b"9999 path=../outside/new\n"),
    "record-length-overflow": lambda outside: _raw(b"18446744073709551633 path=x\n"),
    "record-length-short": lambda outside: _raw(b"6 path=../outside/new\n"),
    "record-length-negative": lambda outside: _raw(b"-12 path=x\n"),
    "record-without-equals": lambda outside: _raw(b"10 pathxx\n"),
    "record-without-keyword": lambda outside: _raw(record(b"", b"x")),
    "record-giant-keyword": lambda outside: _raw(record(b"k" * 5000, b"x")),
    "record-no-newline": lambda outside: _raw(record(b"path", b"x")[:-1] + b"x"),
    "records-random": lambda outside: _raw(random.Random(1).randbytes(3000)),
    "pax-size-negative": lambda outside: _pax((b"size", b"-1")),
    "pax-size-overflow": lambda outside: _pax((b"size", b"36893488147419103232")),
    "pax-time-text": lambda outside: _pax((b"mtime", b"nan")),
    "pax-time-giant": lambda outside: _pax((b"mtime", b"9" * 19)),
    "pax-uid-text": lambda outside: _pax((b"uid", b"root")),
    "size-negative": lambda outside: _with(TarWriter().header(b"x", size=base_256(-1, 12))),
    "size-overflow": lambda outside: _with(TarWriter().header(b"x", size=base_256(1 << 70, 12))),
    "size-text": lambda outside: _with(TarWriter().header(b"x", size=b"12345678z90\0")),
    "mtime-overflow": lambda outside: _with(TarWriter().header(b"x", mtime=base_256(1 << 80, 12))),
    "sparse-overlapping": lambda outside: _sparse(b"2\n0\n6\n5\n4\n"),
    "sparse-unsorted": lambda outside: _sparse(b"2\n50\n6\n5\n4\n"),
    "sparse-outside": lambda outside: _sparse(b"1\n95\n10\n"),
    "sparse-too-much": lambda outside: _sparse(b"1\n0\n11\n"),
    "sparse-too-little": lambda outside: _sparse(b"1\n0\n9\n"),
    "sparse-count": lambda outside: _sparse(b"999999999999\n0\n10\n"),
    "sparse-count-missing": lambda outside: _sparse(b"3\n0\n10\n"),
    "sparse-negative": lambda outside: _sparse(b"1\n-1\n10\n"),
    "sparse-giant-number": lambda outside: _sparse(b"1\n0\n" + b"9" * 400 + b"\n"),
    "sparse-text": lambda outside: _sparse(b"one\n0\n10\n"),
    "sparse-no-newline": lambda outside: _sparse(b"1" * 512),
    "sparse-real-size": lambda outside: _sparse(b"1\n0\n10\n", size=b"9223372036854775808"),
    "sparse-version": lambda outside: _sparse(b"1\n0\n10\n", version=(b"2", b"7")),
    "sparse-0.1-text": lambda outside: _pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"0,x,4")),
    "sparse-0.1-odd": lambda outside: _pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"0,4,50")),
    "sparse-0.1-overlap": lambda outside: _pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"0,2,1,2")),
    "sparse-0.0-half": lambda outside: _pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.offset", b"0")),
    "sparse-old-negative": lambda outside: _with(
        _old_sparse(base_256(-512, 12) + octal(4, 11), octal(100, 11), b"harm")
    ),
    "sparse-old-outside": lambda outside: _with(_old_sparse(octal(98, 11) + octal(4, 11), octal(100, 11), b"harm")),
    "sparse-old-size": lambda outside: _with(_old_sparse(octal(0, 11) + octal(4, 11), base_256(1 << 66, 12), b"harm")),
    "attribute-giant": lambda outside: _pax((b"SCHILY.xattr.user.x", b"v" * 70_000)),
    "attribute-name": lambda outside: _pax((b"SCHILY.xattr.user." + b"n" * 300, b"v")),
    "attribute-name-nul": lambda outside: _pax((b"SCHILY.xattr.user.\0", b"v")),
    "attribute-no-name": lambda outside: _pax((b"SCHILY.xattr.", b"v")),
    "attribute-base-64": lambda outside: _pax((b"LIBARCHIVE.xattr.user.x", b"***")),
    "acl-text": lambda outside: _pax((b"SCHILY.acl.access", b"user::rwx,everybody:x")),
    "acl-nobody": lambda outside: _pax((b"SCHILY.acl.access", b"user::rw-,user:nobody of this name:rwx")),
    "acl-giant": lambda outside: _pax((b"SCHILY.acl.access", b"user::rwx\n" * 200_000)),
    "acl-empty": lambda outside: _pax((b"SCHILY.acl.default", b"#\n")),
    "file-over-directory": lambda outside: _with(TarWriter().directory(b"dir/").file(b"dir", b"harm")),
    "directory-over-file": lambda outside: _with(TarWriter().file(b"file", b"x").directory(b"file/")),
    "garbage-between": lambda outside: _with(TarWriter().data(random.Random(2).randbytes(5 * BLOCK))),
    "global-giant": lambda outside: _with(TarWriter().pax([(b"comment", b"x" * (2 * MIB))], b"g")),
    "global-broken": lambda outside: _with(TarWriter().pax(b"99 path=x\n", b"g")),
}  # fmt: skip

# Streams of which nothing more can be had behind what is wrong with them.
LOST: Corpus = {
    "several-volumes": lambda outside: _with(TarWriter().file(b"rest", b"harm", b"M")),
    "several-volumes-pax": lambda outside: _pax((b"GNU.volume.filename", b"x"), (b"GNU.volume.offset", b"10")),
    "extended-claims-much": lambda outside: bytes(TarWriter().header(b"x", b"x", size=1 << 32).stream),
    "long-name-claims-much": lambda outside: bytes(TarWriter().header(b"x", b"L", size=1 << 32).stream),
    "names-claim-much": lambda outside: bytes(TarWriter().header(b"x", b"D", size=1 << 32, magic=GNU).stream),
    "size-claims-much": lambda outside: bytes(TarWriter().header(b"x", size=base_256((1 << 63) - 1, 12)).stream),
    "sparse-map-unfinished": lambda outside: bytes(
        _old_sparse(octal(0, 11) + octal(4, 11), octal(100, 11), b"", b"\1").stream
    ),
    "sparse-map-continued-for-ever": lambda outside: bytes(
        _old_sparse(octal(0, 11) + octal(4, 11), octal(100, 11), b"", b"\1").data(b"\1" * 100 * BLOCK).stream
    ),
    "nothing": lambda outside: b"",
    "no-end": lambda outside: bytes(TarWriter().file(b"x", b"y").stream),
    "half-an-end": lambda outside: bytes(TarWriter().file(b"x", b"y").data(bytes(BLOCK)).stream),
    "half-a-header": lambda outside: bytes(TarWriter().file(b"x", b"y").header(b"z").stream[:-100]),
    "half-a-content": lambda outside: bytes(TarWriter().file(b"x", b"y" * 5000).stream[:2000]),
    "half-an-extended-header": lambda outside: bytes(TarWriter().pax([(b"path", b"p" * 2000)]).stream[:1500]),
    "random": lambda outside: random.Random(3).randbytes(3 * MIB),
    "compressed": lambda outside: gzip.compress(_name(b"x")),
    "a-dump": lambda outside: DumpWriter().begin([2]).directory(2, []).end(),
    "an-extended-header-and-the-end": lambda outside: TarWriter().pax([(b"path", b"x")]).end(),
}


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len(HARM) + len(LOST) >= 60


@pytest.mark.parametrize("case", HARM)
def test_harm_is_told_and_what_follows_comes_back(places: tuple[Path, Path], case: str) -> None:
    inside, outside = places
    outcome = take(HARM[case](bytes(outside)), inside)
    assert untouched(outside)
    assert outcome.finished.reason == 1, outcome.text()
    assert (inside / "good").read_text() == "good"
    assert (inside / "older").read_text() == "older"
    assert (inside / "older").stat().st_nlink == 1
    # More than the last word: an error, or what was left out of it.
    told = outcome.finished.errors > 0 or any(kind == 3 for kind, _ in outcome.lines)
    assert told or case == "link-to-itself" or case.startswith("absolute"), outcome.text()
    if outcome.finished.errors:
        assert any(kind == 2 for kind, _ in outcome.lines)


@pytest.mark.parametrize("case", LOST)
def test_a_stream_that_cannot_be_read_on(places: tuple[Path, Path], case: str) -> None:
    inside, outside = places
    outcome = take(LOST[case](bytes(outside)), inside)
    assert untouched(outside)
    assert (inside / "older").read_text() == "older"
    if case == "an-extended-header-and-the-end":
        assert (outcome.finished.reason, outcome.finished.errors) == (1, 1)
    else:
        assert outcome.finished.reason in {3, 4}
        assert outcome.status == {b"": 5}
        assert outcome.finished.text


def test_what_is_behind_the_end_is_not_looked_at(places: tuple[Path, Path]) -> None:
    inside, _ = places
    stream = TarWriter().file(b"a", b"1").end() + TarWriter().file(b"b", b"2").end()
    outcome = take(stream, inside)
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0)
    assert names_below(inside) == {"a", "older"}


def test_a_link_over_what_it_would_write_through(places: tuple[Path, Path]) -> None:
    inside, outside = places
    kept = bytes(outside / "kept")
    writer = TarWriter().symlink(b"a", kept).link(b"b", b"a").file(b"b", b"harm").file(b"a", b"harm", mode=0o4777)
    outcome = take(writer.end(), inside)
    assert untouched(outside)
    assert outcome.finished.errors == 0
    assert not (inside / "a").is_symlink()
    assert (inside / "a").read_text() == (inside / "b").read_text() == "harm"


def test_content_of_a_further_name_does_not_reach_the_first(places: tuple[Path, Path]) -> None:
    inside, _ = places
    writer = (
        TarWriter().file(b"a", b"one").file(b"b", b"two", b"1", link=b"a").file(b"c", b"three", b"1", link=b"older")
    )
    outcome = take(writer.end(), inside)
    assert outcome.finished.errors == 0
    assert (inside / "a").read_text() == "one"
    assert (inside / "b").samefile(inside / "a")
    assert (inside / "c").read_text() == "three"  # its first name is not in the stream, and what has it is another file
    assert (inside / "older").read_text() == "older"


def test_an_owner_that_cannot_be_gets_no_set_id_bit(places: tuple[Path, Path]) -> None:
    inside, _ = places
    for number, uid in enumerate([base_256(-1, 8), base_256(2**32 - 1, 8), base_256(2**40, 8)]):
        writer = TarWriter().file(b"x%d" % number, b"", mode=0o6755, uid=uid)
        outcome = take(writer.end(), inside)
        assert stat.S_IMODE((inside / f"x{number}").stat().st_mode) == 0o755
        assert b"owner left out" in outcome.text()


def test_a_device_only_where_the_user_may(places: tuple[Path, Path]) -> None:
    inside, _ = places
    outcome = take(TarWriter().header(b"null", b"3", major=1, minor=3, mode=0o666).end(), inside)
    if os.geteuid() != 0:
        assert not (inside / "null").exists()
        assert b"device nodes left out" in outcome.text()
    elif outcome.finished.files:
        assert (inside / "null").stat().st_rdev == os.makedev(1, 3)


def test_numbers_of_names_and_attributes_are_bounded(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, _ = places
    monkeypatch.setattr(tar_recover_members, "EXTENDED_BYTES_MAX", 64 << 10)
    writer = TarWriter()
    for _ in range(3):  # each is small enough, all together are not
        writer.pax([(b"SCHILY.xattr.user.%06d" % number, b"") for number in range(1000)])
    outcome = take(_with(writer.file(b"x", b"harm")), inside)
    assert outcome.finished.errors == 1
    assert b"an extended header of" in outcome.text()
    assert (inside / "good").exists()
    assert not (inside / "x").exists()


@pytest.mark.slow
def test_no_stream_makes_memory_grow(places: tuple[Path, Path]) -> None:
    inside, _ = places
    writer = TarWriter()
    for number in range(100):
        writer.pax([(b"path", b"%03d/" % number + b"d/" * 50 + b"x"), (b"comment", b"c" * 2000)]).file(b"x", b"")
        writer.link(b"x", b"nothing %d" % number)
    stream = writer.end()
    take(stream, inside)
    tracemalloc.start()
    try:
        take(stream, inside)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(stream) + 8 * MIB


def _example(identity: bytes) -> TarWriter:
    """Members of several kinds; ``identity``: as a stream of ours has it, which is believed less easily."""
    writer = TarWriter()
    name_of_extended = b"PaxHeaders/mover." + identity if identity else b"PaxHeaders/1"
    for member in (b"a", b"b", b"c"):
        writer.pax([(b"mtime", b"1000000000.5"), (b"path", member)], name=name_of_extended).file(member, member * 700)
    return writer


@pytest.mark.slow
@pytest.mark.parametrize("identity", [b"", b"abc"])
def test_each_bit_of_a_header_may_be_wrong(places: tuple[Path, Path], identity: bytes) -> None:
    inside, outside = places
    stream = _example(identity).end()
    generator = random.Random(4)
    blocks = [0, 2]  # the extended header and the header of the first member
    for at in [block * BLOCK + byte for block in blocks for byte in range(BLOCK)]:
        damaged = bytearray(stream)
        damaged[at] ^= 1 << generator.randrange(8)
        outcome = take(bytes(damaged), inside)
        assert untouched(outside)
        assert outcome.finished.reason == 1, (at, outcome.text())
        # A digit of the sum may turn into a blank that means the same.
        whole = at % BLOCK in range(148, 156) and [*inside.glob("a")] and (inside / "a").read_text() == "a" * 700
        assert outcome.finished.errors > 0 or whole, (at, outcome.text())
        for member in ("b", "c"):
            assert (inside / member).read_text() == member * 700, at
            (inside / member).unlink()
        for path in inside.iterdir():
            if path.name != "older":
                path.unlink()


@settings(max_examples=150, deadline=None, suppress_health_check=SUPPRESSED)
@given(
    changes=st.lists(st.tuples(st.integers(0, 16 * BLOCK - 1), st.integers(1, 255)), max_size=20),
    end=st.sampled_from([Kind.END, Kind.FAILED]),
    length=st.integers(0, 20 * BLOCK),
)
def test_damage_anywhere_ends_and_stays_inside(
    places: tuple[Path, Path], changes: list[tuple[int, int]], end: Kind, length: int
) -> None:
    inside, outside = places
    damaged = bytearray(_example(b"").symlink(b"way", bytes(outside)).file(b"way/kept", b"harm").end()[:length])
    for at, change in changes:
        if at < len(damaged):
            damaged[at] ^= change
    outcome = recover_here(bytes(damaged), [name(inside)], end=end, butype="tar")
    assert untouched(outside)
    assert outcome.finished.reason in {1, 3, 4}


def test_what_was_said_of_a_lost_member_is_not_said_of_the_next(tmp_path: Path) -> None:
    writer = TarWriter().file(b"first", b"1")
    writer.pax([(b"path", b"lost"), (b"SCHILY.xattr.user.note", b"lost")])
    damaged = len(writer.stream)
    writer.file(b"lost", b"2").file(b"next", b"3")
    stream = bytearray(writer.end())
    stream[damaged] ^= 1
    outcome = recover_here(bytes(stream), [name(tmp_path)], butype="tar")
    assert outcome.finished.errors
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"first": b"1", "next": b"3"}
    assert os.listxattr(tmp_path / "next") == []


def test_an_archive_within_a_damaged_file_is_not_taken_for_more(places: tuple[Path, Path]) -> None:
    inside, _ = places
    inner = TarWriter().pax([(b"path", b"inner")]).file(b"inner", b"harm").end()
    writer = TarWriter()
    for member, content in ((b"first", b"1"), (b"holder", inner), (b"last", b"2")):
        writer.pax([(b"path", member)], name=b"PaxHeaders/mover.this").file(member, content)
    damaged = bytearray(writer.end())
    damaged[6 * BLOCK] ^= 1  # of the holder's header
    outcome = take(bytes(damaged), inside)
    assert outcome.finished.errors > 0
    assert names_below(inside) == {"first", "last", "older"}


def _with_zeros_inside() -> bytes:
    """A stream of ours whose second member's headers are zeros, as a hole in a cartridge's file would leave them."""
    writer = TarWriter()
    for member, size in ((b"first", 10), (b"lost", 100), (b"last", 30_000)):
        writer.pax([(b"path", member)], name=b"PaxHeaders/mover.this").file(member, b"x" * size)
    damaged = bytearray(writer.end())
    damaged[4 * BLOCK : 7 * BLOCK] = bytes(3 * BLOCK)
    return bytes(damaged)


def test_zeros_are_no_end_where_the_stream_is_longer(places: tuple[Path, Path]) -> None:
    inside, _ = places
    stream = _with_zeros_inside()
    env = [(b"MOVER_STREAM_BYTES", b"%d" % len(stream))]
    outcome = recover_here(stream, [name(inside)], butype="tar", env=env)
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 1), outcome.text()
    assert b"zeros, and the stream does not end yet" in outcome.text()
    assert names_below(inside) == {"first", "last", "older"}
    assert (inside / "last").read_bytes() == b"x" * 30_000


def test_a_stream_that_is_zeros_to_its_end_is_broken(places: tuple[Path, Path]) -> None:
    inside, _ = places
    stream = _with_zeros_inside()
    cut = stream[: 4 * BLOCK] + bytes(len(stream) - 4 * BLOCK)
    env = [(b"MOVER_STREAM_BYTES", b"%d" % len(stream))]
    outcome = recover_here(cut, [name(inside)], butype="tar", env=env)
    assert outcome.finished.reason != 1
    assert outcome.status == {b"": 5}
