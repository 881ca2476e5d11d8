"""The tables of the live view: which columns each has, and what is in them."""

import time
from collections.abc import Mapping
from typing import Any, Final  # Any: rows of any table

from msgspec import Struct, field

from mover.admin.statistics import (
    DriveRow,
    EndedJob,
    JobRow,
    ProcessRow,
    RingRow,
    SessionRow,
    StatisticsReply,
    WaitCause,
)
from mover.cli.top.columns import counts, durations, number, numbers, rates, sizes, words
from mover.cli.top.drawing import Look, duration, rate
from mover.cli.top.view import Column, Tone, View


def done(job: JobRow) -> float | None:
    """How far a job is, from 0 to 1; None = nobody knows."""
    if job.stream_bytes_left is not None and job.stream_bytes + job.stream_bytes_left > 0:
        return job.stream_bytes / (job.stream_bytes + job.stream_bytes_left)
    if job.entries_expected:
        return job.entries / job.entries_expected
    return None


def _what(row: JobRow | EndedJob) -> str:
    return row.operation if row.level is None else f"{row.operation} {row.level}"


def shares(seconds: Mapping[WaitCause, float], elapsed: float) -> str:
    """What the time went to, the largest first."""
    if elapsed <= 0:
        return ""
    parts = sorted(seconds.items(), key=lambda each: -each[1])
    return " ".join(f"{cause} {min(1.0, spent / elapsed):.0%}" for cause, spent in parts if spent / elapsed >= 0.005)


def _progress(job: JobRow, look: Look, width: int) -> str:
    return look.gauge(done(job), width) or job.phase


def _position(drive: DriveRow) -> str:
    if drive.file_number is None:
        return ""
    return f"{drive.file_number}:{'?' if drive.block_number is None else drive.block_number}"


