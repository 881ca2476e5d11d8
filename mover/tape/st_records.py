"""Single records of a drive behind the st driver: what a read met, and the steps back over it.

See :mod:`mover.tape.st_drive` for how.
"""

import errno
from collections.abc import Iterator
from typing import Final

from mover.tape.codes import Error
from mover.tape.drive import Condition, Outcome
from mover.tape.logical_unit import LogicalUnit
from mover.tape.sense import Meaning
from mover.tape.st_device import General, Operation, Option, Status, Tape
from mover.tape.st_place import Place

SPACE_MAX: Final = 0x7F_FFFF  # SPACE(6) counts in 24 bits with a sign, and the driver cuts off what is above
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


def chunks(count: int, size: int) -> Iterator[int]:
    """So many in parts of so many at the most."""
    while count > 0:
        yield min(count, size)
        count -= size


class StRecords:
    """A tape device and where its tape stands. Steps raise OSError; the place is not changed by any of these."""

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
        for chunk in chunks(blocks, self._most):
            self._tape.operate(Operation.BSR, chunk)

    @property
    def _most(self) -> int:
        """How much one SPACE may be asked for: how far a count took a drive that does not say, nobody knows."""
        return SPACE_MAX if self._tells else 1

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
