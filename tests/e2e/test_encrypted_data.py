"""Encrypted data connections between two movers, as DMAs make them and as others on the network try them."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from mover.admin import sessions
from mover.control.data_encryption import PREAMBLE
from mover.control.data_ports import STRANGERS_MAX
from mover.ndmp.address_env import FINGERPRINT, TOKEN, encryption
from mover.ndmp.dialogue import Message, decode_line
from mover.ndmp.enums import AddressType, DataHaltReason, DataState, ErrorCode, MoverHaltReason, MoverMode, TapeMode
from mover.ndmp.messages import (
    DataAbortRequest,
    DataConnectRequest,
    DataListenReply,
    DataListenRequest,
    DataStartBackupRequest,
    DataStopRequest,
    MoverConnectRequest,
    MoverListenReply,
    MoverListenRequest,
    MoverReadRequest,
    MoverSetRecordSizeRequest,
    MoverSetWindowRequest,
    Pval,
    TapeOpenRequest,
    TcpAddress,
    TcpEndpoint,
)
from tests.control.test_logins import ask
from tests.e2e.conftest import SPARES, TEMPLATES, MakeServer
from tests.relay.test_tls import client_context
from tests.support import peers
from tests.support.ndmp_client import ALL, DEADLINE_S, RECORD_SIZE, Job, NdmpClient, pairs
from tests.support.processes import settle
from tests.support.servers import Login, Server, mover_command, write_config
from tests.support.stages import data_state, mover_state

pytestmark = pytest.mark.slow

TCP: Final = AddressType.TCP
SECURE_LOOPBACK: Final = "secure_loopback = true"
REQUIRED: Final = 'data_connection_encryption = "required"'


@pytest.fixture(scope="module")
def pair(shared_shm: Path, login: Login) -> Iterator[tuple[Server, Server]]:
    """A file server and a tape host that tell keys over loopback."""

    def configured(name: str, drives: int) -> Path:
        return write_config(
            shared_shm / name, login, volumes={"shm": shared_shm}, drives=drives, node="debug_enable = true",
            data_connections=SECURE_LOOPBACK,
        )  # fmt: skip

    with Server(configured("files", 0)) as files, Server(configured("tape", 1)) as tape:
        tape.ask("tape", "load", "vtl0/drive0")
        yield files, tape


@pytest.fixture(scope="module")
def strict(shared_shm: Path, login: Login) -> Iterator[Server]:
    """A server that takes no plain data connection."""
    config = write_config(
        shared_shm / "strict", login, volumes={"shm": shared_shm}, node=REQUIRED, data_connections=SECURE_LOOPBACK
    )
    with Server(config) as server:
        yield server


@pytest.fixture
def source(shared_shm: Path) -> Path:
    return shared_shm / "source"


def listening(client: NdmpClient) -> TcpAddress:
    reply = client.ok(DataListenRequest(TCP))
    assert isinstance(reply, DataListenReply)
    assert isinstance(reply.data_connection_addr, TcpAddress)
    return reply.data_connection_addr


def names_of(address: TcpAddress) -> list[bytes]:
    (endpoint,) = address.endpoints
    return [pair.name for pair in endpoint.addr_env]


def with_env(address: TcpAddress, env: tuple[Pval, ...]) -> TcpAddress:
    (endpoint,) = address.endpoints
    return TcpAddress((TcpEndpoint(endpoint.ip_addr, endpoint.port, env),))


def token_of(address: TcpAddress) -> bytes:
    (endpoint,) = address.endpoints
    (token,) = [pair.value for pair in endpoint.addr_env if pair.name == TOKEN]
    return bytes.fromhex(token.decode())


def place(address: TcpAddress) -> tuple[str, int]:
    return "127.0.0.1", address.endpoints[0].port


@contextlib.contextmanager
def stranger(address: TcpAddress, token: bytes | None = None) -> Iterator[socket.socket]:
    """Somebody who connects, and with ``token`` also shakes hands."""
    with socket.create_connection(place(address), timeout=DEADLINE_S) as sock:
        if token is None:
            yield sock
            return
        sock.sendall(PREAMBLE)
        with client_context().wrap_socket(sock) as inside:
            inside.sendall(token)
            yield inside


def is_let_go(sock: socket.socket) -> bool:
    """Whether the server closes it, without a byte."""
    try:
        return sock.recv(1) == b""
    except OSError:
        return True


def set_up(tape: NdmpClient) -> None:
    """A mover that can be connected to a data service."""
    tape.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR))
    tape.ok(MoverSetRecordSizeRequest(RECORD_SIZE))
    tape.ok(MoverSetWindowRequest(0, ALL))


def mover_listening(tape: NdmpClient) -> TcpAddress:
    reply = tape.ok(MoverListenRequest(MoverMode.READ, TCP))
    assert isinstance(reply, MoverListenReply)
    assert isinstance(reply.data_connection_addr, TcpAddress)
    return reply.data_connection_addr


def finish(job: Job) -> None:
    assert job.data.data_halted() == DataHaltReason.SUCCESSFUL, job.data.log()
    assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED, job.tape.log()
    job.data.hang_up()
    job.tape.hang_up()


@pytest.mark.parametrize("data_listens", [False, True], ids=["mover-listens", "data-listens"])
def test_there_and_back(data_listens: bool, pair: tuple[Server, Server], login: Login, shm: Path, source: Path) -> None:
    files, tape = pair
    with Job.connect(files, tape, login) as job:
        job.connect_data(MoverMode.READ, data_listens=data_listens)
        for state in (data_state(job.data), mover_state(job.tape)):
            assert encryption(state.data_connection_addr) == "TLSv1.3"
        for server in pair:
            rows = ask(server, sessions.Status(), sessions.StatusReply).sessions
            assert [row.is_data_connection_encrypted for row in rows if row.session_authorized] == [True]
        job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source))))
        finish(job)
    target = source.parent / f"target-{data_listens}"
    with Job.connect(files, tape, login) as job:
        job.start_recover(str(source), str(target))
        assert encryption(data_state(job.data).data_connection_addr) == "TLSv1.3"
        job.tape.ok(MoverReadRequest(0, ALL))
        finish(job)
    (found,) = target.rglob("large")
    assert found.read_bytes() == (source / "large").read_bytes()


def test_the_keys_are_told_once(pair: tuple[Server, Server], login: Login) -> None:
    files, tape = pair
    with NdmpClient(files.address, login=login) as data:
        address = listening(data)
        assert names_of(address) == [FINGERPRINT, TOKEN]
        data.ok(DataAbortRequest())
        data.ok(DataStopRequest())
        again = listening(data)
        assert token_of(again) != token_of(address)
        for log in (files.log, *(files.config.parent / "state").rglob("*.jsonl")):
            for secret in (token_of(again), token_of(again).hex().encode()):
                assert secret not in log.read_bytes()
                assert secret.hex().encode() not in log.read_bytes()
    with NdmpClient(tape.address, login=login) as client:
        set_up(client)
        assert names_of(mover_listening(client)) == [FINGERPRINT, TOKEN]
        shown = mover_state(client).data_connection_addr
        assert isinstance(shown, TcpAddress)
        assert names_of(shown) == []
        client.hang_up()  # and have the drive closed: the next test opens it


@pytest.mark.parametrize("data_listens", [False, True], ids=["mover-listens", "data-listens"])
def test_a_dma_that_drops_the_keys_gets_a_plain_connection(
    data_listens: bool, pair: tuple[Server, Server], login: Login, source: Path
) -> None:
    files, tape = pair
    with Job.connect(files, tape, login) as job:
        set_up(job.tape)
        if data_listens:
            job.tape.ok(MoverConnectRequest(MoverMode.READ, with_env(listening(job.data), ())))
        else:
            job.data.ok(DataConnectRequest(with_env(mover_listening(job.tape), ())))
        for state in (data_state(job.data), mover_state(job.tape)):
            assert encryption(state.data_connection_addr) == ""
        (row,) = ask(files, sessions.Status(), sessions.StatusReply).sessions
        assert (row.data_state, row.is_data_connection_encrypted) == ("CONNECTED", False)
        job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source))))
        finish(job)


def test_who_encrypts_nothing_ignores_the_keys(make_server: MakeServer, strict: Server, login: Login) -> None:
    off = 'data_connection_encryption = "off"'
    careless = make_server("careless", drives=0, node=off, data_connections=SECURE_LOOPBACK)
    with NdmpClient(careless.address, login=login) as client:
        assert names_of(listening(client)) == []
    with NdmpClient(strict.address, login=login) as first, NdmpClient(careless.address, login=login) as second:
        second.ok(DataConnectRequest(listening(first)))
        assert second.data_halted() == DataHaltReason.CONNECT_ERROR
        refused = "refused: it is not encrypted, and data-connection-encryption is required"
        first.wait_until(lambda _: any(refused in line for line in first.log()), "a line about it")
        assert data_state(first).state == DataState.LISTEN  # the peer it waits for may still come


# --- where nothing goes in clear


def test_required_encryption_refuses_what_would_be_plain(make_server: MakeServer, strict: Server, login: Login) -> None:
    with NdmpClient(strict.address, login=login) as client:
        address = listening(client)
        damaged = with_env(address, (*address.endpoints[0].addr_env[:1], Pval(TOKEN, b"00")))
        for version, sent, line in (
            (4, with_env(address, ()), "the address has no keys"),
            (4, damaged, "the keys in the address of the data connection are damaged"),
            (3, address, "addresses of protocol version 3 have no room for keys"),
        ):
            with NdmpClient(strict.address, login=login, version=version) as other:
                assert other.error(DataConnectRequest(sent)) == ErrorCode.CONNECT_ERR
                other.wait_until(lambda _, line=line, other=other: any(line in each for each in other.log()), line)  # type: ignore[misc]  # bound here
                if version == 3:
                    assert other.error(DataListenRequest(TCP)) == ErrorCode.CONNECT_ERR
    plain = make_server("plain", drives=0, node=REQUIRED)
    with NdmpClient(plain.address, login=login) as client:  # a plain control connection cannot have the keys
        for request in (DataListenRequest(TCP), DataConnectRequest(address)):
            assert client.error(request) == ErrorCode.CONNECT_ERR
        line = "this control connection is not secure"
        client.wait_until(lambda _: sum(line in each for each in client.log()) == 2, line)
        client.ok(DataListenRequest(AddressType.LOCAL))


# --- others on the network


def test_a_stranger_does_not_keep_the_peer_out(strict: Server, login: Login) -> None:
    """He connects first, with no token, with a wrong one, and with the right one behind the one who had it."""
    with NdmpClient(strict.address, login=login) as first, NdmpClient(strict.address, login=login) as second:
        address = listening(first)
        with stranger(address) as silent, stranger(address) as stalled, stranger(address, bytes(32)) as wrong:
            stalled.sendall(PREAMBLE)
            assert is_let_go(wrong)
            with stranger(address) as plain:
                plain.sendall(b"a stream of my own, and long enough")
                assert is_let_go(plain)
            assert data_state(first).state == DataState.LISTEN
            second.ok(DataConnectRequest(address))
            for client in (first, second):
                state = data_state(client)
                assert (state.state, encryption(state.data_connection_addr)) == (DataState.CONNECTED, "TLSv1.3")
            assert is_let_go(silent)
            assert is_let_go(stalled)
        with pytest.raises(ConnectionRefusedError), stranger(address, token_of(address)):
            pass
        with NdmpClient(strict.address, login=login) as third:
            assert third.error(DataConnectRequest(address)) == ErrorCode.CONNECT_ERR
        for reason in ("it shows a wrong token", "it is not encrypted"):
            assert any(f"refused: {reason}" in line for line in first.log())
        assert token_of(address).hex() not in strict.log.read_text()


def test_too_many_strangers_end_the_wait(strict: Server, login: Login) -> None:
    with NdmpClient(strict.address, login=login) as client:
        address = listening(client)
        for _ in range(STRANGERS_MAX):
            with stranger(address, bytes(32)) as sock:
                assert is_let_go(sock)
        assert client.data_halted() == DataHaltReason.CONNECT_ERROR
        client.ok(DataStopRequest())
        second = listening(client)
        assert second != address


def test_an_abort_ends_a_handshake(strict: Server, login: Login) -> None:
    settle(lambda: len(strict.processes()) == 1 + TEMPLATES + SPARES, "all spares up")
    before = len(strict.processes())
    with NdmpClient(strict.address, login=login) as client:
        address = listening(client)
        with stranger(address) as stalled:
            stalled.sendall(PREAMBLE)
            settle(lambda: len(strict.processes()) > before, "a relay shakes hands")
            client.ok(DataAbortRequest())
            assert client.data_halted() == DataHaltReason.ABORTED
            assert is_let_go(stalled)
        client.ok(DataStopRequest())
        assert data_state(client).state == DataState.IDLE
    settle(lambda: len(strict.processes()) == before, "no relay is left")


def test_the_builtin_dma_says_that_it_was_encrypted(pair: tuple[Server, Server], login: Login, source: Path) -> None:
    files, tape = pair
    (source.parent / "password").touch(mode=0o600)
    (source.parent / "password").write_text(login.password)
    result = subprocess.run(
        [
            *mover_command(), "backup", str(source), "--host", files.address, "--tape-host", tape.address,
            "--drive", "vtl0/drive0", "--user", login.user, "--password-file", str(source.parent / "password"),
            "--catalogue", str(source.parent / "catalogue"),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "encrypted by TLSv1.3, warnings: 0" in result.stdout


@pytest.mark.peer("ndmjob")
def test_ndmjob_drops_the_keys_and_gets_what_is_set(
    pair: tuple[Server, Server], strict: Server, login: Login, source: Path, tmp_path: Path
) -> None:
    """It keeps address and port of a reply and nothing else."""
    _, tape = pair

    def backup(files: Server) -> str:
        agents = [f"-D{files.address}/4m,{login.user},{login.password}"]
        agents += [f"-T{tape.address}/4m,{login.user},{login.password}"]
        ndmjob = str(peers.require("ndmjob"))
        options = ["-v", "-f", "vtl0/drive0", "-b", "128", "-B", "dump", "-c", "-C", str(source)]
        done = subprocess.run(
            [ndmjob, *agents, *options], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        return done.stdout + done.stderr

    assert "Operation ended OKAY" in backup(pair[0])
    listened, connected = (dialogue(server) for server in pair[::-1])
    assert [sorted(env) for env in listened["MOVER_LISTEN"]][-1] == [FINGERPRINT.decode(), TOKEN.decode()]
    assert connected["DATA_CONNECT"][-1] == {}
    said = backup(strict)
    assert "Operation ended OKAY" not in said
    assert "the address has no keys" in said


def dialogue(server: Server) -> dict[str, list[dict[str, str]]]:
    """The environments of the addresses in the server's protocol logs, by message."""
    found: dict[str, list[dict[str, str]]] = {}
    for path in sorted((server.config.parent / "state").rglob("*.jsonl"), key=lambda each: each.stat().st_mtime):
        for line in path.read_bytes().splitlines():
            message = decode_line(line)
            if isinstance(message, Message) and message.fields is not None:
                address = message.fields.get("addr") or message.fields.get("data_connection_addr")
                if address and "endpoints" in address:
                    env = {each["name"]: each["value"] for each in address["endpoints"][0].get("addr_env", [])}
                    found.setdefault(message.message, []).append(env)
    return found
