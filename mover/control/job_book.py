"""The jobs of a node: their numbers, their records in the state directory, and the backup log they write.

A record is a file of its own, replaced whole: made when the job begins, again at each phase, and at its end. So a
server that is killed leaves one that says how far it was, and the next start ends it. What cannot be written is said
in the server's log and costs no job anything.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import BinaryIO, Final

import msgspec
import structlog

from mover.admin.jobs import JobStatus
from mover.config.model import Node as NodeConfig
from mover.control.backup_log import BackupLog, Kind

DIRECTORY: Final = "jobs"
"""Below the state directory, mode 0700."""
JOBS_KEPT: Final = 256
RECORD_BYTES_MAX: Final = 4 << 20  # far more than any record of ours
INTERRUPTED: Final = "the server ended before the job did"
_SUFFIX: Final = ".json"
_NEW: Final = ".new"

log = structlog.get_logger()


class Record(msgspec.Struct, frozen=True):
    """What a file holds: the job, and how the backup log names it where it writes to that."""

    job: JobStatus
    kind: Kind
    name: str
    logged: bool


_decoder: Final = msgspec.json.Decoder(Record)


class JobBook:
    """All jobs of a node, the last JOBS_KEPT of them.

    Attributes:
        log: the backup log.
        logs: whether jobs that begin now write to it.
        running: number -> what tells of the job as it is now.
    """

    def __init__(self, config: NodeConfig) -> None:
        state = config.state_directory
        self.directory = os.path.join(state, DIRECTORY)
        self.log = BackupLog(state, size_max=config.backup_log_size, old=config.backup_log_old)
        self.logs = config.backup_log_enable
        self.running: dict[int, Callable[[], JobStatus]] = {}
        self._last = 0
        self._kept: deque[int] = deque()  # numbers of records, the oldest first
        self._failing = False

    def open(self) -> None:
        """Number on from the records that are there; end those of jobs that a server before has left. Blocks."""
        if self.logs:
            self.log.logging("Start_Logging")
        for name in self._names():
            if name.endswith(_NEW):  # a server was killed before it had replaced the record
                self._remove(name)
        self._kept.extend(self._numbers())
        for number in self._kept:
            self._last = number
            record = self._read(number)
            if record is not None and record.job.state == "running":
                job = msgspec.structs.replace(record.job, state="interrupted", text=INTERRUPTED)
                self.save(msgspec.structs.replace(record, job=job))
                if record.logged:
                    self.log.event(record.kind, record.name, "Abort", INTERRUPTED)

    def configure(self, config: NodeConfig) -> None:
        """Take a configuration that was read again; it counts for jobs that begin from now on."""
        self.log.size_max, self.log.old = config.backup_log_size, config.backup_log_old
        if config.backup_log_enable != self.logs:
            self.logs = config.backup_log_enable
            self.log.logging("Start_Logging" if self.logs else "Stop_Logging")

    def next_number(self) -> int:
        """The number of a new job; the oldest record makes way for its own."""
        self._last += 1
        self._kept.append(self._last)
        excess = len(self._kept) - JOBS_KEPT
        oldest = islice(self._kept, max(0, excess) + len(self.running))
        for number in [each for each in oldest if each not in self.running][: max(0, excess)]:
            self._kept.remove(number)
            self._remove(os.path.basename(self._path(number)))
        return self._last

    def save(self, record: Record) -> None:
        """Write a job's record in the place of the one before."""

        def write() -> None:
            path = self._path(record.job.number)
            try:
                with self._open_new(path) as file:
                    file.write(msgspec.json.encode(record))
                os.replace(path + _NEW, path)
            except OSError:
                with suppress(OSError):
                    os.unlink(path + _NEW)
                raise

        self._attempt(write)

    def _open_new(self, path: str) -> BinaryIO:
        try:
            return open(path + _NEW, "wb")
        except FileNotFoundError:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            return open(path + _NEW, "wb")

    def jobs(self, running: dict[int, JobStatus], number: int | None = None) -> list[JobStatus]:
        """The jobs, or the one with this number, the oldest first. Blocks.

        Args:
            running: as those that run are now.
        """
        wanted = self._numbers() if number is None else [number]
        found = dict(running) if number is None else {each: running[each] for each in running if each == number}
        for each in wanted:
            record = None if each in found else self._read(each)
            if record is not None:
                found[each] = record.job
        return [found[each] for each in sorted(found)]

    def _path(self, number: int) -> str:
        return os.path.join(self.directory, f"{number:010}{_SUFFIX}")

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._failed(error)
            return []

    def _remove(self, name: str) -> None:
        def remove() -> None:
            with suppress(FileNotFoundError):  # it could not be written
                os.unlink(os.path.join(self.directory, name))

        self._attempt(remove)

    def _numbers(self) -> list[int]:
        """Of the records that are there, ascending."""
        stems = [name.removesuffix(_SUFFIX) for name in self._names() if name.endswith(_SUFFIX)]
        return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())

    def _read(self, number: int) -> Record | None:
        """A record; None, and a line in the server's log, where it is damaged."""
        path = self._path(number)
        try:
            with open(path, "rb") as file:
                return _decoder.decode(file.read(RECORD_BYTES_MAX))
        except FileNotFoundError:
            return None  # it made way for a new one
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("the record of a job cannot be read", path=path, error=str(error))
            return None

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self._failed(error)
        else:
            self._failing = False

    def _failed(self, error: OSError) -> None:
        if not self._failing:
            log.error("records of jobs cannot be kept", directory=self.directory, error=error.strerror)
        self._failing = True
