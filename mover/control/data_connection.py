"""One end of a data connection: the data ring, and what stands at the ring's other side.

LOCAL: the other machine of the same connection, whose worker has the same ring. TCP: a relay worker, which has the
socket. The DATA and MOVER services do not know more than this module tells them.
"""

import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple

import structlog
import trio

from mover.control.data_addresses import DataAddress, NetworkAddress, network_address
from mover.control.data_encryption import ENCRYPTED_BY
from mover.control.rings import make_data_ring
from mover.control.workers import Supervisor, Worker, WorkerDied, WorkerHung, describe_exit
from mover.ndmp.messages import LOCAL
from mover.ring import Consumer, Kind, Producer, RingClosed, RingControl, Verdict
from mover.workers.messages import Done, LogLine, Refused
from mover.workers.relay_messages import AttachConnection, ConnectionLost, RelayFinished, StartRelay

RELAY_DEADLINE_S: Final = 10.0
ORDERLY_END_S: Final = 60.0  # a relay that ends in order waits for its peer
OTHER_END_S: Final = 2.0
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

log = structlog.get_logger()


class PeerEnd(NamedTuple):
    """How the other side of the ring ended.

    Attributes:
        orderly: the stream went through whole, or the other side has all it wants.
        closed: the other side closed in good order, but before the end of what we send.
        in_band: the ring says so too, behind the last byte that came.
    """

    orderly: bool
    closed: bool
    text: str
    in_band: bool = False


class Delivery:
    """What becomes of the stream of a local backup behind the end of DATA: the mover may still fail to write its rest.

    Attributes:
        told: the mover has ended.
        whole: it has written everything.
        settled: what was kept of the backup is taken back, or not.
    """

    def __init__(self) -> None:
        self.told = trio.Event()
        self.whole = False
        self.settled = trio.Event()

    def conclude(self, *, whole: bool) -> None:
        """The mover has ended; the first word counts."""
        if not self.told.is_set():
            self.whole = whole
            self.told.set()


class RelayFailed(Exception):  # noqa: N818 - named for what happened
    """The relay cannot carry; the data connection is gone."""


class DataRing:
    """A data ring, closed when the last end in this process has dropped it."""

    def __init__(self, ring_bytes: int, record_size: int) -> None:
        self.control: RingControl = make_data_ring(ring_bytes, record_size)
        self._held = 0

    def hold(self) -> "DataRing":
        """One more end uses it."""
        self._held += 1
        return self

    def drop(self) -> None:
        """One end less; its last counters stay readable."""
        self._held -= 1
        if self._held == 0:
            self.control.close()


class Carrier(NamedTuple):
    """A relay that has a connected socket, for who holds the data connection.

    Attributes:
        host, port: of the peer.
    """

    relay: Worker
    host: str
    port: int
    encrypted: bool

    @property
    def address(self) -> NetworkAddress:
        """The peer's, for GET_STATE."""
        return network_address(self.host, self.port, ENCRYPTED_BY if self.encrypted else ())


async def attach_relay(supervisor: Supervisor, sock: trio.socket.SocketType, order: AttachConnection) -> Worker:
    """Hand a connected socket to a relay; control's copy is closed whatever happens.

    Raises:
        RelayFailed: there is no relay to take it, or the peer is not the one that the keys are for.
    """
    relay = None
    attached = False
    try:
        with sock:
            # From the first moment, so that a crash of any process never looks like an end.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            relay = await supervisor.take("relay")
            reply = await relay.request(order, [sock.fileno()], deadline_s=RELAY_DEADLINE_S + order.handshake_s)
        if not isinstance(reply, Done):
            raise RelayFailed(reply.text if isinstance(reply, Refused) else str(reply))
        attached = True
    except (OSError, WorkerDied, WorkerHung) as error:
        raise RelayFailed(str(error)) from error
    finally:
        if relay is not None and not attached:
            with trio.CancelScope(shield=True):
                await relay.stop()
    return relay


