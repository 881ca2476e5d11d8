"""A server with a secure port, and clients of it, for tests."""

import socket
import ssl
from pathlib import Path

from tests.support.ndmp_client import DEADLINE_S, NdmpClient
from tests.support.servers import Login, Server, write_config

LOGIN = Login("ndmp", "the secret of the file")
SECURE = "is_secure_control_connection_enabled = true"
AUTHTYPE = ("challenge", "plaintext_sso")


def configured(directory: Path, extra: str = "", node: str = SECURE) -> Path:
    path = write_config(directory, LOGIN, authtype=AUTHTYPE, node=node, drives=1, extra=extra)
    path.write_text(path.read_text().replace("port = 0\n", "port = 0\nsecure_port = 0\n", 1))
    return path


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
