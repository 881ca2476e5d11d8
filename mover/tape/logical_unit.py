"""A logical unit that takes commands: CDBs of the stream commands with their time limits, and what an answer means.

A command that the device had no time for is sent again; so is one that came across a unit attention that changes
nothing. What else it says is an Answer.

Source: SSC-4 6 and 7, SPC-4 6; SAM-5 5.3.
"""

import time
from typing import Final, NamedTuple

from mover.tape.codes import Error
from mover.tape.sense import Key, Meaning, Sense, parse_sense
from mover.tape.transport import Reply, Status, Transport, TransportError

BUSY_S: Final = 60.0  # how long a device may have no time for us
BUSY_PAUSE_S: Final = 0.25
AGAIN_MAX: Final = 8  # unit attentions in a row
COUNT_MAX: Final = (1 << 23) - 1  # of one SPACE(6), a signed 24 bit number
LENGTH_MAX: Final = (1 << 24) - 1

TEST_UNIT_READY: Final = 0x00
REWIND: Final = 0x01
READ_BLOCK_LIMITS: Final = 0x05
READ: Final = 0x08
WRITE: Final = 0x0A
WRITE_FILEMARKS: Final = 0x10
SPACE: Final = 0x11
INQUIRY: Final = 0x12
MODE_SELECT: Final = 0x15
RESERVE: Final = 0x16
RELEASE: Final = 0x17
MODE_SENSE: Final = 0x1A
LOAD_UNLOAD: Final = 0x1B
LOCATE: Final = 0x2B
READ_POSITION: Final = 0x34
LOG_SENSE: Final = 0x4D
LOCATE_16: Final = 0x92

TIMEOUTS_S: Final[dict[int, float]] = {
    READ: 1100,  # with all retries that a drive makes on a bad place
    WRITE: 1100,
    WRITE_FILEMARKS: 2300,  # empties the buffer first
    SPACE: 2300,  # from one end of the tape to the other, and once more at a defect
    LOCATE: 2300,
    LOCATE_16: 2300,
    REWIND: 2300,
    LOAD_UNLOAD: 800,
}
"""How long a command may take, in seconds: less than control waits (mover/control/deadlines.py, which has the sources),
so that the drive's own name for what is slow is told. Any other command OTHER_S."""
OTHER_S: Final = 100.0

BLOCKS: Final = 0  # codes of SPACE, SSC-4 table 53
FILEMARKS: Final = 1
END_OF_DATA: Final = 3


class Answer(NamedTuple):
    """What a device says of a command.

    Attributes:
        meaning: NOTHING = it is done.
        error: the NDMP error; NO_ERR also where the meaning is a place on the tape.
        text: one line where there is an error.
        sense: None where there is none.
        transferred: bytes of data that were moved.
        lost: it may not be the same tape, or not the same place any more.
    """

    meaning: Meaning = Meaning.NOTHING
    error: Error = Error.NO_ERR
    text: str = ""
    sense: Sense | None = None
    transferred: int = 0
    lost: bool = False

    @property
    def information(self) -> int | None:
        """What was not done of a count; None = the device does not say."""
        return self.sense.information if self.sense is not None else None

    @property
    def recovered(self) -> bool:
        """It was done, with an effort."""
        return self.sense is not None and self.sense.key is Key.RECOVERED_ERROR


_LOST: Final = frozenset(
    {Meaning.MEDIUM_CHANGED, Meaning.RESET, Meaning.SETTINGS_CHANGED, Meaning.ATTENTION, Meaning.ABORTED}
)
_MOVING: Final = frozenset(
    {
        REWIND,
        READ,
        WRITE,
        WRITE_FILEMARKS,
        SPACE,
        LOAD_UNLOAD,
        LOCATE,
        LOCATE_16,
        MODE_SELECT,
        *(0x04, 0x0B, 0x0F, 0x13, 0x19),
    }
)  # and FORMAT MEDIUM, SET CAPACITY, READ REVERSE, VERIFY, ERASE
_MOVING_BYTES: Final = frozenset(bytes([code]) for code in _MOVING)
_NO_TIME: Final = frozenset({Status.BUSY, Status.TASK_SET_FULL})


