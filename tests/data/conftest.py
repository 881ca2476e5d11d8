"""File systems for the tests of this room."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.mounts import HOST, MAKERS, NoMount, mounted


class FileSystem(NamedTuple):
    """Where trees are made: a kind of file system and a directory of it."""

    kind: str
    path: Path


def _mount_or_skip(kind: str) -> Iterator[Path]:
    try:
        with mounted(kind) as path:
            yield path
    except NoMount as why:
        pytest.skip(str(why))


@pytest.fixture
def ext4() -> Iterator[Path]:
    """An empty ext4."""
    yield from _mount_or_skip("ext4")


@pytest.fixture(
    scope="module",
    params=[HOST, *(pytest.param(kind, marks=pytest.mark.root) for kind in MAKERS)],
)
def file_system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileSystem]:
    """The host's, and as root each that can be mounted."""
    if request.param == HOST:
        yield FileSystem(HOST, tmp_path_factory.mktemp("host"))
        return
    for path in _mount_or_skip(request.param):
        yield FileSystem(request.param, path)


@pytest.fixture
def small_tree(tmp_path: Path) -> Path:
    """The directory ``tree`` with a few files, and empty directories beside it: ``outside`` and ``state``."""
    tree = tmp_path / "tree"
    for place in (tree, tree / "one", tree / "one/below", tree / "two", tmp_path / "outside", tmp_path / "state"):
        place.mkdir()
    for name in ("top", "one/a", "one/b", "one/below/c", "two/d"):
        (tree / name).write_bytes(name.encode() * 600)
    os.link(tree / "one/a", tree / "two/a-too")
    return tree
