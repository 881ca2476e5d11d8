"""The LIFs' secure ports: open where is-secure-control-connection-enabled, with the certificate as read last."""

import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog
import trio

from mover.config import Config, Lif
from mover.control.control_stream import ControlStream
from mover.control.login_watch import source_of
from mover.control.secure_stream import SecureStream
from mover.control.sockets import open_listener
from mover.control.tls_identity import Identity, load_identity

HANDSHAKES_MAX: Final = 64
HANDSHAKES_OF_ONE_MAX: Final = 16
"""Of one source: it cannot have them all."""
ACCEPT_RETRY_S: Final = 0.2

log = structlog.get_logger()


class SecurePorts:
    """The secure ports of a server.

    Attributes:
        fingerprint: of the certificate; "" = there was no secure port yet.
    """

    def __init__(self) -> None:
        self.fingerprint = ""
        self._identity: Identity | None = None
        self._open: dict[str, tuple[Lif, trio.socket.SocketType]] = {}
        self._serving: trio.Nursery | None = None
        self._begin: Callable[[ControlStream, Lif], None] | None = None
        self._admits: Callable[[str, Lif], bool] | None = None
        self._shaking: Counter[str] = Counter()  # by source
        self._configuring = trio.Lock()

    def port(self, lif: Lif) -> int | None:
        """The secure port of a LIF; None = it has none."""
        found = self._open.get(lif.name)
        return None if found is None else int(found[1].getsockname()[1])

    async def configure(self, config: Config) -> None:
        """Read the certificate, and open and close ports as the configuration has it.

        Raises:
            IdentityError: the certificate cannot be used.
            OSError: a port cannot be opened; its filename is the LIF's name. In both cases everything is as it was.
        """
        async with self._configuring:
            wanted = {lif.name: lif for lif in config.lif if config.is_secure(lif)}
            identity = await trio.to_thread.run_sync(load_identity, config) if wanted else self._identity
            opened = await _open_all([lif for name, lif in wanted.items() if name not in self._open])
            for name in [name for name in self._open if name not in wanted]:
                self._open.pop(name)[1].close()
            self._open |= opened
            self._identity = identity
            if identity is not None and identity.fingerprint != self.fingerprint:
                self.fingerprint = identity.fingerprint
                log.info("certificate", sha256=identity.fingerprint, made=identity.made)
            if self._serving is not None:
                for lif, listener in opened.values():
                    self._serving.start_soon(self._accept, lif, listener)

    async def serve(self, begin: Callable[[ControlStream, Lif], None], admits: Callable[[str, Lif], bool]) -> None:
        """Accept until cancelled.

        Args:
            begin: is called with each connection whose handshake is done.
            admits: whether a peer's address may shake hands at all.
        """
        self._begin, self._admits = begin, admits
        async with trio.open_nursery() as self._serving:
            for lif, listener in self._open.values():
                self._serving.start_soon(self._accept, lif, listener)
            await trio.sleep_forever()

    def close(self) -> None:
        """No more ports."""
        for _, listener in self._open.values():
            listener.close()
        self._open.clear()

    async def _accept(self, lif: Lif, listener: trio.socket.SocketType) -> None:
        assert self._serving is not None
        assert self._admits is not None
        while True:
            try:
                sock, address = await listener.accept()
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                return
            except OSError as error:
                if listener.fileno() < 0:
                    return
                log.warning("no connection accepted", lif=lif.name, error=error.strerror)
                await trio.sleep(ACCEPT_RETRY_S)
                continue
            peer = str(address[0])
            if not self._admits(peer, lif):
                sock.close()
                continue
            if self._shaking.total() >= HANDSHAKES_MAX or self._shaking[source_of(peer)] >= HANDSHAKES_OF_ONE_MAX:
                log.warning("secure connection refused", reason="too many handshakes", peer=peer)
                sock.close()
                continue
            self._shaking[source_of(peer)] += 1
            self._serving.start_soon(self._shake_hands, sock, lif, peer)

    async def _shake_hands(self, sock: trio.socket.SocketType, lif: Lif, peer: str) -> None:
        assert self._identity is not None
        assert self._begin is not None
        try:
            stream = await SecureStream.accept(sock, self._identity.context)
        except (ssl.SSLError, trio.BrokenResourceError, trio.TooSlowError) as error:
            log.info("no secure connection", peer=peer, lif=lif.name, reason=_reason(error))
            sock.close()
            return
        except BaseException:
            sock.close()
            raise
        finally:
            self._shaking -= Counter((source_of(peer),))  # which forgets who is at none
        self._begin(stream, lif)


async def _open_all(lifs: list[Lif]) -> dict[str, tuple[Lif, trio.socket.SocketType]]:
    """Listeners of the LIFs by name, or none. Raises OSError with the LIF's name."""
    opened: dict[str, tuple[Lif, trio.socket.SocketType]] = {}
    try:
        for lif in lifs:
            try:
                opened[lif.name] = (lif, await open_listener(lif.address, lif.secure_port))
            except OSError as error:
                raise OSError(error.errno, error.strerror, lif.name) from error
    except BaseException:
        for _, listener in opened.values():
            listener.close()
        raise
    return opened


def _reason(error: Exception) -> str:
    match error:
        case ssl.SSLError():
            return error.reason or "TLS"
        case trio.TooSlowError():
            return "no handshake in time"
        case _:
            return str(error) or "connection lost"
