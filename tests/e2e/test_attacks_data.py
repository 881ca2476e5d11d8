"""Attacks on data connections: strangers, wrong addresses, peers that break off, streams that are none."""

import contextlib
import os
import resource
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mover.control.data_ports import NOT_ALLOWED, STRANGERS_MAX
from mover.ndmp.enums import DataHaltReason, ErrorCode, MoverHaltReason, MoverMode, MoverState
from mover.ndmp.messages import (
    DataAbortRequest,
    DataConnectRequest,
    DataGetStateRequest,
    DataStartBackupRequest,
    DataStartRecoverRequest,
    MoverGetStateReply,
    MoverGetStateRequest,
    RecoverName,
    TcpAddress,
)
from mover.ndmp.messages.common import tcp_address
from tests.e2e.conftest import MakeServer
from tests.e2e.test_attacks_wire import RESET, read_exactly, unharmed
from tests.support.ndmp_client import DEADLINE_S, Job, NdmpClient, pairs
from tests.support.servers import Login, Server, mover_command, write_config
from tests.support.stages import Peer, listen, open_tape
from tests.support.trees import make_large_file

MIB = 1 << 20
STRANGER = "127.0.0.2"
CONNECT_TIMEOUT_S = 2


@pytest.fixture(scope="module")
def server(shared_shm: Path, login: Login) -> Iterator[Server]:
    """It takes data connections with 127.0.0.1 alone."""
    limits = f'allow = ["127.0.0.1/32"]\nconnect_timeout_s = {CONNECT_TIMEOUT_S}\npeer_timeout_s = 2'
    config = write_config(shared_shm / "server", login, volumes={"shm": shared_shm}, drives=1, data_connections=limits)
    with Server(config) as running:
        running.ask("tape", "load", "vtl0/drive0")
        yield running


def address(host: str, port: int) -> TcpAddress:
    return tcp_address(struct.unpack(">I", socket.inet_aton(host))[0], port)


def endpoint(of: TcpAddress) -> tuple[str, int]:
    (first,) = of.endpoints
    return socket.inet_ntoa(struct.pack(">I", first.ip_addr)), first.port


def mover_state(client: NdmpClient) -> int:
    reply = client.ok(MoverGetStateRequest())
    assert isinstance(reply, MoverGetStateReply)
    return reply.state


def test_strangers_do_not_take_the_place_of_the_peer(server: Server, login: Login) -> None:
    with unharmed(server), NdmpClient(server.address, login=login) as client:
        open_tape(client)
        listening = listen(client, MoverMode.READ)
        assert isinstance(listening, TcpAddress)
        place = endpoint(listening)
        for _ in range(20):
            with socket.socket() as stranger:
                stranger.bind((STRANGER, 0))
                stranger.settimeout(10)
                stranger.connect(place)
                stranger.sendall(b"a stream of my own")
                with contextlib.suppress(ConnectionResetError):
                    assert stranger.recv(10) == b""
        assert mover_state(client) == MoverState.LISTEN
        with socket.create_connection(place, 10) as peer:
            assert mover_state(client) == MoverState.ACTIVE
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        assert client.mover_halted() == MoverHaltReason.CONNECT_ERROR
        told = f"data connection from {STRANGER} refused: {NOT_ALLOWED}"
        assert [line for line in client.log() if "refused" in line] == [told] * STRANGERS_MAX  # and of no more
        client.hang_up()


