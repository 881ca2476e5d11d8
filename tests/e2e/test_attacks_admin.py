"""Attacks from the host itself: the admin socket, a second server in the same place, damaged state, broken reloads."""

import contextlib
import os
import resource
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mover.ndmp.enums import DataHaltReason, ErrorCode, MessageCode
from mover.ndmp.framing import mark
from mover.ndmp.header import Header
from mover.ndmp.messages import ConnectClientAuthRequest
from mover.ndmp.messages.common import AuthText
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import Job, NdmpClient
from tests.support.processes import expect_no_new_descriptors, settle
from tests.support.servers import Login, Server, ServerError, mover_command, write_config

pytestmark = pytest.mark.slow  # servers of their own, and waits that are meant

DEADLINE_S = 20.0


def refused_start(config: Path) -> str:
    """The one line of a server that must not start."""
    result = subprocess.run(
        [*mover_command(), "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    (line,) = result.stderr.splitlines()
    return line


def admin(server: Server) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE_S)
    connection.connect(server.ready.admin_socket)
    return connection


def answers(server: Server, login: Login) -> None:
    """Operators and DMAs are served."""
    assert server.ask("version")["server"] is not None
    with NdmpClient(server.address, login=login) as client:
        client.hang_up()


@pytest.mark.parametrize(
    "line",
    [
        b"\0" * 100,
        b"{}",
        b'{"type": "kill"}',
        b'{"type": "nothing"}',
        b"[" * 60_000,
        b'{"type":"tape-create","count":1e99}',
    ],
)
def test_garbage_on_the_admin_socket_is_answered(line: bytes, local: Server, login: Login) -> None:
    with admin(local) as connection:
        connection.sendall(line + b"\n")
        assert b'"failed"' in connection.recv(65536)
        connection.sendall(b'{"type": "version"}\n')
        assert b'"version"' in connection.recv(65536)
    answers(local, login)


def test_an_endless_line_on_the_admin_socket_is_cut_off(local: Server, login: Login) -> None:
    with expect_no_new_descriptors(local), admin(local) as connection:
        try:
            for _ in range(100):
                connection.sendall(b"x" * 65536)
            raise AssertionError("6 MiB of one line were taken")
        except (BrokenPipeError, ConnectionResetError):
            pass
    answers(local, login)


def test_more_commands_than_descriptors_do_not_end_the_server(local: Server, login: Login) -> None:
    resource.prlimit(local.pid, resource.RLIMIT_NOFILE, (60, 60))
    connections = []
    for _ in range(100):
        connections.append(connection := socket.socket(socket.AF_UNIX))
        connection.settimeout(DEADLINE_S)
        connection.connect(local.ready.admin_socket)
    settle(lambda: "no command accepted" in local.log.read_text(), "the descriptors are used up")
    for connection in connections:
        connection.close()
    answers(local, login)


def test_a_command_that_fails_inside_ends_no_job(local: Server, login: Login, shm: Path) -> None:
    with NdmpClient(local.address, login=login) as client:
        database = sqlite3.connect(shm / "server" / "state" / "mover.sqlite", isolation_level=None)
        database.execute("DROP TABLE cartridge")
        database.close()
        with pytest.raises(ServerError, match="no such table"):
            local.ask("tape", "unload", "vtl0/drive0")
        with pytest.raises(ServerError, match="no such table"):
            local.ask("tape", "create", "vtl0", "--barcode", "NEW001")
        assert not (shm / "server" / "tapes" / "NEW001.tap").exists()
        client.hang_up()
    answers(local, login)


def test_a_cartridge_whose_file_is_gone_is_no_scratch_cartridge(local: Server, shm: Path) -> None:
    (first,) = (shm / "server" / "tapes").glob("*.tap")
    local.ask("tape", "unload", "vtl0/drive0")
    first.unlink()
    local.ask("tape", "show")
    document = local.ask("tape", "load", "vtl0/drive0")
    assert document["barcodes"] != [first.stem]


def test_a_second_server_with_the_same_state_directory_is_refused(local: Server, login: Login, shm: Path) -> None:
    config = write_config(shm / "second", login)
    state = str(shm / "server" / "state")
    config.write_text(config.read_text().replace(str(shm / "second" / "state"), state))
    line = refused_start(config)
    assert line == f"mover serve: state directory {state}: in use by another mover serve, or named twice"
    answers(local, login)


def test_a_second_server_with_the_same_cartridges_is_refused(local: Server, login: Login, shm: Path) -> None:
    config = write_config(shm / "second", login, drives=1)
    tapes = str(shm / "server" / "tapes")
    config.write_text(config.read_text().replace(str(shm / "second" / "tapes"), tapes))
    line = refused_start(config)
    assert line == f"mover serve: library vtl0: {tapes}: in use by another mover serve, or named twice"
    answers(local, login)


def test_a_file_in_the_place_of_the_admin_socket_is_not_removed(login: Login, shm: Path) -> None:
    config = write_config(shm / "server", login)
    precious = shm / "server" / "admin.sock"
    precious.write_text("not a socket")
    assert refused_start(config) == f"mover serve: admin socket {precious}: exists and is no socket"
    assert precious.read_text() == "not a socket"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_server_whose_admin_socket_was_removed_ends_in_order(
    replaced: bool, make_server: MakeServer, shm: Path
) -> None:
    server = make_server("server", drives=0)
    path = Path(server.ready.admin_socket)
    path.unlink()
    if replaced:
        path.write_text("somebody else's")
    server.stop()
    assert path.exists() == replaced


def corrupt(state: Path) -> None:
    (state / "mover.sqlite").write_bytes(os.urandom(8192))


def cut(state: Path) -> None:
    with open(state / "mover.sqlite", "r+b") as file:
        file.truncate(5000)


def foreign(state: Path) -> None:
    database = sqlite3.connect(state / "mover.sqlite", isolation_level=None)
    database.execute("DROP TABLE cartridge")
    database.execute("CREATE TABLE cartridge (something TEXT)")
    database.close()


def directory(state: Path) -> None:
    (state / "mover.sqlite").unlink()
    (state / "mover.sqlite").mkdir()


@pytest.mark.parametrize("damage", [corrupt, cut, foreign, directory])
def test_a_damaged_state_database_is_one_clear_line(
    damage: Callable[[Path], None], make_server: MakeServer, shm: Path
) -> None:
    server = make_server("server")
    server.stop()
    state = shm / "server" / "state"
    damage(state)
    line = refused_start(server.config)
    assert line.startswith("mover serve: ")
    assert str(state) in line


@pytest.mark.parametrize("text", ["[node", "x = " + "[" * 20_000, "[[user]]\nname = 1", "\0", "\ufffe", None])
def test_sighup_with_a_broken_configuration_changes_nothing(
    text: str | None, make_server: MakeServer, login: Login
) -> None:
    server = make_server("server", drives=0)
    if text is None:
        server.config.unlink()
    else:
        server.config.write_text(text)
    os.kill(server.pid, signal.SIGHUP)
    settle(lambda: "configuration not taken" in server.log.read_text(), "configuration not taken")
    answers(server, login)


def test_a_full_disk_behind_both_standard_streams_ends_nothing(login: Login, shm: Path) -> None:
    config = write_config(shm / "server", login)
    with open("/dev/full", "wb") as full:
        server = subprocess.Popen([*mover_command(), "serve", "--config", str(config)], stdout=full, stderr=full)
    try:
        path = shm / "server" / "admin.sock"
        settle(path.exists, "the admin socket")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE_S)
            settle(lambda: connection.connect_ex(str(path)) == 0, "the admin socket listens")
            for _ in range(3):
                connection.sendall(b'{"type": "kill", "session-id": 1}\n')
                assert b"there is no session" in connection.recv(65536)
    finally:
        server.terminate()
        assert server.wait(DEADLINE_S) == 0


