"""The server's end of a control connection, without I/O: bytes in, requests out; replies and posts in, bytes out.

Theory of operation. Records are decoded one at a time, when asked for: a CONNECT_OPEN or a login in front of a
request changes how that request is read and whether it is allowed, also when both came in one segment. What
needs no decision of the session is answered here, in the order of `next_event`: a cut-off header is dropped, as
are replies and posts (nobody waits for an answer), an unknown number is NOT_SUPPORTED, a message that needs a
login NOT_AUTHORIZED before its body is looked at, a bad body XDR_DECODE. The header's error field of a request
is ignored. Arguments, states and devices are the handlers' to judge.
Source: NDMPv4 sections 2.2 to 2.7 and 3.1.1.
"""

import time
from collections.abc import Callable
from typing import Final

import msgspec

from mover.ndmp import edge
from mover.ndmp.enums import HIGHEST_VERSION, ConnectionStatusReason, ErrorCode, MessageCode, MessageType
from mover.ndmp.errors import ApiError, XdrDecodeError
from mover.ndmp.extensions import Negotiation, layout_version
from mover.ndmp.framing import RECORD_LIMIT, RecordReader, mark
from mover.ndmp.header import SIZE, Header, decode_header
from mover.ndmp.messages import Body, ConnectOpenReply, ConnectOpenRequest, NotifyConnectionStatusPost
from mover.ndmp.table import POST_INTERFACES, ROWS, VERSIONS, class_of

LARGE: Final = frozenset(
    {
        MessageCode.TAPE_WRITE,
        MessageCode.TAPE_EXECUTE_CDB,
        MessageCode.SCSI_EXECUTE_CDB,
        MessageCode.DATA_START_BACKUP,
        MessageCode.DATA_START_RECOVER,
        MessageCode.DATA_START_RECOVER_FILEHIST,
    }
)
"""Requests that carry a tape record, an environment or a list of names."""
ORDINARY_BYTES_MAX: Final = 1 << 20
"""Longest other request; more cannot be meant, and decoded it could take many times its length."""


OPAQUE: Final = frozenset({MessageCode.TAPE_WRITE, MessageCode.TAPE_EXECUTE_CDB, MessageCode.SCSI_EXECUTE_CDB})
"""Of these the length says nothing of the work: bytes are taken as they are."""
SLOW_BYTES: Final = 64 << 10
"""From here on any other request may take longer to decode than everybody else should wait for: tens of nanoseconds a
byte, and hundreds in arrays of arrays."""


class Request(msgspec.Struct, frozen=True):
    """A request that a handler has to answer (CONNECT_CLOSE: to obey)."""

    header: Header
    code: MessageCode
    version: int  # of the session when it was read; of an extension's request, its class's
    body: Body


class Unread(msgspec.Struct, frozen=True):
    """A request whose body is yet to be decoded; `ServerProtocol.read` does that, in any thread."""

    header: Header
    code: MessageCode
    version: int
    record: bytes

    @property
    def is_slow(self) -> bool:
        """Whether that may take long."""
        return len(self.record) > SLOW_BYTES and self.code not in OPAQUE


class Answered(msgspec.Struct, frozen=True):
    """A request that the core answers by itself; `ServerProtocol.answer` makes the reply when its turn has come."""

    header: Header
    error: int
    body: bytes  # of the reply; empty: the error is in its header


class Discarded(msgspec.Struct, frozen=True):
    """A message that gets no answer; for the log."""

    header: Header | None  # None: there was no whole header
    reason: str


