"""The second reader of a backup: the stream and all that is told of it are the same, whatever becomes of it."""

import copy
import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.data import dump_backup, second_reader, tar_backup
from mover.data.backup_files import FilePhase
from mover.data.open_directories import OpenDirectories
from mover.data.plan import Plan
from mover.data.scan import Scanner
from mover.data.second_reader import Ready, SecondReader
from mover.ring import DataGauge, Kind, RingControl, Verdict
from mover.workers.data_messages import BackupDate, HistoryPlan
from mover.workers.messages import FromWorker
from tests.data.backup_runner import Outcome, backup_here, request
from tests.support.trees import make_small_files

FILES = 1_000
BATCH = 32
DIRECTORIES = 7
EARLIER = 1_500_000_000
SLOT_BYTES = 1 << 18
HISTORY = [None, HistoryPlan(4, "dir"), HistoryPlan(3, "file")]


def file(tree: Path, number: int) -> Path:
    return tree / f"directory-{number % DIRECTORIES:03d}" / f"file-{number:05d}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files in the main, and enough else between them."""
    root = tmp_path_factory.mktemp("second") / "tree"
    make_small_files(root, files=FILES, size=3_000, directories=DIRECTORIES)
    for number in range(0, FILES, 61):
        path = file(root, number)
        match number // 61 % 9:
            case 0:
                os.setxattr(path, "user.a", b"b")
            case 1:
                path.chmod(0o4755)
            case 2:
                path.write_bytes(b"large" * 100_000)  # more than a slot
            case 3:
                os.link(path, path.with_name(path.name + "-again"))
            case 4:
                os.truncate(path, 500_000 if number % 2 else 20_000)  # a hole
            case 5:
                path.write_bytes(b"")
            case 6:
                path.with_name("link-" + path.name).symlink_to("nowhere")
                os.mkfifo(path.with_name("fifo-" + path.name))
            case 7:
                path.write_bytes(b"m" * 100_000)  # less than a slot, more than the second reader takes
            case _:
                path.rename(path.with_name(path.name + "-" + 200 * "n"))
    only_directories = root / "directory-003" / "below"
    for name in ("a", "b"):
        (only_directories / name).mkdir(parents=True)
    make_small_files(only_directories / "b" / ("long" * 50), files=100, size=100, directories=2)
    odd = root / "directory-005" / "odd"
    make_small_files(odd, files=100, size=10, directories=1)
    for path in (odd / "directory-000").iterdir():
        os.setxattr(path, "user.every", b"one")
    os.utime(file(root, 1), ns=(-1, 5_000_000_000 * 10**9))
    look_at_all(root)
    return root


def look_at_all(root: Path) -> None:
    """List every directory: the first one to do so changes its time of access, and so what a backup holds."""
    for _ in os.walk(root):
        pass


@pytest.fixture
def always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two streams of one tree are equal: their names are not random."""
    for module in (dump_backup, tar_backup):
        monkeypatch.setattr(module, "new_dump_id", lambda: b"abcdefghijklmno")


class Second(NamedTuple):
    """What became of the second readers of a test."""

    processes: list[int]
    taken: list[int]  # batches that one has read

    def are_gone(self) -> bool:
        for process in self.processes:
            with pytest.raises(ChildProcessError):
                os.waitpid(process, os.WNOHANG)
        return bool(self.processes)


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Second:
    """Two processors, and what the second reader does is noted."""
    noted = Second([], [])
    start, take = SecondReader.__init__, SecondReader.take

    def noted_start(reader: SecondReader, *arguments: object) -> None:
        start(reader, *arguments)  # type: ignore[arg-type]  # passed through
        noted.processes.append(reader._process)

    def noted_take(reader: SecondReader, batch: int) -> Ready | None:
        ready = take(reader, batch)
        if ready is not None:
            noted.taken.append(batch)
        return ready

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(second_reader, "BATCH", BATCH)
    monkeypatch.setattr(second_reader, "WORTH_ENTRIES", 500)
    monkeypatch.setattr(SecondReader, "__init__", noted_start)
    monkeypatch.setattr(SecondReader, "take", noted_take)
    return noted


def leave_all_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker waits for the second reader at each batch, so that a test does not depend on who is faster."""
    monkeypatch.setattr(SecondReader, "_claim", lambda _: None)


