"""The audit log: who logged in, or tried to, what they opened and started, and what operators did. JSON, a line each.

Written at once, into the page cache.
"""

import os
import time
from typing import Final

import msgspec

from mover.control.line_file import LineFile

NAME: Final = "audit.log"
"""In the state directory, mode 0600."""
SIZE_MAX: Final = 16 << 20
OLD: Final = 9
VALUE_MAX: Final = 1024  # characters


class AuditLog:
    """The audit log of a node."""

    def __init__(self, directory: str) -> None:
        self._file = LineFile("audit log", os.path.join(directory, NAME), size_max=SIZE_MAX, old=OLD)

    def event(self, event: str, **values: str | int | bool | None) -> None:
        """One event.

        Args:
            values: no secret among them; what a stranger sent is cut.
        """
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
        cut = {name: value[:VALUE_MAX] if isinstance(value, str) else value for name, value in values.items()}
        self._file.write(msgspec.json.encode({"time": stamp, "event": event, **cut}) + b"\n")
