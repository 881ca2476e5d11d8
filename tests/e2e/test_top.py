"""`mover top` on real terminals against a real server: a job appears, is ended, and its last figures are right."""

import os
import pty
import re
import select
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any  # Any: the fields of a row

import msgspec
import pytest

from mover.ndmp.enums import MoverMode
from mover.ndmp.messages import DataStartBackupRequest
from tests.support.ndmp_client import Job, NdmpClient, pairs
from tests.support.servers import Login, Server
from tests.support.terminals import Terminal
from tests.support.trees import make_large_file, make_small_files

pytestmark = [pytest.mark.slow, pytest.mark.peer("tmux"), pytest.mark.timeout(400)]

WINDOW = 1 << 20  # the mover pauses behind it, and the job stands until its DMA says more


def start_standing_job(job: Job, source: Path) -> None:
    """A backup that goes on to the end of the mover's window, and stays there."""
    job.connect_data(MoverMode.READ, window_length=WINDOW)
    job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source), HIST="n")))


def only(document: dict[str, object], rows: str) -> dict[str, Any]:
    """The one row of a document's table."""
    ((row,),) = msgspec.convert([document[rows]], list[list[dict[str, Any]]])
    return row


def top(server: Server, columns: int, lines: int, *options: str, **environment: str | None) -> Terminal:
    return Terminal(server.command("top", *options), columns, lines, {"LC_ALL": "C.UTF-8"} | environment)


def in_table(screen: str, title: str) -> bool:
    """Whether the table of that name is the one that is seen, or one of those."""
    return f" {title}]" in screen or re.search(rf"^ {title} |  {title} ", screen, re.MULTILINE) is not None


@pytest.fixture
def source(shm: Path) -> Path:
    directory = shm / "source"
    directory.mkdir()
    make_large_file(directory / "large", size=32 << 20)
    return directory


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (160, 50)])
def test_a_job_appears_and_is_ended_by_a_key(
    local: Server, login: Login, source: Path, columns: int, lines: int
) -> None:
    with Job.connect(local, local, login) as job, top(local, columns, lines) as terminal:
        terminal.wait_for(lambda screen: "no jobs" in screen and "live" in screen)
        start_standing_job(job, source)
        screen = terminal.wait_for(lambda screen: "backup" in screen and "> " in screen)
        assert "hung" not in screen
        session = only(local.ask("top"), "sessions")
        session_id = session["session-id"]
        terminal.press("k")
        screen = terminal.wait_for(f"End session {session_id}?")
        assert "of " + str(source)[:30] in screen
        assert "drive vtl0/drive0" in screen
        terminal.press("n")
        terminal.wait_for(lambda screen: "End session" not in screen)
        assert local.ask("top")["sessions"]
        terminal.press("k")
        terminal.wait_for("End session")
        terminal.press("y")
        terminal.wait_for(lambda screen: f"session {session_id} is ended" in screen and "no jobs" in screen)
        assert local.ask("top")["sessions"] == []
        terminal.press("q")
        terminal.wait_for("ended with 0")


def test_the_last_figures_are_those_of_the_summary(local: Server, login: Login, shm: Path) -> None:
    tree = shm / "tree"
    make_small_files(tree, files=3000, directories=20, seed=7)
    with top(local, 80, 40, "--interval", "0.2") as terminal:
        terminal.wait_for("no jobs")
        with Job.connect(local, local, login) as job:
            job.start_backup(str(tree), HIST="y")
            terminal.wait_for(lambda screen: "[1 Jobs 1]" in screen or "6 Ended 1" in screen)
            job.data.data_halted()
            terminal.wait_for("6 Ended 1")
            terminal.press("6")
            terminal.wait_for("successful")
            terminal.press("Enter")
            screen = terminal.wait_for("stream-bytes")
            probed = only(local.ask("probe"), "sessions")
            job.data.hang_up()
        told = {
            name.strip(): value.strip()
            for name, colon, value in (line.partition(":") for line in screen.splitlines())
            if colon
        }
        summary = only(local.ask("jobs", "--job-id", told["number"]), "jobs")
        document = local.ask("top")
        ended = only(document, "ended-jobs")
        entries = sum(summary["entries"].values())
        assert entries >= 3020
        for figures in (told, ended):
            assert int(figures["stream-bytes"]) == summary["stream-bytes"] == probed["data-bytes-processed"]
            assert int(figures["entries"]) == entries
            assert int(figures["errors"]) == summary["errors"] == 0
            assert int(figures["history-entries"]) == summary["history-entries"]
        terminal.press("q")
        terminal.wait_for("[6 Ended 1]")
        terminal.press("q")
        terminal.wait_for("ended with 0")


