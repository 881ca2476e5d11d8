"""A level 0 backup of one directory tree as a dump stream: what StartBackup does.

The tree is scanned as a whole first, because the stream begins with maps of all inodes and every directory; then come
the directories, then everything else. Source: dump.md section 4, backup-env.md sections 2 and 6.
"""

import os
import sys
import time
import traceback
from typing import Final

from mover.data.backup_files import FilePhase
from mover.data.backup_history import HistorySender
from mover.data.backup_objects import AttributeReader, ObjectWriter
from mover.data.backup_report import BackupReport
from mover.data.backup_stream import DumpStream
from mover.data.beneath import components, open_beneath
from mover.data.codes import BUTYPE, ILLEGAL_ARGS, HaltReason, LogType
from mover.data.dump_format import (
    DT_DIRECTORY,
    NO_INODE,
    RECORD_BYTES,
    TAPE_BLOCK_RECORDS,
    DumpLabel,
    RecordType,
    full_bitmap,
    pack_directory,
)
from mover.data.dump_identity import DUMP_ID, new_dump_id
from mover.data.environment import BackupOptions, BadVariable, backup_options, dump_date
from mover.data.report import counted, reason
from mover.data.scan import Plan, Scanner
from mover.ring import DataGauge, DataPhase, Kind, Producer, RingClosed, RingFds
from mover.workers.channel import Channel, ChannelBroken
from mover.workers.messages import Done, Pairs, Refused, StartBackup

_DIRS_A_POST: Final = 512  # names added at once: what is gathered of a large directory stays small


def start(channel: Channel, message: StartBackup) -> None:
    """Serve one StartBackup: reply, do the backup, send DataFinished."""
    data = Producer(RingFds(*channel.take_descriptors(3)))
    with data:
        history = Producer(RingFds(*channel.take_descriptors(3))) if message.history is not None else None
        try:
            try:
                options = _options(message)
                root = _open_root(message)
            except _RefusedError as refused:
                channel.send(Refused(ILLEGAL_ARGS, str(refused)))
                return
            channel.send(Done())
            try:
                _Backup(channel, message, options, root, data, history).run()
            finally:
                os.close(root)
        finally:
            if history is not None:
                history.close()


class _RefusedError(Exception):
    """The request cannot be done as it is; one line says why."""


def _options(message: StartBackup) -> BackupOptions:
    if message.butype != BUTYPE:
        raise _RefusedError(f"backup type {message.butype!r} is not known, {BUTYPE!r} is")
    try:
        return backup_options(message.env)
    except BadVariable as error:
        raise _RefusedError(str(error)) from error


