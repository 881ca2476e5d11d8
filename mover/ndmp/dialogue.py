"""The protocol log of one connection, without I/O: message records in, lines of JSON out.

Theory of operation. A log has a first line (`Opening`), a line for each message in the order in which the server took
and sent them (`Message`), and a last one (`Closing`); a `Gap` stands where messages were left out because they came
faster than a log may grow. Fields are those of the internal form, so that a log reads alike in every version; a message
of the client has its record in hex too, which is what a replay sends. Passwords and digests are in neither: their
fields say so, and the record holds empty ones. A login that cannot be decoded is logged without its body, for
nobody can tell where the secret stands. The token of an encrypted data connection is treated alike.
Times are an argument. docs/protocol-log.md describes the file.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from mover.ndmp import edge
from mover.ndmp import messages as m
from mover.ndmp.address_env import TOKEN, without_token
from mover.ndmp.dialogue_fields import Fields, blank, fields_of, named
from mover.ndmp.enums import ErrorCode, MessageCode, MessageType
from mover.ndmp.errors import XdrDecodeError
from mover.ndmp.extensions import DEFAULTS, layout_version
from mover.ndmp.header import SIZE, Header, decode_header
from mover.ndmp.table import ROWS, Kind

FORMAT: Final = 1
LOG_BYTES_MAX: Final = 64 << 20
"""Longest log; then it ends."""
RATE_BYTES: Final = 2 << 20
"""Bytes of messages a second that are logged in the long run; what comes faster is counted in a Gap."""
BURST_BYTES: Final = 16 << 20
RECORD_BYTES_MAX: Final = (1 << 20) + 4096
"""Longest message of a client that is kept for a replay: a TAPE_WRITE of the longest record by default."""
_LINE_ROOM: Final = 1024  # for the closing line

INTERFACES: Final = {
    0x1: "config", 0x2: "scsi", 0x3: "tape", 0x4: "data", 0x5: "notify", 0x6: "log", 0x7: "fh", 0x9: "connect",
    0xA: "mover",
}  # fmt: skip
"""High byte of a message number -> what a filter calls it; any other number is "other"."""
ALL_INTERFACES: Final = frozenset({*INTERFACES.values(), "other"})

_LOGINS: Final = frozenset({MessageCode.CONNECT_CLIENT_AUTH, MessageCode.CONNECT_SERVER_AUTH})
_ADDRESSES: Final = frozenset(
    {MessageCode.DATA_LISTEN, MessageCode.DATA_CONNECT, MessageCode.MOVER_LISTEN, MessageCode.MOVER_CONNECT}
)
"""Messages whose addresses may hold a token of an encrypted data connection."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", rename="kebab"):
    """Base of the lines; `time` is in seconds since 1970."""

    time: float


class Opening(_Line, frozen=True, kw_only=True, tag="log"):
    """First line. `whole`: from the first byte of the connection, so that a replay needs no more."""

    format: int = FORMAT
    server: str
    session: int
    peer: str
    version: int  # of the protocol, as the log begins
    filter: str
    interfaces: list[str]
    whole: bool


class Message(_Line, frozen=True, kw_only=True, tag="message"):
    """One message.

    Attributes:
        sender: client or server ("from" in the file).
        kind: unreadable: without a whole header. unknown: the version has no such message, or not from this side.
        message: its name in the version, or its number in hex.
        error: of the header, for replies.
        fields: of the body; None: there is none, or it cannot be decoded.
        record: header and body in hex, of a client's messages only.
        note: why fields or record are not there.
    """

    sender: Literal["client", "server"] = msgspec.field(name="from")
    kind: Literal["request", "reply", "post", "unknown", "unreadable"]
    message: str
    version: int
    sequence: int | None = None
    reply_to: int | None = None
    error: str | int | None = None
    fields: Fields | None = None
    record: str | None = None
    note: str | None = None


class Gap(_Line, frozen=True, kw_only=True, tag="gap"):
    """Messages that were left out here; `requests` of them came from the client."""

    messages: int
    requests: int
    bytes: int


class Closing(_Line, frozen=True, kw_only=True, tag="end"):
    """Last line."""

    reason: str
    messages: int
    left_out: int


Line = Opening | Message | Gap | Closing

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class LineError(ValueError):
    """A line that is none of a protocol log."""


def decode_line(line: bytes) -> Line:
    """A line of a log; raises LineError."""
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LineError(str(error)) from None


# ---- one message


