"""The backup log and the records of jobs without a server: hostile names, rotation, full disks, crashes, errors."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from mover.admin.jobs import JobStatus
from mover.config.model import Node
from mover.control.backup_log import LINE_MAX, BackupLog, escape, identifier
from mover.control.job_book import INTERRUPTED, JOBS_KEPT, JobBook
from mover.control.job_summary import ERRORS_LISTED, RunningJob, summary_lines
from mover.ndmp.enums import DataHaltReason
from mover.ring import DataGauge, DataPhase, Producer, RingControl
from mover.workers.data_messages import BackupDate, Cause, DataFinished
from mover.workers.messages import LogLine

TIME = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"
LINE = re.compile(rf"(?P<kind>dmp|rst|log) {TIME} (?P<rest>.*)")


def lines(directory: Path, name: str = "backup.log") -> list[str]:
    """What stands in a log behind type and time; every line has the form."""
    found = []
    for line in (directory / name).read_text().splitlines():
        match = LINE.fullmatch(line)
        assert match is not None, line
        found.append(f"{match['kind']} {match['rest']}")
    return found


def of_node(directory: Path, **options: object) -> Node:
    return Node(name="fs1", state_directory=str(directory), **options)  # type: ignore[arg-type]  # passed through


def job(number: int = 1, **fields: object) -> JobStatus:
    known: dict[str, object] = {
        "number": number, "session_id": 1, "operation": "backup", "backup_type": "dump", "path": "/srv/a",
        "started": 1.0,
    }  # fmt: skip
    return JobStatus(**(known | fields))  # type: ignore[arg-type]  # passed through


@pytest.fixture
def ring() -> Iterator[RingControl]:
    control = RingControl(1024, 4)
    yield control
    control.close()


def finished(**fields: object) -> DataFinished:
    known: dict[str, object] = {
        "reason": 1, "text": "", "directories": 0, "files": 0, "errors": 0, "file_bytes": 0, "stream_bytes": 0,
        "history_entries": 0, "env": [],
    }  # fmt: skip
    return DataFinished(**(known | fields))  # type: ignore[arg-type]  # passed through


# --- lines


@given(st.binary(max_size=60))
@example(b"/srv\ndmp Sun Nov 22 14:00:05 UTC 2026 /srv/(1) End (20 MB)")
@example(b"/srv/a(7) End (20 MB)")
@example("/srv/\u202e\x1b[2J\x85\u2028".encode())
@example(b"\\n")
def test_no_name_ends_a_line_or_looks_like_an_event(path: bytes) -> None:
    shown = identifier(path, 12)
    assert shown.isprintable()
    assert " " not in shown
    assert shown.endswith("/(12)")
    assert escape(path).isprintable()


def test_escapes_can_be_told_apart_from_what_they_stand_for() -> None:
    assert escape(b"a\\n") == "a\\\\n"
    assert escape(b"a\n\xff\x1b") == "a\\n\\xff\\x1b"
    assert escape("a b", spaces=True) == "a\\x20b"


def test_a_line_is_bounded(tmp_path: Path) -> None:
    log = BackupLog(str(tmp_path), size_max=1 << 20, old=1)
    log.event("dmp", identifier(b"/" + b"n" * 1_000_000, 1), "Error", "\n" * 1_000_000)
    (line,) = (tmp_path / "backup.log").read_text().splitlines()
    assert len(line) <= LINE_MAX
    assert stat.S_IMODE((tmp_path / "backup.log").stat().st_mode) == 0o600


# --- the file


def test_rotation_keeps_as_many_as_it_is_told(tmp_path: Path) -> None:
    log = BackupLog(str(tmp_path), size_max=300, old=2)
    for number in range(40):
        log.event("dmp", f"/srv/({number})", "Start")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.log", "backup.log.1", "backup.log.2"]
    assert all(path.stat().st_size <= 300 for path in tmp_path.iterdir())
    kept = [line for name in ("backup.log.2", "backup.log.1", "backup.log") for line in lines(tmp_path, name)]
    assert kept == [f"dmp /srv/({number}) Start" for number in range(40 - len(kept), 40)]
    log.old = 0
    for number in range(40):
        log.event("dmp", f"/srv/({number})", "Start")
    assert (tmp_path / "backup.log").stat().st_size <= 300


def test_a_full_disk_costs_whole_lines_and_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = BackupLog(str(tmp_path), size_max=1 << 20, old=1)
    log.event("dmp", "/srv/(1)", "Start")
    write, room = os.write, 10

    def full(fd: int, data: bytes) -> int:
        nonlocal room
        taken = data[:room]
        room -= len(taken)
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, taken)

    with capture_logs() as said:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            for _ in range(5):
                log.event("dmp", "/srv/(1)", "Error", "something")
        assert lines(tmp_path) == ["dmp /srv/(1) Start"]
        log.event("dmp", "/srv/(1)", "End")
    assert lines(tmp_path) == ["dmp /srv/(1) Start", "dmp /srv/(1) End"]
    assert [(each["log_level"], each["event"]) for each in said] == [
        ("error", "backup log cannot be written, lines are lost"),
        ("warning", "backup log is written again"),
    ]


def test_a_line_that_a_crash_has_cut_does_not_swallow_the_next(tmp_path: Path) -> None:
    (tmp_path / "backup.log").write_text("dmp Sun Nov 22 14:00")
    BackupLog(str(tmp_path), size_max=1 << 20, old=1).event("rst", "/srv/(2)", "Start")
    first, second = (tmp_path / "backup.log").read_text().splitlines()
    assert first == "dmp Sun Nov 22 14:00"
    assert LINE.fullmatch(second)


def test_a_log_that_is_a_link_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "backup.log").symlink_to(tmp_path / "other")
    with capture_logs() as said:
        BackupLog(str(tmp_path), size_max=1 << 20, old=1).event("rst", "/srv/(2)", "Start")
    assert not (tmp_path / "other").exists()
    assert len(said) == 1


# --- records


def test_jobs_of_a_killed_server_end_at_the_next_start(tmp_path: Path, ring: RingControl) -> None:
    book = JobBook(of_node(tmp_path))
    book.open()
    for number in (1, 2):
        running = RunningJob(book, job(book.next_number()), b"/srv/a b", ring)
        running.start(0, "TYPE=dump", "vtl0/drive0")
        assert book.jobs({}, number) == []  # the DMA has its reply before files are touched
        running.announce()
        assert book.jobs({}, number)[0].state == "running"
    after = JobBook(of_node(tmp_path))
    after.open()
    assert [(each.number, each.state, each.text) for each in after.jobs({})] == [
        (1, "interrupted", INTERRUPTED),
        (2, "interrupted", INTERRUPTED),
    ]
    assert lines(tmp_path)[-3:] == [
        "log Start_Logging",
        f"dmp /srv/a\\x20b/(1) Abort ({INTERRUPTED})",
        f"dmp /srv/a\\x20b/(2) Abort ({INTERRUPTED})",
    ]
    assert after.next_number() == 3
    again = JobBook(of_node(tmp_path))
    again.open()
    assert lines(tmp_path)[-1] == "log Start_Logging"


def test_the_log_has_the_summary_where_it_is_asked_for(tmp_path: Path, ring: RingControl) -> None:
    book = JobBook(of_node(tmp_path))
    book.open()
    for details in (False, True):
        running = RunningJob(book, job(book.next_number()), b"/srv", ring, details=details)
        running.end(DataHaltReason.SUCCESSFUL, "", finished())
    told = [line for line in lines(tmp_path) if " Statistics " in line]
    assert told
    assert all(line.startswith("dmp /srv/(2) Statistics (") for line in told)
    assert told[0].startswith("dmp /srv/(2) Statistics (entries: ")


@pytest.mark.parametrize("operation", ["backup", "recover"])
def test_every_event_of_a_job(tmp_path: Path, ring: RingControl, operation: str) -> None:
    running = RunningJob(JobBook(of_node(tmp_path)), job(operation=operation), b"/srv", ring)
    is_backup = operation == "backup"
    running.start(2, "TYPE=dump, LEVEL=2", "vtl0/drive0", BackupDate(1, 1_800_000_000) if is_backup else None)
    running.announce()
    if is_backup:
        running.snapshot("mover-x", 1_800_000_100.0)
        for phase in (DataPhase.SCAN, DataPhase.CHANGES):
            running.enter(phase)
    for phase in (DataPhase.DIRECTORIES, DataPhase.FILES, DataPhase.FINISH):
        running.enter(phase)
    running.line(LogLine(2, b"/srv/a: Permission denied (EACCES)", "EACCES", 6))
    running.end(DataHaltReason.SUCCESSFUL, "", finished(files=3, errors=1, stream_bytes=7_400_000))
    begun = ["Start (Level 2, NDMP)", "Options (TYPE=dump, LEVEL=2)", "Tape_open (vtl0/drive0)"]
    failed = ["Error (/srv/a: Permission denied (EACCES))", "Tape_close (vtl0/drive0)"]
    events = {
        "backup": [
            *begun, "Base_dump (level 1, TIME)", "Snapshot (mover-x, TIME)",
            "Phase_change (I, II: scan)", "Phase_change (II: changes)", "Phase_change (III: directories)",
            "Phase_change (IV: files)", "Phase_change (V: end)",
            *failed, "End (7 MB, 3 files, 0 directories, 1 error)",
        ],
        "recover": [
            *begun, "Phase_change (Dirs)", "Phase_change (Files)", "Phase_change (Finish)",
            *failed, "End (3 files, 7 MB, 0 directories, 1 error)",
        ],
    }  # fmt: skip
    kind = "dmp" if is_backup else "rst"
    assert [re.sub(TIME, "TIME", line) for line in lines(tmp_path)] == [
        f"{kind} /srv/(1) {event}" for event in events[operation]
    ]


@pytest.mark.parametrize("operation", ["backup", "recover"])
def test_every_reason_of_an_abort(tmp_path: Path, ring: RingControl, operation: str) -> None:
    book = JobBook(of_node(tmp_path))
    for reason in (DataHaltReason.ABORTED, DataHaltReason.CONNECT_ERROR, None):
        running = RunningJob(book, job(book.next_number(), operation=operation), b"/srv", ring)
        running.end(reason, "why", finished(reason=3))
    told = [line for line in lines(tmp_path) if " Tape_close" not in line]
    assert len(told) == 3
    kind = "dmp" if operation == "backup" else "rst"
    assert all(re.fullmatch(rf"{kind} /srv/\(\d\) Abort \(.*why\)", line) for line in told), told


def test_only_so_many_records_are_kept(tmp_path: Path, ring: RingControl) -> None:
    book = JobBook(of_node(tmp_path, backup_log_enable=False))
    book.open()
    for _ in range(JOBS_KEPT + 20):
        RunningJob(book, job(book.next_number()), b"/srv", ring).end(DataHaltReason.SUCCESSFUL, "", finished())
    found = [each.number for each in book.jobs({})]
    assert found == list(range(21, JOBS_KEPT + 21))
    assert not (tmp_path / "backup.log").exists()


def test_a_damaged_record_is_passed_over(tmp_path: Path, ring: RingControl) -> None:
    book = JobBook(of_node(tmp_path))
    RunningJob(book, job(book.next_number()), b"/srv", ring).announce()
    (tmp_path / "jobs" / "0000000007.json").write_bytes(b"{")
    (tmp_path / "jobs" / "something.else").write_bytes(b"")
    after = JobBook(of_node(tmp_path))
    with capture_logs() as said:
        after.open()
        assert [each.number for each in after.jobs({})] == [1]
    assert {each["event"] for each in said} == {"the record of a job cannot be read"}
    assert after.next_number() == 8


def test_records_that_cannot_be_kept_cost_nothing_but_a_word(tmp_path: Path, ring: RingControl) -> None:
    (tmp_path / "jobs").write_bytes(b"in the way")
    book = JobBook(of_node(tmp_path))
    with capture_logs() as said:
        book.open()
        running = RunningJob(book, job(book.next_number()), b"/srv", ring)
        running.enter(DataPhase.FILES)
        ended = running.end(DataHaltReason.SUCCESSFUL, "", finished())
    assert ended.state == "successful"
    assert [each["event"] for each in said] == ["records of jobs cannot be kept"]


def test_the_log_is_switched_for_new_jobs(tmp_path: Path, ring: RingControl) -> None:
    book = JobBook(of_node(tmp_path))
    book.open()
    first = RunningJob(book, job(book.next_number()), b"/srv", ring)
    book.configure(of_node(tmp_path, backup_log_enable=False))
    second = RunningJob(book, job(book.next_number()), b"/srv", ring)
    for each in (first, second):
        each.start(0, "TYPE=dump", "ndmp")
        each.end(DataHaltReason.SUCCESSFUL, "", finished())
    book.configure(of_node(tmp_path))
    assert lines(tmp_path) == [
        "log Start_Logging",
        "log Stop_Logging",
        "dmp /srv/(1) Start (Level 0, NDMP)",
        "dmp /srv/(1) Options (TYPE=dump)",
        "dmp /srv/(1) Tape_open (ndmp)",
        "dmp /srv/(1) Tape_close (ndmp)",
        "dmp /srv/(1) End (0 MB, 0 files, 0 directories, 0 errors)",
        "log Start_Logging",
    ]
    assert len(book.jobs({})) == 2


# --- a job


def test_ten_thousand_errors_are_bounded_and_counted(tmp_path: Path, ring: RingControl) -> None:
    book = JobBook(of_node(tmp_path))
    running = RunningJob(book, job(book.next_number()), b"/srv", ring)
    for number in range(1_000):  # as many as a worker sends
        path = b"/srv/%d" % number
        running.line(LogLine(2, path + b": left out: Permission denied (EACCES)", "EACCES", len(path)))
    running.line(LogLine(3, b"/srv/x: read by another of its names"))
    known = running.status()
    assert [(cause.cause, cause.count, len(cause.paths)) for cause in known.error_causes] == [("EACCES", 1_000, 10)]
    last = finished(errors=10_000, causes=[Cause("EACCES", 10_000, [b"/srv/\xff\n"])])
    ended = running.end(DataHaltReason.SUCCESSFUL, "", last)
    assert ended.errors == 10_000
    assert ended.error_causes[0].paths == ["/srv/\\xff\\n"]
    told = [line for line in lines(tmp_path) if " Error " in line]
    assert len(told) == ERRORS_LISTED + 1
    assert told[0] == "dmp /srv/(1) Error (/srv/0: left out: Permission denied (EACCES))"
    assert told[-1] == f"dmp /srv/(1) Error ({10_000 - ERRORS_LISTED} further errors, not listed)"
    assert lines(tmp_path)[-1] == "dmp /srv/(1) End (0 MB, 0 files, 0 directories, 10000 errors)"
    assert "errors by cause: 10000 EACCES" in summary_lines(ended)
    record = next((tmp_path / "jobs").iterdir())
    assert record.stat().st_size < 100_000


def test_a_worker_that_died_has_what_it_had_published(tmp_path: Path, ring: RingControl) -> None:
    with Producer(ring.duplicate()) as producer:
        gauges = producer.gauges
        gauges[DataGauge.DIRECTORIES] = 3
        gauges[DataGauge.FILES] = 7
        gauges[DataGauge.STREAM_BYTES] = 5_400_000
        gauges[DataGauge.KINDS + 10] = 2  # symbolic links
        gauges[DataGauge.KINDS] = 1
        gauges[DataGauge.SIZES + 13] = 5
        gauges[DataGauge.PHASE] = DataPhase.FILES
        gauges[DataGauge.PHASE_SINCE_NS] = 1
        gauges[DataGauge.PHASE_NS + DataPhase.SCAN] = 2_500_000_000
    running = RunningJob(JobBook(of_node(tmp_path)), job(), b"/srv", ring)
    ended = running.end(DataHaltReason.INTERNAL_ERROR, "the data worker died: signal SIGKILL", None)
    assert (ended.state, ended.whole, ended.halt_reason) == ("failed", False, "INTERNAL_ERROR")
    assert {kind: count for kind, count in ended.entries.items() if count} == {
        "directories": 3, "files": 5, "symlinks": 2, "hard-links": 1,
    }  # fmt: skip
    assert msgspec.to_builtins(ended.sizes) == [{"from-bytes": 4096, "to-bytes": 8191, "files": 5}]
    assert ended.phase_seconds["scan"] == 2.5
    assert ended.phase_seconds["files"] > 0
    assert lines(tmp_path)[-1] == (
        "dmp /srv/(1) Abort (5 MB, 8 files, 3 directories, 0 errors,"
        " INTERNAL_ERROR: the data worker died: signal SIGKILL)"
    )
    assert any("did not end in order" in line for line in summary_lines(ended))


def test_errors_that_a_worker_has_only_counted_are_told_without_causes(tmp_path: Path, ring: RingControl) -> None:
    with Producer(ring.duplicate()) as producer:
        producer.gauges[DataGauge.ERRORS] = 3
        producer.gauges[DataGauge.PHASE_NS + DataPhase.SCAN] = 1_000_000_000
    running = RunningJob(JobBook(of_node(tmp_path)), job(), b"/srv", ring)
    assert "errors: 3, causes not told" in summary_lines(running.end(DataHaltReason.ABORTED, "", None))


def test_the_lines_for_people(tmp_path: Path, ring: RingControl) -> None:
    with Producer(ring.duplicate()) as producer:
        for bits, count in ((0, 2), (12, 1), (13, 4), (31, 1)):
            producer.gauges[DataGauge.SIZES + bits] = count
        producer.gauges[DataGauge.FILES] = 8
    book = JobBook(of_node(tmp_path))
    ended = RunningJob(book, job(), b"/srv", ring).end(
        DataHaltReason.SUCCESSFUL, "", finished(files=8, left_out={"excluded": 3})
    )
    phases = "scan 0.0 s, changes 0.0 s, directories 0.0 s, files 0.0 s, finish 0.0 s"
    waited = "waited 0.0 s for tape or network, 0.0 s for file history to be read"
    waited_for = "tape or network waited 0.0 s for the files"
    assert summary_lines(ended) == [
        "entries: 0 directories, 8 files",
        "files by size: 2 empty, 1 below 4 KiB, 4 below 64 KiB, 1 of 1 GiB and more",
        "left out: 3 excluded",
        f"time: {phases}; {waited}; {waited_for}",
    ]


def test_a_recover_waits_for_nobody_to_read_history(tmp_path: Path, ring: RingControl) -> None:
    ended = RunningJob(JobBook(of_node(tmp_path)), job(operation="recover"), b"/srv", ring).end(
        DataHaltReason.SUCCESSFUL, "", finished()
    )
    assert summary_lines(ended)[-1] == (
        "time: directories 0.0 s, files 0.0 s, finish 0.0 s; waited 0.0 s for tape or network;"
        " tape or network waited 0.0 s for the files"
    )


def test_a_job_whose_worker_came_to_nothing_has_no_summary(tmp_path: Path, ring: RingControl) -> None:
    """Such as one whose `pre` failed: there was no worker whose counts one could tell."""
    ended = RunningJob(JobBook(of_node(tmp_path)), job(), b"/srv", ring).end(
        DataHaltReason.INTERNAL_ERROR, "volume srv: no snapshot", None
    )
    assert summary_lines(ended) == []
