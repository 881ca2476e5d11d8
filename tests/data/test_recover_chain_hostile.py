"""Incremental dumps that lie: what they rename and remove is in the destination, and no table tells what is not."""

import os
import stat
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mover.data.dump_format import RECORD_BYTES, Inode, parse_header
from mover.data.name_table import NameIndex, NameTable, TableError, mark_changing, read_table
from mover.data.recover_catalogue import Catalogue, DirectoryRecord
from mover.data.recover_chain import compare
from tests.data.chain_runner import Destination
from tests.data.dump_writer import DATE, DumpWriter, Meta
from tests.data.recover_runner import Outcome
from tests.support.passage import let_others_pass

Listing = list[tuple[int, bytes]]
BEFORE: dict[int, Listing] = {
    2: [(3, b"a"), (6, b"top")],
    3: [(4, b"b"), (7, b"file")],
    4: [(5, b"c"), (8, b"deep")],
    5: [],
}


def dump(
    directories: dict[int, Listing],
    files: Sequence[int],
    *,
    level: int,
    kinds: dict[int, int] | None = None,
    used: bytes | None = None,
) -> bytes:
    """A dump of a level; all of it is in its maps."""
    writer = DumpWriter(level=level)
    writer.date = DATE + level
    writer.ddate = DATE + level - 1 if level else 0
    writer.begin([2, *directories, *files], used=used)
    for number, entries in directories.items():
        writer.directory(number, entries, kinds=kinds)
    for number in sorted(files):
        writer.file(number, b"%d at %d" % (number, level))
    return writer.end()


def on_disk(root: Path) -> set[bytes]:
    top = os.fsencode(root)
    found = set()
    for place, directories, files in os.walk(top):
        found |= {os.path.relpath(os.path.join(place, each), top) for each in directories + files}
    return found


def in_table(path: Path) -> set[bytes]:
    fd = os.open(path, os.O_RDONLY)
    try:
        index = NameIndex(read_table(fd))
    finally:
        os.close(fd)
    paths = {0: b""}
    found = set()
    for ordinal in range(len(index.table.numbers)):
        for at, each in enumerate(index.names(ordinal)):
            entry = index.firsts[ordinal] + at
            full = os.path.join(paths[ordinal], each)
            found.add(full)
            if index.table.kinds[entry]:
                paths[index.ordinals[index.table.inumbers[entry]]] = full
    return found


def prepared(base: Path) -> Destination:
    (base / "volume").mkdir()
    (base / "volume/outside").mkdir()
    (base / "volume/outside/kept").write_text("kept")
    return Destination(base / "volume")


def assert_untouched(base: Path) -> None:
    assert {path.name for path in base.iterdir()} <= {"volume", "volume.names"}
    assert {path.name for path in (base / "volume").iterdir()} <= {"outside", "recovered"}
    assert [path.name for path in (base / "volume/outside").iterdir()] == ["kept"]
    assert (base / "volume/outside/kept").read_text() == "kept"


def assert_ended(outcome: Outcome) -> None:
    assert outcome.finished.reason in {1, 3}
    assert "error of its own" not in outcome.finished.text


