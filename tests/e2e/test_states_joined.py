"""What joins the machines, and what LISTEN, CONNECT, CONTINUE, READ and SET_WINDOW look at besides the state.

The tables are written from states.md sections 1, 3.5, 3.6, 4.1 and 4.4, with the recommended choices; a name is the
error, "ok" NO_ERR. Real server, real drive.
"""

import os
import signal
import socket
import struct
from typing import Final

import pytest

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
from mover.ndmp.messages import (
    Body,
    DataAbortRequest,
    DataConnectRequest,
    DataGetStateReply,
    DataGetStateRequest,
    DataListenRequest,
    DataStartBackupRequest,
    DataStartRecoverRequest,
    MoverAbortRequest,
    MoverCloseRequest,
    MoverConnectRequest,
    MoverContinueRequest,
    MoverListenRequest,
    MoverReadRequest,
    MoverSetRecordSizeRequest,
    MoverSetWindowRequest,
    MoverStopRequest,
    NotifyDataHaltedPost,
    NotifyMoverHaltedPost,
    NotifyMoverPausedPost,
    RecoverName,
    ScsiCloseRequest,
    ScsiExecuteCdbRequest,
    ScsiGetStateRequest,
    ScsiOpenRequest,
    ScsiResetDeviceRequest,
    TapeCloseRequest,
    TapeGetStateRequest,
    TapeOpenRequest,
)
from mover.ndmp.messages.common import LOCAL, Address, IpcAddress, TcpAddress
from tests.support.ndmp_client import ALL, NdmpClient, pairs
from tests.support.processes import busy_worker, settle
from tests.support.servers import Login, Server
from tests.support.stages import (
    DRIVE,
    RECORD,
    Stage,
    bring_data,
    bring_mover,
    data_state,
    everything,
    listen,
    mover_state,
    open_tape,
    stage,
)

pytestmark = pytest.mark.slow

READ, WRITE = MoverMode.READ, MoverMode.WRITE
TCP = AddressType.TCP
IS: Final = "ILLEGAL_STATE_ERR"
ARGS: Final = "ILLEGAL_ARGS_ERR"
PRECONDITION: Final = "PRECONDITION_ERR"


def answer(client: NdmpClient, request: Body) -> str:
    """The error's name, or ok; an error has changed nothing."""
    before = everything(client)
    error = client.error(request)
    if error != ErrorCode.NO_ERR:
        assert everything(client) == before, f"{request} was refused and changed something"
    return "ok" if error == ErrorCode.NO_ERR else ErrorCode(error).name


def states(client: NdmpClient) -> tuple[str, str]:
    return DataState(data_state(client).state).name, MoverState(mover_state(client).state).name


# --- LOCAL joins the two machines, TCP keeps them apart (1, 3.6) ------------------------------------------------


