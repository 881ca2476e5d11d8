"""The pairs of our own in the environment of a data connection's address (version 4), by which two movers encrypt it.

The listener's address has MOVER_TLS_FINGERPRINT and MOVER_TLS_TOKEN; a DMA passes addresses on as they are, so the
connector gets them with its CONNECT. MOVER_TLS in the address that GET_STATE tells says that the connection that stands
is encrypted, and how. Source: NDMPv4 section 2.4 (addr_env); docs/security.md.
"""

from typing import Final

from msgspec.structs import replace

from mover.ndmp.messages import Body, Pval, TcpAddress, TcpIpv6Address

FINGERPRINT: Final = b"MOVER_TLS_FINGERPRINT"
"""SHA-256 of the listener's certificate, in hex."""
TOKEN: Final = b"MOVER_TLS_TOKEN"
"""What the connector shows inside TLS, once; in hex."""
ENCRYPTED: Final = b"MOVER_TLS"
SECRET_BYTES: Final = 32
"""Of the fingerprint, and of the token."""


def encryption(address: object) -> str:
    """How the data connection to an address of GET_STATE is encrypted, as in ``TLSv1.3``; "" = not at all."""
    if isinstance(address, TcpAddress | TcpIpv6Address):
        for endpoint in address.endpoints:
            for pair in endpoint.addr_env:
                if pair.name == ENCRYPTED:
                    return pair.value.decode("ascii", "backslashreplace")
    return ""


def without_token(body: Body) -> Body:
    """A message as logs may have it: the token of its address is empty."""
    for name in ("addr", "data_connection_addr"):
        address = getattr(body, name, None)
        if isinstance(address, TcpAddress | TcpIpv6Address):
            endpoints = tuple(replace(each, addr_env=_blank(each.addr_env)) for each in address.endpoints)
            return replace(body, **{name: replace(address, endpoints=endpoints)})
    return body


def _blank(env: tuple[Pval, ...]) -> tuple[Pval, ...]:
    return tuple(Pval(TOKEN, b"") if pair.name == TOKEN else pair for pair in env)
