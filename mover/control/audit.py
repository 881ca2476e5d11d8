"""The audit log: who logged in, or tried to, what they opened and started, and what operators did. JSON, a line each.

Written at once, into the page cache. What strangers cause is paced, or a flood of it would push all else out of the
files that are kept.
"""

import os
import time
from typing import Final

import msgspec
import trio

from mover.control.line_file import LineFile
from mover.control.login_watch import source_of
from mover.control.stranger_pace import PERIOD_S, StrangerPace

NAME: Final = "audit.log"
"""In the state directory, mode 0600."""
SIZE_MAX: Final = 16 << 20
OLD: Final = 9
VALUE_MAX: Final = 1024  # characters


class AuditLog:
    """The audit log of a node."""

    def __init__(self, directory: str) -> None:
        self._file = LineFile("audit log", os.path.join(directory, NAME), size_max=SIZE_MAX, old=OLD)
        self._strangers = StrangerPace()

    def event(self, event: str, **values: str | int | bool | None) -> None:
        """One event.

        Args:
            values: no secret among them; what a stranger sent is cut.
        """
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
        cut = {name: value[:VALUE_MAX] if isinstance(value, str) else value for name, value in values.items()}
        self._file.write(msgspec.json.encode({"time": stamp, "event": event, **cut}) + b"\n")

    def stranger(self, event: str, client: str, **values: str | int | bool | None) -> bool:
        """One event of a client that has not logged in; False = it is only counted, there are too many.

        Args:
            client: its address.
        """
        now = trio.current_time()
        self._tell_rest(self._strangers.over(now))
        admitted = self._strangers.admits(source_of(client), now)
        if admitted:
            self.event(event, client=client, **values)
        return admitted

    async def run(self) -> None:
        """Write how many events of strangers were only counted, after each minute, until cancelled."""
        try:
            while True:
                await trio.sleep(PERIOD_S)
                self._tell_rest(self._strangers.over(trio.current_time()))
        finally:
            self._tell_rest(self._strangers.close())

    def _tell_rest(self, rest: dict[str, int]) -> None:
        for source, count in rest.items():
            self.event("further", result="refused", client=source, count=count)
