"""Version 1: the DATA machine that writes the open tape, records of one size, jobs.

Source: NDMPv1 2.3, 3.4, 3.5; states.md 2. PAUSED is reached by a recover that meets a filemark at once.
"""

from collections.abc import Iterator
from functools import partial
from os import fsencode
from typing import Final

from mover.conformance.checks import NOTHING, READS_TAPE, WRITES_TAPE, Check, Need, clause
from mover.conformance.results import MismatchError, SkippedError
from mover.conformance.session import Session, must
from mover.conformance.stages import device, environment, names, open_tape, start_backup
from mover.conformance.state_tables import (
    DATA_1,
    DATA_1_CLOSED,
    DATA_1_CLOSED_STATES,
    DATA_1_STATES,
    NAMES,
    TAPE_1,
    TAPE_1_STATES,
)
from mover.conformance.tape_steps import mtio, rewind
from mover.conformance.walk import cells, judged, state_name
from mover.ndmp import messages as m
from mover.ndmp.enums import (
    DataHaltReason,
    DataOperation,
    DataPauseReason,
    DataState,
    ErrorCode,
    TapeMode,
    TapeOperation,
)

ARGS: Final = ErrorCode.ILLEGAL_ARGS_ERR.name
CLOSED: Final = ErrorCode.DEV_NOT_OPEN_ERR.name
EOF: Final = ErrorCode.EOF_ERR.name
RECORD: Final = 1024
BACKUP: Final = WRITES_TAPE | {Need.FILESYSTEM}
RECOVER: Final = BACKUP | {Need.RECOVER_TO}
OP = TapeOperation


# ---- DATA


def data_checks(version: int) -> Iterator[Check]:
    """Every DATA request in every state."""
    for state, name, cell in [*cells(DATA_1_CLOSED_STATES, DATA_1_CLOSED), *cells(DATA_1_STATES, DATA_1)]:
        needs = NOTHING if state in DATA_1_CLOSED_STATES else READS_TAPE
        if state in {"ACTIVE", "HALTED"} or (state == "IDLE" and name == "START_BACKUP"):
            needs = BACKUP
        elif state == "PAUSED" or (state == "IDLE" and name == "START_RECOVER"):
            needs = RECOVER
        elif state in DATA_1_CLOSED_STATES and name.startswith("START"):
            needs = frozenset({Need.FILESYSTEM})
        yield Check(
            f"DATA_{name} in {state}",
            clause(version, f"DATA_{name}", "states.md 2.1"),
            partial(_data_cell, state=state, name=name, cell=cell),
            needs,
            "DATA",
        )
    start = clause(version, "DATA_START_BACKUP", "states.md 2.1")
    yield Check("START_BACKUP of an unknown type", start, _bogus_type, READS_TAPE, "DATA")
    yield Check("START_BACKUP onto a tape that is open for reading", start, _read_only, BACKUP, "DATA")
    pause = clause(version, "NOTIFY_PAUSED", "states.md 2.2")
    yield Check("a recover that meets a filemark pauses with EOF", pause, _pauses, RECOVER, "DATA")


def _data_requests(session: Session) -> dict[str, m.Body]:
    butype = fsencode(session.options.butype)
    return {
        "START_BACKUP": start_backup(session),
        "START_RECOVER": m.DataStartRecoverRequest(environment(session), names(session), butype),
        "ABORT": m.DataAbortRequest(),
        "CONTINUE": m.DataContinueRequest(),
        "STOP": m.DataStopRequest(),
        "GET_ENV": m.DataGetEnvRequest(),
        "GET_STATE": m.DataGetStateRequest(),
    }


def _bring(session: Session, state: str) -> None:
    """Bring DATA to a state, the drive open for writing where the operator allows it."""
    if state in DATA_1_CLOSED_STATES or state == "closed":
        return
    open_tape(session)
    if state == "PAUSED":
        mtio(session, OP.EOF, 1)
        rewind(session)
        session.done(_data_requests(session)["START_RECOVER"])
        session.wait_for(m.NotifyPausedPost)
    elif state in {"ACTIVE", "HALTED"}:
        session.done(start_backup(session))
        if state == "HALTED":
            session.done(m.DataAbortRequest())
            session.wait_for(m.NotifyDataHaltedPost)


