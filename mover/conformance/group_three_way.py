"""Group three-way: DATA in one session and MOVER in another, over TCP in both directions, with windows and MOVER_READ.

What a DMA does between two servers; here both sessions are with the one under test. Source: states.md 4.5 to 4.7, 8.
"""

import time
from collections.abc import Iterator
from functools import partial
from os import fsencode
from typing import Final

from mover.conformance.checks import WRITES_TAPE, Check, Need, clause
from mover.conformance.results import MismatchError, NotOfferedError
from mover.conformance.session import Session, must, need, open_session
from mover.conformance.stages import (
    ALL,
    BUSY_WAIT_S,
    environment,
    listen_mover,
    names,
    need_address,
    open_tape,
    start_backup,
)
from mover.conformance.tape_steps import mtio, rewind
from mover.ndmp import messages as m
from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    TapeOperation,
)

RECORD: Final = 32768
WINDOW: Final = 32 * RECORD
"""Of the first parts of a stream; the last one has no end."""
WINDOWS: Final = 3
BACKUP: Final = WRITES_TAPE | {Need.FILESYSTEM}
RECOVER: Final = BACKUP | {Need.RECOVER_TO}
IS: Final = ErrorCode.ILLEGAL_STATE_ERR.name
OP = TapeOperation


def checks(version: int) -> Iterator[Check]:
    """The checks of this group."""
    ways = ("DATA connects",) if version == 2 else ("DATA connects", "MOVER connects")
    for way in ways:
        backup = clause(version, "DATA_START_BACKUP", "states.md 4.5, 8")
        run = partial(_backup_checked, way=way)
        yield Check(f"a backup to another session's mover over TCP, with windows; {way}", backup, run, BACKUP, "DATA")
        recover = clause(version, "NOTIFY_DATA_READ", "states.md 4.6, 4.7")
        run = partial(_recover, way=way)
        yield Check(f"a recover from there by MOVER_READ, past a window; {way}", recover, run, RECOVER, "DATA")


def _join(session: Session, data: Session, mode: MoverMode, window: tuple[int, int], way: str) -> m.Address | None:
    """The data connection between the two; version 2's address for START."""
    need("MOVER" not in session.offer.missing, "the server has no MOVER interface")
    need_address(session, AddressType.TCP)
    if way == "DATA connects":
        address = listen_mover(session, mode, AddressType.TCP, window, record_size=RECORD)
        if session.version == 2:
            return address
        data.done(m.DataConnectRequest(address))
        return None
    session.done(m.MoverSetRecordSizeRequest(RECORD))
    # behind CONNECT it is ACTIVE, and version 3 has it both ways whether IDLE takes a window
    answer = session.expect(m.MoverSetWindowRequest(*window), "NO_ERR", *(() if session.version >= 4 else (IS,)))
    if not answer.good:
        raise NotOfferedError("MOVER_SET_WINDOW is not taken in IDLE, and there is no other time for it")
    reply = data.ok(m.DataListenRequest(AddressType.TCP), m.DataListenReply)
    session.done(m.MoverConnectRequest(mode, reply.data_connection_addr))
    return None


def _backup_checked(session: Session, way: str) -> None:
    with open_session(
        session.options, session.version, session.offer, session.wire.faults, deadline=session.wire.deadline
    ) as data:
        _backup(session, data, way)


def _backup(session: Session, data: Session, way: str) -> tuple[m.Pval, ...]:
    """Back up in windows; returns the environment behind it. The tape stays open, both machines IDLE."""
    open_tape(session)
    address = _join(session, data, MoverMode.READ, (0, WINDOW), way)
    data.done(start_backup(data, address))
    reason = MoverPauseReason.EOF if session.version == 2 else MoverPauseReason.EOW
    for number in range(1, WINDOWS + 1):
        post = session.wait_for_any(m.NotifyMoverPausedPost, m.NotifyMoverHaltedPost)
        if not isinstance(post, m.NotifyMoverPausedPost):
            break
        must(post.reason == reason, f"NOTIFY_MOVER_PAUSED with {reason.name}", f"reason {post.reason}")
        now = session.mover_state()
        must(now.bytes_moved == number * WINDOW, f"{number * WINDOW} bytes moved", now.bytes_moved)
        session.posts.clear()
        offset = number * WINDOW
        length = WINDOW if number < WINDOWS else ALL - offset
        session.done(m.MoverSetWindowRequest(offset, length), m.MoverContinueRequest())
    halted = data.wait_for(m.NotifyDataHaltedPost).reason
    must(halted == DataHaltReason.SUCCESSFUL, "DATA halted SUCCESSFUL", f"reason {halted}")
    _mover_halts(session)
    moved, processed = session.mover_state().bytes_moved, data.data_state().bytes_processed
    must(moved == processed, f"{processed} bytes moved, which DATA processed", moved)
    env = data.ok(m.DataGetEnvRequest(), m.DataGetEnvReply).env
    data.done(m.DataStopRequest())
    session.done(m.MoverStopRequest())
    mtio(session, OP.EOF, 1)
    return env


