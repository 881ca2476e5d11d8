"""A tape worker that does not answer: an operator's kill and SIGTERM get past it, and the drive stays usable."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.enums import DataHaltReason, MoverHaltReason, TapeMode, TapeOperation
from mover.ndmp.messages import (
    TapeCloseRequest,
    TapeGetStateReply,
    TapeGetStateRequest,
    TapeMtioRequest,
    TapeOpenRequest,
)
from tests.support.ndmp_client import Job, NdmpClient
from tests.support.processes import busy_worker, mapped_rings, settle, workers, zombies
from tests.support.servers import Login, Server
from tests.support.stages import DRIVE, mover_state
from tests.support.trees import make_large_file

MIB = 1 << 20
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def source(shm: Path) -> Path:
    root = shm / "source"
    root.mkdir()
    make_large_file(root / "large", size=256 * MIB)
    return root


def stop_tape_worker(job: Job, server: Server, source: Path) -> int:
    """In the middle of a backup, with records on tape; its pid."""
    job.start_backup(str(source))
    settle(lambda: mover_state(job.tape).bytes_moved > 0, "a record on tape")
    pid = busy_worker(server, "tape")
    os.kill(pid, signal.SIGSTOP)
    return pid


def drive(server: Server) -> dict[str, object]:
    drives = server.ask("tape", "show")["drives"]
    assert isinstance(drives, list)
    found = drives[0]
    assert isinstance(found, dict)
    return found


def session(server: Server) -> str:
    sessions = server.ask("status")["sessions"]
    assert isinstance(sessions, list)
    return str(sessions[0]["session-id"])


def check_usable(server: Server, login: Login, source: Path, target: Path) -> None:
    """A backup and a recover on the drive, from the beginning of the tape."""
    with Job.connect(server, server, login) as job:
        job.start_backup(str(source))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        job.data.hang_up()
    assert drive(server)["unflushed"] is False
    with Job.connect(server, server, login) as job:
        job.start_recover(str(source), str(target))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        job.data.hang_up()
    assert compare_trees(source, target).differences == []


def test_an_operators_kill_gets_past_a_stopped_tape_worker(
    local: Server, login: Login, source: Path, shm: Path
) -> None:
    with Job.connect(local, local, login) as job:
        stopped = stop_tape_worker(job, local, source)
        local.ask("kill", "--session-id", session(local))
        settle(lambda: not psutil.pid_exists(stopped), "the stopped worker is gone")
        assert (drive(local)["state"], drive(local)["unflushed"]) == ("loaded", True)
    assert "killed with the drive open" in local.log.read_text()
    assert zombies(local) == []
    check_usable(local, login, source, shm / "target")


def test_an_operators_kill_gets_past_a_close_that_is_waited_for(
    local: Server, login: Login, source: Path, shm: Path
) -> None:
    with Job.connect(local, local, login) as job:
        stopped = stop_tape_worker(job, local, source)
        number = session(local)
        job.data.close()
        settle(lambda: not any(map(mapped_rings, workers(local, "data"))), "the session is being let go")
        assert psutil.pid_exists(stopped)
        assert drive(local)["state"] == "in-use"
        local.ask("kill", "--session-id", number)
        assert (drive(local)["state"], drive(local)["unflushed"]) == ("loaded", True)
    check_usable(local, login, source, shm / "target")


def test_sigterm_gets_past_a_stopped_tape_worker(local: Server, login: Login, source: Path) -> None:
    with Job.connect(local, local, login) as job:
        stop_tape_worker(job, local, source)
        local.stop()  # SIGTERM; wants exit status 0 and nobody left
    log = local.log.read_text()
    assert "killed with the drive open" in log
    assert "Traceback" not in log


def test_a_server_that_was_killed_tells_of_the_cartridge_it_left_open(
    local: Server, login: Login, source: Path, shm: Path
) -> None:
    with Job.connect(local, local, login) as job:
        job.start_backup(str(source))
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        os.kill(local.pid, signal.SIGKILL)
        local.reap_killed()
    with Server(local.config) as again:
        assert drive(again)["unflushed"] is True
        with NdmpClient(again.address, login=login) as client:
            client.ok(TapeOpenRequest(DRIVE, TapeMode.READ))
            assert [line for line in client.log() if "was not closed in order here" in line] != []
            assert drive(again)["unflushed"] is True
            client.ok(TapeCloseRequest())
            assert drive(again)["unflushed"] is False
        check_usable(again, login, source, shm / "target")


def test_a_drive_whose_worker_died_is_at_the_beginning_of_its_tape(local: Server, login: Login) -> None:
    """Where it stood nobody knows; the position of an earlier close must not come back."""

    def file_num(client: NdmpClient) -> int:
        client.ok(TapeOpenRequest(DRIVE, TapeMode.READ))
        state = client.ok(TapeGetStateRequest())
        assert isinstance(state, TapeGetStateReply)
        return state.file_num

    with NdmpClient(local.address, login=login) as client:
        client.ok(TapeOpenRequest(DRIVE, TapeMode.RDWR))
        client.ok(TapeMtioRequest(TapeOperation.EOF, 2))
        client.ok(TapeCloseRequest())
        assert file_num(client) == 2
        (worker,) = [pid for pid in workers(local, "tape") if psutil.Process(pid).num_threads() > 1]
        os.kill(worker, signal.SIGKILL)
        settle(lambda: drive(local)["state"] == "loaded", "the drive is free")
        assert drive(local)["unflushed"] is False  # nothing was written
        assert file_num(client) == 0
        client.hang_up()
