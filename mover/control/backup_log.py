"""The backup log: a line for each event of a backup or recover, as ONTAP writes its file ``backup``.

``dmp|rst|log timestamp identifier event (information)``. Lines are written at once and whole; what cannot be written
costs the log its line and no job anything. docs/backup-log.md describes it for administrators.
"""

import os
import time
from collections.abc import Sequence
from typing import Final, Literal

from mover.control.line_file import LineFile

NAME: Final = "backup.log"
"""In the state directory, mode 0600; older ones have .1, .2 and so on behind it."""
LINE_MAX: Final = 4096  # characters
IDENTIFIER_MAX: Final = 1024  # characters of the path in it

Kind = Literal["dmp", "rst"]


def escape(text: str | bytes, *, spaces: bool = False) -> str:
    """Text that cannot end a line or look like what stands around it: whatever does not print becomes an escape.

    Args:
        spaces: these too, for what is a field of a line.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text and not (spaces and " " in text):
        return text
    return "".join(
        letter if letter.isprintable() and letter != "\\" and not (spaces and letter == " ") else _escaped(letter)
        for letter in text
    )


def _escaped(letter: str) -> str:
    if letter == "\\":
        return "\\\\"
    if "\udc80" <= letter <= "\udcff":  # a byte that could not be decoded, PEP 383
        return f"\\x{ord(letter) & 0xFF:02x}"
    return "\\x20" if letter == " " else letter.encode("unicode_escape").decode("ascii")


def identifier(path: bytes, number: int) -> str:
    """What names a job in the log: its path, without blanks, and its number."""
    shown = escape(path.rstrip(b"/")[: 4 * IDENTIFIER_MAX], spaces=True)
    if len(shown) > IDENTIFIER_MAX:
        shown = shown[:IDENTIFIER_MAX] + "..."
    return f"{shown}/({number})"


def timestamp(seconds: float) -> str:
    """As ONTAP and date(1) write it, in the time zone of this host."""
    return time.strftime("%a %b %e %H:%M:%S %Z %Y", time.localtime(seconds))


class BackupLog(LineFile):
    """The log of a node, in its state directory."""

    def __init__(self, directory: str, *, size_max: int, old: int) -> None:
        super().__init__("backup log", os.path.join(directory, NAME), size_max=size_max, old=old)

    def event(self, kind: Kind, name: str, event: str, information: str = "", now: float | None = None) -> None:
        """One event of a job.

        Args:
            name: what ``identifier`` has made.
            information: escaped here.
        """
        self.events(kind, name, [(event, information)], now)

    def events(self, kind: Kind, name: str, events: Sequence[tuple[str, str]], now: float | None = None) -> None:
        """Several events of a job at one moment, each with its information: written in one go."""
        head = f"{kind} {timestamp(time.time() if now is None else now)} {name}"
        self._write(*(f"{head} {event}" + (f" ({escape(text)})" if text else "") for event, text in events))

    def logging(self, event: Literal["Start_Logging", "Stop_Logging"]) -> None:
        """An event of the log itself, which has no identifier."""
        self._write(f"log {timestamp(time.time())} {event}")

    def _write(self, *lines: str) -> None:
        text = "".join((each if len(each) <= LINE_MAX else each[: LINE_MAX - 4] + "...)") + "\n" for each in lines)
        self.write(text.encode("utf-8", "backslashreplace"))
