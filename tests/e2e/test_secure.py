"""Secure control connections: TLS in front of NDMP, as clients with TLS of their own see it, and as attackers do."""

import contextlib
import datetime
import hashlib
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
from tests.support import peers
from tests.support.ndmp_client import DEADLINE_S, NdmpClient
from tests.support.processes import settle
from tests.support.servers import Login, Server, mover_command, write_config

pytestmark = pytest.mark.slow

LOGIN = Login("ndmp", "the secret of the file")
SECURE = "is_secure_control_connection_enabled = true"
AUTHTYPE = ("challenge", "plaintext_sso")


def configured(directory: Path, extra: str = "", node: str = SECURE) -> Path:
    path = write_config(directory, LOGIN, authtype=AUTHTYPE, node=node, drives=1, extra=extra)
    path.write_text(path.read_text().replace("port = 0\n", "port = 0\nsecure_port = 0\n", 1))
    return path


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mover-secure-") as name:
        yield Path(name)


@pytest.fixture
def server(directory: Path) -> Iterator[Server]:
    with Server(configured(directory)) as running:
        yield running


def secure_address(server: Server) -> tuple[str, int]:
    lif = server.ready.lifs[0]
    assert lif.secure_port is not None
    return lif.address, lif.secure_port


def certificate(server: Server) -> Path:
    return server.config.parent / "state" / "tls-certificate.pem"


def client_context(server: Server) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate(server)))