def describe(
    version: int, record: bytes, *, from_client: bool, time: float, extensions: Mapping[int, int] = DEFAULTS
) -> Message:
    """A message as its line.

    Args:
        version: of the session when the message was read or sent.
        record: header and body, without record marking.
        extensions: class -> version of the extensions in force then.
    """
    sender: Literal["client", "server"] = "client" if from_client else "server"
    try:
        header = decode_header(record)
    except XdrDecodeError as error:
        return Message(
            time=time, sender=sender, kind="unreadable", message="", version=version, record=_hex(record, from_client),
            note=str(error),
        )  # fmt: skip
    layout = layout_version(version, extensions, header.message)
    row = ROWS.get((layout, header.message))
    is_reply = header.message_type == MessageType.REPLY
    is_post = row is not None and row.kind is Kind.POST
    kind: Literal["request", "reply", "post", "unknown"] = "reply" if is_reply else "post" if is_post else "request"
    is_none = row is None or (is_reply and row.reply is None)
    if is_none or from_client is (is_reply or is_post) or header.message_type > MessageType.REPLY:
        kind = "unknown"
    body: m.Body | None = None
    note: str | None = None
    if kind != "unknown" and not (is_reply and header.error):
        decode = edge.decode_reply if is_reply else edge.decode_request
        try:
            body = decode(layout, header.message, record, SIZE)
        except XdrDecodeError as error:
            note = f"the body cannot be decoded: {error}"
    if from_client and header.message in _LOGINS:
        record = _without_secret(version, record, body)
        if body is None and len(record) == SIZE:
            note = "the body of a login that cannot be decoded is left out"
    elif header.message in _ADDRESSES and TOKEN in record:
        body = without_token(body) if body is not None else None
        record = record[:SIZE] + (edge.encode_body(layout, body)[1] if body is not None and from_client else b"")
        if body is None:
            note = "an address that cannot be decoded is left out"
    return Message(
        time=time,
        sender=sender,
        kind=kind,
        message=f"{header.message:#x}" if row is None else row.name,
        version=version,
        sequence=header.sequence,
        reply_to=header.reply_sequence if is_reply else None,
        error=named(ErrorCode, header.error) if is_reply and header.error else None,
        fields=None if body is None else fields_of(body),
        record=_hex(record, from_client),
        note=f"{len(record)} bytes are too many to be kept for a replay" if _too_long(record, from_client) else note,
    )


def _too_long(record: bytes, from_client: bool) -> bool:
    return from_client and len(record) > RECORD_BYTES_MAX


def _hex(record: bytes, from_client: bool) -> str | None:
    return record.hex() if from_client and not _too_long(record, from_client) else None


def _without_secret(version: int, record: bytes, body: m.Body | None) -> bytes:
    if body is None:
        return record[:SIZE]
    if isinstance(body, m.ConnectClientAuthRequest):
        body = m.ConnectClientAuthRequest(blank(body.auth_data))
    return record[:SIZE] + edge.encode_body(version, body)[1]  # without what a client put behind it


# ---- the log


class DialogueLog:
    """The log of one connection: what is to be written for each message.

    Attributes:
        messages, left_out: lines written, and messages that came too fast.
        full: whether LOG_BYTES_MAX is reached; the closing line has been given then.
    """

    def __init__(
        self, interfaces: frozenset[str], *, log_bytes_max: int = LOG_BYTES_MAX, rate_bytes: int = RATE_BYTES,
        burst_bytes: int = BURST_BYTES,
    ) -> None:  # fmt: skip
        self.messages = 0
        self.left_out = 0
        self.bytes = 0
        self.full = False
        self._interfaces = interfaces
        self._log_bytes_max = log_bytes_max
        self._rate_bytes = rate_bytes
        self._burst_bytes = burst_bytes
        self._budget = float(burst_bytes)
        self._filled_at: float | None = None
        self._gap: Gap | None = None

    def open(
        self, *, server: str, session: int, peer: str, version: int, filter_text: str, whole: bool, now: float
    ) -> bytes:
        """The first line."""
        return self._line(
            Opening(
                time=now, server=server, session=session, peer=peer, version=version, filter=filter_text,
                interfaces=sorted(self._interfaces), whole=whole,
            )
        )  # fmt: skip

    def message(
        self, version: int, record: bytes, *, from_client: bool, now: float, extensions: Mapping[int, int] = DEFAULTS
    ) -> bytes:
        """What to write for a message; may be nothing. The arguments are those of `describe`."""
        if self.full or interface_of(record) not in self._interfaces:
            return b""
        if not self._affords(len(record), now):
            gap = self._gap or Gap(time=now, messages=0, requests=0, bytes=0)
            self._gap = Gap(
                time=gap.time,
                messages=gap.messages + 1,
                requests=gap.requests + from_client,
                bytes=gap.bytes + len(record),
            )
            self.left_out += 1
            return b""
        self.messages += 1
        before = self._take_gap()
        return before + self._line(describe(version, record, from_client=from_client, time=now, extensions=extensions))

    def close(self, reason: str, now: float) -> bytes:
        """The last lines; nothing when the log is full."""
        if self.full:
            return b""
        return self._take_gap() + self._line(self._closing(reason, now))

    def _closing(self, reason: str, now: float) -> Closing:
        return Closing(time=now, reason=reason, messages=self.messages, left_out=self.left_out)

    def _take_gap(self) -> bytes:
        gap, self._gap = self._gap, None
        return b"" if gap is None else self._line(gap)

    def _line(self, line: Line) -> bytes:
        text = _encoder.encode(line) + b"\n"
        if self.full:
            return b""
        if not isinstance(line, Closing) and self.bytes + len(text) + _LINE_ROOM > self._log_bytes_max:
            self.full = True
            text = _encoder.encode(self._closing("the log is full", line.time)) + b"\n"
        self.bytes += len(text)
        return text

    def _affords(self, size: int, now: float) -> bool:
        """A token bucket over the bytes of messages."""
        if self._filled_at is not None:
            grown = self._budget + max(0.0, now - self._filled_at) * self._rate_bytes
            self._budget = min(float(self._burst_bytes), grown)
        self._filled_at = now
        if size > self._budget:
            return False
        self._budget -= size
        return True


def interface_of(record: bytes) -> str:
    """What a filter calls the interface of a message."""
    try:
        header: Header = decode_header(record)
    except XdrDecodeError:
        return "other"
    return INTERFACES.get(header.message >> 8, "other")
