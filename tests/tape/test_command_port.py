"""Commands that a tape worker passes on to a device, and what it makes of their ends."""

import os
from collections.abc import Iterator

import pytest

from mover.tape import command_port
from mover.tape.codes import Error
from mover.tape.drive import DriveError
from mover.tape.transport import Reply, TransportError
from mover.workers.device_messages import (
    CloseDevice,
    CommandDone,
    DeviceOpened,
    DeviceSpec,
    ExecuteCommand,
    OpenDevice,
)
from mover.workers.messages import Done, FromWorker, Refused
from tests.tape.control import RECORD_BYTES, Tape

SPEC = DeviceSpec("mc0", "iscsi://127.0.0.1/iqn.2026-01.test:vtl/3")
INQUIRY = bytes.fromhex("12 00 00 00 60 00")


class Device:
    """A transport: remembers what it was given, and answers as it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, bytes | None, float]] = []
        self.reply: Reply | TransportError = Reply(0, b"", 0)
        self.data = b""
        self.closed = False

    def execute(self, cdb: bytes, data: memoryview | None = None, *, writes: bool = False, timeout_s: float) -> Reply:
        self.seen.append((cdb, bytes(data) if data is not None and writes else None, timeout_s))
        if data is not None and not writes:
            data[: len(self.data)] = self.data
        if isinstance(self.reply, TransportError):
            raise self.reply
        return self.reply

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setattr(command_port, "open_transport", lambda _: device)
    return device


@pytest.fixture
def tape() -> Iterator[Tape]:
    with Tape() as worker:
        yield worker


def opened(tape: Tape) -> None:
    assert tape.ask(OpenDevice(SPEC), DeviceOpened, tape.memory) == DeviceOpened()


def done(tape: Tape, cdb: bytes, length: int = 0, *, writes: bool = False) -> FromWorker:
    tape.send(ExecuteCommand(cdb, length, writes, 7.5))
    return tape.next()


def test_data_comes_in_and_goes_out(tape: Tape, device: Device) -> None:
    opened(tape)
    device.data, device.reply = b"answer", Reply(0, b"", 6)
    assert done(tape, INQUIRY, 96) == CommandDone(0, b"", 6)
    assert os.pread(tape.memory, 6, 0) == b"answer"
    os.pwrite(tape.memory, b"parameters and more", 0)
    device.reply = Reply(0, b"", 10)
    assert done(tape, b"\x15\x10\0\0\x0a\0", 10, writes=True) == CommandDone(0, b"", 10)
    device.reply = Reply(0, b"", 0)
    assert done(tape, bytes(6)) == CommandDone(0, b"", 0)
    assert device.seen == [(INQUIRY, None, 7.5), (b"\x15\x10\0\0\x0a\0", b"parameters", 7.5), (bytes(6), None, 7.5)]
    assert tape.ask(CloseDevice(), Done) == Done()
    assert device.closed
    assert tape.ask(CloseDevice(), Done) == Done()


def test_sense_comes_with_check_condition_only(tape: Tape, device: Device) -> None:
    opened(tape)
    device.reply = Reply(2, b"\x70\0\x05", 0)
    assert done(tape, INQUIRY, 96) == CommandDone(2, b"\x70\0\x05", 0)
    device.reply = Reply(0x18, b"left over", 0)
    assert done(tape, INQUIRY, 96) == CommandDone(0x18, b"", 0)
    device.reply = Reply(0, b"", 1 << 30)  # more than there was room for
    assert done(tape, INQUIRY, 96) == CommandDone(0, b"", 96)


def test_what_did_not_reach_the_device(tape: Tape, device: Device) -> None:
    opened(tape)
    device.reply = TransportError("no answer within 7.5 s", timed_out=True)
    assert done(tape, bytes(6)) == Refused(Error.TIMEOUT, "no answer within 7.5 s")
    device.reply = TransportError("the target has gone")
    assert done(tape, bytes(6)) == Refused(Error.IO, "the target has gone")


def test_refusals(tape: Tape, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    assert done(tape, bytes(6)) == Refused(Error.DEV_NOT_OPEN, "no device is open")
    opened(tape)
    assert tape.ask(OpenDevice(SPEC), Refused, tape.memory).error == Error.DEVICE_OPENED
    for length in (-1, RECORD_BYTES + 1):
        assert done(tape, INQUIRY, length) == Refused(
            Error.ILLEGAL_ARGS, f"{length} bytes of data, at most {RECORD_BYTES}"
        )
    assert device.seen == []
    tape.ask(CloseDevice(), Done)

    def fails(_: DeviceSpec) -> Device:
        raise DriveError(Error.DEVICE_BUSY, "mc0: somebody has it")

    monkeypatch.setattr(command_port, "open_transport", fails)
    assert tape.ask(OpenDevice(SPEC), Refused, tape.memory) == Refused(Error.DEVICE_BUSY, "mc0: somebody has it")
