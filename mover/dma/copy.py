"""Copy: the data service of one server sends its backup stream straight into that of another, without a tape.

The destination listens and recovers everything, the source connects and backs up. A mover is not there, so the reads
that the destination asks for (NOTIFY_DATA_READ) are met by the stream as it comes. Source: states reference, section 3
(DATA_LISTEN, DATA_CONNECT, START_RECOVER); the tool that made this known is NetApp's ndmpcopy.
"""

import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

import trio

from mover.dma.backup import merge_env
from mover.dma.client import Client, open_client
from mover.dma.errors import ControlConnectionError, DmaError, JobError, NdmpError
from mover.dma.events import Halt, JobEvents, LogSink
from mover.dma.jobs import ABORT_S, POLL_S, POST_GRACE_S, RATE_SAMPLES, SETTLE_S, ProgressSink, reason_name
from mover.dma.machine_ends import abort_data, data_state, stop_data
from mover.dma.options import CopyOptions, Place
from mover.dma.results import CopyResult, FailedName, LogLine, Progress
from mover.dma.services import CONNECT_S, reachable
from mover.ndmp.address_env import encryption
from mover.ndmp.enums import AddressType, DataHaltReason, DataState, DataUnsupported, RecoveryStatus
from mover.ndmp.messages import (
    DataConnectReply,
    DataConnectRequest,
    DataGetStateReply,
    DataGetStateRequest,
    DataListenReply,
    DataListenRequest,
    DataStartBackupReply,
    DataStartBackupRequest,
    DataStartRecoverReply,
    DataStartRecoverRequest,
    Pval,
    RecoverName,
    TcpAddress,
)

OLDEST_VERSION: Final = 3
"""Version 2 knows only a mover at the other end of a data connection."""


async def run_copy(
    options: CopyOptions, *, progress: ProgressSink | None = None, log: LogSink | None = None
) -> CopyResult:
    """Copy a directory of one server into a directory of another, or of the same.

    Names that the destination could not make are in the result. Cancellation aborts both data services and takes some
    seconds at most.

    Raises:
        ControlConnectionError, LoginError: a server cannot be used.
        NdmpError: a server refused a request.
        JobError: one of the data services did not end successfully.
    """
    if progress is not None:
        progress(Progress("connect"))
    async with (
        _open_end("source", options.source, options, log) as source,
        _open_end("destination", options.destination, options, log) as destination,
    ):
        copy = _Copy(options, source, destination, progress)
        try:
            return await copy.run()
        except BaseException as error:
            await copy.abort(error)
            raise


class _End:
    """One of the two data services.

    Attributes:
        name: source or destination.
        state: as last asked for.
        halted_since: when a HALTED was first seen that no post has told.
    """

    def __init__(self, name: str, client: Client, events: JobEvents) -> None:
        self.name = name
        self.client = client
        self.events = events
        self.state: DataGetStateReply | None = None
        self.halted_since: float | None = None

    async def ask(self) -> DataGetStateReply:
        """Ask for the state, and believe a halt whose post does not come."""
        self.state = state = await self.client.call(DataGetStateRequest(), DataGetStateReply)
        if state.state == DataState.HALTED and self.events.data_halt is None:
            now = trio.current_time()
            self.halted_since = self.halted_since or now
            if now - self.halted_since >= POST_GRACE_S:
                self.events.data_halt = Halt(state.halt_reason)
        return state

    @property
    def successful(self) -> bool:
        halt = self.events.data_halt
        return halt is not None and halt.reason == DataHaltReason.SUCCESSFUL

    def outcome(self) -> str:
        """Why it halted, with what the server said of it; that it still runs."""
        halt = self.events.data_halt
        if halt is None:
            return f"the {self.name} does not end"
        because = self.events.last_error() or halt.text
        return f"{self.name} halted: {reason_name(DataHaltReason, halt.reason)}" + (f" ({because})" if because else "")


@contextlib.asynccontextmanager
async def _open_end(name: str, place: Place, options: CopyOptions, log: LogSink | None) -> AsyncIterator[_End]:
    def hear(line: LogLine) -> None:
        if log is not None:
            log(LogLine(line.kind, f"{name}: {line.text}"))

    events = JobEvents(hear)
    async with open_client(
        place.server,
        place.credentials,
        events.on_post,
        max_version=options.max_version,
        connect_timeout_s=options.connect_timeout_s,
        request_timeout_s=options.request_timeout_s,
    ) as client:
        yield _End(name, client, events)


