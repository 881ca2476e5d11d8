"""The tape worker: serves one drive, from OpenDrive to the end of its control socket, or passes CDBs on to one device.

One request at a time, on one thread; while a mover is at work its own loop reads the control socket and hands here
what is not for it.
"""

import mmap
import os

from mover.ring import RingFds
from mover.tape.codes import Error, MoverMode, TapeMode, TapeOperation
from mover.tape.command_port import CommandPort, execute
from mover.tape.drive import Condition, Drive, DriveError, Outcome
from mover.tape.mover_engine import MoverEvent
from mover.tape.mover_from_tape import FromTape, WindowStart
from mover.tape.mover_to_tape import ToTape
from mover.tape.open_drive import open_drive
from mover.tape.transport import TakesCommands
from mover.workers.channel import Channel
from mover.workers.device_messages import CloseDevice, ExecuteCommand, OpenDevice
from mover.workers.messages import Done, FromWorker, Refused, ToWorker
from mover.workers.tape_messages import (
    CloseDrive,
    DriveOpened,
    DriveState,
    GetDriveState,
    GetTapePosition,
    LocateTape,
    MotionDone,
    MoverHalted,
    MoverPaused,
    MoveTape,
    OpenDrive,
    ReadRecord,
    ReadStream,
    RecordDone,
    StartMover,
    StopMover,
    TapePosition,
    WriteRecord,
)

NOT_OPEN = "no tape drive is open"
MOVER_AT_WORK = "the tape is in use by the mover"


