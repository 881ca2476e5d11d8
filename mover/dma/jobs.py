"""What backup, recover and listing have in common: both control connections, the transfer loop, the clean-up.

Theory of operation. The posts say what happened; once a second GET_STATE of both machines gives the progress, and is
believed when a post fails to come. A transfer has ended when both machines have halted. Whatever goes wrong on the
way (an error, a pause that nobody can help, the caller's cancellation) leaves by `abort`, which asks for the state of
each machine, aborts what runs, stops what has halted and closes the drive, all within ABORT_S.
"""

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import IntEnum
from typing import Final

import msgspec
import trio

from mover.dma.client import Client, open_client
from mover.dma.errors import ControlConnectionError, DmaError, JobError, NdmpError
from mover.dma.events import DATA_SAYS, MOVER_SAYS, Halt, JobEvents, LogSink
from mover.dma.machine_ends import abort_data, data_state, halts, stop_data
from mover.dma.options import Credentials, Server, Session
from mover.dma.placement import drive_elsewhere, volume_elsewhere, wanted_extensions
from mover.dma.results import LogLine, Progress
from mover.ndmp.enums import DataHaltReason, DataState, DataUnsupported, MoverHaltReason, MoverState
from mover.ndmp.extensions import CAB
from mover.ndmp.messages import (
    DataGetStateReply,
    DataGetStateRequest,
    DataStopReply,
    DataStopRequest,
    MoverAbortReply,
    MoverAbortRequest,
    MoverGetStateReply,
    MoverGetStateRequest,
    MoverStopReply,
    MoverStopRequest,
    TapeCloseReply,
    TapeCloseRequest,
)

ProgressSink = Callable[[Progress], None]

POLL_S: Final = 1.0
"""How often the states are asked for."""
POST_GRACE_S: Final = 10.0
"""How long a HALTED seen by GET_STATE waits for its post before it is believed without."""
SETTLE_S: Final = 120.0
"""How long one machine may go on without moving a byte after the other has halted."""
ABORT_S: Final = 15.0
"""How long the clean-up after a failure may take."""
RATE_SAMPLES: Final = 10


def reason_name(kind: type[IntEnum], value: int) -> str:
    """Name of an enum's value, or the number where it has none."""
    try:
        return kind(value).name
    except ValueError:
        return f"{value}"


def _follower(events: JobEvents) -> str:
    """How the texts of the machine begin whose end follows from that of the other, which broke the data connection.

    "" = neither, or it cannot be told.
    """
    data, mover = events.data_halt, events.mover_halt
    if data is None or mover is None:
        return ""
    mover_met_it = mover.reason in {MoverHaltReason.CONNECT_ERROR, MoverHaltReason.CONNECT_CLOSED}
    if data.reason == DataHaltReason.CONNECT_ERROR:
        return "" if mover_met_it else DATA_SAYS
    return MOVER_SAYS if mover_met_it and data.reason != DataHaltReason.SUCCESSFUL else ""


class States(msgspec.Struct, frozen=True):
    """Both machines at one moment."""

    data: DataGetStateReply
    mover: MoverGetStateReply

    def __str__(self) -> str:
        return f"DATA {reason_name(DataState, self.data.state)}, MOVER {reason_name(MoverState, self.mover.state)}"


