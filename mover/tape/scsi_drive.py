"""A real tape drive, driven by CDBs: every operation of the drive door by the stream commands.

Two kinds of drive are told apart by what they do, never by name. One *tells* where it stands (READ POSITION): it spaces
by counts and is asked afterwards. The other is counted along with, and spaces by single records and marks, since what
it makes of a count is not known: some run over filemarks, or do not say how far they came. A record is taken as read
only if all of it came: some lose the end of one that is shorter than what was asked for; then it is read once more by
its exact size.

What was read and is not passed yet, a mark or a record of another size than wanted, lies *ahead*: the tape is behind
it, and for the rest of the world in front of it. So a mark that is met again and again costs no motion.

After a unit attention, or when the way to the drive breaks, nobody knows where the tape stands or which it is: all but
REWIND and UNLOAD fail until one of them has made it known again.

Source: SSC-4 4.2, 5, 6, 7; states.md section 5.
"""

import time
from enum import Enum, IntEnum
from typing import Final

from mover.tape.codes import Error, TapeFlag, TapeMode
from mover.tape.drive import Condition, DriveError, Outcome, Position, State, Unit
from mover.tape.drive_logs import DriveLogs
from mover.tape.logical_unit import BLOCKS, COUNT_MAX, END_OF_DATA, FILEMARKS, LENGTH_MAX, Answer, LogicalUnit
from mover.tape.sense import Meaning
from mover.tape.tape_count import TapeCount
from mover.tape.transport import Transport
from mover.workers.device_messages import DeviceSpec

READY_S: Final = 180.0  # how long a cartridge may be threaded; LTO takes up to two minutes
READY_PAUSE_S: Final = 0.5
FILEMARKS_MAX: Final = 65_536  # of one request, as on a virtual drive
SEQUENTIAL_ACCESS: Final = 0x01
_BOP, _UNKNOWN = 0x80, 0x04  # READ POSITION, SSC-4 7.5
_NO_MARKS: Final = 0x08
_WRITE_PROTECT: Final = 0x80
_NO_CHANGE: Final = 0x7F  # density code: leave it
_DONE: Final = Outcome(0)


class _Mark(Enum):
    AHEAD = "a filemark"


class _Warning(IntEnum):
    NONE = 0
    DUE = 1  # the write that came into early warning was answered as any other
    TOLD = 2


_NO_MEDIUM: Final = frozenset({Meaning.NO_MEDIUM, Meaning.NOT_READY, Meaning.BECOMING_READY})


