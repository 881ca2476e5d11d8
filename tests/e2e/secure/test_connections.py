"""Secure control connections: TLS in front of NDMP, as clients see it, and as attackers do."""

import contextlib
import hashlib
import os
import signal
import socket
import ssl
import stat
from pathlib import Path

import pytest

from mover.admin import accounts, sessions
from mover.admin import messages as a
from mover.ndmp.enums import AuthType, ConnectionStatusReason, ErrorCode
from mover.ndmp.messages import (
    ConfigGetServerInfoReply,
    ConfigGetServerInfoRequest,
    ConnectClientAuthRequest,
    DataGetStateRequest,
    NotifyConnectionStatusPost,
)
from mover.ndmp.messages.common import AuthText
from tests.control.test_logins import LOGIN_PASSWORD, ask, audit
from tests.support.ndmp_client import DEADLINE_S, NdmpClient
from tests.support.processes import settle
from tests.support.secure_port import (
    LOGIN,
    certificate,
    client_context,
    configured,
    secure_address,
    secure_client,
    wrapped,
)
from tests.support.servers import Server

pytestmark = pytest.mark.slow


def test_a_secure_connection_is_ndmp_inside_tls(server: Server) -> None:
    with secure_client(server, LOGIN) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.version() == "TLSv1.3"
        for _ in range(50):
            client.ok(DataGetStateRequest())
        rows = ask(server, sessions.Status(), sessions.StatusReply).sessions
        assert [row.is_secure_control_connection for row in rows] == [True]
        assert audit(server)[-1]["secure"] is True
    with NdmpClient(server.address, login=LOGIN):  # the plain port stays
        rows = ask(server, sessions.Status(), sessions.StatusReply).sessions
        assert [row.is_secure_control_connection for row in rows if row.session_authorized] == [False]


def test_the_certificate_is_made_once_and_its_fingerprint_is_told(server: Server) -> None:
    der = ssl.PEM_cert_to_DER_cert(certificate(server).read_text())
    digest = hashlib.sha256(der).hexdigest()
    shown = ask(server, a.Version(), a.VersionReply).certificate_fingerprint
    assert shown.replace(":", "").lower() == digest
    assert shown in server.log.read_text()
    key = server.config.parent / "state" / "tls-key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    server.stop()
    with Server(server.config) as again:
        assert key.read_bytes() == before
        with secure_client(again, LOGIN):
            pass


def test_without_the_option_there_is_no_secure_port(directory: Path) -> None:
    with Server(configured(directory, node="")) as server:
        assert server.ready.lifs[0].secure_port is None
        assert not certificate(server).exists()


def test_large_messages_and_many_small_ones_come_through(server: Server) -> None:
    """More than a TLS record holds, and more requests in one write than are answered at once."""
    with secure_client(server, LOGIN) as client:
        sent = [client.protocol.request(DataGetStateRequest()) for _ in range(2000)]
        client.socket.sendall(b"".join(data for _, data in sent))
        for sequence, _ in sent:
            assert client.reply_to(sequence, "GET_STATE").error == ErrorCode.NO_ERR


def test_login_passwords_count_on_a_secure_connection(server: Server) -> None:
    """plaintext_sso: a local user's login password, which no plain connection takes."""
    ask(server, accounts.UserCreate("ops", "backup", password=LOGIN_PASSWORD), a.Done)

    def attempt(client: NdmpClient, password: str) -> int:
        return client.error(ConnectClientAuthRequest(AuthText(b"ops", password.encode())))

    with secure_client(server) as client:
        info = client.ok(ConfigGetServerInfoRequest())
        assert isinstance(info, ConfigGetServerInfoReply)
        assert info.auth_type == (AuthType.MD5, AuthType.TEXT)
        assert attempt(client, "wrong password") == ErrorCode.NOT_AUTHORIZED_ERR
        assert attempt(client, LOGIN_PASSWORD) == ErrorCode.NO_ERR
        client.ok(DataGetStateRequest())
    with NdmpClient(server.address) as client:
        assert attempt(client, LOGIN_PASSWORD) == ErrorCode.ILLEGAL_ARGS_ERR
    assert LOGIN_PASSWORD not in server.log.read_text()