LIES: dict[str, dict[int, Listing]] = {
    "a directory into itself": {2: [(6, b"top")], 3: [(3, b"self"), (4, b"b"), (7, b"file")]},
    "a directory below what is in it": {2: [(6, b"top")], 4: [(3, b"a"), (5, b"c"), (8, b"deep")]},
    "two directories into each other": {2: [], 3: [(4, b"b")], 4: [(3, b"a")]},
    "a directory in two places": {2: [(3, b"a"), (4, b"b"), (6, b"top")]},
    "the root below itself": {2: [(3, b"a")], 3: [(2, b"root")]},
    "up and out": {2: [(3, b".."), (6, b"top")]},
    "a path out": {2: [(3, b"../outside/a"), (6, b"../outside/kept")]},
    "an absolute path": {2: [(6, b"/tmp/top")]},
    "one name twice": {2: [(3, b"same"), (6, b"same")]},
    "a name of nothing": {2: [(3, b"a"), (77, b"unknown"), (6, b"top")]},
    "a file as a directory": {2: [(3, b"a"), (6, b"top")], 6: [(3, b"a")]},
    "the stash itself": {2: [(6, b".mover-moving-%d-0" % os.getpid()), (3, b"x")]},
    "everything gone": {2: []},
    "no root": {3: []},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie(tmp_path: Path, lie: str) -> None:
    destination = prepared(tmp_path)
    first = destination.recover(dump(BEFORE, [6, 7, 8], level=0))
    assert first.finished.table_kept
    outcome = destination.recover(dump(LIES[lie], [], level=1))
    assert_untouched(tmp_path)
    assert_ended(outcome)
    if outcome.finished.table_kept and not outcome.lines[:-1]:
        assert on_disk(destination.path) == in_table(destination.table)
    if lie == "everything gone":
        assert on_disk(destination.path) == set()
    elif lie not in {"a name of nothing", "the stash itself"}:
        assert not outcome.finished.table_kept
        assert {b"a/b/c", b"a/b/deep", b"a/file", b"top"} <= on_disk(destination.path)


@pytest.mark.parametrize(
    ("used", "left"),
    [
        (b"", {b"a", b"a/b", b"a/b/c", b"a/b/deep", b"a/file", b"top"}),  # no map, nothing is concluded
        (b"\0", {b"a", b"top"}),  # what the stream itself brings is there whatever the map says
        (b"\x3f", {b"a", b"a/b", b"a/b/c", b"top"}),  # up to 6
    ],
)
def test_a_map_of_what_is_in_use(tmp_path: Path, used: bytes, left: set[bytes]) -> None:
    """What a directory that is not in the dump held, and what is not in use any more, is gone: it was left out."""
    destination = prepared(tmp_path)
    assert destination.recover(dump(BEFORE, [6, 7, 8], level=0)).finished.table_kept
    outcome = destination.recover(dump({2: BEFORE[2]}, [6], level=1, used=used))
    assert_untouched(tmp_path)
    assert outcome.finished.table_kept
    assert on_disk(destination.path) == in_table(destination.table) == left


GRAPHS = st.dictionaries(
    st.integers(2, 8),
    st.lists(st.tuples(st.integers(2, 10), st.sampled_from([b"a", b"b", b"c", b"d"])), max_size=4),
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=GRAPHS,
    after=st.lists(st.tuples(GRAPHS, st.sets(st.integers(3, 10)), st.dictionaries(st.integers(3, 10), st.just(4)))),
)
def test_any_directories(
    tmp_path_factory: pytest.TempPathFactory,
    before: dict[int, Listing],
    after: list[tuple[dict[int, Listing], set[int], dict[int, int]]],
) -> None:
    base = tmp_path_factory.mktemp("graphs")
    destination = prepared(base)
    before[2] = [*before.get(2, []), (9, b"x"), (10, b"y")]
    files = [number for number in range(3, 11) if number not in before]
    known = True
    outcome = destination.recover(dump(before, files, level=0))
    for level, (directories, bits, kinds) in enumerate(after, 1):
        assert_untouched(base)
        assert_ended(outcome)
        known = known and not outcome.lines[:-1]
        if not outcome.finished.table_kept:
            return
        if known:  # no warning, no error
            assert on_disk(destination.path) == in_table(destination.table)
        directories.setdefault(2, [(9, b"x")])
        outcome = destination.recover(dump(directories, sorted(bits - directories.keys()), level=level, kinds=kinds))
    assert_ended(outcome)
    assert_untouched(base)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_with_directories_that_are_shut(tmp_path: Path) -> None:
    """Directories that even their owner may not change are renamed, emptied and removed, and get their modes back."""
    let_others_pass(tmp_path)
    destination = prepared(tmp_path)
    os.chown(tmp_path / "volume", 65534, 65534)

    def shut(level: int, listings: dict[int, Listing], modes: dict[int, int]) -> bytes:
        writer = DumpWriter(level=level)
        writer.date, writer.ddate = DATE + level, DATE + level - 1 if level else 0
        writer.begin(listings)
        for number, entries in listings.items():
            meta = Meta(stat.S_IFDIR | modes[number], 65534, 65534, nlink=2)
            writer.directory(number, entries, meta=meta)
        return writer.end()

    def modes() -> dict[str, int]:
        root = destination.path
        return {str(path.relative_to(root)): path.stat().st_mode & 0o777 for path in [root, *root.rglob("*")]}

    full = {2: [(3, b"a"), (5, b"c")], 3: [(4, b"b")], 4: [(6, b"kept")], 5: [(7, b"gone")], 6: [], 7: []}
    outcome = destination.recover(shut(0, full, {2: 0o555, 3: 0, 4: 0o500, 5: 0, 6: 0o111, 7: 0}), user=65534)
    assert (outcome.finished.errors, outcome.finished.table_kept) == (0, True), outcome.text()
    assert modes() == {".": 0o555, "a": 0, "a/b": 0o500, "a/b/kept": 0o111, "c": 0, "c/gone": 0}
    # b moves up and is not in the dump itself, a gets another name, c and what is in it are gone
    outcome = destination.recover(shut(1, {2: [(3, b"z"), (4, b"b")], 3: []}, {2: 0o555, 3: 0o111}), user=65534)
    assert (outcome.finished.errors, outcome.finished.table_kept) == (0, True), outcome.text()
    assert modes() == {".": 0o555, "b": 0o500, "b/kept": 0o111, "z": 0o111}


def test_marked_before_anything_is_touched(tmp_path: Path) -> None:
    table = NameTable()
    table.add(2, [3], b"\0", [b"name"])
    fd = os.memfd_create("names")
    try:
        table.write(fd)
        assert not read_table(fd).is_changing
        mark_changing(fd)
        assert read_table(fd).is_changing
        assert bytes(read_table(fd).names) == b"name\0"
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "directories",
    [
        [],
        [(3, [], b"", [])],
        [(2, [3], b"\1", [b"a"])],
        [(2, [3, 3], b"\1\1", [b"a", b"b"]), (3, [], b"", [])],
        [(2, [2], b"\1", [b"a"])],
        [(2, [], b"", []), (3, [], b"", [])],
        [(2, [3], b"\1", [b"a"]), (3, [3], b"\1", [b"a"])],
    ],
)
def test_a_table_whose_directories_are_no_tree(directories: list[tuple[int, list[int], bytes, list[bytes]]]) -> None:
    table = NameTable()
    for number, inumbers, kinds, names in directories:
        table.add(number, inumbers, kinds, names)
    with pytest.raises(TableError, match="its directories cannot be"):
        NameIndex(table)


