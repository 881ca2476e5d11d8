"""What makes incremental dumps go wrong: large inode numbers, snapshots, mounts, far dates, holes, long names."""

import os
import time
from array import array
from pathlib import Path
from types import SimpleNamespace

import pytest

from mover.data import numbering
from mover.data.dump_format import DT_DIRECTORY, DT_FILE, DT_SYMLINK, FIRST_INUMBER
from mover.data.inode_table import InodeTable, Origin, TableError, tree_digest, write_table
from mover.data.plan import Plan
from mover.workers.data_messages import BackupDate, HistoryPlan, Place
from tests.data import fh_reader
from tests.data.backup_runner import backup_here, request
from tests.data.chain_histories import Chain, OurChain, OurTarChain
from tests.data.chain_peers import RestoreChain, TarChain
from tests.data.dump_reader import Dump, parse
from tests.data.levels import Levels

ORIGIN = Origin(tree_digest("dump", Place(b"/v", b"p")), 2, 1000, 0)
HUGE = 2**64 - 10


def paths(dump: Dump) -> set[bytes]:
    named = {number: path for path, number in dump.tree().items()}
    return {named[number] for number in dump.order}


def plan_of(*entries: tuple[int, int, bool]) -> Plan:
    """A plan of one directory with entries (inode, type, changed); directories are empty."""
    plan = Plan()
    plan.add(2, 0, b".")
    plan.set_listing([f"entry-{at}" for at in range(len(entries))], bytes(kind for _, kind, _ in entries))
    for at, (inode, kind, changed) in enumerate(entries):
        plan.inodes.append(0 if kind == DT_DIRECTORY else inode)
        plan.changed.append(changed)
        if kind == DT_DIRECTORY:
            ordinal = plan.add(FIRST_INUMBER + at, 0, b"entry-%d" % at)
            plan.directory_inodes[ordinal] = inode
    return plan


def table_of(plan: Plan, place: Path) -> InodeTable:
    fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    write_table(fd, ORIGIN, plan.next_inumber, numbering.rows(plan), numbering.odd_rows(plan))
    return InodeTable(fd, ORIGIN)


def numbers(plan: Plan) -> list[int]:
    assert plan.selection is not None
    return list(plan.selection.numbers)


@pytest.fixture
def levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Levels:
    for place in ("tree/sub/deep", "state"):
        (tmp_path / place).mkdir(parents=True)
    for name in ("file", "sub/file", "sub/deep/file"):
        (tmp_path / "tree" / name).write_bytes(name.encode() * 300)
    return Levels(tmp_path / "tree", tmp_path / "state", monkeypatch)


# --- numbers


def test_inode_numbers_of_64_bits_become_dense_ones(tmp_path: Path) -> None:
    base = table_of(
        plan_of((HUGE, DT_FILE, False), (1 << 40, DT_DIRECTORY, False), (3, DT_FILE, False)), tmp_path / "t"
    )
    plan = plan_of(
        (3, DT_FILE, False), (HUGE + 1, DT_FILE, False), (HUGE, DT_FILE, True), (1 << 40, DT_DIRECTORY, False)
    )
    numbering.select(plan, base)
    assert numbers(plan) == [5, 6, 3, 4]
    assert plan.selection is not None
    assert list(plan.selection.others) == [0, 1, 1, 0]
    assert plan.next_inumber == 7


def test_an_inode_that_is_another_kind_of_object_now_has_a_new_number(tmp_path: Path) -> None:
    base = table_of(plan_of((7, DT_FILE, False), (8, DT_DIRECTORY, False), (9, DT_FILE, False)), tmp_path / "t")
    plan = plan_of((7, DT_DIRECTORY, False), (8, DT_FILE, False), (9, DT_SYMLINK, False))
    numbering.select(plan, base)
    assert numbers(plan) == [6, 7, 8]
    assert plan.selection is not None
    assert (list(plan.selection.others), list(plan.selection.directories)) == ([0, 1, 1], [1, 1])


def test_a_table_of_several_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("mover.data.inode_table.BLOCK_ROWS", "mover.data.numbering._SLICE"):
        monkeypatch.setattr(module, 4)
    entries = [(100 + at, DT_DIRECTORY if at % 6 == 5 else DT_FILE, False) for at in range(50)]
    base = table_of(plan_of(*entries), tmp_path / "t")
    plan = plan_of(*reversed(entries), (1, DT_FILE, False))
    numbering.select(plan, base)
    assert numbers(plan) == [*range(FIRST_INUMBER + 49, FIRST_INUMBER - 1, -1), FIRST_INUMBER + 50]
    assert sum(len(keys) for keys, _ in base.rows()) == 50