def prepare(at: Stage, data: str, mover: str) -> None:
    """Bring DATA and MOVER to states given as `LISTEN LOCAL`, `LISTEN TCP` or a state of `stages`."""
    client = at.client
    match mover.split():
        case ["LISTEN", kind]:
            open_tape(client)
            client.ok(MoverSetRecordSizeRequest(RECORD))
            client.ok(MoverListenRequest(READ, AddressType[kind]))
        case [state]:
            bring_mover(client, MoverState[state], READ, at.peer)
    match data.split():
        case ["LISTEN", kind]:
            client.ok(DataListenRequest(AddressType[kind]))
        case [state]:
            assert state == "IDLE"


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    ("data", "mover", "request_", "expected"),
    [
        ("IDLE", "IDLE", "DATA_CONNECT LOCAL", IS),
        ("IDLE", "LISTEN TCP", "DATA_CONNECT LOCAL", IS),
        ("IDLE", "LISTEN LOCAL", "DATA_CONNECT LOCAL", "CONNECTED ACTIVE"),
        ("IDLE", "ACTIVE", "DATA_CONNECT LOCAL", IS),
        ("IDLE", "PAUSED", "DATA_CONNECT LOCAL", IS),
        ("IDLE", "HALTED", "DATA_CONNECT LOCAL", IS),
        ("IDLE", "IDLE", "MOVER_CONNECT LOCAL", IS),
        ("LISTEN TCP", "IDLE", "MOVER_CONNECT LOCAL", IS),
        ("LISTEN LOCAL", "IDLE", "MOVER_CONNECT LOCAL", "CONNECTED ACTIVE"),
        ("IDLE", "LISTEN LOCAL", "DATA_CONNECT TCP", IS),
        ("IDLE", "LISTEN TCP", "DATA_CONNECT TCP", IS),
        ("IDLE", "LISTEN TCP", "DATA_LISTEN TCP", IS),
        ("IDLE", "ACTIVE", "DATA_LISTEN TCP", IS),
        ("IDLE", "HALTED", "DATA_CONNECT TCP", IS),
        ("LISTEN LOCAL", "IDLE", "MOVER_CONNECT TCP", IS),
        ("LISTEN TCP", "IDLE", "MOVER_CONNECT TCP", IS),
        ("LISTEN TCP", "IDLE", "MOVER_LISTEN TCP", IS),
    ],
)
def test_two_machines(
    version: int, data: str, mover: str, request_: str, expected: str, shared: Server, login: Login
) -> None:
    with stage(shared, login, version) as at:
        prepare(at, data, mover)
        if mover == "IDLE":
            at.client.ok(MoverSetRecordSizeRequest(RECORD))
        requests: dict[str, Body] = {
            "DATA_CONNECT LOCAL": DataConnectRequest(LOCAL),
            "DATA_CONNECT TCP": DataConnectRequest(at.peer.address),
            "DATA_LISTEN TCP": DataListenRequest(TCP),
            "MOVER_CONNECT LOCAL": MoverConnectRequest(READ, LOCAL),
            "MOVER_CONNECT TCP": MoverConnectRequest(READ, at.peer.address),
            "MOVER_LISTEN TCP": MoverListenRequest(READ, TCP),
        }
        got = answer(at.client, requests[request_])
        if expected == IS:
            assert got == IS
            return
        assert got == "ok"
        assert states(at.client) == tuple(expected.split())
        assert data_state(at.client).data_connection_addr == LOCAL
        assert mover_state(at.client).data_connection_addr == LOCAL


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("mode", [READ, WRITE])
def test_a_start_needs_the_mover_in_its_mode(version: int, mode: MoverMode, shared: Server, login: Login) -> None:
    env = pairs(FILESYSTEM=str(shared.config.parent.parent / "source"))
    address = LOCAL if version == 2 else None
    backup = DataStartBackupRequest(b"dump", env, address)
    names = (RecoverName(b"", b"/nowhere"),)
    recover = DataStartRecoverRequest(env, names, b"dump", address)
    with stage(shared, login, version) as at:
        if version == 2:
            assert answer(at.client, backup) == IS  # the mover is IDLE
        open_tape(at.client)
        at.client.ok(MoverSetRecordSizeRequest(RECORD))
        at.client.ok(MoverListenRequest(mode, AddressType.LOCAL))
        if version > 2:
            at.client.ok(DataConnectRequest(LOCAL))
        assert answer(at.client, recover if mode is READ else backup) == IS
        if mode is READ:
            assert answer(at.client, backup) == "ok"
            assert states(at.client) == ("ACTIVE", "ACTIVE")


@pytest.mark.parametrize(
    ("version", "state"),
    [(2, "PAUSED"), (3, "CONNECTED"), (3, "PAUSED"), (4, "CONNECTED"), (4, "PAUSED")],
)
@pytest.mark.parametrize(
    ("request_", "data", "mover"),
    [
        # 3.3: ABORT or CLOSE of the mover looks like a lost connection from the data side; 4.2: CLOSE
        (MoverAbortRequest(), DataHaltReason.CONNECT_ERROR, MoverHaltReason.ABORTED),
        (MoverCloseRequest(), DataHaltReason.CONNECT_ERROR, MoverHaltReason.CONNECT_CLOSED),
        (DataAbortRequest(), DataHaltReason.ABORTED, MoverHaltReason.CONNECT_ERROR),
    ],
    ids=["MOVER_ABORT", "MOVER_CLOSE", "DATA_ABORT"],
)
def test_the_end_of_one_is_the_end_of_both(
    version: int,
    state: str,
    request_: Body,
    data: DataHaltReason,
    mover: MoverHaltReason,
    shared: Server,
    login: Login,
) -> None:
    """With the mover PAUSED inside a backup, and before a START; the connection between them is LOCAL."""
    env = pairs(FILESYSTEM=str(shared.config.parent.parent / "source"))
    with stage(shared, login, version) as at:
        client = at.client
        open_tape(client)
        listen(client, READ, window=(0, RECORD), kind=AddressType.LOCAL)
        if version > 2:
            client.ok(DataConnectRequest(LOCAL))
        if state == "PAUSED":
            client.ok(DataStartBackupRequest(b"dump", env, LOCAL if version == 2 else None))
            client.wait_for(NotifyMoverPausedPost)
        client.ok(request_)
        assert client.wait_for(NotifyDataHaltedPost).reason == data
        assert client.wait_for(NotifyMoverHaltedPost).reason == mover
        assert states(client) == ("HALTED", "HALTED")