def _mover_halts(session: Session) -> None:
    post = session.wait_for_any(m.NotifyMoverHaltedPost, m.NotifyMoverPausedPost)
    must(isinstance(post, m.NotifyMoverHaltedPost), "NOTIFY_MOVER_HALTED", type(post).__name__)
    assert isinstance(post, m.NotifyMoverHaltedPost)
    closed = MoverHaltReason.CONNECT_CLOSED
    must(post.reason == closed, "MOVER halted CONNECT_CLOSED", f"reason {post.reason}")


def _recover(session: Session, way: str) -> None:
    with open_session(
        session.options, session.version, session.offer, session.wire.faults, deadline=session.wire.deadline
    ) as data:
        env = _backup(session, data, way)
        rewind(session)
        session.posts.clear()
        data.posts.clear()
        address = _join(session, data, MoverMode.WRITE, (0, WINDOW), way)
        butype = fsencode(session.options.butype)
        env = env or environment(session)
        data.done(m.DataStartRecoverRequest(env, names(session), butype, address))
        _serve(session, data)


def _serve(session: Session, data: Session) -> None:
    """Be the DMA of a recover: pass on what is wanted, and move the window when something lies behind it."""
    asked = 0
    while not data.of_kind(m.NotifyDataHaltedPost):
        wanted = data.of_kind(m.NotifyDataReadPost)
        for post in wanted[asked:]:
            session.done(m.MoverReadRequest(post.offset, post.length))
        asked = len(wanted)
        for pause in session.of_kind(m.NotifyMoverPausedPost):
            session.posts.remove(pause)
            if pause.reason == MoverPauseReason.SEEK:
                _window_at(session, pause.seek_position)
            else:  # the end of the recorded data: all that is wanted has been read
                must(pause.reason in {MoverPauseReason.EOF, MoverPauseReason.EOM}, "SEEK", f"reason {pause.reason}")
        _look(session, data)
    must(asked > 0, "NOTIFY_DATA_READ of a recover over TCP", "none")
    halted = data.wait_for(m.NotifyDataHaltedPost).reason
    must(halted == DataHaltReason.SUCCESSFUL, "DATA halted SUCCESSFUL", f"reason {halted}")
    if session.mover_state().state == MoverState.PAUSED:
        session.done(m.MoverCloseRequest())
    session.posts = [post for post in session.posts if not isinstance(post, m.NotifyMoverPausedPost)]
    _mover_halts(session)


def _window_at(session: Session, position: int) -> None:
    """Put the tape at the record that is wanted, and the window from there on."""
    must(position >= WINDOW, f"seek_position behind the window of {WINDOW} bytes", position)
    rewind(session)
    record = position // RECORD
    mtio(session, OP.FSR, record)
    offset = record * RECORD
    session.done(m.MoverSetWindowRequest(offset, ALL - offset), m.MoverContinueRequest())


def _look(session: Session, data: Session) -> None:
    """Ask both for their states; their posts come with the answers."""
    mover = session.mover_state()
    data.data_state()
    if mover.state == MoverState.HALTED and mover.halt_reason != MoverHaltReason.CONNECT_CLOSED:
        raise MismatchError(f"expected a mover that goes on, got HALTED with reason {mover.halt_reason}")
    if time.monotonic() + BUSY_WAIT_S > session.wire.deadline:
        raise MismatchError("expected the recover to end before the deadline, got DATA ACTIVE")
    time.sleep(BUSY_WAIT_S)
