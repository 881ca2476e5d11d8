"""The TAPE service of version 1: reads and writes are multiples of one record size. Source: NDMPv1 section 3.4."""

from typing import TYPE_CHECKING, Final

from mover.control.refusal import Refusal
from mover.control.tape_service import TapeService
from mover.ndmp.enums import DataState, ErrorCode, TapeFlag, TapeOperation
from mover.ndmp.window import DEFAULT_RECORD_SIZE
from mover.workers.tape_messages import RecordDone

if TYPE_CHECKING:
    from mover.control.connection import Connection

TRANSFER_BYTES_MAX: Final = 4 << 20
"""Most bytes of a TAPE_READ or TAPE_WRITE, unless records may be longer. NDMPv1 names no bound, and one message may
carry any number of records; a connection's memory has one."""
PAD: Final = b"\0"
"""What fills up a last record. NDMPv1 3.4.5 has "pad data" and names no value (states.md 2.4: zeros recommended)."""

ASKING_CDBS: Final = frozenset({
    0x00,  # TEST UNIT READY
    0x03,  # REQUEST SENSE
    0x05,  # READ BLOCK LIMITS
    0x12,  # INQUIRY
    0x1A,  # MODE SENSE(6)
    0x34,  # READ POSITION
    0x3C,  # READ BUFFER
    0x44,  # REPORT DENSITY SUPPORT
    0x4D,  # LOG SENSE
    0x5A,  # MODE SENSE(10)
    0x5E,  # PERSISTENT RESERVE IN
    0x8C,  # READ ATTRIBUTE
    0xA0,  # REPORT LUNS
    0xA2,  # SECURITY PROTOCOL IN
    0xA3,  # MAINTENANCE IN
})  # fmt: skip
"""Operation codes that leave a drive as it is; TAPE_EXECUTE_CDB "can't be used to change the state of the tape device"
(NDMPv1 3.4.8). The draft names no error for the others: ILLEGAL_ARGS (states.md 2.5)."""


class RecordTapeService(TapeService):
    """The drive that a connection of version 1 has open.

    Attributes:
        record_size: in bytes, as set last, also over close and open; NDMPv1 names no first value (states.md 2.4:
            that of the later versions).
    """

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection)
        self.record_size = DEFAULT_RECORD_SIZE

    @property
    def transfer_max(self) -> int:
        """Most bytes of one TAPE_READ or TAPE_WRITE."""
        return max(TRANSFER_BYTES_MAX, self._connection.config.limits.record_size_max)

    def audit(self) -> None:
        """Raise Refusal when no drive is open, or the data operation has it.

        NDMPv1 does not say what TAPE requests find then; only TAPE_GET_STATE is answered (states.md 2.5).
        """
        super().audit()
        if self._connection.machines.data.state is DataState.ACTIVE:
            raise Refusal(ErrorCode.DEVICE_BUSY_ERR)

    async def audit_operation(self, *, writes: bool) -> None:
        """What START and CONTINUE need of the drive: open, a tape in it, and for a backup writable. Raises Refusal.

        NDMPv1 3.5.2 lists no drive and a protected tape. Of a drive opened in READ mode it says nothing:
        PERMISSION_ERR, as in later versions (states.md 2.1). Nor does it of one that was emptied by MTIO OFF:
        NO_TAPE_LOADED_ERR, so that an operation that waits for its next tape goes on waiting.
        """
        if not self.is_open:
            raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)
        if writes and not self.writable:
            state = await self.state()
            protected = state.flags & TapeFlag.WR_PROT
            raise Refusal(ErrorCode.WRITE_PROTECT_ERR if protected else ErrorCode.PERMISSION_ERR)
        ready = await self.move(TapeOperation.TUR, 1)
        if ready.error != ErrorCode.NO_ERR:
            raise Refusal(ready.error, ready.text)

    async def write(self, data: bytes) -> RecordDone:
        """Whole records, the last one padded; the count is what is on tape, pad included. Raises Refusal.

        Source: NDMPv1 3.4.5.
        """
        size = self.record_size
        written = 0
        done = RecordDone(ErrorCode.NO_ERR, 0, "")
        for at in range(0, len(data), size):
            done = await super().write(data[at : at + size].ljust(size, PAD))
            written += done.count
            if done.error != ErrorCode.NO_ERR:
                break
        return RecordDone(done.error, written, done.text)

    async def read(self, count: int) -> tuple[RecordDone, bytes]:
        """The first ``count`` bytes of as many records as hold them. Raises Refusal.

        The unread rest of the last record is lost; a filemark ends it, EOF beside the bytes before. A record longer
        than the record size loses its end, a shorter one counts as one (states.md 2.4). Source: NDMPv1 3.4.6.
        """
        size = self.record_size
        parts: list[bytes] = []
        done = RecordDone(ErrorCode.NO_ERR, 0, "")
        for _ in range(0, count, size):
            done, record = await super().read(size)
            if done.error != ErrorCode.NO_ERR:
                break
            parts.append(record)
        data = b"".join(parts)[:count]
        return RecordDone(done.error, len(data), done.text), data
