"""The admin socket's door: operators <-> control, over a unix stream socket of mode 0600.

One JSON object per line in both directions; each request gets exactly one reply, in order, and the connection may
carry any number of them. The key "type" tells the messages apart ("tape-show"), field names have dashes on the wire.
Paths and names that are not UTF-8 are written with backslash escapes by the sender: JSON has no bytes.

The messages of one subject stand in a module of their own. Here are those of none, and the codec.
"""

from typing import Final, Literal, TypeVar

import msgspec.json
from msgspec import field

from mover.admin import accounts, clusters, dump_dates, jobs, options, sessions, tapes
from mover.admin.base import Message
from mover.admin.statistics import StatisticsReply, StatisticsShow

REQUEST_BYTES_MAX: Final = 64 * 1024  # one line with its newline
REPLY_BYTES_MAX: Final = 16 * 1024 * 1024  # holds the cartridges of a full library of 65,000 slots

_Kind = TypeVar("_Kind")


class MessageError(ValueError):
    """A line is no message of this door; the text says what is wrong with it."""


# --- requests ---------------------------------------------------------------------------------------------------


class Version(Message, frozen=True):
    """Of the node, or of a vserver, which offers versions of its own. Reply: VersionReply; Failed: no such vserver."""

    vserver: str = ""


Request = (
    Version
    | accounts.Request
    | sessions.Request
    | jobs.Jobs
    | options.Request
    | dump_dates.Request
    | tapes.Request
    | clusters.Request
    | StatisticsShow
)


# --- replies ----------------------------------------------------------------------------------------------------


class VersionReply(Message, frozen=True):
    """The running control process and the NDMP versions it speaks, lowest first.

    Attributes:
        certificate_fingerprint: SHA-256 of that of its secure ports; "" = it has none.
    """

    version: str
    node: str
    pid: int
    ndmp_versions: list[int]
    certificate_fingerprint: str = ""


class Done(Message, frozen=True):
    """It is done; ``text`` says what, for people, ``names`` the barcodes made or moved, for scripts."""

    text: str
    names: list[str] = field(default_factory=list)


class Failed(Message, frozen=True):
    """It is not done, and nothing was changed."""

    code: Literal["bad-request", "not-found", "busy", "refused", "failed"]
    text: str


Reply = (
    Done
    | Failed
    | VersionReply
    | accounts.Reply
    | sessions.Reply
    | jobs.JobsReply
    | options.OptionsReply
    | dump_dates.DumpDatesReply
    | tapes.Reply
    | clusters.Reply
    | StatisticsReply
)

_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode_request(request: Request) -> bytes:
    """The request as one line.

    Raises:
        MessageError: longer than REQUEST_BYTES_MAX.
    """
    return _line(request, REQUEST_BYTES_MAX)


def encode_reply(reply: Reply) -> bytes:
    """The reply as one line.

    Raises:
        MessageError: longer than REPLY_BYTES_MAX.
    """
    return _line(reply, REPLY_BYTES_MAX)


def decode_request(line: bytes) -> Request:
    """A line, with or without its newline, as a request.

    Raises:
        MessageError: it is none; the text may be sent back in Failed("bad-request", text).
    """
    return _decode(_requests, line, REQUEST_BYTES_MAX)


def decode_reply(line: bytes) -> Reply:
    """A line, with or without its newline, as a reply.

    Raises:
        MessageError: it is none.
    """
    return _decode(_replies, line, REPLY_BYTES_MAX)


def _line(message: Request | Reply, limit: int) -> bytes:
    line = msgspec.json.encode(message) + b"\n"
    if len(line) > limit:
        raise MessageError(f"a message of {len(line)} bytes is longer than {limit}")
    return line


def _decode(decoder: msgspec.json.Decoder[_Kind], line: bytes, limit: int) -> _Kind:
    if len(line) > limit:
        raise MessageError(f"a message of {len(line)} bytes is longer than {limit}")
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MessageError(f"not a message of the admin socket: {error}") from None
