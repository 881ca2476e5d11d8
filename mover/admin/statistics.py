"""Process statistics at the admin socket: what `mover top`, the status page and /metrics are made of.

One reply is one moment, and its rows agree with each other. Bytes, entries and seconds that are called totals begin
with the row and never go back while the row is there; those of :class:`Totals` never go back while the server runs.

Source: design.md, section 4 (the ring's counters); contract.md, `status` fields and Metrics.
"""

from typing import Literal

from msgspec import field

from mover.admin.base import Bottleneck, Message, Row

WaitCause = Literal["scan", "read", "ring-full", "ring-empty", "tape", "network", "file-history"]
"""What the time of a job went to; ring-full and ring-empty = the ring was so, and neither side stood out."""


class StatisticsShow(Message, frozen=True):
    """What there is now. Reply: StatisticsReply; Failed where statistics are off.

    Args:
        history: with the samples of the last minutes of every row that has some.
    """

    history: bool = False


class Rates(Row, frozen=True, kw_only=True):
    """A total's growth a second over the last 1, 10 and 60 s; over its whole life where that is shorter."""

    over_1: float = 0.0
    over_10: float = 0.0
    over_60: float = 0.0


class SessionRow(Row, frozen=True, kw_only=True):
    """One NDMP connection.

    Attributes:
        user: who has logged in; "" = nobody.
        job: the number of its running job.
        requests, posts: NDMP messages in and out.
        received_bytes, sent_bytes: of the control connection, as NDMP has them (before TLS).
    """

    session_id: int
    vserver: str = ""
    client_addr: str = ""
    user: str = ""
    ndmp_version: int = 0
    secure: bool = False
    elapsed_seconds: float = 0.0
    data_state: str = ""
    mover_state: str = ""
    tape_device: str = ""
    job: int | None = None
    requests: int = 0
    posts: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


class JobRow(Row, frozen=True, kw_only=True):
    """One running job. On a tape host of a three-way job: its mover, with ``number`` None.

    Attributes:
        operation: backup, recover or recover-filehist; mover-read (from the data connection to tape) or mover-write.
        phase: scan, changes, directories, files or finish; "" = a mover.
        entries: done so far; of a mover 0.
        entries_expected: known from the scan; None = not known.
        stream_bytes: done so far: DATA's bytes_processed, of a mover its bytes_moved.
        stream_bytes_left, seconds_left: estimates, as DATA_GET_STATE has them; None = not known.
        rate: of stream_bytes. entries_rate: of entries.
        bottleneck: now.
        seconds: cause -> seconds of the job that went to it; what is missing to ``elapsed_seconds`` was not waited.
        at: the path at hand; "" = none, or not to be shown.
    """

    number: int | None
    session_id: int
    vserver: str = ""
    operation: str
    backup_type: str = ""
    level: int | None = None
    path: str = ""
    at: str = ""
    phase: str = ""
    entries: int = 0
    entries_expected: int | None = None
    errors: int = 0
    history_entries: int = 0
    stream_bytes: int = 0
    stream_bytes_left: int | None = None
    seconds_left: int | None = None
    elapsed_seconds: float = 0.0
    rate: Rates = field(default_factory=Rates)
    entries_rate: Rates = field(default_factory=Rates)
    bottleneck: Bottleneck = "idle"
    seconds: dict[WaitCause, float] = field(default_factory=dict)
    rate_history: list[float] = field(default_factory=list)


class RingRow(Row, frozen=True, kw_only=True):
    """One ring.

    Attributes:
        name: kind and session, ``data-12``; unique.
        kind: data (the stream) or history (file history).
        waiting: which side waits now: "full" (the producer), "empty" (the consumer) or "".
        rate: of bytes_out.
        fill_history: fill ratio, a sample a second, the newest last.
    """

    name: str
    kind: Literal["data", "history"]
    session_id: int
    size_bytes: int
    fill_ratio: float = 0.0
    waiting: Literal["full", "empty", ""] = ""
    bytes_in: int = 0
    bytes_out: int = 0
    times_full: int = 0
    times_empty: int = 0
    waited_full_seconds: float = 0.0
    waited_empty_seconds: float = 0.0
    rate: Rates = field(default_factory=Rates)
    fill_history: list[float] = field(default_factory=list)


