"""The backup log and `mover jobs` of real servers: whole jobs, killed and aborted ones, two at once, switched off."""

import json
import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any  # a JSON document

import pytest

from mover.ndmp.enums import DataHaltReason, MoverMode
from mover.ndmp.messages import DataAbortRequest, DataStartBackupRequest, DataStartRecoverRequest, RecoverName
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import Job, pairs
from tests.support.processes import busy_worker, settle
from tests.support.servers import Login, Server
from tests.support.trees import make_large_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SETTLE_S = 60.0
TIME = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"
LINE = re.compile(rf"(?P<kind>dmp|rst) {TIME} (?P<name>\S+) (?P<event>\w+)( \((?P<information>.*)\))?")


@pytest.fixture
def tree(shm: Path) -> Path:
    root = shm / "a tree"
    (root / "below").mkdir(parents=True)
    for number in range(20):
        (root / "below" / f"file-{number}").write_bytes(bytes(number * 1000))
    (root / "below" / "rst Sun Nov 22\nEnd").write_bytes(b"forged")
    os.link(root / "below" / "file-7", root / "again")
    os.symlink("nowhere", root / "symlink")
    os.mkfifo(root / "fifo")
    return root


KNOWN = {"directories": 2, "files": 21, "symlinks": 1, "hard-links": 1, "fifos": 1}


def log_of(server: Server) -> Path:
    return server.config.parent / "state" / "backup.log"


def events(server: Server, number: int) -> list[tuple[str, str, str]]:
    """(kind, event, information) of one job, in order."""
    found = []
    for line in log_of(server).read_text().splitlines():
        match = LINE.fullmatch(line)
        assert match is not None or line.startswith("log "), line
        if match is not None and match["name"].endswith(f"/({number})"):
            found.append((match["kind"], match["event"], match["information"] or ""))
    return found


def job_of(server: Server, number: int) -> dict[str, Any]:
    jobs = server.ask("jobs", "--job-id", str(number))["jobs"]
    assert isinstance(jobs, list)
    (job,) = jobs
    assert isinstance(job, dict)
    return job


def entries(job: dict[str, Any]) -> dict[str, int]:
    return {kind: count for kind, count in job["entries"].items() if count}


def back_up(data: Server, tape: Server, login: Login, path: Path, butype: bytes, **env: str) -> list[str]:
    """A backup to its end; the lines that the DMA got."""
    with Job.connect(data, tape, login) as job:
        job.connect_data(MoverMode.READ)
        job.data.ok(DataStartBackupRequest(butype, pairs(FILESYSTEM=str(path), **env)))
        assert job.data.data_halted(deadline_s=SETTLE_S) == DataHaltReason.SUCCESSFUL
        job.tape.mover_halted(deadline_s=SETTLE_S)
        told = job.data.log()
        for client in {job.data, job.tape}:
            client.hang_up()
    return told


