"""What a recover of everything of type tar removes and moves: chains of ours and of GNU tar, and what must stay."""

import errno
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mover.data import file_systems, tar_remover
from mover.data.tar_format import FormatError
from mover.data.tar_listing import Listing, Move, listing_mark, parse_listing
from mover.dma.compare import compare_trees
from mover.workers.data_messages import Pairs
from tests.data.chain_peers import TarChain
from tests.data.levels import Levels
from tests.data.recover_runner import Outcome, name, recover, recover_here
from tests.data.tar_writer import TarWriter
from tests.support import peers
from tests.support.histories import History, Life, chain, histories

REMOVES: Pairs = [(b"EXTRACT", b"N")]
SUCCESSFUL = 1
WARNING = 3


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "syncfs", lambda fd: None)


@pytest.fixture
def levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Levels:
    (tmp_path / "state").mkdir()
    tree = tmp_path / "tree"
    (tree / "one/below").mkdir(parents=True)
    (tree / "two").mkdir()
    for path in ("top", "one/a", "one/b", "one/below/c", "two/d"):
        (tree / path).write_bytes(path.encode() * 600)
    return Levels(tree, tmp_path / "state", monkeypatch, "tar")


def take(stream: bytes, volume: Path, env: Pairs = REMOVES, *, recursive: bool = True) -> Outcome:
    return recover_here(stream, [name(volume, below=b"again")], butype="tar", env=env, recursive=recursive)


def take_well(stream: bytes, volume: Path, env: Pairs = REMOVES) -> Outcome:
    outcome = take(stream, volume, env)
    assert (outcome.finished.reason, outcome.finished.errors, outcome.status) == (SUCCESSFUL, 0, {b"": 0}), outcome
    return outcome


def differences(tree: Path | bytes, other: Path) -> list[str]:
    """But for sockets, which no tar stream holds."""
    root = os.fsencode(tree)
    found = compare_trees(tree, other, time_granularity_ns=1).differences

    def is_socket(path: bytes) -> bool:
        place = os.path.join(root, path)
        return os.path.lexists(place) and stat.S_ISSOCK(os.lstat(place).st_mode)

    return [str(each) for each in found if not is_socket(each.path)]


