"""TCP data connections of one control connection, until they stand: listening for one, or connecting out."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Final

import structlog
import trio

from mover.control import sockets
from mover.control.data_addresses import Place
from mover.control.data_connection import Carrier, RelayFailed, attach_relay
from mover.control.data_encryption import PREAMBLE, Offer, keys_of, make_offer
from mover.control.handshakes import is_half_open
from mover.control.interfaces import choose_addresses
from mover.control.outbox import log_post
from mover.control.refusal import Refusal
from mover.ndmp.enums import AddressType, ErrorCode, LogType
from mover.workers.relay_messages import AttachConnection, ConnectorKeys, ListenerKeys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mover.control.connection import Connection

ADDRESSES_MAX: Final = 8  # of a data connection's peer that are tried, each for connect_timeout_s
SETTLE_S: Final = 10.0  # how long a DATA or MOVER request waits for a data connection that is being accepted
SETTLE_SURELY_S: Final = 3.0  # where a peer's CONNECT is answered when we have taken him: who is quicker is a stranger
HANDSHAKE_S: Final = 2.0  # and for a handshake: a lost ACK is sent again after one second
PREAMBLE_S: Final = 2.0
"""How long a listener that would encrypt waits for a peer's first bytes before it takes the peer for a plain one."""
TLS_S: Final = 10.0
"""How long a peer may take for TLS and the token, where it connects to us; where we do, the peer's relay comes too."""
TLS_OUT_S: Final = 20.0
STRANGERS_AT_ONCE: Final = 4
STRANGERS_MAX: Final = 8
"""Peers without the token, and a listener is given up; of so many that are not allowed its DMA is told."""
NOT_ALLOWED: Final = "data_connections.allow of this server does not have it"

log = structlog.get_logger()


