"""IGNORE_CTIME: what has a new time of change alone is left out, and nothing else is."""

import errno
import os
import stat
from pathlib import Path

import pytest

from mover.data import changes
from mover.data.birth_times import BirthTimes
from mover.dma.compare import compare_trees
from tests.data.backup_runner import Outcome
from tests.data.chain_peers import RestoreChain
from tests.data.chain_runner import Destination
from tests.data.dump_reader import parse
from tests.data.levels import Levels
from tests.data.test_tar_backup import members

IGNORE = [(b"IGNORE_CTIME", b"Y")]
TYPES = pytest.mark.parametrize("levels", ["dump", "tar"], indirect=True)
NAMES = ("a/file", "a/other", "b/file", "b/two", "same")


@pytest.fixture
def levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Levels:
    for place in ("tree/a", "tree/b", "state"):
        (tmp_path / place).mkdir(parents=True)
    for name in NAMES:
        (tmp_path / "tree" / name).write_bytes(name.encode() * 100)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if BirthTimes().of(b"tree", fd) is None:
            pytest.skip("the file system of temporary files tells no times of birth")
    finally:
        os.close(fd)
    return Levels(tmp_path / "tree", tmp_path / "state", monkeypatch, getattr(request, "param", "dump"))


def tree_of(levels: Levels) -> Path:
    return Path(os.fsdecode(levels.tree))


def files(outcome: Outcome) -> set[bytes]:
    """Paths of what is no directory in a stream; of several names one counts in a dump."""
    assert outcome.finished.reason == 1
    if outcome.stream[257:262] == b"ustar":
        return {path for path, member in members(outcome.stream).items() if not member.isdir()}
    dump = parse(outcome.stream)
    named = {number: path for path, number in dump.tree().items()}
    return {named[number] for number in dump.order if not stat.S_ISDIR(dump.objects[number].mode)}


def make_old(path: Path) -> None:
    """Give it a time of modification before every backup."""
    os.utime(path, ns=(1_000_000_000, 1_000_000_000))


@TYPES
def test_what_is_new_by_its_time_of_change_alone_is_left_out(levels: Levels) -> None:
    tree = tree_of(levels)
    levels.backup(0)
    os.chmod(tree / "a/file", 0o600)
    make_old(tree / "b/file")
    assert files(levels.backup(1, env=IGNORE, update=False)) == set()
    assert files(levels.backup(1, update=False)) == {b"a/file", b"b/file"}
    (tree / "a/file").write_text("new content")
    assert files(levels.backup(1, env=IGNORE)) == {b"a/file"}
    assert files(levels.backup(2, env=IGNORE)) == set()


@TYPES
def test_what_is_new_comes_however_old_it_says_it_is(levels: Levels) -> None:
    tree = tree_of(levels)
    levels.backup(0)
    (tree / "a/new").write_text("made now")
    make_old(tree / "a/new")
    assert b"a/new" in files(levels.backup(1, env=IGNORE))


@TYPES
def test_an_inode_that_is_another_object_now_comes(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number, type and time of modification are those of the base; the time of birth tells."""
    tree = tree_of(levels)
    levels.backup(0)
    os.chmod(tree / "same", 0o600)
    asked = BirthTimes.of

    def born_now(self: BirthTimes, name: bytes, directory: int) -> int | None:
        born = asked(self, name, directory)
        return os.stat(name, dir_fd=directory).st_ctime_ns if os.fspath(name) == b"same" else born

    assert files(levels.backup(1, env=IGNORE, update=False)) == set()
    monkeypatch.setattr(BirthTimes, "of", born_now)
    assert files(levels.backup(1, env=IGNORE)) == {b"same"}


@pytest.mark.root
def test_a_number_that_the_file_system_gives_again(ext4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ext4 gives the lowest free one: the new file has all that the old one was known by."""
    (tmp_path / "state").mkdir()
    levels = Levels(ext4, tmp_path / "state", monkeypatch)
    (ext4 / "old").write_text("the old content")
    levels.backup(0)
    number = (ext4 / "old").stat().st_ino
    (ext4 / "old").unlink()
    (ext4 / "new").write_text("another content")
    make_old(ext4 / "new")
    assert (ext4 / "new").stat().st_ino == number
    assert files(levels.backup(1, env=IGNORE)) == {b"new"}


def test_a_dump_chain_follows_renames_without_the_content(levels: Levels, tmp_path: Path) -> None:
    tree = tree_of(levels)
    (tmp_path / "volume").mkdir()
    destination = Destination(tmp_path / "volume")
    full = levels.backup(0)
    (tree / "a/file").rename(tree / "b/moved")
    (tree / "same").rename(tree / "a/other")  # which is replaced
    os.link(tree / "b/file", tree / "a/more")  # a further name
    os.link(tree / "b/two", tree / "third")
    level = levels.backup(1, env=IGNORE)
    assert {b"a/other", b"b/moved"}.isdisjoint(files(level))
    for stream in (full.stream, level.stream):
        outcome = destination.recover(stream)
        assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), outcome.text()
    assert list(map(str, compare_trees(os.fsencode(tree), destination.path).differences)) == []


