"""`mover serve` as a process: what it needs to start, how it stops, what it reads again, what operators see."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mover.control import serve as start
from mover.ndmp.enums import ConnectionStatusReason, ErrorCode, MoverMode, TapeOperation
from mover.ndmp.messages import (
    ConnectClientAuthRequest,
    DataGetStateRequest,
    DataStopRequest,
    MoverStopRequest,
    NotifyConnectionStatusPost,
    TapeCloseRequest,
    TapeMtioRequest,
    TapeOpenRequest,
)
from mover.ndmp.messages.common import AuthText
from tests.control.conftest import LOGIN
from tests.support.ndmp_client import Job, NdmpClient
from tests.support.servers import Login, Server, ServerError, mover_command, write_config

DEADLINE_S = 20.0


def serve(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*mover_command(), "serve", "--config", str(config)],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def answering_pid(server: Server) -> object:
    """Who answers at a server's admin socket."""
    document = server.ask("version")["server"]
    assert isinstance(document, dict)
    return document["pid"]


def test_recovers_without_mounts_of_their_own_are_warned_of() -> None:
    with capture_logs() as logs:
        start._warn_of_mounts(None)
        start._warn_of_mounts("unshare: Operation not permitted")
    assert logs == [
        {
            "event": "recovers have no mounts of their own here: Landlock alone holds them",
            "log_level": "warning",
            "error": "unshare: Operation not permitted",
        }
    ]


@pytest.fixture
def own(directory: Path) -> Path:
    """A directory of the test's own."""
    path = directory / "own"
    path.mkdir(exist_ok=True)
    return path


