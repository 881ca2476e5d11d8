"""Records and filemarks of a drive behind the st driver; see :mod:`mover.tape.st_drive` for how."""

import errno
import math
from typing import Final

from mover.tape.codes import Error, TapeMode
from mover.tape.drive import Condition, Outcome
from mover.tape.logical_unit import LogicalUnit
from mover.tape.st_device import General, Operation, Tape
from mover.tape.st_motion import StMotion
from mover.tape.st_place import Place

RECORD_BYTES_MAX: Final = (1 << 24) - 1  # READ(6)
FILEMARKS_MAX: Final = 65_536  # of one request: no client needs more
_DONE: Final = Outcome(0)


class StTransfer(StMotion):
    """What writes and reads, and what every operation of the drive begins with."""

    def __init__(
        self,
        tape: Tape,
        name: str,
        block_size: int,
        place: Place,
        unit: LogicalUnit | None,
        mode: TapeMode,
        flags: General,
    ) -> None:
        super().__init__(tape, name, block_size, place, unit)
        self._mode = mode
        self._protected = General.WR_PROT in flags
        self._loaded = General.ONLINE in flags
        self._mark_due = False  # records were written and no filemark since
        self._warned = False  # early warning was reported and the tape has not been wound back since
        self._warning_due = False  # it was met by a record that is on tape
        self._blockno_is_told = True
        self._capacity_until = -math.inf  # until then the capacity that was asked for last is told
        self._written_since = 0  # bytes, since it was asked for

    # --- what every operation begins with --------------------------------------------------------------------

    def _begin(self, *, writes: bool = False, repositions: bool = False, streams: bool = False) -> Outcome | None:
        """The refusal, or None; a new operation clears what the last one left in the flags."""
        if not streams:
            self._capacity_until = -math.inf
        self._media_error = False
        self._blockno_is_told = True
        if not self._loaded:
            return self._empty()
        if self._hear() and self._unflushed:
            return self._refused()  # also what finds a place anew: what was written may be gone, and nobody was told
        if writes and self._mode == TapeMode.READ:
            return Outcome(0, Condition.FAILED, Error.PERMISSION, f"{self._name} is open for reading only")
        if writes and self._protected:
            return Outcome(0, Condition.FAILED, Error.WRITE_PROTECT, f"{self._name}: the tape is write protected")
        return self._refused() if self._place.lost and not repositions else None

    def _hear(self) -> bool:
        """Take to heart what commands by the sg node have met; True = a reset, another medium, a late write error."""
        unit = self._unit
        if unit is None or not (unit.lost or unit.moved or unit.deferred):
            return False
        met = unit.lost or unit.deferred
        self._place.lose(met or "a command that moved the tape")
        unit.lost, unit.moved, unit.deferred = "", False, ""
        return bool(met)

    def _empty(self) -> Outcome:
        return Outcome(0, Condition.FAILED, Error.NO_TAPE_LOADED, f"{self._name} has no tape loaded")

    # --- writing --------------------------------------------------------------------------------------------

    def write_records(self, view: memoryview, record_size: int) -> Outcome:
        refusal = self._begin(writes=True, streams=True) or self._no_multiple(record_size)
        if refusal is not None:
            return refusal
        wanted = len(view) // record_size
        if wanted:
            try:
                self._settle()
            except OSError as error:
                return self._failed(0, error, "going back over a filemark")
        for done in range(wanted):
            part = view[done * record_size : (done + 1) * record_size]
            outcome = self._write_record(part)
            if outcome.condition is not Condition.NONE:
                return outcome._replace(done=done)
        return Outcome(wanted)

    def _write_record(self, record: memoryview) -> Outcome:
        if self._warning_due:
            self._warned, self._warning_due = True, False
            return Outcome(0, Condition.EARLY_WARNING)
        left, refused = record, False
        while left.nbytes:
            try:
                count = self._tape.write(left)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    return self._write_failed(error)
                if not self._warned and left.nbytes == record.nbytes:
                    self._warned = True
                    return Outcome(0, Condition.EARLY_WARNING)
                if refused:
                    if left.nbytes != record.nbytes:
                        self._place.lose("a record was written in part")
                    self._media_error = True
                    return Outcome(0, Condition.FAILED, Error.IO, f"{self._name}: the tape is full")
                refused = True
                continue
            if count <= 0:
                return self._write_failed(OSError(errno.EIO, "the driver wrote nothing"))
            left, refused = left[count:], False
        warned = False
        try:
            warned = General.EOT in self._look().flags
        except OSError as error:
            if error.errno != errno.ENOSPC:
                return self._write_failed(error)
            warned = True  # by a write in the background, all of which is on tape
        self._warning_due = warned and not self._warned
        self._mark_due = self._unflushed = True
        self._written_since += record.nbytes
        self._place.passed_records(self._blocks(record.nbytes))
        self._place.wrote()
        return _DONE

    def _write_failed(self, error: OSError) -> Outcome:
        outcome = self._failed(0, error, "write")
        # Or the driver writes a filemark at the close, wherever the tape stands then.
        self._forget_writing()
        return outcome

    def write_filemarks(self, count: int) -> Outcome:
        refusal = self._begin(writes=True)
        if refusal is not None:
            return refusal
        if count > FILEMARKS_MAX:
            return Outcome(0, Condition.FAILED, Error.ILLEGAL_ARGS, f"{count} filemarks, at most {FILEMARKS_MAX}")
        return self._write_marks(count) if count else _DONE

    def _write_marks(self, count: int) -> Outcome:
        try:
            self._settle()
            self._tape.operate(Operation.WEOF, count)
        except OSError as error:
            outcome = self._failed(0, error, "writing filemarks")
            self._forget_writing()
            return outcome
        self._place.passed_marks(count, adjacent=True)
        self._place.wrote()
        self._mark_due = self._unflushed = False
        return Outcome(count)

    # --- reading --------------------------------------------------------------------------------------------

    def read_records(self, view: memoryview, record_size: int) -> Outcome:
        refusal = self._begin(streams=True) or self._no_multiple(record_size) or self._before_reading(crosses=False)
        if refusal is not None:
            return refusal
        for done in range(len(view) // record_size):
            taken = self._take(view[done * record_size : (done + 1) * record_size])
            if taken.condition is Condition.NONE and taken.record_length == record_size:
                self._place.passed_records(self._blocks(record_size))
                continue
            if taken.condition is Condition.NONE:
                try:
                    self._back(max(1, self._blocks(taken.record_length)) if taken.record_length else 1)
                except OSError as error:
                    return self._failed(done, error, "going back over a record of another size")
                return Outcome(done)
            if taken.condition is Condition.FILEMARK:
                self._place.stopped_at_mark(crosses=False)
            # What went wrong behind good records is told by the next call: the place is lost until then.
            return Outcome(done) if done else self._told(taken)
        return Outcome(len(view) // record_size, record_length=record_size)

    def read_record(self, view: memoryview, *, crosses_filemark: bool) -> Outcome:
        refusal = self._begin(streams=True) or self._before_reading(crosses=crosses_filemark)
        if refusal is not None:
            return refusal
        try:
            taken = self._take_whole(view)
        except OSError as error:
            return self._failed(0, error, "going back over a long record")
        if taken.condition is Condition.FILEMARK:
            self._place.stopped_at_mark(crosses=crosses_filemark)
        if taken.condition is not Condition.NONE:
            return self._told(taken)
        self._place.passed_records(self._blocks(taken.record_length))
        return taken

    def _take_whole(self, view: memoryview) -> Outcome:
        """Read what is next, however long.

        The room is at least twice the record or exactly as long: some targets lose the end of a record that fills more
        than half of it.
        """
        if self._block_size:
            if len(view) < self._block_size:
                text = f"{self._name}: {len(view)} bytes asked for, blocks have {self._block_size}"
                return Outcome(0, Condition.FAILED, Error.ILLEGAL_ARGS, text)
            return self._take(view[: len(view) // self._block_size * self._block_size])
        length = min(RECORD_BYTES_MAX, 2 * len(view))
        while True:
            room = memoryview(self._scratch(length))[:length]
            taken = self._take(room)
            if taken.condition is not Condition.NONE:
                return taken
            size = taken.record_length
            if size == length or 0 < 2 * size <= length:
                done = min(size, len(view))
                view[:done] = room[:done]
                return Outcome(done, record_length=size)
            if not size and length == RECORD_BYTES_MAX:
                return self._failed(0, OSError(errno.EIO, f"a record of more than {RECORD_BYTES_MAX} bytes"), "read")
            self._back(1)
            length = size or RECORD_BYTES_MAX

    def _before_reading(self, *, crosses: bool) -> Outcome | None:
        """What is known to be next without a look; writing ends here."""
        try:
            self._end_writing()
        except OSError as error:
            return self._failed(0, error, "writing what the drive holds")
        if self._place.past_mark and crosses:
            self._place.stopped_at_mark(crosses=True)
            return Outcome(0, Condition.FILEMARK)
        if self._place.before_mark and not crosses:
            self._blockno_is_told = False
            return Outcome(0, Condition.FILEMARK)
        return None

    def _told(self, taken: Outcome) -> Outcome:
        # The number is known here, but clients that test drives insist on "unknown" (states.md 5.9 item 7).
        if taken.condition is Condition.FILEMARK and self._place.before_mark:
            self._blockno_is_told = False
        return taken
