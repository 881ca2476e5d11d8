"""Checks of drives and changers that are no files."""

import os
import socket
import stat
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from mover.config.model import RealDevice
from mover.doctor.finding import Finding, error, good, warning
from mover.doctor.patient import Patient

ISCSI_PORT: Final = 3260
CONNECT_S: Final = 5.0
_VIRTUAL: Final = "virtual:"


def nodes(patient: Patient) -> Iterator[Finding]:
    """Device nodes are there and ours to use, and iSCSI targets can be reached."""
    named = [("drive", each) for each in patient.config.drive] + [("changer", each) for each in patient.config.changer]
    for kind, each in named:
        if each.device.startswith("iscsi://"):
            yield _target(f"{kind} {each.name}", each)
        elif not each.device.startswith(_VIRTUAL):
            yield _node(f"{kind} {each.name}", each.device)


def _target(subject: str, device: RealDevice) -> Finding:
    parts = urlsplit(device.device)
    host, port = parts.hostname or "", parts.port or ISCSI_PORT
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as failed:
        return error(
            subject, f"{host} port {port}: {failed.strerror or failed}", "is the target running, and the way open?"
        )
    return good(subject, f"{host} port {port} can be reached")


def _node(subject: str, path: str) -> Finding:
    try:
        found = os.stat(path)
    except OSError as failed:
        return error(subject, f"{path}: {failed.strerror}", "cable, power and driver: lsscsi -g names what is there")
    if not stat.S_ISCHR(found.st_mode):
        return error(subject, f"{path} is no character device", "give a node of st or sg")
    if not os.access(path, os.R_OK | os.W_OK):
        return error(subject, f"{path} may not be used by uid {os.geteuid()}", "put the server's user into its group")
    return good(subject, path)


def hung(patient: Patient) -> Iterator[Finding]:
    """No device hangs, as far as the server knows."""
    drives = patient.tapes.drives if patient.tapes is not None else []
    changers = patient.libraries.libraries if patient.libraries is not None else []
    found = [(f"drive {each.name}", each.hung_since) for each in drives]
    found += [(f"changer {each.changer}", each.hung_since) for each in changers]
    hanging = [subject for subject, since in found if since is not None]
    for subject in hanging:
        yield error(
            subject, "it hangs, and is busy until it answers", "look at the device; `mover tape show` says since when"
        )
    for each in changers:
        if each.error and each.hung_since is None:
            yield warning(f"changer {each.changer}", each.error, "look at the device")
    if found and not hanging:
        yield good("devices", f"{len(found)} are known to the server, and none hangs")
