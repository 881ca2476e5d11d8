"""Files of several names of which one is given to another file between the scan and the reading."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.data.backup_files import FilePhase
from tests.data.backup_runner import backup_here, request
from tests.data.levels import Levels
from tests.data.recover_runner import name, recover_here
from tests.data.test_incremental_races import before, check_chain

BUTYPES = ["dump", "tar"]


class Names(NamedTuple):
    """The names of one file, in the order of the scan."""

    first: Path
    second: Path


@pytest.fixture
def names(tmp_path: Path) -> Names:
    tree = tmp_path / "tree"
    for place in ("one", "two"):
        (tree / place).mkdir(parents=True)
    (tree / "one" / "name").write_text("both")
    os.link(tree / "one" / "name", tree / "two" / "name")
    first, second = (tree / place / "name" for place in os.listdir(tree))
    return Names(first, second)


def replace(path: Path, content: str) -> None:
    new = path.with_name("new")
    new.write_text(content)
    new.rename(path)


def replace_both(names: Names) -> None:
    replace(names.first, "another")
    replace(names.second, "one more")


def replace_by_one_of_several_names(names: Names) -> None:
    replace(names.first, "another")
    os.link(names.first, names.first.with_name("more"))


def put_a_fifo(names: Names) -> None:
    names.first.unlink()
    os.mkfifo(names.first)


class Change(NamedTuple):
    """What happens to the names, what both of them hold in the backup then, and what is told."""

    do: Callable[[Names], None]
    held: str
    errors: int
    told: str


CHANGES = {
    "nothing": Change(lambda _: None, "both", 0, ""),
    "the first is replaced": Change(
        lambda names: replace(names.first, "another"),
        "both",
        0,
        "another file has its name since the scan: read by another of its names",
    ),
    "the first is given to a file of several names": Change(
        replace_by_one_of_several_names,
        "both",
        0,
        "another file has its name since the scan: read by another of its names",
    ),
    "the first is a fifo": Change(
        put_a_fifo, "both", 0, "another file has its name since the scan: read by another of its names"
    ),
    "the first is gone": Change(
        lambda names: names.first.unlink(),
        "both",
        0,
        "read by another of its names: No such file or directory (ENOENT)",
    ),
    "the second is replaced": Change(lambda names: replace(names.second, "another"), "both", 0, ""),
    "the second is gone": Change(lambda names: names.second.unlink(), "both", 0, ""),
    "both are replaced": Change(
        replace_both, "another", 1, "its names are different files since the scan: all come back as this one"
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("butype", BUTYPES)
def test_no_name_gets_what_another_file_holds(
    names: Names, tmp_path: Path, butype: str, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    before(monkeypatch, FilePhase, "run", lambda: change.do(names))
    outcome = backup_here(request(tmp_path / "tree", butype=butype))
    assert (outcome.finished.reason, outcome.finished.errors) == (1, change.errors)
    path = "/export/data/" + str(names.first.relative_to(tmp_path / "tree"))
    assert outcome.lines(3) == ([f"{path}: {change.told}"] if change.told else [])
    recovered = recover_here(outcome.stream, [name(tmp_path, below=b"again")], butype=butype)
    assert (recovered.finished.reason, recovered.finished.errors) == (1, 0)
    one, two = (tmp_path / "again" / place / "name" for place in ("one", "two"))
    assert one.read_text() == two.read_text() == change.held
    assert one.samefile(two)


@pytest.mark.parametrize("change", ["the first is replaced", "the second is replaced", "both are replaced"])
def test_the_next_level_takes_what_is_there_by_then(
    names: Names, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = Levels(tmp_path / "tree", tmp_path / "state", monkeypatch)
    (tmp_path / "state").mkdir()
    with monkeypatch.context() as patched:
        before(patched, FilePhase, "run", lambda: CHANGES[change].do(names))
        full = levels.backup(0).stream
    check_chain(tmp_path / "tree", tmp_path, [full, levels.backup(1).stream])


@pytest.mark.parametrize("butype", BUTYPES)
def test_a_symbolic_link_that_lost_its_other_name_is_told(
    tmp_path: Path, butype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "one").symlink_to("nowhere")
    os.link(tree / "one", tree / "two", follow_symlinks=False)
    second = tree / os.listdir(tree)[1]

    def replace_it() -> None:
        second.unlink()
        second.symlink_to("elsewhere")

    before(monkeypatch, FilePhase, "run", replace_it)
    outcome = backup_here(request(tree, butype=butype))
    if butype == "tar":
        text = "left out: its first name was the only one when it was read"
        assert outcome.lines(2) == [f"/export/data/{second.name}: {text}"]
    assert outcome.finished.errors == (butype == "tar")
