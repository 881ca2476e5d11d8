"""What a data operation counts beside its totals: entries by kind, sizes, causes of errors, time by phase.

Numbers lie in the gauges of the operation's side of the data ring, so that they are known also of a worker that was
killed; paths and reasons go with its last word. Only the worker counts: copies of it report to it.
"""

import errno
import stat
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from mover.ring import DataGauge, DataPhase
from mover.workers.data_messages import Cause

CAUSES_MAX: Final = 24  # what comes beyond counts as OTHER
PATHS_MAX: Final = 10  # of one cause
PATH_BYTES_MAX: Final = 256  # a path can be a megabyte long
OTHER: Final = "other"
CHANGED: Final = "changed"  # while it was read
STREAM: Final = "stream"  # a part of it that is damaged, missing or not allowed
PARENT: Final = "parent"  # the directory above could not be made

EXCLUDED: Final = "excluded"
OTHER_FILE_SYSTEM: Final = "other file system"
NOT_HELD: Final = "no place in the format"
KEPT: Final = "existed and kept"
NOT_IN_BACKUP: Final = "not in the backup"

_KIND_SHIFT: Final = 12  # of a mode; what is left of it is a DT_ number
_REGULAR: Final = stat.S_IFREG >> _KIND_SHIFT
_BUCKETS: Final = 64


def cause_of(error: Exception | None) -> str:
    """The name of an error for the summary: its symbol, where it has a number."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, str(error.errno))
    return OTHER


class Tally:
    """The counts of one operation.

    Attributes:
        left_out: reason -> how many objects (or attributes) were left out for it without an error.
    """

    def __init__(self, gauges: memoryview) -> None:
        """Args: gauges: those of this side of the data ring."""
        self.left_out: Counter[str] = Counter()
        self._gauges = gauges
        self._causes: dict[str, tuple[int, list[bytes]]] = {}
        self._phase = DataPhase.IDLE

    # --- entries

    def regulars(self, sizes: Sequence[int]) -> None:
        """Regular files, by the bytes of their content; many at once cost little each."""
        gauges = self._gauges
        for bits, count in Counter(map(int.bit_length, sizes)).items():
            gauges[DataGauge.SIZES + min(bits, _BUCKETS - 1)] += count

    def entry(self, mode: int, size: int) -> None:
        """One object that is no directory; ``size`` counts of a regular file."""
        kind = mode >> _KIND_SHIFT & 0xF
        if kind == _REGULAR:
            self._gauges[DataGauge.SIZES + min(size.bit_length(), _BUCKETS - 1)] += 1
        elif kind < DataGauge.SIZES - DataGauge.KINDS:
            self._gauges[DataGauge.KINDS + kind] += 1

    def take_back(self, size: int) -> None:
        """A regular file that was counted will be counted again."""
        self._gauges[DataGauge.SIZES + min(size.bit_length(), _BUCKETS - 1)] -= 1

    def links(self, count: int = 1) -> None:
        """Further names of what was counted."""
        self._gauges[DataGauge.KINDS] += count

    # --- what went wrong, or was not wanted

    def fail(self, cause: str, path: bytes, count: int = 1) -> None:
        """An error; ``path`` is kept of the first of its kind."""
        if cause not in self._causes and len(self._causes) >= CAUSES_MAX:
            cause = OTHER
        before, paths = self._causes.get(cause, (0, []))
        if path and len(paths) < PATHS_MAX:
            paths.append(path if len(path) <= PATH_BYTES_MAX else path[:PATH_BYTES_MAX] + b"...")
        self._causes[cause] = before + count, paths

    def causes(self) -> list[Cause]:
        """The errors by cause, the most frequent first."""
        ordered = sorted(self._causes.items(), key=lambda item: -item[1][0])
        return [Cause(name, count, paths) for name, (count, paths) in ordered]

    # --- time

    def enter(self, phase: DataPhase) -> None:
        """Time counts for this phase from now on; IDLE ends the count."""
        gauges, now = self._gauges, time.monotonic_ns()
        if self._phase is not DataPhase.IDLE:
            gauges[DataGauge.PHASE_NS + self._phase] += now - gauges[DataGauge.PHASE_SINCE_NS]
        self._phase = phase
        gauges[DataGauge.PHASE_SINCE_NS] = now if phase is not DataPhase.IDLE else 0
