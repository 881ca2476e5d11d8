"""The sampler of a node: what it remembers is let go with its row, and a look that fails costs nobody anything."""

import os
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from mover.admin.messages import Failed
from mover.admin.statistics import StatisticsReply, StatisticsShow
from mover.control.statistics import OFF, Statistics
from mover.ring import Consumer, Producer, RingControl

if TYPE_CHECKING:
    from mover.control.node import Node
    from mover.control.workers import Worker


class FakeWorker:
    kind = "data"
    cpu_seconds = 0.0
    exit_status: int | None = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.gone = trio.Event()


class Supervisor:
    """One worker, which is this very process' parent: somebody who lives."""

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}

    def processes(self) -> dict[int, str]:
        return dict.fromkeys(self.workers, "data")

    def add(self, pid: int) -> "Worker":
        worker = cast("Worker", FakeWorker(pid))
        self.workers[pid] = worker
        return worker


class Scene:
    def __init__(self, interval_s: int = 1) -> None:
        self.supervisor = Supervisor()
        node = SimpleNamespace(
            config=SimpleNamespace(node=SimpleNamespace(statistics_interval_s=interval_s, name="node")),
            supervisor=self.supervisor,
            connections={},
            devices=[],
        )
        self.statistics = Statistics(cast("Node", node))

    async def show(self) -> StatisticsReply:
        reply = await self.statistics.show(StatisticsShow(history=True))
        assert isinstance(reply, StatisticsReply)
        return reply


async def test_what_is_remembered_of_a_ring_goes_with_it() -> None:
    scene = Scene()
    ring = RingControl(4096, 4)
    scene.statistics.ledger.add_ring("data", 7, ring)
    with Producer(ring.duplicate()) as producer, Consumer(ring.duplicate()) as consumer:
        producer.reserve()
        producer.commit(100)
        consumer.peek().view.release()
        consumer.release()
        producer.reserve()
        producer.commit(50)
        await scene.statistics.sample()
        await scene.statistics.sample()
        (row,) = (await scene.show()).rings
    assert (row.name, row.bytes_in, row.bytes_out, row.fill_ratio) == ("data-7", 150, 100, 0.25)
    assert row.fill_history == [0.25, 0.25]
    ring.close()
    assert (await scene.show()).rings == []
    await scene.statistics.sample()
    assert [kind for kind, _ in scene.statistics.tracks] == ["process"]


async def test_a_worker_that_ends_leaves_what_it_has_used() -> None:
    scene = Scene()
    worker = scene.supervisor.add(os.getppid())
    await scene.statistics.sample()
    reply = await scene.show()
    (row,) = [each for each in reply.processes if each.kind == "data"]
    assert reply.totals.worker_cpu_seconds["data"] == row.cpu_seconds
    del scene.supervisor.workers[worker.pid]
    worker.gone.set()
    worker.exit_status = -signal.SIGKILL  # and its template could not tell what it used
    scene.statistics.end_worker(worker)
    reply = await scene.show()
    assert reply.totals.worker_cpu_seconds["data"] >= row.cpu_seconds
    assert reply.totals.worker_exits == {"data/signal SIGKILL": 1}
    assert [each.kind for each in reply.processes] == ["control"]
    await scene.statistics.sample()
    assert [name[0] for kind, name in scene.statistics.tracks if kind == "process" and isinstance(name, tuple)] == [
        os.getpid()
    ]


async def test_a_sample_that_fails_is_told_once(autojump_clock: trio.testing.MockClock) -> None:
    scene = Scene()

    def fail(*, resting: bool) -> None:
        raise ValueError("what nobody thought of")

    scene.statistics.sample = fail  # type: ignore[method-assign,assignment]  # any failure will do
    with capture_logs() as logs, trio.move_on_after(5):
        await scene.statistics.run()
    assert [each["event"] for each in logs] == ["no sample for statistics"]


async def test_off() -> None:
    scene = Scene(interval_s=0)
    with trio.fail_after(30):
        await scene.statistics.run()
    assert await scene.statistics.show(StatisticsShow()) == Failed("refused", OFF)


@pytest.mark.parametrize("history", [True, False])
async def test_a_look_between_samples_is_none(history: bool, mock_clock: trio.testing.MockClock) -> None:
    """Who looks ten times a second does not push the last minute out."""
    scene = Scene()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.statistics.run)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(0.5)
        for _ in range(200):
            scene.statistics.ledger.totals({}, [])
            await scene.statistics.show(StatisticsShow(history))
        assert scene.statistics.tracks == {}
        nursery.cancel_scope.cancel()


async def test_looks_that_are_asked_for_are_the_samples(mock_clock: trio.testing.MockClock) -> None:
    scene = Scene()
    ring = RingControl(4096, 4)
    scene.statistics.ledger.add_ring("data", 7, ring)
    sample, (taken, samples) = scene.statistics.sample, trio.open_memory_channel[None](10)

    async def tell(*, resting: bool) -> None:
        await sample(resting=resting)
        taken.send_nowait(None)

    async def history() -> list[float]:
        (row,) = (await scene.show()).rings
        return row.fill_history

    scene.statistics.sample = tell  # type: ignore[method-assign,assignment]  # the same, which is seen
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.statistics.run)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1)
        await samples.receive()  # nobody has asked yet
        mock_clock.jump(0.25)
        assert len(await history()) == 1
        for second in range(2, 6):
            mock_clock.jump(1)
            assert len(await history()) == second
        mock_clock.jump(1.25)
        await trio.testing.wait_all_tasks_blocked()
        assert samples.statistics().current_buffer_used == 0
        mock_clock.jump(0.25)
        await samples.receive()  # who asked is gone
        mock_clock.jump(1)
        await samples.receive()
        assert len(await history()) == 7
        nursery.cancel_scope.cancel()
    ring.close()
