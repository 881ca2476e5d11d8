"""What is left of a data operation: bytes and time, as DATA_GET_STATE tells them.

Theory of operation. The scan of a full backup asks for no sizes, so what is left is known in two ways, neither of them
good alone: the bytes that the worker expects of the whole stream (TOTAL_BYTES: of a whole file system what is in use
there, of an increment what has changed), less those that are done; and the objects that are left, each taken for the
average of those that are done. The more objects are done, the more the second counts, so that the estimate ends at
zero. Where neither is known nothing is said. Source: NDMPv4 section 3.5 (DATA_GET_STATE).
"""

from collections import deque
from typing import Final, NamedTuple

from mover.ring import DataPhase
from mover.workers.data_messages import Pairs

RATE_S: Final = 60.0
"""The time to come is told from the rate of so many seconds before."""
_SAMPLE_S: Final = 1.0
_HEAD_BYTES: Final = {"dump": 1024, "tar": 1536}
"""What an object costs beside its content, by the backup type."""
_TIME_MAX: Final = 0xFFFF_FFFF
_DIGITS_MAX: Final = 18


class Figures(NamedTuple):
    """How far a data worker is, by its gauges.

    Attributes:
        processed: bytes of the stream.
        total_bytes: expected of the whole stream, 0 = not known.
        total_entries: objects to back up, 0 = not known.
        directories, files: done; files are all that is no directory.
        file_bytes: of content, in the files that are done.
    """

    phase: DataPhase
    processed: int
    total_bytes: int = 0
    total_entries: int = 0
    directories: int = 0
    files: int = 0
    errors: int = 0
    file_bytes: int = 0


def backup_bytes_remain(butype: str, figures: Figures) -> int | None:
    """Bytes that a backup has still to make; None = nobody knows."""
    if figures.phase is DataPhase.FINISH:
        return 0
    by_total = max(0, figures.total_bytes - figures.processed) if figures.total_bytes else None
    if figures.phase is not DataPhase.FILES:
        return by_total
    # A dump has all directories in front, so what is left are files; a tar stream has them in between.
    objects = figures.files if butype == "dump" else figures.directories + figures.files
    total = figures.total_entries - (figures.directories if butype == "dump" else 0)
    left = max(0, total - objects - figures.errors)
    if not objects:
        return by_total
    by_average = left * (figures.file_bytes // objects + _HEAD_BYTES[butype])
    if by_total is None or figures.processed > figures.total_bytes:
        return by_average
    done = total - left
    return (by_total * left + by_average * done) // total


def recover_bytes_remain(stream_bytes: int, figures: Figures) -> int | None:
    """Bytes of a stream of known length that a recover has still to read; None: the length, 0, is not known."""
    if figures.phase is DataPhase.FINISH:
        return 0
    return max(0, stream_bytes - figures.processed) if stream_bytes else None


class Rate:
    """Bytes a second, over the last RATE_S seconds."""

    def __init__(self, now: float) -> None:
        self._samples: deque[tuple[float, int]] = deque([(now, 0)])

    def sample(self, now: float, processed: int) -> None:
        """So many bytes were done at this moment; what comes more often than every second counts for nothing."""
        samples = self._samples
        if now - samples[-1][0] < _SAMPLE_S:
            return
        samples.append((now, processed))
        while len(samples) > 1 and samples[1][0] <= now - RATE_S:
            samples.popleft()

    def seconds_for(self, remain: int, now: float, processed: int) -> int | None:
        """How long so many bytes will take; None = nothing has moved lately."""
        if not remain:
            return 0
        since, before = self._samples[0]
        if processed <= before or now <= since:
            return None
        return min(int(remain * (now - since) / (processed - before)), _TIME_MAX)


def stream_length(env: Pairs) -> int:
    """The length of a stream that is read from its beginning, as its backup has told it; 0 = not known."""
    values = dict(env)
    text = values.get(b"MOVER_STREAM_BYTES", b"")
    if not text.isdigit() or len(text) > _DIGITS_MAX or values.get(b"DIRECT", b"")[:1].lower() in {b"y", b"t"}:
        return 0
    return int(text)
