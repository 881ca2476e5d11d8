"""Addresses of data connections: as NDMP has them, as sockets have them, and as people read them."""

import ipaddress
from typing import NamedTuple

from mover.control.sockets import ip_number, ip_text
from mover.ndmp.enums import AddressType
from mover.ndmp.messages import LocalAddress, Pval, TcpAddress, TcpEndpoint, TcpIpv6Address, TcpIpv6Endpoint

NetworkAddress = TcpAddress | TcpIpv6Address
DataAddress = LocalAddress | NetworkAddress


class ShownAddress(NamedTuple):
    """What status and summaries have of an address; a LOCAL one is no place."""

    kind: str
    address: str
    port: int | None

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def network_address(address: str, port: int, env: tuple[Pval, ...] = ()) -> NetworkAddress:
    """Address and port of a socket as NDMP has them, with the environment that version 4 gives to addresses."""
    if ":" not in address:
        return TcpAddress((TcpEndpoint(ip_number(address), port, env),))
    number = ipaddress.IPv6Address(address.partition("%")[0])  # NDMP names no interface
    return TcpIpv6Address((TcpIpv6Endpoint(number.packed, port, env),))


def address_type(address: object) -> int:
    """The type of an address; one that cannot be connected to counts as none that is offered."""
    match address:
        case LocalAddress():
            return AddressType.LOCAL
        case TcpAddress(endpoints=endpoints) if endpoints:
            return AddressType.TCP
        case TcpIpv6Address(endpoints=endpoints) if endpoints:
            return AddressType.TCP_IPV6
        case _:
            return -1


class Place(NamedTuple):
    """Where to connect, and what the address says about it."""

    host: str
    port: int
    env: tuple[Pval, ...] = ()


def places(address: NetworkAddress) -> list[Place]:
    """Where an address says to connect, best first."""
    match address:
        case TcpAddress():
            return [Place(ip_text(each.ip_addr), each.port, each.addr_env) for each in address.endpoints]
        case TcpIpv6Address():
            return [
                Place(str(ipaddress.IPv6Address(each.ipv6_addr)), each.port, each.addr_env)
                for each in address.endpoints
            ]


def shown_address(address: DataAddress) -> ShownAddress:
    """For people: its type, and the first place it names."""
    if isinstance(address, LocalAddress):
        return ShownAddress("local", "", None)
    kind = "tcp" if isinstance(address, TcpAddress) else "tcp-ipv6"
    first, *_ = places(address)
    return ShownAddress(kind, first.host, first.port)
