"""CONNECT messages (09xx), alike in versions 2 to 4. Source: NDMPv4 section 3.1."""

from mover.ndmp.enums import ErrorCode
from mover.ndmp.messages.common import AUTH_NONE, AuthAttr, AuthData
from mover.ndmp.xdr_types import U16, Body, Enum


class ConnectOpenRequest(Body, frozen=True):
    """Choose a protocol version; the core answers it."""

    protocol_version: U16


class ConnectOpenReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class ConnectClientAuthRequest(Body, frozen=True):
    """Log in."""

    auth_data: AuthData


class ConnectClientAuthReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class ConnectCloseRequest(Body, frozen=True):
    """End the session; has no reply."""


class ConnectServerAuthRequest(Body, frozen=True):
    """Ask the server to prove itself."""

    client_attr: AuthAttr


class ConnectServerAuthReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    server_result: AuthData = AUTH_NONE
