"""The TCP data connection as the relay has it: never blocking, and closed so that a crash never looks like an end.

SO_LINGER (on, 0) stands on the socket from the first moment: whatever ends this process resets the connection. Only
:meth:`Connection.close_in_order` lifts it. :mod:`mover.relay.tls` has the encrypted one.
"""

import errno
import fcntl
import os
import socket
import struct
import sys
import termios
from typing import Final

from mover.workers.peer import is_gone, set_keepalive

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
CLOSE_IN_ORDER: Final = struct.pack("ii", 0, 0)
DROPPED_BYTES: Final = 4096
"""Of what a peer sends against the stream's direction, at a time."""


class Connection:
    """The data connection with its trapdoor: closed without :meth:`close_in_order`, the peer sees a reset.

    Attributes:
        peer_confirms: the peer closes in order when, and only when, it has all it wants. Others never close first.
    """

    peer_confirms = False

    def __init__(self, fd: int, peer_timeout_s: float) -> None:
        self.socket = socket.socket(fileno=fd)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._peer_timeout_s = peer_timeout_s
        set_keepalive(self.socket, peer_timeout_s)

    def fileno(self) -> int:
        return self.socket.fileno()

    # --- the stream

    def send(self, data: memoryview) -> int:
        """Send as much as goes without waiting.

        Raises:
            BlockingIOError: nothing does.
            OSError: the peer is gone.
        """
        return self.socket.send(data, socket.MSG_NOSIGNAL)

    def receive_into(self, buffer: memoryview) -> int:
        """Take what has come; 0 = the peer has said the end of its stream.

        Raises:
            BlockingIOError: nothing has come.
            OSError: the connection is broken, its stream is not whole.
        """
        return self.socket.recv_into(buffer)

    def try_end(self) -> bool:
        """Say the end of what we send; False = the kernel has no room for that. Raises OSError."""
        self.socket.shutdown(socket.SHUT_WR)
        return True

    def peer_closed(self) -> bool:
        """Whether the peer has said its end; bytes it sends against the direction are dropped.

        Raises:
            OSError: the connection is broken (a reset).
        """
        try:
            return self.socket.recv(DROPPED_BYTES) == b""
        except BlockingIOError:
            return False

    def drain(self) -> bool:
        """Drop what has come; whether the peer has closed. Raises OSError: the peer has reset."""
        try:
            return self.socket.recv(1 << 20) == b""
        except BlockingIOError:
            return False

    # --- the peer

    def check_peer(self) -> None:
        """Raise OSError for a peer that has left bytes or probes unanswered for too long."""
        if is_gone(self.socket, self._peer_timeout_s):
            raise TimeoutError(errno.ETIMEDOUT, f"the peer does not answer for {self._peer_timeout_s:g} s")

    def failure(self) -> OSError:
        """What the kernel says that ended the connection."""
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return OSError(code, os.strerror(code))

    def unacknowledged(self) -> int:
        """Bytes in the send queue that the peer's kernel has not acknowledged."""
        return int.from_bytes(fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, b"\0" * 4), sys.byteorder)

    # --- ends

    def close_in_order(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_IN_ORDER)
        self.socket.close()

    def reset(self) -> None:
        self.socket.close()
