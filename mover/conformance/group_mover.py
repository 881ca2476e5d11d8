"""Group mover: the MOVER machine, what LISTEN, SET_WINDOW and READ look at, pauses and the peer's end.

Source: states.md 4; NDMJOB test-mover.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from mover.conformance.checks import NOTHING, READS_TAPE, WRITES_TAPE, Check, clause
from mover.conformance.peer import reset
from mover.conformance.results import NotOfferedError
from mover.conformance.session import Session, must
from mover.conformance.stages import (
    ALL,
    RECORD,
    any_address,
    bring_mover,
    device,
    listen_mover,
    need_address,
    open_tape,
    until_mover,
)
from mover.conformance.walk import after_mover, mover_walk
from mover.ndmp import messages as m
from mover.ndmp.enums import (
    AddressType,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    TapeMode,
    TapeOperation,
)

ARGS: Final = ErrorCode.ILLEGAL_ARGS_ERR.name
ILLEGAL_STATE: Final = ErrorCode.ILLEGAL_STATE_ERR.name
PRECONDITION: Final = ErrorCode.PRECONDITION_ERR.name
PERMISSION: Final = ErrorCode.PERMISSION_ERR.name
READ_IN_PROGRESS: Final = ErrorCode.READ_IN_PROGRESS_ERR.name
MUCH: Final = 24 << 20
MUCH_RECORD: Final = 1 << 18
READ, WRITE = MoverMode.READ, MoverMode.WRITE
TCP, LOCAL = AddressType.TCP, AddressType.LOCAL
TEST_MOVER: Final = "states.md 4.1; NDMJOB test-mover"

# record size, offset, length, answer of SET_WINDOW in IDLE of version 4 (4.4); the mode is judged by LISTEN
WINDOWS_4: Final = (
    (0, 0, RECORD, PRECONDITION),
    (0, 5, 0, PRECONDITION),
    (RECORD, 5, 0, ARGS),
    (RECORD, 0, ALL, "NO_ERR"),
    (RECORD, 1, ALL, ARGS),
    (RECORD, ALL, ALL, ARGS),
    (RECORD, 2 * RECORD, ALL - 2 * RECORD, "NO_ERR"),
    (RECORD, 2 * RECORD, ALL - 2 * RECORD + 1, ARGS),
)
# offset, length, mode, answer of LISTEN in version 4 (4.4)
LISTENS_4: Final = (
    (0, ALL, WRITE, "NO_ERR"),
    (0, 4 * RECORD + 1, WRITE, "NO_ERR"),  # ends where the stream ends, inside a record
    (RECORD, 4 * RECORD + 1, WRITE, "NO_ERR"),
    (100, 4 * RECORD, WRITE, PRECONDITION),
    (0, 4 * RECORD, READ, "NO_ERR"),
    (0, 4 * RECORD + 1, READ, PRECONDITION),
    (2 * RECORD, ALL - 2 * RECORD, READ, "NO_ERR"),
)
# offset, length, mode, answer of SET_WINDOW while PAUSED in version 4 (4.4)
PAUSED_4: Final = (
    (0, 0, WRITE, ARGS),
    (1000, 2 * RECORD, WRITE, ARGS),
    (RECORD, 1000, WRITE, "NO_ERR"),
    (5, 0, READ, ARGS),
    (RECORD, 1000, READ, ARGS),
    (RECORD, 2 * RECORD, READ, "NO_ERR"),
    (RECORD, ALL, WRITE, ARGS),  # in mode READ servers take it, for NDMJOB's client
)
READ_RANGES: Final = ((0, 0), (5, 0), (1, ALL), (ALL, 2))  # 4.6 item 2


def checks(version: int) -> Iterator[Check]:
    """The checks of this group."""
    yield from mover_walk(version)

    def check(name: str, message: str, notes: str, run: object, needs: object = NOTHING) -> Check:
        return Check(name, clause(version, f"MOVER_{message}", notes), run, needs, "MOVER")  # type: ignore[arg-type]  # functions below

    # Arguments come before state, tape and preconditions.
    for what, mode, kind in (("mode 123", 123, TCP), ("mode 2", 2, TCP), ("address type 123", READ, 123)):
        run = partial(_refused, request=m.MoverListenRequest(mode, kind), answer=ARGS)
        yield check(f"LISTEN with {what}", "LISTEN", TEST_MOVER, run)
    ipc = partial(_not_offered, request=m.MoverListenRequest(READ, AddressType.IPC))
    yield check("LISTEN with address type IPC", "LISTEN", "states.md 3.6", ipc)
    if version > 2:
        odd: dict[str, m.Body] = {
            "CONNECT with mode 123": m.MoverConnectRequest(123, m.LOCAL),
            "CONNECT with address type 123": m.MoverConnectRequest(READ, m.UnknownArm(123)),
        }
        for what, request in odd.items():
            yield check(what, "CONNECT", "states.md 4.1; wire.md 6.3", partial(_refused, request=request, answer=ARGS))
        yield check("CONNECT that reaches nobody stays IDLE", "CONNECT", "states.md 4.1", _nobody, READS_TAPE)
    yield check("LISTEN with mode 123 while in LISTEN", "LISTEN", TEST_MOVER, _args_first, READS_TAPE)
    for kind in (TCP, LOCAL):
        run = partial(_read_only, kind=kind)
        yield check(f"LISTEN READ {kind.name}, the tape open for reading", "LISTEN", TEST_MOVER, run, READS_TAPE)
        run = partial(_round, kind=kind)
        yield check(
            f"LISTEN WRITE {kind.name}, ABORT, STOP leave no reason behind", "STOP", TEST_MOVER, run, READS_TAPE
        )
    if version == 4:
        yield check("the mode in GET_STATE", "GET_STATE", "states.md 4.3", _mode, READS_TAPE)
    yield from _windows(version, check)
    yield check("READ while one is unfinished", "READ", "states.md 4.6", _unfinished, WRITES_TAPE)
    yield check("READ of ranges that are none", "READ", "states.md 4.6", _ranges, READS_TAPE)
    yield check("a wanted offset outside the window pauses with SEEK", "READ", "states.md 4.2, 4.6", _seek, READS_TAPE)
    yield check("a READ of one byte outside the window pauses too", "READ", "states.md 4.6", _seek_byte, READS_TAPE)
    yield check("a full window pauses", "SET_WINDOW", "states.md 4.2, 4.5", _window_full, WRITES_TAPE)
    yield check("CONTINUE without the tape", "CONTINUE", "states.md 1", _continue_closed, READS_TAPE)
    ends = (
        ("WRITE", "closes", "CONNECT_CLOSED", READS_TAPE),
        ("READ", "closes", "CONNECT_CLOSED", WRITES_TAPE),
        ("READ", "resets", "CONNECT_ERROR", WRITES_TAPE),
    )
    for mode_name, how, reason, needs in ends:
        run = partial(_peer_ends, mode=mode_name, how=how, reason=MoverHaltReason[reason])
        yield check(f"a peer that {how} in ACTIVE {mode_name}", "LISTEN", "states.md 4.2", run, needs)
    yield check("a short last record is padded, then CONNECT_CLOSED", "LISTEN", "states.md 4.5", _padded, WRITES_TAPE)


def _windows(version: int, make: Callable[..., Check]) -> Iterator[Check]:
    yield make("record sizes of 0 and of 4 GiB", "SET_RECORD_SIZE", "states.md 4.4", _record_sizes)
    if version < 4:
        return
    for size, offset, length, answer in WINDOWS_4:
        shown = f"SET_WINDOW({_shown(offset)}, {_shown(length)}) with record size {size}"
        run = partial(_window, size=size, offset=offset, length=length, answer=answer)
        yield make(shown, "SET_WINDOW", "states.md 4.4", run)
    yield make("SET_RECORD_SIZE invalidates the window", "SET_RECORD_SIZE", "states.md 4.4", _invalidated)
    yield make("LISTEN without a record size", "LISTEN", "states.md 4.1, 4.4", _no_record_size, READS_TAPE)
    for offset, length, mode, answer in LISTENS_4:
        shown = f"LISTEN {mode.name} with window ({_shown(offset)}, {_shown(length)})"
        run = partial(_listen_window, window=(offset, length), mode=mode, answer=answer)
        yield make(shown, "LISTEN", "states.md 4.4", run, WRITES_TAPE if mode is READ else READS_TAPE)
    for offset, length, mode, answer in PAUSED_4:
        shown = f"SET_WINDOW({_shown(offset)}, {_shown(length)}) in PAUSED {mode.name}"
        run = partial(_paused_window, window=(offset, length), mode=mode, answer=answer)
        yield make(shown, "SET_WINDOW", "states.md 4.4", run, WRITES_TAPE if mode is READ else READS_TAPE)
    yield make("CONTINUE without a new window", "CONTINUE", "states.md 4.4, 4.5", _continue_without_window, WRITES_TAPE)


def _shown(number: int) -> str:
    return f"all ones - {ALL - number}" if 0 < ALL - number < 1 << 32 else "all ones" if number == ALL else str(number)


def _refused(session: Session, request: m.Body, answer: str) -> None:
    before = session.everything()
    session.expect(request, answer)
    must(session.everything() == before, "no state to change by a refused request", "another GET_STATE")


def _not_offered(session: Session, request: m.Body) -> None:
    if AddressType.IPC in session.offer.addr_types:
        raise NotOfferedError("the server lists IPC")
    _refused(session, request, ARGS)


def _nobody(session: Session) -> None:
    need_address(session, TCP)
    open_tape(session)
    session.done(m.MoverSetRecordSizeRequest(RECORD))
    if session.version == 4:
        session.done(m.MoverSetWindowRequest(0, ALL))
    _refused(session, m.MoverConnectRequest(WRITE, session.peer.nobody()), ErrorCode.CONNECT_ERR.name)
    after_mover(session, "IDLE", MoverHaltReason.NA)


def _args_first(session: Session) -> None:
    bring_mover(session, "LISTEN WRITE TCP")
    _refused(session, m.MoverListenRequest(123, TCP), ARGS)


def _read_only(session: Session, kind: AddressType) -> None:
    need_address(session, kind)
    open_tape(session, TapeMode.READ)
    session.done(m.MoverSetRecordSizeRequest(RECORD))
    if session.version == 4:
        session.done(m.MoverSetWindowRequest(0, ALL))
    _refused(session, m.MoverListenRequest(READ, kind), PERMISSION)


def _round(session: Session, kind: AddressType) -> None:
    """Twice, without setting the window again: test-mover takes it for granted."""
    open_tape(session, TapeMode.READ)
    listen_mover(session, WRITE, kind, (0, ALL))
    for again in (True, False):
        after_mover(session, "LISTEN", MoverHaltReason.NA)
        session.done(m.MoverAbortRequest())
        after_mover(session, "HALTED", MoverHaltReason.ABORTED)
        session.done(m.MoverStopRequest())
        after_mover(session, "IDLE", MoverHaltReason.NA)
        if again:
            session.done(m.MoverListenRequest(WRITE, kind))


def _mode(session: Session) -> None:
    """NOACTION in IDLE, from LISTEN on the one asked for."""
    open_tape(session, TapeMode.READ)
    must(session.mover_state().mode == MoverMode.NOACTION, "mode NOACTION in IDLE", session.mover_state().mode)
    kind = any_address(session)
    listen_mover(session, WRITE, kind, (0, ALL))
    for body in (m.MoverAbortRequest(), m.MoverStopRequest()):
        must(session.mover_state().mode == WRITE, "mode WRITE", session.mover_state().mode)
        session.done(body)
    must(session.mover_state().mode == MoverMode.NOACTION, "mode NOACTION in IDLE", session.mover_state().mode)


# ---- record size and window


def _record_sizes(session: Session) -> None:
    for size in (0, 0xFFFF_FFFF):
        session.expect(m.MoverSetRecordSizeRequest(size), ARGS)
    session.done(m.MoverSetRecordSizeRequest(RECORD))
    size = session.mover_state().record_size
    must(size == RECORD, f"record size {RECORD} in GET_STATE", size)


def _window(session: Session, size: int, offset: int, length: int, answer: str) -> None:
    if size:
        session.done(m.MoverSetRecordSizeRequest(size))
    session.expect(m.MoverSetWindowRequest(offset, length), answer)
    if answer == "NO_ERR":
        now = session.mover_state()
        must((now.window_offset, now.window_length) == (offset, length), "the window in GET_STATE", "another")


def _invalidated(session: Session) -> None:
    session.done(m.MoverSetRecordSizeRequest(RECORD), m.MoverSetWindowRequest(0, 4 * RECORD))
    session.done(m.MoverSetRecordSizeRequest(2 * RECORD))
    now = session.mover_state()
    got = (now.window_offset, now.window_length)
    must(got == (0, 0), "window (0, 0) behind a new record size", got)


def _no_record_size(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    _refused(session, m.MoverListenRequest(WRITE, any_address(session)), PRECONDITION)


def _listen_window(session: Session, window: tuple[int, int], mode: MoverMode, answer: str) -> None:
    open_tape(session, TapeMode.RDWR if mode is READ else TapeMode.READ)
    session.done(m.MoverSetRecordSizeRequest(RECORD), m.MoverSetWindowRequest(*window))
    kind = any_address(session)
    session.expect(m.MoverListenRequest(mode, kind), answer)


def _paused_window(session: Session, window: tuple[int, int], mode: MoverMode, answer: str) -> None:
    bring_mover(session, f"PAUSED {mode.name}")
    session.expect(m.MoverSetWindowRequest(*window), answer)
    if answer == "NO_ERR":
        now = session.mover_state()
        must(now.record_num == window[0] // RECORD, f"record_num {window[0] // RECORD}", now.record_num)


def _continue_without_window(session: Session) -> None:
    """V4 wants a new window first; lenient servers take CONTINUE, and pause again."""
    bring_mover(session, "PAUSED READ")
    session.expect(m.MoverContinueRequest(), PRECONDITION, "NO_ERR")


# ---- transfers


def _ranges(session: Session) -> None:
    bring_mover(session, "ACTIVE WRITE")
    for offset, length in READ_RANGES:
        _refused(session, m.MoverReadRequest(offset, length), ARGS)


def _unfinished(session: Session) -> None:
    """More than buffers hold is on its way to a peer that reads nothing."""
    need_address(session, TCP)
    open_tape(session)
    for _ in range(MUCH // MUCH_RECORD):
        session.done(m.TapeWriteRequest(bytes(MUCH_RECORD)))
    session.done(m.TapeMtioRequest(TapeOperation.REW, 1))
    session.peer.connect(listen_mover(session, WRITE, TCP, (0, ALL), record_size=MUCH_RECORD))
    until_mover(session, MoverState.ACTIVE)
    session.done(m.MoverReadRequest(0, MUCH))
    answer = READ_IN_PROGRESS if session.version == 4 else ILLEGAL_STATE
    session.expect(m.MoverReadRequest(0, 1), answer)
    left = session.mover_state().bytes_left_to_read
    must(0 < left <= MUCH, "the first READ to go on", f"{left} bytes left")


def _seek(session: Session) -> None:
    bring_mover(session, "PAUSED WRITE")
    post = session.wait_for(m.NotifyMoverPausedPost)
    got = (post.reason, post.seek_position)
    must(got == (MoverPauseReason.SEEK, 8 * RECORD), f"NOTIFY_MOVER_PAUSED with SEEK, {8 * RECORD}", got)
    now = session.mover_state()
    must(now.pause_reason == MoverPauseReason.SEEK, "pause reason SEEK in GET_STATE", now.pause_reason)
    must(now.bytes_left_to_read == RECORD, f"{RECORD} bytes left to read", now.bytes_left_to_read)


def _seek_byte(session: Session) -> None:
    need_address(session, TCP)
    open_tape(session)
    session.peer.connect(listen_mover(session, WRITE, TCP, (0, RECORD)))
    until_mover(session, MoverState.ACTIVE)
    session.done(m.MoverReadRequest(8 * RECORD, 1))
    got = session.wait_for(m.NotifyMoverPausedPost).reason
    must(got == MoverPauseReason.SEEK, "NOTIFY_MOVER_PAUSED with SEEK", f"reason {got}")


def _window_full(session: Session) -> None:
    """The counters at a pause cover only what is on the tape (4.3)."""
    bring_mover(session, "PAUSED READ")
    reason = MoverPauseReason.EOF if session.version == 2 else MoverPauseReason.EOW
    got = session.wait_for(m.NotifyMoverPausedPost).reason
    must(got == reason, f"NOTIFY_MOVER_PAUSED with {reason.name}", f"reason {got}")
    now = session.mover_state()
    must(
        (now.bytes_moved, now.record_num) == (RECORD, 1),
        f"{RECORD} bytes in 1 record",
        (now.bytes_moved, now.record_num),
    )
    must(now.pause_reason == reason, f"pause reason {reason.name}", now.pause_reason)


def _continue_closed(session: Session) -> None:
    bring_mover(session, "PAUSED WRITE")
    session.done(m.MoverSetWindowRequest(8 * RECORD, ALL - 8 * RECORD), m.TapeCloseRequest())
    _refused(session, m.MoverContinueRequest(), ErrorCode.DEV_NOT_OPEN_ERR.name)


def _peer_ends(session: Session, mode: str, how: str, reason: MoverHaltReason) -> None:
    connection = bring_mover(session, f"ACTIVE {mode}")
    assert connection is not None
    if how == "resets":
        reset(connection)
    else:
        connection.close()
    _halts(session, reason)


def _halts(session: Session, reason: MoverHaltReason) -> m.MoverGetStateReply:
    got = session.wait_for(m.NotifyMoverHaltedPost).reason
    must(got == reason, f"NOTIFY_MOVER_HALTED with {reason.name}", f"reason {got}")
    now = session.mover_state()
    must((now.state, now.halt_reason) == (MoverState.HALTED, reason), f"HALTED, {reason.name}", now.halt_reason)
    return now


def _padded(session: Session) -> None:
    connection = bring_mover(session, "ACTIVE READ")
    assert connection is not None
    connection.sendall(b"x" * (RECORD + 10))
    connection.close()
    now = _halts(session, MoverHaltReason.CONNECT_CLOSED)
    must(now.bytes_moved == RECORD + 10, f"{RECORD + 10} bytes moved, without the pad", now.bytes_moved)
    session.done(m.MoverStopRequest(), m.TapeCloseRequest(), m.TapeOpenRequest(device(session), TapeMode.READ))
    session.done(m.TapeMtioRequest(TapeOperation.REW, 1))
    for expected in (b"x" * RECORD, (b"x" * 10).ljust(RECORD, b"\0")):
        data = session.ok(m.TapeReadRequest(2 * RECORD), m.TapeReadReply).data_in
        must(data == expected, f"a record of {RECORD} bytes, the last one padded with zeros", f"{len(data)} bytes")
