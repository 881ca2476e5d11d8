"""Data connection listeners: who has connected, or takes himself for connected, is waited for."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from mover.config.model import DataConnections, Lif
from mover.config.model import Node as NodeTable
from mover.config.values import PortRange
from mover.control import data_ports, sockets
from mover.control.connection import Connection
from mover.control.data_connection import Carrier
from mover.control.data_ports import DataPorts
from mover.control.handshakes import is_half_open
from mover.ndmp.enums import AddressType

DEADLINE_S = 30


class World:
    """A control connection as far as its data ports look at it, and who came."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.lost: list[str] = []
        self.ports: DataPorts
        self.nursery: trio.Nursery

    async def accepted(self, carrier: Carrier) -> None:
        await trio.lowlevel.checkpoint()
        self.arrived.append(carrier.host)


@asynccontextmanager
async def world(monkeypatch: pytest.MonkeyPatch, *, late: bool = False) -> AsyncIterator[tuple[World, str, int]]:
    """A listener; with ``late`` its kernel takes a handshake for done when the first byte has come."""
    if late:
        plain = sockets.open_data_listener

        async def defer(address: str, first_port: int, last_port: int, window: int) -> trio.socket.SocketType:
            listener = await plain(address, first_port, last_port, window)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEADLINE_S)
            return listener

        monkeypatch.setattr(sockets, "open_data_listener", defer)

    async def attach(supervisor: object, sock: trio.socket.SocketType, order: object) -> SimpleNamespace:
        sock.close()
        await trio.lowlevel.checkpoint()
        return SimpleNamespace()

    monkeypatch.setattr(data_ports, "attach_relay", attach)
    made = World()
    async with trio.open_nursery() as made.nursery:
        options = DataConnections(allow=["127.0.0.0/8"], port_range=PortRange(0, 0))
        stub = SimpleNamespace(
            config=SimpleNamespace(data_connections=options, lif=[Lif(name="a")], node=NodeTable()),
            lif=Lif(name="a"),
            local_address="127.0.0.1",
            secure=False,
            version=4,
            node=SimpleNamespace(supervisor=None),
            nursery=made.nursery,
            log=structlog.get_logger(),
        )
        made.ports = DataPorts(cast("Connection", stub))
        place = await made.ports.listen("mover", AddressType.TCP, made.accepted, made.lost.append, watch=False)
        yield made, place.host, place.port
        await made.ports.close()


async def test_who_has_connected_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(DEADLINE_S):
        async with world(monkeypatch) as (made, address, port):
            await made.ports.settle()
            assert made.arrived == []
            with socket.create_connection((address, port)):
                await made.ports.settle()
                assert made.arrived == ["127.0.0.1"]


async def test_who_takes_himself_for_connected_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    settled = trio.Event()
    with trio.fail_after(DEADLINE_S):
        async with world(monkeypatch, late=True) as (made, address, port):
            monkeypatch.setattr(data_ports, "HANDSHAKE_S", DEADLINE_S)
            with socket.create_connection((address, port)) as peer:

                async def settle() -> None:
                    await made.ports.settle()
                    settled.set()

                made.nursery.start_soon(settle)
                await wait_all_tasks_blocked()
                assert (settled.is_set(), made.arrived) == (False, [])
                peer.sendall(b"x")
                await settled.wait()
                assert made.arrived == ["127.0.0.1"]


async def test_a_handshake_that_never_ends_is_waited_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(DEADLINE_S):
        async with world(monkeypatch, late=True) as (made, address, port):
            monkeypatch.setattr(data_ports, "HANDSHAKE_S", 0.01)
            with socket.create_connection((address, port)):
                await made.ports.settle()
                assert made.arrived == []


async def test_a_kernel_that_does_not_tell_of_handshakes_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str, port: int) -> bool:
        raise OSError(errno.EPROTONOSUPPORT, "no netlink")

    monkeypatch.setattr(data_ports, "is_half_open", refuse)
    with trio.fail_after(DEADLINE_S):
        async with world(monkeypatch) as (made, _, _):
            await made.ports.settle()


@pytest.mark.parametrize(
    ("family", "address", "other"),
    [(socket.AF_INET, "127.0.0.1", "127.0.0.2"), (socket.AF_INET6, "::1", "::2")],
    ids=["IPv4", "IPv6"],
)
def test_handshakes_are_told_apart_by_address_and_port(family: socket.AddressFamily, address: str, other: str) -> None:
    try:
        listener = socket.socket(family)
        listener.bind((address, 0))
    except OSError as error:
        pytest.skip(f"no socket on {address}: {error.strerror}")
    with listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEADLINE_S)
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_half_open(address, port)
        with socket.create_connection((address, port)):
            assert is_half_open(address, port)
            assert not is_half_open(other, port)
            assert not is_half_open(address, port ^ 1)