def test_too_many_sessions_are_refused_inside_tls(directory: Path) -> None:
    with (
        Server(configured(directory, "[limits]\nsessions = 1\n")) as server,
        secure_client(server, LOGIN),
        contextlib.closing(wrapped(server)) as refused,
    ):
        assert b"too many sessions" in refused.recv(65536)
        assert refused.recv(65536) == b""


def test_the_server_says_that_it_goes(server: Server) -> None:
    with secure_client(server, LOGIN) as client:
        os.kill(server.pid, signal.SIGTERM)
        seen = client.wait_until(
            lambda each: (
                isinstance(each.body, NotifyConnectionStatusPost)
                and each.body.reason == ConnectionStatusReason.SHUTDOWN
            ),
            "SHUTDOWN",
        )
        assert seen
        assert client.socket.recv(65536) == b""  # with TLS's own end: a cut one would raise


@pytest.mark.parametrize("data", [b"plain bytes", b"\x80\x00\x00\x1c" + bytes(28), b"GET / HTTP/1.0\r\n\r\n"])
def test_plain_bytes_get_nothing(server: Server, data: bytes) -> None:
    with socket.create_connection(secure_address(server), timeout=DEADLINE_S) as plain:
        plain.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(100) == b""
    with secure_client(server, LOGIN):
        pass


@pytest.mark.parametrize("data", [b"", b"\x16", b"\x16\x03\x01\x40\x00" + bytes(5000)])
def test_a_handshake_that_is_cut_off_does_no_harm(server: Server, data: bytes) -> None:
    for _ in range(5):
        with socket.create_connection(secure_address(server), timeout=DEADLINE_S) as plain:
            plain.sendall(data)
    with secure_client(server, LOGIN):
        pass
    assert "Traceback" not in server.log.read_text()


def test_one_address_cannot_have_all_handshakes(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(80):  # and says nothing
            stack.enter_context(socket.create_connection(secure_address(server), timeout=DEADLINE_S))
        settle(lambda: "too many handshakes" in server.log.read_text(), "too many handshakes")
        other = socket.create_connection(secure_address(server), timeout=DEADLINE_S, source_address=("127.0.0.2", 0))
        greeted = client_context(server).wrap_socket(other, server_hostname="127.0.0.1")
        with NdmpClient(server.address, login=LOGIN, connection=greeted) as client:
            client.ok(DataGetStateRequest())


def test_who_comes_from_elsewhere_shakes_no_hands(directory: Path) -> None:
    with Server(configured(directory, '[authentication]\nallow = ["127.0.0.2/32"]\n')) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            wrapped(server)
        allowed = socket.create_connection(secure_address(server), timeout=DEADLINE_S, source_address=("127.0.0.2", 0))
        greeted = client_context(server).wrap_socket(allowed, server_hostname="127.0.0.1")
        with NdmpClient(server.address, login=LOGIN, connection=greeted) as client:
            client.ok(DataGetStateRequest())
        first = audit(server)[0]
        assert (first["event"], first["client"], first["reason"]) == ("connect", "127.0.0.1", "not from this address")


def test_weak_tls_is_refused(server: Server) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        wrapped(server, context)
    weak = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    weak.check_hostname = False
    weak.verify_mode = ssl.CERT_NONE
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("AES128-SHA:AES256-SHA:@SECLEVEL=0")  # no forward secrecy
    with pytest.raises((ssl.SSLError, ConnectionError)):
        wrapped(server, weak)
    weak.set_ciphers("DEFAULT")
    with contextlib.closing(wrapped(server, weak)) as good:
        assert good.version() == "TLSv1.2"
