"""A backup of one directory tree: what StartBackup does, whatever the format of the stream.

The tree is scanned as a whole first, because a dump begins with maps of all inodes and every directory, and because
hard links are found and the figures known before the first byte. Source: backup-env.md sections 2 and 6.
"""

import contextlib
import os
import sys
import time
import traceback
from typing import Final

from mover.data.backup_format import BackupWriter, Job
from mover.data.backup_history import HistorySender
from mover.data.backup_objects import AttributeReader
from mover.data.backup_report import BackupReport
from mover.data.beneath import components, open_beneath
from mover.data.changes import Since, changed_bytes
from mover.data.codes import ILLEGAL_ARGS, HaltReason, LogType
from mover.data.dump_backup import DumpBackup
from mover.data.dump_format import FIRST_INUMBER
from mover.data.environment import STREAM_BYTES, BackupOptions, BadVariable, backup_options
from mover.data.inode_table import InodeTable, Origin, TableError, tree_digest, write_table
from mover.data.mounts import NO_SUBVOLUME_INODE, Crossing
from mover.data.numbering import NUMBERS_HIGH, key_by_path, odd_rows, rows, select
from mover.data.plan import Plan
from mover.data.report import counted, reason
from mover.data.scan import Scanner
from mover.data.subtrees import check_subtrees
from mover.data.tally import EXCLUDED
from mover.data.tar_backup import TarBackup
from mover.ring import DataGauge, DataPhase, Kind, Producer, RingClosed, RingFds
from mover.workers.channel import Channel, ChannelBroken
from mover.workers.data_messages import BackupDate, CheckBackup, StartBackup
from mover.workers.messages import Done, Refused

_NOTE_S: Final = 1.0  # between two words of where the scan is

TYPES: Final[dict[str, type[BackupWriter]]] = {"dump": DumpBackup, "tar": TarBackup}
"""Backup type -> what writes its stream."""


def since_ns(base: BackupDate) -> int:
    """From when on a change is not in the base: its date has whole seconds, so some changes are taken twice."""
    return base.date * 1_000_000_000


def check(channel: Channel, message: CheckBackup) -> None:
    """Serve one CheckBackup: the reply that a StartBackup would have."""
    try:
        os.close(_open_root(message, _options(message)))
    except _RefusedError as refused:
        channel.send(Refused(ILLEGAL_ARGS, str(refused)))
    else:
        channel.send(Done())


def start(channel: Channel, message: StartBackup) -> None:
    """Serve one StartBackup: reply, do the backup, send DataFinished."""
    data = Producer(RingFds(*channel.take_descriptors(3)))
    with data, contextlib.ExitStack() as stack:
        history = Producer(RingFds(*channel.take_descriptors(3))) if message.history is not None else None
        base, table = (
            channel.take_descriptors(1)[0] if given else None for given in (message.base, message.keeps_table)
        )
        for fd in (base, table):
            if fd is not None:
                stack.callback(os.close, fd)
        try:
            try:
                options = _options(message)
                root = _open_root(message, options)
            except _RefusedError as refused:
                channel.send(Refused(ILLEGAL_ARGS, str(refused)))
                return
            channel.send(Done())
            try:
                _Backup(channel, message, options, root, data, history, base, table).run()
            finally:
                os.close(root)
        finally:
            if history is not None:
                history.close()


class _RefusedError(Exception):
    """The request cannot be done as it is; one line says why."""


def _options(message: StartBackup | CheckBackup) -> BackupOptions:
    if message.butype not in TYPES:
        raise _RefusedError(f"backup type {message.butype!r} is not known, {', '.join(map(repr, TYPES))} are")
    try:
        return backup_options(message.env, message.filesystem)
    except BadVariable as error:
        raise _RefusedError(str(error)) from error


def _open_root(message: StartBackup | CheckBackup, options: BackupOptions) -> int:
    """The directory to back up, found beneath its volume without a symbolic link on the way; its subtrees are there."""
    volume, path = message.root.volume, message.root.path
    shown = os.fsdecode(message.filesystem or os.path.join(volume, path))
    try:
        at = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            top = os.fstat(at)
            root = open_beneath(at, components(path))
        finally:
            os.close(at)
    except OSError as error:
        raise _RefusedError(f"{shown} cannot be backed up: {reason(error)}") from error
    except ValueError as error:
        raise _RefusedError(f"{shown} cannot be backed up: {error}") from error
    if isinstance(message, StartBackup) and (why := _not_in_snapshot(message, top, os.fstat(root))):
        os.close(root)
        raise _RefusedError(f"{shown} {why}")
    try:
        if options.ways:
            check_subtrees(options.ways, root, crosses=options.crossing is not Crossing.NONE)
    except BadVariable as error:
        os.close(root)
        raise _RefusedError(str(error)) from error
    return root


