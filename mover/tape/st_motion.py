"""The motions of a drive behind the st driver, each counted; see :mod:`mover.tape.st_drive` for how."""

import errno
from collections.abc import Callable
from typing import Final

from mover.tape.codes import Error
from mover.tape.drive import Condition, Outcome, Unit
from mover.tape.st_device import General, Operation, Option
from mover.tape.st_records import SPACE_MAX, StRecords, chunks

SEEK_MAX: Final = 0x7FFF_FFFF


class StMotion(StRecords):
    """Motions that count. They raise OSError; the place is not changed then."""

    # --- before a motion --------------------------------------------------------------------------------------

    def _moved(self, motion: Callable[[], Outcome], what: str) -> Outcome:
        try:
            self._end_writing()
            return motion()
        except OSError as error:
            return self._failed(0, error, what)

    def _end_writing(self) -> None:
        """Have the drive write what it holds; the driver writes no filemark of its own then."""
        if not self._unflushed:
            return
        if self._place.lost:
            self._forget_writing()
        else:
            self._tape.operate(Operation.WEOF, 0)
        self._unflushed = False

    def _forget_writing(self) -> None:
        """After an error: the driver is not to write a filemark wherever the tape stands when it is closed."""
        try:
            self._tape.operate(Operation.WEOF, 0)
        except OSError:
            return  # it has forgotten all the same; what was not written has been told

    def _settle(self) -> None:
        """Bring the tape itself to where it counts as standing."""
        if self._place.past_mark:
            self._back_over_one_mark()
            self._place.past_mark = False

    def _rewind(self) -> Outcome:
        self._tape.operate(Operation.REW, 1)
        self._place.rewound()
        return Outcome(0)

    def _leave(self) -> Outcome:
        """Before the node is closed: the tape where it counts as standing, and the driver's count no wrong one."""
        self._settle()
        if Option.SYSV in self._options:
            self._tape.operate(Operation.FSR, 0)  # or the driver goes to the next file
        status, place = self._look(), self._place
        if status.blockno is None or (status.file_num, status.blockno) == (place.file, place.block):
            return Outcome(0)
        # It has taken a flush for a filemark, or a drive's word for BOT, or has not seen what was read by commands.
        # Behind a SEEK, which need not even succeed, it knows that it does not know.
        told = self._tell()
        number = place.objects if told is None else told
        try:
            self._tape.operate(Operation.SEEK, SEEK_MAX if number is None else number)
        except OSError:
            return Outcome(0)
        return Outcome(0)

    # --- filemarks --------------------------------------------------------------------------------------------

    def _space_files(self, count: int) -> Outcome:
        if count < 0:
            return self._back_over_files(-count)
        place, done = self._place, 0
        if count and place.past_mark:
            place.stopped_at_mark(crosses=True)
            done = 1
        start = self._look().file_num
        for chunk in chunks(count - done, self._most if start is not None else 1):
            try:
                self._tape.operate(Operation.FSF, chunk)
            except OSError as error:
                status = self._look()
                moved = 0 if start is None or chunk == 1 else (status.file_num or 0) - start
                if not self._data_ends_here() or not 0 <= moved < chunk:
                    raise error from None
                place.passed_marks(moved)
                place.reached_end(place.file, self._tell())
                return Outcome(done + moved, Condition.END_OF_DATA)
            place.passed_marks(chunk)
            done += chunk
            start = None if start is None else start + chunk
        return Outcome(done)

    def _back_over_files(self, count: int) -> Outcome:
        place = self._place
        if place.file is not None and count > place.file:
            done = place.file
            self._rewind()
            return Outcome(done, Condition.BEGINNING)
        adjacent = count == 1 and place.block == 0 and not place.past_mark
        if not self._tells:
            return self._counted_files_back(count, adjacent=adjacent)
        self._settle()
        for number, chunk in enumerate(chunks(count, 1 if place.file is None else SPACE_MAX)):
            try:
                self._tape.operate(Operation.BSF, chunk)
            except OSError:
                if place.file is not None or self._tell() != 0:
                    raise
                self._rewind()
                return Outcome(number, Condition.BEGINNING)
        place.backed_over_marks(count, adjacent=adjacent)
        return Outcome(count)

    def _counted_files_back(self, count: int, *, adjacent: bool) -> Outcome:
        """From the beginning: of spacing back over marks drives have been seen that end anywhere.

        The tape stays behind the mark in front of which it counts as standing.
        """
        place = self._place
        if place.file is None:
            return self._not_counted()
        self._tape.operate(Operation.REW, 1)
        for _ in range(place.file - count + 1):
            self._tape.operate(Operation.FSF, 1)
        place.backed_over_marks(count, adjacent=adjacent)
        place.past_mark = True
        return Outcome(count)

    def _not_counted(self) -> Outcome:
        text = f"{self._name}: it is not known where the tape stands: rewind first"
        return Outcome(0, Condition.FAILED, Error.IO, text)

    # --- records ----------------------------------------------------------------------------------------------

    def _space_records(self, count: int, *, crosses: bool) -> Outcome:
        if count == 0:
            return Outcome(0)
        if count < 0:
            return self._back_over_records(-count, crosses=crosses)
        place = self._place
        if place.before_mark:
            if crosses:
                if not place.past_mark:
                    self._tape.operate(Operation.FSF, 1)
                place.passed_marks(1, adjacent=True)
            return Outcome(0, Condition.FILEMARK)
        done, before = 0, self._tell()
        if before is None:
            return self._pass_by_reading(count, crosses=crosses)
        for chunk in chunks(count, SPACE_MAX):
            start = self._look().file_num
            try:
                self._tape.operate(Operation.FSR, chunk)
            except OSError as error:
                return self._met(done, chunk, before, start, error, crosses=crosses)
            place.passed_records(chunk)
            done += chunk
            before += chunk
            if self._tell() != before:
                raise OSError(errno.EIO, f"the drive stands at object {self._tell()}, not at {before}")
        return Outcome(done)

    def _met(self, done: int, wanted: int, before: int, start: int | None, error: OSError, *, crosses: bool) -> Outcome:
        """What ended a motion forward over records, by where the tape is now."""
        status, after = self._look(), self._tell()
        if after is None:
            raise error
        moved = after - before
        at_end = General.EOD in status.flags
        if not at_end:
            over_mark = status.blockno == 0 and (start is None or status.file_num == start + 1)
            moved -= 1  # the mark is an object too
            if not over_mark:
                raise error
        if not 0 <= moved < wanted:
            raise error
        self._place.passed_records(moved)
        if at_end:
            return Outcome(done + moved, Condition.END_OF_DATA)
        self._place.stopped_at_mark(crosses=crosses)
        return Outcome(done + moved, Condition.FILEMARK)

    def _pass_by_reading(self, count: int, *, crosses: bool) -> Outcome:
        room = self._skip_room()
        for done in range(count):
            taken = self._take(room)
            if taken.condition is Condition.FILEMARK:
                self._place.stopped_at_mark(crosses=crosses)
            if taken.condition is not Condition.NONE:
                return taken._replace(done=done)
            self._place.passed_records(1)
        return Outcome(count)

    def _back_over_records(self, count: int, *, crosses: bool) -> Outcome:
        self._settle()
        place = self._place
        if place.block is None:
            before = self._tell()
            if before is not None:
                return self._back_by_telling(count, before, crosses=crosses)
            if not place.before_mark or place.file is None:
                return self._not_counted()
            self._count_file(place.file)
        done = min(count, place.block or 0)
        if done:
            self._back(done)
            place.passed_records(-done)
        if done == count:
            return Outcome(done)
        if place.file == 0:
            return Outcome(done, Condition.BEGINNING)
        if crosses:
            self._back_over_one_mark()
            place.backed_over_marks(1, adjacent=True)
        return Outcome(done, Condition.FILEMARK)

    def _back_by_telling(self, count: int, before: int, *, crosses: bool) -> Outcome:
        place, left = self._place, count
        for chunk in chunks(count, SPACE_MAX):
            try:
                self._tape.operate(Operation.BSR, chunk)
            except OSError:
                after = self._tell()
                if after == 0:
                    self._rewind()
                    return Outcome(count - left + before, Condition.BEGINNING)
                # Stopped by a filemark it has one behind it now, and going over that is one object.
                self._tape.operate(Operation.FSF, 1)
                if after is None or self._tell() != after + 1:
                    raise
                done = count - left + before - after - 1
                place.passed_records(after + 1 - before)
                place.block = 0
                if crosses:
                    self._tape.operate(Operation.BSF, 1)
                    place.backed_over_marks(1, adjacent=True)
                return Outcome(done, Condition.FILEMARK)
            place.passed_records(-chunk)
            left -= chunk
            before -= chunk
        return Outcome(count)

    def _count_file(self, file: int) -> None:
        """In front of a filemark, of a drive that gives no position: how many records lie before it in its file."""
        self._tape.operate(Operation.REW, 1)
        for _ in range(file):
            self._tape.operate(Operation.FSF, 1)
        room, count = self._skip_room(), 0
        while (taken := self._take(room)).condition is Condition.NONE:
            count += 1
        if taken.condition is not Condition.FILEMARK:
            raise OSError(errno.EIO, taken.text or "the filemark behind the records is gone")
        self._back_over_one_mark()
        self._place.block = count

    # --- locating ---------------------------------------------------------------------------------------------

    def _locate(self, unit: Unit, number: int) -> Outcome:
        if unit == "end":
            return self._to_end()
        if number == 0:
            return self._rewind()
        if unit == "file":
            return self._to_file(number)
        return self._to_object(number)

    def _to_end(self) -> Outcome:
        place = self._place
        if self._tell() is None:
            if place.lost:
                self._rewind()
            while self._space_files(SPACE_MAX).condition is Condition.NONE:
                continue
            return Outcome(0)
        lost, start = bool(place.lost), None if place.lost else self._look().file_num
        self._tape.operate(Operation.EOM, 1)
        there = self._look().file_num
        file = None
        if not lost and place.file is not None and start is not None and there is not None:
            file = place.file + place.past_mark + there - start
        place.past_mark = False
        place.reached_end(file, self._tell())
        return Outcome(0)

    def _to_file(self, number: int) -> Outcome:
        place = self._place
        if place.lost or place.file is None or number <= place.file:
            self._rewind()
        wanted = number - (place.file or 0)
        outcome = self._space_files(wanted)
        return outcome if outcome.condition is Condition.END_OF_DATA else Outcome(0)

    def _to_object(self, number: int) -> Outcome:
        if self._tell() is None:
            return self._to_object_by_reading(number)
        place = self._place
        try:
            self._tape.operate(Operation.SEEK, number)
        except OSError:
            place.past_mark, place.objects = False, None
            after = self._tell()
            if after is None or after >= number or not self._data_ends_here():
                raise
            place.reached_end(None, after)
            return Outcome(0, Condition.END_OF_DATA)
        place.past_mark = False
        if self._tell() != number:
            raise OSError(errno.EIO, f"the drive stands at object {self._tell()}")
        place.moved_to(number)
        return Outcome(0)

    def _to_object_by_reading(self, number: int) -> Outcome:
        place = self._place
        if place.lost or place.objects is None or number < place.objects:
            self._rewind()
        for _ in range(number - (place.objects or 0)):
            if place.past_mark:
                place.stopped_at_mark(crosses=True)
                continue
            outcome = self._pass_by_reading(1, crosses=True)
            if outcome.condition not in {Condition.NONE, Condition.FILEMARK}:
                return outcome
        return Outcome(0)
