"""Every cell of a state table as a check: bring the session to the state, ask, judge answer, state and posts.

Deviation from a table's answer, a state that does not follow, a halt without its post, a reason outside its state,
something changed by a refusal: each is a failure.
"""

from collections.abc import Iterator
from functools import partial
from os import fsencode
from typing import Final

from mover.conformance.checks import NOTHING, READS_TAPE, WRITES_TAPE, Check, Need, clause
from mover.conformance.results import MismatchError, NotOfferedError
from mover.conformance.session import Answer, Session, must, need
from mover.conformance.stages import (
    ALL,
    RECORD,
    bring_data,
    bring_mover,
    device,
    environment,
    mover_mode,
    need_address,
    open_tape,
    start_backup,
    writes,
)
from mover.conformance.stages import names as recover_names
from mover.conformance.state_tables import (
    DATA_TABLES,
    MOVER_CLOSED_STATES,
    MOVER_CLOSED_TABLES,
    MOVER_STATES,
    MOVER_TABLES,
    NAMES,
    OPTIONAL,
    TAPE,
    TAPE_STATES,
    Table,
)
from mover.ndmp import messages as m
from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    DataOperation,
    DataState,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    TapeMode,
    TapeOperation,
)

PAUSED_AT: Final = {MoverMode.READ: RECORD, MoverMode.WRITE: 8 * RECORD}
"""Where `bring_mover` leaves the stream, in bytes."""


def judged(session: Session, request: m.Body, cell: str, *, name: str) -> tuple[Answer, str]:
    """Ask, and find the alternative of the cell that the answer is; refusals must change nothing."""
    before = session.everything()
    answer = session.ask(request)
    allowed = cell.split("|")
    if not answer.good:
        if name in OPTIONAL and answer.error == NAMES["NONE"]:
            raise NotOfferedError("answered NOT_SUPPORTED_ERR")
        if answer.error not in {NAMES.get(each) for each in allowed}:
            raise MismatchError(f"expected {_readable(cell)}, got {answer.error}")
        must(session.everything() == before, "no state to change by a refused request", "another GET_STATE")
        return answer, ""
    for each in allowed:
        if each not in NAMES:
            return answer, each
    raise MismatchError(f"expected {_readable(cell)}, got NO_ERR")


def _readable(cell: str) -> str:
    return " or ".join(
        NAMES.get(each, "NO_ERR" if each.startswith("ok") else f"NO_ERR and {each}") for each in cell.split("|")
    )


# ---- DATA


def data_requests(session: Session) -> dict[str, m.Body]:
    """The requests of the DATA table with arguments that are right."""
    old = session.version == 2
    mover = session.peer.listen() if old else None
    butype, env, names = fsencode(session.options.butype), environment(session), recover_names(session)
    return {
        "LISTEN TCP": m.DataListenRequest(AddressType.TCP),
        "LISTEN LOCAL": m.DataListenRequest(AddressType.LOCAL),
        "CONNECT": m.DataConnectRequest(m.LOCAL if old else session.peer.listen()),
        "START_BACKUP": start_backup(session, mover),
        "START_RECOVER": m.DataStartRecoverRequest(env, names, butype, mover),
        "START_RECOVER_FILEHIST": m.DataStartRecoverFilehistRequest(env, names, butype, mover),
        "ABORT": m.DataAbortRequest(),
        "STOP": m.DataStopRequest(),
        "GET_ENV": m.DataGetEnvRequest(),
        "GET_STATE": m.DataGetStateRequest(),
    }


def data_cell(session: Session, state: str, name: str, cell: str) -> None:
    """One cell of the DATA table."""
    if name.startswith("LISTEN"):
        need_address(session, AddressType[name.split()[1]])
    elif name == "CONNECT" or (session.version == 2 and name.startswith("START")):
        need_address(session, AddressType.TCP)
    bring_data(session, state)
    if name.startswith("START") and session.options.filesystem is None:
        cell += "|ARGS"  # the arguments may be looked at first, and they are made up
    answer, outcome = judged(session, data_requests(session)[name], cell, name=name)
    if not outcome:
        return
    if isinstance(answer.body, m.DataListenReply):
        _same_kind(answer.body.data_connection_addr, name)
    expected = state if outcome == "ok" else outcome
    after_data(session, expected)
    if outcome == "HALTED":
        reason = session.wait_for(m.NotifyDataHaltedPost).reason
        must(reason == DataHaltReason.ABORTED, "NOTIFY_DATA_HALTED with ABORTED", f"reason {reason}")
        must(len(session.of_kind(m.NotifyDataHaltedPost)) == 1, "one NOTIFY_DATA_HALTED", "more")


