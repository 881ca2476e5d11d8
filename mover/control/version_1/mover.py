"""The mover that a connection of version 1 has without knowing: control sets it up, continues it and lets it go.

It follows version 4's rules. What it would post goes to the data operation, which is all that the DMA sees.
Source: NDMPv1 sections 2.3, 3.5.2 and 3.5.3.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from mover.control.data_connection import PeerEnd
from mover.control.local import join_local
from mover.control.mover_service import LEAVE_S, TELL_S, MoverService
from mover.ndmp.enums import UNBOUNDED, LogType, MoverHaltReason, MoverMode, MoverPauseReason, MoverState
from mover.ndmp.states import MoverInput
from mover.workers.tape_messages import MoverPaused

READ_MAX: Final = (1 << 63) - 1
"""Longest read of the stream that is asked for: far past any end, and yet not "to the end of the stream", after which a
tape worker waits at a filemark for the word that nothing more is wanted. Here control knows that by itself."""
_TELLING: Final = (MoverHaltReason.MEDIA_ERROR, MoverHaltReason.INTERNAL_ERROR)


class OwnMover(MoverService):
    """Moves the stream between the data operation and the open drive.

    Attributes:
        on_pause: told why it paused, with a text for people; the data operation's, set by that.
    """

    on_pause: Callable[[MoverPauseReason, str], Awaitable[None]]

    async def join(
        self, mode: MoverMode, record_size: int, start: Callable[[], None], begin: Callable[[], Awaitable[None]]
    ) -> None:
        """START: ``begin`` the data operation, put the tape worker to work, ``start`` both machines.

        Raises:
            Refusal: a worker would not; nothing has changed.
        """
        connection = self._connection
        self.record_size = record_size
        connection.machines.apply_mover(MoverInput.LISTEN, local=True)
        self.machine.mode = mode
        joined = False
        try:
            await join_local(connection, mode, start, begin)
            joined = True
        finally:
            if not joined:
                self.machine.apply(MoverInput.ABORT)
                self.stop()

    async def resume(self, go_on: Callable[[], None]) -> None:
        """CONTINUE: the same worker or, after a change of drives, another one takes up the ring; ``go_on`` moves DATA.

        What a recover reads next stands, so the DMA says by CONTINUE, in front of the tape as it stands now.

        Raises:
            Refusal: no worker takes it; it stays paused.
        """
        offset = self.position.read_offset
        if self.machine.mode is MoverMode.WRITE:
            self.set_window(offset, UNBOUNDED - offset)
        async with self.changing():
            self.machine.audit(MoverInput.CONTINUE)
            await self.start(self.machine.mode)
            self.machine.apply(MoverInput.CONTINUE)
            self.has_moved()
            go_on()

    async def settle(self, *, orderly: bool, text: str) -> None:
        """The operation is about to end: have the tape left alone before the DMA hears of it.

        Args:
            orderly: the operation has all it wants.
            text: why it ends otherwise.
        """
        end = self.connection_end
        if end is not None:
            await end.conclude_end(PeerEnd(orderly=orderly, closed=orderly, text=text))
        await self._run.stop(MoverHaltReason.ABORTED, LEAVE_S)

    async def last_word(self) -> None:
        """The stream broke: wait a moment for the tape worker's word why, which may be behind the data worker's."""
        with trio.move_on_after(TELL_S):
            while self.machine.state is MoverState.ACTIVE:
                await self._moved.wait()

    async def read(self, offset: int, length: int) -> None:
        """What the data worker wants. Raises Refusal."""
        await super().read(offset, min(length, READ_MAX))

    def stop(self) -> None:
        """Back to IDLE; nothing to do for one that was never started."""
        if self.machine.can(MoverInput.STOP):
            super().stop()

    async def _tell_pause(self, event: MoverPaused) -> None:
        # In a task of its own: the tape's next word, and a CONTINUE, must not wait for what the operation wants.
        self._connection.nursery.start_soon(self.on_pause, self.machine.pause_reason, event.text)

    async def _tell_halt(self, reason: MoverHaltReason, text: str) -> None:
        if text and reason in _TELLING:
            await self._connection.outbox.log_message(LogType.ERROR, f"tape: {text}")
