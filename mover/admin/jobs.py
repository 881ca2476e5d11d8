"""Backups and recovers at the admin socket, running or over."""

from typing import Literal

from msgspec import field

from mover.admin.base import Message, Row
from mover.admin.statistics import WaitCause

Operation = Literal["backup", "recover", "recover-filehist"]
JobState = Literal["running", "successful", "failed", "aborted", "interrupted"]


class Jobs(Message, frozen=True):
    """The jobs, without sizes and causes of errors, or the one with this number. Reply: JobsReply; Failed for none."""

    number: int | None = None


class ErrorCause(Row, frozen=True, kw_only=True):
    """Errors of one cause.

    Attributes:
        cause: the symbol of an error number (EACCES), or changed, stream, parent, other.
        paths: of the first ten.
    """

    cause: str
    count: int
    paths: list[str] = field(default_factory=list)


class SizeClass(Row, frozen=True, kw_only=True):
    """Regular files of so many bytes, both ends included."""

    from_bytes: int
    to_bytes: int
    files: int


class JobStatus(Row, frozen=True, kw_only=True):
    """One backup or recover, running or over.

    Attributes:
        number: of the job; never given again.
        vserver: whose data LIF the DMA came to; "" = no data LIF.
        level: of a backup; None = a recover.
        state: interrupted = the server ended before it did.
        halt_reason: as NOTIFY_DATA_HALTED told it; "" = not told.
        text: why it ended so.
        started, ended: seconds since 1970; ended None = running, or not known.
        phase: scan, changes, directories, files or finish: where it is, or was at its end.
        entries: kind -> how many are in the stream, or were recovered; "unknown" = their kind was not looked at.
        file_bytes: of the content of regular files.
        sizes: of regular files.
        left_out: reason -> objects, or attributes of objects, that were left out without an error.
        history_wait_seconds: waited for the DMA to take file history.
        ring_full_seconds: the data ring's producer waited: in a backup for tape or network, in a recover for the disk.
        ring_empty_seconds: its consumer waited, for the other of the two.
        wait_seconds: cause -> seconds that went to it; what is missing to ``elapsed_seconds`` was not waited.
        whole: the worker's last word is in it; else what it had published before.
    """

    number: int
    session_id: int
    vserver: str = ""
    operation: Operation
    backup_type: str
    path: str
    level: int | None = None
    client_addr: str = ""
    state: JobState = "running"
    halt_reason: str = ""
    text: str = ""
    started: float
    ended: float | None = None
    elapsed_seconds: float = 0.0
    phase: str = ""
    entries: dict[str, int] = field(default_factory=dict)
    file_bytes: int = 0
    stream_bytes: int = 0
    history_entries: int = 0
    sizes: list[SizeClass] = field(default_factory=list)
    errors: int = 0
    error_causes: list[ErrorCause] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    phase_seconds: dict[str, float] = field(default_factory=dict)
    history_wait_seconds: float = 0.0
    ring_full_seconds: float = 0.0
    ring_empty_seconds: float = 0.0
    wait_seconds: dict[WaitCause, float] = field(default_factory=dict)
    whole: bool = False


class JobsReply(Message, frozen=True):
    """The jobs, the oldest first."""

    jobs: list[JobStatus]