class LogicalUnit:
    """A device behind a transport, and itself a transport for who has commands of his own for it.

    Attributes:
        lost: why it may not be the same tape or place any more, also if somebody else's command met the reason;
            "" = nothing was heard of that kind.
        moved: a command of somebody else's may have moved the tape.
        deferred: an error of what was written before, which a device tells once, to whatever command comes next; "" =
            none that has not been passed on.

    Args:
        name: for texts.
        timeout_s: how long it may take for any command of ours; 0 = as the table says.
    """

    def __init__(self, transport: Transport, name: str, timeout_s: int = 0) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._name = name
        self.lost = ""
        self.moved = False
        self.deferred = ""

    def execute(self, cdb: bytes, data: memoryview | None = None, *, writes: bool = False, timeout_s: float) -> Reply:
        """Somebody else's command; see Transport.execute."""
        self.moved = self.moved or cdb[:1] in _MOVING_BYTES
        reply = self._transport.execute(cdb, data, writes=writes, timeout_s=timeout_s)
        answer = self._meaning(reply)
        if answer.lost:
            self.lost = answer.text
        return reply

    def close(self) -> None:
        """See Transport.close."""
        self._transport.close()

    def command(self, cdb: bytes, data: memoryview | None = None, *, writes: bool = False) -> Answer:
        """Have a command done; raises nothing on account of the device."""
        timeout_s = self._timeout_s or TIMEOUTS_S.get(cdb[0], OTHER_S)
        busy_until = time.monotonic() + BUSY_S
        for _ in range(AGAIN_MAX):
            try:
                reply = self._transport.execute(cdb, data, writes=writes, timeout_s=timeout_s)
                while reply.status in _NO_TIME and time.monotonic() < busy_until:
                    time.sleep(BUSY_PAUSE_S)  # SAM-5 5.3.1: send it again; it says nowhere when
                    reply = self._transport.execute(cdb, data, writes=writes, timeout_s=timeout_s)
            except TransportError as error:
                self.lost = str(error)
                return Answer(Meaning.OTHER, Error.IO, str(error), lost=True)
            answer = self._meaning(reply)
            if answer.lost:
                self.lost = answer.text
            if answer.meaning is not Meaning.NOTICE:
                return answer
        text = f"{self._name}: {AGAIN_MAX} unit attentions in the place of an answer"
        return answer._replace(meaning=Meaning.ATTENTION, error=Error.IO, text=text)

    def _meaning(self, reply: Reply) -> Answer:
        if reply.status == Status.GOOD:
            return Answer(transferred=reply.transferred)
        if reply.status == Status.CHECK_CONDITION:
            sense = parse_sense(reply.sense)
            if sense is None:
                return Answer(Meaning.OTHER, Error.IO, f"{self._name}: a check condition without sense data", lost=True)
            meaning = sense.meaning
            text = f"{self._name}: {sense}" if meaning.error else ""
            if sense.deferred:
                # The command was not begun (SPC-4 4.5.7), whatever it says of the one before.
                text = self.deferred = f"{self._name}: of what was written before: {sense}"
                return Answer(Meaning.OTHER, meaning.error or Error.IO, text, sense, lost=meaning in _LOST)
            return Answer(meaning, meaning.error, text, sense, reply.transferred, meaning in _LOST)
        if reply.status in _NO_TIME:
            return Answer(Meaning.OTHER, Error.DEVICE_BUSY, f"{self._name}: busy for {BUSY_S:.0f} s")
        if reply.status == Status.RESERVATION_CONFLICT:
            return Answer(Meaning.OTHER, Error.DEVICE_BUSY, f"{self._name}: reserved by another initiator")
        return Answer(Meaning.OTHER, Error.IO, f"{self._name}: SCSI status {reply.status:02X}", lost=True)

    # --- commands without data ------------------------------------------------------------------------------

    def test_ready(self) -> Answer:
        return self.command(bytes(6))

    def rewind(self) -> Answer:
        return self.command(bytes([REWIND, 0, 0, 0, 0, 0]))

    def load(self, *, load: bool) -> Answer:
        """LOAD UNLOAD, SSC-4 7.2."""
        return self.command(bytes([LOAD_UNLOAD, 0, 0, 0, int(load), 0]))

    def reserve(self) -> Answer:
        """The whole unit for this initiator, until it is released or the session ends (SPC-2 7.21)."""
        return self.command(bytes([RESERVE, 0, 0, 0, 0, 0]))

    def release(self) -> Answer:
        return self.command(bytes([RELEASE, 0, 0, 0, 0, 0]))

    def write_filemarks(self, count: int) -> Answer:
        """Not immediate: what is in the drive's buffer is on the medium then (SSC-4 6.8)."""
        return self.command(bytes([WRITE_FILEMARKS, 0, *count.to_bytes(3), 0]))

    def space(self, what: int, count: int) -> Answer:
        """SPACE(6), SSC-4 7.7; at most COUNT_MAX either way."""
        return self.command(bytes([SPACE, what, *(count & LENGTH_MAX).to_bytes(3), 0]))

    def locate(self, number: int) -> Answer:
        """To a logical object; SSC-4 6.3 up to 32 bits, 6.4 beyond."""
        if number < 1 << 32:
            return self.command(bytes([LOCATE, 0, 0, *number.to_bytes(4), 0, 0, 0]))
        return self.command(bytes([LOCATE_16, 0, 0, 0, *number.to_bytes(8), 0, 0, 0, 0]))

    # --- commands with data ---------------------------------------------------------------------------------

    def read(self, view: memoryview, *, blocks: int = 0) -> Answer:
        """READ(6) of one record of as many bytes, or of fixed blocks."""
        count = blocks or len(view)
        return self.command(bytes([READ, int(bool(blocks)), *count.to_bytes(3), 0]), view)

    def write(self, view: memoryview, *, blocks: int = 0) -> Answer:
        """WRITE(6) likewise; what says that it is done and did not take all of it has failed."""
        count = blocks or len(view)
        answer = self.command(bytes([WRITE, int(bool(blocks)), *count.to_bytes(3), 0]), view, writes=True)
        if answer.meaning is not Meaning.NOTHING or answer.recovered:
            return answer
        left = len(view) - answer.transferred if answer.sense is None else answer.information or 0
        if left <= 0:
            return answer
        text = f"{self._name}: a record of {len(view)} bytes was not taken whole"
        return answer._replace(meaning=Meaning.OTHER, error=Error.IO, text=text)

    def inquire(self) -> tuple[Answer, bytes]:
        """Standard INQUIRY data, 36 bytes."""
        return self._ask(bytes([INQUIRY, 0, 0, 0, 36, 0]), 36)

    def block_limits(self) -> tuple[Answer, bytes]:
        return self._ask(bytes([READ_BLOCK_LIMITS, 0, 0, 0, 0, 0]), 6)

    def mode_sense(self) -> tuple[Answer, bytes]:
        """The header and the block descriptor; no page (page code 0 may be any, it is not looked at)."""
        return self._ask(bytes([MODE_SENSE, 0, 0, 0, 12, 0]), 12)

    def mode_select(self, parameters: bytes) -> Answer:
        cdb = bytes([MODE_SELECT, 0x10, 0, 0, len(parameters), 0])
        return self.command(cdb, memoryview(bytearray(parameters)), writes=True)

    def position(self, *, long: bool) -> tuple[Answer, bytes]:
        """READ POSITION, the short form or the one that counts filemarks."""
        length = 32 if long else 20
        return self._ask(bytes([READ_POSITION, 6 if long else 0, 0, 0, 0, 0, 0, 0, 0, 0]), length)

    def log_page(self, page: int) -> tuple[Answer, bytes]:
        """LOG SENSE, cumulative values."""
        length = 1024
        return self._ask(bytes([LOG_SENSE, 0, 0x40 | page, 0, 0, 0, 0, *length.to_bytes(2), 0]), length)

    def _ask(self, cdb: bytes, length: int) -> tuple[Answer, bytes]:
        data = bytearray(length)
        answer = self.command(cdb, memoryview(data))
        return answer, bytes(data[: answer.transferred]) if not answer.error else b""
