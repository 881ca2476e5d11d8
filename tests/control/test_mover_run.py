"""The tape worker's run on the data ring: what it says may be quicker than the reply to what it was asked."""

import time
from collections.abc import Callable, Sequence
from typing import cast

import pytest
import trio
import trio.testing

from mover.control.data_connection import DataRing
from mover.control.mover_run import LOOK_S, MoverRun
from mover.control.refusal import Refusal
from mover.control.workers import Worker
from mover.ndmp.enums import ErrorCode, MoverHaltReason, MoverMode
from mover.ring import TapeGauge
from mover.workers.messages import Done, Refused, Reply, ToWorker
from mover.workers.tape_messages import MoverPosition, StartMover, StopMover

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


class Call:
    """A data ring that shows since when a call of the drive is under way, 0 = none."""

    def __init__(self) -> None:
        self.began_ns = 0
        self.control = self

    def gauge(self, side: str, which: TapeGauge) -> int:
        assert (side, which) == ("consumer", TapeGauge.IO_SINCE_NS)
        return self.began_ns


async def test_a_call_that_does_not_come_back_is_seen(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, ring: DataRing
) -> None:
    monkeypatch.setattr(time, "monotonic_ns", lambda: int(trio.current_time() * 1e9))
    run, call = MoverRun(), Call()
    shown = cast("DataRing", call)  # what is looked at of one
    await run.start(worker(FakeWorker(Done())), ring, START)
    seen: list[tuple[bool, float]] = []

    async def watch() -> None:
        began = trio.current_time()
        seen.append((await run.overdue(shown, MoverMode.READ, 60), trio.current_time() - began))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for _ in range(30):  # calls of 50 s each, as a drive that is slow
            call.began_ns = time.monotonic_ns()
            await trio.sleep(50)
        call.began_ns = 0  # the mover waits for data
        await trio.sleep(1000)
        assert seen == []
        call.began_ns = time.monotonic_ns()
    ((overdue, at),) = seen
    assert overdue
    assert 60 <= at - 2500 <= 60 + LOOK_S


async def test_a_mover_that_leaves_is_watched_no_more(autojump_clock: trio.testing.MockClock, ring: DataRing) -> None:
    run = MoverRun()
    assert not await run.overdue(ring, MoverMode.READ, 60)
    await run.start(worker(FakeWorker(Done())), ring, START)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.overdue, ring, MoverMode.READ, 60)
        await trio.testing.wait_all_tasks_blocked()
        run.leave()
