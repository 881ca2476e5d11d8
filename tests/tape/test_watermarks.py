"""Watermarks: how often a drive has to stop with them and without, and what ends the wait for the high mark.

The drive is one that streams (tests/tape/test_faults.py), its time is the producer's or the consumer's: each slot takes
them a hundred seconds. That side goes on when the mover has come to rest, so that all counts are exact.
"""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from mover.ring import Consumer, Kind, Producer, RingControl, TapeGauge, Verdict
from mover.tape import faults, watermarks
from mover.tape.codes import HaltReason, MoverMode, PauseReason
from mover.tape.watermarks import Watermarks
from mover.workers.messages import Done
from mover.workers.tape_messages import (
    DriveFault,
    DriveState,
    GetDriveState,
    MoverHalted,
    MoverPaused,
    ReadStream,
    StopMover,
)
from tests.tape import tap
from tests.tape.control import DEADLINE_S, Tape, cartridge, peek

SLOT: Final = 64
SLOTS: Final = 8
COUNT: Final = 32
DATA: Final = random.Random(3).randbytes(COUNT * SLOT)
RECORDS: Final = [DATA[at : at + SLOT] for at in range(0, len(DATA), SLOT)]
SLOW: Final = DriveFault("slow", rate_bytes=SLOT, buffer_bytes=SLOT, reposition_ms=3000)
"""A slot a second, a slot in its buffer."""


