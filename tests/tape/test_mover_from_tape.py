"""The mover in mode WRITE, over a real ring: reads, windows, seeks, marks, odd records and ends."""

import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.ring import Consumer, Kind, Producer, RingClosed, RingControl, TapeGauge, Verdict
from mover.tape import mover_from_tape
from mover.tape.codes import ALL_ONES, Error, HaltReason, MoverMode, PauseReason, TapeMode, TapeOperation
from mover.workers.messages import Done, Refused
from mover.workers.tape_messages import (
    DriveState,
    GetDriveState,
    MotionDone,
    MoverHalted,
    MoverPaused,
    MoverPosition,
    MoveTape,
    ReadStream,
    StopMover,
)
from tests.tape import tap
from tests.tape.control import Tape, feed, peek, take

WRITE = MoverMode.WRITE
STREAM = random.Random(5).randbytes(10_000)


@pytest.fixture
def ring() -> Iterator[RingControl]:
    """Four slots of 64 bytes."""
    control = RingControl(64, 4)
    yield control
    control.conclude(Verdict.BROKEN)
    control.close()


@pytest.fixture
def consumer(ring: RingControl) -> Iterator[Consumer]:
    with Consumer(ring.duplicate()) as side:
        yield side


@pytest.fixture
def tape() -> Iterator[Tape]:
    with Tape() as worker:
        yield worker


@pytest.fixture(autouse=True)
def _no_long_wait_at_an_open_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mover_from_tape, "OPEN_END_S", 0.05)


def recorded(directory: Path, tape: tap.Tape, name: str = "a.tap") -> Path:
    path = directory / name
    path.write_bytes(tap.build(tape))
    return path


def records(begin: int, end: int, size: int = 10) -> tap.Tape:
    return [STREAM[at : at + size] for at in range(begin, end, size)]


def space(tape: Tape, operation: TapeOperation, count: int) -> None:
    assert tape.ask(MoveTape(operation, count, False), MotionDone) == MotionDone(0, 0, "")


def test_the_worked_example(tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path) -> None:
    """states.md 4.6: record_size 10, the tape file at hand holds bytes 80..119, the next one what follows."""
    tape.open(recorded(tmp_path, [b"label", None, *records(80, 120), None, *records(120, 160)]), TapeMode.READ)
    space(tape, TapeOperation.FSF, 1)
    tape.start(ring, WRITE, 10, window=(80, 40), position=MoverPosition(record_num=8))
    tape.ask(ReadStream(95, 10), Done)
    assert take(consumer, 10) == STREAM[95:105]
    tape.ask(ReadStream(115, 20), Done)
    assert take(consumer, 5) == STREAM[115:120]
    paused = tape.receive(MoverPaused)
    assert (paused.reason, paused.seek_position) == (PauseReason.SEEK, 120)
    assert paused.position == MoverPosition(bytes_moved=15, record_num=12, read_offset=120, bytes_left=15)
    assert ring.gauge("producer", TapeGauge.SEEK_POSITION) == 115
    space(tape, TapeOperation.FSF, 1)
    tape.start(ring, WRITE, 10, window=(120, 40), position=paused.position)
    assert take(consumer, 15) == STREAM[120:135]
    assert tape.ask(GetDriveState(), DriveState).blockno == 2
    assert ring.gauge("producer", TapeGauge.RECORDS) == 14
    assert ring.gauge("producer", TapeGauge.BYTES_MOVED) == 30
    assert ring.gauge("producer", TapeGauge.BYTES_LEFT) == 0


def test_record_num_follows_positioning(tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path) -> None:
    tape.open(recorded(tmp_path, records(80, 200)), TapeMode.READ)
    tape.start(ring, WRITE, 10, window=(80, 120), position=MoverPosition(record_num=8))
    for offset, length, after in ((95, 10, 11), (180, 20, 20), (80, 1, 9), (81, 3, 9), (84, 6, 9), (90, 10, 10)):
        tape.ask(ReadStream(offset, length), Done)
        assert take(consumer, length) == STREAM[offset : offset + length]
        tape.ask(GetDriveState(), DriveState)
        assert ring.gauge("producer", TapeGauge.RECORDS) == after
        assert ring.gauge("producer", TapeGauge.BLOCKNO) == after - 8


def test_the_rest_of_a_record_takes_no_motion(
    tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path
) -> None:
    path = recorded(tmp_path, records(0, 50))
    tape.open(path, TapeMode.READ)
    tape.start(ring, WRITE, 10, window=(0, 50))
    tape.ask(ReadStream(21, 3), Done)
    assert take(consumer, 3) == STREAM[21:24]
    with path.open("r+b") as file:  # who reads the record again finds that it is gone
        file.seek(2 * 18)
        file.write(bytes(18))
    for offset, length in ((24, 6), (20, 10), (25, 1)):
        tape.ask(ReadStream(offset, length), Done)
        assert take(consumer, length) == STREAM[offset : offset + length]
    tape.ask(ReadStream(28, 5), Done)
    assert take(consumer, 5) == STREAM[28:33]
    tape.ask(ReadStream(20, 1), Done)
    assert "no whole record" in tape.receive(MoverHalted).text


