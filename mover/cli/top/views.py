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
from mover.cli.top.drawing import Look, count, duration, rate, size
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


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


_STATES: Final[dict[str, Tone]] = {"successful": "good", "failed": "bad", "aborted": "warn", "interrupted": "bad",
                                   "hung": "bad", "zombie": "warn"}  # fmt: skip


def _bad_if(number: int) -> Tone:
    return "bad" if number else ""


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
        Column(title="job", width=5, right=True, text=lambda j, *_: _number(j.number), key=lambda j: j.number),
        Column(title="session", width=7, right=True, rank=4, text=lambda j, *_: str(j.session_id),
               key=lambda j: j.session_id),
        Column(title="vserver", width=8, rank=7, text=lambda j, *_: j.vserver,
               key=lambda j: j.vserver),
        Column(title="what", width=10, text=lambda j, *_: _what(j), key=_what),
        Column(title="type", width=4, rank=8, text=lambda j, *_: j.backup_type,
               key=lambda j: j.backup_type),
        Column(title="progress", width=12, text=_progress, key=done),
        Column(title="phase", width=11, rank=6, text=lambda j, *_: j.phase, key=lambda j: j.phase),
        Column(title="done", width=6, right=True, text=lambda j, *_: size(j.stream_bytes),
               key=lambda j: j.stream_bytes),
        Column(title="entries", width=9, right=True, rank=5, text=lambda j, *_: count(j.entries),
               key=lambda j: j.entries),
        Column(title="rate", width=7, right=True, text=lambda j, look, _: rate(look.over(j.rate)),
               key=lambda j: j.rate.over_10),
        Column(title="to go", width=8, right=True, text=lambda j, *_: duration(j.seconds_left),
               key=lambda j: j.seconds_left),
        Column(title="waits for", width=12, text=lambda j, *_: j.bottleneck, key=lambda j: j.bottleneck,
               tone=lambda j: "warn" if j.bottleneck == "file-history" else ""),
        Column(title="errors", width=6, right=True, rank=9, text=lambda j, *_: _number(j.errors or None),
               key=lambda j: j.errors, tone=lambda j: _bad_if(j.errors)),
        Column(title="time went to", width=30, rank=10, text=lambda j, *_: shares(j.seconds, j.elapsed_seconds),
               key=lambda j: max(j.seconds.values(), default=None)),
        Column(title="rate so far", width=12, rank=11, picture=True,
               text=lambda j, look, width: look.sparkline(j.rate_history, width), key=lambda j: j.rate.over_60),
        Column(title="at", width=24, rank=12, flexible=True, text=lambda j, *_: j.at, key=lambda j: j.at or None),
        Column(title="path", width=8, rank=2, flexible=True, text=lambda j, *_: j.path,
               key=lambda j: j.path),
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
        Column(title="size", width=6, right=True, rank=5, text=lambda g, *_: size(g.size_bytes),
               key=lambda g: g.size_bytes),
        Column(title="fill", width=15, text=lambda g, look, width: look.gauge(g.fill_ratio, width),
               key=lambda g: g.fill_ratio),
        Column(title="is", width=5, text=lambda g, *_: g.waiting, key=lambda g: g.waiting,
               tone=lambda g: "warn" if g.waiting else ""),
        Column(title="rate", width=7, right=True, text=lambda g, look, _: rate(look.over(g.rate)),
               key=lambda g: g.rate.over_10),
        Column(title="through", width=7, right=True, rank=6, text=lambda g, *_: size(g.bytes_out),
               key=lambda g: g.bytes_out),
        Column(title="full", width=7, right=True, rank=8, text=lambda g, *_: count(g.times_full),
               key=lambda g: g.times_full),
        Column(title="empty", width=7, right=True, rank=7, text=lambda g, *_: count(g.times_empty),
               key=lambda g: g.times_empty),
        Column(title="was full", width=8, right=True, rank=4, text=lambda g, *_: duration(g.waited_full_seconds),
               key=lambda g: g.waited_full_seconds),
        Column(title="was empty", width=9, right=True, rank=3, text=lambda g, *_: duration(g.waited_empty_seconds),
               key=lambda g: g.waited_empty_seconds),
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
        Column(title="pid", width=7, right=True, text=lambda p, *_: str(p.pid), key=lambda p: p.pid),
        Column(title="kind", width=13, flexible=True, text=lambda p, *_: p.kind,
               key=lambda p: p.kind),
        Column(title="session", width=7, right=True, text=lambda p, *_: _number(p.session_id),
               key=lambda p: p.session_id),
        Column(title="state", width=10, rank=6, text=lambda p, *_: p.state, key=lambda p: p.state,
               tone=lambda p: _STATES.get(p.state, "")),
        Column(title="CPU", width=6, right=True, text=lambda p, look, _: f"{look.over(p.cpu_rate):.1%}",
               key=lambda p: p.cpu_rate.over_10),
        Column(title="CPU time", width=8, right=True, text=lambda p, *_: f"{p.cpu_seconds:,.2f}",
               key=lambda p: p.cpu_seconds),
        Column(title="memory", width=6, right=True, text=lambda p, *_: size(p.resident_bytes),
               key=lambda p: p.resident_bytes),
        Column(title="reads", width=7, right=True, text=lambda p, look, _: rate(look.over(p.read_rate)),
               key=lambda p: p.read_rate.over_10),
        Column(title="writes", width=7, right=True, text=lambda p, look, _: rate(look.over(p.write_rate)),
               key=lambda p: p.write_rate.over_10),
        Column(title="read", width=6, right=True, rank=7, text=lambda p, *_: size(p.read_bytes),
               key=lambda p: p.read_bytes),
        Column(title="written", width=7, right=True, rank=8, text=lambda p, *_: size(p.write_bytes),
               key=lambda p: p.write_bytes),
        Column(title="switches", width=8, right=True, rank=10, text=lambda p, *_: count(p.context_switches),
               key=lambda p: p.context_switches),
        Column(title="files", width=5, right=True, rank=9, text=lambda p, *_: str(p.open_files),
               key=lambda p: p.open_files),
        Column(title="threads", width=7, right=True, rank=11, text=lambda p, *_: str(p.threads),
               key=lambda p: p.threads),
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
        Column(title="drive", width=12, flexible=True, text=lambda d, *_: d.name,
               key=lambda d: d.name),
        Column(title="state", width=7, text=lambda d, *_: d.state, key=lambda d: d.state,
               tone=lambda d: _STATES.get(d.state, "")),
        Column(title="session", width=7, right=True, text=lambda d, *_: _number(d.session_id),
               key=lambda d: d.session_id),
        Column(title="cartridge", width=10, rank=4, text=lambda d, *_: d.barcode,
               key=lambda d: d.barcode),
        Column(title="file:block", width=11, right=True, text=lambda d, *_: _position(d),
               key=lambda d: None if d.file_number is None else (d.file_number, d.block_number or 0)),
        Column(title="writes", width=7, right=True, text=lambda d, look, _: rate(look.over(d.written_rate)),
               key=lambda d: d.written_rate.over_10),
        Column(title="reads", width=7, right=True, text=lambda d, look, _: rate(look.over(d.read_rate)),
               key=lambda d: d.read_rate.over_10),
        Column(title="written", width=7, right=True, rank=5, text=lambda d, *_: size(d.written_bytes),
               key=lambda d: d.written_bytes),
        Column(title="read", width=6, right=True, rank=6, text=lambda d, *_: size(d.read_bytes),
               key=lambda d: d.read_bytes),
        Column(title="busy", width=8, right=True, rank=7, text=lambda d, *_: duration(d.io_seconds),
               key=lambda d: d.io_seconds),
        Column(title="stood", width=6, right=True, rank=3, text=lambda d, *_: _number(d.underruns or None),
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
        Column(title="session", width=8, right=True, text=lambda s, *_: str(s.session_id),
               key=lambda s: s.session_id),
        Column(title="vserver", width=8, rank=7, text=lambda s, *_: s.vserver,
               key=lambda s: s.vserver),
        Column(title="client", width=15, flexible=True, text=lambda s, *_: s.client_addr,
               key=lambda s: s.client_addr),
        Column(title="user", width=8, text=lambda s, *_: s.user, key=lambda s: s.user or None),
        Column(title="v", width=1, rank=8, text=lambda s, *_: str(s.ndmp_version or ""),
               key=lambda s: s.ndmp_version),
        Column(title="TLS", width=3, rank=9, text=lambda s, *_: "yes" if s.secure else "", key=lambda s: s.secure),
        Column(title="data", width=9, text=lambda s, *_: s.data_state.lower(), key=lambda s: s.data_state),
        Column(title="mover", width=9, text=lambda s, *_: s.mover_state.lower(), key=lambda s: s.mover_state),
        Column(title="drive", width=12, rank=5, text=lambda s, *_: s.tape_device,
               key=lambda s: s.tape_device or None),
        Column(title="job", width=5, right=True, rank=6, text=lambda s, *_: _number(s.job), key=lambda s: s.job),
        Column(title="requests", width=8, right=True, rank=3, text=lambda s, *_: count(s.requests),
               key=lambda s: s.requests),
        Column(title="posts", width=8, right=True, rank=4, text=lambda s, *_: count(s.posts), key=lambda s: s.posts),
        Column(title="in", width=6, right=True, rank=10, text=lambda s, *_: size(s.received_bytes),
               key=lambda s: s.received_bytes),
        Column(title="out", width=6, right=True, rank=11, text=lambda s, *_: size(s.sent_bytes),
               key=lambda s: s.sent_bytes),
        Column(title="since", width=8, right=True, text=lambda s, *_: duration(s.elapsed_seconds),
               key=lambda s: s.elapsed_seconds),
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
        Column(title="job", width=5, right=True, text=lambda e, *_: str(e.number), key=lambda e: e.number),
        Column(title="session", width=7, right=True, rank=6, text=lambda e, *_: str(e.session_id),
               key=lambda e: e.session_id),
        Column(title="vserver", width=8, rank=7, text=lambda e, *_: e.vserver,
               key=lambda e: e.vserver),
        Column(title="what", width=10, text=lambda e, *_: _what(e), key=_what),
        Column(title="state", width=11, text=lambda e, *_: e.state, key=lambda e: e.state,
               tone=lambda e: _STATES.get(e.state, "")),
        Column(title="ended", width=8, rank=3, text=lambda e, *_: clock(e.ended), key=lambda e: e.ended),
        Column(title="took", width=8, right=True, text=lambda e, *_: duration(_elapsed(e)), key=_elapsed),
        Column(title="bytes", width=6, right=True, text=lambda e, *_: size(e.stream_bytes),
               key=lambda e: e.stream_bytes),
        Column(title="entries", width=9, right=True, text=lambda e, *_: count(e.entries), key=lambda e: e.entries),
        Column(title="errors", width=6, right=True, rank=5, text=lambda e, *_: _number(e.errors or None),
               key=lambda e: e.errors, tone=lambda e: _bad_if(e.errors)),
        Column(title="rate", width=7, right=True, text=lambda e, *_: rate(e.rate), key=lambda e: e.rate),
        Column(title="time went to", width=30, rank=9, text=lambda e, *_: shares(e.seconds, _elapsed(e)),
               key=lambda e: max(e.seconds.values(), default=None)),
        Column(title="rate so far", width=15, rank=8, picture=True,
               text=lambda e, look, width: look.sparkline(e.rate_history, width), key=lambda e: e.rate),
        Column(title="path", width=8, rank=2, flexible=True, text=lambda e, *_: e.path,
               key=lambda e: e.path),
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
