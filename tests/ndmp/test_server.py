"""The server's end: greeting, decision order, negotiation, pipelining, sequence numbers."""

import struct

import pytest

from mover.ndmp import edge, xdr
from mover.ndmp import messages as m
from mover.ndmp.enums import ConnectionStatusReason, ErrorCode, LogType, MessageCode
from mover.ndmp.errors import ApiError, FramingError, NotInVersionError
from mover.ndmp.framing import mark
from mover.ndmp.header import SIZE, Header, decode_header
from mover.ndmp.history import HistoryEncoder, body
from mover.ndmp.server import ORDINARY_BYTES_MAX, Answered, Discarded, Request, ServerProtocol

NOW = 0x5F00_0000


def server(version: int = 4, *, authenticated: bool = True) -> ServerProtocol:
    protocol = ServerProtocol(version, clock=lambda: NOW + 0.9)
    protocol.authenticated = authenticated
    return protocol


def raw(code: int, wire: bytes = b"", *, sequence: int = 7, message_type: int = 0, error: int = 0) -> bytes:
    return mark(SIZE + len(wire)) + Header(sequence, 0, message_type, code, 0, error).encode() + wire


def opening(version: int, sequence: int = 1) -> bytes:
    return raw(0x900, struct.pack(">I", version), sequence=sequence)


def split(data: bytes) -> tuple[Header, bytes]:
    """Header and body of one message in one fragment."""
    assert data[:4] == mark(len(data) - 4)
    return decode_header(data[4:]), data[4 + SIZE :]


def answer(protocol: ServerProtocol, data: bytes) -> tuple[Header, bytes]:
    protocol.feed(data)
    event = protocol.next_event()
    assert isinstance(event, Answered), event
    header, wire = split(protocol.answer(event))
    assert header.message_type == 1
    assert header.reply_sequence == event.header.sequence
    assert event.error == header.error or event.header.message == 0x900
    return header, wire


def request(protocol: ServerProtocol, data: bytes) -> Request:
    protocol.feed(data)
    event = protocol.next_event()
    assert isinstance(event, Request), event
    return event


def test_the_greeting_byte_by_byte() -> None:
    assert server().connected(b"hi") == bytes.fromhex(
        "80000028 00000001 5f000000 00000000 00000502 00000000 00000000 00000000 00000004 00000002 68690000"
    )


def test_refusal_and_shutdown() -> None:
    for data, reason in (
        (server().refuse(b"full"), ConnectionStatusReason.REFUSED),
        (server().shutdown(b"full"), ConnectionStatusReason.SHUTDOWN),
    ):
        _, wire = split(data)
        assert xdr.decode(m.NotifyConnectionStatusPost, wire) == m.NotifyConnectionStatusPost(reason, 4, b"full")


def test_the_example_of_a_connect_open() -> None:
    protocol = server()
    header, wire = answer(
        protocol, bytes.fromhex("8000001c 00000001 00000000 00000000 00000900 00000000 00000000 00000004")
    )
    assert header == Header(1, NOW, 1, 0x900, 1, 0)
    assert wire == bytes(4)
    assert (protocol.version, protocol.negotiated) == (4, True)


# ---- negotiation


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_any_version_up_to_the_offer_can_be_opened(version: int) -> None:
    protocol = server()
    assert answer(protocol, opening(version))[1] == bytes(4)
    assert protocol.version == version


def test_rejected_versions_leave_everything_open() -> None:
    protocol = server(3)
    for version in (4, 5, 0, 0xFFFF):
        assert answer(protocol, opening(version))[1] == struct.pack(">I", ErrorCode.ILLEGAL_ARGS_ERR)
        assert not protocol.negotiated
    assert answer(protocol, opening(2))[1] == bytes(4)
    assert protocol.version == 2


def test_a_request_after_a_rejected_version_accepts_the_offer() -> None:
    protocol = server()
    answer(protocol, opening(9))
    assert request(protocol, raw(0x108)).version == 4
    assert protocol.negotiated
    assert answer(protocol, opening(3))[1] == struct.pack(">I", ErrorCode.ILLEGAL_STATE_ERR)


def test_the_version_is_fixed_once() -> None:
    protocol = server(authenticated=False)
    answer(protocol, opening(3))
    assert answer(protocol, opening(3))[1] == bytes(4)
    assert answer(protocol, opening(4))[1] == struct.pack(">I", ErrorCode.ILLEGAL_STATE_ERR)
    protocol.authenticated = True
    assert answer(protocol, opening(3))[1] == struct.pack(">I", ErrorCode.ILLEGAL_STATE_ERR)
    assert protocol.version == 3


def test_a_version_that_does_not_fit_its_type_is_a_decode_error() -> None:
    header, wire = answer(server(), opening(0x1_0004))
    assert (header.error, wire) == (ErrorCode.XDR_DECODE_ERR, b"")


