"""Real snapshots of a Btrfs volume whose owner moves the directory of snapshots in the midst: root must not be led."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mover.snapshot.commands import Ended, run
from mover.snapshot.kinds import SnapshotError, Source
from mover.workers.snapshot_messages import SnapshotMade, SnapshotSource
from tests.support.mounts import NoMount, mounted

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.peer("btrfs", "mkfs.btrfs")]
NAME = "mover-0123456789abcdef"


class Site:
    """A volume, another subvolume beside it, and what happens just before a command."""

    def __init__(self, root: Path) -> None:
        self.volume = root / "volume"
        self.other = root / "other"
        for path in (self.volume, self.other):
            subprocess.run(["btrfs", "subvolume", "create", str(path)], check=True, capture_output=True, timeout=60)
        (self.volume / "file").write_bytes(b"content")
        (self.other / "precious").write_bytes(b"precious")
        self.directory = self.volume / ".mover-snapshots"
        self.before: Callable[[list[str]], None] = lambda _: None

    def source(self) -> Source:
        return Source(SnapshotSource(kind="btrfs", volume=os.fsencode(self.volume)), self._run, 60)

    def _run(self, arguments: list[str], kept_bytes: int, directory: int | None) -> Ended:
        self.before(arguments)
        ours, theirs = os.pipe()
        try:
            return run(arguments, 60, ours, kept_bytes=kept_bytes, directory=directory)
        finally:
            os.close(ours)
            os.close(theirs)

    def swap(self, target: Path) -> None:
        """What the volume's owner does in the moment between a check and a command."""
        self.directory.rename(self.volume / "moved")
        self.directory.mkdir()
        (self.directory / NAME).symlink_to(target)

    def swap_at(self, word: str, target: Path) -> None:
        def act(arguments: list[str]) -> None:
            if arguments[2] == word:
                self.before = lambda _: None
                self.swap(target)

        self.before = act


@pytest.fixture
def site() -> Iterator[Site]:
    try:
        with mounted("btrfs") as root:
            yield Site(root)
    except NoMount as reason:
        pytest.skip(str(reason))


def test_a_snapshot_comes_and_goes(site: Site) -> None:
    made = site.source().make(NAME)
    there = (site.directory / NAME).stat()
    assert made == SnapshotMade(os.fsencode(site.directory / NAME), there.st_dev, there.st_ino, b".mover-snapshots", [])
    assert site.source().find() == [NAME]
    site.source().remove(NAME)
    assert os.listdir(site.directory) == []
    site.source().remove(NAME)  # it is not there


def test_no_other_subvolume_is_deleted(site: Site) -> None:
    site.source().make(NAME)
    site.swap_at("delete", site.other)
    site.source().remove(NAME)
    assert (site.other / "precious").read_bytes() == b"precious"
    assert os.listdir(site.volume / "moved") == []


def test_a_snapshot_is_made_in_the_directory_that_was_looked_at(site: Site) -> None:
    site.swap_at("snapshot", site.other)
    made = site.source().make(NAME)
    there = (site.volume / "moved" / NAME).stat()
    assert (made.device, made.inode) == (there.st_dev, there.st_ino)
    assert os.listdir(site.other) == ["precious"]


@pytest.mark.parametrize("instead", ["nothing", "a directory of root's"])
def test_a_snapshot_that_was_moved_away_is_not_taken_for_removed(site: Site, instead: str) -> None:
    site.source().make(NAME)
    site.directory.rename(site.volume / "moved")
    if instead != "nothing":
        site.directory.mkdir(mode=0o755)
    with pytest.raises(SnapshotError, match=rf"{NAME} was moved, its file system has it as .*moved/{NAME}; by hand"):
        site.source().remove(NAME)
    assert (site.volume / "moved" / NAME / "file").read_bytes() == b"content"


@pytest.mark.parametrize("trap", ["directory", "symlink"])
def test_what_is_no_subvolume_is_not_deleted(site: Site, trap: str) -> None:
    site.directory.mkdir(mode=0o700)
    if trap == "directory":
        (site.directory / NAME).mkdir()
    else:
        (site.directory / NAME).symlink_to(site.other)
    with pytest.raises(SnapshotError, match=r"no subvolume|Not a directory|symbolic links"):
        site.source().remove(NAME)
    assert (site.other / "precious").exists()
    assert (site.volume / "file").exists()
