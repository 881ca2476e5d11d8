"""Checks of what the server may do, and of the kernel under it."""

import ctypes
import os
import resource
import time
from collections.abc import Iterator
from typing import Final

from mover.doctor.finding import Finding, error, good, warning
from mover.doctor.patient import Patient
from mover.workers.confine import landlock_abi, mounts_refused

DESCRIPTORS_A_SESSION: Final = 64
ABI_WANTED: Final = 3
BUILT: Final = 1_763_769_600  # 2025-11-22: a clock before that is wrong
TIMEX_BYTES: Final = 208
TIME_ERROR: Final = 5
_DAC_READ_SEARCH: Final = 2
_RECOVER: Final = {0: "CHOWN", 1: "DAC_OVERRIDE", 3: "FOWNER", 4: "FSETID", 27: "MKNOD", 31: "SETFCAP"}


def _status(pid: int) -> dict[str, str]:
    """What /proc says of a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def capabilities(patient: Patient) -> Iterator[Finding]:
    """The server, or this user where none runs, may read and write others' files."""
    pid = patient.server.pid if patient.server is not None else os.getpid()
    who = f"the server (pid {pid})" if patient.server is not None else f"uid {os.geteuid()}, who runs this"
    held = int(_status(pid).get("CapPrm", "0"), 16)
    if not patient.config.volume_names():
        yield good("rights", f"{who}: no volumes, so no rights to files are needed")
        return
    if not held >> _DAC_READ_SEARCH & 1:
        yield warning(
            "rights to back up", f"{who} may not read others' files", "run the server as root, or by its unit"
        )
    else:
        yield good("rights to back up", f"{who} may read all files")
    missing = [name for bit, name in _RECOVER.items() if not held >> bit & 1]
    if missing:
        yield warning(
            "rights to recover",
            f"{who} lacks {', '.join(missing)}: owners, devices or the like will be left out",
            "run the server as root, or by its unit",
        )
    else:
        yield good("rights to recover", f"{who} may make all kinds of files")


def descriptors(patient: Patient) -> Iterator[Finding]:
    """There are descriptors for as many sessions as are allowed."""
    wanted = patient.config.limits.sessions * DESCRIPTORS_A_SESSION
    if patient.server is not None:
        soft = resource.prlimit(patient.server.pid, resource.RLIMIT_NOFILE)[0]
    else:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # the server raises its own
    if 0 <= soft < wanted:
        yield warning(
            "descriptors", f"{soft}, and {wanted} may be wanted", "raise LimitNOFILE, or lower limits.sessions"
        )
    else:
        yield good("descriptors", f"{soft} at the most")


def memory(patient: Patient) -> Iterator[Finding]:
    """The rings of all drives fit into memory."""
    config = patient.config
    rings = len(config.virtual_drives()) * config.limits.ring
    rings += sum(drive.ring or config.limits.ring for drive in config.drive if drive.virtual_path() is None)
    with open("/proc/meminfo", encoding="ascii") as file:
        words = dict(line.split(":", 1) for line in file)
    available = int(words["MemAvailable"].split()[0]) * 1024
    if rings > available:
        yield error("memory", f"the rings take {rings >> 20} MiB, {available >> 20} MiB are there", "lower ring sizes")
    else:
        yield good("memory", f"the rings take {rings >> 20} MiB, {available >> 20} MiB are there")


def kernel(_patient: Patient) -> Iterator[Finding]:
    """The kernel can confine workers."""
    release = os.uname().release
    abi = landlock_abi()
    if not abi:
        yield warning("kernel", f"{release} has no Landlock, or it is off", "boot one from 5.19 on, with lsm=landlock")
    elif abi < ABI_WANTED:
        yield warning("kernel", f"{release}: Landlock {abi} cannot hold all that is wanted", "a kernel from 6.2 on can")
    else:
        yield good("kernel", f"{release}, Landlock {abi}")
    refused = mounts_refused()
    if refused is not None:
        yield warning(
            "kernel", f"recovers have no mounts of their own here: {refused}", "allow mount namespaces and mounting"
        )


def clock(_patient: Patient) -> Iterator[Finding]:
    """The clock is right: incremental backups go by it."""
    if time.time() < BUILT:
        yield error("clock", f"it says {time.strftime('%Y-%m-%d')}", "set it: incremental backups go by it")
        return
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    if state == TIME_ERROR:
        yield warning("clock", "nobody keeps it right", "run a time service: incremental backups go by the clock")
    else:
        yield good("clock", "it is kept right")
