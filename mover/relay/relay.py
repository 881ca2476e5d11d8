"""Carries bytes between a ring and a TCP data connection, in one direction, and ends it so that a crash never looks
like an end.

Only the in-band END (sending), the peer's end of its stream or a consumer that has all it wants (receiving) lead to an
orderly close; everything else resets the connection. Waits watch the socket, the control socket and the ring's eventfd
together; the eventfd is watched edge triggered, because it is readable as long as credits lie in it.
"""

import select
import time
from typing import Final

from mover.relay.connection import Connection
from mover.ring import Consumer, Kind, Producer, RelayGauge, RingClosed
from mover.workers.channel import Channel
from mover.workers.peer import peer_full_ns
from mover.workers.relay_messages import RelayFinished

FILL_WAIT_S: Final = 0.002  # how long a part-filled slot waits for more before it goes on its way
DELIVERY_LOOK_S: Final = 0.2  # how often it is looked, behind the stream's end, whether the peer has all of it
PEER_LOOK_S: Final = 1.0  # how often a wait looks whether the peer is still there
ACKNOWLEDGEMENT_LOOK_MS: Final = 10  # nothing tells when the last byte is acknowledged
DRAIN_S: Final = 30.0  # how long an orderly close waits for a peer that neither closes nor acknowledges


class _Waiter:
    """Waits on the connection, the control socket and one eventfd."""

    def __init__(self, channel: Channel, connection: Connection, eventfd: int) -> None:
        self._epoll = select.epoll()
        self._peer = connection
        self._connection = connection.fileno()
        self._channel = channel
        self._epoll.register(channel.fileno(), select.EPOLLIN)
        self._epoll.register(self._connection, 0)
        self._epoll.register(eventfd, select.EPOLLIN | select.EPOLLET)

    def wait(self, events: int, timeout_s: float | None = None, gauges: memoryview | None = None) -> bool:
        """Wait for ``events`` of the connection or anything else; whether the connection has one of them.

        Args:
            gauges: the time counts there as spent on the connection.

        Raises:
            ChannelBroken: control is gone or wants this relay gone.
            OSError: the peer is gone.
        """
        self._epoll.modify(self._connection, events)
        ready = self._poll(PEER_LOOK_S if timeout_s is None else timeout_s, gauges)
        while timeout_s is None and not ready:
            self._peer.check_peer()
            ready = self._poll(PEER_LOOK_S, gauges)
        for fd, event in ready:
            if fd == self._channel.fileno():
                # Nothing may be asked of a relay that carries: this can only be the end of the control socket.
                self._channel.receive()
            elif fd == self._connection and event & select.EPOLLERR:
                # Reported whatever was asked for: a wait for room in the ring would spin on it.
                raise self._peer.failure()
        return any(fd == self._connection for fd, _ in ready)

    def _poll(self, timeout_s: float, gauges: memoryview | None) -> list[tuple[int, int]]:
        """One round of a wait; what it took is published at once, for a long wait is what is asked about."""
        started = time.monotonic_ns()
        if gauges is not None:
            gauges[RelayGauge.SOCKET_SINCE_NS] = started
        ready = self._epoll.poll(timeout_s)
        if gauges is not None:
            gauges[RelayGauge.SOCKET_SINCE_NS] = 0
            gauges[RelayGauge.SOCKET_WAIT_NS] += time.monotonic_ns() - started
            gauges[RelayGauge.PEER_FULL_NS] = peer_full_ns(self._peer.socket)
        return ready

    def close(self) -> None:
        self._epoll.close()