def wrapped(server: Server, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    plain = socket.create_connection(secure_address(server), timeout=DEADLINE_S)
    try:
        return (context or client_context(server)).wrap_socket(plain, server_hostname="127.0.0.1")
    except BaseException:
        plain.close()
        raise


def secure_client(server: Server, login: Login | None = None) -> NdmpClient:
    return NdmpClient(server.address, login=login, connection=wrapped(server))


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


def reload(server: Server) -> None:
    """SIGHUP; returns when the ports are as the new configuration has them, which is what it says last."""
    said = "configuration read again"
    before = server.log.read_text().count(said)
    os.kill(server.pid, signal.SIGHUP)
    settle(lambda: server.log.read_text().count(said) > before, said)


def test_sighup_takes_a_new_certificate_and_leaves_the_sessions(server: Server) -> None:
    with secure_client(server, LOGIN) as before:
        for name in ("tls-certificate.pem", "tls-key.pem"):
            (server.config.parent / "state" / name).rename(server.config.parent / f"old-{name}")
        reload(server)
        before.ok(DataGetStateRequest())
        with secure_client(server, LOGIN) as after:
            after.ok(DataGetStateRequest())
    with pytest.raises(ssl.SSLError):
        wrapped(server, ssl.create_default_context(cafile=str(server.config.parent / "old-tls-certificate.pem")))


def test_a_certificate_that_breaks_is_not_taken_and_stops_no_operator(server: Server) -> None:
    pinned = client_context(server)
    good = certificate(server).read_text()
    for broken in ("", "none", good[: len(good) // 2]):
        certificate(server).write_text(broken)
        before = server.log.read_text().count("certificate not taken")
        reload(server)
        assert server.log.read_text().count("certificate not taken") == before + 1
        with NdmpClient(server.address, login=LOGIN, connection=wrapped(server, pinned)) as client:
            client.ok(DataGetStateRequest())
    server.ask("off")
    with contextlib.closing(wrapped(server, pinned)) as refused:
        assert b"off" in refused.recv(65536)
    server.ask("on")


def ports(server: Server) -> set[int]:
    """Where the server listens."""
    found = psutil.Process(server.pid).net_connections("tcp")
    return {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}


def test_sighup_opens_and_closes_the_port(directory: Path) -> None:
    config = configured(directory)
    on = config.read_text()
    off = on.replace(SECURE, "")
    config.write_text(off)
    with Server(config) as server:
        plain = ports(server)
        for _ in range(2):
            config.write_text(on)
            reload(server)
            (port,) = ports(server) - plain
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as sock:
                greeted = client_context(server).wrap_socket(sock, server_hostname="127.0.0.1")
                with NdmpClient(server.address, login=LOGIN, connection=greeted) as client:
                    config.write_text(off)
                    reload(server)
                    assert ports(server) == plain
                    client.ok(DataGetStateRequest())  # the connections that there are stay


def test_a_port_that_cannot_be_opened_leaves_all_as_it_was(directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = configured(directory, node="")
        second = f'[[lif]]\nname = "second"\nport = 0\nsecure_port = {taken.getsockname()[1]}\n'
        config.write_text(config.read_text() + second)
        off = config.read_text()
        with Server(config) as server:
            plain = ports(server)
            config.write_text(off.replace("[node]", f"[node]\n{SECURE}"))
            reload(server)
            assert "secure port not opened" in server.log.read_text()
            assert ports(server) == plain
            taken.close()
            reload(server)
            assert len(ports(server)) == len(plain) + 2


def test_a_certificate_that_cannot_be_used_is_one_line(directory: Path) -> None:
    certificate, key = directory / "c.pem", directory / "k.pem"
    config = configured(directory, f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')

    def said() -> str:
        command = [*mover_command(), "serve", "--config", str(config)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        return ended.stderr.splitlines()[-1]

    assert said() == f"mover serve: {key}: No such file or directory"
    key.write_text("none")
    key.chmod(0o644)
    assert said() == f"mover serve: {key}: refused, because others may use it (chmod o-rw)"
    key.chmod(0o600)
    certificate.write_text("none")
    assert said().startswith(f"mover serve: {certificate} and {key}: ")


def client_certificate(directory: Path) -> Path:
    """A certificate of a client, its own authority, with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, directory.name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir()
    path = directory / "client.pem"
    encoding = serialization.Encoding.PEM
    path.write_bytes(
        made.public_bytes(encoding)
        + key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def test_client_certificates_where_they_are_asked_for(directory: Path) -> None:
    ours, others = client_certificate(directory / "ours"), client_certificate(directory / "others")
    with Server(configured(directory, f'[tls]\nclient_ca = "{ours}"\n')) as server:
        for shown in (None, others):
            context = client_context(server)
            if shown is not None:
                context.load_cert_chain(shown)
            # In TLS 1.3 the client hears of it behind its handshake.
            with (
                pytest.raises((ssl.SSLError, ConnectionError)),
                contextlib.closing(wrapped(server, context)) as refused,
            ):
                refused.recv(100)
        context = client_context(server)
        context.load_cert_chain(ours)
        with NdmpClient(server.address, login=LOGIN, connection=wrapped(server, context)) as client:
            client.ok(DataGetStateRequest())


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_hears_the_greeting(server: Server, version: str) -> None:
    host, port = secure_address(server)
    command = [
        str(peers.require("openssl")), "s_client", "-connect", f"{host}:{port}", "-CAfile", str(certificate(server)),
        "-verify_return_error", "-verify_ip", host, "-quiet", "-no_ign_eof", version,
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            greeting = process.stdout.read(4 + 24 + 12)
            assert greeting[:4] == b"\x80\x00\x00\x24"
            assert greeting[12 + 4 : 16 + 4] == b"\x00\x00\x05\x02"  # NOTIFY_CONNECTION_STATUS
        finally:
            process.kill()
            process.communicate(timeout=DEADLINE_S)


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    "weak",
    [
        ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        # Without forward secrecy, without authenticated encryption, without encryption, without a certificate.
        ("-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-GCM-SHA384:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"),
    ],
)
def test_openssl_with_anything_weak_is_refused(server: Server, weak: tuple[str, ...]) -> None:
    host, port = secure_address(server)
    command = [str(peers.require("openssl")), "s_client", "-connect", f"{host}:{port}", *weak]
    ended = subprocess.run(command, input=b"", capture_output=True, timeout=DEADLINE_S, check=False)
    assert ended.returncode != 0
    assert b"\x80\x00\x00\x24" not in ended.stdout  # no greeting
    with secure_client(server, LOGIN):
        pass


@pytest.mark.timeout(300)
def test_the_secure_port_conforms_as_the_plain_one_does(server: Server) -> None:
    host, port = secure_address(server)
    secret = server.config.parent / "secret"
    secret.touch(mode=0o600)
    secret.write_text(LOGIN.password)
    command = [
        *mover_command(), "conformance", f"{host}:{port}", "--user", LOGIN.user, "--password-file", str(secret),
        "--versions", "4", "--timeout", "60",
    ]  # fmt: skip
    shown = ask(server, a.Version(), a.VersionReply).certificate_fingerprint
    for words in (
        ("--ca", str(certificate(server)), "--groups", "connect"),
        ("--fingerprint", shown, "--groups", "config", "--match", "HOST_INFO"),
    ):
        ended = subprocess.run([*command, *words], capture_output=True, text=True, timeout=240, check=False)
        assert (ended.returncode, "fail:" in ended.stderr) == (0, False), ended.stdout + ended.stderr
    logins = [line for line in audit(server) if line["event"] == "login"]
    assert logins
    assert {line["secure"] for line in logins} == {True}
    for refused, why in (
        (("--tls",), "its certificate is not trusted: "),
        (("--fingerprint", "00" * 32), "its certificate has the fingerprint "),
    ):
        ended = subprocess.run([*command, *refused], capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 3
        assert why in ended.stderr
    assert [line for line in audit(server) if line["event"] == "login"] == logins  # no word was said


def dma(server: Server, *words: str, port: int | None = None) -> subprocess.CompletedProcess[str]:
    """The built-in DMA at the secure port."""
    host, secure_port = secure_address(server)
    directory = server.config.parent
    secret = directory / "secret"
    secret.write_text(LOGIN.password)
    secret.chmod(0o600)
    command = [
        *mover_command(), *words, "--host", f"{host}:{port or secure_port}", "--drive", "vtl0/drive0",
        "--user", LOGIN.user, "--password-file", str(secret), "--catalogue", str(directory / "catalogue"),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_built_in_dma_knows_the_server_before_it_says_a_word(directory: Path) -> None:
    source = directory / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content" * 100_000)
    config = configured(directory)
    config.write_text(config.read_text().replace("[node.volumes]", f'[node.volumes]\nv = "{directory}"'))
    with Server(config) as server:
        server.ask("tape", "load", "vtl0/drive0")
        shown = ask(server, a.Version(), a.VersionReply).certificate_fingerprint
        authority = ("--ca", str(certificate(server)))
        refusals = {
            ("--tls",): "its certificate is not trusted: ",
            ("--fingerprint", "00" * 32): f"its certificate has the fingerprint {shown.replace(':', '').lower()}, ",
            ("--ca", str(source / "file")): f"{source / 'file'}: ",
            ("--ca", str(directory / "none")): f"{directory / 'none'}: No such file or directory",
        }
        for words, why in refusals.items():
            ended = dma(server, "backup", str(source), *words)
            assert ended.returncode == 1
            host, port = secure_address(server)
            assert ended.stderr.splitlines()[-1].startswith(f"mover: no secure connection to {host}:{port}: {why}")
        assert not (server.config.parent / "state" / "audit.log").exists()  # not even a login was tried
        plain = int(server.address.rpartition(":")[2])
        ended = dma(server, "backup", str(source), "--tls", port=plain)  # a greeting is no handshake
        assert ended.returncode == 1
        assert f"no secure connection to 127.0.0.1:{plain}: what is there does not speak TLS" in ended.stderr

        ended = dma(server, "backup", str(source), "--fingerprint", shown)
        assert ended.returncode == 0, ended.stderr
        ended = dma(server, "recover", "--destination", str(directory / "back"), *authority)
        assert ended.returncode == 0, ended.stderr
        assert (directory / "back" / "file").read_bytes() == (source / "file").read_bytes()
        host, port = secure_address(server)
        command = [
            *mover_command(), "copy", f"{host}:{port}:{source}", f"{host}:{port}:{directory}/copied",
            "-sa", LOGIN.user, "--password-file", str(directory / "secret"), *authority,
        ]  # fmt: skip
        subprocess.run(command, capture_output=True, timeout=120, check=True)
        assert (directory / "copied" / "file").read_bytes() == (source / "file").read_bytes()
        assert {line["secure"] for line in audit(server) if line["event"] == "login"} == {True}


@pytest.mark.parametrize("value", ["", "00", "zz" * 32, "00" * 33])
def test_a_fingerprint_that_is_none_is_wrong_usage(value: str) -> None:
    command = [*mover_command(), "backup", "/x", "--fingerprint", value]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "expected the SHA-256 of a certificate" in ended.stderr


def socat(server: Server, directory: Path) -> list[str]:
    host, port = secure_address(server)
    return [
        str(peers.require("socat")), "-d", "-d", "TCP-LISTEN:0,bind=127.0.0.1,fork",
        f"OPENSSL:{host}:{port},cafile={certificate(server)},verify=1,openssl-min-proto-version=TLS1.2",
    ]  # fmt: skip


def stunnel(server: Server, directory: Path) -> list[str]:
    host, port = secure_address(server)
    config = directory / "stunnel.conf"
    config.write_text(
        f"foreground = yes\nsyslog = no\ndebug = info\npid =\n[ndmp]\nclient = yes\naccept = 127.0.0.1:0\n"
        f"connect = {host}:{port}\nCAfile = {certificate(server)}\nverifyChain = yes\ncheckIP = {host}\n"
        "sslVersionMin = TLSv1.2\n"
    )
    return [str(peers.require("stunnel4")), str(config)]


@pytest.mark.parametrize(
    ("proxy_of", "bound"),
    [
        pytest.param(socat, r"listening on .*:(\d+)", marks=pytest.mark.peer("ndmjob", "socat"), id="socat"),
        pytest.param(
            stunnel, r"bound to 127\.0\.0\.1:(\d+)",
            marks=pytest.mark.peer("ndmjob", "stunnel4"), id="stunnel",
        ),
    ],
)  # fmt: skip
def test_ndmjob_works_through_a_tls_client_of_its_own(
    directory: Path, proxy_of: Callable[[Server, Path], list[str]], bound: str
) -> None:
    """ndmjob has no TLS; a proxy gives it some, and checks the certificate."""
    source = directory / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content" * 1000)
    config = configured(directory)
    text = config.read_text().replace("[node.volumes]", f'[node.volumes]\nv = "{directory}"')
    config.write_text(text.replace('"plaintext_sso"', '"plaintext"'))
    with Server(config) as server:
        server.ask("tape", "load", "vtl0/drive0")
        with subprocess.Popen(proxy_of(server, directory), stderr=subprocess.PIPE, text=True) as proxy:
            try:
                assert proxy.stderr is not None
                found = (re.search(bound, line) for line in proxy.stderr)
                port = next(match[1] for match in found if match is not None)
                agent = f"127.0.0.1:{port}/4m,{LOGIN.user},{LOGIN.password}"
                job = [
                    str(peers.require("ndmjob")), "-v", "-o", "no-time-stamps", "-D", agent, "-f", "vtl0/drive0",
                    "-b", "128", "-B", "dump", "-c", "-C", str(source),
                ]  # fmt: skip
                ended = subprocess.run(job, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
                assert "Operation ended OKAY" in ended.stdout + ended.stderr, ended.stdout + ended.stderr
            finally:
                proxy.terminate()
                proxy.communicate(timeout=DEADLINE_S)
        assert all(line["secure"] for line in audit(server) if line["event"] == "login")
