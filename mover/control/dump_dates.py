"""The dates of backups that others can be based on, each with its table of inodes: files in the state directory.

By LEVEL there is one date for each backup type, tree and level; by token (BASE_DATE) one for each DUMP_DATE. A backup
is based on the latest of a lower level, or on the token's. What a table holds is the data worker's business
(mover/data/inode_table.py): it gets the base's and an empty file as descriptors. The new one is listed, on disk and
provisional, when the backup has ended well and before the DMA hears of it. It counts, and what it outdates goes, when
the DMA has ended the operation by its STOP and the stream has gone the way of its mover; a DMA that goes away before
that does not have the backup. A date whose table is lost makes a full backup, never a gap.

Everything here blocks and is for threads; a lock keeps it apart. Source: backup-env.md 2.3, docs/architecture.md
section 5.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
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
from mover.workers.data_messages import BackupDate, DataFinished, Place, StartBackup

DIRECTORY: Final = "dumpdates"
TOKENS_MAX: Final = 16
"""Dates by token that are kept of one tree; the oldest goes first."""
RECORDS_MAX: Final = 1024
"""Dates that are kept of all trees; the oldest goes first."""
SUFFIX: Final = ".inodes"
_CLOCK_REALTIME_COARSE: Final = 5  # linux/time.h; the clock that times of change are taken from
_WAIT_S: Final = 0.02
_EARLIER_S: Final = 600  # how far back a full backup's date may lie
SETTLE_S: Final = 30.0
"""How long the next backup of a tree waits for the end of one that its DMA has ended."""
_BOOT: Final = "/proc/sys/kernel/random/boot_id"

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
        self.kept: Record | None = None
        """What was added to the list."""
        self.whole: bool | None = None
        """Whether the stream has gone the way of its mover; None = not known yet."""
        self.stopped: bool | None = None
        """Whether the DMA has ended the operation by its STOP; None = it may do so yet."""
        self.flushed = False
        """The cartridge has been flushed behind the backup."""
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

    def commit(self, finished: DataFinished, *, tape_here: bool = False) -> None:
        """The backup has ended well: its date is listed. Blocks. Raises OSError."""
        if finished.date is not None:
            self._dates.keep(self, finished.date, tape_here=tape_here)

    def conclude(self, *, stopped: bool) -> None:
        """The DMA has ended the operation by its STOP, or has gone without. Blocks. Raises OSError."""
        self._dates.conclude(self, stopped=stopped)

    def note_flush(self, *, whole: bool) -> None:
        """The cartridge that the backup went to is on disk, or never will be. Blocks. Raises OSError."""
        self._dates.note_flush(self, whole=whole)

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
        self._settled = threading.Condition(self.lock)
        self._unsettled: set[BackupFiles] = set()  # listed, and not over
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
            if not self.wait_for_ends(tree):
                text = "the backup before this one has not reached the tape yet, nothing can be based on it"
                files.warnings.append(text)
            records = self._listed(files)
            self._choose_base(files, records, token)
            if env.flag(b"UPDATE", default=True) or token is not None:
                self._open_new(files)
            self._note_use(files)
        files.date = self._new_date(files.tree, full=files.base is None)
        return files

    def _listed(self, files: BackupFiles) -> list[Record]:
        try:
            return [each for each in self.records() if not each.provisional]
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

    def wait_for_ends(self, tree: Tree | None = None) -> bool:
        """Wait until backups that their DMA has ended are settled; False = some are not for ``SETTLE_S``.

        Args:
            tree: only those of it.
        """

        def settled() -> bool:
            return not any(each.stopped and tree in {None, each.tree} for each in self._unsettled)

        with self._settled:
            return self._settled.wait_for(settled, SETTLE_S)

    def keep(self, files: BackupFiles, date: BackupDate, *, tape_here: bool) -> None:
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
        boot = _this_boot() if tape_here else ""
        record = Record(files.tree, level, date.level, date.date, files.by_token, files.new, size, True, boot)
        with self.lock:
            if files.is_over():
                return
            self.replace([*self.records(), record])
            files.kept = record
            self._unsettled.add(files)

    def conclude(self, files: BackupFiles, *, stopped: bool) -> None:
        """What the DMA has made of a backup; its first word counts. Raises OSError."""
        with self.lock:
            if files.stopped is None:
                files.stopped = stopped
                self._settle(files)
                self.remove_unlisted()

    def note_flush(self, files: BackupFiles, *, whole: bool) -> None:
        """The tape behind a backup was flushed, or could not be. Raises OSError."""
        with self.lock:
            if whole:
                files.flushed = True
            else:
                files.whole = False
            self._settle(files)
            self.remove_unlisted()

    def _settle(self, files: BackupFiles) -> None:
        """Count a backup's date, or forget it, as soon as it is known which. Raises OSError."""
        kept = files.kept
        records = self.records() if kept is not None else []
        if kept is None or kept not in records:
            return  # there was nothing to keep, or it was deleted meanwhile
        if files.whole is False or files.stopped is False:
            files.kept = None
            self.replace([each for each in records if each not in _with_dependents(records, [kept])])
        elif files.whole and files.stopped:
            counts = replace(kept, provisional=False, boot="" if files.flushed else kept.boot)
            if counts == kept:
                return
            others = [each for each in records if each != kept]
            dropped = _outdated([each for each in others if not each.provisional], counts) if kept.provisional else []
            at = records.index(kept) if not kept.provisional else len(others)
            self.replace([each for each in [*others[:at], counts, *others[at:]] if each not in dropped])
            files.kept = counts

    def let_go(self, files: BackupFiles, *, orderly: bool) -> None:
        """A backup is over."""
        with self.lock:
            for fd in files.descriptors:
                os.close(fd)
            files.descriptors.clear()
            files.end()
            if files.new is not None:
                self._open.discard(files.new)
            files.whole = orderly and files.whole is not False
            try:
                self._settle(files)
            finally:
                self._unsettled.discard(files)
                self._settled.notify_all()
                self.remove_unlisted()

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
                self._drop_lost()
                self.remove_unlisted()
            return list(self._records)

    def _drop_lost(self) -> None:
        """Of what the process before this one has left: backups that their DMA, or their tape, may not have."""
        assert self._records is not None
        lost = {
            each: "the server ended before the DMA had ended the backup" for each in self._records if each.provisional
        }
        for each in self._records:
            if each.boot and each.boot != _this_boot():
                lost[each] = "the host went down before the cartridge was flushed"
        gone = _with_dependents(self._records, lost)
        for each in gone:
            why = lost.get(each, "it is based on one that is forgotten")
            where = each.tree.filesystem.decode("utf-8", "backslashreplace")
            log.warning("dump date forgotten", filesystem=where, level=each.level, date=each.date, why=why)
        self._records = [each for each in self._records if each not in gone]
        if gone:
            try:
                write_index(self.directory, self._records)
            except OSError as error:  # the next start drops them again
                log.error("the list of dump dates cannot be written", why=error.strerror)

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


def _this_boot() -> str:
    """What names this run of the host; "" = it cannot be told."""
    try:
        with open(_BOOT, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _with_dependents(records: Sequence[Record], lost: Collection[Record]) -> list[Record]:
    """Those that are lost, and all that may be based on them."""

    def depends(record: Record, base: Record) -> bool:
        same = (record.tree, record.by_token) == (base.tree, base.by_token)
        return same and not base.provisional and record.level > base.level and record.date >= base.date

    return [each for each in records if each in lost or any(depends(each, base) for base in lost)]


def _outdated(records: Sequence[Record], new: Record) -> list[Record]:
    """Those that go for a new one: no later backup can be based on them, or there are too many."""
    of_tree = [each for each in records if each.tree == new.tree and each.by_token == new.by_token]
    if new.by_token:
        same = [each for each in of_tree if each.dump_date == new.dump_date]
        others = [each for each in of_tree if each not in same]
        return same + others[: max(0, len(others) + 1 - TOKENS_MAX)]
    # Whatever could be based on an equal or higher level takes the new one, which is later.
    return [each for each in of_tree if each.level >= new.level]
