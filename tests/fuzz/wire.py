"""The wire targets: framing, header and bodies of one version, at the server's end and at the DMA's.

What must hold: the same bytes give the same messages however they are cut, a body that decodes encodes and decodes to
itself, and nothing but the errors of the protocol core is raised.
"""

import functools
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

from mover.ndmp import edge, xdr
from mover.ndmp.client import ClientProtocol
from mover.ndmp.client import Post as ServerPost
from mover.ndmp.client import Reply as ServerReply
from mover.ndmp.enums import ErrorCode, MessageCode, MessageType
from mover.ndmp.errors import FramingError, NdmpError, NotInVersionError, XdrDecodeError, XdrEncodeError
from mover.ndmp.framing import mark
from mover.ndmp.header import SIZE, Header
from mover.ndmp.messages import Body, ConfigSetExtListRequest, ConnectCloseRequest, ConnectOpenRequest
from mover.ndmp.server import Answered, Discarded, Request, ServerProtocol
from mover.ndmp.table import ROWS, TABLE, VERSIONS, Kind, Row
from tests.fuzz.choices import Choices, build

CUTS_MAX: Final = 6
ROWS_TRIED: Final = 3
UNBOUND: Final = 0x20
"""In the first byte of a typed body: it need not fit."""
OTHER_LAYOUTS: Final = {ConfigSetExtListRequest}
"""What is behind their layout may make another one of it, or nothing."""
STREAM, REQUEST, BODY, TYPED = range(4)
"""What the upper two bits of the first byte say of the rest."""


@functools.cache
def rows_of(version: int) -> list[Row]:
    """The messages of a version by number."""
    return sorted((row for (of, _), row in TABLE.items() if of == version), key=lambda row: row.code)


@functools.cache
def bodies_of(version: int) -> list[tuple[Row, type[Body], bool]]:
    """Every body of a version as it is on the wire, and whether it is a reply."""
    found = []
    for row in rows_of(version):
        for internal in (row.request, row.reply):
            if internal is not None:
                conversion = edge.CONVERSIONS.get((version, row.code, internal))
                wire = internal if conversion is None else conversion.wire
                found.append((row, wire, internal is row.reply))
    return found


def check_server(version: int, data: bytes) -> None:
    """The target of one version: a stream, a request's body, any body, or a built one."""
    choices = Choices(data)
    first = choices.byte()
    match first >> 6:
        case 0:
            _check_stream(version, first & 0x3F, choices.rest())
        case 1:
            row = rows_of(version)[choices.byte() % len(rows_of(version))]
            fragment = choices.byte()
            record = Header(1, 0, 0, row.code, 0, 0).encode() + choices.rest()
            _check_stream(version, first & 0x3F, b"".join(_fragments(record, fragment)))
        case 2:
            row, wire, is_reply = _pick_body(version, choices)
            _check_body(version, row, wire, is_reply, choices.rest())
        case _:
            row, wire, is_reply = _pick_body(version, choices)
            if first & UNBOUND:
                check_misuse(version, choices.word())
                check_bounds(version, row, wire, choices)
                return
            value = build(wire, choices)
            encoded = xdr.encode(value)
            if xdr.decode(wire, encoded + choices.take(8)) != value:
                raise AssertionError(f"{value} does not come back")
            _check_body(version, row, wire, is_reply, encoded)


def _pick_body(version: int, choices: Choices) -> tuple[Row, type[Body], bool]:
    bodies = bodies_of(version)
    return bodies[choices.byte() % len(bodies)]


def _fragments(record: bytes, size: int) -> Iterator[bytes]:
    if size == 0 or not record:
        yield mark(len(record)) + record
        return
    for start in range(0, len(record), size):
        piece = record[start : start + size]
        last = 0x8000_0000 if start + size >= len(record) else 0
        yield struct.pack(">I", last | len(piece)) + piece


def _cut(stream: bytes, size: int) -> list[bytes]:
    """Pieces of a size, the last one the rest."""
    ends = [size * count for count in range(1, CUTS_MAX) if size * count < len(stream)]
    return [stream[begin:end] for begin, end in pairwise([0, *ends, len(stream)])]


Event = Request | Answered | Discarded | str


def _events(version: int, pieces: list[bytes]) -> list[Event]:
    protocol = ServerProtocol(version, clock=lambda: 0.0)
    protocol.authenticated = True
    found: list[Event] = []
    for piece in pieces:
        protocol.feed(piece)
        try:
            while (event := protocol.next_event()) is not None:
                found.append(event)
                if isinstance(event, Request):
                    _answer(protocol, event)
        except FramingError as error:
            found.append("broken framing")
            _still_broken(protocol, str(error))
            break
    return found


def _still_broken(protocol: ServerProtocol, text: str) -> None:
    try:
        protocol.next_event()
    except FramingError as error:
        if str(error) == text:
            return
    raise AssertionError(f"{text}, and then it is not")


def _answer(protocol: ServerProtocol, request: Request) -> None:
    """Every request can be refused, both ways."""
    protocol.refuse_request(request, ErrorCode.NO_MEM_ERR)
    if request.code != MessageCode.CONNECT_CLOSE:
        protocol.reply_error(request, ErrorCode.PRECONDITION_ERR)


