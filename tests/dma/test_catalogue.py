"""The catalogue: history in, paths out, whatever the names and numbers; bounded queue in front of it."""

import os
import sqlite3
import stat
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.dma import CatalogueError, Entry
from mover.dma.cartridge_book import CartridgeBook
from mover.dma.catalogue import Catalogue
from mover.dma.history import QUEUE_POSTS, HistorySink, history_sink
from mover.dma.history_rows import HistoryRows
from mover.ndmp import messages as m
from mover.ndmp.enums import UNKNOWN_U64, FileType
from tests.dma.fake_server import small_history, unix_dir, unix_node


def begin(catalogue: Catalogue) -> int:
    return catalogue.begin_job(
        data_server="a:1",
        tape_server="b:2",
        drive="d",
        record_size=512,
        butype="dump",
        filesystem=b"/f",
        protocol_version=4,
    )


def add(catalogue: Catalogue, job: int, *posts: m.Body) -> None:
    rows = HistoryRows()
    for post in posts:
        assert isinstance(post, m.FhAddDirPost | m.FhAddNodePost | m.FhAddFilePost)
        rows.add([post])
    catalogue.add_history(job, rows)


names = st.binary(min_size=1, max_size=12).map(lambda raw: raw.replace(b"/", b"_"))
trees = st.recursive(
    st.integers(0, 2**64 - 1),  # a file's size
    lambda children: st.dictionaries(names.filter(lambda n: n not in {b".", b".."}), children, max_size=4),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))


@settings(max_examples=40, deadline=None)
@given(trees, st.integers(0, 2**64 - 50), st.integers(1, 7))
def test_any_tree_comes_back(tree: dict[bytes, object], first: int, batch: int) -> None:
    expected: list[tuple[bytes, int, int]] = [(b"/", first, 0)]
    dirs: list[m.Dir] = []
    nodes: list[m.Node] = []
    free = iter(range(first + 1, first + 50))

    def visit(content: dict[bytes, object], node: int, above: int, path: bytes) -> None:
        dirs.extend((unix_dir(b".", node, node), unix_dir(b"..", above, node)))
        nodes.append(unix_node(node, FileType.DIR))
        below = [(name, next(free), content[name]) for name in sorted(content)]
        dirs.extend(unix_dir(name, child, node) for name, child, _ in below)
        for name, child, inside in below:
            whole = path + b"/" + name
            if isinstance(inside, dict):
                visit(inside, child, node, whole)
                expected.append((whole, child, 0))
            else:
                assert isinstance(inside, int)
                nodes.append(unix_node(child, FileType.REG, inside, UNKNOWN_U64 if inside % 2 else inside))
                expected.append((whole, child, inside))

    visit(tree, first, first, b"")
    catalogue = Catalogue(None)
    job, other = begin(catalogue), begin(catalogue)
    add(catalogue, other, *small_history())
    for start in range(0, len(dirs), batch):
        add(catalogue, job, m.FhAddDirPost(tuple(dirs[start : start + batch])))
    add(catalogue, job, m.FhAddNodePost(tuple(nodes)))
    entries = list(catalogue.entries(job))
    assert sorted((entry.path, entry.node, entry.size) for entry in entries) == sorted(expected)
    assert catalogue.job(job).files == len(expected) - 1
    for entry in entries:
        assert catalogue.find(job, entry.path) == entry
        below = entry.path.rstrip(b"/") + b"/"
        within = [each for each in entries if each.path == entry.path or each.path.startswith(below)]
        assert list(catalogue.tree(job, entry.path)) == within
        assert entry.fh_info == (None if entry.ftype == FileType.REG and (entry.size or 0) % 2 else entry.size)
    assert catalogue.find(job, b"/no such") is None
    assert list(catalogue.tree(job, b"/no such")) == []
    catalogue.close()


def test_path_based_history() -> None:
    catalogue = Catalogue(None)
    job = begin(catalogue)
    stats = (m.FileStat(ftype=FileType.REG, fattr=0o100644, size=3, owner=1, group=2, links=1),)
    files = (m.File((m.UnixName(b"/b"),), stats, 7, 1024), m.File((m.UnixName(b"a\xff/c"),), stats, 8, UNKNOWN_U64))
    add(catalogue, job, m.FhAddFilePost(files))
    assert list(catalogue.entries(job)) == [
        Entry(b"/a\xff/c", 8, FileType.REG, 0o644, 1, 2, 3, 0, 1, None),
        Entry(b"/b", 7, FileType.REG, 0o644, 1, 2, 3, 0, 1, 1024),
    ]
    assert catalogue.find(job, b"b") == Entry(b"/b", 7, FileType.REG, 0o644, 1, 2, 3, 0, 1, 1024)
    folder = (m.FileStat(ftype=FileType.DIR, fattr=0o755, links=2),)
    names = (b"/d", b"/d/x", b"/d/x/y", b"/d-", b"/d0", b"/d.")
    add(catalogue, job, m.FhAddFilePost(tuple(m.File((m.UnixName(name),), folder, 9, 0) for name in names)))
    assert [entry.path for entry in catalogue.tree(job, b"d")] == [b"/d", b"/d/x", b"/d/x/y"]
    assert [entry.path for entry in catalogue.tree(job, b"/d0")] == [b"/d0"]
    catalogue.close()


