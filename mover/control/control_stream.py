"""The socket of a control connection, whose caller waits only where something has to be waited for.

trio's own stream goes through the scheduler once or twice for each receive and each send. Here what is there is taken,
and what fits is given to the kernel, at once; who does that again and again lets the other tasks run himself.
"""

import os

import trio


class ControlStream:
    """One end of a control connection.

    Attributes:
        socket: for its options and addresses.
    """

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.socket = sock

    def receive_now(self, limit: int) -> bytes | None:
        """What has come; b"" at the end of it, None when that is nothing.

        Raises:
            trio.BrokenResourceError: the connection is lost, or closed by us.
        """
        try:
            return os.read(self.socket.fileno(), limit)
        except BlockingIOError:
            return None
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def arrival(self) -> None:
        """Wait until something may have come. Raises trio.ClosedResourceError."""
        await trio.lowlevel.wait_readable(self.socket.fileno())

    def send_now(self, data: bytes | memoryview) -> int:
        """Give the kernel what it takes now; returns how many bytes that were.

        Raises:
            trio.BrokenResourceError: the connection is lost, or closed by us.
        """
        try:
            return os.write(self.socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes | memoryview) -> None:
        """Wait until the kernel has taken all.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection is lost, or closed by us.
        """
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                await trio.lowlevel.wait_writable(self.socket.fileno())
                with view[sent:] as rest:
                    sent += self.send_now(rest)

    def close(self) -> None:
        """Who waits gets a trio.ClosedResourceError."""
        self.socket.close()
