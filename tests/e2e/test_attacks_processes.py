"""Attacks on processes: what workers may and hold, stopped and killed ones, signals to the server in mid-job."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from mover.ndmp.enums import ConnectionStatusReason, DataHaltReason, ErrorCode, MoverHaltReason, TapeMode
from mover.ndmp.messages import (
    DataAbortRequest,
    NotifyConnectionStatusPost,
    TapeGetStateRequest,
    TapeOpenRequest,
)
from tests.e2e.test_death import serve_reads
from tests.support.ndmp_client import RECORD_SIZE, Job, NdmpClient
from tests.support.processes import busy_worker, mapped_rings, settle, workers
from tests.support.servers import Login, Server, mover_command
from tests.support.stages import mover_state
from tests.support.trees import make_large_file, make_small_files

pytestmark = pytest.mark.slow  # servers of their own, and waits that are meant

MIB = 1 << 20
# Numbers of capabilities from linux/capability.h; docs/architecture.md section 1 has the names.
READ_ALL, WRITE_ALL = 1 << 2, 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31
RIGHTS = {("mover-data", "backup"): READ_ALL, ("mover-data", "recover"): WRITE_ALL} | {
    (f"mover-{kind}", operation): 0 for kind in ("tape", "relay") for operation in ("backup", "recover")
}
BOUND = {"mover-tape": 1 << 17}  # what it would get for a real device


@pytest.fixture
def source(shm: Path) -> Path:
    root = shm / "source"
    root.mkdir()
    make_large_file(root / "large", size=256 * MIB)
    return root


def comm(pid: int) -> str:
    """A process's name, as `ps` shows it."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def threads(pid: int) -> list[dict[str, str]]:
    """/proc/PID/task/*/status of every thread."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found.append({key: value.strip() for key, _, value in (line.partition(":") for line in lines)})
    return found


def own_rights(which: str) -> int:
    """Of the server too: it runs as the tests do."""
    return int(threads(os.getpid())[0][which], 16)


def mount_points(pid: int) -> set[str]:
    """What the process finds mounted."""
    return {line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()}


def has_own_mounts() -> bool:
    """Whether a process of this user gets a mount namespace of its own here."""
    return subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def descriptors(pid: int) -> list[str]:
    """What a process holds open, standard streams left out."""
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2]


def inet_inodes() -> set[str]:
    """Every TCP socket of this host, as /proc/PID/fd shows it."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:] + Path("/proc/net/tcp6").read_text().splitlines()[1:]
    return {f"socket:[{row.split()[9]}]" for row in rows}


def test_a_spare_is_single_threaded_and_holds_its_control_socket_alone(local: Server) -> None:
    for kind in ("data", "tape", "relay"):
        for pid in workers(local, kind):
            assert len(threads(pid)) == 1
            held = [each for each in descriptors(pid) if not each.startswith("anon_inode:[event")]
            assert inet_inodes() & set(held) == set()
            assert all(each.startswith(("socket:", "pipe:")) for each in held), held


@pytest.mark.parametrize("operation", ["backup", "recover"])
def test_workers_at_work_have_no_way_to_more_rights_and_hold_what_is_theirs(
    operation: str, ends: tuple[Server, Server], login: Login, source: Path, shm: Path
) -> None:
    data, tape = ends
    make_small_files(source / "small", files=4000, directories=4)  # enough for a recover to take a helper
    if operation == "recover":
        with Job.connect(data, tape, login) as job:
            job.start_backup(str(source))
            assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
            job.tape.mover_halted()
            job.tape.hang_up()
    with Job.connect(data, tape, login) as job:
        if operation == "backup":
            job.start_backup(str(source))
        else:
            job.start_recover(str(source), str(shm / "target"))
            serve_reads(job)
        kinds = {"mover-data", "mover-tape", *([] if data is tape else ["mover-relay"])}

        def family_now() -> list[psutil.Process]:
            running = {each for server in {data, tape} for each in server.processes()}
            return [each for each in running if each.pid not in {data.pid, tape.pid}]

        # The other end of the data connection may take its ring later than the first bytes move.
        settle(lambda: {comm(each.pid) for each in family_now() if mapped_rings(each.pid)} == kinds, "all at work")
        family = family_now()
        for process in family:
            process.suspend()
        seen = []
        for process in family:
            tasks, held = threads(process.pid), descriptors(process.pid)
            name = comm(process.pid)
            assert not any("mover.sqlite" in each or "admin.sock" in each for each in held)
            assert len(set(held) & inet_inodes()) <= (name == "mover-relay"), (name, held)
            assert [task["CapEff"] for task in tasks] == [tasks[0]["CapEff"]] * len(tasks)
            if mapped_rings(process.pid):
                seen.append(name)
                assert [task["NoNewPrivs"] for task in tasks] == ["1"] * len(tasks), name
                for rights in ("CapEff", "CapPrm"):
                    most = RIGHTS[name, operation] & own_rights(rights)
                    assert [int(task[rights], 16) for task in tasks] == [most] * len(tasks), (name, rights)
                if operation == "recover" and name == "mover-data" and has_own_mounts():
                    assert {"/", "/proc"} < mount_points(process.pid) <= {"/", "/proc", str(shm)}
                if os.geteuid() == 0 and name != "mover-data":
                    assert int(tasks[0]["CapBnd"], 16) == BOUND.get(name, 0) & own_rights("CapBnd")
        for process in family:
            process.resume()
        assert {*seen} == kinds
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL


@pytest.mark.parametrize("victim", ["data", "tape"])
def test_a_stopped_worker_is_aborted_and_everybody_else_is_served(
    victim: str, local: Server, login: Login, source: Path
) -> None:
    with Job.connect(local, local, login) as job, NdmpClient(local.address, login=login) as other:
        job.start_backup(str(source))
        stopped = busy_worker(local, victim)
        os.kill(stopped, signal.SIGSTOP)
        assert other.error(TapeOpenRequest(b"vtl0/drive0", TapeMode.READ)) == ErrorCode.DEVICE_BUSY_ERR
        drives = local.ask("tape", "show")["drives"]
        assert isinstance(drives, list)
        assert drives[0]["state"] == "in-use"
        job.data.ok(DataAbortRequest())
        assert job.data.data_halted() == DataHaltReason.ABORTED
        job.data.close()
        if victim == "tape":  # whose drive may take minutes to close, so that it is waited for
            assert drive_state(local) == "in-use"
            os.kill(stopped, signal.SIGCONT)
        settle(lambda: not psutil.pid_exists(stopped), "the stopped worker is gone")
        settle(lambda: drive_state(local) == "loaded", "the drive is free")


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_drive_that_does_not_answer_is_given_up_by_its_deadline(local: Server, login: Login) -> None:
    with NdmpClient(local.address, login=login) as client:
        client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.READ))
        (stopped,) = [pid for pid in workers(local, "tape") if len(threads(pid)) > 1]
        os.kill(stopped, signal.SIGSTOP)
        reply = client.ask(TapeGetStateRequest(), deadline_s=90)
        assert reply.error == ErrorCode.IO_ERR
        settle(lambda: not psutil.pid_exists(stopped), "the stopped worker is gone")
        client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.READ))


def drive_state(server: Server) -> str:
    drives = server.ask("tape", "show")["drives"]
    assert isinstance(drives, list)
    return str(drives[0]["state"])


def test_killed_spares_and_templates_are_replaced(local: Server, login: Login, source: Path) -> None:
    before = len(local.processes())
    killed = [process for process in local.processes() if process.pid != local.pid]
    for process in killed:
        process.kill()
    settle(lambda: not any(process.is_running() for process in killed), "all gone")
    with Job.connect(local, local, login) as job:
        job.start_backup(str(source))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        job.data.hang_up()
    settle(lambda: len(local.processes()) == before, "all back")


@pytest.mark.slow
def test_a_stopped_template_is_given_up(local: Server, login: Login, source: Path) -> None:
    family = [process for process in local.processes() if process.pid != local.pid]
    stopped = [process for process in family if process.name().endswith("-tpl")]
    for process in stopped:
        process.suspend()
    for process in family:
        if process not in stopped:
            process.kill()
    with Job.connect(local, local, login) as job:
        settle(lambda: not any(process.is_running() for process in stopped), "the templates are given up", 60)
        job.start_backup(str(source))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        job.data.hang_up()


# --- signals to the server


def shutdown_told(client: NdmpClient) -> None:
    client.wait_until(
        lambda seen: (
            isinstance(seen.body, NotifyConnectionStatusPost) and seen.body.reason == ConnectionStatusReason.SHUTDOWN
        ),
        "SHUTDOWN",
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_signal_in_a_backup_leaves_a_readable_cartridge(
    number: signal.Signals, times: int, local: Server, login: Login, source: Path, shm: Path
) -> None:
    with Job.connect(local, local, login) as job:
        job.start_backup(str(source))
        settle(lambda: mover_state(job.tape).bytes_moved > 0, "a record on tape")
        os.kill(busy_worker(local, "data"), signal.SIGSTOP)  # so that it does not end within the grace
        started = time.monotonic()
        for _ in range(times):
            os.kill(local.pid, number)
            shutdown_told(job.data)
        local.stop()  # waits, and wants exit status 0
        assert time.monotonic() - started < 15
    (cartridge,) = (shm / "server" / "tapes").glob("*.tap")
    listed = subprocess.run(
        [*mover_command(), "tape", "ls", str(cartridge), "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    document = json.loads(listed.stdout)
    assert document["warning"] == ""
    assert [file["record-bytes"] for file in document["files"]] == [RECORD_SIZE]
    assert document["files"][0]["bytes"] == document["files"][0]["records"] * RECORD_SIZE > 0


def test_a_job_that_ends_within_the_grace_ends_well(local: Server, login: Login, source: Path) -> None:
    with Job.connect(local, local, login) as job:
        job.start_backup(str(source))
        os.kill(local.pid, signal.SIGTERM)
        shutdown_told(job.data)
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        job.data.close()
    local.stop()
