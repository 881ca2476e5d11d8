"""What systemd is told of this process: that it is ready, loads, stops, and that its loop still turns.

Without NOTIFY_SOCKET and WATCHDOG_USEC in the environment nothing is said. A report that is not taken is logged and
changes nothing: jobs do not depend on who watches.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import os
import socket
import time
from typing import Final

import structlog
import trio

WATCHDOG_PARTS: Final = 3
"""Reports in a watchdog's interval: one that comes late, on a machine that is busy, is not the last."""

log = structlog.get_logger()


def notify(*assignments: str) -> None:
    """Tell systemd, if it started us.

    Args:
        assignments: such as "READY=1"; they go in one datagram.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    state = "\n".join(assignments)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            log.warning("systemd was not told", state=state, error=error.strerror)


def ready(status: str) -> None:
    """All listeners are open, or the configuration has been read again; ``status`` is for `systemctl status`."""
    notify("READY=1", f"STATUS={status}")


def reloading() -> None:
    """The configuration is being read again; :func:`ready` ends it."""
    # The moment is what a unit of Type=notify-reload (systemd 253) wants besides.
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reading the configuration again")


def stopping(within_s: float) -> None:
    """No connection is taken any more; the process ends in ``within_s`` at the latest, whatever TimeoutStopSec says."""
    notify("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within_s * 1_000_000)}", "STATUS=waiting for jobs to end")


def watchdog_interval_s() -> float | None:
    """How long systemd lets this process be silent; None = it does not watch us."""
    text = os.environ.get("WATCHDOG_USEC", "")
    owner = os.environ.get("WATCHDOG_PID")
    if not text.isascii() or not text.isdigit() or int(text) == 0 or owner not in {None, str(os.getpid())}:
        return None
    return int(text) / 1_000_000


async def feed_watchdog() -> None:
    """Report while the loop turns; a control process that hangs in a call falls silent, and is started again.

    Only the loop is judged: a worker or a device that hangs is control's own to see, and ends one job and not all.
    """
    interval_s = watchdog_interval_s()
    if interval_s is None:
        return
    while True:
        notify("WATCHDOG=1")
        await trio.sleep(interval_s / WATCHDOG_PARTS)
