"""Levels of dumps recovered one over the other: the destination becomes what the source was, or nothing is touched."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from tests.data.chain_dumper import ChainDumper
from tests.data.chain_histories import tiny_hole
from tests.data.chain_runner import Destination
from tests.data.recover_runner import Outcome
from tests.support.trees import posix_acl


def assert_equal(source: Path | bytes, destination: Path) -> None:
    comparison = compare_trees(os.fsencode(source), destination, exempt=tiny_hole)
    assert list(map(str, comparison.differences)) == []


def assert_well(outcome: Outcome) -> None:
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), (outcome.finished.text, outcome.text())
    assert outcome.status == {b"": 0}
    assert outcome.finished.table_kept


class Pair:
    """A source, its dumps, and a destination."""

    def __init__(self, directory: Path) -> None:
        self.source = directory / "source"
        self.source.mkdir()
        self.dumper = ChainDumper(self.source)
        (directory / "volume").mkdir()
        self.destination = Destination(directory / "volume")

    def go(self, level: int) -> Outcome:
        """Dump, recover, compare."""
        outcome = self.destination.recover(self.dumper.dump(level))
        assert_well(outcome)
        assert_equal(self.source, self.destination.path)
        return outcome


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def start(source: Path) -> None:
    for path in ("a/file", "a/deep/inner", "b/other", "top", "gone/with/all"):
        write(source / path, path)
    os.link(source / "top", source / "a/link")
    os.symlink("top", source / "symlink")
    os.mkfifo(source / "b/fifo")


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def replace_by_directory(source: Path) -> None:
    (source / "top").unlink()
    (source / "a/link").unlink()
    write(source / "top/now", "a directory")


def replace_by_file(source: Path) -> None:
    shutil.rmtree(source / "a")
    write(source / "a", "a file")


def move_up_and_down(source: Path) -> None:
    """The child becomes the parent."""
    (source / "a/deep").rename(source / "deep")
    (source / "a").rename(source / "deep/a")


def rename_and_use_the_name_again(source: Path) -> None:
    (source / "a").rename(source / "c")
    write(source / "a/file", "another")


def remove_directories(source: Path) -> None:
    for name in ("a", "b", "gone"):
        shutil.rmtree(source / name)


def part_links(source: Path) -> None:
    (source / "a/link").unlink()
    write(source / "a/link", "its own")


def change_symbolic_link(source: Path) -> None:
    (source / "symlink").unlink()
    os.symlink("b", source / "symlink")


def extended(source: Path) -> None:
    try:
        os.setxattr(source / "a", "user.mark", b"x")
        os.setxattr(source / "top", "system.posix_acl_access", posix_acl(1000, 5, 100))
    except OSError:
        pytest.skip("no extended attributes here")


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda source: None,
    "a file is gone": lambda source: (source / "a/file").unlink(),
    "a tree is gone": lambda source: shutil.rmtree(source / "gone"),
    "all is gone": remove_directories,
    "a file is renamed": lambda source: (source / "a/file").rename(source / "a/renamed"),
    "a file is moved": lambda source: (source / "a/file").rename(source / "b/moved"),
    "a file takes another's name": lambda source: (source / "a/file").rename(source / "b/other"),
    "a directory is renamed": lambda source: (source / "a").rename(source / "z"),
    "a directory is moved": lambda source: (source / "a").rename(source / "b/a"),
    "two files swap": lambda source: swap(source / "a/file", source / "b/other"),
    "two directories swap": lambda source: swap(source / "a", source / "b"),
    "file and directory swap": lambda source: swap(source / "a", source / "top"),
    "up and down": move_up_and_down,
    "a name is used again": rename_and_use_the_name_again,
    "file to directory": replace_by_directory,
    "directory to file": replace_by_file,
    "a link more": lambda source: os.link(source / "top", source / "b/second"),
    "a link less": lambda source: (source / "a/link").unlink(),
    "a link moves": lambda source: (source / "a/link").rename(source / "b/link"),
    "links part": part_links,
    "content": lambda source: write(source / "a/deep/inner", "changed"),
    "mode": lambda source: (source / "a/deep").chmod(0o511),
    "a fifo moves": lambda source: (source / "b/fifo").rename(source / "fifo"),
    "a symbolic link changes": change_symbolic_link,
    "attributes": extended,
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_change(pair: Pair, change: str) -> None:
    start(pair.source)
    pair.go(0)
    CHANGES[change](pair.source)
    outcome = pair.go(1)
    assert "names changed" in outcome.finished.text or "name changed" in outcome.finished.text
    assert not list(pair.destination.path.glob(".mover-*"))


def test_attributes_of_a_directory_go_again(pair: Pair) -> None:
    start(pair.source)
    extended(pair.source)
    pair.go(0)
    os.removexattr(pair.source / "a", "user.mark")
    pair.go(1)


def test_levels_in_order_and_from_the_middle(pair: Pair) -> None:
    start(pair.source)
    pair.go(0)
    write(pair.source / "one", "one")
    pair.go(1)
    (pair.source / "one").rename(pair.source / "a/one")
    pair.go(2)
    shutil.rmtree(pair.source / "gone")
    (pair.source / "b").rename(pair.source / "gone")
    pair.go(3)


def test_a_level_that_is_not_the_next_one_touches_nothing(pair: Pair) -> None:
    start(pair.source)
    pair.go(0)
    (pair.source / "top").unlink()
    first = pair.dumper.dump(1)
    (pair.source / "a/link").unlink()
    second = pair.dumper.dump(2)
    before = pair.destination.table.read_bytes()
    outcome = pair.destination.recover(second)
    assert outcome.finished.reason == 3
    assert "an earlier level is missing; nothing was changed" in outcome.finished.text
    assert outcome.status == {b"": 5}
    assert (pair.destination.path / "top").exists()
    assert pair.destination.table.read_bytes() == before
    assert_well(pair.destination.recover(first))
    assert_well(pair.destination.recover(second))
    assert_equal(pair.source, pair.destination.path)
    outcome = pair.destination.recover(first)
    assert "it is not the next one; nothing was changed" in outcome.finished.text
    assert_equal(pair.source, pair.destination.path)


def test_the_dump_of_another_file_system_touches_nothing(pair: Pair, tmp_path: Path) -> None:
    start(pair.source)
    pair.go(0)
    other = ChainDumper(pair.source, filesystem=b"/another")
    other.dump(0)
    outcome = pair.destination.recover(other.dump(1))
    assert outcome.finished.reason == 3
    assert outcome.finished.text == (
        "an incremental dump of /another, the destination holds /source: nothing was changed"
    )
    assert_equal(pair.source, pair.destination.path)


@pytest.mark.parametrize("where", ["head", "files"])
def test_after_a_broken_level_only_a_new_beginning_is_taken(pair: Pair, where: str) -> None:
    start(pair.source)
    pair.go(0)
    write(pair.source / "large", "x" * 100_000)
    (pair.source / "a").rename(pair.source / "z")
    first = pair.dumper.dump(1)
    broken = first[: 5 * 1024 if where == "head" else len(first) - 20 * 1024]
    outcome = pair.destination.recover(broken)
    assert outcome.finished.reason == 4
    again = pair.destination.recover(first)
    if where == "head":  # nothing was touched by then
        assert_well(again)
    else:
        assert again.finished.reason == 3
        assert "into this destination was broken off or did not end well: start over" in again.finished.text
        assert_well(pair.destination.recover(pair.dumper.dump(0)))
    assert not (pair.destination.path / "a").exists()
    assert_equal(pair.source, pair.destination.path)


def lays_over(outcome: Outcome, why: str) -> None:
    assert outcome.finished.reason == 1
    assert not outcome.finished.table_kept
    assert b"nothing is removed or renamed" in outcome.text()
    assert why in os.fsdecode(outcome.text())


def test_without_a_table_nothing_is_removed(pair: Pair) -> None:
    start(pair.source)
    pair.go(0)
    pair.destination.table.unlink()
    (pair.source / "top").rename(pair.source / "renamed")
    outcome = pair.destination.recover(pair.dumper.dump(1))
    lays_over(outcome, "this server has no record of what is there")
    assert (pair.destination.path / "top").read_text() == (pair.destination.path / "renamed").read_text()


def test_with_a_damaged_table_nothing_is_removed(pair: Pair) -> None:
    start(pair.source)
    pair.go(0)
    whole = pair.destination.table.read_bytes()
    (pair.source / "top").rename(pair.source / "renamed")
    stream = pair.dumper.dump(1)
    for at in (0, 8, 40, 60, 300, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        pair.destination.table.write_bytes(damaged)
        lays_over(pair.destination.recover(stream), "record of what is there cannot be used")
        assert (pair.destination.path / "top").exists()
    for length in (0, 100, 256, len(whole) - 1):
        pair.destination.table.write_bytes(whole[:length])
        lays_over(pair.destination.recover(stream), "record of what is there cannot be used")


def test_in_another_directory_of_the_same_name_nothing_is_removed(pair: Pair) -> None:
    start(pair.source)
    pair.go(0)
    pair.destination.path.rename(pair.destination.path.with_name("before"))
    write(pair.destination.path / "top", "of somebody")
    (pair.source / "top").unlink()
    outcome = pair.destination.recover(pair.dumper.dump(1))
    lays_over(outcome, "the destination is not the directory that was recovered before")
    assert (pair.destination.path / "top").read_text() == "of somebody"


def test_with_a_damaged_head_nothing_is_removed(pair: Pair) -> None:
    start(pair.source)
    pair.go(0)
    (pair.source / "a/file").unlink()
    stream = bytearray(pair.dumper.dump(1))
    stream[5 * 1024 + 600] ^= 1  # in the header of the root directory, behind TAPE and two maps
    outcome = pair.destination.recover(bytes(stream))
    assert outcome.finished.reason == 1
    assert outcome.finished.errors
    assert not outcome.finished.table_kept
    assert (pair.destination.path / "a/file").exists()


def test_what_others_have_made_stays(pair: Pair) -> None:
    start(pair.source)
    pair.go(0)
    write(pair.destination.path / "gone/with/mine", "mine")
    write(pair.destination.path / "a/mine", "mine")
    shutil.rmtree(pair.source / "gone")
    (pair.source / "a").rename(pair.source / "z")
    outcome = pair.destination.recover(pair.dumper.dump(1))
    assert_well(outcome)
    assert b"holds what no dump has brought here: the directory stays" in outcome.text()
    assert (pair.destination.path / "gone/with/mine").read_text() == "mine"
    assert (pair.destination.path / "z/mine").read_text() == "mine"
    assert not (pair.destination.path / "gone/with/all").exists()


def test_what_others_have_removed_is_told(pair: Pair) -> None:
    start(pair.source)
    pair.go(0)
    shutil.rmtree(pair.destination.path / "a")
    (pair.destination.path / "b/other").unlink()
    (pair.source / "a").rename(pair.source / "z")
    (pair.source / "b/other").unlink()
    outcome = pair.destination.recover(pair.dumper.dump(1))
    assert outcome.finished.reason == 1
    assert outcome.status != {b"": 0}
    assert b"/a: cannot be renamed: No such file or directory" in outcome.text()
    assert not outcome.finished.table_kept


def test_a_symbolic_link_in_the_way_is_not_followed(pair: Pair, tmp_path: Path) -> None:
    start(pair.source)
    pair.go(0)
    outside = tmp_path / "outside"
    write(outside / "file", "kept")
    shutil.rmtree(pair.destination.path / "a")
    os.symlink(outside, pair.destination.path / "a")
    (pair.source / "a/file").unlink()
    outcome = pair.destination.recover(pair.dumper.dump(1))
    assert outcome.finished.errors
    assert (outside / "file").read_text() == "kept"
    assert [path.name for path in outside.iterdir()] == ["file"]


def change_much(source: Path) -> None:
    """Something of everything that a level can do."""
    rename_and_use_the_name_again(source)
    shutil.rmtree(source / "gone")
    swap(source / "top", source / "b")
    (source / "c/link").rename(source / "link")
    os.link(source / "c/deep/inner", source / "also-inner")
    (source / "symlink").unlink()
    write(source / "symlink/now", "a directory")


CALLS = ["rename", "unlink", "rmdir", "mkdir", "link"]


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Each one in turn: it is told of, and where the destination is not as it should be the chain is at its end."""
    real = getattr(os, call)
    turn = 0
    while True:
        directory = tmp_path / f"{turn}"
        directory.mkdir()
        pair = Pair(directory)
        start(pair.source)
        pair.go(0)
        change_much(pair.source)
        stream = pair.dumper.dump(1)
        left = turn

        def fails(*arguments: object, **keywords: object) -> object:
            nonlocal left
            left -= bool(keywords)  # those by descriptor are the recover's
            if keywords and left == -1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*arguments, **keywords)

        with monkeypatch.context() as patched:
            patched.setattr(os, call, fails)
            outcome = pair.destination.recover(stream)
        assert outcome.finished.reason == 1
        assert "error of its own" not in outcome.finished.text
        if left >= 0:
            break  # there were no more of them
        if outcome.finished.errors:
            assert b"EIO" in outcome.text()
            assert outcome.status == {b"": 5}
        else:
            assert_equal(pair.source, pair.destination.path)
            write(pair.source / "c/last", "last")
            pair.go(2)
        turn += 1
    assert turn
