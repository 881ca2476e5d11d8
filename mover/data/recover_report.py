"""What a recover tells of single objects, and the fate of each entry of the recover list."""

import errno
from collections.abc import Callable
from typing import Final

from mover.data.codes import LogType, RecoveryStatus
from mover.data.report import Report, counted, reason
from mover.data.tally import KEPT, PARENT, STREAM, cause_of
from mover.data.tally import NOT_IN_BACKUP as LEFT_OUT_BY_BACKUP
from mover.workers.channel import Channel
from mover.workers.data_messages import FileRecovered, RecoverName

_STATUS_OF: Final = {
    errno.EACCES: RecoveryStatus.PERMISSION,
    errno.EPERM: RecoveryStatus.PERMISSION,
    errno.EROFS: RecoveryStatus.PERMISSION,
    errno.ENOENT: RecoveryStatus.NO_DIRECTORY,
    errno.ENOMEM: RecoveryStatus.OUT_OF_MEMORY,
    errno.EIO: RecoveryStatus.IO_ERROR,
    errno.ENOSPC: RecoveryStatus.IO_ERROR,
    errno.EDQUOT: RecoveryStatus.IO_ERROR,
    errno.EFBIG: RecoveryStatus.IO_ERROR,
    errno.EEXIST: RecoveryStatus.PATH_EXISTS,
    errno.EISDIR: RecoveryStatus.PATH_EXISTS,
    errno.ENOTDIR: RecoveryStatus.PATH_EXISTS,
    errno.ELOOP: RecoveryStatus.PATH_EXISTS,
}


NOT_IN_BACKUP: Final = "was not in the backup: it could not be read then"


def status_of(error: Exception) -> RecoveryStatus:
    """The recovery status that tells of an error."""
    if isinstance(error, OSError) and error.errno is not None:
        return _STATUS_OF.get(error.errno, RecoveryStatus.UNDEFINED)
    return RecoveryStatus.UNDEFINED


class ParentNotMade(FileNotFoundError):  # noqa: N818 - told where it began
    """The directory that an object was to be in could not be made."""


class Request:
    """One entry of the recover list and what became of it."""

    __slots__ = ("name", "status")

    def __init__(self, name: RecoverName) -> None:
        self.name = name
        self.status = RecoveryStatus.SUCCESSFUL

    def fail(self, status: RecoveryStatus) -> None:
        """Note a failure; the first one is the one reported."""
        if self.status is RecoveryStatus.SUCCESSFUL:
            self.status = status


class RecoverReport(Report):
    """The report of a recover; every error of a single object passes here and the job goes on.

    Attributes:
        absent: objects that the backup had to leave out; no errors of the recover.
        kept: objects that were there and were to stay.
    """

    def __init__(self, channel: Channel, gauges: memoryview) -> None:
        super().__init__(channel, gauges)
        self.absent = 0
        self.kept = 0
        self._left_out: dict[str, int] = {}

    def error(self, path: bytes, why: Exception | str, request: Request | None = None) -> None:
        """An object could not be recovered, or not whole: log it, count it, fail its entry of the list.

        What lies below a directory that could not be made only counts: the directory has its line.
        """
        if isinstance(why, ParentNotMade):
            self.count_error(PARENT, path)
        else:
            text, cause = (why, STREAM) if isinstance(why, str) else (reason(why), cause_of(why))
            self.count_error(cause, path)
            self.log(LogType.ERROR, path + b": " + text.encode("utf-8", "surrogateescape"), cause, len(path))
        if request is not None:
            request.fail(RecoveryStatus.IO_ERROR if isinstance(why, str) else status_of(why))

    def count_error(self, cause: str, path: bytes = b"", count: int = 1) -> None:
        """Count what is told elsewhere."""
        self.errors += count
        self.tally.fail(cause, path, count)

    def damage(self, text: str) -> None:
        """A part of the stream cannot be read."""
        self.count_error(STREAM)
        self.log(LogType.ERROR, text.encode("utf-8", "surrogateescape"), STREAM)

    def not_in_backup(self, path: bytes) -> None:
        """An object that the backup could not read, and says so."""
        self.absent += 1
        self.tally.left_out[LEFT_OUT_BY_BACKUP] += 1
        self.log(LogType.WARNING, path + b": " + NOT_IN_BACKUP.encode())

    def kept_existing(self, path: bytes, request: Request, *, named: bool) -> None:
        """What was there stays, as was asked for: no error, but what the list names itself is not recovered then."""
        self.kept += 1
        self.tally.left_out[KEPT] += 1
        self.log(LogType.NORMAL, path + b": it exists and was kept")
        if named:
            request.fail(RecoveryStatus.PATH_EXISTS)

    def left_out(self, what: str, path: Callable[[], bytes], why: Exception) -> None:
        """What this user or this file system does not allow: named once a kind, counted always, no error."""
        count = self._left_out.get(what, 0)
        self._left_out[what] = count + 1
        self.tally.left_out[what] += 1
        if not count:
            line = f": {what} left out: {reason(why)}; further ones are only counted"
            self.log(LogType.WARNING, path() + line.encode())

    def conclude(self, requests: list[Request]) -> None:
        """Tell of every entry of the list, and what was only counted."""
        for request in requests:
            self._channel.send(FileRecovered(request.name.reported, request.status))
        for what, count in self._left_out.items():
            self.say(LogType.WARNING, f"{what} left out {counted(count, 'time', 'times')}")
        self.say_what_was_not_logged()
