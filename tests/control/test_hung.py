"""Devices that hang, with workers and answers of the test's own: who gets one, and when."""

from collections.abc import Awaitable, Callable
from typing import cast

import pytest
import trio
import trio.testing

from mover import scsi
from mover.control import hung
from mover.control.device_port import DeviceHungError
from mover.control.hung import HungDevices, describe_hung
from mover.control.refusal import Refusal
from mover.control.workers import Supervisor, Worker
from mover.ndmp.enums import ErrorCode
from mover.workers.device_messages import DeviceSpec


class FakeWorker:
    """Killed, and ending when the test says so."""

    def __init__(self) -> None:
        self.ended = trio.Event()


class FakeSupervisor:
    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def look_after(self, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        self._nursery.start_soon(task, *arguments)


class Device:
    """A real device, or with no way for commands an emulated one."""

    name = "lto0"

    def __init__(self, *, real: bool = True) -> None:
        self.hung_since: float | None = None
        self._real = real

    def device(self) -> DeviceSpec | None:
        return DeviceSpec("lto0", "/dev/sg3") if self._real else None

    def is_hung(self) -> bool:
        return self.hung_since is not None


class Port:
    """Gives the answers of the test in turn."""

    answers: list[Exception | None] = []
    asked = 0

    def __init__(self, *_: object) -> None:
        pass

    async def execute(self, cdb: bytes, *, data_in: int) -> scsi.Answer:
        await trio.lowlevel.checkpoint()
        Port.asked += 1
        answer = Port.answers.pop(0)
        if answer is not None:
            raise answer
        return scsi.Answer()

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.fixture(autouse=True)
def port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hung, "DevicePort", Port)
    Port.answers, Port.asked = [], 0


def worker() -> Worker:
    return cast("Worker", FakeWorker())  # what is looked at of one


async def test_busy_until_its_worker_has_ended(autojump_clock: trio.testing.MockClock) -> None:
    """Also a virtual drive, whose worker sits in a system call that no signal interrupts."""
    device, killed = Device(real=False), worker()
    async with trio.open_nursery() as nursery:
        devices = HungDevices(cast("Supervisor", FakeSupervisor(nursery)))
        devices.note(device, killed, "CloseDrive was not answered")
        assert device.is_hung()
        assert describe_hung(device).startswith("lto0 has not answered since 20")
        await devices.wait(device, 5)
        assert device.is_hung()
        killed.ended.set()
        await devices.wait(device, 5)
        assert not device.is_hung()
    assert Port.asked == 0


async def test_a_real_device_is_asked_until_it_answers(autojump_clock: trio.testing.MockClock) -> None:
    device, killed, probing = Device(), worker(), worker()
    Port.answers = [Refusal(ErrorCode.IO_ERR, "no connection"), DeviceHungError(probing, "no answer"), None]
    async with trio.open_nursery() as nursery:
        devices = HungDevices(cast("Supervisor", FakeSupervisor(nursery)))
        devices.note(device, killed, "REWIND was not answered")
        since = device.hung_since
        devices.note(device, killed, "again")  # known already
        assert device.hung_since == since
        await trio.sleep(100)
        assert Port.asked == 0  # its worker has it still
        killed.ended.set()
        await trio.sleep(100)
        assert (Port.asked, device.hung_since) == (2, since)  # the question itself hangs in a worker
        probing.ended.set()
        await devices.wait(device, 100)
        assert (Port.asked, device.is_hung()) == (3, False)


async def test_nobody_waits_for_a_device_that_is_well(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        before = trio.current_time()
        await HungDevices(cast("Supervisor", FakeSupervisor(nursery))).wait(Device())
        assert trio.current_time() == before
