"""Statistics of a node: a sample a second of all that moves, totals that never go back, and the answer for operators.

Theory of operation. A sample reads counters that others keep anyway: words of the rings' memory, attributes of the
services, /proc. Only /proc is read in a thread, since it can block. A look that somebody asks for is the sample, too,
where one is due; and while somebody asks again and again, the next one waits for him. What a sample remembers is
bounded for each row and let go with it. Totals do not depend on samples (mover/control/statistics_ledger.py), nor does
what a job's time went to (mover/control/bottleneck.py).
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
import trio

from mover.admin.messages import Failed
from mover.admin.statistics import EndedJob, StatisticsReply, StatisticsShow
from mover.control import statistics_processes as processes
from mover.control.statistics_ledger import Ledger, entries_of
from mover.control.statistics_rows import Moment, build_reply
from mover.control.statistics_series import Outline, Series, Shape
from mover.control.workers import describe_exit

if TYPE_CHECKING:
    from mover.admin.jobs import JobStatus
    from mover.control.bottleneck import Meter
    from mover.control.job_summary import RunningJob
    from mover.control.mover_service import MoverService
    from mover.control.node import Node
    from mover.control.workers import Worker

ENDED_SHOWN: Final = 32
SELDOM: Final = 10
"""Of so many samples one looks at the processes that have nothing to do, too."""
EARLY: Final = 0.9
"""So many intervals after a sample a look that is asked for is the next one."""
LATE: Final = 1.5
"""So many intervals the next sample waits for a look, where one was asked for since the last."""
OFF: Final = "statistics are off: node.statistics_interval_s is 0"

log = structlog.get_logger()


class Track:
    """What is remembered of one row.

    Attributes:
        series: of its totals.
        shape: of its fill ratio, of a ring.
        outline: of its bytes, of a job.
    """

    def __init__(self, now: float, *values: float) -> None:
        self.series = Series(now, *values)
        self.shape = Shape()
        self.outline = Outline(now)


class Seen(NamedTuple):
    """The last look at a worker that lives."""

    kind: str
    cpu_seconds: float


class Statistics:
    """The statistics of a node.

    Attributes:
        ledger: the totals.
        jobs: those that run, by number.
        ended: the latest first.
        movers: of tape hosts, whose data connection goes to another server.
        tracks: by row.
        cost_s: processor time that all this has taken.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.ledger = Ledger(time.monotonic_ns)
        self.jobs: dict[int, RunningJob] = {}
        self.ended: deque[EndedJob] = deque(maxlen=ENDED_SHOWN)
        self.tracks: dict[tuple[str, object], Track] = {}
        self.started = time.monotonic()
        self.cost_s = 0.0
        self._seen: dict[Worker, Seen] = {}
        self._sampled = math.inf
        """When the last sample was taken, by trio's clock; infinity = none is wanted yet."""
        self._asked = False
        """Whether a look was asked for since, or was that sample."""

    @property
    def interval_s(self) -> int:
        """Between two samples; 0 = there are none."""
        return self._node.config.node.statistics_interval_s

    # --- what begins and ends

    def begin_job(self, job: RunningJob) -> None:
        """A data operation begins."""
        self.jobs[job.number] = job

    def end_job(self, job: RunningJob, ended: JobStatus) -> None:
        """It is over, and these are its figures."""
        now = time.monotonic()
        self.jobs.pop(job.number, None)
        self.ledger.end_job(ended)
        track = self.tracks.pop(("job", job.number), None)
        elapsed = ended.elapsed_seconds
        self.ended.appendleft(
            EndedJob(
                number=ended.number,
                session_id=ended.session_id,
                vserver=ended.vserver,
                operation=ended.operation,
                backup_type=ended.backup_type,
                level=ended.level,
                path=ended.path,
                state=ended.state,
                started=ended.started,
                ended=ended.ended or ended.started,
                entries=entries_of(ended),
                errors=ended.errors,
                stream_bytes=ended.stream_bytes,
                history_entries=ended.history_entries,
                rate=round(ended.stream_bytes / elapsed, 3) if elapsed else 0.0,
                rate_history=track.outline.rates(now, ended.stream_bytes) if track is not None else [],
                seconds=ended.wait_seconds,
            )
        )

    def end_worker(self, worker: Worker) -> None:
        """A worker has ended."""
        seen = self._seen.pop(worker, None)
        used = max(worker.cpu_seconds, seen.cpu_seconds if seen is not None else 0.0)
        self.ledger.add_exit(worker.kind, describe_exit(worker.exit_status), used)

    # --- samples

    async def run(self) -> None:
        """Take samples until cancelled; where statistics are off there are none."""
        samples = 0
        failing = False
        self._sampled = trio.current_time()
        while self.interval_s:
            due = self._sampled + self.interval_s * (LATE if self._asked else 1)
            if trio.current_time() < due:
                await trio.sleep_until(due)
                continue  # a look may have been the sample meanwhile
            samples += 1
            self._sampled, self._asked = trio.current_time(), False
            try:
                await self.sample(resting=samples % SELDOM == 0)
            except Exception:  # whatever a look at things meets, the jobs of DMAs go on
                if not failing:
                    log.exception("no sample for statistics")
                failing = True
            else:
                failing = False

    async def sample(self, *, resting: bool = True) -> None:
        """Take one sample. Args: resting: of templates and spares too."""
        found, _ = await self._read_processes(resting=resting)
        began = time.thread_time()
        self._sample(found)
        self.cost_s += time.thread_time() - began

    def _processes(self, *, resting: bool) -> dict[int, tuple[str, Worker | None]]:
        """The processes of this server by pid, what each is, and its worker. Args: resting: templates, spares too."""
        supervisor = self._node.supervisor
        found: dict[int, tuple[str, Worker | None]] = {os.getpid(): ("control", None)}
        for pid, kind in supervisor.processes().items():
            if resting or "-" not in kind:
                found[pid] = (kind, supervisor.workers.get(pid))
        return found

    async def _read_processes(
        self, *, resting: bool, closer: bool = False
    ) -> tuple[dict[int, tuple[str, processes.Figures]], dict[int, processes.Details]]:
        """Look at the processes; of workers it is remembered what they have used. Args: closer: with details."""
        wanted = self._processes(resting=resting)
        kinds = {pid: kind for pid, (kind, _) in wanted.items()}
        seen = await trio.to_thread.run_sync(partial(_look, kinds, helpers=resting, closer=closer))
        wanted |= {pid: (kind, None) for pid, kind in seen.helpers.items()}
        self.cost_s += seen.cost_s
        found = {}
        for figures in seen.figures:
            kind, worker = wanted[figures.pid]
            if worker is not None:
                if worker.gone.is_set() or self._node.supervisor.workers.get(worker.pid) is not worker:
                    continue  # it ended meanwhile, and its last account stands
                before = self._seen.get(worker, Seen(worker.kind, 0.0))
                self._seen[worker] = Seen(worker.kind, max(before.cpu_seconds, figures.cpu_seconds))
            found[figures.pid] = (kind, figures)
        return found, seen.details

    def track(self, row: tuple[str, object], now: float, *values: float) -> Track:
        """What is remembered of a row, from now on if it is new; ``values``: its totals when it began."""
        track = self.tracks.get(row)
        if track is None:
            track = self.tracks[row] = Track(now, *values)
        return track

    def movers(self) -> list[tuple[MoverService, Meter]]:
        """The movers at work whose data connection goes to another server."""
        services = [each.mover for each in self._node.connections.values() if each.services_open]
        return [(each, each.meter) for each in services if each.meter is not None and each.is_remote]

    def _sample(self, found: dict[int, tuple[str, processes.Figures]]) -> None:
        now = time.monotonic()
        for pid, (_, figures) in found.items():
            values = figures.cpu_seconds, figures.read_bytes, figures.write_bytes
            self.track(("process", (pid, figures.began)), now, *values).series.add(now, *values)
        live: set[tuple[str, object]] = set()
        for ring in self.ledger.rings:
            statistics = ring.control.statistics()
            track = self.track(("ring", ring.name), now, 0)
            track.series.add(now, statistics.bytes_out)
            track.shape.add(statistics.fill_ratio)
            live.add(("ring", ring.name))
        for number, job in self.jobs.items():
            job.meter.look()
            stream_bytes, entries = job.progress()
            track = self.track(("job", number), job.began, 0, 0)
            track.series.add(now, stream_bytes, entries)
            track.outline.add(now, stream_bytes)
            live.add(("job", number))
        for mover, meter in self.movers():
            meter.look()
            moved = mover.counters().bytes_moved
            track = self.track(("mover", meter), now - meter.elapsed_s, 0)
            track.series.add(now, moved)
            track.outline.add(now, moved)
            live.add(("mover", meter))
        for bay in self._node.devices:
            drive = self.ledger.drive(bay.name)
            self.track(("drive", bay.name), self.started, 0, 0).series.add(now, drive.read_bytes, drive.written_bytes)
            live.add(("drive", bay.name))
        pids = found.keys() | self._processes(resting=True).keys()
        for row in list(self.tracks):
            kind, name = row
            gone = name[0] not in pids if kind == "process" and isinstance(name, tuple) else row not in live
            if gone:
                del self.tracks[row]

    # --- the answer

    async def show(self, request: StatisticsShow) -> StatisticsReply | Failed:
        """One moment of the node."""
        if not self.interval_s:
            return Failed("refused", OFF)
        found, details = await self._read_processes(resting=True, closer=True)
        began = time.thread_time()
        self._asked = True
        if trio.current_time() >= self._sampled + EARLY * self.interval_s:
            self._sampled = trio.current_time()
            self._sample(found)
        cpu_seconds: dict[str, float] = {}
        for kind, used in self._seen.values():
            cpu_seconds[kind] = cpu_seconds.get(kind, 0.0) + used
        moment = Moment(
            now=time.monotonic(), history=request.history, processes=found, details=details, cpu_seconds=cpu_seconds
        )
        reply = build_reply(self._node, self, moment)
        self.cost_s += time.thread_time() - began
        return reply


class Look(NamedTuple):
    """What one look at /proc has found; ``cost_s``: the processor time that it took."""

    figures: list[processes.Figures]
    helpers: dict[int, str]
    details: dict[int, processes.Details]
    cost_s: float


def _look(kinds: dict[int, str], *, helpers: bool, closer: bool) -> Look:
    """Read processes. Blocks. Args: helpers: find those that run, too. closer: with details."""
    began = time.thread_time()
    more = processes.find_helpers(kinds.keys()) if helpers else {}
    looked = [processes.read_process(pid, copies=kind == "data") for pid, kind in (kinds | more).items()]
    found = [each for each in looked if each is not None]
    details = {each.pid: processes.read_details(each.pid) for each in found} if closer else {}
    return Look(found, more, details, time.thread_time() - began)
