"""Chains of levels whose scope changes: what comes back is what a full backup of the same scope holds."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.backup_runner import backup_here, request
from tests.data.chain_peers import restore
from tests.data.chain_runner import Destination
from tests.data.dump_reader import parse
from tests.data.levels import Levels

Env = list[tuple[bytes, bytes]]
Change = Callable[[Path], object]

TAGS: Env = [(b"EXCLUDE_IF_PRESENT", b".nobackup")]


def subtrees(*names: bytes) -> Env:
    return [(b"MULTI_SUBTREE_NAMES", b"\n".join(names)), (b"DMP_NAME", b"set")]


def nothing(tree: Path) -> None:
    """Only the scope changes."""


def tag(tree: Path) -> None:
    (tree / "b/.nobackup").touch()


def untag(tree: Path) -> None:
    (tree / "b/.nobackup").unlink()
    (tree / "b/four").write_text("changed while it was left out")


def rename_behind_the_tag(tree: Path) -> None:
    (tree / "b/below").rename(tree / "b/other")


def move_out_of_the_subtrees(tree: Path) -> None:
    (tree / "a/deep/one").rename(tree / "b/one")
    (tree / "c/deep/file").write_text("changed")


def move_back(tree: Path) -> None:
    (tree / "b/one").rename(tree / "a/deep/one")
    shutil.rmtree(tree / "c/deep/below")


CHAINS: dict[str, list[tuple[Change, Env]]] = {
    "a tag comes and goes": [(nothing, TAGS), (tag, TAGS), (rename_behind_the_tag, TAGS), (untag, TAGS)],
    "a tag counts from now on": [(tag, []), (nothing, TAGS), (nothing, [])],
    "names are left out from now on": [
        (nothing, []),
        (nothing, [(b"EXCLUDE", b"below,a/deep")]),
        (nothing, [(b"EXCLUDE", b"*ou*")]),
        (nothing, []),
    ],
    "objects move between subtrees and what is beside them": [
        (nothing, subtrees(b"a/deep", b"c/deep")),
        (move_out_of_the_subtrees, subtrees(b"a/deep", b"c/deep")),
        (move_back, subtrees(b"a/deep", b"c/deep")),
    ],
    "other subtrees by the same name": [
        (nothing, subtrees(b"a/deep")),
        (nothing, subtrees(b"a/deep", b"c/deep")),
        (nothing, subtrees(b"c")),
        (nothing, subtrees(b"a", b"b/below")),
    ],
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    place = tmp_path / "tree"
    for path in ("a/deep/one", "a/two", "b/below/three", "b/four", "c/deep/file", "c/deep/below/five", "c/six"):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(path)
    os.link(place / "a/two", place / "c/deep/two")
    return place


def contents(place: Path) -> dict[bytes, bytes | None]:
    """Path -> content, None of a directory."""
    found: dict[bytes, bytes | None] = {b"": None}
    for path in place.rglob("*"):
        found[os.fsencode(path.relative_to(place))] = None if path.is_dir() else path.read_bytes()
    found.pop(b"restoresymtable", None)
    return found


def whole(tree: Path, env: Env) -> dict[bytes, bytes | None]:
    """What a full backup of this scope holds."""
    paths = parse(backup_here(request(tree, env=env)).stream).tree()
    everything = contents(tree)
    return {path: everything[path] for path in paths}


@pytest.mark.parametrize("steps", list(CHAINS.values()), ids=list(CHAINS))
def test_by_our_recover(
    tree: Path, tmp_path: Path, steps: list[tuple[Change, Env]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "volume").mkdir()
    levels, destination = Levels(tree, tmp_path / "state", monkeypatch), Destination(tmp_path / "volume")
    for level, (change, env) in enumerate(steps):
        change(tree)
        outcome = levels.backup(level, env=env)
        assert outcome.finished.errors == 0
        assert destination.recover(outcome.stream).finished.reason == 1
        assert contents(destination.path) == whole(tree, env)


@pytest.mark.slow
@pytest.mark.peer("restore")
@pytest.mark.parametrize("steps", list(CHAINS.values()), ids=list(CHAINS))
def test_by_debians_restore(
    tree: Path, tmp_path: Path, steps: list[tuple[Change, Env]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    for directory in ("state", "temporary", "place"):
        (tmp_path / directory).mkdir()
    levels = Levels(tree, tmp_path / "state", monkeypatch)
    for level, (change, env) in enumerate(steps):
        change(tree)
        restore(levels.backup(level, env=env).stream, place, tmp_path / "temporary")
        assert contents(place) == whole(tree, env)


@pytest.mark.slow
@pytest.mark.peer("tar")
def test_tar_levels_of_subtrees_leave_alone_what_is_beside_them(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").mkdir()
    levels = Levels(tree, tmp_path / "state", monkeypatch, "tar")
    place = tmp_path / "place"
    shutil.copytree(tree, place)
    env = subtrees(b"a/deep", b"c/deep")
    for level, change in enumerate((nothing, move_out_of_the_subtrees, move_back)):
        change(tree)
        outcome = levels.backup(level, env=env)
        (tmp_path / "stream").write_bytes(outcome.stream)
        done = subprocess.run(
            ["tar", "-xGf", str(tmp_path / "stream"), "-C", str(place)], capture_output=True, check=True, timeout=60
        )
        assert done.stderr == b""
        now, wanted = contents(place), whole(tree, env)
        for part in (b"a/deep", b"c/deep"):
            inside = part + b"/"
            assert {path for path in now if path.startswith(inside)} == {
                path for path in wanted if path.startswith(inside)
            }
        assert {b"a/two", b"b/four", b"c/six"} < now.keys()
