"""The shared-memory ring: one producer, one consumer, fixed slots in a memfd, credits in two eventfds.

Theory of operation
===================
Slots lie in a pool. The producer takes a free slot (``reserve``), fills it in place and appends a queue
entry naming slot, length and kind (``commit``). The consumer looks at the oldest entries (``peek``) and gives
their slots back later, in order (``release``). Space returns on release, never on peek: a view that was handed
out stays good until then.

Two eventfds in semaphore mode carry the order. *free* holds one credit a free slot, *filled* one a queue
entry. A side touches a slot or a queue entry only after it has taken a credit for it, and the write that
posted the credit is a system call, which orders the memory accesses before it; so nothing here relies on the
order of the processor's stores, and nothing spins or polls on memory.

An eventfd never tells that the other side died. So every wait is a ``poll`` on the eventfd *and* on the control
socket; control holds the ring's descriptors too, and when a worker dies, or a job is aborted, it writes the
verdict word and posts both eventfds (``RingControl.conclude``). A side that finds a verdict raises
:class:`RingClosed`. A consumer that has all it wants says so (``Consumer.close``), which the producer sees in
the same way.

A successor may attach where its predecessor stopped (a mover that paused, whose drive was closed and another
opened): taken, released and the cursor inside the oldest entry are in the header, and a slot that was reserved
but not committed goes back with ``detach``.

Who writes which word: see :mod:`mover.ring.layout`. Counters wrap never in practice (64 bits).
"""

import math
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self

from mover.ring.layout import (
    CONSUMER_NOTE,
    GAUGES,
    NOTE_BYTES,
    PRODUCER_NOTE,
    W_CONSUMER,
    W_CONSUMER_GAUGES,
    W_PRODUCER,
    W_PRODUCER_GAUGES,
    W_VERDICT,
    ConsumerWord,
    Kind,
    ProducerWord,
    Verdict,
)
from mover.ring.mapping import Mapping, RingFds

_APPENDED = W_PRODUCER + ProducerWord.APPENDED
_FREE_TAKEN = W_PRODUCER + ProducerWord.FREE_TAKEN
_WAITS_SINCE = W_CONSUMER + ConsumerWord.WAITING_SINCE_NS
_BYTES_IN = W_PRODUCER + ProducerWord.BYTES
_TAKEN = W_CONSUMER + ConsumerWord.TAKEN
_RELEASED = W_CONSUMER + ConsumerWord.RELEASED
_BYTES_OUT = W_CONSUMER + ConsumerWord.BYTES
_CURSOR = W_CONSUMER + ConsumerWord.CURSOR
_CLOSED = W_CONSUMER + ConsumerWord.CLOSED


class RingClosed(Exception):  # noqa: N818 - an end, not always an error
    """The other side or control has ended the ring.

    Attributes:
        verdict: CLOSED when the other side ended in good order, BROKEN otherwise.
        by_consumer: the consumer itself said that it has all it wants (and control said nothing).
    """

    def __init__(self, verdict: Verdict, *, by_consumer: bool = False) -> None:
        super().__init__(f"the ring is {verdict.name.lower()}")
        self.verdict = verdict
        self.by_consumer = by_consumer


class Entry(NamedTuple):
    """One queue entry: a view of its bytes (good until released) and its kind."""

    view: memoryview
    kind: int


def _try_credit(fd: int) -> bool:
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        return False
    return True


