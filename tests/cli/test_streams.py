"""Nobody reads what a command prints: the work goes on, and what was to be told only is no success."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mover.admin.messages import Done, Reply, Request
from mover.admin.sessions import LogReply, LogStart, LogStop, Status, StatusReply
from mover.admin.tapes import TapeShowReply
from tests.admin.control import FakeControl

# Ends with a result, as a job of the DMA does, and talks meanwhile.
JOB = """
import sys
import mover.dma
from mover.cli.main import main
from mover.dma import BackupResult, FailedName, ListResult, LogLine, Progress, RecoverResult

async def run_backup(options, *, progress, log):
    progress(Progress("connect"))
    log(LogLine("warning", "a file shrank"))
    progress(Progress("transfer", 1 << 20))
    return BackupResult(job=3, bytes_processed=1, files=7, elapsed_s=2.0, tape_file=1, cartridges=[], record_size=65536,
                        protocol_version=4, env=[], warnings=[], log=[])

async def run_recover(options, *, progress, log):
    await run_backup(options, progress=progress, log=log)
    failed = [FailedName(b"a", "FAILED_NOT_FOUND")] if options.names else []
    return RecoverResult(requested=1, recovered=0, failed=failed, bytes_processed=1, elapsed_s=2.0, tape_file=1,
                         protocol_version=4, warnings=[], log=[])

async def run_list(options, *, progress, log):
    return ListResult([], [])

mover.dma.run_backup, mover.dma.run_recover, mover.dma.run_list = run_backup, run_recover, run_list
main(sys.argv[1:], prog_name="mover")
"""
MOVER = "import sys; from mover.cli.main import main; main(sys.argv[1:], prog_name='mover')"
GONE = ["closed", "broken"]

pytestmark = pytest.mark.slow  # a process for each

Ended = tuple[int, bytes, bytes]  # exit status, standard output, standard error
Play = Callable[..., Ended]


@pytest.fixture
def play(socket_path: str, tmp_path: Path) -> Iterator[Play]:
    """Runs a program with descriptors that are closed, a pipe without a reader, or a full device."""
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("geheim\n")
    reader, broken = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    names = {"closed": "&-", "broken": f"&{broken}", "full": f"&{full}"}

    def run(program: str, *arguments: str, **streams: str) -> Ended:
        numbers = {"stdin": "<", "stdout": ">", "stderr": "2>"}
        redirections = " ".join(numbers[stream] + names[how] for stream, how in streams.items())
        done = subprocess.run(
            ["bash", "-c", f'exec "$@" {redirections}', "bash", sys.executable, "-c", program, *arguments],
            env={**os.environ, "MOVER_ADMIN_SOCKET": socket_path, "MOVER_PASSWORD_FILE": str(password)},
            pass_fds=(broken, full), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    yield run
    os.close(broken)
    os.close(full)


LOGIN = ["--host", "h", "--drive", "d", "--user", "u"]
BACKUP = ["backup", "/srv", *LOGIN]
TOLD = b"job 3: 1 B in 0:00:02, 0 B/s, 7 names, tape file 1, warnings: 0\n"
PROGRESS = b"connecting\nwarning: a file shrank\ntransferring, 1.0 MiB\n"


@pytest.mark.parametrize("how", [*GONE, "full"])
def test_a_job_goes_on_when_nobody_reads_its_progress(play: Play, how: str) -> None:
    assert play(JOB, *BACKUP, stderr=how) == (0, TOLD, b"")
    assert play(JOB, "recover", *LOGIN, "a", stderr=how)[0] == 1


@pytest.mark.parametrize("how", [*GONE, "full"])
def test_a_job_that_is_done_is_done_when_nobody_reads_its_result(play: Play, how: str) -> None:
    assert play(JOB, *BACKUP, stdout=how) == (0, b"", PROGRESS)
    assert play(JOB, *BACKUP, "--json", stdout=how) == (0, b"", b"")
    assert play(JOB, "recover", *LOGIN, stdout=how)[0] == 0
    assert play(JOB, "recover", *LOGIN, "a", stdout=how)[0] == 1
    assert play(JOB, *BACKUP, stdin="closed", stdout=how, stderr=how) == (0, b"", b"")


def answer(request: Request) -> Reply:
    match request:
        case Status():
            return StatusReply([])
        case LogStart() | LogStop():
            return LogReply(1, "/state/log", "all", messages=0, left_out=0, bytes=0, writing=True)
        case _:
            return TapeShowReply([], []) if type(request).__name__ == "TapeShow" else Done("done", [])


@pytest.mark.parametrize("how", GONE)
@pytest.mark.parametrize(
    "arguments",
    [["status"], ["status", "--json"], ["probe"], ["tape", "show"], ["list"], ["--help"], ["status", "--help"]],
    ids=" ".join,
)
def test_a_command_that_only_tells_ends_quietly(play: Play, socket_path: str, arguments: list[str], how: str) -> None:
    with FakeControl(socket_path, answer):
        assert play(JOB, *arguments, stdout=how) == (1, b"", b"")


def test_a_full_device_is_told(play: Play, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        assert play(MOVER, "status", stdout="full") == (1, b"", b"mover: standard output: No space left on device\n")


@pytest.mark.parametrize("how", GONE)
@pytest.mark.parametrize(
    "arguments",
    [
        ["kill", "--session-id", "1"],
        ["log", "start", "--session-id", "1", "--advanced"],
        ["log", "stop", "--session-id", "1", "--advanced", "--json"],
        ["tape", "load", "d"],
        ["tape", "unload", "d", "--json"],
    ],
    ids=" ".join,
)
def test_what_was_done_is_done(play: Play, socket_path: str, arguments: list[str], how: str) -> None:
    with FakeControl(socket_path, answer) as control:
        assert play(MOVER, *arguments, stdout=how) == (0, b"", b"")
    assert len(control.requests) == 1


@pytest.mark.parametrize("how", GONE)
def test_the_exit_status_stays_when_nobody_reads_why(play: Play, how: str) -> None:
    assert play(MOVER, "status", stderr=how) == (3, b"", b"")
    assert play(MOVER, "reboot", stderr=how) == (2, b"", b"")
    assert play(MOVER, *BACKUP, "--password-file", "/none/there", stderr=how) == (1, b"", b"")


def test_nobody_can_be_asked_for_the_password_without_standard_input(play: Play) -> None:
    program = "import os; del os.environ['MOVER_PASSWORD_FILE']\n" + MOVER
    status, told, errors = play(program, *BACKUP, stdin="closed")
    assert (status, told) == (2, b"")
    assert b"--password-file" in errors
    assert b"Traceback" not in errors
