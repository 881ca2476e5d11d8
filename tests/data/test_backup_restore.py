"""Debian's restore reads our stream: it takes back the tree, and lists it.

Its exit status says little, so what it complains of is read.
"""

import os
import subprocess
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.workers.data_messages import HistoryPlan
from tests.data.backup_runner import backup_here, backup_in_worker, request
from tests.data.dump_reader import parse
from tests.support import peers
from tests.support.trees import make_tree

pytestmark = pytest.mark.peer("restore")


def restore(stream: bytes, option: str, place: Path) -> tuple[bytes, list[bytes]]:
    """Runs restore with a temporary directory of its own; returns what it printed and what it complained of."""
    temporary = place.parent / f"{place.name}-temporary"
    temporary.mkdir()
    place.mkdir(exist_ok=True)
    command = [str(peers.require("restore")), option, "-f", "-", "-T", str(temporary)]
    done = subprocess.run(command, input=stream, cwd=place, capture_output=True, check=True, timeout=100)
    # It looks for a terminal to ask from, in vain.
    return done.stdout, [line for line in done.stderr.splitlines() if b"cannot open /dev/tty" not in line]


def differences(tree: Path, place: Path) -> list[str]:
    (place / "restoresymtable").unlink()
    return [
        str(one)
        for one in compare_trees(tree, place).differences
        # restore removes and makes entries in the root after it has set its times.
        if (one.path, one.what) != (b".", "mtime")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("slot_bytes", [1 << 20, 70_000])
def test_restore_makes_the_same_tree(tmp_path: Path, slot_bytes: int) -> None:
    tree, place = tmp_path / "tree", tmp_path / "restored"
    made = make_tree(tree, wide=500)
    outcome = backup_in_worker(request(tmp_path, path=b"tree", history=HistoryPlan(4, "dir")), slot_bytes=slot_bytes)
    assert outcome.finished.errors == 0
    _, complaints = restore(outcome.stream, "-r", place)
    assert complaints == []
    assert differences(tree, place) == []
    assert compare_trees(tree, place).compared == made.entries


def test_restore_lists_every_path(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    make_tree(tree, wide=200, huge_sparse=False, newlines=False)
    stream = backup_here(request(tree)).stream
    listed, complaints = restore(stream, "-t", tmp_path / "empty")
    assert complaints == []
    lines = [line.split(b"\t", 1) for line in listed.splitlines() if b"\t" in line]
    expected = {b"." if not path else b"./" + path: number for path, number in parse(stream).tree().items()}
    assert {path: int(number) for number, path in lines} == expected


def test_restore_steps_over_what_only_we_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, place = tmp_path / "tree", tmp_path / "restored"
    tree.mkdir()
    for number in range(5):
        (tree / f"file-{number}").write_bytes(b"%d" % number * 2000)
    chosen = (tree / "file-2").stat().st_ino

    def names(target: object, **_: bool) -> list[str]:
        return ["user.big"] if isinstance(target, int) and os.fstat(target).st_ino == chosen else []

    with monkeypatch.context() as patched:
        patched.setattr(os, "listxattr", names)
        patched.setattr(os, "getxattr", lambda *_, **__: bytes(60_000))
        stream = backup_here(request(tree)).stream
    _, complaints = restore(stream, "-r", place)
    assert complaints == [b"unexpected inode extension %d, skipping" % 0x4D560001]
    assert differences(tree, place) == []