class _Side:
    """What producer and consumer share: the mapping, the waits and the gauges.

    Args:
        fds: the ring's descriptors, owned from here on, also when this fails.
        control_fd: the control socket; a wait is interrupted when it becomes readable, and then
        attention: is called (it reads the messages and may raise). Without it the wait only looks for a verdict.

    Raises:
        ValueError: what the descriptors name is no ring.
        OSError: it cannot be mapped.
    """

    _credit_fd: int
    # Where this side's words begin. TIMES_*, WAITED_*_NS and WAITING_SINCE_NS stand at the same places on both sides.
    _words_at: int
    _gauges_at: int
    _note_at: int

    def __init__(
        self, fds: RingFds, *, control_fd: int | None = None, attention: Callable[[], None] | None = None
    ) -> None:
        try:
            self._ring = Mapping(fds)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        self._words = self._ring.words
        self.slot_bytes = self._ring.slot_bytes
        self.slots = self._ring.slots
        self._attention = attention
        self._control_fd = control_fd if attention is not None else None
        self._times = self._words_at + ProducerWord.TIMES_FULL
        self._waited = self._words_at + ProducerWord.WAITED_FULL_NS
        self._since = self._words_at + ProducerWord.WAITING_SINCE_NS
        self.gauges = self._words[self._gauges_at : self._gauges_at + GAUGES]
        self._note = self._ring.note_views[self._note_at]

    def note(self, text: bytes) -> None:
        """Publish a short text, the path being worked on; cut at its last 510 bytes."""
        text = text[-(NOTE_BYTES - 2) :]
        self._note[2 : 2 + len(text)] = text
        self._note[0:2] = len(text).to_bytes(2, "little")

    def check(self) -> None:
        """Raise RingClosed when control has written a verdict."""
        if self._words[W_VERDICT]:
            raise RingClosed(self._ring.verdict())

    def _wait_credit(self) -> None:
        """Take one credit, waiting for it; a verdict or a message from control ends or interrupts the wait."""
        self.check()
        if _try_credit(self._credit_fd):
            self.check()
            return
        with self.waiting():
            self._poll_credit(math.inf)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what is done here as one wait, for a slot or an entry: also a wait of the caller's own."""
        words = self._words
        words[self._times] += 1
        started = time.monotonic_ns()
        words[self._since] = started
        try:
            yield
        finally:
            words[self._since] = 0
            words[self._waited] += time.monotonic_ns() - started

    def _poll_credit(self, deadline: float) -> bool:
        """Take one credit, waiting for it until then, in monotonic seconds; whether one came."""
        poller = select.poll()
        poller.register(self._credit_fd, select.POLLIN)
        if self._control_fd is not None:
            poller.register(self._control_fd, select.POLLIN)
        while True:
            if _try_credit(self._credit_fd):
                self.check()
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            ready = poller.poll(None if left == math.inf else math.ceil(left * 1000))
            if self._attention is not None and any(fd == self._control_fd for fd, _ in ready):
                self._attention()
            self.check()

    def fileno(self) -> int:
        """The eventfd that becomes readable when this side may go on, for a poll of the caller's own."""
        return self._credit_fd

    def close(self) -> None:
        """Unmap and close the descriptors of this side."""
        self.gauges.release()
        self._ring.close_map()
        self._ring.close_fds()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Producer(_Side):
    """The appending side of a ring."""

    _words_at = W_PRODUCER
    _gauges_at = W_PRODUCER_GAUGES
    _note_at = PRODUCER_NOTE

    def __init__(
        self, fds: RingFds, *, control_fd: int | None = None, attention: Callable[[], None] | None = None
    ) -> None:
        super().__init__(fds, control_fd=control_fd, attention=attention)
        self._credit_fd = fds.free
        self._reserved: int | None = None

    def check(self) -> None:
        """Raise RingClosed when control has written a verdict or the consumer has closed its side."""
        words = self._words
        if words[W_VERDICT]:
            raise RingClosed(self._ring.verdict())
        if words[_CLOSED]:
            raise RingClosed(Verdict.CLOSED, by_consumer=True)

    def reserve(self) -> memoryview:
        """A free slot to fill, whole; the same one again until it is committed.

        Raises:
            RingClosed: nobody will read it any more.
        """
        if self._reserved is None:
            self._wait_credit()
            self._take_free()
        assert self._reserved is not None
        return self._ring.slot_views[self._reserved]

    def try_reserve(self) -> memoryview | None:
        """As reserve, but None instead of waiting."""
        self.check()
        if self._reserved is None:
            if not _try_credit(self._credit_fd):
                return None
            self._take_free()
        assert self._reserved is not None
        return self._ring.slot_views[self._reserved]

    def _take_free(self) -> None:
        taken = self._words[_FREE_TAKEN]
        self._reserved = self._ring.freed[taken % self.slots]

    def commit(self, length: int, kind: int = Kind.DATA) -> None:
        """Append the reserved slot's first ``length`` bytes to the stream."""
        slot = self._reserved
        assert slot is not None, "commit without reserve"
        assert 0 <= length <= self.slot_bytes
        words = self._words
        appended = words[_APPENDED]
        at = appended % self.slots * 4
        queue = self._ring.queue
        queue[at] = slot
        queue[at + 1] = length
        queue[at + 2] = kind
        words[_FREE_TAKEN] += 1
        words[_BYTES_IN] += length
        words[_APPENDED] = appended + 1
        self._reserved = None
        os.eventfd_write(self._ring.fds.filled, 1)

    def finish(self, kind: Kind) -> None:
        """Append END or FAILED, in order behind all bytes."""
        self.reserve()
        self.commit(0, kind)

    def drain(self) -> None:
        """Wait until the consumer has given every slot back.

        Raises:
            RingClosed: it wants no more, or control has ended the ring.
        """
        self.wait_for_room(self.slots)

    @property
    def room(self) -> int:
        """How many slots are free, the reserved one included; more may be by now."""
        words = self._words
        return self.slots - (words[_APPENDED] - words[_RELEASED])

    def wait_for_room(self, slots: int, patience_s: float = math.inf) -> bool:
        """Wait until so many slots are free, the reserved one included, or one is and so much time has gone by.

        Returns:
            Whether there was anything to wait for.

        Raises:
            RingClosed: nobody will read any more.
        """
        self.check()
        taken = held = 0 if self._reserved is None else 1
        try:
            while taken < slots and _try_credit(self._credit_fd):
                taken += 1
            waits = taken < slots
            if waits:
                with self.waiting():
                    if not taken and self._poll_credit(math.inf):
                        taken += 1
                    deadline = time.monotonic() + patience_s
                    while taken < slots and self._poll_credit(deadline):
                        taken += 1
            self.check()
            return waits
        finally:
            if taken > held:
                os.eventfd_write(self._credit_fd, taken - held)

    def consumer_waits(self) -> bool:
        """Whether the consumer has nothing left and waits for more; to ask behind ``drain``.

        It publishes its wait before it waits, and what it waited for before has come: all is given back.
        """
        return self._words[_WAITS_SINCE] != 0

    def detach(self) -> None:
        """Give back a slot that was reserved and not committed, so that a successor finds the ring whole; close."""
        if self._reserved is not None:
            self._reserved = None
            os.eventfd_write(self._ring.fds.free, 1)
        self.close()


