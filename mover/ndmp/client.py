"""The DMA's end of a control connection, without I/O: requests in, bytes out; bytes in, replies and posts out.

Replies are paired by `reply_sequence` alone: the same request may be outstanding twice, posts come at any time.
Source: NDMPv4 sections 2.2 to 2.7.
"""

import time
from collections.abc import Callable, Mapping

import msgspec

from mover.ndmp import edge
from mover.ndmp.enums import HIGHEST_VERSION, ConnectionStatusReason, ErrorCode, MessageCode, MessageType
from mover.ndmp.errors import XdrDecodeError
from mover.ndmp.extensions import DEFAULTS, layout_version
from mover.ndmp.framing import RECORD_LIMIT, RecordReader, mark
from mover.ndmp.header import SIZE, Header, decode_header
from mover.ndmp.messages import Body, ConnectOpenRequest, NotifyConnectionStatusPost
from mover.ndmp.server import Discarded
from mover.ndmp.table import ROWS, TABLE, Kind


class Reply(msgspec.Struct, frozen=True):
    """The answer to a request of ours."""

    header: Header
    sequence: int  # of the request
    request: MessageCode
    error: int  # the header's, or else the body's
    body: Body | None  # None: the header carries an error


class Post(msgspec.Struct, frozen=True):
    """A post of the server in the internal form."""

    header: Header
    code: MessageCode
    version: int
    body: Body


class _Outstanding(msgspec.Struct, frozen=True):
    code: MessageCode
    version: int  # in which the reply will be
    opens: int | None  # the version that a CONNECT_OPEN asks for


class ClientProtocol:
    """State of one control connection at the DMA.

    Attributes:
        version: the session's version: the offered one (at most ours) until a CONNECT_OPEN is accepted.
        offered_version: what the greeting offered; None before it.
        extensions: class -> version of the extensions in force; set by whoever negotiates them.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, record_limit: int = RECORD_LIMIT) -> None:
        self.version = HIGHEST_VERSION
        self.offered_version: int | None = None
        self.extensions: Mapping[int, int] = DEFAULTS
        self._clock = clock
        self._reader = RecordReader(record_limit)
        self._sequence = 0
        self._outstanding: dict[int, _Outstanding] = {}

    @property
    def inside_record(self) -> bool:
        """Whether the server's bytes end inside a message."""
        return self._reader.inside_record

    def request(self, body: Body) -> tuple[int, bytes]:
        """Sequence number and bytes of a request; raises NotInVersionError, XdrEncodeError."""
        version = layout_version(self.version, self.extensions, edge.class_of_body(type(body)) << 16)
        code, wire = edge.encode_body(version, body)
        self._sequence = (self._sequence + 1) & 0xFFFF_FFFF
        if ROWS[version, code].kind is Kind.REQUEST:
            opens = body.protocol_version if isinstance(body, ConnectOpenRequest) else None
            self._outstanding[self._sequence] = _Outstanding(code, version, opens)
        now = int(self._clock()) & 0xFFFF_FFFF
        header = Header(self._sequence, now, MessageType.REQUEST, code, 0, ErrorCode.NO_ERR)
        return self._sequence, mark(SIZE + len(wire)) + header.encode() + wire

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes of the server; then ask for events until None."""
        self._reader.feed(data)

    def next_event(self) -> Reply | Post | Discarded | None:
        """The next reply or post, or None when more bytes are needed.

        Raises:
            FramingError: nothing can be read any more; close.
            XdrDecodeError: the body of this one message is bad; the next can be asked for.
        """
        record = self._reader.next_record()
        if record is None:
            return None
        try:
            header = decode_header(record)
        except XdrDecodeError as error:
            return Discarded(None, str(error))
        if header.message_type == MessageType.REPLY:
            return self._reply(header, record)
        row = TABLE.get((self.version, header.message))
        if header.message_type != MessageType.REQUEST or row is None or row.kind is not Kind.POST:
            return Discarded(header, f"message {header.message:#x} of type {header.message_type} from a server")
        body = edge.decode_request(self.version, row.code, record, SIZE)
        if isinstance(body, NotifyConnectionStatusPost) and body.reason == ConnectionStatusReason.CONNECTED:
            self.offered_version = body.protocol_version
            self.version = min(body.protocol_version, HIGHEST_VERSION)
        return Post(header, row.code, self.version, body)

    def _reply(self, header: Header, record: bytes) -> Reply | Discarded:
        sent = self._outstanding.get(header.reply_sequence)
        if sent is None or sent.code != header.message:
            return Discarded(header, f"reply {header.message:#x} to no request of ours")
        del self._outstanding[header.reply_sequence]
        if header.error != ErrorCode.NO_ERR:
            return Reply(header, header.reply_sequence, sent.code, header.error, None)
        body = edge.decode_reply(sent.version, sent.code, record, SIZE)
        error: int = getattr(body, "error", ErrorCode.NO_ERR)
        if sent.opens is not None and error == ErrorCode.NO_ERR:
            self.version = sent.opens
        return Reply(header, header.reply_sequence, sent.code, error, body)
