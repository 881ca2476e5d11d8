"""The ring against a deque, and its ends: verdicts, a consumer that has enough, successors, bad headers."""

import mmap
import os
import threading
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mover.ring import Consumer, Kind, Producer, RingClosed, RingControl, RingFds, Verdict
from mover.ring.layout import W_DATA_OFFSET, W_MAGIC, W_SLOT_BYTES, W_SLOTS


@pytest.fixture
def ring() -> Iterator[RingControl]:
    control = RingControl(1024, 4)
    yield control
    control.close()


def duplicate(control: RingControl) -> RingFds:
    return control.duplicate()


class RingModel(RuleBasedStateMachine):
    """Any order of reserve, commit, peek, release and succession gives what a deque gives."""

    def __init__(self) -> None:
        super().__init__()
        self.control = RingControl(64, 3)
        self.producer = Producer(self.control.duplicate())
        self.consumer = Consumer(self.control.duplicate())
        self.queued: deque[bytes] = deque()
        self.peeked: deque[bytes] = deque()
        self.serial = 0

    @property
    def in_ring(self) -> int:
        return len(self.queued) + len(self.peeked)

    @rule(length=st.integers(0, 64))
    def commit(self, length: int) -> None:
        slot = self.producer.try_reserve()
        assert (slot is None) == (self.in_ring == 3)
        if slot is None:
            return
        self.serial += 1
        data = bytes([self.serial & 255]) * length
        slot[:length] = data
        self.producer.commit(length)
        self.queued.append(data)

    @rule()
    def peek(self) -> None:
        entry = self.consumer.try_peek()
        if not self.queued:
            assert entry is None
            return
        assert entry is not None
        assert bytes(entry.view) == self.queued[0]
        entry.view.release()
        self.peeked.append(self.queued.popleft())

    @precondition(lambda self: self.peeked)
    @rule()
    def release(self) -> None:
        self.consumer.release()
        self.peeked.popleft()

    @precondition(lambda self: self.queued)
    @rule(entries=st.integers(1, 3))
    def gather(self, entries: int) -> None:
        """Nothing is lost or taken twice by having waited for more."""
        waits = self.consumer.gather(entries, 0.0)
        assert not waits or entries > self.in_ring
        assert self.consumer.ahead == len(self.queued)

    @precondition(lambda self: self.in_ring < 3)
    @rule(slots=st.integers(1, 3))
    def wait_for_room(self, slots: int) -> None:
        assert self.producer.room == 3 - self.in_ring
        assert self.producer.wait_for_room(slots, 0.0) == (slots > 3 - self.in_ring)

    @rule()
    def consumer_successor(self) -> None:
        self.consumer.close()
        self.consumer = Consumer(self.control.duplicate())
        self.queued = self.peeked + self.queued
        self.peeked = deque()

    @rule(reserved=st.booleans())
    def producer_successor(self, reserved: bool) -> None:
        if reserved:
            self.producer.try_reserve()
        self.producer.detach()
        self.producer = Producer(self.control.duplicate())

    @invariant()
    def counters_agree(self) -> None:
        statistics = self.control.statistics()
        assert statistics.entries_in - statistics.entries_out == self.in_ring
        assert statistics.bytes_in - statistics.bytes_out == sum(map(len, [*self.peeked, *self.queued]))

    def teardown(self) -> None:
        self.producer.close()
        self.consumer.close()
        self.control.close()


TestRingModel = RingModel.TestCase
TestRingModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_many_bytes_cross_between_threads(ring: RingControl) -> None:
    def produce() -> None:
        with Producer(duplicate(ring)) as producer:
            for number in range(500):
                slot = producer.reserve()
                slot[:1000] = bytes([number & 255]) * 1000
                producer.commit(1000)
            producer.finish(Kind.END)

    thread = threading.Thread(target=produce)
    thread.start()
    seen = []
    with Consumer(duplicate(ring)) as consumer:
        while (entry := consumer.peek()).kind == Kind.DATA:
            assert len(set(entry.view)) == 1
            seen.append(entry.view[0])
            entry.view.release()
            consumer.release()
        assert entry.kind == Kind.END
    thread.join(10)
    assert seen == [number & 255 for number in range(500)]
    statistics = ring.statistics()
    assert (statistics.bytes_in, statistics.entries_in) == (500_000, 501)


