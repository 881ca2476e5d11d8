"""Dump dates: which backup is the base of which, what is stored when, and what a damaged or moved list does."""

import itertools
import os
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.admin.dump_dates import DumpDatesDelete, DumpDatesReply
from mover.admin.messages import Done
from mover.control.admin_dump_dates import delete, list_dates
from mover.control.dump_dates import RECORDS_MAX, TOKENS_MAX, BackupFiles, DumpDates
from mover.control.dump_index import INDEX
from mover.control.dump_transfer import TransferError, export_dates, import_dates
from mover.control.environment import Environment
from mover.control.refusal import Refusal
from mover.ndmp.enums import ErrorCode
from mover.ndmp.messages import Pval
from mover.workers.data_messages import BackupDate, DataFinished, Place, StartBackup

PLACE = Place(b"/vol/a", b"home")
MESSAGE = StartBackup("dump", PLACE, b"/vol/a/home", [], None, "host")


def finished(date: BackupDate | None) -> DataFinished:
    return DataFinished(1, "", 1, 1, 0, 0, 0, 0, [], date=date)


class Node(NamedTuple):
    """The dump dates of a node whose clock goes on by a second at each look."""

    dates: DumpDates

    def start(self, level: int | None = None, place: Place = PLACE, butype: str = "dump", **env: str) -> BackupFiles:
        pairs = [] if level is None else [Pval(b"LEVEL", b"%d" % level)]
        pairs += [Pval(name.encode(), value.encode()) for name, value in env.items()]
        return self.dates.open(butype, place, Environment(pairs, 4))

    def back_up(self, level: int | None = None, *, full: bool = False, **env: str) -> StartBackup:
        """A whole backup; returns the request that the worker had."""
        files = self.start(level, PLACE, "dump", **env)
        message = files.announce(MESSAGE)
        assert isinstance(message, StartBackup)
        if files.new is not None:
            os.write(files.descriptors[-1], b"table of %d" % message.date)
        dumped = message.level if message.base is not None and not full else 0
        files.commit(finished(BackupDate(dumped, message.date)))
        files.discard(orderly=True)
        files.conclude(stopped=True)
        return message

    def tables(self) -> list[str]:
        return sorted(name for name in os.listdir(self.dates.directory) if name != INDEX)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(1000)
    monkeypatch.setattr("mover.control.dump_dates.time.clock_gettime", lambda _: float(next(seconds)))


@pytest.fixture
def node(tmp_path: Path, clock: None) -> Node:
    (tmp_path / "state").mkdir()
    return Node(DumpDates(str(tmp_path / "state/dumpdates")))


def test_the_base_is_the_latest_of_a_lower_level(node: Node) -> None:
    dates = [node.back_up(level).date for level in (0, 3, 2)]
    assert node.back_up(4).base == BackupDate(2, dates[2])
    assert node.back_up(2).base == BackupDate(0, dates[0])
    assert node.back_up(1).base == BackupDate(0, dates[0])
    last = node.back_up(0)
    assert last.base is None
    assert last.warnings == []
    assert node.back_up(31).base == BackupDate(0, last.date)


def test_without_a_lower_level_it_is_full_and_says_so(node: Node) -> None:
    node.back_up(1)
    message = node.back_up(1)
    assert message.base is None
    assert message.warnings == ["no backup of a level below 1 is known: this is a full backup (level 0)"]
    assert node.back_up(2).base == BackupDate(0, message.date)


def test_what_no_backup_can_be_based_on_any_more_is_removed(node: Node) -> None:
    for level in (0, 1, 2, 3):
        node.back_up(level)
    assert len(node.tables()) == 4
    node.back_up(1)
    assert [record.level for record in node.dates.records()] == [0, 1]
    assert len(node.tables()) == 2


def test_trees_and_types_do_not_mix(node: Node) -> None:
    node.back_up(0)
    other = node.start(1, place=Place(b"/vol/a", b"home/b"))
    tar = node.start(1, butype="tar")
    assert (other.base, tar.base) == (None, None)
    for files in (other, tar):
        files.discard(orderly=False)
    assert len(node.tables()) == 1


def test_sets_of_subtrees_have_dates_of_their_own(node: Node) -> None:
    everything = node.back_up(0)
    assert node.back_up(1, MULTI_SUBTREE_NAMES="a\nb", DMP_NAME="set").base is None
    first = node.back_up(0, MULTI_SUBTREE_NAMES="a\nb", DMP_NAME="set")
    assert node.back_up(0, MULTI_SUBTREE_NAMES="a\nb", DMP_NAME="other").base is None
    # The list may change from level to level, the name is what counts; without a list it means nothing.
    assert node.back_up(1, MULTI_SUBTREE_NAMES="b", DMP_NAME="set").base == BackupDate(0, first.date)
    assert node.back_up(1, DMP_NAME="set").base == BackupDate(0, everything.date)
    listed = list_dates(node.dates)
    assert isinstance(listed, DumpDatesReply)
    assert [each.filesystem for each in listed.dump_dates] == [
        "/vol/a/home", "/vol/a/home:set", "/vol/a/home:other", "/vol/a/home:set", "/vol/a/home",
    ]  # fmt: skip
    assert isinstance(delete(node.dates, DumpDatesDelete("/vol/a/home:set")), Done)
    # What is left is read again from the file.
    again = DumpDates(node.dates.directory).records()
    assert [each.tree.name for each in again] == [b"", b"other", b""]


