"""Logs of the control process: structured lines on standard error, for people, as JSON or for systemd's journal."""

import os
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog

STANDARD_ERROR: Final = 2

Form = Literal["console", "json", "journal"]

# sd-daemon(3): what stands in front of a line says how much it matters.
_PRIORITIES: Final = {"critical": 2, "error": 3, "exception": 3, "warning": 4, "info": 6, "debug": 7}
_BARE: Final = frozenset("()[]{}<>,;:/.@%+-*#~!?&|^$")  # besides letters and digits: need no quotes in a value


class _StandardErrorLogger:
    """Writes lines; one that cannot be written is lost.

    Standard error may be a file on a full disk, or a terminal or pipe that nobody holds any more: jobs go on.
    """

    def msg(self, message: str) -> None:
        line = message.encode("utf-8", "backslashreplace") + b"\n"
        try:
            os.write(STANDARD_ERROR, line)
        except OSError:
            return

    debug = info = warning = error = critical = exception = msg


def _escape(
    _logger: object,
    _method: str,
    event: MutableMapping[str, Any],  # Any: structlog's type of an event
) -> MutableMapping[str, Any]:
    """What comes from outside must not steer a terminal: characters that do not print become escapes."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(char if char.isprintable() else _escaped(char) for char in value)
    return event


def _quoted(value: object) -> str:
    """A value on a journal's line: in quotes where it would not be told from what stands around it."""
    text = value if isinstance(value, str) else str(value)
    if text and all(char.isalnum() or char in _BARE or char == "_" for char in text):
        return text
    marked = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(char if char.isprintable() else _escaped(char) for char in marked)}"'


def _journal_line(
    _logger: object,
    _method: str,
    event: MutableMapping[str, Any],  # Any: structlog's type of an event
) -> str:
    """One event is one line, also with a traceback: priority, text, then name=value. The journal has the time."""
    priority = _PRIORITIES.get(str(event.pop("level", "info")), _PRIORITIES["info"])
    text = "".join(char if char.isprintable() else _escaped(char) for char in str(event.pop("event", "")))
    return f"<{priority}>" + " ".join([text, *(f"{name}={_quoted(value)}" for name, value in event.items())])


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def is_journal(descriptor: int) -> bool:
    """Whether it is the stream to systemd's journal, which JOURNAL_STREAM names by device and inode.

    A child's standard error may have been sent elsewhere while it inherits the variable. Source: systemd.exec(5).
    """
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
    except OSError:  # closed: not the journal either
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def configure_logs(form: Literal["auto"] | Form) -> None:
    """Send all logs to standard error; tracebacks stay plain, because a rich one prints local variables (secrets).

    Args:
        form: auto = journal where standard error goes to systemd's journal, else console.
    """
    if form == "auto":
        form = "journal" if is_journal(STANDARD_ERROR) else "console"
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
    ]
    if form != "journal":
        processors.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    if form == "journal":
        processors += [structlog.processors.format_exc_info, _journal_line]
    elif form == "json":
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        processors += [
            _escape,
            structlog.processors.StackInfoRenderer(),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: _StandardErrorLogger(),
        cache_logger_on_first_use=True,
    )
