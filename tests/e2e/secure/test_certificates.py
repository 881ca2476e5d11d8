"""The secure port's certificate and its clients', and what SIGHUP changes of the port."""

import contextlib
import datetime
import os
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mover.ndmp.messages import (
    DataGetStateRequest,
)
from tests.support.ndmp_client import DEADLINE_S, NdmpClient
from tests.support.processes import settle
from tests.support.secure_port import (
    LOGIN,
    SECURE,
    certificate,
    client_context,
    configured,
    secure_client,
    wrapped,
)
from tests.support.servers import Server, mover_command

pytestmark = pytest.mark.slow


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
