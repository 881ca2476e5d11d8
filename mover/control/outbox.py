"""What goes out to the DMA of one control connection: replies, posts, file history.

Theory of operation. There is one send lock and one send per message. A message that the kernel takes at once goes out
without a round of the scheduler. A post that a request causes goes out behind its reply: between ``hold_posts`` and
``answer`` posts wait in order. A job that posts without end is held up by ``room`` and ``send_history``, so that
nothing piles up here.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog
import trio

from mover.control.control_stream import ControlStream
from mover.ndmp.enums import AssociatedMessage, LogType
from mover.ndmp.errors import NdmpError
from mover.ndmp.messages import Body, LogMessagePost
from mover.ndmp.server import ServerProtocol
from mover.workers.messages import LogLine

DEFERRED_MAX: Final = 256  # posts of a job held back behind a reply; then the job waits for the DMA to read
_KINDS: Final = {kind.value: kind.name.lower() for kind in LogType}
LOG_TEXT_MAX: Final = 8192  # of one line, in characters or bytes; a path can be a megabyte long


# C0, DEL and, in UTF-8, C1: what ends a line or steers a terminal. A tab does neither, and LIST=y has one in each line.
_STEERING: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|\xc2[\x80-\x9f]")


def _short(text: bytes) -> bytes:
    return text if len(text) <= LOG_TEXT_MAX else text[:LOG_TEXT_MAX] + b"..."


def log_post(log_type: int, text: str | bytes) -> LogMessagePost:
    """A LOG message of bounded length and one line: a name of a file in it cannot look like a line of its own."""
    line = _short(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)
    entry = _short(_STEERING.sub(_escape, line))
    return LogMessagePost(log_type=log_type, message_id=0, entry=entry)


def _escape(found: re.Match[bytes]) -> bytes:
    return found[0].decode("utf-8").encode("unicode_escape")


class Outbox:
    """The sending side of a control connection.

    Attributes:
        on_message: given the parts of each message as it goes out; None = nobody listens.
        posts: how many went out; bytes: of everything that did, before TLS.
        posted_at: when a post or a piece of file history went out last, by trio's clock; minus infinity = never.

    Args:
        lost: called when the peer no longer takes what is sent; nothing is sent after that.
    """

    def __init__(
        self,
        stream: ControlStream,
        protocol: ServerProtocol,
        log: structlog.typing.FilteringBoundLogger,
        lost: Callable[[], None],
    ) -> None:
        self.on_message: Callable[[Sequence[bytes | memoryview]], None] | None = None
        self.posted_at = -math.inf
        self.posts = 0
        self.bytes = 0
        self._stream = stream
        self._protocol = protocol
        self._log = log
        self._lost = lost
        self._lock = trio.Lock()
        self._holding = False
        self._gate = trio.lowlevel.ParkingLot()  # who waits until posts are no longer held
        self._deferred: list[Body] = []
        self._replied = 0  # sequence number of the last reply
        self._closed = False

    def close(self) -> None:
        """Nothing is sent any more; who sends is not told."""
        self._closed = True

    def hold_posts(self) -> None:
        """A request is handled: its reply goes out before the posts it causes."""
        self._holding = True

    async def send(self, *messages: Callable[[], list[bytes | memoryview]]) -> None:
        """Encode and send under the lock, so that sequence numbers leave in order; a lost peer ends the connection.

        Nothing comes between several messages. One that is encoded to nothing is left out.
        """
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            for encode in messages:
                await self._transmit(encode)
        finally:
            self._lock.release()

    async def _transmit(self, encode: Callable[[], list[bytes | memoryview]]) -> None:
        if self._closed:
            return
        parts = encode()
        if not parts:
            return
        if self.on_message is not None:
            self.on_message(parts)
        try:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            self.bytes += len(data)
            sent = self._stream.send_now(data)
            if sent < len(data):
                await self._stream.send_all(memoryview(data)[sent:])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._closed = True
            self._lost()
        except BaseException:
            self._closed = True  # cut off inside a message: nothing can follow it
            self._lost()
            raise

    async def answer(self, reply: Callable[[], bytes]) -> None:
        """Send the reply of the request that is being handled, then what waited for it; posts go straight out again."""

        def encode() -> list[bytes | memoryview]:
            data = reply()
            self._replied = self._protocol.last_sequence
            return [data]

        await self.send(encode)
        while self._deferred:
            await self._send_posts(self._deferred.pop(0))
        self.open_gate()

    def open_gate(self) -> None:
        """No reply will come for the posts that wait: what is posted from now on goes straight out."""
        self._holding = False
        if self._gate:
            self._gate.unpark_all()

    def _encode(self, body: Body) -> list[bytes | memoryview]:
        if isinstance(body, LogMessagePost) and body.associated_message_valid:
            body = msgspec.structs.replace(body, associated_message_sequence=self._replied)
        try:
            return [self._protocol.post(body)]
        except NdmpError as error:
            self._log.error("post not sent", post=type(body).__name__, error=str(error))
            return []

    async def _send_posts(self, *bodies: Body) -> None:
        self.posts += len(bodies)
        await self.send(*(partial(self._encode, body) for body in bodies))
        self.posted_at = trio.current_time()

    async def post(self, *bodies: Body) -> None:
        """Send posts, behind the reply of the request that is being handled; nothing comes between them."""
        if self._holding:
            self._deferred.extend(bodies)
            return
        await self._send_posts(*bodies)

    async def room(self) -> None:
        """Wait while too many posts are held back: what a job says without end must not pile up here."""
        while self._holding and len(self._deferred) >= DEFERRED_MAX:
            await self._gate.park()

    async def log_message(self, log_type: int, text: str | bytes) -> None:
        """A LOG message for people at the DMA."""
        await self.post(log_post(log_type, text))

    async def explain(self, log_type: int, text: str | bytes) -> None:
        """A LOG message about the reply that is about to go out: behind it, and in version 4 with its number.

        Source: NDMPv4 3.8 (LOG_MESSAGE, associated message).
        """
        self.hold_posts()
        has = AssociatedMessage.HAS_ASSOCIATED_MESSAGE
        await self.post(msgspec.structs.replace(log_post(log_type, text), associated_message_valid=has))

    async def log_line(self, line: LogLine) -> None:
        """A worker's line, for the DMA and for our own log."""
        kind = _KINDS.get(line.log_type, str(line.log_type))
        self._log.info("job", text=_short(line.text).decode("utf-8", "backslashreplace"), type=kind)
        await self.log_message(line.log_type, line.text)

    async def send_history(self, code: int, body: memoryview) -> None:
        """One encoded file history post; waits for the DMA to read, and lets other tasks run in any case."""
        await trio.lowlevel.checkpoint()
        while self._holding:
            await self._gate.park()
        self.posts += 1
        await self.send(lambda: [self._protocol.post_raw(code, body), body])
        self.posted_at = trio.current_time()
