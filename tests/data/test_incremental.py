"""Incremental dumps: what is in them; that their chains make every state of a tree is in test_chain_histories.py."""

import os
from pathlib import Path

import pytest

from mover.data import backup, changes, scan
from mover.ring import DataGauge, DataPhase
from tests.data.backup_runner import backup_here, request
from tests.data.dump_reader import Dump, parse
from tests.data.levels import Levels


def names(dump: Dump) -> set[bytes]:
    """Base names of what the dump holds, as far as a directory in it names them; b"" is the root."""
    paths = {number: path for path, number in dump.tree().items()}
    return {paths[number] for number in dump.order}


@pytest.fixture
def levels(small_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Levels:
    return Levels(small_tree, tmp_path / "state", monkeypatch)


def test_a_level_holds_what_changed_and_the_way_there(levels: Levels) -> None:
    tree = Path(os.fsdecode(levels.tree))
    full = parse(levels.backup(0).stream)
    (tree / "one/below/c").write_bytes(b"new")
    first = parse(levels.backup(1).stream)
    assert names(first) == {b"", b"one", b"one/below", b"one/below/c"}
    assert first.used == full.used
    os.chmod(tree / "two/d", 0o600)
    second = parse(levels.backup(2).stream)
    assert names(second) == {b"", b"two", b"two/d"}
    assert second.tree()[b"two/d"] == full.tree()[b"two/d"]
    again = parse(levels.backup(1).stream)
    assert names(again) == {b"", b"one", b"one/below", b"one/below/c", b"two", b"two/d"}


def test_the_headers_name_level_and_base(levels: Levels) -> None:
    full = parse(levels.backup(0).stream)
    third = parse(levels.backup(3).stream)
    date = full.tape[4:8]
    assert (full.tape[8:12], full.tape[692:696]) == (bytes(4), bytes(4))
    assert (third.tape[8:12], third.tape[692:696]) == (date, b"\3\0\0\0")


def test_what_is_gone_is_not_in_use(levels: Levels) -> None:
    tree = Path(os.fsdecode(levels.tree))
    full = parse(levels.backup(0).stream)
    (tree / "one/b").unlink()
    (tree / "two/a-too").unlink()
    first = parse(levels.backup(1).stream)
    assert full.used - first.used == {full.tree()[b"one/b"]}
    assert names(first) == {b"", b"one", b"one/a", b"two"}


def test_what_moves_in_from_outside_is_taken_whatever_its_times_say(levels: Levels, tmp_path: Path) -> None:
    old = tmp_path / "outside/old"
    (old / "deep").mkdir(parents=True)
    (old / "deep/file").write_bytes(b"old")
    full = parse(levels.backup(0).stream)
    old.rename(tmp_path / "tree/one/moved")
    first = parse(levels.backup(1).stream)
    assert {b"one/moved", b"one/moved/deep", b"one/moved/deep/file"} < names(first)
    assert min(first.tree()[name] for name in (b"one/moved", b"one/moved/deep/file")) > max(full.used)


def test_a_number_is_not_given_again_before_the_next_full_backup(levels: Levels) -> None:
    tree = Path(os.fsdecode(levels.tree))
    levels.backup(0)
    (tree / "new-1").symlink_to("x")
    first = parse(levels.backup(1).stream)
    (tree / "new-1").unlink()
    (tree / "new-2").mkdir()
    second = parse(levels.backup(2).stream)
    assert second.tree()[b"new-2"] > first.tree()[b"new-1"]
    full = parse(levels.backup(0).stream)
    assert max(full.used) < second.tree()[b"new-2"]


def test_a_name_that_was_left_out_is_new_when_it_is_not_any_more(levels: Levels) -> None:
    levels.backup(0, env=[(b"EXCLUDE", b"below")])
    first = parse(levels.backup(1).stream)
    assert names(first) >= {b"", b"one", b"one/below", b"one/below/c"}
    second = parse(levels.backup(2, env=[(b"EXCLUDE", b"below")]).stream)
    assert first.used - second.used == {first.tree()[b"one/below"], first.tree()[b"one/below/c"]}


def test_what_could_not_be_read_is_taken_again(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.listxattr

    def refuse(target: int | str, **given: bool) -> list[str]:
        if isinstance(target, int) and os.readlink(f"/proc/self/fd/{target}").endswith(("/one/b", "/two")):
            raise PermissionError(13, "refused")
        return listed(target, **given)

    with monkeypatch.context() as patched:
        patched.setattr(os, "listxattr", refuse)
        full = levels.backup(0)
    assert full.finished.errors == 2
    first = parse(levels.backup(1).stream)
    assert names(first) == {b"", b"one", b"one/b", b"two"}
    assert first.tree()[b"one/b"] == parse(full.stream).tree()[b"one/b"]
    assert names(parse(levels.backup(2).stream)) == {b""}


def test_so_is_a_symbolic_link_whose_attributes_could_not_be_read(
    levels: Levels, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(os.fsdecode(levels.tree)) / "link").symlink_to("top")
    listed = os.listxattr

    def refuse(target: int | bytes, **given: bool) -> list[str]:
        if isinstance(target, bytes) and target.endswith(b"/link"):
            raise PermissionError(13, "refused")
        return listed(target, **given)

    with monkeypatch.context() as patched:
        patched.setattr(os, "listxattr", refuse)
        assert levels.backup(0).finished.errors == 1
    assert names(parse(levels.backup(1).stream)) == {b"", b"link"}
    assert names(parse(levels.backup(2).stream)) == {b""}


def test_an_incremental_without_update_is_no_base(levels: Levels) -> None:
    tree = Path(os.fsdecode(levels.tree))
    levels.backup(0)
    (tree / "new").write_bytes(b"")
    levels.backup(1, update=False)
    assert names(parse(levels.backup(2).stream)) == {b"", b"new"}


def test_a_table_that_cannot_be_written_is_told_and_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    fd = os.open("/dev/full", os.O_WRONLY)
    outcome = backup_here(request(tmp_path, keeps_table=True), files=[fd])
    os.close(fd)
    assert outcome.lines(3) == [
        "no backup can be based on this one, its inode table is not kept: No space left on device (ENOSPC)"
    ]
    assert (outcome.finished.reason, outcome.finished.errors, outcome.finished.date) == (1, 0, None)
    assert len(parse(outcome.stream).dumped) == 2


# --- how far it is


def test_counters_move_while_a_tree_is_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DMA waits for who says something: also within one large directory, and while times of change are looked at."""
    for place in ("tree/wide", "tree/a/b/c", "state"):
        (tmp_path / place).mkdir(parents=True)
    for number in range(100):
        (tmp_path / "tree/wide" / f"{number}").touch()
    monkeypatch.setattr(scan, "_LISTING_PART", 20)
    monkeypatch.setattr(changes, "_SLICE", 20)
    listed: list[int] = []
    looked_at: list[int] = []
    scanned = backup._Backup._scanned

    def noted(of: backup._Backup, entries: int) -> None:
        scanned(of, entries)
        phase = DataPhase(of._data.gauges[DataGauge.PHASE])
        (listed if phase is DataPhase.SCAN else looked_at).append(
            of._data.gauges[DataGauge.TOTAL_ENTRIES if phase is DataPhase.SCAN else DataGauge.LOOKED_AT]
        )

    levels = Levels(tmp_path / "tree", tmp_path / "state", monkeypatch)
    levels.backup(0)
    monkeypatch.setattr(backup._Backup, "_scanned", noted)
    levels.backup(1)
    assert listed == sorted(listed)
    assert len(set(listed)) >= 8  # five directories, and the large one in five parts
    assert looked_at == sorted(looked_at)
    assert len(set(looked_at)) >= 4


# --- a table that is no base


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: data[:-1], "do not hold the"),
        (lambda data: data[:40], "cut off at 40 bytes"),
        (lambda data: b"", "cut off at 0 bytes"),
        (lambda data: data[:100] + bytes([data[100] ^ 4]) + data[101:], "its checksum is wrong"),
        (lambda data: b"other---" + data[8:], "no table of inodes"),
        (lambda data: data + bytes(16), "do not hold the"),
    ],
)
def test_a_damaged_table_makes_a_full_backup_and_a_line_of_the_log(levels: Levels, damage: object, why: str) -> None:
    assert callable(damage)
    full = parse(levels.backup(0).stream)
    table = levels.kept[0].table
    table.write_bytes(damage(table.read_bytes()))
    outcome = levels.backup(1)
    again = parse(outcome.stream)
    assert again.dumped == full.dumped
    assert (again.tape[8:12], again.tape[692:696]) == (bytes(4), bytes(4))
    (line,) = outcome.lines(3)
    assert why in line
    assert line.endswith("this is a full backup (level 0)")


def test_every_flipped_bit_of_a_table_is_noticed(levels: Levels) -> None:
    levels.backup(0)
    table = levels.kept[0].table
    data = table.read_bytes()
    for at in range(0, len(data), 7):
        table.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        outcome = levels.backup(9, update=False)
        assert len(outcome.lines(3)) == 1
        assert len(parse(outcome.stream).dumped) == 9


def test_the_table_of_another_tree_is_refused(levels: Levels, tmp_path: Path) -> None:
    levels.backup(0)
    tree = Path(os.fsdecode(levels.tree))
    tree.rename(tmp_path / "away")
    tree.mkdir()
    assert "the directory was another one then" in levels.backup(1).lines(3)[0]
    levels.tree = os.fsencode(tmp_path / "away")
    assert "it belongs to another tree" in levels.backup(2).lines(3)[0]
