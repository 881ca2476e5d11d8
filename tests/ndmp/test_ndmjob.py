"""ndmjob's daemon as the other side: an implementation that nobody here wrote reads us and is read by us."""

import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mover.ndmp.auth import md5_digest
from mover.ndmp.client import ClientProtocol, Post, Reply
from mover.ndmp.enums import (
    AddressType,
    AuthType,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverState,
    TapeMode,
    TapeOperation,
)
from mover.ndmp.messages import (
    AuthMd5,
    AuthMd5Attr,
    AuthText,
    Body,
    ConfigGetAuthAttrReply,
    ConfigGetAuthAttrRequest,
    ConfigGetConnectionTypeReply,
    ConfigGetConnectionTypeRequest,
    ConfigGetHostInfoReply,
    ConfigGetHostInfoRequest,
    ConnectClientAuthRequest,
    ConnectOpenRequest,
    DataGetStateReply,
    DataGetStateRequest,
    MoverAbortRequest,
    MoverGetStateReply,
    MoverGetStateRequest,
    MoverListenReply,
    MoverListenRequest,
    MoverSetRecordSizeRequest,
    MoverStopRequest,
    NotifyConnectionStatusPost,
    NotifyMoverHaltedPost,
    TapeCloseRequest,
    TapeGetStateReply,
    TapeGetStateRequest,
    TapeMtioReply,
    TapeMtioRequest,
    TapeOpenRequest,
    TapeReadReply,
    TapeReadRequest,
    TapeWriteReply,
    TapeWriteRequest,
    TcpAddress,
)
from tests.support import peers

pytestmark = pytest.mark.peer("ndmjob")


class Dialogue:
    """A client protocol over a socket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.protocol = ClientProtocol()
        self.posts: list[Body] = []
        self._stream = stream

    async def event(self) -> Reply | Post:
        while True:
            event = self.protocol.next_event()
            if isinstance(event, Reply | Post):
                return event
            assert event is None, event
            data = await self._stream.receive_some()
            assert data, "the peer closed the connection"
            self.protocol.feed(data)

    async def post(self) -> Body:
        event = await self.event()
        assert isinstance(event, Post)
        return event.body

    async def ask(self, body: Body) -> Reply:
        sequence, data = self.protocol.request(body)
        await self._stream.send_all(data)
        while True:
            event = await self.event()
            if isinstance(event, Reply):
                assert event.sequence == sequence
                return event
            self.posts.append(event.body)

    async def done(self, body: Body) -> Body:
        reply = await self.ask(body)
        assert reply.error == ErrorCode.NO_ERR, reply
        assert reply.body is not None
        return reply.body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def daemon(directory: Path) -> AsyncIterator[Dialogue]:
    """A dialogue with a fresh daemon; it leaves when its standard input closes."""
    port = free_port()
    command = ["timeout", "20", str(peers.require("ndmjob")), "-o", "test-daemon", "-p", str(port)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=directory)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        seen = b""
        while b"READY" not in seen:
            data = await process.stdout.receive_some()
            assert data, "ndmjob ended before it was ready"
            seen += data
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            dialogue = Dialogue(stream)
            greeting = await dialogue.post()
            assert isinstance(greeting, NotifyConnectionStatusPost)
            assert dialogue.protocol.offered_version == 4
            yield dialogue
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await process.stdin.aclose()
            await process.wait()
            await process.stdout.aclose()


async def log_in(dialogue: Dialogue) -> None:
    await dialogue.done(ConnectClientAuthRequest(AuthText(b"ndmp", b"ndmp")))


async def challenge(dialogue: Dialogue) -> bytes:
    reply = await dialogue.done(ConfigGetAuthAttrRequest(AuthType.MD5))
    assert isinstance(reply, ConfigGetAuthAttrReply)
    assert isinstance(reply.server_attr, AuthMd5Attr)
    return reply.server_attr.challenge


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_it_takes_our_digest_and_no_other(version: int, tmp_path: Path) -> None:
    with trio.fail_after(15):
        async with daemon(tmp_path) as dialogue:
            await dialogue.done(ConnectOpenRequest(version))
            wrong = AuthMd5(b"ndmp", md5_digest(await challenge(dialogue), b"pmdn"))
            assert (await dialogue.ask(ConnectClientAuthRequest(wrong))).error == ErrorCode.NOT_AUTHORIZED_ERR
            right = AuthMd5(b"ndmp", md5_digest(await challenge(dialogue), b"ndmp"))
            await dialogue.done(ConnectClientAuthRequest(right))
            state = await dialogue.done(DataGetStateRequest())
            assert isinstance(state, DataGetStateReply)


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_tape_and_mover_understand_each_other(version: int, tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    tape.touch()
    with trio.fail_after(15):
        async with daemon(tmp_path) as dialogue:
            await dialogue.done(ConnectOpenRequest(version))
            await log_in(dialogue)
            host = await dialogue.done(ConfigGetHostInfoRequest())
            assert isinstance(host, ConfigGetHostInfoReply)
            assert host.os_type.startswith(b"Linux")
            assert host.auth_type == ((1, 2) if version == 2 else ())
            types = await dialogue.done(ConfigGetConnectionTypeRequest())
            assert types == ConfigGetConnectionTypeReply(0, (AddressType.LOCAL, AddressType.TCP))

            await dialogue.done(TapeOpenRequest(bytes(tape), TapeMode.RDWR))
            assert await dialogue.done(TapeWriteRequest(b"r" * 1000)) == TapeWriteReply(0, 1000)
            assert await dialogue.done(TapeMtioRequest(TapeOperation.EOF, 1)) == TapeMtioReply(0, 0)
            state = await dialogue.done(TapeGetStateRequest())
            assert isinstance(state, TapeGetStateReply)
            assert (state.file_num, state.blockno) == (1, 0)
            await dialogue.done(TapeMtioRequest(TapeOperation.REW, 1))
            assert await dialogue.done(TapeReadRequest(5000)) == TapeReadReply(0, b"r" * 1000)
            assert (await dialogue.ask(TapeReadRequest(5000))).error == ErrorCode.EOF_ERR

            await dialogue.done(MoverSetRecordSizeRequest(8192))
            listening = await dialogue.done(MoverListenRequest(MoverMode.READ, AddressType.TCP))
            assert isinstance(listening, MoverListenReply)
            assert isinstance(listening.data_connection_addr, TcpAddress)
            (endpoint,) = listening.data_connection_addr.endpoints
            assert endpoint.ip_addr == 0x7F000001
            mover = await dialogue.done(MoverGetStateRequest())
            assert isinstance(mover, MoverGetStateReply)
            assert (mover.state, mover.record_size) == (MoverState.LISTEN, 8192)
            await dialogue.done(MoverAbortRequest())
            assert await dialogue.post() == NotifyMoverHaltedPost(
                MoverHaltReason.ABORTED, b"" if version == 4 else b"Whatever"
            )
            await dialogue.done(MoverStopRequest())
            await dialogue.done(TapeCloseRequest())
            assert dialogue.posts == []
