"""Giving rights up: in a child process each, which confines itself and then tries what is forbidden."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mover.workers.confine import (
    CAP_CHOWN,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CHANGE,
    POPULATE,
    READ,
    Grant,
    landlock_abi,
)

TIMEOUT_S = 20
needs_landlock = pytest.mark.skipif(not landlock_abi(), reason="this kernel has no Landlock")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def confined(grant: Grant, *acts: str, abi: int | None = None) -> list[str]:
    """What became of each act, a Python expression, in a process confined to the grant: "done" or an errno's name.

    Args:
        abi: the version of Landlock that is made use of; None = what there is.
    """
    child = f"""
import errno, os, resource, signal, socket, stat, sys, threading
from mover.workers import confine as module
from mover.workers.confine import Grant, confine
if {abi} is not None:
    module.landlock_abi = lambda: {abi}
status = os.open("/proc/self", os.O_RDONLY)
def attempt(act):
    try:
        return str(eval(act) or "done")
    except OSError as error:
        return errno.errorcode[error.errno]
confine(Grant({grant.capabilities}, {grant.trees!r}, {grant.ports!r}))
print("\\n".join([attempt(act) for act in {acts!r}]))
"""
    ran = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def reading(path: Path) -> str:
    return f"os.close(os.open({str(path)!r}, os.O_RDONLY))"


def making(path: Path) -> str:
    return f"os.close(os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT))"


@needs_landlock
def test_without_a_grant_no_file_can_be_reached(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("secret")
    acts = [reading(tmp_path / "there"), making(tmp_path / "new"), reading(Path("/etc/passwd")), reading(tmp_path)]
    assert confined(Grant(), *acts, f"os.mkdir({str(tmp_path / 'd')!r})") == ["EACCES"] * 5


@needs_landlock
def test_reading_below_one_tree(tmp_path: Path) -> None:
    volume, beside = tmp_path / "volume", tmp_path / "beside"
    for place in (volume / "sub", beside):
        place.mkdir(parents=True)
        (place / "file").write_text("x")
    (volume / "out").symlink_to(beside / "file")
    grant = Grant(trees=((os.fsencode(volume), READ),))
    assert confined(
        grant,
        reading(volume / "sub" / "file"),
        reading(beside / "file"),
        reading(volume / "out"),
        making(volume / "new"),
        f"os.unlink({str(volume / 'sub' / 'file')!r})",
        f"os.rename({str(volume / 'sub')!r}, {str(volume / 'other')!r})",
        f"os.truncate({str(volume / 'sub' / 'file')!r}, 0)",
    ) == ["done", *["EACCES"] * 6]


@needs_landlock
def test_changing_below_one_tree(tmp_path: Path) -> None:
    library, beside = tmp_path / "library", tmp_path / "beside"
    library.mkdir()
    beside.mkdir()
    (library / "tape").write_text("x")
    grant = Grant(trees=((os.fsencode(library), CHANGE),))
    assert (
        confined(
            grant,
            making(library / "index.new"),
            f"os.rename({str(library / 'index.new')!r}, {str(library / 'index')!r})",
            f"os.truncate({str(library / 'tape')!r}, 0)",
            f"os.unlink({str(library / 'index')!r})",
            f"os.mkdir({str(library / 'd')!r})",
            f"os.symlink('/etc', {str(library / 'l')!r})",
            f"os.link({str(library / 'tape')!r}, {str(beside / 'tape')!r})",
            making(beside / "new"),
        )
        == ["done"] * 4 + ["EACCES"] * 4
    )


@needs_landlock
def test_populating_below_one_tree(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    grant = Grant(trees=((os.fsencode(tmp_path / "a"), POPULATE),))
    place = str(tmp_path / "a")
    assert confined(
        grant,
        f"os.mkdir({place + '/d'!r})",
        f"os.mkfifo({place + '/d/fifo'!r})",
        f"os.symlink('x', {place + '/d/link'!r})",
        making(Path(place, "file")),
        f"os.link({place + '/file'!r}, {place + '/d/file'!r})",
        f"os.rename({place + '/d/file'!r}, {place + '/other'!r})",
        making(tmp_path / "b"),
    ) == ["done"] * 6 + ["EACCES"]


@needs_landlock
def test_the_first_landlock_keeps_no_recover_from_its_links(tmp_path: Path) -> None:
    """It denies every link between directories, whatever is granted, but reads it can hold."""
    place = tmp_path / "a"
    (place / "d").mkdir(parents=True)
    (place / "file").write_text("x")
    acts = [f"os.link({str(place / 'file')!r}, {str(place / 'd' / 'file')!r})", making(tmp_path / "b")]
    assert confined(Grant(trees=((os.fsencode(place), POPULATE),)), *acts, abi=1) == ["done", "done"]
    assert confined(Grant(trees=((os.fsencode(place), READ),)), making(tmp_path / "c"), abi=1) == ["EACCES"]


@needs_landlock
def test_a_tree_that_does_not_exist_grants_nothing(tmp_path: Path) -> None:
    acts = [reading(tmp_path)]
    assert confined(Grant(trees=((os.fsencode(tmp_path / "gone"), READ),)), *acts) == ["EACCES"]


@pytest.mark.skipif(landlock_abi() < 4, reason="Landlock of this kernel does not know the network")
def test_no_tcp_connection_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        assert confined(Grant(), f"socket.socket().connect({address!r})", "socket.socket().bind(('127.0.0.1', 0))") == [
            "EACCES",
            "EACCES",
        ]


@pytest.mark.skipif(landlock_abi() < 4, reason="Landlock of this kernel does not know the network")
def test_a_tcp_connection_to_the_port_of_the_grant() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        acts = [f"socket.socket().connect({each.getsockname()!r})" for each in (server, other)]
        ports = (server.getsockname()[1],)
        assert confined(Grant(ports=ports), *acts) == ["done", "EACCES"]
        assert confined(Grant(ports=ports), *acts, abi=3) == ["done", "done"]


@pytest.mark.skipif(landlock_abi() < 6, reason="Landlock of this kernel does not know signals")
def test_no_signal_to_others_but_to_its_own_child() -> None:
    child = "(lambda pid: os._exit(signal.pause() or 0) if pid == 0 else os.kill(pid, signal.SIGKILL))(os.fork())"
    assert confined(Grant(), f"os.kill({os.getpid()}, 0)", child) == ["EPERM", "done"]


@root_only
@pytest.mark.root
def test_capabilities_are_those_of_the_grant_in_every_set_and_thread(tmp_path: Path) -> None:
    status = (
        "(lambda fd: os.read(fd, 8192).decode())"
        "(os.open('self/task/%d/status' % threading.get_native_id(), os.O_RDONLY, dir_fd=proc))"
    )
    script = f"""