def test_a_password_is_nowhere_to_be_seen(make_server: MakeServer, shm: Path, tmp_path: Path) -> None:
    """Not in logs, command lines, environments, replies, nor what operators see, whatever goes wrong with a login."""
    secret = "hush-4711-hush"
    login = Login("ndmp", secret)
    server = make_server("server")
    text = server.config.read_text().replace("the secret of the tests", secret)
    server.config.write_text(text)
    os.kill(server.pid, signal.SIGHUP)
    settle(lambda: "configuration read again" in server.log.read_text(), "the new password")
    seen: list[str | bytes] = []
    source = shm / "source"
    source.mkdir()
    (source / "file").write_text("content")
    for method in ("md5", "text"):
        with NdmpClient(server.address, login=login, method=method) as client:
            job = Job(client, client)
            job.start_backup(str(source), USER="ndmp")
            assert client.data_halted() == DataHaltReason.SUCCESSFUL
            for each in server.processes():
                for what in ("cmdline", "environ"):
                    # A worker that has just left; while it is leaving, its environment is closed to all but root.
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                        seen.append(Path(f"/proc/{each.pid}/{what}").read_bytes())
            seen += client.log()
            client.error(ConnectClientAuthRequest(AuthText(b"ndmp", secret.encode())))  # in the middle of a job
            client.hang_up()
    with NdmpClient(server.address) as client:
        for user, password in ((b"ndmp", secret + "!"), (b"nobody", secret), (b"ndmp", "x" + secret)):
            assert client.error(ConnectClientAuthRequest(AuthText(user, password.encode()))) != ErrorCode.NO_ERR
        broken = Header(9, 0, 0, MessageCode.CONNECT_CLIENT_AUTH, 0, 0).encode() + b"\0\0\0\1\0\0\0\4ndmp\0\0\xff\xff"
        payload = broken + secret.encode()
        client.socket.sendall(mark(len(payload)) + payload)
        client.hang_up()
    password_file = tmp_path / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(secret)
    command = [*mover_command(), "backup", str(source), "--host", server.address, "--user", "ndmp", "--json"]
    command += ["--password-file", str(password_file), "--drive", "vtl0/nothing", "--catalogue", str(tmp_path / "c")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    seen += [result.stdout, result.stderr, str(server.ask("status")), server.log.read_text()]
    for wrong in (text.replace(f'password = "{secret}"', f"password = {{ x = '{secret}' }}"),
                  text.replace(f'password = "{secret}"', f'password = "{secret}'),
                  text.replace(f'password = "{secret}"', f'pasword = "{secret}"')):  # fmt: skip
        server.config.write_text(wrong)
        result = subprocess.run(
            [*mover_command(), "serve", "--config", str(server.config)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert result.returncode == 2
        seen += [result.stdout, result.stderr]
    assert not [each for each in seen if secret in (each if isinstance(each, str) else each.decode(errors="replace"))]
