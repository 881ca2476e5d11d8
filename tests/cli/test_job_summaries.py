"""`mover jobs` against a fake control process over a real socket."""

import json

from mover.admin.jobs import ErrorCause, Jobs, JobsReply, JobStatus, SizeClass
from mover.admin.messages import Failed, Reply, Request
from tests.admin.control import FakeControl
from tests.cli.conftest import Run

JOB = JobStatus(
    number=3,
    session_id=7,
    operation="backup",
    backup_type="dump",
    path="/srv/home",
    level=0,
    state="failed",
    text="it ended\nearly",
    started=0.0,
    entries={"directories": 2, "files": 15},
    stream_bytes=4096,
    sizes=[SizeClass(from_bytes=4, to_bytes=7, files=15)],
    errors=4,
    error_causes=[
        ErrorCause(cause="EACCES", count=1, paths=["/srv/home/\x1b[2J"]),
        ErrorCause(cause="EIO", count=3, paths=["/srv/home/a", "/srv/home/b"]),
        ErrorCause(cause="other", count=2),
    ],
    left_out={"excluded": 5},
)


def answer(request: Request) -> Reply:
    assert isinstance(request, Jobs)
    if request.number not in {None, 3}:
        return Failed("not-found", f"there is no record of a job {request.number}")
    return JobsReply([JOB])


def test_a_line_each(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer) as control:
        result = mover("jobs")
        assert control.requests == [Jobs(None)]
    heading, row = result.stdout.splitlines()
    assert heading.split()[:3] == ["job-id", "vserver", "operation"]
    assert row.split()[:6] == ["3", "-", "backup", "dump", "0", "failed"]
    assert row.split()[-4:] == ["17", "4096", "4", "/srv/home"]


def test_all_of_one(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        result = mover("jobs", "--job-id", "3")
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert "text: it ended\\nearly" in lines
    assert "started: 1970-01-01 00:00:00 UTC" in lines
    assert "entries: directories 2, files 15" in lines
    assert "left-out: excluded 5" in lines
    assert lines[lines.index("1 error: EACCES, first of them:") + 1] == "/srv/home/\\x1b[2J"
    at = lines.index("3 errors: EIO, first of them:")
    assert lines[at + 1 : at + 3] == ["/srv/home/a", "/srv/home/b"]
    assert lines[-1] == "2 errors: other"


def test_none_and_one_that_is_not_there(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        missing = mover("jobs", "--job-id", "4")
    assert (missing.exit_code, missing.stderr) == (1, "mover: there is no record of a job 4\n")
    with FakeControl(socket_path + "2", lambda _: JobsReply([])):
        none = mover("jobs", "--admin-socket", socket_path + "2")
    assert (none.exit_code, none.stdout) == (0, "no jobs\n")


def test_json(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        result = mover("jobs", "--job-id", "3", "--json")
    (told,) = json.loads(result.stdout)["jobs"]
    assert told["error-causes"][0] == {"cause": "EACCES", "count": 1, "paths": ["/srv/home/\x1b[2J"]}
    assert told["sizes"] == [{"from-bytes": 4, "to-bytes": 7, "files": 15}]
