"""A session with the server under test: greeting, version, login, requests and posts, each judged as it comes."""

import contextlib
import time
from collections.abc import Iterator
from os import fsencode
from typing import Final, TypeVar

import msgspec

from mover.conformance.options import Options
from mover.conformance.peer import Peer
from mover.conformance.results import MismatchError, NotOfferedError, ServerGoneError, SkippedError
from mover.conformance.wire import POST_INTERFACES, Message, Wire
from mover.ndmp import edge
from mover.ndmp import messages as m
from mover.ndmp.auth import md5_digest
from mover.ndmp.enums import AuthType, ConnectionStatusReason, DataState, ErrorCode, MessageCode, MessageType
from mover.ndmp.errors import NdmpError, XdrDecodeError

B = TypeVar("B", bound=m.Body)

POSTS_MAX: Final = 1000
"""Most posts kept of a check; history is not kept at all."""
GOODBYE_S: Final = 2.0
HIGHEST_ERROR: Final = {1: 22, 2: 22, 3: 23, 4: 30}  # messages.md 2
KNOWN_ERRORS: Final = frozenset(int(code) for code in ErrorCode)
EXTENSION_ERRORS: Final = 0x0001_0000  # v4: class and code
_HISTORY: Final = 0x07
_LEAVING: Final = (
    MessageCode.DATA_ABORT,
    MessageCode.MOVER_ABORT,
    MessageCode.DATA_STOP,
    MessageCode.MOVER_STOP,
    MessageCode.TAPE_CLOSE,
    MessageCode.CONNECT_CLOSE,
)


def error_name(error: int) -> str:
    """The name of an error code, or its number."""
    return ErrorCode(error).name if error in KNOWN_ERRORS else f"error {error}"


class Answer(msgspec.Struct, frozen=True):
    """A reply.

    Attributes:
        error: name of the error in header or body.
        body: None with an error in the header.
    """

    error: str
    body: m.Body | None

    @property
    def good(self) -> bool:
        return self.error == ErrorCode.NO_ERR.name


class Offer(msgspec.Struct, frozen=True):
    """What a server has in one version, asked for once.

    Attributes:
        missing: interfaces that it answers NOT_SUPPORTED_ERR to.
        addr_types: of data connections.
    """

    missing: frozenset[str] = frozenset()
    addr_types: frozenset[int] = frozenset()


