"""The DMA's end, and both ends back to back."""

import struct

import pytest

from mover.ndmp import messages as m
from mover.ndmp import xdr
from mover.ndmp.client import ClientProtocol, Post, Reply
from mover.ndmp.enums import DataHaltReason, ErrorCode, MessageCode
from mover.ndmp.errors import FramingError, NotInVersionError, XdrDecodeError
from mover.ndmp.framing import mark
from mover.ndmp.header import SIZE, Header
from mover.ndmp.messages import Body
from mover.ndmp.server import Answered, Discarded, Request, ServerProtocol


class Pair:
    """A client and a server wired together; the server answers from a table of replies."""

    def __init__(self, offered: int = 4) -> None:
        self.server = ServerProtocol(offered)
        self.client = ClientProtocol()
        self.server.authenticated = True
        self.requests: list[Body] = []
        self.client.feed(self.server.connected(b"hello"))
        greeting = self.client.next_event()
        assert isinstance(greeting, Post)
        assert greeting.body == m.NotifyConnectionStatusPost(0, offered, b"hello")

    def ask(self, body: Body, reply: Body | None = None) -> Reply:
        sequence, data = self.client.request(body)
        self.server.feed(data)
        event = self.server.next_event()
        match event:
            case Answered():
                self.client.feed(self.server.answer(event))
            case Request():
                self.requests.append(event.body)
                assert reply is not None
                self.client.feed(self.server.reply(event, reply))
            case _:
                raise AssertionError(event)
        answer = self.client.next_event()
        assert isinstance(answer, Reply)
        assert answer.sequence == sequence
        return answer


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_session_back_to_back(version: int) -> None:
    pair = Pair()
    assert pair.client.offered_version == 4
    assert pair.ask(m.ConnectOpenRequest(version)).error == ErrorCode.NO_ERR
    assert pair.client.version == pair.server.version == version
    address = m.tcp_address(0x7F000001, 4711)
    mover_address = address if version == 2 else None
    start = m.DataStartBackupRequest(b"dump", (m.Pval(b"HIST", b"y"),), mover_address)
    assert pair.ask(start, m.DataStartBackupReply()).body == m.DataStartBackupReply()
    assert pair.requests == [start]
    listen = m.MoverListenReply(ErrorCode.NO_ERR, address)
    assert pair.ask(m.MoverListenRequest(0, 1), listen).body == listen
    pair.client.feed(pair.server.post(m.NotifyDataHaltedPost(DataHaltReason.SUCCESSFUL)))
    post = pair.client.next_event()
    assert isinstance(post, Post)
    assert (post.code, post.version) == (MessageCode.NOTIFY_DATA_HALTED, version)
    assert post.body == m.NotifyDataHaltedPost(DataHaltReason.SUCCESSFUL)
    sequence, data = pair.client.request(m.ConnectCloseRequest())
    assert sequence == 4
    pair.server.feed(data)
    event = pair.server.next_event()
    assert isinstance(event, Request)
    assert event.body == m.ConnectCloseRequest()


def test_falling_back_version_by_version() -> None:
    pair = Pair(offered=3)
    assert pair.client.version == 3
    assert pair.ask(m.ConnectOpenRequest(4)).error == ErrorCode.ILLEGAL_ARGS_ERR
    assert pair.client.version == 3
    assert pair.ask(m.ConnectOpenRequest(2)).error == ErrorCode.NO_ERR
    assert pair.client.version == 2
    with pytest.raises(NotInVersionError):
        pair.client.request(m.DataListenRequest(0))


def test_an_offer_above_ours_is_met_with_ours() -> None:
    client = ClientProtocol()
    wire = xdr.encode(m.NotifyConnectionStatusPost(0, 9))
    client.feed(mark(SIZE + len(wire)) + Header(1, 0, 0, 0x502, 0, 0).encode() + wire)
    assert isinstance(client.next_event(), Post)
    assert (client.offered_version, client.version) == (9, 4)


def test_an_error_in_the_header_has_no_body() -> None:
    pair = Pair()
    pair.server.authenticated = False
    reply = pair.ask(m.TapeCloseRequest())
    assert (reply.error, reply.body, reply.request) == (ErrorCode.NOT_AUTHORIZED_ERR, None, MessageCode.TAPE_CLOSE)


def test_replies_are_paired_by_sequence_alone() -> None:
    server, client = ServerProtocol(), ClientProtocol()
    server.authenticated = True
    first, one = client.request(m.MoverGetStateRequest())
    second, two = client.request(m.MoverGetStateRequest())
    server.feed(one + two)
    requests = [server.next_event(), server.next_event()]
    for request in reversed(requests):
        assert isinstance(request, Request)
        client.feed(server.reply(request, m.MoverGetStateReply(record_num=request.header.sequence)))
    for sequence in (second, first):
        reply = client.next_event()
        assert isinstance(reply, Reply)
        assert reply.sequence == sequence
        assert reply.body == m.MoverGetStateReply(record_num=sequence)


@pytest.mark.parametrize(
    "header",
    [
        Header(1, 0, 1, 0x900, 1, 0),  # a reply to nothing
        Header(1, 0, 0, 0x300, 0, 0),  # a request
        Header(1, 0, 2, 0x501, 0, 0),
        Header(1, 0, 0, 0x600, 0, 0),  # a post of version 2
    ],
)
def test_what_no_server_should_send_is_dropped(header: Header) -> None:
    client = ClientProtocol()
    client.feed(mark(SIZE) + header.encode() + mark(3) + b"abc")
    assert isinstance(client.next_event(), Discarded)
    assert isinstance(client.next_event(), Discarded)
    assert client.next_event() is None


def test_a_reply_to_another_message_is_dropped_and_the_request_stays_open() -> None:
    client = ClientProtocol()
    sequence, _ = client.request(m.TapeCloseRequest())
    client.feed(mark(SIZE + 4) + Header(1, 0, 1, 0x300, sequence, 0).encode() + bytes(4))
    assert isinstance(client.next_event(), Discarded)
    client.feed(mark(SIZE + 4) + Header(2, 0, 1, 0x301, sequence, 0).encode() + struct.pack(">I", 7))
    reply = client.next_event()
    assert isinstance(reply, Reply)
    assert (reply.error, reply.body) == (7, m.TapeCloseReply(7))


def test_a_bad_body_is_one_message_lost_hopeless_framing_all() -> None:
    client = ClientProtocol(record_limit=100)
    client.feed(mark(SIZE) + Header(1, 0, 0, 0x501, 0, 0).encode())
    with pytest.raises(XdrDecodeError):
        client.next_event()
    assert client.next_event() is None
    client.feed(mark(101))
    assert client.inside_record
    with pytest.raises(FramingError):
        client.next_event()
