"""A virtual drive with the faults that its configuration names, so that operators and tests can rehearse them.

Each is met in the drive itself and told as a real drive tells it: with the exact count of good records. Records are
counted from 1 since the drive was opened, and an error or a hang comes once each time it is open.
"""

import time
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from mover.tape.codes import Error, TapeMode
from mover.tape.drive import Outcome, Unit
from mover.tape.virtual import VirtualDrive
from mover.workers.tape_messages import DriveFault, DriveSpec

_NEVER: Final = 1 << 63

Direction = Literal["", "read", "write"]


class Streaming:
    """The time a drive takes that moves its tape at one speed, and must stop where its host does not keep up.

    Theory of operation: nothing is buffered here. What counts is when the head will have passed, or has passed, the
    last byte; a buffer only says by how much the host may be ahead of the head (writing) or behind it (reading). Where
    it runs empty, or full, the drive stops and takes the time of a repositioning until the tape moves again; the host
    feels of it what the buffer does not cover.

    Args:
        rate: bytes a second.
        buffer: bytes.
        reposition_s: from a stop to moving again, at the place where the tape has stopped.
        clock, sleep: of the time.

    Attributes:
        underruns: how often it has stopped since the beginning.
    """

    def __init__(
        self,
        rate: int,
        buffer: int,
        reposition_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._buffer = buffer
        self._reposition_s = reposition_s
        self._clock = clock
        self._sleep = sleep
        self._direction: Direction = ""
        self._head_s = 0.0  # when the head passes the last byte that was written, or read and is not stored
        self._stored = 0  # what was read ahead when it stopped
        self.underruns = 0

    def write(self, size: int) -> None:
        """Take bytes; returns when they are in the buffer."""
        now = self._turn("write")
        if now > self._head_s:
            self.underruns += 1
            self._head_s = max(now, self._head_s + self._reposition_s)
        self._head_s += size / self._rate
        self._wait_until(self._head_s - self._buffer / self._rate)

    def read(self, size: int) -> None:
        """Give bytes; returns when the head has passed them."""
        now = self._turn("read")
        if self._stored + (now - self._head_s) * self._rate > self._buffer:
            self.underruns += 1
            self._stored = self._buffer
            self._head_s = now + self._reposition_s
        stored = min(size, self._stored)
        self._stored -= stored
        if size > stored:
            self._head_s += (size - stored) / self._rate
            self._wait_until(self._head_s)

    def stop(self) -> None:
        """Another motion, or a flush: what was written goes to tape first."""
        if self._direction == "write":
            self._wait_until(self._head_s)
        self._direction = ""

    def _turn(self, direction: Direction) -> float:
        """The time now; the tape begins to move where it did not, or the other way."""
        if self._direction != direction:
            self.stop()
            self._direction = direction
            self._stored = 0
            self._head_s = self._clock()
            return self._head_s
        return self._clock()

    def _wait_until(self, moment_s: float) -> None:
        left = moment_s - self._clock()
        if left > 0:
            self._sleep(left)


class FaultyDrive(VirtualDrive):
    """A virtual drive that meets the faults of its specification; see VirtualDrive for the arguments."""

    def __init__(self, spec: DriveSpec, mode: TapeMode, *, implicit_filemark: bool) -> None:
        super().__init__(_warning_early(spec), mode, implicit_filemark=implicit_filemark)
        self._write_errors = {each.record for each in spec.faults if each.kind == "write-error"}
        self._read_errors = {each.record for each in spec.faults if each.kind == "read-error"}
        self._hangs = {each.record: each.seconds for each in spec.faults if each.kind == "hang"}
        self._streaming = [
            Streaming(each.rate_bytes, each.buffer_bytes, each.reposition_ms / 1000)
            for each in spec.faults
            if each.kind == "slow"
        ]
        self._written, self._read = 0, 0
        rehearsed = f"drive {spec.name} rehearses: {'; '.join(map(_text, spec.faults))}"
        self.warning = f"{self.warning}; {rehearsed}" if self.warning else rehearsed

    @property
    def underruns(self) -> int:
        """See VirtualDrive.underruns."""
        return sum(each.underruns for each in self._streaming)

    # --- transfers ------------------------------------------------------------------------------------------

    def write_records(self, view: memoryview, record_size: int) -> Outcome:
        wanted, done = len(view) // record_size, 0
        outcome = Outcome(0)
        while done < wanted:
            count = self._good(wanted - done, self._written, self._write_errors)
            if not count:
                cartridge, refusal = self._begin(writes=True)
                if cartridge is None:
                    return refusal
                self._written += 1
                return self._fault(done, f"record {self._written} of those written cannot be written")
            outcome = super().write_records(view[done * record_size : (done + count) * record_size], record_size)
            self._written += outcome.done
            done += outcome.done
            for each in self._streaming:
                each.write(outcome.done * record_size)
            if outcome.done < count:
                break
        return outcome._replace(done=done)

    def read_records(self, view: memoryview, record_size: int) -> Outcome:
        wanted = len(view) // record_size
        if wanted and self._at_record():
            wanted = self._good(wanted, self._read, self._read_errors)
            if not wanted:
                return self._read_fault()
        outcome = super().read_records(view[: wanted * record_size], record_size)
        return self._was_read(outcome, outcome.done, outcome.done * record_size)

    def read_record(self, view: memoryview, *, crosses_filemark: bool) -> Outcome:
        at_record = self._at_record()
        if at_record and not self._good(1, self._read, self._read_errors):
            return self._read_fault()
        outcome = super().read_record(view, crosses_filemark=crosses_filemark)
        return self._was_read(outcome, int(at_record and not outcome.error), outcome.record_length)

    def _was_read(self, outcome: Outcome, records: int, size: int) -> Outcome:
        self._read += records
        for each in self._streaming:
            each.read(size)
        return outcome

    def _good(self, wanted: int, before: int, errors: set[int]) -> int:
        """How many of the next records go well; a hang that comes before the next one happens now."""
        number = self._written + self._read + 1
        if number in self._hangs:
            time.sleep(self._hangs.pop(number))
        next_error = min((each for each in errors if each > before), default=_NEVER)
        next_hang = min((each for each in self._hangs if each >= number), default=_NEVER)
        return min(wanted, next_error - before - 1, next_hang - number)

    def _at_record(self) -> bool:
        """Whether a record stands here, and no mark."""
        return self._cartridge is not None and self._block < self._cartridge.map.files[self._file].records

    def _read_fault(self) -> Outcome:
        self._begin()
        self._read += 1
        return self._fault(0, f"record {self._read} of those read cannot be read")

    def _fault(self, done: int, text: str) -> Outcome:
        return self._failed(done, Error.IO, f"drive {self._spec.name}: {text}: a [[fault]] of the configuration")

    # --- what ends streaming --------------------------------------------------------------------------------

    def write_filemarks(self, count: int) -> Outcome:
        self._stop()
        return super().write_filemarks(count)

    def space_files(self, count: int) -> Outcome:
        self._stop()
        return super().space_files(count)

    def space_records(self, count: int, *, crosses_filemark: bool) -> Outcome:
        self._stop()
        return super().space_records(count, crosses_filemark=crosses_filemark)

    def locate(self, unit: Unit, number: int) -> Outcome:
        self._stop()
        return super().locate(unit, number)

    def rewind(self) -> Outcome:
        self._stop()
        return super().rewind()

    def close(self, *, force: bool) -> Outcome:
        self._stop()
        return super().close(force=force)

    def _stop(self) -> None:
        for each in self._streaming:
            each.stop()


def _warning_early(spec: DriveSpec) -> DriveSpec:
    """Early warning where the first such fault has it."""
    at = min((each.at_bytes for each in spec.faults if each.kind == "early-warning"), default=None)
    if at is None:
        return spec
    return msgspec.structs.replace(spec, early_warning_bytes=max(spec.early_warning_bytes, spec.capacity_bytes - at))


def _text(fault: DriveFault) -> str:
    match fault.kind:
        case "write-error" | "read-error":
            return f"{fault.kind} at record {fault.record}"
        case "hang":
            return f"hang of {fault.seconds} s at record {fault.record}"
        case "early-warning":
            return f"early-warning at byte {fault.at_bytes}"
        case "slow":
            return (
                f"slow: {fault.rate_bytes} B/s, {fault.buffer_bytes} B buffer, {fault.reposition_ms} ms to reposition"
            )
