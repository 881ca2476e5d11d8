"""Extensions of version 4: every step of the negotiation, both layouts of SET_EXT_LIST, and both ends back to back."""

import struct
from itertools import product

import pytest
import xdrlib3
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.ndmp import edge
from mover.ndmp import messages as m
from mover.ndmp.client import ClientProtocol, Reply
from mover.ndmp.dialogue import describe
from mover.ndmp.enums import ErrorCode, MessageCode
from mover.ndmp.errors import XdrDecodeError
from mover.ndmp.extensions import OFFERED, Negotiation, Stage, Step, layout_version
from mover.ndmp.framing import mark
from mover.ndmp.header import SIZE, Header, decode_header
from mover.ndmp.server import Answered, Request, ServerProtocol

TEST = 0x7FF0
ECHO = 0x7FF0_0000
SET = MessageCode.CONFIG_SET_EXT_LIST

# stage, step, stage next and error (extensions.md 2)
STEPS = {
    (Stage.FRESH, Step.GET): (Stage.LISTED, ErrorCode.NO_ERR),
    (Stage.FRESH, Step.SET): (Stage.FRESH, ErrorCode.PRECONDITION_ERR),
    (Stage.FRESH, Step.USE): (Stage.FIXED, ErrorCode.NO_ERR),
    (Stage.LISTED, Step.GET): (Stage.LISTED, ErrorCode.NO_ERR),
    (Stage.LISTED, Step.SET): (Stage.FIXED, ErrorCode.NO_ERR),
    (Stage.LISTED, Step.USE): (Stage.FIXED, ErrorCode.NO_ERR),
    (Stage.FIXED, Step.GET): (Stage.FIXED, ErrorCode.EXT_DN_ILLEGAL),
    (Stage.FIXED, Step.SET): (Stage.FIXED, ErrorCode.EXT_DN_ILLEGAL),
    (Stage.FIXED, Step.USE): (Stage.FIXED, ErrorCode.NO_ERR),
}


@pytest.mark.parametrize(("stage", "step"), list(product(Stage, Step)))
def test_every_step_in_every_stage(stage: Stage, step: Step) -> None:
    negotiation = Negotiation()
    negotiation.stage = stage
    error = ErrorCode.NO_ERR
    match step:
        case Step.GET:
            error = negotiation.list()
        case Step.SET:
            error = negotiation.choose(())
        case Step.USE:
            negotiation.use()
    assert (negotiation.stage, error) == STEPS[stage, step]


@pytest.mark.parametrize(
    ("chosen", "error"),
    [
        ([(0x7FF1, 1)], ErrorCode.CLASS_NOT_SUPPORTED),
        ([(0x2050, 3), (TEST, 1)], ErrorCode.CLASS_NOT_SUPPORTED),
        ([(0, 4)], ErrorCode.CLASS_NOT_SUPPORTED),
        ([(TEST, 3)], ErrorCode.VERSION_NOT_SUPPORTED),
        ([(TEST, 0)], ErrorCode.VERSION_NOT_SUPPORTED),
        ([(TEST, 1), (TEST, 2)], ErrorCode.EXT_DUPL_CLASSES),
        ([(TEST, 1), (TEST, 1)], ErrorCode.EXT_DUPL_CLASSES),
    ],
)
def test_a_list_that_is_refused_chooses_nothing(chosen: list[tuple[int, int]], error: ErrorCode) -> None:
    negotiation = Negotiation()
    negotiation.list()
    assert negotiation.choose([m.SelectedExt(*each) for each in chosen]) == error
    assert (negotiation.stage, negotiation.in_force) == (Stage.LISTED, {TEST: 1})
    assert negotiation.choose([m.SelectedExt(TEST, 2)]) == ErrorCode.NO_ERR
    assert negotiation.in_force == {TEST: 2}


def test_an_empty_list_is_no_extensions() -> None:
    negotiation = Negotiation()
    negotiation.list()
    assert negotiation.choose(()) == ErrorCode.NO_ERR
    assert negotiation.in_force == {}