class Consumer(_Side):
    """The taking side of a ring."""

    _words_at = W_CONSUMER
    _gauges_at = W_CONSUMER_GAUGES
    _note_at = CONSUMER_NOTE

    def __init__(
        self, fds: RingFds, *, control_fd: int | None = None, attention: Callable[[], None] | None = None
    ) -> None:
        super().__init__(fds, control_fd=control_fd, attention=attention)
        self._credit_fd = fds.filled
        # Entries that a predecessor peeked and did not release: their credits are already taken.
        self._next = self._words[_RELEASED]

    @property
    def cursor(self) -> int:
        """Bytes already used of the oldest entry that is not released; kept for a successor."""
        return self._words[_CURSOR]

    @cursor.setter
    def cursor(self, used: int) -> None:
        self._words[_CURSOR] = used

    def peek(self) -> Entry:
        """The next entry that was not peeked yet, waiting for it.

        Raises:
            RingClosed: no further entry will come. What was appended before a verdict is not delivered after it.
        """
        if self._next == self._words[_TAKEN]:
            self._wait_credit()
            self._words[_TAKEN] += 1
        else:
            self.check()
        return self._entry()

    @property
    def ahead(self) -> int:
        """How many entries can be peeked; more may be by now."""
        return self._words[_APPENDED] - self._next

    def gather(self, entries: int, patience_s: float) -> bool:
        """Wait for an entry to peek, then until so many are not released, or one of them is no DATA, or so long.

        Returns:
            Whether there was anything to wait for.

        Raises:
            RingClosed: no further entry will come.
        """
        self.check()
        if self._try_gather(entries):
            return False
        words = self._words
        with self.waiting():
            if self._next == words[_TAKEN]:
                self._poll_credit(math.inf)
                words[_TAKEN] += 1
            deadline = time.monotonic() + patience_s
            while not self._try_gather(entries) and self._poll_credit(deadline):
                words[_TAKEN] += 1
        return True

    def _try_gather(self, entries: int) -> bool:
        """Take the credits that are there; whether it is enough."""
        words = self._words
        while True:
            taken = words[_TAKEN]
            if taken > self._next:
                last = self._ring.queue[(taken - 1) % self.slots * 4 + 2]
                if last != Kind.DATA or taken - words[_RELEASED] >= entries:
                    return True
            if not _try_credit(self._credit_fd):
                return False
            self.check()
            words[_TAKEN] = taken + 1

    def try_peek(self) -> Entry | None:
        """As peek, but None instead of waiting."""
        if self._next == self._words[_TAKEN]:
            self.check()
            if not _try_credit(self._credit_fd):
                return None
            self._words[_TAKEN] += 1
        return self._entry()

    def _entry(self) -> Entry:
        at = self._next % self.slots * 4
        queue = self._ring.queue
        slot, length, kind = queue[at], queue[at + 1], queue[at + 2]
        if slot >= self.slots or length > self.slot_bytes:
            raise ValueError(f"ring entry {self._next} names slot {slot} with {length} bytes")
        self._next += 1
        return Entry(self._ring.slot_views[slot][:length], kind)

    def follow(self, entries: int) -> Entry:
        """In a forked copy of this side, which owns nothing: so many entries on, one that the original holds."""
        self._next += entries - 1
        return self._entry()

    def release(self) -> None:
        """Give the oldest peeked entry's slot back; its view must not be used any more."""
        words = self._words
        released = words[_RELEASED]
        assert released < self._next, "release without peek"
        at = released % self.slots
        queue = self._ring.queue
        self._ring.freed[at] = queue[at * 4]
        words[_BYTES_OUT] += queue[at * 4 + 1]
        words[_CURSOR] = 0
        words[_RELEASED] = released + 1
        os.eventfd_write(self._ring.fds.free, 1)

    def compact(self) -> list[memoryview]:
        """Repack the unused bytes of the peeked entries into the newest of their slots; give the others back.

        For a consumer that needs more bytes in one piece than short slots hold: it would hold every slot before its
        piece is whole, and the producer would wait for one for ever. All peeked entries must be DATA, and views of
        them are not good any more.

        Returns:
            Views of the unused bytes, oldest first: what is held now.
        """
        queue, slots = self._ring.queue, self._ring.slot_views
        first = self._words[_RELEASED]
        places = [entry % self.slots * 4 for entry in range(first, self._next)]
        assert all(queue[at + 2] == Kind.DATA for at in places)
        used = self.cursor
        held = [slots[queue[at]][: queue[at + 1]] for at in places]
        if held:
            held[0] = held[0][used:]
        needed = -(-sum(len(view) for view in held) // self.slot_bytes)
        if needed >= len(places):
            return held
        rest = b"".join(held)
        for at in places:
            queue[at + 1] = 0
        queue[places[0] + 1] = used  # so that the bytes released add up to the bytes committed
        end = len(rest)
        for at in reversed(places[len(places) - needed :]):
            begin = max(0, end - self.slot_bytes)
            slots[queue[at]][: end - begin] = rest[begin:end]
            queue[at + 1] = end - begin
            end = begin
        for _ in range(len(places) - needed):
            self.release()
        return [slots[queue[at]][: queue[at + 1]] for at in places[len(places) - needed :]]

    def finish(self) -> None:
        """Tell the producer that nothing more is wanted: its next call raises RingClosed(CLOSED)."""
        self._words[_CLOSED] = 1
        os.eventfd_write(self._ring.fds.free, 1)
