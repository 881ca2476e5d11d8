"""Mounts of a worker's own, seen from the host: nothing of them is there, and what happens there goes on in them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from mover.workers import own_mounts

TIMEOUT_S: Final = 60
HOST: Final = """
import ctypes, errno, os, subprocess, sys
from mover.workers import own_mounts
volume = {volume!r}
libc = ctypes.CDLL(None, use_errno=True)
def table():
    with open("/proc/thread-self/mountinfo") as file:
        return file.read()
def run(*command):
    subprocess.run(command, check=True, timeout=60)
# A host of its own: no test at the same time is seen, and it shares its mounts, as systemd has it.
assert libc.unshare(0x00020000) == 0
for flags in (1 << 18, 1 << 20):
    assert libc.mount(None, b"/", None, ctypes.c_ulong(flags | 1 << 14), None) == 0
{prepare}
before = table()
told, tell = os.pipe()
asked, ask = os.pipe()
worker = os.fork()
if worker == 0:
    own_mounts.enter([os.fsencode(volume)])
    inside = os.open(volume, os.O_RDONLY)
    os.write(tell, b"x")
    os.read(asked, 1)
    {inside}
    os._exit(0)
assert os.read(told, 1)
{outside}
os.write(ask, b"x")
_, status = os.waitpid(worker, 0)
assert os.waitstatus_to_exitcode(status) == {status}, status
{after}
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(own_mounts.refusal() is not None, reason="no mounts of a worker's own here"),
]


def host(
    volume: Path, *, prepare: str = "", inside: str = "", outside: str = "", after: str = "", status: int = 0
) -> None:
    """A worker with mounts of its own on a host that shares its: the steps, in their order, are Python."""
    script = HOST.format(
        volume=str(volume), prepare=prepare, inside=inside, outside=outside, after=after, status=status
    )  # fmt: skip
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """An empty directory."""
    path = tmp_path / "volume"
    path.mkdir()
    return path


@pytest.mark.parametrize("killed", [False, True])
def test_the_host_keeps_its_mounts(volume: Path, killed: bool) -> None:
    host(
        volume,
        prepare="run('mount', '-t', 'tmpfs', 'x', volume)",
        outside="assert table() == before" + (f"; os.kill(worker, {int(signal.SIGKILL)})" if killed else ""),
        after="assert table() == before; run('umount', volume)",
        status=-signal.SIGKILL if killed else 0,
    )


def test_a_mount_that_the_host_makes_below_the_volume_is_seen(volume: Path) -> None:
    (volume / "later").mkdir()
    host(
        volume,
        inside="os.mkdir('later/made', dir_fd=inside)",
        outside="run('mount', '-t', 'tmpfs', 'x', volume + '/later')",
        after="assert os.listdir(volume + '/later') == ['made']; run('umount', volume + '/later')",
    )
    assert os.listdir(volume / "later") == []


def test_a_mount_that_the_host_takes_away_below_the_volume_goes(volume: Path) -> None:
    (volume / "there").mkdir()
    host(
        volume,
        prepare="run('mount', '-t', 'tmpfs', 'x', volume + '/there')",
        inside="assert os.stat('there', dir_fd=inside).st_dev == os.fstat(inside).st_dev",
        outside="run('umount', volume + '/there')",
    )


def test_a_volume_that_a_worker_is_in_is_busy_on_the_host(volume: Path) -> None:
    host(
        volume,
        prepare="run('mount', '-t', 'tmpfs', 'x', volume)",
        inside="os.mkdir('made', dir_fd=inside)",
        outside="assert libc.umount2(os.fsencode(volume), 0) and ctypes.get_errno() == errno.EBUSY",
        after="assert os.listdir(volume) == ['made']; run('umount', volume)",
    )


def test_a_volume_that_the_host_unmounts_is_written_to_its_file_system(volume: Path) -> None:
    """Two mounts of one file system, of which the worker's volume is one: the other one shows what it has made."""
    beside = volume.parent / "beside"
    beside.mkdir()
    host(
        volume,
        prepare=f"run('mount', '-t', 'tmpfs', 'x', volume); run('mount', '--bind', volume, {str(beside)!r})",
        inside="os.mkdir('made', dir_fd=inside); assert not os.listdir(volume)",
        outside="run('umount', '--lazy', volume)",
        after=f"assert os.listdir({str(beside)!r}) == ['made'], 1; assert not os.listdir(volume)",
    )


def test_what_keeps_workers_from_them_is_found_out_in_a_thread_that_leaves() -> None:
    namespace, here = os.readlink("/proc/thread-self/ns/mnt"), os.getcwd()
    assert own_mounts.refusal() is None
    assert (os.readlink("/proc/thread-self/ns/mnt"), os.getcwd()) == (namespace, here)


@contextmanager
def refused(monkeypatch: pytest.MonkeyPatch, *calls: str) -> Iterator[None]:
    """These calls of the C library fail."""
    real = own_mounts._libc  # what is replaced

    class Filtered:
        def __getattr__(self, name: str) -> object:
            return (lambda *_: -1) if name in calls else getattr(real, name)

    with monkeypatch.context() as patch:
        patch.setattr(own_mounts, "_libc", Filtered())
        yield


def test_the_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(monkeypatch, "pivot_root"):
        assert "pivot_root: " in (own_mounts.refusal() or "")


@pytest.mark.parametrize("calls", [("umount2",), ("pivot_root", "umount2")])
def test_half_a_way_is_none(calls: tuple[str, ...]) -> None:
    """A worker that cannot go on to its mounts nor back to the host's ends."""
    script = f"""
from mover.workers import confine, own_mounts
real = own_mounts._libc
class Filtered:
    def __getattr__(self, name):
        return (lambda *_: -1) if name in {calls!r} else getattr(real, name)
own_mounts._libc = Filtered()
try:
    confine.confine(confine.Grant(0, ((b"/etc", confine.READ),), (), True))
except own_mounts.HalfWay as ended:
    print(ended)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "umount2: " in ran.stdout


def test_the_users_can_be_read_and_no_more(volume: Path) -> None:
    users = "/etc/passwd"
    before = os.stat(users)
    script = f"""
import errno, os
from mover.workers import own_mounts
own_mounts.enter([{os.fsencode(volume)!r}, {os.fsencode(users)!r}])
assert open({users!r}).read(1)
for act in (
    lambda: os.chmod({users!r}, 0o666),
    lambda: os.chown({users!r}, 1, 1),
    lambda: os.utime({users!r}, (0, 0)),
    lambda: os.setxattr({users!r}, "trusted.mark", b"x"),
    lambda: os.open({users!r}, os.O_WRONLY),
):
    try:
        act()
    except OSError as error:
        assert error.errno == errno.EROFS, error
    else:
        raise AssertionError
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (os.stat(users).st_mode, os.stat(users).st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
