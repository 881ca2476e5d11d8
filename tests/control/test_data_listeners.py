"""A data connection that is accepted while the request that ends its listener is handled."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from mover.control.connection import Connection
from mover.control.data_addresses import Place
from mover.control.data_connection import Carrier
from mover.control.handlers import data, mover
from mover.control.workers import Worker
from mover.ndmp.enums import AddressType, MoverMode, MoverState, TapeMode
from mover.ndmp.errors import IllegalStateError
from mover.ndmp.messages import DataListenRequest, MoverListenRequest
from mover.ndmp.states import MoverInput, SessionMachines

Accepted = Callable[[Carrier], Awaitable[None]]


class Ports:
    """Listens for nobody."""

    accepted: Accepted

    async def listen(self, owner: str, kind: object, accepted: Accepted, lost: object, *, watch: bool) -> Place:
        self.accepted = accepted
        return Place("127.0.0.1", 10_001)

    def stop_listening(self, owner: str) -> None:
        pass


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, **_: object) -> None:
        self.lines.append(event)


@pytest.mark.parametrize("service", ["mover", "data"])
async def test_a_peer_that_is_too_late_is_let_go(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def too_late(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise IllegalStateError("ABORT was quicker")

    monkeypatch.setattr(mover, "_go", too_late)
    monkeypatch.setattr(data, "_attach", too_late)
    ports, log, machines = Ports(), Log(), SessionMachines(4)
    stub = SimpleNamespace(
        version=4,
        address_types=(AddressType.LOCAL, AddressType.TCP),
        machines=machines,
        data_ports=ports,
        log=log,
        tape=SimpleNamespace(is_open=True, writable=True, mode=TapeMode.RDWR),
        data=SimpleNamespace(listener_lost=None, prepared=None),
        mover=SimpleNamespace(record_size=1024, window_offset=0, window_length=0, listener_lost=None),
    )
    connection = cast("Connection", stub)  # what LISTEN looks at
    with trio.fail_after(5):
        if service == "mover":
            await mover.listen(connection, MoverListenRequest(MoverMode.READ, AddressType.TCP))
            machines.mover.apply(MoverInput.ABORT)
        else:
            await data.listen(connection, DataListenRequest(AddressType.TCP))
        await ports.accepted(Carrier(cast("Worker", None), "127.0.0.1", 10_002, encrypted=False))
    assert log.lines == ["data connection came too late"]
    assert machines.mover.state is (MoverState.HALTED if service == "mover" else MoverState.IDLE)
