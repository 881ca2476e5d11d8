"""CONNECT: login with TEXT or MD5 against the users of the configuration. Source: NDMPv4 section 3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mover.control.refusal import Refusal
from mover.ndmp import messages as m
from mover.ndmp.auth import md5_digest, new_challenge, verify_md5, verify_text
from mover.ndmp.enums import AuthType, DataState, ErrorCode, MoverState

if TYPE_CHECKING:
    from mover.config import Config
    from mover.control.connection import Connection

_OFFERS: Final = {"challenge": AuthType.MD5, "plaintext": AuthType.TEXT, "none": AuthType.NONE}


def offered(config: Config) -> tuple[AuthType, ...]:
    """The login methods of this node, in the order of the configuration."""
    return tuple(_OFFERS[name] for name in config.node.authtype if name in _OFFERS)


async def client_auth(connection: Connection, request: m.ConnectClientAuthRequest) -> m.ConnectClientAuthReply:
    """CONNECT_CLIENT_AUTH; a failed one leaves the session without a login."""
    if connection.protocol.authenticated and _in_use(connection):
        raise Refusal(ErrorCode.ILLEGAL_STATE_ERR)
    offer = offered(connection.config)
    data = request.auth_data
    name = b""
    match data:
        case m.AuthNone() if AuthType.NONE in offer:
            method, right = "none", True
        case m.AuthText(auth_id=name, auth_password=password) if AuthType.TEXT in offer:
            secret = _secret(connection, name)
            # A name that is not there takes as long as a wrong password.
            method, right = "text", verify_text(password, secret or new_challenge()) and secret is not None
        case m.AuthMd5(auth_id=name, auth_digest=digest) if AuthType.MD5 in offer:
            secret = _secret(connection, name)
            challenge, connection.challenge = connection.challenge, None  # a challenge is good for one login
            method = "md5"
            right = challenge is not None and verify_md5(digest, challenge, secret or b"") and secret is not None
        case _:
            raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    user = name.decode("utf-8", "backslashreplace")[:64]
    connection.protocol.authenticated = right
    connection.authenticated_as = user if right else ""
    if not right:
        connection.log.warning("login failed", user=user, method=method, peer=connection.peer_address)
        raise Refusal(ErrorCode.NOT_AUTHORIZED_ERR)
    connection.log.info("logged in", user=user, method=method)
    return m.ConnectClientAuthReply()


def _secret(connection: Connection, name: bytes) -> bytes | None:
    for user in connection.node.config.user:
        if user.name.encode() == name:
            return user.password.reveal().encode()
    return None


def _in_use(connection: Connection) -> bool:
    machines = connection.machines
    return (
        connection.tape.is_open
        or machines.data.state is not DataState.IDLE
        or machines.mover.state is not MoverState.IDLE
    )


async def server_auth(connection: Connection, request: m.ConnectServerAuthRequest) -> m.ConnectServerAuthReply:
    """CONNECT_SERVER_AUTH: the server proves that it knows the password of the user who has logged in.

    By MD5 only: TEXT would tell the password, and NONE proves nothing. Source: NDMPv4 3.1.3; extensions.md 7.4.
    """
    if AuthType.MD5 not in offered(connection.config):
        raise Refusal(ErrorCode.NOT_SUPPORTED_ERR)
    name = connection.authenticated_as.encode()
    secret = _secret(connection, name)
    match request.client_attr:
        case m.AuthMd5Attr(challenge) if secret:
            return m.ConnectServerAuthReply(server_result=m.AuthMd5(name, md5_digest(challenge, secret)))
        case _:
            raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