@pytest.mark.parametrize("version", [0, 5])
def test_only_known_versions_can_be_offered(version: int) -> None:
    with pytest.raises(ApiError):
        ServerProtocol(version)


# ---- decision order


def test_a_cut_off_header_is_dropped() -> None:
    protocol = server()
    protocol.feed(mark(23) + bytes(23) + opening(4))
    assert protocol.next_event() == Discarded(None, "a message of 23 bytes has no whole header")
    assert isinstance(protocol.next_event(), Answered)


@pytest.mark.parametrize("message_type", [1, 2, 0xFFFF_FFFF])
def test_replies_and_nonsense_are_dropped(message_type: int) -> None:
    protocol = server()
    protocol.feed(raw(0x900, bytes(4), message_type=message_type))
    assert isinstance(protocol.next_event(), Discarded)
    assert protocol.last_sequence == 0


@pytest.mark.parametrize("code", [0x500, 0x501, 0x5FF, 0x603, 0x699, 0x704, 0x7FF])
def test_posts_of_a_client_are_dropped_known_or_not(code: int) -> None:
    protocol = server()
    protocol.feed(raw(code))
    assert isinstance(protocol.next_event(), Discarded)
    assert not protocol.negotiated


@pytest.mark.parametrize(
    ("version", "code"),
    [(4, 0x101), (4, 0x203), (4, 0x306), (4, 0x408), (4, 0x205), (3, 0x101), (2, 0x104), (2, 0x409),
     (2, 0xA09), (1, 0xA00), (1, 0x903), (1, 0x103), (1, 0x405), (1, 0x406),
     (4, 0xFFFF), (4, 0x20500100), (4, 0), (4, 0x0001_0502)],
)  # fmt: skip
@pytest.mark.parametrize("authenticated", [True, False])
def test_a_number_that_the_version_lacks(version: int, code: int, authenticated: bool) -> None:
    header, wire = answer(server(version, authenticated=authenticated), raw(code, b"?" * 8))
    assert header == Header(1, NOW, 1, code, 7, ErrorCode.NOT_SUPPORTED_ERR)
    assert wire == b""


def test_login_comes_before_the_body() -> None:
    protocol = server(authenticated=False)
    header, wire = answer(protocol, raw(0x300, b"bad"))
    assert (header.error, wire) == (ErrorCode.NOT_AUTHORIZED_ERR, b"")
    protocol.authenticated = True
    header, wire = answer(protocol, raw(0x300, b"bad"))
    assert (header.error, wire) == (ErrorCode.XDR_DECODE_ERR, b"")


@pytest.mark.parametrize("version", [2, 3, 4])
def test_what_is_open_before_the_login(version: int) -> None:
    protocol = server(version, authenticated=False)
    wire = struct.pack(">I", 2)
    assert request(protocol, raw(0x103, wire)).body == m.ConfigGetAuthAttrRequest(2)
    assert request(protocol, raw(0x902)).body == m.ConnectCloseRequest()
    assert request(protocol, raw(0x901, bytes(4))).body == m.ConnectClientAuthRequest(m.AUTH_NONE)
    host_info = raw(0x100)
    if version == 2:
        request(protocol, host_info)
    else:
        assert answer(protocol, host_info)[0].error == ErrorCode.NOT_AUTHORIZED_ERR


def test_only_what_carries_much_may_be_long() -> None:
    long = struct.pack(">I", 4) + b"dump" + bytes(ORDINARY_BYTES_MAX)
    assert answer(server(), raw(0xA08, long))[0].error == ErrorCode.XDR_DECODE_ERR
    assert request(server(), raw(0x401, long)).body == m.DataStartBackupRequest(b"dump", ())


def test_an_unknown_arm_is_the_handlers_to_refuse() -> None:
    protocol = server(authenticated=False)
    asked = request(protocol, raw(0x901, struct.pack(">I", 99)))
    assert asked.body == m.ConnectClientAuthRequest(m.UnknownArm(99))
    header, wire = split(protocol.reply_error(asked, ErrorCode.ILLEGAL_ARGS_ERR))
    assert (header.error, wire) == (0, struct.pack(">I", ErrorCode.ILLEGAL_ARGS_ERR))


def test_the_error_of_a_request_header_and_bytes_behind_the_body_are_ignored() -> None:
    asked = request(server(), raw(0xA08, struct.pack(">I", 512) + b"behind", error=9))
    assert asked.body == m.MoverSetRecordSizeRequest(512)


def test_hopeless_framing_is_an_error_for_ever() -> None:
    protocol = ServerProtocol(record_limit=100)
    protocol.feed(mark(101))
    for _ in range(2):
        with pytest.raises(FramingError):
            protocol.next_event()


# ---- order and pipelining


