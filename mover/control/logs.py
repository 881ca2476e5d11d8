"""Logs of the control process: structured lines on standard error, for people or as JSON."""

import os
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog

STANDARD_ERROR: Final = 2


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
            event[key] = "".join(
                char if char.isprintable() else char.encode("unicode_escape").decode() for char in value
            )
    return event


def configure_logs(form: Literal["console", "json"]) -> None:
    """Send all logs to standard error; tracebacks stay plain, because a rich one prints local variables (secrets)."""
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
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
