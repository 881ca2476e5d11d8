"""The backup log: a line for each event of a backup or recover, as ONTAP writes its file ``backup``.

``dmp|rst|log timestamp identifier event (information)``. Lines are written at once and whole; what cannot be written
costs the log its line and no job anything. docs/backup-log.md describes it for administrators.
"""

import os
import threading
import time
from collections.abc import Sequence
from typing import Final, Literal

import structlog

NAME: Final = "backup.log"
"""In the state directory, mode 0600; older ones have .1, .2 and so on behind it."""
LINE_MAX: Final = 4096  # characters
IDENTIFIER_MAX: Final = 1024  # characters of the path in it
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC

Kind = Literal["dmp", "rst"]

log = structlog.get_logger()


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


class BackupLog:
    """The log of a node.

    Args:
        directory: the state directory.
        size_max: bytes from which on a new file is begun.
        old: how many older files are kept.
    """

    def __init__(self, directory: str, *, size_max: int, old: int) -> None:
        self.path = os.path.join(directory, NAME)
        self.size_max = size_max
        self.old = old
        self._failing = False
        self._lock = threading.Lock()  # a configuration is taken outside of trio's thread

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
        try:
            with self._lock:
                self._append(text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            if not self._failing:
                log.error("backup log cannot be written, lines are lost", path=self.path, error=error.strerror)
            self._failing = True
        else:
            if self._failing:
                log.warning("backup log is written again", path=self.path)
            self._failing = False

    def _append(self, lines: bytes) -> None:
        """Add lines, whole or not at all. Raises OSError."""
        fd = os.open(self.path, _FLAGS, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size and size + len(lines) > self.size_max:
                self._rotate()
                os.close(fd)
                fd = -1
                fd = os.open(self.path, _FLAGS, 0o600)
                size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                lines = b"\n" + lines  # the host crashed in the midst of a line
            try:
                written = os.write(fd, lines)
                while written < len(lines):
                    written += os.write(fd, lines[written:])
            except OSError:
                os.ftruncate(fd, size)  # a disk that filled up within the line
                raise
        finally:
            if fd >= 0:
                os.close(fd)

    def _rotate(self) -> None:
        """Make place for a new file. Raises OSError."""
        if not self.old:
            os.unlink(self.path)
            return
        for number in range(self.old - 1, 0, -1):
            if os.path.lexists(f"{self.path}.{number}"):
                os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.rename(self.path, f"{self.path}.1")
        number = self.old + 1
        while os.path.lexists(f"{self.path}.{number}"):  # more were kept before
            os.unlink(f"{self.path}.{number}")
            number += 1

    def sync(self) -> None:
        """Make the lines written so far durable. Blocks. What fails is said as a line that is lost is."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            log.error("backup log is not on disk", path=self.path, error=error.strerror)
