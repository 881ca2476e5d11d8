"""The motions of a drive behind the st driver, each counted; see :mod:`mover.tape.st_drive` for how."""

import errno
from collections.abc import Callable, Iterator
from typing import Final

from mover.tape.codes import Error
from mover.tape.drive import Condition, Outcome, Unit
from mover.tape.logical_unit import LogicalUnit
from mover.tape.sense import Meaning
from mover.tape.st_device import General, Operation, Option, Status, Tape
from mover.tape.st_place import Place

SPACE_MAX: Final = 0x7F_FFFF  # SPACE(6) counts in 24 bits with a sign, and the driver cuts off what is above
SEEK_MAX: Final = 0x7FFF_FFFF
OVERSHOT_MAX: Final = 4  # records
# Room for a record that is read only to pass it. The driver logs each that is longer, a CDB does not.
SKIP_BYTES: Final = 1 << 20
SKIP_BYTES_BY_COMMAND: Final = 4096
_ERRORS: Final = {
    errno.ENOMEDIUM: Error.NO_TAPE_LOADED,
    errno.EACCES: Error.WRITE_PROTECT,
    errno.EROFS: Error.WRITE_PROTECT,
    errno.EINVAL: Error.ILLEGAL_ARGS,
}
"""What leaves the tape where it is; all else is IO, and the place is lost."""


def _chunks(count: int, size: int) -> Iterator[int]:
    while count > 0:
        yield min(count, size)
        count -= size


