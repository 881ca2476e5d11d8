"""Snapshots of volumes for backups, and the commands before and after them.

Theory of operation. Each backup of a volume that has a [[snapshot]] owns a task of the node, which does everything in
its order: lease on disk, ``pre``, snapshot, ``post``, wait until the backup is over, remove, lease away. The backup
only looks on: it is told when there is something to read, and says when it needs it no more. So an ABORT, a killed
session or a DMA that went away never waits for a command, and no command is left out because of one: ``pre`` is killed
at once, a snapshot that is being made is waited for and removed, ``post`` runs whenever ``pre`` has begun and not said
by its exit status that it failed. Without a snapshot ``post`` runs when the backup is over.

What a crash leaves is in the lease, and undone at the next start. ``post`` may run twice then, never not at all.
"""

import os
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog
import trio
from msgspec.structs import replace

from mover import config
from mover.control.snapshot_helper import ask_helper
from mover.control.snapshot_leases import DIRECTORY, Lease, Leases
from mover.control.workers import WorkerDied, WorkerHung
from mover.ndmp.enums import ErrorCode, LogType
from mover.workers.messages import Done, LogLine, Refused, Reply, ToWorker
from mover.workers.snapshot_messages import (
    CommandEnded,
    FindSnapshots,
    MakeSnapshot,
    RemoveSnapshot,
    RunCommand,
    SnapshotMade,
    SnapshotsFound,
    SnapshotSource,
)

NAME_PREFIX: Final = "mover-"
LINES_MAX: Final = 256  # lines of commands that wait for the DMA; what comes beyond is in the log only
COMMANDS_MAX: Final = 3  # of one request: LVM's removal
ENDING_S: Final = 15.0  # how long a helper takes beside its command, one that has to be killed included
STOP_S: Final = 20.0
"""How long a server that stops waits for snapshots to be removed; what is left then is removed at the next start."""
RETRY_S: Final = 60.0
"""Until what could not be removed is tried again: it may have been busy. Each time twice as long as before."""
RETRY_MOST_S: Final = 3600.0
ENDED: Final = "the backup was ended"

log = structlog.get_logger()


class VolumeSnapshot:
    """The snapshot of one backup, with its commands.

    Attributes:
        plan: of the configuration.
        lease: what is to be undone.
        told: set when there is something to read, or will not be.
        made: where to read; None = from the volume itself.
        failure: why there is none; "" = all is well.
        lines: what its commands said, for the DMA's log; ends when ``told`` is set.
        doing: what is being waited for, in words.
        taken: when it was begun, in seconds since 1970.
        absent: there is none, as far as its own command says.
    """

    def __init__(self, plan: config.Snapshot, lease: Lease, before: Callable[[], None]) -> None:
        self.plan = plan
        self.lease = lease
        self.before = before
        self.told = trio.Event()
        self.made: SnapshotMade | None = None
        self.failure = ""
        self.doing = ""
        self.taken = 0.0
        self.absent = False
        self.over = trio.Event()
        self._interruptible: trio.CancelScope | None = None
        self._lines: trio.MemorySendChannel[LogLine]
        self.lines: trio.MemoryReceiveChannel[LogLine]
        self._lines, self.lines = trio.open_memory_channel[LogLine](LINES_MAX)

    @property
    def name(self) -> str:
        """mover- and a number of its own."""
        return self.lease.name

    def release(self) -> None:
        """The backup is over: whatever there is goes away by itself."""
        self.over.set()
        if self._interruptible is not None:
            self._interruptible.cancel()

    def interruptible(self) -> trio.CancelScope:
        """A scope that ``release`` cancels."""
        self._interruptible = trio.CancelScope()
        if self.over.is_set():
            self._interruptible.cancel()
        return self._interruptible

    def say(self, line: LogLine) -> None:
        """One line for the DMA, as long as it listens."""
        try:
            self._lines.send_nowait(line)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a line of a snapshot's command not sent", snapshot=self.name)

    def tell(self, failure: str) -> None:
        """The backup may begin, or not; the first word counts."""
        if not self.told.is_set():
            self.failure = failure
            self._lines.close()
            self.told.set()


