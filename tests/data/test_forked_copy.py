"""Forked copies of a worker: neither its end nor its work waits for one that is stopped."""

import os
import signal
import subprocess
import sys

import pytest

from mover.data.forked_copy import fork_copy, wait_for_copy
from tests.support.processes import is_gone, settle

DEADLINE_S = 60.0
_WORKER = """
import os, signal, time
from mover.data.forked_copy import fork_copy
copy = fork_copy(lambda: os.kill(os.getpid(), signal.SIGSTOP))
os.waitpid(copy, os.WUNTRACED)
print(copy, flush=True)
time.sleep(600)
"""


def forked(*, stopped: bool = False) -> int:
    """A copy of this process that leaves at once, or stands still."""
    process = fork_copy(lambda: os.kill(os.getpid(), signal.SIGSTOP) if stopped else None)
    if stopped:
        os.waitpid(process, os.WUNTRACED)
    return process


def test_one_that_is_stopped_goes_with_its_worker() -> None:
    with subprocess.Popen([sys.executable, "-c", _WORKER], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        copy = int(worker.stdout.readline())
        worker.kill()
        worker.wait(DEADLINE_S)
    settle(lambda: is_gone(copy), "no copy", DEADLINE_S)


def test_one_that_leaves_is_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    process = forked()
    wait_for_copy(process, DEADLINE_S)
    with pytest.raises(ChildProcessError):
        os.waitpid(process, os.WNOHANG)
    assert capfd.readouterr().err == ""


def test_one_that_is_stopped_is_killed(capfd: pytest.CaptureFixture[str]) -> None:
    process = forked(stopped=True)
    wait_for_copy(process, 0.05)
    with pytest.raises(ChildProcessError):
        os.waitpid(process, os.WNOHANG)
    assert capfd.readouterr().err == "a forked copy does not get on and is killed: its worker goes on alone\n"


def test_without_a_descriptor_it_is_killed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise OSError(24, "too many open files")

    process = forked(stopped=True)
    monkeypatch.setattr(os, "pidfd_open", refuse)
    wait_for_copy(process, DEADLINE_S)
    with pytest.raises(ChildProcessError):
        os.waitpid(process, os.WNOHANG)


def test_its_error_is_told_and_is_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    process = fork_copy(lambda: os.close(-1))
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert capfd.readouterr().err.endswith("OSError: [Errno 9] Bad file descriptor\n")
