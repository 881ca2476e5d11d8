"""What a backup tells of single objects: log lines with the DMA's own paths."""

from mover.data.codes import LogType
from mover.data.report import Report
from mover.data.tally import CHANGED, NOT_HELD, cause_of
from mover.ring import DataGauge
from mover.workers.channel import Channel


class BackupReport(Report):
    """The report of a backup; paths are relative to its root.

    Attributes:
        not_held: objects left out because the format has no place for them.
    """

    def __init__(self, channel: Channel, filesystem: bytes, gauges: memoryview) -> None:
        """Args: filesystem: as the DMA named it; log lines show paths below it."""
        super().__init__(channel, gauges)
        self.not_held = 0
        self._prefix = filesystem.rstrip(b"/")

    def error(self, path: bytes, text: str, why: Exception | None = None) -> None:
        """An object is left out or not whole: counted. Args: why: where an error of the system is the reason."""
        self._count(LogType.ERROR, path, text, cause_of(why))

    def damaged(self, path: bytes, text: str) -> None:
        """An object is in the backup, but changed while it was read: a warning, counted."""
        self._count(LogType.WARNING, path, text, CHANGED)

    def omitted(self, path: bytes, text: str) -> None:
        """An object is left out because the format has no place for it: no error, but counted by itself."""
        self.not_held += 1
        self.tally.left_out[NOT_HELD] += 1
        self._log_path(LogType.WARNING, path, f"left out: {text}")

    def warning(self, path: bytes, text: str) -> None:
        """Something to know about an object that is backed up as it should be: not counted."""
        self._log_path(LogType.WARNING, path, text)

    def tell_looked_at(self, entries: int) -> None:
        """Publish how many entries of the scan were looked at for changes."""
        self._gauges[DataGauge.LOOKED_AT] = entries

    def note(self, path: bytes, text: str) -> None:
        """Something to know about an object that is as it was asked for: not counted."""
        self._log_path(LogType.NORMAL, path, text)

    def _count(self, log_type: LogType, path: bytes, text: str, cause: str) -> None:
        self.errors += 1
        self.tally.fail(cause, b"%s/%s" % (self._prefix, path))
        self._log_path(log_type, path, text, cause)

    def _log_path(self, log_type: LogType, path: bytes, text: str, cause: str = "") -> None:
        self.log(log_type, b"%s/%s: %s" % (self._prefix, path, text.encode()), cause, len(self._prefix) + 1 + len(path))
