"""The virtual drive: a cartridge file behaves as a tape in a drive, with capacity, early warning and end of medium.

Motions are arithmetic on the cartridge's map; only reads and writes touch the file. Writing in the middle ends the
recorded data there, as on a tape.

Source: states.md sections 5.4 to 5.10.
"""

from typing import Final

from mover.tape.cartridge import Cartridge, CartridgeError
from mover.tape.codes import Error, TapeFlag, TapeMode
from mover.tape.drive import Condition, Outcome, Position, State, Unit
from mover.tape.tape_map import MARKS_MAX, TapeMap, extent
from mover.workers.tape_messages import DriveSpec

FILEMARKS_MAX: Final = 65_536  # of one request: no client needs more, and each is held in memory
_DONE: Final = Outcome(0)


class VirtualDrive:
    """A drive with the cartridge of ``spec``; see :class:`mover.tape.drive.Drive` for the operations.

    Args:
        spec: name, cartridge and capacity.
        mode: how it is opened.
        implicit_filemark: write a mark behind written data before REW, OFF and CLOSE.

    Raises:
        CartridgeError: the tape cannot be opened so.
    """

    def __init__(self, spec: DriveSpec, mode: TapeMode, *, implicit_filemark: bool) -> None:
        self._spec = spec
        self._mode = mode
        self._implicit_filemark = implicit_filemark
        self._holder = f"{spec.name} {spec.loading}"
        self._cartridge: Cartridge | None = _open(spec, mode)
        self.warning = ""
        self._file, self._block = 0, 0
        self._mark_due = False  # records were written and no filemark since
        self._warned = False  # early warning was reported and the tape has not left its zone since
        self._media_error = False
        self._blockno_is_told = True
        if self._cartridge is not None:
            self.warning = self._cartridge.warning
            kept = self._cartridge.kept
            if kept is not None and kept.holder == self._holder:
                self._file, self._block = kept.position

    # --- what it is -----------------------------------------------------------------------------------------

    @property
    def write_protected(self) -> bool:
        return self._cartridge is not None and self._cartridge.write_protected

    @property
    def underruns(self) -> int:
        """How often it has stopped because its host did not keep up, since it was opened: it does not stream."""
        return 0

    def position(self) -> Position:
        if self._cartridge is None:
            return Position(None, None)
        return Position(self._file, self._block)

    def state(self) -> State:
        """See Drive.state; ``space_remain`` is what can be written from here on."""
        flags = TapeFlag.NOREWIND
        if self.write_protected:
            flags |= TapeFlag.WR_PROT
        if self._media_error:
            flags |= TapeFlag.ERROR
        if self._cartridge is None:
            return State(flags, Position(None, None), 0, 0, None, None)
        offset = self._cartridge.map.files[self._file].offset(self._block)
        capacity = self._spec.capacity_bytes
        position = Position(self._file, self._block if self._blockno_is_told else None)
        return State(flags, position, 0, 0, capacity, max(0, capacity - offset))

    # --- writing --------------------------------------------------------------------------------------------

    def write_records(self, view: memoryview, record_size: int) -> Outcome:
        cartridge, refusal = self._begin(writes=True)
        if cartridge is None:
            return refusal
        wanted = len(view) // record_size
        if not wanted:
            return _DONE
        try:
            cartridge.cut(self._file, self._block)
        except OSError as error:
            return self._file_failed(0, cartridge, error)
        size = extent(record_size)
        zone = self._spec.capacity_bytes - self._spec.early_warning_bytes
        done = 0
        while done < wanted:
            end = cartridge.map.end
            if end > zone and not self._warned:
                self._warned = True
                return Outcome(done, Condition.EARLY_WARNING)
            room = (self._spec.capacity_bytes - end) // size
            if room <= 0:
                return self._failed(done, Error.IO, f"cartridge {cartridge.path} is full")
            # One batch up to the record that crosses into early warning, the rest after it.
            batch = min(wanted - done, room)
            if not self._warned:
                batch = min(batch, (zone - end) // size + 1)
            part = view if batch == wanted else view[done * record_size : (done + batch) * record_size]
            written, failure = cartridge.append_records(part, record_size)
            self._block += written
            self._mark_due = self._mark_due or written > 0
            done += written
            if failure is not None:
                return self._file_failed(done, cartridge, failure)
        return Outcome(done)

    def write_filemarks(self, count: int) -> Outcome:
        cartridge, refusal = self._begin(writes=True)
        if cartridge is None:
            return refusal
        if count == 0:
            return _DONE
        if count > FILEMARKS_MAX:
            return Outcome(0, Condition.FAILED, Error.ILLEGAL_ARGS, f"{count} filemarks, at most {FILEMARKS_MAX}")
        return self._write_marks(cartridge, count)

    def _write_marks(self, cartridge: Cartridge, count: int) -> Outcome:
        try:
            cartridge.cut(self._file, self._block)
        except OSError as error:
            return self._file_failed(0, cartridge, error)
        room = max(0, min((self._spec.capacity_bytes - cartridge.map.end) // 4, MARKS_MAX - cartridge.map.marks))
        written, failure = cartridge.append_marks(min(count, room))
        if written:
            self._file, self._block = self._file + written, 0
            self._mark_due = False
        if failure is not None:
            return self._file_failed(written, cartridge, failure)
        if written < count:
            return self._failed(written, Error.IO, f"cartridge {cartridge.path} is full")
        return Outcome(written)

    def _write_due_mark(self, cartridge: Cartridge) -> Outcome:
        """The implicit filemark, behind the data where writing ended; the tape stays where it is if that is elsewhere.

        Deviates: NDMPv4 writes it before every motion but EOF and TUR; here it is written before REW, OFF and CLOSE
        only, so that a client which writes and backspaces stands where it expects to (states.md 5.9 item 6).
        """
        if not (self._implicit_filemark and self._mark_due):
            return _DONE
        elsewhere = None if cartridge.map.at_end(self._file, self._block) else (self._file, self._block)
        self._file, self._block = cartridge.map.marks, cartridge.map.last.records
        outcome = self._write_marks(cartridge, 1)
        if elsewhere is not None:
            self._file, self._block = elsewhere
        return outcome

    # --- reading --------------------------------------------------------------------------------------------

    def read_records(self, view: memoryview, record_size: int) -> Outcome:
        cartridge, refusal = self._begin()
        if cartridge is None:
            return refusal
        tape = cartridge.map
        if self._block == tape.files[self._file].records:
            return self._at_end_of_file(tape, crosses_filemark=False)
        try:
            count = cartridge.read_run(self._file, self._block, view, record_size)
        except CartridgeError as error:
            return self._failed(0, error.error, str(error))
        self._block += count
        return Outcome(count, record_length=record_size)

    def read_record(self, view: memoryview, *, crosses_filemark: bool) -> Outcome:
        cartridge, refusal = self._begin()
        if cartridge is None:
            return refusal
        tape = cartridge.map
        if self._block == tape.files[self._file].records:
            return self._at_end_of_file(tape, crosses_filemark=crosses_filemark)
        try:
            length = cartridge.read_record(self._file, self._block, view)
        except CartridgeError as error:
            return self._failed(0, error.error, str(error))
        self._block += 1
        return Outcome(min(length, len(view)), record_length=length)

    def _at_end_of_file(self, tape: TapeMap, *, crosses_filemark: bool) -> Outcome:
        if self._file == tape.marks:
            if tape.damage:
                return self._failed(0, Error.IO, tape.damage)
            return Outcome(0, Condition.END_OF_DATA)
        if crosses_filemark:
            self._file, self._block = self._file + 1, 0
        else:
            # The number is known here, but clients that test drives insist on "unknown" (states.md 5.9 item 7).
            self._blockno_is_told = False
        return Outcome(0, Condition.FILEMARK)

    # --- motion ---------------------------------------------------------------------------------------------

    def space_files(self, count: int) -> Outcome:
        cartridge, refusal = self._begin()
        if cartridge is None:
            return refusal
        tape = cartridge.map
        if count < 0:
            done = min(-count, self._file)
            self._file -= done
            if done < -count:
                self._block = 0
                return Outcome(done, Condition.BEGINNING)
            self._block = tape.files[self._file].records
            self._blockno_is_told = False  # as after reading a filemark
            return Outcome(done)
        done = min(count, tape.marks - self._file)
        if done == count:
            if count:
                self._file, self._block = self._file + done, 0
            return Outcome(done)
        self._file, self._block = tape.marks, tape.last.records
        return self._end_of_data(tape, done)

    def space_records(self, count: int, *, crosses_filemark: bool) -> Outcome:
        cartridge, refusal = self._begin()
        if cartridge is None:
            return refusal
        tape = cartridge.map
        if count < 0:
            done = min(-count, self._block)
            self._block -= done
            if done == -count:
                return Outcome(done)
            if self._file == 0:
                return Outcome(done, Condition.BEGINNING)
            if crosses_filemark:
                self._file -= 1
                self._block = tape.files[self._file].records
                self._blockno_is_told = False
            return Outcome(done, Condition.FILEMARK)
        records = tape.files[self._file].records
        done = min(count, records - self._block)
        self._block += done
        if done == count:
            return Outcome(done)
        if self._file == tape.marks:
            return self._end_of_data(tape, done)
        if crosses_filemark:
            self._file, self._block = self._file + 1, 0
        return Outcome(done, Condition.FILEMARK)

    def locate(self, unit: Unit, number: int) -> Outcome:
        cartridge, refusal = self._begin()
        if cartridge is None:
            return refusal
        tape = cartridge.map
        if unit == "file" and number <= tape.marks:
            self._file, self._block = number, 0
            return _DONE
        if unit == "object":
            left = number
            for file_num, file in enumerate(tape.files):
                if left <= file.records:
                    self._file, self._block = file_num, left
                    return _DONE
                left -= file.records + 1
        self._file, self._block = tape.marks, tape.last.records
        outcome = self._end_of_data(tape, 0)
        return _DONE if unit == "end" and outcome.condition is Condition.END_OF_DATA else outcome

    def objects(self) -> int | None:
        if self._cartridge is None:
            return None
        return sum(file.records + 1 for file in self._cartridge.map.files[: self._file]) + self._block

    def _end_of_data(self, tape: TapeMap, done: int) -> Outcome:
        if tape.damage:
            return self._failed(done, Error.IO, tape.damage)
        return Outcome(done, Condition.END_OF_DATA)

    def rewind(self) -> Outcome:
        cartridge, refusal = self._begin()
        if cartridge is None:
            return refusal
        outcome = self._write_due_mark(cartridge)
        if outcome.condition is Condition.FAILED:
            return outcome
        self._file, self._block = 0, 0
        return _DONE

    def unload(self) -> Outcome:
        outcome = self.rewind()
        if outcome.condition is Condition.FAILED:
            return outcome
        assert self._cartridge is not None
        return self._put_away(self._cartridge, force=False)

    def test_ready(self) -> Outcome:
        _, refusal = self._begin()
        return refusal

    def close(self, *, force: bool) -> Outcome:
        if self._cartridge is None:
            return _DONE
        self._begin()
        outcome = self._write_due_mark(self._cartridge)
        if outcome.condition is Condition.FAILED and not force:
            return outcome
        return self._put_away(self._cartridge, force=force)

    def _put_away(self, cartridge: Cartridge, *, force: bool) -> Outcome:
        try:
            cartridge.sync()
        except OSError as error:
            if not force:
                return self._file_failed(0, cartridge, error)
        self._cartridge = None
        try:
            cartridge.close((self._file, self._block), self._holder)
        except OSError as error:
            return self._file_failed(0, cartridge, error)
        return _DONE

    # --- what every operation begins and ends with -----------------------------------------------------------

    def _begin(self, *, writes: bool = False) -> tuple[Cartridge | None, Outcome]:
        """The cartridge, or None and the refusal; a new operation clears what the last one left in the flags."""
        cartridge = self._cartridge
        self._media_error = False
        self._blockno_is_told = True
        if cartridge is None:
            text = f"drive {self._spec.name} has no tape loaded"
            return None, Outcome(0, Condition.FAILED, Error.NO_TAPE_LOADED, text)
        if writes:
            if self._mode == TapeMode.READ:
                text = f"drive {self._spec.name} is open for reading only"
                return None, Outcome(0, Condition.FAILED, Error.PERMISSION, text)
            if cartridge.write_protected:
                text = f"cartridge {cartridge.path} is write protected"
                return None, Outcome(0, Condition.FAILED, Error.WRITE_PROTECT, text)
        if self._warned and self._offset(cartridge) <= self._spec.capacity_bytes - self._spec.early_warning_bytes:
            self._warned = False
        return cartridge, _DONE

    def _offset(self, cartridge: Cartridge) -> int:
        return cartridge.map.files[self._file].offset(self._block)

    def _file_failed(self, done: int, cartridge: Cartridge, error: OSError) -> Outcome:
        return self._failed(done, Error.IO, f"cartridge {cartridge.path}: {error.strerror}")

    def _failed(self, done: int, error: Error, text: str) -> Outcome:
        self._media_error = True
        return Outcome(done, Condition.FAILED, error, text)


def _open(spec: DriveSpec, mode: TapeMode) -> Cartridge | None:
    if spec.path is None:
        if mode == TapeMode.RAW:
            return None
        raise CartridgeError(Error.NO_TAPE_LOADED, f"drive {spec.name} has no tape loaded")
    if mode == TapeMode.READ:
        return Cartridge(spec.path, writable=False)
    try:
        return Cartridge(spec.path, writable=True)
    except CartridgeError as error:
        if mode != TapeMode.RAW or error.error != Error.WRITE_PROTECT:
            raise
    return Cartridge(spec.path, writable=False)
