"""/metrics: one moment of the server in Prometheus' text formats.

No label grows with what strangers do or with time: no path, no session, no file name. A data ring is so the n-th of
those in use at once, and has its session's name in `mover top` only.

Source: contract.md, Metrics (the names); Prometheus' exposition formats; OpenMetrics 1.0.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from mover.admin.statistics import DriveRow, JobRow, RingRow, StatisticsReply, Totals

OPENMETRICS: Final = "application/openmetrics-text"
OPERATIONS: Final = ("backup", "recover", "recover-filehist")
MOVER_OPERATIONS: Final = ("mover-read", "mover-write")
RESULTS: Final = ("successful", "failed", "aborted", "interrupted")
CONTROL: Final = "control"
WORKER_KINDS: Final = ("data", "tape", "relay")
ORDERLY: Final = ("exit 0", "exit 3")  # a spare's, and that of a worker whose control socket was closed
SCANNING: Final = ("scan", "changes")
STALLED_S: Final = 60.0

_TOTALS: Final = {
    "data_bytes": ("mover_data_bytes", "Bytes of backup streams that DATA services made or took."),
    "mover_bytes": ("mover_mover_bytes", "Bytes that movers took to tape or from it."),
    "files": ("mover_files", "Files, directories and other objects backed up and recovered."),
    "history_entries": ("mover_file_history_entries", "Entries of file history that were sent."),
    "history_wait_seconds": (
        "mover_file_history_wait_seconds",
        "Seconds for which jobs waited until a DMA had read its file history.",
    ),
    "authentication_failures": ("mover_authentication_failures", "Failed logins of DMAs."),
}
"""A field of Totals -> the metric's name, to which `_total` is added, and its help."""

_DRIVES: Final = {
    "read_bytes": ("mover_tape_read_bytes", "Bytes read from tape."),
    "written_bytes": ("mover_tape_written_bytes", "Bytes written to tape, pads included."),
    "io_seconds": ("mover_tape_io_time_seconds", "Seconds spent in calls of the drive."),
    "underruns": ("mover_tape_underruns", "How often a drive stood still for want of data or of room."),
    "errors": ("mover_tape_errors", "Operations that the medium, the drive or the way to it failed."),
}
"""A field of DriveRow -> the metric's name, to which `_total` is added, and its help."""