def test_a_version_and_a_login_govern_what_came_in_the_same_segment() -> None:
    protocol = ServerProtocol(clock=lambda: NOW)
    login = xdr.encode(m.ConnectClientAuthRequest(m.AuthText(b"u", b"p")))
    start = raw(0x401, bytes.fromhex("00000000 00000004 64756d70 00000000"), sequence=3)
    protocol.feed(opening(2, 1) + raw(0x901, login, sequence=2) + start + raw(0x408, sequence=4))
    assert isinstance(protocol.next_event(), Answered)
    asked = protocol.next_event()
    assert isinstance(asked, Request)
    assert asked.body == m.ConnectClientAuthRequest(m.AuthText(b"u", b"p"))
    protocol.authenticated = True
    protocol.reply(asked, m.ConnectClientAuthReply())
    asked = protocol.next_event()
    assert isinstance(asked, Request)
    assert (asked.version, asked.body) == (2, m.DataStartBackupRequest(b"dump", (), m.LOCAL))
    event = protocol.next_event()
    assert isinstance(event, Answered)
    assert event.error == ErrorCode.NOT_SUPPORTED_ERR
    assert protocol.next_event() is None


def test_requests_come_whole_however_they_are_cut() -> None:
    stream = opening(4) + raw(0xA08, struct.pack(">I", 512)) + raw(0x902)
    for size in range(1, 12):
        protocol = server()
        seen: list[object] = []
        for start in range(0, len(stream), size):
            protocol.feed(stream[start : start + size])
            while (event := protocol.next_event()) is not None:
                seen.append(event.body if isinstance(event, Request) else type(event))
        assert seen == [Answered, m.MoverSetRecordSizeRequest(512), m.ConnectCloseRequest()]
        assert not protocol.inside_record


def test_sequence_numbers_count_every_message_and_wrap() -> None:
    protocol = server()
    protocol.connected()
    assert protocol.last_sequence == 1
    asked = request(protocol, raw(0xA00))
    header, _ = split(protocol.reply(asked, m.MoverGetStateReply()))
    assert (header.sequence, header.reply_sequence) == (2, 7)
    header, wire = split(protocol.post(m.LogMessagePost(LogType.NORMAL, 0, b"x", 1, protocol.last_sequence)))
    assert (header.sequence, header.message, header.message_type) == (3, MessageCode.LOG_MESSAGE, 0)
    assert wire[-4:] == struct.pack(">I", 2)
    protocol._sequence = 0xFFFF_FFFF
    assert split(protocol.post(m.NotifyDataReadPost(0, 1)))[0].sequence == 0


def test_an_answer_of_the_core_is_numbered_when_its_turn_to_be_sent_has_come() -> None:
    protocol = server()
    protocol.feed(opening(4))
    event = protocol.next_event()
    assert isinstance(event, Answered)
    assert split(protocol.post(m.NotifyDataReadPost(0, 1)))[0].sequence == 1
    assert split(protocol.answer(event))[0].sequence == 2


# ---- replies and posts


def test_errors_of_replies_are_said_in_the_words_of_the_version() -> None:
    for version, error in ((2, ErrorCode.ILLEGAL_STATE_ERR), (4, ErrorCode.PRECONDITION_ERR)):
        protocol = server(version)
        asked = request(protocol, raw(0xA02))
        _, wire = split(protocol.reply_error(asked, ErrorCode.PRECONDITION_ERR))
        assert wire == struct.pack(">I", error)
        header, wire = split(protocol.refuse_request(asked, ErrorCode.PRECONDITION_ERR))
        assert (header.error, wire) == (error, b"")


def test_an_error_reply_is_whole() -> None:
    protocol = server(4)
    asked = request(protocol, raw(0x400))
    _, wire = split(protocol.reply_error(asked, ErrorCode.NO_MEM_ERR))
    reply = edge.decode_reply(4, MessageCode.DATA_GET_STATE, wire)
    assert reply == m.DataGetStateReply(error=ErrorCode.NO_MEM_ERR)


def test_connect_close_has_no_reply() -> None:
    protocol = server()
    asked = request(protocol, raw(0x902))
    with pytest.raises(NotInVersionError):
        protocol.reply(asked, m.ConnectOpenReply())
    with pytest.raises(NotInVersionError):
        protocol.reply_error(asked, ErrorCode.IO_ERR)
    assert protocol.last_sequence == 0


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_history_post_out_of_an_encoded_body(version: int) -> None:
    encoder = HistoryEncoder(version)
    wire = body([encoder.dir_entry(b".", 2, 2), encoder.dir_entry(b"..", 2, 2)])
    post = m.FhAddDirPost((m.Dir((m.UnixName(b"."),), 2, 2), m.Dir((m.UnixName(b".."),), 2, 2)))
    expected = server(version).post(post)
    assert server(version).post_raw(encoder.dir_code, wire) + wire == expected
    assert server(version).post_raw(encoder.dir_code, memoryview(wire)) + wire == expected
