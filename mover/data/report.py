"""What a data operation tells of its work: log lines, counters, its end."""

import errno
from typing import Final

from mover.data.codes import HaltReason, LogType
from mover.data.tally import Tally
from mover.ring import DataGauge, DataPhase
from mover.workers.channel import Channel
from mover.workers.data_messages import BackupDate, DataFinished, Pairs, PhaseEntered
from mover.workers.messages import LogLine

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
        tally: the same by kind, size and cause.
    """

    def __init__(self, channel: Channel, gauges: memoryview) -> None:
        """Args: gauges: those of this side of the data ring."""
        self.directories = 0
        self.files = 0
        self.errors = 0
        self.file_bytes = 0
        self.tally = Tally(gauges)
        self._channel = channel
        self._gauges = gauges
        self._lines = 0
        self._not_logged = 0

    def enter(self, phase: DataPhase) -> None:
        """Publish where the operation is, and tell of it, once."""
        if self._gauges[DataGauge.PHASE] == phase:
            return
        self._gauges[DataGauge.PHASE] = phase
        self.tally.enter(phase)
        self._channel.send(PhaseEntered(phase))

    def add_files(self, sizes: list[int]) -> None:
        """Count regular files, by the bytes of their content, and empty the list."""
        if sizes:
            self.files += len(sizes)
            self.file_bytes += sum(sizes)
            self.tally.regulars(sizes)
            sizes.clear()

    def add_links(self, count: int = 1) -> None:
        """Count further names, which are files of a recover."""
        self.files += count
        self.tally.links(count)

    def add_entry(self, mode: int, size: int) -> None:
        """Count one object that is no directory; its content is counted as it is read or written."""
        self.files += 1
        self.tally.entry(mode, size)

    def publish(self) -> None:
        """Put the counters into the gauges."""
        gauges = self._gauges
        gauges[DataGauge.DIRECTORIES] = self.directories
        gauges[DataGauge.FILES] = self.files
        gauges[DataGauge.ERRORS] = self.errors
        gauges[DataGauge.FILE_BYTES] = self.file_bytes

    def log(self, log_type: LogType, text: bytes, cause: str = "", path_bytes: int = 0) -> None:
        """One line about a single object, as long as there were not too many.

        Args:
            cause: of an error that is counted.
            path_bytes: with so many the text begins.
        """
        if self._lines >= LOG_LINES_MAX:
            self._not_logged += 1
            return
        self._lines += 1
        self._channel.send(LogLine(log_type, text, cause, path_bytes))

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
        self.tally.enter(DataPhase.IDLE)
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
                causes=self.tally.causes(),
                left_out=dict(self.tally.left_out),
            )
        )