def send(channel: Channel, connection: Connection, ring: Consumer) -> RelayFinished:
    """Carry the ring's bytes out until END."""
    gauges = ring.gauges
    waiter = _Waiter(channel, connection, ring.fileno())
    sent_bytes = 0

    def result(*, orderly: bool, text: str, peer_closed: bool = False) -> RelayFinished:
        return RelayFinished(orderly=orderly, peer_closed=peer_closed, text=text, socket_bytes=sent_bytes)

    try:
        while True:
            entry = ring.try_peek()
            if entry is None:
                with ring.waiting():
                    ready = waiter.wait(select.EPOLLIN | select.EPOLLRDHUP)
                if ready and connection.peer_closed():
                    ring.finish()
                    connection.close_in_order()
                    return result(orderly=False, peer_closed=True, text="the peer closed the data connection")
                continue
            if entry.kind == Kind.END:
                ring.release()
                _close_after_send(channel, connection, ring)
                return result(orderly=True, text="")
            if entry.kind != Kind.DATA:
                _wait_for_acknowledgement(channel, connection, ring)
                connection.reset()
                return result(orderly=False, text="the stream was broken off by its producer")
            view, at = entry.view, 0
            while at < len(view):
                try:
                    at += (count := connection.send(view[at:]))
                except BlockingIOError:
                    ready = waiter.wait(select.EPOLLOUT | select.EPOLLRDHUP, gauges=gauges)
                    ring.check()
                    if ready and connection.peer_closed():
                        ring.finish()
                        connection.close_in_order()
                        return result(orderly=False, peer_closed=True, text="the peer closed the data connection")
                    continue
                sent_bytes += count
                gauges[RelayGauge.SOCKET_BYTES] = sent_bytes
            view.release()
            ring.release()
    except RingClosed as closed:
        connection.reset()
        return result(orderly=False, text=str(closed))
    except OSError as error:
        ring.finish()
        connection.reset()
        return result(orderly=False, text=f"data connection: {error.strerror or error}")
    finally:
        waiter.close()


def _wait_for_acknowledgement(channel: Channel, connection: Connection, ring: Consumer) -> None:
    """Until the peer's kernel has all that was sent: a reset of ours drops what is still on its way.

    Raises:
        OSError: the peer is gone. One that has reset is seen by that alone: what it left stays in the send queue.
        RingClosed: control does not wait any longer.
    """
    poller = select.poll()
    poller.register(connection, 0)
    poller.register(channel.fileno(), select.POLLIN)
    while connection.unacknowledged():
        ring.check()
        ready = dict(poller.poll(ACKNOWLEDGEMENT_LOOK_MS))
        if channel.fileno() in ready:
            channel.receive()
        if connection.fileno() in ready:
            raise connection.failure()
        connection.check_peer()


def _close_after_send(channel: Channel, connection: Connection, ring: Consumer) -> None:
    """The orderly end of a sender: say it, then wait until the peer closes, or has acknowledged all and stays silent.

    One that confirms by its close is not taken at its silence.

    The peer is waited for as long as it lives: a mover that waits for its next cartridge keeps the connection for
    hours, and check_peer ends the wait for one that is gone.

    Raises:
        OSError: the peer is gone.
        RingClosed: the operation was aborted, its stream with it.
    """
    gauges = ring.gauges
    _say_end(channel, connection)
    with select.epoll() as poller:
        poller.register(connection, select.EPOLLIN)
        poller.register(channel.fileno(), select.EPOLLIN)
        poller.register(ring.fileno(), select.EPOLLIN | select.EPOLLET)
        quiet_until = time.monotonic() + PEER_LOOK_S
        while True:
            ring.check()
            delivered = connection.unacknowledged() == 0
            left = max(0.0, quiet_until - time.monotonic())
            started = time.monotonic_ns()
            ready = dict(poller.poll(min(left, DELIVERY_LOOK_S)))
            _count_closing(gauges, time.monotonic_ns() - started, delivered=delivered)
            if channel.fileno() in ready:
                channel.receive()
            if connection.fileno() in ready:
                if connection.peer_closed():
                    break
            elif not ready and time.monotonic() >= quiet_until:
                if connection.unacknowledged() == 0 and not connection.peer_confirms:
                    break
                connection.check_peer()
                quiet_until = time.monotonic() + PEER_LOOK_S
    connection.close_in_order()


def _count_closing(gauges: memoryview, nanoseconds: int, *, delivered: bool) -> None:
    """Behind the stream's end: what is delivered is with the peer, who has not written it yet."""
    gauges[RelayGauge.SOCKET_WAIT_NS] += nanoseconds
    gauges[RelayGauge.CLOSING_NS] += nanoseconds
    if delivered:
        gauges[RelayGauge.PEER_FULL_NS] += nanoseconds