@pytest.mark.parametrize("verdict", [Verdict.CLOSED, Verdict.BROKEN])
def test_a_verdict_wakes_a_side_that_waits(ring: RingControl, verdict: Verdict) -> None:
    outcome: list[Verdict] = []

    def consume() -> None:
        with Consumer(duplicate(ring)) as consumer:
            try:
                consumer.peek()
            except RingClosed as closed:
                outcome.append(closed.verdict)

    thread = threading.Thread(target=consume)
    thread.start()
    ring.conclude(verdict)
    thread.join(10)
    assert outcome == [verdict]
    with Producer(duplicate(ring)) as producer, pytest.raises(RingClosed) as caught:
        producer.reserve()
    assert (caught.value.verdict, caught.value.by_consumer) == (verdict, False)


def test_the_first_verdict_stays(ring: RingControl) -> None:
    ring.conclude(Verdict.CLOSED)
    ring.conclude(Verdict.BROKEN)
    with Producer(duplicate(ring)) as producer, pytest.raises(RingClosed) as caught:
        producer.reserve()
    assert caught.value.verdict == Verdict.CLOSED


def test_a_consumer_that_has_enough_stops_the_producer(ring: RingControl) -> None:
    with Producer(duplicate(ring)) as producer, Consumer(duplicate(ring)) as consumer:
        for _ in range(4):
            producer.reserve()
            producer.commit(1)
        waiting = threading.Timer(0, consumer.finish)
        waiting.start()
        with pytest.raises(RingClosed) as caught:
            producer.reserve()
        waiting.join(10)
        assert caught.value.by_consumer


def test_a_message_from_control_interrupts_a_wait(ring: RingControl) -> None:
    reader, writer = os.pipe()
    calls: list[bytes] = []

    class Enough(Exception):  # noqa: N818 - a signal, not an error
        pass

    def attention() -> None:
        calls.append(os.read(reader, 1))
        if len(calls) == 2:
            raise Enough

    with Consumer(duplicate(ring), control_fd=reader, attention=attention) as consumer:
        os.write(writer, b"xy")
        with pytest.raises(Enough):
            consumer.peek()
    assert calls == [b"x", b"y"]
    os.close(reader)
    os.close(writer)


def test_the_memory_cannot_be_resized(ring: RingControl) -> None:
    size = os.fstat(ring.fds.memory).st_size
    for wrong in (size - 1, size + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(ring.fds.memory, wrong)


@pytest.mark.parametrize(
    ("word", "value"),
    [(W_MAGIC, 1), (W_SLOTS, 0), (W_SLOTS, 1 << 40), (W_SLOT_BYTES, 1 << 29), (W_DATA_OFFSET, 8)],
)
def test_a_header_that_does_not_fit_is_refused(ring: RingControl, word: int, value: int) -> None:
    with mmap.mmap(ring.fds.memory, 4096) as header:
        words = memoryview(header).cast("Q")
        words[word] = value
        words.release()
    before = len(os.listdir("/proc/self/fd"))
    for side in (Producer, Consumer):
        with pytest.raises(ValueError, match="not a ring"):
            side(duplicate(ring))
    assert len(os.listdir("/proc/self/fd")) == before  # a side owns its descriptors also when it cannot begin


def test_statistics_and_gauges_outlive_the_ring() -> None:
    control = RingControl(1024, 4)
    with Producer(control.duplicate()) as producer:
        producer.gauges[2] = 77
        producer.note(b"/srv/" + b"x" * 600)
        producer.reserve()
        producer.commit(10)
        assert control.note("producer") == b"x" * 510
    control.close()
    control.close()
    assert control.gauge("producer", 2) == 77
    assert control.statistics().bytes_in == 10


def test_nothing_stays_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    control = RingControl(1024, 4)
    producer = Producer(control.duplicate())
    consumer = Consumer(control.duplicate())
    held = producer.reserve()
    producer.close()
    consumer.close()
    control.close()
    held.release()
    assert len(os.listdir("/proc/self/fd")) == before
