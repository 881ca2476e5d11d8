"""A tree that ten processes change while it is backed up: the stream is valid, and what stood still is whole.

What moved is as it was at some moment, or is left out and told of; a level of the tree at rest mends it.
"""

import os
import tempfile
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from tests.data.backup_runner import backup_in_worker, request
from tests.data.chain_histories import Chain, OurChain
from tests.data.chain_peers import RestoreChain, TarChain
from tests.data.churn import churning
from tests.data.conftest import FileSystem
from tests.data.dump_reader import parse
from tests.data.levels import Levels
from tests.data.recover_runner import name, recover
from tests.data.test_tar_backup import sockets_in
from tests.support.trees import make_small_files, make_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Stands still: ``stable``, and files of the directory in which all the rest moves."""
    root = tmp_path / "tree"
    root.mkdir()
    make_tree(root / "stable", wide=200, depth=6, huge_sparse=False)
    make_small_files(root / "many", files=3000, size=2000, directories=20)
    for place in ("live", "live/fixed"):
        (root / place).mkdir()
        for number in range(50):
            (root / place / f"stable-{number}").write_bytes(b"%d" % number * 3000)
    return root


def assert_stable(tree: Path, place: Path, *, sockets: bool = True) -> None:
    """What stood still is as it was, to what a dump can hold of times."""
    missing = set() if sockets else set(sockets_in(tree / "stable"))
    found = {(one.path, one.what) for one in compare_trees(tree / "stable", place / "stable").differences}
    assert found == {(path, "missing") for path in missing}
    assert compare_trees(tree / "many", place / "many").differences == []
    for path in (tree / "live").rglob("stable-*"):
        assert (place / path.relative_to(tree)).read_bytes() == path.read_bytes()


def live_backup(tree: Path, butype: str) -> bytes:
    with churning(tree / "live"):
        outcome = backup_in_worker(request(tree, butype=butype))
    assert outcome.finished.reason == 1
    about = [line for line in outcome.lines(2, 3) if "/export/data/live/" not in line and "is a socket" not in line]
    assert about == []
    return outcome.stream


@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_we_recover_it(tree: Path, tmp_path: Path, butype: str) -> None:
    stream = live_backup(tree, butype)
    outcome = recover(stream, [name(tmp_path, below=b"again")], butype=butype)
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (1, 0, {b"": 0}), outcome.text()
    assert_stable(tree, tmp_path / "again", sockets=butype == "dump")


@pytest.mark.peer("restore")
def test_restore_recovers_it(tree: Path, tmp_path: Path) -> None:
    stream = live_backup(tree, "dump")
    parse(stream)
    (tmp_path / "place").mkdir()
    chain = RestoreChain(tmp_path / "place")
    chain.moving = b"./live/"
    chain.lay(stream)
    assert_stable(tree, chain.path)


@pytest.mark.peer("tar")
def test_tar_extracts_it(tree: Path, tmp_path: Path) -> None:
    stream = live_backup(tree, "tar")
    (tmp_path / "place").mkdir()
    chain = TarChain(tmp_path / "place")
    chain.lay(stream)
    assert_stable(tree, chain.path, sockets=False)


def levels_of_a_live_tree(directory: Path, monkeypatch: pytest.MonkeyPatch, butype: str) -> tuple[Path, list[bytes]]:
    """The tree, and its levels 0 and 1 while it moves, 2 when it does not any more."""
    tree, state = directory / "tree", directory / "state"
    for path in (tree, tree / "live", state):
        path.mkdir()
    make_small_files(tree / "many", files=1000, size=2000, directories=20)
    levels = Levels(tree, state, monkeypatch, butype)
    with churning(tree / "live"):
        streams = [levels.backup(level).stream for level in (0, 1)]
    at_rest = levels.backup(2)
    assert at_rest.finished.errors == 0
    return tree, [*streams, at_rest.stream]


def differences(chain: Chain, tree: Path) -> list[str]:
    """What is not as in the tree; XFS gives a file that grows more blocks than it takes."""
    return [str(one) for one in chain.differences(os.fsencode(tree)) if one.what != "allocation"]


def test_a_level_of_the_tree_at_rest_makes_up_for_what_moved(
    file_system: FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path(tempfile.mkdtemp(dir=file_system.path))
    tree, streams = levels_of_a_live_tree(directory, monkeypatch, "dump")
    (directory / "place").mkdir()
    chain = OurChain(directory / "place")
    for stream in streams:
        chain.lay(stream)
    assert differences(chain, tree) == []


@pytest.mark.parametrize(
    ("butype", "chain"),
    [
        pytest.param("dump", RestoreChain, marks=pytest.mark.peer("restore")),
        pytest.param("tar", TarChain, marks=pytest.mark.peer("tar")),
    ],
)
def test_others_make_up_for_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, butype: str, chain: type[RestoreChain | TarChain]
) -> None:
    tree, streams = levels_of_a_live_tree(tmp_path, monkeypatch, butype)
    (tmp_path / "place").mkdir()
    laid = chain(tmp_path / "place")
    if isinstance(laid, RestoreChain):
        laid.moving = b"./live/"
    for stream in streams:
        laid.lay(stream)
    assert differences(laid, tree) == []
