"""What the time of a job goes to, from what the two sides of its data ring have counted.

Theory of operation. A ring has a producer and a consumer, and each of them is one of three: the files (a data worker),
a tape (a drive and its worker), or a relay (the network and who is behind it). While the ring is full the consumer is
the slow one, while it is empty the producer is; what the slow one did meanwhile is in its own gauges. So every share is
a part of one side's waiting, and the shares exclude each other. The counters are sums, kept by the workers: a job of
three seconds is told as well as one of three days, and the difference of two looks tells what it waits for now.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, Self

from mover.admin.base import Bottleneck
from mover.admin.statistics import WaitCause
from mover.ring import DataGauge, DataPhase, RelayGauge, RingControl, RingStatistics, TapeGauge

Side = Literal["files", "tape", "relay"]

LOOKS: Final = 3
"""Samples that a bottleneck "now" reaches back over."""
STANDS_OUT: Final = 0.1
"""The part of the time from which on a cause is what a job waits for."""
HALF_FULL: Final = 0.5
_BILLION: Final = 1_000_000_000
_STREAM_PHASES: Final = (DataPhase.DIRECTORIES, DataPhase.FILES, DataPhase.FINISH)
_SCAN_PHASES: Final = (DataPhase.SCAN, DataPhase.CHANGES)


class Counters(NamedTuple):
    """Sums of nanoseconds, those of a wait under way included.

    Attributes:
        scan: the data worker was in the phases SCAN and CHANGES.
        stream: it was in those that make or take the stream.
        history: it waited for file history to be read.
        full: the ring's producer waited; or, with its end in the stream, somebody waits for the peer to take the rest.
        empty: the ring's consumer waited.
        tape: in calls of the drive.
        socket: the relay waited for room in its socket, or for bytes.
        peer_full: its peer took nothing.
    """

    elapsed: int = 0
    scan: int = 0
    stream: int = 0
    history: int = 0
    full: int = 0
    empty: int = 0
    tape: int = 0
    socket: int = 0
    peer_full: int = 0

    def since(self, before: Self) -> "Counters":
        """What came since an earlier look. A sum that was read in the midst of a change counts for nothing."""
        return Counters(*(max(0, now - then) for now, then in zip(self, before, strict=True)))


def shares(producer: Side, consumer: Side, spent: Counters) -> dict[WaitCause, int]:
    """Nanoseconds by cause; together they are no more than ``elapsed``. A cause of nothing is left out."""
    found: dict[WaitCause, int] = {"scan": spent.scan, "file-history": spent.history}
    full = spent.full
    if consumer == "files":
        full = max(0, full - spent.history)
    elif consumer == "tape":
        found["tape"] = min(full, spent.tape)
    else:
        waited = min(full, spent.socket)
        theirs = min(waited, spent.peer_full)
        found["tape" if producer == "files" else "ring-full"] = theirs
        found["network"] = waited - theirs
    found["ring-full"] = full - sum(found.get(cause, 0) for cause in ("tape", "network"))
    # While it scans, or waits for history, a data worker makes nothing either.
    empty = max(0, spent.empty - spent.scan - spent.history) if producer == "files" else spent.empty
    if producer == "files":
        slow: WaitCause = "read"
        did = max(0, spent.stream - spent.full - spent.history)
    elif producer == "tape":
        slow, did = "tape", spent.tape
    else:
        slow, did = "network", spent.socket
    part = min(empty, did)
    found[slow] = found.get(slow, 0) + part
    found["ring-empty"] = empty - part
    left = spent.elapsed
    for cause, nanoseconds in found.items():
        found[cause] = min(nanoseconds, left)
        left -= found[cause]
    return {cause: nanoseconds for cause, nanoseconds in found.items() if nanoseconds}


def phases_ns(gauges: list[int], now: int) -> list[int]:
    """Nanoseconds that a data worker has spent in each DataPhase. Args: gauges: of its side of the ring."""
    spent = gauges[DataGauge.PHASE_NS : DataGauge.PHASE_NS + len(DataPhase)]
    since, phase = gauges[DataGauge.PHASE_SINCE_NS], gauges[DataGauge.PHASE]
    if since and phase < len(spent):
        spent[phase] += max(0, now - since)
    return spent


class Meter:
    """Reads one data ring for one job, from now on.

    Args:
        ring: the data ring.
        producer, consumer: who is at its sides.
        history: the file history's ring, while there is one.
        clock: monotonic nanoseconds.

    Attributes:
        history_tail_ns: how long the last of the file history was waited for, behind the worker's last word.
    """

    def __init__(
        self,
        ring: RingControl,
        producer: Side,
        consumer: Side,
        history: Callable[[], RingStatistics | None] = lambda: None,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.ring = ring
        self.history_tail_ns = 0
        self._producer: Side = producer
        self._consumer: Side = consumer
        self._history = history
        self._clock = clock
        self._ended: Counters | None = None
        self._began = 0
        self._began = self.counters().elapsed
        self._base = self.counters()
        self._looks: deque[Counters] = deque([self._base], maxlen=LOOKS)

    def counters(self) -> Counters:
        """The sums now, or as they were at the end."""
        if self._ended is not None:
            return self._ended
        ring, now = self.ring.statistics(), self._clock()
        scan = stream = history = tape = socket = peer_full = closing = 0
        for side, kind in (("producer", self._producer), ("consumer", self._consumer)):
            if kind == "files":
                gauges = self.ring.gauges(side)
                spent = phases_ns(gauges, now)
                scan = sum(spent[phase] for phase in _SCAN_PHASES)
                stream = sum(spent[phase] for phase in _STREAM_PHASES)
                history = gauges[DataGauge.HISTORY_WAIT_NS]
            elif kind == "tape":
                tape = self._sum_ns(side, TapeGauge.IO_NS, TapeGauge.IO_SINCE_NS, now)
            else:
                socket = self._sum_ns(side, RelayGauge.SOCKET_WAIT_NS, RelayGauge.SOCKET_SINCE_NS, now)
                peer_full = self.ring.gauge(side, RelayGauge.PEER_FULL_NS)
                closing = self.ring.gauge(side, RelayGauge.CLOSING_NS)
        waiting = self._history()
        if waiting is not None:
            history = max(history, waiting.waited_full_ns)
        return Counters(
            elapsed=now - self._began,
            scan=scan,
            stream=stream,
            history=history + self.history_tail_ns,
            full=ring.waited_full_ns + closing,
            empty=ring.waited_empty_ns,
            tape=tape,
            socket=socket,
            peer_full=peer_full,
        )

    def _sum_ns(self, side: str, total: int, under_way: int, now: int) -> int:
        since = self.ring.gauge(side, under_way)
        return self.ring.gauge(side, total) + (max(0, now - since) if since else 0)

    def look(self) -> None:
        """Remember the sums of this moment, for what the job waits for now."""
        self._looks.append(self.counters())

    def end(self) -> None:
        """The job is over: its time stands still."""
        self._ended = self.counters()

    def seconds(self, counters: Counters | None = None) -> dict[WaitCause, float]:
        """Cause -> seconds of the whole job. Args: counters: the sums now, of whoever has them already."""
        found = shares(self._producer, self._consumer, (counters or self.counters()).since(self._base))
        seconds = {cause: round(nanoseconds / _BILLION, 3) for cause, nanoseconds in found.items()}
        return {cause: spent for cause, spent in seconds.items() if spent}

    @property
    def elapsed_s(self) -> float:
        """Since it began, or that it took."""
        return self.counters().elapsed / _BILLION

    def bottleneck(self) -> Bottleneck:
        """What the job waits for now: most of the time since the oldest of the last looks."""
        spent = self.counters().since(self._looks[0])
        found = shares(self._producer, self._consumer, spent)
        cause = max(found, key=lambda each: found[each], default=None)
        if cause is not None and found[cause] >= STANDS_OUT * spent.elapsed:
            return cause
        return "ring-full" if self.ring.statistics().fill_ratio > HALF_FULL else "ring-empty"
