"""Real servers for the end-to-end tests: one with a drive, or a file server and a tape host."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import settle
from tests.support.servers import Login, Server, write_config
from tests.support.trees import make_large_file

TEMPLATES = 3  # one of each kind of worker
SPARES = 6  # limits.spares of each kind, by default two

MakeServer = Callable[..., Server]


@pytest.fixture(scope="session")
def login() -> Login:
    return Login("ndmp", "the secret of the tests")


@pytest.fixture
def shm() -> Iterator[Path]:
    """A directory in memory, so that a test's megabytes do not wait for a disk."""
    directory = Path(tempfile.mkdtemp(prefix="mover-e2e-", dir="/dev/shm"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def make_server(shm: Path, login: Login) -> Iterator[MakeServer]:
    """Starts `mover serve` by name; every server is stopped at the end, and must end well."""
    running: list[Server] = []

    def make(name: str, *, drives: int = 1, load: bool = True, **options: object) -> Server:
        volumes = {"shm": shm}
        server = Server(write_config(shm / name, login, volumes=volumes, drives=drives, **options))  # type: ignore[arg-type]  # passed through
        running.append(server)
        settle(lambda: len(server.processes()) == 1 + TEMPLATES + SPARES, "all spares up", step_s=0.03)
        if load:
            for number in range(drives):
                server.load(f"vtl0/drive{number}")
        return server

    yield make
    for server in running:
        print(f"--- {server.log}", server.log.read_text(errors="backslashreplace")[-4000:], sep="\n")
        server.stop()


@pytest.fixture
def local(make_server: MakeServer) -> Server:
    """One server with a loaded drive."""
    return make_server("server")


@pytest.fixture(scope="module")
def shared_shm() -> Iterator[Path]:
    """As ``shm``, one a module; ``source`` in it is more than ring and sockets hold: nobody reads, nothing ends."""
    directory = Path(tempfile.mkdtemp(prefix="mover-e2e-", dir="/dev/shm"))
    (directory / "source").mkdir()
    make_large_file(directory / "source" / "large", size=48 << 20)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def shared(shared_shm: Path, login: Login) -> Iterator[Server]:
    """One server with a loaded drive for a module of many short dialogues; each has to leave it as it was."""
    config = write_config(shared_shm / "server", login, volumes={"shm": shared_shm}, drives=1)
    with Server(config) as server:
        server.load("vtl0/drive0")
        yield server


@pytest.fixture(params=["local", "three-way"])
def ends(request: pytest.FixtureRequest, make_server: MakeServer) -> tuple[Server, Server]:
    """The data and the tape server of a job: the same, or two."""
    tape = make_server("tape-host")
    return (tape, tape) if request.param == "local" else (make_server("file-server", drives=0), tape)