class Exposition:
    """Turns moments into what a scrape gets."""

    def __init__(self) -> None:
        self._places = RingPlaces()

    def render(self, reply: StatisticsReply, accept: str) -> tuple[bytes, str]:
        """The moment, in what the Accept header asks for: body and content type."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Moment(list(families(reply, self._places))))
        # The library takes versions that are none for numbers, and says to have any: it is asked for the one we mean.
        asked = any(kind.partition(";")[0].strip() == OPENMETRICS for kind in accept.split(","))
        encode, content_type = choose_encoder(f"{OPENMETRICS};version=1.0.0" if asked else "")
        return encode(registry), content_type


class _Moment(Collector):
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


class RingPlaces:
    """Gives each ring the lowest number that none of its kind has, for as long as it is there."""

    def __init__(self) -> None:
        self._numbers: dict[str, tuple[str, int]] = {}  # ring -> kind, number

    def names(self, rings: Iterable[RingRow]) -> dict[str, str]:
        """Ring -> its label: data_1, history_1, data_2 and so on."""
        kinds = {ring.name: ring.kind for ring in rings}
        self._numbers = {name: place for name, place in self._numbers.items() if name in kinds}
        for name, kind in kinds.items():
            if name not in self._numbers:
                taken = set(self._numbers.values())
                self._numbers[name] = next(place for number in count(1) if (place := (kind, number)) not in taken)
        return {name: f"{kind}_{number}" for name, (kind, number) in self._numbers.items()}


def is_stalled(job: JobRow) -> bool:
    """Whether neither bytes nor entries have moved for a minute; a scan is known by its entries only at its end."""
    return (
        job.elapsed_seconds >= STALLED_S
        and job.phase not in SCANNING
        and not job.rate.over_60
        and not job.entries_rate.over_60
    )


def families(reply: StatisticsReply, places: RingPlaces) -> Iterator[Metric]:
    """Every metric there is, also those that have nothing to count yet."""
    build = InfoMetricFamily("mover_build", "The version of mover.")
    build.add_metric([], {"version": reply.version})
    yield build
    yield GaugeMetricFamily("mover_sessions", "NDMP connections.", value=len(reply.sessions))
    yield from _of_jobs(reply)
    for field, (name, text) in _TOTALS.items():
        yield CounterMetricFamily(name, text, value=getattr(reply.totals, field))
    yield from _of_rings(reply, places)
    yield from _of_workers(reply)
    yield from _of_drives(reply.drives)
    yield CounterMetricFamily(
        "mover_statistics_cpu_seconds",
        "Processor time that the control process has spent on statistics.",
        value=reply.cost_seconds,
    )


def _of_jobs(reply: StatisticsReply) -> Iterator[Metric]:
    ended = {f"{operation}/{result}": 0 for operation in OPERATIONS for result in RESULTS} | reply.totals.jobs
    jobs = CounterMetricFamily("mover_jobs", "Jobs that have ended.", labels=("operation", "result"))
    _add_pairs(jobs, ended)
    yield jobs
    running = Counter(job.operation for job in reply.jobs)
    jobs_running = GaugeMetricFamily("mover_jobs_running", "Jobs and lone movers at work.", labels=("operation",))
    for operation in (*OPERATIONS, *MOVER_OPERATIONS):
        jobs_running.add_metric([operation], running[operation])
    yield jobs_running
    yield GaugeMetricFamily(
        "mover_jobs_stalled",
        "Jobs whose bytes and entries have not grown for a minute.",
        value=sum(is_stalled(job) for job in reply.jobs),
    )


def _of_rings(reply: StatisticsReply, places: RingPlaces) -> Iterator[Metric]:
    fill = GaugeMetricFamily("mover_ring_fill_ratio", "How full a ring is, 0 to 1.", labels=("ring",))
    names = places.names(reply.rings)
    for ring in reply.rings:
        fill.add_metric([names[ring.name]], ring.fill_ratio)
    yield fill
    waits = CounterMetricFamily(
        "mover_ring_wait_seconds",
        "Seconds for which rings stood full, and their producers waited, or empty, and their consumers did.",
        labels=("side",),
    )
    waits.add_metric(["full"], reply.totals.ring_full_seconds)
    waits.add_metric(["empty"], reply.totals.ring_empty_seconds)
    yield waits


def _of_workers(reply: StatisticsReply) -> Iterator[Metric]:
    totals: Totals = reply.totals
    cpu = CounterMetricFamily(
        "mover_worker_cpu_seconds", "Processor time of processes, those that have ended included.", labels=("kind",)
    )
    spent = dict.fromkeys(WORKER_KINDS, 0.0) | totals.worker_cpu_seconds
    # It lives as long as its totals.
    spent |= {process.kind: process.cpu_seconds for process in reply.processes if process.kind == CONTROL}
    for kind, seconds in spent.items():
        cpu.add_metric([kind], seconds)
    yield cpu
    resident = dict.fromkeys(spent, 0)
    for process in reply.processes:
        resident[process.kind] = resident.get(process.kind, 0) + process.resident_bytes
    memory = GaugeMetricFamily("mover_worker_resident_bytes", "Memory of running processes.", labels=("kind",))
    for kind, size in resident.items():
        memory.add_metric([kind], size)
    yield memory
    exits = CounterMetricFamily("mover_worker_exits", "Workers that have ended.", labels=("kind", "reason"))
    _add_pairs(exits, {f"{kind}/{reason}": 0 for kind in WORKER_KINDS for reason in ORDERLY} | totals.worker_exits)
    yield exits


def _of_drives(drives: Iterable[DriveRow]) -> Iterator[Metric]:
    for field, (name, text) in _DRIVES.items():
        family = CounterMetricFamily(name, text, labels=("device",))
        for drive in drives:
            family.add_metric([drive.name], getattr(drive, field))
        yield family
    hung = GaugeMetricFamily("mover_tape_hung", "1 = the device does not answer.", labels=("device",))
    for drive in drives:
        hung.add_metric([drive.name], drive.state == "hung")
    yield hung


def _add_pairs(family: CounterMetricFamily, found: dict[str, int]) -> None:
    for pair, number in found.items():
        first, _, second = pair.partition("/")
        family.add_metric([first, second], number)