def _data_cell(session: Session, state: str, name: str, cell: str) -> None:
    _bring(session, state)
    before = session.data_state().state
    if state == "ACTIVE" and before != DataState.ACTIVE:
        raise SkippedError("the backup ends before it can be asked: a larger file system is needed to see ACTIVE")
    try:
        _, outcome = judged(session, _data_requests(session)[name], cell, name=name)
    except MismatchError:
        if state == "ACTIVE" and not _aborted(session) and session.data_state().state != DataState.ACTIVE:
            raise SkippedError("the backup has ended meanwhile: a larger file system is needed to see ACTIVE") from None
        raise
    if outcome == "HALTED":
        reason = session.wait_for(m.NotifyDataHaltedPost).reason
        must(reason == DataHaltReason.ABORTED, "NOTIFY_HALTED with ABORTED", f"reason {reason}")
    if outcome in {"ok?", ""}:
        return
    wanted = DataState[state.partition(",")[0] if outcome == "ok" else outcome]
    now = session.data_state()
    if wanted == DataState.ACTIVE and now.state in {DataState.HALTED, DataState.PAUSED}:
        return  # the operation goes on by itself
    must(now.state == wanted, f"DATA {wanted.name} next", state_name(DataState, now.state))
    halt = DataHaltReason.ABORTED if wanted == DataState.HALTED else DataHaltReason.NA
    must(now.halt_reason == halt, f"halt reason {halt.name}", now.halt_reason)
    pause = DataPauseReason.EOF if wanted == DataState.PAUSED else DataPauseReason.NA
    must(now.pause_reason == pause, f"pause reason {pause.name}", now.pause_reason)
    if wanted == DataState.IDLE:
        must(now.operation == DataOperation.NOACTION, "operation NOACTION in IDLE", now.operation)
        must(now.bytes_processed == 0, "0 bytes processed in IDLE", now.bytes_processed)


def _aborted(session: Session) -> bool:
    return any(post.reason == DataHaltReason.ABORTED for post in session.of_kind(m.NotifyDataHaltedPost))


