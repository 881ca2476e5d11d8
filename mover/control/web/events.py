"""The events of the status page: one moment a second, made once and read by all who look on.

Nothing is looked at while nobody does. Who reads slowly passes moments over and gets the newest when ready for it, so
a reader holds one moment and no more; who does not read at all is dropped by its connection's deadline. A reader stays
as long as the token is the one that he came with: he comes again, and shows what there is to be shown then.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import structlog
import trio

from mover.admin.messages import Failed
from mover.admin.statistics import StatisticsReply
from mover.config import Secret
from mover.control.web.access import Access

EVERY_S: Final = 1.0
READERS_MAX: Final = 32
RETRY_MS: Final = 2000

Look = Callable[[], Awaitable[StatisticsReply | Failed]]

log = structlog.get_logger()


class Events:
    """The page's moments, and who reads them.

    Args:
        look: gives what there is now, with the samples of the last minutes.
    """

    def __init__(self, look: Look, access: Access) -> None:
        self._look = look
        self._access = access
        self._readers = 0
        self._wanted = trio.Event()
        self._piece = b""
        self._token = Secret("")  # that the moment was made for
        self._number = 0
        self._made = trio.Event()

    @property
    def full(self) -> bool:
        """Whether there are as many readers as there may be."""
        return self._readers >= READERS_MAX

    @contextmanager
    def follow(self) -> Iterator[Callable[[], Awaitable[bytes]]]:
        """While one reader stays: what waits for a moment that it has not seen yet; it gives b"" when he has to go."""
        token = self._access.token
        seen = 0
        begun = False

        async def next_piece() -> bytes:
            nonlocal seen, begun
            while self._access.token == token and (seen == self._number or self._token != token):
                await self._made.wait()
            if self._access.token != token:
                return b""
            seen = self._number
            if begun:
                return self._piece
            begun = True
            return b"retry: %d\n\n" % RETRY_MS + self._piece

        self._readers += 1
        self._wanted.set()
        try:
            yield next_piece
        finally:
            self._readers -= 1

    async def make(self) -> None:
        """Make moments for as long as somebody reads them; until cancelled."""
        while True:
            if not self._readers:
                self._number = 0  # what was is not what is
                self._wanted = trio.Event()
                await self._wanted.wait()
            token = self._access.token
            self._piece, self._token = await self._moment(by_token=bool(token)), token
            self._number += 1
            made, self._made = self._made, trio.Event()
            made.set()
            await trio.sleep(EVERY_S)

    async def _moment(self, *, by_token: bool) -> bytes:
        try:
            reply = await self._look()
            return piece(reply if isinstance(reply, Failed) or by_token else _for_everybody(reply))
        except Exception as error:  # the jobs that it is about go on, and so does the page
            log.exception("no moment for the status page")
            return piece(Failed("failed", type(error).__name__))


def _for_everybody(reply: StatisticsReply) -> StatisticsReply:
    """Without a token every user of this host may look: names of files are not for them."""
    return msgspec.structs.replace(reply, jobs=[msgspec.structs.replace(job, at="") for job in reply.jobs])


def piece(reply: StatisticsReply | Failed) -> bytes:
    """One event: `moment` with what there is, `failed` with why there is nothing."""
    name = "failed" if isinstance(reply, Failed) else "moment"
    return f"event: {name}\ndata: ".encode() + msgspec.json.encode(reply) + b"\n\n"