@pytest.mark.parametrize("butype", [b"dump", b"tar"])
def test_a_backup_and_a_recover(local: Server, login: Login, tree: Path, shm: Path, butype: bytes) -> None:
    told = back_up(local, local, login, tree, butype, HIST="f", LEVEL="0", EXCLUDE="file-19")
    backup = job_of(local, 1)
    assert (backup["state"], backup["operation"], backup["backup-type"]) == ("successful", "backup", butype.decode())
    assert entries(backup) == KNOWN | {"files": 20}
    assert (backup["path"], backup["level"], backup["whole"]) == (str(tree), 0, True)
    assert backup["file-bytes"] == sum(range(19)) * 1000 + 6
    assert sum(each["files"] for each in backup["sizes"]) == 20
    assert (backup["errors"], backup["left-out"]) == (0, {"excluded": 1})
    assert any(line.startswith("entries: 2 directories, 20 files, 1 symbolic link") for line in told)
    assert any(line.startswith("time: scan ") for line in told)
    seen = events(local, 1)
    assert seen[0] == ("dmp", "Start", "Level 0, NDMP")
    assert seen[1][:2] == ("dmp", "Options")
    assert "EXCLUDE=file-19" in seen[1][2]
    assert seen[2] == ("dmp", "Tape_open", "vtl0/drive0")
    assert {event for _, event, _ in seen[3:-2]} == {"Phase_change"}
    assert seen[-2] == ("dmp", "Tape_close", "vtl0/drive0")
    assert seen[-1] == ("dmp", "End", "0 MB, 23 files, 2 directories, 0 errors")

    with Job.connect(local, local, login) as job:
        job.connect_data(MoverMode.WRITE)
        names = (RecoverName(b"", str(shm / "target").encode()),)
        job.data.ok(DataStartRecoverRequest(pairs(FILESYSTEM=str(tree)), names, butype))
        assert job.data.data_halted(deadline_s=SETTLE_S) == DataHaltReason.SUCCESSFUL
        job.data.hang_up()
    recover = job_of(local, 2)
    assert (recover["state"], recover["operation"], recover["level"]) == ("successful", "recover", None)
    assert entries(recover) == entries(backup)
    assert recover["file-bytes"] == backup["file-bytes"]
    assert recover["sizes"] == backup["sizes"]
    seen = events(local, 2)
    assert (seen[0], seen[-1][:2]) == (("rst", "Start", "Level 0, NDMP"), ("rst", "End"))
    assert seen[-1][2] == "23 files, 0 MB, 2 directories, 0 errors"
    listed = local.ask("jobs")["jobs"]
    assert isinstance(listed, list)
    assert [(each["number"], each["sizes"]) for each in listed] == [(1, []), (2, [])]
    readable = subprocess.run(local.command("jobs"), capture_output=True, text=True, timeout=60, check=True).stdout
    assert len(readable.splitlines()) == 3
    whole = subprocess.run(
        local.command("jobs", "--job-id", "2"), capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "state: successful" in whole


def start_large(job: Job, source: Path) -> None:
    """A backup that is at work until it is ended: its mover waits for the next window."""
    job.connect_data(MoverMode.READ, window_length=1 << 20)
    job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source), HIST="n")))


@pytest.fixture
def large(shm: Path) -> Path:
    source = shm / "large"
    source.mkdir()
    (source / "small").write_bytes(b"small")
    make_large_file(source / "z", size=64 << 20)
    return source


def test_a_killed_worker_leaves_what_is_known(local: Server, login: Login, large: Path) -> None:
    with Job.connect(local, local, login) as job:
        start_large(job, large)
        settle(lambda: job_of(local, 1)["phase"] == "files", "files are read", SETTLE_S)
        os.kill(busy_worker(local, "data"), signal.SIGKILL)
        assert job.data.data_halted(deadline_s=SETTLE_S) == DataHaltReason.INTERNAL_ERROR
        told = job.data.log()
        job.data.hang_up()
    ended = job_of(local, 1)
    assert (ended["state"], ended["whole"], ended["halt-reason"]) == ("failed", False, "INTERNAL_ERROR")
    assert ended["text"] == "the data worker died: signal SIGKILL"
    assert ended["entries"]["directories"] == 1
    assert any("the data worker did not end in order" in line for line in told)
    assert events(local, 1)[-1][1] == "Abort"


def test_an_abort_and_a_lost_connection(local: Server, login: Login, large: Path) -> None:
    with Job.connect(local, local, login) as job:
        start_large(job, large)
        job.data.ok(DataAbortRequest())
        assert job.data.data_halted(deadline_s=SETTLE_S) == DataHaltReason.ABORTED
        job.data.hang_up()
    assert (job_of(local, 1)["state"], job_of(local, 1)["halt-reason"]) == ("aborted", "ABORTED")
    with Job.connect(local, local, login) as job:
        start_large(job, large)
        settle(lambda: job_of(local, 2)["state"] == "running", "it runs", SETTLE_S)
    settle(lambda: job_of(local, 2)["state"] == "aborted", "it is over", SETTLE_S)
    for number in (1, 2):
        assert Counter(event for _, event, _ in events(local, number))["Abort"] == 1