def test_what_two_objects_are_known_by_is_known_again_by_nothing(tmp_path: Path) -> None:
    first = plan_of((7, DT_FILE, False), (7, DT_FILE, False), (8, DT_DIRECTORY, False), (8, DT_DIRECTORY, False))
    first.ambiguous = {7, 8}
    base = table_of(first, tmp_path / "t")
    plan = plan_of((7, DT_FILE, False), (8, DT_DIRECTORY, False))
    numbering.select(plan, base)
    assert numbers(plan) == [7, 8]


def test_numbers_that_are_used_up_make_a_full_backup(levels: Levels) -> None:
    full = parse(levels.backup(0).stream)
    kept = levels.kept[0]
    origin = Origin(tree_digest("dump", Place(levels.tree, b"")), os.stat(levels.tree).st_ino, kept.date.date, 0)
    with kept.table.open("w+b", buffering=0) as file:
        write_table(file.fileno(), origin, numbering.NUMBERS_HIGH + 1, [], [])
        InodeTable(file.fileno(), origin)
    outcome = levels.backup(1)
    assert parse(outcome.stream).dumped == full.dumped
    assert "used up" in outcome.lines(3)[0]


def test_a_table_says_whose_it_is(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "t", os.O_RDWR | os.O_CREAT)
    write_table(fd, ORIGIN, 3, [(array("Q"), array("Q"))], [])
    for other in (ORIGIN._replace(date=1001), ORIGIN._replace(level=1), ORIGIN._replace(root_inode=3)):
        with pytest.raises(TableError):
            InodeTable(fd, other)
    os.close(fd)
    with pytest.raises(TableError, match="cannot be read"):
        InodeTable(fd, ORIGIN)


# --- file systems


