"""Control's hold on a ring: it makes the memory and the credits, reads the counters, and ends the ring."""

import fcntl
import mmap
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from mover.ring.layout import (
    CONSUMER_NOTE,
    GAUGES,
    MAGIC,
    NOTE_BYTES,
    PRODUCER_NOTE,
    QUEUE_ENTRY_BYTES,
    QUEUE_OFFSET,
    SLOT_BYTES_MAX,
    SLOTS_MAX,
    W_CONSUMER,
    W_CONSUMER_GAUGES,
    W_DATA_OFFSET,
    W_MAGIC,
    W_PRODUCER,
    W_PRODUCER_GAUGES,
    W_SLOT_BYTES,
    W_SLOTS,
    W_VERDICT,
    ConsumerWord,
    ProducerWord,
    Verdict,
)
from mover.ring.mapping import Mapping, RingFds, data_offset

# Memory that shrinks below a mapping is a SIGBUS for whoever touches it.
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class RingStatistics(NamedTuple):
    """A moment of a ring: sizes in bytes, times in nanoseconds, a wait under way included."""

    slot_bytes: int
    slots: int
    entries_in: int
    entries_out: int
    bytes_in: int
    bytes_out: int
    times_full: int
    times_empty: int
    waited_full_ns: int
    waited_empty_ns: int
    fill_ratio: float
    waiting: str  # "full", "empty" or ""


class RingControl:
    """Control's hold on a ring: creates it, hands its descriptors out, reads its counters, ends it.

    Args:
        slot_bytes: size of a slot; a multiple of the mover record size keeps records whole.
        slots: their number.
        name: shows in /proc/PID/maps.

    Attributes:
        on_close: called once the ring is closed and its last counters stand; None = nobody asks.

    Raises:
        OSError: no memory or no descriptors; nothing is left open.
    """

    on_close: Callable[[], None] | None = None

    def __init__(self, slot_bytes: int, slots: int, name: str = "mover-ring") -> None:
        if not 0 < slot_bytes <= SLOT_BYTES_MAX or not 0 < slots <= SLOTS_MAX:
            raise ValueError(f"a ring of {slots} slots of {slot_bytes} bytes")
        opened: list[int] = []
        try:
            memory = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            opened.append(memory)
            offset = data_offset(slots)
            os.ftruncate(memory, offset + slots * slot_bytes)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
            flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE
            opened.append(os.eventfd(slots, flags))
            opened.append(os.eventfd(0, flags))
            with mmap.mmap(memory, offset) as header:
                words = memoryview(header).cast("Q")
                numbers = memoryview(header).cast("I")
                words[W_MAGIC] = MAGIC
                words[W_SLOT_BYTES] = slot_bytes
                words[W_SLOTS] = slots
                words[W_DATA_OFFSET] = offset
                first = (QUEUE_OFFSET + slots * QUEUE_ENTRY_BYTES) // 4
                for slot in range(slots):
                    numbers[first + slot] = slot
                words.release()
                numbers.release()
            self._ring = Mapping(RingFds(*opened), header_only=True)
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise
        self._words = self._ring.words
        self._concluded = False
        self._last: RingStatistics | None = None
        self._last_gauges: tuple[list[int], list[int]] = ([0] * GAUGES, [0] * GAUGES)

    @property
    def fds(self) -> RingFds:
        """The descriptors to send to a worker; they stay owned here."""
        return self._ring.fds

    @property
    def closed(self) -> bool:
        """Whether only its last counters are left."""
        return self._last is not None

    def duplicate(self) -> RingFds:
        """The same ring for a side in this process: descriptors of its own. Raises OSError, then none is open."""
        copies: list[int] = []
        try:
            copies.extend(map(os.dup, self._ring.fds))
        except OSError:
            for fd in copies:
                os.close(fd)
            raise
        return RingFds(*copies)

    def conclude(self, verdict: Verdict) -> None:
        """Write the verdict and wake both sides; the first verdict stays."""
        if self._concluded or self._last is not None:
            return
        self._concluded = True
        self._words[W_VERDICT] = verdict
        os.eventfd_write(self._ring.fds.free, 1)
        os.eventfd_write(self._ring.fds.filled, 1)

    def gauge(self, side: str, index: int) -> int:
        """A gauge of the "producer" or "consumer"."""
        if self._last is not None:
            return self._last_gauges[side == "consumer"][index]
        base = W_CONSUMER_GAUGES if side == "consumer" else W_PRODUCER_GAUGES
        return int(self._words[base + index])

    def gauges(self, side: str) -> list[int]:
        """All gauges of a side in one look, for whoever wants many of them."""
        if self._last is not None:
            return self._last_gauges[side == "consumer"]
        base = W_CONSUMER_GAUGES if side == "consumer" else W_PRODUCER_GAUGES
        return self._words[base : base + GAUGES].tolist()

    def note(self, side: str) -> bytes:
        """The text that a side published last, for example the path being read."""
        if self._last is not None:
            return b""
        at = CONSUMER_NOTE if side == "consumer" else PRODUCER_NOTE
        raw = bytes(self._words.cast("B")[at : at + NOTE_BYTES])
        return raw[2 : 2 + min(int.from_bytes(raw[:2], "little"), NOTE_BYTES - 2)]

    def statistics(self) -> RingStatistics:
        """The counters now, or as they were when the ring was closed."""
        if self._last is not None:
            return self._last
        words = self._words
        now = time.monotonic_ns()

        def side(base: int) -> tuple[int, int, bool]:
            times = words[base + ProducerWord.TIMES_FULL]
            waited = words[base + ProducerWord.WAITED_FULL_NS]
            since = words[base + ProducerWord.WAITING_SINCE_NS]
            return times, waited + (max(0, now - since) if since else 0), bool(since)

        times_full, waited_full, is_full = side(W_PRODUCER)
        times_empty, waited_empty, is_empty = side(W_CONSUMER)
        released, appended = words[W_CONSUMER + ConsumerWord.RELEASED], words[W_PRODUCER + ProducerWord.APPENDED]
        return RingStatistics(
            slot_bytes=self._ring.slot_bytes,
            slots=self._ring.slots,
            entries_in=appended,
            entries_out=released,
            bytes_in=words[W_PRODUCER + ProducerWord.BYTES],
            bytes_out=words[W_CONSUMER + ConsumerWord.BYTES],
            times_full=times_full,
            times_empty=times_empty,
            waited_full_ns=waited_full,
            waited_empty_ns=waited_empty,
            fill_ratio=max(0, appended - released) / self._ring.slots,
            waiting="full" if is_full else "empty" if is_empty else "",
        )

    def close(self) -> None:
        """Unmap and close; the last counters stay readable. Calling it again does nothing."""
        if self._last is not None:
            return
        gauges = self.gauges("producer"), self.gauges("consumer")
        self._last, self._last_gauges = self.statistics(), gauges
        self._ring.close_map()
        self._ring.close_fds()
        if self.on_close is not None:
            self.on_close()
