"""The mover on a drive that fails: what it tells is what lies on the tape, what it does not tell is still in the ring.

Source: states.md 4.2, 4.3.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from mover.ring import Consumer, Kind, RingControl, TapeGauge, Verdict
from mover.tape.codes import HaltReason, MoverMode, PauseReason, TapeMode
from mover.workers.messages import Done
from mover.workers.tape_messages import DriveFault, MoverHalted, MoverPaused, MoverPosition, ReadStream
from tests.tape import tap
from tests.tape.control import Tape, cartridge, feed, peek, take

SIZE: Final = 20
STREAM: Final = random.Random(7).randbytes(250)
RECORDS: Final = [STREAM[at : at + SIZE].ljust(SIZE, b"\0") for at in range(0, len(STREAM), SIZE)]
READ, WRITE = MoverMode.READ, MoverMode.WRITE


@pytest.fixture
def ring() -> Iterator[RingControl]:
    """More slots than the stream fills, so that its producer never waits."""
    control = RingControl(64, 64)
    yield control
    control.conclude(Verdict.BROKEN)
    control.close()


@pytest.fixture
def tape() -> Iterator[Tape]:
    with Tape() as worker:
        yield worker


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def check_media_error(event: MoverPaused | MoverHalted, version: int, fault: str) -> None:
    """Version 4 halts, the older ones pause and leave it to the client."""
    assert isinstance(event, MoverHalted if version == 4 else MoverPaused)
    assert event.reason == (HaltReason.MEDIA_ERROR if version == 4 else PauseReason.MEDIA_ERROR)
    assert fault in event.text


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("slot", [64, 60, 50, 7])
@pytest.mark.parametrize("bad", [1, 2, 7, 12, 13])
def test_a_write_error_is_told_with_the_records_before_it(
    tape: Tape, ring: RingControl, tmp_path: Path, version: int, slot: int, bad: int
) -> None:
    """Bad: the number of the record that cannot be written; the last one has the pad."""
    path = cartridge(tmp_path)
    pieces = cut(STREAM, slot)
    feed(ring, pieces).join()
    tape.open(path, faults=(DriveFault("write-error", record=bad),))
    tape.start(ring, READ, SIZE, version=version)
    event = tape.end()
    check_media_error(event, version, f"record {bad} of those written cannot be written")
    good = bad - 1
    assert event.position == MoverPosition(bytes_moved=good * SIZE, record_num=good, window_written=good * SIZE)
    assert tap.read(path) == RECORDS[:good]
    assert ring.gauge("consumer", TapeGauge.RECORDS) == good
    assert ring.gauge("consumer", TapeGauge.BYTES_MOVED) == good * SIZE
    assert ring.gauge("consumer", TapeGauge.DRIVE_BYTES) == good * SIZE
    assert ring.gauge("consumer", TapeGauge.BLOCKNO) == good
    # A slot goes back when all of it is on tape, and no other one.
    assert ring.statistics().bytes_out == sum(len(each) for each in pieces[: good * SIZE // slot])
    if version == 4:
        return
    tape.start(ring, READ, SIZE, version=version, position=event.position)
    halted = tape.receive(MoverHalted)
    assert halted.reason == HaltReason.CONNECT_CLOSED
    assert (halted.position.bytes_moved, halted.position.record_num) == (len(STREAM), len(RECORDS))
    assert tap.read(path) == RECORDS
    assert ring.statistics().bytes_out == len(STREAM)


def test_a_write_error_and_then_another_cartridge(tape: Tape, ring: RingControl, tmp_path: Path) -> None:
    """Versions 2 and 3 leave it to the client, which may go on elsewhere: no record is lost or comes twice."""
    feed(ring, cut(STREAM, 50)).join()
    position, found = MoverPosition(), []
    for number in range(len(RECORDS)):
        path = cartridge(tmp_path, f"{number}.tap")
        with Tape() as drive:
            drive.open(path, faults=(DriveFault("write-error", record=4),))
            drive.start(ring, READ, SIZE, version=3, position=position)
            event = drive.end()
        position = event.position
        found += tap.read(path)
        assert position.record_num == len(found)
        if isinstance(event, MoverHalted):
            break
    assert event.reason == HaltReason.CONNECT_CLOSED
    assert found == RECORDS


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize(("record_size", "bad"), [(20, 1), (20, 5), (100, 2)])
def test_a_read_error_is_told_with_the_bytes_before_it(
    tape: Tape, ring: RingControl, tmp_path: Path, version: int, record_size: int, bad: int
) -> None:
    """They arrive, whatever comes behind them."""
    path = tmp_path / "a.tap"
    path.write_bytes(tap.build(list(cut(STREAM[:200], record_size))))
    tape.open(path, TapeMode.READ, faults=(DriveFault("read-error", record=bad),))
    tape.start(ring, WRITE, record_size, version=version)
    tape.ask(ReadStream(0, 200), Done)
    good = (bad - 1) * record_size
    with Consumer(ring.duplicate()) as consumer:
        assert take(consumer, good) == STREAM[:good]
        event = tape.end()
        check_media_error(event, version, f"record {bad} of those read cannot be read")
        position = event.position
        assert (position.bytes_moved, position.record_num) == (good, bad - 1)
        assert (position.read_offset, position.bytes_left) == (good, 200 - good)
        assert ring.gauge("producer", TapeGauge.BYTES_LEFT) == 200 - good
        if version == 4:
            assert peek(consumer).kind == Kind.FAILED
        else:
            assert event.seek_position == good  # type: ignore[union-attr]  # a pause, see above
            assert consumer.try_peek() is None