def after_data(session: Session, expected: str) -> None:
    """DATA is in a state, with the reasons that belong to it (states.md 3.4)."""
    now = session.data_state()
    wanted = DataState[expected.split(maxsplit=1)[0]]
    if wanted == DataState.ACTIVE and now.state == DataState.HALTED and now.halt_reason != DataHaltReason.ABORTED:
        return  # an operation may be over at once (3.5)
    must(now.state == wanted, f"DATA {wanted.name} next", state_name(DataState, now.state))
    if wanted == DataState.HALTED:
        must(now.halt_reason == DataHaltReason.ABORTED, "halt reason ABORTED", now.halt_reason)
    else:
        must(now.halt_reason == DataHaltReason.NA, "halt reason NA", now.halt_reason)
    if wanted == DataState.IDLE:
        must(now.operation == DataOperation.NOACTION, "operation NOACTION in IDLE", now.operation)
        must(now.bytes_processed == 0, "0 bytes processed in IDLE", now.bytes_processed)
        must(now.data_connection_addr == m.LOCAL, "address LOCAL in IDLE", "another")


def state_name(kind: type[DataState] | type[MoverState], value: int) -> str:
    return next((state.name for state in kind if state == value), f"state {value}")


def _same_kind(address: m.Address, name: str) -> None:
    kind = "TCP" if isinstance(address, m.TcpAddress) else "LOCAL" if address == m.LOCAL else "another type"
    must(kind in name, f"an address of the type asked for ({name.rsplit(maxsplit=1)[-1]})", kind)


def data_walk(version: int) -> Iterator[Check]:
    """A check for each cell of the DATA table."""
    states, table = DATA_TABLES[version]
    section = "3.1" if version == 2 else "3.2"
    for state, name, cell in cells(states, table):
        needs = set()
        if "ACTIVE" in {state, cell} or (version == 2 and state == "HALTED"):
            needs.add(Need.FILESYSTEM)
        if name.startswith("START_RECOVER") and cell == "ACTIVE":
            needs.add(Need.RECOVER_TO)
        yield Check(
            f"DATA_{name} in {state}",
            clause(version, f"DATA_{name.split()[0]}", f"states.md {section}"),
            partial(data_cell, state=state, name=name, cell=cell),
            frozenset(needs),
            "DATA",
        )


def cells(states: tuple[str, ...], table: Table) -> Iterator[tuple[str, str, str]]:
    """State, request and cell, column by column."""
    for column, state in enumerate(states):
        for name, row in table.items():
            yield state, name, row[column]


# ---- MOVER


def mover_requests(session: Session, column: str) -> dict[str, m.Body]:
    """The requests of the MOVER tables with arguments that are right."""
    mode = mover_mode(column)
    offset = PAUSED_AT[mode] if column.startswith("PAUSED") else 0
    made: dict[str, m.Body] = {
        f"LISTEN {mode.name} {kind.name}": m.MoverListenRequest(mode, kind)
        for mode in (MoverMode.READ, MoverMode.WRITE)
        for kind in (AddressType.TCP, AddressType.LOCAL)
    }
    return made | {
        "SET_RECORD_SIZE": m.MoverSetRecordSizeRequest(2 * RECORD),
        "SET_WINDOW": m.MoverSetWindowRequest(offset, 4 * RECORD),
        "SET_WINDOW(0, 0)": m.MoverSetWindowRequest(0, 0),
        "LISTEN TCP": m.MoverListenRequest(mode, AddressType.TCP),
        "LISTEN LOCAL": m.MoverListenRequest(mode, AddressType.LOCAL),
        "CONNECT": m.MoverConnectRequest(mode, m.LOCAL if session.version == 2 else session.peer.listen()),
        "READ": m.MoverReadRequest(0, 100),
        "CONTINUE": m.MoverContinueRequest(),
        "CLOSE": m.MoverCloseRequest(),
        "ABORT": m.MoverAbortRequest(),
        "STOP": m.MoverStopRequest(),
        "GET_STATE": m.MoverGetStateRequest(),
    }


def mover_cell(session: Session, state: str, name: str, cell: str) -> None:
    """One cell of the MOVER table."""
    for kind in (AddressType.TCP, AddressType.LOCAL):
        if name.startswith("LISTEN") and kind.name in name:
            need_address(session, kind)
    if name == "CONNECT":
        need_address(session, AddressType.TCP)
    if state in MOVER_CLOSED_STATES:
        state = "IDLE"
    else:
        bring_mover(session, state)
    base = state.split()[0]
    if base == "IDLE" and session.version == 4 and name not in {"SET_RECORD_SIZE", "SET_WINDOW(0, 0)"}:
        session.done(m.MoverSetRecordSizeRequest(RECORD))
        if name.startswith(("LISTEN", "CONNECT")):
            session.done(m.MoverSetWindowRequest(0, ALL))
    elif base == "PAUSED" and name == "CONTINUE":
        at = PAUSED_AT[mover_mode(state)]
        session.done(m.MoverSetWindowRequest(at, ALL - at))  # else it ends in another pause
    answer, outcome = judged(session, mover_requests(session, state)[name], cell, name=name)
    if not outcome:
        return
    if isinstance(answer.body, m.MoverListenReply):
        _same_kind(answer.body.data_connection_addr, name)
    if outcome == "ok?":
        outcome = "ACTIVE"
        if not writes(session):
            return  # what is on the tape decides
    expected = base if outcome == "ok" else outcome
    reason = MoverHaltReason.CONNECT_CLOSED if name == "CLOSE" else MoverHaltReason.ABORTED
    after_mover(session, expected, reason)
    if outcome == "HALTED":
        got = session.wait_for(m.NotifyMoverHaltedPost).reason
        must(got == reason, f"NOTIFY_MOVER_HALTED with {reason.name}", f"reason {got}")
        must(len(session.of_kind(m.NotifyMoverHaltedPost)) == 1, "one NOTIFY_MOVER_HALTED", "more")


