"""Sockets of control: options of control connections, data listeners within the port range, outgoing connections."""

import errno
import ipaddress
import os
import random
import socket
from collections.abc import Iterable
from typing import Final

import psutil
import trio

from mover.config import Lif
from mover.workers.peer import set_keepalive

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_PORT_TRIES: Final = 200
CONTROL_BACKLOG: Final = 128
UNSENT_BYTES_MAX: Final = 16 * 1024  # of a control connection, in the kernel: what comes next stands behind them


def set_control_options(sock: trio.socket.SocketType, peer_timeout_s: int, *, no_delay: bool = True) -> None:
    """No delay for replies, not behind much file history either, and probes to a peer that is silent."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, no_delay)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
    set_keepalive(sock, peer_timeout_s)


def lan_networks(addresses: Iterable[str]) -> list[IpNetwork]:
    """The networks that these local addresses stand in, from the interfaces' netmasks."""
    wanted = {ipaddress.ip_address(address) for address in addresses}
    found: list[IpNetwork] = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family not in {socket.AF_INET, socket.AF_INET6} or not entry.netmask:
                continue
            address = ipaddress.ip_address(entry.address.partition("%")[0])
            # A LIF on the unspecified address stands in every network of the host.
            if address in wanted or any(each.is_unspecified and each.version == address.version for each in wanted):
                bits = int(ipaddress.ip_address(entry.netmask)).bit_count()
                found.append(ipaddress.ip_network((address, bits), strict=False))
    return found


class AllowList:
    """Who may connect in, and, for data connections, where CONNECT may go.

    Args:
        entries: networks; "lan" = those that the LIFs' own addresses stand in.
    """

    def __init__(self, entries: Iterable[str], lifs: Iterable[Lif]) -> None:
        self._networks: list[IpNetwork] = []
        for entry in entries:
            if entry == "lan":
                self._networks += lan_networks(lif.address for lif in lifs)
            else:
                self._networks.append(ipaddress.ip_network(entry))

    def allows(self, address: str) -> bool:
        """Whether the address lies in an allowed network."""
        parsed = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(parsed, "ipv4_mapped", None)
        if mapped is not None:
            parsed = mapped
        return any(parsed in network for network in self._networks)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


async def open_listener(address: str, port: int) -> trio.socket.SocketType:
    """A socket that listens for control connections. Raises OSError."""
    family = _family(address)
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind((address, port))
        sock.listen(CONTROL_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _set_window(sock: trio.socket.SocketType, window: int) -> None:
    """Before it listens or connects: the buffers decide what window is offered, and accepted sockets take them over."""
    if window:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, window)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)


async def open_data_listener(address: str, first_port: int, last_port: int, window: int = 0) -> trio.socket.SocketType:
    """A listening socket on the address, within the port range; (0, 0) = any port.

    Args:
        window: bytes of its buffers; 0 = as the kernel has them.

    Raises:
        OSError: no port is free, or the address is not ours.
    """
    if first_port == 0:
        ports: list[int] = [0]
    else:
        count = last_port - first_port + 1
        # Any start: two servers of one host with the same range rarely try the same port at once.
        start = random.randrange(count)  # noqa: S311 - spreads load, guards nothing
        ports = [first_port + (start + step) % count for step in range(min(count, _PORT_TRIES))]
    failure = OSError(f"no port of {first_port}-{last_port} is free")
    for port in ports:
        sock = trio.socket.socket(_family(address), socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if ":" in address:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _set_window(sock, window)
            await sock.bind((address, port))
            sock.listen(1)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def connect_data(address: str, port: int, timeout_s: float, window: int = 0) -> trio.socket.SocketType:
    """A connected socket.

    Args:
        window: bytes of its buffers; 0 = as the kernel has them.

    Raises:
        OSError: refused, unreachable, or not connected in time.
    """
    sock = trio.socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        _set_window(sock, window)
        with trio.move_on_after(timeout_s) as scope:
            await sock.connect((address, port))
        if scope.cancelled_caught:
            raise TimeoutError(f"not connected within {timeout_s:g} s")
        if sock.getsockname() == sock.getpeername():
            # Nobody listens, and the kernel gave us that very port to connect from: we would read what we send.
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    except BaseException:
        sock.close()
        raise
    return sock


def ip_number(address: str) -> int:
    """An IPv4 address as NDMP's number."""
    return int(ipaddress.IPv4Address(address))


def ip_text(number: int) -> str:
    """NDMP's number as an IPv4 address."""
    return str(ipaddress.IPv4Address(number))