def _check_stream(version: int, cut: int, stream: bytes) -> None:
    whole = _events(version, [stream])
    if cut and _events(version, _cut(stream, cut)) != whole:
        raise AssertionError(f"cut every {cut} bytes it reads otherwise than {whole}")
    for event in whole:
        if isinstance(event, Request):
            row = edge.row_of(event.version, event.code)
            code, wire = edge.encode_body(event.version, event.body)
            if code != row.code or edge.decode_request(event.version, code, wire) != event.body:
                raise AssertionError(f"{event.body} does not come back")


def _check_body(version: int, row: Row, wire: type[Body], is_reply: bool, data: bytes) -> None:
    try:
        value = xdr.decode(wire, data)
    except XdrDecodeError:
        return
    if xdr.decode(wire, xdr.encode(value)) != value:
        raise AssertionError(f"{value} does not come back")
    if is_reply:
        body = edge.decode_reply(version, row.code, data)
        _try_reply(version, row, body)
    else:
        try:
            body = edge.decode_request(version, row.code, data)
        except XdrDecodeError:
            if row.request in OTHER_LAYOUTS:
                return
            raise
        _try_body(version, body)


def _try_reply(version: int, row: Row, body: Body) -> None:
    try:
        edge.encode_reply(version, row.code, body)
    except NdmpError:
        return  # what the wire can carry need not be what this server says
    for other in rows_of(version)[:ROWS_TRIED]:
        if other.reply is not row.reply:
            _refused(edge.encode_reply, version, other.code, body)


def _try_body(version: int, body: Body) -> None:
    for each in VERSIONS:
        try:
            edge.encode_body(each, body)
        except NdmpError:
            continue  # as above, and not every version has it


def _refused(call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except NotInVersionError:
        return
    raise AssertionError(f"{call.__name__}{arguments} is not refused")


def check_misuse(version: int, number: int) -> None:
    """What a version does not have is refused by that name, whoever asks."""
    if (version, number) not in ROWS:
        _refused(edge.row_of, version, number)
        _refused(edge.decode_request, version, number, b"")
        return
    row = ROWS[version, number]
    if row.reply is None:
        _refused(edge.decode_reply, version, number, b"")
        _refused(edge.error_reply, row, ErrorCode.NO_MEM_ERR)


def check_bounds(version: int, row: Row, wire: type[Body], choices: Choices) -> None:
    """Values that need not fit: they are refused, or come back."""
    value = build(wire, choices, bound=False)
    try:
        encoded = xdr.encode(value)
    except XdrEncodeError:
        return
    if xdr.decode(wire, encoded) != value:
        raise AssertionError(f"{value} of {row.name} in version {version} does not come back")


ASKED_MAX: Final = 8


def check_client(data: bytes) -> None:
    """The DMA's end: answers and posts of any server, whole and cut."""
    choices = Choices(data)
    first = choices.byte()
    versions = sorted({version for version, _ in TABLE})
    version = versions[first % len(versions)]
    cut = first >> 3
    asked = [choices.byte() for _ in range(choices.byte() % ASKED_MAX)]
    requests = [row for row in rows_of(version) if row.kind is Kind.REQUEST]
    codes = [requests[each % len(requests)] for each in asked]
    stream = b""
    while not choices.ended:
        stream += _server_message(version, codes, choices)
    whole = _heard(version, codes, [stream])
    closing = ClientProtocol(clock=lambda: 0.0)
    closing.request(ConnectCloseRequest())  # has no answer
    if cut and _heard(version, codes, _cut(stream, cut)) != whole:
        raise AssertionError(f"cut every {cut} bytes it reads otherwise")


def _server_message(version: int, asked: list[Row], choices: Choices) -> bytes:
    kind = choices.byte()
    if kind < 0x20:
        return choices.take(choices.byte())
    if kind < 0x80 and asked:
        index = kind % len(asked)
        row = asked[index]
        assert row.reply is not None
        error = choices.byte() % 4 and choices.byte()
        conversion = edge.CONVERSIONS.get((version, row.code, row.reply))
        wire = row.reply if conversion is None else conversion.wire
        body = b"" if error else xdr.encode(build(wire, choices))
        return _message(Header(1, 0, MessageType.REPLY, row.code, index + 1, error), body)
    posts = [each for each in bodies_of(version) if each[0].kind is Kind.POST]
    row, wire, _ = posts[kind % len(posts)]
    body = xdr.encode(build(wire, choices)) if kind & 0x40 else choices.take(choices.byte())
    return _message(Header(1, 0, MessageType.REQUEST, row.code, 0, 0), body)


def _message(header: Header, body: bytes) -> bytes:
    return mark(SIZE + len(body)) + header.encode() + body


def _heard(version: int, asked: list[Row], pieces: list[bytes]) -> list[ServerReply | ServerPost | Discarded | str]:
    protocol = ClientProtocol(clock=lambda: 0.0)
    protocol.version = version
    for row in asked:
        protocol.request(_plain(version, row))
    found: list[ServerReply | ServerPost | Discarded | str] = []
    for piece in pieces:
        protocol.feed(piece)
        while True:
            try:
                event = protocol.next_event()
            except XdrDecodeError:
                found.append("bad body")
                continue
            except FramingError:
                return [*found, "broken framing"]
            if event is None:
                break
            found.append(event)
    return found


@functools.cache
def _plain(version: int, row: Row) -> Body:
    """A request of a message: only its number counts."""
    if row.code == MessageCode.CONNECT_OPEN:
        return ConnectOpenRequest(version)
    conversion = edge.CONVERSIONS.get((version, row.code, row.request))
    nothing = Choices(b"")
    return build(row.request, nothing) if conversion is None else conversion.inward(build(conversion.wire, nothing))
