"""A small NDMP server that is right about DATA over LOCAL, and wrong in one way when a test says so."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from mover.ndmp import messages as m
from mover.ndmp.auth import new_challenge, verify_md5
from mover.ndmp.enums import AddressType, AuthType, DataHaltReason, DataOperation, DataState, ErrorCode
from mover.ndmp.server import Answered, Request, ServerProtocol

USER, PASSWORD = b"ndmp", b"secret"
DEADLINE_S = 10.0

Reply = m.Body | ErrorCode
NOT_OFFERED = (m.ConnectServerAuthRequest, m.DataStartRecoverFilehistRequest)


class HangUp(Exception):  # noqa: N818 -- no error: what a defect asks for
    """Close the connection instead of an answer."""


class Peer:
    """One connection, answered as the specification has it.

    Attributes:
        defect: what to do with the bytes of a reply or post before they are sent.
    """

    def __init__(self, connection: socket.socket, server: "FakeServer") -> None:
        self.socket = connection
        self.server = server
        self.protocol = ServerProtocol(server.offered)
        self.challenge = new_challenge()
        self.state = DataState.IDLE
        self.reason = DataHaltReason.NA

    def send(self, data: bytes, request: m.Body | None = None) -> None:
        for each in self.server.spoil(self, data, request):
            self.socket.sendall(each)

    def post(self, body: m.Body) -> None:
        for each in self.server.posts(body):
            self.send(self.protocol.post(each), each)

    def run(self) -> None:
        self.send(self.protocol.connected(), m.NotifyConnectionStatusPost(0, 0))
        while data := self.socket.recv(65536):
            self.protocol.feed(data)
            while (event := self.protocol.next_event()) is not None:
                if isinstance(event, Answered):
                    self.send(self.protocol.answer(event))
                elif isinstance(event, Request):
                    self.answer(event)

    def answer(self, request: Request) -> None:
        body = request.body
        if isinstance(body, m.ConnectCloseRequest):
            raise HangUp
        reply = self.server.handle(self, body)
        if reply is None:
            return
        if isinstance(reply, ErrorCode):
            header = reply is ErrorCode.NOT_SUPPORTED_ERR
            make = self.protocol.refuse_request if header else self.protocol.reply_error
            self.send(make(request, reply), body)
            return
        self.send(self.protocol.reply(request, reply), body)
        if isinstance(body, m.DataAbortRequest):
            self.post(m.NotifyDataHaltedPost(self.reason))

    def handle(self, body: m.Body) -> Reply:
        illegal = ErrorCode.ILLEGAL_STATE_ERR
        match body:
            case m.ConfigGetHostInfoRequest():
                method = AuthType.TEXT if self.protocol.version == 1 else AuthType.MD5
                return m.ConfigGetHostInfoReply(hostname=b"fake", auth_type=(method,))
            case m.ConfigGetConnectionTypeRequest():
                return m.ConfigGetConnectionTypeReply(addr_types=(AddressType.LOCAL,))
            case m.ConfigGetAuthAttrRequest(AuthType.MD5):
                return m.ConfigGetAuthAttrReply(server_attr=m.AuthMd5Attr(self.challenge))
            case m.ConfigGetAuthAttrRequest():
                return ErrorCode.ILLEGAL_ARGS_ERR
            case m.ConnectClientAuthRequest(m.AuthMd5(user, digest)):
                good = user == USER and verify_md5(digest, self.challenge, PASSWORD)
                self.protocol.authenticated = good
                return m.ConnectClientAuthReply() if good else ErrorCode.NOT_AUTHORIZED_ERR
            case m.ConnectClientAuthRequest(m.AuthText(user, password)) if self.protocol.version == 1:
                self.protocol.authenticated = good = (user, password) == (USER, PASSWORD)
                return m.ConnectClientAuthReply() if good else ErrorCode.NOT_AUTHORIZED_ERR
            case m.ConnectClientAuthRequest():
                return ErrorCode.ILLEGAL_ARGS_ERR
            case m.DataGetStateRequest():
                return m.DataGetStateReply(0, 0, DataOperation.NOACTION, self.state, self.reason)
            case m.DataListenRequest(kind) if kind != AddressType.LOCAL:
                return ErrorCode.ILLEGAL_ARGS_ERR
            case m.DataListenRequest():
                return self.move(DataState.IDLE, DataState.LISTEN, m.DataListenReply())
            case m.DataConnectRequest(address) if not isinstance(address, m.LocalAddress | m.TcpAddress):
                return ErrorCode.ILLEGAL_ARGS_ERR
            case m.DataConnectRequest(m.TcpAddress(())):
                return ErrorCode.ILLEGAL_ARGS_ERR
            case m.DataStartBackupRequest(mover_address=m.UnknownArm()):
                return ErrorCode.ILLEGAL_ARGS_ERR
            case m.DataAbortRequest() if self.state == DataState.HALTED:
                return illegal
            case m.DataAbortRequest():
                return self.move(DataState.LISTEN, DataState.HALTED, m.DataAbortReply(), DataHaltReason.ABORTED)
            case m.DataStopRequest():
                return self.move(DataState.HALTED, DataState.IDLE, m.DataStopReply())
            case m.DataGetEnvRequest():
                return m.DataGetEnvReply() if self.state == DataState.HALTED else illegal
            case (
                m.DataContinueRequest()
                | m.DataConnectRequest()
                | m.DataStartBackupRequest()
                | m.DataStartRecoverRequest()
            ):
                return illegal
            case _:
                return ErrorCode.NOT_SUPPORTED_ERR

    def move(
        self, here: DataState, there: DataState, reply: m.Body, reason: DataHaltReason = DataHaltReason.NA
    ) -> Reply:
        if self.state != here:
            return ErrorCode.ILLEGAL_STATE_ERR
        self.state, self.reason = there, reason
        return reply


class FakeServer:
    """The server, with one thread a connection; a context manager.

    A subclass is wrong by overriding `handle`, `posts` or `spoil`.
    """

    offered = 4

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def handle(self, peer: Peer, body: m.Body) -> Reply | None:
        """The reply; None = none."""
        return peer.handle(body)

    def posts(self, body: m.Body) -> list[m.Body]:
        """What is sent where a post is due."""
        return [body]

    def spoil(self, peer: Peer, data: bytes, request: m.Body | None) -> Iterator[bytes]:
        """The bytes that are sent instead of a message's."""
        yield data

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)
        self._listener.close()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                connection.settimeout(DEADLINE_S)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, HangUp):
            Peer(connection, self).run()


def renumbered(data: bytes, **fields: int) -> bytes:
    """A marked message with header fields of other values."""
    names = ("mark", "sequence", "time_stamp", "message_type", "message", "reply_sequence", "error")
    words = dict(zip(names, struct.unpack_from(">7I", data), strict=True)) | fields
    return struct.pack(">7I", *words.values()) + data[28:]


def resized(data: bytes, body: bytes) -> bytes:
    """A marked message with another body."""
    record = data[4:28] + body
    return struct.pack(">I", 0x8000_0000 | len(record)) + record


def until_closed(peer: Peer, data: bytes, pause_s: float = 0) -> Iterator[bytes]:
    """The same for ever; sending ends when the other side has closed."""
    while True:
        yield data
        time.sleep(pause_s)