class RunningJob:
    """Both ends of a job; made by `open_job`.

    Attributes:
        data, tape: the control connections; one and the same for a LOCAL job.
        path: what is backed up, or where a recover goes; b"" = neither.
        tape_open: whether TAPE_CLOSE is due.
        phase: of the progress.
        expected_bytes: estimate of the stream for a server that makes none; None without one.
        encryption: of the data connection, as the servers tell it.
    """

    def __init__(
        self,
        session: Session,
        data: Client,
        tape: Client,
        events: JobEvents,
        progress: ProgressSink | None,
        path: bytes = b"",
    ) -> None:
        self.session = session
        self.data = data
        self.tape = tape
        self.path = path
        self.events = events
        self.tape_open = False
        self.phase = "connect"
        self.expected_bytes: int | None = None
        self.encryption = ""
        self.started = trio.current_time()
        self._progress = progress
        self._states: States | None = None
        self._samples: deque[tuple[float, int]] = deque(maxlen=RATE_SAMPLES + 1)
        self._unposted: dict[str, float] = {}
        self._aborted = False
        self._moved_at = 0.0
        self._moved: tuple[int, ...] = ()

    @property
    def local(self) -> bool:
        """Whether one server has both the data and the drive."""
        return self.data is self.tape

    @property
    def elapsed_s(self) -> float:
        return trio.current_time() - self.started

    @property
    def still_s(self) -> float:
        """How long no byte has moved, as far as polls can tell."""
        return trio.current_time() - self._moved_at

    # ---- progress

    def enter(self, phase: str) -> None:
        """Begin a phase and report it."""
        self.phase = phase
        self._report()

    def _report(self) -> None:
        if self._progress is None:
            return
        files = self.events.history.names if self.events.history is not None else 0
        if self._states is None:
            self._progress(Progress(self.phase, files=files))
            return
        state = self._states.data
        rate = self._rate()
        total = eta = None
        if not state.unsupported & DataUnsupported.EST_BYTES_REMAIN and state.est_bytes_remain:
            total = state.bytes_processed + state.est_bytes_remain
        elif self.expected_bytes is not None and self.expected_bytes >= state.bytes_processed:
            total = self.expected_bytes
        if not state.unsupported & DataUnsupported.EST_TIME_REMAIN and state.est_time_remain:
            eta = float(state.est_time_remain)
        elif total is not None and rate > 0:
            eta = (total - state.bytes_processed) / rate
        self._progress(Progress(self.phase, state.bytes_processed, total, files, rate, eta, str(self._states)))

    def _rate(self) -> float:
        (since, before), (now, after) = self._samples[0], self._samples[-1]
        return (after - before) / (now - since) if now > since else 0.0

    # ---- states

    async def poll(self) -> States:
        """Ask for both states, report progress, and believe a halt whose post does not come."""
        data = await self.data.call(DataGetStateRequest(), DataGetStateReply)
        mover = await self.tape.call(MoverGetStateRequest(), MoverGetStateReply)
        states = self._states = States(data, mover)
        now = trio.current_time()
        self._samples.append((now, data.bytes_processed))
        moved = (data.bytes_processed, mover.bytes_moved, mover.record_num)
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        events = self.events
        if self._overdue("data", data.state == DataState.HALTED and events.data_halt is None, now):
            events.data_halt = Halt(data.halt_reason)
        if self._overdue("mover", mover.state == MoverState.HALTED and events.mover_halt is None, now):
            events.mover_halt = Halt(mover.halt_reason)
        self._report()
        return states

    def _overdue(self, machine: str, waiting: bool, now: float) -> bool:
        if not waiting:
            self._unposted.pop(machine, None)
            return False
        return now - self._unposted.setdefault(machine, now) >= POST_GRACE_S

    def check(self) -> None:
        """Raise what ends a job from outside its own flow: a lost connection, a catalogue that cannot store."""
        for client in (self.data, self.tape):
            if client.failure is not None:
                raise ControlConnectionError(f"{client.server}: {client.failure}")
        history = self.events.history
        if history is not None and history.failure is not None:
            raise history.failure

    async def wait_for(self, condition: Callable[[States], bool], timeout_s: float, what: str) -> States:
        """Poll quickly until a condition holds; raises JobError after `timeout_s`."""
        pause = 0.005
        deadline = trio.current_time() + timeout_s
        while True:
            states = await self.poll()
            if condition(states):
                return states
            if trio.current_time() >= deadline:
                raise JobError(f"{what} within {timeout_s:g} s ({states})")
            await self.events.changed(pause)
            pause = min(2 * pause, 0.25)

    async def transfer(self, attend: Callable[[], Awaitable[None]]) -> None:
        """Wait until both machines have halted.

        Args:
            attend: awaited after each post and each poll; answers pauses and wanted reads.

        Raises:
            JobError: one machine has halted and the other neither moves nor ends.
        """
        self.enter("transfer")
        next_poll = trio.current_time()
        self._moved_at = next_poll
        events = self.events
        while events.data_halt is None or events.mover_halt is None:
            self.check()
            if trio.current_time() >= next_poll:
                states = await self.poll()
                next_poll = trio.current_time() + POLL_S
                halted = events.data_halt or events.mover_halt
                if halted and self.still_s > SETTLE_S:
                    raise JobError(f"{self.outcome()}, the other side does not end ({states})")
            await attend()
            if events.data_halt is None or events.mover_halt is None:
                await events.changed(max(0.0, next_poll - trio.current_time()))
        self.enter("finish")
        await self.poll()

    def outcome(self) -> str:
        """Why the machines halted, with what the server said about it."""
        parts = []
        events = self.events
        if events.data_halt is not None:
            parts.append(f"data service halted: {reason_name(DataHaltReason, events.data_halt.reason)}")
        if events.mover_halt is not None:
            parts.append(f"mover halted: {reason_name(MoverHaltReason, events.mover_halt.reason)}")
        said = [halt.text for halt in (events.data_halt, events.mover_halt) if halt is not None and halt.text]
        because = events.last_error(without=_follower(events)) or "; ".join(said)
        return ", ".join(parts) + (f" ({because})" if because else "")

    # ---- ends

    async def stop(self) -> None:
        """STOP both halted machines."""
        await self.data.call(DataStopRequest(), DataStopReply)
        await self.tape.call(MoverStopRequest(), MoverStopReply)

    async def close_tape(self) -> None:
        """TAPE_CLOSE, if the drive is open."""
        if self.tape_open:
            self.tape_open = False
            await self.tape.call(TapeCloseRequest(), TapeCloseReply, detail=self.session.drive)

    async def abort(self, cause: BaseException) -> None:
        """End whatever still runs, once and in bounded time; what cannot be ended is noted in the log."""
        if self._aborted:
            return
        self._aborted = True
        reason = ""
        with trio.move_on_after(ABORT_S, shield=True) as scope:
            self.phase = "abort"
            # A log message about a refusal follows its reply: with the next reply it is here.
            await self._try("data service", self._hear_data)
            await self._try("mover", self._hear_mover)
            reason = self.events.last_error()
            self.events.ending = True  # each machine may complain of the end that the other is given
            await self._try("data service", self._abort_data)
            await self._try("mover", self._abort_mover)
            await self._try("data service", self._stop_data)
            await self._try("mover", self._stop_mover)
            await self._try("drive", self.close_tape)
        if scope.cancelled_caught:
            self.events.note(f"the servers did not end the job within {ABORT_S:g} s; closing the connections ends it")
        if reason and isinstance(cause, NdmpError):
            cause.explain(reason)

    async def _try(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """One step of the clean-up: its failure is noted and keeps no other step from being tried."""
        try:
            await step()
        except DmaError as error:
            self.events.note(f"while ending the {what}: {error}")

    async def _mover_state(self) -> int:
        return (await self.tape.call(MoverGetStateRequest(), MoverGetStateReply)).state

    async def _hear_data(self) -> None:
        if self.data.failure is None:
            await data_state(self.data)

    async def _hear_mover(self) -> None:
        if self.tape.failure is None:
            await self._mover_state()

    async def _abort_data(self) -> None:
        await abort_data(self.data)

    async def _abort_mover(self) -> None:
        if self.tape.failure is None and await self._mover_state() not in {MoverState.IDLE, MoverState.HALTED}:
            with contextlib.suppress(NdmpError):  # halted just now
                await self.tape.call(MoverAbortRequest(), MoverAbortReply)

    async def _stop_data(self) -> None:
        halt = self.events.data_halt
        if halt is not None and halt.reason == DataHaltReason.SUCCESSFUL:
            return  # a STOP would make the server base other backups on this one; the connection's end does not
        await stop_data(self.data, self.events)

    async def _stop_mover(self) -> None:
        if self.tape.failure is None and await halts(
            self._mover_state, self.events, MoverState.ACTIVE, MoverState.HALTED
        ):
            await self.tape.call(MoverStopRequest(), MoverStopReply)


@contextlib.asynccontextmanager
async def open_job(
    session: Session, progress: ProgressSink | None, log: LogSink | None, path: bytes = b""
) -> AsyncIterator[RunningJob]:
    """The control connections of a job for the length of a block; leaving it by an exception aborts the job.

    In a cluster they go to the nodes that the volume and the drive are with.

    Args:
        path: what is backed up, or where a recover goes; b"" = neither.

    Raises:
        ControlConnectionError, LoginError: as `open_client`.
        JobError: volume or drive are with a node that tells of no address.
    """
    events = JobEvents(log)
    if progress is not None:
        progress(Progress("connect"))
    async with contextlib.AsyncExitStack() as stack:

        async def connect(server: Server, credentials: Credentials) -> Client:
            client = await stack.enter_async_context(
                open_client(
                    server,
                    credentials,
                    events.on_post,
                    max_version=session.max_version,
                    connect_timeout_s=session.connect_timeout_s,
                    request_timeout_s=session.request_timeout_s,
                )
            )
            if session.extensions:
                await client.choose_extensions(wanted_extensions(client))
            return client

        asked = data = tape = await connect(session.data, session.credentials)
        tape_credentials = session.tape_credentials or session.credentials
        if CAB in asked.extensions and path and (other := await volume_elsewhere(asked, path)):
            server = other.reach("the volume")
            events.add_log(LogLine("normal", f"the volume is with node {other.node}, at {server}"))
            data = await connect(server, session.credentials)
        if session.tape is not None:
            tape = await connect(session.tape, tape_credentials)
        elif CAB in asked.extensions and (other := await drive_elsewhere(asked, session.drive)):
            server = other.reach("the drive")
            if server == data.server:
                tape = data
            else:
                events.add_log(LogLine("normal", f"drive {session.drive} is with node {other.node}, at {server}"))
                tape = await connect(server, tape_credentials)
        job = RunningJob(session, data, tape, events, progress, path)
        try:
            yield job
        except BaseException as error:
            await job.abort(error)
            raise