class Snapshots:
    """All snapshots of a node.

    Args:
        directory: for leases, and where LVM's snapshots are mounted.
        nursery: of the tasks; it outlives the backups.
    """

    def __init__(self, directory: str, nursery: trio.Nursery) -> None:
        self.leases = Leases(directory)
        self._nursery = nursery
        self._held: set[VolumeSnapshot] = set()
        self._turns: dict[str, trio.Lock] = defaultdict(trio.Lock)
        self._tasks = 0
        self._stopping = trio.Event()
        self._task_ended = trio.Event()

    def begin(self, plan: config.Snapshot, volume: bytes, before: Callable[[], None]) -> VolumeSnapshot:
        """Have a snapshot made for one backup, which releases it.

        Args:
            volume: its directory.
            before: called in a thread when nothing but the snapshot's own command lies between now and it.
        """
        lease = Lease(
            NAME_PREFIX + uuid.uuid4().hex[:16],
            plan.volume,
            snapshot_source(plan, volume, self.leases.directory),
            list(plan.post),
            plan.timeout_s,
        )
        held = VolumeSnapshot(plan, lease, before)
        self._held.add(held)
        self._start(lambda: self._live(held))
        return held

    async def take_up(self, current: config.Config) -> None:
        """The server starts: undo what a crash has left, and tell of snapshots that look like ours and are not."""
        try:
            leases = await trio.to_thread.run_sync(self.leases.read)
        except OSError as error:
            log.error("leases of snapshots cannot be read", file=error.filename, error=error.strerror)
            return
        for lease in leases:
            log.warning("left by a crash", snapshot=lease.name, volume=lease.volume, post=bool(lease.post))
            self._start(lambda lease=lease: self._undo(lease))  # type: ignore[misc]  # a default binds it now
        ours = {lease.name for lease in leases}
        for plan in current.snapshot:
            volume = os.fsencode(current.node.volumes[plan.volume])
            source = snapshot_source(plan, volume, self.leases.directory)
            if source is not None:
                self._start(lambda plan=plan, source=source: self._look(plan, source, ours))  # type: ignore[misc]  # as above

    async def finish(self) -> None:
        """The server stops: see all of them off, for a while."""
        self._stopping.set()
        for held in list(self._held):
            held.release()
        with trio.move_on_after(STOP_S):
            while self._tasks:
                await self._task_ended.wait()

    def _start(self, task: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                await task()
            except Exception:
                log.exception("a snapshot's task failed")
            finally:
                self._tasks -= 1
                self._task_ended.set()
                self._task_ended = trio.Event()

        self._tasks += 1
        self._nursery.start_soon(run)

    # --- the life of one

    async def _live(self, held: VolumeSnapshot) -> None:
        turn = self._turns[held.plan.volume]
        try:
            try:
                failure = ENDED
                if await self._wait_for_turn(held, turn):
                    failure = await self._make(held)
                    if not held.lease.post:
                        turn.release()
                held.tell(failure)
                if not failure:
                    await held.over.wait()
            finally:
                held.tell("the snapshot's task ended")
                self._held.discard(held)
            await self._put_away(held.lease, absent=held.absent)
        finally:
            if turn.statistics().owner is trio.lowlevel.current_task():
                turn.release()

    async def _wait_for_turn(self, held: VolumeSnapshot, turn: trio.Lock) -> bool:
        """A ``pre`` waits until the ``post`` of the one before has run; False = the backup ended meanwhile."""
        held.doing = f"another backup of volume {held.plan.volume}"
        with held.interruptible():
            await turn.acquire()
            return True
        self._nothing_begun(held)
        return False

    async def _make(self, held: VolumeSnapshot) -> str:
        """Lease, pre, snapshot, post. Returns why there is no snapshot, "" = all is well."""
        failure = await self._quiesce(held)
        if not failure:
            try:
                failure = await self._take(held)
            except Exception:  # whatever it is, post runs and the snapshot goes
                log.exception("snapshot failed", snapshot=held.name)
                failure = "mover failed, its log says how"
        if held.lease.post and (failure or held.lease.source is not None):
            held.doing = "the command post"
            held.lease = await self._release_volume(held.lease, held.say)
        return failure

    @staticmethod
    def _nothing_begun(held: VolumeSnapshot) -> None:
        held.lease = replace(held.lease, source=None, post=[])

    async def _quiesce(self, held: VolumeSnapshot) -> str:
        """Lease and ``pre``."""
        plan, begun = held.plan, False
        failure = ENDED
        with held.interruptible():
            try:
                await trio.to_thread.run_sync(self.leases.keep, held.lease)
            except OSError as error:
                self._nothing_begun(held)
                return f"the lease of a snapshot cannot be kept: {error.strerror}"
            failure = ""
            if plan.pre:
                held.doing = "the command pre"
                begun, failure = True, ENDED
                ended = await self._command(plan.pre, plan.timeout_s, held.say)
                failure = f"pre: {ended.text}" if ended.text else ""
                if failure and ended.status is not None:
                    begun = False  # it says itself that it did not
        if held.over.is_set():
            failure = failure or ENDED
        if failure:
            held.lease = replace(held.lease, source=None, post=held.lease.post if begun else [])
        return failure

    async def _take(self, held: VolumeSnapshot) -> str:
        """The snapshot itself: once begun it is waited for."""
        await trio.to_thread.run_sync(held.before)
        source, name = held.lease.source, held.name
        if source is None:
            return ""
        held.doing, held.taken = "the snapshot", time.time()
        reply = await self._ask(MakeSnapshot(source, name, held.plan.timeout_s), held.plan.timeout_s, held.say)
        if isinstance(reply, SnapshotMade):
            held.made = reply
            log.info("snapshot made", snapshot=name, volume=held.plan.volume, path=os.fsdecode(reply.path))
            return ""
        assert isinstance(reply, Refused), reply
        held.absent = reply.error == ErrorCode.ILLEGAL_STATE_ERR
        return reply.text

    async def _release_volume(self, lease: Lease, say: Callable[[LogLine], None]) -> Lease:
        """Run ``post``; returns the lease without it. That it fails is told, and no more can be done."""
        ended = await self._command(lease.post, lease.timeout_s, say)
        if ended.text:
            text = f"volume {lease.volume}: post: {ended.text}"
            log.error("post failed", volume=lease.volume, why=ended.text)
            say(LogLine(int(LogType.ERROR), text.encode("utf-8", "backslashreplace")))
        lease = replace(lease, post=[])
        if lease.source is not None:
            try:
                await trio.to_thread.run_sync(self.leases.keep, lease)
            except OSError as error:
                log.error("lease not kept, post may run again after a crash", lease=lease.name, error=error.strerror)
        return lease

    async def _put_away(self, lease: Lease, *, absent: bool = False) -> None:
        """Undo what the lease names; a snapshot that cannot be removed is tried again, also at the next start.

        Args:
            absent: there is no snapshot, as far as its own command says.
        """
        if lease.post:
            lease = await self._release_volume(lease, _log_line)
        pause_s = RETRY_S
        while lease.source is not None and not await self._remove(lease, lease.source, absent=absent):
            with trio.move_on_after(pause_s):
                await self._stopping.wait()
                return
            pause_s = min(2 * pause_s, RETRY_MOST_S)
        try:
            await trio.to_thread.run_sync(self.leases.drop, lease)
        except OSError as error:
            log.error("lease not removed", lease=lease.name, error=error.strerror)

    async def _remove(self, lease: Lease, source: SnapshotSource, *, absent: bool) -> bool:
        """Remove a snapshot, once; False = it may still be there."""
        reply = await self._ask(RemoveSnapshot(source, lease.name, lease.timeout_s), lease.timeout_s, _log_line)
        if isinstance(reply, Done):
            log.info("snapshot removed", snapshot=lease.name, volume=lease.volume)
            return True
        assert isinstance(reply, Refused), reply
        if not absent:
            log.error(
                "snapshot not removed, it is tried again", snapshot=lease.name, volume=lease.volume, why=reply.text
            )
        return absent

    async def _undo(self, lease: Lease) -> None:
        """What a crash has left: its ``post`` runs before the ``pre`` of a new backup of the volume does."""
        if lease.post:
            async with self._turns[lease.volume]:
                lease = await self._release_volume(lease, _log_line)
        await self._put_away(lease)

    async def _look(self, plan: config.Snapshot, source: SnapshotSource, ours: set[str]) -> None:
        """Tell of snapshots with names like ours that no lease names: of another server, or one that lost its state."""
        reply = await self._ask(FindSnapshots(source, plan.timeout_s), plan.timeout_s, _log_line)
        match reply:
            case SnapshotsFound():
                running = {held.name for held in self._held}
                if strangers := [name for name in reply.names if name not in ours | running]:
                    log.warning("snapshots that no lease names stay", volume=plan.volume, snapshots=strangers)
            case Refused():
                log.warning("snapshots cannot be listed", volume=plan.volume, why=reply.text)
            case _:
                log.error("unexpected reply of a snapshot helper", message=type(reply).__name__)

    # --- the helper

    async def _command(self, arguments: list[str], timeout_s: int, say: Callable[[LogLine], None]) -> CommandEnded:
        log.info("command", arguments=arguments)
        reply = await self._ask(RunCommand(arguments, timeout_s), timeout_s, say)
        if isinstance(reply, Refused):
            return CommandEnded(None, reply.text)
        assert isinstance(reply, CommandEnded), reply
        return reply

    @staticmethod
    async def _ask(message: ToWorker, timeout_s: int, say: Callable[[LogLine], None]) -> Reply:
        try:
            return await ask_helper(message, say, deadline_s=COMMANDS_MAX * (timeout_s + ENDING_S))
        except (OSError, WorkerDied, WorkerHung) as error:
            return Refused(ErrorCode.UNDEFINED_ERR, str(error))


def _log_line(line: LogLine) -> None:
    log.info("snapshot", text=line.text.decode("utf-8", "backslashreplace"))


def snapshot_source(plan: config.Snapshot, volume: bytes, directory: str) -> SnapshotSource | None:
    """What a snapshot of a volume is made of, for the helper; None = there is none."""
    if plan.kind == "none":
        return None
    return SnapshotSource(
        kind=plan.kind,
        volume=volume,
        directory=os.fsencode(directory if plan.kind == "lvm" else plan.directory),
        origin=plan.logical_volume or plan.dataset,
        size_bytes=plan.size or 0,
        mount_options=plan.mount_options,
    )


@asynccontextmanager
async def open_snapshots(current: config.Config) -> AsyncIterator[Snapshots]:
    """The snapshots of a node; on exit those that are left are removed, for a while."""
    async with trio.open_nursery() as nursery:
        snapshots = Snapshots(os.path.join(current.node.state_directory, DIRECTORY), nursery)
        await snapshots.take_up(current)
        try:
            yield snapshots
        finally:
            with trio.CancelScope(shield=True):
                await snapshots.finish()
            nursery.cancel_scope.cancel()
