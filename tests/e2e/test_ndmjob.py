"""ndmjob, a DMA that nobody here wrote: backup, list and extract in versions 2, 3 and 4, local and three-way.

It is judged by what it prints, never by its exit status, and by the trees it brings back.
Source: the notes on ndmjob as a peer; NDMJOB's own flags (-help).
"""

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.dma.compare import compare_trees
from tests.e2e.conftest import MakeServer
from tests.support import peers
from tests.support.servers import Login, Server, mover_command
from tests.support.trees import make_tree

pytestmark = [pytest.mark.peer("ndmjob"), pytest.mark.slow, pytest.mark.timeout(300)]
TIME_LIMIT_S = "120"


class Rig(NamedTuple):
    """Where the two services are, and how ndmjob logs in."""

    data: Server
    tape: Server
    login: Login
    flags: str  # version and method, as 4m
    listen: bool
    butype: str = "dump"

    def run(self, directory: Path, *arguments: str) -> str:
        """Run ndmjob on this rig and return everything it said."""
        agents = ["-D", self.agent(self.data)]
        if self.tape is not self.data:
            agents += ["-T", self.agent(self.tape)]
        command = ["timeout", TIME_LIMIT_S, str(peers.require("ndmjob")), "-v", "-o", "no-time-stamps", *agents]
        command += [
            "-f",
            "vtl0/drive0",
            "-b",
            "128",
            "-B",
            self.butype,
            *(["-o", "swap-connect"] if self.listen else []),
            *arguments,
        ]
        result = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, errors="backslashreplace", check=False
        )
        said = result.stdout + result.stderr
        assert result.returncode != 124, f"ndmjob did not end:\n{said}"
        return said

    def agent(self, server: Server) -> str:
        return f"{server.address}/{self.flags},{self.login.user},{self.login.password}"


def succeeded(said: str) -> bool:
    return "Operation ended OKAY" in said and "had problems" not in said and "FAIL" not in said


def is_regular(root: Path, path: bytes) -> bool:
    return stat.S_ISREG(os.lstat(os.fsencode(root) + b"/" + path).st_mode)


MATRIX = [
    (f"{version}{method}", way)
    for version in (2, 3, 4)
    for method in "tm"
    for way in ("local", "three-way", "data-listens")
    if way != "data-listens" or version > 2
]


def index_names(index: Path) -> set[bytes]:
    """The paths of an ndmjob index: `DHd PARENT NAME UNIX NODE` lines, percent-escaped; the root is its own `..`."""
    above: dict[bytes, bytes] = {}
    entries: list[tuple[bytes, bytes, bytes]] = []
    for line in index.read_bytes().splitlines():
        if match := re.fullmatch(rb"DHd (\d+) (\S+) UNIX (\d+)", line):
            parent, escaped, node = match.groups()
            name = re.sub(rb"%([0-9a-fA-F]{2})", lambda hit: bytes([int(hit[1], 16)]), escaped)
            if name == b"..":
                above[parent] = node
            elif name != b".":
                entries.append((parent, name, node))
    (root,) = [node for node, parent in above.items() if node == parent]
    names = {node: name for parent, name, node in entries if node in above}

    def path(node: bytes) -> bytes:
        return b"" if node == root else path(above[node]) + names[node] + b"/"

    return {b".", *(path(parent) + name for parent, name, _ in entries)}


def found_names(root: Path) -> set[bytes]:
    """What `find` lists, relative."""
    listed = subprocess.check_output(["find", ".", "-print0"], cwd=root).split(b"\0")[:-1]
    return {name.removeprefix(b"./") for name in listed}


@pytest.mark.parametrize(("flags", "way"), MATRIX)
def test_a_tree_goes_to_tape_and_comes_back(
    flags: str, way: str, make_server: MakeServer, login: Login, shm: Path
) -> None:
    tape = make_server("tape-host")
    data = tape if way == "local" else make_server("file-server", drives=0)
    rig = Rig(data, tape, login, flags, way == "data-listens")
    source, index = shm / "source", shm / "index"
    # ndmjob's index and -F take one name a line
    make_tree(source, wide=100, depth=10, huge_sparse=False, newlines=False)

    said = rig.run(shm, "-c", "-C", str(source), "-I", str(index), "-E", "HIST=y")
    assert succeeded(said), said
    assert index_names(index) == found_names(source)

    said = rig.run(shm, "-t", "-J", str(index))
    assert succeeded(said), said

    target = shm / "target"
    target.mkdir()
    said = rig.run(shm, "-x", "-C", str(target), "-J", str(index))
    assert succeeded(said), said
    comparison = compare_trees(source, target, time_granularity_ns=1000)
    assert comparison.differences == []
    assert comparison.compared == len(found_names(source))

    few = shm / "few"
    few.mkdir()
    some = sorted(path for path in found_names(source) if is_regular(source, path))[:3]
    names = [argument for path in some for argument in ("-F", "/" + os.fsdecode(path))]
    said = rig.run(shm, "-x", "-C", str(few), "-J", str(index), *names)
    assert succeeded(said), said
    assert {path for path in found_names(few) if is_regular(few, path)} == set(some)
    for path in some:
        name = os.fsdecode(path)
        assert (few / name).read_bytes() == (source / name).read_bytes()


@pytest.mark.peer("restore")
def test_its_tape_is_read_by_restore(make_server: MakeServer, login: Login, shm: Path) -> None:
    server = make_server("server")
    rig = Rig(server, server, login, "4m", listen=False)
    source, stream, target = shm / "source", shm / "stream", shm / "target"
    make_tree(source, wide=100, depth=10, huge_sparse=False)
    said = rig.run(shm, "-c", "-C", str(source))
    assert succeeded(said), said
    server.stop()
    (cartridge,) = (shm / "server" / "tapes").glob("*.tap")
    subprocess.run(
        [*mover_command(), "tape", "extract", str(cartridge), "--output", str(stream)], check=True, timeout=60
    )
    target.mkdir()
    (shm / "tmp").mkdir()
    result = subprocess.run(
        [str(peers.require("restore")), "-r", "-f", str(stream), "-T", str(shm / "tmp")],
        cwd=target,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
    (target / "restoresymtable").unlink()
    differences = compare_trees(source, target, time_granularity_ns=1000).differences
    # restore writes its table into the root after it has set the root's time
    assert [difference for difference in differences if (difference.path, difference.what) != (b".", "mtime")] == []
