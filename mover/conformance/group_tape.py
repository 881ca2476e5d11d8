"""Group tape: opening, transfers and motions, with the exact residuals, counters and sides of a filemark.

Source: states.md 5; NDMJOB test-tape, whose phases the names in brackets are.
"""

import struct
from collections.abc import Iterator
from functools import partial
from typing import Final

from mover.conformance.checks import NOTHING, READS_TAPE, WRITES_TAPE, Check, clause
from mover.conformance.session import Session, must
from mover.conformance.stages import device, open_tape
from mover.conformance.tape_series import series_checks
from mover.conformance.tape_steps import Place, blank, mtio, read, read_error, rewind, stands, write
from mover.conformance.walk import tape_walk
from mover.conformance.wire import marked
from mover.ndmp import messages as m
from mover.ndmp.enums import ErrorCode, MessageCode, TapeFlag, TapeMode, TapeOperation, TapeUnsupported

ARGS: Final = ErrorCode.ILLEGAL_ARGS_ERR.name
CLOSED: Final = ErrorCode.DEV_NOT_OPEN_ERR.name
EOF: Final = ErrorCode.EOF_ERR.name
PERMISSION: Final = ErrorCode.PERMISSION_ERR.name
RECORD: Final = bytes(range(256)) * 4
FLAGS: Final = sum(TapeFlag)
MASK: Final = {2: 0, 3: sum(TapeUnsupported), 4: sum(TapeUnsupported) & ~TapeUnsupported.PARTITION}
OP = TapeOperation
BUSY: Final = ErrorCode.DEVICE_BUSY_ERR.name
NOT_SUPPORTED: Final = ErrorCode.NOT_SUPPORTED_ERR.name
TAPE: Final = 0x03
"""High byte of TAPE requests."""
LONG_RECORDS: Final = 200
LONG_RECORD: Final = 4096


def checks(version: int) -> Iterator[Check]:
    """The checks of this group."""
    yield from tape_walk(version)

    def check(name: str, message: str, section: str, run: object, needs: object = WRITES_TAPE) -> Check:
        notes = f"states.md {section}; NDMJOB test-tape"
        return Check(name, clause(version, f"TAPE_{message}", notes), run, needs, "TAPE")  # type: ignore[arg-type]  # functions below

    yield check("OPEN of an unknown device [T-OC]", "OPEN", "5.2", _bogus, NOTHING)
    yield check("OPEN with mode 123 [T-OC]", "OPEN", "5.2", _mode_123, READS_TAPE)
    yield check("OPEN for reading, then again [T-OC]", "OPEN", "5.2", partial(_twice, mode=TapeMode.READ), READS_TAPE)
    yield check("OPEN for writing, then again [T-OC]", "OPEN", "5.2", partial(_twice, mode=TapeMode.RDWR))
    yield check("GET_STATE has known flags and masks [T-BGS]", "GET_STATE", "5.8", _state, READS_TAPE)
    yield check("WRITE, open for reading [T-BW]", "WRITE", "5.5", _write_read_only)
    yield check("MTIO EOF, open for reading", "MTIO", "5.7", _mark_read_only)
    yield check("WRITE of 0 bytes [T-BW]", "WRITE", "5.5", _write_nothing)
    yield check("READ of 0 bytes [T-BR]", "READ", "5.6", _read_nothing, READS_TAPE)
    yield check("READ of 2 GiB [T-BR]", "READ", "5.6", partial(_read_size, count=0x8000_0000), READS_TAPE)
    yield check("MTIO of an unknown operation", "MTIO", "5.7", partial(_operation, operation=99), READS_TAPE)
    yield check("MTIO TUR", "MTIO", "5.7", _ready, READS_TAPE)
    yield check("MTIO FSF, FSR, BSF, BSR of 0 do nothing", "MTIO", "5.7", _nothing, READS_TAPE)
    yield check("BSR and BSF 100 at BOT leave 100 [T-BWR]", "MTIO", "5.7", _at_bot, READS_TAPE)
    for count, what in ((1024, "as long as"), (2048, "longer than"), (512, "shorter than")):
        run = partial(_read_then_mark, count=count)
        yield check(f"READ {what} the record, then the filemark [T-BR]", "READ", "5.6", run)
    yield check("CLOSE keeps the position [T-BR]", "CLOSE", "5.2", _keeps_position)
    yield check("BSF and FSF 100 over one filemark leave 99 [T-BWR]", "MTIO", "5.7", _one_mark)
    yield check("READ at the end of the data, again and again [T-BWR]", "READ", "5.6", _end_of_data)
    yield check("motions behind a record without a filemark [T-BWR]", "MTIO", "5.4, 5.9", _unmarked)
    yield check("the side of a filemark that a READ leaves the tape on [T-BWR]", "READ", "5.6", _side_of_read)
    yield check("the side of a filemark that FSR leaves the tape on", "MTIO", "5.7, 5.10", _side_of_fsr)
    yield check("the side of a filemark that BSR leaves the tape on", "MTIO", "5.7, 5.10", _side_of_bsr)
    yield check("the side of a filemark that BSF leaves the tape on", "MTIO", "5.7, 5.10", _side_of_bsf)
    yield check("a filemark in the middle ends the data", "MTIO", "5.7", _overwritten)
    yield check("requests behind a long motion, all sent at once", "MTIO", "1, 5.1", _behind)
    if version == 4:
        yield check("the implicit filemark before REW", "MTIO", "5.4", partial(_implicit, how="REW"))
        yield check("the implicit filemark before CLOSE", "CLOSE", "5.4", partial(_implicit, how="CLOSE"))
        yield check("no implicit filemark behind EOF", "MTIO", "5.4", partial(_implicit, how="EOF"))
    yield from series_checks(version)


