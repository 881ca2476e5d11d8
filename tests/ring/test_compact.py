"""Consumer.compact: short slots do not stop a consumer that needs more in one piece."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.ring import Consumer, Producer, RingControl


@pytest.fixture
def ring() -> Iterator[tuple[RingControl, Producer, Consumer]]:
    control = RingControl(16, 4)
    producer, consumer = Producer(control.duplicate()), Consumer(control.duplicate())
    yield control, producer, consumer
    producer.close()
    consumer.close()
    control.close()


def commit(producer: Producer, data: bytes) -> None:
    producer.reserve()[: len(data)] = data
    producer.commit(len(data))


def test_short_slots_become_one(ring: tuple[RingControl, Producer, Consumer]) -> None:
    control, producer, consumer = ring
    for data in (b"abc", b"d", b"ef", b"gh"):
        commit(producer, data)
        consumer.peek()
    consumer.cursor = 2
    assert producer.try_reserve() is None
    assert b"".join(consumer.compact()) == b"cdefgh"
    assert producer.try_reserve() is not None
    assert consumer.cursor == 0
    consumer.release()
    statistics = control.statistics()
    assert (statistics.bytes_in, statistics.bytes_out) == (8, 8)


def test_a_successor_finds_the_repacked_bytes(ring: tuple[RingControl, Producer, Consumer]) -> None:
    control, producer, consumer = ring
    for data in (b"abc", b"def"):
        commit(producer, data)
        consumer.peek()
    consumer.cursor = 1
    consumer.compact()
    with Consumer(control.duplicate()) as successor:
        assert (successor.cursor, bytes(successor.peek().view)) == (0, b"bcdef")
        assert successor.try_peek() is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 16), min_size=1, max_size=4), st.integers(0, 16))
def test_bytes_and_counts_are_kept(lengths: list[int], used: int) -> None:
    used = min(used, lengths[0])
    control = RingControl(16, 4)
    with Producer(control.duplicate()) as producer, Consumer(control.duplicate()) as consumer:
        stream = bytes(range(sum(lengths)))
        at = 0
        for length in lengths:
            commit(producer, stream[at : at + length])
            at += length
            consumer.peek()
        consumer.cursor = used
        held = consumer.compact()
        assert b"".join(held) == stream[used:]
        for _ in held:
            consumer.release()
        statistics = control.statistics()
        assert (statistics.bytes_in, statistics.bytes_out) == (len(stream), len(stream))
        assert statistics.entries_in == statistics.entries_out
    control.close()
