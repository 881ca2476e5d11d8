"""One control connection as bytes and messages, every wait under the deadline of the check.

What the server sends is bounded: the length of a message, the bytes of one check, the posts that are kept. Whatever a
header has wrong, and what a message has behind its body, is kept in `faults` and judged once for all checks of a group.
"""

import socket
import struct
import time
from types import TracebackType
from typing import Final, Self

import msgspec

from mover.conformance.results import NotReachedError, ServerGoneError
from mover.conformance.secure import secure
from mover.ndmp.enums import MessageType
from mover.ndmp.errors import FramingError, XdrDecodeError
from mover.ndmp.framing import RecordReader, mark
from mover.ndmp.header import SIZE, Header, decode_header
from mover.ndmp.secure import Tls

MESSAGE_MAX: Final = 4 << 20
"""Longest message taken, in bytes: no request of ours asks for more."""
RECEIVED_MAX: Final = 64 << 20
"""Most bytes taken in one check."""
FAULTS_MAX: Final = 8
POST_INTERFACES: Final = range(0x05, 0x08)
_RECEIVE_BYTES: Final = 1 << 16


class Message(msgspec.Struct, frozen=True):
    """A message of the server."""

    header: Header
    body: bytes

    @property
    def is_reply(self) -> bool:
        return self.header.message_type == MessageType.REPLY


def request_record(sequence: int, number: int, body: bytes, kind: int = MessageType.REQUEST) -> bytes:
    """A message of ours without its mark."""
    now = int(time.time()) & 0xFFFF_FFFF
    return Header(sequence, now, kind, number, 0, 0).encode() + body


def marked(record: bytes) -> bytes:
    """A record as one fragment."""
    return mark(len(record)) + record


def fragments(record: bytes, size: int) -> bytes:
    """A record in fragments of `size` bytes."""
    parts = [record[at : at + size] for at in range(0, len(record), size)]
    head = b"".join(struct.pack(">I", len(part)) + part for part in parts[:-1])
    return head + mark(len(parts[-1])) + parts[-1]


class Wire:
    """A TCP connection to the server; a context manager that closes it.

    Attributes:
        deadline: when the check ends, on the monotonic clock.
        faults: what the server's messages had wrong besides what a check judges.
    """

    def __init__(self, host: str, port: int, deadline: float, tls: Tls | None = None) -> None:
        self.deadline = deadline
        self.faults: list[str] = []
        self._reader = RecordReader(MESSAGE_MAX)
        self._received = 0
        self._sent_sequence = 0
        self._seen_sequence = 0
        try:
            connected = socket.create_connection((host, port), timeout=max(0.001, self._left()))
        except TimeoutError:
            raise NotReachedError("no answer to the TCP connect") from None
        except OSError as error:
            raise NotReachedError(error.strerror or str(error)) from None
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket = connected if tls is None else secure(connected, host, tls)
        except BaseException:
            connected.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def local_ipv4(self) -> str | None:
        """Our address on this connection, which the server can reach; None over IPv6."""
        return str(self._socket.getsockname()[0]) if self._socket.family == socket.AF_INET else None

    def _left(self) -> float:
        return self.deadline - time.monotonic()

    # ---- out

    def next_request(self, number: int, body: bytes = b"") -> tuple[int, bytes]:
        """Sequence number and record of the next request."""
        self._sent_sequence += 1
        return self._sent_sequence, request_record(self._sent_sequence, number, body)

    def request(self, number: int, body: bytes = b"") -> int:
        """Send a request; returns its sequence number."""
        sequence, record = self.next_request(number, body)
        self.send(marked(record))
        return sequence

    def send(self, data: bytes) -> None:
        """Send bytes; raises ServerGoneError."""
        self._socket.settimeout(max(0.001, self._left()))
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise ServerGoneError("the server took no data until the deadline") from None
        except OSError as error:
            raise ServerGoneError(f"the connection broke: {error.strerror}", closed=True) from None

    def shut_down(self) -> None:
        """End our side of the connection without a word."""
        self._socket.shutdown(socket.SHUT_WR)

    # ---- in

    def receive(self, what: str, until: float | None = None) -> Message:
        """The next message.

        Args:
            what: what is waited for, for the text of an error.
            until: an earlier deadline than the check's.

        Raises:
            ServerGoneError: it does not come.
        """
        deadline = self.deadline if until is None else min(until, self.deadline)
        while True:
            try:
                record = self._reader.next_record()
            except FramingError as error:
                raise ServerGoneError(f"garbage instead of {what}: {error}") from None
            if record is not None:
                try:
                    header = decode_header(record)
                except XdrDecodeError as error:
                    raise ServerGoneError(f"garbage instead of {what}: {error}") from None
                message = Message(header, record[SIZE:])
                self._judge(message)
                return message
            data = self._some(what, deadline)
            if not data:
                inside = " inside a message" if self._reader.inside_record else ""
                raise ServerGoneError(f"the server closed the connection{inside} before {what}", closed=True)
            self._reader.feed(data)

    def ended(self) -> bool:
        """Whether the server closes the connection before the deadline; whatever it still says is ignored."""
        try:
            while self._some("the end of the connection", self.deadline):
                pass
        except ServerGoneError as gone:
            return gone.closed
        return True

    def _some(self, what: str, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ServerGoneError(f"waited in vain for {what}")
        self._socket.settimeout(left)
        try:
            # A server that sends one message in several writes would wait for a delayed acknowledgement in each.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            data = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError:
            raise ServerGoneError(f"waited in vain for {what}") from None
        except OSError as error:
            raise ServerGoneError(f"the connection broke before {what}: {error.strerror}", closed=True) from None
        self._received += len(data)
        if self._received > RECEIVED_MAX:
            raise ServerGoneError(f"over {RECEIVED_MAX} bytes in one check")
        return data

    def fault(self, text: str) -> None:
        """Remember something wrong that this check does not judge."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(text)

    def _judge(self, message: Message) -> None:
        header = message.header
        what = f"message {header.message:#06x}"
        expected = (self._seen_sequence + 1) & 0xFFFF_FFFF
        if header.sequence != expected:
            self.fault(f"{what} has sequence number {header.sequence}, expected {expected}")
        self._seen_sequence = header.sequence
        if header.message_type not in {MessageType.REQUEST, MessageType.REPLY}:
            self.fault(f"{what} has message type {header.message_type}")
        elif message.is_reply:
            if header.error and message.body:
                self.fault(f"reply {header.message:#06x} has an error in its header and {len(message.body)} bytes more")
        elif header.message >> 8 not in POST_INTERFACES:
            self.fault(f"{what} is a request, which a server never sends")
        elif header.reply_sequence or header.error:
            self.fault(f"post {header.message:#06x} has reply sequence {header.reply_sequence}, error {header.error}")
