"""What one data operation holds while it runs: a data worker, and the history ring with its pump."""

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from mover.control.data_connection import DataRing
from mover.control.refusal import Refusal
from mover.control.rings import HistoryPump, make_history_ring
from mover.control.workers import Worker, WorkerDied, WorkerHung
from mover.ndmp.enums import ErrorCode
from mover.ring import RingControl, RingStatistics, Verdict
from mover.workers.data_messages import DataFinished, StartBackup, StartRecover, StartRecoverFilehist
from mover.workers.messages import Done, LogLine, Refused

if TYPE_CHECKING:
    from mover.control.connection import Connection

START_DEADLINE_S: Final = 60.0
Start = StartBackup | StartRecover | StartRecoverFilehist
Say = Callable[[LogLine], Awaitable[None]]
"""Takes a line for the DMA and the log."""


class KeptFiles(Protocol):
    """Files of what an operation leaves for later ones; ``discard`` follows in every case.

    Attributes:
        descriptors: for the worker, behind those of the rings.
    """

    descriptors: list[int]

    def announce(self, message: Start) -> Start:
        """The request as the worker is to get it with these descriptors."""
        ...

    def begin_now(self) -> None:
        """Nothing has been looked at before this moment. Blocks."""
        ...

    def commit(self, finished: DataFinished, *, tape_here: bool) -> None:
        """The operation has ended well. Blocks. Raises OSError.

        Args:
            tape_here: what it wrote went to a drive of this server.
        """
        ...

    def conclude(self, *, stopped: bool) -> None:
        """The DMA has ended the halted operation by its STOP, or has gone without. Blocks. Raises OSError."""
        ...

    def note_flush(self, *, whole: bool) -> None:
        """The cartridge that a backup went to is on disk, or never will be. Blocks. Raises OSError."""
        ...

    def discard(self, *, orderly: bool) -> None:
        """Let go of them; what was not committed is as if it had never been. Blocks.

        Args:
            orderly: the operation has ended well, and its stream has gone the way of its mover.
        """
        ...


Keep = Callable[[], KeptFiles]
"""Opens the files. Blocks. Raises Refusal."""


class DataRun:
    """One operation of a data worker.

    Attributes:
        worker: who does it; None = a snapshot is waited for, see :meth:`make_ready`.
        history: the file history's ring; None = no history is wanted.
        message: the request as the worker has accepted it.
    """

    def __init__(
        self,
        worker: Worker | None,
        message: Start,
        history: RingControl | None,
        pump: HistoryPump | None,
        kept: KeptFiles | None,
    ) -> None:
        self.worker = worker
        self.message = message
        self.history = history
        self._pump = pump
        self._kept = kept
        self._watching = trio.CancelScope()

    def watch(self, nursery: trio.Nursery, watch: Callable[[], Awaitable[None]]) -> None:
        """Run this beside the operation, as long as that has its worker."""

        async def run() -> None:
            with self._watching:
                await watch()

        nursery.start_soon(run)

    @property
    def snapshot(self) -> str:
        """The name of the snapshot that is made or read; "" = none."""
        return ""

    @property
    def taken(self) -> float:
        """When the snapshot was begun, in seconds since 1970."""
        return 0.0

    async def make_ready(self, say: Say) -> None:
        """Wait until there is a worker. Raises Refusal: there will be none."""

    def history_statistics(self) -> RingStatistics | None:
        """The history ring's counters."""
        return self.history.statistics() if self.history is not None else None

    def pass_history_on(self, nursery: trio.Nursery) -> None:
        """Begin to send what comes through the history ring."""
        if self._pump is not None:
            self._pump.start(nursery)

    async def history_sent(self) -> None:
        """The worker has said its last word: wait until all history has gone out."""
        if self._pump is not None:
            self._pump.finish()
            await self._pump.done.wait()

    async def keep(self, finished: DataFinished, *, tape_here: bool) -> None:
        """The operation has ended well, and what it leaves for later ones is to last.

        Raises:
            OSError: it will not.
        """
        if self._kept is not None:
            await trio.to_thread.run_sync(partial(self._kept.commit, finished, tape_here=tape_here))

    async def conclude(self, *, stopped: bool) -> None:
        """The DMA has ended the operation by its STOP, or has gone without; shielded. Raises OSError."""
        if self._kept is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(self._kept.conclude, stopped=stopped))

    async def note_flush(self, *, whole: bool) -> None:
        """The cartridge that a backup went to is on disk, or never will be; shielded. Raises OSError."""
        if self._kept is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(self._kept.note_flush, whole=whole))

    def break_off(self) -> None:
        """The history ring ends now."""
        if self.history is not None:
            self.history.conclude(Verdict.BROKEN)

    def drop_history(self) -> None:
        """Nobody reads what is in the history ring."""
        if self._pump is not None:
            self._pump.close()

    async def give_back(self, *, orderly: bool) -> None:
        """Worker, history ring and files; shielded. ``orderly``: the operation has ended well."""
        await self.stop()
        await self.settle(orderly=orderly)

    async def stop(self) -> None:
        """Give worker and history ring back; shielded."""
        self._watching.cancel()
        with trio.CancelScope(shield=True):
            self.break_off()
            if self.worker is not None:
                await self.worker.stop()
            if self.history is not None:
                self.history.close()

    async def settle(self, *, orderly: bool) -> None:
        """Let go of the files; shielded. ``orderly``: the operation has ended well, and its stream is on the tape."""
        if self._kept is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(self._kept.discard, orderly=orderly))


async def begin_run(connection: "Connection", message: Start, ring: DataRing, keep: Keep | None) -> DataRun:
    """Take a data worker and have it accept the operation.

    Args:
        keep: opens the files of what the operation leaves for later ones; None = it leaves nothing.

    Raises:
        Refusal: it would not, and nothing is held.
    """
    history: RingControl | None = None
    pump: HistoryPump | None = None
    worker: Worker | None = None
    kept: KeptFiles | None = None
    accepted = False
    rings: list[int] = []
    try:
        rings += ring.control.duplicate()  # the ring may be closed while this waits, and its numbers be other files'
        if keep is not None:
            kept = await trio.to_thread.run_sync(keep)
            message = kept.announce(message)
        if _wants_history(message):
            history = make_history_ring()
            connection.node.statistics.ledger.add_ring("history", connection.session_id, history)
            pump = HistoryPump(history, connection.outbox.send_history)
        worker = await connection.node.supervisor.take("data")
        descriptors = [*rings, *(history.fds if history is not None else ())]
        descriptors += kept.descriptors if kept is not None else ()
        reply = await worker.request(message, descriptors, deadline_s=START_DEADLINE_S)
        if isinstance(reply, Refused):
            raise Refusal(reply.error, reply.text)
        assert isinstance(reply, Done), reply
        accepted = True
        return DataRun(worker, message, history, pump, kept)
    except (OSError, WorkerDied, WorkerHung) as error:
        raise Refusal(ErrorCode.UNDEFINED_ERR, str(error)) from error
    except ValueError as error:  # its names, each beside its destination, do not fit into a worker message
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, str(error)) from error
    finally:
        for fd in rings:
            os.close(fd)
        if not accepted:
            with trio.CancelScope(shield=True):
                if worker is not None:
                    await worker.stop()
                if pump is not None:
                    pump.close()
                if history is not None:
                    history.close()
                if kept is not None:
                    await trio.to_thread.run_sync(partial(kept.discard, orderly=False))


def _wants_history(message: Start) -> bool:
    return not isinstance(message, StartRecover) and message.history is not None
