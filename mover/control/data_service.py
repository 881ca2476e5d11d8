"""The DATA service of a connection: one backup or recover at a time, done by a data worker.

Theory of operation. The worker is told the place, the environment and its rings, and answers Done before it works.
Its words come in order (log lines, recovered names, wanted pieces of the stream, the end), and each is passed on in
that order. The operation has ended well only when the worker says so, file history is drained to the DMA, and in a
backup a TCP data connection has carried the stream's end; then, and once, NOTIFY_DATA_HALTED is posted. Whatever
ends it earlier moves the machine first and clears up afterwards, so that late words find HALTED and change nothing.
"""

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import trio

from mover.admin.jobs import JobStatus
from mover.control.data_addresses import DataAddress
from mover.control.data_connection import DataConnection, Delivery, PeerEnd, RelayFailed
from mover.control.data_run import DataRun, Keep, Start, begin_run
from mover.control.environment import merge
from mover.control.estimate import Figures, Rate, backup_bytes_remain, recover_bytes_remain, stream_length
from mover.control.job_summary import RunningJob, begin_job, summary_lines
from mover.control.job_watch import JobWatch, Look
from mover.control.local import tell_other_end
from mover.control.outbox import log_post
from mover.control.refusal import Refusal
from mover.control.snapshot_run import begin_snapshot_run, snapshot_plan
from mover.control.statistics_ledger import entries_of
from mover.control.workers import Worker, describe_exit
from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    DataOperation,
    DataState,
    DataUnsupported,
    ErrorCode,
    LogType,
)
from mover.ndmp.messages import (
    LOCAL,
    DataGetStateReply,
    LogFilePost,
    LogMessagePost,
    NotifyDataHaltedPost,
    NotifyDataReadPost,
)
from mover.ndmp.states import DataInput
from mover.ring import DataGauge, DataPhase, RingControl, RingStatistics, Verdict
from mover.workers.messages import (
    DataFinished,
    FileRecovered,
    LogLine,
    Pairs,
    PhaseEntered,
    WantData,
)

if TYPE_CHECKING:
    from mover.control.connection import Connection

RUNNING: Final = (DataState.ACTIVE, DataState.PAUSED)
DISMISS_S: Final = 0.1
UNFLUSHED_MAX: Final = 100  # a DMA that makes more backups without a filemark finds the first ones unflushed
DISK_ERRORS: Final = frozenset({"EIO", "EUCLEAN", "EBADMSG"})
"""Causes of errors that abort-on-disk-error ends a job for: the device, or what a file system finds damaged."""
_IN_ORDER: Final = frozenset({DataHaltReason.SUCCESSFUL, DataHaltReason.ABORTED})
TELL_S: Final = 0.7  # how long a halt waits for the worker's own word before it is told without it

_ENDS: Final[dict[int, DataInput]] = {
    DataHaltReason.SUCCESSFUL: DataInput.COMPLETE,
    DataHaltReason.CONNECT_ERROR: DataInput.CONNECTION_LOST,
}


