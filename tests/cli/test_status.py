"""status, probe and kill against a fake control process over a real socket."""

import json

from mover.admin.messages import Done, Failed, Reply, Request
from mover.admin.sessions import SESSION_FIELDS, HungDevice, Kill, SessionStatus, Status, StatusReply, WorkerStatus
from tests.admin.control import FakeControl
from tests.cli.conftest import Run

SESSIONS = [
    SessionStatus(
        session_id=3,
        client_addr="127.0.0.1",
        ndmp_version=4,
        session_authorized=True,
        data_state="ACTIVE",
        data_operation="BACKUP",
        mover_state="ACTIVE",
        tape_device="vtl0/drive0",
        data_bytes_processed=1048576,
        elapsed_seconds=1.25,
        bottleneck="tape",
        data_path="/srv/a\nb",
        workers=[
            WorkerStatus(pid=71, kind="data", cpu_percent=97.5, rss_bytes=1000, read_bytes=5, write_bytes=6),
            WorkerStatus(pid=72, kind="tape"),
        ],
    ),
    SessionStatus(session_id=12, client_addr="10.0.0.7", data_state="IDLE", mover_state="IDLE"),
]


def answer(request: Request) -> Reply:
    if isinstance(request, Status):
        chosen = [each for each in SESSIONS if request.session_id in {None, each.session_id}]
        return StatusReply(chosen) if chosen else Failed("not-found", f"no session {request.session_id}")
    assert isinstance(request, Kill)
    return Done(f"session {request.session_id} ended") if request.session_id == 3 else Failed("busy", "stuck")


def test_status_is_a_line_each(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        result = mover("status")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["vserver", "session-id", "client-addr", "ndmp-version", "data-operation", "data-state", "mover-mode",
         "mover-state", "tape-device", "data-bytes-processed", "mover-bytes-moved", "elapsed-seconds",
         "bottleneck", "data-path"],
        ["-", "3", "127.0.0.1", "4", "BACKUP", "ACTIVE", "-", "ACTIVE", "vtl0/drive0", "1048576", "0", "1.2", "tape",
         r"/srv/a\nb"],
        ["-", "12", "10.0.0.7", "0", "-", "IDLE", "-", "IDLE", "-", "0", "0", "0.0", "idle", "-"],
    ]  # fmt: skip


def test_fields_and_filters(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer) as control:
        one = mover("status", "--session-id", "12", "--fields", "client-addr,session-id")
        filtered = mover("status", "--data-state", "active", "--fields", "session-id,workers")
        none = mover("status", "--data-state", "HALTED")
        missing = mover("status", "--session-id", "9")
        wrong = mover("status", "--fields", "session-id,colour")
    assert one.stdout == "client-addr  session-id\n10.0.0.7             12\n"
    assert filtered.stdout == "session-id  workers\n         3  data 71, tape 72\n"
    assert (none.exit_code, none.stdout) == (0, "no sessions\n")
    assert (missing.exit_code, missing.stderr) == (1, "mover: no session 9\n")
    assert wrong.exit_code == 2
    assert "'colour' is not one of" in wrong.stderr
    assert control.requests == [Status(12), Status(), Status(), Status(9)]


def test_json_has_every_field_in_order(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        result = mover("status", "--json")
        probe = mover("probe", "--session-id", "3", "--fields", "data-state,workers", "--json")
    sessions = json.loads(result.stdout)["sessions"]
    assert [tuple(session) for session in sessions] == [SESSION_FIELDS, SESSION_FIELDS]
    assert sessions[0]["data-path"] == "/srv/a\nb"
    assert json.loads(probe.stdout) == {
        "sessions": [
            {
                "data-state": "ACTIVE",
                "workers": [
                    {"pid": 71, "kind": "data", "cpu-percent": 97.5, "rss-bytes": 1000, "read-bytes": 5,
                     "write-bytes": 6},
                    {"pid": 72, "kind": "tape", "cpu-percent": 0.0, "rss-bytes": 0, "read-bytes": 0,
                     "write-bytes": 0},
                ],
            }
        ]
    }  # fmt: skip


def test_probe_shows_every_field_and_the_workers(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        result = mover("probe", "--session-id", "3")
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert [line.split(":")[0] for line in lines[:-3]] == list(SESSION_FIELDS[:-1])
    assert "session-authorized: true" in lines
    assert lines[-3].split() == ["worker-pid", "kind", "cpu-percent", "rss-bytes", "read-bytes", "write-bytes"]
    assert lines[-2].split() == ["71", "data", "97.5", "1000", "5", "6"]


def test_kill(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        done = mover("kill", "--session-id", "3")
        as_json = mover("kill", "--session-id", "3", "--json")
        refused = mover("kill", "--session-id", "4")
        usage = mover("kill")
    assert (done.exit_code, done.stdout) == (0, "session 3 ended\n")
    assert json.loads(as_json.stdout) == {"session-id": 3, "text": "session 3 ended"}
    assert (refused.exit_code, refused.stdout, refused.stderr) == (1, "", "mover: stuck\n")
    assert usage.exit_code == 2


def test_devices_that_hang_are_told_of_first(mover: Run, socket_path: str) -> None:
    hung = [HungDevice(name="lto0", hung_since=1.5), HungDevice(name="mc0", hung_since=2.0)]
    with FakeControl(socket_path, lambda _: StatusReply([], hung)):
        plain = mover("status")
        as_json = mover("status", "--json")
    first, second, last = plain.stdout.splitlines()
    assert first.startswith("lto0 is hung since 19")
    assert second.startswith("mc0 is hung since 19")
    assert last == "no sessions"
    assert json.loads(as_json.stdout) == {
        "sessions": [],
        "hung-devices": [{"name": "lto0", "hung-since": 1.5}, {"name": "mc0", "hung-since": 2.0}],
    }
