"""What the servers of a job tell by posts: halts, pauses, wanted reads, logs, fates of names, history."""

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from mover.dma.client import printable
from mover.dma.history import HistorySink
from mover.dma.results import LogLine
from mover.ndmp.enums import DataHaltReason, LogType
from mover.ndmp.messages import (
    Body,
    FhAddDirPost,
    FhAddFilePost,
    FhAddNodePost,
    LogFilePost,
    LogMessagePost,
    NotifyConnectionStatusPost,
    NotifyDataHaltedPost,
    NotifyDataReadPost,
    NotifyMoverHaltedPost,
    NotifyMoverPausedPost,
)

LogSink = Callable[[LogLine], None]

LOG_LINES_MAX: Final = 10_000
"""Log lines kept for the result; a server that says more is heard by the caller's `log` only."""

MOVER_SAYS: Final = "mover: "
DATA_SAYS: Final = "data: "
"""How our server's texts for its mover and its data service begin."""

_LOG_KINDS: Final[dict[int, str]] = {
    LogType.NORMAL: "normal",
    LogType.DEBUG: "debug",
    LogType.ERROR: "error",
    LogType.WARNING: "warning",
}


class Halt(msgspec.Struct, frozen=True):
    """Why a machine halted."""

    reason: int  # DataHaltReason, MoverHaltReason
    text: str = ""  # v2, v3


class JobEvents:
    """Collects the posts of both control connections; `changed` ends a wait.

    Attributes:
        ending: the cause of the job's failure is known, and what still runs is being ended.
    """

    def __init__(self, log: LogSink | None = None) -> None:
        self.data_halt: Halt | None = None
        self.mover_halt: Halt | None = None
        self.mover_pause: NotifyMoverPausedPost | None = None
        self.reads: deque[NotifyDataReadPost] = deque()
        self.fates: list[LogFilePost] = []
        self.log: list[LogLine] = []
        self.log_dropped = 0
        self.history: HistorySink | None = None
        self.ending = False
        self._log_sink = log
        self._changed = trio.Event()

    async def on_post(self, body: Body) -> None:
        """The handler of both connections."""
        match body:
            case FhAddDirPost() | FhAddNodePost() | FhAddFilePost():
                if self.history is not None:
                    await self.history.put(body)
                return
            case LogMessagePost(log_type=log_type, entry=entry):
                self._heard(_LOG_KINDS.get(log_type, "normal"), printable(entry))
                return
            case LogFilePost():
                self.fates.append(body)
                return
            case NotifyDataHaltedPost(reason=reason, text_reason=text):
                self.data_halt = Halt(reason, printable(text))
            case NotifyMoverHaltedPost(reason=reason, text_reason=text):
                self.mover_halt = Halt(reason, printable(text))
            case NotifyMoverPausedPost():
                self.mover_pause = body
            case NotifyDataReadPost():
                self.reads.append(body)
            case NotifyConnectionStatusPost(text_reason=text):
                self.note(f"a server ends the session: {printable(text)}".rstrip(": "))
        self.wake()

    def _heard(self, kind: str, text: str) -> None:
        """A server's line. That one machine met the end of the other, or ours, is for developers only."""
        data = self.data_halt
        data_failed = data is not None and data.reason not in {DataHaltReason.SUCCESSFUL, DataHaltReason.CONNECT_ERROR}
        if kind == "error" and (self.ending or (data_failed and text.startswith(MOVER_SAYS))):
            kind = "debug"
        self.add_log(LogLine(kind, text))

    def note(self, text: str) -> None:
        """A line of the DMA's own in the log."""
        self.add_log(LogLine("dma", text))

    def add_log(self, line: LogLine) -> None:
        """Keep a line and tell the caller."""
        if len(self.log) < LOG_LINES_MAX:
            self.log.append(line)
        else:
            self.log_dropped += 1
        if self._log_sink is not None:
            self._log_sink(line)

    def wake(self) -> None:
        """End the present `changed`, or the next one when nobody waits."""
        self._changed.set()

    async def changed(self, timeout_s: float) -> None:
        """Wait for a post that matters to the flow and came since the last call, at most so long."""
        with trio.move_on_after(timeout_s):
            await self._changed.wait()
            self._changed = trio.Event()

    def warnings(self) -> list[str]:
        """Texts of warnings, errors and the DMA's notes."""
        texts = [line.text for line in self.log if line.kind in {"warning", "error", "dma"}]
        if self.log_dropped:
            texts.append(f"{self.log_dropped} more log lines were not kept")
        return texts

    def last_error(self, *, without: str = "") -> str:
        """The newest error text of the server, or nothing.

        Args:
            without: how the texts of a machine begin that only met the end of the other one: they explain nothing.
        """
        errors = [line.text for line in self.log if line.kind == "error"]
        return next((text for text in reversed(errors) if not (without and text.startswith(without))), "")