class Session:
    """One control connection in one version; made by `open_session`.

    Attributes:
        offered_version: of the greeting.
        greeting: as it came.
        posts: what the server said by itself, but for file history.
        history_at, halted_at: sequence numbers of the last post of file history and of NOTIFY_DATA_HALTED.
    """

    def __init__(self, options: Options, version: int, wire: Wire, peer: Peer, offer: Offer) -> None:
        self.options = options
        self.version = version
        self.wire = wire
        self.peer = peer
        self.offer = offer
        self.posts: list[m.Body] = []
        self.history_at = 0
        self.halted_at = 0
        self.greeting = wire.receive("a greeting")
        self.offered_version = self._offered()

    def _offered(self) -> int:
        header, body = self.greeting.header, self.greeting.body
        if (header.message_type, header.message) != (MessageType.REQUEST, MessageCode.NOTIFY_CONNECTION_STATUS):
            raise MismatchError(f"expected NOTIFY_CONNECTED as the first message, got message {header.message:#06x}")
        post = self._decoded_post(self.greeting)
        assert isinstance(post, m.NotifyConnectionStatusPost), body
        if post.reason != ConnectionStatusReason.CONNECTED:
            text = post.text_reason.decode("utf-8", "backslashreplace")
            raise ServerGoneError(f"the server refuses the session: {text}")
        return post.protocol_version

    # ---- opening

    def negotiate(self) -> None:
        """CONNECT_OPEN; raises NotOfferedError when the server does not have this version."""
        if self.version > self.offered_version:
            raise NotOfferedError(f"the greeting offers version {self.offered_version}")
        error = self.ask(m.ConnectOpenRequest(self.version)).error
        if error == ErrorCode.ILLEGAL_ARGS_ERR.name:
            raise NotOfferedError("CONNECT_OPEN is answered ILLEGAL_ARGS_ERR")
        if error != "NO_ERR":
            raise MismatchError(f"CONNECT_OPEN({self.version}): expected NO_ERR, got {error}")

    def log_in(self) -> None:
        """Log in by the method asked for."""
        options = self.options
        user, password = fsencode(options.user), fsencode(options.password)
        if options.auth == "md5" and self.version == 1:
            raise NotOfferedError("version 1 has no login by MD5, and no other is allowed")
        if options.auth != "text" and self.version > 1:
            attr = self.ask(m.ConfigGetAuthAttrRequest(AuthType.MD5)).body
            if isinstance(attr, m.ConfigGetAuthAttrReply) and isinstance(attr.server_attr, m.AuthMd5Attr):
                digest = md5_digest(attr.server_attr.challenge, password)
                self._must_log_in(m.AuthMd5(user, digest))
                return
            if options.auth == "md5":
                raise ServerGoneError("no login: the server does not offer MD5")
        self._must_log_in(m.AuthText(user, password))

    def _must_log_in(self, data: m.AuthText | m.AuthMd5) -> None:
        error = self.ask(m.ConnectClientAuthRequest(data)).error
        if error != "NO_ERR":
            raise ServerGoneError(f"no login: {error}")

    # ---- requests

    def ask(self, body: m.Body) -> Answer:
        """Send a request and wait for its reply.

        Raises:
            MismatchError: the reply does not decode, or has an error that its version does not have.
            ServerGoneError: there is none.
        """
        code, data = edge.encode_body(self.version, body)
        sequence = self.wire.request(code, data)
        return self.decoded(self.reply(code, sequence), code)

    def reply(self, code: int, sequence: int) -> Message:
        """The reply to a request that was sent, past posts."""
        name = message_name(self.version, code)
        while True:
            message = self.wire.receive(f"a reply to {name}")
            if not message.is_reply:
                self._keep(message)
            elif message.header.reply_sequence != sequence or message.header.message != code:
                got = f"reply {message.header.message:#06x} to request {message.header.reply_sequence}"
                self.wire.fault(f"{got}, expected {code:#06x} to {sequence}")
            else:
                return message

    def decoded(self, message: Message, code: int) -> Answer:
        """A reply as a body; raises MismatchError."""
        name = message_name(self.version, code)
        if message.header.error:
            return Answer(self._error(name, message.header.error), None)
        try:
            body = edge.decode_reply(self.version, code, message.body)
        except NdmpError as error:
            raise MismatchError(f"the reply to {name} does not decode: {error}") from None
        with contextlib.suppress(NdmpError):  # a value that we never send: then its length is not judged
            length = len(edge.encode_reply(self.version, code, body))
            if length < len(message.body):
                self.wire.fault(f"{len(message.body) - length} bytes behind the body of the reply to {name}")
        return Answer(self._error(name, getattr(body, "error", 0)), body)

    def _error(self, name: str, error: int) -> str:
        known = error in KNOWN_ERRORS and error <= HIGHEST_ERROR[self.version]
        if not known and not (self.version == 4 and error >= EXTENSION_ERRORS):
            raise MismatchError(
                f"{name} is answered with {error_name(error)}, which version {self.version} does not have"
            )
        return error_name(error)

    def ok(self, body: m.Body, reply: type[B]) -> B:
        """The reply to a request that has to succeed."""
        answer = self.ask(body)
        if not answer.good or not isinstance(answer.body, reply):
            raise MismatchError(f"{request_name(body)}: expected NO_ERR, got {answer.error}")
        return answer.body

    def done(self, *bodies: m.Body) -> None:
        """Requests that have to succeed, on the way to what a check is about."""
        for body in bodies:
            self.ok(body, m.Body)

    def expect(self, body: m.Body, *allowed: str) -> Answer:
        """Send a request that must be answered by one of these errors (`NO_ERR` is one)."""
        answer = self.ask(body)
        if answer.error not in allowed:
            raise MismatchError(f"{request_name(body)}: expected {' or '.join(allowed)}, got {answer.error}")
        return answer

    def expect_or_not_offered(self, body: m.Body, *allowed: str) -> Answer:
        """As `expect`, of a message that is optional."""
        answer = self.expect(body, *allowed, ErrorCode.NOT_SUPPORTED_ERR.name)
        if answer.error == ErrorCode.NOT_SUPPORTED_ERR.name and answer.error not in allowed:
            raise NotOfferedError(f"{request_name(body)} is answered NOT_SUPPORTED_ERR")
        return answer

    # ---- posts

    def wait_for(self, kind: type[B]) -> B:
        """The first post of a kind, waiting for it."""
        post = self.wait_for_any(kind)
        assert isinstance(post, kind)
        return post

    def wait_for_any(self, *kinds: type[m.Body]) -> m.Body:
        """The first post of one of these kinds, waiting for it."""
        at = 0
        while True:
            for post in self.posts[at:]:
                if isinstance(post, kinds):
                    return post
            at = len(self.posts)
            message = self.wire.receive(f"post {' or '.join(kind.__name__.removesuffix('Post') for kind in kinds)}")
            if message.is_reply:
                self.wire.fault(f"reply {message.header.message:#06x} to no request of ours")
            else:
                self._keep(message)

    def of_kind(self, kind: type[B]) -> list[B]:
        """The posts of a kind that have come so far."""
        return [post for post in self.posts if isinstance(post, kind)]

    def _keep(self, message: Message) -> None:
        code = message.header.message
        if code >> 8 not in POST_INTERFACES:
            return
        try:
            post = self._decoded_post(message)
        except MismatchError as error:
            self.wire.fault(str(error))
            return
        if isinstance(post, m.NotifyDataHaltedPost):
            self.halted_at = message.header.sequence
        if code >> 8 == _HISTORY:
            self.history_at = message.header.sequence
        elif len(self.posts) < POSTS_MAX:
            self.posts.append(post)

    def _decoded_post(self, message: Message) -> m.Body:
        code = message.header.message
        try:
            return edge.decode_request(self.version, code, message.body)
        except XdrDecodeError as error:
            raise MismatchError(f"post {message_name(self.version, code)} does not decode: {error}") from None
        except NdmpError:
            raise MismatchError(f"post {code:#06x} does not exist in version {self.version}") from None

    # ---- states

    def data_state(self) -> m.DataGetStateReply:
        return self.ok(m.DataGetStateRequest(), m.DataGetStateReply)

    def mover_state(self) -> m.MoverGetStateReply:
        return self.ok(m.MoverGetStateRequest(), m.MoverGetStateReply)

    def everything(self) -> tuple[object, ...]:
        """What the three GET_STATEs tell, but for how far a running operation is."""
        data = self.ask(m.DataGetStateRequest())
        mover = self.ask(m.MoverGetStateRequest()) if self.version > 1 else None
        tape = self.ask(m.TapeGetStateRequest())
        still = {"bytes_processed": 0, "est_bytes_remain": 0, "est_time_remain": 0, "unsupported": 0}
        data_body = msgspec.structs.replace(data.body, **still) if data.body is not None else None
        tape_body = msgspec.structs.replace(tape.body, flags=0) if tape.body is not None else None
        if self.version == 1 and isinstance(data_body, m.DataGetStateReply) and data_body.state == DataState.ACTIVE:
            tape_body = None  # the operation moves the tape
        return data.error, data_body, mover, tape.error, tape_body


