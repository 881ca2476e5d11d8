"""Control connections against a running server: greeting, login, order of answers, and hostile clients."""

import contextlib
import socket
import struct
import time

import pytest

from mover.ndmp.auth import md5_digest
from mover.ndmp.client import ClientProtocol, Post, Reply
from mover.ndmp.enums import AuthType, ConnectionStatusReason, ErrorCode, TapeMode
from mover.ndmp.messages import (
    ConfigGetAuthAttrReply,
    ConfigGetAuthAttrRequest,
    ConfigGetConnectionTypeReply,
    ConfigGetConnectionTypeRequest,
    ConfigGetHostInfoRequest,
    ConfigGetServerInfoReply,
    ConfigGetServerInfoRequest,
    ConnectClientAuthRequest,
    ConnectOpenRequest,
    DataGetStateRequest,
    LogMessagePost,
    NotifyConnectionStatusPost,
    ScsiExecuteCdbRequest,
    ScsiOpenRequest,
    TapeOpenRequest,
)
from mover.ndmp.messages.common import AuthMd5, AuthMd5Attr, AuthNone, AuthText
from tests.control.conftest import LOGIN
from tests.support.ndmp_client import NdmpClient
from tests.support.servers import Server

DEADLINE_S = 10.0


def open_socket(server: Server) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE_S)


def read_to_end(sock: socket.socket) -> bytes:
    """Everything until the server closes; a reset ends it as well."""
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def posts(data: bytes) -> list[object]:
    protocol = ClientProtocol()
    protocol.feed(data)
    found: list[object] = []
    while (event := protocol.next_event()) is not None:
        assert isinstance(event, Post)
        found.append(event.body)
    return found


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("method", ["md5", "text"])
def test_both_logins_work_in_every_version(server: Server, version: int, method: str) -> None:
    with NdmpClient(server.address, version=version) as client:
        assert client.error(DataGetStateRequest()) == ErrorCode.NOT_AUTHORIZED_ERR
        client.log_in(LOGIN, method)
        client.ok(DataGetStateRequest())
        client.hang_up()


def test_the_server_says_who_it_is_after_the_login_only(server: Server) -> None:
    with NdmpClient(server.address) as client:
        before = client.ok(ConfigGetServerInfoRequest())
        client.log_in(LOGIN, "md5")
        after = client.ok(ConfigGetServerInfoRequest())
    assert isinstance(before, ConfigGetServerInfoReply)
    assert isinstance(after, ConfigGetServerInfoReply)
    assert (before.vendor_name, before.product_name, before.revision_number) == (b"", b"", b"")
    assert before.auth_type == after.auth_type == (AuthType.MD5, AuthType.TEXT)
    assert after.product_name


def test_wrong_logins_leave_the_session_open_and_unauthenticated(server: Server) -> None:
    name = LOGIN.user.encode()
    secret = LOGIN.password.encode()
    with NdmpClient(server.address) as client:

        def challenge() -> bytes:
            reply = client.ok(ConfigGetAuthAttrRequest(AuthType.MD5))
            assert isinstance(reply, ConfigGetAuthAttrReply)
            assert isinstance(reply.server_attr, AuthMd5Attr)
            return reply.server_attr.challenge

        def attempt(data: AuthText | AuthMd5 | AuthNone) -> int:
            return client.error(ConnectClientAuthRequest(data))

        old = challenge()
        digest = md5_digest(old, secret)
        assert attempt(AuthText(name, b"wrong")) == ErrorCode.NOT_AUTHORIZED_ERR
        assert attempt(AuthText(b"nobody", secret)) == ErrorCode.NOT_AUTHORIZED_ERR
        assert attempt(AuthText(b"nobody", b"")) == ErrorCode.NOT_AUTHORIZED_ERR
        assert attempt(AuthMd5(name, bytes(16))) == ErrorCode.NOT_AUTHORIZED_ERR
        assert attempt(AuthMd5(name, digest)) == ErrorCode.NOT_AUTHORIZED_ERR  # a challenge is good for one login
        assert attempt(AuthNone()) == ErrorCode.ILLEGAL_ARGS_ERR  # not offered
        assert client.error(ConfigGetAuthAttrRequest(AuthType.NONE)) == ErrorCode.ILLEGAL_ARGS_ERR
        assert client.error(ConfigGetAuthAttrRequest(99)) == ErrorCode.ILLEGAL_ARGS_ERR
        assert client.error(DataGetStateRequest()) == ErrorCode.NOT_AUTHORIZED_ERR
        assert attempt(AuthMd5(name, md5_digest(challenge(), secret))) == ErrorCode.NO_ERR
        client.ok(DataGetStateRequest())
    log = server.log.read_text()
    assert LOGIN.password not in log
    assert "login failed" in log


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    with NdmpClient(server.address, login=LOGIN) as client:
        requests = [ConfigGetHostInfoRequest(), DataGetStateRequest(), ScsiOpenRequest(b"x")] * 20
        data, sequences = b"", []
        for body in requests:
            sequence, message = client.protocol.request(body)
            sequences.append(sequence)
            data += message
        client.socket.sendall(data)
        answered: list[int | None] = []
        while len(answered) < len(sequences):
            event = client.protocol.next_event()
            if event is None:
                client.protocol.feed(client.socket.recv(65536))
                continue
            assert not isinstance(event, Post)
            answered.append(getattr(event, "sequence", None))
        assert answered == sequences


