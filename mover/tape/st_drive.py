"""A drive behind the Linux st driver: motions and transfers with exact results from a driver that tells little.

Theory of operation
===================
The driver says EIO for a filemark, the end of data, BOT and a broken tape alike, and no residual. So everything is
counted here (:class:`Place`), and what a motion met is found by what surrounds it: marks and BOT by the driver's own
file number, records by READ POSITION (MTIOCPOS) where the drive has it. Where it has not, records are read in the place
of being spaced over: that meets filemarks and the end of data one by one, whatever the drive makes of SPACE.

- A record that was read over a filemark leaves the tape behind the mark, where NDMP wants it in front. It stays there
  until something needs it elsewhere: most clients space forward over the mark next.
- MTIOCGET behind every write waits for a write that the driver does in the background, so each record has its own
  error. Early warning comes as ENOSPC, and every second write behind it is refused as well: those are repeated.
- The driver writes a filemark of its own before rewinding and closing behind a write. MTWEOF 0, which also has the
  drive write what it holds, makes it forget that; the filemarks of NDMP are written here.
- After an error the place is lost: all but what finds a place anew (REW, the end, LOCATE, OFF) is refused, because a
  tape that was changed or reset meanwhile would be read or written on at the wrong place.

Source: linux/Documentation/scsi/st.rst; states.md sections 5.4 to 5.10.
"""

import errno
import time
from collections.abc import Callable
from typing import Final

from mover.tape.codes import Error, TapeFlag, TapeMode
from mover.tape.drive import Condition, DriveError, Outcome, Position, State, Unit
from mover.tape.drive_logs import Capacity, DriveLogs
from mover.tape.logical_unit import LogicalUnit
from mover.tape.sg import SgTransport
from mover.tape.st_device import General, Operation, Option, Status, StDevice, Tape
from mover.tape.st_place import Place
from mover.tape.st_transfer import StTransfer
from mover.tape.transport import Transport
from mover.workers.device_messages import DeviceSpec

READY_WAIT_S: Final = 120.0  # a drive takes so long to thread a cartridge that was just put in
READY_LOOK_S: Final = 1.0
CAPACITY_S: Final = 10.0  # how old a capacity may be that is told
_DONE: Final = Outcome(0)
_OPEN_ERRORS: Final = {
    errno.EBUSY: Error.DEVICE_BUSY,
    errno.EACCES: Error.PERMISSION,
    errno.EPERM: Error.PERMISSION,
    errno.EROFS: Error.WRITE_PROTECT,
    errno.ENOMEDIUM: Error.NO_TAPE_LOADED,
}

Opens = Callable[[str, bool], Tape]


def _open_device(path: str, writable: bool) -> Tape:
    return StDevice(path, writable=writable)