class Clock:
    """Time that goes by in sleeps, and when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Rig:
    """A tape worker with a drive that streams, and a ring."""

    def __init__(self, tape: Tape, ring: RingControl, clock: Clock, drives: list[faults.Streaming]) -> None:
        self.tape, self.ring, self.clock = tape, ring, clock
        self._drives = drives

    def open(self, path: Path) -> None:
        self.tape.open(path, faults=(SLOW,))

    def start(self, mode: MoverMode, start: int, stop: int = 0) -> None:
        self.tape.start(self.ring, mode, SLOT, percents=(start, stop))

    def underruns(self) -> int:
        """As the drive has met them."""
        (drive,) = self._drives
        return drive.underruns

    def has_written(self, entries: int) -> None:
        """Wait until so many slots are on tape and the mover waits for more."""
        self._rest(lambda: self.ring.statistics().entries_out == entries, "empty")

    def has_read(self, entries: int) -> None:
        """Wait until so many slots were read from tape and the mover waits for room."""
        self._rest(lambda: self.ring.statistics().entries_in == entries, "full")

    def _rest(self, moved: Callable[[], bool], waiting: str) -> None:
        deadline = time.monotonic() + 2 * DEADLINE_S
        while not (moved() and self.ring.statistics().waiting == waiting):
            assert time.monotonic() < deadline, self.ring.statistics()
            time.sleep(0.0005)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    clock, drives, streaming = Clock(), [], faults.Streaming

    def make(rate: int, buffer: int, reposition_s: float) -> faults.Streaming:
        drives.append(streaming(rate, buffer, reposition_s, clock=clock, sleep=clock.sleep))
        return drives[-1]

    monkeypatch.setattr(faults, "Streaming", make)
    monkeypatch.setattr(watermarks, "PATIENCE_S", 3600.0)
    ring = RingControl(SLOT, SLOTS)
    with Tape() as tape:
        yield Rig(tape, ring, clock, drives)
    ring.conclude(Verdict.BROKEN)
    ring.close()


def put(producer: Producer, data: bytes) -> None:
    producer.reserve()[: len(data)] = data
    producer.commit(len(data))


@pytest.mark.parametrize(
    ("start", "stop", "batches"),
    [(0, 0, [1] * 32), (50, 0, [4] * 8), (100, 0, [8] * 4), (75, 25, [6, *[4] * 6, 2])],
    ids=["none", "half", "all", "low mark"],
)
def test_a_slow_stream_stops_the_drive_once_for_each_high_mark(
    rig: Rig, tmp_path: Path, start: int, stop: int, batches: list[int]
) -> None:
    """Batches: what comes until the mover goes on; what it leaves at the low mark is there for the next one."""
    path = cartridge(tmp_path)
    rig.open(path)
    rig.start(MoverMode.READ, start, stop)
    left = SLOTS * stop // 100
    with Producer(rig.ring.duplicate()) as producer:
        sent = 0
        for number, batch in enumerate(batches):
            for _ in range(batch):
                rig.clock.now += 100
                put(producer, RECORDS[sent])
                sent += 1
            if number < len(batches) - 1:
                rig.has_written(sent - left)
        producer.finish(Kind.END)
        assert rig.tape.receive(MoverHalted).reason == HaltReason.CONNECT_CLOSED
    assert tap.read(path) == RECORDS
    assert rig.underruns() == len(batches) - 1
    assert rig.ring.gauge("consumer", TapeGauge.UNDERRUNS) >= len(batches) - 1


@pytest.mark.parametrize(("start", "stops"), [(0, 24), (50, 6), (100, 4)])
def test_a_slow_recover_stops_the_drive_once_for_each_high_mark(
    rig: Rig, tmp_path: Path, start: int, stops: int
) -> None:
    """The ring is full eight records on; from then on the drive waits for room, but never for all slots.

    At the end it waits for as many as it still has records for.
    """
    path = tmp_path / "a.tap"
    path.write_bytes(tap.build(list(RECORDS)))
    rig.open(path)
    rig.start(MoverMode.WRITE, start)
    room = min(SLOTS - 1, max(1, SLOTS * start // 100))
    with Consumer(rig.ring.duplicate()) as consumer:
        rig.tape.ask(ReadStream(0, len(DATA)), Done)
        read, free = SLOTS, 0
        for record in RECORDS:
            if read < COUNT:
                rig.has_read(read)
                rig.clock.now += 100
            view, _ = peek(consumer)
            assert view == record
            view.release()
            consumer.release()
            free += 1
            if free == min(room, COUNT - read):
                read, free = read + free, 0
        rig.tape.ask(GetDriveState(), DriveState)  # answered when the last read was counted
    assert rig.underruns() == stops
    assert rig.ring.gauge("producer", TapeGauge.UNDERRUNS) == stops


@pytest.mark.parametrize("sent", [0, 1, 3])
def test_a_stream_below_the_mark_passes_at_its_end(rig: Rig, tmp_path: Path, sent: int) -> None:
    path = cartridge(tmp_path)
    rig.open(path)
    rig.start(MoverMode.READ, 100)
    with Producer(rig.ring.duplicate()) as producer:
        for record in RECORDS[:sent]:
            put(producer, record)
        producer.finish(Kind.END)
        assert rig.tape.receive(MoverHalted).reason == HaltReason.CONNECT_CLOSED
    assert tap.read(path) == RECORDS[:sent]


def test_time_ends_the_wait_for_a_mark_that_is_not_reached(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watermarks, "PATIENCE_S", 0.01)
    path = cartridge(tmp_path)
    rig.open(path)
    rig.start(MoverMode.READ, 100)
    with Producer(rig.ring.duplicate()) as producer:
        for number, record in enumerate(RECORDS[:3]):
            put(producer, record)
            rig.has_written(number + 1)
        producer.finish(Kind.END)
        rig.tape.receive(MoverHalted)
    assert tap.read(path) == RECORDS[:3]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("abort", HaltReason.ABORTED),
        (Verdict.BROKEN, HaltReason.CONNECT_ERROR),
        (Verdict.CLOSED, HaltReason.CONNECT_CLOSED),
        (Kind.FAILED, HaltReason.CONNECT_ERROR),
    ],
    ids=str,
)
def test_every_other_end_ends_the_wait_too(
    rig: Rig, tmp_path: Path, end: Verdict | Kind | str, reason: HaltReason
) -> None:
    rig.open(cartridge(tmp_path))
    rig.start(MoverMode.READ, 100)
    with Producer(rig.ring.duplicate()) as producer:
        put(producer, RECORDS[0])
        match end:
            case Verdict():
                rig.ring.conclude(end)
            case Kind():
                producer.finish(end)
            case _:
                rig.tape.send(StopMover(HaltReason.ABORTED))
        assert rig.tape.receive(MoverHalted).reason == reason


def test_short_slots_and_long_records_come_to_the_mark(rig: Rig, tmp_path: Path) -> None:
    """A record that straddles slots is held by the mover while it waits: a ring that is full is at every mark."""
    path = cartridge(tmp_path)
    rig.open(path)
    rig.tape.start(rig.ring, MoverMode.READ, 7 * SLOT, percents=(100, 99))
    with Producer(rig.ring.duplicate()) as producer:
        for at in range(0, len(DATA), 5):
            put(producer, DATA[at : at + 5])
        producer.finish(Kind.END)
        assert rig.tape.receive(MoverHalted).reason == HaltReason.CONNECT_CLOSED
    size = 7 * SLOT
    assert tap.read(path) == [DATA[at : at + size].ljust(size, b"\0") for at in range(0, len(DATA), size)]


def test_what_was_gathered_outlives_a_pause(rig: Rig, tmp_path: Path) -> None:
    path = cartridge(tmp_path)
    rig.open(path)
    rig.tape.start(rig.ring, MoverMode.READ, SLOT, window=(0, SLOT), percents=(50, 0))
    with Producer(rig.ring.duplicate()) as producer:
        for record in RECORDS[:4]:
            put(producer, record)
        paused = rig.tape.receive(MoverPaused)
        assert (paused.reason, paused.position.bytes_moved) == (PauseReason.EOW, SLOT)
        rig.tape.start(rig.ring, MoverMode.READ, SLOT, position=paused.position, percents=(100, 0))
        for record in RECORDS[4:9]:
            put(producer, record)
        producer.finish(Kind.END)
        assert rig.tape.receive(MoverHalted).position.bytes_moved == 9 * SLOT
    assert tap.read(path) == RECORDS[:9]


@pytest.mark.parametrize(
    ("slots", "percents", "marks"),
    [
        (8, (0, 0), (1, 0)), (8, (50, 0), (4, 0)), (8, (100, 50), (8, 4)), (4, (1, 0), (1, 0)),
        (4, (26, 25), (2, 1)), (4, (30, 29), (2, 1)), (1, (100, 99), (1, 0)), (65_536, (100, 99), (65_536, 64_880)),
    ],
)  # fmt: skip
def test_marks_in_slots(slots: int, percents: tuple[int, int], marks: tuple[int, int]) -> None:
    found = Watermarks(slots, *percents)
    assert (found.start, found.stop) == marks
