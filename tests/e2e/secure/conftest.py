"""A server with a secure port."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.secure_port import configured
from tests.support.servers import Server


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mover-secure-") as name:
        yield Path(name)


@pytest.fixture
def server(directory: Path) -> Iterator[Server]:
    with Server(configured(directory)) as running:
        yield running
