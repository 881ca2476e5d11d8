"""What comes in from the DMA of one control connection: whole messages, one at a time, as somebody asks for them."""

from typing import Final

import structlog
import trio

from mover.ndmp.errors import FramingError
from mover.ndmp.server import Answered, Discarded, Request, ServerProtocol

UNAUTHENTICATED_BYTES_MAX: Final = 64 * 1024  # of one message, before a login

Event = Request | Answered | Discarded


class Incoming:
    """Messages out of the chunks that the reader puts into its queue.

    A message is decoded when it is asked for: what stands in front of it, a login or a version, governs how it is read.
    """

    def __init__(
        self,
        protocol: ServerProtocol,
        chunks: trio.MemoryReceiveChannel[bytes],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._protocol = protocol
        self._chunks = chunks
        self._log = log
        self._pending = 0
        self._held: Event | None = None

    async def next(self) -> Event | None:
        """The next message; None when no more can come. Nothing is lost when it is cancelled."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        while True:
            try:
                event = self._protocol.next_event()
            except FramingError as error:
                self._log.warning("broken framing", error=str(error))
                return None
            if event is not None:
                self._pending = 0
                return event
            if not self._protocol.authenticated and self._pending > UNAUTHENTICATED_BYTES_MAX:
                self._log.warning("message too long before login", bytes=self._pending)
                return None
            try:
                chunk = await self._chunks.receive()
            except trio.EndOfChannel:
                return None
            self._protocol.feed(chunk)
            self._pending += len(chunk)

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
