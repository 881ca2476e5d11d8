"""Attacks from the host itself: the admin socket, a second server in the same place, damaged state, broken reloads."""

import os
import resource
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import NdmpClient
from tests.support.processes import expect_no_new_descriptors, settle
from tests.support.servers import Login, Server, ServerError, mover_command, write_config

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