def after_mover(session: Session, expected: str, halt_reason: MoverHaltReason) -> None:
    """MOVER is in a state, with the reasons and variables that belong to it (states.md 4.3)."""
    now = session.mover_state()
    wanted = MoverState[expected]
    must(now.state == wanted, f"MOVER {wanted.name} next", state_name(MoverState, now.state))
    reason = halt_reason if wanted == MoverState.HALTED else MoverHaltReason.NA
    must(now.halt_reason == reason, f"halt reason {reason.name}", now.halt_reason)
    if wanted != MoverState.PAUSED:
        must(now.pause_reason == MoverPauseReason.NA, "pause reason NA", now.pause_reason)
    if wanted == MoverState.IDLE:
        counters = (now.record_num, now.bytes_moved, now.seek_position, now.bytes_left_to_read)
        must(not any(counters), "counters of 0 in IDLE", counters)
        must(now.data_connection_addr == m.LOCAL, "address LOCAL in IDLE", "another")


def mover_walk(version: int) -> Iterator[Check]:
    """A check for each cell of the MOVER tables."""
    both = [
        *cells(MOVER_CLOSED_STATES, MOVER_CLOSED_TABLES[version]),
        *cells(MOVER_STATES, MOVER_TABLES[version]),
    ]
    for state, name, cell in both:
        notes = "states.md 4.4; NDMJOB test-mover" if "WINDOW" in name else "states.md 4.1"
        needs = NOTHING if state in MOVER_CLOSED_STATES else WRITES_TAPE if "READ" in state.split() else READS_TAPE
        yield Check(
            f"MOVER_{name} in {state}",
            clause(version, f"MOVER_{name.split()[0].partition('(')[0]}", notes),
            partial(mover_cell, state=state, name=name, cell=cell),
            needs,
            "MOVER",
        )


# ---- TAPE


def tape_requests(session: Session, cell: str) -> dict[str, m.Body]:
    """The requests of the TAPE table; none of them that may succeed changes what is on the tape."""
    name = device(session) if session.options.tape_device is not None else b"bogus"
    count = 0 if cell.startswith("ok") else RECORD  # nothing to transfer may be done in any state
    return {
        "OPEN": m.TapeOpenRequest(name, TapeMode.READ),
        "CLOSE": m.TapeCloseRequest(),
        "GET_STATE": m.TapeGetStateRequest(),
        "MTIO": m.TapeMtioRequest(TapeOperation.REW, 1),
        "READ": m.TapeReadRequest(count),
        "WRITE": m.TapeWriteRequest(bytes(count)),
        "EXECUTE_CDB": m.TapeExecuteCdbRequest(0, 0, 0, bytes(6)),  # TEST UNIT READY
    }


def tape_cell(session: Session, state: str, name: str, cell: str) -> None:
    """One cell of the TAPE table."""
    if state == "closed":
        if name == "OPEN":
            open_tape(session)  # waits for a drive that is being let go of
            session.done(m.TapeCloseRequest())
    elif "ACTIVE" in state or "LISTEN" in state or "PAUSED" in state or "HALTED" in state:
        need("MOVER" not in session.offer.missing, "the server has no mover")
        bring_mover(session, state)
    else:
        open_tape(session)
    _, outcome = judged(session, tape_requests(session, cell)[name], cell, name=name)
    if outcome:
        opened = session.ask(m.TapeGetStateRequest()).good
        must(opened == (name != "CLOSE"), "the drive " + ("open" if name != "CLOSE" else "closed"), "the opposite")
    base = state.split(maxsplit=1)[0]
    if base not in {"closed", "IDLE"}:
        now = session.mover_state().state
        must(now == MoverState[base], f"MOVER still {base}", state_name(MoverState, now))


def tape_walk(version: int) -> Iterator[Check]:
    """A check for each cell of the TAPE table."""
    for state, name, cell in cells(TAPE_STATES, TAPE):
        needs = WRITES_TAPE if "READ" in state.split() else READS_TAPE
        if state == "closed" and name != "OPEN":
            needs = NOTHING
        elif name == "WRITE" and not cell.startswith("ok"):
            needs = WRITES_TAPE
        where = state if state in {"closed", "IDLE"} else f"MOVER {state}"
        yield Check(
            f"TAPE_{name}, {where}",
            clause(version, f"TAPE_{name}", "states.md 5.1"),
            partial(tape_cell, state=state, name=name, cell=cell),
            needs,
            "TAPE",
        )
