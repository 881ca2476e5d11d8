"""Reading of a drive by CDBs: records of any length, runs of one length, fixed blocks.

Source: SSC-4 6.5 (READ), 4.2.9 (incorrect length); states.md section 5.6.
"""

from mover.tape.codes import Error
from mover.tape.drive import Condition, Outcome
from mover.tape.logical_unit import BLOCKS, FILEMARKS, LENGTH_MAX, Answer
from mover.tape.scsi_medium import DONE, Mark
from mover.tape.scsi_motion import ScsiMotion
from mover.tape.sense import Meaning


class ScsiReading(ScsiMotion):
    """A drive that reads; see ScsiDrive."""

    def read_records(self, view: memoryview, record_size: int) -> Outcome:
        refusal = self._begin()
        if refusal is not None:
            return refusal
        if self._ahead is Mark.AHEAD:
            return Outcome(0, Condition.FILEMARK)
        size = self._block_size
        if self._ahead is not None and len(self._ahead) == record_size <= len(view):
            view[:record_size], self._ahead = self._ahead, None
            self._count.by_records(1)
            return Outcome(1, record_length=record_size)
        if self._ahead is not None or record_size > self._read_max or (size and record_size % size):
            return DONE
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
            self._ahead = Mark.AHEAD
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
        if self._ahead is Mark.AHEAD:
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
            self._ahead = Mark.AHEAD
        else:
            self._count.is_end()
        got = (blocks - left) * size
        return Outcome(got, record_length=got)

    def _nothing_read(self, answer: Answer, *, crosses: bool) -> Outcome:
        if answer.meaning is Meaning.FILEMARK:
            self._ahead = Mark.AHEAD
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

    def _mark_read(self, *, crosses: bool) -> Outcome:
        # As on a virtual drive: clients that test drives insist on "unknown" (states.md 5.9 item 7).
        self._blockno_is_told = crosses
        return self._at_mark(0, crosses=crosses)
