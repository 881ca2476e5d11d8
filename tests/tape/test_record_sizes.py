"""Every record size through both directions of the mover, over the ring that control makes for it.

Source: states.md 4.4 to 4.6.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from mover.control.rings import make_data_ring
from mover.ring import Consumer, RingControl, Verdict
from mover.tape.codes import HaltReason, MoverMode, PauseReason, TapeOperation
from mover.workers.messages import Done
from mover.workers.tape_messages import (
    CloseDrive,
    MotionDone,
    MoverHalted,
    MoverPaused,
    MoverPosition,
    MoveTape,
    ReadStream,
)
from tests.support.record_sizes import RECORD_SIZES
from tests.tape import tap
from tests.tape.control import Tape, cartridge, feed, peek

NOISE: Final = random.Random(11).randbytes(3 * RECORD_SIZES[-1] + 1)
RING_BYTES: Final = 8 << 20


@pytest.fixture(params=RECORD_SIZES)
def size(request: pytest.FixtureRequest) -> int:
    size: int = request.param
    return size


@contextmanager
def ring_for(size: int) -> Iterator[RingControl]:
    control = make_data_ring(RING_BYTES, size)
    yield control
    control.conclude(Verdict.BROKEN)
    control.close()


@pytest.fixture
def tape() -> Iterator[Tape]:
    with Tape() as worker:
        yield worker


def received(consumer: Consumer, count: int) -> bytes:
    """So many bytes of the stream, however they lie in the slots."""
    data = b""
    while len(data) < count:
        view, _ = peek(consumer)
        data += view
        view.release()
        consumer.release()
    return data


@pytest.mark.parametrize("version", [2, 3, 4])
def test_both_ways(tape: Tape, tmp_path: Path, size: int, version: int) -> None:
    """Whole records, one that ends with a single byte, one that lacks a single byte: padded at the end, and only there.

    On the way back the window ends with the stream, and the pad does not come.
    """
    for tail in (0, 1, size - 1):
        data = NOISE[: 2 * size + tail]
        count = -(-len(data) // size)
        path = cartridge(tmp_path, f"{tail}.tap")
        tape.open(path)
        with ring_for(size) as ring:
            slot = ring.statistics().slot_bytes
            sender = feed(ring, [data[at : at + slot] for at in range(0, len(data), slot)])
            tape.start(ring, MoverMode.READ, size, version=version)
            assert tape.receive(MoverHalted) == MoverHalted(
                HaltReason.CONNECT_CLOSED,
                MoverPosition(bytes_moved=len(data), record_num=count, window_written=count * size),
                "",
            )
            sender.join()
        assert tap.read(path) == [data[at : at + size].ljust(size, b"\0") for at in range(0, len(data), size)]
        assert tape.ask(MoveTape(TapeOperation.REW, 1, False), MotionDone).error == 0
        with ring_for(size) as ring, Consumer(ring.duplicate()) as consumer:
            tape.start(ring, MoverMode.WRITE, size, window=(0, len(data)), version=version)
            tape.ask(ReadStream(0, len(data)), Done)
            assert received(consumer, len(data)) == data
            tape.ask(ReadStream(len(data), 1), Done)
            paused = tape.receive(MoverPaused)
            assert (paused.reason, paused.seek_position) == (PauseReason.SEEK, len(data))
            assert paused.position.bytes_moved == len(data)
        tape.ask(CloseDrive(), Done)
