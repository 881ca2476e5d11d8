"""Every DATA, MOVER and TAPE request in every state that can be reached, on the real server.

The tables are written from states.md (3.1, 3.2, 4.1, 5.1, and 1 for what joins the machines), with its recommended
choices, and read as there: a state = NO_ERR and that state next, "ok" = NO_ERR and nothing changes, else the error,
and then nothing changes either. A "-" marks a pair that cannot be made here.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest

from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    DataOperation,
    DataState,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    TapeMode,
    TapeOperation,
)
from mover.ndmp.messages import (
    Body,
    DataAbortRequest,
    DataConnectRequest,
    DataGetEnvRequest,
    DataGetStateRequest,
    DataListenRequest,
    DataStartBackupRequest,
    DataStartRecoverFilehistRequest,
    DataStartRecoverRequest,
    DataStopRequest,
    MoverAbortRequest,
    MoverCloseRequest,
    MoverConnectRequest,
    MoverContinueRequest,
    MoverGetStateRequest,
    MoverListenRequest,
    MoverReadRequest,
    MoverSetRecordSizeRequest,
    MoverSetWindowRequest,
    MoverStopRequest,
    NotifyDataHaltedPost,
    NotifyMoverHaltedPost,
    RecoverName,
    TapeCloseRequest,
    TapeExecuteCdbRequest,
    TapeGetStateRequest,
    TapeMtioRequest,
    TapeOpenRequest,
    TapeReadRequest,
    TapeWriteRequest,
)
from mover.ndmp.messages.common import LOCAL
from tests.support.ndmp_client import ALL, NdmpClient, pairs
from tests.support.servers import Login, Server
from tests.support.stages import (
    DRIVE,
    RECORD,
    Peer,
    Stage,
    bring_data,
    bring_mover,
    data_state,
    everything,
    mover_state,
    stage,
)

pytestmark = pytest.mark.slow

PAUSED_AT = {"READ": RECORD, "WRITE": 8 * RECORD}  # where `bring_mover` leaves the stream
Row = tuple[str, ...]

IS: Final = "ILLEGAL_STATE_ERR"
BUSY: Final = "DEVICE_BUSY_ERR"
NOT_OPEN: Final = "DEV_NOT_OPEN_ERR"
OPENED: Final = "DEVICE_OPENED_ERR"

# states.md 3.1
DATA_2_STATES = ("IDLE", "ACTIVE", "HALTED")
DATA_2: dict[str, Row] = {
    "START_BACKUP":           ("ACTIVE", IS,       IS),
    "START_RECOVER":          ("ACTIVE", IS,       IS),
    "ABORT":                  (IS,       "HALTED", IS),
    "STOP":                   (IS,       IS,       "IDLE"),
    "GET_ENV":                (IS,       "ok",     "ok"),
    "GET_STATE":              ("ok",     "ok",     "ok"),
}  # fmt: skip

# states.md 3.2; ABORT in HALTED as recommended there
DATA_34_STATES = ("IDLE", "LISTEN", "CONNECTED", "ACTIVE", "HALTED")
DATA_34: dict[str, Row] = {
    "LISTEN":                 ("LISTEN",    IS,       IS,       IS,       IS),
    "CONNECT":                ("CONNECTED", IS,       IS,       IS,       IS),
    "START_BACKUP":           (IS,          IS,       "ACTIVE", IS,       IS),
    "START_RECOVER":          (IS,          IS,       "ACTIVE", IS,       IS),
    "START_RECOVER_FILEHIST": (IS,          IS,       "ACTIVE", IS,       IS),
    "ABORT":                  (IS,          "HALTED", "HALTED", "HALTED", "ok"),
    "STOP":                   (IS,          IS,       IS,       IS,       "IDLE"),
    "GET_ENV":                (IS,          IS,       IS,       "ok",     "ok"),
    "GET_STATE":              ("ok",        "ok",     "ok",     "ok",     "ok"),
}  # fmt: skip

# states.md 4.1, the tape open for writing. Two columns for ACTIVE and PAUSED: mode READ, mode WRITE.
# CLOSE in LISTEN and ACTIVE, ABORT in HALTED and SET_WINDOW in IDLE (4.4) as recommended there.
MOVER_STATES = ("IDLE", "LISTEN", "ACTIVE READ", "ACTIVE WRITE", "PAUSED READ", "PAUSED WRITE", "HALTED")
MOVER_4: dict[str, Row] = {
    "SET_RECORD_SIZE": ("ok",     IS,       IS,       IS,       IS,       IS,       IS),
    "SET_WINDOW":      ("ok",     IS,       IS,       IS,       "ok",     "ok",     IS),
    "LISTEN":          ("LISTEN", IS,       IS,       IS,       IS,       IS,       IS),
    "CONNECT":         ("ACTIVE", IS,       IS,       IS,       IS,       IS,       IS),
    "READ":            (IS,       IS,       IS,       "ok",     IS,       IS,       IS),
    "CONTINUE":        (IS,       IS,       IS,       IS,       "ACTIVE", "ACTIVE", IS),
    "CLOSE":           (IS,       "HALTED", "HALTED", "HALTED", "HALTED", "HALTED", IS),
    "ABORT":           (IS,       "HALTED", "HALTED", "HALTED", "HALTED", "HALTED", "ok"),
    "STOP":            (IS,       IS,       IS,       IS,       IS,       IS,       "IDLE"),
    "GET_STATE":       ("ok",     "ok",     "ok",     "ok",     "ok",     "ok",     "ok"),
}  # fmt: skip
MOVER_3 = MOVER_4 | {"SET_WINDOW": ("ok", "ok", IS, IS, "ok", "ok", IS)}
MOVER_2 = {name: row for name, row in MOVER_3.items() if name != "CONNECT"}

# states.md 5.1
TAPE_STATES = ("closed", *MOVER_STATES)
TAPE: dict[str, Row] = {
    "OPEN":        ("ok",     OPENED, OPENED, OPENED, OPENED, OPENED, OPENED, OPENED),
    "CLOSE":       (NOT_OPEN, "ok",   BUSY,   BUSY,   BUSY,   "ok",   "ok",   "ok"),
    "GET_STATE":   (NOT_OPEN, "ok",   "ok",   "ok",   "ok",   "ok",   "ok",   "ok"),
    "MTIO":        (NOT_OPEN, "ok",   BUSY,   BUSY,   BUSY,   "ok",   "ok",   "ok"),
    "READ":        (NOT_OPEN, "ok",   BUSY,   BUSY,   BUSY,   "ok",   "ok",   "ok"),
    "WRITE":       (NOT_OPEN, "ok",   BUSY,   BUSY,   BUSY,   "ok",   "ok",   "ok"),
    "EXECUTE_CDB": (NOT_OPEN, "ok",   BUSY,   BUSY,   BUSY,   "ok",   "ok",   "ok"),
}  # fmt: skip


def data_requests(version: int, peer: Peer, directory: Path) -> dict[str, Body]:
    mover = peer.address if version == 2 else None
    env = pairs(FILESYSTEM=str(directory / "source"))
    names = (RecoverName(b"", str(directory / "target").encode()),)
    return {
        "LISTEN": DataListenRequest(AddressType.TCP),
        "CONNECT": DataConnectRequest(peer.address),
        "START_BACKUP": DataStartBackupRequest(b"dump", env, mover),
        "START_RECOVER": DataStartRecoverRequest(env, names, b"dump", mover),
        "START_RECOVER_FILEHIST": DataStartRecoverFilehistRequest(env, names, b"dump", mover),
        "ABORT": DataAbortRequest(),
        "STOP": DataStopRequest(),
        "GET_ENV": DataGetEnvRequest(),
        "GET_STATE": DataGetStateRequest(),
    }


def mover_requests(version: int, peer: Peer) -> dict[str, Body]:
    return {
        "SET_RECORD_SIZE": MoverSetRecordSizeRequest(2 * RECORD),
        "SET_WINDOW": MoverSetWindowRequest(0, 4 * RECORD),
        "LISTEN": MoverListenRequest(MoverMode.READ, AddressType.TCP),
        "CONNECT": MoverConnectRequest(MoverMode.READ, peer.address),
        "READ": MoverReadRequest(0, 100),
        "CONTINUE": MoverContinueRequest(),
        "CLOSE": MoverCloseRequest(),
        "ABORT": MoverAbortRequest(),
        "STOP": MoverStopRequest(),
        "GET_STATE": MoverGetStateRequest(),
    }


TAPE_REQUESTS: dict[str, Body] = {
    "OPEN": TapeOpenRequest(DRIVE, TapeMode.RDWR),
    "CLOSE": TapeCloseRequest(),
    "GET_STATE": TapeGetStateRequest(),
    "MTIO": TapeMtioRequest(TapeOperation.REW, 1),
    "READ": TapeReadRequest(0),
    "WRITE": TapeWriteRequest(b""),
    "EXECUTE_CDB": TapeExecuteCdbRequest(0, 0, 0, bytes(6)),
}


def walk(
    states: Sequence[str],
    table: dict[str, Row],
    state: str,
    requests: Callable[[Stage], dict[str, Body]],
    bring: Callable[[Stage], object],
    fresh: Callable[[], AbstractContextManager[Stage]],
    check: Callable[[Stage, str, str], None],
) -> None:
    """Send what a state refuses to one connection, and each request that it takes to one of its own."""
    column = states.index(state)
    expected = {name: row[column] for name, row in table.items()}
    refused = {name: answer for name, answer in expected.items() if answer.endswith("_ERR")}
    with fresh() as at:
        bring(at)
        before = everything(at.client)
        for name, answer in refused.items():
            got = ErrorCode(at.client.error(requests(at)[name])).name
            assert got == answer, f"{name} in {state}"
            assert everything(at.client) == before, f"{name} in {state} was refused and changed something"
    for name in expected.keys() - refused.keys():
        with fresh() as at:
            bring(at)
            got = ErrorCode(at.client.error(requests(at)[name])).name
            assert got == "NO_ERR", f"{name} in {state}"
            check(at, name, expected[name])


def halts(client: NdmpClient, kind: type[Body]) -> list[int]:
    """The reasons of the halts that were posted so far."""
    return [seen.body.reason for seen in client.posts if isinstance(seen.body, kind)]  # type: ignore[attr-defined]  # both have one


@pytest.mark.parametrize(
    ("version", "state"),
    [(2, state) for state in DATA_2_STATES] + [(version, state) for version in (3, 4) for state in DATA_34_STATES],
)
def test_data(version: int, state: str, shared: Server, login: Login, shared_shm: Path) -> None:
    states, table = (DATA_2_STATES, DATA_2) if version == 2 else (DATA_34_STATES, DATA_34)

    def check(at: Stage, name: str, answer: str) -> None:
        now = data_state(at.client)
        assert DataState(now.state).name == (state if answer == "ok" else answer), name
        wanted = DataHaltReason.ABORTED if now.state == DataState.HALTED else DataHaltReason.NA
        assert now.halt_reason == wanted, name
        if answer == "HALTED":
            at.client.wait_for(NotifyDataHaltedPost)
        assert halts(at.client, NotifyDataHaltedPost) == (
            [DataHaltReason.ABORTED] if "HALTED" in {state, answer} else []
        )
        if now.state == DataState.IDLE:
            assert (now.operation, now.bytes_processed, now.data_connection_addr) == (DataOperation.NOACTION, 0, LOCAL)
        assert mover_state(at.client).state == MoverState.IDLE, name

    walk(
        states,
        table,
        state,
        lambda at: data_requests(version, at.peer, shared_shm),
        lambda at: bring_data(at.client, DataState[state], at.peer, shared_shm / "source"),
        lambda: stage(shared, login, version),
        check,
    )


def bring(at: Stage, state: str) -> None:
    """Bring MOVER to a column of the tables."""
    if state == "closed":
        return
    name, _, mode = state.partition(" ")
    bring_mover(at.client, MoverState[name], MoverMode[mode or "READ"], at.peer)


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("state", MOVER_STATES)
def test_mover(version: int, state: str, shared: Server, login: Login) -> None:
    table = {2: MOVER_2, 3: MOVER_3, 4: MOVER_4}[version]
    base, _, mode = state.partition(" ")

    def check(at: Stage, name: str, answer: str) -> None:
        now = mover_state(at.client)
        expected = base if answer == "ok" else answer
        assert MoverState(now.state).name == expected, name
        reason = MoverHaltReason.CONNECT_CLOSED if name == "CLOSE" else MoverHaltReason.ABORTED
        assert now.halt_reason == (reason if expected == "HALTED" else MoverHaltReason.NA), name
        if expected != "PAUSED":
            assert now.pause_reason == MoverPauseReason.NA, name
        if answer == "HALTED":
            at.client.wait_for(NotifyMoverHaltedPost)
        assert halts(at.client, NotifyMoverHaltedPost) == ([reason] if "HALTED" in {state, answer} else []), name
        if expected == "IDLE" and name == "STOP":
            assert (now.record_num, now.bytes_moved, now.seek_position, now.bytes_left_to_read) == (0, 0, 0, 0)
            assert (now.window_offset, now.window_length, now.data_connection_addr) == (0, 0, LOCAL)
        if version == 4:
            idle = MoverMode.NOACTION
            assert now.mode == (idle if expected == "IDLE" else MoverMode[mode or "READ"]), name
        assert data_state(at.client).state == DataState.IDLE, name

    def prepare(at: Stage) -> None:
        bring(at, state)
        if base == "IDLE":
            at.client.ok(MoverSetRecordSizeRequest(RECORD))  # version 4 has none before
        elif base == "PAUSED":
            window = MoverSetWindowRequest(PAUSED_AT[mode], ALL - PAUSED_AT[mode])
            at.client.ok(window)  # else CONTINUE ends in another pause

    def requests(at: Stage) -> dict[str, Body]:
        made = mover_requests(version, at.peer)
        if base == "PAUSED":
            made["SET_WINDOW"] = MoverSetWindowRequest(PAUSED_AT[mode], 4 * RECORD)
        return made

    walk(MOVER_STATES, table, state, requests, prepare, lambda: stage(shared, login, version), check)


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("state", TAPE_STATES)
def test_tape(version: int, state: str, shared: Server, login: Login) -> None:
    base = "IDLE" if state == "closed" else state.partition(" ")[0]

    def check(at: Stage, name: str, answer: str) -> None:
        assert answer == "ok"
        assert MoverState(mover_state(at.client).state).name == base, name
        is_open = at.client.error(TapeGetStateRequest()) == ErrorCode.NO_ERR
        assert is_open == (name != "CLOSE")

    walk(
        TAPE_STATES,
        TAPE,
        state,
        lambda at: TAPE_REQUESTS,
        lambda at: bring(at, state),
        lambda: stage(shared, login, version),
        check,
    )
