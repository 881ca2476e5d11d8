"""Faults of a virtual drive: what is told of each, what lies on the tape, and the time of a drive that streams."""

import time
from pathlib import Path

import pytest

from mover.tape.codes import Error, TapeFlag, TapeMode
from mover.tape.drive import Condition, Outcome
from mover.tape.faults import FaultyDrive, Streaming
from mover.tape.open_drive import open_drive
from mover.tape.virtual import VirtualDrive
from mover.workers.tape_messages import DriveFault, DriveSpec
from tests.tape import tap
from tests.tape.contract import WHOLE_BYTES, read

NAMED = "a [[fault]] of the configuration"


def drive(
    path: Path, *rehearsed: DriveFault, mode: TapeMode = TapeMode.RDWR, capacity: int = WHOLE_BYTES
) -> FaultyDrive:
    spec = DriveSpec("vtl0/drive0", str(path), capacity, 0, faults=rehearsed)
    found = open_drive(spec, mode, implicit_filemark=False)
    assert isinstance(found, FaultyDrive)
    return found


def failed(done: int, text: str) -> Outcome:
    return Outcome(done, Condition.FAILED, Error.IO, f"drive vtl0/drive0: {text}: {NAMED}")


def test_without_faults_it_is_the_plain_drive(path: Path) -> None:
    found = open_drive(DriveSpec("vtl0/drive0", str(path), WHOLE_BYTES, 0), TapeMode.RDWR, implicit_filemark=False)
    assert type(found) is VirtualDrive
    assert found.underruns == 0


def test_a_write_error_leaves_the_records_before_it_and_no_other(path: Path) -> None:
    it = drive(path, DriveFault("write-error", record=3))
    assert it.warning == "drive vtl0/drive0 rehearses: write-error at record 3"
    data = memoryview(b"aabbccddee")
    assert it.write_records(data, 2) == failed(2, "record 3 of those written cannot be written")
    assert it.state().flags & TapeFlag.ERROR
    assert it.position() == (0, 2)
    assert it.write_records(data[4:], 2) == Outcome(3)  # once each time it is open
    assert not it.state().flags & TapeFlag.ERROR
    it.close(force=False)
    assert tap.read(path) == [b"aa", b"bb", b"cc", b"dd", b"ee"]
    again = drive(path, DriveFault("write-error", record=1))
    assert again.write_records(data[:2], 2).done == 0
    again.close(force=False)


def test_a_write_error_comes_after_what_refuses_the_write(path: Path) -> None:
    it = drive(path, DriveFault("write-error", record=1), mode=TapeMode.READ)
    assert it.write_records(memoryview(b"a"), 1).error == Error.PERMISSION
    it.close(force=False)


def test_a_read_error_counts_records_and_no_marks(path: Path) -> None:
    path.write_bytes(tap.build([b"aa", None, b"bb", b"cc", b"dd"]))
    it = drive(path, DriveFault("read-error", record=2), DriveFault("read-error", record=4), mode=TapeMode.READ)
    assert read(it, crosses=True) == (b"aa", Condition.NONE)
    assert read(it, crosses=True) == (b"", Condition.FILEMARK)
    into = bytearray(8)
    assert it.read_record(memoryview(into), crosses_filemark=True) == failed(0, "record 2 of those read cannot be read")
    assert it.position() == (1, 0)
    assert it.read_records(memoryview(into), 2) == Outcome(1, record_length=2)
    assert it.read_records(memoryview(into), 2) == failed(0, "record 4 of those read cannot be read")
    assert it.read_records(memoryview(into), 2) == Outcome(2, record_length=2)
    assert bytes(into[:4]) == b"ccdd"
    assert it.read_records(memoryview(into), 2) == Outcome(0, Condition.END_OF_DATA)
    it.close(force=False)


