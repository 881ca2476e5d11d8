"""Every kind of worker, with the rights it asks for by itself: what its rights are for it can do, and nothing else."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from mover.data.rights import need as data_need
from mover.tape.__main__ import need as tape_need
from mover.workers.confine import Grant, landlock_abi
from mover.workers.data_messages import Place, RecoverName, StartBackup, StartRecover
from mover.workers.tape_messages import DriveSpec, OpenDrive

TIMEOUT_S: Final = 60
UNKNOWN: Final = 2**64 - 1
KINDS: Final = ("backup", "recover", "list", "tape", "relay")
ACTS: Final[dict[str, tuple[str, set[str]]]] = {
    # name -> a Python expression, and the kinds that may
    "read below the volume": ("os.close(os.open(volume + '/file', os.O_RDONLY))", {"backup", "recover"}),
    "list the volume": ("bool(os.listdir(volume))", {"backup", "recover"}),
    "write below the volume": ("os.close(os.open(volume + '/file', os.O_WRONLY))", {"recover"}),
    "make a file there": ("os.close(os.open(volume + '/new', os.O_WRONLY | os.O_CREAT))", {"recover"}),
    "make a directory there": ("os.mkdir(volume + '/directory')", {"recover"}),
    "remove there": ("os.unlink(volume + '/removed')", {"recover"}),
    "leave by a symbolic link": ("os.close(os.open(volume + '/out', os.O_RDONLY))", set()),
    "leave by ..": ("os.close(os.open(volume + '/../beside/file', os.O_RDONLY))", set()),
    "read elsewhere": ("os.close(os.open(beside + '/file', os.O_RDONLY))", set()),
    "write elsewhere": ("os.close(os.open(beside + '/made', os.O_WRONLY | os.O_CREAT))", set()),
    "read the users": ("os.close(os.open('/etc/passwd', os.O_RDONLY))", set()),
    "read the shadow": ("os.close(os.open('/etc/shadow', os.O_RDONLY))", set()),
    "read the cartridge": ("os.close(os.open(tapes + '/a.tap', os.O_RDWR))", {"tape"}),
    "make an index": ("os.close(os.open(tapes + '/a.idx', os.O_WRONLY | os.O_CREAT))", {"tape"}),
    "make a directory of tapes": ("os.mkdir(tapes + '/directory')", set()),
    "run a program": ("subprocess.run(['/bin/true'], check=True) and None", set()),
    "look at the control process": ("os.close(os.open('/proc/%d/mem' % os.getppid(), os.O_RDONLY))", set()),
    "change the root": ("os.chroot('/')", set()),
    "become somebody else": ("os.setresuid(1, 1, 1)", set()),
    "set the clock": ("time.clock_settime(time.CLOCK_REALTIME, time.time())", set()),
    "change the host's name": ("socket.sethostname(socket.gethostname())", set()),
    "mount": ("mount()", set()),
    "make a namespace": ("libc_error(libc.unshare(0x00020000))", set()),
    "trace": ("libc_error(libc.ptrace(16, os.getppid(), 0, 0))", set()),
    "open a raw socket": ("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()", set()),
}
NETWORK: Final[dict[str, tuple[str, set[str]]]] = {
    "connect": ("socket.create_connection(('127.0.0.1', port), timeout=5).close()", set()),
    "listen": ("socket.create_server(('127.0.0.1', 0)).close()", set()),
}
NETWORK_ABI: Final = 4
"""The version of Landlock that knows of TCP."""
CHILD: Final = """
import ctypes, errno, os, socket, subprocess, sys, time
from mover.workers.confine import Grant, confine
volume, beside, tapes, port = {volume!r}, {beside!r}, {tapes!r}, {port}
libc = ctypes.CDLL(None, use_errno=True)
"host".encode("idna")  # a module that connecting reads
def libc_error(result):
    if result:
        raise OSError(ctypes.get_errno(), "")
def mount():
    libc_error(libc.mount(b"none", volume.encode(), b"tmpfs", 0, None))
def attempt(act):
    try:
        eval(act)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
confine(Grant({grant.capabilities}, {grant.trees!r}, {grant.ports!r}, {grant.own_mounts}))
print("\\n".join([attempt(act) for act in {acts!r}]))
"""

pytestmark = [
    pytest.mark.skipif(landlock_abi() < 3, reason="this kernel's Landlock does not hold files to the whole"),
]


class Places:
    """A volume, something beside it, and a directory of cartridges."""

    def __init__(self, directory: Path) -> None:
        self.volume, self.beside, self.tapes = (directory / name for name in ("volume", "beside", "tapes"))
        for place in (self.volume, self.beside, self.tapes):
            place.mkdir()
            (place / "file").write_text("x")
        (self.volume / "removed").touch()
        (self.volume / "out").symlink_to(self.beside / "file")
        (self.tapes / "a.tap").touch()

    def grant(self, kind: str) -> Grant:
        """What a worker of this kind asks for."""
        place = Place(os.fsencode(self.volume), b"")
        name = RecoverName(original=b"", target=place, reported=b"", node=UNKNOWN, fh_info=UNKNOWN)
        match kind:
            case "backup":
                return data_need(StartBackup("dump", place, b"/v", [], None, "host"))
            case "recover":
                return data_need(StartRecover(butype="dump", names=[name], env=[], recursive=True, direct=False))
            case "list":
                env = [(b"LIST", b"Y")]
                return data_need(StartRecover(butype="dump", names=[name], env=env, recursive=True, direct=False))
            case "tape":
                return tape_need(OpenDrive(DriveSpec("d", str(self.tapes / "a.tap"), 1, 0), 1, True))
            case _:
                return Grant()  # relay: whatever its first message is


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_can_do_what_it_is_for_and_nothing_else(kind: str, tmp_path: Path, port: int) -> None:
    places = Places(tmp_path)
    acts = {**ACTS, **(NETWORK if landlock_abi() >= NETWORK_ABI else {})}
    script = CHILD.format(
        volume=str(places.volume), beside=str(places.beside), tapes=str(places.tapes), port=port,
        grant=places.grant(kind), acts=[act for act, _ in acts.values()],
    )  # fmt: skip
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stderr
    results = dict(zip(acts, ran.stdout.splitlines(), strict=True))
    may = {name for name, result in results.items() if result == "done"}
    assert may == {name for name, (_, kinds) in acts.items() if kind in kinds}
    refusals = {result for name, result in results.items() if name not in may}
    assert refusals <= {"EACCES", "EPERM", *(["ENOENT"] if kind == "recover" else [])}, results
    assert not (places.beside / "made").exists()
