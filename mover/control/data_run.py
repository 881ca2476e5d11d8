"""What one data operation holds while it runs: a data worker, and the history ring with its pump."""

from typing import TYPE_CHECKING, Final

import trio

from mover.control.data_connection import DataRing
from mover.control.refusal import Refusal
from mover.control.rings import HistoryPump, make_history_ring
from mover.control.workers import Worker, WorkerDied, WorkerHung
from mover.ndmp.enums import ErrorCode
from mover.ring import RingControl, RingStatistics, Verdict
from mover.workers.messages import Done, Refused, StartBackup, StartRecover, StartRecoverFilehist

if TYPE_CHECKING:
    from mover.control.connection import Connection

START_DEADLINE_S: Final = 60.0
Start = StartBackup | StartRecover | StartRecoverFilehist


class DataRun:
    """One operation of a data worker.

    Attributes:
        worker: who does it.
        history: the file history's ring; None = no history is wanted.
    """

    def __init__(self, worker: Worker, history: RingControl | None, pump: HistoryPump | None) -> None:
        self.worker = worker
        self.history = history
        self._pump = pump

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

    def break_off(self) -> None:
        """The history ring ends now."""
        if self.history is not None:
            self.history.conclude(Verdict.BROKEN)

    def drop_history(self) -> None:
        """Nobody reads what is in the history ring."""
        if self._pump is not None:
            self._pump.close()

    async def give_back(self) -> None:
        """Worker and history ring; shielded."""
        with trio.CancelScope(shield=True):
            self.break_off()
            await self.worker.stop()
            if self.history is not None:
                self.history.close()


async def begin_run(connection: "Connection", message: Start, ring: DataRing) -> DataRun:
    """Take a data worker and have it accept the operation.

    Raises:
        Refusal: it would not, and nothing is held.
    """
    history: RingControl | None = None
    pump: HistoryPump | None = None
    worker: Worker | None = None
    accepted = False
    try:
        if _wants_history(message):
            history = make_history_ring()
            pump = HistoryPump(history, connection.outbox.send_history)
        worker = await connection.node.supervisor.take("data")
        descriptors = [*ring.control.fds, *(history.fds if history is not None else ())]
        reply = await worker.request(message, descriptors, deadline_s=START_DEADLINE_S)
        if isinstance(reply, Refused):
            raise Refusal(reply.error, reply.text)
        assert isinstance(reply, Done), reply
        accepted = True
        return DataRun(worker, history, pump)
    except (OSError, WorkerDied, WorkerHung) as error:
        raise Refusal(ErrorCode.UNDEFINED_ERR, str(error)) from error
    except ValueError as error:  # its names, each beside its destination, do not fit into a worker message
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, str(error)) from error
    finally:
        if not accepted:
            with trio.CancelScope(shield=True):
                if worker is not None:
                    await worker.stop()
                if pump is not None:
                    pump.close()
                if history is not None:
                    history.close()


def _wants_history(message: Start) -> bool:
    return not isinstance(message, StartRecover) and message.history is not None
