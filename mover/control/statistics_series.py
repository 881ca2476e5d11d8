"""Samples of what grows, bounded: rates over the last seconds, the shape of a minute, the outline of a whole job."""

from bisect import bisect
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import Final

from mover.admin.statistics import Rates

WINDOWS_S: Final = (1, 10, 60)
SAMPLES: Final = 64  # a second apart they reach past the longest window
OUTLINE_POINTS: Final = 60
_EARLY_S: Final = 0.1  # a sample that was taken a little late is still the one of a second ago


class Series:
    """The last samples of some totals of one row, taken together.

    Args:
        now: monotonic seconds when the row began.
        values: its totals then.
    """

    def __init__(self, now: float, *values: float) -> None:
        self._samples: deque[tuple[float, ...]] = deque([(now, *values)], maxlen=SAMPLES)

    def add(self, now: float, *values: float) -> None:
        """One more sample."""
        self._samples.append((now, *values))

    def rates(self, now: float, *values: float) -> list[Rates]:
        """Growth a second of each total; ``values``: what they are now, in the order of the samples."""
        latest, middle, oldest = (self._before(now - window + _EARLY_S) for window in WINDOWS_S)
        return [
            Rates(
                over_1=_growth(latest, now, index, value),
                over_10=_growth(middle, now, index, value),
                over_60=_growth(oldest, now, index, value),
            )
            for index, value in enumerate(values, 1)
        ]

    def _before(self, moment: float) -> tuple[float, ...]:
        """The last sample until then; the first one where all are younger."""
        # Infinity sorts behind whatever a sample of that very moment has.
        return self._samples[max(0, bisect(self._samples, (moment, inf)) - 1)]


def _growth(then: tuple[float, ...], now: float, index: int, value: float) -> float:
    grown, passed = value - then[index], now - then[0]
    return round(grown / passed, 3) if grown > 0 and passed > 0 else 0.0


class Shape:
    """The last values of something that goes up and down, a sample each; the newest last."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=SAMPLES)

    def add(self, value: float) -> None:
        """One more sample."""
        self._values.append(round(value, 3))

    def values(self) -> list[float]:
        """All that are kept."""
        return list(self._values)


class Outline:
    """A total over the whole life of a job, in some 60 points however long that is.

    Theory of operation: points are taken at even distances; when there are twice as many as wanted, every second one is
    dropped and the distance doubled.
    """

    def __init__(self, now: float) -> None:
        self._points: list[tuple[float, float]] = [(now, 0.0)]
        self._step_s = 0.0

    def add(self, now: float, value: float) -> None:
        """A sample; most of those of a long job are passed over."""
        if now - self._points[-1][0] < self._step_s:
            return
        self._points.append((now, value))
        if len(self._points) > 2 * OUTLINE_POINTS:
            self._points = self._points[::2]
            self._step_s = (self._points[-1][0] - self._points[0][0]) / (len(self._points) - 1)

    def rates(self, now: float, value: float) -> list[float]:
        """Growth a second between the points, and from the last one to now."""
        points: Sequence[tuple[float, float]] = [*self._points, (now, value)]
        return [
            round(max(0.0, value - before) / (moment - earlier), 3)
            for (earlier, before), (moment, value) in pairwise(points)
            if moment > earlier
        ]
