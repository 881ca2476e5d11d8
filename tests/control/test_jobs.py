"""Jobs over a running server, walked step by step: cartridges that fill, aborts in every state, clients that vanish."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mover.ndmp.enums import (
    DataHaltReason,
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
    LOCAL,
    DataAbortRequest,
    DataConnectRequest,
    DataGetEnvReply,
    DataGetEnvRequest,
    DataGetStateReply,
    DataGetStateRequest,
    DataListenReply,
    DataListenRequest,
    DataStartBackupRequest,
    DataStartRecoverRequest,
    DataStopRequest,
    MoverAbortRequest,
    MoverCloseRequest,
    MoverConnectRequest,
    MoverContinueRequest,
    MoverGetStateReply,
    MoverGetStateRequest,
    MoverListenReply,
    MoverListenRequest,
    MoverReadRequest,
    MoverSetRecordSizeRequest,
    MoverSetWindowRequest,
    MoverStopRequest,
    NotifyDataHaltedPost,
    NotifyMoverHaltedPost,
    NotifyMoverPausedPost,
    RecoverName,
    TapeCloseRequest,
    TapeMtioRequest,
    TapeOpenRequest,
    TapeReadReply,
    TapeReadRequest,
    TapeWriteReply,
    TapeWriteRequest,
    tcp_address,
)
from tests.control.conftest import LOGIN
from tests.support.ndmp_client import ALL, Job, NdmpClient, pairs
from tests.support.processes import busy_worker, settle
from tests.support.servers import Server, write_config

RECORD = 64 * 1024
BIG = 5 * 1024 * 1024


@pytest.fixture(scope="module")
def small(directory: Path, volume: Path) -> Iterator[Server]:
    """A server whose cartridges hold 4 MiB, and a tree that needs two of them."""
    (volume / "big").mkdir()
    (volume / "big" / "file").write_bytes(os.urandom(BIG))
    (directory / "small").mkdir()
    config = write_config(
        directory / "small", LOGIN, volumes={"v": volume}, drives=1, cartridge_size="4MiB", early_warning="512KiB"
    )
    with Server(config) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[NdmpClient]:
    with NdmpClient(server.address, login=LOGIN) as connected:
        yield connected
        connected.hang_up()


@pytest.fixture
def loaded(server: Server) -> Iterator[None]:
    """A cartridge in vtl0/drive0."""
    server.ask("tape", "load", "vtl0/drive0")
    yield
    server.ask("tape", "unload", "vtl0/drive0")


def data_state(client: NdmpClient) -> tuple[DataState, DataHaltReason]:
    reply = client.ok(DataGetStateRequest())
    assert isinstance(reply, DataGetStateReply)
    return DataState(reply.state), DataHaltReason(reply.halt_reason)


def mover_reply(client: NdmpClient) -> MoverGetStateReply:
    reply = client.ok(MoverGetStateRequest())
    assert isinstance(reply, MoverGetStateReply)
    return reply


def mover_state(client: NdmpClient) -> tuple[MoverState, MoverHaltReason]:
    reply = mover_reply(client)
    return MoverState(reply.state), MoverHaltReason(reply.halt_reason)


@pytest.mark.slow
@pytest.mark.parametrize("version", [3, 4])
def test_a_backup_goes_on_on_the_next_cartridge_and_comes_back(small: Server, volume: Path, version: int) -> None:
    barcodes: list[str] = []

    def load(barcode: str | None = None) -> None:
        chosen = ["--barcode", barcode] if barcode else []
        done = small.ask("tape", "load", "vtl0/drive0", *chosen)
        names = done.get("names") or done.get("cartridges") or []
        if barcode is None:
            shown = small.ask("tape", "show")["drives"]
            assert isinstance(shown, list), names
            barcodes.append(shown[0]["barcode"])

    def set_window(client: NdmpClient, offset: int) -> None:
        client.ok(MoverSetWindowRequest(offset, ALL - offset))

    def begin(client: NdmpClient, mode: MoverMode) -> None:
        client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR if mode is MoverMode.READ else TapeMode.READ))
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
        client.ok(MoverSetRecordSizeRequest(RECORD))
        if version >= 4:
            set_window(client, 0)
        client.ok(MoverListenRequest(mode, 0))
        if version < 4:
            set_window(client, 0)
        client.ok(DataConnectRequest(LOCAL))

    load()
    with NdmpClient(small.address, login=LOGIN, version=version) as client:
        begin(client, MoverMode.READ)
        client.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(volume / "big"))))
        paused = client.wait_for(NotifyMoverPausedPost)
        assert paused.reason == MoverPauseReason.EOM
        moved = mover_reply(client).bytes_moved
        assert moved % RECORD == 0
        assert 3 * 1024 * 1024 < moved < 4 * 1024 * 1024
        client.ok(TapeCloseRequest())
        small.ask("tape", "unload", "vtl0/drive0")
        load()
        client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR))
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
        set_window(client, moved)
        client.ok(MoverContinueRequest())
        assert client.data_halted() == DataHaltReason.SUCCESSFUL
        assert client.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        assert mover_reply(client).bytes_moved > BIG
        env = client.ok(DataGetEnvRequest())
        assert isinstance(env, DataGetEnvReply)
        names = {pair.name: pair.value for pair in env.env}
        assert names[b"FILESYSTEM"] == os.fsencode(volume / "big")
        assert names[b"PATHNAME_SEPARATOR"] == b"/"
        assert names[b"NDMP_VERSION"] == b"%d" % version
        client.ok(DataStopRequest())
        client.ok(MoverStopRequest())
        client.ok(TapeMtioRequest(TapeOperation.EOF, 1))
        client.ok(TapeCloseRequest())
        client.hang_up()
    small.ask("tape", "unload", "vtl0/drive0")

    target = volume / f"recovered-{version}"
    target.mkdir()
    load(barcodes[-2])
    with NdmpClient(small.address, login=LOGIN, version=version) as client:
        begin(client, MoverMode.WRITE)
        names_wanted = (RecoverName(b"", os.fsencode(target)),)
        client.ok(DataStartRecoverRequest(pairs(FILESYSTEM=str(volume / "big")), names_wanted, b"dump"))
        paused = client.wait_for(NotifyMoverPausedPost)
        # Versions 2 and 3 get no filemark from TAPE_CLOSE: the first cartridge just ends.
        assert paused.reason == (MoverPauseReason.EOF if version >= 4 else MoverPauseReason.EOM)
        client.ok(TapeCloseRequest())
        small.ask("tape", "unload", "vtl0/drive0")
        load(barcodes[-1])
        client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.READ))
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
        set_window(client, moved)
        client.posts.clear()
        client.ok(MoverContinueRequest())
        assert client.data_halted() == DataHaltReason.SUCCESSFUL
        assert client.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        client.hang_up()
    small.ask("tape", "unload", "vtl0/drive0")
    assert (target / "file").read_bytes() == (volume / "big" / "file").read_bytes()


@pytest.mark.slow
def test_an_aborted_backup_that_waits_for_a_cartridge_leaves_the_drive_usable(small: Server, volume: Path) -> None:
    small.ask("tape", "load", "vtl0/drive0")
    # More than cartridge and ring hold together, so that the data worker waits too.
    (volume / "huge").mkdir()
    (volume / "huge" / "file").write_bytes(bytes(16 * 1024 * 1024))
    job = Job.connect(small, small, LOGIN)
    with job:
        client = job.data
        job.start_backup(str(volume / "huge"))
        client.wait_for(NotifyMoverPausedPost)
        client.ok(DataAbortRequest())
        assert client.data_halted() == DataHaltReason.ABORTED
        assert client.mover_halted() == MoverHaltReason.CONNECT_ERROR
        client.ok(DataStopRequest())
        client.ok(MoverStopRequest())
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
        client.ok(TapeCloseRequest())
        client.hang_up()
    small.ask("tape", "unload", "vtl0/drive0")


@pytest.mark.usefixtures("loaded")
def test_replies_come_before_the_posts_they_cause(client: NdmpClient, volume: Path) -> None:
    job = Job(client, client)
    job.connect_data(MoverMode.READ)
    client.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(volume / "tree"))))
    assert [type(seen.body) for seen in client.posts[1:]] == []
    assert client.data_halted() == DataHaltReason.SUCCESSFUL
    assert client.mover_halted() == MoverHaltReason.CONNECT_CLOSED
    assert data_state(client) == (DataState.HALTED, DataHaltReason.SUCCESSFUL)
    client.ok(DataAbortRequest())  # no effect
    assert data_state(client) == (DataState.HALTED, DataHaltReason.SUCCESSFUL)
    client.ok(DataStopRequest())
    assert client.error(DataStopRequest()) == ErrorCode.ILLEGAL_STATE_ERR
    assert client.error(DataGetEnvRequest()) == ErrorCode.ILLEGAL_STATE_ERR
    client.ok(MoverStopRequest())
    client.ok(TapeCloseRequest())


def test_a_path_outside_every_volume_is_named(client: NdmpClient, server: Server, volume: Path) -> None:
    reply = client.ok(DataListenRequest(1))
    assert isinstance(reply, DataListenReply)
    with socket.create_connection(endpoint(reply.data_connection_addr), timeout=10):
        for path, error in [
            ("/etc", ErrorCode.ILLEGAL_ARGS_ERR),
            (f"{volume}/../../etc", ErrorCode.ILLEGAL_ARGS_ERR),
            ("relative", ErrorCode.ILLEGAL_ARGS_ERR),
        ]:
            assert client.error(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=path))) == error
            assert data_state(client)[0] is DataState.CONNECTED
            assert path in client.log()[-1]
        missing = str(volume / "missing")
        assert client.error(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=missing))) != ErrorCode.NO_ERR
        data_state(client)
        assert "missing" in client.log()[-1]
        assert (
            client.error(DataStartBackupRequest(b"cpio", pairs(FILESYSTEM=str(volume)))) == ErrorCode.ILLEGAL_ARGS_ERR
        )
        assert client.error(DataStartBackupRequest(b"dump", ())) == ErrorCode.ILLEGAL_ARGS_ERR
        names = (RecoverName(b"x", b"/etc/passwd"),)
        recover = DataStartRecoverRequest(pairs(FILESYSTEM=str(volume)), names, b"dump")
        assert client.error(recover) == ErrorCode.ILLEGAL_ARGS_ERR
        client.ok(DataAbortRequest())


def endpoint(address: object) -> tuple[str, int]:
    first = address.endpoints[0]  # type: ignore[attr-defined]  # a TcpAddress
    return socket.inet_ntoa(first.ip_addr.to_bytes(4, "big")), first.port


def test_data_listens_and_loses_its_peer(client: NdmpClient) -> None:
    assert client.error(DataListenRequest(123)) == ErrorCode.ILLEGAL_ARGS_ERR
    reply = client.ok(DataListenRequest(1))
    assert isinstance(reply, DataListenReply)
    assert client.error(DataListenRequest(1)) == ErrorCode.ILLEGAL_STATE_ERR
    assert client.error(MoverListenRequest(MoverMode.READ, 1)) != ErrorCode.NO_ERR
    with socket.create_connection(endpoint(reply.data_connection_addr), timeout=10):
        assert data_state(client) == (DataState.CONNECTED, DataHaltReason.NA)
    assert client.data_halted() == DataHaltReason.CONNECT_ERROR
    client.ok(DataStopRequest())
    assert data_state(client) == (DataState.IDLE, DataHaltReason.NA)


@pytest.mark.slow
def test_an_aborted_backup_has_no_say_in_the_next_one(client: NdmpClient, server: Server, volume: Path) -> None:
    """Its data worker has said that it went well, and its relay holds the connection until it is killed."""
    (volume / "endless").mkdir()
    (volume / "endless" / "file").write_bytes(os.urandom(24 << 20))  # more than ring and sockets hold

    def start(listener: socket.socket, tree: str) -> None:
        client.ok(DataConnectRequest(tcp_address(0x7F000001, listener.getsockname()[1])))
        client.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=f"{volume}/{tree}")))

    def is_through() -> bool:
        env = client.ok(DataGetEnvRequest())
        assert isinstance(env, DataGetEnvReply)
        return any(pair.name == b"MOVER_DUMP_ID" for pair in env.env)

    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        start(first, "tree")
        relay = busy_worker(server, "relay")
        os.kill(relay, signal.SIGSTOP)
        settle(is_through, "the data worker is through")
        client.ok(DataAbortRequest())
        assert client.data_halted() == DataHaltReason.ABORTED
        client.ok(DataStopRequest())
        start(second, "endless")
        settle(lambda: not psutil.pid_exists(relay), "the first relay is gone")
        for _ in range(20):  # time for what waited for it to run
            assert data_state(client) == (DataState.ACTIVE, DataHaltReason.NA)
        client.ok(DataAbortRequest())


@pytest.mark.parametrize("kind", [0, 1], ids=["LOCAL", "TCP"])
def test_listening_can_be_aborted(client: NdmpClient, kind: int) -> None:
    client.ok(DataListenRequest(kind))
    client.ok(DataAbortRequest())
    assert client.wait_for(NotifyDataHaltedPost).reason == DataHaltReason.ABORTED
    client.ok(DataStopRequest())
    assert data_state(client) == (DataState.IDLE, DataHaltReason.NA)


def test_a_connection_that_cannot_be_made_changes_nothing(client: NdmpClient) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = tcp_address(0x7F000001, sock.getsockname()[1])
    assert client.error(DataConnectRequest(closed)) == ErrorCode.CONNECT_ERR
    forbidden = tcp_address(0xCB007101, 9)  # 203.0.113.1, in no allowed network
    assert client.error(DataConnectRequest(forbidden)) == ErrorCode.CONNECT_ERR
    assert data_state(client) == (DataState.IDLE, DataHaltReason.NA)
    assert "203.0.113.1 is not in data_connections.allow" in client.log()[-1]
    assert client.error(DataConnectRequest(LOCAL)) == ErrorCode.ILLEGAL_STATE_ERR


@pytest.mark.usefixtures("loaded")
def test_the_mover_in_every_state_it_is_aborted_or_closed_in(client: NdmpClient) -> None:
    for request in (MoverContinueRequest(), MoverAbortRequest(), MoverStopRequest(), MoverCloseRequest()):
        assert client.error(request) == ErrorCode.ILLEGAL_STATE_ERR
    assert client.error(MoverSetRecordSizeRequest(1 << 30)) == ErrorCode.ILLEGAL_ARGS_ERR
    client.ok(MoverSetRecordSizeRequest(RECORD))
    assert "1 to 1048576 are taken (limits.record_size_max)" in client.log()[-1]
    assert client.error(MoverListenRequest(MoverMode.READ, 0)) == ErrorCode.DEV_NOT_OPEN_ERR
    client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.READ))
    assert client.error(MoverListenRequest(MoverMode.READ, 0)) == ErrorCode.PERMISSION_ERR
    assert client.error(MoverListenRequest(123, 0)) == ErrorCode.ILLEGAL_ARGS_ERR
    assert client.error(MoverListenRequest(MoverMode.READ, 123)) == ErrorCode.ILLEGAL_ARGS_ERR
    for ending, reason in (
        (MoverAbortRequest(), MoverHaltReason.ABORTED),
        (MoverCloseRequest(), MoverHaltReason.CONNECT_CLOSED),
    ):
        for kind in (0, 1):
            client.posts.clear()
            reply = client.ok(MoverListenRequest(MoverMode.WRITE, kind))
            assert isinstance(reply, MoverListenReply)
            assert client.error(TapeMtioRequest(TapeOperation.REW, 1)) == ErrorCode.DEVICE_BUSY_ERR
            client.ok(ending)
            assert client.wait_for(NotifyMoverHaltedPost).reason == reason
            client.ok(MoverStopRequest())
            assert mover_state(client) == (MoverState.IDLE, MoverHaltReason.NA)
        client.posts.clear()
        listening = client.ok(MoverListenRequest(MoverMode.WRITE, 1))
        assert isinstance(listening, MoverListenReply)
        with socket.create_connection(endpoint(listening.data_connection_addr), timeout=10):
            assert mover_state(client)[0] is MoverState.ACTIVE
            assert client.error(MoverReadRequest(0, 0)) == ErrorCode.ILLEGAL_ARGS_ERR
            client.ok(ending)
            assert client.wait_for(NotifyMoverHaltedPost).reason == reason
        client.ok(MoverStopRequest())
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))  # the worker has left the tape alone
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.posts.clear()
        address = tcp_address(0x7F000001, listener.getsockname()[1])
        client.ok(MoverConnectRequest(MoverMode.WRITE, address))
        listener.accept()[0].close()
        assert client.wait_for(NotifyMoverHaltedPost).reason == MoverHaltReason.CONNECT_CLOSED
    client.ok(MoverStopRequest())
    client.ok(TapeCloseRequest())


@pytest.mark.usefixtures("loaded")
def test_records_through_the_tape_interface(client: NdmpClient) -> None:
    assert client.error(TapeWriteRequest(b"x")) == ErrorCode.DEV_NOT_OPEN_ERR
    assert client.error(TapeOpenRequest(b"vtl0/drive0", 123)) == ErrorCode.ILLEGAL_ARGS_ERR
    client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR))
    assert client.error(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR)) == ErrorCode.DEVICE_OPENED_ERR
    client.ok(TapeMtioRequest(TapeOperation.REW, 1))
    record = os.urandom(1 << 20)
    written = client.ok(TapeWriteRequest(record))
    assert isinstance(written, TapeWriteReply)
    assert written.count == len(record)
    assert client.error(TapeWriteRequest(record + b"x")) == ErrorCode.ILLEGAL_ARGS_ERR
    client.ok(TapeWriteRequest(b""))
    client.ok(TapeMtioRequest(TapeOperation.EOF, 1))
    client.ok(TapeMtioRequest(TapeOperation.REW, 1))
    read = client.ok(TapeReadRequest(1 << 20))
    assert isinstance(read, TapeReadReply)
    assert read.data_in == record
    assert client.error(TapeReadRequest(1 << 20)) == ErrorCode.EOF_ERR
    assert client.error(TapeReadRequest(0x8000_0000)) == ErrorCode.ILLEGAL_ARGS_ERR
    assert client.error(TapeMtioRequest(99, 1)) == ErrorCode.ILLEGAL_ARGS_ERR
    client.ok(TapeCloseRequest())


@pytest.mark.parametrize("tidy", [True, False], ids=["CONNECT_CLOSE", "reset"])
def test_a_client_that_goes_in_mid_job_frees_the_drive(server: Server, volume: Path, tidy: bool) -> None:
    server.ask("tape", "load", "vtl0/drive0")
    job = Job.connect(server, server, LOGIN)
    with job:
        job.connect_data(MoverMode.WRITE)  # a recover of a blank tape waits for ever
        if tidy:
            job.data.hang_up()
        else:
            job.data.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with NdmpClient(server.address, login=LOGIN) as client:
        for _ in range(500):
            if (error := client.error(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR))) != ErrorCode.DEVICE_BUSY_ERR:
                break
        assert error == ErrorCode.NO_ERR
        client.hang_up()
    server.ask("tape", "unload", "vtl0/drive0")


@pytest.mark.usefixtures("loaded")
def test_mtio_off_ejects_the_cartridge(client: NdmpClient, server: Server) -> None:
    client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.READ))
    client.ok(TapeMtioRequest(TapeOperation.OFF, 1))
    shown = server.ask("tape", "show")["drives"]
    assert isinstance(shown, list)
    assert (shown[0]["state"], shown[0]["barcode"] != "", shown[0]["path"]) == ("in-use", True, "")
    assert client.error(TapeReadRequest(10)) == ErrorCode.NO_TAPE_LOADED_ERR
    client.ok(TapeCloseRequest())
    assert client.error(TapeOpenRequest(b"vtl0/drive0", TapeMode.READ)) == ErrorCode.NO_TAPE_LOADED_ERR
    shown = server.ask("tape", "show")["drives"]
    assert isinstance(shown, list)
    assert shown[0]["state"] == "ejected"
    server.ask("tape", "load", "vtl0/drive0")  # for the fixture; what was ejected is put away