def receive(channel: Channel, connection: Connection, ring: Producer) -> RelayFinished:
    """Carry the connection's bytes into the ring until its end, or until the consumer has all it wants."""
    gauges = ring.gauges
    waiter = _Waiter(channel, connection, ring.fileno())
    received_bytes = 0
    filled = 0

    def result(*, orderly: bool, text: str) -> RelayFinished:
        return RelayFinished(orderly=orderly, peer_closed=False, text=text, socket_bytes=received_bytes)

    try:
        while True:
            slot = ring.try_reserve()
            if slot is None:
                with ring.waiting():
                    waiter.wait(0)
                continue
            try:
                count = connection.receive_into(slot[filled:])
            except BlockingIOError:
                ready = waiter.wait(select.EPOLLIN | select.EPOLLRDHUP, FILL_WAIT_S if filled else None, gauges)
                if filled and not ready:
                    ring.commit(filled)
                    filled = 0
                continue
            if count == 0:
                if filled:
                    ring.commit(filled)
                filled = 0
                _finish_ring(channel, connection, ring, Kind.END)
                return result(orderly=True, text="")
            received_bytes += count
            gauges[RelayGauge.SOCKET_BYTES] = received_bytes
            filled += count
            if filled == len(slot):
                ring.commit(filled)
                filled = 0
    except RingClosed as closed:
        if not closed.by_consumer:
            connection.reset()
            return result(orderly=False, text=str(closed))
        _close_after_receive(channel, connection)
        return result(orderly=True, text="")
    except OSError as error:
        connection.reset()
        if filled:
            ring.commit(filled)
        _finish_ring(channel, None, ring, Kind.FAILED)
        return result(orderly=False, text=f"data connection: {error.strerror or error}")
    finally:
        waiter.close()


def _finish_ring(channel: Channel, connection: Connection | None, ring: Producer, kind: Kind) -> None:
    """Put the end in band; after a good end hold the connection until the consumer has taken all.

    The sender takes our close for the word that everything is where it should be, so it comes after the consumer's,
    and any other end of the ring resets the connection.
    """
    poller = select.epoll()
    poller.register(channel.fileno(), select.EPOLLIN)
    poller.register(ring.fileno(), select.EPOLLIN | select.EPOLLET)
    ended = False
    try:
        while True:
            if not ended and ring.try_reserve() is not None:
                ring.commit(0, kind)
                ended = True
                if connection is None:
                    return
            ring.check()
            for fd, _ in poller.poll():
                if fd == channel.fileno():
                    channel.receive()
    except RingClosed as closed:
        if connection is not None:
            if closed.by_consumer:
                _confirm(channel, connection)
            else:
                connection.reset()
    finally:
        poller.close()


def _say_end(channel: Channel, connection: Connection) -> None:
    """Say the end of what we send, when the kernel has room for it. Raises OSError: the peer is gone."""
    poller = select.poll()
    poller.register(connection, select.POLLOUT)
    poller.register(channel.fileno(), select.POLLIN)
    while not connection.try_end():
        if channel.fileno() in dict(poller.poll(PEER_LOOK_S * 1000)):
            channel.receive()
        connection.check_peer()


def _confirm(channel: Channel, connection: Connection) -> None:
    """The orderly end of a receiver that has the whole stream: its close tells the sender so."""
    try:
        _say_end(channel, connection)
    except OSError:  # the sender did not wait for it
        connection.reset()
        return
    connection.close_in_order()


def _close_after_receive(channel: Channel, connection: Connection) -> None:
    """The orderly end of a receiver that wants no more: say so, then drop what is under way until the peer closes."""
    try:
        _say_end(channel, connection)
        poller = select.poll()
        poller.register(connection, select.POLLIN)
        poller.register(channel.fileno(), select.POLLIN)
        deadline = time.monotonic() + DRAIN_S
        while (left := deadline - time.monotonic()) > 0:
            ready = dict(poller.poll(left * 1000))
            if channel.fileno() in ready:
                channel.receive()
            if connection.fileno() in ready and connection.drain():
                break
    except OSError:
        # The peer reset while it still had bytes to send: it stopped too, and we have all we want.
        connection.reset()
        return
    connection.close_in_order()
