"""A recover changes nothing by a path: Landlock looks at no metadata, and anybody may swap a directory for a link."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from mover.dma.compare import compare_trees
from tests.data.backup_runner import backup_here, request
from tests.data.recover_runner import name, recover_here
from tests.support.trees import make_tree

BY_ONE: Final = (
    "chmod",
    "chown",
    "utime",
    "setxattr",
    "removexattr",
    "truncate",
    "mkdir",
    "mkfifo",
    "mknod",
    "unlink",
    "rmdir",
)
BY_TWO: Final = ("rename", "replace", "link")
THROUGH: Final = "/proc/self/fd/"


def leads_from_a_descriptor(place: object, directory: object) -> bool:
    if isinstance(place, int):
        return True
    assert isinstance(place, bytes | str)
    path = os.fsdecode(place)
    if path.startswith(THROUGH):
        return path.removeprefix(THROUGH).count("/") <= 1
    return isinstance(directory, int) and "/" not in path and path not in {".", ".."}


@pytest.mark.slow
@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_every_change_is_made_at_a_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, butype: str) -> None:
    make_tree(tmp_path / "tree", wide=60, depth=6, huge_sparse=False, large_xattrs=True, extremes=True)
    stream = backup_here(request(tmp_path / "tree", butype=butype)).stream
    called: Counter[str] = Counter()
    wrong: list[tuple[str, object]] = []
    real = {call: getattr(os, call) for call in (*BY_ONE, *BY_TWO, "symlink", "open")}

    def watched(call: str) -> Callable[..., object]:
        def done(*given: object, **named: object) -> object:
            places = [(given[0], named.get("dir_fd"))]
            if call in BY_TWO:
                places = [(given[0], named.get("src_dir_fd")), (given[1], named.get("dst_dir_fd"))]
            elif call == "symlink":
                places = [(given[1], named.get("dir_fd"))]
            elif call == "open":
                flags = given[1]
                assert isinstance(flags, int)
                if not flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
                    return real[call](*given, **named)
            called[call] += 1
            wrong.extend((call, place) for place, at in places if not leads_from_a_descriptor(place, at))
            return real[call](*given, **named)

        return done

    for round_ in ("nothing is there", "everything is"):
        with monkeypatch.context() as patched:
            for call in real:
                patched.setattr(os, call, watched(call))
            outcome = recover_here(stream, [name(tmp_path, below=b"to")], butype=butype)
        assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), (round_, outcome.text())
        assert wrong == []
    assert {"open", "mkdir", "symlink", "link", "utime", "chmod", "rename"} <= called.keys()


@pytest.mark.slow
@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_more_directories_than_are_held_open(tmp_path: Path, butype: str) -> None:
    """Files come when their directories were closed long since; what is far down is opened from what is near it."""
    tree = tmp_path / "tree"
    for number in range(700):
        directory = tree / f"{number % 7}" / f"{number % 35}" / f"{number}"
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(b"%d" % number)
        os.link(directory / "file", directory.parent / f"name-{number}")
    stream = backup_here(request(tree, butype=butype)).stream
    outcome = recover_here(stream, [name(tmp_path, below=b"to")], butype=butype)
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), outcome.text()
    assert compare_trees(tree, tmp_path / "to").differences == []
