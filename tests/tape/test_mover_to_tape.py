"""The mover in mode READ, over a real ring: records, pads, windows, early warning, pauses and ends."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mover.ring import Kind, Producer, RingControl, TapeGauge, Verdict
from mover.tape.codes import ALL_ONES, Error, HaltReason, MoverMode, PauseReason, TapeOperation
from mover.workers.messages import Done, Refused
from mover.workers.tape_messages import (
    CloseDrive,
    DriveState,
    GetDriveState,
    MotionDone,
    MoverHalted,
    MoverPaused,
    MoverPosition,
    MoveTape,
    ReadRecord,
    ReadStream,
    RecordDone,
    StopMover,
)
from tests.tape import tap
from tests.tape.control import Tape, cartridge, feed

READ = MoverMode.READ


@pytest.fixture
def ring() -> Iterator[RingControl]:
    """Four slots of 64 bytes."""
    control = RingControl(64, 4)
    yield control
    control.conclude(Verdict.BROKEN)
    control.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return cartridge(tmp_path)


@pytest.fixture
def tape() -> Iterator[Tape]:
    with Tape() as worker:
        yield worker


def stream(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def padded(data: bytes, size: int) -> tap.Tape:
    """The records that a stream makes."""
    return [record.ljust(size, b"\0") for record in cut(data, size)]


@pytest.mark.parametrize("slot", [64, 63, 32, 7, 1])
@pytest.mark.parametrize("record_size", [32, 64, 21, 100, 190])
@pytest.mark.parametrize("length", [0, 1, 190, 640, 1000])
def test_a_stream_becomes_records(
    tape: Tape, ring: RingControl, path: Path, slot: int, record_size: int, length: int
) -> None:
    """Whole slots, short slots, and slots so short that a record does not fit all of them together."""
    data = stream(length)
    tape.open(path)
    feed(ring, cut(data, slot))
    tape.start(ring, READ, record_size)
    halted = tape.receive(MoverHalted)
    records = -(-length // record_size)
    assert halted == MoverHalted(
        HaltReason.CONNECT_CLOSED,
        MoverPosition(bytes_moved=length, record_num=records, window_written=records * record_size),
        "",
    )
    assert tap.read(path) == padded(data, record_size)
    assert ring.gauge("consumer", TapeGauge.RECORDS) == records
    assert ring.gauge("consumer", TapeGauge.BYTES_MOVED) == length
    assert ring.gauge("consumer", TapeGauge.DRIVE_BYTES) == records * record_size
    assert ring.gauge("consumer", TapeGauge.BLOCKNO) == records
    statistics = ring.statistics()
    assert (statistics.bytes_in, statistics.bytes_out) == (length, length)
    assert statistics.entries_in == statistics.entries_out


def test_a_broken_stream_leaves_no_part_of_a_record(tape: Tape, ring: RingControl, path: Path) -> None:
    data = stream(100)
    tape.open(path)
    feed(ring, cut(data, 50), Kind.FAILED)
    tape.start(ring, READ, 32)
    halted = tape.receive(MoverHalted)
    assert (halted.reason, halted.position.bytes_moved) == (HaltReason.CONNECT_ERROR, 96)
    assert tap.read(path) == cut(data[:96], 32)


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [(Verdict.BROKEN, HaltReason.CONNECT_ERROR), (Verdict.CLOSED, HaltReason.CONNECT_CLOSED)],
)
def test_a_verdict_ends_the_mover(
    tape: Tape, ring: RingControl, path: Path, verdict: Verdict, reason: HaltReason
) -> None:
    tape.open(path)
    tape.start(ring, READ, 32)
    feed(ring, [bytes(10)], None).join()
    ring.conclude(verdict)
    assert tape.receive(MoverHalted).reason == reason
    assert tap.read(path) == []


def test_the_window_pauses_when_more_is_wanted(tape: Tape, ring: RingControl, path: Path) -> None:
    data = stream(100)
    tape.open(path)
    feed(ring, cut(data, 64))
    tape.start(ring, READ, 20, window=(0, 60))
    paused = tape.receive(MoverPaused)
    assert paused.reason == PauseReason.EOW
    assert paused.position == MoverPosition(bytes_moved=60, record_num=3, window_written=60)
    assert tape.ask(MoveTape(TapeOperation.EOF, 1, False), MotionDone) == MotionDone(0, 0, "")
    # The offset says nothing in a backup: the new window has 40 bytes, and the stream ends with its last byte.
    tape.start(ring, READ, 20, window=(60, 40), position=paused.position)
    halted = tape.receive(MoverHalted)
    assert (halted.reason, halted.position) == (HaltReason.CONNECT_CLOSED, MoverPosition(100, 5, window_written=40))
    assert tap.read(path) == [*cut(data[:60], 20), None, *cut(data[60:], 20)]


def test_the_same_window_goes_on_after_a_pause(tape: Tape, ring: RingControl, path: Path) -> None:
    """Version 3 may continue without a new window: it is still used up. Version 2 has no EOW and says EOF."""
    tape.open(path)
    feed(ring, [bytes(64)])
    tape.start(ring, READ, 16, window=(0, 16), version=2)
    paused = tape.receive(MoverPaused)
    assert (paused.reason, paused.position.record_num) == (PauseReason.EOF, 1)
    tape.start(ring, READ, 16, window=(0, 16), window_is_new=False, position=paused.position, version=3)
    again = tape.receive(MoverPaused)
    assert (again.reason, again.position) == (PauseReason.EOW, paused.position)


def test_early_warning_then_another_cartridge_in_another_worker(ring: RingControl, tmp_path: Path) -> None:
    """Records straddle slots; the one that is pending at the pause is the first one on the next tape."""
    data = stream(1000)
    position = MoverPosition()
    tapes: list[tap.Tape] = []
    feed(ring, cut(data, 50))
    for number in range(10):
        path = cartridge(tmp_path, f"{number}.tap")
        with Tape() as tape:
            tape.open(path, capacity=1000, early_warning=600)
            tape.start(ring, READ, 70, position=position)
            event = tape.end()
            assert tape.ask(GetDriveState(), DriveState).blockno == (6 if number < 2 else 3)
            if isinstance(event, MoverPaused):
                assert event.reason == PauseReason.EOM
                assert tape.write(b"trailer") == RecordDone(0, 7, "")
            tape.ask(CloseDrive(), Done)
            position = event.position
        tapes.append(tap.read(path))
        if isinstance(event, MoverHalted):
            break
    assert position == MoverPosition(1000, 15, window_written=3 * 70)
    records = padded(data, 70)
    assert tapes == [[*records[:6], b"trailer"], [*records[6:12], b"trailer"], records[12:]]


def test_early_warning_at_the_padded_record(tape: Tape, ring: RingControl, path: Path) -> None:
    data = stream(50)
    tape.open(path, capacity=1000, early_warning=970)
    feed(ring, [data])
    tape.start(ring, READ, 40)
    paused = tape.receive(MoverPaused)
    assert (paused.reason, paused.position.bytes_moved) == (PauseReason.EOM, 40)
    tape.start(ring, READ, 40, position=paused.position)
    halted = tape.receive(MoverHalted)
    assert (halted.reason, halted.position.bytes_moved) == (HaltReason.CONNECT_CLOSED, 50)
    assert tap.read(path) == padded(data, 40)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_the_end_of_the_medium(tape: Tape, ring: RingControl, path: Path, version: int) -> None:
    data = stream(200)
    tape.open(path, capacity=100)
    feed(ring, cut(data, 64))
    tape.start(ring, READ, 40, version=version)
    event = tape.end()
    assert isinstance(event, MoverHalted if version == 4 else MoverPaused)
    assert event.reason == (HaltReason.MEDIA_ERROR if version == 4 else PauseReason.MEDIA_ERROR)
    assert event.position == MoverPosition(80, 2, window_written=80)
    assert "full" in event.text
    assert tap.read(path) == cut(data[:80], 40)


def test_what_control_asks_of_a_mover_that_waits(tape: Tape, ring: RingControl, path: Path) -> None:
    tape.open(path)
    tape.start(ring, READ, 32)
    with Producer(ring.duplicate()) as producer:
        for blockno in range(3):
            assert tape.ask(GetDriveState(), DriveState).blockno == blockno
            producer.reserve()[:32] = bytes(32)
            producer.commit(32)
            while ring.gauge("consumer", TapeGauge.RECORDS) == blockno:
                tape.ask(GetDriveState(), DriveState)
    assert tape.ask(MoveTape(TapeOperation.REW, 1, False), MotionDone).error == Error.DEVICE_BUSY
    assert tape.ask(ReadRecord(10, False), RecordDone).error == Error.DEVICE_BUSY
    assert tape.write(b"x").error == Error.DEVICE_BUSY
    assert tape.ask(CloseDrive(), Refused).error == Error.DEVICE_BUSY
    assert tape.ask(ReadStream(0, 1), Refused).error == Error.ILLEGAL_STATE
    tape.send(StopMover(HaltReason.ABORTED))
    assert tape.receive(MoverHalted).reason == HaltReason.ABORTED
    tape.send(StopMover(HaltReason.ABORTED))  # it has halted already: no second event
    assert tape.ask(GetDriveState(), DriveState).blockno == 3


def test_stopping_a_paused_mover(tape: Tape, ring: RingControl, path: Path) -> None:
    tape.open(path)
    feed(ring, [bytes(64)])
    tape.start(ring, READ, 32, window=(0, 32))
    paused = tape.receive(MoverPaused)
    tape.send(StopMover(HaltReason.CONNECT_CLOSED))
    halted = tape.receive(MoverHalted)
    assert (halted.reason, halted.position) == (HaltReason.CONNECT_CLOSED, paused.position)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    slots=st.lists(st.integers(0, 64), max_size=40),
    record_size=st.integers(1, 190),
    windows=st.lists(st.integers(1, 6) | st.none(), min_size=1, max_size=3),
    warn_after=st.integers(1, 2000),
)
@example(slots=[2], record_size=1, windows=[None], warn_after=9)
def test_nothing_is_lost_or_doubled(
    slots: list[int], record_size: int, windows: list[int | None], warn_after: int
) -> None:
    """Any stream, any windows and any early warnings: the records of all cartridges are the stream's records."""
    data = stream(sum(slots))
    ends = [sum(slots[: count + 1]) for count in range(len(slots))]
    found: list[bytes | None] = []
    position, runs = MoverPosition(), 0
    ring = RingControl(64, 4)
    feed(ring, [data[end - size : end] for size, end in zip(slots, ends, strict=True)])
    with tempfile.TemporaryDirectory() as name, Tape() as tape:
        while True:
            path = cartridge(Path(name), f"{runs}.tap")
            tape.open(path, capacity=warn_after + 100_000, early_warning=100_000)
            records = windows[runs % len(windows)]
            window = (0, ALL_ONES) if records is None else (0, records * record_size)
            tape.start(ring, READ, record_size, window=window, position=position)
            event = tape.end()
            tape.ask(CloseDrive(), Done)
            position, runs = event.position, runs + 1
            written = tap.read(path)
            assert position.window_written == len(written) * record_size
            found += written
            assert position.record_num == len(found)
            assert position.bytes_moved == min(len(data), len(found) * record_size)
            if isinstance(event, MoverHalted):
                break
            on_tape = record_size + record_size % 2 + 8  # odd data is padded, between two length words
            assert len(written) == records or len(written) * on_tape > warn_after
    ring.close()
    assert event.reason == HaltReason.CONNECT_CLOSED
    assert found == padded(data, record_size)