def _open_root(message: StartBackup) -> int:
    """The directory to back up, found beneath its volume without a symbolic link on the way."""
    volume, path = message.root.volume, message.root.path
    shown = os.fsdecode(message.filesystem or os.path.join(volume, path))
    try:
        at = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return open_beneath(at, components(path))
        finally:
            os.close(at)
    except OSError as error:
        raise _RefusedError(f"{shown} cannot be backed up: {reason(error)}") from error
    except ValueError as error:
        raise _RefusedError(f"{shown} cannot be backed up: {error}") from error


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
    ) -> None:
        self._options = options
        self._root = root
        self._data = data
        self._report = BackupReport(channel, message.filesystem, data.gauges)
        self._attributes = AttributeReader(self._report)
        self._history: HistorySender | None = None
        if history is not None:
            assert message.history is not None
            self._history = HistorySender(message.history, history, data.gauges)
        self._label = DumpLabel(
            int(time.time()),
            label=new_dump_id(),
            filesystem=message.filesystem,
            host=message.host.encode("utf-8", "surrogateescape"),
        )
        self._stream: DumpStream | None = None

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
        report.finish(
            halt,
            text,
            stream_bytes=self._stream.offset if self._stream is not None else 0,
            history_entries=self._history.entries if self._history is not None else 0,
            env=self._result_env(),
        )

    def _fail_in_band(self) -> None:
        try:
            self._data.finish(Kind.FAILED)
        except RingClosed:
            return  # nobody reads any more, so nobody can take the stream for a whole one

    def _result_env(self) -> Pairs:
        env = [(b"PATHNAME_SEPARATOR", b"/"), (DUMP_ID, self._label.label)]
        if self._options.base_date is not None:
            env.append((b"DUMP_DATE", dump_date(self._label.level, self._label.date)))
        return env

    def _run(self) -> None:
        report, gauges = self._report, self._data.gauges
        if self._options.level or self._options.base_date:
            report.say(LogType.WARNING, "no earlier backup is known as a base: this is a full backup (level 0)")
        report.enter(DataPhase.SCAN)
        started = time.monotonic_ns()
        scanner = Scanner(
            self._root,
            exclusion=self._options.exclusion,
            report=report,
            attributes=self._attributes.read,
            check=self._scanned,
        )
        try:
            plan = scanner.run()
            gauges[DataGauge.SCAN_NS] = time.monotonic_ns() - started
            gauges[DataGauge.TOTAL_ENTRIES] = plan.entries
            gauges[DataGauge.TOTAL_BYTES] = self._estimate(plan)
            self._write(plan, scanner)
        finally:
            scanner.open_directories.close()

    def _scanned(self, entries: int) -> None:
        """Between two directories of the scan: has the ring ended, how far are we."""
        self._data.check()
        self._data.gauges[DataGauge.TOTAL_ENTRIES] = entries

    def _estimate(self, plan: Plan) -> int:
        """Bytes of the stream, known only where the root is the root of its file system; else 0.

        Sizes of the files would need a stat of each, which the scan spares.
        """
        try:
            above = os.stat("..", dir_fd=self._root)
            usage = os.statvfs(self._root)
        except OSError:
            return 0  # an estimate is not worth a failure
        if above.st_dev == os.fstat(self._root).st_dev or self._options.exclusion:
            return 0
        return (usage.f_blocks - usage.f_bfree) * usage.f_frsize + plan.entries * RECORD_BYTES

    def _write(self, plan: Plan, scanner: Scanner) -> None:
        report = self._report
        stream = self._stream = DumpStream(self._data)
        objects = ObjectWriter(stream, self._label)
        report.enter(DataPhase.DIRECTORIES)
        objects.header(RecordType.TAPE, 0, NO_INODE, 0)
        # No base exists, so what is in use is what is dumped: both maps are the same.
        bitmap = full_bitmap(plan.next_inumber - 1, [1, *plan.links, *plan.absent])
        for record_type in (RecordType.CLRI, RecordType.BITS):
            objects.header(record_type, 0, NO_INODE, len(bitmap) // RECORD_BYTES)
            stream.write(bitmap)
        del bitmap
        for ordinal in range(len(plan)):
            self._directory(plan, ordinal, objects)
        report.enter(DataPhase.FILES)
        files = FilePhase(
            plan=plan,
            directories=scanner.open_directories,
            root=self._root,
            stream=stream,
            objects=objects,
            attributes=self._attributes,
            history=self._history,
            report=report,
            producer=self._data,
        )
        files.run()
        report.enter(DataPhase.FINISH)
        for note in files.left_out.notes():
            objects.header(RecordType.END, 0, NO_INODE, 0, addr=note)
        while stream.tapea % TAPE_BLOCK_RECORDS:
            objects.header(RecordType.END, 0, NO_INODE, 0)
        if self._history is not None:
            self._history.flush()
            if self._history.too_long:
                left = counted(self._history.too_long, "object", "objects")
                text = f"{left} with paths too long for file history: in the backup all the same"
                report.say(LogType.WARNING, text)
        stream.finish()
        report.publish()
        report.say(
            LogType.NORMAL,
            f"{counted(report.directories, 'directory', 'directories')} and {counted(report.files, 'file', 'files')},"
            f" {report.file_bytes} bytes of content in {stream.offset} bytes,"
            f" {counted(report.errors, 'error', 'errors')}",
        )

    def _directory(self, plan: Plan, ordinal: int, objects: ObjectWriter) -> None:
        """Phase III for one directory: its data, attributes and history."""
        inumber = plan.inumbers[ordinal]
        parent = plan.inumbers[plan.parents[ordinal]]
        first = plan.firsts[ordinal]
        names, types = plan.entry_names(ordinal), plan.types[ordinal]
        entries = list(zip(range(first, first + len(names)), types, names, strict=True))
        if plan.links or plan.absent:
            links, absent = plan.links, plan.absent
            entries = [
                (links.get(number, number), kind, name) for number, kind, name in entries if number not in absent
            ]
        offset = objects.offset
        data = pack_directory([(inumber, DT_DIRECTORY, b"."), (parent, DT_DIRECTORY, b".."), *entries])
        inode = plan.inode(ordinal, len(data))
        objects.held(inumber, inode, data)
        objects.attributes(inumber, inode, plan.attributes.get(ordinal, []))
        report = self._report
        report.directories += 1
        if not ordinal % 64:
            report.publish()
        history = self._history
        if history is None:
            return
        path = b""
        if history.by_path:
            path = b"/" + plan.path(ordinal)
        else:
            dir_entry = history.encoder.dir_entry
            elements = [dir_entry(b".", inumber, inumber), dir_entry(b"..", parent, inumber)]
            elements += [dir_entry(name, number, inumber) for number, _, name in entries]
            for start in range(0, len(elements), _DIRS_A_POST):
                history.add_dirs(elements[start : start + _DIRS_A_POST])
        history.add_objects([history.object_entry(path, inumber, inode, offset)])