def test_update_no_stores_nothing_and_is_still_incremental(node: Node) -> None:
    first = node.back_up(0)
    second = node.back_up(1, UPDATE="n")
    assert (second.base, second.keeps_table) == (BackupDate(0, first.date), False)
    assert node.back_up(2).base == BackupDate(0, first.date)


def test_a_backup_that_did_not_end_well_leaves_nothing(node: Node) -> None:
    first = node.back_up(0)
    files = node.start(0)
    files.discard(orderly=False)
    failed = node.start(0)
    failed.commit(finished(None))
    failed.discard(orderly=True)
    aborted = node.start(0)
    aborted.commit(finished(BackupDate(0, 5000)))
    aborted.discard(orderly=False)
    late = node.start(0)
    late.discard(orderly=False)
    late.commit(finished(BackupDate(0, 6000)))
    assert [record.date for record in node.dates.records()] == [first.date]
    assert len(node.tables()) == 1
    assert node.back_up(1).base == BackupDate(0, first.date)


def test_tokens(node: Node) -> None:
    first = node.back_up(0, BASE_DATE="0")
    assert (first.base, first.level, first.keeps_table) == (None, 0, True)
    second = node.back_up(5, BASE_DATE=str(first.date), UPDATE="n")
    assert (second.base, second.level, second.keeps_table) == (BackupDate(0, first.date), 1, True)
    third = node.back_up(BASE_DATE=str(1 << 32 | second.date))
    assert (third.base, third.level) == (BackupDate(1, second.date), 2)
    again = node.back_up(BASE_DATE=str(first.date))
    assert again.base == BackupDate(0, first.date)
    assert node.back_up(1).warnings != []  # tokens are no base of levels
    unknown = node.back_up(BASE_DATE=str(1 << 32 | 7))
    assert unknown.base is None
    assert unknown.warnings == [f"no backup with the DUMP_DATE {1 << 32 | 7} is known: this is a full backup (level 0)"]


def test_so_many_tokens_are_kept_and_no_more(node: Node) -> None:
    dates = [node.back_up(BASE_DATE="0").date for _ in range(TOKENS_MAX + 3)]
    assert [record.date for record in node.dates.records()] == dates[3:]
    assert len(node.tables()) == TOKENS_MAX


@pytest.mark.parametrize("value", ["x", "-2", "", str(1 << 64), str(31 << 32 | 5), "1" * 400])
def test_tokens_that_cannot_be_meant(node: Node, value: str) -> None:
    with pytest.raises(Refusal) as caught:
        node.start(BASE_DATE=value)
    assert caught.value.error is ErrorCode.ILLEGAL_ARGS_ERR


def test_no_two_backups_of_a_tree_have_the_same_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.chain([1000.2, 1000.5, 1000.9, 1001.1], itertools.repeat(900.0, 1), itertools.count(901))
    monkeypatch.setattr("mover.control.dump_dates.time.clock_gettime", lambda _: next(seconds))
    (tmp_path / "dumpdates").mkdir()  # a process before this one gave dates, perhaps these
    node = Node(DumpDates(str(tmp_path / "dumpdates")))
    assert [node.back_up(0).date for _ in range(3)] == [1000, 1001, 900]  # the clock was set back


@pytest.mark.parametrize("first", [True, False])
def test_full_backups_of_one_second_do_not_wait_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, first: bool
) -> None:
    start = [] if first else [1000.0]
    seconds = itertools.chain(start, itertools.repeat(1010.5, 4), itertools.count(1011))
    monkeypatch.setattr("mover.control.dump_dates.time.clock_gettime", lambda _: next(seconds))
    if not first:
        (tmp_path / "dumpdates").mkdir()
    node = Node(DumpDates(str(tmp_path / "dumpdates")))
    assert [node.back_up(0, UPDATE="N").date for _ in range(2)] == [1010, 1009]
    assert node.back_up(0).date == 1008
    level = node.back_up(1)
    assert level.base == BackupDate(0, 1008)
    assert level.date == 1011


def test_the_process_that_gives_the_first_date_is_known_to_the_next(tmp_path: Path) -> None:
    dates = DumpDates(str(tmp_path / "dumpdates"))
    assert Node(dates).back_up(0, UPDATE="N").warnings == []
    assert (tmp_path / "dumpdates").is_dir()