def by_one(monkeypatch: pytest.MonkeyPatch, backup: Callable[[], Outcome]) -> Outcome:
    """A backup without a second reader."""
    with monkeypatch.context() as alone:
        alone.setattr(os, "sched_getaffinity", lambda _: {0})
        return backup()


class Told(NamedTuple):
    """What two backups of one tree have alike."""

    stream: bytes
    end: int | None
    messages: list[FromWorker]
    posts: list[tuple[int, bytes]]
    gauges: dict[DataGauge, int]  # but times
    counts: list[int]  # of kinds and sizes


def told(outcome: Outcome) -> Told:
    gauges = {gauge: value for gauge, value in outcome.gauges.items() if not gauge.name.endswith("_NS")}
    counts = outcome.all_gauges[DataGauge.KINDS :]
    return Told(outcome.stream, outcome.end, outcome.messages, outcome.posts, gauges, counts)


def small_backup(tree: Path, butype: str, history: HistoryPlan | None = None) -> Callable[[], Outcome]:
    def backup() -> Outcome:
        message = request(tree, butype=butype, history=history, date=EARLIER)
        return backup_here(message, slot_bytes=SLOT_BYTES)

    return backup


@pytest.mark.slow
@pytest.mark.parametrize("all_of_it", [True, False])
@pytest.mark.parametrize("history", HISTORY)
@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_a_full_backup_is_the_same(
    tree: Path,
    butype: str,
    history: HistoryPlan | None,
    all_of_it: bool,
    second: Second,
    always_the_same: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backup = small_backup(tree, butype, history)
    expected = by_one(monkeypatch, backup)
    assert second.processes == []
    assert (expected.end, expected.finished.reason, expected.finished.errors) == (Kind.END, 1, 0)
    if all_of_it:
        leave_all_to_it(monkeypatch)
    outcome = backup()
    assert outcome.stream == expected.stream
    assert told(outcome) == told(expected)
    assert second.are_gone()
    if all_of_it:
        assert second.taken == list(range(len(second.taken)))
        assert len(second.taken) >= FILES // BATCH


class Chain:
    """A level 0 and a level 1 of a tree, as control would ask for them."""

    def __init__(self, tree: Path, state: Path, butype: str) -> None:
        self._tree = tree
        self._state = state
        self._butype = butype

    def backup(self, level: int, name: str, history: HistoryPlan | None = None) -> tuple[Outcome, bytes]:
        """A backup, and the table that it has kept."""
        message = request(
            self._tree, butype=self._butype, history=history, level=level, keeps_table=True, date=EARLIER + level,
            base=BackupDate(0, EARLIER) if level else None,
        )  # fmt: skip
        files = [os.open(self._state / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)]
        if level:
            files.insert(0, os.open(self._state / "full", os.O_RDONLY))
        try:
            outcome = backup_here(message, slot_bytes=SLOT_BYTES, files=files)
        finally:
            for fd in files:
                os.close(fd)
        return outcome, (self._state / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("history", HISTORY)
@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_an_incremental_backup_is_the_same(
    tmp_path: Path,
    butype: str,
    history: HistoryPlan | None,
    second: Second,
    always_the_same: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = tmp_path / "tree"
    make_small_files(tree, files=700, size=700, directories=3)
    chain = Chain(tree, tmp_path, butype)
    chain.backup(0, "full")
    for number in range(0, 700, 7):  # numbers that are not in the order of the directories any more
        path = tree / f"directory-{number % 3:03d}" / f"file-{number:05d}"
        path.rename(tree / f"directory-{(number + 1) % 3:03d}" / f"moved-{number}")
    look_at_all(tree)
    second.processes.clear()
    outcomes = []
    with monkeypatch.context() as alone:
        alone.setattr(os, "sched_getaffinity", lambda _: {0})
        outcomes.append(chain.backup(1, "by-one", history))
    assert second.processes == []
    outcomes.append(chain.backup(1, "as-it-comes", history))
    leave_all_to_it(monkeypatch)
    second.taken.clear()
    outcomes.append(chain.backup(1, "all-of-it", history))
    assert second.taken
    assert second.are_gone()
    assert outcomes[0][0].finished.date == BackupDate(1, EARLIER + 1)
    assert outcomes[0][0].finished.files == 700
    for outcome, table in outcomes[1:]:
        assert outcome.stream == outcomes[0][0].stream
        assert (told(outcome), table) == (told(outcomes[0][0]), outcomes[0][1])


@pytest.mark.slow
@pytest.mark.parametrize("history", HISTORY)
@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_one_that_is_killed_costs_nothing(
    tree: Path,
    butype: str,
    history: HistoryPlan | None,
    second: Second,
    always_the_same: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backup = small_backup(tree, butype, history)
    expected = by_one(monkeypatch, backup)
    take = SecondReader.take

    def killing_take(reader: SecondReader, batch: int) -> Ready | None:
        if batch == 7:
            os.kill(reader._process, signal.SIGKILL)
        return take(reader, batch)

    leave_all_to_it(monkeypatch)
    monkeypatch.setattr(SecondReader, "take", killing_take)
    assert told(backup()) == told(expected)
    assert second.are_gone()
    assert 0 < len(second.taken) < 7 + second_reader.AREAS + 1


@pytest.mark.slow
def test_one_that_is_stopped_costs_only_time(
    tree: Path,
    second: Second,
    always_the_same: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    backup = small_backup(tree, "dump")
    expected = by_one(monkeypatch, backup)
    take = SecondReader.take

    def stopping_take(reader: SecondReader, batch: int) -> Ready | None:
        if batch == 7:
            os.kill(reader._process, signal.SIGSTOP)
            os.waitpid(reader._process, os.WUNTRACED)
        return take(reader, batch)

    leave_all_to_it(monkeypatch)
    monkeypatch.setattr(second_reader, "PATIENCE_S", 0.05)
    monkeypatch.setattr(SecondReader, "take", stopping_take)
    assert told(backup()) == told(expected)
    assert second.are_gone()
    assert 0 < len(second.taken) < 7 + second_reader.AREAS + 1
    assert capfd.readouterr().err == "a forked copy does not get on and is killed: its worker goes on alone\n"


@pytest.mark.slow
@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "input/output error")])
def test_one_that_fails_costs_nothing(
    tree: Path, error: Exception, second: Second, always_the_same: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = small_backup(tree, "dump")
    expected = by_one(monkeypatch, backup)
    read, count = second_reader._Reading._read, 0

    def failing(reading: second_reader._Reading, *arguments: object) -> int:
        nonlocal count
        count += 1
        if count > 3:
            raise error
        return read(reading, *arguments)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(second_reader._Reading, "_read", failing)
    leave_all_to_it(monkeypatch)
    assert told(backup()) == told(expected)
    assert second.taken == [0, 1, 2]


@pytest.mark.slow
def test_no_process_to_be_had(
    tree: Path, second: Second, always_the_same: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = small_backup(tree, "dump")
    expected = by_one(monkeypatch, backup)

    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    opened = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fork", refuse)
    outcome = backup()
    assert outcome.stream == expected.stream
    assert outcome.lines(3) == [
        "without a second reader: Resource temporarily unavailable (EAGAIN)",
        *expected.lines(3),
    ]
    assert set(os.listdir("/proc/self/fd")) == opened


def test_few_files_are_read_by_one(tmp_path: Path, second: Second) -> None:
    make_small_files(tmp_path / "tree", files=300, size=10, directories=2)
    assert backup_here(request(tmp_path / "tree")).finished.reason == 1
    assert second.processes == []


class Change(NamedTuple):
    """Something that happens to a tree after the scan."""

    what: str
    do: Callable[[Path], None]


def _vanish(tree: Path) -> None:
    for number in range(0, 700, 11):
        file(tree, number).unlink()


def _replace(tree: Path) -> None:
    for number in range(0, 700, 13):
        path = file(tree, number)
        path.unlink()
        match number // 13 % 3:
            case 0:
                os.mkfifo(path)
            case 1:
                path.symlink_to("elsewhere")
            case _:
                path.mkdir()


def _lose_a_directory(tree: Path) -> None:
    (tree / "directory-002").rename(tree.parent / "lost")


def _replace_a_directory(tree: Path) -> None:
    (tree / "directory-002").rename(tree.parent / "replaced")
    (tree / "directory-002").mkdir()
    for number in range(2, 700, 2 * DIRECTORIES):
        file(tree, number).write_bytes(b"another %d" % number)


def _nothing(tree: Path) -> None:
    """It is changed already."""


class KeptScan:
    """Every backup has the plan that the first scan has made, as it was then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._plan: Plan | None = None
        scan = Scanner.run

        def run(scanner: Scanner) -> Plan:
            if self._plan is None:
                self._plan = copy.deepcopy(scan(scanner))
            scanner.plan = copy.deepcopy(self._plan)
            scanner.open_directories = OpenDirectories(scanner.plan, scanner._root)
            return scanner.plan

        monkeypatch.setattr(Scanner, "run", run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        Change("files vanish", _vanish),
        Change("files become something else", _replace),
        Change("a directory is lost", _lose_a_directory),
        Change("a directory is replaced", _replace_a_directory),
    ],
    ids=lambda change: change.what,
)
@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_what_changes_after_the_scan_is_told_once(
    tmp_path: Path,
    butype: str,
    change: Change,
    second: Second,
    always_the_same: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = tmp_path / "tree"
    make_small_files(tree, files=700, size=1_000, directories=DIRECTORIES)
    changes: Iterator[Callable[[Path], None]] = iter((change.do, _nothing, _nothing))
    run = FilePhase.run

    def changed(phase: FilePhase) -> None:
        next(changes)(tree)
        run(phase)

    monkeypatch.setattr(FilePhase, "run", changed)
    KeptScan(monkeypatch)
    backup = small_backup(tree, butype, HistoryPlan(4, "dir"))
    expected = by_one(monkeypatch, backup)
    assert expected.finished.errors or expected.lines(3)
    assert told(backup()) == told(expected)
    leave_all_to_it(monkeypatch)
    second.taken.clear()
    assert told(backup()) == told(expected)
    assert second.taken


@pytest.mark.slow
@pytest.mark.parametrize(("function", "error"), [("open", errno.EACCES), ("readv", errno.EIO), ("readv", 0)])
def test_what_cannot_be_read_is_told_once(
    tree: Path, function: str, error: int, second: Second, always_the_same: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both processes alike; 0 = less is read than there is."""
    original: Callable[..., int] = getattr(os, function)
    names = {os.fsencode(file(tree, number).name) for number in range(5, FILES, 31)}
    inodes = {file(tree, number).stat().st_ino for number in range(5, FILES, 31)}

    def failing(what: object, *arguments: object, **keywords: object) -> int:
        if what in names or (isinstance(what, int) and os.fstat(what).st_ino in inodes):
            if not error:
                return 0
            raise OSError(error, os.strerror(error))
        return original(what, *arguments, **keywords)

    monkeypatch.setattr(os, function, failing)
    monkeypatch.setattr(os, "preadv", _at_their_end(os.preadv, inodes))
    backup = small_backup(tree, "dump", HistoryPlan(4, "dir"))
    expected = by_one(monkeypatch, backup)
    assert expected.finished.errors >= len(names) - 3  # some are not small
    assert told(backup()) == told(expected)
    leave_all_to_it(monkeypatch)
    assert told(backup()) == told(expected)
    assert second.taken


def _at_their_end(preadv: Callable[..., int], inodes: set[int]) -> Callable[..., int]:
    def read(fd: int, *arguments: object) -> int:
        return 0 if os.fstat(fd).st_ino in inodes else preadv(fd, *arguments)

    return read


@pytest.mark.slow
def test_an_end_from_outside_leaves_no_process(tree: Path, second: Second, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the second reader is stuck, and the worker waits for it."""
    rings: list[RingControl] = []
    make, take = RingControl.__init__, SecondReader.take

    def noted_ring(ring: RingControl, slot_bytes: int, slots: int) -> None:
        make(ring, slot_bytes, slots)
        rings.append(ring)

    def stopping_take(reader: SecondReader, batch: int) -> Ready | None:
        if batch == 5:
            os.kill(reader._process, signal.SIGSTOP)
            os.waitpid(reader._process, os.WUNTRACED)
            reader._ready.clear()
            rings[0].conclude(Verdict.BROKEN)
        return take(reader, batch)

    leave_all_to_it(monkeypatch)
    monkeypatch.setattr(RingControl, "__init__", noted_ring)
    monkeypatch.setattr(SecondReader, "take", stopping_take)
    outcome = small_backup(tree, "dump")()
    assert (outcome.finished.reason, outcome.end) == (4, None)
    assert outcome.finished.text == "the backup ended early: the ring is broken"
    assert second.are_gone()
