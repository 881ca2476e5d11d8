"""Watches over one data operation: a word to the DMA where nothing else was said for a while, and the rate it goes at.

Theory of operation. A DMA takes a server for dead that says nothing for long, and a backup may say nothing while it
scans millions of entries, while a disk hangs, while a recover waits for its last byte to be on disk. The data worker is
a blocking program and may itself be what hangs, so the word comes from here, from what the worker has put into shared
memory. It is sent when for ``period_s`` no post of any kind went out. An operation that waits for its tape, for the
network or for a DMA that does not read its history is no riddle to anybody: it is told of only as long as it moves.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from mover.control.estimate import Figures
from mover.control.outbox import Outbox
from mover.control.volumes import show
from mover.ndmp.enums import DataOperation, LogType
from mover.ring import DataPhase

LOOK_S: Final = 5.0
_BACKUP: Final = {
    DataPhase.IDLE: "getting ready",
    DataPhase.SCAN: "scanning: {found} found so far",
    DataPhase.CHANGES: "looking for what has changed: {looked_at} of {found} looked at",
    DataPhase.DIRECTORIES: "{directories} and {processed} bytes in the stream so far",
    DataPhase.FILES: "{directories}, {files} and {processed} bytes in the stream so far",
    DataPhase.FINISH: "{processed} bytes in the stream, it is being finished",
}
_RECOVER: Final = {
    DataPhase.IDLE: "getting ready",
    DataPhase.SCAN: "getting ready",
    DataPhase.CHANGES: "getting ready",
    DataPhase.DIRECTORIES: "reading the directories of the stream: {processed} bytes so far",
    DataPhase.FILES: "{directories}, {files} and {processed} bytes of the stream so far",
    DataPhase.FINISH: "{directories} and {files} recovered, they are being made durable",
}
_WORDS: Final = {
    DataOperation.BACKUP: ("backup", _BACKUP),
    DataOperation.RECOVER: ("recover", _RECOVER),
    DataOperation.RECOVER_FILEHIST: ("file history", {**_RECOVER, DataPhase.FINISH: "it is being finished"}),
}


class Look(NamedTuple):
    """What is seen of an operation at one moment.

    Attributes:
        looked_at: entries of the scan that were looked at for changes.
        waits: for its tape, the network or the DMA.
        at: the path at hand, b"" = none.
    """

    operation: DataOperation
    figures: Figures
    looked_at: int = 0
    waits: bool = False
    at: bytes = b""


def describe(look: Look) -> str:
    """One line for the DMA's log."""
    figures = look.figures
    name, words = _WORDS[look.operation]
    text = words[figures.phase].format(
        found=counted(figures.total_entries, "entry", "entries"),
        looked_at=look.looked_at,
        directories=counted(figures.directories, "directory", "directories"),
        files=counted(figures.files, "file", "files"),
        processed=figures.processed,
    )
    where = f", now at {show(look.at)}" if look.at else ""
    return f"{name}: {text}{where}"


def counted(count: int, one: str, many: str) -> str:
    """A number with what it counts."""
    return f"{count} {one if count == 1 else many}"


class JobWatch:
    """Looks at an operation now and then, until it is cancelled."""

    def __init__(
        self, outbox: Outbox, period_s: float, look: Callable[[], Look | None], sample: Callable[[], None]
    ) -> None:
        """Args:
        period_s: of silence; 0 = nothing is ever said.
        look: None = the operation has said its last word.
        sample: called every LOOK_S.
        """
        self._outbox = outbox
        self._period_s = period_s
        self._look = look
        self._sample = sample
        self._told: Look | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        spoke_at = trio.current_time()  # by us, or the beginning
        while True:
            spoke_at = max(spoke_at, self._outbox.posted_at)
            due = spoke_at + self._period_s if self._period_s else float("inf")
            await trio.sleep(min(LOOK_S, max(0.0, due - trio.current_time())))
            self._sample()
            due_now = self._period_s and trio.current_time() >= max(spoke_at, self._outbox.posted_at) + self._period_s
            if not due_now:
                continue
            spoke_at = trio.current_time()
            look = self._look()
            if look is not None and self._is_worth_telling(look):
                self._told = look
                await self._outbox.log_message(LogType.NORMAL, describe(look))

    def _is_worth_telling(self, look: Look) -> bool:
        return not look.waits or self._told is None or self._told.figures != look.figures
