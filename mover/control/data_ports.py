"""TCP data connections of one control connection, until they stand: listening for one, or connecting out."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Final

import structlog
import trio

from mover.control import sockets
from mover.control.data_connection import RESET_ON_CLOSE
from mover.control.handshakes import is_half_open
from mover.control.interfaces import choose_addresses
from mover.control.refusal import Refusal
from mover.ndmp.enums import AddressType, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mover.control.connection import Connection

ADDRESSES_MAX: Final = 8  # of a data connection's peer that are tried, each for connect_timeout_s
SETTLE_S: Final = 10.0  # how long a DATA or MOVER request waits for a data connection that is being accepted
HANDSHAKE_S: Final = 2.0  # and for a handshake: a lost ACK is sent again after one second

log = structlog.get_logger()


class _Arrival:
    """A data connection listener and how far it is with what arrives there.

    The peer's CONNECT is answered as soon as its kernel has shaken hands, so the DMA's next request may be here
    before we have accepted, and even before the last packet of the handshake is here, which went another way: it
    must find the connection made.
    """

    def __init__(self, listener: trio.socket.SocketType) -> None:
        self._address: tuple[str, int] = listener.getsockname()[:2]
        self._poll = select.poll()
        self._poll.register(listener.fileno(), select.POLLIN)
        self._step = trio.Event()
        self.life = trio.CancelScope()
        self.taking = False
        self.over = False

    async def end(self) -> None:
        """Have no more of it: who is being taken over is let go."""
        self.life.cancel()
        while not self.over:
            await self._step.wait()

    def pending(self) -> bool:
        """Whether somebody has connected and is not dealt with yet."""
        if self.over:
            return False
        return self.taking or bool(self._poll.poll(0))

    def coming(self) -> bool:
        """Whether somebody takes himself for connected, and is not here yet."""
        if self.over:
            return False
        try:
            return is_half_open(*self._address)
        except OSError as error:  # then nobody waits for who is late
            log.debug("handshakes not seen", error=error.strerror)
            return False

    def stepped(self, *, over: bool) -> None:
        """One arrival is dealt with: refused, or taken over."""
        self.over = over
        self._step.set()
        self._step = trio.Event()

    async def settle(self) -> None:
        """Wait until all who have connected are dealt with, and a while for who is about to have."""
        while True:
            coming = self.coming()  # first: who arrives between the two looks is seen by the second
            if self.pending():
                await self._step.wait()
            elif not coming:
                return
            else:
                with trio.move_on_after(HANDSHAKE_S) as scope:
                    await self._step.wait()
                if scope.cancelled_caught and not self.pending():
                    return


class DataPorts:
    """Where data connections come in and go out."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ports = connection.config.data_connections
        self._window = connection.config.node.tcpwinsize
        self._allow = sockets.AllowList(connection.config.data_connections.allow, connection.config.lif)
        self._listening: dict[str, trio.CancelScope] = {}
        self._arrivals: set[_Arrival] = set()

    @property
    def listening(self) -> bool:
        """Whether somebody may connect."""
        return bool(self._arrivals)

    async def settle(self) -> None:
        """Wait, not for ever, until who has connected is dealt with."""
        if not self._arrivals:  # as with nearly every request
            return
        with trio.move_on_after(SETTLE_S):
            for arrival in list(self._arrivals):
                await arrival.settle()

    async def close(self) -> None:
        """The connection ends: close all listeners.

        Who has just connected is let go before the services are, or one would get a connection that nobody frees.
        """
        for arrival in list(self._arrivals):
            await arrival.end()

    async def listen(
        self,
        owner: str,
        kind: AddressType,
        accepted: Callable[[trio.socket.SocketType, str, int], Awaitable[None]],
        lost: Callable[[str], None],
    ) -> tuple[str, int]:
        """Listen for one TCP data connection at a LIF of the preferred roles; returns address and port.

        Args:
            kind: TCP or TCP_IPV6.

        Raises:
            Refusal: no port is free, or no LIF fits.
        """
        address, listener = await self._open(kind)
        port = listener.getsockname()[1]
        scope = self._listening[owner] = trio.CancelScope()
        arrival = _Arrival(listener)

        async def accept() -> None:
            with listener, scope:
                try:
                    while True:
                        sock, peer = await listener.accept()
                        if self._allow.allows(peer[0]):
                            arrival.taking = True
                            break
                        self._connection.log.warning("data connection refused", peer=peer[0])
                        sock.close()
                        arrival.stepped(over=False)
                except OSError as error:
                    lost(f"the data connection listener failed: {error.strerror}")
                    return
            if scope.cancelled_caught:
                return
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            await accepted(sock, peer[0], peer[1])

        async def own() -> None:
            try:
                with arrival.life:
                    await accept()
            finally:
                self._arrivals.discard(arrival)
                arrival.stepped(over=True)

        self._arrivals.add(arrival)  # now: the peer may be here before the task has begun
        self._connection.nursery.start_soon(own)
        return address, port

    def stop_listening(self, owner: str) -> None:
        """Close the data connection listener, if there is one."""
        scope = self._listening.pop(owner, None)
        if scope is not None:
            scope.cancel()

    async def _open(self, kind: AddressType) -> tuple[str, trio.socket.SocketType]:
        """A listener at the best address that has a free port. Raises Refusal."""
        connection, ports = self._connection, self._ports.port_range
        roles = connection.config.node.preferred_interface_role
        choice = choose_addresses(
            connection.config.lif, roles, connection.lif, connection.local_address, ipv6=kind is AddressType.TCP_IPV6
        )
        failures = []
        for address in choice.addresses:
            try:
                return address, await sockets.open_data_listener(address, ports.first, ports.last, self._window)
            except OSError as error:
                failures.append(f"no data connection listener on {address}: {error}")
        if failures:
            raise Refusal(ErrorCode.CONNECT_ERR, "; ".join(failures))
        raise Refusal(
            ErrorCode.CONNECT_ERR,
            f"no LIF for a data connection: preferred-interface-role is {','.join(roles)}; {choice.considered}",
        )

    async def connect_out(self, addresses: list[tuple[str, int]]) -> tuple[trio.socket.SocketType, str, int]:
        """Connect a data connection to the first address that answers.

        Raises:
            Refusal: none is allowed, or none answers.
        """
        reasons = []
        for address, port in addresses[:ADDRESSES_MAX]:
            if not self._allow.allows(address):
                reasons.append(f"{address} is not in data_connections.allow")
                continue
            try:
                sock = await sockets.connect_data(address, port, self._ports.connect_timeout_s, self._window)
            except OSError as error:
                reasons.append(f"{f'[{address}]' if ':' in address else address}:{port}: {error.strerror or error}")
                continue
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            return sock, address, port
        raise Refusal(ErrorCode.CONNECT_ERR, f"no data connection: {'; '.join(reasons) or 'no address'}")