import os, threading
from mover.workers.confine import Grant, bound_capabilities, confine
bound_capabilities({CAP_CHOWN | CAP_DAC_READ_SEARCH})
confine(Grant({CAP_CHOWN | CAP_DAC_READ_SEARCH}, ((b"/proc", {READ}),)))
proc = os.open("/proc", os.O_RDONLY)
print({status})
def later():
    print({status})
thread = threading.Thread(target=later)
thread.start()
thread.join()
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stderr
    words = [line.split() for line in ran.stdout.splitlines() if line.startswith(("Cap", "NoNewPrivs"))]
    kept, none = f"{CAP_CHOWN | CAP_DAC_READ_SEARCH:016x}", f"{0:016x}"
    sets = {"CapInh:": none, "CapPrm:": kept, "CapEff:": kept, "CapBnd:": kept, "CapAmb:": none, "NoNewPrivs:": "1"}
    expected = [[name, value] for name, value in sets.items()]
    assert words == expected * 2


@root_only
@pytest.mark.root
def test_root_without_capabilities_is_held_by_ownership(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    os.chown(other, 65534, 65534)
    acts = [reading(other), f"os.chown({str(tmp_path)!r}, 1, 1)"]
    trees = ((os.fsencode(tmp_path), POPULATE),)
    assert confined(Grant(trees=trees), *acts) == ["EACCES", "EPERM"]
    assert confined(Grant(CAP_DAC_READ_SEARCH | CAP_CHOWN, trees), *acts) == ["done", "done"]


def test_what_the_server_does_not_have_is_not_given() -> None:
    """As an ordinary user, the mask of a grant gives nothing."""
    script = f"""
import os
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
from mover.workers.confine import Grant, confine
confine(Grant({CAP_CHOWN | CAP_FOWNER}, ((b"/proc", {READ}),)))
print(open("/proc/self/status").read())
"""
    # The modules are imported before the user changes: the checkout may lie where others cannot read.
    script = "import mover.workers.confine\n" + script
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stderr
    assert f"CapEff:\t{0:016x}" in ran.stdout
