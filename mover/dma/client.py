"""A control connection to an NDMP server: greeting, version, login, requests with a deadline, posts to a handler.

Theory of operation. One task per connection reads. It completes the request that a reply belongs to, and awaits the
job's handler for each post, so that a handler that waits (a full history queue) stops the reading and thereby, through
TCP, the server. The handler must not make requests: their replies are read by the task it runs in.
The reading task is shielded: a cancelled job still needs replies to abort what it began. It ends when the block
around the connection ends.
"""

import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from typing import Final, TypeVar

import trio

from mover.dma.errors import ControlConnectionError, DmaError, LoginError, NdmpError, error_name, one_line
from mover.dma.options import Credentials, Server
from mover.dma.secure import secure
from mover.ndmp.auth import md5_digest
from mover.ndmp.client import ClientProtocol, Post, Reply
from mover.ndmp.enums import AuthType, ConnectionStatusReason, ErrorCode
from mover.ndmp.errors import PeerError
from mover.ndmp.messages import (
    AUTH_NONE,
    AuthData,
    AuthMd5,
    AuthMd5Attr,
    AuthText,
    Body,
    ConfigGetAuthAttrReply,
    ConfigGetAuthAttrRequest,
    ConfigGetExtListReply,
    ConfigGetExtListRequest,
    ConfigGetHostInfoReply,
    ConfigGetHostInfoRequest,
    ConfigGetServerInfoReply,
    ConfigGetServerInfoRequest,
    ConfigSetExtListReply,
    ConfigSetExtListRequest,
    ConnectClientAuthReply,
    ConnectClientAuthRequest,
    ConnectCloseRequest,
    ConnectOpenReply,
    ConnectOpenRequest,
    NotifyConnectionStatusPost,
    SelectedExt,
)
from mover.ndmp.table import EXTENSIONS_FROM

R = TypeVar("R", bound=Body)
PostHandler = Callable[[Body], Awaitable[None]]
ControlStream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

OLDEST_VERSION: Final = 2
RECEIVE_BYTES: Final = 256 << 10
SEND_TIMEOUT_S: Final = 60.0
GOODBYE_S: Final = 2.0
"""How long the server may take to close after CONNECT_CLOSE."""
# A peer that is gone is found within KEEPALIVE_IDLE_S + KEEPALIVE_COUNT * KEEPALIVE_INTERVAL_S.
KEEPALIVE_IDLE_S: Final = 60
KEEPALIVE_INTERVAL_S: Final = 15
KEEPALIVE_COUNT: Final = 4
# Keepalive rests while a request is unacknowledged, and TCP alone would try for a quarter of an hour. A living server
# always has room for a DMA's few requests, so its window does not stay shut: this finds only one that is gone.
USER_TIMEOUT_S: Final = KEEPALIVE_IDLE_S + KEEPALIVE_COUNT * KEEPALIVE_INTERVAL_S

_AUTH_NAMES: Final = {AuthType.MD5: "MD5", AuthType.TEXT: "TEXT", AuthType.NONE: "NONE"}