@pytest.mark.slow
@pytest.mark.parametrize("data_listens", [(), ("--data-listens",)], ids=["mover listens", "data listens"])
def test_who_is_not_in_allow_is_named_to_the_operator_at_once(
    data_listens: tuple[str, ...], shared_shm: Path, tmp_path: Path, login: Login
) -> None:
    """Of a three-way job, one host's `allow` lacks the other: the usual mistake."""
    source = shared_shm / "source"
    source.mkdir(exist_ok=True)
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(login.password)
    keeps_out = f'allow = ["{STRANGER}/32"]'
    files, tapes = (keeps_out, "") if data_listens else ("", keeps_out)
    one = write_config(tmp_path / "files", login, volumes={"source": source}, data_connections=files)
    two = write_config(tmp_path / "tapes", login, drives=1, data_connections=tapes)
    with Server(one) as file_server, Server(two) as tape_host:
        tape_host.ask("tape", "load", "vtl0/drive0")
        command = [
            *mover_command(), "backup", str(source), "--host", file_server.address, "--tape-host", tape_host.address,
            "--drive", "vtl0/drive0", "--user", login.user, "--password-file", str(secret),
            "--catalogue", str(tmp_path / "catalogue"), *data_listens,
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert f"data connection from 127.0.0.1 refused: {NOT_ALLOWED}" in ended.stderr
    assert "not seen by both sides" not in ended.stderr  # which takes half a minute


@pytest.mark.parametrize(
    ("host", "port"),
    [(STRANGER, 9), ("192.0.2.1", 9), ("127.0.0.1", 0), ("0.0.0.0", 9), ("255.255.255.255", 9), ("224.0.0.1", 9)],
)
def test_addresses_that_no_data_connection_may_go_to(host: str, port: int, server: Server, login: Login) -> None:
    with unharmed(server), NdmpClient(server.address, login=login) as client:
        assert client.error(DataConnectRequest(address(host, port))) == ErrorCode.CONNECT_ERR
        assert client.error(DataConnectRequest(TcpAddress(()))) == ErrorCode.ILLEGAL_ARGS_ERR
        client.ok(DataGetStateRequest())


@pytest.mark.slow
def test_a_peer_that_never_accepts_is_given_up(server: Server, login: Login) -> None:
    with unharmed(server), socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = []
        for _ in range(3):  # the queue is full: further connections get no answer
            waiting.append(connection := socket.socket())
            connection.setblocking(False)
            connection.connect_ex(listener.getsockname())
        with NdmpClient(server.address, login=login) as client, NdmpClient(server.address, login=login) as other:
            started = time.monotonic()
            place = address(*listener.getsockname()).endpoints
            sequence = client.send(DataConnectRequest(TcpAddress(place * 100)))
            other.ok(DataGetStateRequest())
            assert client.reply_to(sequence, "the connect", deadline_s=60).error == ErrorCode.CONNECT_ERR
            assert time.monotonic() - started < 10 * CONNECT_TIMEOUT_S
        for connection in waiting:
            connection.close()


def test_our_own_control_port_is_no_mover(server: Server, login: Login, shared_shm: Path) -> None:
    host, _, port = server.address.rpartition(":")
    with unharmed(server), NdmpClient(server.address, login=login) as client:
        client.ok(DataConnectRequest(address(host, int(port))))
        client.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(shared_shm / "source"))))
        assert client.data_halted() == DataHaltReason.CONNECT_ERROR
        client.hang_up()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # it was quicker


def leave(connection: socket.socket) -> None:
    connection.close()


def stall(connection: socket.socket) -> None:
    """It lives, and says nothing more: it may take as long as it likes, and an abort ends it."""


@pytest.mark.parametrize("goodbye", [reset, end, leave, stall])
@pytest.mark.parametrize("stream", [b"", b"\0" * (3 * MIB), os.urandom(3 * MIB), b"\xff" * 1000])
def test_a_stream_that_is_no_dump_recovers_nothing(
    stream: bytes,
    goodbye: Callable[[socket.socket], None],
    server: Server,
    login: Login,
    shared_shm: Path,
) -> None:
    target = shared_shm / "target"
    with unharmed(server), contextlib.closing(Peer()) as peer, NdmpClient(server.address, login=login) as client:
        client.ok(DataConnectRequest(peer.address))
        connection = peer.accept()
        connection.settimeout(DEADLINE_S)
        names = (RecoverName(b"", os.fsencode(target)),)
        client.ok(DataStartRecoverRequest(pairs(FILESYSTEM=str(shared_shm / "source")), names, b"dump"))
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # when it has seen enough
            connection.sendall(stream)
        goodbye(connection)
        if goodbye is stall and len(stream) < MIB:
            client.ok(DataAbortRequest())
            assert client.data_halted() == DataHaltReason.ABORTED
        else:
            assert client.data_halted() in {DataHaltReason.CONNECT_ERROR, DataHaltReason.INTERNAL_ERROR}
        client.hang_up()
    assert not target.exists() or list(target.iterdir()) == []


