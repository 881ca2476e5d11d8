"""`mover copy` between real servers: what it copies, and how it ends when one of the two fails."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from tests.e2e.conftest import MakeServer
from tests.support.processes import busy_worker, expect_no_new_descriptors, settle
from tests.support.servers import Login, Server, mover_command
from tests.support.trees import make_large_file, make_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def password(shm: Path, login: Login) -> Path:
    file = shm / "password"
    file.touch(mode=0o600)
    file.write_text(login.password)
    return file


def copy(source: str, destination: str, login: Login, password: Path, *options: str) -> list[str]:
    """The command line."""
    return [
        *mover_command(),
        "copy",
        source,
        destination,
        "-sa",
        login.user,
        "--password-file",
        str(password),
        *options,
    ]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def idle(server: Server) -> bool:
    return server.ask("status")["sessions"] == []


@pytest.mark.parametrize(("servers", "version"), [("one", "4"), ("two", "3"), ("two", "4")])
def test_a_copy_equals_its_source(
    make_server: MakeServer, shm: Path, login: Login, password: Path, servers: str, version: str
) -> None:
    giver = make_server("giver", drives=0)
    taker = giver if servers == "one" else make_server("taker", drives=0)
    source, target = shm / "source", shm / "target"
    make_tree(source)
    with expect_no_new_descriptors(taker):
        result = run(
            copy(f"{giver.address}:{source}", f"{taker.address}:{target}", login, password, "--ndmp-version", version)
        )
        assert (result.returncode, result.stdout.startswith("everything copied, ")) == (0, True), result
        assert "warnings: 0" in result.stdout
        settle(lambda: idle(taker) and idle(giver), "connections gone")
    compared = compare_trees(source, target)
    assert compared.compared == compared.identical, compared.differences


def test_names_are_left_out(make_server: MakeServer, shm: Path, login: Login, password: Path) -> None:
    server = make_server("server", drives=0)
    source, target = shm / "source", shm / "target"
    for name in ("keep", "drop.o", "other.tmp"):
        (source / name).mkdir(parents=True)
    result = run(
        copy(
            f"{server.address}:{source}", f"{server.address}:{target}", login, password,
            "-exclude", "*.o", "-exclude", "other.tmp",
        )
    )  # fmt: skip
    assert result.returncode == 0, result
    assert os.listdir(target) == ["keep"]


def test_a_copy_is_a_base_only_where_it_is_told_to_be(
    make_server: MakeServer, shm: Path, login: Login, password: Path
) -> None:
    """A backup to tape that was based on one would lack what only the copy has."""
    server = make_server("server", drives=0)
    source, target = shm / "source", shm / "target"
    source.mkdir()
    for name in ("stays", "goes"):
        (source / name).write_text(name)
    command = copy(f"{server.address}:{source}", f"{server.address}:{target}", login, password)
    assert run(command).returncode == 0
    assert server.ask("dumpdates", "list")["dump-dates"] == []
    assert run([*command, "--update"]).returncode == 0
    of_copy = server.ask("dumpdates", "list")["dump-dates"]
    assert of_copy
    (source / "goes").unlink()
    (source / "comes").write_text("comes")
    assert run([*command, "-l", "1"]).returncode == 0
    assert sorted(os.listdir(target)) == ["comes", "stays"]
    assert server.ask("dumpdates", "list")["dump-dates"] == of_copy


@pytest.mark.parametrize("end", ["source", "destination"])
def test_a_refusal_names_its_reason(make_server: MakeServer, shm: Path, login: Login, password: Path, end: str) -> None:
    server = make_server("server", drives=0)
    (shm / "there").mkdir()
    wrong, right = f"{server.address}:/nowhere/at/all", f"{server.address}:{shm / 'there'}"
    places = (wrong, right) if end == "source" else (right, wrong)
    result = run(copy(*places, login, password))
    assert result.returncode == 1
    assert "/nowhere/at/all" in result.stderr
    assert "Traceback" not in result.stderr
    settle(lambda: idle(server), "connections gone")


@pytest.mark.parametrize("victim", ["giver", "taker"])
def test_a_killed_worker_ends_the_copy(
    make_server: MakeServer, shm: Path, login: Login, password: Path, victim: str
) -> None:
    servers = {"giver": make_server("giver", drives=0), "taker": make_server("taker", drives=0)}
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=512 << 20)
    places = f"{servers['giver'].address}:{source}", f"{servers['taker'].address}:{shm / 'target'}"
    process = subprocess.Popen(copy(*places, login, password), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    settle((shm / "target").exists, "the destination has begun", 60)
    os.kill(busy_worker(servers[victim], "data"), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"halted: " in errors.splitlines()[-1]
    for server in servers.values():
        settle(lambda server=server: idle(server), "connections gone")  # type: ignore[misc]


def test_ctrl_c_ends_both_data_services(make_server: MakeServer, shm: Path, login: Login, password: Path) -> None:
    giver, taker = make_server("giver", drives=0), make_server("taker", drives=0)
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=512 << 20)
    places = f"{giver.address}:{source}", f"{taker.address}:{shm / 'target'}"
    process = subprocess.Popen(copy(*places, login, password), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    settle((shm / "target").exists, "the destination has begun", 60)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == b"mover: ended by SIGTERM"
    settle(lambda: idle(giver) and idle(taker), "connections gone")