def _not_in_snapshot(message: StartBackup, top: os.stat_result, root: os.stat_result) -> str:
    """Why the root is not what it should be of the snapshot that is to be read; "" = it is, or there is none.

    Args: top: of the volume there, whose path whoever owns the live volume may have changed by now.
    """
    snapshot = message.snapshot
    if snapshot is None:
        return ""
    if snapshot.kind == "btrfs" and root.st_ino == NO_SUBVOLUME_INODE:
        return "is a subvolume, which a snapshot of what is above it does not have: it takes a volume of its own"
    if (top.st_dev, top.st_ino) != (snapshot.device, snapshot.inode) or root.st_dev != snapshot.device:
        return "is not in the snapshot that was made: something else is in its place"
    return ""


class _Backup:
    """The work of one backup after its reply."""

    def __init__(
        self,
        channel: Channel,
        message: StartBackup,
        options: BackupOptions,
        root: int,
        data: Producer,
        history: Producer | None,
        base: int | None,
        table: int | None,
    ) -> None:
        self._options = options
        self._root = root
        self._data = data
        self._private_fd = channel.fileno()
        self._table = table
        self._table_kept = False
        self._hidden = message.snapshot.hidden if message.snapshot is not None else b""
        place = message.snapshot.of if message.snapshot is not None else message.root
        self._tree = tree_digest(message.butype, place, options.name)
        self._report = report = BackupReport(channel, message.filesystem, data.gauges)
        self._attributes = AttributeReader(report, without_acls=options.without_acls)
        self._history: HistorySender | None = None
        if history is not None:
            assert message.history is not None
            self._history = HistorySender(message.history, history, data.gauges)
        self._scanner: Scanner | None = None
        self._note_at = 0.0
        for warning in message.warnings:
            report.say(LogType.WARNING, warning)
        self._base = self._open_base(base, message) if base is not None else None
        self._date = BackupDate(message.level if self._base is not None else 0, message.date)
        host = message.host.encode("utf-8", "surrogateescape")
        self._job = Job(
            root, message.filesystem, host, message.date, self._date.level,
            message.base if self._base is not None else None,
            options, data, self._history, report, self._attributes, self._private_fd,
        )  # fmt: skip
        self._writer = TYPES[message.butype](self._job)

    def _open_base(self, fd: int, message: StartBackup) -> InodeTable | None:
        """The table of the backup that this one is based on; None, and a line of the log, where it is none."""
        assert message.base is not None
        origin = self._origin(message.base)
        try:
            if message.date < message.base.date:
                raise TableError(f"it is of {message.base.date}, and the clock says {message.date}: it was set back")
            table = InodeTable(fd, origin)
            if table.next_number > NUMBERS_HIGH:
                raise TableError("most of the inode numbers that a dump can have are used up")
            return table
        except TableError as error:
            self._say_full(error)
            return None

    def _say_full(self, error: TableError) -> None:
        text = f"the inode table of the backup that this one should be based on is of no use: {error}"
        self._report.say(LogType.WARNING, f"{text}: this is a full backup (level 0)")

    def _origin(self, date: BackupDate) -> Origin:
        return Origin(self._tree, os.fstat(self._root).st_ino, date.date, date.level)

    def run(self) -> None:
        """The backup from scan to DataFinished, whatever happens.

        Raises:
            ChannelBroken: control is gone.
        """
        halt, text = HaltReason.SUCCESSFUL, ""
        try:
            self._run()
        except ChannelBroken:
            raise
        except RingClosed as closed:
            halt, text = HaltReason.CONNECT_ERROR, f"the backup ended early: {closed}"
        except Exception as error:  # noqa: BLE001 - the worker's last word on any failure is a message, not a traceback
            # The traceback goes to the server's log by standard error, the DMA gets one line.
            traceback.print_exc(file=sys.stderr)
            what = reason(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            halt, text = HaltReason.INTERNAL_ERROR, f"the backup failed: {what}"
            self._fail_in_band()
        report = self._report
        if halt is HaltReason.SUCCESSFUL and report.errors:
            text = f"{counted(report.errors, 'object', 'objects')} left out or not whole"
        report.say_what_was_not_logged()
        length = self._writer.stream.offset if self._writer.stream is not None else 0
        env = [(b"PATHNAME_SEPARATOR", b"/"), *self._writer.environment()]
        if self._date.level != self._options.level:
            env.append((b"LEVEL", b"%d" % self._date.level))
        if halt is HaltReason.SUCCESSFUL:
            env.append((STREAM_BYTES, b"%d" % length))
        report.finish(
            halt,
            text,
            stream_bytes=length,
            history_entries=self._history.entries if self._history is not None else 0,
            env=env,
            date=self._date if self._table_kept and halt is HaltReason.SUCCESSFUL else None,
        )

    def _fail_in_band(self) -> None:
        try:
            self._data.finish(Kind.FAILED)
        except RingClosed:
            return  # nobody reads any more, so nobody can take the stream for a whole one

    def _run(self) -> None:
        report, gauges, options = self._report, self._data.gauges, self._options
        report.enter(DataPhase.SCAN)
        started = time.monotonic_ns()
        gauges[DataGauge.TOTAL_BYTES] = self._bytes_in_use()
        scanner = self._scanner = Scanner(
            self._root,
            exclusion=options.exclusion.without(self._hidden) if self._hidden else options.exclusion,
            report=report,
            attributes=self._attributes.read,
            check=self._scanned,
            since=self._since(),
            private_fd=self._private_fd,
            tags=options.tags,
            ways=options.ways,
            crossing=options.crossing,
        )
        try:
            plan = scanner.run()
            if self._base is None and plan.next_inumber == FIRST_INUMBER and not (plan.excluded or plan.closed):
                report.warning(b"", "is empty: is its file system mounted?")
            if excluded := sum(map(len, plan.excluded.values())):
                report.tally.left_out[EXCLUDED] += excluded
            if self._writer.names_paths:
                key_by_path(plan)
            if plan.without_birth:
                text = counted(plan.without_birth, "object has", "objects have")
                report.say(LogType.WARNING, f"{text} no time of birth: taken, because their times of change are new")
            if self._base is not None:
                select(plan, self._base, moved=self._writer.names_paths)
            gauges[DataGauge.SCAN_NS] = time.monotonic_ns() - started
            gauges[DataGauge.TOTAL_ENTRIES] = plan.entries
            gauges[DataGauge.TOTAL_BYTES] = self._estimate(plan)
            self._writer.write(plan, scanner.open_directories)
        finally:
            scanner.open_directories.close()
        self._keep_table(plan)
        self._finish()

    def _since(self) -> Since | None:
        """Which changes count; None = it is a full backup."""
        if self._job.base is None:
            return None
        return Since(since_ns(self._job.base), self._options.ignores_ctime, by_name=self._writer.names_paths)

    def _keep_table(self, plan: Plan) -> None:
        """Write down what later backups are based on; without it this one is as good as ever."""
        if self._table is None:
            return
        try:
            write_table(self._table, self._origin(self._date), plan.next_inumber, rows(plan), odd_rows(plan))
        except OSError as error:
            text = f"no backup can be based on this one, its inode table is not kept: {reason(error)}"
            self._report.say(LogType.WARNING, text)
        else:
            self._table_kept = True

    def _scanned(self, entries: int) -> None:
        """Between two directories of the scan: has the ring ended, how far are we."""
        self._data.check()
        self._data.gauges[DataGauge.TOTAL_ENTRIES] = entries
        now = time.monotonic()
        if self._scanner is not None and now >= self._note_at:
            self._note_at = now + _NOTE_S
            plan = self._scanner.plan
            self._data.note(plan.path(len(plan) - 1) if len(plan) else b"")

    def _estimate(self, plan: Plan) -> int:
        """Bytes of the stream, 0 = not known: of a whole file system what is in use, of an increment what has changed.

        What else there is to know takes a stat of each file, which the scan of a full backup spares.
        """
        content = self._bytes_in_use() if self._base is None else changed_bytes(plan)
        return content + plan.entries * self._writer.object_bytes if content else 0

    def _bytes_in_use(self) -> int:
        """What is in use of the file system whose root is backed up, with all that is in it; else 0."""
        if self._base is not None or not self._options.takes_all:
            return 0
        try:
            above = os.stat("..", dir_fd=self._root)
            usage = os.statvfs(self._root)
        except OSError:
            return 0  # an estimate is not worth a failure
        if above.st_dev == os.fstat(self._root).st_dev:
            return 0
        return (usage.f_blocks - usage.f_bfree) * usage.f_frsize

    def _finish(self) -> None:
        """The end of a stream that is whole, and what is said of it."""
        report, history, stream = self._report, self._history, self._writer.stream
        assert stream is not None
        if history is not None:
            history.flush()
            if history.too_long:
                left = counted(history.too_long, "object", "objects")
                text = f"{left} with paths too long for file history: in the backup all the same"
                report.say(LogType.WARNING, text)
        stream.finish()
        report.publish()
        left_out = (
            f", {counted(report.not_held, 'object', 'objects')} left out by their kind" if report.not_held else ""
        )
        report.say(
            LogType.NORMAL,
            f"{counted(report.directories, 'directory', 'directories')} and {counted(report.files, 'file', 'files')},"
            f" {report.file_bytes} bytes of content in {stream.offset} bytes,"
            f" {counted(report.errors, 'error', 'errors')}{left_out}",
        )
