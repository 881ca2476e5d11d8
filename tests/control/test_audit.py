"""The audit log: lines that are whole, of bounded length, in files that are kept."""

import json
import os
import stat
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from mover.control.audit import NAME, VALUE_MAX, AuditLog
from mover.control.line_file import LineFile
from mover.control.stranger_pace import OF_ONE_MAX, PERIOD_S


def test_an_event_is_one_line_whatever_is_in_it(tmp_path: Path) -> None:
    audit = AuditLog(str(tmp_path))
    audit.event("login", user='a\n{"event": "login"}', session=7, good=True, text=None)
    audit.event("open", device="x" * 5000)
    first, second = (json.loads(line) for line in (tmp_path / NAME).read_text().splitlines())
    assert set(first) == {"time", "event", "user", "session", "good", "text"}
    assert (first["user"], first["session"], first["good"], first["text"]) == ('a\n{"event": "login"}', 7, True, None)
    assert len(second["device"]) == VALUE_MAX
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


async def test_strangers_cannot_push_others_out(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    audit = AuditLog(str(tmp_path))
    audit.event("login", result="accepted", user="operator")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(audit.run)
        told = [audit.stranger("connect", f"2001:db8::{number:x}", result="refused") for number in range(1_000)]
        audit.stranger("login", "192.0.2.7", result="refused", user="nobody")
        await trio.sleep(PERIOD_S + 1)
        audit.stranger("connect", "2001:db8::1", result="refused")
        nursery.cancel_scope.cancel()
    assert told == [True] * OF_ONE_MAX + [False] * (1_000 - OF_ONE_MAX)
    lines = [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()]
    assert len(lines) == 1 + OF_ONE_MAX + 3
    for line in lines:
        del line["time"]
    assert lines[0] == {"event": "login", "result": "accepted", "user": "operator"}
    assert lines[-3:] == [
        {"event": "login", "client": "192.0.2.7", "result": "refused", "user": "nobody"},
        {"event": "further", "result": "refused", "client": "2001:db8::/64", "count": 1_000 - OF_ONE_MAX},
        {"event": "connect", "client": "2001:db8::1", "result": "refused"},
    ]


async def test_the_end_of_a_server_tells_the_rest(tmp_path: Path) -> None:
    audit = AuditLog(str(tmp_path))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(audit.run)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(OF_ONE_MAX + 2):
            audit.stranger("connect", "192.0.2.7", result="refused")
        nursery.cancel_scope.cancel()
    last = json.loads((tmp_path / NAME).read_text().splitlines()[-1])
    assert (last["event"], last["client"], last["count"]) == ("further", "192.0.2.7", 2)


def test_a_long_file_is_begun_anew_and_the_oldest_goes(tmp_path: Path) -> None:
    lines = LineFile("log", str(tmp_path / "f"), size_max=20, old=2)
    for number in range(8):
        lines.write(b"line %d ..\n" % number)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "f": "line 6 ..\nline 7 ..\n",
        "f.1": "line 4 ..\nline 5 ..\n",
        "f.2": "line 2 ..\nline 3 ..\n",
    }


def test_a_line_that_a_crash_cut_off_does_not_take_the_next_with_it(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"half a li")
    LineFile("log", str(tmp_path / "f"), size_max=1000, old=1).write(b"whole\n")
    assert (tmp_path / "f").read_bytes() == b"half a li\nwhole\n"


def test_a_full_disk_leaves_no_half_line_and_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = AuditLog(str(tmp_path))
    audit.event("first")
    whole = (tmp_path / NAME).read_bytes()
    write, calls = os.write, 0

    def fills_up(fd: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls % 2:
            return write(fd, data[:5])
        raise OSError(28, "No space left on device")

    with capture_logs() as logs:
        monkeypatch.setattr(os, "write", fills_up)
        audit.event("second")
        audit.event("third")
        monkeypatch.undo()
        assert (tmp_path / NAME).read_bytes() == whole
        audit.event("fourth")
    assert [each["event"] for each in logs] == [
        "audit log cannot be written, lines are lost", "audit log is written again",
    ]  # fmt: skip
    assert len((tmp_path / NAME).read_text().splitlines()) == 2
