"""One command: its end, its deadline, what it says, what becomes of it when nobody waits any more."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.snapshot.commands import KEPT_BYTES, LINES_MAX, Ended, Stopped, run
from tests.support.processes import is_gone, settle

DEADLINE_S = 60.0
NEVER_S = 600.0


@pytest.fixture
def control() -> Iterator[tuple[int, socket.socket]]:
    """The helper's end of its control socket, and control's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours.fileno(), theirs


def python(text: str, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-c", text, *arguments]


def test_what_a_command_says_and_how_it_ends(control: tuple[int, socket.socket]) -> None:
    assert run(["/bin/sh", "-c", "echo out; echo wrong >&2; exit 3"], DEADLINE_S, control[0]) == Ended(
        3, late=False, lines=["out", "wrong"], whole=True
    )
    assert run(["/bin/true"], DEADLINE_S, control[0]) == Ended(0, late=False, lines=[], whole=True)


@pytest.mark.parametrize(
    ("ended", "failure"),
    [
        (Ended(0, late=False, lines=["fine"], whole=True), ""),
        (Ended(3, late=False, lines=["one", "two"], whole=True), "tool failed (exit status 3): two"),
        (Ended(-9, late=False, lines=[], whole=True), "tool failed (SIGKILL)"),
        (Ended(-15, late=True, lines=["x"], whole=True), "tool did not end within 5 s"),
        (Ended(None, late=True, lines=[], whole=True), "tool did not end within 5 s, and cannot be killed"),
    ],
)
def test_failures_in_words(ended: Ended, failure: str) -> None:
    assert ended.failure(["/sbin/tool", "argument"], 5) == failure


def test_a_command_has_a_clean_start(control: tuple[int, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setenv("SECRET", "x")
    told = python(
        "import os, signal, sys; print(sorted(os.environ.items())); print(sys.stdin.read() == '');"
        "print(os.getcwd(), os.getpgid(0) == os.getpid());"
        "print([signal.getsignal(n) == signal.SIG_DFL for n in (signal.SIGTERM, signal.SIGHUP)])"
    )
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ended = run(told, DEADLINE_S, control[0])
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert ended.lines == [
        str([("HOME", "/root"), ("LC_ALL", "C"), ("LVM_SUPPRESS_FD_WARNINGS", "1"), ("PATH", "/bin:/usr/bin")]),
        "True",
        "/ True",
        "[True, True]",
    ]


def test_a_program_that_is_not_there(control: tuple[int, socket.socket]) -> None:
    ended = run(["/no/such/program"], DEADLINE_S, control[0])
    assert ended.status == 127
    assert ended.lines == ["/no/such/program: No such file or directory"]


def test_of_a_hundred_megabytes_the_end_is_kept(control: tuple[int, socket.socket]) -> None:
    text = "import sys\nfor n in range(100): sys.stdout.write(('x' * 63 + chr(10)) * (1 << 14))\nprint('\\x1b last')"
    ended = run(python(text), NEVER_S, control[0])
    assert (ended.status, ended.whole) == (0, False)
    assert sum(map(len, ended.lines)) <= KEPT_BYTES
    assert len(ended.last_words()) == LINES_MAX
    assert ended.last_words()[-1] == "last"


def test_the_whole_group_ends_at_the_deadline(
    control: tuple[int, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that holds SIGTERM off."""
    monkeypatch.setattr("mover.snapshot.commands.GRACE_S", 0.1)
    note = tmp_path / "child"
    command = ["/bin/sh", "-c", f"trap '' TERM; sleep {NEVER_S} & echo $! > {note}; wait; sleep {NEVER_S}"]
    for timeout_s in (0.5, 5, DEADLINE_S):  # a busy machine may take longer to get it there
        ended = run(command, timeout_s, control[0])
        if note.exists() and note.read_text().endswith("\n"):
            break
    assert (ended.status, ended.late) == (-signal.SIGKILL, True)
    child = int(note.read_text())
    settle(lambda: is_gone(child), "the end of all that the command started", DEADLINE_S)


def test_a_command_ends_where_control_goes(control: tuple[int, socket.socket], tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def go() -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not (note.exists() and note.read_text().endswith("\n")) and time.monotonic() < deadline:
            time.sleep(0.01)
        control[1].close()

    thread = threading.Thread(target=go)
    thread.start()
    with pytest.raises(Stopped):
        run(["/bin/sh", "-c", f"echo $$ > {note}; exec sleep {NEVER_S}"], NEVER_S, control[0])
    thread.join()
    assert is_gone(int(note.read_text()))


def test_what_a_command_leaves_running_is_not_waited_for(control: tuple[int, socket.socket]) -> None:
    ended = run(["/bin/sh", "-c", f"sleep {NEVER_S} & echo $!"], DEADLINE_S, control[0])
    assert (ended.status, ended.late) == (0, False)
    (line,) = ended.lines
    assert not is_gone(int(line))
    os.kill(int(line), signal.SIGKILL)
