"""A blocking NDMP client for tests that walk a dialogue step by step and look at the clock.

Every wait has a deadline: a server that says nothing fails the test instead of hanging it.
"""

import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from mover.ndmp.auth import md5_digest
from mover.ndmp.client import ClientProtocol, Post, Reply
from mover.ndmp.enums import AuthType, ErrorCode, MoverMode, TapeMode, TapeOperation
from mover.ndmp.messages import Body as AnyBody
from mover.ndmp.messages import (
    ConfigGetAuthAttrReply,
    ConfigGetAuthAttrRequest,
    ConnectClientAuthRequest,
    ConnectCloseRequest,
    ConnectOpenRequest,
    DataConnectRequest,
    DataListenReply,
    DataListenRequest,
    DataStartBackupRequest,
    DataStartRecoverRequest,
    MoverConnectRequest,
    MoverListenReply,
    MoverListenRequest,
    MoverSetRecordSizeRequest,
    MoverSetWindowRequest,
    NotifyConnectionStatusPost,
    NotifyDataHaltedPost,
    NotifyMoverHaltedPost,
    Pval,
    RecoverName,
    TapeMtioRequest,
    TapeOpenRequest,
)
from mover.ndmp.messages.common import Address, AuthMd5, AuthMd5Attr, AuthText
from tests.support.servers import Login, Server

DEADLINE_S = 30.0
ALL = 2**64 - 1
RECORD_SIZE = 64 * 1024

B = TypeVar("B", bound=AnyBody)


class Seen(NamedTuple):
    """A post and when it came (monotonic seconds)."""

    at: float
    body: AnyBody


class NdmpClient:
    """One control connection: connected, version chosen, logged in.

    Attributes:
        posts: everything the server said by itself, in order.
    """

    def __init__(
        self,
        address: str,
        *,
        login: Login | None = None,
        version: int = 4,
        method: str = "md5",
        connection: socket.socket | None = None,
    ) -> None:
        host, _, port = address.rpartition(":")
        self.socket = connection or socket.create_connection((host, int(port)), timeout=DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.protocol = ClientProtocol()
        self.posts: list[Seen] = []
        self._replies: list[Reply] = []
        try:
            self.wait_for(NotifyConnectionStatusPost)
            self.ok(ConnectOpenRequest(version))
            if login is not None:
                self.log_in(login, method)
        except BaseException:
            self.socket.close()
            raise

    def log_in(self, login: Login, method: str) -> None:
        user, password = login.user.encode(), login.password.encode()
        if method == "text":
            self.ok(ConnectClientAuthRequest(AuthText(user, password)))
            return
        reply = self.ok(ConfigGetAuthAttrRequest(AuthType.MD5))
        assert isinstance(reply, ConfigGetAuthAttrReply)
        assert isinstance(reply.server_attr, AuthMd5Attr)
        digest = md5_digest(reply.server_attr.challenge, password)
        self.ok(ConnectClientAuthRequest(AuthMd5(user, digest)))

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, body: AnyBody) -> int:
        """Send a request and return its sequence number."""
        sequence, data = self.protocol.request(body)
        self.socket.sendall(data)
        return sequence

    def ask(self, body: AnyBody, *, deadline_s: float = DEADLINE_S) -> Reply:
        """Send a request and wait for its reply."""
        return self.reply_to(self.send(body), type(body).__name__, deadline_s=deadline_s)

    def reply_to(self, sequence: int, request: str, *, deadline_s: float = DEADLINE_S) -> Reply:
        """Wait for the reply to a request that was sent."""
        deadline = time.monotonic() + deadline_s
        while True:
            for reply in self._replies:
                if reply.sequence == sequence:
                    self._replies.remove(reply)
                    return reply
            self._receive(deadline, f"a reply to {request}")

    def error(self, body: AnyBody) -> int:
        """The error code of a request's reply."""
        return self.ask(body).error

    def ok(self, body: AnyBody) -> AnyBody:
        """The reply's body of a request that must succeed."""
        reply = self.ask(body)
        assert reply.error == ErrorCode.NO_ERR, f"{type(body).__name__}: {ErrorCode(reply.error).name}; {self.log()}"
        assert reply.body is not None
        return reply.body

    def wait_for(self, kind: type[B], *, deadline_s: float = DEADLINE_S) -> B:
        """The first post of this kind, waiting for it."""
        return self.wait_until(lambda seen: isinstance(seen.body, kind), kind.__name__, deadline_s).body  # type: ignore[return-value]  # the predicate says so

    def wait_until(self, wanted: Callable[[Seen], bool], what: str, deadline_s: float = DEADLINE_S) -> Seen:
        """The first post that satisfies ``wanted``."""
        deadline = time.monotonic() + deadline_s
        while True:
            for seen in self.posts:
                if wanted(seen):
                    return seen
            self._receive(deadline, what)

    def data_halted(self, *, deadline_s: float = DEADLINE_S) -> int:
        return self.wait_for(NotifyDataHaltedPost, deadline_s=deadline_s).reason

    def mover_halted(self, *, deadline_s: float = DEADLINE_S) -> int:
        return self.wait_for(NotifyMoverHaltedPost, deadline_s=deadline_s).reason

    def log(self) -> list[str]:
        """What the server logged to us."""
        return [
            getattr(seen.body, "entry", b"").decode(errors="replace")
            for seen in self.posts
            if hasattr(seen.body, "entry")
        ]

    def hang_up(self) -> None:
        """CONNECT_CLOSE, and wait until the server has closed."""
        self.send(ConnectCloseRequest())
        deadline = time.monotonic() + DEADLINE_S
        while True:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            if not self.socket.recv(65536):
                break
        self.close()

    def _receive(self, deadline: float, what: str) -> None:
        while (event := self.protocol.next_event()) is None:
            left = deadline - time.monotonic()
            assert left > 0, (
                f"no {what} in time; posts so far: {[type(seen.body).__name__ for seen in self.posts[-5:]]}"
            )
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 18)
            except TimeoutError:
                continue
            assert data, f"the server closed the connection before {what}; it logged {self.log()}"
            self.protocol.feed(data)
        if isinstance(event, Reply):
            self._replies.append(event)
        elif isinstance(event, Post):
            self.posts.append(Seen(time.monotonic(), event.body))