def test_a_killed_server_ends_its_jobs_at_the_next_start(make_server: MakeServer, login: Login, large: Path) -> None:
    server = make_server("server")
    with Job.connect(server, server, login) as job:
        start_large(job, large)
        settle(lambda: job_of(server, 1)["phase"] == "files", "files are read", SETTLE_S)
        os.kill(server.pid, signal.SIGKILL)
        server.reap_killed()
    server = make_server("server", load=False)
    ended = job_of(server, 1)
    assert (ended["state"], ended["ended"], ended["phase"]) == ("interrupted", None, "files")
    assert events(server, 1)[-1] == ("dmp", "Abort", "the server ended before the job did")
    back_up(server, server, login, large, b"dump", HIST="n")
    assert events(server, 2)[-1][1] == "End"


def test_two_jobs_at_once_are_told_apart(make_server: MakeServer, login: Login, tree: Path) -> None:
    server = make_server("server", drives=2)
    with (
        Job.connect(server, server, login, drive="vtl0/drive0") as first,
        Job.connect(server, server, login, drive="vtl0/drive1") as second,
    ):
        for job in (first, second):
            job.start_backup(str(tree), HIST="n")
        for job in (first, second):
            assert job.data.data_halted(deadline_s=SETTLE_S) == DataHaltReason.SUCCESSFUL
            job.data.hang_up()
    for number in (1, 2):
        assert entries(job_of(server, number)) == KNOWN
        assert Counter(event for _, event, _ in events(server, number))["End"] == 1
    drives = {
        information for number in (1, 2) for _, event, information in events(server, number) if event == "Tape_open"
    }
    assert drives == {"vtl0/drive0", "vtl0/drive1"}


def test_switched_off_and_on_again(make_server: MakeServer, login: Login, tree: Path) -> None:
    server = make_server("server", node="backup_log_enable = false")
    back_up(server, server, login, tree, b"dump", HIST="n")
    assert not log_of(server).exists()
    assert job_of(server, 1)["state"] == "successful"
    text = server.config.read_text()
    server.config.write_text(text.replace("backup_log_enable = false", "backup_log_enable = true"))
    os.kill(server.pid, signal.SIGHUP)
    settle(lambda: log_of(server).exists(), "the configuration is read again", SETTLE_S)
    back_up(server, server, login, tree, b"dump", HIST="n")
    assert events(server, 1) == []
    assert events(server, 2)[-1][1] == "End"


def test_a_log_that_cannot_be_written_costs_no_job(
    make_server: MakeServer, login: Login, tree: Path, shm: Path
) -> None:
    (shm / "server" / "state" / "backup.log").mkdir(parents=True)
    server = make_server("server")
    back_up(server, server, login, tree, b"dump", HIST="n")
    assert job_of(server, 1)["state"] == "successful"
    assert server.log.read_text(errors="replace").count("backup log cannot be written") == 1


def test_errors_are_listed_with_their_causes(local: Server, login: Login, shm: Path) -> None:
    root = shm / "in the way"
    root.mkdir()
    for number in range(300):
        (root / f"{number:03}").write_bytes(b"x")
    back_up(local, local, login, root, b"dump", HIST="n")
    for number in range(300):
        (shm / "target" / f"{number:03}").mkdir(parents=True)
    with Job.connect(local, local, login) as job:
        job.start_recover(str(root), str(shm / "target"))
        assert job.data.data_halted(deadline_s=SETTLE_S) == DataHaltReason.SUCCESSFUL
        job.data.hang_up()
    recover = job_of(local, 2)
    (cause,) = recover["error-causes"]
    assert (cause["cause"], cause["count"], len(cause["paths"])) == ("EISDIR", 300, 10)
    told = [information for _, event, information in events(local, 2) if event == "Error"]
    assert len(told) == 101
    assert told[-1] == "200 further errors, not listed"
    assert json.loads(json.dumps(recover)) == recover