def test_what_cannot_get_its_new_name_is_not_lost(
    levels: Levels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The level does not bring its content again."""
    tree = tree_of(levels)
    (tmp_path / "volume").mkdir()
    destination = Destination(tmp_path / "volume")
    destination.recover(levels.backup(0).stream)
    (tree / "a/file").rename(tree / "b/moved")
    stream = levels.backup(1, env=IGNORE).stream

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", refuse)
        outcome = destination.recover(stream)
    assert outcome.status == {b"": 5}
    assert not outcome.finished.table_kept
    assert b"holds what could not be put into its place" in outcome.text()
    (left,) = destination.path.glob(".mover-moving-*/*")
    assert left.read_bytes() == b"a/file" * 100


@pytest.mark.peer("restore")
def test_restore_follows_them_too(levels: Levels, tmp_path: Path) -> None:
    tree = tree_of(levels)
    (tmp_path / "peer").mkdir()
    chain = RestoreChain(tmp_path / "peer")
    chain.lay(levels.backup(0).stream)
    (tree / "a/file").rename(tree / "b/moved")
    (tree / "same").rename(tree / "a/other")
    chain.lay(levels.backup(1, env=IGNORE).stream)
    assert list(map(str, chain.differences(os.fsencode(tree)))) == []


def test_of_type_tar_a_renamed_file_comes(levels: Levels) -> None:
    """Its name is what it is known by."""
    levels = Levels(levels.tree, Path(os.fsdecode(levels.tree)).parent / "state", pytest.MonkeyPatch(), "tar")
    tree = tree_of(levels)
    levels.backup(0)
    (tree / "a/file").rename(tree / "a/renamed")
    os.utime(tree / "a", ns=(1, 1))  # as a program does that keeps the times of directories
    os.chmod(tree / "b/file", 0o600)
    assert files(levels.backup(1, env=IGNORE)) == {b"a/renamed"}


@TYPES
def test_what_has_several_names_comes(levels: Levels) -> None:
    """A new name is a new time of change of the object."""
    levels.backup(0)
    os.link(tree_of(levels) / "b/two", tree_of(levels) / "a/two")
    assert files(levels.backup(1, env=IGNORE)) & {b"a/two", b"b/two", b"b/names"}


@TYPES
def test_without_times_of_birth_both_times_count(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BirthTimes, "of", lambda *_: None)
    levels.backup(0)
    os.chmod(tree_of(levels) / "a/file", 0o600)
    outcome = levels.backup(1, env=IGNORE)
    assert files(outcome) == {b"a/file"}
    assert outcome.lines(3) == ["1 object has no time of birth: taken, because their times of change are new"]


@TYPES
def test_two_processes_find_the_same(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "WORTH_ENTRIES", 1)
    tree = tree_of(levels)
    levels.backup(0)
    for name in NAMES:
        os.chmod(tree / name, 0o600)
    assert files(levels.backup(1, env=IGNORE, update=False)) == set()
    (tree / "a/other").write_text("new")
    assert files(levels.backup(1, env=IGNORE)) == {b"a/other"}


def test_a_time_of_birth_is_that_of_the_object_itself(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = (tmp_path / "file").stat().st_ctime_ns
    os.symlink("file", tmp_path / "link")
    os.chmod(tmp_path / "file", 0o600)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        births = BirthTimes()
        assert births.of(b"file", fd) == before
        assert births.of(b"link", fd) == (tmp_path / "link").lstat().st_ctime_ns
        with pytest.raises(FileNotFoundError):
            births.of(b"missing", fd)
    finally:
        os.close(fd)