def test_the_version_that_decides_the_layout() -> None:
    assert [layout_version(version, {TEST: 2}, 0x900) for version in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert [layout_version(version, {TEST: 2}, ECHO) for version in (1, 2, 3, 4)] == [0, 0, 0, 2]
    assert layout_version(4, {}, ECHO) == 0


# ---- SET_EXT_LIST


def words(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


@pytest.mark.parametrize(
    ("body", "chosen"),
    [
        (words(0), []),
        (words(1, TEST, 2), [(TEST, 2)]),
        (words(2, 0x2050, 3, 0x2051, 1), [(0x2050, 3), (0x2051, 1)]),
        (words(0, 0), []),
        (words(0, 1, TEST, 1, 2), [(TEST, 2)]),
        (words(0, 1, TEST, 0), [(TEST, 1)]),  # the default
        (words(0, 1, 0x2050, 0), [(0x2050, 0)]),  # which it does not have
        (words(0, 1, TEST, 2, 1, 2), [(TEST, 1), (TEST, 2)]),
        (words(0, 2, 0x2050, 1, 3, TEST, 1, 1), [(0x2050, 3), (TEST, 1)]),
    ],
)
def test_both_layouts_of_set_ext_list(body: bytes, chosen: list[tuple[int, int]]) -> None:
    wanted = m.ConfigSetExtListRequest(tuple(m.SelectedExt(*each) for each in chosen))
    assert edge.decode_request(4, SET, b"header.." + body, 8) == wanted


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\0\0\0", words(1), words(1, TEST), words(1, TEST, 2, 0), words(0xFFFF_FFFF), words(2, TEST, 1),
        words(0, 1), words(0, 1, TEST), words(0, 1, TEST, 1), words(0, 0, 7), words(0, 1, TEST, 0xFFFF_FFFF),
        words(0, 0xFFFF_FFFF), words(0, 1, 0x1_0000, 0), words(0, 1, TEST, 1, 0x1_0000), words(1, 0x1_0000, 1),
        words(0, 1, TEST, 0) + b"\0",
    ],
)  # fmt: skip
def test_what_is_neither(body: bytes) -> None:
    with pytest.raises(XdrDecodeError):
        edge.decode_request(4, SET, body)


@settings(max_examples=200, deadline=None)
@given(body=st.lists(st.integers(0, 4) | st.just(TEST), max_size=12).map(lambda numbers: words(*numbers)))
def test_any_list_is_read_or_refused(body: bytes) -> None:
    try:
        read = edge.decode_request(4, SET, body)
    except XdrDecodeError:
        return
    assert edge.decode_request(4, SET, edge.encode_body(4, read)[1]) == read


# ---- both ends


class Pair:
    """A client that is logged in, and the server's core."""

    def __init__(self, version: int = 4) -> None:
        self.server = ServerProtocol(version)
        self.server.authenticated = True
        self.client = ClientProtocol()
        self.client.feed(self.server.connected())
        self.client.next_event()

    def choose(self, *chosen: tuple[int, int]) -> None:
        self.server.extensions.list()
        assert self.server.extensions.choose([m.SelectedExt(*each) for each in chosen]) == ErrorCode.NO_ERR
        self.client.extensions = dict(chosen)

    def echo(self, body: m.TestEchoRequest) -> Reply:
        _, data = self.client.request(body)
        self.server.feed(data)
        event = self.server.next_event()
        assert isinstance(event, Request), event
        assert isinstance(event.body, m.TestEchoRequest)
        reply = m.TestEchoReply(0, event.body.echo_msg, event.body.echo_short)
        self.client.feed(self.server.reply(event, reply))
        answer = self.client.next_event()
        assert isinstance(answer, Reply)
        return answer


@pytest.mark.parametrize("version", OFFERED[TEST])
def test_echo_in_each_version(version: int) -> None:
    pair = Pair()
    pair.choose((TEST, version))
    for length in (0, 1, 4, 1000):
        answer = pair.echo(m.TestEchoRequest(b"x" * length, 7))
        assert answer.body == m.TestEchoReply(0, b"x" * length, 7 if version == 2 else 0)
        assert (answer.request, answer.error) == (ECHO, 0)


def test_without_a_negotiation_the_default_version_counts_and_stays() -> None:
    pair = Pair()
    assert pair.echo(m.TestEchoRequest(b"hello")).body == m.TestEchoReply(0, b"hello")
    assert pair.server.extensions.stage is Stage.FIXED
    assert pair.server.extensions.list() == ErrorCode.EXT_DN_ILLEGAL
    assert pair.echo(m.TestEchoRequest(b"again")).body == m.TestEchoReply(0, b"again")