class TapeWorker:
    """The state of a tape worker: its drive, the record memory, a mover that paused; or a device that takes CDBs."""

    def __init__(self) -> None:
        self._drive: Drive | None = None
        self._port = CommandPort()
        self._memory: mmap.mmap | None = None
        self._close_failed = False
        self._paused: MoverPaused | None = None
        self._window_start: WindowStart | None = None

    def handle(self, channel: Channel, message: ToWorker) -> None:
        """Serve one message of control."""
        match message:
            case OpenDrive():
                channel.send(self._open(channel, message))
            case CloseDrive():
                channel.send(self._close())
            case GetDriveState():
                channel.send(self._state())
            case MoveTape():
                channel.send(self._move(message))
            case GetTapePosition():
                channel.send(self._position())
            case LocateTape():
                channel.send(self._locate(message))
            case WriteRecord():
                channel.send(self._write(message.length))
            case ReadRecord():
                channel.send(self._read(message))
            case OpenDevice():
                channel.send(self._open_device(channel, message))
            case ExecuteCommand():
                channel.send(self._execute(message))
            case CloseDevice():
                channel.send(self._port.close(message))
            case StartMover():
                self._start_mover(channel, message)
            case ReadStream():
                channel.send(Refused(Error.ILLEGAL_STATE, "no mover is active"))
            case StopMover():
                if self._paused is not None:
                    position, self._paused = self._paused.position, None
                    channel.send(MoverHalted(message.reason, position, "stopped while paused"))
            case _:
                channel.send(_not_served(message))

    def serve_while_moving(self, channel: Channel, message: ToWorker) -> None:
        """Answer a message that came while a mover is at work and is not for the mover."""
        match message:
            case GetDriveState():
                channel.send(self._state())
            case MoveTape():
                channel.send(MotionDone(Error.DEVICE_BUSY, message.count, MOVER_AT_WORK))
            case GetTapePosition() | LocateTape() | ExecuteCommand():
                channel.send(Refused(Error.DEVICE_BUSY, MOVER_AT_WORK))
            case WriteRecord() | ReadRecord():
                channel.send(RecordDone(Error.DEVICE_BUSY, 0, MOVER_AT_WORK))
            case CloseDrive():
                channel.send(Refused(Error.DEVICE_BUSY, MOVER_AT_WORK))
            case OpenDrive():
                channel.send(self._open(channel, message))  # refused: a drive is open
            case StartMover():
                _close_all(channel.take_descriptors(3))
                channel.send(Refused(Error.ILLEGAL_STATE, MOVER_AT_WORK))
            case _:
                channel.send(_not_served(message))

    # --- the drive -------------------------------------------------------------------------------------------

    def _open(self, channel: Channel, message: OpenDrive) -> FromWorker:
        (memory,) = channel.take_descriptors(1)
        try:
            if self._drive is not None:
                return Refused(Error.DEVICE_OPENED, "a tape drive is open already")
            if message.mode not in set(TapeMode):
                return Refused(Error.ILLEGAL_ARGS, f"tape mode {message.mode}")
            record = mmap.mmap(memory, os.fstat(memory).st_size)
            try:
                drive = open_drive(message.drive, TapeMode(message.mode), implicit_filemark=message.implicit_filemark)
            except DriveError as error:
                record.close()
                return Refused(error.error, str(error))
        finally:
            os.close(memory)
        self._drive, self._memory, self._close_failed = drive, record, False
        self._window_start = None
        return DriveOpened(drive.write_protected, drive.warning)

    def _open_device(self, channel: Channel, message: OpenDevice) -> FromWorker:
        (memory,) = channel.take_descriptors(1)
        try:
            return self._port.open(message, memory)
        finally:
            os.close(memory)

    def _execute(self, message: ExecuteCommand) -> FromWorker:
        if self._drive is None or self._memory is None:
            return self._port.execute(message)
        if not isinstance(self._drive, TakesCommands):
            return Refused(Error.NOT_SUPPORTED, "a virtual drive has nobody behind it to do commands")
        return execute(self._drive.transport, self._memory, message)

    def _close(self) -> FromWorker:
        if self._drive is None:
            return Refused(Error.DEV_NOT_OPEN, NOT_OPEN)
        outcome = self._drive.close(force=self._close_failed)
        if outcome.condition is Condition.FAILED and not self._close_failed:
            self._close_failed = True
            return Refused(outcome.error, outcome.text)
        self._drive = self._memory = self._window_start = None
        return Done()

    def _state(self) -> FromWorker:
        if self._drive is None:
            return Refused(Error.DEV_NOT_OPEN, NOT_OPEN)
        state = self._drive.state()
        return DriveState(
            flags=int(state.flags),
            file_num=state.position.file_num,
            blockno=state.position.blockno,
            block_size=state.block_size,
            soft_errors=state.soft_errors,
            total_space=state.total_space,
            space_remain=state.space_remain,
        )

    def _move(self, message: MoveTape) -> MotionDone:
        if self._drive is None:
            return MotionDone(Error.DEV_NOT_OPEN, message.count, NOT_OPEN)
        drive, count = self._drive, message.count
        match message.operation:
            case TapeOperation.FSF:
                outcome = drive.space_files(count)
            case TapeOperation.BSF:
                outcome = drive.space_files(-count)
            case TapeOperation.FSR:
                outcome = drive.space_records(count, crosses_filemark=message.crosses_filemark)
            case TapeOperation.BSR:
                outcome = drive.space_records(-count, crosses_filemark=message.crosses_filemark)
            case TapeOperation.EOF:
                outcome = drive.write_filemarks(count)
            case TapeOperation.REW:
                outcome, count = drive.rewind(), 0
            case TapeOperation.OFF:
                outcome, count = drive.unload(), 0
            case TapeOperation.TUR:
                outcome, count = drive.test_ready(), 0
            case _:
                return MotionDone(Error.ILLEGAL_ARGS, count, f"tape operation {message.operation}")
        return MotionDone(outcome.error, max(0, count - outcome.done), outcome.text)

    def _position(self) -> FromWorker:
        if self._drive is None:
            return Refused(Error.DEV_NOT_OPEN, NOT_OPEN)
        return TapePosition(self._drive.objects())

    def _locate(self, message: LocateTape) -> FromWorker:
        if self._drive is None:
            return Refused(Error.DEV_NOT_OPEN, NOT_OPEN)
        outcome = self._drive.locate(message.unit, message.number)
        residual = int(outcome.condition is Condition.END_OF_DATA)
        return MotionDone(outcome.error, residual, outcome.text)

    def _write(self, length: int) -> RecordDone:
        if self._drive is None or self._memory is None:
            return RecordDone(Error.DEV_NOT_OPEN, 0, NOT_OPEN)
        if length == 0:
            return RecordDone(Error.NO_ERR, 0, "")
        if not 0 < length <= len(self._memory):
            return RecordDone(Error.ILLEGAL_ARGS, 0, f"a record of {length} bytes, at most {len(self._memory)}")
        with memoryview(self._memory) as memory, memory[:length] as view:
            outcome = self._drive.write_records(view, length)
        if outcome.condition is Condition.EARLY_WARNING:
            return RecordDone(Error.EOM, 0, "early warning")
        return RecordDone(outcome.error, length * outcome.done, outcome.text)

    def _read(self, message: ReadRecord) -> RecordDone:
        if self._drive is None or self._memory is None:
            return RecordDone(Error.DEV_NOT_OPEN, 0, NOT_OPEN)
        if message.count == 0:
            return RecordDone(Error.NO_ERR, 0, "")
        if not 0 < message.count <= len(self._memory):
            return RecordDone(Error.ILLEGAL_ARGS, 0, f"{message.count} bytes, at most {len(self._memory)}")
        with memoryview(self._memory) as memory, memory[: message.count] as view:
            outcome = self._drive.read_record(view, crosses_filemark=message.crosses_filemark)
        return _record_read(outcome, message)

    # --- the mover -------------------------------------------------------------------------------------------

    def _start_mover(self, channel: Channel, message: StartMover) -> None:
        descriptors = channel.take_descriptors(3)
        drive = self._drive
        if drive is None or message.mode not in set(MoverMode) or message.record_size <= 0:
            _close_all(descriptors)
            error = Error.DEV_NOT_OPEN if drive is None else Error.ILLEGAL_ARGS
            text = NOT_OPEN if drive is None else f"mover mode {message.mode}, records of {message.record_size} bytes"
            channel.send(Refused(error, text))
            return

        def serve(other: ToWorker) -> None:
            self.serve_while_moving(channel, other)

        fds = RingFds(*descriptors)
        mover: ToTape | FromTape
        try:
            if message.mode == MoverMode.READ:
                mover = ToTape(channel, drive, message, serve, fds)
            else:
                mover = FromTape(channel, drive, message, serve, fds, self._window_start)
                self._window_start = mover.window_start
        except (ValueError, OSError) as error:
            channel.send(Refused(Error.ILLEGAL_ARGS, str(error)))
            return
        self._paused = None
        channel.send(Done())
        event: MoverEvent = mover.run()
        self._paused = event if isinstance(event, MoverPaused) else None
        channel.send(event)


def _record_read(outcome: Outcome, message: ReadRecord) -> RecordDone:
    match outcome.condition:
        case Condition.FILEMARK:
            return RecordDone(Error.EOF, 0, "filemark")
        case Condition.END_OF_DATA:
            # Versions 2 and 3, the ones that pass filemarks, have no other name for the end of data (states.md 5.6).
            return RecordDone(Error.EOF if message.crosses_filemark else Error.EOM, 0, "end of recorded data")
        case _:
            return RecordDone(outcome.error, outcome.done, outcome.text)


def _not_served(message: ToWorker) -> Refused:
    return Refused(Error.ILLEGAL_STATE, f"a tape worker does not serve {type(message).__name__}")


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)
