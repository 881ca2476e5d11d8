"""The lines of a protocol log: what is in them, what is not, and where they end."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mover.ndmp import messages as m
from mover.ndmp.address_env import FINGERPRINT, TOKEN
from mover.ndmp.client import ClientProtocol
from mover.ndmp.dialogue import (
    ALL_INTERFACES,
    RECORD_BYTES_MAX,
    Closing,
    DialogueLog,
    Gap,
    LineError,
    Message,
    Opening,
    decode_line,
    describe,
)
from mover.ndmp.dialogue_fields import LEFT_OUT, blank
from mover.ndmp.edge import encode_body
from mover.ndmp.enums import DataHaltReason, ErrorCode, MessageCode, MessageType
from mover.ndmp.header import SIZE, Header
from mover.ndmp.server import Request, ServerProtocol
from mover.ndmp.table import VERSIONS

SECRET = b"the secret of the tests"


def request(body: m.Body, version: int = 4, sequence: int = 7) -> bytes:
    code, wire = encode_body(version, body)
    return Header(sequence, 0, MessageType.REQUEST, code, 0, 0).encode() + wire


def reply(wire: bytes, code: int, error: int = 0) -> bytes:
    return Header(9, 0, MessageType.REPLY, code, 7, error).encode() + wire


def lines(text: bytes) -> list[object]:
    return [decode_line(line) for line in text.splitlines()]


def test_a_request_has_its_fields_and_its_record() -> None:
    record = request(m.TapeOpenRequest(b"vtl0/drive0", 1))
    message = describe(4, record, from_client=True, time=1.5)
    assert message == Message(
        time=1.5, sender="client", kind="request", message="TAPE_OPEN", version=4, sequence=7,
        fields={"device": "vtl0/drive0", "mode": "RDWR"}, record=record.hex(),
    )  # fmt: skip


def test_a_reply_and_a_post_have_fields_only() -> None:
    answer = describe(4, reply(struct.pack(">I", 19), MessageCode.TAPE_OPEN), from_client=False, time=0)
    assert (answer.kind, answer.reply_to, answer.fields, answer.record) == (
        "reply",
        7,
        {"error": "ILLEGAL_STATE_ERR"},
        None,
    )
    refused = describe(4, reply(b"", 0x777, ErrorCode.NOT_SUPPORTED_ERR), from_client=False, time=0)
    assert (refused.kind, refused.message, refused.error) == ("unknown", "0x777", "NOT_SUPPORTED_ERR")
    post = describe(4, request(m.NotifyDataHaltedPost(DataHaltReason.ABORTED)), from_client=False, time=0)
    assert (post.kind, post.message, post.fields) == (
        "post", "NOTIFY_DATA_HALTED", {"reason": "ABORTED", "text_reason": ""},
    )  # fmt: skip


def test_an_arm_of_a_union_says_which_it_is() -> None:
    local = describe(4, request(m.DataConnectRequest(m.LOCAL)), from_client=True, time=0)
    assert local.fields == {"addr": {"type": "LocalAddress"}}
    tcp = describe(4, request(m.DataConnectRequest(m.tcp_address(1, 2))), from_client=True, time=0)
    assert tcp.fields == {
        "addr": {"type": "TcpAddress", "endpoints": [{"ip_addr": 1, "port": 2, "addr_env": []}]}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("version", "login"),
    [(version, m.AuthText(b"user", SECRET)) for version in VERSIONS]
    + [(version, m.AuthMd5(b"user", b"0123456789abcdef")) for version in VERSIONS if version > 1],
)
def test_no_secret_is_in_a_line(version: int, login: m.AuthData) -> None:
    log = DialogueLog(ALL_INTERFACES)
    record = request(m.ConnectClientAuthRequest(login), version)
    text = log.message(version, record, from_client=True, now=0)
    for secret in (SECRET, b"0123456789abcdef"):
        assert secret not in text
        assert secret.hex().encode() not in text
    (line,) = lines(text)
    assert isinstance(line, Message)
    assert LEFT_OUT in json.dumps(line.fields)
    assert line.record == request(m.ConnectClientAuthRequest(blank(login)), version).hex()


def test_a_login_that_cannot_be_decoded_has_no_body() -> None:
    record = request(m.ConnectClientAuthRequest(m.AuthText(b"user", SECRET)))[:-6]
    line = describe(4, record, from_client=True, time=0)
    assert line.record == record[:SIZE].hex()
    assert line.note is not None
    as_reply = Header(1, 0, MessageType.REPLY, MessageCode.CONNECT_CLIENT_AUTH, 0, 0).encode() + SECRET
    assert describe(4, as_reply, from_client=True, time=0).record == as_reply[:SIZE].hex()


def test_the_token_of_an_encrypted_data_connection_is_left_out() -> None:
    env = (m.Pval(FINGERPRINT, b"00ff"), m.Pval(TOKEN, SECRET.hex().encode()))
    for address in (
        m.TcpAddress((m.TcpEndpoint(1, 2, env),)),
        m.TcpIpv6Address((m.TcpIpv6Endpoint(bytes(16), 2, env),)),
    ):
        for body in (m.DataConnectRequest(address), m.MoverConnectRequest(0, address)):
            line = describe(4, request(body) + SECRET.hex().encode() + bytes(4), from_client=True, time=0)
            assert SECRET.hex() not in str(line)
            assert SECRET.hex().encode().hex() not in str(line)
            assert "00ff" in str(line.fields)
        header = Header(1, 0, MessageType.REPLY, MessageCode.MOVER_LISTEN, 1, 0).encode()
        reply = header + encode_body(4, m.MoverListenReply(data_connection_addr=address))[1]
        line = describe(4, reply, from_client=False, time=0)
        assert SECRET.hex() not in str(line)
        assert "00ff" in str(line.fields)
    damaged = describe(4, request(m.DataConnectRequest(address))[:-3], from_client=True, time=0)
    assert damaged.record == request(m.DataConnectRequest(address))[:SIZE].hex()


def test_what_cannot_be_read_is_kept_in_hex() -> None:
    short = describe(4, b"\x01\x02", from_client=True, time=0)
    assert (short.kind, short.record) == ("unreadable", "0102")
    cut = describe(4, request(m.TapeOpenRequest(b"x" * 8, 0))[:-9], from_client=True, time=0)
    assert (cut.kind, cut.message, cut.fields) == ("request", "TAPE_OPEN", None)
    assert cut.note is not None


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize(
    "body",
    [
        m.ConnectServerAuthRequest(m.AuthTextAttr()),
        m.ConnectServerAuthRequest(m.AuthMd5Attr(bytes(64))),
        m.ConnectClientAuthRequest(m.AuthNone()),
    ],
)
def test_what_stands_behind_a_login_is_left_out(body: m.Body, version: int) -> None:
    """A client that mixes up the layouts sends a secret where no field is."""
    record = request(body, version)
    line = describe(version, record + b"\0\0\0\x06" + SECRET, from_client=True, time=0)
    assert line.record == record.hex()


@pytest.mark.parametrize("code", [MessageCode.NOTIFY_DATA_HALTED, MessageCode.FH_ADD_DIR, MessageCode.CONNECT_CLOSE])
def test_a_reply_to_what_has_none_is_unknown(code: MessageCode) -> None:
    record = Header(1, 0, MessageType.REPLY, code, 1, 0).encode() + bytes(4)
    line = describe(4, record, from_client=False, time=0)
    assert (line.kind, line.message, line.fields) == ("unknown", code.name, None)


def test_long_bytes_are_told_by_length_and_digest() -> None:
    line = describe(4, request(m.TapeWriteRequest(b"x" * 5000)), from_client=True, time=0)
    assert line.fields is not None
    assert line.fields["data_out"]["bytes"] == 5000
    assert describe(4, request(m.TapeWriteRequest(b"\xff\x00")), from_client=True, time=0).fields == {
        "data_out": {"hex": "ff00"}
    }
    huge = describe(4, request(m.TapeWriteRequest(bytes(RECORD_BYTES_MAX))), from_client=True, time=0)
    assert huge.record is None
    assert huge.note is not None


@given(st.binary(max_size=200), st.booleans(), st.sampled_from(VERSIONS))
def test_any_bytes_become_one_line(record: bytes, from_client: bool, version: int) -> None:
    log = DialogueLog(ALL_INTERFACES)
    text = log.message(version, record, from_client=from_client, now=0)
    assert text.count(b"\n") == 1
    assert isinstance(decode_line(text), Message)


def test_a_filter_leaves_other_interfaces_out() -> None:
    log = DialogueLog(frozenset({"tape"}))
    assert log.message(4, request(m.DataGetStateRequest()), from_client=True, now=0) == b""
    assert log.message(4, request(m.TapeCloseRequest()), from_client=True, now=0) != b""
    assert log.messages == 1
    assert log.left_out == 0


def test_what_comes_too_fast_is_counted_where_it_is_missing() -> None:
    log = DialogueLog(ALL_INTERFACES, rate_bytes=10, burst_bytes=2 * SIZE)
    record = request(m.TapeCloseRequest())
    text = b"".join(log.message(4, record, from_client=True, now=0) for _ in range(5))
    assert len(lines(text)) == 2
    later = lines(log.message(4, record, from_client=False, now=100))
    assert later[0] == Gap(time=0, messages=3, requests=3, bytes=3 * SIZE)
    assert isinstance(later[1], Message)
    assert log.left_out == 3


def test_a_log_ends_when_it_is_full() -> None:
    log = DialogueLog(ALL_INTERFACES, log_bytes_max=4000)
    text = log.open(server="s", session=1, peer="p", version=4, filter_text="all", whole=True, now=0)
    while not log.full:
        text += log.message(4, request(m.TapeCloseRequest()), from_client=True, now=0)
    assert log.message(4, request(m.TapeCloseRequest()), from_client=True, now=0) == b""
    assert log.close("stopped", 0) == b""
    found = lines(text)
    assert isinstance(found[0], Opening)
    assert found[-1] == Closing(time=0, reason="the log is full", messages=log.messages, left_out=0)
    assert len(text) <= 4000


DEEP = b'{"type":"message","fields":' + b'{"a":' * 5000


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b'{"type":"message"}', b"\xff", b'{"type":"other","time":1}', DEEP]
)
def test_what_is_no_line(line: bytes) -> None:
    with pytest.raises(LineError):
        decode_line(line)


def test_the_server_shows_each_record_before_it_is_decoded() -> None:
    seen: list[bytes] = []
    server = ServerProtocol()
    server.on_record = seen.append
    client = ClientProtocol()
    client.feed(server.connected())
    assert client.next_event() is not None
    _, data = client.request(m.ConfigGetServerInfoRequest())
    server.feed(data * 2)
    assert isinstance(server.next_event(), Request)
    assert seen == [data[4:]]
