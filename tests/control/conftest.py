"""A real `mover serve`, shared by the tests of a module where they can share it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Login, Server, write_config

LOGIN = Login("ndmp", "the secret of the tests")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A short one: the path of a unix socket is bounded."""
    with tempfile.TemporaryDirectory(prefix="mover-control-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def volume(directory: Path) -> Path:
    path = directory / "volume"
    path.mkdir()
    (path / "tree").mkdir()
    (path / "tree" / "file").write_bytes(b"content" * 1000)
    return path


@pytest.fixture(scope="module")
def server(directory: Path, volume: Path) -> Iterator[Server]:
    config = write_config(
        directory,
        LOGIN,
        volumes={"v": volume},
        drives=2,
        extra="[limits]\nauthentication_timeout_s = 2\nsessions = 8\n",
    )
    with Server(config) as running:
        yield running
