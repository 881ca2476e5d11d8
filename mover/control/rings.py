"""The rings control makes: their sizes, and the pump that brings file history from a data worker to the DMA."""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from mover.ring import Consumer, Kind, RingClosed, RingControl

SLOT_TARGET_BYTES: Final = 1 << 20  # performance.md: 1 MiB slots, eight of them, stay in the cache
SLOTS_MIN: Final = 4
HISTORY_SLOT_BYTES: Final = 128 << 10  # one post: about a thousand entries, well below a megabyte
HISTORY_SLOTS: Final = 8


def make_data_ring(ring_bytes: int, record_size: int) -> RingControl:
    """A data ring of about ``ring_bytes`` whose slots hold whole mover records of ``record_size`` bytes."""
    slot_target = max(record_size, min(SLOT_TARGET_BYTES, ring_bytes // SLOTS_MIN))
    slot_bytes = slot_target // record_size * record_size
    return RingControl(slot_bytes, max(SLOTS_MIN, ring_bytes // slot_bytes), "mover-data-ring")


def make_history_ring() -> RingControl:
    """A ring for encoded file history, data worker to control."""
    return RingControl(HISTORY_SLOT_BYTES, HISTORY_SLOTS, "mover-history-ring")


class HistoryPump:
    """Sends the history ring's entries to the DMA in order; a slot goes back only after its bytes were sent.

    Args:
        ring: the history ring.
        send: sends one FH post: NDMP message number and encoded body.

    Raises:
        OSError: no descriptors.
    """

    def __init__(self, ring: RingControl, send: Callable[[int, memoryview], Awaitable[None]]) -> None:
        self._consumer = Consumer(ring.duplicate())
        self._send = send
        self._started = False
        self._draining = False
        self._wait: trio.CancelScope | None = None
        self.done = trio.Event()

    def start(self, nursery: trio.Nursery) -> None:
        """Pump from now on; the ring's side here is closed with that."""
        self._started = True
        nursery.start_soon(self.run)

    def close(self) -> None:
        """Give up a pump that was never started; nothing to do for one that was."""
        if not self._started:
            self._consumer.close()

    def finish(self) -> None:
        """No more will be appended: ``run`` returns when the ring is empty."""
        self._draining = True
        if self._wait is not None:
            self._wait.cancel()

    async def run(self) -> None:
        """Pump until the end, a verdict, or ``finish`` and empty."""
        consumer = self._consumer
        try:
            while True:
                entry = consumer.try_peek()
                if entry is None:
                    if self._draining:
                        return
                    with trio.CancelScope() as self._wait:
                        await trio.lowlevel.wait_readable(consumer.fileno())
                    self._wait = None
                    continue
                if entry.kind in {Kind.END, Kind.FAILED}:
                    return
                await self._send(entry.kind, entry.view)
                entry.view.release()
                consumer.release()
        except RingClosed:
            return
        finally:
            consumer.close()
            self.done.set()
