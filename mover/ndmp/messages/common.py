"""Structures that several messages carry: pairs, login data, addresses of data connections."""

from typing import Annotated

import msgspec

from mover.ndmp.enums import AddressType, AuthType
from mover.ndmp.xdr_types import U16, U32, Arms, Challenge, Digest, Ipv6Bytes, Opaque, String, UnknownArm


class Pval(msgspec.Struct, frozen=True, gc=False):
    """A name and a value: environment variable, capability."""

    name: String
    value: String


class AuthNone(msgspec.Struct, frozen=True):
    """Auth type NONE, and the arms without content."""


class AuthText(msgspec.Struct, frozen=True):
    """Login in clear."""

    auth_id: String
    auth_password: String


class AuthMd5(msgspec.Struct, frozen=True):
    """Login by digest over password and challenge (`mover.ndmp.auth`)."""

    auth_id: String
    auth_digest: Digest


class AuthTextAttr(msgspec.Struct, frozen=True):
    """TEXT needs no attribute."""


class AuthMd5Attr(msgspec.Struct, frozen=True):
    """The challenge of an MD5 login."""

    challenge: Challenge


AuthData = Annotated[
    AuthNone | AuthText | AuthMd5 | UnknownArm,
    Arms({AuthType.NONE: AuthNone, AuthType.TEXT: AuthText, AuthType.MD5: AuthMd5}),
]
AuthAttr = Annotated[
    AuthNone | AuthTextAttr | AuthMd5Attr | UnknownArm,
    Arms({AuthType.NONE: AuthNone, AuthType.TEXT: AuthTextAttr, AuthType.MD5: AuthMd5Attr}),
]


class LocalAddress(msgspec.Struct, frozen=True):
    """The other machine of the same session."""


class TcpEndpoint(msgspec.Struct, frozen=True):
    """One IPv4 address as a number, one port."""

    ip_addr: U32
    port: U16
    addr_env: tuple[Pval, ...] = ()  # v4 only


class TcpAddress(msgspec.Struct, frozen=True):
    """Where a TCP data connection listens, best first; v2 and v3 carry exactly one."""

    endpoints: tuple[TcpEndpoint, ...]


class TcpIpv6Endpoint(msgspec.Struct, frozen=True):
    """One IPv6 address, one port."""

    ipv6_addr: Ipv6Bytes
    port: U16
    addr_env: tuple[Pval, ...] = ()


class TcpIpv6Address(msgspec.Struct, frozen=True):
    """Where a TCP data connection over IPv6 listens, best first (v4, class 2051). Source: messages.md section 3."""

    endpoints: tuple[TcpIpv6Endpoint, ...]


class FcAddress(msgspec.Struct, frozen=True):
    """Fibre channel loop (v3 only)."""

    loop_id: U32


class IpcAddress(msgspec.Struct, frozen=True):
    """A channel of the host's own."""

    comm_data: Opaque


Address = Annotated[
    LocalAddress | TcpAddress | TcpIpv6Address | FcAddress | IpcAddress | UnknownArm,
    Arms(
        {
            AddressType.LOCAL: LocalAddress,
            AddressType.TCP: TcpAddress,
            AddressType.IPC: IpcAddress,
            AddressType.TCP_IPV6: TcpIpv6Address,
        }
    ),
]
"""Address of a data connection; on the wire as in version 4. An arm the version lacks decodes to UnknownArm."""

LOCAL = LocalAddress()
AUTH_NONE = AuthNone()


def tcp_address(ip_addr: int, port: int) -> TcpAddress:
    """A TCP address of one endpoint."""
    return TcpAddress((TcpEndpoint(ip_addr, port),))
