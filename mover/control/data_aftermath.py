"""Behind the end of a data operation: worker and data connection go back, and what it keeps for later ones is settled.

A backup counts as a base of others when the DMA has ended it by its STOP and the tape that it lies on is flushed.
"""

from typing import TYPE_CHECKING, Final

import trio

from mover.control.data_connection import DataConnection, Delivery, PeerEnd
from mover.control.data_run import DataRun
from mover.control.local import tell_other_end

if TYPE_CHECKING:
    from mover.control.connection import Connection

DISMISS_S: Final = 0.1
UNFLUSHED_MAX: Final = 100  # a DMA that makes more backups without a filemark finds the first ones unflushed


class Aftermath:
    """What is left of a connection's operations that have halted."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._halted: DataRun | None = None  # the last one, until the DMA has ended it
        self._unflushed: list[tuple[DataRun, Delivery | None]] = []  # backups behind which the tape was not flushed

    def halted(self, run: DataRun | None) -> None:
        """The operation has halted; None: it had not got a run."""
        self._halted = run

    def lies_on_tape(self, run: DataRun, delivery: Delivery | None) -> None:
        """A backup ended well whose stream the tape of this connection has."""
        self._unflushed = [*self._unflushed[-UNFLUSHED_MAX:], (run, delivery)]

    async def conclude(self, *, stopped: bool) -> None:
        """The last operation is over: what it leaves for later ones may count if the DMA has ended it by its STOP.

        Raises:
            OSError: that could not be written down.
        """
        run, self._halted = self._halted, None
        if run is not None:
            await run.conclude(stopped=stopped)

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

    async def dismiss(self, end: DataConnection, text: str) -> None:
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
    async def give_back(run: DataRun | None, end: DataConnection | None, orderly: bool) -> None:
        """Let go of worker and data connection; what the run keeps for later ones counts if all of it went well."""
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
