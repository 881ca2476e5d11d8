"""CONNECT: login with TEXT or MD5. Source: NDMPv4 section 3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mover.control.logins import Proof
from mover.control.reach import Bounds
from mover.control.refusal import Refusal
from mover.ndmp import messages as m
from mover.ndmp.auth import md5_digest
from mover.ndmp.enums import AuthType, DataState, ErrorCode, MoverState

if TYPE_CHECKING:
    from mover.control.connection import Connection

_OFFERS: Final = {
    "challenge": AuthType.MD5,
    "plaintext": AuthType.TEXT,
    "plaintext_sso": AuthType.TEXT,
    "none": AuthType.NONE,
}
_SECURE_ONLY: Final = {"plaintext_sso"}  # it sends the password that its user logs in with everywhere


def methods(connection: Connection) -> list[str]:
    """The configured login methods that count on this connection."""
    configured = connection.config.service(connection.lif.vserver).authtype
    return [name for name in configured if connection.secure or name not in _SECURE_ONLY]


def offered(connection: Connection) -> tuple[AuthType, ...]:
    """The login methods, in the order of the configuration."""
    return tuple(dict.fromkeys(_OFFERS[name] for name in methods(connection)))


async def client_auth(connection: Connection, request: m.ConnectClientAuthRequest) -> m.ConnectClientAuthReply:
    """CONNECT_CLIENT_AUTH; a failed one leaves the session without a login."""
    if connection.protocol.authenticated and _in_use(connection):
        raise Refusal(ErrorCode.ILLEGAL_STATE_ERR)
    offer = offered(connection)
    match request.auth_data:
        case m.AuthNone() if AuthType.NONE in offer:
            connection.protocol.authenticated = True
            connection.authenticated_as, connection.bounds = "", Bounds()
            connection.log.info("logged in", user="", method="none")
            connection.node.audit.event(
                "login",
                result="accepted",
                user="",
                method="none",
                client=connection.peer_address,
                lif=connection.lif.name,
                secure=connection.secure,
                session=connection.session_id,
            )
            return m.ConnectClientAuthReply()
        case m.AuthText(auth_id=name, auth_password=password) if AuthType.TEXT in offer:
            names = methods(connection)
            proof = Proof(name, "text", password, ndmp="plaintext" in names, login="plaintext_sso" in names)
        case m.AuthMd5(auth_id=name, auth_digest=digest) if AuthType.MD5 in offer:
            challenge, connection.challenge = connection.challenge, None  # a challenge is good for one login
            proof = Proof(name, "md5", digest, challenge)
        case _:
            raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    account = await connection.node.logins.log_in(connection, proof)
    connection.protocol.authenticated = account is not None
    connection.authenticated_as = "" if account is None else account.name
    connection.bounds = Bounds() if account is None else account.bounds
    if account is None:
        raise Refusal(ErrorCode.NOT_AUTHORIZED_ERR)
    return m.ConnectClientAuthReply()


def _in_use(connection: Connection) -> bool:
    machines = connection.machines
    return (
        connection.tape.is_open
        or connection.scsi.is_open
        or machines.data.state is not DataState.IDLE
        or machines.mover.state is not MoverState.IDLE
    )


async def server_auth(connection: Connection, request: m.ConnectServerAuthRequest) -> m.ConnectServerAuthReply:
    """CONNECT_SERVER_AUTH: the server proves that it knows the password of the user who has logged in.

    By MD5 only: TEXT would tell the password, and NONE proves nothing. Source: NDMPv4 3.1.3; extensions.md 7.4.
    """
    if AuthType.MD5 not in offered(connection):
        raise Refusal(ErrorCode.NOT_SUPPORTED_ERR)
    accounts = connection.node.accounts
    account = accounts.find(connection.authenticated_as)
    secret = None if account is None else (await accounts.ndmp_password(account))[0]
    match request.client_attr:
        case m.AuthMd5Attr(challenge) if secret:
            name = connection.authenticated_as.encode()
            return m.ConnectServerAuthReply(server_result=m.AuthMd5(name, md5_digest(challenge, secret)))
        case _:
            raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
