"""The medium in a drive by CDBs, and where it stands: opening, settings, what each operation begins and ends with.

Source: SSC-4 4.2, 7.5, 8.3; SPC-4 5.10, 7.4; states.md sections 5.2 and 5.8.
"""

import time
from enum import Enum, IntEnum
from typing import Final

from mover.tape.codes import Error, TapeFlag, TapeMode
from mover.tape.drive import Condition, DriveError, Outcome, Position, State
from mover.tape.drive_logs import DriveLogs
from mover.tape.logical_unit import LENGTH_MAX, Answer, LogicalUnit
from mover.tape.sense import Meaning
from mover.tape.tape_count import TapeCount
from mover.tape.transport import Transport
from mover.workers.device_messages import DeviceSpec

READY_S: Final = 180.0  # how long a cartridge may be threaded; LTO takes up to two minutes
READY_PAUSE_S: Final = 0.5
SEQUENTIAL_ACCESS: Final = 0x01
_BOP, _UNKNOWN = 0x80, 0x04  # READ POSITION, SSC-4 7.5
_NO_MARKS: Final = 0x08
_WRITE_PROTECT: Final = 0x80
_NO_CHANGE: Final = 0x7F  # density code: leave it
DONE: Final = Outcome(0)


class Mark(Enum):
    """A filemark, where else a record may stand."""

    AHEAD = "a filemark"


class EarlyWarning(IntEnum):
    """How far the report of early warning has come."""

    NONE = 0
    DUE = 1  # the write that came into early warning was answered as any other
    TOLD = 2


_NO_MEDIUM: Final = frozenset({Meaning.NO_MEDIUM, Meaning.NOT_READY, Meaning.BECOMING_READY})


