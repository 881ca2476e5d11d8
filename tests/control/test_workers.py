"""Supervision: spares, requests, death and hang of real workers."""

import os
import signal

import pytest
import trio

from mover.control.workers import Supervisor, WorkerDied, WorkerHung, describe_exit, open_supervisor
from mover.workers.messages import AttachConnection, GetDriveState, Refused


async def until_spares(supervisor: Supervisor, count: int) -> None:
    while len(supervisor.workers) < count:  # noqa: ASYNC110 - a spare that appears is no event of anybody's
        await trio.sleep(0.01)


async def test_a_worker_answers_and_is_reaped() -> None:
    with trio.fail_after(20):
        async with open_supervisor(0) as supervisor:
            worker = await supervisor.take("relay")
            assert isinstance(await worker.request(GetDriveState(), deadline_s=10), Refused)
            await worker.stop()
            assert worker.exit_status == 3
            assert supervisor.workers == {}
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


async def test_spares_are_kept_and_all_are_gone_at_the_end() -> None:
    with trio.fail_after(30):
        async with open_supervisor(1) as supervisor:
            await until_spares(supervisor, 3)
            first = await supervisor.take("relay")
            await until_spares(supervisor, 4)
            os.kill(first.pid, signal.SIGKILL)
            await first.gone.wait()
            assert first.exit_status == -signal.SIGKILL
            pids = list(supervisor.workers)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_killed_worker_fails_its_request_and_ends_its_events() -> None:
    with trio.fail_after(20):
        async with open_supervisor(0) as supervisor:
            worker = await supervisor.take("relay")
            os.kill(worker.pid, signal.SIGSTOP)

            async def kill_when_asked() -> None:
                await trio.testing.wait_all_tasks_blocked()
                worker.kill()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill_when_asked)
                with pytest.raises(WorkerDied) as caught:
                    await worker.request(GetDriveState(), deadline_s=10)
            assert "SIGKILL" in str(caught.value)
            assert [event async for event in worker.events] == []


async def test_a_hung_worker_is_found_by_its_deadline() -> None:
    with trio.fail_after(20):
        async with open_supervisor(0) as supervisor:
            worker = await supervisor.take("relay")
            os.kill(worker.pid, signal.SIGSTOP)
            with pytest.raises(WorkerHung, match="AttachConnection within 0"):
                await worker.request(AttachConnection(peer_timeout_s=1), deadline_s=0.05)
            await worker.stop()
            assert worker.exit_status == -signal.SIGKILL


def test_exit_statuses_in_words() -> None:
    assert [describe_exit(status) for status in (None, 3, -9, -200)] == [
        "still ending",
        "exit 3",
        "signal SIGKILL",
        "signal 200",
    ]
