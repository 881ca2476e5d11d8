"""The HTTP listener: who may connect, and how many at once."""

from collections import Counter
from typing import Final

import structlog
import trio

from mover.control.login_watch import source_of
from mover.control.web.http_connection import HttpConnection
from mover.control.web.http_message import Respond

CONNECTIONS_MAX: Final = 64
CONNECTIONS_OF_ONE_MAX: Final = 48  # of one source: the others are for the rest of the world
ACCEPT_RETRY_S: Final = 0.2
PACE_S: Final = 0.005  # between connections: who makes them without end does not keep control from its jobs

log = structlog.get_logger()


class HttpServer:
    """Accepts connections of one listener, and hands their requests on."""

    def __init__(self, listener: trio.socket.SocketType, respond: Respond) -> None:
        self._listener = listener
        self._respond = respond
        self._connections: Counter[str] = Counter()

    async def serve(self) -> None:
        """Until cancelled, which drops every connection."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    sock, address = await self._listener.accept()
                except OSError as error:
                    # Too many files, or a peer that went away: the next one may do better.
                    log.warning("no HTTP connection accepted", error=error.strerror)
                    await trio.sleep(ACCEPT_RETRY_S)
                    continue
                peer = str(address[0])
                source = source_of(peer)
                if self._connections.total() >= CONNECTIONS_MAX or self._connections[source] >= CONNECTIONS_OF_ONE_MAX:
                    sock.close()
                    log.debug("HTTP connection refused: there are too many", peer=peer)
                    await trio.sleep(PACE_S)
                    continue
                self._connections[source] += 1
                nursery.start_soon(self._converse, sock, peer, source)
                await trio.sleep(PACE_S)

    async def _converse(self, sock: trio.socket.SocketType, peer: str, source: str) -> None:
        try:
            await HttpConnection(trio.SocketStream(sock), peer, self._respond).serve()
        finally:
            self._connections[source] -= 1
            if not self._connections[source]:
                del self._connections[source]
