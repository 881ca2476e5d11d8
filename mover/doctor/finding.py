"""What a check has found."""

from typing import Literal

from msgspec import Struct

Level = Literal["ok", "warning", "error"]


class Finding(Struct, frozen=True):
    """One line of a check.

    Attributes:
        level: error = something does not work, or will not; warning = it works, and an administrator should know.
        subject: the thing, as the configuration or the host calls it.
        text: how it is.
        action: what to do about it; "" = nothing.
    """

    level: Level
    subject: str
    text: str
    action: str = ""


def good(subject: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding("ok", subject, text)


def warning(subject: str, text: str, action: str) -> Finding:
    """It works, and is not as it should be."""
    return Finding("warning", subject, text, action)


def error(subject: str, text: str, action: str) -> Finding:
    """It does not work, or will not."""
    return Finding("error", subject, text, action)
