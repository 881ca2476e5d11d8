"""The tape worker's run on the data ring: what it says may be quicker than the reply to what it was asked."""

from collections.abc import Callable, Sequence
from typing import cast

import pytest
import trio

from mover.control.data_connection import DataRing
from mover.control.mover_run import MoverRun
from mover.control.refusal import Refusal
from mover.control.workers import Worker
from mover.ndmp.enums import ErrorCode, MoverHaltReason
from mover.workers.messages import Done, MoverPosition, Refused, Reply, StartMover, StopMover, ToWorker

START = StartMover(
    mode=0,
    record_size=1024,
    window_offset=0,
    window_length=1024,
    window_is_new=True,
    position=MoverPosition(),
    version=4,
)


class FakeWorker:
    """Answers every request, after it has done something."""

    def __init__(self, reply: Reply, before: Callable[[], None] = lambda: None) -> None:
        self.told: list[ToWorker] = []
        self._reply = reply
        self._before = before

    async def request(self, message: ToWorker, descriptors: Sequence[int] = (), *, deadline_s: float) -> Reply:
        self._before()
        await trio.lowlevel.checkpoint()
        return self._reply

    async def tell(self, message: ToWorker) -> None:
        self.told.append(message)


def worker(fake: FakeWorker) -> Worker:
    return cast("Worker", fake)  # what MoverRun uses of one


@pytest.fixture
def ring() -> DataRing:
    return DataRing(1 << 20, 1024)


async def test_a_mover_that_left_before_its_start_was_known_has_left(ring: DataRing) -> None:
    """The reply and the pause behind it come in one piece, and who waits for the pause may run first."""
    run = MoverRun()
    quick = worker(FakeWorker(Done(), run.leave))
    await run.start(quick, ring, START)
    assert (run.worker, run.has_left) == (None, True)
    slow = worker(FakeWorker(Done()))
    await run.start(slow, ring, START)
    assert (run.worker, run.has_left) == (slow, False)


async def test_a_start_that_is_refused_leaves_nobody_in_the_ring(ring: DataRing) -> None:
    run = MoverRun()
    refusing = worker(FakeWorker(Refused(int(ErrorCode.IO_ERR), "no")))
    with pytest.raises(Refusal):
        await run.start(refusing, ring, START)
    assert (run.worker, run.has_left) == (None, True)


async def test_a_mover_that_has_not_left_is_not_started_again(ring: DataRing) -> None:
    run = MoverRun()
    fake = FakeWorker(Done())
    await run.start(worker(fake), ring, START)
    await run.stop(MoverHaltReason.ABORTED, 0.0)
    assert fake.told == [StopMover(reason=MoverHaltReason.ABORTED)]
    with pytest.raises(Refusal) as caught:
        await run.start(worker(fake), ring, START)
    assert caught.value.error == ErrorCode.ILLEGAL_STATE_ERR
    assert not run.has_left
    run.leave()
    await run.start(worker(fake), ring, START)
