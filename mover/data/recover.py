"""The recover of a data worker: checks the request, reads the stream from the ring, makes what the list names.

Door: :func:`start`, called by the worker's main loop with StartRecover or StartRecoverFilehist. The stream is read from
its beginning, once (:mod:`mover.data.recover_files`), or by direct access (:mod:`mover.data.recover_direct`).
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Final

from mover.data.backup_history import HistorySender
from mover.data.beneath import components
from mover.data.codes import BUTYPES, ILLEGAL_ARGS, TAR, HaltReason, LogType, RecoveryStatus
from mover.data.dump_format import Header
from mover.data.environment import BadVariable, stream_bytes
from mover.data.file_systems import FlushFailed
from mover.data.left_out import read_left_out
from mover.data.recover_catalogue import read_catalogue
from mover.data.recover_direct import DirectRecover
from mover.data.recover_dry import DryRecoverer, list_names
from mover.data.recover_files import FileRecoverer
from mover.data.recover_history import HistoryRecoverer
from mover.data.recover_levels import Levels, NotBegun
from mover.data.recover_options import RecoverOptions, recover_options
from mover.data.recover_plan import Plan, make_plan
from mover.data.recover_report import NOT_IN_BACKUP, RecoverReport, Request
from mover.data.recover_stream import ALL_ONES, RecordReader
from mover.data.report import counted, reason
from mover.data.stream_blocks import StreamBroken, StreamRefused
from mover.data.tally import STREAM
from mover.data.tar_recover_job import TarJob
from mover.data.tree_writer import DestinationLost, TreeWriter
from mover.ring import Consumer, DataGauge, DataPhase, Producer, RingClosed, RingFds
from mover.workers.channel import Channel, ChannelBroken
from mover.workers.data_messages import StartRecover, StartRecoverFilehist, WantData
from mover.workers.messages import Done, Refused

_VOLUME_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class _Wrong(Exception):  # noqa: N818 - becomes Refused
    """A request that cannot be begun; the text is one line."""


def start(channel: Channel, message: StartRecover | StartRecoverFilehist) -> None:
    """Check the request, answer it, do the work and report its end; returns when the data operation is over.

    Raises:
        ChannelBroken: control is gone.
    """
    with contextlib.ExitStack() as stack:
        consumer = stack.enter_context(Consumer(RingFds(*channel.take_descriptors(3))))
        history = None
        if isinstance(message, StartRecoverFilehist):
            history = stack.enter_context(Producer(RingFds(*channel.take_descriptors(3))))
        volumes: dict[bytes, int] = {}
        tables: list[int] = []
        try:
            if message.butype not in BUTYPES:
                raise _Wrong(f"backup type {message.butype!r} is not known here; use {' or '.join(BUTYPES)}")
            if isinstance(message, StartRecover):
                _check_names(message)
                stream_bytes(message.env)
                tables = [*map(_closed_by(stack), channel.take_descriptors(message.tables))]
                if recover_options(message.env).writes:
                    volumes = _open_volumes(message)
        except (_Wrong, BadVariable) as wrong:
            channel.send(Refused(ILLEGAL_ARGS, str(wrong)))
            return
        channel.send(Done())
        job = _Job(channel, consumer)
        if isinstance(message, StartRecover):
            job.recover(message, volumes, tables)
        else:
            assert history is not None
            job.filehist(message, history)


def _closed_by(stack: contextlib.ExitStack) -> Callable[[int], int]:
    """Has a descriptor closed with a stack."""

    def keep(fd: int) -> int:
        stack.callback(os.close, fd)
        return fd

    return keep


def _check_names(message: StartRecover) -> None:
    if not message.names:
        raise _Wrong("the recover list is empty")
    for name in message.names:
        for path in (name.original, name.target.path):
            try:
                components(path)
            except ValueError as error:
                raise _Wrong(f"recover list: {error}") from error


def _open_volumes(message: StartRecover) -> dict[bytes, int]:
    volumes: dict[bytes, int] = {}
    for path in {name.target.volume for name in message.names}:
        try:
            volumes[path] = os.open(path, _VOLUME_FLAGS)
        except OSError as error:
            for fd in volumes.values():
                os.close(fd)
            raise _Wrong(f"the destination volume {os.fsdecode(path)} cannot be opened: {reason(error)}") from error
    return volumes


class _Job:
    """One recover, from its first byte to DataFinished."""

    def __init__(self, channel: Channel, consumer: Consumer) -> None:
        self._channel = channel
        self._consumer = consumer
        self._report = RecoverReport(channel, consumer.gauges)
        self._report.enter(DataPhase.DIRECTORIES)
        self._reader = RecordReader(consumer, self._skipped, self._publish)
        self._direct: DirectRecover | None = None
        self._recoverer: FileRecoverer | DirectRecover | DryRecoverer | TarJob | None = None
        self._tar: TarJob | None = None
        self._levels: Levels | None = None
        self._table_kept = False

    def _skipped(self, records: int, first: int, why: str, zeros: bool) -> None:
        text = f"{records} records of the stream from offset {first} on were skipped: {why}"
        if zeros:
            self._report.log(LogType.WARNING, text.encode())
        else:
            self._report.damage(text)

    def _publish(self) -> None:
        self._report.publish()
        self._consumer.gauges[DataGauge.STREAM_BYTES] = self._stream_bytes()
        if self._recoverer is not None:
            self._consumer.note(self._recoverer.path_at_hand())

    def _stream_bytes(self) -> int:
        """Read so far."""
        if self._tar is not None:
            return self._tar.stream_bytes
        return self._reader.offset if self._direct is None else self._direct.received_bytes

    def recover(self, message: StartRecover, volumes: dict[bytes, int], tables: list[int]) -> None:
        """Recover what the list names.

        Args:
            tables: open files for the names of the destination: of the new table and of the old one.
        """
        requests = [Request(name) for name in message.names]
        options = recover_options(message.env)
        writer = TreeWriter(volumes, self._report, overwrites=options.overwrites)
        self._levels = Levels(tables, requests, writer, self._report)
        halt, text = HaltReason.INTERNAL_ERROR, ""
        try:
            if message.butype == TAR:
                halt, text = self._recover_tar(requests, writer, message)
            else:
                halt, text = self._recover_by_either_way(requests, writer, message)
        except ChannelBroken:
            raise
        except Exception as error:  # noqa: BLE001 - a worker must report its end, whatever it is
            text = self._unexpected(error)
            _fail_all(requests)
        finally:
            writer.close()
        self._end(requests, halt, text)

    def filehist(self, message: StartRecoverFilehist, history: Producer) -> None:
        """Send the history that a backup of this stream would have sent."""
        halt, text = HaltReason.INTERNAL_ERROR, ""
        sender = HistorySender(message.history, history, self._consumer.gauges)
        self._channel.send(WantData(0, ALL_ONES))
        try:
            if message.butype == TAR:
                self._tar = self._recoverer = TarJob(self._consumer, self._report, self._publish)
                self._tar.filehist(sender, message.env)
            else:
                HistoryRecoverer(self._reader, self._report, sender).run(message.env)
            halt, text = HaltReason.SUCCESSFUL, f"the history of the whole {message.butype} stream was sent"
            if sender.too_long:
                text = f"the history of the stream was sent but for {sender.too_long} objects, whose paths are too long"
        except StreamBroken as broken:
            halt, text = HaltReason.CONNECT_ERROR, str(broken)
        except StreamRefused as refused:
            text = str(refused)
        except RingClosed:
            text = "nobody takes the file history"
        except ChannelBroken:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            text = self._unexpected(error)
        self._end([], halt, text, history_entries=sender.entries)

    @staticmethod
    def _unexpected(error: Exception) -> str:
        traceback.print_exception(error, file=sys.stderr)
        return f"the recover ended by an error of its own: {type(error).__name__}: {error}"

    def _end(self, requests: list[Request], halt: HaltReason, text: str, *, history_entries: int = 0) -> None:
        reader, report = self._reader, self._report
        reader.close()
        if self._tar is not None:
            self._tar.reader.close()
        report.conclude(requests)
        if halt is HaltReason.SUCCESSFUL:  # else control tells the DMA why it is not, and the line comes once
            report.say(LogType.NORMAL, text)
        report.enter(DataPhase.FINISH)
        self._publish()
        # Control ends the ring: the data operation is to be HALTED before the mover hears that nothing more is wanted.
        report.finish(
            halt,
            text,
            stream_bytes=self._stream_bytes(),
            history_entries=history_entries,
            table_kept=self._table_kept,
        )

    def _want(self, offset: int, length: int) -> None:
        self._channel.send(WantData(offset, length))

    def _recover_tar(
        self, requests: list[Request], writer: TreeWriter, message: StartRecover
    ) -> tuple[HaltReason, str]:
        self._tar = self._recoverer = TarJob(self._consumer, self._report, self._publish)
        halt, text = self._tar.recover(
            requests,
            writer,
            message,
            options=recover_options(message.env),
            want=self._want,
            private_fd=self._channel.fileno(),
        )
        return halt, text or self._summary() + self._tar.summary

    def _recover_by_either_way(
        self, requests: list[Request], writer: TreeWriter, message: StartRecover
    ) -> tuple[HaltReason, str]:
        if not message.direct or message.tables or not recover_options(message.env).writes:
            return self._recover(requests, writer, message)
        direct = DirectRecover(self._channel, self._consumer, self._reader, self._report, message)
        left = requests
        if direct.suits():
            self._direct = self._recoverer = direct
            try:
                left = direct.run(requests, writer)
                if direct.missing is not None:
                    missing = direct.missing
                    self._note_missing(missing.entries, missing.plan, missing.end)
                writer.file_systems.flush()
            except StreamBroken as broken:
                return HaltReason.CONNECT_ERROR, str(broken)
            except StreamRefused as refused:
                _fail_all(requests)
                return HaltReason.INTERNAL_ERROR, str(refused)
            except (DestinationLost, FlushFailed) as failed:
                _fail_all(requests)
                return HaltReason.INTERNAL_ERROR, str(failed)
            if not left:
                return HaltReason.SUCCESSFUL, self._summary()
            self._direct = self._recoverer = None
            why = "of a stream of unknown length" if message.direct_directories else "and offset-map-enable is off"
            text = f"directories with all they hold, {why}: it is read from its beginning"
            self._report.say(LogType.NORMAL, text)
        direct.leave()
        return self._recover(left, writer, message)

    def _recover(self, requests: list[Request], writer: TreeWriter, message: StartRecover) -> tuple[HaltReason, str]:
        reader, report = self._reader, self._report
        self._channel.send(WantData(0, ALL_ONES))
        options, levels = recover_options(message.env), self._levels
        assert levels is not None
        try:
            catalogue = read_catalogue(reader, report, message.env)
            levels.decide(catalogue)
        except StreamBroken as broken:
            _fail_all(requests)
            return HaltReason.CONNECT_ERROR, str(broken)
        except StreamRefused as refused:
            _fail_all(requests)
            return HaltReason.INTERNAL_ERROR, str(refused)
        plan = make_plan(catalogue, requests, report, recursive=message.recursive, table=levels.beginning)
        if not options.writes:
            return self._recover_dry(plan, options)
        recoverer = FileRecoverer(reader, plan, writer, report, self._channel.fileno())
        try:
            levels.begin(catalogue)
            writer.make_directories(plan.targets)
            report.enter(DataPhase.FILES)
            halt, text = self._read_objects(recoverer, plan)
            report.enter(DataPhase.FINISH)
            self._publish()
            writer.finish_directories(plan.targets)
            if halt is HaltReason.SUCCESSFUL:
                writer.file_systems.flush()
                self._table_kept = levels.keep(catalogue)
        except DestinationLost as lost:
            _fail_all(requests)
            return HaltReason.INTERNAL_ERROR, str(lost)
        except NotBegun as not_begun:
            _fail_all(requests)
            return HaltReason.INTERNAL_ERROR, str(not_begun)
        except FlushFailed as error:
            _fail_all(requests)
            return HaltReason.INTERNAL_ERROR, str(error)
        return halt, self._summary() if halt is HaltReason.SUCCESSFUL else text

    def _read_objects(self, recoverer: FileRecoverer | DryRecoverer, plan: Plan) -> tuple[HaltReason, str]:
        """Everything behind the directories, and what of it was not there."""
        self._recoverer = recoverer
        halt, text = HaltReason.SUCCESSFUL, ""
        try:
            recoverer.run()
        except StreamBroken as broken:
            halt, text = HaltReason.CONNECT_ERROR, str(broken)
        except StreamRefused as refused:
            halt, text = HaltReason.INTERNAL_ERROR, str(refused)
        if halt is not HaltReason.SUCCESSFUL:
            recoverer.abandon()
        if missing := recoverer.missing():
            self._note_missing(missing, plan, recoverer.end)
        return halt, text

    def _recover_dry(self, plan: Plan, options: RecoverOptions) -> tuple[HaltReason, str]:
        """LIST and NOWRITE: the same stream and the same words, and nothing is made."""
        report = self._report
        if options.lists:
            list_names(plan, report)
            objects = counted(report.directories + report.files, "object", "objects")
            return HaltReason.SUCCESSFUL, f"{objects} listed, nothing was written (LIST)"
        report.directories = sum(target.record is not None for target in plan.targets)
        report.enter(DataPhase.FILES)
        halt, text = self._read_objects(DryRecoverer(self._reader, plan, report), plan)
        return halt, text or f"{self._summary()}: nothing was written (NOWRITE)"

    def _summary(self) -> str:
        """One line on a recover that went well."""
        report = self._report
        text = (
            f"{counted(report.directories, 'directory', 'directories')} and"
            f" {counted(report.files, 'file', 'files')} recovered, {counted(report.errors, 'error', 'errors')}"
        )
        if report.absent:
            text += f", {counted(report.absent, 'object', 'objects')} not in the backup"
        if report.kept:
            text += f", {report.kept} that existed kept"
        return text + (self._levels.summary if self._levels is not None else "")

    def _note_missing(self, entries: list[int], plan: Plan, end: Header | None) -> None:
        """What the directories name and the stream did not bring: one line each, or one for all of a broken stream.

        Args:
            end: the dump's END; None = the stream did not get there.
        """
        report = self._report
        if end is None:
            for entry in entries:
                report.count_error(STREAM)
                plan.targets[plan.places[entry]].request.fail(RecoveryStatus.IO_ERROR)
            report.log(LogType.ERROR, f"not reached: {counted(len(entries), 'entry', 'entries')}".encode())
            return
        explained = read_left_out(self._reader, end).explains({plan.inumbers[entry] for entry in entries})
        for entry in entries:
            target = plan.targets[plan.places[entry]]
            path = target.path(plan.names[entry])
            if plan.inumbers[entry] not in explained:
                report.error(path, "named in the dump but not in it", target.request)
            elif target.record is not None:  # one of many that were wanted
                report.not_in_backup(path)
            else:
                target.request.fail(RecoveryStatus.NOT_FOUND)
                report.error(path, NOT_IN_BACKUP, target.request)


def _fail_all(requests: list[Request]) -> None:
    for request in requests:
        request.fail(RecoveryStatus.IO_ERROR)
