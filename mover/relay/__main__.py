"""The relay worker: ``python -I -m mover.relay FD``; serves one data connection."""

import mover.workers.lean  # noqa: F401  # first, or it is too late

# isort: split
import os
import select
import sys
from collections.abc import Callable
from typing import Final

from mover.relay.connection import Connection
from mover.relay.relay import receive, send
from mover.ring import Consumer, Producer, RingFds
from mover.workers.channel import Channel
from mover.workers.confine import Grant
from mover.workers.frame import run
from mover.workers.messages import Done, Refused, ToWorker
from mover.workers.relay_messages import AttachConnection, ConnectionLost, ConnectorKeys, ListenerKeys, StartRelay

ILLEGAL_STATE: Final = 19
CONNECT_ERROR: Final = 23


class Relay:
    """One data connection, from the moment control hands its socket over."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._lost = False
        self._join: Callable[[int, Channel], Connection] | None = None

    def need(self, message: ToWorker) -> Grant:
        """Nothing: the relay gets its socket and its ring as descriptors, and TLS is loaded before it has no files."""
        if isinstance(message, AttachConnection) and message.keys is not None:
            self._join = _secure(message, message.keys)
        return Grant()

    def handle(self, channel: Channel, message: ToWorker) -> None:
        """Serve one message of control."""
        match message:
            case AttachConnection():
                self._attach(channel, message)
            case StartRelay():
                self._start(channel, message)
            case _:
                channel.send(Refused(ILLEGAL_STATE, f"a relay does not serve {type(message).__name__}"))

    def _attach(self, channel: Channel, message: AttachConnection) -> None:
        (fd,) = channel.take_descriptors(1)
        try:
            join, self._join = self._join, None
            if join is not None:
                self._connection = join(fd, channel)
            elif message.keys is not None:
                raise OSError(0, "TLS is not loaded")
            else:
                self._connection = Connection(fd, message.peer_timeout_s)
        except OSError as error:
            channel.send(Refused(CONNECT_ERROR, error.strerror or str(error)))
            return
        channel.send(Done())
        if message.watch:
            self._watch(channel)

    def _watch(self, channel: Channel) -> None:
        """Until control has work, look for a peer that goes away; bytes that come early stay in the socket."""
        assert self._connection is not None
        poller = select.poll()
        poller.register(self._connection.socket, select.POLLRDHUP)
        poller.register(channel.fileno(), select.POLLIN)
        ready = dict(poller.poll())
        if channel.fileno() not in ready:
            self._lost = True
            self._connection.reset()
            channel.send(ConnectionLost("the peer closed the data connection before the operation began"))

    def _start(self, channel: Channel, message: StartRelay) -> None:
        fds = RingFds(*channel.take_descriptors(3))
        if self._connection is None or self._lost:
            for fd in fds:
                os.close(fd)
            error, text = ILLEGAL_STATE, "the relay has no data connection"
            if self._lost:
                error, text = CONNECT_ERROR, "the data connection is gone"
            channel.send(Refused(error, text))
            return
        channel.send(Done())
        if message.direction == "send":
            with Consumer(fds) as consumer:
                channel.send(send(channel, self._connection, consumer))
        else:
            with Producer(fds) as producer:
                channel.send(receive(channel, self._connection, producer))
        self._connection = None


def _secure(message: AttachConnection, keys: ListenerKeys | ConnectorKeys) -> Callable[[int, Channel], Connection]:
    """What makes an encrypted connection of a socket; raises OSError then, and where the keys cannot be used now."""
    from mover.relay import tls  # noqa: PLC0415 - 10 ms that a plain connection does not need

    context = tls.prepare(keys)

    def join(fd: int, channel: Channel) -> Connection:
        listener = isinstance(keys, ListenerKeys)
        connection = tls.SecureConnection(fd, message.peer_timeout_s, context, listener=listener)
        try:
            connection.join(channel, keys, message.handshake_s)
        except OSError:
            connection.reset()
            raise
        return connection

    return join


if __name__ == "__main__":
    relay = Relay()
    sys.exit(run("relay", sys.argv, relay.handle, relay.need))
