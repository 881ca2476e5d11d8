"""Whole trees with every kind of entry: through our own backup, through Debian's dump, and their file history again."""

import os
import subprocess
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.workers.data_messages import HistoryPlan
from tests.data import fh_reader
from tests.data.backup_runner import backup_here, request
from tests.data.dump_writer import DumpWriter
from tests.data.recover_runner import name, recover
from tests.support.trees import make_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recover") / "tree"
    make_tree(root, wide=300, depth=12, large_xattrs=True, sub_microsecond=True)
    return root


@pytest.fixture(scope="module")
def stream(tree: Path) -> bytes:
    return backup_here(request(tree)).stream


@pytest.mark.slow
@pytest.mark.parametrize(("lengths", "slot_bytes"), [(1 << 20, 1 << 20), ([60_000, 7], 1 << 16)])
def test_our_backup_comes_back_identical(
    tree: Path, stream: bytes, tmp_path: Path, lengths: int | list[int], slot_bytes: int
) -> None:
    outcome = recover(stream, [name(tmp_path, below=b"again")], lengths=lengths, slot_bytes=slot_bytes)
    assert outcome.text().count(b"\n") == 0, outcome.text()
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (1, 0, {b"": 0})
    comparison = compare_trees(tree, tmp_path / "again", time_granularity_ns=1)
    assert list(map(str, comparison.differences)) == []
    assert comparison.compared > 400


def test_parts_of_our_backup(tree: Path, stream: bytes, tmp_path: Path) -> None:
    parts = [b"sizes", b"links/hard-1", b"attributes/directory", b"deep/level-00", b"zz-hard-4", b"wide/entry-00007"]
    outcome = recover(stream, [name(tmp_path, part, below=b"to/" + part) for part in parts])
    assert outcome.status == dict.fromkeys(parts, 0)
    assert outcome.finished.errors == 0
    for part in parts:
        ours, theirs = tmp_path / "to" / os.fsdecode(part), tree / os.fsdecode(part)
        if ours.is_dir():
            assert compare_trees(theirs, ours, time_granularity_ns=1).differences == []
        else:
            assert ours.read_bytes() == theirs.read_bytes()
    assert (tmp_path / "to/links/hard-1").samefile(tmp_path / "to/zz-hard-4")


@pytest.mark.parametrize("form", ["dir", "file"])
@pytest.mark.parametrize("version", [2, 4])
def test_filehist_is_the_history_of_the_backup(tree: Path, version: int, form: str) -> None:
    plan = HistoryPlan(version, "file" if form == "file" else "dir")
    backup = backup_here(request(tree, history=plan))
    outcome = recover(backup.stream, [], filehist=plan)
    assert outcome.finished.reason == 1
    assert outcome.finished.errors == 0
    assert outcome.status == {}

    def elements(posts: list[tuple[int, bytes]]) -> list[tuple[object, ...]]:
        return [tuple(item) for kind, body in posts for item in fh_reader.elements(kind, body)]

    ours, theirs = elements(outcome.posts), elements(backup.posts)
    assert outcome.finished.history_entries == len(ours) == backup.finished.history_entries
    assert ours[:2] == theirs[:2]
    assert sorted(ours, key=repr) == sorted(theirs, key=repr)


def test_filehist_of_a_broken_stream_is_what_was_read() -> None:
    writer = DumpWriter().begin([2, 3])
    writer.directory(2, [(3, b"file")])
    writer.file(3, b"x")
    plan = HistoryPlan(4, "dir")
    outcome = recover(bytes(writer.stream), [], filehist=plan)
    assert outcome.finished.reason == 4
    assert outcome.finished.history_entries == 5  # three names and two nodes
    assert recover(b"x" * 5000, [], filehist=plan).finished.reason == 3


@pytest.mark.slow
@pytest.mark.peer("dump")
@pytest.mark.root
def test_what_debians_dump_writes(ext4: Path, tmp_path: Path) -> None:
    make_tree(ext4 / "tree", wide=1000, huge_sparse=False)
    # A second attribute block beside the attributes in the inode: two records for one inode.
    big = ext4 / "tree/attributes/both-places"
    big.write_text("x")
    os.setxattr(big, "user.small", b"in the inode")
    os.setxattr(big, "user.large", b"v" * 3000)
    os.sync()
    dumped = subprocess.run(["dump", "-0", "-f", "-", ext4], stdout=subprocess.PIPE, check=True, timeout=60)
    target = tmp_path / "target"
    target.mkdir()
    outcome = recover(dumped.stdout, [name(target)], lengths=10_240)
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), outcome.text()

    # It drops the fractions of seconds.
    comparison = compare_trees(ext4, target, time_granularity_ns=10**9)
    assert list(map(str, comparison.differences)) == []
    assert comparison.compared > 1100
    one = recover(dumped.stdout, [name(tmp_path, b"tree/sizes/large", below=b"one")])
    assert one.status == {b"tree/sizes/large": 0}
    assert (tmp_path / "one").read_bytes() == (ext4 / "tree/sizes/large").read_bytes()


@pytest.mark.slow
@pytest.mark.root
def test_a_mount_that_hands_groups_down_changes_none(ext4: Path) -> None:
    subprocess.run(["mount", "-o", "remount,grpid", ext4], check=True, timeout=60)
    os.chown(ext4, 0, 1234)
    writer = DumpWriter().begin(range(2, 7))
    writer.directory(2, [(3, b"new"), (4, b"top")])
    writer.directory(3, [(5, b"deep"), (6, b"low")])
    writer.directory(5, [], parent=3)
    writer.file(4, b"top")
    writer.file(6, b"low")
    assert recover(writer.end(), [name(ext4, below=b"all")]).finished.errors == 0
    assert {path.name: path.stat().st_gid for path in [ext4 / "all", *(ext4 / "all").rglob("*")]} == dict.fromkeys(
        ["all", "new", "deep", "top", "low"], 0
    )
