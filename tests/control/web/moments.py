"""Moments of a server, made by hand."""

from mover.admin.statistics import (
    DriveRow,
    EndedJob,
    JobRow,
    ProcessRow,
    Rates,
    RingRow,
    SessionRow,
    StatisticsReply,
    Totals,
)

HOSTILE = '/v/<img src=x onerror="document.title=1">\x1b[31m\u202ecod.exe'
"""A name that is markup, and that turns terminals and lines of text around."""


def job(**changes: object) -> JobRow:
    """A backup in its midst."""
    fields: dict[str, object] = {
        "number": 3, "session_id": 12, "operation": "backup", "backup_type": "dump", "level": 0, "path": HOSTILE,
        "at": HOSTILE, "phase": "files", "entries": 1234, "entries_expected": 5000, "stream_bytes": 3 << 30,
        "stream_bytes_left": 1 << 30, "seconds_left": 70, "elapsed_seconds": 100.0, "bottleneck": "tape",
        "rate": Rates(over_1=1e7, over_10=2e7, over_60=3e7), "seconds": {"tape": 60.0, "read": 20.0},
        "rate_history": [float(each) for each in range(60)], **changes,
    }  # fmt: skip
    return JobRow(**fields)  # type: ignore[arg-type]  # of the fields' types, as the callers give them


def ring(name: str, fill_ratio: float = 0.5) -> RingRow:
    kind, _, session = name.rpartition("-")
    return RingRow(
        name=name,
        kind="history" if kind == "history" else "data",
        session_id=int(session),
        size_bytes=8 << 20,
        fill_ratio=fill_ratio,
        waiting="full",
        fill_history=[0.1, 0.5, 0.9],
    )


def moment(**changes: object) -> StatisticsReply:
    """A server with a job at work and another that has ended."""
    fields: dict[str, object] = {
        "node": "fs1", "version": "1.2", "time": 1.8e9, "uptime_seconds": 3600.0, "interval_seconds": 1.0,
        "cost_seconds": 0.25,
        "totals": Totals(
            data_bytes=3 << 30, mover_bytes=2 << 30, files=1234, history_entries=1200, history_wait_seconds=1.5,
            ring_full_seconds=2.5, ring_empty_seconds=0.5, worker_cpu_seconds={"data": 4.5, "template-data": 0.25},
            worker_exits={"data/exit 0": 2, "tape/signal SIGKILL": 1},
            jobs={"backup/successful": 1, "recover/failed": 2}, authentication_failures=7,
        ),
        "sessions": [SessionRow(session_id=12, client_addr="192.0.2.1", user="ndmp", data_state="active", job=3)],
        "jobs": [job()],
        "rings": [ring("data-12"), ring("history-12", 0.25)],
        "processes": [
            ProcessRow(pid=100, kind="control", cpu_seconds=1.25, resident_bytes=50_000),
            ProcessRow(pid=101, kind="data", session_id=12, resident_bytes=20_000),
            ProcessRow(pid=102, kind="data", resident_bytes=10_000),
        ],
        "drives": [
            DriveRow(
                name="vtl0/drive0", state="in-use", read_bytes=1, written_bytes=2, io_seconds=3.5, underruns=4,
                errors=5,
            ),
            DriveRow(name="nst0", state="hung"),
        ],
        "ended_jobs": [
            EndedJob(
                number=2, session_id=9, operation="backup", backup_type="tar", level=1, path=HOSTILE,
                state="successful", started=1.8e9 - 90, ended=1.8e9 - 30, entries=4321, stream_bytes=1_234_567_890,
                rate=2e7, rate_history=[1.0, 2.0, 3.0], seconds={"network": 30.0},
            )
        ],
        **changes,
    }  # fmt: skip
    return StatisticsReply(**fields)  # type: ignore[arg-type]  # of the fields' types, as the callers give them