def test_the_figures_of_a_job_that_stands_are_those_of_probe(local: Server, login: Login, source: Path) -> None:
    with Job.connect(local, local, login) as job, top(local, 80, 60) as terminal:
        start_standing_job(job, source)
        terminal.wait_for("[1 Jobs 1]")
        terminal.press("Enter")
        terminal.wait_for("PAUSED")  # the mover's state, of probe
        screen = terminal.wait_for(f"mover-bytes-moved: {WINDOW}\n")
        assert f"path: {source}" in screen
        probed = only(local.ask("probe"), "sessions")
        assert probed["mover-bytes-moved"] == WINDOW
        terminal.press("C-c")
        terminal.wait_for("ended with 0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(local: Server, number: signal.Signals) -> None:
    with top(local, 80, 24) as terminal:
        terminal.wait_for("no jobs")
        terminal.signal(number)
        screen = terminal.wait_for("ended with 0")
        assert "mover 0" not in screen  # the other screen is gone
        assert screen.strip() == "ended with 0"


def test_a_server_that_ends_and_is_started_again(local: Server) -> None:
    with top(local, 80, 24, "--interval", "0.2") as terminal:
        terminal.wait_for("live")
        local.stop()
        screen = terminal.wait_for("NO ANSWER")
        assert "trying again" in screen
        with Server(local.config):
            terminal.wait_for("live")
            terminal.press("q")
            terminal.wait_for("ended with 0")


def test_without_colour_without_unicode_and_on_another_size(local: Server) -> None:
    colours = re.compile(r"\x1b\[[\d;]*\b(?:3[0-8]|4[0-8]|9\d|10[0-7])\b[\d;]*m")
    with top(local, 80, 24, NO_COLOR="1", LC_ALL="C") as terminal:
        terminal.wait_for("[1 Jobs 0]")
        terminal.press("3")
        terminal.wait_for("template-data")
        assert terminal.screen().isascii()
        assert colours.search(terminal.screen(attributes=True)) is None
        terminal.resize(160, 50)
        screen = terminal.wait_for("Ended 0, by ended")
        assert in_table(screen, "Rings")
        assert screen.isascii()
        assert colours.search(terminal.screen(attributes=True)) is None
        terminal.resize(80, 24)
        terminal.wait_for("[3 Processes")


def test_status_that_is_watched_stays_in_place(local: Server, login: Login) -> None:
    command = local.command("status", "--watch", "--interval", "0.1", "--fields", "session-id,elapsed-seconds")
    with Terminal(command, 80, 24, {"LC_ALL": "C.UTF-8"}) as terminal:
        terminal.wait_for("no sessions")
        with NdmpClient(local.address, login=login) as client:
            screen = terminal.wait_for("elapsed-seconds")
            terminal.wait_for(lambda later: "elapsed-seconds" in later and later != screen)
            assert terminal.screen().count("elapsed-seconds") == 1
            client.hang_up()
        terminal.wait_for("no sessions")
        terminal.press("C-c")
        terminal.wait_for("ended with 0")


def test_it_is_suspended_and_goes_on(local: Server) -> None:
    with Terminal(
        ["bash", "--norc", "-i"], 80, 24, {"LC_ALL": "C.UTF-8", "PS1": "prompt: ", "HISTFILE": ""}
    ) as terminal:
        terminal.wait_for("prompt:")
        terminal.press(shlex.join(local.command("top")), "Enter")
        terminal.wait_for("live")
        terminal.press("C-z")
        assert "live" not in terminal.wait_for("Stopped")
        terminal.press("fg", "Enter")
        terminal.wait_for("live")
        terminal.press("q")
        terminal.wait_for(lambda screen: screen.rstrip().endswith("prompt:"))
        terminal.press("exit", "Enter")
        terminal.wait_for("ended with 0")


def test_a_terminal_that_has_gone_ends_it(local: Server) -> None:
    """As when a connection breaks: nobody is left to press q."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        ["setsid", "-c", *local.command("top")], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    try:
        drawn = b""
        while b"live" not in drawn:
            assert select.select([ours], [], [], 60)[0]
            drawn += os.read(ours, 65536)
        os.close(ours)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
