"""One HTTP connection: requests in, answers out, each under a deadline.

Theory of operation. h11 knows the protocol; here is time. A connection may be idle for IDLE_S between requests; a
request has REQUEST_S from its first byte to its last, and each piece of an answer SEND_S to be taken by the kernel, so
that a peer that sends or reads by drips is dropped. Bodies of requests are not taken: nothing here has use for one.
"""

from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import h11
import structlog
import trio

from mover.control.web.http_message import METHODS, TEXT, Answer, EventStream, Header, HttpRequest, Respond, refusal

IDLE_S: Final = 75.0
REQUEST_S: Final = 10.0
SEND_S: Final = 10.0
LINGER_S: Final = 1.0
PACE_S: Final = 0.05  # between a connection's requests: who asks without a pause does not keep control from its jobs
HEADER_BYTES_MAX: Final = 16 * 1024
CHUNK_BYTES: Final = 16 * 1024
# For every answer: nothing here may be kept, guessed at, framed or read by another site's page.
SAFE_HEADERS: Final[tuple[Header, ...]] = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)

log = structlog.get_logger()


class HttpConnection:
    """Serves one connection until either side ends it.

    Args:
        respond: gives the answer to a request.
    """

    def __init__(self, stream: trio.SocketStream, peer: str, respond: Respond) -> None:
        self._stream = stream
        self._peer = peer
        self._respond = respond
        self._head_only = False  # of the request at hand
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES_MAX)

    async def serve(self) -> None:
        """Answer until the end. Nothing that happens to one connection reaches the others."""
        try:
            async with self._stream:
                idle_s = REQUEST_S  # who connects has something to ask
                while await self._answer_next(idle_s):
                    self._protocol.start_next_cycle()
                    await trio.sleep(PACE_S)
                    idle_s = IDLE_S
                await self._linger()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("an HTTP client went away", peer=self._peer)
        except Exception:  # an answer that cannot be made; jobs and the other clients go on
            log.exception("HTTP request failed", peer=self._peer)

    async def _answer_next(self, idle_s: float) -> bool:
        """One request and its answer; False = the connection is over."""
        try:
            request = await self._receive(idle_s)
        except h11.RemoteProtocolError as error:
            status = HTTPStatus(error.error_status_hint)
            await self._send_answer(refusal(status, str(error)))
            return False
        if request is None:
            return False
        if request.method not in METHODS:
            answer: Answer | EventStream = refusal(
                HTTPStatus.METHOD_NOT_ALLOWED, "only to be read", ("Allow", ", ".join(METHODS))
            )
        else:
            answer = await self._respond(request)
        if isinstance(answer, EventStream):
            await self._send_events(answer)
        else:
            await self._send_answer(answer)
        return self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE

    async def _receive(self, idle_s: float) -> HttpRequest | None:
        """The next request, whole; None = the connection is over, or too slow. Raises h11.RemoteProtocolError."""
        deadline = trio.current_time() + idle_s
        begun = self._head_only = False
        found: HttpRequest | None = None
        while True:
            event = self._protocol.next_event()
            match event:
                case h11.Request():
                    found = self._request(event)
                case h11.Data():
                    raise h11.RemoteProtocolError("no body is taken", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                case h11.EndOfMessage():
                    return found
                case h11.NEED_DATA:
                    chunk = None
                    with trio.move_on_at(deadline):
                        chunk = await self._stream.receive_some(CHUNK_BYTES)
                    if chunk is None:
                        return None
                    if not begun:
                        begun = True
                        deadline = trio.current_time() + REQUEST_S
                    self._protocol.receive_data(chunk)
                case _:  # closed, or paused behind a request that asked for another protocol
                    return None

    def _request(self, event: h11.Request) -> HttpRequest:
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
        self._head_only = event.method == b"HEAD"
        path = event.target.decode("ascii").partition("?")[0]
        return HttpRequest(event.method.decode("ascii"), path, headers, self._peer)

    async def _send_answer(self, answer: Answer) -> None:
        if self._protocol.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return  # the peer broke the protocol where nothing can be said any more
        headers = [("Content-Length", str(len(answer.body))), *answer.headers]
        data = self._head(answer.status, answer.content_type, headers)
        if not self._head_only:
            data += self._protocol.send(h11.Data(answer.body)) or b""
        data += self._protocol.send(h11.EndOfMessage()) or b""
        await self._send(data)

    async def _send_events(self, events: EventStream) -> None:
        """Pieces until there are none, or the peer leaves: whatever it says now, it wants no more of them."""
        await self._send(self._head(HTTPStatus.OK, "text/event-stream", [("Connection", "close")]))
        if not self._head_only:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_gone, nursery.cancel_scope)
                nursery.start_soon(self._send_pieces, events, nursery.cancel_scope)
        await self._send(self._protocol.send(h11.EndOfMessage()) or b"")

    async def _until_gone(self, scope: trio.CancelScope) -> None:
        try:
            await self._stream.receive_some(CHUNK_BYTES)
        except trio.BrokenResourceError:
            log.debug("a reader of events was lost", peer=self._peer)
        scope.cancel()

    async def _send_pieces(self, events: EventStream, scope: trio.CancelScope) -> None:
        try:
            with events.follow() as next_piece:
                while piece := await next_piece():
                    await self._send(self._protocol.send(h11.Data(piece)) or b"")
        except trio.BrokenResourceError:
            log.debug("a reader of events does not take them", peer=self._peer)
        scope.cancel()

    def _head(self, status: int, content_type: str, headers: list[Header]) -> bytes:
        everything = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", content_type or TEXT),
            *SAFE_HEADERS,
            *headers,
        ]
        return self._protocol.send(h11.Response(status_code=status, headers=everything)) or b""

    async def _send(self, data: bytes) -> None:
        with trio.move_on_after(SEND_S) as slow:
            await self._stream.send_all(data)
        if slow.cancelled_caught:
            log.info("an HTTP client that does not read is dropped", peer=self._peer)
            raise trio.BrokenResourceError

    async def _linger(self) -> None:
        """What is still coming must not turn into a reset that takes our last words with it."""
        with trio.move_on_after(LINGER_S):
            await self._stream.send_eof()
            while await self._stream.receive_some(CHUNK_BYTES):
                pass
