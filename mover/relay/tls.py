"""A data connection inside TLS 1.3, between two movers. Imported only where one is to be encrypted: ssl takes 10 ms.

The listener has a certificate that was made for this one connection, and a token. The connector got the certificate's
fingerprint and the token with the address, over control connections that are secure; it takes no other certificate, and
shows the token as the first bytes inside. The listener answers with one byte, and only then the connection stands.

Ends are TLS's own: close_notify behind the last byte of a stream, or from a receiver that has all it wants. A
connection that ends without it, whatever TCP says, is one that was cut off.
"""

import errno
import hashlib
import hmac
import os
import resource
import select
import socket
import ssl
import time
from typing import Final

from mover.relay.connection import DROPPED_BYTES, Connection
from mover.workers.channel import Channel
from mover.workers.relay_messages import ConnectorKeys, ListenerKeys

ACCEPTED: Final = b"\x01"


def prepare(keys: ListenerKeys | ConnectorKeys) -> ssl.SSLContext:
    """What a connection is made with. Opens files (OpenSSL's own, /proc), so it comes before rights are given up.

    Raises:
        OSError: the keys cannot be used.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # keys are in memory from here on
    if isinstance(keys, ListenerKeys):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0  # nobody resumes one
        file = os.memfd_create("certificate")
        try:
            os.write(file, keys.certificate)
            context.load_cert_chain(f"/proc/self/fd/{file}", password="")
        finally:
            os.close(file)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the fingerprint says who it is
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


class SecureConnection(Connection):
    """One that TLS is put on; :meth:`join` comes first."""

    peer_confirms = True

    def __init__(self, fd: int, peer_timeout_s: float, context: ssl.SSLContext, *, listener: bool) -> None:
        super().__init__(fd, peer_timeout_s)
        self._tls = context.wrap_socket(
            self.socket, server_side=listener, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        self.socket = self._tls
        self._ended = False
        self._peer_ended = False

    def join(self, channel: Channel, keys: ListenerKeys | ConnectorKeys, deadline_s: float) -> None:
        """Shake hands, and show or see the token.

        Raises:
            OSError: the other side is not the one it should be, or not in time; the message says what it was.
        """
        until = time.monotonic() + deadline_s
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._wait(channel, select.POLLIN, until)
            except ssl.SSLWantWriteError:
                self._wait(channel, select.POLLOUT, until)
            except ssl.SSLError as error:
                raise _broken(error) from error
        if isinstance(keys, ListenerKeys):
            if not hmac.compare_digest(self._receive_exactly(channel, len(keys.token), until), keys.token):
                raise PermissionError(errno.EACCES, "it shows a wrong token")
            self._send_all(channel, ACCEPTED, until)
            return
        certificate = self._tls.getpeercert(binary_form=True) or b""
        if not hmac.compare_digest(hashlib.sha256(certificate).digest(), keys.fingerprint):
            raise PermissionError(errno.EACCES, "it shows another certificate than the address has")
        self._send_all(channel, keys.token, until)
        if self._receive_exactly(channel, len(ACCEPTED), until) != ACCEPTED:
            raise PermissionError(errno.EACCES, "it does not take the token")

    def _receive_exactly(self, channel: Channel, count: int, until: float) -> bytes:
        received = bytearray(count)
        at = 0
        while at < count:
            try:
                taken = self.receive_into(memoryview(received)[at:])
            except BlockingIOError:
                self._wait(channel, select.POLLIN, until)
                continue
            if not taken:
                raise ConnectionAbortedError(errno.ECONNABORTED, "it closed the connection")
            at += taken
        return bytes(received)

    def _send_all(self, channel: Channel, data: bytes, until: float) -> None:
        while True:  # TLS sends all or nothing
            try:
                self.send(memoryview(data))
            except BlockingIOError:
                self._wait(channel, select.POLLOUT, until)
            else:
                return

    def _wait(self, channel: Channel, events: int, until: float) -> None:
        poller = select.poll()
        poller.register(self._tls, events)
        poller.register(channel.fileno(), select.POLLIN)
        ready = dict(poller.poll(max(0.0, until - time.monotonic()) * 1000))
        if channel.fileno() in ready:
            channel.receive()  # nothing may be asked before the answer: this is the end of the control socket
        if not ready:
            raise TimeoutError(errno.ETIMEDOUT, "it did not shake hands in time")

    # --- the stream

    def send(self, data: memoryview) -> int:
        """As of a plain connection, but all or nothing: what was not sent has to come again, the same bytes first."""
        try:
            return self._tls.send(data)
        except ssl.SSLWantWriteError as error:
            raise BlockingIOError(errno.EAGAIN, "the kernel has no room") from error
        except ssl.SSLError as error:
            raise _broken(error) from error

    def receive_into(self, buffer: memoryview) -> int:
        try:
            return self._tls.recv_into(buffer)
        except ssl.SSLWantReadError as error:
            raise BlockingIOError(errno.EAGAIN, "nothing has come") from error
        except ssl.SSLZeroReturnError:
            return 0
        except ssl.SSLError as error:
            raise _broken(error) from error

    def try_end(self) -> bool:
        """close_notify, then the end of file."""
        if not self._ended:
            try:
                self._tls.unwrap()
                self._peer_ended = True  # it has said its end before
            except ssl.SSLWantWriteError:
                return False
            except ssl.SSLWantReadError:
                pass  # ours is out, and the peer's is not here yet
            except ssl.SSLError as error:
                if error.reason != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":  # ours is out, and the peer goes on sending
                    raise _broken(error) from error
            self._ended = True
        socket.socket.shutdown(self._tls, socket.SHUT_WR)  # an SSLSocket's own would forget TLS
        return True

    def peer_closed(self) -> bool:
        if self._peer_ended:
            return True
        with memoryview(bytearray(DROPPED_BYTES)) as dropped:
            try:
                self._peer_ended = self.receive_into(dropped) == 0
            except BlockingIOError:
                return False
        return self._peer_ended

    def drain(self) -> bool:
        try:
            return socket.socket.recv(self._tls, 1 << 20) == b""  # undeciphered: nobody wants it
        except BlockingIOError:
            return False


def _broken(error: ssl.SSLError) -> OSError:
    if isinstance(error, ssl.SSLEOFError):
        return ConnectionAbortedError(errno.ECONNABORTED, "the connection was cut off before the end of its stream")
    return ConnectionAbortedError(errno.ECONNABORTED, f"TLS: {error.reason or error.strerror or error}")