def _behind(session: Session) -> None:
    """GET_STATE of DATA and MOVER may overtake a TAPE request; a second one waits, or the drive is busy."""
    open_tape(session)
    for _ in range(LONG_RECORDS):
        write(session, bytes(LONG_RECORD))
    rewind(session)
    motions = [(OP.FSR, LONG_RECORDS), (OP.BSR, LONG_RECORDS), (OP.FSR, LONG_RECORDS), (OP.REW, 1)]
    asked: dict[int, int] = {}
    data = b""
    for operation, count in motions:
        states = (MessageCode.DATA_GET_STATE, MessageCode.MOVER_GET_STATE, MessageCode.TAPE_GET_STATE)
        for number, body in (
            (MessageCode.TAPE_MTIO, struct.pack(">iI", operation, count)), *((state, b"") for state in states),
        ):  # fmt: skip
            sequence, record = session.wire.next_request(number, body)
            asked[sequence] = number
            data += marked(record)
    session.wire.send(data)
    before = 0  # sequence of the last TAPE request answered
    while asked:
        message = session.wire.receive(f"{len(asked)} replies behind motions")
        if not message.is_reply:
            continue
        sequence = message.header.reply_sequence
        must(asked.get(sequence) == message.header.message, "a reply to each request, once", f"one to {sequence}")
        code = asked.pop(sequence)
        error = session.decoded(message, code).error
        if code >> 8 != TAPE:
            must(error in {"NO_ERR", NOT_SUPPORTED}, "NO_ERR", error)
            continue
        must(sequence > before, "TAPE requests answered in order", f"{sequence} behind {before}")
        must(error in ({"NO_ERR"} if before == 0 else {"NO_ERR", BUSY}), f"NO_ERR or {BUSY}", error)
        before = sequence


# ---- opening, modes and sizes


def _bogus(session: Session) -> None:
    session.expect(m.TapeOpenRequest(b"bogus", TapeMode.READ), ErrorCode.NO_DEVICE_ERR.name)


def _mode_123(session: Session) -> None:
    session.expect(m.TapeOpenRequest(device(session), 123), ARGS)
    session.expect(m.TapeGetStateRequest(), CLOSED)


def _twice(session: Session, mode: TapeMode) -> None:
    open_tape(session, mode)
    session.expect(m.TapeOpenRequest(device(session), mode), ErrorCode.DEVICE_OPENED_ERR.name)
    session.done(m.TapeGetStateRequest(), m.TapeCloseRequest())
    session.expect(m.TapeCloseRequest(), CLOSED)