def test_a_port_in_use_is_one_line_and_leaves_nothing(own: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = write_config(own, LOGIN)
        config.write_text(config.read_text().replace("port = 0", f"port = {port}"))
        done = serve(config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"mover serve: lif only: 127.0.0.1 port {port}: Address already in use\n"
    assert not (own / "admin.sock").exists()


def test_a_second_server_on_the_same_admin_socket_is_refused(server: Server, own: Path) -> None:
    config = write_config(own, LOGIN)
    admin = server.ready.admin_socket
    config.write_text(config.read_text().replace(str(own / "admin.sock"), admin))
    done = serve(config)
    assert done.returncode == 1
    assert done.stderr == f"mover serve: admin socket {admin}: another mover serve answers there\n"
    assert answering_pid(server) == server.pid


def test_a_stale_admin_socket_is_replaced_and_is_for_the_owner_only(own: Path) -> None:
    path = own / "admin.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with Server(write_config(own, LOGIN)) as running:
        assert path.stat().st_mode & 0o777 == 0o600
        assert answering_pid(running) == running.pid
    assert not path.exists()


def test_systemd_is_told(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(own / "notify"))
        systemd.settimeout(DEADLINE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(own / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        with Server(write_config(own, LOGIN)) as running:
            port = running.ready.lifs[0].port
            listening = f"READY=1\nSTATUS=listening on only (127.0.0.1 port {port})".encode()
            assert systemd.recv(500) == listening
            assert systemd.recv(500) == b"WATCHDOG=1"
            os.kill(running.pid, signal.SIGHUP)
            loading = systemd.recv(500).split(b"\n")
            assert loading[0] == b"RELOADING=1"
            assert loading[1].startswith(b"MONOTONIC_USEC=")
            assert systemd.recv(500) == listening
        assert systemd.recv(500).split(b"\n")[:2] == [b"STOPPING=1", b"EXTEND_TIMEOUT_USEC=54000000"]


def shutdown_told(client: NdmpClient) -> bytes:
    """Waits for the post that the server goes away; its text."""
    post = client.wait_until(
        lambda seen: (
            isinstance(seen.body, NotifyConnectionStatusPost) and seen.body.reason == ConnectionStatusReason.SHUTDOWN
        ),
        "SHUTDOWN",
    )
    assert isinstance(post.body, NotifyConnectionStatusPost)
    return post.body.text_reason


def test_sigterm_tells_every_dma(own: Path) -> None:
    with Server(write_config(own, LOGIN)) as running, NdmpClient(running.address, login=LOGIN) as client:
        os.kill(running.pid, signal.SIGTERM)
        assert shutdown_told(client) == b"the server is shutting down"
        while client.socket.recv(65536):
            pass


def test_sigterm_lets_a_dma_end_its_job_in_order(directory: Path, volume: Path) -> None:
    place = directory / "in-order"
    place.mkdir()
    with Server(write_config(place, LOGIN, volumes={"v": volume}, drives=1)) as running:
        running.ask("tape", "load", "vtl0/drive0")
        with Job.connect(running, running, LOGIN) as job:
            client = job.data
            job.start_backup(str(volume))
            client.data_halted()
            client.mover_halted()
            os.kill(running.pid, signal.SIGTERM)
            shutdown_told(client)
            client.ok(DataStopRequest())
            client.ok(MoverStopRequest())
            client.ok(TapeMtioRequest(TapeOperation.EOF, 1))
            client.ok(TapeCloseRequest())
            while client.socket.recv(65536):
                pass


def test_sighup_takes_new_users_and_keeps_what_is_wrong_out(own: Path) -> None:
    config = write_config(own, LOGIN)
    good = config.read_text()
    with Server(config) as running:

        def reload(text: str, logged: str) -> None:
            seen = running.log.read_text().count(logged)
            config.write_text(text)
            os.kill(running.pid, signal.SIGHUP)
            deadline = time.monotonic() + DEADLINE_S
            while running.log.read_text().count(logged) == seen:
                assert time.monotonic() < deadline, f"not logged: {logged}"
                time.sleep(0.01)

        other = Login("other", "another secret")
        reload(good.replace(LOGIN.user, other.user).replace(LOGIN.password, other.password), "configuration read again")
        with NdmpClient(running.address, login=other) as client:
            client.ok(DataGetStateRequest())
        with NdmpClient(running.address) as client:
            old = AuthText(LOGIN.user.encode(), LOGIN.password.encode())
            assert client.error(ConnectClientAuthRequest(old)) == ErrorCode.NOT_AUTHORIZED_ERR
        reload("nonsense", "configuration not taken")
        reload(good.replace('name = "only"', 'name = "renamed"'), "configuration read again")
        assert "these need a restart" in running.log.read_text()  # said before the rest of it is taken
        with NdmpClient(running.address, login=LOGIN) as client:
            client.ok(DataGetStateRequest())


def test_operators_see_and_end_a_session(server: Server) -> None:
    server.ask("tape", "load", "vtl0/drive1")
    with NdmpClient(server.address, login=LOGIN) as client:
        client.ok(TapeOpenRequest(b"vtl0/drive1", 1))
        document = server.ask("status")
        sessions = document["sessions"]
        assert isinstance(sessions, list)
        (session,) = [each for each in sessions if each["tape-device"] == "vtl0/drive1"]
        assert session["session-authorized"] is True
        assert session["ndmp-version"] == 4
        assert session["data-state"] == "IDLE"
        assert session["client-port"] == client.socket.getsockname()[1]
        assert [worker["kind"] for worker in session["workers"]] == ["tape"]
        assert session["workers"][0]["rss-bytes"] > 0
        with pytest.raises(ServerError, match="open in session"):
            server.ask("tape", "unload", "vtl0/drive1")
        with NdmpClient(server.address, login=LOGIN) as other:
            assert other.error(TapeOpenRequest(b"vtl0/drive1", 0)) == ErrorCode.DEVICE_BUSY_ERR
        server.ask("kill", "--session-id", str(session["session-id"]))
        assert shutdown_told(client) == b"the session was ended by an operator"
        while client.socket.recv(65536):
            pass
    server.ask("tape", "unload", "vtl0/drive1")
    with pytest.raises(ServerError, match="no session 999"):
        server.ask("kill", "--session-id", "999")


@pytest.mark.slow
def test_a_second_signal_stops_at_once(own: Path) -> None:
    config = write_config(own, LOGIN)
    config.write_text(config.read_text().replace("grace_s = 2", "grace_s = 600"))
    running = Server(config)
    try:
        workers = children(running.pid)
        os.kill(running.pid, signal.SIGTERM)
        os.kill(running.pid, signal.SIGINT)
    finally:
        running.stop()
    for pid in workers:
        assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.slow
def test_an_idle_session_is_ended_and_a_working_one_is_not(own: Path) -> None:
    config = write_config(own, LOGIN, drives=1, extra="[limits]\nidle_timeout_s = 1\n")
    with Server(config) as running:
        running.ask("tape", "load", "vtl0/drive0")
        job = Job.connect(running, running, LOGIN)
        with job, NdmpClient(running.address, login=LOGIN) as idle:
            job.connect_data(MoverMode.WRITE)  # a mover that waits is at work
            while idle.socket.recv(65536):
                pass
            job.data.ok(DataGetStateRequest())
            job.data.hang_up()
