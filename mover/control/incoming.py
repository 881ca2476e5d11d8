"""What comes in from the DMA of one control connection: whole messages, one at a time, as somebody asks for them."""

from collections import deque
from collections.abc import Callable
from typing import Final

import structlog
import trio

from mover.control.control_stream import ControlStream
from mover.ndmp.errors import FramingError
from mover.ndmp.server import Answered, Discarded, Request, ServerProtocol, Unread

CHUNK_BYTES: Final = 64 * 1024
CHUNKS_AHEAD: Final = 8
UNAUTHENTICATED_BYTES_MAX: Final = 64 * 1024  # of one message, before a login
_slow_readers: Final = trio.CapacityLimiter(2)  # all connections together: it is one interpreter that they keep busy

Event = Request | Answered | Discarded


class Incoming:
    """Messages out of what the DMA sends.

    A message is decoded when it is asked for: what stands in front of it, a login or a version, governs how it is read.
    Who asks for the next one reads the socket himself. Who handles one that may take long has ``read_ahead`` running
    beside that: a reset is seen at once, and past a few chunks TCP makes the DMA wait.

    Args:
        lost: called when the connection has broken.

    Attributes:
        messages: how many have come; bytes: of all that came, behind TLS.
    """

    def __init__(
        self,
        protocol: ServerProtocol,
        stream: ControlStream,
        log: structlog.typing.FilteringBoundLogger,
        lost: Callable[[], None],
    ) -> None:
        self._protocol = protocol
        self._stream = stream
        self._log = log
        self._lost = lost
        self.messages = 0
        self.bytes = 0
        self._pending = 0
        self._held: Event | None = None
        self._unread: Unread | None = None  # is being decoded
        self._chunks: deque[bytes] = deque()  # read ahead
        self._reading_ahead = False
        self._ended = False
        self._moved = trio.lowlevel.ParkingLot()  # a chunk has come or gone, or the end has come
        self._in_a_row = False

    async def next(self) -> Event | None:
        """The next message; None when no more can come. Nothing is lost when it is cancelled."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        if self._in_a_row:  # a DMA that sends faster than we answer does not keep the others waiting
            await trio.lowlevel.checkpoint()
        self._in_a_row = True
        while True:
            try:
                unread = self._unread or self._protocol.next_unread()
            except FramingError as error:
                self._log.warning("broken framing", error=str(error))
                return None
            event = await self._read(unread) if isinstance(unread, Unread) else unread
            if event is not None:
                self._pending = 0
                self.messages += 1
                return event
            if not self._protocol.authenticated and self._pending > UNAUTHENTICATED_BYTES_MAX:
                self._log.warning("message too long before login", bytes=self._pending)
                return None
            if not await self._feed():
                return None

    async def _read(self, unread: Unread) -> Event:
        """Decode a request: a long one in a thread, so that other connections have their turns meanwhile."""
        if not unread.is_slow:
            return self._protocol.read(unread)
        self._unread = unread  # cancelled before the thread begins, it is not lost
        event = await trio.to_thread.run_sync(self._protocol.read, unread, limiter=_slow_readers)
        self._unread = None
        return event

    async def _feed(self) -> bool:
        """Give the protocol what comes next; False when that is the end."""
        while not self._chunks:
            if self._ended:
                return False
            self._in_a_row = False
            await (self._moved.park() if self._reading_ahead else self._receive())
        chunk = self._chunks.popleft()
        if self._reading_ahead:
            self._moved.unpark_all()
        self._protocol.feed(chunk)
        self._pending += len(chunk)
        return True

    async def _receive(self) -> None:
        """Wait for bytes, and take them; the end ends what comes in, a reset the connection."""
        try:
            await self._stream.arrival()
            chunk = self._stream.receive_now(CHUNK_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._log.info("connection lost")
            self._ended = True
            self._lost()
            return
        if chunk:
            self.bytes += len(chunk)
            self._chunks.append(chunk)
        elif chunk is not None:
            self._ended = True

    def read_ahead(self, nursery: trio.Nursery) -> trio.CancelScope:
        """Read on while a message is handled, until all has come or what is returned is cancelled."""
        self._reading_ahead = True  # now: nobody else reads any more, also while the task has not begun
        scope = trio.CancelScope()
        nursery.start_soon(self._read_ahead, scope)
        return scope

    async def _read_ahead(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while not self._ended:
                    if len(self._chunks) >= CHUNKS_AHEAD:
                        await self._moved.park()
                        continue
                    await self._receive()
                    self._moved.unpark_all()
        finally:
            self._reading_ahead = False
            self._moved.unpark_all()

    async def next_before(self, done: trio.Event) -> Event | None:
        """As next, but None when ``done`` comes first."""
        event: Event | None = None
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                await done.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up)
            event = await self.next()
            nursery.cancel_scope.cancel()
        return event

    def put_back(self, event: Event) -> None:
        """Not yet: the next one asked for is this one."""
        self._held = event