class DataConnection:
    """The end that one machine holds.

    Attributes:
        address: of the peer, for GET_STATE.
        encrypted: between this host and the peer's.
        ring: None before it is needed.
        end: how the other side ended; None while it lives. ``ended`` is set with it.
        on_end: called once with it, in a task of its own.
    """

    def __init__(self, address: DataAddress, on_end: Callable[[PeerEnd], Awaitable[None]]) -> None:
        self.address = address
        self.ring: DataRing | None = None
        self.relay: Worker | None = None
        self.encrypted = False
        self.end: PeerEnd | None = None
        self.ended = trio.Event()
        self.delivery: Delivery | None = None
        self._on_end = on_end
        self._direction: str | None = None  # of a relay that is in the ring, or was
        self._released = False

    @classmethod
    def over(cls, carrier: Carrier, on_end: Callable[[PeerEnd], Awaitable[None]]) -> "DataConnection":
        """The end of a TCP data connection."""
        made = cls(carrier.address, on_end)
        made.relay, made.encrypted = carrier.relay, carrier.encrypted
        return made

    @property
    def local(self) -> bool:
        """Whether the other side is the other machine of this connection."""
        return self.address == LOCAL

    def use_ring(self, ring: DataRing) -> None:
        """Take the ring that this end moves its stream through."""
        self.ring = ring.hold()

    async def start(self, direction: Literal["send", "receive"]) -> None:
        """Begin to carry: ring to socket or socket to ring. Nothing to do for LOCAL.

        Raises:
            RelayFailed: the data connection is gone already.
        """
        if self.relay is None:
            return
        assert self.ring is not None, "a relay is started with a ring"
        self._direction = direction  # before the reply: the end may follow it at once
        try:
            reply = await self.relay.request(
                StartRelay(direction=direction), self.ring.control.fds, deadline_s=RELAY_DEADLINE_S
            )
        except (WorkerDied, WorkerHung) as error:
            self._direction = None
            raise RelayFailed(str(error)) from error
        if not isinstance(reply, Done):
            self._direction = None
            raise RelayFailed(str(reply))

    async def watch(self) -> None:
        """Listen to the relay until it is gone; a task of the connection's nursery."""
        relay = self.relay
        assert relay is not None
        try:
            async for event in relay.events:
                match event:
                    case RelayFinished():
                        in_band = self._direction == "receive"
                        await self.conclude_end(PeerEnd(event.orderly, event.peer_closed, event.text, in_band))
                    case ConnectionLost():
                        await self.conclude_end(PeerEnd(orderly=False, closed=False, text=event.text))
                    case LogLine():
                        log.info("relay", pid=relay.pid, text=event.text.decode("utf-8", "backslashreplace"))
                    case _:
                        log.error("unexpected event of a relay", pid=relay.pid, message=type(event).__name__)
        except trio.ClosedResourceError:
            return  # stopped by us
        await self.conclude_end(
            PeerEnd(orderly=False, closed=False, text=f"the relay died: {describe_exit(relay.exit_status)}")
        )

    async def conclude_end(self, end: PeerEnd) -> None:
        """The other side has ended; the first word counts."""
        if self.note_end(end):
            await self.tell_end()

    def note_end(self, end: PeerEnd) -> bool:
        """As ``conclude_end``, but ``tell_end`` is left to the caller, if this was the first word."""
        if self.end is not None:
            return False
        self.end = end
        self.ended.set()
        return True

    async def tell_end(self) -> None:
        """Tell the machine of this end how the other one ended."""
        if self.end is not None and not self._released:
            await self._on_end(self.end)

    def break_off(self, verdict: Verdict) -> None:
        """End the ring for both its sides; the first verdict stays."""
        if self.ring is not None:
            self.ring.control.conclude(verdict)

    async def end_stream(self) -> None:
        """Append the end of the stream behind what the tape worker, which has left the ring, put there."""
        assert self.ring is not None
        producer = Producer(self.ring.control.duplicate())
        try:
            while producer.try_reserve() is None:
                await trio.lowlevel.wait_readable(producer.fileno())
            producer.commit(0, Kind.END)
        except RingClosed:
            log.debug("the ring was ended before its stream")
        finally:
            producer.detach()

    async def deliver_end(self) -> None:
        """``end_stream``, then release."""
        try:
            await self.end_stream()
        finally:
            await self.release(orderly=True)

    def want_no_more(self) -> None:
        """Tell the producer, for the data worker that has all it wants, that the rest is not needed."""
        assert self.ring is not None
        consumer = Consumer(self.ring.control.duplicate())
        consumer.finish()
        consumer.close()

    async def release(self, *, orderly: bool) -> None:
        """Give up relay and ring; after an orderly end the relay may finish what it has to say to its peer."""
        if self._released:
            return
        self._released = True
        try:
            # A relay that is not in the ring has nothing to finish.
            if self._direction is not None and self.end is None:
                with trio.move_on_after(ORDERLY_END_S if orderly else OTHER_END_S):
                    await self.ended.wait()
        finally:
            with trio.CancelScope(shield=True):
                if self.relay is not None:
                    if orderly and self.end is None:
                        await self._last_words(self.relay)
                    await self.relay.stop()
                self.ended.set()
                if self.ring is not None:
                    self.ring.drop()

    @staticmethod
    async def _last_words(relay: Worker) -> None:
        """The connection is being torn down: give the relay a moment to close in order."""
        with trio.move_on_after(OTHER_END_S):
            async for event in relay.events:
                if isinstance(event, RelayFinished):
                    return
