"""Checks of the running server and its users."""

from collections.abc import Iterator
from typing import Final

import mover
from mover.doctor.finding import Finding, error, good, warning
from mover.doctor.patient import Patient

_PASSWORDS: Final = {
    "stale": "the login password has changed since it was made",
    "expired": "it is older than authentication.ndmp_password_days",
    "unknown": "the host cannot be asked about the login password now",
}


def server(patient: Patient) -> Iterator[Finding]:
    """A server runs, of this version, and answers."""
    running = patient.server
    if running is None:
        yield warning("server", f"none answers: {patient.silent}", "systemctl start mover, or `mover serve`")
        return
    if running.version != mover.__version__:
        yield warning(
            "server", f"version {running.version} runs, this is {mover.__version__}", "restart it when no job runs"
        )
    else:
        yield good("server", f"{running.node} runs mover {running.version} (pid {running.pid})")
    for line in patient.unasked:
        yield error("server", f"it did not answer {line}", "see its log")


def users(patient: Patient) -> Iterator[Finding]:
    """There is somebody who may log in, with a password that counts."""
    if patient.users is None:
        if not patient.config.user and patient.server is None:
            yield warning("users", "the configuration has none", "`mover user create` once the server runs")
        return
    rows = patient.users.users
    if not rows and "none" not in patient.config.node.authtype:
        yield warning("users", "nobody may log in", "mover user create --user NAME --role backup")
    for row in rows:
        if row.ndmp_password in _PASSWORDS:
            yield warning(
                f"user {row.user}",
                f"the NDMP password is {row.ndmp_password}: {_PASSWORDS[row.ndmp_password]}",
                f"mover generate-password --user {row.user}",
            )
    if rows:
        yield good("users", f"{len(rows)} may log in")
