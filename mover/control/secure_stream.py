"""The socket of a secure control connection: a control stream with TLS between it and the kernel.

OpenSSL works on two buffers in memory and never touches the socket, so it cannot block, and what it holds is bounded:
one read from the socket on the way in, one piece of what is sent on the way out.
"""

import os
import ssl
from contextlib import suppress
from typing import Final

import trio

from mover.control.control_stream import ControlStream

HANDSHAKE_S: Final = 10.0
_HANDSHAKE_BYTE: Final = 0x16  # of a TLS record that begins one
_CHUNK_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 64 * 1024
UNSENT_BYTES_MAX: Final = 1 << 20
"""What TLS itself may have to say (key updates, alerts) to a peer that does not read."""
_RAW_BYTES_FREE: Final = 256 * 1024
_RAW_BYTES_OF_ONE: Final = 64  # a record of one byte takes 23
"""What may come for each byte of data, and beside that: key updates cost the server more than the peer."""
_handshakes = trio.CapacityLimiter(2)


class SecureStream(ControlStream):
    """The server's end; made by :meth:`accept`."""

    def __init__(self, sock: trio.socket.SocketType, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent = bytearray()
        self._more = False  # there may be more to be had without the socket
        self._ended = False
        self._raw_bytes = 0  # that have come
        self._data_bytes = 0  # that were in them

    @classmethod
    async def accept(cls, sock: trio.socket.SocketType, context: ssl.SSLContext) -> "SecureStream":
        """Shake hands; its arithmetic runs off the trio thread.

        Raises:
            ssl.SSLError: the peer's TLS is none of ours.
            trio.BrokenResourceError: it is no TLS at all, or the connection is lost.
            trio.TooSlowError: not done in time.
        """
        stream = cls(sock, context)
        with trio.fail_after(HANDSHAKE_S):
            await stream._shake_hands()
        return stream

    async def _shake_hands(self) -> None:
        await trio.lowlevel.wait_readable(self.socket.fileno())
        first = True
        while True:
            if not self._fill():
                await trio.lowlevel.wait_readable(self.socket.fileno())
                continue
            if first and self._begins_otherwise():
                raise trio.BrokenResourceError("no TLS")
            first = False
            try:
                await trio.to_thread.run_sync(self._tls.do_handshake, limiter=_handshakes)
            except ssl.SSLWantReadError:
                await self._flush()
                continue
            except ssl.SSLError:
                with suppress(trio.BrokenResourceError):
                    self._flush_now()  # why, for a client that speaks TLS
                raise
            await self._flush()
            self._more = True  # a request may have come with the handshake's end
            return

    def _begins_otherwise(self) -> bool:
        """Whether what has come is no handshake; somebody without TLS gets no byte of ours."""
        if self._incoming.eof:
            return True
        begun = self._incoming.read()
        self._incoming.write(begun)
        return begun[0] != _HANDSHAKE_BYTE

    def _fill(self) -> bool:
        """Take what has come from the socket; False: nothing. Raises trio.BrokenResourceError."""
        data = super().receive_now(_CHUNK_BYTES)
        if data is None:
            return False
        if data:
            self._raw_bytes += len(data)
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return True

    def receive_now(self, limit: int) -> bytes | None:
        self._more = False
        pieces: list[bytes] = []
        size = 0
        filled = False  # once in a call: who sends records without data, and fast, would keep us here
        while size < limit and not self._ended:
            try:
                piece = self._tls.read(limit - size)
            except ssl.SSLWantReadError:
                if pieces or filled or not self._fill():
                    break
                filled = True
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                piece = b""
            except ssl.SSLError as error:
                raise trio.BrokenResourceError from error
            if not piece:
                self._ended = True
                break
            pieces.append(piece)
            size += len(piece)
        else:
            self._more = True
        self._data_bytes += size
        if self._raw_bytes > _RAW_BYTES_FREE + _RAW_BYTES_OF_ONE * self._data_bytes:
            raise trio.BrokenResourceError("the peer makes TLS work and sends no data")
        self._flush_now()
        if len(self._unsent) > UNSENT_BYTES_MAX:
            raise trio.BrokenResourceError("the peer makes TLS talk and does not read")
        return b"".join(pieces) if pieces else b"" if self._ended else None

    async def arrival(self) -> None:
        if self._more or self._ended:
            await trio.lowlevel.checkpoint()
        else:
            await super().arrival()

    def send_now(self, data: bytes | memoryview) -> int:
        """Nothing: what is encrypted has to be sent, so that it is ``send_all`` that begins."""
        return 0

    async def send_all(self, data: bytes | memoryview) -> None:
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                with view[sent : sent + _PIECE_BYTES] as piece:
                    try:
                        sent += self._tls.write(piece)
                    except ssl.SSLError as error:
                        raise trio.BrokenResourceError from error
                await self._flush()

    def _flush_now(self) -> None:
        """Give the kernel what it takes of what is encrypted. Raises trio.BrokenResourceError."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        while self._unsent:
            try:
                del self._unsent[: os.write(self.socket.fileno(), self._unsent)]
            except BlockingIOError:
                return
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def _flush(self) -> None:
        self._flush_now()
        while self._unsent:
            await trio.lowlevel.wait_writable(self.socket.fileno())
            self._flush_now()

    def close(self) -> None:
        """Say the end, if the kernel takes it at once; who waits gets a trio.ClosedResourceError."""
        if self.socket.fileno() >= 0:
            with suppress(ssl.SSLError, trio.BrokenResourceError):
                self._tls.unwrap()  # has said ours, and wants to read the peer's
            with suppress(trio.BrokenResourceError):
                self._flush_now()
        super().close()
