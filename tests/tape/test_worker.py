"""The tape worker's messages, against the worker in a thread and as a process, and how it dies."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.ring import Kind, Producer, RingControl, TapeGauge, Verdict
from mover.tape.codes import Error, HaltReason, MoverMode, TapeMode, TapeOperation
from mover.workers.messages import Done, Refused
from mover.workers.relay_messages import StartRelay
from mover.workers.tape_messages import (
    CloseDrive,
    DriveSpec,
    DriveState,
    GetDriveState,
    GetTapePosition,
    LocateTape,
    MotionDone,
    MoverHalted,
    MoverPosition,
    MoveTape,
    OpenDrive,
    ReadRecord,
    ReadStream,
    RecordDone,
    StartMover,
    TapePosition,
)
from tests.tape import tap
from tests.tape.control import BIG, RECORD_BYTES, Tape, cartridge, feed


@pytest.fixture(params=[False, True], ids=["thread", "process"])
def tape(request: pytest.FixtureRequest) -> Iterator[Tape]:
    with Tape(process=request.param) as worker:
        yield worker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return cartridge(tmp_path)


def move(tape: Tape, operation: int, count: int = 1, *, crosses: bool = False) -> MotionDone:
    return tape.ask(MoveTape(operation, count, crosses), MotionDone)


def test_records_marks_and_motion(tape: Tape, path: Path) -> None:
    opened = tape.open(path, capacity=1 << 20, implicit_filemark=True)
    assert (opened.write_protected, opened.warning) == (False, "")
    assert tape.write(b"hello") == RecordDone(0, 5, "")
    assert tape.write(b"world!") == RecordDone(0, 6, "")
    assert move(tape, TapeOperation.EOF, 2) == MotionDone(0, 0, "")
    assert tape.write(b"next") == RecordDone(0, 4, "")
    assert tape.ask(GetDriveState(), DriveState) == DriveState(
        flags=0x08,
        file_num=2,
        blockno=1,
        block_size=0,
        soft_errors=0,
        total_space=1 << 20,
        space_remain=(1 << 20) - 14 - 14 - 8 - 12,
    )
    assert move(tape, TapeOperation.REW, 7) == MotionDone(0, 0, "")
    assert tape.read(3) == (RecordDone(0, 3, ""), b"hel")
    assert tape.read(100) == (RecordDone(0, 6, ""), b"world!")
    assert tape.read(100) == (RecordDone(Error.EOF, 0, "filemark"), b"")
    assert move(tape, TapeOperation.FSR, 3).residual == 3
    assert move(tape, TapeOperation.FSR, 3, crosses=True).residual == 3
    assert tape.read(100, crosses=True)[0].error == Error.EOF
    assert move(tape, TapeOperation.BSF, 9) == MotionDone(0, 7, "")
    assert move(tape, TapeOperation.FSF, 9) == MotionDone(0, 6, "")
    assert tape.read(100)[0].error == Error.EOM
    assert tape.read(100, crosses=True)[0].error == Error.EOF
    assert move(tape, TapeOperation.BSR, 9).residual == 9
    assert move(tape, TapeOperation.TUR) == MotionDone(0, 0, "")
    assert tape.ask(LocateTape("object", 3), MotionDone) == MotionDone(0, 0, "")
    assert tape.ask(GetTapePosition(), TapePosition) == TapePosition(3)
    assert tape.ask(LocateTape("file", 1), MotionDone) == MotionDone(0, 0, "")
    assert tape.ask(LocateTape("object", 1 << 63), MotionDone) == MotionDone(0, 1, "")
    assert tape.ask(GetTapePosition(), TapePosition) == TapePosition(6)
    assert move(tape, 8).error == Error.ILLEGAL_ARGS
    assert move(tape, TapeOperation.OFF) == MotionDone(0, 0, "")
    assert move(tape, TapeOperation.TUR).error == Error.NO_TAPE_LOADED
    assert tape.ask(GetDriveState(), DriveState).file_num is None
    assert tape.ask(GetTapePosition(), TapePosition) == TapePosition(None)
    assert tape.ask(LocateTape("end", 0), MotionDone).error == Error.NO_TAPE_LOADED
    tape.ask(CloseDrive(), Done)
    assert tape.ask(GetTapePosition(), Refused).error == Error.DEV_NOT_OPEN
    assert tape.ask(LocateTape("end", 0), Refused).error == Error.DEV_NOT_OPEN
    assert tap.read(path) == [b"hello", b"world!", None, None, b"next", None]


def test_counts_of_zero_and_too_much(tape: Tape, path: Path) -> None:
    tape.open(path, TapeMode.READ)
    assert tape.write(b"") == RecordDone(0, 0, "")
    assert tape.read(0) == (RecordDone(0, 0, ""), b"")
    assert tape.read(RECORD_BYTES + 1)[0].error == Error.ILLEGAL_ARGS
    assert tape.read(0x80000000)[0].error == Error.ILLEGAL_ARGS
    assert tape.write(b"x").error == Error.PERMISSION
    assert move(tape, TapeOperation.EOF) == MotionDone(
        Error.PERMISSION, 1, "drive vtl0/drive0 is open for reading only"
    )
    for operation in (TapeOperation.FSF, TapeOperation.BSF, TapeOperation.FSR, TapeOperation.BSR):
        assert move(tape, operation, 0) == MotionDone(0, 0, "")


def test_early_warning_by_message(tape: Tape, path: Path) -> None:
    tape.open(path, capacity=1000, early_warning=990)
    assert tape.write(b"x" * 50) == RecordDone(0, 50, "")
    assert tape.write(b"x" * 50) == RecordDone(Error.EOM, 0, "early warning")
    assert tape.write(b"x" * 50) == RecordDone(0, 50, "")
    assert move(tape, TapeOperation.EOF, 1).error == 0
    full = tape.write(b"x" * 900)
    assert (full.error, full.count) == (Error.IO, 0)


def test_nothing_open(tape: Tape) -> None:
    assert tape.ask(CloseDrive(), Refused).error == Error.DEV_NOT_OPEN
    assert tape.ask(GetDriveState(), Refused).error == Error.DEV_NOT_OPEN
    assert move(tape, TapeOperation.REW).error == Error.DEV_NOT_OPEN
    assert tape.write(b"x").error == Error.DEV_NOT_OPEN
    assert tape.ask(ReadRecord(10, False), RecordDone).error == Error.DEV_NOT_OPEN
    assert tape.ask(ReadStream(0, 10), Refused).error == Error.ILLEGAL_STATE
    assert tape.ask(StartRelay("send"), Refused).error == Error.ILLEGAL_STATE
    ring = RingControl(64, 4)
    start = StartMover(0, 32, 0, 100, True, MoverPosition(), 4)
    assert tape.ask(start, Refused, *ring.fds).error == Error.DEV_NOT_OPEN
    ring.close()


def test_opens_that_are_refused(tape: Tape, path: Path, tmp_path: Path) -> None:
    def refusal(name: Path | None, mode: int) -> int:
        spec = DriveSpec("vtl0/drive0", None if name is None else str(name), BIG, 0)
        return tape.ask(OpenDrive(spec, mode, False), Refused, tape.memory).error

    assert refusal(path, 123) == Error.ILLEGAL_ARGS
    assert refusal(None, TapeMode.RDWR) == Error.NO_TAPE_LOADED
    assert refusal(tmp_path / "gone.tap", TapeMode.READ) == Error.NO_TAPE_LOADED
    with Tape() as other:
        other.open(path)
        assert refusal(path, TapeMode.READ) == Error.DEVICE_BUSY
        other.ask(CloseDrive(), Done)
    path.chmod(0o444)
    assert refusal(path, TapeMode.RDWR) == Error.WRITE_PROTECT
    assert tape.open(path, TapeMode.RAW).write_protected
    assert refusal(path, TapeMode.READ) == Error.DEVICE_OPENED


def test_movers_that_are_refused(tape: Tape, path: Path) -> None:
    tape.open(path)
    ring = RingControl(64, 4)
    for mode, record_size in ((2, 32), (0, 0), (0, 1000)):
        start = StartMover(mode, record_size, 0, 100, True, MoverPosition(), 4)
        assert tape.ask(start, Refused, *ring.fds).error == Error.ILLEGAL_ARGS
    ring.close()


def test_a_close_that_fails_and_the_second_one(tape: Tape, path: Path) -> None:
    tape.open(path, capacity=12, implicit_filemark=True)
    tape.write(b"abcd")
    assert tape.ask(CloseDrive(), Refused).error == Error.IO
    assert tape.ask(GetDriveState(), DriveState).blockno == 1
    tape.ask(CloseDrive(), Done)
    assert tape.ask(GetDriveState(), Refused).error == Error.DEV_NOT_OPEN
    tape.open(path)


@pytest.mark.slow
def test_filemarks_have_an_end(tape: Tape, path: Path) -> None:
    tape.open(path)
    assert move(tape, TapeOperation.EOF, 65_536).error == Error.NO_ERR
    assert move(tape, TapeOperation.EOF, 65_000).error == Error.NO_ERR
    assert move(tape, TapeOperation.EOF, 1000) == MotionDone(Error.IO, 464, f"cartridge {path} is full")
    assert tape.write(b"more").error == Error.NO_ERR


def test_a_write_that_fails_does_not_keep_the_drive_from_closing(tape: Tape, path: Path) -> None:
    tape.open(path)
    assert tape.write(b"x" * 100).error == Error.NO_ERR
    os.truncate(path, 10)
    assert tape.write(b"y" * 100).error == Error.IO
    tape.ask(CloseDrive(), Refused)
    tape.ask(CloseDrive(), Done)
    assert tape.open(path).warning != ""


def test_a_torn_cartridge_is_reported(tape: Tape, path: Path) -> None:
    path.write_bytes(tap.build([b"one", b"two"])[:-3])
    assert "byte 12 is torn" in tape.open(path, TapeMode.READ).warning
    tape.ask(CloseDrive(), Done)
    spec = DriveSpec("vtl0/drive0", str(path), BIG, 0)
    refused = tape.ask(OpenDrive(spec, TapeMode.RDWR, implicit_filemark=False), Refused, tape.memory)
    assert (refused.error, "it stays as it is" in refused.text) == (Error.IO, True)


def test_a_backup_through_the_worker(tape: Tape, path: Path) -> None:
    data = os.urandom(500_000)
    ring = RingControl(1 << 16, 8)
    tape.open(path, implicit_filemark=True)
    feed(ring, [data[at : at + (1 << 16)] for at in range(0, len(data), 1 << 16)])
    tape.start(ring, MoverMode.READ, 10_240)
    halted = tape.receive(MoverHalted)
    assert (halted.reason, halted.position.bytes_moved) == (HaltReason.CONNECT_CLOSED, len(data))
    tape.ask(CloseDrive(), Done)
    ring.close()
    records = tap.read(path)
    assert records.pop() is None
    assert b"".join(record for record in records if record)[: len(data)] == data


def running(path: Path) -> tuple[Tape, RingControl, Producer]:
    """A worker process whose mover has put a record on tape and waits for more."""
    tape = Tape(process=True)
    tape.open(path)
    ring = RingControl(1 << 16, 4)
    tape.start(ring, MoverMode.READ, 1 << 16)
    producer = Producer(ring.duplicate())
    producer.reserve()
    producer.commit(1 << 16)
    while not ring.gauge("consumer", TapeGauge.RECORDS):
        tape.ask(GetDriveState(), DriveState)
    return tape, ring, producer


def test_a_worker_leaves_when_control_is_gone(path: Path) -> None:
    tape, ring, producer = running(path)
    with producer:
        tape.socket.shutdown(socket.SHUT_RDWR)
        assert tape.process is not None
        assert tape.process.wait(20) == 3
    ring.close()
    with tape, Tape() as successor:
        assert successor.open(path).warning == ""
        assert move(successor, TapeOperation.FSR, 5).residual == 4


@pytest.mark.slow
def test_a_killed_worker_leaves_whole_records(path: Path) -> None:
    """SIGKILL in the midst of writing, several times: what is on tape is a beginning of what was sent."""
    data = os.urandom(1 << 20)
    for attempt in range(5):
        path.write_bytes(b"")
        ring = RingControl(1 << 20, 4)
        with Tape(process=True) as tape:
            tape.open(path)
            feed(ring, [data] * 500, Kind.END)
            tape.start(ring, MoverMode.READ, 1 << 16)
            while ring.gauge("consumer", TapeGauge.RECORDS) < 100 * (attempt + 1):
                tape.ask(GetDriveState(), DriveState)
            assert tape.process is not None
            tape.process.send_signal(signal.SIGKILL)
            tape.process.wait(20)
            ring.conclude(Verdict.BROKEN)
        ring.close()
        with Tape() as successor:
            successor.open(path)
            successor.ask(CloseDrive(), Done)
        found = tap.read(path)
        assert len(found) >= 100 * (attempt + 1)
        step = 1 << 16
        assert all(record == data[at % 16 * step : (at % 16 + 1) * step] for at, record in enumerate(found))
