"""Which entries have changed: by one process and by two, and whatever becomes of the second."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from mover.data import changes
from mover.data.backup_report import BackupReport
from mover.data.changes import Since, find_changes
from mover.data.dump_format import FIRST_INUMBER
from mover.data.environment import Exclusion
from mover.data.scan import Scanner
from mover.workers.channel import Channel

HOUR_NS = 3600 * 10**9
ENTRIES = 300
PRIVATE_FD = 2  # what a copy closes, here its standard error


class Tree:
    """A tree of which every fifth file is from the future, and its plan."""

    def __init__(self, place: Path) -> None:
        self.since_ns = time.time_ns() + HOUR_NS
        self.new: set[bytes] = set()
        for number in range(ENTRIES):
            path = place / f"directory-{number % 7}" / "below" / f"file-{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            if number % 5 == 0:
                os.utime(path, ns=(0, self.since_ns + number))
                self.new.add(os.fsencode(path.relative_to(place)))
        self.root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        report = BackupReport(cast("Channel", None), b"/", memoryview(bytearray(64)))  # nothing is said
        scanner = Scanner(
            self.root, exclusion=Exclusion(b""), report=report, attributes=lambda *_: [], check=lambda _: None
        )
        self.plan = scanner.run()
        scanner.open_directories.close()

    def find(self) -> set[bytes]:
        """Paths of what has changed."""
        found = find_changes(self.plan, self.root, Since(self.since_ns), lambda: None, PRIVATE_FD)
        plan = self.plan
        paths = set()
        for place, changed in enumerate(found):
            ordinal = plan.directory_of(place + FIRST_INUMBER)
            name = plan.entry_names(ordinal)[place + FIRST_INUMBER - plan.firsts[ordinal]]
            if changed:
                paths.add(plan.path(ordinal, name))
        return paths


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path)
    yield made
    os.close(made.root)


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "WORTH_ENTRIES", 1)
    monkeypatch.setattr(changes, "_SLICE", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def test_by_one_process(tree: Tree) -> None:
    assert tree.find() == tree.new


def test_by_two(tree: Tree, forking: None) -> None:
    assert tree.find() == tree.new


def test_what_changed_at_the_very_moment_counts(tmp_path: Path) -> None:
    """A date is a whole second, and a change may carry just that time."""
    tree = Tree(tmp_path)
    path = tmp_path / "directory-1/below/file-1"
    os.utime(path, ns=(0, 0))
    tree.since_ns = path.stat().st_ctime_ns
    assert b"directory-1/below/file-1" in tree.find()
    os.close(tree.root)


def test_the_copy_alone_does_all_when_the_worker_is_slow(
    tree: Tree, forking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker waits at its first slice until the copy has come to it."""
    forward = changes._Work.forward

    def wait_first(work: changes._Work, check: object) -> None:
        deadline = time.monotonic() + 60
        while work._progress[changes._BACKWARD] > 0 and time.monotonic() < deadline:
            time.sleep(0.001)
        forward(work, lambda: pytest.fail("there is nothing left to do"))

    monkeypatch.setattr(changes._Work, "forward", wait_first)
    assert tree.find() == tree.new


def test_a_copy_that_fails_costs_nothing_but_time(tree: Tree, forking: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(work: changes._Work, worker: int) -> None:
        raise MemoryError

    monkeypatch.setattr(changes._Work, "backward", fail)
    assert tree.find() == tree.new


def test_a_copy_that_is_stopped_costs_nothing_but_time(
    tree: Tree, forking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(work: changes._Work, worker: int) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    monkeypatch.setattr(changes._Work, "backward", stop)
    assert tree.find() == tree.new


def test_no_process_to_be_had(tree: Tree, forking: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "no process")

    monkeypatch.setattr(os, "fork", refuse)
    assert tree.find() == tree.new


def test_an_end_from_outside_leaves_no_copy(tree: Tree, forking: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(Exception):  # noqa: N818 - what happens
        """The ring is closed."""

    def end() -> None:
        raise Ended

    def backward(work: changes._Work, _worker: int) -> None:
        while work._progress[changes._FORWARD] < len(work._changed):  # else it could be through before the worker
            time.sleep(0.001)

    monkeypatch.setattr(changes._Work, "backward", backward)
    fork, copies = os.fork, list[int]()

    def noted_fork() -> int:
        process = fork()
        copies.append(process)
        return process

    monkeypatch.setattr(os, "fork", noted_fork)
    with pytest.raises(Ended):
        find_changes(tree.plan, tree.root, Since(tree.since_ns), end, PRIVATE_FD)
    (copy,) = copies
    with pytest.raises(ChildProcessError):
        os.waitpid(copy, os.WNOHANG)


def test_what_cannot_be_seen_counts_as_changed(tree: Tree, tmp_path: Path) -> None:
    gone = tmp_path / "directory-1/below/file-1"
    gone.unlink()
    assert tree.find() == tree.new | {b"directory-1/below/file-1"}
