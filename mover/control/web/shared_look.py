"""One look at the server for all who ask for it at about the same time."""

from typing import Final

import trio

from mover.admin.messages import Failed
from mover.admin.statistics import StatisticsReply
from mover.control.web.events import Look

SPACE_S: Final = 0.05


class SharedLook:
    """Looks of which each begins after those who get it have asked, and no two at once.

    So what is told is never older than the question, and however many ask, however often, the control process looks
    at most every SPACE_S: jobs come first.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._turn = trio.Lock()
        self._begun = 0
        self._told = 0  # the look that the reply is of
        self._reply: StatisticsReply | Failed | None = None
        self._next_at = 0.0

    async def __call__(self) -> StatisticsReply | Failed:
        """What there is now."""
        asked_after = self._begun
        async with self._turn:
            if self._reply is None or self._told <= asked_after:
                await trio.sleep_until(self._next_at)
                self._begun = looking = self._begun + 1
                try:
                    self._reply = await self._look()
                finally:
                    self._next_at = trio.current_time() + SPACE_S
                self._told = looking
            return self._reply
