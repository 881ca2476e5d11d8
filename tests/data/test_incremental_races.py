"""What changes its place while a backup runs: the levels in order make the tree all the same."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from mover.data import open_directories, scan
from mover.data.backup_files import FilePhase
from tests.data.chain_peers import restore
from tests.data.chain_runner import Destination
from tests.data.dump_reader import parse
from tests.data.levels import Levels

EXCHANGED = {"one/file": b"of one", "two/file": b"of two"}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two directories with the same name in each; no descriptor of a directory is kept, as in a large tree."""
    monkeypatch.setattr(open_directories, "OPEN_DIRECTORIES_MAX", 1)
    (tmp_path / "state").mkdir()
    for path, content in EXCHANGED.items():
        place = tmp_path / "tree" / path
        place.parent.mkdir(parents=True)
        place.write_bytes(content)
        (place.parent / "link").symlink_to(content)
    return tmp_path / "tree"


def exchange(tree: Path) -> None:
    """Two directories get each other's name; nothing in them has another time of change for that."""
    (tree / "one").rename(tree / "aside")
    (tree / "two").rename(tree / "one")
    (tree / "aside").rename(tree / "two")


def before(
    monkeypatch: pytest.MonkeyPatch, owner: type[FilePhase] | ModuleType, function: str, change: Callable[[], None]
) -> None:
    original = getattr(owner, function)

    def changed(*arguments: object) -> object:
        change()
        return original(*arguments)

    monkeypatch.setattr(owner, function, changed)


def contents(tree: Path) -> dict[str, bytes]:
    found = {}
    for place, _, names in os.walk(tree):
        for name in names:
            path = Path(place) / name
            found[str(path.relative_to(tree))] = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
    return found


def check_chain(tree: Path, tmp_path: Path, streams: Sequence[bytes]) -> None:
    (tmp_path / "volume").mkdir()
    destination = Destination(tmp_path / "volume")
    for stream in streams:
        outcome = destination.recover(stream)
        assert outcome.finished.reason == 1, outcome
    assert contents(destination.path) == contents(tree)


def test_directories_that_change_places_before_their_files_are_read(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = Levels(tree, tmp_path / "state", monkeypatch)
    with monkeypatch.context() as patched:
        before(patched, FilePhase, "run", lambda: exchange(tree))
        full = levels.backup(0)
    assert sum("replaced by another directory" in line for line in full.lines()) == 2
    first = levels.backup(1)
    check_chain(tree, tmp_path, [full.stream, first.stream])
    assert len(parse(levels.backup(2).stream).order) == 1


def test_a_directory_of_another_that_took_its_name(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def switch() -> None:
        (tree / "one").rename(tree / "one.old")
        (tmp_path / "new").rename(tree / "one")

    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").write_bytes(b"of the new one")
    levels = Levels(tree, tmp_path / "state", monkeypatch)
    with monkeypatch.context() as patched:
        before(patched, FilePhase, "run", switch)
        full = levels.backup(0)
    assert full.finished.errors == 1  # the symbolic link, which is not in the new one
    check_chain(tree, tmp_path, [full.stream, levels.backup(1).stream])


def test_directories_that_change_places_before_their_files_times_are_looked_at(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = Levels(tree, tmp_path / "state", monkeypatch)
    full = levels.backup(0)
    (tree / "one" / "file").write_bytes(b"changed")
    with monkeypatch.context() as patched:
        before(patched, scan, "find_repeated_directories", lambda: exchange(tree))
        first = levels.backup(1)
    check_chain(tree, tmp_path, [full.stream, first.stream, levels.backup(2).stream])


def test_a_tar_backup_takes_them_again_too(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = Levels(tree, tmp_path / "state", monkeypatch, butype="tar")

    def switch() -> None:
        (tree / "one").rename(tmp_path / "one")
        (tree / "two").rename(tree / "one")

    with monkeypatch.context() as patched:
        before(patched, FilePhase, "run", switch)
        levels.backup(0)
    (tree / "one").rename(tree / "two")
    (tmp_path / "one").rename(tree / "one")
    first = levels.backup(1)
    assert b"of one" in first.stream
    assert b"of two" in first.stream


# --- what cannot be looked into


def shut(monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    """A directory that cannot be opened, by whomever."""
    opened = os.open

    def refusing(path: bytes | str, *arguments: int, **keywords: int) -> int:
        if path in {name, os.fsdecode(name)}:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refusing)


def levels_with_a_shut_directory(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Level 0 has all of it, level 1 could not look into one directory, level 2 could again."""
    (tree / "one" / "below").mkdir()
    (tree / "one" / "below" / "deep").write_bytes(b"deep")
    levels = Levels(tree, tmp_path / "state", monkeypatch)
    streams = [levels.backup(0).stream]
    (tree / "new").write_bytes(b"new")
    (tree / "two" / "link").unlink()
    with monkeypatch.context() as patched:
        shut(patched, b"one")
        first = levels.backup(1)
    assert first.lines(2) == ["/export/data/one: what is in it is left out: Permission denied (EACCES)"]
    assert first.finished.errors == 1
    streams.append(first.stream)
    (tree / "one" / "link").unlink()
    streams.append(levels.backup(2).stream)
    return streams


def test_a_chain_does_not_remove_what_a_level_could_not_see(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = levels_with_a_shut_directory(tree, tmp_path, monkeypatch)
    (tree / "one" / "link").symlink_to(b"of one")
    check_chain(tree, tmp_path, streams[:2])
    (tree / "one" / "link").unlink()
    (tmp_path / "volume").rename(tmp_path / "after the first level")
    check_chain(tree, tmp_path, streams)


@pytest.mark.peer("restore")
def test_restore_does_not_either(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = levels_with_a_shut_directory(tree, tmp_path, monkeypatch)
    place, temporary = tmp_path / "restored", tmp_path / "temporary"
    place.mkdir()
    temporary.mkdir()
    for stream in streams[:2]:
        restore(stream, place, temporary)
    assert (place / "one" / "below" / "deep").read_bytes() == b"deep"
    assert (place / "new").read_bytes() == b"new"
    assert not os.path.lexists(place / "two" / "link")
    restore(streams[2], place, temporary)
    (place / "restoresymtable").unlink()
    assert contents(place) == contents(tree)


@contextlib.contextmanager
def first_only(directory: int, listing: Callable[[int], "os._ScandirIterator[str]"]) -> Iterator[object]:
    """A directory's entries, of which the disk gives only the first."""

    def read(entries: Iterator[object]) -> Iterator[object]:
        yield next(entries)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with listing(directory) as entries:
        yield read(entries)


@pytest.mark.parametrize("cut_at", [0, 1])
def test_a_directory_that_is_listed_in_part_is_taken_again(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    """The level behind it makes up for what was not seen, also where nothing has changed since."""
    for number in range(5):
        (tree / "one" / f"more-{number}").write_text(f"{number}")
    scandir = os.scandir

    def cut(directory: int) -> contextlib.AbstractContextManager[object]:
        is_it = os.readlink(f"/proc/self/fd/{directory}").endswith("/one")
        return first_only(directory, scandir) if is_it else scandir(directory)

    levels = Levels(tree, tmp_path / "state", monkeypatch)
    streams = []
    for level in range(3):
        with monkeypatch.context() as patched:
            if level == cut_at:
                patched.setattr(os, "scandir", cut)
            outcome = levels.backup(level)
        streams.append(outcome.stream)
        told = "/export/data/one: listed only in part: Input/output error (EIO)"
        assert outcome.lines(2) == ([told] if level == cut_at else [])
    check_chain(tree, tmp_path, streams)
