"""Who the real devices say they are, with answers of the test's own: who is asked, and how long a list waits."""

from collections.abc import Awaitable, Callable
from typing import Any, cast  # Any: a stand-in for devices of both kinds

import pytest
import trio
import trio.testing

from mover import scsi
from mover.control import identities
from mover.control.hung import HungDevices
from mover.control.identities import AGAIN_S, ANSWER_S, Identities
from mover.control.refusal import Refusal
from mover.control.workers import Supervisor
from mover.ndmp.enums import ErrorCode

INQUIRY = bytes([1, 0x80, 6, 2, 31, 0, 0, 0]) + b"VENDOR  PRODUCT         1.00"


class FakeSupervisor:
    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def look_after(self, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        self._nursery.start_soon(task, *arguments)


class Device:
    def __init__(self, name: str) -> None:
        self.name = name
        self.real = True
        self.identity = scsi.Identity("", "", "", scsi.TAPE_DRIVE, 0, vendor="")
        self.hung_since: float | None = None

    def device(self) -> None:
        return None


class Port:
    """Of each device: after how many seconds it refuses; those that are not named answer at once."""

    refuses: dict[str, float] = {}
    asked: list[str] = []

    def __init__(self, _: object, name: str, *__: object) -> None:
        self._name = name

    async def execute(self, cdb: bytes, *, data_in: int) -> scsi.Answer:
        Port.asked.append(self._name)
        if self._name in Port.refuses:
            await trio.sleep(Port.refuses[self._name])
            raise Refusal(ErrorCode.IO_ERR, "no answer") from (OSError() if self._name == "ours" else None)
        return scsi.Answer(data=INQUIRY if not cdb[1] else b"")

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.fixture(autouse=True)
def port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "DevicePort", Port)
    Port.refuses, Port.asked = {}, []


async def waited_s(asks: Identities) -> float:
    began = trio.current_time()
    await asks.wait()
    return trio.current_time() - began


async def test_a_device_that_lets_lists_wait_is_asked_again_after_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    devices: Any = [Device("good"), Device("silent"), Device("refusing"), Device("ours")]
    Port.refuses = {"silent": ANSWER_S, "refusing": 0, "ours": 2}  # the last is a worker that cannot be forked
    async with trio.open_nursery() as nursery:
        asks = Identities(cast("Supervisor", FakeSupervisor(nursery)), cast("HungDevices", None), devices)
        assert await waited_s(asks) == ANSWER_S
        assert devices[0].identity.product == "PRODUCT"
        Port.asked = []
        assert await waited_s(asks) == 2
        assert sorted(Port.asked) == ["ours", "refusing"]
        await trio.sleep(AGAIN_S)
        Port.refuses = {}
        assert await waited_s(asks) == 0
        assert [each.identity.product for each in devices] == ["PRODUCT"] * 4