@pytest.mark.parametrize("version", [1, 2])
def test_the_bytes_of_an_echo(version: int) -> None:
    """Against an encoder that knows nothing of ours."""
    pair = Pair()
    pair.choose((TEST, version))
    packer = xdrlib3.Packer()
    packer.pack_string(b"hello")
    if version == 2:
        packer.pack_uint(0xFFFF)
    wire = packer.get_buffer()
    record = Header(5, 0, 0, ECHO, 0, 0).encode() + wire
    pair.server.feed(mark(len(record)) + record)
    event = pair.server.next_event()
    assert isinstance(event, Request)
    assert event.body == m.TestEchoRequest(b"hello", 0xFFFF if version == 2 else 0)
    assert edge.encode_body(version, event.body) == (ECHO, wire)
    sent = pair.server.reply(event, m.TestEchoReply(0, b"hello", 0xFFFF))
    assert decode_header(sent[4:]).message == ECHO
    assert sent[4 + SIZE :] == bytes(4) + wire
    refused = pair.server.reply_error(event, ErrorCode.NO_MEM_ERR)
    assert refused[4 + SIZE :] == words(22, 0) + (words(0) if version == 2 else b"")


def header_error(protocol: ServerProtocol, number: int, body: bytes) -> int:
    protocol.feed(mark(SIZE + len(body)) + Header(1, 0, 0, number, 0, 0).encode() + body)
    event = protocol.next_event()
    assert isinstance(event, Answered), event
    assert event.body == b""
    return event.error


@pytest.mark.parametrize("version", [1, 2, 3])
def test_older_versions_have_none(version: int) -> None:
    protocol = Pair(version).server
    assert header_error(protocol, ECHO, words(0)) == ErrorCode.NOT_SUPPORTED_ERR


def test_what_is_refused_fixes_nothing() -> None:
    protocol = Pair().server
    protocol.authenticated = False
    assert header_error(protocol, ECHO, words(0)) == ErrorCode.NOT_AUTHORIZED_ERR
    protocol.authenticated = True
    for number in (ECHO + 1, 0x2050_0100, 0x2051_0000, 0x2052_0001, 0x0001_0000, 0x7FFF_0000, 0xFFFF_FFFF):
        assert header_error(protocol, number, words(0)) == ErrorCode.NOT_SUPPORTED_ERR
    assert header_error(protocol, ECHO, words(9)) == ErrorCode.XDR_DECODE_ERR
    assert header_error(protocol, ECHO, bytes(2 << 20)) == ErrorCode.XDR_DECODE_ERR
    assert protocol.extensions.stage is Stage.FRESH
    protocol.extensions.list()
    protocol.extensions.choose(())
    assert header_error(protocol, ECHO, words(0)) == ErrorCode.NOT_SUPPORTED_ERR


def test_a_list_and_what_it_chooses_in_one_segment() -> None:
    """The second is read when the first has been handled."""
    protocol = Pair().server
    protocol.extensions.list()
    for number, body in ((SET, words(1, TEST, 2)), (ECHO, words(1) + b"x\0\0\0" + words(9))):
        protocol.feed(mark(SIZE + len(body)) + Header(1, 0, 0, number, 0, 0).encode() + body)
    first = protocol.next_event()
    assert isinstance(first, Request)
    assert isinstance(first.body, m.ConfigSetExtListRequest)
    assert protocol.extensions.choose(first.body.ndmp_selected_ext) == ErrorCode.NO_ERR
    second = protocol.next_event()
    assert isinstance(second, Request)
    assert (second.version, second.body) == (2, m.TestEchoRequest(b"x", 9))


def test_a_log_decodes_them_by_the_version_in_force() -> None:
    record = Header(1, 0, 0, ECHO, 0, 0).encode() + words(1) + b"x\0\0\0" + words(9)
    seen = [
        describe(version, record, from_client=True, time=0, extensions=extensions)
        for version, extensions in ((4, {TEST: 1}), (4, {TEST: 2}), (4, {}), (3, {TEST: 2}))
    ]
    assert [(each.kind, each.message, each.fields) for each in seen] == [
        ("request", "TEST_ECHO", {"echo_msg": "x", "echo_short": 0}),
        ("request", "TEST_ECHO", {"echo_msg": "x", "echo_short": 9}),
        ("unknown", "0x7ff00000", None),
        ("unknown", "0x7ff00000", None),
    ]
