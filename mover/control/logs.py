"""Logs of the control process: structured lines on standard error, for people or as JSON."""

import sys
from typing import Literal

import structlog


def configure_logs(form: Literal["console", "json"]) -> None:
    """Send all logs to standard error; tracebacks stay plain, because a rich one prints local variables (secrets)."""
    renderer: structlog.typing.Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer()
        traces: structlog.typing.Processor = structlog.processors.format_exc_info
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        traces = structlog.processors.StackInfoRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            traces,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
