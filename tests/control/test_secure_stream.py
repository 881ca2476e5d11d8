"""The server's end of TLS over real sockets: nothing is lost, nothing piles up, and every end is told."""

import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mover.config import Config, Lif
from mover.config import Node as NodeTable
from mover.control.secure_stream import SecureStream
from mover.control.tls_identity import load_identity

DEADLINE_S = 60
Client = trio.SSLStream[trio.SocketStream]


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and a client's."""
    state = tmp_path_factory.mktemp("state")
    identity = load_identity(Config(node=NodeTable(name="n1", state_directory=str(state)), lif=[Lif(name="a")]))
    return identity.context, ssl.create_default_context(cafile=str(Path(state) / "tls-certificate.pem"))


@asynccontextmanager
async def ends(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[tuple[SecureStream, Client]]:
    ours, theirs = trio.socket.socketpair()
    client = trio.SSLStream(trio.SocketStream(theirs), contexts[1], server_hostname="127.0.0.1")
    accepted: list[SecureStream] = []

    async def accept() -> None:
        accepted.append(await SecureStream.accept(ours, contexts[0]))

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            await client.do_handshake()
        try:
            yield accepted[0], client
        finally:
            accepted[0].close()
            await trio.aclose_forcefully(client)


async def receive(stream: SecureStream, limit: int = 65536) -> bytes:
    """What comes next, b"" at the end."""
    while True:
        await stream.arrival()
        data = stream.receive_now(limit)
        if data is not None:
            return data


async def receive_exactly(stream: SecureStream, size: int, limit: int = 65536) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = await receive(stream, limit)
        assert data
        found += data
    return bytes(found)


async def test_what_is_decrypted_already_is_not_waited_for(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with ends(contexts) as (server, client):
        data = random.Random(1).randbytes(50_000)
        await client.send_all(data)
        assert await receive_exactly(server, len(data), limit=7) == data
        assert server.receive_now(7) is None


async def test_both_ways_at_once_with_full_sockets(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    there, back = random.Random(2).randbytes(3 << 20), random.Random(3).randbytes(3 << 20)
    async with ends(contexts) as (server, client):
        got: dict[str, bytes] = {}

        async def serve() -> None:
            got["server"] = await receive_exactly(server, len(there))

        async def read_at_client() -> None:
            found = bytearray()
            while len(found) < len(back):
                found += await client.receive_some(9000)
            got["client"] = bytes(found)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, back)
            nursery.start_soon(client.send_all, there)
            nursery.start_soon(serve)
            nursery.start_soon(read_at_client)
        assert got == {"server": there, "client": back}


async def test_a_peer_that_does_not_read_holds_up_the_sender_and_no_memory(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with ends(contexts) as (server, client):
        with trio.move_on_after(1) as scope:
            await server.send_all(bytes(64 << 20))
        assert scope.cancelled_caught
        assert len(server._unsent) < 200_000
        await client.send_all(b"still heard")
        assert await receive(server) == b"still heard"


async def test_nothing_is_sent_without_waiting(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with ends(contexts) as (server, client):
        assert server.send_now(b"data") == 0
        await server.send_all(memoryview(b"data"))
        assert await client.receive_some() == b"data"


async def test_an_end_that_the_peer_says_and_one_that_is_cut(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    for cut in (False, True):
        async with ends(contexts) as (server, client):
            await client.send_all(b"last words")
            if cut:
                client.transport_stream.socket.shutdown(trio.socket.SHUT_WR)
            else:
                with trio.move_on_after(0.5):
                    await client.unwrap()
            assert await receive_exactly(server, 10) == b"last words"
            assert await receive(server) == b""
            assert await receive(server) == b""


async def test_our_end_is_said(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with ends(contexts) as (server, client):
        await server.send_all(b"last words")
        server.close()
        assert await client.receive_some() == b"last words"
        assert await client.receive_some() == b""  # a cut one would raise
        server.close()


async def test_what_is_no_record_breaks_the_connection(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with ends(contexts) as (server, client):
        await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))  # not encrypted by anybody
        with pytest.raises(trio.BrokenResourceError):
            await receive(server)


async def test_records_without_data_keep_nobody_busy_and_have_a_bound(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key updates, and in TLS 1.2 renegotiations: OpenSSL takes any number of them, from who has not logged in too."""
    async with ends(contexts) as (server, _):
        taken = 0

        def fill() -> bool:
            nonlocal taken
            taken += 1
            assert taken < 100, "goes on while the peer sends"
            server._raw_bytes += 65536
            return True

        monkeypatch.setattr(server, "_fill", fill)
        assert server.receive_now(65536) is None
        assert taken == 1, "the others have their turn"
        for _ in range(2):
            assert server.receive_now(65536) is None
        with pytest.raises(trio.BrokenResourceError, match="sends no data"):
            server.receive_now(65536)


@pytest.mark.slow
async def test_data_in_records_of_one_byte_is_data(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with ends(contexts) as (server, client):
        size = 20_000  # beyond what may come without data

        async def send() -> None:
            for number in range(size):
                await client.send_all(bytes([number % 251]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await receive_exactly(server, size) == bytes(number % 251 for number in range(size))


async def test_who_says_nothing_is_given_up(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], autojump_clock: MockClock
) -> None:
    for said in (b"", b"\x16\x03\x01\x02\x00\x01"):
        ours, theirs = trio.socket.socketpair()
        with ours, theirs:
            if said:
                await theirs.send(said)
            with pytest.raises(trio.TooSlowError):
                await SecureStream.accept(ours, contexts[0])


@pytest.mark.parametrize("said", [b"\x80\x00\x00\x24", b"GET /", b"\x15\x03\x03"])
async def test_who_speaks_no_tls_hears_nothing(contexts: tuple[ssl.SSLContext, ssl.SSLContext], said: bytes) -> None:
    ours, theirs = trio.socket.socketpair()
    with trio.fail_after(DEADLINE_S), theirs:
        with ours:
            await theirs.send(said)
            with pytest.raises(trio.BrokenResourceError, match="no TLS"):
                await SecureStream.accept(ours, contexts[0])
        assert await theirs.recv(100) == b""
