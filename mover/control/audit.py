"""The audit log: who logged in, or tried to, what they opened and started, and what operators did. JSON, a line each.

Written at once, into the page cache. What cannot be written is said in the server's log, and stops no job.
"""

import os
import time
from typing import Final

import msgspec
import structlog

from mover.control.line_file import LineFile

NAME: Final = "audit.log"
"""In the state directory, mode 0600."""
SIZE_MAX: Final = 16 << 20
OLD: Final = 9
VALUE_MAX: Final = 1024  # characters

log = structlog.get_logger()


class AuditLog:
    """The audit log of a node."""

    def __init__(self, directory: str) -> None:
        self._file = LineFile(os.path.join(directory, NAME), size_max=SIZE_MAX, old=OLD)
        self._failing = False

    def event(self, event: str, **values: str | int | bool | None) -> None:
        """One event.

        Args:
            values: no secret among them; what a stranger sent is cut.
        """
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
        cut = {name: value[:VALUE_MAX] if isinstance(value, str) else value for name, value in values.items()}
        try:
            self._file.append(msgspec.json.encode({"time": stamp, "event": event, **cut}) + b"\n")
        except OSError as error:
            if not self._failing:
                log.error("audit log cannot be written, lines are lost", path=self._file.path, error=error.strerror)
            self._failing = True
        else:
            if self._failing:
                log.warning("audit log is written again", path=self._file.path)
            self._failing = False