def _state(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    state = session.ok(m.TapeGetStateRequest(), m.TapeGetStateReply)
    must(not state.flags & ~FLAGS, "known flags", f"{state.flags:#x}")
    must(not state.unsupported & ~MASK[session.version], "known bits in the mask", f"{state.unsupported:#x}")
    stands(session, Place(0, 0))


def _write_read_only(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    session.expect(m.TapeWriteRequest(RECORD), PERMISSION)
    rewind(session)


def _mark_read_only(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    session.expect(m.TapeMtioRequest(OP.EOF, 1), PERMISSION)


def _write_nothing(session: Session) -> None:
    open_tape(session)
    answer = session.expect(m.TapeWriteRequest(b""), "NO_ERR", ARGS)
    count = answer.body.count if isinstance(answer.body, m.TapeWriteReply) else 0
    must(count == 0, "count 0", count)
    stands(session, Place(0, 0))


def _read_nothing(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    allowed = ("NO_ERR",) if session.version == 4 else ("NO_ERR", ARGS)
    answer = session.expect(m.TapeReadRequest(0), *allowed)
    data = answer.body.data_in if isinstance(answer.body, m.TapeReadReply) else b""
    must(not data, "no data", f"{len(data)} bytes")
    stands(session, Place(0, 0))


def _read_size(session: Session, count: int) -> None:
    open_tape(session, TapeMode.READ)
    session.expect(m.TapeReadRequest(count), ARGS)


def _operation(session: Session, operation: int) -> None:
    open_tape(session, TapeMode.READ)
    session.expect(m.TapeMtioRequest(operation, 1), ARGS)


def _ready(session: Session) -> None:
    """TUR is version 4's, and optional."""
    open_tape(session, TapeMode.READ)
    request = m.TapeMtioRequest(OP.TUR, 1)
    if session.version == 4:
        session.expect_or_not_offered(request, "NO_ERR")
    else:
        session.expect(request, ARGS)


def _nothing(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    for operation in (OP.FSF, OP.FSR, OP.BSF, OP.BSR):
        mtio(session, operation, 0)
    stands(session, Place(0, 0))


def _at_bot(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    for operation in (OP.BSR, OP.BSF):
        mtio(session, operation, 100, left=100)
    stands(session, Place(0, 0))


# ---- records and filemarks


def _one_record(session: Session) -> None:
    """One record of 1024 and a filemark; the tape at BOT."""
    open_tape(session)
    write(session, RECORD)
    mtio(session, OP.EOF, 1)
    rewind(session)


def _read_then_mark(session: Session, count: int) -> None:
    """A shorter record is normal; the rest of a longer one is dropped."""
    _one_record(session)
    read(session, count, RECORD[:count])
    stands(session, Place(0, 1))
    read_error(session, EOF)


def _keeps_position(session: Session) -> None:
    _one_record(session)
    mtio(session, OP.FSR, 1)
    session.done(m.TapeCloseRequest(), m.TapeOpenRequest(device(session), TapeMode.READ))
    read_error(session, EOF)
    rewind(session)
    session.done(m.TapeCloseRequest(), m.TapeOpenRequest(device(session), TapeMode.READ))
    read(session, 1024, RECORD)


def _one_mark(session: Session) -> None:
    open_tape(session)
    mtio(session, OP.EOF, 1)
    stands(session, Place(1, 0))
    mtio(session, OP.BSF, 100, left=99)
    stands(session, Place(0, 0))
    mtio(session, OP.FSF, 100, left=99)


def _end_of_data(session: Session) -> None:
    _one_record(session)
    mtio(session, OP.FSF, 1)
    for _ in range(3):
        read_error(session, blank(session))
    stands(session, Place(1, 0, unknown_too=True))


def _unmarked(session: Session) -> None:
    """NDMJOB's test wants no implicit filemark before motions, which V4 has."""
    open_tape(session)
    write(session, bytes(512))
    mtio(session, OP.BSR, 100, left=99)
    mtio(session, OP.FSR, 100, left=99)
    mtio(session, OP.FSR, 100, left=100)
    mtio(session, OP.FSF, 100, left=100)


def _two_files(session: Session) -> None:
    """Two records, a filemark, one record, a filemark; the tape at BOT."""
    open_tape(session)
    for data in (b"a" * 100, b"b" * 200):
        write(session, data)
    mtio(session, OP.EOF, 1)
    write(session, b"c" * 300)
    mtio(session, OP.EOF, 1)
    rewind(session)


def _side_of_read(session: Session) -> None:
    _two_files(session)
    mtio(session, OP.FSR, 2)
    read_error(session, EOF)
    if session.version == 4:
        stands(session, Place(0, 2, unknown_too=True))
        read_error(session, EOF)
    else:
        stands(session, Place(1, 0, unknown_too=True))
        read(session, 1024, b"c" * 300)


def _side_of_fsr(session: Session) -> None:
    _two_files(session)
    mtio(session, OP.FSR, 3, left=1)
    if session.version == 4:
        stands(session, Place(0, 2))
        mtio(session, OP.FSR, 1, left=1)
        read_error(session, EOF)
    else:
        stands(session, Place(1, 0))
        read(session, 1024, b"c" * 300)


def _side_of_bsr(session: Session) -> None:
    _two_files(session)
    mtio(session, OP.FSF, 1)
    mtio(session, OP.BSR, 1, left=1)
    if session.version == 4:
        stands(session, Place(1, 0, unknown_too=True))
        mtio(session, OP.BSR, 1, left=1)
        read(session, 1024, b"c" * 300)
    else:
        stands(session, Place(0, 2, unknown_too=True))
        mtio(session, OP.BSR, 1)
        read(session, 1024, b"b" * 200)


def _side_of_bsf(session: Session) -> None:
    _two_files(session)
    mtio(session, OP.FSF, 2)
    stands(session, Place(2, 0))
    mtio(session, OP.BSF, 1)
    stands(session, Place(1, None))
    read_error(session, EOF)
    rewind(session)
    read(session, 1024, b"a" * 100)


def _overwritten(session: Session) -> None:
    _two_files(session)
    mtio(session, OP.FSR, 1)
    mtio(session, OP.EOF, 2)
    stands(session, Place(2, 0))
    mtio(session, OP.FSF, 100, left=100)
    read_error(session, blank(session))


def _implicit(session: Session, how: str) -> None:
    """A mark behind data that nobody marked, and no second one behind data that have one."""
    open_tape(session)
    write(session, RECORD)
    if how == "EOF":
        mtio(session, OP.EOF, 1)
    if how == "CLOSE":
        session.done(m.TapeCloseRequest(), m.TapeOpenRequest(device(session), TapeMode.READ))
    rewind(session)
    read(session, 1024, RECORD)
    mtio(session, OP.FSF, 100, left=99)
