"""The variables of a data operation, and what GET_STATE, `mover status` and the watch over a job see of it."""

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mover.admin.jobs import JobStatus
from mover.control.data_addresses import DataAddress
from mover.control.data_connection import DataConnection
from mover.control.data_run import DataRun
from mover.control.estimate import Figures, Rate, backup_bytes_remain, recover_bytes_remain
from mover.control.job_watch import Look
from mover.control.statistics_ledger import entries_of
from mover.control.workers import Worker
from mover.ndmp.enums import DataOperation, DataState, DataUnsupported
from mover.ndmp.messages import LOCAL, DataGetStateReply
from mover.ring import DataGauge, DataPhase, RingStatistics
from mover.workers.data_messages import DataFinished, Pairs

if TYPE_CHECKING:
    from mover.control.connection import Connection

RUNNING: Final = (DataState.ACTIVE, DataState.PAUSED)


class DataVariables:
    """What a data operation is, and how far it has come.

    Attributes:
        butype: backup type of the operation, for status.
        env: of the operation, as GET_ENV tells it.
        path: what is backed up or recovered, for status.
        result: the worker's last word; None before.
        ended: how it ended, until the DMA has stopped it.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.machine = connection.machines.data
        self.connection_end: DataConnection | None = None
        self.address: DataAddress = LOCAL
        self.butype = ""
        self.env: Pairs = []
        self.path = b""
        self.read_offset = 0
        self.read_length = 0
        self.result: DataFinished | None = None
        self.ended: JobStatus | None = None
        self.started = 0.0
        self.ended_after_s: float | None = None
        self._run: DataRun | None = None
        self._processed = 0
        self._rate = Rate(0.0)
        self._stream_bytes = 0  # of the stream that a recover reads from its beginning; 0 = not known

    @property
    def worker(self) -> Worker | None:
        """The data worker at work."""
        return self._run.worker if self._run is not None else None

    @property
    def snapshot(self) -> str:
        """The name of the snapshot that is made or read; "" = none."""
        return self._run.snapshot if self._run is not None else ""

    def gauge(self, gauge: DataGauge) -> int:
        """A gauge of the running worker; 0 when there is none."""
        end = self.connection_end
        if end is None or end.ring is None or self.worker is None:
            return 0
        side = "producer" if self.machine.operation is DataOperation.BACKUP else "consumer"
        return end.ring.control.gauge(side, gauge)

    def ring_statistics(self) -> RingStatistics | None:
        """The data ring's counters while a job runs."""
        end = self.connection_end
        return end.ring.control.statistics() if end is not None and end.ring is not None else None

    def history_statistics(self) -> RingStatistics | None:
        """The history ring's counters while a job runs."""
        return self._run.history_statistics() if self._run is not None else None

    def bytes_processed(self) -> int:
        """Stream bytes so far."""
        if self.result is not None:
            return self.result.stream_bytes
        self._processed = max(self._processed, self.gauge(DataGauge.STREAM_BYTES))
        return self._processed

    def entries(self) -> int:
        """Those that the scan of a backup has found; of an operation that has halted those it has dealt with."""
        return entries_of(self.ended) if self.ended is not None else self.gauge(DataGauge.TOTAL_ENTRIES)

    def elapsed_s(self) -> float:
        """Seconds since the operation began, or that it took."""
        if self.started == 0.0:
            return 0.0
        return self.ended_after_s if self.ended_after_s is not None else time.monotonic() - self.started

    def figures(self) -> Figures:
        """How far the running worker is."""
        gauge = self.gauge
        return Figures(
            phase=self.phase(),
            processed=self.bytes_processed(),
            total_bytes=gauge(DataGauge.TOTAL_BYTES),
            total_entries=gauge(DataGauge.TOTAL_ENTRIES),
            directories=gauge(DataGauge.DIRECTORIES),
            files=gauge(DataGauge.FILES),
            errors=gauge(DataGauge.ERRORS),
            file_bytes=gauge(DataGauge.FILE_BYTES),
        )

    def _sample(self) -> None:
        self._rate.sample(time.monotonic(), self.bytes_processed())

    def _remain(self) -> tuple[int | None, int | None]:
        """Bytes and seconds that are left of the running operation; None = nobody knows."""
        figures = self.figures()
        if self.machine.operation is DataOperation.BACKUP:
            remain = backup_bytes_remain(self.butype, figures)
        else:
            remain = recover_bytes_remain(self._stream_bytes, figures)
        self._sample()
        seconds = self._rate.seconds_for(remain, time.monotonic(), figures.processed) if remain is not None else None
        return remain, seconds

    def get_state(self) -> DataGetStateReply:
        """All variables, as DATA_GET_STATE tells them."""
        machine = self.machine
        processed = self.bytes_processed()
        remain, est_time = self._remain() if machine.state in RUNNING else (0, 0)
        unsupported = 0
        if remain is None:
            unsupported |= DataUnsupported.EST_BYTES_REMAIN
        if est_time is None:
            unsupported |= DataUnsupported.EST_TIME_REMAIN
        return DataGetStateReply(
            unsupported=unsupported,
            operation=machine.operation,
            state=machine.state,
            halt_reason=machine.halt_reason,
            pause_reason=machine.pause_reason,
            bytes_processed=processed,
            est_bytes_remain=remain or 0,
            est_time_remain=est_time or 0,
            data_connection_addr=self.address,
            read_offset=self.read_offset,
            read_length=self.read_length,
        )

    def _look(self, run: DataRun) -> Look | None:
        """What a watcher sees of an operation; None = it has said its last word."""
        end = self.connection_end
        if self._run is not run or self.result is not None or end is None or end.ring is None:
            return None
        operation, figures = self.machine.operation, self.figures()
        is_backup = operation is DataOperation.BACKUP
        ring, history = end.ring.control, run.history_statistics()
        waits = ring.statistics().waiting == ("full" if is_backup else "empty")
        waits = waits or (history is not None and history.waiting == "full")
        return Look(operation, figures, self.gauge(DataGauge.LOOKED_AT), waits, self.at())

    def at(self) -> bytes:
        """The path at hand; b"" = none."""
        end = self.connection_end
        if end is None or end.ring is None or self.phase() not in {DataPhase.SCAN, DataPhase.FILES}:
            return b""
        is_backup = self.machine.operation is DataOperation.BACKUP
        note = end.ring.control.note("producer" if is_backup else "consumer")
        return b"/".join(part for part in (self.path.rstrip(b"/"), note) if part) if is_backup else note

    def phase(self) -> DataPhase:
        """Where the running worker is."""
        with suppress(ValueError):
            return DataPhase(self.gauge(DataGauge.PHASE))
        return DataPhase.IDLE