def _bogus_type(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    session.expect(m.DataStartBackupRequest(b"bogus", environment(session)), ARGS)


def _read_only(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    allowed = ("PERMISSION_ERR", "WRITE_PROTECT_ERR", NAMES["IS"])
    session.expect(start_backup(session), *allowed)


def _pauses(session: Session) -> None:
    _bring(session, "PAUSED")
    reason = session.wait_for(m.NotifyPausedPost).reason
    must(reason == DataPauseReason.EOF, "NOTIFY_PAUSED with EOF", f"reason {reason}")
    now = session.data_state()
    must((now.state, now.pause_reason) == (DataState.PAUSED, DataPauseReason.EOF), "PAUSED, EOF", now.pause_reason)
    must(now.operation == DataOperation.RECOVER, "operation RECOVER", now.operation)


# ---- TAPE


def tape_checks(version: int) -> Iterator[Check]:
    """Every TAPE request in every state of DATA; records, pads and filemarks."""
    for state, name, cell in cells(TAPE_1_STATES, TAPE_1):
        needs = READS_TAPE
        if state in {"DATA ACTIVE", "DATA HALTED"}:
            needs = BACKUP
        elif state == "closed" and name != "OPEN":
            needs = NOTHING
        elif name == "WRITE":
            needs = WRITES_TAPE
        yield Check(
            f"TAPE_{name}, {state}",
            clause(version, f"TAPE_{name}", "states.md 2.4, 2.5"),
            partial(_tape_cell, state=state, name=name, cell=cell),
            needs,
            "TAPE",
        )

    def check(name: str, message: str, section: str, run: object, needs: object = WRITES_TAPE) -> Check:
        return Check(name, clause(version, f"TAPE_{message}", f"states.md {section}"), run, needs, "TAPE")  # type: ignore[arg-type]  # functions below

    bogus = partial(_refused, request=m.TapeOpenRequest(b"bogus", TapeMode.READ), answer="NO_DEVICE_ERR")
    yield check("OPEN of an unknown device", "OPEN", "2.5", bogus, NOTHING)
    yield check("OPEN with mode 123", "OPEN", "2.5", _mode_123, READS_TAPE)
    yield check("SET_RECORD_SIZE of 0", "SET_RECORD_SIZE", "2.4", _size_0, READS_TAPE)
    yield check("the record size in GET_STATE", "GET_STATE", "2.4, 2.5", _size_told, READS_TAPE)
    yield check("MTIO of an unknown operation", "MTIO", "2.5", partial(_operation, operation=99), READS_TAPE)
    yield check("MTIO TUR, which version 1 does not have", "MTIO", "2.5", partial(_operation, operation=7), READS_TAPE)
    yield check("BSR and BSF 100 at BOT leave 100", "MTIO", "2.5", _at_bot, READS_TAPE)
    yield check("WRITE, open for reading", "WRITE", "2.5", _write_read_only)
    yield check("WRITE pads the last record and counts the pad", "WRITE", "2.4", _pads)
    yield check("READ drops the rest of the last record", "READ", "2.4", _drops)
    yield check("READ gives EOF_ERR together with the bytes before a filemark", "READ", "2.4", _mark_with_bytes)
    yield check("READ at blank tape, again and again", "READ", "2.4", _blank)
    yield check("FSF, BSF, FSR, BSR leave what was not done", "MTIO", "2.5", _motions)
    yield check("file_num, record_num and blockno count from 0", "GET_STATE", "2.5", _counters)


def _tape_requests(session: Session, cell: str) -> dict[str, m.Body]:
    name = device(session) if session.options.tape_device is not None else b"bogus"
    count = 0 if cell.startswith("ok") else RECORD
    return {
        "OPEN": m.TapeOpenRequest(name, TapeMode.READ),
        "CLOSE": m.TapeCloseRequest(),
        "GET_STATE": m.TapeGetStateRequest(),
        "MTIO": m.TapeMtioRequest(OP.REW, 1),
        "READ": m.TapeReadRequest(count),
        "WRITE": m.TapeWriteRequest(bytes(count)),
        "SET_RECORD_SIZE": m.TapeSetRecordSizeRequest(RECORD),
        "EXECUTE_CDB": m.TapeExecuteCdbRequest(0, 0, 0, bytes(6)),  # TEST UNIT READY
    }


def _tape_cell(session: Session, state: str, name: str, cell: str) -> None:
    if state == "closed":
        if name == "OPEN":
            open_tape(session)
            session.done(m.TapeCloseRequest())
    else:
        _bring(session, state.removeprefix("DATA "))
    try:
        _, outcome = judged(session, _tape_requests(session, cell)[name], cell, name=name)
    except MismatchError:
        if state == "DATA ACTIVE" and session.data_state().state != DataState.ACTIVE:
            raise SkippedError("the backup has ended meanwhile: a larger file system is needed to see ACTIVE") from None
        raise
    if outcome:
        opened = session.ask(m.TapeGetStateRequest()).good
        must(opened == (name != "CLOSE"), "the drive " + ("open" if name != "CLOSE" else "closed"), "the opposite")


def _refused(session: Session, request: m.Body, answer: str) -> None:
    session.expect(request, answer)


def _mode_123(session: Session) -> None:
    session.expect(m.TapeOpenRequest(device(session), 123), ARGS)
    session.expect(m.TapeGetStateRequest(), CLOSED)


def _size_0(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    session.expect(m.TapeSetRecordSizeRequest(0), ARGS)


def _size_told(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    session.done(m.TapeSetRecordSizeRequest(RECORD))
    size = session.ok(m.TapeGetStateRequest(), m.TapeGetStateReply).record_size
    must(size == RECORD, f"record size {RECORD}", size)


def _operation(session: Session, operation: int) -> None:
    open_tape(session, TapeMode.READ)
    session.expect(m.TapeMtioRequest(operation, 1), ARGS)


def _at_bot(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    for operation in (OP.BSR, OP.BSF):
        mtio(session, operation, 100, left=100)


def _write_read_only(session: Session) -> None:
    """V1 lists WRITE_PROTECT_ERR; PERMISSION_ERR as in the later versions."""
    open_tape(session, TapeMode.READ)
    session.expect(m.TapeWriteRequest(bytes(RECORD)), "PERMISSION_ERR", "WRITE_PROTECT_ERR")


def _write(session: Session, data: bytes, count: int) -> None:
    got = session.ok(m.TapeWriteRequest(data), m.TapeWriteReply).count
    must(got == count, f"count {count}, the pad included", got)


def _read(session: Session, count: int, error: str, data: bytes) -> None:
    body = session.expect(m.TapeReadRequest(count), error).body
    got = body.data_in if isinstance(body, m.TapeReadReply) else b""
    must(len(got) == len(data), f"{len(data)} bytes with {error}", f"{len(got)} bytes")
    must(got == data, "the bytes that were written", "others")


def _records(session: Session) -> None:
    """The drive open for writing, at BOT, with records of 1024 bytes."""
    open_tape(session)
    session.done(m.TapeSetRecordSizeRequest(RECORD))


def _pads(session: Session) -> None:
    _records(session)
    _write(session, b"x" * 1500, 2 * RECORD)
    _write(session, b"", 0)
    rewind(session)
    _read(session, 1500, "NO_ERR", b"x" * 1500)


def _drops(session: Session) -> None:
    _records(session)
    _write(session, b"a" * 2 * RECORD, 2 * RECORD)
    _write(session, b"b" * RECORD, RECORD)
    rewind(session)
    _read(session, 1500, "NO_ERR", b"a" * 1500)
    _read(session, RECORD, "NO_ERR", b"b" * RECORD)


def _mark_with_bytes(session: Session) -> None:
    _records(session)
    _write(session, b"a" * 2 * RECORD, 2 * RECORD)
    mtio(session, OP.EOF, 1)
    rewind(session)
    _read(session, 4 * RECORD, EOF, b"a" * 2 * RECORD)


def _blank(session: Session) -> None:
    _records(session)
    _write(session, b"a" * RECORD, RECORD)
    mtio(session, OP.EOF, 1)
    for _ in range(2):
        _read(session, RECORD, EOF, b"")


def _motions(session: Session) -> None:
    _records(session)
    for _ in range(3):
        _write(session, b"r" * 2 * RECORD, 2 * RECORD)
        mtio(session, OP.EOF, 1)
    mtio(session, OP.BSF, 5, left=2)
    mtio(session, OP.FSF, 2)
    mtio(session, OP.FSR, 1)
    _read(session, RECORD, "NO_ERR", b"r" * RECORD)
    mtio(session, OP.BSR, 1)
    mtio(session, OP.FSF, 9, left=8)


def _counters(session: Session) -> None:
    _records(session)
    _place(session, 0, 0)
    _write(session, b"r" * 2 * RECORD, 2 * RECORD)
    _place(session, 0, 2)
    mtio(session, OP.EOF, 1)
    _place(session, 1, 0)


def _place(session: Session, file_num: int, record_num: int) -> None:
    now = session.ok(m.TapeGetStateRequest(), m.TapeGetStateReply)
    got = (now.file_num, now.record_num)
    must(got == (file_num, record_num), f"file {file_num}, record {record_num}", f"file {got[0]}, record {got[1]}")


# ---- jobs


def job_checks(version: int) -> Iterator[Check]:
    """A whole backup and a whole recover of the tape that is open."""
    backup = clause(version, "DATA_START_BACKUP", "states.md 2.2, 2.7")
    yield Check("a backup ends SUCCESSFUL", backup, _whole_backup, BACKUP, "DATA")
    env = clause(version, "DATA_GET_ENV", "states.md 2.1")
    yield Check("GET_ENV behind a backup returns its environment", env, _env, BACKUP, "DATA")
    recover = clause(version, "DATA_START_RECOVER", "states.md 2.2, 2.7")
    yield Check("a recover of what was backed up ends SUCCESSFUL", recover, _whole_recover, RECOVER, "DATA")


def _backup(session: Session) -> None:
    open_tape(session)
    session.done(m.TapeSetRecordSizeRequest(16 * RECORD), start_backup(session))
    reason = session.wait_for(m.NotifyDataHaltedPost).reason
    must(reason == DataHaltReason.SUCCESSFUL, "NOTIFY_HALTED with SUCCESSFUL", f"reason {reason}")


def _stop(session: Session) -> None:
    session.done(m.DataStopRequest())
    now = session.data_state()
    must(now.state == DataState.IDLE, "DATA IDLE behind STOP", state_name(DataState, now.state))


def _whole_backup(session: Session) -> None:
    _backup(session)
    now = session.data_state()
    must(now.state == DataState.HALTED, "DATA HALTED", state_name(DataState, now.state))
    must(now.operation == DataOperation.BACKUP, "operation BACKUP until STOP", now.operation)
    must(now.bytes_processed > 0, "bytes processed", now.bytes_processed)
    _stop(session)
    session.done(m.TapeMtioRequest(OP.EOF, 1), m.TapeCloseRequest())


def _env(session: Session) -> None:
    _backup(session)
    reply = session.ok(m.DataGetEnvRequest(), m.DataGetEnvReply)
    pairs = {(pair.name, pair.value) for pair in reply.env}
    sent = environment(session)[0]
    must((sent.name, sent.value) in pairs, "filesystem as it was given", sorted(name for name, _ in pairs))
    _stop(session)


def _whole_recover(session: Session) -> None:
    _backup(session)
    env = session.ok(m.DataGetEnvRequest(), m.DataGetEnvReply).env
    session.done(m.DataStopRequest(), m.TapeMtioRequest(OP.EOF, 1), m.TapeMtioRequest(OP.REW, 1))
    session.posts.clear()
    wanted = (m.RecoverName(b"/", fsencode(session.options.recover_to or "")),)
    session.done(m.DataStartRecoverRequest(env, wanted, fsencode(session.options.butype)))
    reason = session.wait_for(m.NotifyDataHaltedPost).reason
    must(reason == DataHaltReason.SUCCESSFUL, "NOTIFY_HALTED with SUCCESSFUL", f"reason {reason}")
    _stop(session)