class _Arrival:
    """A data connection listener and how far it is with what arrives there.

    The peer's CONNECT is answered as soon as its kernel has shaken hands, so the DMA's next request may be here
    before we have accepted, and even before the last packet of the handshake is here, which went another way: it
    must find the connection made.
    """

    def __init__(self, listener: trio.socket.SocketType, patience_s: float) -> None:
        self.listener = listener
        self.patience_s = patience_s
        self._address: tuple[str, int] = listener.getsockname()[:2]
        self._poll = select.poll()
        self._poll.register(listener.fileno(), select.POLLIN)
        self._step = trio.Event()
        self.life = trio.CancelScope()
        self.taking = 0  # who has been accepted and is not dealt with yet
        self.turned_away = 0  # whose address is not allowed
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
        return self.taking > 0 or bool(self._poll.poll(0))

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
        for arrival in list(self._arrivals):
            with trio.move_on_after(arrival.patience_s):
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
        accepted: Callable[[Carrier], Awaitable[None]],
        lost: Callable[[str], None],
        *,
        watch: bool,
    ) -> Place:
        """Listen for one TCP data connection at a LIF of the preferred roles; returns where, for the reply.

        Args:
            kind: TCP or TCP_IPV6.
            accepted: has the data connection from then on.
            watch: as of AttachConnection.

        Raises:
            Refusal: no port is free, no LIF fits, or it would have to be encrypted and cannot be.
        """
        offer = await make_offer(self._connection)
        address, listener = await self._open(kind)
        port = listener.getsockname()[1]
        scope = self._listening[owner] = trio.CancelScope()
        arrival = _Arrival(listener, SETTLE_SURELY_S if offer.required else SETTLE_S)

        async def accept() -> None:
            carrier = None
            try:
                with listener, scope:
                    carrier = await self._welcome(arrival, offer, watch)
            except OSError as error:
                lost(f"the data connection listener failed: {error.strerror}")
            except RelayFailed as error:
                lost(str(error))
            if carrier is not None:
                await accepted(carrier)

        async def own() -> None:
            try:
                with arrival.life:
                    await accept()
            finally:
                self._arrivals.discard(arrival)
                arrival.stepped(over=True)

        self._arrivals.add(arrival)  # now: the peer may be here before the task has begun
        self._connection.nursery.start_soon(own)
        return Place(address, port, offer.env)

    async def _welcome(self, arrival: _Arrival, offer: Offer, watch: bool) -> Carrier:
        """Wait for who may have the data connection.

        Where there is a token, a stranger does not keep its owner out: several are looked at side by side.

        Raises:
            OSError: the listener failed.
            RelayFailed: there is no relay, or too many strangers came.
        """
        if offer.keys is None:
            sock, host, port = await self._accept(arrival)
            return await self._attach(sock, host, port, None, watch=watch)
        found: list[Carrier] = []
        refused: list[str] = []
        failures: list[OSError] = []
        room = trio.Semaphore(STRANGERS_AT_ONCE)

        async def look_at(sock: trio.socket.SocketType, host: str, port: int) -> None:
            try:
                found.append(await self._admit(sock, host, port, offer, watch=watch))
                nursery.cancel_scope.cancel()
            except RelayFailed as error:
                arrival.taking -= 1
                arrival.stepped(over=False)
                refused.append(self._tell_refused(host, str(error)))
                if len(refused) >= STRANGERS_MAX:
                    nursery.cancel_scope.cancel()
            finally:
                room.release()

        try:
            async with trio.open_nursery() as nursery:
                try:
                    while True:
                        await room.acquire()
                        nursery.start_soon(look_at, *await self._accept(arrival))
                except OSError as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()
            if found:
                return found.pop(0)
            if failures:
                raise failures[0]
            raise RelayFailed(f"{refused[-1]}, as {len(refused)} were")
        finally:
            # Two at once cannot both have it; none does when the listener is closed in this moment.
            with trio.CancelScope(shield=True):
                for carrier in found:
                    await carrier.relay.stop()

    def _tell_refused(self, host: str, reason: str, *, post: bool = True) -> str:
        """Tell the log, and the DMA unless it has heard enough of it; returns what the DMA is told."""
        text = f"data connection from {host} refused: {reason}"
        self._connection.log.warning("data connection refused", peer=host, reason=reason)
        if post:
            self._connection.nursery.start_soon(self._connection.outbox.post, log_post(LogType.WARNING, text))
        return text

    async def _accept(self, arrival: _Arrival) -> tuple[trio.socket.SocketType, str, int]:
        """The next peer whose address is allowed. Raises OSError."""
        while True:
            sock, peer = await arrival.listener.accept()
            if self._allow.allows(peer[0]):
                arrival.taking += 1
                return sock, peer[0], peer[1]
            sock.close()
            arrival.stepped(over=False)
            arrival.turned_away += 1
            self._tell_refused(peer[0], NOT_ALLOWED, post=arrival.turned_away <= STRANGERS_MAX)

    async def _admit(self, sock: trio.socket.SocketType, host: str, port: int, offer: Offer, *, watch: bool) -> Carrier:
        """Have a peer's socket carried, encrypted or not. Raises RelayFailed for one that may not have it."""
        keys = offer.keys
        try:
            if not await _begins_encrypted(sock, TLS_S if offer.required else PREAMBLE_S):
                if offer.required:
                    raise RelayFailed("it is not encrypted, and data-connection-encryption is required")
                keys = None
        except BaseException:
            sock.close()
            raise
        return await self._attach(sock, host, port, keys, watch=watch)

    async def _attach(
        self,
        sock: trio.socket.SocketType,
        host: str,
        port: int,
        keys: ListenerKeys | ConnectorKeys | None,
        *,
        watch: bool,
        handshake_s: float = TLS_S,
    ) -> Carrier:
        """Hand a socket to a relay. Raises RelayFailed."""
        order = AttachConnection(self._ports.peer_timeout_s, watch, keys, handshake_s if keys is not None else 0)
        relay = await attach_relay(self._connection.node.supervisor, sock, order)
        return Carrier(relay, host, port, keys is not None)

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

    async def connect_out(self, places: list[Place], *, watch: bool) -> Carrier:
        """Connect a data connection to the first place that answers.

        Raises:
            Refusal: none is allowed, or none answers as it should.
        """
        reasons = []
        for place in places[:ADDRESSES_MAX]:
            host, port, env = place
            if not self._allow.allows(host):
                reasons.append(f"{host} is not in data_connections.allow")
                continue
            keys = keys_of(self._connection, env)
            try:
                sock = await sockets.connect_data(host, port, self._ports.connect_timeout_s, self._window)
                if keys is not None:
                    await _send_preamble(sock)
                return await self._attach(sock, host, port, keys, watch=watch, handshake_s=TLS_OUT_S)
            except (OSError, RelayFailed) as error:
                why = getattr(error, "strerror", None) or str(error)
                reasons.append(f"{f'[{host}]' if ':' in host else host}:{port}: {why}")
        raise Refusal(ErrorCode.CONNECT_ERR, f"no data connection: {'; '.join(reasons) or 'no address'}")


async def _send_preamble(sock: trio.socket.SocketType) -> None:
    """At once: the listener does not wait for it for ever. Raises OSError; the socket is closed then."""
    try:
        await sock.send(PREAMBLE)  # the first bytes of a connection always have room
    except BaseException:
        sock.close()
        raise


async def _begins_encrypted(sock: trio.socket.SocketType, patience_s: float) -> bool:
    """Whether a peer begins with the preamble, which is taken; nothing else is. Raises RelayFailed: it is gone."""
    begun = b""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(PREAMBLE))  # not readable before it is all here
        with trio.move_on_after(patience_s):
            await trio.lowlevel.wait_readable(sock.fileno())
            begun = await sock.recv(len(PREAMBLE), socket.MSG_PEEK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        if begun != PREAMBLE:
            return False
        await sock.recv(len(PREAMBLE))
    except OSError as error:
        raise RelayFailed(error.strerror or str(error)) from error
    return True
