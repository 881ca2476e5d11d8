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

from typing import Final

from mover.tape.codes import Error
from mover.tape.drive import Condition, Outcome
from mover.tape.logical_unit import LENGTH_MAX, Answer
from mover.tape.scsi_medium import DONE, EarlyWarning
from mover.tape.scsi_reading import ScsiReading
from mover.tape.sense import Meaning

FILEMARKS_MAX: Final = 65_536  # of one request, as on a virtual drive


class ScsiDrive(ScsiReading):
    """A drive behind ``transport``; see :class:`mover.tape.drive.Drive` for the operations.

    Raises:
        DriveError: it cannot be opened so; the transport is closed then.
    """

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
            if self._early is EarlyWarning.DUE:
                self._early = EarlyWarning.TOLD
                return Outcome(done, Condition.EARLY_WARNING)
            answer = self._unit.write(view[at : at + record_size], blocks=blocks)
            self._note(answer)
            if answer.meaning is Meaning.EARLY_WARNING:
                left = answer.information or 0
                if left > 0 and (left < (blocks or record_size) or self._early is EarlyWarning.TOLD):
                    return self._write_failed(done, answer, "end of medium")
                self._early = max(self._early, EarlyWarning.TOLD if left > 0 else EarlyWarning.DUE)
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
            return DONE
        if count > FILEMARKS_MAX:
            return Outcome(0, Condition.FAILED, Error.ILLEGAL_ARGS, f"{count} filemarks, at most {FILEMARKS_MAX}")
        return self._settle() or self._write_marks(count)

    def _write_marks(self, count: int) -> Outcome:
        answer = self._unit.write_filemarks(count)
        self._note(answer)
        if answer.meaning not in {Meaning.NOTHING, Meaning.EARLY_WARNING} or (answer.information or 0) > 0:
            return self._write_failed(0, answer)
        if answer.meaning is Meaning.EARLY_WARNING:
            self._early = max(self._early, EarlyWarning.DUE)
        self._count.wrote_marks(count)
        self._mark_due = self._unsynced = False
        return Outcome(count)

    def _write_due_mark(self) -> Outcome:
        """The implicit filemark, behind the data where writing ended.

        Deviates: as the virtual drive's, it is written before REW, OFF and CLOSE only (states.md 5.9 item 6).
        """
        if not (self._implicit_filemark and self._mark_due):
            return DONE
        if not self._count.at_end:
            outcome = self._to_end()
            if outcome.condition is not Condition.NONE:
                return outcome
        outcome = self._write_marks(1)
        return outcome if outcome.condition is Condition.FAILED else DONE

    # --- rewinding, unloading, closing --------------------------------------------------------------------------------

    def rewind(self) -> Outcome:
        """See Drive.rewind; it makes the place of a tape known again that was lost."""
        return self._doubted(self._rewind_written())

    def unload(self) -> Outcome:
        """See Drive.unload; also after the place was lost."""
        return self._doubted(self._unload_written())

    def _doubted(self, outcome: Outcome) -> Outcome:
        """Keep for the close what went wrong with data in the drive's buffer.

        The drive tells it once, and control asks for these motions on its own account too, as a device's name says.
        """
        if outcome.condition is Condition.FAILED and self._unsynced:
            self._doubt = outcome.text
        return outcome

    def _rewind_written(self) -> Outcome:
        if self._unit.lost and not self._empty:
            return self._untold_loss() or self._rewind_lost()
        refusal = self._begin()
        if refusal is not None:
            return refusal
        outcome = self._write_due_mark()
        return outcome if outcome.condition is Condition.FAILED else self._rewind()

    def _untold_loss(self) -> Outcome | None:
        """What lies in the drive's buffer may be gone, and only a command beside has met why: it is told, once."""
        doubtful = self._unsynced or (self._implicit_filemark and self._mark_due)
        if self._loss_is_told or not doubtful:
            return None
        return self._failed(0, Answer(Meaning.OTHER, Error.IO, self._unit.lost, lost=True))

    def _rewind_lost(self) -> Outcome:
        """What was written and not synchronised may be gone with the reset: a mark that was due is not written now."""
        self._mark_due = self._unsynced = False
        return self._take_medium() or self._rewind()

    def _unload_written(self) -> Outcome:
        if self._unit.lost:
            refusal = self._untold_loss()
            if refusal is not None:
                return refusal
        else:
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
        return DONE

    def test_ready(self) -> Outcome:
        refusal = self._begin()
        if refusal is not None:
            return refusal
        answer = self._unit.test_ready()
        if not answer.error:
            return DONE
        return Outcome(0, Condition.FAILED, answer.error, answer.text)

    def close(self, *, force: bool) -> Outcome:
        outcome = DONE
        if not self._empty:
            outcome = self._put_in_order()
            if outcome.condition is Condition.FAILED and not force:
                return outcome
        self._release()
        self._unit.close()
        return outcome if not force else DONE

    def _put_in_order(self) -> Outcome:
        """What is due before the drive is given back: the filemark, the buffer, the tape where it is taken to stand."""
        if self._unit.lost:
            doubtful = self._mark_due or self._unsynced
            lost = Answer(Meaning.OTHER, Error.IO, self._unit.lost, lost=True)
            return self._failed(0, lost) if doubtful else DONE
        if self._unit.deferred:
            return self._failed_before()
        if self._doubt and self._unsynced:
            return self._failed(0, Answer(Meaning.OTHER, Error.IO, self._doubt))
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
        return outcome if outcome.condition is Condition.FAILED else DONE
