"""What a backup tells of its work: log lines with the DMA's own paths, counters, gauges."""

import errno
from typing import Final

from mover.ring import DataGauge, DataPhase
from mover.workers.channel import Channel
from mover.workers.messages import LogLine

LOG_NORMAL: Final = 0
LOG_ERROR: Final = 2
LOG_WARNING: Final = 3
LOG_LINES_MAX: Final = 1000  # beyond them objects are only counted: a broken disk must not become a million posts


def reason(error: OSError) -> str:
    """An error as people and programs know it: text and symbol."""
    return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, str(error.errno))})"


class BackupReport:
    """Counts, logs and publishes.

    Attributes:
        directories, files: backed up; files are all that is not a directory.
        errors: objects left out or not whole.
        file_bytes: of file content.
    """

    def __init__(self, channel: Channel, filesystem: bytes, gauges: memoryview) -> None:
        """Args: filesystem: as the DMA named it; log lines show paths below it."""
        self.directories = 0
        self.files = 0
        self.errors = 0
        self.file_bytes = 0
        self._channel = channel
        self._prefix = filesystem.rstrip(b"/")
        self._gauges = gauges
        self._lines = 0
        self._not_logged = 0

    def phase(self, phase: DataPhase) -> None:
        self._gauges[DataGauge.PHASE] = phase

    def publish(self) -> None:
        """Put the counters into the gauges."""
        gauges = self._gauges
        gauges[DataGauge.DIRECTORIES] = self.directories
        gauges[DataGauge.FILES] = self.files
        gauges[DataGauge.ERRORS] = self.errors
        gauges[DataGauge.FILE_BYTES] = self.file_bytes

    def error(self, path: bytes, text: str) -> None:
        """An object is left out or not whole: counted."""
        self.errors += 1
        self._log(LOG_ERROR, path, text)

    def damaged(self, path: bytes, text: str) -> None:
        """An object is in the backup, but changed while it was read: a warning, counted."""
        self.errors += 1
        self._log(LOG_WARNING, path, text)

    def warning(self, path: bytes, text: str) -> None:
        """Something to know about an object that is backed up as it should be: not counted."""
        self._log(LOG_WARNING, path, text)

    def say(self, log_type: int, text: str) -> None:
        """A line about the backup as a whole."""
        self._channel.send(LogLine(log_type, text.encode("utf-8", "surrogateescape")))

    def close(self) -> None:
        """Say how much was not said."""
        if self._not_logged:
            self.say(LOG_WARNING, f"{self._not_logged} further lines about single objects were not sent")

    def _log(self, log_type: int, path: bytes, text: str) -> None:
        if self._lines >= LOG_LINES_MAX:
            self._not_logged += 1
            return
        self._lines += 1
        self._channel.send(LogLine(log_type, b"%s/%s: %s" % (self._prefix, path, text.encode())))