class DataService:
    """The data operation's variables and what it holds.

    Attributes:
        butype: backup type of the operation, for status.
        env: of the operation, as GET_ENV tells it.
        path: what is backed up or recovered, for status.
        result: the worker's last word; None before.
        job: the operation as operators know it, while it runs.
        ended: how it ended, until the DMA has stopped it.
        prepared: the type of data connection that CAB_DATA_CONN_PREPARE has announced for the next operation.
        report_names: LOG_FILE is sent; not where the recover list was empty, since each entry gets one post.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.machine = connection.machines.data
        self.connection_end: DataConnection | None = None
        self.address: DataAddress = LOCAL
        self.butype = ""
        self.env: Pairs = []
        self.path = b""
        self.read_offset = 0
        self.read_length = 0
        self.result: DataFinished | None = None
        self.job: RunningJob | None = None
        self.ended: JobStatus | None = None
        self.report_names = True
        self.prepared: AddressType | None = None
        self.started = 0.0
        self.ended_after_s: float | None = None
        self._finished = trio.Event()
        self._run: DataRun | None = None
        self._halted: DataRun | None = None  # the last one, until the DMA has ended it
        self._unflushed: list[tuple[DataRun, Delivery | None]] = []  # backups behind which the tape was not flushed
        self._delivery: Delivery | None = None  # of the operation that began last
        self._processed = 0
        self._rate = Rate(0.0)
        self._stream_bytes = 0  # of the stream that a recover reads from its beginning; 0 = not known
        self._accepted: tuple[Start, RingControl] | None = None  # by the worker, of the operation that began last

    @property
    def worker(self) -> Worker | None:
        """The data worker at work."""
        return self._run.worker if self._run is not None else None

    @property
    def snapshot(self) -> str:
        """The name of the snapshot that is made or read; "" = none."""
        return self._run.snapshot if self._run is not None else ""

    # --- what GET_STATE and status show

    def gauge(self, gauge: DataGauge) -> int:
        """A gauge of the running worker; 0 when there is none."""
        end = self.connection_end
        if end is None or end.ring is None or self.worker is None:
            return 0
        side = "producer" if self.machine.operation is DataOperation.BACKUP else "consumer"
        return end.ring.control.gauge(side, gauge)

    def ring_statistics(self) -> RingStatistics | None:
        """The data ring's counters while a job runs."""
        end = self.connection_end
        return end.ring.control.statistics() if end is not None and end.ring is not None else None

    def history_statistics(self) -> RingStatistics | None:
        """The history ring's counters while a job runs."""
        return self._run.history_statistics() if self._run is not None else None

    def bytes_processed(self) -> int:
        """Stream bytes so far."""
        if self.result is not None:
            return self.result.stream_bytes
        self._processed = max(self._processed, self.gauge(DataGauge.STREAM_BYTES))
        return self._processed

    def entries(self) -> int:
        """Those that the scan of a backup has found; of an operation that has halted those it has dealt with."""
        return entries_of(self.ended) if self.ended is not None else self.gauge(DataGauge.TOTAL_ENTRIES)

    def elapsed_s(self) -> float:
        """Seconds since the operation began, or that it took."""
        if self.started == 0.0:
            return 0.0
        return self.ended_after_s if self.ended_after_s is not None else time.monotonic() - self.started

    def figures(self) -> Figures:
        """How far the running worker is."""
        gauge = self.gauge
        return Figures(
            phase=self.phase(),
            processed=self.bytes_processed(),
            total_bytes=gauge(DataGauge.TOTAL_BYTES),
            total_entries=gauge(DataGauge.TOTAL_ENTRIES),
            directories=gauge(DataGauge.DIRECTORIES),
            files=gauge(DataGauge.FILES),
            errors=gauge(DataGauge.ERRORS),
            file_bytes=gauge(DataGauge.FILE_BYTES),
        )

    def _sample(self) -> None:
        self._rate.sample(time.monotonic(), self.bytes_processed())

    def _remain(self) -> tuple[int | None, int | None]:
        """Bytes and seconds that are left of the running operation; None = nobody knows."""
        figures = self.figures()
        if self.machine.operation is DataOperation.BACKUP:
            remain = backup_bytes_remain(self.butype, figures)
        else:
            remain = recover_bytes_remain(self._stream_bytes, figures)
        self._sample()
        seconds = self._rate.seconds_for(remain, time.monotonic(), figures.processed) if remain is not None else None
        return remain, seconds

    def get_state(self) -> DataGetStateReply:
        """All variables, as DATA_GET_STATE tells them."""
        machine = self.machine
        processed = self.bytes_processed()
        remain, est_time = self._remain() if machine.state in RUNNING else (0, 0)
        unsupported = 0
        if remain is None:
            unsupported |= DataUnsupported.EST_BYTES_REMAIN
        if est_time is None:
            unsupported |= DataUnsupported.EST_TIME_REMAIN
        return DataGetStateReply(
            unsupported=unsupported,
            operation=machine.operation,
            state=machine.state,
            halt_reason=machine.halt_reason,
            pause_reason=machine.pause_reason,
            bytes_processed=processed,
            est_bytes_remain=remain or 0,
            est_time_remain=est_time or 0,
            data_connection_addr=self.address,
            read_offset=self.read_offset,
            read_length=self.read_length,
        )

    # --- the data connection

    def hold(self, connection_end: DataConnection) -> None:
        """The data connection stands."""
        self.connection_end = connection_end
        self.address = connection_end.address

    # --- an operation

    async def begin(
        self, message: Start, operation: DataOperation, env: Pairs, path: bytes, keep: Keep | None = None
    ) -> None:
        """Take a data worker and have it accept the operation; the caller moves the machine, then calls ``work``.

        Args:
            keep: opens the files of what the operation leaves for later ones.

        Raises:
            Refusal: it would not, and nothing has changed.
        """
        end = self.connection_end
        assert end is not None
        assert end.ring is not None
        last, self._delivery = self._delivery, end.delivery
        if last is not None and last is not end.delivery and last.told.is_set():
            await last.settled.wait()  # a backup that was taken back is no base of this one
        try:
            plan = snapshot_plan(self._connection, message)
            if plan is None:
                run = await begin_run(self._connection, message, end.ring, keep)
            else:
                run = await begin_snapshot_run(self._connection, message, end.ring, keep, plan)
        except Refusal:
            if self.connection_end is not end:
                raise Refusal(ErrorCode.ILLEGAL_STATE_ERR) from None
            raise
        if self.connection_end is not end:  # lost meanwhile; DATA_HALTED is on its way
            run.drop_history()
            await run.give_back(orderly=False)
            raise Refusal(ErrorCode.ILLEGAL_STATE_ERR)
        self._run, self._accepted = run, (run.message, end.ring.control)
        self.machine.operation = operation
        self.butype, self.env, self.path = message.butype, env, path
        self.result, self.ended, self._processed = None, None, 0
        self.started, self.ended_after_s = time.monotonic(), None
        self._rate = Rate(self.started)
        self._stream_bytes = stream_length(env)
        self._finished = trio.Event()

    def work(self) -> None:
        """The machine is ACTIVE: listen to the worker and pass its history on."""
        assert self._run is not None
        assert self._accepted is not None
        nursery = self._connection.nursery
        if self.job is None:
            self.job = begin_job(self._connection, *self._accepted)
        if self._run.worker is None:
            nursery.start_soon(self._work_when_ready, self._run)
            return
        self._run.pass_history_on(nursery)
        period_s = self._connection.config.limits.heartbeat_s
        watch = JobWatch(self._connection.outbox, period_s, partial(self._look, self._run), self._sample)
        self._run.watch(nursery, watch.run)
        nursery.start_soon(self._listen, self._run.worker)

    async def _work_when_ready(self, run: DataRun) -> None:
        """Wait for the snapshot that the operation reads."""
        if self.job is not None:
            self.job.announce()
        try:
            await run.make_ready(self._say)
        except Refusal as refusal:
            if run is self._run:
                await self._break(DataInput.FAILED, str(refusal))
            return
        if run is self._run and run.worker is not None:  # else it was ended meanwhile
            if self.job is not None and run.snapshot:
                self.job.snapshot(run.snapshot, run.taken)
            DataService.work(self)

    async def _say(self, line: LogLine) -> None:
        if self.job is not None:
            self.job.line(line)
        await self._connection.outbox.log_line(line)

    def _look(self, run: DataRun) -> Look | None:
        """What a watcher sees of an operation; None = it has said its last word."""
        end = self.connection_end
        if self._run is not run or self.result is not None or end is None or end.ring is None:
            return None
        operation, figures = self.machine.operation, self.figures()
        is_backup = operation is DataOperation.BACKUP
        ring, history = end.ring.control, run.history_statistics()
        waits = ring.statistics().waiting == ("full" if is_backup else "empty")
        waits = waits or (history is not None and history.waiting == "full")
        return Look(operation, figures, self.gauge(DataGauge.LOOKED_AT), waits, self.at())

    def at(self) -> bytes:
        """The path at hand; b"" = none."""
        end = self.connection_end
        if end is None or end.ring is None or self.phase() not in {DataPhase.SCAN, DataPhase.FILES}:
            return b""
        is_backup = self.machine.operation is DataOperation.BACKUP
        note = end.ring.control.note("producer" if is_backup else "consumer")
        return b"/".join(part for part in (self.path.rstrip(b"/"), note) if part) if is_backup else note

    async def join_relay(self, direction: Literal["send", "receive"]) -> None:
        """Let the relay carry; one that cannot is a lost connection."""
        end = self.connection_end
        if end is None:
            return  # halted already
        try:
            await end.start(direction)
        except RelayFailed as error:
            failure = PeerEnd(orderly=False, closed=False, text=str(error))
            # An end that came before START, in version 2 in state IDLE, was nobody's then.
            tell = end.conclude_end if end.end is None else self.on_peer_end
            self._connection.nursery.start_soon(tell, failure)

    async def _listen(self, worker: Worker) -> None:
        """What the data worker says by itself, until it is gone."""
        if self.job is not None:
            self.job.announce()
        try:
            async for event in worker.events:
                await self._connection.outbox.room()
                if worker is not self.worker:
                    return  # ended meanwhile: nothing of it may follow DATA_HALTED
                match event:
                    case LogLine():
                        await self._say(event)
                        if event.cause in DISK_ERRORS and self._aborts_on_disk_errors:
                            await self._break(DataInput.FAILED, _aborted(event.cause))
                    case PhaseEntered():
                        if self.job is not None:
                            self.job.enter(event.phase)
                    case FileRecovered():
                        await self._report(event)
                    case WantData():
                        await self._want(event)
                    case DataFinished():
                        await self._complete(event)
                    case _:
                        self._connection.log.error("unexpected event of a data worker", message=type(event).__name__)
        except trio.ClosedResourceError:
            return  # stopped by us
        if self.result is None and worker is self.worker:
            text = f"the data worker died: {describe_exit(worker.exit_status)}"
            await self._break(DataInput.FAILED, text)

    async def _report(self, event: FileRecovered) -> None:
        """One entry of the recover list is finished."""
        if self.report_names:
            await self._connection.outbox.post(LogFilePost(event.name, event.status))

    async def _want(self, event: WantData) -> None:
        """A recover wants this piece of the stream next: the local mover is asked, a remote one through the DMA."""
        self.read_offset, self.read_length = event.offset, event.length
        end = self.connection_end
        if end is None:
            return  # ended meanwhile
        if not end.local:
            await self._connection.outbox.post(NotifyDataReadPost(event.offset, event.length))
            return
        try:
            await self._connection.mover.read_when_active(event.offset, event.length)
        except Refusal as refusal:
            if self.machine.state is DataState.ACTIVE:
                await self._break(DataInput.CONNECTION_LOST, f"the mover does not deliver the stream: {refusal}")

    async def _complete(self, event: DataFinished) -> None:
        """The worker's last word; the operation ends when all that belongs to it has gone out."""
        run = self._run
        self.result = event
        self._finished.set()
        self.env = merge(self.env, event.env)
        end = self.connection_end
        successful = event.reason == DataHaltReason.SUCCESSFUL
        signal = _ENDS.get(event.reason, DataInput.FAILED)
        text = event.text
        disk = next((each.name for each in event.causes if each.name in DISK_ERRORS), "")
        if successful and disk and self._aborts_on_disk_errors:  # there were too many lines for one about it
            successful, signal, text = False, DataInput.FAILED, _aborted(disk)
        if end is not None and not successful:
            end.break_off(Verdict.BROKEN)
        if run is not None:
            began = time.monotonic_ns()
            await run.history_sent()
            if self._run is run and self.job is not None:
                self.job.meter.history_tail_ns += time.monotonic_ns() - began
        if end is not None and self._ends_with(end) and successful and self.machine.operation is DataOperation.BACKUP:
            await end.ended.wait()  # ABORT is the way out for a DMA that gives up
            if end.end is not None and not end.end.orderly:
                signal, text = DataInput.CONNECTION_LOST, end.end.text
        if self._run is not run:
            return  # ended meanwhile, and what runs now may be the next operation
        signal = self._cause(signal)
        if run is not None and signal is DataInput.COMPLETE:
            await self._keep(run, event)
        if self._run is run and self.machine.can(signal) and self.machine.state in RUNNING:
            await self._halt(signal, text)

    @property
    def _aborts_on_disk_errors(self) -> bool:
        return self._connection.config.node.abort_on_disk_error

    async def _keep(self, run: DataRun, event: DataFinished) -> None:
        """What the operation leaves for later ones lasts; that it does not is no failure of this one."""
        end = self.connection_end
        try:
            await run.keep(event, tape_here=end is not None and end.local)
        except OSError as error:
            await self._not_kept(error)

    async def _not_kept(self, error: OSError) -> None:
        text = f"what this operation leaves for later ones could not be kept: {error.strerror}"
        self._connection.log.error("not kept", error=error.strerror)
        await self._connection.outbox.post(log_post(LogType.WARNING, text))

    def _ends_with(self, end: DataConnection) -> bool:
        """Whether a backup is over only when the other side has the whole stream: it is of the operation's own."""
        return not end.local

    def _cause(self, signal: DataInput) -> DataInput:
        """Why the operation really ends, where another machine knows that better."""
        return signal

    async def on_peer_end(self, end: PeerEnd) -> None:
        """The other side of the ring ended: relay or local mover."""
        state = self.machine.state
        if state is DataState.CONNECTED:
            await self._break(DataInput.CONNECTION_LOST, end.text)
        elif end.in_band:
            return  # the worker takes what came before, finds the end behind it, and has the last word
        elif state in RUNNING and not end.orderly and self.result is None:
            if self.connection_end is not None:
                self.connection_end.break_off(Verdict.BROKEN)
            run = self._run
            with trio.move_on_after(TELL_S):
                await self._finished.wait()
            if self._run is run and self.result is None:
                await self._break(DataInput.CONNECTION_LOST, end.text)

    async def _break(self, signal: DataInput, text: str) -> None:
        """End it now, the worker's word or not."""
        if self.connection_end is not None:
            self.connection_end.break_off(Verdict.BROKEN)
        if self._run is not None:
            self._run.break_off()
        signal = self._cause(signal)
        if self.machine.state is not DataState.HALTED and self.machine.can(signal):
            await self._halt(signal, text)

    async def _halt(self, signal: DataInput, text: str) -> None:
        """Move to HALTED, let go of everything, tell the DMA."""
        self._processed = self.bytes_processed()
        # While something was waited for a request may have been quicker.
        if not self.machine.can(signal) or not self.machine.apply(signal):
            return
        reason = self.machine.halt_reason
        self.ended_after_s = self.elapsed_s()
        successful = reason is DataHaltReason.SUCCESSFUL
        told = {"operation": self.machine.operation.name, "bytes": self._processed, "text": text}
        if reason in _IN_ORDER:
            self._connection.log.info("data halted", reason=reason.name, **told)
        else:
            self._connection.log.warning("data halted", reason=reason.name, **told)
        summary = self._end_job(reason, text)
        self._halted = self._run
        end = self.connection_end
        if successful and self._run is not None and end is not None and end.local:
            self._unflushed = [*self._unflushed[-UNFLUSHED_MAX:], (self._run, end.delivery)]
        await self._let_go(orderly=successful, text=text)
        why = [log_post(LogType.ERROR, f"data: {text}")] if text and not successful else []
        # In one go: a STOP that comes right now is answered behind both.
        await self._connection.outbox.post(*summary, *why, NotifyDataHaltedPost(reason, text.encode()))

    def _end_job(self, reason: DataHaltReason | None, text: str) -> list[LogMessagePost]:
        """Note how the operation ended, if one ran; what the DMA is told of it. None: nobody is told."""
        job, self.job = self.job, None
        if job is None:
            return []
        ended = job.end(reason, text, self.result)
        self._connection.node.statistics.end_job(job, ended)
        self.ended = ended
        if reason is not None:
            sync = partial(trio.to_thread.run_sync, self._connection.node.jobs.log.sync, abandon_on_cancel=True)
            self._connection.nursery.start_soon(sync)
        return [log_post(LogType.NORMAL, line) for line in summary_lines(ended)]

    async def _let_go(self, *, orderly: bool, text: str) -> None:
        """Give worker, history ring and data connection back; a local mover learns how it ended."""
        end, self.connection_end = self.connection_end, None
        run, self._run = self._run, None
        nursery = self._connection.nursery
        if end is not None and not orderly:
            end.break_off(Verdict.BROKEN)
        if end is not None and orderly and self.machine.operation is not DataOperation.BACKUP:
            nursery.start_soon(self._dismiss, end, text)
            end = None
        elif end is not None and end.local:
            tell_other_end(
                self._connection, self._connection.mover, PeerEnd(orderly=orderly, closed=orderly, text=text)
            )
        nursery.start_soon(self._give_back, run, end, orderly)

    async def _dismiss(self, end: DataConnection, text: str) -> None:
        """The recover has all it wants: let the mover go, once the DMA can have seen that DATA has halted.

        NDMJOB's client asks for the state of DATA, then for that of the mover, and gives the recover up when it finds
        ACTIVE and HALTED. So the mover hears of it only after one more request of the DMA, or a moment without one.
        """
        try:
            with trio.move_on_after(DISMISS_S):
                await self._connection.next_answer()
            if end.local:
                tell_other_end(self._connection, self._connection.mover, PeerEnd(orderly=True, closed=True, text=text))
            else:
                end.want_no_more()
        finally:
            await end.release(orderly=True)

    @staticmethod
    async def _give_back(run: DataRun | None, end: DataConnection | None, orderly: bool) -> None:
        delivery = end.delivery if end is not None else None
        try:
            if run is not None:
                await run.stop()
            if end is not None:
                await end.release(orderly=orderly)
            if orderly and delivery is not None:
                # The rest of the stream is in the ring: that the mover fails with it undoes what was kept.
                await delivery.told.wait()
        finally:
            if run is not None:
                await run.settle(orderly=orderly and (delivery is None or delivery.whole))
            if delivery is not None:
                delivery.settled.set()

    # --- requests that end it

    async def abort(self) -> None:
        """ABORT: halt now; no effect when halted already."""
        if self.machine.state is DataState.HALTED:
            return
        self._connection.data_ports.stop_listening("data")
        await self._break(DataInput.ABORT, "")

    async def conclude(self) -> None:
        """The DMA ends an operation that has halted by its STOP: what it leaves for later ones may count."""
        run, self._halted = self._halted, None
        if run is None:
            return
        try:
            await run.conclude(stopped=True)
        except OSError as error:
            await self._not_kept(error)

    async def note_flush(self, *, whole: bool) -> None:
        """The tape of this connection is on disk, or what was written to it last never will be.

        It is no flush of a backup whose mover has not ended: that goes on writing, on this cartridge or on another.
        """
        ready = [each for each in self._unflushed if each[1] is None or each[1].told.is_set()]
        self._unflushed = [each for each in self._unflushed if each not in ready]
        for run, _ in ready:
            try:
                await run.note_flush(whole=whole)
            except OSError as error:
                self._connection.log.error("not kept", error=error.strerror)

    def stop(self) -> None:
        """STOP: back to IDLE, environment and counters cleared."""
        self.machine.apply(DataInput.STOP)
        self.prepared = None
        self._forget()

    def _forget(self) -> None:
        self.machine.operation = DataOperation.NOACTION
        self.env = []
        self.path = b""
        self.result = self.ended = None
        self._processed = self.read_offset = self.read_length = 0
        self.started, self.ended_after_s = 0.0, None
        self.address = LOCAL

    def listener_lost(self, text: str) -> None:
        """Nobody can connect any more."""
        if self.machine.can(DataInput.CONNECTION_LOST):
            self._connection.nursery.start_soon(self._halt, DataInput.CONNECTION_LOST, text)

    def phase(self) -> DataPhase:
        """Where the running worker is."""
        with suppress(ValueError):
            return DataPhase(self.gauge(DataGauge.PHASE))
        return DataPhase.IDLE

    async def release(self) -> None:
        """Let everything go and tell nobody: the connection ends, or a START was refused half way."""
        self._end_job(None, "")
        end, self.connection_end = self.connection_end, None
        run, self._run = self._run, None
        if run is not None:
            run.drop_history()
        if end is not None:
            end.break_off(Verdict.BROKEN)
        self._forget()
        halted, self._halted = self._halted, None
        if halted is not None:
            try:
                await halted.conclude(stopped=False)
            except OSError as error:
                self._connection.log.error("dump date not taken back, the next start does", error=error.strerror)
        await self._give_back(run, end, False)


def _aborted(cause: str) -> str:
    return f"a disk error ({cause}), and abort-on-disk-error is set"
