"""Group joined: what one machine does to another, and one session to another. Source: states.md 1, 3.6; wire.md 9."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from os import fsencode
from typing import Final

from mover.conformance.checks import NOTHING, READS_TAPE, WRITES_TAPE, Check, Need, clause
from mover.conformance.results import MismatchError
from mover.conformance.session import Session, must, need, open_session
from mover.conformance.stages import (
    ALL,
    BUSY_WAIT_S,
    RECORD,
    bring_mover,
    device,
    environment,
    listen_mover,
    names,
    need_address,
    open_tape,
    start_backup,
)
from mover.conformance.walk import state_name
from mover.ndmp import messages as m
from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    DataState,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverState,
    TapeMode,
)

ILLEGAL_STATE: Final = ErrorCode.ILLEGAL_STATE_ERR.name
BUSY: Final = ErrorCode.DEVICE_BUSY_ERR.name
WHOLE_JOB: Final = frozenset({Need.TAPE, Need.WRITE, Need.FILESYSTEM})
READ, WRITE = MoverMode.READ, MoverMode.WRITE
TCP, LOCAL = AddressType.TCP, AddressType.LOCAL

# DATA, MOVER, request, answer: the two states next, or an error (1, 3.6)
PAIRS: Final = (
    ("IDLE", "LISTEN WRITE TCP", "DATA_CONNECT LOCAL", ILLEGAL_STATE),
    ("IDLE", "LISTEN WRITE LOCAL", "DATA_CONNECT LOCAL", "CONNECTED ACTIVE"),
    ("IDLE", "ACTIVE WRITE", "DATA_CONNECT LOCAL", ILLEGAL_STATE),
    ("IDLE", "PAUSED WRITE", "DATA_CONNECT LOCAL", ILLEGAL_STATE),
    ("IDLE", "HALTED", "DATA_CONNECT LOCAL", ILLEGAL_STATE),
    ("IDLE", "IDLE", "MOVER_CONNECT LOCAL", ILLEGAL_STATE),
    ("LISTEN TCP", "IDLE", "MOVER_CONNECT LOCAL", ILLEGAL_STATE),
    ("LISTEN LOCAL", "IDLE", "MOVER_CONNECT LOCAL", "CONNECTED ACTIVE"),
    ("IDLE", "LISTEN WRITE LOCAL", "DATA_CONNECT TCP", ILLEGAL_STATE),
    ("IDLE", "LISTEN WRITE TCP", "DATA_CONNECT TCP", ILLEGAL_STATE),
    ("IDLE", "LISTEN WRITE TCP", "DATA_LISTEN TCP", ILLEGAL_STATE),
    ("IDLE", "HALTED", "DATA_CONNECT TCP", ILLEGAL_STATE),
    ("LISTEN LOCAL", "IDLE", "MOVER_CONNECT TCP", ILLEGAL_STATE),
    ("LISTEN TCP", "IDLE", "MOVER_CONNECT TCP", ILLEGAL_STATE),
    ("LISTEN TCP", "IDLE", "MOVER_LISTEN TCP", ILLEGAL_STATE),
)
# request, halt reasons of DATA and MOVER (3.3, 4.2); a lost data connection may be seen as either end
ENDS: Final = (
    ("MOVER_ABORT", {DataHaltReason.CONNECT_ERROR}, {MoverHaltReason.ABORTED}),
    ("MOVER_CLOSE", {DataHaltReason.CONNECT_ERROR}, {MoverHaltReason.CONNECT_CLOSED}),
    ("DATA_ABORT", {DataHaltReason.ABORTED}, {MoverHaltReason.CONNECT_ERROR, MoverHaltReason.CONNECT_CLOSED}),
)


def checks(version: int) -> Iterator[Check]:
    """The checks of this group."""
    if version > 2:
        for data, mover, request, answer in PAIRS:
            message = request.split()[0]
            yield Check(
                f"{request} with DATA {data}, MOVER {mover}",
                clause(version, message, "states.md 1, 3.6"),
                partial(_pair, data=data, mover=mover, request=request, answer=answer),
                READS_TAPE,
                message.partition("_")[0],
            )
    if version > 1:
        yield from _local_jobs(version)
    busy = clause(version, "TAPE_OPEN", "states.md 1")
    yield Check("a drive that another session has open", busy, _busy, READS_TAPE, "TAPE")
    closing = clause(version, "CONNECT_CLOSE", "wire.md 9")
    yield Check("CONNECT_CLOSE closes the drive", closing, partial(_lets_go, how="close"), READS_TAPE, "TAPE")
    yield Check("the end of the TCP connection closes the drive", closing, partial(_lets_go, how="end"),
                READS_TAPE, "TAPE")  # fmt: skip
    if version > 2:
        apart = clause(version, "DATA_GET_STATE", "wire.md 1")
        yield Check("sessions do not see each other's states", apart, _apart, NOTHING, "DATA")


def _local_jobs(version: int) -> Iterator[Check]:
    for mode in (READ, WRITE):
        yield Check(
            f"a START that does not fit mode {mode.name} of a LOCAL mover",
            clause(version, "DATA_START_BACKUP", "states.md 3.5"),
            partial(_start_needs_mode, mode=mode),
            (WRITES_TAPE if mode is READ else READS_TAPE) | {Need.FILESYSTEM, Need.RECOVER_TO},
            "DATA",
        )
    for request, data_reasons, mover_reasons in ENDS:
        yield Check(
            f"{request} in the middle of a LOCAL backup halts both",
            clause(version, request, "states.md 3.3, 4.2"),
            partial(_end, request=request, data_reasons=data_reasons, mover_reasons=mover_reasons),
            WHOLE_JOB,
            "DATA",
        )


def _states(session: Session) -> tuple[str, str]:
    return state_name(DataState, session.data_state().state), state_name(MoverState, session.mover_state().state)


def _pair(session: Session, data: str, mover: str, request: str, answer: str) -> None:
    need("MOVER" not in session.offer.missing and "DATA" not in session.offer.missing, "the server has but one machine")
    for kind in (TCP, LOCAL):
        if kind.name in f"{data} {mover} {request}":
            need_address(session, kind)
    bring_mover(session, mover)
    if mover == "IDLE":
        session.done(m.MoverSetRecordSizeRequest(RECORD))
        if session.version == 4:
            session.done(m.MoverSetWindowRequest(0, ALL))
    if data != "IDLE":
        session.done(m.DataListenRequest(AddressType[data.split()[1]]))
    requests: dict[str, m.Body] = {
        "DATA_CONNECT LOCAL": m.DataConnectRequest(m.LOCAL),
        "DATA_CONNECT TCP": m.DataConnectRequest(session.peer.listen()),
        "DATA_LISTEN TCP": m.DataListenRequest(TCP),
        "MOVER_CONNECT LOCAL": m.MoverConnectRequest(WRITE, m.LOCAL),
        "MOVER_CONNECT TCP": m.MoverConnectRequest(WRITE, session.peer.listen()),
        "MOVER_LISTEN TCP": m.MoverListenRequest(WRITE, TCP),
    }
    before = session.everything()
    if answer == ILLEGAL_STATE:
        session.expect(requests[request], ILLEGAL_STATE)
        must(session.everything() == before, "no state to change by a refused request", "another GET_STATE")
        return
    session.done(requests[request])
    got = _states(session)
    must(got == tuple(answer.split()), f"DATA and MOVER {answer} next", " ".join(got))


def _local(session: Session, mode: MoverMode, window: tuple[int, int]) -> m.Address | None:
    """A LOCAL data connection between the two machines; version 2's address for START."""
    listen_mover(session, mode, LOCAL, window)
    if session.version == 2:
        return m.LOCAL
    session.done(m.DataConnectRequest(m.LOCAL))
    return None