class StDrive(StTransfer):
    """An open drive; see :class:`mover.tape.drive.Drive` for the operations.

    Args:
        spec: name, device node and block size.
        mode: how it is opened.
        implicit_filemark: write a mark behind written data before REW, OFF and CLOSE.
        opens, opens_sg, sleep: the system's, or a test's.

    Raises:
        DriveError: the tape cannot be opened so.
    """

    def __init__(
        self,
        spec: DeviceSpec,
        mode: TapeMode,
        *,
        implicit_filemark: bool,
        opens: Opens = _open_device,
        opens_sg: Callable[[str], Transport] = SgTransport,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._implicit_filemark = implicit_filemark
        name = f"drive {spec.name} ({spec.device})"
        try:
            tape, status = _open_ready(spec, mode, opens, sleep)
        except OSError as error:
            raise DriveError(_OPEN_ERRORS.get(error.errno or 0, Error.IO), f"{name}: {error.strerror}") from error
        self._open = True
        self.warning = ""
        self._logs: DriveLogs | None = None
        self._capacity = Capacity()
        self._corrected = 0
        unit = None
        if spec.sg_device:
            try:
                unit = LogicalUnit(opens_sg(spec.sg_device), name, spec.timeout_s)
            except DriveError as error:
                self.warning = f"no SCSI commands for this drive: {error}"
        place = Place(status.file_num, status.blockno, None)
        super().__init__(tape, name, spec.block_size, place, unit, mode, status.flags)
        try:
            self._prepare(status)
            if unit is not None:
                self._logs = DriveLogs(unit)
                self.warning = self._logs.alerts()
                unit.deferred = ""  # of who had it before
        except (DriveError, OSError) as error:
            self._give_back()
            if isinstance(error, DriveError):
                raise
            raise DriveError(Error.IO, f"{name}: {error.strerror}") from error

    def _prepare(self, status: Status) -> None:
        """Refuse what the mode does not allow, and find out what the drive is like. Raises DriveError, OSError."""
        writable = self._mode != TapeMode.READ
        if not self._loaded:
            if self._mode != TapeMode.RAW:
                raise DriveError(Error.NO_TAPE_LOADED, f"{self._name} has no tape loaded")
            return
        if self._protected and self._mode == TapeMode.RDWR:
            raise DriveError(Error.WRITE_PROTECT, f"{self._name}: the tape is write protected")
        self._options = self._tape.options()
        if writable and Option.NOWAIT_EOF in self._options:
            text = (
                "its option no-wait-eof promises filemarks that are not on tape: mt -f NODE stclearoptions no-wait-eof"
            )
            raise DriveError(Error.IO, f"{self._name}: {text}")
        if status.block_size != self._block_size:
            self._tape.operate(Operation.SETBLK, self._block_size)
        place, told = self._place, self._tell()
        if told and (place.file, place.block) == (0, 0):
            self._place = Place(None, None, told)  # the driver has taken a flush for a filemark, and this for BOT
        else:
            place.objects = told if told is not None else place.block if place.file == 0 else None

    # --- what it is -----------------------------------------------------------------------------------------

    @property
    def transport(self) -> Transport:
        """Its way for CDBs, where it has one; see TakesCommands."""
        if self._unit is None:
            raise AttributeError(f"{self._name} has no way for CDBs")
        return self._unit

    @property
    def write_protected(self) -> bool:
        return self._protected

    def position(self) -> Position:
        if not self._loaded or self._place.lost:
            return Position(None, None)
        return self._place.position()

    def objects(self) -> int | None:
        """By own count, or by what the drive says."""
        if not self._loaded or self._place.lost:
            return None
        if self._place.objects is None:
            self._place.objects = self._tell()
        return self._place.objects

    def state(self) -> State:
        """See Drive.state. The st driver knows no capacity: the drive does, where it has that log page."""
        flags = TapeFlag.NOREWIND
        if self._protected:
            flags |= TapeFlag.WR_PROT
        if self._media_error:
            flags |= TapeFlag.ERROR
        file_num, blockno = self.position()
        position = Position(file_num, blockno if self._blockno_is_told else None)
        capacity = self._known_capacity()
        return State(
            flags, position, self._block_size, self._soft_errors + self._corrected, capacity.total, capacity.remaining
        )

    def _known_capacity(self) -> Capacity:
        """Not asked for at every look: clients look often, also while the drive is streaming."""
        if self._logs is not None and self._loaded and time.monotonic() >= self._capacity_until:
            self._capacity, self._corrected = self._logs.capacity(), self._logs.soft_errors()
            self._capacity_until, self._written_since = time.monotonic() + CAPACITY_S, 0
        if not self._loaded:
            return Capacity()
        total, remaining = self._capacity
        return Capacity(total, None if remaining is None else max(0, remaining - self._written_since))

    # --- motion ---------------------------------------------------------------------------------------------

    def space_files(self, count: int) -> Outcome:
        refusal = self._begin()
        if refusal is not None:
            return refusal
        outcome = self._moved(lambda: self._space_files(count), "spacing over filemarks")
        if count < 0:
            self._warned = False
            self._blockno_is_told = outcome.condition is not Condition.NONE  # as after reading a filemark
        return outcome

    def space_records(self, count: int, *, crosses_filemark: bool) -> Outcome:
        refusal = self._begin()
        if refusal is not None:
            return refusal
        outcome = self._moved(lambda: self._space_records(count, crosses=crosses_filemark), "spacing over records")
        if count < 0 and crosses_filemark and outcome.condition is Condition.FILEMARK:
            self._blockno_is_told = False
        return outcome

    def locate(self, unit: Unit, number: int) -> Outcome:
        refusal = self._begin(repositions=True)
        if refusal is not None:
            return refusal
        self._warned = self._warning_due = False
        return self._moved(lambda: self._locate(unit, number), f"locating {unit} {number}")

    def rewind(self) -> Outcome:
        refusal = self._begin(repositions=True)
        if refusal is not None:
            return refusal
        outcome = _DONE if self._place.lost else self._write_due_mark()
        if outcome.condition is Condition.FAILED:
            return outcome
        self._mark_due = self._warned = self._warning_due = False
        return self._moved(self._rewind, "rewinding")

    def unload(self) -> Outcome:
        outcome = self.rewind()
        if outcome.condition is Condition.FAILED:
            return outcome
        try:
            self._tape.operate(Operation.OFFL, 1)
        except OSError as error:
            return self._failed(0, error, "unloading")
        self._loaded = False
        return _DONE

    def test_ready(self) -> Outcome:
        refusal = self._begin(repositions=True)
        if refusal is not None:
            return refusal
        if self._unit is not None:
            answer = self._unit.test_ready()
            if answer.error:
                return Outcome(0, Condition.FAILED, answer.error, answer.text)
        try:
            ready = General.ONLINE in self._look().flags
        except OSError as error:
            return self._failed(0, error, "test ready")
        return _DONE if ready else self._empty()

    def close(self, *, force: bool) -> Outcome:
        if not self._open:
            return _DONE
        self._media_error = False
        outcome = self._ended() if self._loaded else _DONE
        if outcome.condition is Condition.FAILED and not force:
            return outcome
        self._open = self._loaded = False
        try:
            self._give_back()
        except OSError as error:
            if not force:
                return self._failed(0, error, "close")
        return _DONE

    def _write_due_mark(self) -> Outcome:
        """The implicit filemark, behind the data where writing ended.

        Deviates: NDMPv4 writes it before every motion but EOF and TUR; here it is written before REW, OFF and CLOSE
        only, so that a client which writes and backspaces stands where it expects to (states.md 5.9 item 6).
        """
        if not (self._implicit_filemark and self._mark_due):
            return _DONE
        if self._place.lost:
            return self._refused()
        if not self._place.at_written_end:
            outcome = self.locate("end", 0)
            if outcome.condition is Condition.FAILED:
                return outcome
        return self._write_marks(1)

    def _give_back(self) -> None:
        if self._unit is not None:
            self._unit.close()
        self._tape.close()

    def _ended(self) -> Outcome:
        """All that is due on tape, and nothing for the driver to do at the close."""
        self._hear()
        if self._place.lost:
            return self._refused() if self._mark_due or self._unflushed else _DONE
        outcome = self._write_due_mark()
        if outcome.condition is Condition.FAILED:
            return outcome
        return self._moved(self._leave, "close")


def _open_ready(spec: DeviceSpec, mode: TapeMode, opens: Opens, sleep: Callable[[float], None]) -> tuple[Tape, Status]:
    """Open the node, again and again while a cartridge is being threaded: the driver looks at its drive when opened."""
    waited = 0.0
    while True:
        tape = opens(spec.device, mode != TapeMode.READ)
        try:
            status = tape.status()
        except OSError:
            tape.close()
            raise
        if status.flags & (General.ONLINE | General.DR_OPEN) or waited >= READY_WAIT_S:
            return tape, status
        tape.close()
        sleep(READY_LOOK_S)
        waited += READY_LOOK_S
