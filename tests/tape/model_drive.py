"""A model of a tape drive that takes CDBs: it behaves as SSC-4 says, or as odd as a test wants it.

A transport of the tape room; several may lead to one drive. Source: SSC-4 6, 7, 8; SPC-4 4.5, 6.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from mover.tape.transport import Reply, Status, TransportError

FILEMARK, EOM, ILI = 0x80, 0x40, 0x20
NO_SENSE, NOT_READY, MEDIUM_ERROR, ILLEGAL, ATTENTION, PROTECT, BLANK, OVERFLOW = 0, 2, 3, 5, 6, 7, 8, 0xD
BLOCK_BYTES_MAX: Final = 1 << 21
UNKNOWN_COMMAND: Final = (0x20, 0)
POWER_ON: Final = (ATTENTION, 0x29, 0)
MEDIUM_CHANGED: Final = (ATTENTION, 0x28, 0)
NO_MEDIUM: Final = (NOT_READY, 0x3A, 0)
BECOMING_READY: Final = (NOT_READY, 0x04, 1)

Items = list[bytes | None]


class CheckError(Exception):
    """The command ends with CHECK CONDITION."""

    def __init__(
        self, key: int, asc: int = 0, ascq: int = 0, *, flags: int = 0, information: int | None = None, moved: int = 0
    ) -> None:
        super().__init__(key, asc, ascq)
        valid = 0x80 if information is not None else 0
        number = (information or 0).to_bytes(4, signed=True)
        self.sense = bytes([0x70 | valid, 0, flags | key]) + number + bytes([10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0])
        self.moved = moved


class ModelDrive:
    """The drive and its medium.

    Attributes:
        items: what is on tape, a filemark as None.
        at: how many items lie before the head.
        capacity, early_warning: in bytes of records.
        loaded, protected: of the medium.
        attentions: unit attentions to come.
        failures: operation code -> what becomes of the next commands of that kind.
        tells, counts_marks, locates, spaces_exactly, says_residual, gives_all: what it has; each may be taken away.
        log: operation codes of the commands that came.
    """

    def __init__(self) -> None:
        self.items: Items = []
        self.at = 0
        self.capacity = 1 << 40
        self.early_warning = 0
        self.loaded, self.protected = True, False
        self.block_size = 512
        self.attentions: deque[tuple[int, int, int]] = deque()
        self.failures: dict[int, deque[Reply | TransportError | tuple[int, int, int]]] = {}
        self.tells = self.counts_marks = self.locates = self.spaces_exactly = True
        self.says_residual = self.gives_all = self.has_logs = self.reserves = True
        self.alerts: set[int] = set()
        self.corrected = 0
        self.unwritten = 0  # items that are still in its buffer
        self.log: list[int] = []
        self.holder: ModelTransport | None = None
        self._commands: dict[int, Callable[[bytes, memoryview], int]] = {
            0x00: lambda cdb, data: self._medium(0),
            0x01: self._rewind,
            0x05: self._limits,
            0x08: self._read,
            0x0A: self._write,
            0x10: self._write_marks,
            0x11: self._space,
            0x12: self._inquiry,
            0x15: self._mode_select,
            0x1A: self._mode_sense,
            0x1B: self._load_unload,
            0x2B: self._locate,
            0x34: self._position,
            0x4D: self._log_sense,
            0x92: self._locate,
        }

    def transport(self) -> "ModelTransport":
        return ModelTransport(self)

    def fail(self, code: int, *failures: Reply | TransportError | tuple[int, int, int]) -> None:
        """Have the next commands of this code end so."""
        self.failures.setdefault(code, deque()).extend(failures)

    def answer(self, code: int, command: Callable[[bytes, memoryview], int]) -> None:
        """Have another command in the place of its own."""
        self._commands[code] = command

    def execute(self, cdb: bytes, data: memoryview, by: "ModelTransport") -> Reply:
        code = cdb[0]
        self.log.append(code)
        try:
            failures = self.failures.get(code)
            if failures:
                failure = failures.popleft()
                if isinstance(failure, TransportError):
                    raise failure
                if isinstance(failure, Reply):
                    return failure
                raise CheckError(*failure)
            if self.holder not in {None, by} and code not in {0x12, 0x17}:
                return Reply(Status.RESERVATION_CONFLICT, b"", 0)
            if self.attentions and code != 0x12:
                raise CheckError(*self.attentions.popleft())
            if code in {0x16, 0x17}:
                return self._reserve(by, reserve=code == 0x16)
            if code not in self._commands:
                raise CheckError(ILLEGAL, *UNKNOWN_COMMAND)
            return Reply(Status.GOOD, b"", self._commands[code](cdb, data))
        except CheckError as check:
            return Reply(Status.CHECK_CONDITION, check.sense, check.moved)

    def _reserve(self, by: "ModelTransport", *, reserve: bool) -> Reply:
        if not self.reserves:
            raise CheckError(ILLEGAL, *UNKNOWN_COMMAND)
        self.holder = by if reserve else None
        return Reply(Status.GOOD, b"", 0)

    def _medium(self, result: int) -> int:
        if not self.loaded:
            raise CheckError(*NO_MEDIUM)
        return result

    @property
    def used(self) -> int:
        return sum(len(item) if item is not None else 0 for item in self.items[: self.at])

    # --- motion ---------------------------------------------------------------------------------------------

    def _rewind(self, _: bytes, __: memoryview) -> int:
        self._medium(0)
        self.at = 0
        return 0

    def _space(self, cdb: bytes, _: memoryview) -> int:
        self._medium(0)
        what, count = cdb[1] & 0x0F, int.from_bytes(cdb[2:5], signed=True)
        if what == 3:
            self.at = len(self.items)
            return 0
        left, step = abs(count), 1 if count > 0 else -1
        while left:
            if step < 0 and self.at == 0:
                raise self._check(NO_SENSE, 0, 4, EOM, left)
            if step > 0 and self.at == len(self.items):
                raise self._check(BLANK, 0, 5, 0, left)
            item = self.items[self.at if step > 0 else self.at - 1]
            self.at += step
            if what == 1:
                left -= item is None
            elif item is None and self.spaces_exactly:
                raise self._check(NO_SENSE, 0, 1, FILEMARK, left)
            else:
                left -= 1
        return 0

    def _check(self, key: int, asc: int, ascq: int, flags: int, left: int) -> CheckError:
        return CheckError(key, asc, ascq, flags=flags, information=left if self.says_residual else None)

    def _locate(self, cdb: bytes, _: memoryview) -> int:
        self._medium(0)
        if not self.locates:
            raise CheckError(ILLEGAL, *UNKNOWN_COMMAND)
        number = int.from_bytes(cdb[4:12] if cdb[0] == 0x92 else cdb[3:7])
        self.at = min(number, len(self.items))
        if number > len(self.items):
            raise CheckError(BLANK, 0, 5)
        return 0

    def _load_unload(self, cdb: bytes, _: memoryview) -> int:
        if not cdb[4] & 1:
            self._medium(0)
        self.loaded, self.at = bool(cdb[4] & 1), 0
        return 0

    def _position(self, cdb: bytes, data: memoryview) -> int:
        self._medium(0)
        if not self.tells:
            data[0] = 0x04
            return len(data)
        flags = 0x80 if self.at == 0 else 0
        if cdb[1] == 6:
            if not self.counts_marks:
                raise CheckError(ILLEGAL, 0x24, 0)
            marks = self.items[: self.at].count(None)
            data[:] = bytes([flags, 0, 0, 0, 0, 0, 0, 0]) + self.at.to_bytes(8) + marks.to_bytes(8) + bytes(8)
        else:
            data[:] = bytes([flags, 0, 0, 0]) + self.at.to_bytes(4) + (self.at - self.unwritten).to_bytes(4) + bytes(8)
        return len(data)

    # --- data -----------------------------------------------------------------------------------------------

    def _read(self, cdb: bytes, data: memoryview) -> int:
        self._medium(0)
        count = int.from_bytes(cdb[2:5])
        return self._read_blocks(count, data) if cdb[1] & 1 else self._read_record(count, data)

    def _read_record(self, count: int, data: memoryview) -> int:
        if self.block_size:
            raise CheckError(ILLEGAL, 0x24, 0)
        record = self._next(count)
        self.at += 1
        moved = min(len(record), count)
        if not self.gives_all and len(record) != count:
            moved = min(moved, abs(count - len(record)))
        data[:moved] = record[:moved]
        if len(record) != count:
            raise CheckError(NO_SENSE, flags=ILI, information=count - len(record), moved=moved)
        return count

    def _read_blocks(self, count: int, data: memoryview) -> int:
        size = self.block_size
        for done in range(count):
            try:
                block = self._next(count - done)
            except CheckError as check:
                check.moved = done * size
                raise
            self.at += 1
            if len(block) != size:
                raise CheckError(NO_SENSE, flags=ILI, information=count - done, moved=done * size)
            data[done * size : (done + 1) * size] = block
        return count * size

    def _next(self, left: int) -> bytes:
        if self.at == len(self.items):
            raise CheckError(BLANK, 0, 5, information=left)
        item = self.items[self.at]
        if item is None:
            self.at += 1
            raise CheckError(NO_SENSE, 0, 1, flags=FILEMARK, information=left)
        return item

    def _write(self, cdb: bytes, data: memoryview) -> int:
        self._writable()
        count, fixed = int.from_bytes(cdb[2:5]), cdb[1] & 1
        if bool(fixed) != bool(self.block_size):
            raise CheckError(ILLEGAL, 0x24, 0)
        size = self.block_size if fixed else count
        for done in range(count if fixed else 1):
            left = count - done if fixed else count
            if self.used + size > self.capacity:
                raise CheckError(OVERFLOW, 0, 2, flags=EOM, information=left)
            del self.items[self.at :]
            self.items.append(bytes(data[done * size : (done + 1) * size]))
            self.at += 1
        if self.used > self.capacity - self.early_warning:
            raise CheckError(NO_SENSE, 0, 2, flags=EOM, information=0, moved=len(data))
        return len(data)

    def _write_marks(self, cdb: bytes, _: memoryview) -> int:
        self._writable()
        count = int.from_bytes(cdb[2:5])
        if count:
            self.items[self.at :] = [None] * count
            self.at += count
        if self.used > self.capacity - self.early_warning:
            raise CheckError(NO_SENSE, 0, 2, flags=EOM, information=0)
        return 0

    def _writable(self) -> None:
        self._medium(0)
        if self.protected:
            raise CheckError(PROTECT, 0x27, 0)

    # --- what it is -----------------------------------------------------------------------------------------

    def _inquiry(self, _: bytes, data: memoryview) -> int:
        data[:36] = b"\x01\x80\x06\x02\x1f\0\0\0MODEL   TAPE DRIVE      0001"
        return 36

    def _limits(self, _: bytes, data: memoryview) -> int:
        data[:6] = b"\0" + BLOCK_BYTES_MAX.to_bytes(3) + b"\0\x01"
        return 6

    def _mode_sense(self, _: bytes, data: memoryview) -> int:
        self._medium(0)
        data[:12] = bytes([11, 0, 0x10 | (0x80 if self.protected else 0), 8, 0x46, 0, 0, 0, 0]) + (
            self.block_size.to_bytes(3)
        )
        return 12

    def _mode_select(self, _: bytes, data: memoryview) -> int:
        self.block_size = int.from_bytes(data[9:12])
        return len(data)

    def _log_sense(self, cdb: bytes, data: memoryview) -> int:
        page = cdb[2] & 0x3F
        mib = 1 << 20
        values = {
            0x31: {1: (self.capacity - self.used) // mib, 3: self.capacity // mib},
            0x02: {3: self.corrected},
            0x2E: {number: int(number in self.alerts) for number in range(1, 65)},
        }
        if not self.has_logs or page not in values:
            raise CheckError(ILLEGAL, 0x24, 0)
        width = 1 if page == 0x2E else 4
        body = b"".join(
            code.to_bytes(2) + bytes([0, width]) + value.to_bytes(width) for code, value in values[page].items()
        )
        answer = bytes([page, 0]) + len(body).to_bytes(2) + body
        data[: len(answer)] = answer
        return len(answer)


class ModelTransport:
    """A way to the model."""

    def __init__(self, drive: ModelDrive) -> None:
        self._drive = drive
        self.closed = False

    def execute(self, cdb: bytes, data: memoryview | None = None, *, writes: bool = False, timeout_s: float) -> Reply:
        """See Transport.execute."""
        if self.closed:
            raise TransportError("closed")
        return self._drive.execute(cdb, memoryview(b"") if data is None else data, self)

    def close(self) -> None:
        """A reservation ends with who made it."""
        self.closed = True
        if self._drive.holder is self:
            self._drive.holder = None
