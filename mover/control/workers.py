"""Supervision of worker processes: warm spares, requests with deadlines, events, and an owner who reaps each.

Death is seen twice: the control socket ends at once, the exit status follows. Events that a worker sent before it
died are delivered before its event channel ends, so the last words are never lost.
"""

import os
import signal
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal, TypeVarTuple

import msgspec
import structlog
import trio

from mover.control.templates import GRACE_S, ForkedProcess, Template
from mover.workers.channel import (
    ANCILLARY_BYTES,
    ChannelBroken,
    Unpacker,
    pack,
    receive_descriptors,
    rights,
)
from mover.workers.data_messages import DataFinished, FileRecovered, PhaseEntered, WantData
from mover.workers.messages import Event, FromWorker, LogLine, Reply, ToWorker, from_worker_decoder
from mover.workers.relay_messages import ConnectionLost, RelayFinished
from mover.workers.tape_messages import MoverHalted, MoverPaused

WorkerKind = Literal["data", "tape", "relay"]
ProcessKind = Literal["data", "tape", "relay", "snapshot"]
KINDS: Final[tuple[WorkerKind, ...]] = ("data", "tape", "relay")
Arguments = TypeVarTuple("Arguments")
EVENTS_BUFFERED: Final = 1024  # past it the worker waits in its send; its replies come behind its events
BEGIN_S: Final = 1.0  # how long spares are not refilled while a worker that was taken begins its work,
YIELD_S: Final = 0.005  # and how much longer, so that a fork does not compete with the reply that a DMA waits for
KILLED_S: Final = 5.0  # after SIGKILL: past it the process sits in a system call that cannot be interrupted
_CHUNK: Final = 65_536
_EVENTS: Final = (
    LogLine,
    PhaseEntered,
    MoverPaused,
    MoverHalted,
    WantData,
    FileRecovered,
    DataFinished,
    ConnectionLost,
    RelayFinished,
)

log = structlog.get_logger()


class WorkerDied(Exception):  # noqa: N818 - named for what happened
    """The worker process ended before it answered."""

    def __init__(self, kind: str, pid: int, exit_status: int | None) -> None:
        super().__init__(f"the {kind} worker (pid {pid}) died: {describe_exit(exit_status)}")
        self.exit_status = exit_status


class WorkerHung(Exception):  # noqa: N818 - named for what happened
    """The worker did not answer within the operation's deadline."""

    def __init__(self, kind: str, pid: int, request: str, deadline_s: float) -> None:
        super().__init__(f"the {kind} worker (pid {pid}) did not answer {request} within {deadline_s:g} s")


def describe_exit(status: int | None) -> str:
    """An exit status in words: ``exit 3``, ``signal SIGKILL``."""
    if status is None:
        return "status unknown"
    if status >= 0:
        return f"exit {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


