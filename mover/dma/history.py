"""From file history posts to the catalogue: a bounded queue, and a task that stores batches in a thread.

A full queue makes the reading of the control connection wait, and with it the server: memory stays flat however
fast the history comes.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import trio

from mover.dma.catalogue import Catalogue
from mover.dma.client import single_error
from mover.dma.errors import CatalogueError
from mover.dma.history_rows import HistoryPost, HistoryRows

QUEUE_POSTS: Final = 64
"""Posts that wait for the catalogue; servers put up to some thousand entries into one."""
BATCH_ROWS: Final = 50_000
"""Rows of one transaction, as far as they are there."""


class HistorySink:
    """Stores the history of one job.

    Attributes:
        names: names seen so far.
        failure: why nothing is stored any more; posts are dropped from then on, the job is to end.
    """

    def __init__(self, catalogue: Catalogue, job: int) -> None:
        self.names = 0
        self.failure: CatalogueError | None = None
        self._catalogue = catalogue
        self._job = job
        self._send, self._receive = trio.open_memory_channel[HistoryPost](QUEUE_POSTS)

    async def put(self, post: HistoryPost) -> None:
        """Queue a post; waits while the queue is full."""
        # Broken: `failure` says why nobody receives. Closed: the job has ended, late history is nobody's.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._send.send(post)

    @trio.lowlevel.enable_ki_protection  # as `Client.read`
    async def store(self) -> None:
        """Store what is put until `finish`."""
        # Shielded: what a cancelled job saw so far is kept, and the reading task must never wait in vain.
        with trio.CancelScope(shield=True):
            async with self._receive:
                async for post in self._receive:
                    rows = HistoryRows()
                    rows.add([post])
                    with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
                        while len(rows) < BATCH_ROWS:
                            rows.add([self._receive.receive_nowait()])
                    try:
                        await trio.to_thread.run_sync(self._catalogue.add_history, self._job, rows)
                    except CatalogueError as error:
                        self.failure = error
                        return
                    self.names += rows.names

    def finish(self) -> None:
        """No more posts; `store` ends when it has stored what waits."""
        self._send.close()


@contextlib.asynccontextmanager
async def history_sink(catalogue: Catalogue, job: int) -> AsyncIterator[HistorySink]:
    """A sink for the length of a block; at its end everything is stored.

    Raises:
        CatalogueError: something could not be stored.
    """
    sink = HistorySink(catalogue, job)
    with single_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.store)
            try:
                yield sink
            finally:
                sink.finish()
    if sink.failure is not None:
        raise sink.failure