def test_memory_beyond_the_names(tmp_path: Path) -> None:
    """A level of nothing over a large tree: what is held for each inode, names apart."""
    directories, files = 500, 100
    table = NameTable()
    table.date = DATE
    numbers = range(3, 3 + directories)
    table.add(2, list(numbers), b"\1" * directories, [b"directory-%d" % number for number in numbers])
    for at, number in enumerate(numbers):
        first = 10_000 + at * files
        table.add(number, list(range(first, first + files)), bytes(files), [b"file-%05d" % n for n in range(files)])
    fd = os.memfd_create("names")
    try:
        table.write(fd)
        length = len(table.names)
        del table
        writer = DumpWriter(level=1)
        writer.directory(2, [(number, b"directory-%d" % number) for number in numbers])
        catalogue = Catalogue(parse_header(writer.stream[:RECORD_BYTES]))
        catalogue.directories[2] = record = DirectoryRecord(Inode(0o40755, 2, 0, 0, 1 << 20, 0, 0, 0), 0)
        for at in range(0, len(writer.stream), 2 * RECORD_BYTES):
            record.data += writer.stream[at + RECORD_BYTES : at + 2 * RECORD_BYTES]
        catalogue.contained = bytearray(b"\2" + bytes(1023))
        tracemalloc.start()
        try:
            changes = compare(catalogue, NameIndex(read_table(fd)))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    finally:
        os.close(fd)
    assert not changes.directories
    assert not changes.removed
    assert (peak - 2 * length) / (directories * (files + 1)) < 120