def _start_needs_mode(session: Session, mode: MoverMode) -> None:
    open_tape(session, TapeMode.RDWR if mode is READ else TapeMode.READ)
    address = _local(session, mode, (0, ALL))
    request: m.Body = start_backup(session, address)
    if mode is READ:
        request = m.DataStartRecoverRequest(
            environment(session), names(session), fsencode(session.options.butype), address
        )
    session.expect(request, ILLEGAL_STATE)


def _end(
    session: Session, request: str, data_reasons: set[DataHaltReason], mover_reasons: set[MoverHaltReason]
) -> None:
    """The mover is PAUSED at the end of its window, so the job stands still."""
    open_tape(session)
    session.done(start_backup(session, _local(session, READ, (0, RECORD))))
    session.wait_for(m.NotifyMoverPausedPost)
    requests = {
        "MOVER_ABORT": m.MoverAbortRequest,
        "MOVER_CLOSE": m.MoverCloseRequest,
        "DATA_ABORT": m.DataAbortRequest,
    }
    session.done(requests[request]())
    data = session.wait_for(m.NotifyDataHaltedPost).reason
    must(data in data_reasons, f"DATA halted with {_names(data_reasons)}", data)
    mover = session.wait_for(m.NotifyMoverHaltedPost).reason
    must(mover in mover_reasons, f"MOVER halted with {_names(mover_reasons)}", mover)
    must(_states(session) == ("HALTED", "HALTED"), "both HALTED", " ".join(_states(session)))


def _names(reasons: set[DataHaltReason] | set[MoverHaltReason]) -> str:
    return " or ".join(sorted(reason.name for reason in reasons))


def _other(session: Session) -> AbstractContextManager[Session]:
    """Another session beside this one, under the same deadline."""
    return open_session(
        session.options, session.version, session.offer, session.wire.faults, deadline=session.wire.deadline
    )


def _busy(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    with _other(session) as other:
        other.expect(m.TapeOpenRequest(device(session), TapeMode.READ), BUSY)
        other.expect(m.TapeOpenRequest(b"bogus", TapeMode.READ), ErrorCode.NO_DEVICE_ERR.name)


def _lets_go(session: Session, how: str) -> None:
    with _other(session) as other:
        open_tape(other, TapeMode.READ)
        session.expect(m.TapeOpenRequest(device(session), TapeMode.READ), BUSY)
        if how == "close":
            other.wire.request(0x902)
        else:
            other.wire.shut_down()
        must(other.wire.ended(), "the server to close the connection", "nothing")
        request = m.TapeOpenRequest(device(session), TapeMode.READ)
        while not (answer := session.ask(request)).good:
            if answer.error != BUSY or time.monotonic() + BUSY_WAIT_S > session.wire.deadline:
                raise MismatchError(f"expected the drive free behind the end of its session, got {answer.error}")
            time.sleep(BUSY_WAIT_S)


def _apart(session: Session) -> None:
    need_address(session, LOCAL)
    session.done(m.DataListenRequest(LOCAL))
    with _other(session) as other:
        state = other.data_state().state
        must(state == DataState.IDLE, "DATA IDLE in another session", state)
