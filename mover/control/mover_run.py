"""The tape worker's run on the data ring: from StartMover to its word that it has left the ring."""

import time
from contextlib import suppress
from typing import Final

import msgspec
import trio

from mover.control.data_connection import DataRing
from mover.control.refusal import Refusal
from mover.control.workers import Worker, WorkerDied, WorkerHung
from mover.ndmp.enums import ErrorCode, MoverHaltReason, MoverMode
from mover.ring import TapeGauge
from mover.workers.messages import Done, Refused
from mover.workers.tape_messages import MoverPosition, ReadStream, StartMover, StopMover

START_DEADLINE_S: Final = 60.0
LOOK_S: Final = 5.0  # between two looks at whether the drive comes back


class MoverRun:
    """Which tape worker has the ring now, and how to ask it.

    Attributes:
        worker: None while the ring is left.
    """

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self._left = trio.Event()
        self._left.set()

    @property
    def has_left(self) -> bool:
        """Whether nobody is in the ring, or about to be."""
        return self._left.is_set()

    async def start(self, worker: Worker, ring: DataRing, message: StartMover) -> None:
        """Put the worker to work on the ring.

        Raises:
            Refusal: it would not, is gone, or has not left an earlier ring.
        """
        if not self.has_left:
            raise Refusal(ErrorCode.ILLEGAL_STATE_ERR, "the tape worker has not left the last data connection yet")
        # Before the reply: that the worker has left again may come with it, and be heard first.
        self.worker, self._left = worker, trio.Event()
        try:
            reply = await worker.request(message, ring.control.fds, deadline_s=START_DEADLINE_S)
        except (WorkerDied, WorkerHung) as error:
            self.leave()
            raise Refusal(ErrorCode.IO_ERR, str(error)) from error
        if isinstance(reply, Refused):
            self.leave()
            raise Refusal(reply.error, reply.text)
        assert isinstance(reply, Done), reply

    async def overdue(self, ring: DataRing, mode: MoverMode, deadline_s: float) -> bool:
        """Wait until the worker has left the ring, or is in one call of its drive for longer than that.

        Returns:
            Whether it is the latter. The worker itself cannot tell: it is in a system call.
        """
        left = self._left
        while not left.is_set():
            since = _gauge(ring, mode, TapeGauge.IO_SINCE_NS)
            rest_s = deadline_s - ((time.monotonic_ns() - since) / 1e9 if since else 0)
            if rest_s <= 0:
                return True
            with trio.move_on_after(min(LOOK_S, rest_s)):
                await left.wait()
        return False

    async def read(self, offset: int, length: int) -> None:
        """Ask for a piece of the stream. Raises Refusal."""
        if self.worker is None:
            raise Refusal(ErrorCode.ILLEGAL_STATE_ERR)
        try:
            reply = await self.worker.request(ReadStream(offset=offset, length=length), deadline_s=START_DEADLINE_S)
        except (WorkerDied, WorkerHung) as error:
            raise Refusal(ErrorCode.IO_ERR, str(error)) from error
        if isinstance(reply, Refused):
            raise Refusal(reply.error, reply.text)

    async def stop(self, reason: MoverHaltReason, wait_s: float) -> None:
        """Have the worker leave, and wait a while until it has."""
        if self.worker is None:
            return
        with suppress(WorkerDied, WorkerHung):  # its listener tells of it
            await self.worker.tell(StopMover(reason=reason))
        with trio.move_on_after(wait_s):
            await self._left.wait()

    def leave(self) -> None:
        """The worker has left the ring."""
        self.worker = None
        self._left.set()


def counters_now(position: MoverPosition, ring: DataRing, mode: MoverMode) -> MoverPosition:
    """Where a running mover is: the ring's gauges are ahead of the ``position`` it started from."""

    moved = _gauge(ring, mode, TapeGauge.BYTES_MOVED)
    if moved < position.bytes_moved:
        return position  # the worker has not published yet
    return msgspec.structs.replace(
        position,
        bytes_moved=moved,
        record_num=_gauge(ring, mode, TapeGauge.RECORDS),
        bytes_left=_gauge(ring, mode, TapeGauge.BYTES_LEFT),
    )


def _gauge(ring: DataRing, mode: MoverMode, which: TapeGauge) -> int:
    return ring.control.gauge("consumer" if mode is MoverMode.READ else "producer", which)
