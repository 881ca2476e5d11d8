"""Totals that never go back: what runs now, and what was counted before the counters of something were let go.

Theory of operation. Each counter lives where it is kept: in a ring's memory, in a job's last word, in the kernel's
accounts of a process. Whoever ends it tells the ledger first, with the last value; so nothing is lost between two
samples, and nothing is counted twice. A job's own figures are those of its summary, there is no second source.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import add, sub
from typing import Final, Literal, NamedTuple

from mover.admin.jobs import JobStatus
from mover.admin.statistics import Totals
from mover.ring import RingControl, TapeGauge

Kind = Literal["data", "history"]

_BILLION: Final = 1_000_000_000


class DriveFigures(NamedTuple):
    """Of one drive, since the server began; or the part of it that one ring has seen."""

    read_bytes: int = 0
    written_bytes: int = 0
    io_ns: int = 0
    underruns: int = 0
    errors: int = 0

    def plus(self, other: "DriveFigures") -> "DriveFigures":
        """The sum of both."""
        return DriveFigures(*map(add, self, other))

    def minus(self, other: "DriveFigures") -> "DriveFigures":
        """What is beyond the other."""
        return DriveFigures(*(max(0, each) for each in map(sub, self, other)))


class OpenRing:
    """A ring that is not closed yet.

    Attributes:
        name: as RingRow has it.
        drive: of the tape worker that is in it, or was last; "" = none was.
    """

    def __init__(self, name: str, kind: Kind, session_id: int, control: RingControl, clock: Callable[[], int]) -> None:
        self.name = name
        self.kind: Kind = kind
        self.session_id = session_id
        self.control = control
        self.drive = ""
        self._clock = clock
        self._writes = False
        self._side = ""
        self._settled = DriveFigures()

    @property
    def mover_bytes(self) -> int:
        """Stream bytes that went to tape or came from it."""
        return self.tape_gauge(TapeGauge.BYTES_MOVED) if self._side else 0

    def tape_gauge(self, gauge: TapeGauge) -> int:
        """What the tape worker publishes, or did last."""
        return self.control.gauge(self._side, gauge)

    def attach(self, drive: str, side: str, *, writes: bool) -> None:
        """A tape worker goes to work at one side of it."""
        self.drive, self._side, self._writes = drive, side, writes

    def unsettled(self) -> DriveFigures:
        """What the drive has done here, and the ledger has not been told."""
        return self._figures().minus(self._settled)

    def settle(self) -> DriveFigures:
        """The same, which counts as told from now on."""
        figures = self._figures()
        told, self._settled = figures.minus(self._settled), figures
        return told

    def _figures(self) -> DriveFigures:
        if not self._side:
            return DriveFigures()
        gauge = self.tape_gauge
        size, since = gauge(TapeGauge.DRIVE_BYTES), gauge(TapeGauge.IO_SINCE_NS)
        under_way = max(0, self._clock() - since) if since and not self.control.closed else 0
        return DriveFigures(
            read_bytes=0 if self._writes else size,
            written_bytes=size if self._writes else 0,
            io_ns=gauge(TapeGauge.IO_NS) + under_way,
            underruns=gauge(TapeGauge.UNDERRUNS),
        )


class Ledger:
    """The totals of a node, and the rings that are open.

    Args:
        clock: monotonic nanoseconds.

    Attributes:
        rings: the open ones.
        authentication_failures: logins that were refused.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self.rings: list[OpenRing] = []
        self.authentication_failures = 0
        self._clock = clock
        self._drives: dict[str, DriveFigures] = {}
        self._jobs: Counter[str] = Counter()
        self._exits: Counter[str] = Counter()
        self._cpu_s: dict[str, float] = {"data": 0.0, "tape": 0.0, "relay": 0.0}
        self._ended = Totals()  # of the jobs that are over
        self._mover_bytes = 0
        self._full_ns = self._empty_ns = 0
        self._shown = (0.0, 0.0)
        self._shown_io_ns: dict[str, int] = {}

    # --- what begins and ends

    def add_ring(self, kind: Kind, session_id: int, control: RingControl) -> None:
        """A ring was made; it is let go when it is closed."""
        name = f"{kind}-{session_id}"
        taken = {each.name for each in self.rings}
        number = 2
        while name in taken:  # a session may have one ring for its DATA and another one for its mover
            name, number = f"{kind}-{session_id}-{number}", number + 1
        ring = OpenRing(name, kind, session_id, control, self._clock)
        self.rings.append(ring)
        control.on_close = partial(self._close, ring)

    def attach_tape(self, control: RingControl, drive: str, *, writes: bool) -> None:
        """A tape worker goes to work in a ring; what was done before in it was another drive's, or this one's."""
        for ring in self.rings:
            if ring.control is control:
                self._settle(ring)
                ring.attach(drive, "consumer" if writes else "producer", writes=writes)

    def _settle(self, ring: OpenRing) -> None:
        if ring.drive:
            self.add_drive(ring.drive, ring.settle())

    def _close(self, ring: OpenRing) -> None:
        self.rings.remove(ring)
        self._settle(ring)
        self._mover_bytes += ring.mover_bytes
        if ring.kind == "data":
            statistics = ring.control.statistics()
            self._full_ns += statistics.waited_full_ns
            self._empty_ns += statistics.waited_empty_ns

    def add_drive(self, name: str, figures: DriveFigures) -> None:
        """What a drive has done."""
        self._drives[name] = self._drives.get(name, DriveFigures()).plus(figures)

    def end_job(self, job: JobStatus) -> None:
        """A job is over."""
        self._jobs[f"{job.operation}/{job.state}"] += 1
        self._ended = _with_job(self._ended, job)

    def add_exit(self, kind: str, reason: str, cpu_seconds: float) -> None:
        """A worker is gone. Args: cpu_seconds: all it ever used."""
        self._exits[f"{kind}/{reason}"] += 1
        self._cpu_s[kind] = self._cpu_s.get(kind, 0.0) + cpu_seconds

    # --- what there is now

    def drive(self, name: str) -> DriveFigures:
        """A drive since the server began."""
        figures = self._drives.get(name, DriveFigures())
        for ring in self.rings:
            if ring.drive == name:
                figures = figures.plus(ring.unsettled())
        # A call that ends is for a moment in neither of the two words that count it.
        io_ns = self._shown_io_ns[name] = max(figures.io_ns, self._shown_io_ns.get(name, 0))
        return figures._replace(io_ns=io_ns)

    def totals(self, cpu_seconds: dict[str, float], running: Iterable[JobStatus]) -> Totals:
        """Everything. Args: cpu_seconds: of the workers that live, by kind. running: the jobs as they are now."""
        totals = self._ended
        for status in running:
            totals = _with_job(totals, status)
        mover_bytes, full_ns, empty_ns = self._mover_bytes, self._full_ns, self._empty_ns
        for ring in self._data_rings():
            statistics = ring.control.statistics()
            mover_bytes += ring.mover_bytes
            full_ns += statistics.waited_full_ns
            empty_ns += statistics.waited_empty_ns
        # As with calls of a drive: a wait that ends.
        self._shown = max(self._shown[0], full_ns / _BILLION), max(self._shown[1], empty_ns / _BILLION)
        kinds = self._cpu_s.keys() | cpu_seconds.keys()
        return Totals(
            data_bytes=totals.data_bytes,
            mover_bytes=mover_bytes,
            files=totals.files,
            history_entries=totals.history_entries,
            history_wait_seconds=round(totals.history_wait_seconds, 3),
            ring_full_seconds=round(self._shown[0], 3),
            ring_empty_seconds=round(self._shown[1], 3),
            worker_cpu_seconds={
                kind: round(self._cpu_s.get(kind, 0.0) + cpu_seconds.get(kind, 0.0), 3) for kind in sorted(kinds)
            },
            worker_exits=dict(self._exits),
            jobs=dict(self._jobs),
            authentication_failures=self.authentication_failures,
        )

    def _data_rings(self) -> Iterator[OpenRing]:
        return (ring for ring in self.rings if ring.kind == "data")


def _with_job(totals: Totals, job: JobStatus) -> Totals:
    return Totals(
        data_bytes=totals.data_bytes + job.stream_bytes,
        files=totals.files + entries_of(job),
        history_entries=totals.history_entries + job.history_entries,
        history_wait_seconds=totals.history_wait_seconds + job.history_wait_seconds,
    )


def entries_of(job: JobStatus) -> int:
    """Everything that is in the stream, or was recovered: of all kinds."""
    return sum(job.entries.values())
