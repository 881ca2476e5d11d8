"""The records of jobs on disk: what a crash or a full disk leaves does not pile up."""

import os
from pathlib import Path

import pytest

from mover.admin.jobs import JobStatus
from mover.config import Node
from mover.control.job_book import JobBook, Record


def book(directory: Path) -> JobBook:
    return JobBook(Node(name="n", state_directory=str(directory), volumes={"v": "/srv"}))


def record(number: int) -> Record:
    job = JobStatus(
        number=number, session_id=1, operation="backup", backup_type="dump", path="/srv", level=0, client_addr="",
        started=1.0,
    )  # fmt: skip
    return Record(job, "dmp", f"/srv/({number})", logged=False)


def test_half_a_record_of_a_killed_server_goes_at_the_next_start(tmp_path: Path) -> None:
    first = book(tmp_path)
    first.save(record(1))
    (tmp_path / "jobs/0000000002.json.new").write_bytes(b"{")
    again = book(tmp_path)
    again.open()
    assert os.listdir(tmp_path / "jobs") == ["0000000001.json"]
    assert [job.state for job in again.jobs({})] == ["interrupted"]


def test_a_record_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", full)
        book(tmp_path).save(record(1))
    assert os.listdir(tmp_path / "jobs") == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"job": {"path": "\xff"}}', b'{"more": ' + b"[" * 100_000], ids=range(4)
)
def test_a_damaged_record_keeps_no_server_from_its_start(tmp_path: Path, content: bytes) -> None:
    first = book(tmp_path)
    first.save(record(1))
    first.save(record(2))
    (tmp_path / "jobs/0000000001.json").write_bytes(content)
    again = book(tmp_path)
    again.open()
    assert [job.number for job in again.jobs({})] == [2]