class _Copy:
    def __init__(self, options: CopyOptions, source: _End, destination: _End, progress: ProgressSink | None) -> None:
        self.options = options
        self.source = source
        self.destination = destination
        self.started = trio.current_time()
        self._progress = progress
        self._samples: deque[tuple[float, int]] = deque(maxlen=RATE_SAMPLES + 1)
        self._moved_at = self.started
        self._encryption = ""

    @property
    def _ends(self) -> tuple[_End, _End]:
        return self.source, self.destination

    async def run(self) -> CopyResult:
        for end in self._ends:
            if end.client.version < OLDEST_VERSION:
                raise JobError(f"the {end.name} {end.client.server} speaks version 2 only, which cannot copy")
        await self._join()
        await self._start()
        await self._transfer()
        if not (self.source.successful and self.destination.successful):
            raise JobError(", ".join(end.outcome() for end in self._ends if not end.successful))
        assert self.source.state is not None
        for end in self._ends:
            await stop_data(end.client, end.events)
        lines = [LogLine(line.kind, f"{end.name}: {line.text}") for end in self._ends for line in end.events.log]
        return CopyResult(
            self.source.state.bytes_processed,
            trio.current_time() - self.started,
            [
                FailedName(fate.name, reason_name(RecoveryStatus, fate.recovery_status))
                for fate in self.destination.events.fates
                if fate.recovery_status != RecoveryStatus.SUCCESSFUL
            ],
            [f"{end.name}: {text}" for end in self._ends for text in end.events.warnings()],
            lines,
            self._encryption,
        )

    async def _join(self) -> None:
        listening = await self.destination.client.call(DataListenRequest(AddressType.TCP), DataListenReply)
        address = listening.data_connection_addr
        if not isinstance(address, TcpAddress) or not address.endpoints:
            kind = type(address).__name__
            raise JobError(f"the destination listens at an address of another kind than asked for, or at none: {kind}")
        address = reachable(address, self.destination.client)
        await self.source.client.call(DataConnectRequest(address), DataConnectReply)
        deadline = trio.current_time() + CONNECT_S
        while (state := await self.destination.ask()).state == DataState.LISTEN:  # it sees it a little later
            if trio.current_time() >= deadline:
                raise JobError(f"the destination saw no data connection within {CONNECT_S:g} s")
            await self.destination.events.changed(0.05)
        self._encryption = encryption(state.data_connection_addr)

    async def _start(self) -> None:
        options = self.options
        butype = os.fsencode(options.butype)
        env = copy_env(options)
        whole = RecoverName(b"", os.fsencode(options.destination.path))
        await self.destination.client.call(
            DataStartRecoverRequest(env, (whole,), butype, None), DataStartRecoverReply, detail=options.destination.path
        )
        await self.source.client.call(
            DataStartBackupRequest(butype, env, None), DataStartBackupReply, detail=options.source.path
        )

    async def _transfer(self) -> None:
        """Wait until both have halted.

        Raises:
            JobError: one has halted and the other neither moves nor ends.
        """
        next_poll = self._moved_at = trio.current_time()
        while any(end.events.data_halt is None for end in self._ends):
            for end in self._ends:
                if end.client.failure is not None:
                    raise ControlConnectionError(f"{end.client.server}: {end.client.failure}")
                end.events.reads.clear()  # met by the stream itself
            if trio.current_time() >= next_poll:
                await self._poll("transfer")
                next_poll = trio.current_time() + POLL_S
                one_halted = any(end.events.data_halt is not None for end in self._ends)
                if one_halted and trio.current_time() - self._moved_at > SETTLE_S:
                    raise JobError(", ".join(end.outcome() for end in self._ends if not end.successful))
            await self._changed(max(0.0, next_poll - trio.current_time()))
        await self._poll("finish")

    async def _changed(self, timeout_s: float) -> None:
        """Wait for a post of either server, at most so long."""
        async with trio.open_nursery() as nursery:

            async def first(events: JobEvents) -> None:
                await events.changed(timeout_s)
                nursery.cancel_scope.cancel()

            for end in self._ends:
                nursery.start_soon(first, end.events)

    async def _poll(self, phase: str) -> None:
        source, destination = [await end.ask() for end in self._ends]
        now = trio.current_time()
        moved = source.bytes_processed + destination.bytes_processed
        if not self._samples or moved != self._samples[-1][1]:
            self._moved_at = now
        self._samples.append((now, moved))
        if self._progress is None:
            return
        (since, before), (_, after) = self._samples[0], self._samples[-1]
        rate = (after - before) / 2 / (now - since) if now > since else 0.0  # each byte was counted at both ends
        total = None
        if not source.unsupported & DataUnsupported.EST_BYTES_REMAIN and source.est_bytes_remain:
            total = source.bytes_processed + source.est_bytes_remain
        eta = (total - source.bytes_processed) / rate if total is not None and rate > 0 else None
        states = ", ".join(f"{end.name} {reason_name(DataState, end.state.state)}" for end in self._ends if end.state)
        self._progress(Progress(phase, source.bytes_processed, total, 0, rate, eta, states))

    async def abort(self, cause: BaseException) -> None:
        """End whatever still runs, in bounded time; what cannot be ended is noted in the log."""
        reason = ""
        with trio.move_on_after(ABORT_S, shield=True) as scope:
            for end in self._ends:
                # A log message about a refusal follows its reply: with the next reply it is here.
                await self._try(end, partial(self._hear, end))
            reason = self.destination.events.last_error() or self.source.events.last_error()
            for end in self._ends:
                end.events.ending = True
                await self._try(end, partial(abort_data, end.client))
            for end in self._ends:
                await self._try(end, partial(stop_data, end.client, end.events))
        if scope.cancelled_caught:
            self.source.events.note(f"the servers did not end the copy within {ABORT_S:g} s; closing ends it")
        if reason and isinstance(cause, NdmpError):
            cause.explain(reason)

    @staticmethod
    async def _hear(end: _End) -> None:
        if end.client.failure is None:
            await data_state(end.client)

    @staticmethod
    async def _try(end: _End, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except DmaError as error:
            end.events.note(f"while ending it: {error}")


def copy_env(options: CopyOptions) -> tuple[Pval, ...]:
    """The environment of both requests; names are told from the source's directory on."""
    own = {
        "FILESYSTEM": options.source.path,
        "PREFIX": options.source.path,
        "TYPE": options.butype,
        "HIST": "n",
        "LEVEL": str(options.level),
        "UPDATE": "y" if options.update else "n",
    }
    if options.exclude:
        own["EXCLUDE"] = ",".join(options.exclude)
    return merge_env([(name.encode(), os.fsencode(value)) for name, value in own.items()], options.env)