class Job:
    """The two ends of one job: the same connection when local, two when three-way."""

    def __init__(self, data: NdmpClient, tape: NdmpClient, drive: str = "vtl0/drive0") -> None:
        self.data, self.tape, self.drive = data, tape, drive
        self.local = data is tape
        self.mode = MoverMode.NOACTION

    @classmethod
    def connect(cls, data: Server, tape: Server, login: Login, *, version: int = 4, drive: str = "vtl0/drive0") -> Self:
        first = NdmpClient(data.address, login=login, version=version)
        try:
            second = first if data is tape else NdmpClient(tape.address, login=login, version=version)
        except BaseException:
            first.close()
            raise
        return cls(first, second, drive)

    def close(self) -> None:
        for client in {self.data, self.tape}:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect_data(
        self, mode: MoverMode, *, record_size: int = RECORD_SIZE, data_listens: bool = False, window_length: int = ALL
    ) -> None:
        """Open and rewind the drive, set up the mover and make the data connection (version 3 and 4)."""
        self.mode = mode
        tape_mode = TapeMode.RDWR if mode is MoverMode.READ else TapeMode.READ
        self.tape.ok(TapeOpenRequest(self.drive.encode(), tape_mode))
        self.tape.ok(TapeMtioRequest(TapeOperation.REW, 1))
        self.tape.ok(MoverSetRecordSizeRequest(record_size))
        self.tape.ok(MoverSetWindowRequest(0, window_length))
        kind = 0 if self.local else 1
        if data_listens:
            listening = self.data.ok(DataListenRequest(kind))
            assert isinstance(listening, DataListenReply)
            self.tape.ok(MoverConnectRequest(mode, listening.data_connection_addr))
        else:
            waiting = self.tape.ok(MoverListenRequest(mode, kind))
            assert isinstance(waiting, MoverListenReply)
            address: Address = waiting.data_connection_addr
            self.data.ok(DataConnectRequest(address))

    def start_backup(self, path: str, **env: str) -> None:
        self.connect_data(MoverMode.READ)
        self.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=path, **env)))

    def start_recover(self, path: str, destination: str, **env: str) -> None:
        self.connect_data(MoverMode.WRITE)
        names = (RecoverName(b"", destination.encode()),)
        self.data.ok(DataStartRecoverRequest(pairs(FILESYSTEM=path, **env), names, b"dump"))


def pairs(**env: str) -> tuple[Pval, ...]:
    """An environment."""
    return tuple(Pval(name.encode(), value.encode()) for name, value in env.items())