def clock(seconds: float) -> str:
    """Seconds since 1970 as the time of this host's day."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


_STATES: Final[dict[str, Tone]] = {"successful": "good", "failed": "bad", "aborted": "warn", "interrupted": "bad",
                                   "hung": "bad", "zombie": "warn"}  # fmt: skip


def _bad_if(errors: int) -> Tone:
    return "bad" if errors else ""


JOBS: Final = View[JobRow](
    name="jobs",
    title="Jobs",
    nothing="no jobs",
    rows=lambda reply: reply.jobs,
    identity=lambda job: f"job {job.number}" if job.number is not None else f"mover of session {job.session_id}",
    session=lambda job: job.session_id,
    kind=lambda job: f"{job.operation} {job.backup_type}",
    vserver=lambda job: job.vserver,
    sort=("job", False),
    columns=(
        numbers("job", 5, lambda j: j.number),
        numbers("session", 7, lambda j: j.session_id, rank=4),
        words("vserver", 8, lambda j: j.vserver, rank=7),
        Column(title="what", width=10, text=lambda j, *_: _what(j), key=_what),
        words("type", 4, lambda j: j.backup_type, rank=8),
        Column(title="progress", width=12, text=_progress, key=done),
        words("phase", 11, lambda j: j.phase, rank=6),
        sizes("done", 6, lambda j: j.stream_bytes),
        counts("entries", 9, lambda j: j.entries, rank=5),
        rates("rate", 7, lambda j: j.rate),
        durations("to go", 8, lambda j: j.seconds_left),
        words("waits for", 12, lambda j: j.bottleneck, tone=lambda j: "warn" if j.bottleneck == "file-history" else ""),
        Column(title="errors", width=6, right=True, rank=9, text=lambda j, *_: number(j.errors or None),
               key=lambda j: j.errors, tone=lambda j: _bad_if(j.errors)),
        Column(title="time went to", width=30, rank=10, text=lambda j, *_: shares(j.seconds, j.elapsed_seconds),
               key=lambda j: max(j.seconds.values(), default=None)),
        Column(title="rate so far", width=12, rank=11, picture=True,
               text=lambda j, look, width: look.sparkline(j.rate_history, width), key=lambda j: j.rate.over_60),
        Column(title="at", width=24, rank=12, flexible=True, text=lambda j, *_: j.at, key=lambda j: j.at or None),
        words("path", 8, lambda j: j.path, rank=2, flexible=True),
    ),
)  # fmt: skip

RINGS: Final = View[RingRow](
    name="rings",
    title="Rings",
    nothing="no rings",
    rows=lambda reply: reply.rings,
    identity=lambda ring: f"ring {ring.name}",
    session=lambda ring: ring.session_id,
    kind=lambda ring: ring.kind,
    sort=("ring", False),
    columns=(
        Column(title="ring", width=11, text=lambda g, *_: g.name,
               key=lambda g: (g.session_id, g.kind)),
        sizes("size", 6, lambda g: g.size_bytes, rank=5),
        Column(title="fill", width=15, text=lambda g, look, width: look.gauge(g.fill_ratio, width),
               key=lambda g: g.fill_ratio),
        words("is", 5, lambda g: g.waiting, tone=lambda g: "warn" if g.waiting else ""),
        rates("rate", 7, lambda g: g.rate),
        sizes("through", 7, lambda g: g.bytes_out, rank=6),
        counts("full", 7, lambda g: g.times_full, rank=8),
        counts("empty", 7, lambda g: g.times_empty, rank=7),
        durations("was full", 8, lambda g: g.waited_full_seconds, rank=4),
        durations("was empty", 9, lambda g: g.waited_empty_seconds, rank=3),
        Column(title="fill so far", width=10, rank=2, flexible=True, picture=True,
               text=lambda g, look, width: look.sparkline(g.fill_history, width, 1.0), key=lambda g: g.fill_ratio),
    ),
)  # fmt: skip

PROCESSES: Final = View[ProcessRow](
    name="processes",
    title="Processes",
    nothing="no processes",
    rows=lambda reply: reply.processes,
    identity=lambda process: f"process {process.pid}",
    session=lambda process: process.session_id,
    kind=lambda process: process.kind,
    sort=("CPU", True),
    columns=(
        numbers("pid", 7, lambda p: p.pid),
        words("kind", 13, lambda p: p.kind, flexible=True),
        numbers("session", 7, lambda p: p.session_id),
        words("state", 10, lambda p: p.state, rank=6, tone=lambda p: _STATES.get(p.state, "")),
        Column(title="CPU", width=6, right=True, text=lambda p, look, _: f"{look.over(p.cpu_rate):.1%}",
               key=lambda p: p.cpu_rate.over_10),
        Column(title="CPU time", width=8, right=True, text=lambda p, *_: f"{p.cpu_seconds:,.2f}",
               key=lambda p: p.cpu_seconds),
        sizes("memory", 6, lambda p: p.resident_bytes),
        rates("reads", 7, lambda p: p.read_rate),
        rates("writes", 7, lambda p: p.write_rate),
        sizes("read", 6, lambda p: p.read_bytes, rank=7),
        sizes("written", 7, lambda p: p.write_bytes, rank=8),
        counts("switches", 8, lambda p: p.context_switches, rank=10),
        numbers("files", 5, lambda p: p.open_files, rank=9),
        numbers("threads", 7, lambda p: p.threads, rank=11),
    ),
)  # fmt: skip

DRIVES: Final = View[DriveRow](
    name="drives",
    title="Drives",
    nothing="no drives",
    rows=lambda reply: reply.drives,
    identity=lambda drive: f"drive {drive.name}",
    session=lambda drive: drive.session_id,
    kind=lambda drive: "drive",
    sort=("drive", False),
    columns=(
        words("drive", 12, lambda d: d.name, flexible=True),
        words("state", 7, lambda d: d.state, tone=lambda d: _STATES.get(d.state, "")),
        numbers("session", 7, lambda d: d.session_id),
        words("cartridge", 10, lambda d: d.barcode, rank=4),
        Column(title="file:block", width=11, right=True, text=lambda d, *_: _position(d),
               key=lambda d: None if d.file_number is None else (d.file_number, d.block_number or 0)),
        rates("writes", 7, lambda d: d.written_rate),
        rates("reads", 7, lambda d: d.read_rate),
        sizes("written", 7, lambda d: d.written_bytes, rank=5),
        sizes("read", 6, lambda d: d.read_bytes, rank=6),
        durations("busy", 8, lambda d: d.io_seconds, rank=7),
        Column(title="stood", width=6, right=True, rank=3, text=lambda d, *_: number(d.underruns or None),
               key=lambda d: d.underruns, tone=lambda d: "warn" if d.underruns else ""),
    ),
)  # fmt: skip

SESSIONS: Final = View[SessionRow](
    name="sessions",
    title="Sessions",
    nothing="no sessions",
    rows=lambda reply: reply.sessions,
    identity=lambda session: f"session {session.session_id}",
    session=lambda session: session.session_id,
    kind=lambda session: "session",
    vserver=lambda session: session.vserver,
    sort=("session", False),
    columns=(
        numbers("session", 8, lambda s: s.session_id),
        words("vserver", 8, lambda s: s.vserver, rank=7),
        words("client", 15, lambda s: s.client_addr, flexible=True),
        Column(title="user", width=8, text=lambda s, *_: s.user, key=lambda s: s.user or None),
        Column(title="v", width=1, rank=8, text=lambda s, *_: str(s.ndmp_version or ""),
               key=lambda s: s.ndmp_version),
        Column(title="TLS", width=3, rank=9, text=lambda s, *_: "yes" if s.secure else "", key=lambda s: s.secure),
        Column(title="data", width=9, text=lambda s, *_: s.data_state.lower(), key=lambda s: s.data_state),
        Column(title="mover", width=9, text=lambda s, *_: s.mover_state.lower(), key=lambda s: s.mover_state),
        Column(title="drive", width=12, rank=5, text=lambda s, *_: s.tape_device,
               key=lambda s: s.tape_device or None),
        numbers("job", 5, lambda s: s.job, rank=6),
        counts("requests", 8, lambda s: s.requests, rank=3),
        counts("posts", 8, lambda s: s.posts, rank=4),
        sizes("in", 6, lambda s: s.received_bytes, rank=10),
        sizes("out", 6, lambda s: s.sent_bytes, rank=11),
        durations("since", 8, lambda s: s.elapsed_seconds),
    ),
)  # fmt: skip


def _elapsed(job: EndedJob) -> float:
    return max(0.0, job.ended - job.started)


ENDED: Final = View[EndedJob](
    name="ended",
    title="Ended",
    nothing="no ended jobs",
    rows=lambda reply: reply.ended_jobs,
    identity=lambda job: f"job {job.number}",
    session=lambda job: job.session_id,
    kind=lambda job: f"{job.operation} {job.backup_type}",
    vserver=lambda job: job.vserver,
    sort=("ended", True),
    columns=(
        numbers("job", 5, lambda e: e.number),
        numbers("session", 7, lambda e: e.session_id, rank=6),
        words("vserver", 8, lambda e: e.vserver, rank=7),
        Column(title="what", width=10, text=lambda e, *_: _what(e), key=_what),
        words("state", 11, lambda e: e.state, tone=lambda e: _STATES.get(e.state, "")),
        Column(title="ended", width=8, rank=3, text=lambda e, *_: clock(e.ended), key=lambda e: e.ended),
        Column(title="took", width=8, right=True, text=lambda e, *_: duration(_elapsed(e)), key=_elapsed),
        sizes("bytes", 6, lambda e: e.stream_bytes),
        counts("entries", 9, lambda e: e.entries),
        Column(title="errors", width=6, right=True, rank=5, text=lambda e, *_: number(e.errors or None),
               key=lambda e: e.errors, tone=lambda e: _bad_if(e.errors)),
        Column(title="rate", width=7, right=True, text=lambda e, *_: rate(e.rate), key=lambda e: e.rate),
        Column(title="time went to", width=30, rank=9, text=lambda e, *_: shares(e.seconds, _elapsed(e)),
               key=lambda e: max(e.seconds.values(), default=None)),
        Column(title="rate so far", width=15, rank=8, picture=True,
               text=lambda e, look, width: look.sparkline(e.rate_history, width), key=lambda e: e.rate),
        words("path", 8, lambda e: e.path, rank=2, flexible=True),
    ),
)  # fmt: skip

VIEWS: Final[tuple[View[Any], ...]] = (JOBS, RINGS, PROCESSES, DRIVES, SESSIONS, ENDED)


class Totals(Struct, frozen=True, kw_only=True):
    """What the head of the view says of all rows together."""

    stream_rate: float = 0.0
    read_rate: float = 0.0
    written_rate: float = 0.0
    cpu: float = 0.0
    resident_bytes: int = 0
    vservers: dict[int, str] = field(default_factory=dict)


def totals(reply: StatisticsReply, look: Look) -> Totals:
    """The sums of a reply's rows, and the vservers of its sessions."""
    return Totals(
        stream_rate=sum(look.over(job.rate) for job in reply.jobs),
        read_rate=sum(look.over(drive.read_rate) for drive in reply.drives),
        written_rate=sum(look.over(drive.written_rate) for drive in reply.drives),
        cpu=sum(look.over(process.cpu_rate) for process in reply.processes),
        resident_bytes=sum(process.resident_bytes for process in reply.processes),
        vservers={session.session_id: session.vserver for session in reply.sessions},
    )
