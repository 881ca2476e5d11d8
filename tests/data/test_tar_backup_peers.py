"""GNU tar and bsdtar list and extract our pax stream, whole and member by member, without a word of warning."""

import os
import subprocess
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.workers.data_messages import HistoryPlan
from tests.data.backup_runner import Outcome, backup_in_worker, request
from tests.data.test_tar_backup import holdable, members, sockets_in
from tests.support import peers
from tests.support.trees import make_tree

DEADLINE_S = 100
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8"}
EXTRACT = {
    # A time that lies in the future is worth a warning to it.
    "tar": ["--acls", "--xattrs", "--xattrs-include=*", "--warning=no-timestamp", "-xpf", "-"],
    "bsdtar": ["-xpf", "-"],
}
# What bsdtar does to streams of GNU tar's too: it sets no time of the root, and cuts ids in ACLs to 31 bits.
OF_BSDTAR = {(b".", "mtime"), (b"attributes/acl-and-user", "xattr system.posix_acl_access")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tar") / "tree"
    make_tree(root, wide=500, sub_microsecond=True)
    return root


@pytest.fixture(scope="module")
def backup(tree: Path) -> Outcome:
    message = request(tree.parent, path=b"tree", history=HistoryPlan(4, "file"), butype="tar")
    outcome = backup_in_worker(message)
    assert outcome.finished.errors == 0
    return outcome


def run(program: str, arguments: list[str], stream: bytes, place: Path) -> bytes:
    """What the program printed; it must have nothing to complain of."""
    done = subprocess.run(
        [str(peers.require(program)), *arguments],
        input=stream, cwd=place, env=ENVIRONMENT, capture_output=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("program", [pytest.param(name, marks=pytest.mark.peer(name)) for name in EXTRACT])
def test_extracting_makes_the_same_tree(program: str, tree: Path, backup: Outcome, tmp_path: Path) -> None:
    run(program, EXTRACT[program], backup.stream, tmp_path)
    different = {(one.path, one.what) for one in compare_trees(tree, tmp_path, time_granularity_ns=1).differences}
    if program == "bsdtar":
        different -= OF_BSDTAR
    assert different == {(path, "missing") for path in sockets_in(tree)}


@pytest.mark.parametrize("program", [pytest.param(name, marks=pytest.mark.peer(name)) for name in EXTRACT])
def test_listing_names_every_member(program: str, tree: Path, backup: Outcome, tmp_path: Path) -> None:
    listed = run(program, ["-tf", "-"], backup.stream, tmp_path)
    assert len(listed.splitlines()) == len(holdable(tree))


@pytest.mark.slow
@pytest.mark.parametrize("program", [pytest.param(name, marks=pytest.mark.peer(name)) for name in EXTRACT])
@pytest.mark.parametrize(
    "path",
    [b"sizes/large", b"sparse/hole-middle", b"sparse/huge", b"attributes/acl", b"links/long", b"names/--", b"wide"],
)
def test_a_member_cut_out_by_its_place_is_an_archive(
    program: str, path: bytes, tree: Path, backup: Outcome, tmp_path: Path
) -> None:
    by_path = members(backup.stream)
    offsets = sorted(member.offset for member in by_path.values())
    start = by_path[path].offset
    end = [*offsets, len(backup.stream)][offsets.index(start) + 1]
    run(program, EXTRACT[program], backup.stream[start:end], tmp_path)
    assert [each for each in holdable(tmp_path) if each and each not in path] == []
    name = os.path.basename(path)
    parents = [os.path.dirname(os.path.join(os.fsencode(root), path)) for root in (tree, tmp_path)]
    # What was beside or below it is not there.
    differences = compare_trees(*parents, time_granularity_ns=1).differences
    assert [one for one in differences if one.path == name] == []
    assert os.path.lexists(os.path.join(os.fsencode(tmp_path), path))
