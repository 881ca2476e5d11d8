"""What the live view says of one row: every figure exactly, and what ends with its session."""

from collections.abc import Iterable
from typing import Any, Final  # Any: a field of any row

import msgspec

from mover.admin.base import Row
from mover.admin.sessions import SESSION_FIELDS, SessionStatus
from mover.admin.statistics import JobRow, StatisticsReply
from mover.cli.output import shown
from mover.cli.top.drawing import Look, duration, rate, size
from mover.cli.top.view import View
from mover.cli.top.views import done

_RATE_NAMES: Final = {"over-1": "1 s", "over-10": "10 s", "over-60": "60 s"}


def described(row: Row, look: Look, width: int) -> list[str]:
    """Every field of a row, a line each."""
    return _aligned(msgspec.to_builtins(row).items(), look, width)


def probed(session: SessionStatus, look: Look, width: int) -> list[str]:
    """What `mover probe` says of a session."""
    fields = msgspec.to_builtins(session)
    lines = _aligned(((name, fields[name]) for name in SESSION_FIELDS if name != "workers"), look, width)
    for worker in session.workers:
        lines.append(f"worker {worker.kind} {worker.pid}: {worker.cpu_percent:.1f}% CPU, {size(worker.rss_bytes)}")
    return lines


def _aligned(fields: Iterable[tuple[str, Any]], look: Look, width: int) -> list[str]:
    pairs = list(fields)
    names = max(len(name) for name, _ in pairs)
    return [f"{name.rjust(names)}: {_value(name, value, look, width - names - 2)}" for name, value in pairs]


def _value(name: str, value: Any, look: Look, width: int) -> str:
    if isinstance(value, list):
        return look.sparkline(value, width, 1.0 if name.startswith("fill") else 0.0) or "-"
    if isinstance(value, dict):
        if value.keys() == _RATE_NAMES.keys():
            return ", ".join(f"{value[key]:,.2f} over {title}" for key, title in _RATE_NAMES.items())
        return ", ".join(f"{key} {spent:.2f} s" for key, spent in value.items()) or "-"
    return look.clean(shown(value))


def found(view: View[Any], identity: str, reply: StatisticsReply) -> Any | None:
    """The row of that identity, of this moment."""
    return next((row for row in view.rows(reply) if view.identity(row) == identity), None)


def what_ends(reply: StatisticsReply, session_id: int) -> list[str]:
    """What ends with a session, in lines; none where it is not there."""
    session = next((each for each in reply.sessions if each.session_id == session_id), None)
    if session is None:
        return []
    parts = [f"of {session.client_addr}"]
    if session.user:
        parts.append(f"user {session.user}")
    if session.vserver:
        parts.append(f"vserver {session.vserver}")
    lines = [f"{', '.join(parts)}, there for {duration(session.elapsed_seconds)}"]
    lines += [_job(job) for job in reply.jobs if job.session_id == session_id]
    if len(lines) == 1:
        lines.append("no job is running in it")
    if session.tape_device:
        lines.append(f"drive {session.tape_device}")
    workers = [f"{each.kind} {each.pid}" for each in reply.processes if each.session_id == session_id]
    if workers:
        lines.append(f"workers {', '.join(workers)}")
    return lines


def _job(job: JobRow) -> str:
    name = f"job {job.number}: {job.operation}" if job.number is not None else job.operation
    fraction = done(job)
    far = "" if fraction is None else f" ({int(fraction * 100)}%)"
    speed = f" at {rate(job.rate.over_10)}" if rate(job.rate.over_10) else ""
    return f"{name}{f' of {job.path}' if job.path else ''}, {size(job.stream_bytes)} done{far}{speed}"
