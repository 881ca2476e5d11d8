"""What a data operation tells of its work: log lines, counters, its end."""

import errno
from typing import Final

from mover.data.codes import HaltReason, LogType
from mover.ring import DataGauge, DataPhase
from mover.workers.channel import Channel
from mover.workers.messages import BackupDate, DataFinished, LogLine, Pairs

LOG_LINES_MAX: Final = 1_000  # beyond them objects are only counted: a broken disk must not become a million posts


def reason(error: Exception) -> str:
    """An error as people and programs know it, text and symbol; without the path, which the line names anyway."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, str(error.errno))})"


def counted(count: int, one: str, many: str) -> str:
    """A number with what it counts: ``1 file``, ``2 files``."""
    return f"{count} {one if count == 1 else many}"


class Report:
    """Counts, logs and publishes.

    Attributes:
        directories, files: done; files are all that is not a directory.
        errors: objects left out or not whole, and damaged parts of a stream.
        file_bytes: of file content.
    """

    def __init__(self, channel: Channel, gauges: memoryview) -> None:
        """Args: gauges: those of this side of the data ring."""
        self.directories = 0
        self.files = 0
        self.errors = 0
        self.file_bytes = 0
        self._channel = channel
        self._gauges = gauges
        self._lines = 0
        self._not_logged = 0

    def enter(self, phase: DataPhase) -> None:
        """Publish where the operation is."""
        self._gauges[DataGauge.PHASE] = phase

    def publish(self) -> None:
        """Put the counters into the gauges."""
        gauges = self._gauges
        gauges[DataGauge.DIRECTORIES] = self.directories
        gauges[DataGauge.FILES] = self.files
        gauges[DataGauge.ERRORS] = self.errors
        gauges[DataGauge.FILE_BYTES] = self.file_bytes

    def log(self, log_type: LogType, text: bytes) -> None:
        """One line about a single object, as long as there were not too many."""
        if self._lines >= LOG_LINES_MAX:
            self._not_logged += 1
            return
        self._lines += 1
        self._channel.send(LogLine(log_type, text))

    def say(self, log_type: LogType, text: str) -> None:
        """A line about the operation as a whole; these are never too many."""
        self._channel.send(LogLine(log_type, text.encode("utf-8", "surrogateescape")))

    def say_what_was_not_logged(self) -> None:
        """How many lines about single objects were too many."""
        if self._not_logged:
            lines = counted(self._not_logged, "further line", "further lines")
            self.say(LogType.WARNING, f"{lines} about single objects not sent")

    def finish(
        self,
        halt: HaltReason,
        text: str,
        *,
        stream_bytes: int,
        history_entries: int,
        env: Pairs | None = None,
        table_kept: bool = False,
        date: BackupDate | None = None,
    ) -> None:
        """Publish the last figures and send the worker's last word.

        Args:
            stream_bytes: of the stream made or read.
            env: pairs that GET_ENV adds or replaces.
            table_kept: the file that control gave for a table holds a whole one.
            date: of a backup whose inode table is kept.
        """
        self.publish()
        self._channel.send(
            DataFinished(
                reason=halt,
                text=text,
                directories=self.directories,
                files=self.files,
                errors=self.errors,
                file_bytes=self.file_bytes,
                stream_bytes=stream_bytes,
                history_entries=history_entries,
                env=env or [],
                table_kept=table_kept,
                date=date,
            )
        )
