"""ndmjob with a robot: it takes inventory, moves cartridges in and out, labels them and spans a job over three of them.

It is judged by what it prints, never by its exit status, and by the tree it brings back. Source: the notes on ndmjob as
a peer.
"""

import re
import subprocess
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from tests.e2e.conftest import MakeServer
from tests.support import peers
from tests.support.robot import DRIVE, MAIL, SLOT
from tests.support.servers import Login, Server

pytestmark = [pytest.mark.peer("ndmjob"), pytest.mark.slow, pytest.mark.timeout(300)]
FLAGS = [f"{version}m" for version in (2, 3, 4)]
WINDOW = 1 << 20


class Robot:
    """ndmjob with the changer, and for jobs the first drive, of one server."""

    def __init__(self, server: Server, login: Login, flags: str, directory: Path) -> None:
        self._agent = f"{server.address}/{flags},{login.user},{login.password}"
        self._directory = directory

    def run(self, *arguments: str) -> str:
        """What ndmjob said of a command to the robot."""
        command = ["timeout", "120", str(peers.require("ndmjob")), "-v", "-o", "no-time-stamps"]
        robot = ["-R", self._agent, "-r", "vtl0/changer"]
        result = subprocess.run(
            [*command, *robot, *arguments],
            cwd=self._directory,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            check=False,
        )
        said = result.stdout + result.stderr
        assert result.returncode != 124, f"ndmjob did not end:\n{said}"
        return said

    def done(self, *arguments: str) -> str:
        """What it said of one that must be done."""
        said = self.run(*arguments)
        assert 'SESS "Operation complete"' in said, said
        assert "FAIL" not in said, said
        return said

    def job(self, *arguments: str) -> str:
        """A job on the server's drive 0."""
        return self.done(
            "-D", self._agent, "-T", self._agent, "-f", "vtl0/drive0", "-b", "128", "-B", "dump", *arguments
        )

    def list_labels(self, *media: str) -> str:
        """What it said of the labels on cartridges; it ends with "had problems" whatever it has found."""
        return self.run("-T", self._agent, "-f", "vtl0/drive0", "-b", "128", "-l", *media)

    def full(self) -> dict[int, str]:
        """Its own picture of the library: address -> barcode."""
        said = self.done("-o", "init-elem-status")
        return {int(at): code for at, code in re.findall(r"@(\d+) +\w+ +Full +PVolTag\((\w+),", said)}


@pytest.fixture(params=FLAGS)
def robot(request: pytest.FixtureRequest, make_server: MakeServer, login: Login, shm: Path) -> Robot:
    server = make_server("server", drives=2, load=False)
    server.ask("tape", "create", "vtl0", "--count", "4")
    return Robot(server, login, request.param, shm)


def test_robot_operations(robot: Robot) -> None:
    first, second, third, fourth = (f"VTL0000{number}" for number in range(1, 5))
    there = {SLOT: first, SLOT + 1: second, SLOT + 2: third, SLOT + 3: fourth}
    assert robot.full() == there
    robot.done("-o", f"load={SLOT + 1}")
    assert robot.full() == {SLOT: first, SLOT + 2: third, SLOT + 3: fourth, DRIVE: second}
    assert "had problems" in robot.run("-o", f"load={SLOT}")  # the drive is full
    assert robot.full()[DRIVE] == second
    robot.done("-o", "unload")
    assert robot.full() == there
    robot.done("-o", "move", "-o", f"from-addr={SLOT + 2}", "-o", f"to-addr={DRIVE + 1}")
    robot.done("-o", f"export={SLOT}")
    assert robot.full() == {SLOT + 1: second, SLOT + 3: fourth, DRIVE + 1: third, MAIL: first}
    robot.done("-o", f"import={SLOT + 7}")
    robot.done("-o", f"unload={SLOT + 5}", "-o", f"tape-addr={DRIVE + 1}")
    assert robot.full() == {SLOT + 1: second, SLOT + 3: fourth, SLOT + 5: third, SLOT + 7: first}


def make_source(shm: Path) -> tuple[Path, Path, Path]:
    """A tree of 2.5 MB, an empty directory, and where an index can be."""
    source, target = shm / "source", shm / "target"
    source.mkdir()
    target.mkdir()
    for number in range(10):
        (source / f"file{number}").write_bytes(bytes([number]) * 250_000)
    return source, target, shm / "index"


def test_a_job_over_three_cartridges(robot: Robot, shm: Path) -> None:
    source, target, index = make_source(shm)
    labels = [argument for number in range(3) for argument in ("-m", f"T{number}@{SLOT + number}/{WINDOW >> 10}K")]
    said = robot.job("-o", "init-labels", *labels)
    assert said.count("Writing tape label") == 3
    said = robot.job("-c", "-C", str(source), "-I", str(index), "-E", "HIST=y", *labels)
    assert "Operation ended OKAY" in said, said
    media = re.findall(r"media #\d (T\d)\+1/(\w+)@(\d+)", said)
    assert [(label, int(at)) for label, _, at in media] == [(f"T{number}", SLOT + number) for number in range(3)], said
    assert [size for _, size, _ in media[:2]] == ["1M"] * 2
    said = robot.job("-x", "-C", str(target), "-J", str(index))
    assert "Operation ended OKAY" in said, said
    assert compare_trees(source, target, time_granularity_ns=1000).differences == []


@pytest.mark.parametrize("flags", FLAGS)
def test_a_job_that_early_warning_sends_to_the_next_cartridge(
    make_server: MakeServer, login: Login, shm: Path, flags: str
) -> None:
    """No windows: each cartridge takes what it has room for; then the labels are listed, and all of it comes back."""
    server = make_server("server", load=False, cartridge_size="1MiB", early_warning="128KiB")
    server.ask("tape", "create", "vtl0", "--count", "4")
    robot = Robot(server, login, flags, shm)
    source, target, index = make_source(shm)
    labels = [argument for number in range(4) for argument in ("-m", f"T{number}@{SLOT + number}")]
    robot.job("-o", "init-labels", *labels)
    said = robot.job("-c", "-C", str(source), "-I", str(index), "-E", "HIST=y", *labels)
    assert "Operation ended OKAY" in said, said
    media = re.findall(r"media #\d (T\d)\+1/(\w+)@(\d+)", said)
    assert [label for label, _, _ in media[:3]] == ["T0", "T1", "T2"], said
    assert re.findall(r'^ME "(.*)"$', robot.list_labels(*labels), flags=re.MULTILINE) == [
        f"T{number}@{SLOT + number}" for number in range(4)
    ]
    said = robot.job("-x", "-C", str(target), "-J", str(index))
    assert "Operation ended OKAY" in said, said
    assert compare_trees(source, target, time_granularity_ns=1000).differences == []