class StMotion:
    """A tape device and where its tape stands. The motions raise OSError; the place is not changed then."""

    def __init__(self, tape: Tape, name: str, block_size: int, place: Place, unit: LogicalUnit | None) -> None:
        self._tape = tape
        self._unit = unit  # the same drive by its sg node
        self._name = name
        self._block_size = block_size
        self._place = place
        self._options = Option(0)
        self._unflushed = False  # the driver takes itself for writing, and the drive may hold what it has not written
        self._soft_errors = 0
        self._media_error = False
        self._tells = True
        self._room = bytearray(0)

    # --- what the driver says ---------------------------------------------------------------------------------

    def _look(self) -> Status:
        status = self._tape.status()
        self._soft_errors += status.soft_errors
        return status

    def _tell(self) -> int | None:
        """Objects in front of the place where we count as standing, as the drive has them; None = it does not say."""
        if not self._tells:
            return None
        try:
            return self._tape.tell() - self._place.past_mark
        except OSError:
            self._tells = False  # from here on by reading: slower, and as exact
            return None

    def _failed(self, done: int, error: OSError, what: str) -> Outcome:
        self._media_error = True
        text = f"{self._name}: {what}: {error.strerror}"
        code = _ERRORS.get(error.errno or 0, Error.IO)
        if code == Error.IO and not self._place.lost:
            self._place.lose(text)
        return Outcome(done, Condition.FAILED, code, text)

    def _refused(self) -> Outcome:
        text = f"{self._name}: it is not known where the tape stands since {self._place.lost}: rewind first"
        self._media_error = True
        return Outcome(0, Condition.FAILED, Error.IO, text)

    # --- blocks -----------------------------------------------------------------------------------------------

    def _blocks(self, length: int) -> int:
        """How many blocks on tape a record of so many bytes is."""
        return length // self._block_size if self._block_size else 1

    def _no_multiple(self, record_size: int) -> Outcome | None:
        if not self._block_size or record_size % self._block_size == 0:
            return None
        text = f"{self._name}: records of {record_size} bytes in blocks of {self._block_size}"
        return Outcome(0, Condition.FAILED, Error.ILLEGAL_ARGS, text)

    def _scratch(self, length: int) -> bytearray:
        if len(self._room) < length:
            self._room = bytearray(length)
        return self._room

    def _skip_room(self) -> memoryview:
        skip = SKIP_BYTES if self._unit is None else SKIP_BYTES_BY_COMMAND
        length = self._block_size or skip
        return memoryview(self._scratch(length))[:length]

    # --- one record -------------------------------------------------------------------------------------------

    def _take(self, room: memoryview) -> Outcome:
        """Read what is next; the place stays. record_length 0: a record longer than the room, which was passed."""
        if self._unit is not None and not self._tells:
            return self._take_by_command(self._unit, room)
        try:
            count = self._tape.read(room)
            status = self._look() if count in {0, len(room)} else None
        except OSError as error:
            if error.errno == errno.ENOMEM:
                return Outcome(0)
            if error.errno == errno.EIO and self._data_ends_here():
                return Outcome(0, Condition.END_OF_DATA)
            return self._failed(0, error, "read")
        if status is None or (count and General.EOT not in status.flags):
            return Outcome(count, record_length=count)
        if not count:
            return Outcome(0, Condition.END_OF_DATA if General.EOD in status.flags else Condition.FILEMARK)
        # With the bit for the end of the medium, and a drive that does not say how much it has not read, the driver
        # takes the end of data for a record of as many bytes as there was room.
        told, counted = self._tell(), self._place.objects
        if told is None:
            return self._failed(0, OSError(errno.EIO, "the driver does not tell the end of data from a record"), "read")
        if told == counted:
            return Outcome(0, Condition.END_OF_DATA)
        return Outcome(count, record_length=count)

    def _take_by_command(self, unit: LogicalUnit, room: memoryview) -> Outcome:
        """The same of a drive that does not say where it stands: what ended a read is in its sense data alone."""
        blocks = len(room) // self._block_size if self._block_size else 0
        answer = unit.read(room, blocks=blocks)
        if answer.sense is None and not answer.error and answer.transferred == len(room):
            return Outcome(len(room), record_length=len(room))
        left = answer.information
        if answer.sense is not None and answer.sense.ili and not answer.error and not blocks and left is not None:
            length = len(room) - left
            return Outcome(length, record_length=length) if 0 < length <= len(room) else Outcome(0)
        if answer.meaning in {Meaning.FILEMARK, Meaning.END_OF_DATA}:
            got = blocks - left if blocks and left is not None and 0 <= left < blocks else 0
            ended = Condition.FILEMARK if answer.meaning is Meaning.FILEMARK else Condition.END_OF_DATA
            if not got:
                return Outcome(0, ended)
            try:
                if ended is Condition.FILEMARK:
                    self._back_over_one_mark()  # the next read is to meet it
            except OSError as error:
                return self._failed(0, error, "going back over a filemark")
            return Outcome(got * self._block_size, record_length=got * self._block_size)
        return self._failed(0, OSError(errno.EIO, answer.text or "the drive answers what cannot be"), "read")

    def _data_ends_here(self) -> bool:
        """Whether a motion or read failed because no data follow: the driver says EIO to that as to a broken tape."""
        try:
            if General.EOD in self._look().flags:
                return True
            if self._unit is not None:
                return self._unit_is_at_end(self._unit)
            self._tape.operate(Operation.FSR, 1)
        except OSError:
            try:
                ends = General.EOD in self._look().flags
            except OSError:
                return False
            told = self._tell()
            return ends and (told is None or self._place.objects is None or told == self._place.objects)
        return False

    def _unit_is_at_end(self, unit: LogicalUnit) -> bool:
        """Ask for the next record again, by a way on which its sense data come back."""
        room = self._skip_room()
        answer = unit.read(room, blocks=1 if self._block_size else 0)
        return answer.meaning is Meaning.END_OF_DATA

    def _back(self, blocks: int) -> None:
        for chunk in _chunks(blocks, self._most):
            self._tape.operate(Operation.BSR, chunk)

    @property
    def _most(self) -> int:
        """How much one SPACE may be asked for: how far a count took a drive that does not say, nobody knows."""
        return SPACE_MAX if self._tells else 1

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

    def _back_over_one_mark(self) -> None:
        """Right behind a filemark: to its near side.

        Drives that do not say where they stand go too far by SPACE over filemarks; over blocks they either stop there,
        as they should, or go over the mark as if it were one.
        """
        if self._tells:
            self._tape.operate(Operation.BSF, 1)
            return
        start = self._look().file_num
        try:
            self._tape.operate(Operation.BSR, 1)
        except OSError:
            there = self._look().file_num
            if start is not None and there != start - 1:
                raise

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
        for chunk in _chunks(count - done, self._most if start is not None else 1):
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
        further = 0
        if self._tells:
            self._settle()
        elif place.before_mark:
            # From right in front of a mark such drives take that one for the first; from behind it they count well.
            if not place.past_mark:
                self._go_behind_mark()
                place.past_mark = True
            further = 1
        for number, chunk in enumerate(_chunks(count + further, 1 if place.file is None else self._most)):
            try:
                self._tape.operate(Operation.BSF, chunk)
            except OSError:
                if place.file is not None or self._tell() != 0:
                    raise
                self._rewind()
                return Outcome(number, Condition.BEGINNING)
        if not self._tells:
            self._go_behind_mark()
        place.backed_over_marks(count, adjacent=adjacent)
        place.past_mark = not self._tells
        return Outcome(count)

    def _go_behind_mark(self) -> None:
        """Over the filemark that a drive which does not say where it stands should be in front of, and may not be."""
        room = self._skip_room()
        for _ in range(OVERSHOT_MAX):
            taken = self._take(room)
            if taken.condition is Condition.FILEMARK:
                return
            if taken.condition is not Condition.NONE:
                break
        raise OSError(errno.EIO, taken.text or "the filemark that was spaced over is gone")

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
        for chunk in _chunks(count, SPACE_MAX):
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
                text = f"{self._name}: it is not known where the tape stands: rewind first"
                return Outcome(0, Condition.FAILED, Error.IO, text)
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
        for chunk in _chunks(count, SPACE_MAX):
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