def test_what_is_not_offered_is_refused_properly(server: Server) -> None:
    with NdmpClient(server.address, login=LOGIN) as client:
        reply = client.ok(ConfigGetConnectionTypeRequest())
        assert isinstance(reply, ConfigGetConnectionTypeReply)
        assert reply.addr_types == (0, 1)
        assert client.error(ScsiOpenRequest(b"vtl9/changer")) == ErrorCode.NO_DEVICE_ERR
        cdb = ScsiExecuteCdbRequest(flags=0, timeout=0, datain_len=0, cdb=bytes(6))
        assert client.error(cdb) == ErrorCode.DEV_NOT_OPEN_ERR


@pytest.mark.parametrize("version", [0, 1, 5, 65535])
def test_a_version_that_is_not_spoken_is_refused_and_another_may_be_tried(server: Server, version: int) -> None:
    with NdmpClient(server.address, version=4) as client:
        assert client.error(ConnectOpenRequest(version)) != ErrorCode.NO_ERR
        client.log_in(LOGIN, "md5")
        assert client.error(ConnectOpenRequest(3)) == ErrorCode.ILLEGAL_STATE_ERR


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"\x80\x00\x00\x1c\x00\x00"], ids=["nothing", "half a header"])
def test_a_client_that_does_not_log_in_is_closed(server: Server, sent: bytes) -> None:
    with open_socket(server) as sock:
        sock.sendall(sent)
        (greeting,) = posts(read_to_end(sock))
    assert greeting == NotifyConnectionStatusPost(ConnectionStatusReason.CONNECTED, 4)


@pytest.mark.slow
def test_a_client_that_drips_bytes_is_closed_all_the_same(server: Server) -> None:
    started = time.monotonic()
    with open_socket(server) as sock:
        sock.settimeout(0.05)
        message = ClientProtocol().request(ConnectOpenRequest(4))[1]
        while time.monotonic() - started < DEADLINE_S:
            for byte in message[:-1] + b"\0" * 100:
                try:
                    sock.sendall(bytes([byte]))
                    if sock.recv(65536) == b"":
                        return
                except TimeoutError:
                    continue  # nothing said yet
                except (BrokenPipeError, ConnectionResetError):
                    return
    pytest.fail("the server did not close")


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack(">I", 0x7FFF_FFFF),
        struct.pack(">I", 0x8000_0000 | 0x7FFF_FFFF),
        struct.pack(">I", 0x8010_0000) + bytes(200_000),  # more than a login ever needs
        struct.pack(">I", 0) * 1000,
        (struct.pack(">I", 0x8000_0004) + bytes(4)) * 100,  # messages without a header
    ],
    ids=["2 GiB fragment", "2 GiB last fragment", "1 MiB before login", "empty fragments", "no headers"],
)
def test_broken_framing_is_closed_at_once(server: Server, sent: bytes) -> None:
    with open_socket(server) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # closed while we were still talking
            sock.sendall(sent)
        read_to_end(sock)
    with NdmpClient(server.address, login=LOGIN) as client:  # and nobody else has noticed
        client.ok(DataGetStateRequest())


def test_past_the_limit_a_session_is_refused(server: Server) -> None:
    held = []
    try:
        for _ in range(8):
            held.append(NdmpClient(server.address, login=LOGIN))  # noqa: PERF401 - closed below if one fails
        with open_socket(server) as sock:
            (refusal,) = posts(read_to_end(sock))
        assert refusal == NotifyConnectionStatusPost(ConnectionStatusReason.REFUSED, 4, b"too many sessions")
    finally:
        for client in held:
            client.hang_up()


@pytest.mark.parametrize("version", [3, 4])
def test_why_a_request_was_refused_comes_behind_its_reply(server: Server, version: int) -> None:
    """In version 4 with the sequence number of the reply."""
    with NdmpClient(server.address, login=LOGIN, version=version) as client:
        seen: list[Reply] = []
        for device in (b"vtl0/drive0", b"vtl0/drive1"):
            seen.append(client.ask(TapeOpenRequest(device, TapeMode.READ)))
            client.ok(DataGetStateRequest())
        logs = [post.body for post in client.posts if isinstance(post.body, LogMessagePost)]
    assert [reply.error for reply in seen] == [ErrorCode.NO_TAPE_LOADED_ERR] * 2
    assert [log.entry for log in logs] == [
        b"vtl0/drive%d is empty: mover tape load vtl0/drive%d" % (number, number) for number in range(2)
    ]
    numbers = [(1, reply.header.sequence) if version == 4 else (0, 0) for reply in seen]
    assert [(log.associated_message_valid, log.associated_message_sequence) for log in logs] == numbers