@pytest.mark.parametrize(("mark", "reason"), [(True, PauseReason.EOF), (False, PauseReason.EOM)])
def test_the_whole_image_to_the_end_of_the_tape_file(
    tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path, mark: bool, reason: PauseReason
) -> None:
    """With a maximum window the tape decides; it stays on the BOT side of a mark."""
    tape.open(recorded(tmp_path, [*records(0, 200), *([None] if mark else [])]), TapeMode.READ)
    tape.start(ring, WRITE, 10)
    tape.ask(ReadStream(0, ALL_ONES), Done)
    assert take(consumer, 200) == STREAM[:200]
    paused = tape.receive(MoverPaused)
    assert (paused.reason, paused.seek_position) == (reason, 200)
    assert paused.position == MoverPosition(200, 20, read_offset=200, bytes_left=ALL_ONES - 200)
    assert tape.ask(GetDriveState(), DriveState).file_num == 0


def test_going_on_at_the_next_tape_file_without_a_new_window(
    tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path
) -> None:
    """Versions 2 and 3 may answer EOF with a motion and MOVER_CONTINUE."""
    tape.open(recorded(tmp_path, [*records(0, 50), None, *records(50, 120)]), TapeMode.READ)
    tape.start(ring, WRITE, 10, version=3)
    tape.ask(ReadStream(0, 100), Done)
    assert take(consumer, 50) == STREAM[:50]
    paused = tape.receive(MoverPaused)
    space(tape, TapeOperation.FSF, 1)
    tape.start(ring, WRITE, 10, window_is_new=False, position=paused.position, version=3)
    assert take(consumer, 50) == STREAM[50:100]
    tape.ask(ReadStream(60, 10), Done)
    assert take(consumer, 10) == STREAM[60:70]


def test_going_on_in_the_same_tape_file_without_a_new_window(
    tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path
) -> None:
    tape.open(recorded(tmp_path, records(0, 100)), TapeMode.READ)
    tape.start(ring, WRITE, 10, window=(0, 50), version=3)
    tape.ask(ReadStream(30, 30), Done)
    assert take(consumer, 20) == STREAM[30:50]
    paused = tape.receive(MoverPaused)
    space(tape, TapeOperation.REW, 0)
    tape.start(ring, WRITE, 10, window=(0, 100), window_is_new=False, position=paused.position, version=3)
    assert take(consumer, 10) == STREAM[50:60]


def test_an_offset_outside_the_window(tape: Tape, ring: RingControl, tmp_path: Path) -> None:
    tape.open(recorded(tmp_path, records(50, 100)), TapeMode.READ)
    for window, offset in (((50, 50), 49), ((50, 50), 100), ((50, 50), 5000)):
        tape.start(ring, WRITE, 10, window=window)
        tape.ask(ReadStream(offset, 5), Done)
        paused = tape.receive(MoverPaused)
        assert (paused.reason, paused.seek_position) == (PauseReason.SEEK, offset)
        assert tape.ask(GetDriveState(), DriveState).blockno == 0


def test_an_offset_behind_the_tape_file(tape: Tape, ring: RingControl, tmp_path: Path) -> None:
    tape.open(recorded(tmp_path, [*records(0, 50), None]), TapeMode.READ)
    tape.start(ring, WRITE, 10)
    tape.ask(ReadStream(70, 5), Done)
    assert tape.receive(MoverPaused).reason == PauseReason.EOF


def test_short_records_are_taken_as_they_come(
    tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path
) -> None:
    """Foreign tapes: another record size than the client says, a short last record."""
    cuts = [STREAM[0:10], STREAM[10:15], STREAM[15:16], STREAM[16:26], STREAM[26:30]]
    tape.open(recorded(tmp_path, [*cuts, None]), TapeMode.READ)
    tape.start(ring, WRITE, 10)
    tape.ask(ReadStream(0, 13), Done)
    assert take(consumer, 13) == STREAM[:13]
    tape.ask(ReadStream(15, 15), Done)
    assert take(consumer, 15) == STREAM[15:30]


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("offset", [10, 12])
def test_a_longer_record_is_a_media_error(
    tape: Tape, ring: RingControl, tmp_path: Path, version: int, offset: int
) -> None:
    tape.open(recorded(tmp_path, [STREAM[:10], STREAM[10:21]]), TapeMode.READ)
    tape.start(ring, WRITE, 10, version=version)
    tape.ask(ReadStream(offset, 20), Done)
    event = tape.end()
    assert isinstance(event, MoverHalted if version == 4 else MoverPaused)
    assert event.reason == (HaltReason.MEDIA_ERROR if version == 4 else PauseReason.MEDIA_ERROR)
    assert event.text == "a record of 11 bytes, record_size is 10"
    assert event.position.bytes_moved == 0


