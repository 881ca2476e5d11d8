"""The DATA service of a connection: one backup or recover at a time, done by a data worker.

Theory of operation. The worker is told the place, the environment and its rings, and answers Done before it works.
Its words come in order (log lines, recovered names, wanted pieces of the stream, the end), and each is passed on in
that order. The operation has ended well only when the worker says so, file history is drained to the DMA, and in a
backup a TCP data connection has carried the stream's end; then, and once, NOTIFY_DATA_HALTED is posted. Whatever
ends it earlier moves the machine first and clears up afterwards, so that late words find HALTED and change nothing.
"""

import time
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import trio

from mover.control.data_aftermath import Aftermath
from mover.control.data_connection import DataConnection, Delivery, PeerEnd, RelayFailed
from mover.control.data_run import DataRun, Keep, Start, begin_run
from mover.control.data_variables import RUNNING, DataVariables
from mover.control.environment import merge
from mover.control.estimate import Rate, stream_length
from mover.control.job_summary import RunningJob, begin_job, summary_lines
from mover.control.job_watch import JobWatch
from mover.control.local import tell_other_end
from mover.control.outbox import log_post
from mover.control.refusal import Refusal
from mover.control.snapshot_run import begin_snapshot_run, snapshot_plan
from mover.control.workers import Worker, describe_exit
from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    DataOperation,
    DataState,
    ErrorCode,
    LogType,
)
from mover.ndmp.messages import (
    LOCAL,
    LogFilePost,
    LogMessagePost,
    NotifyDataHaltedPost,
    NotifyDataReadPost,
)
from mover.ndmp.states import DataInput
from mover.ring import RingControl, Verdict
from mover.workers.data_messages import DataFinished, FileRecovered, Pairs, PhaseEntered, WantData
from mover.workers.messages import LogLine

if TYPE_CHECKING:
    from mover.control.connection import Connection

DISK_ERRORS: Final = frozenset({"EIO", "EUCLEAN", "EBADMSG"})
"""Causes of errors that abort-on-disk-error ends a job for: the device, or what a file system finds damaged."""
_IN_ORDER: Final = frozenset({DataHaltReason.SUCCESSFUL, DataHaltReason.ABORTED})
TELL_S: Final = 0.7  # how long a halt waits for the worker's own word before it is told without it

_ENDS: Final[dict[int, DataInput]] = {
    DataHaltReason.SUCCESSFUL: DataInput.COMPLETE,
    DataHaltReason.CONNECT_ERROR: DataInput.CONNECTION_LOST,
}


class DataService(DataVariables):
    """Begins data operations, listens to their workers, and ends them.

    Attributes:
        job: the operation as operators know it, while it runs.
        aftermath: of the operations that have halted.
        prepared: the type of data connection that CAB_DATA_CONN_PREPARE has announced for the next operation.
        report_names: LOG_FILE is sent; not where the recover list was empty, since each entry gets one post.
    """

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection)
        self.job: RunningJob | None = None
        self.report_names = True
        self.prepared: AddressType | None = None
        self._finished = trio.Event()
        self.aftermath = Aftermath(connection)
        self._delivery: Delivery | None = None  # of the operation that began last
        self._accepted: tuple[Start, RingControl] | None = None  # by the worker, of the operation that began last

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
        self.aftermath.halted(self._run)
        end = self.connection_end
        if successful and self._run is not None and end is not None and end.local:
            self.aftermath.lies_on_tape(self._run, end.delivery)
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
            nursery.start_soon(self.aftermath.dismiss, end, text)
            end = None
        elif end is not None and end.local:
            tell_other_end(
                self._connection, self._connection.mover, PeerEnd(orderly=orderly, closed=orderly, text=text)
            )
        nursery.start_soon(self.aftermath.give_back, run, end, orderly)

    # --- requests that end it

    async def abort(self) -> None:
        """ABORT: halt now; no effect when halted already."""
        if self.machine.state is DataState.HALTED:
            return
        self._connection.data_ports.stop_listening("data")
        await self._break(DataInput.ABORT, "")

    async def conclude(self) -> None:
        """The DMA ends an operation that has halted by its STOP: what it leaves for later ones may count."""
        try:
            await self.aftermath.conclude(stopped=True)
        except OSError as error:
            await self._not_kept(error)

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
        try:
            await self.aftermath.conclude(stopped=False)
        except OSError as error:
            self._connection.log.error("dump date not taken back, the next start does", error=error.strerror)
        await self.aftermath.give_back(run, end, False)


def _aborted(cause: str) -> str:
    return f"a disk error ({cause}), and abort-on-disk-error is set"
