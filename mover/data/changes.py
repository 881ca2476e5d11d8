"""Which entries of a plan have changed since a moment: one stat each, by two processes where there are processors.

Theory of operation: a forked copy of the worker begins at the last entry, the worker at the first, and each notes in
shared memory how far it is and what it has found. They take slices of a directory, and a slice counts when it is done.
The worker goes on until the two parts meet, so a copy that fails or dies costs time only; what both look at is found
twice. The copy leaves when it has met the worker, or the worker is gone.

A time of change (ctime) alone does not say what has changed. Where it is not to count (IGNORE_CTIME), an object is left
whose content is older (mtime) and which was made before (time of birth): so its inode is the one that the base knows,
and no other object has got the number since. What has several names, is in a directory that has changed where names are
what objects are known by, or has no time of birth, is taken all the same.
"""

import mmap
import os
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from mover.data.birth_times import BirthTimes
from mover.data.dump_format import DT_DIRECTORY, FIRST_INUMBER
from mover.data.forked_copy import end_copy, fork_copy
from mover.data.open_directories import OpenDirectories
from mover.data.plan import Plan

WORTH_ENTRIES: Final = 10_000  # below that the fork costs more than it gains
_SLICE: Final = 2_048
_FORWARD: Final = 0  # entries before this one are done, by the worker
_BACKWARD: Final = 1  # entries from this one on are done, by the copy
_CONTENT: Final = 2  # bytes of content in what has changed, as the worker has found; the word behind: as the copy has
_UNKNOWN: Final = 4  # objects without a time of birth, as the worker has found; the word behind: as the copy has
_PROGRESS_BYTES: Final = 48


class Since(NamedTuple):
    """From when on a change counts, and which.

    Attributes:
        ns: nanoseconds since 1970.
        ignores_ctime: times of change count for directories only, and for what is not known to have been there.
        by_name: objects are known by their names: in a directory that has changed any may have got another object's.
    """

    ns: int
    ignores_ctime: bool = False
    by_name: bool = False


class _Slice(NamedTuple):
    ordinal: int
    first: int  # place of the first entry: its key less FIRST_INUMBER
    names: list[bytes]
    types: bytes


def find_changes(
    plan: Plan,
    root: int,
    since: Since,
    check: Callable[[], None],
    private_fd: int,
    tell: Callable[[int], object] = lambda _: None,
) -> bytearray:
    """For the entry with key FIRST_INUMBER + k, 1 = it is no directory and changed then or later, or cannot be seen.

    Args:
        root: descriptor of the root directory.
        check: called now and then; may raise to end it.
        private_fd: what a copy of the worker must not hold, the control socket.
        tell: called with the number of entries that were looked at.
    """
    size = len(plan.inodes)
    if not size:
        return bytearray()
    with (
        mmap.mmap(-1, _PROGRESS_BYTES + size) as shared,
        memoryview(shared) as whole,
        whole[:_PROGRESS_BYTES].cast("Q") as progress,
        whole[_PROGRESS_BYTES:] as changed,
    ):
        progress[_BACKWARD] = size
        work = _Work(plan, root, since, progress, changed, tell)
        copy = _fork_copy(work, private_fd) if size >= WORTH_ENTRIES and len(os.sched_getaffinity(0)) > 1 else 0
        try:
            work.forward(check)
        finally:
            progress[_FORWARD] = size
            if copy:
                end_copy(copy)  # what it has begun the worker has looked at too, and it may be stopped
        found = bytearray(changed)
        plan.changed_bytes, plan.changed_count = progress[_CONTENT] + progress[_CONTENT + 1], found.count(1)
        plan.without_birth = progress[_UNKNOWN] + progress[_UNKNOWN + 1]
        return found


def changed_bytes(plan: Plan) -> int:
    """Content of what an incremental backup takes, about; 0 = not known.

    What it takes although its times are old was not asked for its size, and counts as average.
    """
    if plan.selection is None or not plan.changed_count:
        return 0
    return plan.changed_bytes * plan.selection.others.count(1) // plan.changed_count