class Worker:
    """One worker process and the conversation with it.

    Attributes:
        events: what the worker says by itself; ends when the worker is gone.
        begun: it has said something, or is gone.
        exit_status: None while it runs; negative = killed by that signal.
        cpu_seconds: that it has used in its life; 0 while it runs, or where nobody could tell.
        gone: nothing more comes from it, and nobody waits for it.
        ended: its process has ended, and with it whatever it had open: later than ``gone`` only where a system call
            of it hangs, which no signal interrupts.
    """

    def __init__(self, kind: ProcessKind, process: ForkedProcess, connection: trio.socket.SocketType) -> None:
        self.kind: ProcessKind = kind
        self.pid = process.pid
        self.started = time.monotonic()
        self.exit_status: int | None = None
        self.cpu_seconds = 0.0
        self._process = process
        self._socket = connection
        self._unpacker = Unpacker()
        self._asking = trio.Lock()
        self._sending = trio.Lock()
        self._waiting: deque[trio.MemorySendChannel[Reply]] = deque()
        self._event_sender: trio.MemorySendChannel[Event]
        self.events: trio.MemoryReceiveChannel[Event]
        self._event_sender, self.events = trio.open_memory_channel[Event](EVENTS_BUFFERED)
        self.begun = trio.Event()
        self.gone = trio.Event()
        self.ended = trio.Event()

    @property
    def alive(self) -> bool:
        return not self.gone.is_set() and not self._process.ended

    async def request(self, message: ToWorker, descriptors: Sequence[int] = (), *, deadline_s: float) -> Reply:
        """Ask, and wait for the one reply.

        Raises:
            WorkerDied: it ended first.
            WorkerHung: no reply within ``deadline_s`` seconds; the worker is not asked again after that.
        """
        async with self._asking:
            sender, receiver = trio.open_memory_channel[Reply](1)
            with trio.move_on_after(deadline_s):
                await self._send(message, descriptors, sender)
                if self.gone.is_set():
                    sender.close()
                try:
                    return await receiver.receive()
                except trio.EndOfChannel:
                    raise WorkerDied(self.kind, self.pid, self.exit_status) from None
        raise WorkerHung(self.kind, self.pid, type(message).__name__, deadline_s)

    async def tell(self, message: ToWorker, descriptors: Sequence[int] = ()) -> None:
        """Send a message that has no reply.

        Raises:
            WorkerDied: it is gone.
        """
        await self._send(message, descriptors, None)

    async def _send(
        self, message: ToWorker, descriptors: Sequence[int], reply_to: trio.MemorySendChannel[Reply] | None
    ) -> None:
        data = pack(message)
        async with self._sending:
            # In line for the reply before the send, which it may overtake, and behind the last point where a caller
            # that is cancelled leaves: one in line for a reply that never comes would get somebody else's.
            if reply_to is not None:
                self._waiting.append(reply_to)
            try:
                # Descriptors go with the first bytes; a message once begun is sent whole or the worker is lost.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + GRACE_S):
                    sent = await self._socket.sendmsg([data], rights(list(descriptors)))
                    while sent < len(data):
                        sent += await self._socket.send(data[sent:])
                    return
            except (OSError, trio.ClosedResourceError):  # closed: its end was seen while this waited for room
                raise WorkerDied(self.kind, self.pid, self.exit_status) from None
            self.kill()
            raise WorkerHung(self.kind, self.pid, type(message).__name__, GRACE_S)

    async def serve(self) -> None:
        """Read what the worker says until it is gone, then reap it, whenever it ends; in the supervisor's nursery."""
        try:
            try:
                await self._read()
            except (OSError, ChannelBroken, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                log.warning("worker conversation broken", kind=self.kind, pid=self.pid, error=str(error))
            await self._reap()
            await self._process.wait()
        finally:
            with trio.CancelScope(shield=True):
                await self._reap()
            if not self._process.ended:
                self._process.give_up()  # it dies of its SIGKILL when the call returns
            self.ended.set()

    async def _read(self) -> None:
        while True:
            data, ancillary, flags, _ = await self._socket.recvmsg(_CHUNK, ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
            for fd in receive_descriptors(ancillary, flags):
                os.close(fd)  # a worker has nothing to hand us
            if not data:
                return
            self._unpacker.feed(data)
            while (body := self._unpacker.next_body()) is not None:
                await self._dispatch(from_worker_decoder.decode(body))

    async def _dispatch(self, message: FromWorker) -> None:
        self.begun.set()
        if isinstance(message, _EVENTS):
            try:
                await self._event_sender.send(message)
            except trio.BrokenResourceError:
                log.debug("event of a worker nobody listens to", kind=self.kind, message=type(message).__name__)
        elif self._waiting:
            self._waiting.popleft().send_nowait(message)
        else:
            raise ChannelBroken(f"a {type(message).__name__} that nobody asked for")

    async def _reap(self) -> None:
        """Close the socket, wait the grace period, kill, wait; safe to call again."""
        if self.gone.is_set():
            return
        self._socket.close()
        with trio.move_on_after(GRACE_S):
            await self._process.wait()
        if not self._process.ended:
            self._process.kill()
        with trio.move_on_after(KILLED_S):
            await self._process.wait()
        if not self._process.ended:
            log.error("worker cannot be killed, a system call of it hangs", kind=self.kind, pid=self.pid)
        self.exit_status, self.cpu_seconds = self._process.exit_status, self._process.cpu_seconds
        self.begun.set()
        self.gone.set()
        for sender in self._waiting:
            sender.close()
        self._waiting.clear()
        self._event_sender.close()

    def kill(self) -> None:
        """SIGKILL, now."""
        self._process.kill()

    async def stop(self) -> None:
        """End the worker: its socket closes, which it takes as the sign to leave; killed after the grace period.

        Shielded, so that a cancelled owner still leaves no process behind; bounded by the grace period.
        """
        with trio.CancelScope(shield=True):
            try:
                # Not a close: the reading task still drains the worker's last words.
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                log.debug("worker was gone already", kind=self.kind, pid=self.pid)
            self.events.close()
            await self.gone.wait()


class Supervisor:
    """Starts workers, keeps warm spares, and owns every process until it is reaped.

    Attributes:
        workers: those that live, spares too, by pid.
        on_exit: told of each worker that is gone.
    """

    on_exit: Callable[[Worker], None] = staticmethod(lambda _worker: None)

    def __init__(self, nursery: trio.Nursery, templates: dict[WorkerKind, Template], spares: int) -> None:
        self._nursery = nursery
        self._templates = templates
        self._target = spares
        self._spares: dict[WorkerKind, deque[Worker]] = {kind: deque() for kind in KINDS}
        self._wanted = trio.Event()
        self._taken: deque[Worker] = deque()  # that may not have begun yet
        self._starting = 0  # takers that wait for a process: spares are made after them
        self.workers: dict[int, Worker] = {}

    def processes(self) -> dict[int, str]:
        """The pids of templates, spares and workers, and what each is: ``template-data``, ``spare-data``, ``data``."""
        found = {each.pid: f"template-{kind}" for kind, each in self._templates.items() if each.pid is not None}
        found |= {pid: worker.kind for pid, worker in self.workers.items()}
        return found | {each.pid: f"spare-{kind}" for kind, spares in self._spares.items() for each in spares}

    async def take(self, kind: WorkerKind) -> Worker:
        """A worker of this kind: a warm spare, or a fresh one when none is left.

        Raises:
            OSError: no process could be started.
        """
        spares = self._spares[kind]
        try:
            while spares:
                worker = spares.popleft()
                if worker.alive:
                    self._taken.append(worker)
                    return worker
            self._starting += 1
            try:
                return await self._spawn(kind, spare=False)
            finally:
                self._starting -= 1
        finally:
            self._wanted.set()

    def look_after(self, task: Callable[[*Arguments], Awaitable[None]], *arguments: *Arguments) -> None:
        """Run a task of the node's own, which ends with its workers; what it raises is logged and ends nothing else."""
        self._nursery.start_soon(self._look_after, task, arguments)

    @staticmethod
    async def _look_after(task: Callable[[*Arguments], Awaitable[None]], arguments: tuple[*Arguments]) -> None:
        try:
            await task(*arguments)
        except Exception:
            log.exception("task failed")

    async def keep_spares(self) -> None:
        """Make the templates warm, then refill the spares one at a time, never before somebody who waits."""
        for template in self._templates.values():
            try:
                await template.start()
            except OSError as error:
                log.error("no template for workers", kind=template.kind, error=str(error))
        while True:
            self._wanted = trio.Event()
            short = [kind for kind in KINDS if len(self._spares[kind]) < self._target]
            if not short or self._starting:
                await self._wanted.wait()
                continue
            if self._taken:
                with trio.move_on_after(BEGIN_S):
                    await self._taken.popleft().begun.wait()
                await trio.sleep(YIELD_S)
                continue
            kind = min(short, key=lambda kind: len(self._spares[kind]))
            try:
                self._spares[kind].append(await self._spawn(kind, spare=True))
            except OSError as error:
                log.error("no spare worker", kind=kind, error=str(error))
                with trio.move_on_after(1):
                    await self._wanted.wait()

    async def _spawn(self, kind: WorkerKind, *, spare: bool) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await self._templates[kind].fork(theirs, spare=spare)
            except BaseException:
                ours.close()
                raise
        worker = Worker(kind, process, trio.socket.from_stdlib_socket(ours))
        self.workers[worker.pid] = worker
        self._nursery.start_soon(self._own, kind, worker)
        return worker

    async def _own(self, kind: WorkerKind, worker: Worker) -> None:
        try:
            await worker.serve()
        finally:
            self.workers.pop(worker.pid, None)
            self.on_exit(worker)
            if worker in self._spares[kind]:
                self._spares[kind].remove(worker)
                self._wanted.set()
                if worker.exit_status != 0:  # 0 = its socket was closed, which only the supervisor does
                    log.warning("spare worker ended", kind=worker.kind, pid=worker.pid, exit=worker.exit_status)


@asynccontextmanager
async def open_supervisor(spares: int) -> AsyncIterator[Supervisor]:
    """A supervisor with ``spares`` warm workers of each kind; on exit every worker is stopped and reaped."""
    async with trio.open_nursery() as outer:
        templates = {kind: Template(kind, outer) for kind in KINDS}
        try:
            async with trio.open_nursery() as nursery:
                supervisor = Supervisor(nursery, templates, spares)
                nursery.start_soon(supervisor.keep_spares)
                try:
                    yield supervisor
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            for template in templates.values():
                template.close()
