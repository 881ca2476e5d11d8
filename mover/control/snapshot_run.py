"""A backup that reads a snapshot: its data worker begins when there is something to read.

Its request is judged before that, by a data worker that looks at the live tree; the worker that backs up sees nothing
but the snapshot.
"""

import os
import time
from typing import TYPE_CHECKING, Final

import trio
from msgspec.structs import replace

from mover import config
from mover.control.data_connection import DataRing
from mover.control.data_run import START_DEADLINE_S, DataRun, Keep, KeptFiles, Say, Start, begin_run
from mover.control.refusal import Refusal
from mover.control.snapshots import VolumeSnapshot
from mover.control.volumes import show
from mover.control.workers import Worker, WorkerDied, WorkerHung
from mover.ndmp.enums import ErrorCode, LogType
from mover.workers.data_messages import CheckBackup, DataFinished, Place, ReadSnapshot, StartBackup
from mover.workers.messages import LogLine, Refused
from mover.workers.snapshot_messages import SnapshotMade

if TYPE_CHECKING:
    from mover.control.connection import Connection

MOUNTS_NAMED: Final = 10
_NO_NEWS_S: Final = 3600.0  # where limits.heartbeat_s says never


class _Lent:
    """Files that are somebody else's to let go of."""

    def __init__(self, files: KeptFiles) -> None:
        self._files = files
        self.descriptors = files.descriptors

    def announce(self, message: Start) -> Start:
        return self._files.announce(message)

    def begin_now(self) -> None:
        self._files.begin_now()

    def commit(self, finished: DataFinished, *, tape_here: bool) -> None:
        self._files.commit(finished, tape_here=tape_here)

    def conclude(self, *, stopped: bool) -> None:
        self._files.conclude(stopped=stopped)

    def note_flush(self, *, whole: bool) -> None:
        self._files.note_flush(whole=whole)

    def discard(self, *, orderly: bool) -> None:
        """They stay as they are."""


class SnapshotRun(DataRun):
    """One backup of a volume with a [[snapshot]]."""

    def __init__(
        self, connection: "Connection", message: StartBackup, ring: DataRing, kept: KeptFiles, plan: config.Snapshot
    ) -> None:
        announced = kept.announce(message)
        super().__init__(None, announced, None, None, kept)
        self._connection = connection
        self._request = message
        self._ring = ring
        self._files = kept
        self._plan = plan
        self._held: VolumeSnapshot | None = None
        self._readying = trio.CancelScope()
        self._left: trio.Event | None = None
        self._stopped = False
        self._reads_live = False

    @property
    def snapshot(self) -> str:
        """The name of the snapshot that is made or read."""
        return self._held.name if self._held is not None and self._plan.kind != "none" and not self._reads_live else ""

    @property
    def taken(self) -> float:
        """When it was begun, in seconds since 1970."""
        return self._held.taken if self._held is not None else 0.0

    async def make_ready(self, say: Say) -> None:
        """Wait for the snapshot, then begin. Raises Refusal."""
        if self._stopped:
            return
        self._left = trio.Event()
        try:
            with self._readying:
                await self._make_ready(say)
        finally:
            self._left.set()

    async def _make_ready(self, say: Say) -> None:
        plan, request = self._plan, self._request
        snapshots = self._connection.node.snapshots
        assert snapshots is not None, "only a node that makes snapshots has come here"
        held = self._held = snapshots.begin(plan, request.root.volume, self._files.begin_now)
        await self._wait(held, say)
        failure, made = held.failure, held.made
        if not failure and made is not None:
            failure = _outside(request.root.path, made.mounted)
        if not failure:
            try:
                if made is None:
                    await self._begin(request)
                    return
                await say(_line(LogType.NORMAL, f"snapshot {held.name} of volume {plan.volume} is read"))
                await self._say_mounts(made, say)
                await self._begin(_in_snapshot(request, plan.kind, made))
            except Refusal as refusal:
                failure = str(refusal)
            else:
                return
        what = "no snapshot" if plan.kind != "none" else "not made ready"
        text = f"volume {plan.volume}: {what}: {failure}"
        if plan.on_failure == "fail":
            raise Refusal(ErrorCode.UNDEFINED_ERR, text)
        self._reads_live = True
        held.release()
        await say(_line(LogType.WARNING, f"{text}: the backup goes on with the live files"))
        await trio.to_thread.run_sync(self._files.begin_now)
        await self._begin(request)

    async def _wait(self, held: VolumeSnapshot, say: Say) -> None:
        """Until it is there or will not be; meanwhile the DMA hears of it."""
        began = time.monotonic()
        period_s = self._connection.config.limits.heartbeat_s or _NO_NEWS_S
        while True:
            line: LogLine | None = None
            try:
                with trio.move_on_after(period_s):
                    line = await held.lines.receive()
            except trio.EndOfChannel:
                return
            if line is None:
                text = f"waiting for {held.doing or 'the snapshot'}, {time.monotonic() - began:.0f} s so far"
                line = _line(LogType.NORMAL, text)
            await say(line)

    async def _begin(self, message: StartBackup) -> None:
        run = await begin_run(self._connection, message, self._ring, lambda: _Lent(self._files))
        self.worker, self.message, self.history, self._pump = run.worker, run.message, run.history, run._pump

    async def _say_mounts(self, made: SnapshotMade, say: Say) -> None:
        path = self._request.root.path
        inside = [each for each in made.mounted if not path or each.startswith(path + b"/")]
        if inside:
            named = ", ".join(show(each) for each in inside[:MOUNTS_NAMED])
            more = f" and {len(inside) - MOUNTS_NAMED} more" if len(inside) > MOUNTS_NAMED else ""
            text = f"other file systems are not in the snapshot and not backed up: {named}{more}"
            await say(_line(LogType.WARNING, text))

    async def stop(self) -> None:
        """Give everything back; the snapshot goes away by itself. Shielded."""
        self._stopped = True
        self._readying.cancel()
        with trio.CancelScope(shield=True):
            if self._left is not None:
                await self._left.wait()
            self.drop_history()
            await super().stop()
            if self._held is not None:
                self._held.release()