@pytest.mark.parametrize("goodbye", [reset, end, leave, stall])
@pytest.mark.parametrize("taken", [0, 100_000])
def test_a_peer_that_leaves_a_backup_early_ends_it(
    taken: int, goodbye: Callable[[socket.socket], None], server: Server, login: Login, shared_shm: Path
) -> None:
    with unharmed(server), contextlib.closing(Peer()) as peer, NdmpClient(server.address, login=login) as client:
        client.ok(DataConnectRequest(peer.address))
        connection = peer.accept()
        connection.settimeout(DEADLINE_S)
        client.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(shared_shm / "source"))))
        assert len(read_exactly(connection, taken)) == taken
        connection.sendall(b"against the direction" * 1000)
        goodbye(connection)
        if goodbye is stall:
            client.ok(DataAbortRequest())
        wanted = DataHaltReason.ABORTED if goodbye is stall else DataHaltReason.CONNECT_ERROR
        assert client.data_halted() == wanted
        client.hang_up()


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("goodbye", [reset, leave])
def test_a_peer_that_leaves_around_the_start_is_told_to_the_dma(
    goodbye: Callable[[socket.socket], None], version: int, server: Server, login: Login, shared_shm: Path
) -> None:
    """At whatever moment: before the relay has it, while the data worker is asked, after the start."""
    env = pairs(FILESYSTEM=str(shared_shm / "source"), HIST="y")
    with unharmed(server):
        for step in range(12):
            with contextlib.closing(Peer()) as peer, NdmpClient(server.address, login=login, version=version) as client:

                def come_and_go(peer: Peer = peer, step: int = step) -> None:
                    connection = peer.accept()
                    time.sleep(step * 0.002)
                    goodbye(connection)

                thread = threading.Thread(target=come_and_go)
                thread.start()
                if version == 2:
                    error = client.error(DataStartBackupRequest(b"dump", env, peer.address))
                else:
                    error = client.error(DataConnectRequest(peer.address))
                    connected = error == ErrorCode.NO_ERR
                    if connected:
                        error = client.error(DataStartBackupRequest(b"dump", env))
                    if connected and error != ErrorCode.NO_ERR:
                        assert error == ErrorCode.ILLEGAL_STATE_ERR
                        error = ErrorCode.NO_ERR  # DATA_HALTED tells why
                thread.join(10)
                if error == ErrorCode.NO_ERR:
                    assert client.data_halted() == DataHaltReason.CONNECT_ERROR
                client.hang_up()


def limit_descriptors(server: Server, count: int) -> None:
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (count, hard))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["mover listens", "data listens"])
def test_a_server_without_descriptors_refuses_and_recovers(
    way: str, make_server: MakeServer, login: Login, shm: Path
) -> None:
    """The limit at every height: each open, dup and accept of a three-way job fails once."""
    tape, data = make_server("tape-host"), make_server("file-server", drives=0)
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=2 * MIB)
    succeeded = 0
    for spare in range(30):
        with unharmed(tape), unharmed(data):
            for server in (tape, data):
                limit_descriptors(server, psutil.Process(server.pid).num_fds() + spare)
            with contextlib.suppress(AssertionError), Job.connect(data, tape, login) as job:
                job.connect_data(MoverMode.READ, data_listens=way == "data listens")
                job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source), HIST="y")))
                succeeded += job.data.data_halted() == DataHaltReason.SUCCESSFUL
            for server in (tape, data):
                limit_descriptors(server, 1000)
    assert 0 < succeeded < 30
    for server in (tape, data):
        text = server.log.read_text()
        assert "Traceback" not in text, text[text.index("Traceback") :][:3000]
