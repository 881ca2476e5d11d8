"""`mover log` against a fake control process over a real socket."""

import json

from mover.admin.messages import Failed, Reply, Request
from mover.admin.sessions import LogReply, LogStart, LogStop
from tests.admin.control import FakeControl
from tests.cli.conftest import Run

PATH = "/state/protocol-logs/session-3.jsonl"


def answer(request: Request) -> Reply:
    assert isinstance(request, (LogStart, LogStop))
    if request.session_id != 3:
        return Failed("not-found", f"there is no session {request.session_id}")
    if isinstance(request, LogStart):
        return LogReply(3, PATH, request.filter, 0, 0, 200, writing=True)
    return LogReply(3, PATH, "all", 17, 2, 9000, writing=False)


def test_start_and_stop_print_where_the_log_is(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer) as control:
        started = mover("log", "start", "--session-id", "3", "--filter", "all-fh", "--advanced")
        stopped = mover("log", "stop", "--session-id", "3", "--advanced")
        missing = mover("log", "stop", "--session-id", "4", "--advanced")
        assert control.requests == [LogStart(3, "all-fh"), LogStop(3), LogStop(4)]
    assert (started.exit_code, started.stdout) == (0, f"session 3 is logged to {PATH}\n")
    assert stopped.stdout == f"17 messages of session 3 are in {PATH}, 2 came too fast and are not\n"
    assert (missing.exit_code, missing.stderr) == (1, "mover: there is no session 4\n")


def test_json(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        result = mover("log", "start", "--session-id", "3", "--advanced", "--json")
    assert json.loads(result.stdout) == {
        "session-id": 3, "path": PATH, "filter": "all", "messages": 0, "left-out": 0, "bytes": 200, "writing": True,
    }  # fmt: skip


def test_the_advanced_privilege_is_asked_for_and_a_filter_is_checked(mover: Run) -> None:
    plain = mover("log", "start", "--session-id", "3")
    assert plain.exit_code == 2
    assert "add --advanced" in plain.stderr
    wrong = mover("log", "start", "--session-id", "3", "--advanced", "--filter", "backend")
    assert wrong.exit_code == 2
    assert "words joined by + and -" in wrong.stderr
