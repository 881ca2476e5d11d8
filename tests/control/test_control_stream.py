"""The socket of a control connection: what is possible at once, what waits, and how it ends."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mover.control.control_stream import ControlStream

DEADLINE_S = 30
MANY = bytes(range(256)) * (64 << 10)  # more than kernels hold for one connection


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[ControlStream, trio.socket.SocketType]]:
    """A control connection and its DMA."""
    with trio.fail_after(DEADLINE_S), trio.socket.socket() as listener, trio.socket.socket() as peer:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        await peer.connect(listener.getsockname())
        sock, _ = await listener.accept()
        stream = ControlStream(sock)
        try:
            yield stream, peer
        finally:
            stream.close()


def reset(sock: trio.socket.SocketType) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def test_what_has_come_is_taken_and_the_end_is_told() -> None:
    async with pair() as (stream, peer):
        assert stream.receive_now(10) is None
        await peer.send(b"a request")
        await stream.arrival()
        assert stream.receive_now(2) == b"a "
        assert stream.receive_now(100) == b"request"
        assert stream.receive_now(100) is None
        peer.shutdown(socket.SHUT_WR)
        await stream.arrival()
        assert stream.receive_now(100) == b""


async def test_what_does_not_fit_waits_until_the_peer_reads() -> None:
    async with pair() as (stream, peer):
        sent = stream.send_now(MANY)
        assert 0 < sent < len(MANY)
        received = bytearray()

        async def read() -> None:
            await wait_all_tasks_blocked()
            while len(received) < len(MANY):
                received.extend(await peer.recv(1 << 20))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stream.send_all(memoryview(MANY)[sent:])
        assert received == MANY


async def test_a_reset_is_seen_by_everyone() -> None:
    async with pair() as (stream, peer):
        stream.send_now(MANY)
        reset(peer)
        await stream.arrival()
        with pytest.raises(trio.BrokenResourceError):
            stream.receive_now(100)
        with pytest.raises(trio.BrokenResourceError):
            stream.send_now(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")


async def test_a_reset_ends_a_send_that_waits() -> None:
    async with pair() as (stream, peer), trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(MANY)

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        reset(peer)


async def test_a_close_ends_who_waits() -> None:
    async with pair() as (stream, _), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.arrival()

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_all(MANY)

        nursery.start_soon(receive)
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        stream.close()
        with pytest.raises(trio.BrokenResourceError):
            stream.receive_now(1)
        with pytest.raises(trio.BrokenResourceError):
            stream.send_now(b"x")
