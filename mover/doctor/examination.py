"""All checks, each in a thread of its own with a deadline: a file server that hangs holds up its own check only."""

import threading
from collections.abc import Callable, Iterator
from typing import Final

from mover.doctor import devices, network, places, rights, service
from mover.doctor.finding import Finding, error
from mover.doctor.patient import Patient

Check = Callable[[Patient], Iterator[Finding]]

DEADLINE_S: Final = 20.0
CHECKS: Final[dict[str, Check]] = {
    "server": service.server,
    "environment": places.environment,
    "volumes": places.volumes,
    "snapshots": places.snapshots,
    "libraries": places.libraries,
    "state": places.state,
    "devices": devices.nodes,
    "hung devices": devices.hung,
    "lifs": network.lifs,
    "data ports": network.data_ports,
    "networks": network.strangers,
    "certificates": network.certificates,
    "metrics": network.metrics,
    "users": service.users,
    "capabilities": rights.capabilities,
    "descriptors": rights.descriptors,
    "memory": rights.memory,
    "kernel": rights.kernel,
    "clock": rights.clock,
}


def examine(patient: Patient, *, deadline_s: float = DEADLINE_S) -> Iterator[tuple[str, Finding]]:
    """Each finding with its check's name, in the order of the table."""
    for name, check in CHECKS.items():
        for finding in _examine(check, patient, deadline_s):
            yield name, finding


def _examine(check: Check, patient: Patient, deadline_s: float) -> list[Finding]:
    found: list[Finding] = []

    def work() -> None:
        try:
            found.extend(check(patient))
        except Exception as failed:  # noqa: BLE001 - one check that cannot be made must not cost the others
            found.append(error("check", f"it could not be made: {type(failed).__name__}: {failed}", "run it as root"))

    thread = threading.Thread(target=work, daemon=True)  # a call into a dead mount never returns
    thread.start()
    thread.join(deadline_s)
    seen = list(found)
    if thread.is_alive():
        text = f"it did not end within {deadline_s:g} s"
        seen.append(error("check", text, "something hangs: a mount of a dead server, a device"))
    return seen
