"""Motions of a drive by CDBs, with exact residuals: over records and filemarks, to a place, to the end of the data.

See :mod:`mover.tape.scsi_drive` for the two kinds of drive that there are.

Source: SSC-4 6.3, 6.4, 7.7; states.md section 5.7.
"""

from typing import Final

from mover.tape.codes import Error
from mover.tape.drive import Condition, Outcome, Unit
from mover.tape.logical_unit import BLOCKS, COUNT_MAX, END_OF_DATA, FILEMARKS, Answer
from mover.tape.scsi_medium import DONE, EarlyWarning, Mark, ScsiMedium
from mover.tape.sense import Meaning

FILES_AT_ONCE: Final = 100_000  # who asks for more wants the end of the data, which is better come to one by one
_ENDS: Final = frozenset(
    {Meaning.NOTHING, Meaning.FILEMARK, Meaning.BEGINNING, Meaning.END_OF_DATA, Meaning.END_OF_MEDIUM}
)


class ScsiMotion(ScsiMedium):
    """A drive that can be moved; see ScsiDrive."""

    def space_files(self, count: int) -> Outcome:
        refusal = self._begin()
        if refusal is not None or count == 0:
            return refusal or DONE
        done = 0
        if self._ahead is Mark.AHEAD:
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
        single = not self._tells and (self._count.file is None or count > FILES_AT_ONCE)
        while done < count:
            file = self._count.file
            step = 1 if single else min(count - done, COUNT_MAX)
            answer = self._unit.space(FILEMARKS, step)
            self._note(answer)
            if answer.meaning not in {Meaning.NOTHING, Meaning.END_OF_DATA, Meaning.END_OF_MEDIUM}:
                return self._motion_failed(done, answer)
            passed = self._passed(answer, step)
            if passed is None:  # there are less, and the drive does not say how many: once more, one by one
                single = True
                outcome = self._again_at(file)
                if outcome.condition is Condition.FAILED:
                    return outcome
                continue
            if passed:
                self._count.to_file(None if file is None else file + passed)
            done += passed
            if answer.meaning is not Meaning.NOTHING:
                self._count.to_end(None if file is None else file + passed)
                self._look()
                return self._count_to_end() or Outcome(done, Condition.END_OF_DATA)
            self._look()
        return Outcome(done)

    def _again_at(self, file: int | None) -> Outcome:
        """Back to the beginning of a file, from wherever the tape is."""
        if file is None:
            return self._motion_failed(0, self._odd("it does not say how many filemarks it passed"))
        outcome = self._rewind()
        if outcome.condition is Condition.NONE and file:
            answer = self._unit.space(FILEMARKS, file)
            if answer.meaning is not Meaning.NOTHING:
                return self._motion_failed(0, answer)
            self._count.to_file(file)
        return outcome

    @staticmethod
    def _passed(answer: Answer, step: int) -> int | None:
        """How many of a step are done; None = the drive does not say."""
        if answer.meaning is Meaning.NOTHING:
            return step
        if answer.information is None:
            return 0 if step == 1 else None
        return step - answer.information

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
                passed = self._passed(answer, step)
                if passed is None:
                    return self._motion_failed(done, self._odd("it does not say how many filemarks it passed"))
                self._count.to_beginning()
                return Outcome(done + passed, Condition.BEGINNING)
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

    # --- records ------------------------------------------------------------------------------------------------------

    def space_records(self, count: int, *, crosses_filemark: bool) -> Outcome:
        refusal = self._begin()
        if refusal is not None or count == 0:
            return refusal or DONE
        if count < 0:
            return self._settle() or self._records_back(-count, crosses=crosses_filemark)
        done = 0
        if self._ahead is Mark.AHEAD:
            return self._at_mark(0, crosses=crosses_filemark)
        if self._ahead is not None:
            self._ahead, done = None, 1
            self._count.by_records(1)
        while done < count:
            step = min(count - done, COUNT_MAX) if self._tells else 1
            answer = self._unit.space(BLOCKS, step) if self._tells else self._skip()
            self._note(answer)
            passed = self._passed(answer, step) if answer.meaning in _ENDS else 0
            if passed is None or not 0 <= passed <= step:
                return self._motion_failed(done, self._odd(f"it does not say how many of {step} records it passed"))
            self._count.by_records(passed)
            done += passed
            if answer.meaning is Meaning.FILEMARK:
                self._ahead = Mark.AHEAD
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
            passed = self._passed(answer, step) if answer.meaning in _ENDS else 0
            if passed is None or not 0 <= passed <= step:
                return self._motion_failed(done, self._odd(f"it does not say how many of {step} records it passed"))
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

    def _at_mark(self, done: int, *, crosses: bool) -> Outcome:
        if crosses:
            self._ahead = None
            self._count.over_mark()
        return Outcome(done, Condition.FILEMARK)

    # --- places -------------------------------------------------------------------------------------------------------

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
                self._early = EarlyWarning.NONE
                if answer.meaning in {Meaning.END_OF_DATA, Meaning.END_OF_MEDIUM}:
                    self._look()
                    self._count.is_end()
                    return Outcome(0, Condition.END_OF_DATA)
                if answer.meaning is not Meaning.NOTHING:
                    return self._motion_failed(0, answer)
                self._look()
                return DONE
        file, start = self._count.file_of(number)
        outcome = self._locate_file(file)
        left = number - start
        while outcome.condition is Condition.NONE and left:
            outcome = self.space_records(left, crosses_filemark=True)
            left -= outcome.done
            if outcome.condition is Condition.FILEMARK:
                left -= 1
                outcome = DONE
        return outcome._replace(done=0)

    def _to_end(self) -> Outcome:
        self._ahead = None
        answer = self._unit.space(END_OF_DATA, 0)
        self._note(answer)
        if answer.meaning not in {Meaning.NOTHING, Meaning.END_OF_DATA}:
            return self._motion_failed(0, answer)
        self._count.to_end()
        self._look()
        return DONE

    def _rewind(self) -> Outcome:
        self._ahead = None
        answer = self._unit.rewind()
        self._note(answer)
        if answer.error:
            return self._motion_failed(0, answer)
        self._count.to_beginning()
        self._early, self._unsynced = EarlyWarning.NONE, False
        self._look()
        return DONE

    # --- steps that others take ---------------------------------------------------------------------------------------

    def _settle(self) -> Outcome | None:
        """Have the tape stand where it is said to stand; None = it does."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        outcome = self._step_back(FILEMARKS if ahead is Mark.AHEAD else BLOCKS, 1, 0)
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

    def _motion_failed(self, done: int, answer: Answer) -> Outcome:
        self._ahead = None
        if not answer.error:
            answer = answer._replace(error=Error.IO, text=f"{self._name}: {answer.meaning.words} where none can be")
        self._look(after_error=True)
        return self._failed(done, answer)