@contextlib.contextmanager
def open_session(
    options: Options,
    version: int,
    offer: Offer,
    faults: list[str],
    *,
    deadline: float | None = None,
    negotiated: bool = True,
    logged_in: bool = True,
) -> Iterator[Session]:
    """A fresh session for the length of a block; what its messages had wrong is appended to `faults`."""
    until = time.monotonic() + options.timeout_s if deadline is None else deadline
    with Wire(options.host, options.port, until, options.tls) as wire, Peer(wire.local_ipv4, until) as peer:
        try:
            session = Session(options, version, wire, peer, offer)
            if negotiated:
                session.negotiate()
                if logged_in:
                    session.log_in()
            yield session
        finally:
            faults += wire.faults
            if negotiated:
                _leave(wire)


def _leave(wire: Wire) -> None:
    """End whatever a check has begun, CONNECT_CLOSE, and a short wait for the server's end.

    Servers are known that keep a drive locked when a session ends with it open.
    """
    wire.deadline = time.monotonic() + GOODBYE_S
    with contextlib.suppress(ServerGoneError):
        for code in _LEAVING:
            wire.request(code)
        wire.ended()


def message_name(version: int, code: int) -> str:
    """A message number's name in a version, or the number."""
    try:
        return edge.row_of(version, code).name
    except NdmpError:
        return f"message {code:#06x}"


def request_name(body: m.Body) -> str:
    """A request's name and arguments as a reader of the specification knows them."""
    values = ", ".join(_shown(getattr(body, name)) for name in body.__struct_fields__)
    name = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in type(body).__name__)
    return f"{name.removeprefix('_').removesuffix('_REQUEST')}({values})"


def _shown(value: object) -> str:
    match value:
        case bytes() if len(value) > 24:
            return f"{len(value)} bytes"
        case bytes():
            return repr(value)[1:]
        case int():
            return "all ones" if value == 2**64 - 1 else str(int(value))
        case m.LocalAddress():
            return "LOCAL"
        case m.TcpAddress():
            return "TCP"
        case m.TcpIpv6Address():
            return "TCP/IPv6"
        case m.UnknownArm():
            return f"type {value.discriminant}"
        case _:
            return "..."


def need(condition: bool, why: str) -> None:
    """Raise SkippedError unless there is something to judge."""
    if not condition:
        raise SkippedError(why)


def must(condition: bool, what: str, got: object) -> None:
    """Raise MismatchError unless the server is right."""
    if not condition:
        raise MismatchError(f"expected {what}, got {got}")