class ServerProtocol:
    """State of one control connection as far as the protocol core needs it.

    Attributes:
        version: the session's protocol version; the offered one until another is chosen.
        negotiated: whether the version is fixed.
        authenticated: whether the peer has logged in; set by whoever checks the login.
        extensions: how far the negotiation of extensions is.
        on_record: given each message of the peer as it comes, before anything is made of it; None = nobody listens.
    """

    def __init__(
        self,
        offered_version: int = HIGHEST_VERSION,
        *,
        clock: Callable[[], float] = time.time,
        record_limit: int = RECORD_LIMIT,
    ) -> None:
        if offered_version not in VERSIONS:
            raise ApiError(f"version {offered_version} cannot be offered")
        self.offered_version: Final = offered_version
        self.version = offered_version
        self.negotiated = False
        self.authenticated = False
        self.extensions = Negotiation()
        self.on_record: Callable[[bytes], None] | None = None
        self._clock = clock
        self._reader = RecordReader(record_limit)
        self._sequence = 0

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last message sent; 0 before the first."""
        return self._sequence

    @property
    def inside_record(self) -> bool:
        """Whether the peer's bytes end inside a message."""
        return self._reader.inside_record

    # ---- out

    def connected(self, text: bytes = b"") -> bytes:
        """The greeting that opens every connection and offers a version."""
        return self._status(ConnectionStatusReason.CONNECTED, text)

    def refuse(self, text: bytes) -> bytes:
        """What is sent instead of the greeting when the session cannot be taken; then close."""
        return self._status(ConnectionStatusReason.REFUSED, text)

    def shutdown(self, text: bytes = b"") -> bytes:
        """What is sent before the server closes of its own accord; only behind a greeting."""
        return self._status(ConnectionStatusReason.SHUTDOWN, text)

    def _status(self, reason: ConnectionStatusReason, text: bytes) -> bytes:
        return self.post(NotifyConnectionStatusPost(reason, self.offered_version, text))

    def post(self, body: Body) -> bytes:
        """A post; raises NotInVersionError, XdrEncodeError."""
        code, wire = edge.encode_body(self.version, body)
        return self.post_raw(code, wire) + wire

    def post_raw(self, code: int, body: bytes | memoryview) -> bytes:
        """What goes in front of a post body that is already encoded: mark and header; send [this, body]."""
        length = body.nbytes if isinstance(body, memoryview) else len(body)
        return mark(SIZE + length) + self._header(MessageType.REQUEST, code, 0, ErrorCode.NO_ERR)

    def reply(self, request: Request, body: Body) -> bytes:
        """The reply to a request; raises NotInVersionError for the wrong type, XdrEncodeError."""
        return self._reply(request.header, edge.encode_reply(request.version, request.code, body))

    def reply_error(self, request: Request, error: ErrorCode) -> bytes:
        """A whole reply with an error in its body and nothing else in it."""
        row = edge.row_of(request.version, request.code)
        return self.reply(request, edge.error_reply(row, error))

    def refuse_request(self, request: Request, error: ErrorCode) -> bytes:
        """A reply with the error in its header and no body: trouble with the message itself."""
        return self._refuse(request.header, error)

    def answer(self, answered: Answered) -> bytes:
        """The reply to a request that the core answers by itself."""
        if answered.body:
            return self._reply(answered.header, answered.body)
        return self._refuse(answered.header, answered.error)

    def _refuse(self, header: Header, error: int) -> bytes:
        return self._reply(header, b"", edge.map_error(self.version, error))

    def _reply(self, header: Header, wire: bytes, error: int = ErrorCode.NO_ERR) -> bytes:
        own = self._header(MessageType.REPLY, header.message, header.sequence, error)
        return mark(SIZE + len(wire)) + own + wire

    def _header(self, message_type: MessageType, code: int, reply_sequence: int, error: int) -> bytes:
        self._sequence = (self._sequence + 1) & 0xFFFF_FFFF
        now = int(self._clock()) & 0xFFFF_FFFF
        return Header(self._sequence, now, message_type, code, reply_sequence, error).encode()

    # ---- in

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes of the peer; then ask for events until None."""
        self._reader.feed(data)

    def next_event(self) -> Request | Answered | Discarded | None:
        """What the next message is, or None when more bytes are needed.

        Raises:
            FramingError: nothing can be read any more; close.
        """
        event = self.next_unread()
        return self.read(event) if isinstance(event, Unread) else event

    def next_unread(self) -> Unread | Answered | Discarded | None:
        """As ``next_event``, but that the body of a request is left as it came."""
        record = self._reader.next_record()
        if record is None:
            return None
        if self.on_record is not None:
            self.on_record(record)
        try:
            header = decode_header(record)
        except XdrDecodeError as error:
            return Discarded(None, str(error))
        if header.message_type != MessageType.REQUEST:
            return Discarded(header, f"message type {header.message_type} from a client")
        if header.message >> 8 in POST_INTERFACES:
            return Discarded(header, f"post {header.message:#x} from a client")
        if header.message == MessageCode.CONNECT_OPEN:
            return self._open(header, record)
        self.negotiated = True  # any other request accepts the offered version
        version = layout_version(self.version, self.extensions.in_force, header.message)
        row = ROWS.get((version, header.message))
        if row is None:
            return Answered(header, ErrorCode.NOT_SUPPORTED_ERR, b"")
        if row.needs_authentication and not self.authenticated:
            return Answered(header, ErrorCode.NOT_AUTHORIZED_ERR, b"")
        if len(record) > ORDINARY_BYTES_MAX and row.code not in LARGE:
            return Answered(header, ErrorCode.XDR_DECODE_ERR, b"")
        return Unread(header, row.code, version, record)

    def read(self, unread: Unread) -> Request | Answered:
        """Decode a request."""
        try:
            body = edge.decode_request(unread.version, unread.code, unread.record, SIZE)
        except XdrDecodeError:
            return Answered(unread.header, ErrorCode.XDR_DECODE_ERR, b"")
        if class_of(unread.code):
            self.extensions.use()
        return Request(unread.header, unread.code, unread.version, body)

    def _open(self, header: Header, record: bytes) -> Answered:
        try:
            request = edge.decode_request(self.version, MessageCode.CONNECT_OPEN, record, SIZE)
        except XdrDecodeError:
            return Answered(header, ErrorCode.XDR_DECODE_ERR, b"")
        assert isinstance(request, ConnectOpenRequest)
        error = self._negotiate(request.protocol_version)
        wire = edge.encode_reply(self.version, MessageCode.CONNECT_OPEN, ConnectOpenReply(error))
        return Answered(header, error, wire)

    def _negotiate(self, version: int) -> ErrorCode:
        """Outcome of a CONNECT_OPEN: the version is fixed once; repeating it before the login does no harm."""
        if self.negotiated:
            repeated = version == self.version and not self.authenticated
            return ErrorCode.NO_ERR if repeated else ErrorCode.ILLEGAL_STATE_ERR
        if version not in VERSIONS or version > self.offered_version:
            return ErrorCode.ILLEGAL_ARGS_ERR
        self.version = version
        self.negotiated = True
        return ErrorCode.NO_ERR
