"""A running job as operators know it: what it has told so far, its lines in the backup log, its record, its end.

The numbers are the worker's, read from the data ring's gauges until its last word brings the causes of errors along.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from mover.admin.jobs import ErrorCause, JobState, JobStatus, Operation, SizeClass
from mover.control.backup_log import escape, identifier, timestamp
from mover.control.bottleneck import Meter, Side, phases_ns
from mover.control.data_addresses import NetworkAddress, shown_address
from mover.control.data_run import Start
from mover.control.environment import misspelt
from mover.control.job_book import JobBook, Record
from mover.control.job_watch import counted
from mover.control.volumes import show
from mover.ndmp.enums import DataHaltReason, DataOperation, LogType
from mover.ring import DataGauge, DataPhase, RingControl, RingStatistics
from mover.workers.data_messages import BackupDate, Cause, DataFinished, StartBackup
from mover.workers.messages import LogLine

if TYPE_CHECKING:
    from mover.control.connection import Connection

ERRORS_LISTED: Final = 100  # of a job in the backup log; what comes beyond is counted
CAUSES_MAX: Final = 24
PATHS_MAX: Final = 10
PATH_BYTES_MAX: Final = 256
OPTIONS_MAX: Final = 3000  # characters
_LINE_BYTES: Final = 8192
_BILLION: Final = 1_000_000_000
_MEGABYTE: Final = 1_000_000
_SIZES: Final = 64
_OPERATIONS: Final[dict[DataOperation, Operation]] = {
    DataOperation.BACKUP: "backup",
    DataOperation.RECOVER: "recover",
    DataOperation.RECOVER_FILEHIST: "recover-filehist",
}
# Kind of an entry -> its number in a directory entry (DT_, bits 12 to 15 of a mode), how many one and many are called.
_KINDS: Final = {
    "symlinks": (10, "symbolic link", "symbolic links"),
    "hard-links": (0, "further name", "further names"),
    "block-devices": (6, "block device", "block devices"),
    "character-devices": (2, "character device", "character devices"),
    "fifos": (1, "fifo", "fifos"),
    "sockets": (12, "socket", "sockets"),
}
_WORDS: Final = {
    "directories": ("directory", "directories"),
    "files": ("file", "files"),
    **{name: (one, many) for name, (_, one, many) in _KINDS.items()},
    "unknown": ("entry of unknown kind", "entries of unknown kind"),
}
# Files of less than 2^bits bytes.
_SIZE_WORDS: Final = (
    (0, "empty"), (12, "below 4 KiB"), (16, "below 64 KiB"), (20, "below 1 MiB"), (24, "below 16 MiB"),
    (30, "below 1 GiB"), (64, "of 1 GiB and more"),
)  # fmt: skip
_PHASES: Final = {
    DataPhase.SCAN: "scan", DataPhase.CHANGES: "changes", DataPhase.DIRECTORIES: "directories",
    DataPhase.FILES: "files", DataPhase.FINISH: "finish",
}  # fmt: skip
# As ONTAP calls them: a dump's phases by number, a restore's by what it reads.
_LOGGED_PHASES: Final = {
    "dmp": {
        DataPhase.SCAN: "I, II: scan", DataPhase.CHANGES: "II: changes", DataPhase.DIRECTORIES: "III: directories",
        DataPhase.FILES: "IV: files", DataPhase.FINISH: "V: end",
    },
    "rst": {DataPhase.DIRECTORIES: "Dirs", DataPhase.FILES: "Files", DataPhase.FINISH: "Finish"},
}  # fmt: skip


class RunningJob:
    """One data operation from its start to its end.

    What is written of its beginning waits until the first that comes behind it, so that the DMA has its reply to START
    before files are touched.
    """

    def __init__(
        self,
        book: JobBook,
        job: JobStatus,
        path: bytes,
        ring: RingControl,
        meter: Meter | None = None,
        *,
        logs: bool | None = None,
        details: bool = False,
    ) -> None:
        """Args: job: as it begins. path: the same as in it, as bytes. ring: that of the stream.

        meter: of what its time goes to; None = files and a drive at its ring.
        logs: whether it is told of in the backup log; None = as the node has it.
        details: whether the backup log has its summary, too.
        """
        self._book = book
        self._ring = ring
        self._side = "producer" if job.operation == "backup" else "consumer"
        self.meter = meter or meter_of(ring, job.operation)
        self.began = time.monotonic()
        self._base = job
        self._phase = DataPhase.IDLE
        self._causes: dict[str, tuple[int, list[str]]] = {}
        self._listed = 0
        self._tape = ""
        self._details = details
        self._beginning: list[tuple[str, str]] = []
        self._announced = False
        self._record = Record(
            job,
            "dmp" if job.operation == "backup" else "rst",
            identifier(path, job.number),
            book.logs if logs is None else logs,
        )
        book.running[job.number] = self.status

    # --- what happens to it

    def start(self, level: int, options: str, tape: str, base: BackupDate | None = None) -> None:
        """It begins. Args: tape: the drive, or where the stream goes to or comes from. base: of an incremental one."""
        only = ", file history only" if self._base.operation == "recover-filehist" else ""
        self._tape = tape
        self._beginning = [("Start", f"Level {level}, NDMP{only}"), ("Options", options), ("Tape_open", tape)]
        if base is not None:
            self._beginning.append(("Base_dump", f"level {base.level}, {timestamp(base.date)}"))

    def announce(self) -> None:
        """Write what there is of its beginning, if that is not done yet."""
        if self._announced:
            return
        self._announced = True
        self._book.save(self._record)
        if self._record.logged and self._beginning:
            self._book.log.events(self._record.kind, self._record.name, self._beginning)

    def snapshot(self, name: str, taken: float) -> None:
        """A snapshot was made or found, and it is what is read."""
        self.event("Snapshot", f"{name}, {timestamp(taken)}")

    def enter(self, phase: int) -> None:
        """The worker has come to another phase."""
        self._phase = DataPhase(phase)
        self.event("Phase_change", _LOGGED_PHASES[self._record.kind].get(self._phase, self._phase.name.lower()))
        self._book.save(msgspec.structs.replace(self._record, job=self.status()))

    def line(self, line: LogLine) -> None:
        """The worker has said something; only errors are noted."""
        if not line.cause:
            return
        name = line.cause if line.cause in self._causes or len(self._causes) < CAUSES_MAX else "other"
        count, paths = self._causes.get(name, (0, []))
        if line.path_bytes and len(paths) < PATHS_MAX:
            paths.append(show(line.text[: min(line.path_bytes, PATH_BYTES_MAX)]))
        self._causes[name] = count + 1, paths
        if self._listed < ERRORS_LISTED:
            self._listed += 1
            self.event("Error", line.text[:_LINE_BYTES].decode("utf-8", "surrogateescape"))

    def event(self, event: str, information: str) -> None:
        """A line in the backup log, if this job writes to it."""
        self.announce()
        if self._record.logged:
            self._book.log.event(self._record.kind, self._record.name, event, information)

    def end(self, reason: DataHaltReason | None, text: str, finished: DataFinished | None) -> JobStatus:
        """It is over.

        Args:
            reason: as the DMA is told it; None = it is not told any more.
            finished: the worker's last word; None = there was none.
        """
        self.meter.end()
        good = reason is DataHaltReason.SUCCESSFUL
        state: JobState = "successful" if good else "aborted" if reason in {None, DataHaltReason.ABORTED} else "failed"
        job = msgspec.structs.replace(
            self.status(finished),
            state=state,
            halt_reason=reason.name if reason is not None else "",
            text=show(text.encode("utf-8", "surrogateescape")[:_LINE_BYTES]),
            ended=time.time(),
        )
        more = job.errors - self._listed
        if more > 0:
            self.event("Error", f"{counted(more, 'further error', 'further errors')}, not listed")
        self.event("Tape_close", self._tape)
        for line in summary_lines(job) if self._details else ():
            self.event("Statistics", line)
        self.event("End" if good else "Abort", self._ending(job))
        self._book.running.pop(job.number, None)
        self._book.save(msgspec.structs.replace(self._record, job=job))
        return job

    def _ending(self, job: JobStatus) -> str:
        """ONTAP tells the amount of a dump, and first the files of a restore."""
        files = counted(sum(job.entries.values()) - job.entries["directories"], "file", "files")
        amount = f"{job.stream_bytes / _MEGABYTE:.0f} MB"
        first = [amount, files] if self._record.kind == "dmp" else [files, amount]
        parts = [
            *first,
            counted(job.entries["directories"], *_WORDS["directories"]),
            counted(job.errors, "error", "errors"),
        ]
        why = ": ".join(part for part in (job.halt_reason, job.text) if part)
        return ", ".join(parts if job.state == "successful" else [*parts, why or "the connection ended"])

    # --- what is known of it

    @property
    def number(self) -> int:
        """As in JobStatus."""
        return self._base.number

    @property
    def session_id(self) -> int:
        """As in JobStatus."""
        return self._base.session_id

    def progress(self) -> tuple[int, int]:
        """Bytes of the stream and entries so far."""
        gauges = self._ring.gauges(self._side)
        return gauges[DataGauge.STREAM_BYTES], gauges[DataGauge.DIRECTORIES] + gauges[DataGauge.FILES]

    def status(self, finished: DataFinished | None = None) -> JobStatus:
        """The job as it is now."""
        gauges = self._ring.gauges(self._side)
        counters = self.meter.counters()
        ring = self._ring.statistics()
        sizes = gauges[DataGauge.SIZES : DataGauge.SIZES + _SIZES]
        files = gauges[DataGauge.FILES] if finished is None else finished.files
        entries = {"directories": gauges[DataGauge.DIRECTORIES], "files": sum(sizes)}
        entries |= {name: gauges[DataGauge.KINDS + number] for name, (number, _, _) in _KINDS.items()}
        others = sum(entries.values()) - entries["directories"]
        if self._base.operation == "backup":
            others -= entries["hard-links"]  # of a backup FILES counts objects, of a recover names
        if files > others:
            entries["unknown"] = files - others
        return msgspec.structs.replace(
            self._base,
            elapsed_seconds=_seconds(counters.elapsed),
            phase=_PHASES.get(self._phase, ""),
            entries=entries,
            file_bytes=gauges[DataGauge.FILE_BYTES],
            stream_bytes=gauges[DataGauge.STREAM_BYTES] if finished is None else finished.stream_bytes,
            history_entries=gauges[DataGauge.HISTORY_ENTRIES] if finished is None else finished.history_entries,
            sizes=[
                SizeClass(from_bytes=1 << bits - 1 if bits else 0, to_bytes=(1 << bits) - 1, files=count)
                for bits, count in enumerate(sizes)
                if count
            ],
            errors=gauges[DataGauge.ERRORS] if finished is None else finished.errors,
            error_causes=self._error_causes(finished),
            left_out=dict(finished.left_out) if finished is not None else {},
            phase_seconds=self._phase_seconds(gauges),
            history_wait_seconds=_seconds(gauges[DataGauge.HISTORY_WAIT_NS]),
            ring_full_seconds=_seconds(ring.waited_full_ns),
            ring_empty_seconds=_seconds(ring.waited_empty_ns),
            wait_seconds=self.meter.seconds(counters),
            whole=finished is not None,
        )

    def _error_causes(self, finished: DataFinished | None) -> list[ErrorCause]:
        if finished is None:
            return [
                ErrorCause(cause=name, count=count, paths=list(paths)) for name, (count, paths) in self._causes.items()
            ]
        return [_shown(cause) for cause in finished.causes]

    def _phase_seconds(self, gauges: list[int]) -> dict[str, float]:
        spent, shown = phases_ns(gauges, time.monotonic_ns()), _LOGGED_PHASES[self._record.kind]
        return {name: _seconds(spent[phase]) for phase, name in _PHASES.items() if phase in shown}


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / _BILLION, 3)


def _shown(cause: Cause) -> ErrorCause:
    return ErrorCause(cause=cause.name, count=cause.count, paths=[show(path) for path in cause.paths])


def meter_of(
    ring: RingControl,
    operation: Operation,
    *,
    local: bool = True,
    history: Callable[[], RingStatistics | None] = lambda: None,
) -> Meter:
    """What reads the time of a data operation. Args: local: the other side of its ring is a drive of this server."""
    other: Side = "tape" if local else "relay"
    return Meter(ring, "files", other, history) if operation == "backup" else Meter(ring, other, "files", history)


def begin_job(connection: "Connection", message: Start, ring: RingControl) -> RunningJob:
    """Note the data operation that a connection begins; its DATA service knows it already."""
    data, book = connection.data, connection.node.jobs
    is_backup = isinstance(message, StartBackup)
    base = message.base if isinstance(message, StartBackup) else None
    told = dict(message.env).get(b"LEVEL", b"")
    level = int(told) if told.isdigit() and len(told) <= 2 else 0
    if isinstance(message, StartBackup):
        level = message.level if base is not None else 0
    job = JobStatus(
        number=book.next_number(),
        vserver=connection.vserver,
        session_id=connection.session_id,
        operation=_OPERATIONS[data.machine.operation],
        backup_type=data.butype,
        path=show(data.path[: PATH_BYTES_MAX * 4]),
        level=level if is_backup else None,
        client_addr=connection.peer_address,
        started=time.time(),
    )
    options = connection.node.scope(connection.lif).config.node  # also where they were changed just now
    end = data.connection_end
    meter = meter_of(ring, job.operation, local=end is None or end.local, history=data.history_statistics)
    running = RunningJob(
        book,
        job,
        data.path,
        ring,
        meter,
        logs=options.backup_log_enable,
        details=options.dump_detailed_stats,
    )
    connection.node.statistics.begin_job(running)
    running.start(level, _options(message), _tape(connection), base)
    for text in misspelt(message.env, "backup" if is_backup else "recover"):
        line = LogLine(int(LogType.WARNING), text.encode("utf-8", "surrogateescape"))
        connection.nursery.start_soon(connection.outbox.log_line, line)
    return running


def _options(message: Start) -> str:
    """Type and environment."""
    text = f"TYPE={message.butype}"
    for name, value in message.env:
        if name != b"TYPE":
            text += (
                f", {name.decode('utf-8', 'surrogateescape')}={value[:OPTIONS_MAX].decode('utf-8', 'surrogateescape')}"
            )
        if len(text) > OPTIONS_MAX:
            return text[:OPTIONS_MAX] + "..."
    return text


def _tape(connection: "Connection") -> str:
    address = connection.data.address
    if isinstance(address, NetworkAddress):
        return f"ndmp, {shown_address(address)}"
    bay = connection.tape.bay
    return bay.name if bay is not None else "ndmp"


# --- for people


def summary_lines(job: JobStatus) -> list[str]:
    """The job in a few lines, for the DMA; none where its worker came to nothing.

    Their shape is that of the tree: equal jobs differ in digits only.
    """
    if not (job.whole or job.phase or any(job.phase_seconds.values())):
        return []
    entries = [counted(count, *_WORDS[name]) for name, count in job.entries.items() if count or name == "directories"]
    lines = [f"entries: {', '.join(entries)}"]
    sizes = _size_words(job.sizes)
    if sizes:
        lines.append(f"files by size: {', '.join(sizes)}")
    if job.errors:
        causes = [f"{cause.count} {cause.cause}" for cause in job.error_causes]
        # A worker that was ended has counted errors, and may not have told of them.
        lines.append(f"errors by cause: {', '.join(causes)}" if causes else f"errors: {job.errors}, causes not told")
    if job.left_out:
        lines.append(f"left out: {', '.join(f'{count} {escape(reason)}' for reason, count in job.left_out.items())}")
    if not job.whole:
        lines.append("the data worker did not end in order: these are its counts as far as it has told them")
    ours, theirs = job.ring_full_seconds, job.ring_empty_seconds
    if job.operation != "backup":
        ours, theirs = theirs, ours
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in job.phase_seconds.items())
    waits = f"waited {ours:.1f} s for tape or network"
    if job.operation != "recover":
        waits += f", {job.history_wait_seconds:.1f} s for file history to be read"
    lines.append(f"time: {phases}; {waits}; tape or network waited {theirs:.1f} s for the files")
    return lines


def _size_words(sizes: list[SizeClass]) -> list[str]:
    counts = dict.fromkeys((word for _, word in _SIZE_WORDS), 0)
    for each in sizes:
        bits = each.to_bytes.bit_length()
        counts[next(word for most, word in _SIZE_WORDS if bits <= most)] += each.files
    return [f"{count} {word}" for word, count in counts.items() if count]