class ProcessRow(Row, frozen=True, kw_only=True):
    """One process of this server: control, a template, a spare or a worker at work.

    Attributes:
        kind: control, data, tape, relay, snapshot, auth, or template-data and so on.
        session_id: whose; None = no session's.
        state: as in /proc: running, sleeping, disk-sleep, stopped, zombie ...
        cpu_seconds: user and system, of this process and of the copies of itself that it works with.
        cpu_rate: seconds a second, 1.0 = one processor.
        read_bytes, write_bytes: through system calls (rchar, wchar).
    """

    pid: int
    kind: str
    session_id: int | None = None
    state: str = ""
    cpu_seconds: float = 0.0
    cpu_rate: Rates = field(default_factory=Rates)
    resident_bytes: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    read_rate: Rates = field(default_factory=Rates)
    write_rate: Rates = field(default_factory=Rates)
    context_switches: int = 0
    involuntary_switches: int = 0
    open_files: int = 0
    threads: int = 0
    elapsed_seconds: float = 0.0


class DriveRow(Row, frozen=True, kw_only=True):
    """One drive.

    Attributes:
        state: as in `mover tape show`.
        file_number, block_number: where the tape stands; None = not known, or not open.
        read_bytes, written_bytes: totals since the server began, pad included.
        io_seconds: in calls of the drive, since the server began.
        underruns: how often it stood for want of data or room, since the server began.
        errors: operations that the medium, the drive or the way to it failed, since the server began.
    """

    name: str
    state: str
    session_id: int | None = None
    barcode: str = ""
    file_number: int | None = None
    block_number: int | None = None
    read_bytes: int = 0
    written_bytes: int = 0
    io_seconds: float = 0.0
    underruns: int = 0
    errors: int = 0
    read_rate: Rates = field(default_factory=Rates)
    written_rate: Rates = field(default_factory=Rates)


class EndedJob(Row, frozen=True, kw_only=True):
    """A job that is over, the latest first.

    Attributes:
        state: successful, failed, aborted or interrupted.
        rate: bytes a second over the whole job.
        rate_history: samples of it over the job, some 60, evenly spaced.
        seconds: as in JobRow.
    """

    number: int
    session_id: int
    vserver: str = ""
    operation: str
    backup_type: str = ""
    level: int | None = None
    path: str = ""
    state: str
    started: float
    ended: float
    entries: int = 0
    errors: int = 0
    stream_bytes: int = 0
    history_entries: int = 0
    rate: float = 0.0
    rate_history: list[float] = field(default_factory=list)
    seconds: dict[WaitCause, float] = field(default_factory=dict)


class Totals(Row, frozen=True, kw_only=True):
    """Since the server began, jobs and connections that are over included; never going back.

    Attributes:
        worker_cpu_seconds: by kind.
        worker_exits: by kind and reason: ``"data/exit 0"``, ``"tape/signal SIGKILL"``.
        jobs: by operation and result: ``"backup/successful"``.
    """

    data_bytes: int = 0
    mover_bytes: int = 0
    files: int = 0
    history_entries: int = 0
    history_wait_seconds: float = 0.0
    ring_full_seconds: float = 0.0
    ring_empty_seconds: float = 0.0
    worker_cpu_seconds: dict[str, float] = field(default_factory=dict)
    worker_exits: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, int] = field(default_factory=dict)
    authentication_failures: int = 0


class StatisticsReply(Message, frozen=True, kw_only=True):
    """One moment of the server.

    Attributes:
        time: seconds since 1970. uptime_seconds: of the server.
        interval_seconds: between two samples.
        cost_seconds: processor time that control has spent on statistics, a total.
    """

    node: str
    version: str
    time: float
    uptime_seconds: float
    interval_seconds: float
    cost_seconds: float
    totals: Totals
    sessions: list[SessionRow] = field(default_factory=list)
    jobs: list[JobRow] = field(default_factory=list)
    rings: list[RingRow] = field(default_factory=list)
    processes: list[ProcessRow] = field(default_factory=list)
    drives: list[DriveRow] = field(default_factory=list)
    ended_jobs: list[EndedJob] = field(default_factory=list)