class ScsiMedium:
    """A drive and the medium in it; see ScsiDrive."""

    def __init__(self, transport: Transport, spec: DeviceSpec, mode: TapeMode, *, implicit_filemark: bool) -> None:
        self._unit = LogicalUnit(transport, f"drive {spec.name}", spec.timeout_s)
        self._name = f"drive {spec.name}"
        self._mode = mode
        self._implicit_filemark = implicit_filemark
        self._block_size = spec.block_size
        self._read_max = LENGTH_MAX
        self._count = TapeCount()
        self._ahead: Mark | bytes | None = None
        self._protected = self._empty = self._unloaded = self._tells = self._reserved = False
        self._mark_due = self._unsynced = self._media_error = False
        self._early = EarlyWarning.NONE
        self._blockno_is_told = True
        self._doubt = ""  # why what the drive had in its buffer may be lost, though it says no more of it
        self._loss_is_told = False  # who works with the drive knows of ``LogicalUnit.lost``
        self._overcome = 0
        self.warning = ""
        try:
            self._open()
        except BaseException:
            self._unit.close()
            raise

    def _open(self) -> None:
        answer, data = self._unit.inquire()
        if answer.lost:
            answer, data = self._unit.inquire()  # the attention is told once
        if answer.error or len(data) < 36:
            raise DriveError(answer.error or Error.IO, answer.text or f"{self._name}: no INQUIRY data")
        if data[0] & 0x1F != SEQUENTIAL_ACCESS:
            raise DriveError(Error.IO, f"{self._name}: no tape drive but a device of type {data[0] & 0x1F:#04x}")
        reserved = self._unit.reserve()
        if reserved.error == Error.DEVICE_BUSY:
            raise DriveError(Error.DEVICE_BUSY, reserved.text)
        self._reserved = not reserved.error  # many have only the persistent kind: then it is nobody's
        refusal = self._take_medium()
        if refusal is not None and (refusal.error != Error.NO_TAPE_LOADED or self._mode != TapeMode.RAW):
            self._release()
            raise DriveError(refusal.error, refusal.text)
        if self._protected and self._mode == TapeMode.RDWR:
            self._release()
            raise DriveError(Error.WRITE_PROTECT, f"{self._name}: the cartridge is write protected")
        self._logs = DriveLogs(self._unit)
        self.warning = self._logs.alerts()
        self._unit.deferred = ""  # of who had it before

    def _release(self) -> None:
        if self._reserved:
            self._unit.release()
        self._reserved = False

    def _take_medium(self) -> Outcome | None:
        """Look at the medium and set the drive to our blocks; None = done, else why not."""
        self._count.forget(medium=True)
        self._ahead, self._empty, self._loss_is_told = None, True, False
        answer = self._wait_ready()
        if answer.error:
            error = answer.error
            if answer.meaning in _NO_MEDIUM:
                error, self._unit.lost = Error.NO_TAPE_LOADED, ""
            return Outcome(0, Condition.FAILED, error, answer.text)
        self._unit.lost = ""
        answer = self._set_blocks()
        if answer.error:
            return Outcome(0, Condition.FAILED, answer.error, answer.text)
        self._empty = self._unloaded = False
        self._unit.moved = False
        self._early = EarlyWarning.NONE
        self._look()
        return None

    def _wait_ready(self) -> Answer:
        deadline = time.monotonic() + READY_S
        while True:
            answer = self._unit.test_ready()
            waits = answer.meaning is Meaning.BECOMING_READY or (answer.lost and answer.sense is not None)
            if not waits or time.monotonic() > deadline:
                return answer
            if answer.meaning is Meaning.BECOMING_READY:
                time.sleep(READY_PAUSE_S)  # SPC-4 5.10: it is to be asked again

    def _set_blocks(self) -> Answer:
        """Block size and protection (SPC-4 7.4.3, SSC-4 8.3); what differs is set anew, and looked at again."""
        for attempt in range(2):
            answer, data = self._unit.mode_sense()
            if answer.error:
                return answer
            if len(data) < 12 or data[3] < 8:
                return self._odd("no block descriptor")
            self._protected = bool(data[2] & _WRITE_PROTECT)
            if int.from_bytes(data[9:12]) == self._block_size:
                break
            if attempt:
                return self._odd(f"it stays at blocks of {int.from_bytes(data[9:12])} bytes")
            buffered = data[2] & 0x70
            parameters = bytes([0, 0, buffered, 8, _NO_CHANGE, 0, 0, 0, 0, *self._block_size.to_bytes(3)])
            answer = self._unit.mode_select(parameters)
            if answer.error:
                # Not all know the code for "no change": then the density that it has.
                answer = self._unit.mode_select(parameters[:4] + data[4:5] + parameters[5:])
            if answer.error:
                wanted = f"blocks of {self._block_size} bytes" if self._block_size else "variable blocks"
                return answer._replace(text=f"{answer.text}; {wanted} cannot be set")
        answer, data = self._unit.block_limits()
        self._read_max = int.from_bytes(data[1:4]) or LENGTH_MAX if len(data) >= 4 else LENGTH_MAX
        return Answer()

    def _odd(self, text: str) -> Answer:
        return Answer(Meaning.OTHER, Error.IO, f"{self._name}: {text}")

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def transport(self) -> Transport:
        """For commands of others; what they mean for the tape's place is noticed."""
        return self._unit

    @property
    def write_protected(self) -> bool:
        return self._protected

    def position(self) -> Position:
        return Position(None, None) if self._empty or self._unit.lost else self._count.position

    def objects(self) -> int | None:
        return None if self._empty or self._unit.lost else self._count.objects

    def state(self) -> State:
        """See Drive.state; sizes are the native capacity, where the drive tells it."""
        flags = TapeFlag.NOREWIND
        if self._protected:
            flags |= TapeFlag.WR_PROT
        if self._media_error or self._unit.lost:
            flags |= TapeFlag.ERROR
        if self._empty:
            return State(flags, Position(None, None), self._block_size, 0, None, None)
        position = self.position()
        if not self._blockno_is_told:
            position = Position(position.file_num, None)
        capacity = self._logs.capacity()
        soft_errors = self._overcome + self._logs.soft_errors()
        return State(flags, position, self._block_size, soft_errors, capacity.total, capacity.remaining)

    # --- what every operation begins and ends with --------------------------------------------------------------------

    def _begin(self, *, writes: bool = False) -> Outcome | None:
        """Why it cannot be done, or None; a new operation clears what the last one left in the flags."""
        self._media_error = False
        self._blockno_is_told = True
        if self._empty and not self._medium_came():
            return Outcome(0, Condition.FAILED, Error.NO_TAPE_LOADED, f"{self._name} has no tape loaded")
        if self._unit.lost:
            self._loss_is_told = True
            text = f"{self._unit.lost}; where the tape stands is not known until it is rewound"
            return Outcome(0, Condition.FAILED, Error.IO, text)
        if self._unit.deferred:
            return self._failed_before()
        if self._unit.moved:
            self._unit.moved = False
            self._ahead = None
            self._count.forget()
            self._look()
        if writes and self._mode == TapeMode.READ:
            return Outcome(0, Condition.FAILED, Error.PERMISSION, f"{self._name} is open for reading only")
        if writes and self._protected:
            return Outcome(0, Condition.FAILED, Error.WRITE_PROTECT, f"{self._name}: the cartridge is write protected")
        return None

    def _medium_came(self) -> bool:
        """Whether there is a medium now; of one that was unloaded the drive has to say that it was changed."""
        answer = self._unit.test_ready()
        if answer.error and not (answer.lost and answer.sense is not None):
            return False
        if self._unloaded and answer.meaning is not Meaning.MEDIUM_CHANGED:
            self._unit.lost = ""
            return False
        return self._take_medium() is None

    def _look(self, *, after_error: bool = False) -> None:
        """Ask the drive where it stands. Where it does not tell, the own count holds, but not ``after_error``.

        The short form says whether it knows; the long one counts filemarks too, and has to agree with it: drives
        without it have been seen to answer with the length of the data in the place of the flags.
        """
        self._on_medium: int | None = None
        answer, data = self._unit.position(long=False)
        self._tells = not answer.error and len(data) >= 20 and not data[0] & _UNKNOWN
        if not self._tells:
            if after_error:
                self._count.forget()
            return
        objects, self._on_medium = int.from_bytes(data[4:8]), int.from_bytes(data[8:12])
        if data[0] & _BOP and not objects:
            self._count.to_beginning()
            return
        file: int | None = None
        answer, data = self._unit.position(long=True)
        if not answer.error and len(data) >= 32 and not data[0] & (_UNKNOWN | _NO_MARKS):
            number = int.from_bytes(data[8:16])
            if number & 0xFFFF_FFFF == objects:
                objects, file = number, int.from_bytes(data[16:24])
        self._count.told(objects, file)

    def _note(self, answer: Answer) -> None:
        if answer.recovered:
            self._overcome += 1

    def _failed_before(self) -> Outcome:
        """A command beside (LOG SENSE, another's CDB) met the error of an earlier write: it is told here, once."""
        answer = Answer(Meaning.OTHER, Error.IO, self._unit.deferred)
        self._look(after_error=True)
        return self._failed(0, answer)

    def _failed(self, done: int, answer: Answer) -> Outcome:
        """Whatever the device says: what was to be done and was not is an error."""
        self._media_error = True
        if answer.lost:
            self._count.forget()
            self._loss_is_told = True
        alerts = "" if self._unit.lost else self._logs.alerts()
        before, self._unit.deferred = self._unit.deferred, ""
        words = [answer.text or f"{self._name}: {answer.meaning.words}", before, alerts]
        text = "; ".join(dict.fromkeys(each for each in words if each))
        return Outcome(done, Condition.FAILED, answer.error or Error.IO, text)