class Devices:
    """Shows directories under other devices and inode numbers, as the scan sees them when it has opened them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device = 1
        self.inode: dict[str, int] = {}
        self.other: set[str] = set()
        real = os.fstat

        def fstat(fd: int) -> SimpleNamespace:
            found = real(fd)
            name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
            fields = {field: getattr(found, field) for field in dir(found) if field.startswith("st_")}
            fields["st_dev"] = 99 if name in self.other else self.device
            fields["st_ino"] = self.inode.get(name, found.st_ino)
            return SimpleNamespace(**fields)

        monkeypatch.setattr("mover.data.scan.os.fstat", fstat)


def test_a_snapshot_with_another_device_is_the_same_tree(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(os.fsdecode(levels.tree)) / "file").unlink()  # only directories go through the disguise
    for name in ("sub/file", "sub/deep/file"):
        (Path(os.fsdecode(levels.tree)) / name).unlink()
    with monkeypatch.context() as patched:
        devices = Devices(patched)
        full = parse(levels.backup(0).stream)
        devices.device = 42
        first = parse(levels.backup(1).stream)
    assert first.used == full.used
    assert first.dumped == {2}


def test_subvolumes_that_all_have_inode_2_are_several_directories(
    levels: Levels, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Path(os.fsdecode(levels.tree))
    for name in ("file", "sub/file", "sub/deep/file"):
        (tree / name).unlink()
    (tree / "other").mkdir()
    with monkeypatch.context() as patched:
        devices = Devices(patched)
        devices.inode = {"sub": 2, "other": 2, "deep": 2}
        full = parse(levels.backup(0).stream)
        assert len(set(full.tree().values())) == 4
        assert parse(levels.backup(1).stream).dumped == {2}
        (tree / "new").mkdir()
        devices.inode["new"] = 2
        second = parse(levels.backup(2).stream)
    assert second.dumped == {2, second.tree()[b"new"]}
    assert second.used - full.used == {second.tree()[b"new"]}


def test_what_is_mounted_on_a_directory_later_is_another_one(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Path(os.fsdecode(levels.tree))
    for name in ("file", "sub/file", "sub/deep/file"):
        (tree / name).unlink()
    with monkeypatch.context() as patched:
        devices = Devices(patched)
        full = parse(levels.backup(0).stream)
        devices.other = {"sub"}
        first = parse(levels.backup(1).stream)
        assert first.tree()[b"sub"] not in full.used
        assert first.used == first.dumped == {2, first.tree()[b"sub"]}
        devices.other = set()
        back = parse(levels.backup(2).stream)
    assert paths(back) == {b"", b"sub", b"sub/deep"}


# --- dates, holes, names


def test_dates_after_2038(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    os.utime(tmp_path / "file", ns=(0, (2**31 + 5) * 10**9))
    late = 2**31 + 100
    table = os.open(tmp_path.parent / f"{tmp_path.name}-table", os.O_RDWR | os.O_CREAT)
    full = backup_here(request(tmp_path, date=late, keeps_table=True), files=[table])
    assert full.finished.date == BackupDate(0, late)
    assert parse(full.stream).tape[4:8] == late.to_bytes(4, "little")
    message = request(tmp_path, date=late + 50, level=1, base=BackupDate(0, late), env=[(b"BASE_DATE", b"%d" % late)])
    first = backup_here(message, files=[table])
    os.close(table)
    assert first.lines(3) == []
    assert parse(first.stream).tape[8:12] == late.to_bytes(4, "little")
    assert parse(first.stream).dumped == {2}
    assert dict(first.finished.env)[b"DUMP_DATE"] == b"%d" % (1 << 32 | late + 50)


def test_a_clock_that_was_set_back_makes_a_full_backup(tmp_path: Path) -> None:
    now = int(time.time())
    table = os.open(tmp_path.parent / f"{tmp_path.name}-table", os.O_RDWR | os.O_CREAT)
    backup_here(request(tmp_path, date=now + 1000, keeps_table=True), files=[table])
    again = backup_here(request(tmp_path, date=now, level=1, base=BackupDate(0, now + 1000)), files=[table])
    os.close(table)
    assert "it was set back: this is a full backup" in again.lines(3)[0]
    assert parse(again.stream).tape[8:12] == bytes(4)


def test_holes_and_long_names_of_a_level(levels: Levels) -> None:
    tree = Path(os.fsdecode(levels.tree))
    levels.backup(0)
    name = "n" * 255
    with (tree / name).open("wb") as file:
        file.truncate(64 << 20)
        file.seek(40 << 20)
        file.write(b"data")
    first = parse(levels.backup(1).stream)
    dumped = first.objects[first.tree()[name.encode()]]
    assert dumped.size == 64 << 20
    assert len(dumped.data.strip(b"\0")) == 4
    assert len(dumped.holes) > 65_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("butype", "kind"),
    [
        ("dump", OurChain),
        ("tar", OurTarChain),
        pytest.param("dump", RestoreChain, marks=pytest.mark.peer("restore")),
        pytest.param("tar", TarChain, marks=pytest.mark.peer("tar")),
    ],
)
def test_levels_beyond_nine_and_holes_of_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, butype: str, kind: type[Chain]
) -> None:
    for place in ("tree/old", "tree/other", "state", "place"):
        (tmp_path / place).mkdir(parents=True)
    tree = tmp_path / "tree"
    levels = Levels(tree, tmp_path / "state", monkeypatch, butype)
    chain = kind(tmp_path / "place")  # type: ignore[call-arg]  # each takes its directory
    (tree / "old/file").write_bytes(b"old")
    chain.lay(levels.backup(0).stream)
    with (tree / "sparse").open("wb") as file:  # more than 32 bits of bytes
        file.write(b"a")
        file.seek(5 << 30)
        file.write(b"b")
    chain.lay(levels.backup(9).stream)
    assert chain.differences(os.fsencode(tree)) == []
    (tree / "old").rename(tree / "other/new")
    chain.lay(levels.backup(10).stream)
    assert chain.differences(os.fsencode(tree)) == []
    (tree / "sparse").unlink()
    (tree / "other/new/file").rename(tree / "file")
    stream = levels.backup(31).stream
    chain.lay(stream)
    assert chain.differences(os.fsencode(tree)) == []
    if butype == "dump":
        assert parse(stream).tape[692:696] == (31).to_bytes(4, "little")


def test_attributes_and_nothing_else(levels: Levels) -> None:
    levels.backup(0)
    path = os.path.join(levels.tree, b"sub/file")
    try:
        os.setxattr(path, "user.late", b"value")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    first = parse(levels.backup(1).stream)
    assert paths(first) == {b"", b"sub", b"sub/file"}
    assert first.objects[first.tree()[b"sub/file"]].blobs != []


# --- file history


@pytest.mark.parametrize("form", ["dir", "file"])
def test_history_tells_of_what_is_in_the_level(levels: Levels, form: str) -> None:
    tree = Path(os.fsdecode(levels.tree))
    levels.backup(0)
    os.link(tree / "sub/file", tree / "sub/deep/too")
    outcome = levels.backup(1, history=HistoryPlan(4, "dir" if form == "dir" else "file"))
    dump = parse(outcome.stream)
    told = [element for kind, body in outcome.posts for element in fh_reader.elements(kind, body)]
    nodes = {each.node for each in told if isinstance(each, fh_reader.Attributes)}
    named = [each.name for each in told if isinstance(each, fh_reader.Name)]
    if form == "dir":
        assert nodes == dump.dumped
        assert sorted(named) == sorted([b".", b".."] * 3 + [b"file", b"sub", b"deep", b"file", b"file", b"too"])
    else:
        told_paths = sorted(each.path for each in told if isinstance(each, fh_reader.Attributes))
        assert told_paths == [b"/", b"/sub", b"/sub/deep", b"/sub/deep/too", b"/sub/file"]
