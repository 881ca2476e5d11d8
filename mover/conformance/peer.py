"""The other side of TCP data connections: it connects, or is connected to, and reads nothing by itself."""

import contextlib
import ipaddress
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Final, Self

from mover.conformance.results import MismatchError, ServerGoneError, SkippedError
from mover.ndmp.messages import Address, TcpAddress, tcp_address

RECEIVE_BUFFER_BYTES: Final = 4096
"""Small, so that a stream that nobody reads soon stands still."""


def numbered(number: int, size: int) -> bytes:
    """A record that says which it is; `size` is a multiple of eight."""
    return struct.pack(">Q", number) * (size // 8)


class Feeder(threading.Thread):
    """Sends numbered records until it is told to stop, then ends the stream in order.

    Attributes:
        sent: records so far.
    """

    def __init__(self, connection: socket.socket, size: int) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self._connection = connection
        self._size = size
        self._stopped = threading.Event()

    def run(self) -> None:
        with contextlib.suppress(OSError):  # the check is over, or has found out by itself
            while not self._stopped.is_set():
                self._connection.sendall(numbered(self.sent, self._size))
                self.sent += 1
            self._connection.shutdown(socket.SHUT_WR)

    def stop(self) -> None:
        """Send no more than the record that is under way."""
        self._stopped.set()


class Peer:
    """Sockets at the address by which the server reaches us; a context manager that closes them.

    Args:
        host: our IPv4 address on the control connection; None: there is none.
        deadline: of the check, on the monotonic clock.
    """

    def __init__(self, host: str | None, deadline: float) -> None:
        self._host = host
        self._deadline = deadline
        self._stack = contextlib.ExitStack()
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every socket."""
        self._stack.close()
        self._listener = None

    def _socket(self) -> socket.socket:
        made = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        made.settimeout(max(0.001, self._deadline - time.monotonic()))
        return made

    def listen(self) -> TcpAddress:
        """An address that the server can connect to; whoever connects is let wait."""
        if self._host is None:
            raise SkippedError("the control connection is IPv6, data connections are IPv4")
        if self._listener is None:
            self._listener = self._socket()
            self._listener.bind((self._host, 0))
            self._listener.listen()
        return tcp_address(int(ipaddress.IPv4Address(self._host)), self._listener.getsockname()[1])

    def nobody(self) -> TcpAddress:
        """An address at which nobody listens."""
        address = self.listen()
        assert self._listener is not None
        self._listener.close()
        self._listener = None
        return address

    def accept(self) -> socket.socket:
        """The connection that the server has made to `listen`'s address; raises ServerGoneError."""
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            raise ServerGoneError(f"the server makes no data connection: {error}") from None
        return self._stack.enter_context(connection)

    def connect(self, address: Address) -> socket.socket:
        """Connect to the address of a LISTEN reply; raises MismatchError when nobody is there."""
        if not isinstance(address, TcpAddress) or not address.endpoints:
            raise MismatchError("LISTEN for TCP is answered with another kind of address")
        endpoint = address.endpoints[0]
        place = (str(ipaddress.IPv4Address(endpoint.ip_addr)), endpoint.port)
        connection = self._socket()
        try:
            connection.connect(place)
        except OSError as error:
            raise MismatchError(f"nobody listens at {place[0]}:{place[1]}, LISTEN's address: {error}") from None
        return connection

    def feed(self, connection: socket.socket, size: int) -> Feeder:
        """Send records of so many bytes until told to stop; it ends with the connection."""
        feeder = Feeder(connection, size)
        feeder.start()
        return feeder

    def take(self, connection: socket.socket, count: int) -> bytes:
        """So many bytes of the data connection; raises ServerGoneError."""
        data = b""
        while len(data) < count:
            try:
                more = connection.recv(count - len(data))
            except OSError as error:
                raise ServerGoneError(f"{len(data)} of {count} bytes on the data connection: {error}") from None
            if not more:
                raise ServerGoneError(f"the data connection ended after {len(data)} of {count} bytes")
            data += more
        return data


def reset(connection: socket.socket) -> None:
    """Close a connection in the way of a crash."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
