"""The dates of backups that others can be based on, each with its table of inodes: files in the state directory.

By LEVEL there is one date for each backup type, tree and level; by token (BASE_DATE) one for each DUMP_DATE. A backup
is based on the latest of a lower level, or on the token's. What a table holds is the data worker's business
(mover/data/inode_table.py): it gets the base's and an empty file as descriptors, and the new one counts, on disk, when
the backup has ended well and before the DMA hears of it. A date whose table is lost makes a full backup, never a gap.

Everything here blocks and is for threads; a lock keeps it apart. Source: backup-env.md 2.3, docs/architecture.md
section 5.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog
from msgspec.structs import replace

from mover.control.data_run import Start
from mover.control.dump_index import INDEX, IndexDamaged, Record, Tree, read_index, write_index
from mover.control.durable import sync_directory
from mover.control.environment import LEVEL_MAX, Environment
from mover.control.refusal import Refusal
from mover.ndmp.enums import ErrorCode
from mover.workers.messages import BackupDate, DataFinished, Place, StartBackup

DIRECTORY: Final = "dumpdates"
TOKENS_MAX: Final = 16
"""Dates by token that are kept of one tree; the oldest goes first."""
RECORDS_MAX: Final = 1024
"""Dates that are kept of all trees; the oldest goes first."""
SUFFIX: Final = ".inodes"
_CLOCK_REALTIME_COARSE: Final = 5  # linux/time.h; the clock that times of change are taken from
_WAIT_S: Final = 0.02
_EARLIER_S: Final = 600  # how far back a full backup's date may lie

log = structlog.get_logger()


class BackupFiles:
    """The files of one backup; held until ``discard``.

    Attributes:
        descriptors: for the worker: of the base's table, if there is a base, then of the new one, if it is kept.
    """

    def __init__(self, dates: "DumpDates", tree: Tree, level: int, *, by_token: bool) -> None:
        self.tree = tree
        self.level = level
        self.by_token = by_token
        self.base: Record | None = None
        self.new: str | None = None
        self.date = 0
        self.warnings: list[str] = []
        self.descriptors: list[int] = []
        self._over = False
        self.kept: tuple[Record, list[Record]] | None = None
        """What was added to the list, and what went for it."""
        self._dates = dates

    def announce(self, message: Start) -> Start:
        """The request as the worker is to get it, with these descriptors behind the rings."""
        assert isinstance(message, StartBackup)
        base = self.base
        return replace(
            message,
            date=self.date,
            level=self.level,
            base=BackupDate(base.dumped_level, base.date) if base is not None else None,
            keeps_table=self.new is not None,
            warnings=self.warnings,
        )

    def begin_now(self) -> None:
        """Nothing of the tree has been looked at before this moment: the date is of now. Blocks."""
        self.date = self._dates.renew(self)

    def commit(self, finished: DataFinished) -> None:
        """The backup has ended well: its date counts. Blocks. Raises OSError."""
        if finished.date is not None:
            self._dates.keep(self, finished.date)

    def is_over(self) -> bool:
        """Whether the backup has ended, perhaps while its date was being kept."""
        return self._over

    def end(self) -> None:
        """The backup has ended."""
        self._over = True

    def discard(self, *, orderly: bool) -> None:
        """Let go of the files; of a backup that did not end well nothing is left. Blocks."""
        self._dates.let_go(self, orderly=orderly)


class DumpDates:
    """All dump dates of a node.

    Args:
        directory: where they lie; made when it is wanted first.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.lock = threading.RLock()
        self._records: list[Record] | None = None
        self._given: dict[Tree, set[int]] = {}  # the dates that backups of this process have got lately
        # Dates that a process before this one gave, perhaps to backups that are not listed, are not known.
        self._unknown_until = int(time.clock_gettime(_CLOCK_REALTIME_COARSE)) if os.path.isdir(directory) else 0
        self._open: set[str] = set()

    # --- for backups

    def open(self, butype: str, place: Place, env: Environment) -> BackupFiles:
        """The base of a backup and the file for its own table, as LEVEL, UPDATE and BASE_DATE have it.

        Raises:
            Refusal: a value that cannot be meant.
        """
        token = _base_date(env)
        level = env.check_level() if token is None else (token >> 32) + 1 if token else 0
        if level > LEVEL_MAX:
            text = (
                f"BASE_DATE {token} is of level {level - 1}: no incremental backup is based on that, levels end at 31"
            )
            raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, text)
        tree = Tree(butype, place.volume, place.path, env.subtree_backup)
        files = BackupFiles(self, tree, level, by_token=token is not None)
        with self.lock:
            records = self._listed(files)
            self._choose_base(files, records, token)
            if env.flag(b"UPDATE", default=True) or token is not None:
                self._open_new(files)
            self._note_use(files)
        files.date = self._new_date(files.tree, full=files.base is None)
        return files

    def _listed(self, files: BackupFiles) -> list[Record]:
        try:
            return self.records()
        except OSError as error:
            files.warnings.append(f"the dump dates cannot be read: {error.strerror}")
            return []

    def _choose_base(self, files: BackupFiles, records: Sequence[Record], token: int | None) -> None:
        if not files.level:
            return
        if token is not None:
            found = [each for each in records if each.by_token and each.tree == files.tree and each.dump_date == token]
            missing = f"no backup with the DUMP_DATE {token} is known"
        else:
            found = [
                each for each in records if not each.by_token and each.tree == files.tree and each.level < files.level
            ]
            missing = f"no backup of a level below {files.level} is known"
        if not found:
            files.warnings.append(f"{missing}: this is a full backup (level 0)")
            return
        base = found[-1]
        try:
            fd = os.open(os.path.join(self.directory, base.table), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            text = f"the inode table of the backup of level {base.level} at {base.date} is lost: {error.strerror}"
            files.warnings.append(f"{text}: this is a full backup (level 0)")
            return
        files.base = base
        files.descriptors.append(fd)

    def _open_new(self, files: BackupFiles) -> None:
        name = uuid.uuid4().hex + SUFFIX
        try:
            self.make_directory()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            files.descriptors.append(os.open(os.path.join(self.directory, name), flags, 0o600))
        except OSError as error:
            text = f"no backup can be based on this one, its inode table cannot be kept: {error.strerror}"
            files.warnings.append(text)
            return
        files.new = name
        self._open.add(name)

    def _note_use(self, files: BackupFiles) -> None:
        """Let the next process see that dates have been given, also where none is kept."""
        try:
            self.make_directory()
        except OSError as error:
            files.warnings.append(f"{self.directory}: {error.strerror}")

    def _new_date(self, tree: Tree, *, full: bool) -> int:
        """A date that no backup of the tree has had yet.

        A full backup takes an earlier second where this one is taken, from which on the next level then saves more; an
        incremental one must be later than its base, which may mean to wait for the next second.
        """
        while True:
            with self.lock:
                now = int(time.clock_gettime(_CLOCK_REALTIME_COARSE))
                oldest = max(now - _EARLIER_S, self._unknown_until + 1) if full else now
                given = {each for each in self._given.get(tree, ()) if each >= now - _EARLIER_S}
                taken = {each.date for each in self._records or () if each.tree == tree} | given
                for date in range(now, min(oldest, now) - 1, -1):
                    if date not in taken:
                        self._given = {
                            each: dates for each, dates in self._given.items() if max(dates) >= now - _EARLIER_S
                        }
                        self._given[tree] = given | {date}
                        return date
            time.sleep(_WAIT_S)

    def renew(self, files: BackupFiles) -> int:
        """A later date for a backup that has not looked at anything yet; the one it has is free again."""
        with self.lock:
            given = self._given.pop(files.tree, set()) - {files.date}
            if given:
                self._given[files.tree] = given
        return self._new_date(files.tree, full=files.base is None)

    def keep(self, files: BackupFiles, date: BackupDate) -> None:
        """A backup has ended well, its table is whole. Raises OSError."""
        with self.lock:
            if files.is_over() or files.new is None:
                return  # the backup was ended meanwhile
            fd = os.dup(files.descriptors[-1])
        try:
            os.fsync(fd)
            sync_directory(self.directory)
            level = date.level if files.by_token else files.level
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
        record = Record(files.tree, level, date.level, date.date, files.by_token, files.new, size)
        with self.lock:
            if files.is_over():
                return
            records = self.records()
            dropped = _outdated(records, record)
            self.replace([each for each in records if each not in dropped] + [record])
            files.kept = record, dropped

    def let_go(self, files: BackupFiles, *, orderly: bool) -> None:
        """A backup is over."""
        with self.lock:
            for fd in files.descriptors:
                os.close(fd)
            files.descriptors.clear()
            files.end()
            if files.new is not None:
                self._open.discard(files.new)
            try:
                if files.kept is not None and not orderly:
                    self._take_back(*files.kept)
            finally:
                self.remove_unlisted()

    def _take_back(self, record: Record, dropped: Sequence[Record]) -> None:
        """The backup was ended from outside while its date was being kept: the DMA does not have it."""
        there = [each for each in dropped if os.path.exists(os.path.join(self.directory, each.table))]
        self.replace(there + [each for each in self.records() if each != record])

    # --- the list

    def records(self) -> list[Record]:
        """All dates, the oldest first. Raises OSError."""
        with self.lock:
            if self._records is None:
                try:
                    self._records = read_index(self.directory)
                except IndexDamaged as error:
                    path = os.path.join(self.directory, INDEX)
                    log.error("dump dates are lost, the next backup of each tree is full", file=path, why=str(error))
                    os.rename(path, path + ".damaged")
                    self._records = []
                self.remove_unlisted()
            return list(self._records)

    def replace(self, records: Sequence[Record]) -> None:
        """A new list, on disk at return; tables that it does not name are removed later. Raises OSError."""
        with self.lock:
            records = list(records)[-RECORDS_MAX:]
            write_index(self.directory, records)
            self._records = records

    def delete(self, wanted: Callable[[Record], bool]) -> list[Record]:
        """Forget dates, and return them. Raises OSError."""
        with self.lock:
            records = self.records()
            gone = [each for each in records if wanted(each)]
            if gone:
                self.replace([each for each in records if each not in gone])
                self.remove_unlisted()
            return gone

    def make_directory(self) -> None:
        """Make the directory where it is missing. Raises OSError."""
        if not os.path.isdir(self.directory):
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            sync_directory(os.path.dirname(self.directory))

    def remove_unlisted(self) -> None:
        """Remove the tables of dates that are not kept any more, and what a crash has left."""
        if self._records is None:
            return
        listed = {each.table for each in self._records} | self._open
        with suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and entry.name not in listed:
                    os.unlink(entry.path)


def _base_date(env: Environment) -> int | None:
    """BASE_DATE: a token, 0 = a full backup that returns one; None = LEVEL counts. Raises Refusal."""
    text = env.get(b"BASE_DATE")
    if text is None or text == b"-1":
        return None
    if not text.isdigit() or len(text) > 20 or int(text) >= 1 << 64:
        shown = text.decode("utf-8", "backslashreplace")[:40]
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, f"BASE_DATE {shown}: expected -1, 0 or the DUMP_DATE of a backup")
    return int(text)


def _outdated(records: Sequence[Record], new: Record) -> list[Record]:
    """Those that go for a new one: no later backup can be based on them, or there are too many."""
    of_tree = [each for each in records if each.tree == new.tree and each.by_token == new.by_token]
    if new.by_token:
        same = [each for each in of_tree if each.dump_date == new.dump_date]
        others = [each for each in of_tree if each not in same]
        return same + others[: max(0, len(others) + 1 - TOKENS_MAX)]
    # Whatever could be based on an equal or higher level takes the new one, which is later.
    return [each for each in of_tree if each.level >= new.level]