def test_a_media_error_is_told_in_band_too(tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path) -> None:
    tape.open(recorded(tmp_path, [STREAM[:10], STREAM[10:21]]), TapeMode.READ)
    tape.start(ring, WRITE, 10)
    tape.ask(ReadStream(0, 20), Done)
    assert take(consumer, 10) == STREAM[:10]
    assert tape.receive(MoverHalted).reason == HaltReason.MEDIA_ERROR
    assert peek(consumer).kind == Kind.FAILED


def test_records_longer_than_a_slot(tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path) -> None:
    tape.open(recorded(tmp_path, records(0, 1000, 200)), TapeMode.READ)
    tape.start(ring, WRITE, 200)
    tape.ask(ReadStream(0, 1000), Done)
    assert take(consumer, 1000) == STREAM[:1000]
    tape.ask(ReadStream(390, 300), Done)
    assert take(consumer, 300) == STREAM[390:690]


def test_reads_that_are_refused(tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path) -> None:
    tape.open(recorded(tmp_path, records(0, 1000)), TapeMode.READ)
    tape.start(ring, WRITE, 10)
    assert tape.ask(ReadStream(0, 0), Refused).error == Error.ILLEGAL_ARGS
    assert tape.ask(ReadStream(1, ALL_ONES), Refused).error == Error.ILLEGAL_ARGS
    tape.ask(ReadStream(0, 1000), Done)  # more than the ring holds: it stays under way
    assert tape.ask(ReadStream(0, 10), Refused).error == Error.READ_IN_PROGRESS
    assert take(consumer, 1000 // 60 * 60) == STREAM[: 1000 // 60 * 60]


@pytest.mark.parametrize("length", [10, 1000], ids=["waiting for a read", "waiting for a slot"])
@pytest.mark.parametrize("side", ["consumer", "control"])
def test_the_other_side_has_all_it_wants(
    tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path, length: int, side: str
) -> None:
    tape.open(recorded(tmp_path, records(0, 1000)), TapeMode.READ)
    tape.start(ring, WRITE, 10)
    tape.ask(ReadStream(0, length), Done)
    assert take(consumer, 10 if length == 10 else 60)
    if side == "consumer":
        consumer.finish()
    else:
        ring.conclude(Verdict.CLOSED)
    assert tape.receive(MoverHalted).reason == HaltReason.CONNECT_CLOSED


def test_a_broken_data_connection(tape: Tape, ring: RingControl, tmp_path: Path) -> None:
    tape.open(recorded(tmp_path, records(0, 100)), TapeMode.READ)
    tape.start(ring, WRITE, 10)
    ring.conclude(Verdict.BROKEN)
    assert tape.receive(MoverHalted).reason == HaltReason.CONNECT_ERROR


@pytest.mark.parametrize(("reason", "kind"), [(HaltReason.CONNECT_CLOSED, Kind.END), (HaltReason.ABORTED, Kind.FAILED)])
def test_stopping_says_in_band_how(
    tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path, reason: HaltReason, kind: Kind
) -> None:
    tape.open(recorded(tmp_path, records(0, 100)), TapeMode.READ)
    tape.start(ring, WRITE, 10)
    tape.ask(ReadStream(0, 30), Done)
    assert take(consumer, 30) == STREAM[:30]
    tape.send(StopMover(reason))
    halted = tape.receive(MoverHalted)
    assert (halted.reason, halted.position.bytes_moved) == (reason, 30)
    assert peek(consumer).kind == kind


@settings(max_examples=40, deadline=None)
@given(
    record_size=st.integers(1, 150),
    first=st.integers(0, 3),
    count=st.integers(1, 20),
    reads=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 500)), min_size=1, max_size=8),
)
def test_any_reads_get_the_stream_or_a_seek(
    record_size: int, first: int, count: int, reads: list[tuple[int, int]]
) -> None:
    begin, end = first * record_size, (first + count) * record_size
    ring = RingControl(64, 4)
    with tempfile.TemporaryDirectory() as name, Tape() as tape, Consumer(ring.duplicate()) as consumer:
        path = recorded(Path(name), [b"label", None, *records(begin, end, record_size), None])
        tape.open(path, TapeMode.READ)
        space(tape, TapeOperation.FSF, 1)
        position, moving, moved = MoverPosition(record_num=first), False, 0
        for offset, length in reads:
            if not moving:
                fresh = position.bytes_moved == 0 and position.record_num == first
                tape.start(
                    ring, WRITE, record_size, window=(begin, end - begin), window_is_new=fresh, position=position
                )
                moving = True
            tape.ask(ReadStream(offset, length), Done)
            inside = min(length, end - offset) if begin <= offset < end else 0
            assert take(consumer, inside) == STREAM[offset : offset + inside]
            moved += inside
            if inside < length:
                paused = tape.receive(MoverPaused)
                assert (paused.reason, paused.seek_position) == (PauseReason.SEEK, offset + inside)
                assert paused.position.bytes_left == length - inside
                assert paused.position.bytes_moved == moved
                position = MoverPosition(paused.position.bytes_moved, paused.position.record_num)
                moving = False
        if moving:
            tape.send(StopMover(HaltReason.ABORTED))
            assert tape.receive(MoverHalted).position.bytes_moved == moved
    ring.close()