# --- how a TCP peer ends (4.2) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize(
    ("state", "mode", "how", "reason"),
    [
        ("ACTIVE", READ, "close", MoverHaltReason.CONNECT_CLOSED),
        ("ACTIVE", READ, "reset", MoverHaltReason.CONNECT_ERROR),
        ("ACTIVE", WRITE, "close", MoverHaltReason.CONNECT_CLOSED),
        ("ACTIVE", WRITE, "reset", MoverHaltReason.CONNECT_ERROR),
        ("PAUSED", READ, "reset", MoverHaltReason.CONNECT_ERROR),
        ("PAUSED", WRITE, "close", MoverHaltReason.CONNECT_CLOSED),
        ("PAUSED", WRITE, "reset", MoverHaltReason.CONNECT_ERROR),
    ],
)
def test_a_peer_s_end_halts_the_mover(
    version: int, state: str, mode: MoverMode, how: str, reason: MoverHaltReason, shared: Server, login: Login
) -> None:
    with stage(shared, login, version) as at:
        connection = bring_mover(at.client, MoverState[state], mode, at.peer)
        assert connection is not None
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        assert at.client.wait_for(NotifyMoverHaltedPost).reason == reason
        assert mover_state(at.client).halt_reason == reason


def test_a_tape_worker_that_leaves_late_leaves_no_counters(shared: Server, login: Login) -> None:
    """The mover has halted without its worker's word, and STOP has cleared what there was."""
    with stage(shared, login, 4) as at:
        connection = bring_mover(at.client, MoverState.ACTIVE, READ, at.peer)
        assert connection is not None
        connection.sendall(bytes(RECORD))
        settle(lambda: mover_state(at.client).bytes_moved == RECORD, "a record on tape")
        worker = busy_worker(shared, "tape")
        os.kill(worker, signal.SIGSTOP)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            assert at.client.wait_for(NotifyMoverHaltedPost).reason == MoverHaltReason.CONNECT_ERROR
            at.client.ok(MoverStopRequest())
            before = mover_state(at.client)
            assert (before.bytes_moved, before.record_num) == (0, 0)
        finally:
            os.kill(worker, signal.SIGCONT)
        at.client.ok(TapeGetStateRequest())  # answered behind the worker's word
        assert mover_state(at.client) == before


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_stream_that_ends_while_the_mover_is_paused_is_written(version: int, shared: Server, login: Login) -> None:
    """By the letter of version 4 the close halts the mover (4.2); but the bytes in flight would be lost with it."""
    with stage(shared, login, version) as at:
        connection = bring_mover(at.client, MoverState.PAUSED, READ, at.peer)
        assert connection is not None
        connection.sendall(b"tail")
        connection.close()
        at.client.ok(MoverSetWindowRequest(RECORD, ALL - RECORD))
        at.client.ok(MoverContinueRequest())
        assert at.client.wait_for(NotifyMoverHaltedPost).reason == MoverHaltReason.CONNECT_CLOSED
        state = mover_state(at.client)
        assert (state.bytes_moved, state.record_num) == (2 * RECORD + 4, 3)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_close_behind_the_data_service_s_end_cuts_nothing_off(version: int, shared: Server, login: Login) -> None:
    """DATA SUCCESSFUL and MOVER CONNECT_CLOSED are a good backup to a DMA, so its last record has to be on tape."""
    env = pairs(FILESYSTEM=str(shared.config.parent.parent / "source"))
    with stage(shared, login, version) as at:
        client = at.client
        open_tape(client)
        client.ok(MoverSetRecordSizeRequest(512))  # the tape is slower than the files
        client.ok(MoverSetWindowRequest(0, ALL))
        client.ok(MoverListenRequest(READ, AddressType.LOCAL))
        if version > 2:
            client.ok(DataConnectRequest(LOCAL))
        client.ok(DataStartBackupRequest(b"dump", env, LOCAL if version == 2 else None))
        assert client.wait_for(NotifyDataHaltedPost).reason == DataHaltReason.SUCCESSFUL
        # The tape may be through already.
        assert client.error(MoverCloseRequest()) in {ErrorCode.NO_ERR, ErrorCode.ILLEGAL_STATE_ERR}
        assert client.wait_for(NotifyMoverHaltedPost).reason == MoverHaltReason.CONNECT_CLOSED
        data = client.ok(DataGetStateRequest())
        assert isinstance(data, DataGetStateReply)
        assert mover_state(client).bytes_moved == data.bytes_processed


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("state", [DataState.CONNECTED, DataState.ACTIVE])
def test_a_peer_s_end_halts_the_data_service(version: int, state: DataState, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        connection = bring_data(at.client, state, at.peer, shared.config.parent.parent / "source")
        assert connection is not None
        connection.close()
        assert at.client.wait_for(NotifyDataHaltedPost).reason == DataHaltReason.CONNECT_ERROR


# --- arguments, states, device, preconditions, in this order (4.1) --------------------------------------------------

LISTEN_ANSWERS: list[tuple[str, str, Body, dict[int, str]]] = [
    # tape, state, request, version -> answer
    ("closed", "IDLE", MoverListenRequest(123, TCP), dict.fromkeys((2, 3, 4), ARGS)),
    ("closed", "IDLE", MoverListenRequest(2, TCP), dict.fromkeys((2, 3, 4), ARGS)),
    ("closed", "IDLE", MoverListenRequest(READ, 123), dict.fromkeys((2, 3, 4), ARGS)),
    ("closed", "IDLE", MoverListenRequest(READ, AddressType.FC), dict.fromkeys((2, 3, 4), ARGS)),
    ("closed", "IDLE", MoverListenRequest(READ, AddressType.IPC), dict.fromkeys((2, 3, 4), ARGS)),
    ("RDWR", "LISTEN", MoverListenRequest(READ, 123), dict.fromkeys((2, 3, 4), ARGS)),
    ("closed", "IDLE", MoverListenRequest(READ, TCP), dict.fromkeys((2, 3, 4), "DEV_NOT_OPEN_ERR")),
    ("closed", "IDLE", MoverListenRequest(WRITE, AddressType.LOCAL), dict.fromkeys((2, 3, 4), "DEV_NOT_OPEN_ERR")),
    ("READ", "IDLE", MoverListenRequest(READ, TCP), dict.fromkeys((2, 3, 4), "PERMISSION_ERR")),
    ("READ", "IDLE", MoverListenRequest(WRITE, TCP), {2: "ok", 3: "ok", 4: PRECONDITION}),
    ("RDWR", "IDLE", MoverListenRequest(READ, TCP), {2: "ok", 3: "ok", 4: PRECONDITION}),
    ("closed", "IDLE", MoverConnectRequest(READ, IpcAddress(b"x")), {3: ARGS, 4: ARGS}),
    ("closed", "IDLE", MoverConnectRequest(READ, TcpAddress(())), {4: ARGS}),
    ("closed", "IDLE", MoverConnectRequest(123, LOCAL), {3: ARGS, 4: ARGS}),
    ("closed", "IDLE", DataConnectRequest(IpcAddress(b"x")), {3: ARGS, 4: ARGS}),
    ("closed", "IDLE", DataConnectRequest(TcpAddress(())), {4: ARGS}),
    ("closed", "IDLE", DataListenRequest(123), {3: ARGS, 4: ARGS}),
    ("closed", "IDLE", DataListenRequest(AddressType.IPC), {3: ARGS, 4: ARGS}),
]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_listen_and_connect_look_at_arguments_state_tape_and_preconditions(
    version: int, shared: Server, login: Login
) -> None:
    for tape, state, request, expected in LISTEN_ANSWERS:
        if version not in expected:
            continue
        with stage(shared, login, version) as at:
            if tape != "closed":
                open_tape(at.client, TapeMode[tape])
            if state == "LISTEN":
                listen(at.client, READ)
            assert answer(at.client, request) == expected[version], request


@pytest.mark.parametrize("version", [3, 4])
def test_a_connect_that_reaches_nobody_stays_idle(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        nobody = at.peer.address
        at.peer.close()
        open_tape(at.client)
        at.client.ok(MoverSetRecordSizeRequest(RECORD))
        assert answer(at.client, MoverConnectRequest(READ, nobody)) == "CONNECT_ERR"
        assert answer(at.client, DataConnectRequest(nobody)) == "CONNECT_ERR"
        assert states(at.client) == ("IDLE", "IDLE")


def test_version_2_has_no_code_for_a_start_that_reaches_nobody(shared: Server, login: Login) -> None:
    with stage(shared, login, 2) as at:
        env = pairs(FILESYSTEM=str(shared.config.parent.parent / "source"))
        nobody = at.peer.address
        at.peer.close()
        assert answer(at.client, DataStartBackupRequest(b"dump", env, nobody)) == "IO_ERR"


@pytest.mark.parametrize("kind", ["LOCAL", "TCP"])
def test_a_start_of_version_2_that_is_refused_leaves_nothing(kind: str, shared: Server, login: Login) -> None:
    with stage(shared, login, 2) as at:
        address: Address = at.peer.address
        if kind == "LOCAL":
            open_tape(at.client)
            at.client.ok(MoverListenRequest(READ, AddressType.LOCAL))
            address = LOCAL
        env = pairs(FILESYSTEM=str(shared.config.parent.parent / "nowhere"))
        assert answer(at.client, DataStartBackupRequest(b"dump", env, address)) == ARGS


@pytest.mark.parametrize("version", [2, 3, 4])
def test_continue_looks_at_the_tape(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        bring_mover(at.client, MoverState.PAUSED, READ, at.peer)
        at.client.ok(MoverSetWindowRequest(RECORD, ALL - RECORD))
        at.client.ok(TapeCloseRequest())
        assert answer(at.client, MoverContinueRequest()) == "DEV_NOT_OPEN_ERR"
        at.client.ok(TapeOpenRequest(DRIVE, TapeMode.READ))
        assert answer(at.client, MoverContinueRequest()) == "PERMISSION_ERR"
        at.client.ok(TapeCloseRequest())
        at.client.ok(TapeOpenRequest(DRIVE, TapeMode.RDWR))
        assert answer(at.client, MoverContinueRequest()) == "ok"


# --- record size and window (4.4) -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3, 4])
def test_record_sizes(version: int, shared: Server, login: Login) -> None:
    limit = 1 << 20
    with stage(shared, login, version) as at:
        client = at.client
        assert mover_state(client).record_size == (0 if version == 4 else 10240)
        for size, expected in [
            (0, ARGS),
            (limit + 1, ARGS),
            (0xFFFFFFFF, ARGS),
            (1, "ok"),
            (limit, "ok"),
            (1000, "ok"),
        ]:
            assert answer(client, MoverSetRecordSizeRequest(size)) == expected, size
        assert mover_state(client).record_size == 1000
        client.ok(MoverSetWindowRequest(1000, 3000))
        client.ok(MoverSetRecordSizeRequest(2000))  # version 4: the window is not valid any more
        state = mover_state(client)
        assert (state.window_offset, state.window_length) == ((0, 0) if version == 4 else (1000, 3000))
        open_tape(client)
        client.ok(MoverListenRequest(READ, TCP))
        client.ok(MoverAbortRequest())
        client.ok(MoverStopRequest())
        assert mover_state(client).record_size == 2000  # survives STOP


WINDOWS_4: list[tuple[int, int, int, str]] = [
    # record size, offset, length, answer in IDLE of version 4
    (0, 0, 0, "ok"),  # "no window", as ndmjob sends it
    (0, 0, 1024, PRECONDITION),
    (0, 5, 0, PRECONDITION),
    (1024, 0, 0, "ok"),
    (1024, 5, 0, ARGS),
    (1024, 0, ALL, "ok"),
    (1024, 1, ALL, ARGS),
    (1024, ALL, ALL, ARGS),
    (1024, 2048, ALL - 2048, "ok"),
    (1024, 2048, ALL - 2047, ARGS),
    (1024, 0, 1000, "ok"),  # the mode is not known yet: judged by LISTEN
    (1024, 1000, 1024, "ok"),
]


def test_windows_in_idle_of_version_4(shared: Server, login: Login) -> None:
    for record_size, offset, length, expected in WINDOWS_4:
        with stage(shared, login, 4) as at:
            if record_size:
                at.client.ok(MoverSetRecordSizeRequest(record_size))
            assert answer(at.client, MoverSetWindowRequest(offset, length)) == expected, (record_size, offset, length)


LISTENS_4: list[tuple[int, int, MoverMode, str]] = [
    # offset, length, mode, answer of LISTEN
    (0, 0, READ, "ok"),  # no window is the largest
    (0, 0, WRITE, "ok"),
    (0, ALL, READ, "ok"),
    (0, 4096, READ, "ok"),
    (0, 4097, READ, PRECONDITION),
    (100, 4096, READ, "ok"),  # the offset does not count in a backup
    (2048, ALL - 2048, READ, "ok"),
    (0, 4097, WRITE, "ok"),  # ends where the stream ends, inside a record
    (1024, 4097, WRITE, "ok"),
    (100, 4096, WRITE, PRECONDITION),
    (100, ALL - 100, WRITE, PRECONDITION),
]


def test_windows_and_listen_of_version_4(shared: Server, login: Login) -> None:
    for offset, length, mode, expected in LISTENS_4:
        with stage(shared, login, 4) as at:
            open_tape(at.client)
            at.client.ok(MoverSetRecordSizeRequest(RECORD))
            at.client.ok(MoverSetWindowRequest(offset, length))
            assert answer(at.client, MoverListenRequest(mode, TCP)) == expected, (offset, length, mode)


WINDOWS_PAUSED: list[tuple[int, int, MoverMode, dict[int, str]]] = [
    (0, 0, READ, dict.fromkeys((2, 3, 4), ARGS)),
    (5, 0, READ, dict.fromkeys((2, 3, 4), ARGS)),
    (1024, 1000, READ, dict.fromkeys((2, 3, 4), ARGS)),
    (1024, 2048, READ, dict.fromkeys((2, 3, 4), "ok")),
    (1024, ALL - 1024, READ, dict.fromkeys((2, 3, 4), "ok")),
    (1024, ALL, READ, {2: "ok", 3: "ok", 4: "ok"}),  # wrong in version 4, and what ndmjob's client sends
    (1024, ALL, WRITE, {2: "ok", 3: "ok", 4: ARGS}),  # "not defined in V2/V3; all ones in practice"
    (1000, 2048, WRITE, dict.fromkeys((2, 3, 4), ARGS)),
    (1024, 1000, WRITE, dict.fromkeys((2, 3, 4), "ok")),
]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_windows_while_paused(version: int, shared: Server, login: Login) -> None:
    for mode in (READ, WRITE):
        with stage(shared, login, version) as at:
            bring_mover(at.client, MoverState.PAUSED, mode, at.peer)
            for offset, length, its_mode, expected in WINDOWS_PAUSED:
                if its_mode is mode:
                    got = answer(at.client, MoverSetWindowRequest(offset, length))
                    assert got == expected[version], (offset, length, mode)
            state = mover_state(at.client)
            assert state.record_num == state.window_offset // RECORD


@pytest.mark.parametrize("version", [2, 3, 4])
def test_mover_read_looks_at_its_range(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        bring_mover(at.client, MoverState.ACTIVE, WRITE, at.peer)
        for offset, length in [(0, 0), (5, 0), (1, ALL), (ALL, 2)]:
            assert answer(at.client, MoverReadRequest(offset, length)) == ARGS, (offset, length)
        assert answer(at.client, MoverReadRequest(100, 100)) == "ok"
        assert mover_state(at.client).seek_position == 100


# --- devices (1, 6) -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3, 4])
def test_one_device_a_session_and_one_session_a_device(version: int, shared: Server, login: Login) -> None:
    closed: list[Body] = [
        ScsiCloseRequest(),
        ScsiGetStateRequest(),
        ScsiResetDeviceRequest(),
        ScsiExecuteCdbRequest(0, 0, 0, bytes(6)),
    ]
    with stage(shared, login, version) as first, NdmpClient(shared.address, login=login, version=version) as second:
        for request in closed:
            assert answer(first.client, request) == "DEV_NOT_OPEN_ERR"
        assert answer(first.client, ScsiOpenRequest(b"bogus")) == "NO_DEVICE_ERR"
        open_tape(first.client)
        assert answer(first.client, ScsiOpenRequest(b"bogus")) == "DEVICE_OPENED_ERR"
        assert answer(second, TapeOpenRequest(DRIVE, TapeMode.READ)) == "DEVICE_BUSY_ERR"
        assert answer(second, TapeOpenRequest(b"bogus", TapeMode.READ)) == "NO_DEVICE_ERR"
        first.client.ok(TapeCloseRequest())
        assert answer(second, TapeOpenRequest(DRIVE, TapeMode.READ)) == "ok"
        second.hang_up()
