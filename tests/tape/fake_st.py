"""The Linux st driver with a drive behind it, as st.c behaves: what it says, what it hides, and what it does unasked.

The drive is a list of records and marks. Written from st.rst and what the driver was seen to do in a guest, not from
what StDrive expects of it.
"""

import errno
import os
import struct
from enum import IntEnum

from mover.tape.st_device import General, Operation, Option
from mover.tape.st_device import Status as StStatus
from mover.tape.transport import Reply, Status


class Eof(IntEnum):
    """The driver's own state of what it met."""

    NONE = 0
    FM = 2
    EOM_OK = 3
    EOM_ERROR = 4
    EOD_1 = 5
    EOD_2 = 6
    EOD = 7


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class FakeSt:
    """One drive of the driver, which outlives every open of its node.

    Args:
        tells: the drive has READ POSITION.
        background: a write returns before it is done, and its error comes with the next call.
        capacity, early_warning: of the tape, in bytes of records.
        odd: as an odd drive of the field. It spaces over records and marks alike, past the end of data without a word,
            backwards by one only, and over a filemark one too far; it tells no residual and not where it stands; it
            loses the end of a record that fills more than half of the room it is read into; its end of data the driver
            takes for a record.
        sg: the kernel has an sg node of it.
    """

    def __init__(
        self,
        *,
        tells: bool = True,
        background: bool = False,
        capacity: int = 1 << 40,
        early_warning: int = 0,
        odd: bool = False,
        sg: bool = False,
    ) -> None:
        self.tells, self.background, self.odd = tells, background, odd
        self.sg = sg or odd
        self.capacity, self.early_warning = capacity, early_warning
        self.tape: list[bytes | None] = []
        self.at = 0
        self.file, self.block = 0, 0
        self.eof = Eof.NONE
        self.writing = self.in_use = False
        self.protected = False
        self.loaded = True
        self.not_ready_looks = 0
        self.option = Option(0)
        self.block_size = 0
        self.pending = 0
        self.soft_errors = 0
        self.fails: list[tuple[str, int]] = []  # the next call of this name fails with this error
        self.sense: list[bytes] = []  # the next command by the sg node ends with these sense data
        self.calls: list[str] = []
        self.writable = False

    def open(self, path: str, writable: bool) -> "FakeSt":
        """What opening its node does."""
        if self.in_use:
            raise error(errno.EBUSY)
        self._called("open")
        self.in_use, self.writable, self.writing = True, writable, False
        self.eof = Eof.NONE if self.eof < Eof.EOM_OK else self.eof
        return self

    def _called(self, name: str) -> None:
        self.calls.append(name)
        for fault in self.fails:
            if fault[0] == name:
                self.fails.remove(fault)
                raise error(fault[1])

    def _await(self) -> None:
        pending, self.pending = self.pending, 0
        if pending:
            raise error(pending)

    # --- transfers

    def write(self, view: memoryview) -> int:
        if self.protected or not self.writable:
            raise error(errno.EACCES)
        try:
            self._await()
        except OSError as failure:
            self.eof = Eof.EOM_OK if failure.errno == errno.ENOSPC else Eof.EOM_ERROR
        if self.eof == Eof.EOM_OK:
            self.eof = Eof.EOD_1
            raise error(errno.ENOSPC)
        if self.eof == Eof.EOM_ERROR:
            raise error(errno.EIO)
        self.writing = True
        self._called("write")
        records = [bytes(view)]
        if self.block_size:
            assert len(view) % self.block_size == 0
            size = self.block_size
            records = [bytes(view[start : start + size]) for start in range(0, len(view), size)]
        del self.tape[self.at :]
        used = sum(len(record) for record in self.tape if record is not None)
        if used + len(view) > self.capacity:
            if self.background:
                self.pending = errno.EIO
                return len(view)
            self.eof = Eof.EOM_OK
            raise error(errno.ENOSPC)
        self.tape += records
        self.at += len(records)
        self.block = self.block + len(records) if self.block >= 0 else -1
        self.eof = Eof.NONE
        if used + len(view) > self.capacity - self.early_warning:
            if self.background:
                self.pending = errno.ENOSPC
            else:
                self.eof = Eof.EOM_OK
        return len(view)

    def read(self, view: memoryview) -> int:
        self._await()
        self.writing = False
        if self.eof >= Eof.EOD_1:
            if self.eof < Eof.EOD:
                self.eof = Eof(self.eof + 1)
                return 0
            raise error(errno.EIO)
        self._called("read")
        if self.block_size:
            return self._read_blocks(view)
        if self.at == len(self.tape):
            if self.odd:  # BLANK CHECK with EOM and without information
                self.eof = Eof.EOM_OK
                return len(view)
            return self._read_blank()
        record = self.tape[self.at]
        self.at += 1
        if record is None:
            self.file, self.block, self.eof = self._next_file(), 0, Eof.FM
            return 0
        self.block = self.block + 1 if self.block >= 0 else -1
        self.eof = Eof.NONE
        if len(record) > len(view):
            raise error(errno.ENOMEM)
        kept = len(record)
        if self.odd and len(record) < len(view) < 2 * len(record):
            kept = len(view) - len(record)
        view[: len(record)] = record[:kept] + bytes(len(record) - kept)
        return len(record)

    def _read_blank(self) -> int:
        self.block = -1
        if self.eof == Eof.FM:
            self.eof = Eof.EOD
            return 0
        raise error(errno.EIO)

    def _read_blocks(self, view: memoryview) -> int:
        assert len(view) % self.block_size == 0
        done = 0
        while done < len(view):
            if self.at == len(self.tape):
                return done or self._read_blank()
            block = self.tape[self.at]
            if block is None:
                if not done:
                    self.at += 1
                    self.file, self.block, self.eof = self._next_file(), 0, Eof.FM
                break
            view[done : done + len(block)] = block
            done += len(block)
            self.at += 1
            self.block += 1
        return done

    def _next_file(self) -> int:
        return self.file + 1 if self.file >= 0 else -1

    # --- MTIOCTOP

    def operate(self, operation: Operation, count: int) -> None:
        self._await()
        if self.writing and operation in {Operation.REW, Operation.OFFL, Operation.SEEK, Operation.BSF}:
            self._weof(1)
            if operation == Operation.BSF:
                count += 1
        if operation != Operation.SETBLK:
            self.writing = False
        self._called(operation.name)
        match operation:
            case Operation.REW:
                self.at = self.file = self.block = 0
                self.eof = Eof.NONE
            case Operation.OFFL:
                self.at = self.file = self.block = 0
                self.loaded = False
            case Operation.WEOF:
                self._weof(count)
            case Operation.FSF | Operation.EOM:
                self._fsf(1 << 30 if operation == Operation.EOM else count, quietly=operation == Operation.EOM)
            case Operation.BSF:
                self._bsf(count)
            case Operation.FSR:
                self._fsr(count)
            case Operation.BSR:
                self._bsr(count)
            case Operation.SEEK:
                self._seek(count)
            case Operation.SETBLK:
                self.block_size = count

    def _weof(self, count: int) -> None:
        if self.protected or not self.writable:
            raise error(errno.EACCES)
        if count:
            del self.tape[self.at :]
            self.tape += [None] * count
            self.at += count
        self.file = self.file + count if self.file >= 0 else -1
        self.block, self.eof = 0, Eof.NONE

    def _fsf(self, count: int, *, quietly: bool) -> None:
        claimed = self.file + count
        while count and self.at < len(self.tape):
            if self.tape[self.at] is None:
                count -= 1
                self.file = self._next_file()
            self.at += 1
        self.block, self.eof = 0, Eof.NONE
        if count:
            self.block, self.eof = -1, Eof.EOD
            if self.odd:  # no residual: the driver takes it for all; and no sense key that it knows
                self.file, self.eof = claimed, Eof.NONE
            if not quietly:
                raise error(errno.EIO)

    def _bsf(self, count: int) -> None:
        while count and self.at:
            here = self.at - (not self.odd)  # an odd one looks at what is next before it goes back
            if here < len(self.tape) and self.tape[here] is None:
                count -= 1
                self.file = self.file - 1 if self.file >= 0 else -1
            self.at -= 1
        self.block, self.eof = (0 if count else -1), Eof.NONE
        if count:
            raise error(errno.EIO)

    def _fsr(self, count: int) -> None:
        self.eof = Eof.NONE
        for _ in range(count):
            if self.at == len(self.tape):
                if self.odd:
                    return
                self.eof = Eof.EOD
                raise error(errno.EIO)
            mark = self.tape[self.at] is None
            self.at += 1
            if mark and not self.odd:
                self.file, self.block, self.eof = self._next_file(), 0, Eof.FM
                raise error(errno.EIO)
            self.block = self.block + 1 if self.block >= 0 else -1

    def _bsr(self, count: int) -> None:
        self.eof = Eof.NONE
        if self.odd and count > 1:
            return
        for _ in range(count):
            if self.at == 0:
                self.block = 0
                raise error(errno.EIO)
            self.at -= 1
            if self.tape[self.at] is None and not self.odd:
                self.file, self.block = self.file - 1 if self.file >= 0 else -1, -1
                raise error(errno.EIO)
            self.block = self.block - 1 if self.block > 0 else -1

    def _seek(self, place: int) -> None:
        self.file = self.block = -1
        self.eof = Eof.NONE
        if not self.tells or self.odd:
            raise error(errno.EIO)
        self.at = min(place, len(self.tape))
        if self.at < place:
            raise error(errno.EIO)

    # --- what it says

    def status(self) -> StStatus:
        self._await()
        self._called("status")
        flags = General(0)
        if self.not_ready_looks:
            self.not_ready_looks -= 1
        elif self.loaded:
            flags |= General.ONLINE
        else:
            flags |= General.DR_OPEN
        if self.protected:
            flags |= General.WR_PROT
        if (self.file, self.block) == (0, 0):
            flags |= General.BOT
        if self.eof in {Eof.EOM_OK, Eof.EOM_ERROR}:
            flags |= General.EOT
        elif self.eof > Eof.EOM_ERROR:
            flags |= General.EOD
        soft, self.soft_errors = self.soft_errors, 0
        known = [number if number >= 0 else None for number in (self.file, self.block)]
        return StStatus(known[0], known[1], self.block_size, soft, flags)

    def tell(self) -> int:
        self._await()
        self._called("tell")
        if not self.tells or self.odd:
            raise error(errno.EIO)
        return self.at

    # --- the sg node

    def execute(self, cdb: bytes, data: memoryview | None = None, *, writes: bool = False, timeout_s: float) -> Reply:
        """READ(6), behind the driver's back, TEST UNIT READY, and the capacity of LOG SENSE."""
        assert (writes, timeout_s > 0) == (False, True)
        if self.sense:
            return Reply(Status.CHECK_CONDITION, self.sense.pop(0), 0)
        if cdb[0] == 0x08 and data is not None:
            return self._read_by_command(data)
        if cdb[0] == 0x4D and cdb[2] & 0x3F == 0x31 and data is not None:
            used = sum(len(record) for record in self.tape[: self.at] if record is not None)
            room = {1: self.capacity - used, 3: self.capacity}
            parameters = b"".join(struct.pack(">HBBI", number, 0, 4, size >> 20) for number, size in room.items())
            page = bytes([0x31, 0, 0, len(parameters)]) + parameters
            data[: len(page)] = page
            return Reply(Status.GOOD, b"", len(page))
        if cdb[0] == 0x00:
            return Reply(Status.GOOD, b"", 0)
        return Reply(Status.CHECK_CONDITION, bytes([0x70, 0, 0x05, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24]) + bytes(5), 0)

    def _read_by_command(self, data: memoryview) -> Reply:
        assert not self.block_size
        if self.at == len(self.tape):
            return Reply(Status.CHECK_CONDITION, bytes([0x70, 0, 0x48]) + bytes(15), 0)
        record = self.tape[self.at]
        self.at += 1
        left = len(data) - len(record or b"")
        sense = struct.pack(">BBBi", 0xF0, 0, 0x20 if record is not None else 0x80, left) + bytes(11)
        if record is None:
            return Reply(Status.CHECK_CONDITION, sense[:12] + b"\0\1" + bytes(4), 0)
        kept = min(len(record), len(data))
        if self.odd and len(record) < len(data) < 2 * len(record):
            kept = len(data) - len(record)
        data[:kept] = record[:kept]
        return Reply(Status.CHECK_CONDITION, sense, kept) if left else Reply(Status.GOOD, b"", kept)

    def options(self) -> Option:
        return self.option

    def close(self) -> None:
        if self.writing:
            self._weof(1)
        self.writing = self.in_use = False
        self.pending = 0
        self._called("close")