def test_a_lost_table_is_told(node: Node) -> None:
    node.back_up(0)
    (table,) = node.tables()
    os.unlink(os.path.join(node.dates.directory, table))
    message = node.back_up(1)
    assert message.base is None
    (line,) = message.warnings
    assert line.startswith("the inode table of the backup of level 0 at 1000 is lost: No such file or directory: ")
    assert line.endswith("this is a full backup (level 0)")


def test_no_room_for_a_table_is_no_reason_not_to_back_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    first = node.back_up(0)
    opened = os.open

    def full(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(28, "No space left on device")
        return opened(path, flags, mode)

    monkeypatch.setattr("mover.control.dump_dates.os.open", full)
    message = node.back_up(1)
    assert (message.base, message.keeps_table) == (BackupDate(0, first.date), False)
    assert message.warnings == [
        "no backup can be based on this one, its inode table cannot be kept: No space left on device"
    ]


def test_a_restart_knows_the_dates_and_removes_what_a_crash_has_left(node: Node) -> None:
    first = node.back_up(0)
    (Path(node.dates.directory) / "left.inodes").write_bytes(b"half a table")
    again = Node(DumpDates(node.dates.directory))
    assert again.back_up(1).base == BackupDate(0, first.date)
    assert len(again.tables()) == 2


# --- what counts when


def ended(node: Node, level: int, *, tape_here: bool = False) -> BackupFiles:
    """A backup that is HALTED, SUCCESSFUL; its DMA has not said anything yet."""
    files = node.start(level)
    base = files.base
    files.commit(finished(BackupDate(level if base is not None else 0, files.date)), tape_here=tape_here)
    return files


def test_nothing_is_based_on_a_backup_before_its_dma_has_ended_it(node: Node) -> None:
    first = node.back_up(0)
    files = ended(node, 0)
    files.discard(orderly=True)
    assert node.back_up(1).base == BackupDate(0, first.date)
    assert isinstance(listed := list_dates(node.dates), DumpDatesReply)
    assert [each.date for each in listed.dump_dates] == [first.date, first.date + 2]
    files.conclude(stopped=True)
    assert [record.date for record in node.dates.records()] == [files.date]
    assert len(node.tables()) == 1


@pytest.mark.parametrize("mover_first", [True, False])
@pytest.mark.parametrize(("whole", "stopped"), [(True, False), (False, True), (False, False)])
def test_what_was_to_be_outdated_stays(node: Node, *, whole: bool, stopped: bool, mover_first: bool) -> None:
    first = node.back_up(0)
    files = ended(node, 0)
    if mover_first:
        files.discard(orderly=whole)
    files.conclude(stopped=stopped)
    files.conclude(stopped=True)  # the first word counts
    if not mover_first:
        files.discard(orderly=whole)
    assert [record.date for record in node.dates.records()] == [first.date]
    assert len(node.tables()) == 1


def test_the_next_backup_waits_for_one_that_goes_to_its_end(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ended(node, 0)
    files.conclude(stopped=True)
    done = threading.Thread(target=files.discard, kwargs={"orderly": True})
    done.start()
    assert node.back_up(1).base == BackupDate(0, files.date)
    done.join()
    monkeypatch.setattr("mover.control.dump_dates.SETTLE_S", 0.01)
    never = ended(node, 0)
    never.conclude(stopped=True)
    message = node.back_up(1)
    assert message.base == BackupDate(0, files.date)
    assert message.warnings == ["the backup before this one has not reached the tape yet, nothing can be based on it"]
    never.discard(orderly=False)


def test_a_restart_forgets_what_no_dma_has_ended(node: Node) -> None:
    first = node.back_up(0)
    ended(node, 0).discard(orderly=True)
    again = Node(DumpDates(node.dates.directory))
    assert [record.date for record in again.dates.records()] == [first.date]
    assert len(again.tables()) == 1
    assert [record.date for record in Node(DumpDates(node.dates.directory)).dates.records()] == [first.date]


@pytest.mark.parametrize("flushed", ["before", "behind", "never"])
def test_a_crash_of_the_host_forgets_what_was_not_flushed(
    node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flushed: str
) -> None:
    node.back_up(0)
    files = ended(node, 1, tape_here=True)
    if flushed == "before":
        files.note_flush(whole=True)
    files.discard(orderly=True)
    files.conclude(stopped=True)
    if flushed == "behind":
        files.note_flush(whole=True)
    node.back_up(2)  # elsewhere, and based on it
    assert [each.level for each in Node(DumpDates(node.dates.directory)).dates.records()] == [0, 1, 2]
    (tmp_path / "boot").write_text("another\n")
    monkeypatch.setattr("mover.control.dump_dates._BOOT", str(tmp_path / "boot"))
    left = [each.level for each in Node(DumpDates(node.dates.directory)).dates.records()]
    assert left == ([0] if flushed == "never" else [0, 1, 2])


def test_a_flush_that_fails_forgets_the_date_and_what_is_based_on_it(node: Node) -> None:
    node.back_up(0)
    files = ended(node, 1, tape_here=True)
    files.discard(orderly=True)
    files.conclude(stopped=True)
    node.back_up(2)
    files.note_flush(whole=False)
    assert [each.level for each in node.dates.records()] == [0]
    assert len(node.tables()) == 1
    early = ended(node, 1, tape_here=True)
    early.note_flush(whole=False)
    early.discard(orderly=True)
    early.conclude(stopped=True)
    assert [each.level for each in node.dates.records()] == [0]


def test_a_date_that_was_deleted_meanwhile_stays_deleted(node: Node) -> None:
    files = ended(node, 0)
    files.discard(orderly=True)
    assert isinstance(delete(node.dates, DumpDatesDelete("/vol/a/home")), Done)
    files.conclude(stopped=True)
    files.note_flush(whole=True)
    assert node.dates.records() == []


def test_what_is_not_ended_does_not_move_to_another_node(node: Node, tmp_path: Path) -> None:
    first = node.back_up(0)
    ended(node, 1, tape_here=True).discard(orderly=True)
    assert [each.date for each in export_dates(node.dates, str(tmp_path / "over"))] == [first.date]


@pytest.mark.parametrize("at", [0, 8, 45, -1])
def test_a_damaged_list_is_put_aside(node: Node, at: int) -> None:
    node.back_up(0)
    index = Path(node.dates.directory) / INDEX
    data = bytearray(index.read_bytes())
    data[at] ^= 1
    index.write_bytes(data)
    again = Node(DumpDates(node.dates.directory))
    assert again.back_up(1).base is None
    assert index.with_name("index.damaged").read_bytes() == data
    assert again.back_up(2).base is not None


def test_the_number_of_dates_is_bounded(node: Node) -> None:
    node.back_up(0)
    (record,) = node.dates.records()
    node.dates.replace([record] * (RECORDS_MAX + 5))
    assert len(node.dates.records()) == RECORDS_MAX


# --- from node to node


def test_dates_move_to_another_node_and_back(node: Node, tmp_path: Path) -> None:
    other = Node(DumpDates(str(tmp_path / "other/dumpdates")))
    (tmp_path / "other").mkdir()
    first = node.back_up(0)
    node.back_up(1)
    over, back = str(tmp_path / "over"), str(tmp_path / "back")
    assert len(export_dates(node.dates, over)) == 2
    assert import_dates(other.dates, over)[1] == []
    assert [record.level for record in other.dates.records()] == [0, 1]
    contents = {(Path(each.dates.directory) / name).read_bytes() for each in (node, other) for name in each.tables()}
    assert len(contents) == 2
    second = other.back_up(1)
    assert second.base == BackupDate(0, first.date)
    export_dates(other.dates, back)
    import_dates(node.dates, back)
    assert node.back_up(2).base == BackupDate(1, second.date)
    assert len(node.tables()) == 3


def test_older_dates_do_not_take_the_place_of_later_ones(node: Node, tmp_path: Path) -> None:
    node.back_up(0)
    export_dates(node.dates, str(tmp_path / "old"))
    later = node.back_up(0)
    taken, kept = import_dates(node.dates, str(tmp_path / "old"))
    assert (taken, [tree.filesystem for tree in kept]) == ([], [b"/vol/a/home"])
    assert [record.date for record in node.dates.records()] == [later.date]
    assert len(node.tables()) == 1


def test_a_damaged_file_changes_nothing(node: Node, tmp_path: Path) -> None:
    node.back_up(0)
    node.back_up(1)
    path = tmp_path / "file"
    export_dates(node.dates, str(path))
    data = path.read_bytes()
    damages = [data[:length] for length in range(0, len(data), 5)]
    damages += [data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :] for at in range(0, len(data), 3)]
    damages += [data + b"x", b"moverde1" + b"\xff" * 8 + data[16:]]
    before = node.tables()
    for damage in damages:
        path.write_bytes(damage)
        with pytest.raises(TransferError):
            import_dates(node.dates, str(path))
    assert node.tables() == before


def test_an_export_overwrites_nothing(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_bytes(b"mine")
    with pytest.raises(TransferError, match="File exists"):
        export_dates(node.dates, str(path))
    with pytest.raises(TransferError, match="No such file"):
        export_dates(node.dates, str(tmp_path / "no/where"))
    with pytest.raises(TransferError, match="No such file"):
        import_dates(node.dates, str(tmp_path / "nothing"))
    assert path.read_bytes() == b"mine"