def paths(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_a_chain_makes_the_tree(levels: Levels, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    take_well(levels.backup(0).stream, tmp_path)
    (tree / "top").unlink()
    (tree / "top").mkdir()  # a directory has the place of a file
    (tree / "top/new").touch()
    shutil.rmtree(tree / "one/below")
    (tree / "one/below").symlink_to("../two")  # and a link that of a directory
    (tree / "two").rename(tree / "moved")
    outcome = take_well(levels.backup(1).stream, tmp_path)
    assert differences(tree, tmp_path / "again") == []
    for path in (b"top", b"one/below", b"two"):
        assert os.fsencode(tmp_path) + b"/again/" + path + b": removed, " in outcome.text()
    assert b", 5 objects removed" in outcome.text()
    assert outcome.wanted


def test_nothing_is_removed_without_being_told_to(levels: Levels, tmp_path: Path) -> None:
    full = levels.backup(0).stream
    take_well(full, tmp_path)
    (tmp_path / "tree/one/a").unlink()
    stream = levels.backup(1).stream
    for env, said in (([], True), ([(b"EXTRACT", b"Y")], True), ([*REMOVES, (b"OVERWRITE", b"N")], True)):
        outcome = take(stream, tmp_path, env)
        assert outcome.finished.errors == 0
        assert any(kind == WARNING and b"takes EXTRACT=N" in text for kind, text in outcome.lines) == said
        assert (tmp_path / "again/one/a").exists()
    take(stream, tmp_path, recursive=False)
    recover_here(stream, [name(tmp_path, b"one", below=b"again/one")], butype="tar", env=REMOVES)
    assert (tmp_path / "again/one/a").exists()
    take_well(stream, tmp_path)
    assert not (tmp_path / "again/one/a").exists()


def test_a_full_backup_has_no_lists_and_removes_nothing(levels: Levels, tmp_path: Path) -> None:
    stream = levels.backup(0).stream
    take_well(stream, tmp_path)
    (tmp_path / "again/foreign").touch()
    outcome = take_well(stream, tmp_path)
    assert (tmp_path / "again/foreign").exists()
    assert b"EXTRACT" not in outcome.text()


def test_what_is_removed_is_no_more_than_its_name(levels: Levels, tmp_path: Path) -> None:
    """Never through a symbolic link, and nothing in a directory that the stream does not tell of."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    take_well(levels.backup(0).stream, tmp_path)
    again = tmp_path / "again"
    (again / "one/link").symlink_to(outside)
    (again / "one/broken").symlink_to("nowhere")
    (again / "one/tree/deep").mkdir(parents=True)
    (again / "one/tree/deep/link").symlink_to(outside)
    (again / "two/foreign").touch()
    (tmp_path / "tree/one/b").unlink()
    take_well(levels.backup(1).stream, tmp_path)
    assert paths(outside) == {"kept"}
    assert paths(again) == paths(tmp_path / "tree") | {"two/foreign"}


def test_a_directory_in_the_place_of_a_file_that_does_not_come_stays(levels: Levels, tmp_path: Path) -> None:
    """Removed, nothing would take its place."""
    take_well(levels.backup(0).stream, tmp_path)
    (tmp_path / "again/one/a").unlink()
    (tmp_path / "again/one/a").mkdir()
    (tmp_path / "again/one/a/foreign").touch()
    (tmp_path / "tree/one/b").unlink()
    take_well(levels.backup(1).stream, tmp_path)
    assert paths(tmp_path / "again/one") == {"a", "a/foreign", "below", "below/c"}


def test_a_directory_that_became_a_link_is_not_followed(levels: Levels, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    take_well(levels.backup(0).stream, tmp_path)
    shutil.rmtree(tmp_path / "again/one")
    (tmp_path / "again/one").symlink_to(outside)
    (tmp_path / "tree/one/b").unlink()
    take_well(levels.backup(1).stream, tmp_path)
    assert paths(outside) == {"kept"}
    assert not (tmp_path / "again/one").is_symlink()


def test_a_damaged_list_removes_nothing(levels: Levels, tmp_path: Path) -> None:
    take_well(levels.backup(0).stream, tmp_path)
    (tmp_path / "tree/one/b").unlink()
    stream = bytearray(levels.backup(1).stream)
    at = stream.index(b"Na\0")
    stream[at + 1] ^= 1  # another name: "a" would be gone
    outcome = take(bytes(stream), tmp_path)
    assert outcome.finished.errors == 1
    assert b"the list of what was in it, which is damaged" in outcome.text()
    assert {"one/a", "one/b"} <= paths(tmp_path / "again")


def test_directories_that_are_shut_and_deep(levels: Levels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_remover, "DEPTH_MAX", 6)
    take_well(levels.backup(0).stream, tmp_path)
    again = tmp_path / "again"
    (again / "shut/in/it").mkdir(parents=True)
    (again / "shut/in/it/file").touch()
    (again / "shut/in").chmod(0)
    (again / "deep/1/2/3/4/5/6").mkdir(parents=True)
    (tmp_path / "tree/new").touch()
    outcome = take(levels.backup(1).stream, tmp_path)
    assert outcome.finished.errors == 1
    assert b"more than 6 directories in each other" in outcome.text()
    assert not (again / "shut").exists()
    assert (again / "deep/1/2/3/4/5/6").exists()


def test_what_cannot_be_removed_is_told_and_costs_no_descriptor(
    levels: Levels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_well(levels.backup(0).stream, tmp_path)
    for number in range(20):
        place = tmp_path / f"again/gone-{number}/inner"
        place.mkdir(parents=True)
        (place if number % 2 else place.parent).joinpath("immutable").touch()
    (tmp_path / "tree/new").touch()
    stream = levels.backup(1).stream

    def refuse(directory: int, path: bytes) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(tar_remover, "remove", refuse)
    opened = len(os.listdir("/proc/self/fd"))
    outcome = take(stream, tmp_path)
    assert outcome.finished.errors == 20
    assert outcome.text().count(b"cannot be removed: Operation not permitted") == 20
    assert len(os.listdir("/proc/self/fd")) == opened


@pytest.mark.root
def test_what_is_mounted_stays(levels: Levels, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root, to mount")
    take_well(levels.backup(0).stream, tmp_path)
    place = tmp_path / "again/one/mounted"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", place], check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        (place / "file").touch()
        (tmp_path / "tree/one/b").unlink()
        outcome = take(levels.backup(1).stream, tmp_path)
        assert (place / "file").exists()
    finally:
        subprocess.run(["umount", place], check=True)
    assert outcome.finished.errors == 1
    assert b"another file system is mounted there" in outcome.text()
    assert not (tmp_path / "again/one/b").exists()


def test_in_a_real_worker_with_no_more_rights_than_it_needs(levels: Levels, tmp_path: Path) -> None:
    names = [name(tmp_path, below=b"again")]
    for change in (lambda: None, lambda: (tmp_path / "tree/one").rename(tmp_path / "tree/uno")):
        change()
        stream = levels.backup(len(levels.kept)).stream
        outcome = recover(stream, names, butype="tar", env=REMOVES)
        assert (outcome.finished.reason, outcome.finished.errors) == (SUCCESSFUL, 0), outcome.lines
    assert differences(tmp_path / "tree", tmp_path / "again") == []


# --- lists -----------------------------------------------------------------------------------------------------


def test_a_list() -> None:
    value = b"Ya\0Nb c\0Dd\0R./x\0T./y/z\0Xspare\0R\0T./x\0\0"
    wanted = Listing({b"a": ord("Y"), b"b c": ord("N"), b"d": ord("D")}, [Move([b"x"], [b"y", b"z"]), Move([], [b"x"])])
    assert parse_listing(value) == wanted
    assert parse_listing(b"\0") == Listing({}, [])
    assert listing_mark(b"./a/", value) != listing_mark(b"./b/", value)


@pytest.mark.parametrize(
    "value",
    [b"", b"Ya", b"Ya\0", b"a\0\0", b"Y\0\0", b"Y..\0\0", b"Ya/b\0\0", b"Ra\0\0", b"Ta\0\0", b"Ra\0Rb\0Tc\0\0",
     b"R../a\0Tb\0\0", b"R.\0Tb\0\0", b"Ya\0\0Yb\0\0", b"Y" + b"n" * 256 + b"\0\0"],
)  # fmt: skip
def test_what_is_no_list(value: bytes) -> None:
    with pytest.raises(FormatError):
        parse_listing(value)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_list(value: bytes) -> None:
    try:
        listing = parse_listing(value)
    except FormatError:
        return
    assert all(b"/" not in each and each not in {b"", b".", b".."} for each in listing.names)


@pytest.mark.parametrize(
    "value",
    [b"Ykept\0", b"R../outside\0Tmine\0\0", b"Rkept\0T../../out\0\0", b"Rnothing\0Tnew\0\0", b"Rlink/x\0Ty\0\0"],
)
def test_a_list_that_would_do_harm_does_nothing(tmp_path: Path, value: bytes) -> None:
    again, outside = tmp_path / "again", tmp_path / "outside"
    again.mkdir()
    outside.mkdir()
    (outside / "x").touch()
    (again / "kept").touch()
    (again / "link").symlink_to(outside)
    writer = TarWriter().pax([(b"GNU.dumpdir", value)]).directory(b"./").file(b"./new", b"new")
    outcome = take(writer.end(), tmp_path)
    assert outcome.finished.errors == 1
    assert paths(again) == {"kept", "link", "new"}
    assert paths(outside) == {"x"}


def test_a_directory_moves_into_one_that_is_new(tmp_path: Path) -> None:
    """GNU tar tells of moves before it tells of any directory."""
    (tmp_path / "again/old/moved").mkdir(parents=True)
    (tmp_path / "again/old/moved/file").write_bytes(b"content")
    lists = [
        (b"./", b"Dnew\0Dold\0R./old/moved\0T./new/deep/moved\0\0"),
        (b"./new/", b"Ddeep\0\0"),
        (b"./new/deep/", b"Dmoved\0\0"),
        (b"./old/", b"\0"),
    ]
    writer = TarWriter()
    for path, value in lists:
        writer.pax([(b"GNU.dumpdir", value)]).directory(path)
    outcome = take_well(writer.end(), tmp_path)
    assert paths(tmp_path / "again") == {"new", "new/deep", "new/deep/moved", "new/deep/moved/file", "old"}
    assert b"1 directory moved" in outcome.text()


def test_moves_in_the_midst_of_a_stream_are_refused(tmp_path: Path) -> None:
    writer = TarWriter().directory(b"./").directory(b"./a/").file(b"./a/file", b"content")
    writer.pax([(b"GNU.dumpdir", b"R./a\0T./c\0\0")]).directory(b"./b/")
    outcome = take(writer.end(), tmp_path)
    assert outcome.finished.errors == 1
    assert (tmp_path / "again/a/file").read_bytes() == b"content"


# --- chains of GNU tar, of any history ------------------------------------------------------------------------------


def listed_incremental(tree: bytes, snapshot: Path, form: str) -> bytes:
    """What GNU tar says of a tree since the snapshot in a file, which is then of this one."""
    time.sleep(0.02)  # it compares times of change with that of its own beginning, by a clock that ticks
    command = [
        str(peers.require("tar")),
        f"--format={form}",
        "--sparse",
        "-cf",
        "-",
        "-g",
        str(snapshot),
        "-C",
        os.fsdecode(tree),
    ]
    more = ["--acls", "--xattrs", "--xattrs-include=*"] if form == "posix" else []
    done = subprocess.run([*command, *more, "."], capture_output=True, check=False, timeout=100)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.peer("tar")
@pytest.mark.parametrize("form", ["posix", "gnu"])
def test_a_chain_of_gnu_tar(tmp_path: Path, form: str) -> None:
    """Its renames of directories, too, of which it does not send the contents again."""
    tree, snapshot = tmp_path / "tree", tmp_path / "snapshot"
    for path in ("a", "a/deep", "b", "c"):
        (tree / path).mkdir(parents=True)
        (tree / path / "file").write_bytes(path.encode() * 1000)
    streams = [listed_incremental(os.fsencode(tree), snapshot, form)]
    (tree / "a").rename(tree / "x")
    (tree / "b").rename(tree / "spare")
    (tree / "c").rename(tree / "b")
    (tree / "spare").rename(tree / "c")
    (tree / "x/deep/file").unlink()
    streams.append(listed_incremental(os.fsencode(tree), snapshot, form))
    shutil.rmtree(tree / "x/deep")
    (tree / "x/deep").touch()
    streams.append(listed_incremental(os.fsencode(tree), snapshot, form))
    for stream in streams:
        outcome = take_well(stream, tmp_path)
    # tar says again in the third stream that b and c change places, and makes something else of it than the tree.
    theirs = TarChain(tmp_path)
    for stream in streams:
        theirs.lay(stream)
    assert paths(tmp_path / "again") == paths(theirs.path) == paths(tree)
    for path in ("x/file", "b/file", "c/file"):
        assert (tmp_path / "again" / path).read_bytes() == (theirs.path / path).read_bytes()
    assert b"removed" in outcome.text()


@pytest.mark.slow
@pytest.mark.peer("tar")
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(history=histories())
def test_any_chain_of_gnu_tar_is_laid_as_tar_does(history: History) -> None:
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        life = Life(directory)
        streams: list[bytes] = []
        for number, each in enumerate(history):
            life.live(each.steps)
            base = chain(history, number)[:-1]
            snapshot = scratch / f"snapshot-{number}"
            if base:
                shutil.copyfile(scratch / f"snapshot-{base[-1]}", snapshot)
            streams.append(listed_incremental(life.tree, snapshot, "posix"))
            volume = scratch / f"chain-{number}"
            volume.mkdir()
            wanted = [streams[place] for place in chain(history, number)]
            if not made_by_tar(wanted, scratch / f"tar-{number}", life):
                continue
            for stream in wanted:
                take_well(stream, volume)
            assert differences(life.tree, volume / "again") == []


def made_by_tar(streams: Sequence[bytes], place: Path, life: Life) -> bool:
    """Whether tar itself makes the tree of its streams: not all of them tell all."""
    place.mkdir()
    theirs = TarChain(place)
    try:
        for stream in streams:
            theirs.lay(stream)
    except AssertionError:
        return False
    return theirs.differences(life.tree) == []