class _Waiter:
    """A request whose reply has not come."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.reply: Reply | None = None  # still None when done: the connection is gone


class Client:
    """An open control connection; made by `open_client`.

    Attributes:
        server: where it goes.
        peer_address: the server's IP address as text.
        extensions: class -> version of those that were chosen.
        failure: why the connection is of no more use; None while it works.
    """

    def __init__(self, stream: ControlStream, server: Server, on_post: PostHandler, timeout_s: float) -> None:
        self.server = server
        transport = stream if isinstance(stream, trio.SocketStream) else stream.transport_stream
        self.peer_address = str(transport.socket.getpeername()[0])
        self.extensions: dict[int, int] = {}
        self.failure: str | None = None
        self._stream = stream
        self._on_post = on_post
        self._timeout_s = timeout_s
        self._protocol = ClientProtocol()
        self._greeting: NotifyConnectionStatusPost | None = None
        self._goodbye = ""  # why the server said that it will end the connection
        self._greeted = trio.Event()
        self._ended = trio.Event()
        self._waiters: dict[int, _Waiter] = {}
        self._sending = trio.Lock()

    @property
    def version(self) -> int:
        """The session's protocol version."""
        return self._protocol.version

    async def call(self, request: Body, reply_type: type[R], *, detail: str = "") -> R:
        """Send a request and wait for its reply.

        Args:
            detail: what the request was about, for the text of an error.

        Raises:
            NdmpError: the reply carries an error, in its header or body.
            ControlConnectionError: the connection is gone, or the reply did not come in time.
        """
        reply = await self._exchange(request)
        if reply.error != ErrorCode.NO_ERR:
            raise NdmpError(reply.request.name, reply.error, detail)
        assert isinstance(reply.body, reply_type)
        return reply.body

    async def _exchange(self, request: Body) -> Reply:
        reply = await self._await_reply(*await self._ask(request))
        if reply is not None:
            return reply
        self._check()
        name = type(request).__name__.removesuffix("Request")
        raise ControlConnectionError(f"{self.server}: no reply to {name} within {self._timeout_s:g} s")

    async def _ask(self, request: Body) -> tuple[int, _Waiter]:
        waiter = _Waiter()
        async with self._sending:
            self._check()
            sequence, data = self._protocol.request(request)
            self._waiters[sequence] = waiter
            await self._send(data)
        return sequence, waiter

    async def _await_reply(self, sequence: int, waiter: _Waiter) -> Reply | None:
        try:
            with trio.move_on_after(self._timeout_s):
                await waiter.done.wait()
        finally:
            self._waiters.pop(sequence, None)
        return waiter.reply

    def _check(self) -> None:
        if self.failure is not None:
            raise ControlConnectionError(f"{self.server}: {self.failure}")

    async def _send(self, data: bytes) -> None:
        # Half a message would end the session for the abort as well, so a cancellation has to wait.
        with trio.move_on_after(SEND_TIMEOUT_S, shield=True) as scope:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._fail("connection lost while sending")
        if scope.cancelled_caught:
            self._fail(f"the server took no data for {SEND_TIMEOUT_S:g} s")
        self._check()

    def _fail(self, reason: str) -> None:
        if self.failure is None:
            self.failure = reason
        self._greeted.set()
        for waiter in self._waiters.values():
            waiter.done.set()

    # ---- reading

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the job's own task, whose clean-up needs this one
    async def read(self, scope: trio.CancelScope) -> None:
        """Read until the connection ends or `scope` is cancelled; the task of `open_client`."""
        with scope:
            try:
                while data := await self._stream.receive_some(RECEIVE_BYTES):
                    self._protocol.feed(data)
                    while (event := self._protocol.next_event()) is not None:
                        await self._take(event)
                self._fail(f"the server closed the connection{self._goodbye}")
            except trio.BrokenResourceError as error:
                cause = error.__cause__
                reason = os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else "broken"
                self._fail(f"connection lost: {reason}{self._goodbye}")
            except trio.ClosedResourceError:
                self._fail("the connection is closed")
            except PeerError as error:
                self._fail(f"the server breaks the protocol: {error}")
            finally:
                self._fail("nobody reads from the server any more")
                self._ended.set()

    async def _take(self, event: object) -> None:
        match event:
            case Reply(sequence=sequence):
                waiter = self._waiters.get(sequence)
                if waiter is not None:  # else nobody waits any more: it came after its deadline
                    waiter.reply = event
                    waiter.done.set()
            case Post(body=NotifyConnectionStatusPost(reason=reason) as status) if (
                reason != ConnectionStatusReason.SHUTDOWN
            ):
                self._status(status)
            case Post(body=body):
                if isinstance(body, NotifyConnectionStatusPost) and body.text_reason:
                    self._goodbye = f" ({printable(body.text_reason)})"
                await self._on_post(body)  # SHUTDOWN too: jobs are given time to end

    def _status(self, status: NotifyConnectionStatusPost) -> None:
        if status.reason == ConnectionStatusReason.CONNECTED:
            self._greeting = status
            self._greeted.set()
        else:
            text = printable(status.text_reason)
            self._fail(f"the server refuses the session{f': {text}' if text else ''}")

    # ---- opening and closing

    async def negotiate(self, max_version: int, timeout_s: float) -> None:
        """Wait for the greeting and agree on the highest version that both sides have."""
        with trio.move_on_after(timeout_s):
            await self._greeted.wait()
        self._check()
        if self._greeting is None:
            raise ControlConnectionError(f"{self.server}: no NDMP greeting within {timeout_s:g} s")
        offered = self._greeting.protocol_version
        for version in range(min(max_version, offered), OLDEST_VERSION - 1, -1):
            try:
                await self.call(ConnectOpenRequest(version), ConnectOpenReply)
            except NdmpError as error:
                if error.code != ErrorCode.ILLEGAL_ARGS_ERR:
                    raise
            else:
                return
        raise ControlConnectionError(
            f"{self.server}: no protocol version in common: the server offers {offered}, "
            f"this client speaks {OLDEST_VERSION} to {max_version}"
        )

    async def login(self, credentials: Credentials) -> None:
        """Log in by the best method that both sides have; raises LoginError."""
        offered = await self._offered_methods()
        wanted = {
            "auto": (AuthType.MD5, AuthType.TEXT, AuthType.NONE),
            "md5": (AuthType.MD5,),
            "text": (AuthType.TEXT,),
            "none": (AuthType.NONE,),
        }[credentials.method]
        for method in wanted:
            if offered is not None and method not in offered:
                continue
            if offered is None and method == AuthType.NONE and credentials.method == "auto":
                continue  # not to be tried on a server that does not ask for it
            if await self._login_by(method, credentials):
                return
        names = ", ".join(_AUTH_NAMES.get(AuthType(m), str(m)) for m in offered or ()) or "none that it names"
        raise LoginError(f"{self.server}: no login method in common: the server offers {names}")

    async def _offered_methods(self) -> set[int] | None:
        """Login methods of the server; None if it does not say."""
        try:
            if self.version >= 3:
                methods = (await self.call(ConfigGetServerInfoRequest(), ConfigGetServerInfoReply)).auth_type
            else:
                methods = (await self.call(ConfigGetHostInfoRequest(), ConfigGetHostInfoReply)).auth_type
        except NdmpError:
            return None  # some servers want a login first: then the methods are tried in turn
        return {method for method in methods if method in _AUTH_NAMES} or None

    async def _login_by(self, method: AuthType, credentials: Credentials) -> bool:
        """Whether the login stands; False: the server does not have this method."""
        user, password = os.fsencode(credentials.user), os.fsencode(credentials.password)
        data: AuthData
        match method:
            case AuthType.MD5:
                try:
                    attr = await self.call(ConfigGetAuthAttrRequest(AuthType.MD5), ConfigGetAuthAttrReply)
                except NdmpError:
                    return False
                if not isinstance(attr.server_attr, AuthMd5Attr):
                    return False
                data = AuthMd5(user, md5_digest(attr.server_attr.challenge, password))
            case AuthType.TEXT:
                data = AuthText(user, password)
            case AuthType.NONE:
                data = AUTH_NONE
        try:
            await self.call(ConnectClientAuthRequest(data), ConnectClientAuthReply)
        except NdmpError as error:
            if error.code in {ErrorCode.ILLEGAL_ARGS_ERR, ErrorCode.NOT_SUPPORTED_ERR}:
                return False
            who = f"login of {credentials.user!r} by {_AUTH_NAMES[method]}"
            raise LoginError(f"{self.server}: {who} refused: {error_name(error.code)}") from error
        return True

    async def choose_extensions(self, wanted: Collection[int]) -> None:
        """Choose extensions, in version 1, of those that are offered; a server that knows of none has none.

        Raises:
            ControlConnectionError: the connection is gone.
        """
        if self.version < EXTENSIONS_FROM:
            return
        chosen = [number for number in wanted if number in await self._offered_extensions()]
        if not chosen:
            return
        try:
            selected = tuple(SelectedExt(number, 1) for number in chosen)
            await self.call(ConfigSetExtListRequest(selected), ConfigSetExtListReply)
        except NdmpError:
            return  # the job needs none of them
        self.extensions = self._protocol.extensions = dict.fromkeys(chosen, 1)

    async def _offered_extensions(self) -> set[int]:
        """Classes that are offered in version 1.

        NDMJOB's server answers GET_EXT_LIST with nothing at all. Requests are answered in order, so the reply to the
        next one says that no other will come.
        """
        sequence, waiter = await self._ask(ConfigGetExtListRequest())
        try:
            await self._exchange(ConfigGetServerInfoRequest())
        finally:
            self._waiters.pop(sequence, None)
        body = waiter.reply.body if waiter.reply is not None else None
        if not isinstance(body, ConfigGetExtListReply):
            return set()
        return {each.ext_class_id for each in body.class_list if 1 in each.ext_version}

    async def goodbye(self) -> None:
        """CONNECT_CLOSE, which has no reply, and a short wait for the server's end."""
        with trio.move_on_after(GOODBYE_S, shield=True):
            if self.failure is None:
                try:
                    async with self._sending:
                        await self._send(self._protocol.request(ConnectCloseRequest())[1])
                except DmaError:
                    return  # gone already: that is what was asked for
                await self._ended.wait()


