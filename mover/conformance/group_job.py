"""Group job: a whole backup and a whole recover over LOCAL. Source: states.md 3.3, 4.7, 8; wire.md 5."""

from collections.abc import Iterator
from os import fsencode
from typing import Final

from mover.conformance.checks import Check, Need, clause
from mover.conformance.results import SkippedError
from mover.conformance.session import Session, must
from mover.conformance.stages import ALL, environment, names, need_address, open_tape, start_backup
from mover.conformance.walk import after_data
from mover.ndmp import messages as m
from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    DataOperation,
    DataState,
    MoverHaltReason,
    MoverMode,
    MoverState,
    TapeOperation,
)

RECORD_BYTES: Final = 32768
BACKUP: Final = frozenset({Need.TAPE, Need.WRITE, Need.FILESYSTEM})
RECOVER: Final = BACKUP | {Need.RECOVER_TO}


def checks(version: int) -> Iterator[Check]:
    """The checks of this group."""
    backup = clause(version, "DATA_START_BACKUP", "states.md 3.3, 8")
    yield Check("a backup ends SUCCESSFUL and CONNECT_CLOSED", backup, _backup_checked, BACKUP, "DATA")
    order = clause(version, "NOTIFY_DATA_HALTED", "wire.md 5")
    yield Check("nothing of a backup comes behind its NOTIFY_DATA_HALTED", order, _nothing_behind, BACKUP, "DATA")
    env = clause(version, "DATA_GET_ENV", "states.md 3.2")
    yield Check("GET_ENV behind a backup returns its environment", env, _env, BACKUP, "DATA")
    recover = clause(version, "DATA_START_RECOVER", "states.md 3.3, 4.7")
    yield Check("a recover of what was backed up ends SUCCESSFUL", recover, _recover, RECOVER, "DATA")


def _connect(session: Session, mode: MoverMode) -> m.Address | None:
    """A LOCAL data connection between the two machines; version 2's address for START."""
    need_address(session, AddressType.LOCAL)
    session.done(m.MoverSetRecordSizeRequest(RECORD_BYTES))
    if session.version >= 4:
        session.done(m.MoverSetWindowRequest(0, ALL))
    session.done(m.MoverListenRequest(mode, AddressType.LOCAL))
    if session.version < 4:
        session.done(m.MoverSetWindowRequest(0, ALL))
    if session.version == 2:
        return m.LOCAL
    session.done(m.DataConnectRequest(m.LOCAL))
    return None


def _backup(session: Session, *, history: bool = False) -> None:
    """Back up until both machines have halted; the drive stays open."""
    open_tape(session)
    session.done(start_backup(session, _connect(session, MoverMode.READ), history=history))
    data = session.wait_for(m.NotifyDataHaltedPost).reason
    if data != DataHaltReason.SUCCESSFUL and session.of_kind(m.NotifyMoverPausedPost):
        raise SkippedError("the tape is too short for the file system")
    must(data == DataHaltReason.SUCCESSFUL, "DATA halted SUCCESSFUL", f"reason {data}")
    mover = session.wait_for(m.NotifyMoverHaltedPost).reason
    must(mover == MoverHaltReason.CONNECT_CLOSED, "MOVER halted CONNECT_CLOSED", f"reason {mover}")


def _stop(session: Session) -> None:
    session.done(m.DataStopRequest(), m.MoverStopRequest())
    after_data(session, "IDLE")
    state = session.mover_state().state
    must(state == MoverState.IDLE, "MOVER IDLE behind STOP", state)


def _backup_checked(session: Session) -> None:
    _backup(session)
    data, mover = session.data_state(), session.mover_state()
    must(data.state == DataState.HALTED, "DATA HALTED", data.state)
    must(data.operation == DataOperation.BACKUP, "operation BACKUP kept in HALTED", data.operation)
    must(data.bytes_processed > 0, "bytes processed", data.bytes_processed)
    must(mover.bytes_moved == data.bytes_processed, f"{data.bytes_processed} bytes moved", mover.bytes_moved)
    _stop(session)
    session.done(m.TapeMtioRequest(TapeOperation.EOF, 1), m.TapeCloseRequest())


def _nothing_behind(session: Session) -> None:
    _backup(session, history=True)
    session.done(m.DataGetStateRequest())
    at = next(n for n, post in enumerate(session.posts) if isinstance(post, m.NotifyDataHaltedPost))
    late = [type(post).__name__ for post in session.posts[at + 1 :] if isinstance(post, m.LogFilePost)]
    must(not late, "no LOG_FILE behind NOTIFY_DATA_HALTED", late)
    must(session.history_at <= session.halted_at, "no file history behind NOTIFY_DATA_HALTED", "some")
    _stop(session)


def _env(session: Session) -> None:
    _backup(session)
    reply = session.ok(m.DataGetEnvRequest(), m.DataGetEnvReply)
    pairs = {(pair.name, pair.value) for pair in reply.env}
    sent = environment(session)[0]
    must((sent.name, sent.value) in pairs, "FILESYSTEM as it was given", sorted(name for name, _ in pairs))
    _stop(session)


def _recover(session: Session) -> None:
    _backup(session)
    env = session.ok(m.DataGetEnvRequest(), m.DataGetEnvReply).env
    session.done(m.DataStopRequest(), m.MoverStopRequest(), m.TapeMtioRequest(TapeOperation.EOF, 1))
    session.done(m.TapeMtioRequest(TapeOperation.REW, 1))
    session.posts.clear()
    address = _connect(session, MoverMode.WRITE)
    butype = fsencode(session.options.butype)
    session.done(m.DataStartRecoverRequest(env, names(session), butype, address))
    reason = session.wait_for(m.NotifyDataHaltedPost).reason
    must(reason == DataHaltReason.SUCCESSFUL, "DATA halted SUCCESSFUL", f"reason {reason}")
    mover = session.wait_for(m.NotifyMoverHaltedPost).reason
    must(mover == MoverHaltReason.CONNECT_CLOSED, "MOVER halted CONNECT_CLOSED", f"reason {mover}")
    _stop(session)
