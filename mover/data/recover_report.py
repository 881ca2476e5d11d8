"""What a recover tells of its work: log lines, the fate of each entry of the recover list, and the figures."""

import errno
import os
from enum import IntEnum
from typing import Final

from mover.ring import DataGauge, DataPhase
from mover.workers.channel import Channel
from mover.workers.messages import DataFinished, FileRecovered, LogLine, RecoverName

LOG_LINES_MAX: Final = 1_000
LOG_NORMAL: Final = 0
LOG_ERROR: Final = 2
LOG_WARNING: Final = 3


class Status(IntEnum):
    """recovery_status of LOG_FILE (messages.md section 11); the protocol's room is out of reach from here."""

    SUCCESSFUL = 0
    PERMISSION = 1
    NOT_FOUND = 2
    NO_DIRECTORY = 3
    OUT_OF_MEMORY = 4
    IO_ERROR = 5
    UNDEFINED = 6
    PATH_EXISTS = 7


class HaltReason(IntEnum):
    """DataHaltReason, as far as a data worker knows it."""

    SUCCESSFUL = 1
    INTERNAL_ERROR = 3
    CONNECT_ERROR = 4


_STATUS_OF: Final = {
    errno.EACCES: Status.PERMISSION,
    errno.EPERM: Status.PERMISSION,
    errno.EROFS: Status.PERMISSION,
    errno.ENOENT: Status.NO_DIRECTORY,
    errno.ENOMEM: Status.OUT_OF_MEMORY,
    errno.EIO: Status.IO_ERROR,
    errno.ENOSPC: Status.IO_ERROR,
    errno.EDQUOT: Status.IO_ERROR,
    errno.EFBIG: Status.IO_ERROR,
    errno.EEXIST: Status.PATH_EXISTS,
    errno.EISDIR: Status.PATH_EXISTS,
    errno.ENOTDIR: Status.PATH_EXISTS,
    errno.ELOOP: Status.PATH_EXISTS,
}


def status_of(error: Exception) -> Status:
    """The recovery status that tells of an error."""
    if isinstance(error, OSError) and error.errno is not None:
        return _STATUS_OF.get(error.errno, Status.UNDEFINED)
    return Status.UNDEFINED


def reason_of(error: Exception) -> str:
    """An error's text without the path, which the line names anyway."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


class Request:
    """One entry of the recover list and what became of it."""

    __slots__ = ("name", "status")

    def __init__(self, name: RecoverName) -> None:
        self.name = name
        self.status = Status.SUCCESSFUL

    def fail(self, status: Status) -> None:
        """Note a failure; the first one is the one reported."""
        if self.status is Status.SUCCESSFUL:
            self.status = status


class Report:
    """Counts, logs and reports; every error of a single object passes here and the job goes on."""

    def __init__(self, channel: Channel, gauges: memoryview) -> None:
        self.directories = 0
        self.files = 0
        self.errors = 0
        self.file_bytes = 0
        self.history_entries = 0
        self.phase = DataPhase.DIRECTORIES
        self._channel = channel
        self._gauges = gauges
        self._lines = 0
        self._not_logged = 0
        self._left_out: dict[str, int] = {}

    def publish(self, stream_bytes: int) -> None:
        """Put the figures into the ring's gauges."""
        gauges = self._gauges
        gauges[DataGauge.PHASE] = self.phase
        gauges[DataGauge.DIRECTORIES] = self.directories
        gauges[DataGauge.FILES] = self.files
        gauges[DataGauge.ERRORS] = self.errors
        gauges[DataGauge.FILE_BYTES] = self.file_bytes
        gauges[DataGauge.STREAM_BYTES] = stream_bytes

    def log(self, log_type: int, text: bytes) -> None:
        """One line for the DMA, as long as there were not too many."""
        if self._lines >= LOG_LINES_MAX:
            self._not_logged += 1
            return
        self._lines += 1
        self._channel.send(LogLine(log_type, text))

    def error(self, path: bytes, why: Exception | str, request: Request | None = None) -> None:
        """An object could not be recovered, or not whole: log it, count it, fail its entry of the list."""
        self.errors += 1
        text = why if isinstance(why, str) else reason_of(why)
        self.log(LOG_ERROR, path + b": " + text.encode("utf-8", "surrogateescape"))
        if request is not None:
            request.fail(Status.IO_ERROR if isinstance(why, str) else status_of(why))

    def damage(self, text: str) -> None:
        """A part of the stream cannot be read."""
        self.errors += 1
        self.log(LOG_ERROR, text.encode("utf-8", "surrogateescape"))

    def left_out(self, what: str, path: bytes, why: Exception) -> None:
        """What this user or this file system does not allow: named once a kind, counted always, no error."""
        count = self._left_out.get(what, 0)
        self._left_out[what] = count + 1
        if not count:
            line = f": {what} left out: {reason_of(why)} (further ones are only counted)"
            self.log(LOG_WARNING, path + line.encode())

    def finish(self, requests: list[Request], reason: HaltReason, text: str, stream_bytes: int) -> None:
        """Report every entry of the list, the summary lines and the end; these lines are never too many."""
        send = self._channel.send
        for request in requests:
            send(FileRecovered(request.name.reported, request.status))
        for what, count in self._left_out.items():
            send(LogLine(LOG_WARNING, f"{what} left out {count} times".encode()))
        if self._not_logged:
            send(LogLine(LOG_WARNING, f"{self._not_logged} further lines were not sent".encode()))
        if reason is HaltReason.SUCCESSFUL:
            send(LogLine(LOG_NORMAL, text.encode()))
        else:
            send(LogLine(LOG_ERROR, text.encode("utf-8", "surrogateescape")))
        self.phase = DataPhase.FINISH
        self.publish(stream_bytes)
        send(
            DataFinished(
                reason=reason,
                text=text,
                directories=self.directories,
                files=self.files,
                errors=self.errors,
                file_bytes=self.file_bytes,
                stream_bytes=stream_bytes,
                history_entries=self.history_entries,
                env=[],
            )
        )


def shown(path: bytes) -> str:
    """A path in a line of text."""
    return os.fsdecode(path)
