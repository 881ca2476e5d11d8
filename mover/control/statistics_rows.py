"""The rows of statistics: what each of this server's things shows of itself at one moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import mover
from mover.admin.statistics import (
    DriveRow,
    JobRow,
    ProcessRow,
    Rates,
    RingRow,
    SessionRow,
    StatisticsReply,
)
from mover.control.statistics_ledger import OpenRing, entries_of
from mover.control.volumes import show
from mover.ndmp.enums import DataState, DataUnsupported, MoverMode
from mover.ring import TapeGauge

if TYPE_CHECKING:
    from mover.admin.jobs import JobStatus
    from mover.control.bottleneck import Meter
    from mover.control.connection import Connection
    from mover.control.drives import DriveBay
    from mover.control.mover_service import MoverService
    from mover.control.node import Node
    from mover.control.statistics import Statistics, Track
    from mover.control.statistics_processes import Details, Figures

_BILLION: Final = 1_000_000_000
_NOT_KNOWN: Final = (1 << 32) - 1
_WAITING: Final[dict[str, Literal["full", "empty"]]] = {"full": "full", "empty": "empty"}
_RUNNING: Final = (DataState.ACTIVE, DataState.PAUSED)


class Moment(NamedTuple):
    """When it is, what was asked for, and what /proc says."""

    now: float
    history: bool
    processes: dict[int, tuple[str, Figures]]
    details: dict[int, Details]
    cpu_seconds: dict[str, float]


def build_reply(node: Node, statistics: Statistics, moment: Moment) -> StatisticsReply:
    """Everything, in one go: nothing else runs in control meanwhile."""
    connections = sorted(node.connections.values(), key=lambda each: each.session_id)
    running = {number: job.status() for number, job in sorted(statistics.jobs.items())}
    return StatisticsReply(
        node=node.config.node.name,
        version=mover.__version__,
        time=time.time(),
        uptime_seconds=round(moment.now - statistics.started, 3),
        interval_seconds=float(statistics.interval_s),
        cost_seconds=round(statistics.cost_s, 6),
        totals=statistics.ledger.totals(moment.cpu_seconds, running.values()),
        sessions=[_session(each, moment) for each in connections],
        jobs=[*_jobs(node, running, statistics, moment), *_movers(statistics, moment)],
        rings=[_ring(each, statistics, moment) for each in statistics.ledger.rings],
        processes=_processes(connections, statistics, moment),
        drives=[_drive(each, statistics, moment) for each in node.devices],
        ended_jobs=list(statistics.ended),
    )


def _rates(track: Track | None, now: float, *values: float) -> list[Rates]:
    return track.series.rates(now, *values) if track is not None else [Rates()] * len(values)


def _session(connection: Connection, moment: Moment) -> SessionRow:
    counted = {
        "session_id": connection.session_id,
        "vserver": connection.vserver,
        "client_addr": connection.peer_address,
        "user": connection.authenticated_as,
        "ndmp_version": connection.version,
        "secure": connection.secure,
        "elapsed_seconds": round(moment.now - connection.started, 3),
        "requests": connection.incoming.messages,
        "posts": connection.outbox.posts,
        "received_bytes": connection.incoming.bytes,
        "sent_bytes": connection.outbox.bytes,
    }
    if not connection.services_open:
        return SessionRow(**counted)
    machines, job, bay = connection.machines, connection.data.job, connection.tape.bay
    return SessionRow(
        data_state=machines.data.state.name,
        mover_state=machines.mover.state.name,
        tape_device=bay.name if bay is not None else "",
        job=job.number if job is not None else None,
        **counted,
    )


def _jobs(node: Node, running: dict[int, JobStatus], statistics: Statistics, moment: Moment) -> list[JobRow]:
    return [
        _job(status, statistics.jobs[number].meter, node.connections.get(status.session_id), statistics, moment)
        for number, status in running.items()
    ]


def _job(
    status: JobStatus, meter: Meter, connection: Connection | None, statistics: Statistics, moment: Moment
) -> JobRow:
    track = statistics.tracks.get(("job", status.number))
    expected: int | None = None
    left: int | None = None
    seconds_left: int | None = None
    at = b""
    if connection is not None:
        data = connection.data
        expected = data.figures().total_entries or None
        state = data.get_state()
        if state.state in _RUNNING:
            left = None if state.unsupported & DataUnsupported.EST_BYTES_REMAIN else state.est_bytes_remain
            seconds_left = None if state.unsupported & DataUnsupported.EST_TIME_REMAIN else state.est_time_remain
        at = data.at()
    entries = entries_of(status)
    rate, entries_rate = _rates(track, moment.now, status.stream_bytes, entries)
    return JobRow(
        number=status.number,
        session_id=status.session_id,
        vserver=status.vserver,
        operation=status.operation,
        backup_type=status.backup_type,
        level=status.level,
        path=status.path,
        at=show(at),
        phase=status.phase,
        entries=entries,
        entries_expected=expected,
        errors=status.errors,
        history_entries=status.history_entries,
        stream_bytes=status.stream_bytes,
        stream_bytes_left=left,
        seconds_left=seconds_left,
        elapsed_seconds=status.elapsed_seconds,
        rate=rate,
        entries_rate=entries_rate,
        bottleneck=meter.bottleneck(),
        seconds=status.wait_seconds,
        rate_history=track.outline.rates(moment.now, status.stream_bytes) if track and moment.history else [],
    )


def _movers(statistics: Statistics, moment: Moment) -> list[JobRow]:
    return [_mover(each, meter, statistics, moment) for each, meter in statistics.movers()]


def _mover(service: MoverService, meter: Meter, statistics: Statistics, moment: Moment) -> JobRow:
    track = statistics.tracks.get(("mover", meter))
    moved = service.counters().bytes_moved
    (rate,) = _rates(track, moment.now, moved)
    return JobRow(
        number=None,
        session_id=service.session_id,
        vserver=service.vserver,
        operation="mover-read" if service.machine.mode is MoverMode.READ else "mover-write",
        stream_bytes=moved,
        elapsed_seconds=round(meter.elapsed_s, 3),
        rate=rate,
        bottleneck=meter.bottleneck(),
        seconds=meter.seconds(),
        rate_history=track.outline.rates(moment.now, moved) if track and moment.history else [],
    )


def _ring(ring: OpenRing, statistics: Statistics, moment: Moment) -> RingRow:
    now = ring.control.statistics()
    track = statistics.tracks.get(("ring", ring.name))
    (rate,) = _rates(track, moment.now, now.bytes_out)
    return RingRow(
        name=ring.name,
        kind=ring.kind,
        session_id=ring.session_id,
        size_bytes=now.slots * now.slot_bytes,
        fill_ratio=round(now.fill_ratio, 4),
        waiting=_WAITING.get(now.waiting, ""),
        bytes_in=now.bytes_in,
        bytes_out=now.bytes_out,
        times_full=now.times_full,
        times_empty=now.times_empty,
        waited_full_seconds=round(now.waited_full_ns / _BILLION, 3),
        waited_empty_seconds=round(now.waited_empty_ns / _BILLION, 3),
        rate=rate,
        fill_history=track.shape.values() if track and moment.history else [],
    )


def _processes(connections: list[Connection], statistics: Statistics, moment: Moment) -> list[ProcessRow]:
    owners = {worker.pid: each.session_id for each in connections for worker in each.workers()}
    return [
        _process(kind, figures, owners.get(pid), statistics, moment)
        for pid, (kind, figures) in moment.processes.items()
    ]


def _process(kind: str, figures: Figures, session_id: int | None, statistics: Statistics, moment: Moment) -> ProcessRow:
    track = statistics.tracks.get(("process", (figures.pid, figures.began)))
    details = moment.details[figures.pid]
    totals = figures.cpu_seconds, figures.read_bytes, figures.write_bytes
    cpu_rate, read_rate, write_rate = _rates(track, moment.now, *totals)
    return ProcessRow(
        pid=figures.pid,
        kind=kind,
        session_id=session_id,
        state=figures.state,
        cpu_seconds=figures.cpu_seconds,
        cpu_rate=cpu_rate,
        resident_bytes=figures.resident_bytes,
        read_bytes=figures.read_bytes,
        write_bytes=figures.write_bytes,
        read_rate=read_rate,
        write_rate=write_rate,
        context_switches=details.context_switches,
        involuntary_switches=details.involuntary_switches,
        open_files=details.open_files,
        threads=figures.threads,
        elapsed_seconds=figures.age_seconds,
    )


def _drive(bay: DriveBay, statistics: Statistics, moment: Moment) -> DriveRow:
    figures = statistics.ledger.drive(bay.name)
    track = statistics.tracks.get(("drive", bay.name))
    file_number, block_number = _position(bay, statistics)
    read_rate, written_rate = _rates(track, moment.now, figures.read_bytes, figures.written_bytes)
    return DriveRow(
        name=bay.name,
        state=bay.state,
        session_id=bay.session_id,
        barcode=bay.barcode,
        file_number=file_number,
        block_number=block_number,
        read_bytes=figures.read_bytes,
        written_bytes=figures.written_bytes,
        io_seconds=round(figures.io_ns / _BILLION, 3),
        underruns=figures.underruns,
        errors=figures.errors,
        read_rate=read_rate,
        written_rate=written_rate,
    )


def _position(bay: DriveBay, statistics: Statistics) -> tuple[int | None, int | None]:
    """Where the mover says that the tape stands; not known while there is none."""
    for ring in statistics.ledger.rings:
        if ring.drive == bay.name and bay.session_id == ring.session_id:
            gauge = ring.tape_gauge
            known = [gauge(TapeGauge.FILE_NUM), gauge(TapeGauge.BLOCKNO)]
            return (
                None if known[0] == _NOT_KNOWN else known[0],
                None if known[1] == _NOT_KNOWN else known[1],
            )
    return None, None
