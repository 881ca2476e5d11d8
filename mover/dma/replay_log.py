"""A protocol log as a replay needs it: read, checked, and what of it decides how it is played."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mover.dma.errors import JobError
from mover.ndmp.dialogue import ALL_INTERFACES, Closing, Gap, Line, LineError, Message, Opening, decode_line
from mover.ndmp.table import VERSIONS

LINE_BYTES_MAX: Final = 64 << 20


def read_log(path: Path) -> tuple[Opening, list[tuple[int, Message]], list[str]]:
    """The log's first line, its messages with their line numbers, and what keeps it from being compared whole.

    Raises:
        JobError: it cannot be read, is no protocol log, or lacks requests.
    """
    opening: Opening | None = None
    messages: list[tuple[int, Message]] = []
    notes: list[str] = []
    for number, line in _lines(path):
        match line:
            case Opening() if opening is None:
                opening = line
            case Message() if opening is not None:
                if line.sender == "client" and line.record is None:
                    raise JobError(f"{path}:{number}: this {line.message} cannot be played: {line.note}")
                messages.append((number, line))
            case Gap() if opening is not None:
                if line.requests:
                    raise JobError(f"{path}:{number}: {line.requests} requests came too fast for the log")
                notes.append(f"line {number}: {line.messages} posts were not logged, posts are not compared")
            case Closing():
                break
            case _:
                raise JobError(f"{path}:{number}: no line of a protocol log stands here")
    if opening is None:
        raise JobError(f"{path}: empty")
    if opening.version not in VERSIONS:
        raise JobError(f"{path}:1: a log of version {opening.version}, which there is not")
    missing = sorted(ALL_INTERFACES - set(opening.interfaces))
    if missing:
        notes.append(f"the log was made without {', '.join(missing)}")
    if not opening.whole:
        notes.append("the log begins inside the dialogue: the replay opens and logs in by itself")
    return opening, messages, notes


def _lines(path: Path) -> Iterator[tuple[int, Line]]:
    try:
        with path.open("rb") as file:
            number = 0
            while text := file.readline(LINE_BYTES_MAX):
                number += 1
                try:
                    yield number, decode_line(text)
                except LineError as error:
                    raise JobError(f"{path}:{number}: not a line of a protocol log: {error}") from None
    except OSError as error:
        raise JobError(f"{path}: {error.strerror}") from None


def is_shutdown(message: Message) -> bool:
    """Whether a post says that the recorded server ended the connection of its own accord."""
    return message.message.startswith("NOTIFY_CONNECT") and (message.fields or {}).get("reason") == "SHUTDOWN"


def logins_taken(messages: list[tuple[int, Message]]) -> set[int]:
    """Sequence numbers of the logins that the recorded server took."""
    return {
        message.reply_to
        for _, message in messages
        if message.kind == "reply"
        and message.message in {"CONNECT_CLIENT_AUTH", "CONNECT_AUTH"}
        and message.reply_to is not None
        and message.error is None
        and (message.fields or {}).get("error") == "NO_ERR"
    }