class ScsiDrive:
    """A drive behind ``transport``; see :class:`mover.tape.drive.Drive` for the operations.

    Raises:
        DriveError: it cannot be opened so; the transport is closed then.
    """

    def __init__(self, transport: Transport, spec: DeviceSpec, mode: TapeMode, *, implicit_filemark: bool) -> None:
        self._unit = LogicalUnit(transport, f"drive {spec.name}", spec.timeout_s)
        self._name = f"drive {spec.name}"
        self._mode = mode
        self._implicit_filemark = implicit_filemark
        self._block_size = spec.block_size
        self._read_max = LENGTH_MAX
        self._count = TapeCount()
        self._ahead: _Mark | bytes | None = None
        self._protected = self._empty = self._unloaded = self._tells = self._reserved = False
        self._mark_due = self._unsynced = self._media_error = False
        self._early = _Warning.NONE
        self._blockno_is_told = True
        self._overcome = 0
        self.warning = ""
        try:
            self._open()
        except BaseException:
            self._unit.close()
            raise

    # --- opening --------------------------------------------------------------------------------------------

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

    def _release(self) -> None:
        if self._reserved:
            self._unit.release()
        self._reserved = False

    def _take_medium(self) -> Outcome | None:
        """Look at the medium and set the drive to our blocks; None = done, else why not."""
        self._count.forget(medium=True)
        self._ahead, self._empty = None, True
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
        self._early = _Warning.NONE
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

    # --- what it is -----------------------------------------------------------------------------------------

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

    # --- writing --------------------------------------------------------------------------------------------

    def write_records(self, view: memoryview, record_size: int) -> Outcome:
        refusal = self._begin(writes=True) or self._settle()
        if refusal is not None:
            return refusal
        size = self._block_size
        if size and record_size % size:
            text = f"{self._name}: a record of {record_size} bytes in blocks of {size}"
            return Outcome(0, Condition.FAILED, Error.ILLEGAL_ARGS, text)
        if record_size > LENGTH_MAX:
            return Outcome(0, Condition.FAILED, Error.ILLEGAL_ARGS, f"{self._name}: a record of {record_size} bytes")
        blocks = record_size // size if size else 0
        done = 0
        for at in range(0, len(view) // record_size * record_size, record_size):
            if self._early is _Warning.DUE:
                self._early = _Warning.TOLD
                return Outcome(done, Condition.EARLY_WARNING)
            answer = self._unit.write(view[at : at + record_size], blocks=blocks)
            self._note(answer)
            if answer.meaning is Meaning.EARLY_WARNING:
                left = answer.information or 0
                if left > 0 and (left < (blocks or record_size) or self._early is _Warning.TOLD):
                    return self._write_failed(done, answer, "end of medium")
                self._early = max(self._early, _Warning.TOLD if left > 0 else _Warning.DUE)
                if left > 0:  # nothing of this one is written
                    return Outcome(done, Condition.EARLY_WARNING)
            elif answer.meaning is not Meaning.NOTHING:
                return self._write_failed(done, answer)
            self._count.wrote_records(blocks or 1)
            self._mark_due = self._unsynced = True
            done += 1
        return Outcome(done)

    def _write_failed(self, done: int, answer: Answer, words: str = "") -> Outcome:
        """How much of what it took before the drive has lost with its buffer, it may say (SSC-4 7.5)."""
        text = answer.text or f"{self._name}: {words or answer.meaning.words}"
        counted = self._count.objects
        self._look(after_error=True)
        kept = self._on_medium
        if counted is not None and kept is not None and kept < counted:
            text += f"; {counted - kept} of the blocks and marks before it did not come onto the tape"
        return self._failed(done, answer._replace(text=text))

    def write_filemarks(self, count: int) -> Outcome:
        refusal = self._begin(writes=True)
        if refusal is not None:
            return refusal
        if count <= 0:
            return _DONE
        if count > FILEMARKS_MAX:
            return Outcome(0, Condition.FAILED, Error.ILLEGAL_ARGS, f"{count} filemarks, at most {FILEMARKS_MAX}")
        return self._settle() or self._write_marks(count)

    def _write_marks(self, count: int) -> Outcome:
        answer = self._unit.write_filemarks(count)
        self._note(answer)
        if answer.meaning not in {Meaning.NOTHING, Meaning.EARLY_WARNING} or (answer.information or 0) > 0:
            return self._write_failed(0, answer)
        if answer.meaning is Meaning.EARLY_WARNING:
            self._early = max(self._early, _Warning.DUE)
        self._count.wrote_marks(count)
        self._mark_due = self._unsynced = False
        return Outcome(count)

    def _write_due_mark(self) -> Outcome:
        """The implicit filemark, behind the data where writing ended.

        Deviates: as the virtual drive's, it is written before REW, OFF and CLOSE only (states.md 5.9 item 6).
        """
        if not (self._implicit_filemark and self._mark_due):
            return _DONE
        if not self._count.at_end:
            outcome = self._to_end()
            if outcome.condition is not Condition.NONE:
                return outcome
        outcome = self._write_marks(1)
        return outcome if outcome.condition is Condition.FAILED else _DONE

    # --- reading --------------------------------------------------------------------------------------------

    def read_records(self, view: memoryview, record_size: int) -> Outcome:
        refusal = self._begin()
        if refusal is not None:
            return refusal
        if self._ahead is _Mark.AHEAD:
            return Outcome(0, Condition.FILEMARK)
        size = self._block_size
        if self._ahead is not None and len(self._ahead) == record_size <= len(view):
            view[:record_size], self._ahead = self._ahead, None
            self._count.by_records(1)
            return Outcome(1, record_length=record_size)
        if self._ahead is not None or record_size > self._read_max or (size and record_size % size):
            return _DONE
        blocks = record_size // size if size else 0
        done = 0
        for at in range(0, len(view) // record_size * record_size, record_size):
            part = view[at : at + record_size]
            answer = self._unit.read(part, blocks=blocks)
            if self._is_whole(answer, len(part)):
                self._count.by_records(blocks or 1)
                done += 1
                continue
            ended = self._read_other(answer, part, done, blocks)
            return (
                ended if not done or ended.condition is Condition.FAILED else Outcome(done, record_length=record_size)
            )
        return Outcome(done, record_length=record_size)

    def _read_other(self, answer: Answer, part: memoryview, done: int, blocks: int) -> Outcome:
        """A read did not bring a record of the size wanted: what it met is in front of the tape again, or ahead."""
        self._note(answer)
        if answer.sense is not None and answer.sense.ili and not answer.error:
            length = self._length(answer, len(part))
            if blocks or length is None:
                return self._odd_block(done, answer)
            if length < len(part) and answer.transferred >= length:
                self._ahead = bytes(part[:length])
                return Outcome(done)
            return self._step_back(BLOCKS, 1, done)
        if answer.meaning is Meaning.FILEMARK:
            got = blocks - (answer.information or blocks) if blocks else 0
            if got > 0:  # a last record that is shorter
                outcome = self._step_back(FILEMARKS, 1, done)
                return outcome if outcome.condition is Condition.FAILED else self._step_back(BLOCKS, got, done)
            self._ahead = _Mark.AHEAD
            return Outcome(done, Condition.FILEMARK)
        if answer.meaning in {Meaning.END_OF_DATA, Meaning.END_OF_MEDIUM}:
            got = blocks - (answer.information or blocks) if blocks else 0
            if got > 0:
                return self._step_back(BLOCKS, got, done)
            self._count.is_end()
            return Outcome(done, Condition.END_OF_DATA)
        return self._read_failed(done, answer)

    def read_record(self, view: memoryview, *, crosses_filemark: bool) -> Outcome:
        refusal = self._begin()
        if refusal is not None:
            return refusal
        if self._ahead is _Mark.AHEAD:
            return self._mark_read(crosses=crosses_filemark)
        if self._ahead is not None:
            record, self._ahead = self._ahead, None
            count = min(len(record), len(view))
            view[:count] = record[:count]
            self._count.by_records(1)
            return Outcome(count, record_length=len(record))
        if self._block_size:
            return self._read_blocks(view, crosses=crosses_filemark)
        view = view[: self._read_max]
        answer = self._unit.read(view)
        if self._is_whole(answer, len(view)):
            self._count.by_records(1)
            return Outcome(len(view), record_length=len(view))
        self._note(answer)
        if answer.sense is not None and answer.sense.ili and not answer.error:
            return self._read_odd(view, answer)
        return self._nothing_read(answer, crosses=crosses_filemark)

    def _read_odd(self, view: memoryview, answer: Answer) -> Outcome:
        """A record of another length than asked for; read again by its own where the drive did not give all of it."""
        length = self._length(answer, len(view))
        if length is None:
            return self._odd_block(0, answer)
        count = min(length, len(view))
        if answer.transferred < count:
            outcome = self._step_back(BLOCKS, 1, 0)
            if outcome.condition is Condition.FAILED:
                return outcome
            with memoryview(bytearray(length)) as exact:
                answer = self._unit.read(exact)
                if not self._is_whole(answer, length):
                    return self._read_failed(0, answer)
                view[:count] = exact[:count]
        self._count.by_records(1)
        return Outcome(count, record_length=length)

    def _read_blocks(self, view: memoryview, *, crosses: bool) -> Outcome:
        """Fixed blocks: as many as fit; what ends them early is told by the next read (states.md 5.6)."""
        size = self._block_size
        blocks = min(len(view) // size, LENGTH_MAX)
        if not blocks:
            text = f"{self._name}: {len(view)} bytes of blocks of {size}"
            return Outcome(0, Condition.FAILED, Error.ILLEGAL_ARGS, text)
        view = view[: blocks * size]
        answer = self._unit.read(view, blocks=blocks)
        if self._is_whole(answer, len(view)):
            self._count.by_records(blocks)
            return Outcome(len(view), record_length=len(view))
        self._note(answer)
        if answer.sense is not None and answer.sense.ili and not answer.error:
            return self._odd_block(0, answer)
        left = blocks if answer.information is None else answer.information
        if not 0 < left < blocks or answer.meaning not in {Meaning.FILEMARK, Meaning.END_OF_DATA}:
            return self._nothing_read(answer, crosses=crosses)
        self._count.by_records(blocks - left)
        if answer.meaning is Meaning.FILEMARK:
            self._ahead = _Mark.AHEAD
        else:
            self._count.is_end()
        got = (blocks - left) * size
        return Outcome(got, record_length=got)

    def _nothing_read(self, answer: Answer, *, crosses: bool) -> Outcome:
        if answer.meaning is Meaning.FILEMARK:
            self._ahead = _Mark.AHEAD
            return self._mark_read(crosses=crosses)
        if answer.meaning in {Meaning.END_OF_DATA, Meaning.END_OF_MEDIUM}:
            self._count.is_end()
            return Outcome(0, Condition.END_OF_DATA)
        return self._read_failed(0, answer)

    def _is_whole(self, answer: Answer, length: int) -> bool:
        """Whether all that was asked for came; early warning means nothing to who reads."""
        if answer.meaning not in {Meaning.NOTHING, Meaning.EARLY_WARNING} or answer.transferred != length:
            return False
        if answer.recovered:
            self._overcome += 1
        return answer.sense is None or not answer.sense.ili

    @staticmethod
    def _length(answer: Answer, asked: int) -> int | None:
        """Of a record that is shorter or longer than asked for; None = the drive does not say, or it cannot be."""
        if answer.information is None:
            return None
        length = asked - answer.information
        return length if 0 < length <= LENGTH_MAX else None

    def _odd_block(self, done: int, answer: Answer) -> Outcome:
        wanted = f"{self._block_size} bytes" if self._block_size else "a length that the drive tells"
        text = f"{self._name}: the block here is not one of {wanted}"
        return self._read_failed(done, answer._replace(error=Error.IO, text=text))

    def _read_failed(self, done: int, answer: Answer) -> Outcome:
        """Where the tape stands after a failure is not known, unless the drive tells."""
        if not answer.error:
            text = f"{self._name}: {answer.transferred} bytes came of a record that was to be whole"
            answer = answer._replace(error=Error.IO, text=answer.text or text)
        self._look(after_error=True)
        return self._failed(done, answer)

    def _at_mark(self, done: int, *, crosses: bool) -> Outcome:
        if crosses:
            self._ahead = None
            self._count.over_mark()
        return Outcome(done, Condition.FILEMARK)

    def _mark_read(self, *, crosses: bool) -> Outcome:
        # As on a virtual drive: clients that test drives insist on "unknown" (states.md 5.9 item 7).
        self._blockno_is_told = crosses
        return self._at_mark(0, crosses=crosses)

    # --- motion ---------------------------------------------------------------------------------------------

    def space_files(self, count: int) -> Outcome:
        refusal = self._begin()
        if refusal is not None or count == 0:
            return refusal or _DONE
        done = 0
        if self._ahead is _Mark.AHEAD:
            if count < 0:
                refusal = self._settle()
                if refusal is not None:
                    return refusal
            else:
                self._ahead, done = None, 1
                self._count.over_mark()
        elif self._ahead is not None:
            self._ahead = None
            self._count.by_records(1)
        return self._files_back(-count) if count < 0 else self._files_on(count, done)

    def _files_on(self, count: int, done: int) -> Outcome:
        while done < count:
            step = min(count - done, COUNT_MAX) if self._tells else 1
            answer = self._unit.space(FILEMARKS, step)
            self._note(answer)
            passed = step if answer.meaning is Meaning.NOTHING else step - (answer.information or step)
            file = self._count.file
            if answer.meaning not in {Meaning.NOTHING, Meaning.END_OF_DATA, Meaning.END_OF_MEDIUM}:
                return self._motion_failed(done, answer)
            if passed:
                self._count.to_file(None if file is None else file + passed)
            done += passed
            if answer.meaning is not Meaning.NOTHING:
                self._count.to_end(None if file is None else file + passed)
                self._look()
                return self._count_to_end() or Outcome(done, Condition.END_OF_DATA)
            self._look()
        return Outcome(done)

    def _count_to_end(self) -> Outcome | None:
        """At the end of the data, find out how many blocks lie behind the last mark; None = done, as far as it can be.

        An image that is appended has to know whether what is there ends with a mark.
        """
        file = self._count.file
        if self._count.block is not None or file is None:
            return None
        back = self._unit.space(BLOCKS, -1)
        passed = self._skip()
        if back.error or passed.error:
            return self._motion_failed(0, back if back.error else passed)
        if passed.meaning is not Meaning.NOTHING:  # a mark, or at the beginning of a blank tape its end again
            self._count.to_file(file)
            self._count.is_end()
            return None
        outcome = self._rewind()
        if outcome.condition is Condition.NONE:
            outcome = self._files_on(file, 0)
        if outcome.condition is Condition.NONE:
            outcome = self.space_records(COUNT_MAX, crosses_filemark=False)
        return outcome if outcome.condition is Condition.FAILED else None

    def _files_back(self, count: int) -> Outcome:
        file = self._count.file
        if file is not None and file < count:
            if self._count.block is None or file or self._count.block:
                outcome = self._rewind()
                if outcome.condition is Condition.FAILED:
                    return outcome
            return Outcome(file, Condition.BEGINNING)
        if not self._tells:
            return self._counted_files_back(count, file)
        done = 0
        while done < count:
            step = min(count - done, COUNT_MAX)
            answer = self._unit.space(FILEMARKS, -step)
            self._note(answer)
            if answer.meaning is Meaning.BEGINNING:
                self._count.to_beginning()
                return Outcome(done + step - (answer.information or step), Condition.BEGINNING)
            if answer.meaning is not Meaning.NOTHING:
                return self._motion_failed(done, answer)
            done += step
        return self._before_mark(None if file is None else file - count, done)

    def _counted_files_back(self, count: int, file: int | None) -> Outcome:
        """From the beginning: of spacing back over marks drives have been seen that end anywhere."""
        if file is None:
            return self._not_counted("filemarks")
        outcome = self._rewind()
        if outcome.condition is Condition.NONE:
            outcome = self._files_on(file - count + 1, 0)
        if outcome.condition is Condition.NONE:
            outcome = self._step_back(FILEMARKS, 1, 0)
        if outcome.condition is not Condition.NONE:
            return self._motion_failed(0, self._odd(outcome.text or "there are fewer filemarks than were counted"))
        return self._before_mark(file - count, count)

    def _before_mark(self, file: int | None, done: int) -> Outcome:
        self._count.to_end_of_file(file)
        self._look()
        self._blockno_is_told = False  # as after reading a filemark
        return Outcome(done)

    def _not_counted(self, what: str) -> Outcome:
        text = f"how many {what} lie before here is not known, and the drive does not tell: rewind first"
        return Outcome(0, Condition.FAILED, Error.IO, f"{self._name}: {text}")

    def space_records(self, count: int, *, crosses_filemark: bool) -> Outcome:
        refusal = self._begin()
        if refusal is not None or count == 0:
            return refusal or _DONE
        if count < 0:
            return self._settle() or self._records_back(-count, crosses=crosses_filemark)
        done = 0
        if self._ahead is _Mark.AHEAD:
            return self._at_mark(0, crosses=crosses_filemark)
        if self._ahead is not None:
            self._ahead, done = None, 1
            self._count.by_records(1)
        while done < count:
            step = min(count - done, COUNT_MAX) if self._tells else 1
            answer = self._unit.space(BLOCKS, step) if self._tells else self._skip()
            self._note(answer)
            passed = step if answer.meaning is Meaning.NOTHING else step - (answer.information or step)
            if not 0 <= passed <= step:
                return self._motion_failed(done, self._odd(f"it passed {passed} of {step} records"))
            self._count.by_records(passed)
            done += passed
            if answer.meaning is Meaning.FILEMARK:
                self._ahead = _Mark.AHEAD
                return self._at_mark(done, crosses=crosses_filemark)
            if answer.meaning in {Meaning.END_OF_DATA, Meaning.END_OF_MEDIUM}:
                self._count.is_end()
                self._look()
                return Outcome(done, Condition.END_OF_DATA)
            if answer.meaning is not Meaning.NOTHING:
                return self._motion_failed(done, answer)
        return self._records_passed(done)

    def _skip(self) -> Answer:
        """Pass one record by reading its beginning."""
        size = self._block_size
        with memoryview(bytearray(size or 1)) as view:
            answer = self._unit.read(view, blocks=1 if size else 0)
        if answer.sense is not None and answer.sense.ili and not answer.error and not size:
            return Answer()
        return answer if answer.meaning is not Meaning.EARLY_WARNING else Answer()

    def _records_back(self, count: int, *, crosses: bool) -> Outcome:
        if not self._tells:
            return self._counted_back(count, crosses=crosses)
        done = 0
        while done < count:
            step = min(count - done, COUNT_MAX)
            answer = self._unit.space(BLOCKS, -step)
            self._note(answer)
            passed = step if answer.meaning is Meaning.NOTHING else step - (answer.information or step)
            if not 0 <= passed <= step:
                return self._motion_failed(done, self._odd(f"it passed {passed} of {step} records"))
            self._count.by_records(-passed)
            done += passed
            if answer.meaning is Meaning.BEGINNING:
                self._count.to_beginning()
                return Outcome(done, Condition.BEGINNING)
            if answer.meaning is Meaning.FILEMARK:
                return self._back_at_mark(done, crosses=crosses, passed=True)
            if answer.meaning is not Meaning.NOTHING:
                return self._motion_failed(done, answer)
        return self._records_passed(done)

    def _records_passed(self, done: int) -> Outcome:
        """A drive that says where it stands must still be in the same file: some run over marks."""
        file = self._count.file
        self._look()
        if file is not None and self._count.file != file:
            return self._motion_failed(done, self._odd(f"it left file {file} as it passed {done} records"))
        return Outcome(done)

    def _counted_back(self, count: int, *, crosses: bool) -> Outcome:
        """Not further than is known to be records: whether the drive stops at a mark or at BOT is not."""
        block = self._count.block
        if block is None:
            return self._not_counted("records")
        done = min(count, block)
        if done:
            answer = self._unit.space(BLOCKS, -done)
            self._note(answer)
            if answer.meaning is not Meaning.NOTHING:
                return self._motion_failed(0, answer)
            self._count.by_records(-done)
        if done == count:
            return Outcome(done)
        if self._count.file == 0:
            return Outcome(done, Condition.BEGINNING)
        return self._back_at_mark(done, crosses=crosses, passed=False)

    def _back_at_mark(self, done: int, *, crosses: bool, passed: bool) -> Outcome:
        """Spacing back has met a mark; ``passed``: the tape is in front of it already."""
        file = self._count.file
        if crosses:
            if not passed:
                outcome = self._step_back(FILEMARKS, 1, done)
                if outcome.condition is Condition.FAILED:
                    return outcome
            self._count.to_end_of_file(None if file is None else file - 1)
            self._blockno_is_told = False
        elif passed:
            answer = self._unit.space(FILEMARKS, 1)
            if answer.meaning is not Meaning.NOTHING:
                return self._motion_failed(done, answer)
            self._count.to_file(file)
        self._look()
        return Outcome(done, Condition.FILEMARK)

    def locate(self, unit: Unit, number: int) -> Outcome:
        refusal = self._begin()
        if refusal is not None:
            return refusal
        if unit == "end":
            return self._to_end()
        if unit == "file":
            return self._locate_file(number)
        return self._locate_object(number)

    def _locate_file(self, number: int) -> Outcome:
        file = self._count.file
        if file is not None and number > file:
            outcome = self.space_files(number - file)
        else:
            outcome = self._rewind()
            if outcome.condition is Condition.NONE and number:
                outcome = self.space_files(number)
        return outcome._replace(done=0)

    def _locate_object(self, number: int) -> Outcome:
        if self._tells:
            self._ahead = None
            answer = self._unit.locate(number)
            self._note(answer)
            if answer.meaning is not Meaning.UNSUPPORTED:
                self._count.leave()
                self._early = _Warning.NONE
                if answer.meaning in {Meaning.END_OF_DATA, Meaning.END_OF_MEDIUM}:
                    self._look()
                    self._count.is_end()
                    return Outcome(0, Condition.END_OF_DATA)
                if answer.meaning is not Meaning.NOTHING:
                    return self._motion_failed(0, answer)
                self._look()
                return _DONE
        file, start = self._count.file_of(number)
        outcome = self._locate_file(file)
        left = number - start
        while outcome.condition is Condition.NONE and left:
            outcome = self.space_records(left, crosses_filemark=True)
            left -= outcome.done
            if outcome.condition is Condition.FILEMARK:
                left -= 1
                outcome = _DONE
        return outcome._replace(done=0)

    def _to_end(self) -> Outcome:
        self._ahead = None
        answer = self._unit.space(END_OF_DATA, 0)
        self._note(answer)
        if answer.meaning not in {Meaning.NOTHING, Meaning.END_OF_DATA}:
            return self._motion_failed(0, answer)
        self._count.to_end()
        self._look()
        return _DONE

    def rewind(self) -> Outcome:
        """See Drive.rewind; it makes the place of a tape known again that was lost."""
        if self._unit.lost and not self._empty:
            return self._rewind_lost()
        refusal = self._begin()
        if refusal is not None:
            return refusal
        outcome = self._write_due_mark()
        return outcome if outcome.condition is Condition.FAILED else self._rewind()

    def _rewind_lost(self) -> Outcome:
        """What was written and not synchronised may be gone with the reset: a mark that was due is not written now."""
        self._mark_due = self._unsynced = False
        return self._take_medium() or self._rewind()

    def _rewind(self) -> Outcome:
        self._ahead = None
        answer = self._unit.rewind()
        self._note(answer)
        if answer.error:
            return self._motion_failed(0, answer)
        self._count.to_beginning()
        self._early, self._unsynced = _Warning.NONE, False
        self._look()
        return _DONE

    def unload(self) -> Outcome:
        """See Drive.unload; also after the place was lost."""
        if not self._unit.lost:
            refusal = self._begin()
            if refusal is not None:
                return refusal
            outcome = self._write_due_mark()
            if outcome.condition is Condition.FAILED:
                return outcome
        answer = self._unit.load(load=False)
        if answer.lost and answer.sense is not None:
            answer = self._unit.load(load=False)
        self._note(answer)
        if answer.error:
            return self._motion_failed(0, answer)
        self._count.forget(medium=True)
        self._unit.lost, self._ahead = "", None
        self._mark_due = self._unsynced = self._protected = False
        self._empty = self._unloaded = True
        return _DONE

    def test_ready(self) -> Outcome:
        refusal = self._begin()
        if refusal is not None:
            return refusal
        answer = self._unit.test_ready()
        if not answer.error:
            return _DONE
        return Outcome(0, Condition.FAILED, answer.error, answer.text)

    def close(self, *, force: bool) -> Outcome:
        outcome = _DONE
        if not self._empty:
            outcome = self._put_in_order()
            if outcome.condition is Condition.FAILED and not force:
                return outcome
        self._release()
        self._unit.close()
        return outcome if not force else _DONE

    def _put_in_order(self) -> Outcome:
        """What is due before the drive is given back: the filemark, the buffer, the tape where it is taken to stand."""
        if self._unit.lost:
            doubtful = self._mark_due or self._unsynced
            lost = Answer(Meaning.OTHER, Error.IO, self._unit.lost, lost=True)
            return self._failed(0, lost) if doubtful else _DONE
        refusal = self._settle()
        if refusal is not None:
            return refusal
        at_end, file, block = self._count.at_end, self._count.file, self._count.block
        outcome = self._write_due_mark()
        if outcome.condition is Condition.FAILED:
            return outcome
        if self._unsynced:
            answer = self._unit.write_filemarks(0)  # no mark, but what is in the buffer: SSC-4 6.8
            self._note(answer)
            if answer.meaning not in {Meaning.NOTHING, Meaning.EARLY_WARNING}:
                return self._write_failed(0, answer)
            self._unsynced = False
        if not at_end and self._count.at_end and file is not None:
            outcome = self._locate_file(file)
            if outcome.condition is Condition.NONE and block:
                outcome = self.space_records(block, crosses_filemark=False)
        return outcome if outcome.condition is Condition.FAILED else _DONE

    # --- what every operation begins and ends with -----------------------------------------------------------

    def _begin(self, *, writes: bool = False) -> Outcome | None:
        """Why it cannot be done, or None; a new operation clears what the last one left in the flags."""
        self._media_error = False
        self._blockno_is_told = True
        if self._empty and not self._medium_came():
            return Outcome(0, Condition.FAILED, Error.NO_TAPE_LOADED, f"{self._name} has no tape loaded")
        if self._unit.lost:
            text = f"{self._unit.lost}; where the tape stands is not known until it is rewound"
            return Outcome(0, Condition.FAILED, Error.IO, text)
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

    def _settle(self) -> Outcome | None:
        """Have the tape stand where it is said to stand; None = it does."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        outcome = self._step_back(FILEMARKS if ahead is _Mark.AHEAD else BLOCKS, 1, 0)
        return outcome if outcome.condition is Condition.FAILED else None

    def _step_back(self, what: int, count: int, done: int) -> Outcome:
        """Back over blocks or one mark that were just passed and that the count has not got.

        A drive that does not tell where it stands goes back over a mark as over a block: it either takes it for one, or
        stops in front of it and says so.
        """
        answer = self._unit.space(what if self._tells else BLOCKS, -count)
        over_mark = answer.meaning is Meaning.FILEMARK and what == FILEMARKS and not self._tells
        if answer.meaning is Meaning.NOTHING or over_mark:
            return Outcome(done)
        return self._motion_failed(done, answer)

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

    def _motion_failed(self, done: int, answer: Answer) -> Outcome:
        self._ahead = None
        if not answer.error:
            answer = answer._replace(error=Error.IO, text=f"{self._name}: {answer.meaning.words} where none can be")
        self._look(after_error=True)
        return self._failed(done, answer)

    def _failed(self, done: int, answer: Answer) -> Outcome:
        self._media_error = True
        if answer.lost:
            self._count.forget()
        alerts = "" if self._unit.lost else self._logs.alerts()
        return Outcome(done, Condition.FAILED, answer.error, f"{answer.text}; {alerts}" if alerts else answer.text)