def test_what_one_mover_writes_another_reads(tape: Tape, tmp_path: Path) -> None:
    """Tape to ring to tape: pages of real size, bulk paths on both sides."""
    data = random.Random(1).randbytes(3 << 20)
    path = recorded(tmp_path, [], "b.tap")
    tape.open(path)
    ring = RingControl(1 << 20, 4)
    feed(ring, [data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20)])
    tape.start(ring, MoverMode.READ, 65_536)
    assert tape.receive(MoverHalted).position.record_num == 48
    ring.close()
    space(tape, TapeOperation.REW, 0)
    ring = RingControl(1 << 20, 4)
    with Consumer(ring.duplicate()) as consumer:
        tape.start(ring, WRITE, 65_536)
        tape.ask(ReadStream(0, ALL_ONES), Done)
        assert take(consumer, len(data)) == data
        assert tape.receive(MoverPaused).reason == PauseReason.EOM
    ring.close()


def test_a_pause_comes_after_the_bytes_and_not_when_the_other_side_has_enough(
    tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read to the end of the stream runs into the window's end; whoever found the stream's end says so, and the
    mover halts instead of asking for another tape."""
    monkeypatch.setattr(mover_from_tape, "OPEN_END_S", 30)
    tape.open(recorded(tmp_path, records(0, 40)), TapeMode.READ)
    tape.start(ring, WRITE, 10, window=(0, 40))
    tape.ask(ReadStream(0, ALL_ONES), Done)
    assert take(consumer, 40) == STREAM[:40]
    consumer.finish()
    assert tape.receive(MoverHalted).reason == HaltReason.CONNECT_CLOSED


def test_a_local_side_that_waits_for_more_is_not_kept_waiting_at_the_windows_end(
    tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover_from_tape, "OPEN_END_S", 3600)
    tape.open(recorded(tmp_path, records(0, 40)), TapeMode.READ)
    tape.start(ring, WRITE, 10, window=(0, 40), local=True)
    tape.ask(ReadStream(0, ALL_ONES), Done)
    assert take(consumer, 40) == STREAM[:40]

    def end_at_its_pause() -> None:
        tape.receive(MoverPaused)
        ring.conclude(Verdict.CLOSED)

    with pytest.raises(RingClosed):
        run_beside(consumer.peek, end_at_its_pause)


def test_a_local_side_that_does_not_wait_for_more_is_waited_for(
    tape: Tape, ring: RingControl, consumer: Consumer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has found the stream's end and makes all durable, which may take longer than any deadline."""
    looks = threading.Event()
    monkeypatch.setattr(mover_from_tape, "OPEN_END_S", 0.0)
    monkeypatch.setattr(Producer, "consumer_waits", lambda self: looks.set())
    tape.open(recorded(tmp_path, records(0, 40)), TapeMode.READ)
    tape.start(ring, WRITE, 10, window=(0, 40), local=True)
    tape.ask(ReadStream(0, ALL_ONES), Done)
    assert take(consumer, 40) == STREAM[:40]
    assert looks.wait(10)
    consumer.finish()
    assert tape.receive(MoverHalted).reason == HaltReason.CONNECT_CLOSED


def run_beside(waits: Callable[[], object], ends_it: Callable[[], object]) -> None:
    """``waits`` here, ``ends_it`` in a thread."""
    thread = threading.Thread(target=ends_it)
    thread.start()
    try:
        waits()
    finally:
        thread.join(10)


@pytest.mark.parametrize(
    ("sent_bytes", "wait_s"), [(0, 5.0), (320 << 20, 5.0), (1 << 30, 16.0), (3840 << 20, 60.0), (1 << 50, 60.0)]
)
def test_a_remote_side_has_time_to_make_durable_what_was_sent(
    sent_bytes: int, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover_from_tape, "OPEN_END_S", 5.0)
    assert mover_from_tape.open_end_s(sent_bytes) == wait_s