def _line(log_type: LogType, text: str) -> LogLine:
    return LogLine(int(log_type), text.encode("utf-8", "surrogateescape"))


def _outside(path: bytes, mounted: list[bytes]) -> str:
    """Why what is backed up is not in a snapshot of its volume; "" = it is."""
    for each in mounted:
        if path == each or path.startswith(each + b"/"):
            return f"{show(each)} is another file system than the volume's: it takes a volume of its own"
    return ""


def _in_snapshot(message: StartBackup, kind: str, made: SnapshotMade) -> StartBackup:
    """The same backup, of the tree as it is in the snapshot."""
    path, hidden = message.root.path, made.hidden
    if path:
        hidden = hidden[len(path) + 1 :] if hidden.startswith(path + b"/") else b""
    snapshot = ReadSnapshot(kind=kind, of=message.root, device=made.device, inode=made.inode, hidden=hidden)
    return replace(message, root=Place(made.path, path), snapshot=snapshot)


def snapshot_plan(connection: "Connection", message: Start) -> config.Snapshot | None:
    """What the configuration says of snapshots of a backup's volume; None = nothing, or it is no backup."""
    if not isinstance(message, StartBackup) or connection.node.snapshots is None:
        return None
    volumes = connection.config.node.volumes
    for plan in connection.config.snapshot:
        if os.fsencode(volumes[plan.volume]) == message.root.volume:
            return plan
    return None


async def begin_snapshot_run(
    connection: "Connection", message: Start, ring: DataRing, keep: Keep | None, plan: config.Snapshot
) -> DataRun:
    """Have the request judged; what is to be waited for comes with ``make_ready``.

    Raises:
        Refusal: it cannot be done, and nothing is held.
    """
    assert isinstance(message, StartBackup)
    assert keep is not None
    await _check(connection, message)
    kept = await trio.to_thread.run_sync(keep)
    return SnapshotRun(connection, message, ring, kept, plan)


async def _check(connection: "Connection", message: StartBackup) -> None:
    request = CheckBackup(message.butype, message.root, message.filesystem, message.env)
    worker: Worker | None = None
    try:
        worker = await connection.node.supervisor.take("data")
        reply = await worker.request(request, deadline_s=START_DEADLINE_S)
    except (OSError, WorkerDied, WorkerHung) as error:
        raise Refusal(ErrorCode.UNDEFINED_ERR, str(error)) from error
    except ValueError as error:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, str(error)) from error
    finally:
        if worker is not None:
            await worker.stop()
    if isinstance(reply, Refused):
        raise Refusal(reply.error, reply.text)