def test_early_warning_at_a_byte(path: Path) -> None:
    it = drive(path, DriveFault("early-warning", at_bytes=25))
    data = memoryview(bytes(8))
    assert it.write_records(data, 2) == Outcome(3, Condition.EARLY_WARNING)  # 10 bytes each, the third crosses 25
    assert it.write_records(data[:2], 2) == Outcome(1)
    assert it.state().total_space == WHOLE_BYTES
    it.close(force=False)


def test_a_hang_comes_once_before_its_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[tuple[float, int]] = []
    it = drive(path, DriveFault("hang", record=3, seconds=90))
    monkeypatch.setattr(time, "sleep", lambda seconds: slept.append((seconds, it.position().blockno or 0)))
    assert it.write_records(memoryview(bytes(10)), 2) == Outcome(5)
    assert slept == [(90, 2)]
    it.rewind()
    assert it.read_records(memoryview(bytearray(10)), 2) == Outcome(5, record_length=2)
    assert slept == [(90, 2)]
    it.close(force=False)


class Clock:
    """A clock that only sleeping, or a test, moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def streaming(clock: Clock) -> Streaming:
    """100 bytes a second, a buffer of 200, and three seconds to reposition."""
    return Streaming(100, 200, 3.0, clock=clock, sleep=clock.sleep)


def test_a_host_that_is_faster_than_the_drive_waits_and_never_stops_it(clock: Clock, streaming: Streaming) -> None:
    for _ in range(10):
        streaming.write(100)
    assert (clock.now, streaming.underruns) == (1008.0, 0)  # two seconds of it are in the buffer
    streaming.stop()
    assert clock.now == 1010.0


def test_a_host_that_is_slower_stops_it_each_time_the_buffer_is_empty(clock: Clock, streaming: Streaming) -> None:
    streaming.write(100)
    clock.now += 5.0  # the tape has moved for one, and is in place again by now
    streaming.write(100)
    clock.now += 2.0  # it moved for one
    streaming.write(100)
    assert streaming.underruns == 2
    streaming.stop()
    assert clock.now == 1010.0  # it stopped at 1006, moved again from 1009


def test_a_short_buffer_makes_the_host_feel_a_repositioning(clock: Clock) -> None:
    streaming = Streaming(100, 100, 3.0, clock=clock, sleep=clock.sleep)
    streaming.write(100)
    clock.now += 1.5
    streaming.write(100)  # repositioning until 1004, then a second of which the buffer holds all
    assert (clock.now, streaming.underruns) == (1004.0, 1)


def test_a_flush_is_no_underrun(clock: Clock, streaming: Streaming) -> None:
    streaming.write(100)
    streaming.stop()
    clock.now += 60
    streaming.write(100)
    assert streaming.underruns == 0


def test_reading_waits_for_the_head_and_stops_it_when_the_buffer_is_full(clock: Clock, streaming: Streaming) -> None:
    streaming.read(100)
    assert clock.now == 1001.0
    clock.now += 2.0
    streaming.read(200)  # it has read ahead what the buffer holds
    assert (clock.now, streaming.underruns) == (1003.0, 0)
    clock.now += 10.0
    streaming.read(200)  # full since 1005, and stopped; moving again from 1016 on
    assert (clock.now, streaming.underruns) == (1013.0, 1)
    streaming.read(100)
    assert (clock.now, streaming.underruns) == (1017.0, 1)


def test_a_slow_drive_moves_bytes_and_counts(path: Path) -> None:
    it = drive(path, DriveFault("slow", rate_bytes=1 << 40, buffer_bytes=1, reposition_ms=0))
    assert [it.write_records(memoryview(b"aabb"), 2) for _ in range(3)] == [Outcome(2)] * 3
    assert it.write_filemarks(1) == Outcome(1)
    assert it.rewind() == Outcome(0)
    assert read(it) == (b"aa", Condition.NONE)
    assert it.underruns >= 0
    assert it.close(force=False) == Outcome(0)
    assert tap.read(path) == [b"aa", b"bb"] * 3 + [None]
