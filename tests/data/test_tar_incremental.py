"""Incremental backups of type tar: what is in them. test_chain_histories.py has GNU tar apply their chains."""

import os
import shutil
from pathlib import Path

import pytest

from mover.data import tar_objects
from mover.data.scan import Scanner
from mover.workers.data_messages import HistoryPlan
from tests.data import fh_reader
from tests.data.backup_runner import Outcome
from tests.data.levels import Levels
from tests.data.test_tar_backup import members


@pytest.fixture
def levels(small_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Levels:
    return Levels(small_tree, tmp_path / "state", monkeypatch, "tar")


def tree_of(levels: Levels) -> Path:
    return Path(os.fsdecode(levels.tree))


def listings(outcome: Outcome) -> dict[bytes, set[bytes]]:
    """What the directories of a stream say is in them."""
    said = {}
    for path, member in members(outcome.stream).items():
        value = member.pax_headers.get("GNU.dumpdir")
        if value is not None:
            assert member.isdir()
            entries = os.fsencode(value).split(b"\0")
            assert entries[-2:] == [b"", b""]
            said[path] = set(entries[:-2])
    return said


def test_a_level_holds_what_changed_and_the_way_there(levels: Levels) -> None:
    tree = tree_of(levels)
    full = levels.backup(0)
    assert listings(full) == {}
    (tree / "one/below/c").write_bytes(b"new")
    first = levels.backup(1)
    assert members(first.stream).keys() == {b"", b"one", b"one/below", b"one/below/c"}
    assert listings(first) == {
        b"": {b"Done", b"Dtwo", b"Ntop"}, b"one": {b"Na", b"Nb", b"Dbelow"}, b"one/below": {b"Yc"},
    }  # fmt: skip
    os.chmod(tree / "two/d", 0o600)
    assert members(levels.backup(2).stream).keys() == {b"", b"two", b"two/d"}


def test_all_names_of_what_changed_are_in_it(levels: Levels) -> None:
    levels.backup(0)
    with (tree_of(levels) / "two/a-too").open("ab") as file:
        file.write(b"more")
    by_path = members(levels.backup(1).stream)
    assert by_path.keys() == {b"", b"one", b"one/a", b"two", b"two/a-too"}
    linked = by_path[b"two/a-too"] if by_path[b"one/a"].isreg() else by_path[b"one/a"]
    assert linked.islnk()


def test_a_directory_that_moves_comes_with_all_that_is_in_it(levels: Levels) -> None:
    tree = tree_of(levels)
    levels.backup(0)
    (tree / "one").rename(tree / "two/uno")
    first = levels.backup(1)
    assert members(first.stream).keys() >= {b"two/uno/b", b"two/uno/below", b"two/uno/below/c"}
    assert listings(first)[b""] == {b"Dtwo", b"Ntop"}
    # It is where it was then.
    assert members(levels.backup(2).stream).keys() == {b""}


@pytest.mark.parametrize("is_first", [True, False])
def test_so_do_all_names_of_what_is_in_it(levels: Levels, monkeypatch: pytest.MonkeyPatch, is_first: bool) -> None:
    """Whichever of the names comes first: no time of change tells of the one in the other directory."""
    tree = tree_of(levels)
    levels.backup(0)
    (tree / "one").rename(tree / "moved")
    listing = Scanner._list

    def in_order(scanner: Scanner, ordinal: int, fd: int) -> list[tuple[int, str, int, int]]:
        return sorted(listing(scanner, ordinal, fd), key=lambda child: child[1], reverse=not is_first)

    monkeypatch.setattr(Scanner, "_list", in_order)
    by_path = members(levels.backup(1).stream)
    assert {b"moved/a", b"two/a-too"} < by_path.keys()
    assert (by_path[b"moved/a"].islnk(), by_path[b"two/a-too"].islnk()) == (not is_first, is_first)


def test_a_directory_that_vanishes_during_the_scan_is_not_listed(
    levels: Levels, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tree_of(levels)
    levels.backup(0)
    listing = Scanner._list

    def vanishing(scanner: Scanner, ordinal: int, fd: int) -> list[tuple[int, str, int, int]]:
        children = listing(scanner, ordinal, fd)
        if ordinal == 0:
            shutil.rmtree(tree / "one")
        return children

    (tree / "top").unlink()
    monkeypatch.setattr(Scanner, "_list", vanishing)
    assert listings(levels.backup(1))[b""] == {b"Dtwo"}


def test_directories_that_change_places_come_with_all_that_is_in_them(levels: Levels) -> None:
    tree = tree_of(levels)
    levels.backup(0)
    (tree / "one").rename(tree / "three")
    (tree / "two").rename(tree / "one")
    (tree / "three").rename(tree / "two")
    by_path = members(levels.backup(1).stream)
    assert by_path.keys() == {
        b"", b"one", b"one/a-too", b"one/d", b"two", b"two/a", b"two/b", b"two/below", b"two/below/c",
    }  # fmt: skip


def test_what_moves_in_from_outside_is_taken_whatever_its_times_say(levels: Levels, tmp_path: Path) -> None:
    old = tmp_path / "outside/old"
    (old / "deep").mkdir(parents=True)
    (old / "deep/file").write_bytes(b"old")
    levels.backup(0)
    old.rename(tree_of(levels) / "one/moved")
    assert {b"one/moved", b"one/moved/deep", b"one/moved/deep/file"} < members(levels.backup(1).stream).keys()


def test_a_name_that_is_left_out_is_neither_there_nor_gone(levels: Levels) -> None:
    levels.backup(0)
    first = levels.backup(1, env=[(b"EXCLUDE", b"below,top")])
    assert listings(first)[b""] == {b"Done", b"Dtwo", b"Ntop"}


def test_a_directory_of_which_not_all_is_known_says_nothing(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    levels.backup(0)
    (tree_of(levels) / "two/new").touch()
    listed = os.scandir

    def refuse(target: int) -> object:
        if os.readlink(f"/proc/self/fd/{target}").endswith("/two"):
            raise PermissionError(13, "refused")
        return listed(target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        first = levels.backup(1)
    assert first.finished.errors == 1
    assert b"two" not in listings(first)
    assert b"" in listings(first)


def test_a_full_backup_in_place_of_an_incremental_one_deletes_too(levels: Levels) -> None:
    outcome = levels.backup(1, env=[(b"LEVEL", b"1")])
    assert outcome.finished.date is not None
    assert outcome.finished.date.level == 0
    assert listings(outcome).keys() == {b"", b"one", b"one/below", b"two"}


def test_a_listing_that_no_reader_would_take_is_left_out(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    levels.backup(0)
    (tree_of(levels) / "two/new").touch()
    (tree_of(levels) / "two/newer").touch()
    monkeypatch.setattr(tar_objects, "EXTENDED_BYTES_MAX", 32)
    first = levels.backup(1)
    assert listings(first).keys() == {b""}
    (line,) = first.lines(3)
    assert line.startswith("/export/data/two: has too many entries to name them all")


def test_history_tells_of_what_is_in_it(levels: Levels) -> None:
    levels.backup(0)
    (tree_of(levels) / "one/b").write_bytes(b"new")
    first = levels.backup(1, history=HistoryPlan(4, "file"))
    by_path = members(first.stream)
    told = {
        element.path[1:]: element.fh_info
        for kind, body in first.posts
        for element in fh_reader.elements(kind, body)
        if isinstance(element, fh_reader.Attributes)
    }
    assert told == {path: member.offset for path, member in by_path.items()}
    assert told.keys() == {b"", b"one", b"one/b"}