def test_circles_and_unsaved_names_end() -> None:
    catalogue = Catalogue(None)
    job = begin(catalogue)
    add(catalogue, job, m.FhAddDirPost((unix_dir(b"down", 2, 1), unix_dir(b"up", 1, 2), unix_dir(b"self", 2, 2))))
    assert list(catalogue.entries(job)) == []  # no root at all: nobody's entry is missing
    add(catalogue, job, m.FhAddDirPost((unix_dir(b".", 1, 1),)))
    assert [entry.path for entry in catalogue.entries(job)] == [b"/", b"/down", b"/down/self", b"/down/up"]
    assert catalogue.find(job, b"/down/up/down/self/up") == Entry(b"/down/up/down/self/up", 1)
    catalogue.close()


def test_a_history_that_does_not_begin_with_the_root() -> None:
    catalogue = Catalogue(None)
    job = begin(catalogue)
    add(catalogue, job, m.FhAddDirPost((unix_dir(b"a", 11, 2), unix_dir(b"b", 12, 11))))
    assert [entry.path for entry in catalogue.entries(job)] == [b"/", b"/a", b"/a/b"]
    catalogue.close()


def test_the_file_is_private_and_versioned(tmp_path: Path) -> None:
    path = tmp_path / "x" / "y" / "catalogue.sqlite"
    catalogue = Catalogue(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    catalogue._connection.execute("PRAGMA user_version = 99")
    catalogue.close()
    with pytest.raises(CatalogueError, match="has format 99, this program knows 2"):
        Catalogue(path)
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(CatalogueError, match="file is not a database"):
        Catalogue(path)
    with pytest.raises(CatalogueError, match="no catalogue at"):
        Catalogue(tmp_path / "none", create=False)
    with pytest.raises(CatalogueError, match=r"^catalogue .*/below a file/x: \w[\w ]+$"):
        Catalogue(path / "below a file" / "x")


# What the first format had of the tables that have changed since.
FORMAT_1 = """
CREATE TABLE job (
    job INTEGER PRIMARY KEY AUTOINCREMENT, started REAL NOT NULL, ended REAL, status TEXT NOT NULL,
    message TEXT NOT NULL, data_server TEXT NOT NULL, tape_server TEXT NOT NULL, drive TEXT NOT NULL, tape_file INTEGER,
    record_size INTEGER NOT NULL, butype TEXT NOT NULL, filesystem BLOB NOT NULL, protocol_version INTEGER NOT NULL,
    bytes INTEGER NOT NULL, files INTEGER NOT NULL, root INTEGER);
CREATE TABLE env (
    job INTEGER NOT NULL, position INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (job, position)) WITHOUT ROWID;
INSERT INTO job VALUES (1, 5, 6, 'successful', '', 'a:1', 'b:2', 'd', 3, 512, 'dump', CAST('/f' AS BLOB), 4, 10, 2, 2);
INSERT INTO env VALUES (1, 0, CAST('LEVEL' AS BLOB), CAST('0' AS BLOB));
PRAGMA user_version = 1;
"""


def test_a_catalogue_of_the_first_format_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(FORMAT_1)
    connection.close()
    for _ in range(2):
        catalogue = Catalogue(path)
        (job,) = catalogue.jobs()
        assert (job.job, job.tape_file, job.level, job.keep_until, job.cartridges) == (1, 3, 0, None, [])
        book = CartridgeBook(catalogue)
        assert (book.segments(1), book.known(0.0)) == ([], [])
        catalogue.close()
    catalogue = Catalogue(path)
    assert begin(catalogue) == 2
    catalogue.close()


async def test_a_full_queue_waits() -> None:
    catalogue = Catalogue(None)
    job = begin(catalogue)
    sink = HistorySink(catalogue, job)
    put = 0

    async def producer() -> None:
        nonlocal put
        for number in range(2 * QUEUE_POSTS):
            await sink.put(m.FhAddDirPost((unix_dir(b"%d" % number, 10 + number, 2),)))
            put += 1
        sink.finish()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(producer)
            await trio.testing.wait_all_tasks_blocked()
            assert put == QUEUE_POSTS
            nursery.start_soon(sink.store)
    assert put == sink.names == catalogue.job(job).files == 2 * QUEUE_POSTS
    catalogue.close()


async def test_a_catalogue_that_fails_ends_the_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = Catalogue(None)
    job = begin(catalogue)

    def full(_job: int, _rows: HistoryRows) -> None:
        raise CatalogueError("disk full")

    monkeypatch.setattr(catalogue, "add_history", full)

    async def store() -> None:
        async with history_sink(catalogue, job) as sink:
            for number in range(3 * QUEUE_POSTS):
                await sink.put(m.FhAddDirPost((unix_dir(b"%d" % number, 10 + number, 2),)))

    with trio.fail_after(10), pytest.raises(CatalogueError, match="disk full"):
        await store()
    catalogue.close()


def test_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from mover.dma import default_catalogue

    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_catalogue() == Path("/data/mover/catalogue.sqlite")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_catalogue() == Path(os.path.expanduser("~")) / ".local/share/mover/catalogue.sqlite"