def printable(text: bytes) -> str:
    """A server's text as one line, whatever bytes it has."""
    return one_line(text.decode("utf-8", "surrogateescape"))


async def connect_control(server: Server, timeout_s: float) -> ControlStream:
    """A connection to a server's control port, by TLS if it is to be; raises ControlConnectionError."""
    try:
        with trio.fail_after(timeout_s):
            stream = await trio.open_tcp_stream(server.host, server.port)
            _set_options(stream)
            return stream if server.tls is None else await secure(stream, server, server.tls)
    except trio.TooSlowError:
        raise ControlConnectionError(f"cannot connect to {server}: no answer within {timeout_s:g} s") from None
    except OSError as error:
        raise ControlConnectionError(f"cannot connect to {server}: {_reason(error)}") from error


def _set_options(stream: trio.SocketStream) -> None:
    """Find a server that is gone."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_S * 1000)


def _reason(error: OSError) -> str:
    """The cause in words: trio wraps the attempts at a host's several addresses in a group."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        elif isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, socket.gaierror):
            return os.strerror(cause.errno) if cause.errno in errno.errorcode else str(cause)
        elif cause.__cause__ is None:
            return str(cause.strerror) if isinstance(cause, OSError) and cause.strerror else str(cause)
        else:
            cause = cause.__cause__
    return str(error)


@contextlib.contextmanager
def single_error() -> Iterator[None]:
    """Take the group off an error that left a nursery alone: callers handle the error itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, BaseExceptionGroup):
            raise
        raise error from error.__cause__


@contextlib.asynccontextmanager
async def open_client(
    server: Server,
    credentials: Credentials,
    on_post: PostHandler,
    *,
    max_version: int = 4,
    connect_timeout_s: float = 30,
    request_timeout_s: float = 600,
) -> AsyncIterator[Client]:
    """A control connection, logged in, for the length of a block.

    Args:
        on_post: awaited for each post, in order; must not raise, nor make requests.

    Raises:
        ControlConnectionError: cannot connect, refused, no version in common.
        LoginError: no method in common, or refused.
    """
    stream = await connect_control(server, connect_timeout_s)
    client = Client(stream, server, on_post, request_timeout_s)
    reading = trio.CancelScope(shield=True)
    with single_error():
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(client.read, reading)
            try:
                await client.negotiate(max_version, connect_timeout_s)
                await client.login(credentials)
                yield client
            finally:
                await client.goodbye()
                reading.cancel()
