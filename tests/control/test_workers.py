"""Supervision: spares, requests, death and hang of real workers."""

import errno
import os
import signal
import socket
from typing import cast

import psutil
import pytest
import trio

from mover.control import workers
from mover.control.templates import ForkedProcess
from mover.control.workers import Supervisor, Worker, WorkerDied, WorkerHung, describe_exit, open_supervisor
from mover.workers.channel import rights
from mover.workers.data_messages import CheckBackup, Place, StartRecover
from mover.workers.messages import Refused
from mover.workers.relay_messages import AttachConnection
from mover.workers.tape_messages import GetDriveState


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


async def test_spares_are_made_when_the_work_of_the_one_before_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork beside it would take the processor that a DMA's reply waits for."""
    monkeypatch.setattr(workers, "BEGIN_S", float("inf"))
    with trio.fail_after(30):
        async with open_supervisor(1) as supervisor:
            await until_spares(supervisor, 3)
            worker = await supervisor.take("data")
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert len(supervisor.workers) == 3
            assert isinstance(
                await worker.request(CheckBackup("none", Place(b"/", b""), b"/", []), deadline_s=10), Refused
            )
            await until_spares(supervisor, 4)
            gone = await supervisor.take("data")
            await gone.stop()
            await until_spares(supervisor, 4)


async def test_only_control_stops_workers_and_templates() -> None:
    with trio.fail_after(20):
        async with open_supervisor(0) as supervisor:
            worker = await supervisor.take("relay")
            pids = [child.pid for child in psutil.Process().children(recursive=True)]
            assert worker.pid in pids
            assert len(pids) >= 2
            for pid in pids:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    os.kill(pid, number)
            assert isinstance(await worker.request(GetDriveState(), deadline_s=10), Refused)
            another = await supervisor.take("relay")
            assert isinstance(await another.request(GetDriveState(), deadline_s=10), Refused)


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
                await worker.request(AttachConnection(peer_timeout_s=1, watch=True), deadline_s=0.05)
            await worker.stop()
            assert worker.exit_status == -signal.SIGKILL


async def test_a_worker_that_cannot_be_killed_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose system call hangs in a dead file system: SIGKILL waits until the call returns."""
    monkeypatch.setattr(ForkedProcess, "kill", lambda self: None)
    monkeypatch.setattr("mover.control.templates.GRACE_S", 0.05)
    monkeypatch.setattr("mover.control.workers.GRACE_S", 0.05)
    monkeypatch.setattr("mover.control.workers.KILLED_S", 0.05)
    with trio.fail_after(20):
        async with open_supervisor(0) as supervisor:
            worker = await supervisor.take("relay")
            os.kill(worker.pid, signal.SIGSTOP)
            try:
                before = len(os.listdir("/proc/self/fd"))
                await worker.stop()
                assert worker.exit_status is None
                assert not worker.alive
                assert not worker.ended.is_set()  # who waits for what it had open waits on
                await worker.stop()
            finally:
                os.kill(worker.pid, signal.SIGKILL)
            await worker.ended.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert supervisor.workers == {}
            assert len(os.listdir("/proc/self/fd")) == before - 2  # its socket and its pidfd


@pytest.mark.parametrize("ticks", range(5))
async def test_a_request_that_is_cancelled_does_not_take_the_next_reply(ticks: int) -> None:
    with trio.fail_after(20):
        async with open_supervisor(0) as supervisor:
            worker = await supervisor.take("relay")

            async def ask(scope: trio.CancelScope) -> None:
                with scope:
                    await worker.request(GetDriveState(), deadline_s=10)

            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                nursery.start_soon(ask, scope)
                for _ in range(ticks):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
            assert isinstance(await worker.request(GetDriveState(), deadline_s=5), Refused)


async def test_a_template_that_died_is_replaced() -> None:
    with trio.fail_after(20):
        async with open_supervisor(0) as supervisor:
            first = await supervisor.take("relay")
            parent = psutil.Process(first.pid).parent()
            assert parent is not None
            assert "--template" in parent.cmdline()
            parent.kill()
            parent.wait(10)
            assert isinstance(await first.request(GetDriveState(), deadline_s=10), Refused)
            while True:
                try:
                    second = await supervisor.take("relay")
                    break
                except OSError:
                    await trio.sleep(0.01)  # its end has not been noticed yet
            assert isinstance(await second.request(GetDriveState(), deadline_s=10), Refused)
            await first.stop()
            assert first.exit_status is None
            await second.stop()
            assert second.exit_status == 3


async def test_a_fork_that_cannot_be_asked_for_takes_nobodys_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses to pass a descriptor, for the moment."""
    failures = [OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))]

    def pass_on(descriptors: list[int]) -> list[tuple[int, int, bytes]]:
        if failures:
            raise failures.pop()
        return rights(descriptors)

    monkeypatch.setattr("mover.control.templates.rights", pass_on)
    with trio.fail_after(20):
        async with open_supervisor(0) as supervisor:
            with pytest.raises(OSError, match="references"):
                await supervisor.take("relay")
            for _ in range(2):
                worker = await supervisor.take("relay")
                assert isinstance(await worker.request(GetDriveState(), deadline_s=10), Refused)


class EndedProcess:
    """A process of which only its socket is left."""

    pid = 1
    ended = True
    exit_status = -9
    cpu_seconds = 0.0

    async def wait(self) -> None:
        await trio.lowlevel.checkpoint()

    def kill(self) -> None:
        pass


@pytest.mark.parametrize("field", [b"\xa4text\xa1\xff", b"\xa4more" + b"\x91" * 100_000], ids=["no UTF-8", "nested"])
async def test_a_worker_that_says_nonsense_is_a_death_and_no_more(field: bytes) -> None:
    """It reads what strangers have made; what becomes of it must not reach control and the jobs of others."""
    ours, theirs = socket.socketpair()
    worker = Worker("data", cast("ForkedProcess", EndedProcess()), trio.socket.from_stdlib_socket(ours))
    body = b"\x82\xa4type\xaeConnectionLost" + field
    with trio.fail_after(20), theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.serve)
            theirs.settimeout(20)
            theirs.sendall(len(body).to_bytes(4, "big") + body)
            await worker.gone.wait()


async def test_a_conversation_that_breaks_under_a_long_request_is_a_death() -> None:
    ours, theirs = socket.socketpair()
    worker = Worker("data", cast("ForkedProcess", EndedProcess()), trio.socket.from_stdlib_socket(ours))
    with trio.fail_after(20), theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.serve)

            async def break_it() -> None:
                await trio.testing.wait_all_tasks_blocked()
                theirs.sendall(b"\xff" * 4)  # no message is as long as this says

            nursery.start_soon(break_it)
            with pytest.raises(WorkerDied):
                await worker.request(StartRecover("dump", [], [(b"A", bytes(8 << 20))], recursive=True), deadline_s=10)


async def test_a_template_holds_nothing_that_a_worker_could_inherit() -> None:
    with trio.fail_after(20):
        async with open_supervisor(0) as supervisor:
            workers = [await supervisor.take("relay") for _ in range(3)]
            for worker in workers:
                await worker.request(GetDriveState(), deadline_s=10)
                held = [os.readlink(f"/proc/{worker.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{worker.pid}/fd")]
                assert sum(name.startswith("socket:") for name in held) == 1
                assert len(held) <= 4  # and the three standard ones


def test_exit_statuses_in_words() -> None:
    assert [describe_exit(status) for status in (None, 3, -9, -200)] == [
        "status unknown",
        "exit 3",
        "signal SIGKILL",
        "signal 200",
    ]
