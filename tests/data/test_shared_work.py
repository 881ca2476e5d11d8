"""What the worker and its second writer tell each other: who makes what, and when a slot goes back."""

import os
import signal
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mover.data.second_writer import AHEAD, FULL, RUN, Make, Shared
from mover.data.stream_blocks import BlockReader
from mover.ring import Consumer, Producer, RingControl

DEADLINE_S = 60
SLOT_BYTES = 4096
BLOCK_BYTES = 8


class _Worker:
    """Notes what becomes of the files."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.late: list[tuple[int, bytes]] = []

    def count_made(self, files: "array[int]") -> None:
        self.made += files[1::3]

    def make_late(self, slot: memoryview, at: int, number: int, size: int) -> None:
        self.late.append((number, bytes(slot[at : at + size])))


@contextmanager
def sharing(make: Make, slots: list[bytes], number: int = 4) -> Iterator[tuple[Shared, BlockReader, _Worker]]:
    """A reader of these slots, and a second writer that does ``make``."""
    ring = RingControl(SLOT_BYTES, number)
    worker = _Worker()

    def produce() -> None:
        with Producer(ring.duplicate()) as producer:
            for slot in slots:
                producer.reserve()[: len(slot)] = slot
                producer.commit(len(slot))

    thread = threading.Thread(target=produce)
    with Consumer(ring.duplicate()) as consumer:
        reader = BlockReader(consumer, lambda: None, BLOCK_BYTES, "the end")
        shared = Shared(reader, consumer, os.open("/dev/null", os.O_RDONLY), make, worker)
        thread.start()
        try:
            yield shared, reader, worker
        finally:
            shared.finish()
            assert reader.source is consumer
            reader.close()
            thread.join(DEADLINE_S)
    assert not thread.is_alive()
    ring.close()


def _all_made(_slot: memoryview, files: "array[int]") -> bytes:
    return b"\1" * (len(files) // 3)


def _batch(first: int) -> list[int]:
    return [word for number in range(first, first + RUN) for word in (number % 8 * BLOCK_BYTES, number, BLOCK_BYTES)]


def test_the_second_writer_gets_what_it_can_do() -> None:
    waits, goes = os.pipe()

    def make(slot: memoryview, files: "array[int]") -> bytes:
        os.read(waits, 1)
        return _all_made(slot, files)

    with sharing(make, [bytes(SLOT_BYTES)]) as (shared, reader, worker):
        reader.more()
        assert shared.wants_more()
        for turn in range(AHEAD):
            shared.batch.extend(_batch(turn * RUN))
            assert len(shared.batch) == FULL
            assert shared.hand_over() is (turn + 1 < AHEAD)  # at the last it has enough to do
        assert not shared.wants_more()
        os.write(goes, b"x")
        deadline = time.monotonic() + DEADLINE_S
        while not shared.wants_more():
            assert time.monotonic() < deadline
        assert worker.made == []  # not before its slot is settled
        os.write(goes, b"x" * AHEAD)
        shared.batch.extend((0, 9999, 0))
        shared.settle()
        assert worker.made == [*range(AHEAD * RUN), 9999]
        shared.settle()
    assert worker.made == [*range(AHEAD * RUN), 9999]
    assert worker.late == []
    os.close(waits)
    os.close(goes)


def test_what_it_does_not_make_is_made_late() -> None:
    def make(_slot: memoryview, files: "array[int]") -> bytes:
        return bytes(number & 1 for number in files[1::3])

    slot = b"".join(number.to_bytes(BLOCK_BYTES, "big") for number in range(SLOT_BYTES // BLOCK_BYTES))
    with sharing(make, [slot]) as (shared, reader, worker):
        reader.more()
        for number in range(10):
            shared.batch.extend((number * BLOCK_BYTES, number, BLOCK_BYTES))
    assert worker.made == [1, 3, 5, 7, 9]
    assert worker.late == [(number, number.to_bytes(BLOCK_BYTES, "big")) for number in range(0, 10, 2)]


@pytest.mark.parametrize("answer", ["none", "short", "empty"])
def test_one_that_fails_costs_nothing(answer: str) -> None:
    def make(_slot: memoryview, files: "array[int]") -> bytes:
        if answer == "none":
            os._exit(3)
        return b"\1" if answer == "short" else b""

    with sharing(make, [bytes(SLOT_BYTES)]) as (shared, reader, worker):
        reader.more()
        for turn in range(3):
            shared.batch.extend(_batch(turn * RUN))
            shared.hand_over()
        shared.settle()
        assert sorted(worker.made + [number for number, _ in worker.late]) == [*range(3 * RUN)]
        assert len(worker.made) == (3 if answer == "short" else 0)
        assert shared.wants_more() is (answer == "short")


def test_one_that_is_stopped_is_killed_and_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before the worker makes the files itself: it must not make them later."""

    def make(_slot: memoryview, files: "array[int]") -> bytes:
        os.kill(os.getpid(), signal.SIGSTOP)
        return _all_made(_slot, files)

    monkeypatch.setattr("mover.data.second_writer.PATIENCE_S", 0.05)
    with sharing(make, [bytes(SLOT_BYTES)]) as (shared, reader, worker):
        second = shared._process
        reader.more()
        shared.batch.extend(_batch(0))
        shared.hand_over()
        os.waitpid(second, os.WUNTRACED)
        shared.settle()
        with pytest.raises(ChildProcessError):
            os.waitpid(second, os.WNOHANG)
        assert worker.made == []
        assert [number for number, _ in worker.late] == [*range(RUN)]
        assert not shared.wants_more()
    assert capfd.readouterr().err == "a forked copy does not get on and is killed: its worker goes on alone\n"


def test_one_that_is_stopped_when_all_is_made_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mover.data.second_writer.PATIENCE_S", 0.05)
    with sharing(_all_made, [bytes(SLOT_BYTES)]) as (shared, reader, worker):
        reader.more()
        shared.settle()
        os.kill(shared._process, signal.SIGSTOP)
        os.waitpid(shared._process, os.WUNTRACED)
    assert (worker.made, worker.late) == ([], [])


def test_each_file_is_looked_for_in_its_own_slot() -> None:
    """Slots come round and round, some with nothing for the second writer, and none goes back too early."""

    def make(slot: memoryview, files: "array[int]") -> bytes:
        time.sleep(0)
        numbers = iter(files)
        return bytes(
            slot[at : at + size] == number.to_bytes(size, "big")
            for at, number, size in zip(numbers, numbers, numbers, strict=True)
        )

    count = SLOT_BYTES // BLOCK_BYTES
    slots = [b"".join((turn * count + at).to_bytes(BLOCK_BYTES, "big") for at in range(count)) for turn in range(60)]
    wanted = []
    with sharing(make, slots) as (shared, reader, worker):
        for turn in range(len(slots)):
            reader.pos = reader.end
            reader.more()
            for at in range(0, count, 3) if turn % 7 < 3 else ():
                number = turn * count + at
                wanted.append(number)
                shared.batch.extend((reader.view_at + at * BLOCK_BYTES, number, BLOCK_BYTES))
                if len(shared.batch) == FULL:
                    shared.hand_over()
        reader.pos = reader.end
    assert worker.made == wanted
    assert worker.late == []
