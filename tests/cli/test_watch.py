"""`mover status --watch`: blocks, documents, a control process that goes and comes, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mover.admin.messages import Failed, Reply, Request
from mover.admin.sessions import SessionStatus, StatusReply
from tests.admin.control import FakeControl
from tests.cli.conftest import Run

Sleep = Callable[[float], None]
Waits = Callable[..., list[float]]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """At each wait between two looks something is done, and behind that Ctrl-C; returns the times."""

    def at_each(*what: Callable[[], object]) -> list[float]:
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) > len(what):
                raise KeyboardInterrupt
            what[len(slept) - 1]()

        monkeypatch.setattr("mover.cli.watch.time.sleep", sleep)
        return slept

    return at_each


class Counting:
    """A session whose bytes grow with each look."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self, _: Request) -> Reply:
        self.looks += 1
        return StatusReply([SessionStatus(session_id=3, data_bytes_processed=self.looks, data_path="/a\x1b[31m[red]")])


def nothing() -> None:
    """Between two looks."""


def test_a_block_each_interval_until_ctrl_c(mover: Run, socket_path: str, waits: Waits) -> None:
    slept = waits(nothing, nothing)
    with FakeControl(socket_path, Counting()):
        result = mover("status", "--watch", "--interval", "7", "--fields", "data-bytes-processed,data-path")
    assert (result.exit_code, result.stderr) == (0, "")
    assert slept == [7.0, 7.0, 7.0]
    blocks = result.stdout.split("\n\n")
    assert blocks.pop() == ""
    assert len(blocks) == 3
    for number, block in enumerate(blocks, 1):
        heading, columns, row = block.splitlines()
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d, every 7 s", heading)
        assert columns.split() == ["data-bytes-processed", "data-path"]
        assert row.split() == [str(number), r"/a\x1b[31m[red]"]


def test_json_is_a_document_a_line(mover: Run, socket_path: str, waits: Waits) -> None:
    assert waits(nothing) == []
    with FakeControl(socket_path, Counting()):
        result = mover("status", "--watch", "--json", "--fields", "session-id,data-bytes-processed")
    assert result.exit_code == 0
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each.pop("time") > 1.7e9 for each in documents] == [True, True]
    assert documents == [
        {"sessions": [{"session-id": 3, "data-bytes-processed": looks}], "hung-devices": []} for looks in (1, 2)
    ]


@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
def test_a_control_process_that_goes_and_comes_again(mover: Run, socket_path: str, waits: Waits, as_json: bool) -> None:
    first, second = FakeControl(socket_path, Counting()), []

    def end() -> None:
        first.__exit__(None, None, None)
        os.unlink(socket_path)

    def begin() -> None:
        second.append(FakeControl(socket_path, Counting()).__enter__())

    waits(end, begin)
    first.__enter__()
    try:
        result = mover("status", "--watch", "--fields", "session-id", *(["--json"] if as_json else []))
    finally:
        for each in second:
            each.__exit__(None, None, None)
    assert (result.exit_code, result.stderr) == (0, "")
    gone = f"no control process at {socket_path}: No such file or directory"
    if as_json:
        documents = [json.loads(line) for line in result.stdout.splitlines()]
        assert [each.get("error") for each in documents] == [None, gone, None]
    else:
        blocks = result.stdout.split("\n\n")
        assert [block.splitlines()[-1].strip() for block in blocks[:-1]] == ["3", f"trying again: {gone}", "3"]


def test_a_session_that_is_gone_ends_it(mover: Run, socket_path: str, waits: Waits) -> None:
    replies: list[Reply] = [StatusReply([SessionStatus(session_id=3)]), Failed("not-found", "there is no session 3")]
    waits(nothing)
    with FakeControl(socket_path, lambda _: replies.pop(0)):
        result = mover("status", "--watch", "--session-id", "3")
    assert (result.exit_code, result.stderr) == (1, "mover: there is no session 3\n")


def test_without_a_control_process_it_does_not_begin(mover: Run) -> None:
    assert mover("status", "--watch").exit_code == 3


@pytest.mark.parametrize("options", [["--interval", "1"], ["--watch", "--interval", "0"]])
def test_wrong_usage(mover: Run, options: list[str]) -> None:
    assert mover("status", *options).exit_code == 2


def test_signals_end_it_and_are_left_as_they_were(mover: Run, socket_path: str, waits: Waits) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    for number in (signal.SIGTERM, signal.SIGHUP):
        waits(lambda number=number: signal.raise_signal(number))
        with FakeControl(socket_path, Counting()):
            assert mover("status", "--watch").exit_code == 0
        os.unlink(socket_path)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == before


@pytest.mark.slow
def test_nobody_reads_any_more(socket_path: str, tmp_path: Path) -> None:
    with FakeControl(socket_path, Counting()):
        command = [
            str(Path(sys.executable).parent / "mover"),
            *("status", "--watch", "--interval", "0.1", "--admin-socket", socket_path),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout, process.stderr:
            assert process.stdout.readline()
            process.stdout.close()
            assert process.wait(60) == 1
            assert process.stderr.read() == b""
