"""How many lines of a log strangers get: so many of one source and of all of them a minute, and the rest is counted.

No I/O and no clock: time is an argument.
"""

from typing import Final

PERIOD_S: Final = 60.0
OF_ONE_MAX: Final = 30  # lines of one source in a period: 16 days to fill an audit log
OF_ALL_MAX: Final = 120
OTHERS: Final = ""
"""Stands for sources that got no line of their own in a period."""


class StrangerPace:
    """The lines of strangers in the period at hand; it begins with the first of them."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._written: dict[str, int] = {}  # no more sources than lines
        self._rest: dict[str, int] = {}

    def admits(self, source: str, now: float) -> bool:
        """Whether this one may have a line; else it is counted. To be asked behind ``over``."""
        if self._began is None:
            self._began = now
        own = self._written.get(source, 0)
        if own < OF_ONE_MAX and sum(self._written.values()) < OF_ALL_MAX:
            self._written[source] = own + 1
            return True
        counted = source if own else OTHERS
        self._rest[counted] = self._rest.get(counted, 0) + 1
        return False

    def over(self, now: float) -> dict[str, int]:
        """How many lines of each source were left out of a period that is over by now; then the next one may begin."""
        if self._began is None or now - self._began < PERIOD_S:
            return {}
        return self.close()

    def close(self) -> dict[str, int]:
        """As ``over``, of the period at hand."""
        rest, self._rest = self._rest, {}
        self._began = None
        self._written.clear()
        return rest
