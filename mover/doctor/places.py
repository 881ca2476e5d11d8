"""Checks of directories: volumes, libraries, the state directory and its database."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from typing import Final
from urllib.parse import quote

from mover.config import Config, check_environment
from mover.config.state_files import DATABASE
from mover.doctor.finding import Finding, error, good, warning
from mover.doctor.patient import Patient

STATE_FREE_MIN: Final = 1 << 30
_MIB: Final = 1 << 20
_FSTAB: Final = "/etc/fstab"
_TOOLS: Final = {"btrfs": "btrfs", "lvm": "lvcreate", "zfs": "zfs"}


def no_configuration(patient: Patient, path: str) -> Finding:
    """The usual configuration file is not there: the checks look at the defaults, and no server starts without one."""
    text = f"there is no {path}, and defaults are looked at"
    if patient.server is not None:
        return warning("configuration", text, "name the one that the server runs by: --config, or $MOVER_CONFIG")
    return error(
        "configuration", text, "the server does not start like this: write it, or name another: --config, $MOVER_CONFIG"
    )


def environment(patient: Patient) -> Iterator[Finding]:
    """What the server's start asks for: directories and programs are there."""
    wrong = check_environment(patient.config)
    for line in wrong:
        subject, _, text = line.partition(": ")
        yield error(subject, text, "the server does not start like this: make it, or mend the key")
    if not wrong:
        yield good("directories and programs", "those of the configuration are there")


def _volumes(config: Config) -> Iterator[tuple[str, str]]:
    for name, path in config.node.volumes.items():
        yield name, path
    for vserver in config.vserver:
        for name, path in vserver.volumes.items():
            yield f"{vserver.name}/{name}", path


def volumes(patient: Patient) -> Iterator[Finding]:
    """Volumes hold what they should, and can be read."""
    expected = _expected_mounts()
    found = False
    for name, path in _volumes(patient.config):
        found = True
        subject = f"volume {name}"
        try:
            with os.scandir(path) as entries:
                empty = next(entries, None) is None
        except OSError as failed:
            yield error(subject, f"{path}: {failed.strerror}", "mount it, or mend its rights")
            continue
        real = os.path.realpath(path)
        if real in expected and not os.path.ismount(real):
            yield error(subject, f"{path} is in {_FSTAB} and not mounted", f"mount {path}: its backups are empty")
        elif empty:
            yield warning(subject, f"{path} is empty", "is it mounted? Its backups are empty")
        else:
            yield good(subject, path)
    if not found:
        yield warning(
            "volumes", "there are none", "a file server needs node.volumes or a vserver's; a tape host does not"
        )


def _expected_mounts() -> set[str]:
    """The directories that /etc/fstab mounts by itself."""
    expected = set()
    try:
        with open(_FSTAB, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                words = line.split()
                if len(words) >= 4 and not words[0].startswith("#") and "noauto" not in words[3].split(","):
                    expected.add(words[1].replace("\\040", " "))
    except OSError:
        return set()  # a host without one mounts by other means
    return expected


def snapshots(patient: Patient) -> Iterator[Finding]:
    """The programs that make snapshots are there."""
    for snapshot in patient.config.snapshot:
        tool = _TOOLS.get(snapshot.kind)
        if tool is None:
            continue
        places = [*os.get_exec_path(), "/usr/sbin", "/sbin"]
        if any(os.access(os.path.join(place, tool), os.X_OK) for place in places):
            yield good(f"snapshot of {snapshot.volume}", f"{tool} is there")
        else:
            yield error(f"snapshot of {snapshot.volume}", f"no program {tool}", "install it: the backup fails without")


def libraries(patient: Patient) -> Iterator[Finding]:
    """Virtual libraries have room, and hold nothing strange."""
    for library in patient.config.library:
        subject = f"library {library.name}"
        try:
            file_system = os.statvfs(library.directory)
            names = os.listdir(library.directory)
        except OSError as failed:
            yield error(subject, f"{library.directory}: {failed.strerror}", "make the directory, or mend its rights")
            continue
        free = file_system.f_bavail * file_system.f_frsize
        if file_system.f_flag & os.ST_RDONLY:
            yield error(subject, f"{library.directory} is mounted read-only", "mount it for writing")
        elif free < library.early_warning:
            yield error(
                subject, f"{free // _MIB} MiB are free, less than its early warning", "make room: backups will fail"
            )
        elif free < library.cartridge_size:
            yield warning(
                subject,
                f"{free // _MIB} MiB are free, less than one cartridge of {library.cartridge_size // _MIB} MiB",
                "make room, or give smaller cartridges",
            )
        else:
            yield good(subject, f"{sum(name.endswith('.tap') for name in names)} cartridges, {free // _MIB} MiB free")
    for cartridge in patient.tapes.cartridges if patient.tapes is not None else ():
        if cartridge.unflushed:
            yield warning(
                f"cartridge {cartridge.barcode}",
                "it was not closed in order",
                f"mover tape verify {cartridge.path}",
            )


def state(patient: Patient) -> Iterator[Finding]:
    """The state directory can be written, has room, and its database is whole."""
    directory = patient.config.node.state_directory
    try:
        found = os.stat(directory)
        file_system = os.statvfs(directory)
    except FileNotFoundError:
        yield good("state directory", f"{directory} is made at the first start")
        return
    except OSError as failed:
        yield error("state directory", f"{directory}: {failed.strerror}", "run this as the server's user, or mend it")
        return
    free = file_system.f_bavail * file_system.f_frsize
    if file_system.f_flag & os.ST_RDONLY:
        yield error("state directory", f"{directory} is mounted read-only", "mount it for writing")
    elif stat.S_IMODE(found.st_mode) & 0o022:
        yield error("state directory", f"others may write in {directory}", f"chmod go-w {directory}")
    elif free < STATE_FREE_MIN:
        yield warning("state directory", f"{free // _MIB} MiB are free", "make room: dump dates and logs grow")
    else:
        yield good("state directory", f"{directory}, {free // _MIB} MiB free")
    yield from _database(os.path.join(directory, DATABASE))


def _database(path: str) -> Iterator[Finding]:
    if not os.path.exists(path):
        yield good("database", f"{path} is made at the first start")
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=5)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as failed:
        answer = str(failed)
    if answer == "ok":
        yield good("database", f"{path} is whole")
    else:
        yield error("database", f"{path}: {answer}", "stop the server and bring it back from a backup of the host")