def _fork_copy(work: "_Work", private_fd: int) -> int:
    """The process that begins at the end; 0 = there is none to be had, and the worker does all of it."""
    worker = os.getpid()

    def look() -> None:
        os.close(private_fd)  # with it open here, control would not see at once that the worker died
        work.backward(worker)

    try:
        return fork_copy(look)
    except OSError:
        return 0


class _Work:
    """What both processes do, each with directories of its own."""

    def __init__(
        self,
        plan: Plan,
        root: int,
        since: Since,
        progress: memoryview,
        changed: memoryview,
        tell: Callable[[int], object],
    ) -> None:
        self._plan = plan
        self._root = root
        self._since = since
        self._births = BirthTimes() if since.ignores_ctime else None
        self._progress = progress
        self._changed = changed
        self._tell = tell

    def forward(self, check: Callable[[], None]) -> None:
        """From the first entry on, to where the copy has come."""
        directories = OpenDirectories(self._plan, self._root)
        try:
            for part in self._slices(range(len(self._plan)), 1):
                if part.first >= self._progress[_BACKWARD]:
                    return
                check()
                self._look(directories, part, 0)
                self._progress[_FORWARD] = part.first + len(part.names)
                self._tell(self._progress[_FORWARD] + len(self._changed) - self._progress[_BACKWARD])
        finally:
            directories.close()

    def backward(self, worker: int) -> None:
        """From the last entry on, to where the worker has come."""
        directories = OpenDirectories(self._plan, self._root)
        for part in self._slices(range(len(self._plan) - 1, -1, -1), -1):
            if part.first + len(part.names) <= self._progress[_FORWARD] or os.getppid() != worker:
                return
            self._look(directories, part, 1)
            self._progress[_BACKWARD] = part.first

    def _slices(self, ordinals: range, step: int) -> Iterator[_Slice]:
        plan = self._plan
        for ordinal in ordinals:
            types = plan.types[ordinal]
            if not types:
                continue
            names, first = plan.entry_names(ordinal), plan.firsts[ordinal] - FIRST_INUMBER
            for start in range(0, len(names), _SLICE)[::step]:
                end = start + _SLICE
                yield _Slice(ordinal, first + start, names[start:end], types[start:end])

    def _look(self, directories: OpenDirectories, part: _Slice, process: int) -> None:
        """Args: process: 0 = the worker, 1 = the copy: which words of the progress are its own."""
        changed, since_ns, look = self._changed, self._since.ns, os.stat
        forgiving = self._births is not None and not (
            self._since.by_name and self._plan.directory_changed[part.ordinal]
        )
        place = part.first - 1
        try:
            directory = directories.open(part.ordinal)
            if not directories.is_as_scanned(part.ordinal, directory):
                directory = -1  # the objects in it are not the ones that the plan has numbered
        except OSError:
            directory = -1  # every stat will fail; reading them will report it
        for name, kind in zip(part.names, part.types, strict=True):
            place += 1
            if kind == DT_DIRECTORY:
                continue
            try:
                stat = look(name, dir_fd=directory, follow_symlinks=False)
            except OSError:
                changed[place] = 1
            else:
                if stat.st_ctime_ns >= since_ns or stat.st_mtime_ns >= since_ns:
                    if forgiving and self._is_as_it_was(stat, name, directory, process):
                        continue
                    changed[place] = 1
                    self._progress[_CONTENT + process] += min(stat.st_size, stat.st_blocks << 9)

    def _is_as_it_was(self, stat: os.stat_result, name: bytes, directory: int, process: int) -> bool:
        """Whether an object with a new time of change has the content that it had, and its one name is told by its
        directory."""
        if stat.st_mtime_ns >= self._since.ns or stat.st_nlink > 1:
            return False
        assert self._births is not None
        try:
            born_ns = self._births.of(name, directory)
        except OSError:
            return False  # gone since, or replaced: reading it will tell
        if born_ns is None:
            self._progress[_UNKNOWN + process] += 1
            return False
        return born_ns < self._since.ns
