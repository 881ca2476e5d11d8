"""What is in a backup and what is not: other file systems, tags, several subtrees, access control lists."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mover.data.exclusion import CACHE_SIGNATURE
from mover.data.file_systems import syncfs
from mover.data.mounts import Crossing, FileSystemType, Kind, Mounts, crossing, type_of
from mover.data.subtrees import SUBTREES_MAX, check_subtrees, parse_subtrees
from mover.data.variables import BadVariable
from mover.ring import DataGauge
from mover.workers.data_messages import HistoryPlan
from tests.data.backup_runner import Outcome, backup_here, request
from tests.data.dump_reader import parse
from tests.data.levels import Levels

Env = list[tuple[bytes, bytes]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    place = tmp_path / "tree"
    for path in ("a/one", "a/below/two", "b/three", "c/deep/four", "c/deep/other", "c/five"):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(path)
    return place


@pytest.fixture
def levels(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Levels:
    (tmp_path / "state").mkdir()
    return Levels(tree, tmp_path / "state", monkeypatch)


def paths(outcome: Outcome) -> set[bytes]:
    assert outcome.finished.reason == 1, outcome.finished.text
    return set(parse(outcome.stream).tree())


def tar_paths(outcome: Outcome, directory: Path) -> set[bytes]:
    stream = directory / "stream.tar"
    stream.write_bytes(outcome.stream)
    listed = subprocess.run(["tar", "-tf", str(stream)], capture_output=True, check=True, timeout=60)
    assert listed.stderr == b""
    return {line.removeprefix(b"./").rstrip(b"/") for line in listed.stdout.splitlines()}


# --- other file systems


class Disguise:
    """Makes directories look as if something was mounted on them, with all the directories below."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.devices: dict[int, int] = {}  # inode -> device
        self.types: dict[int, FileSystemType] = {}  # device -> type
        self._fstat, self._stat = os.fstat, os.stat
        monkeypatch.setattr(os, "fstat", lambda fd: self._disguised(self._fstat(fd)))
        monkeypatch.setattr("mover.data.mounts.file_system_id", lambda fd: os.fstat(fd).st_dev)
        monkeypatch.setattr("mover.data.mounts.type_of", lambda fd: self.types.get(os.fstat(fd).st_dev, DISK))

    def mount(self, place: Path, device: int, kind: FileSystemType) -> None:
        self.types[device] = kind
        for path in [place, *(each for each in place.rglob("*") if each.is_dir())]:
            self.devices[path.lstat().st_ino] = device

    def _disguised(self, status: os.stat_result) -> object:
        device = self.devices.get(status.st_ino)
        if device is None:
            return status
        fields = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
        return SimpleNamespace(**{**fields, "st_dev": device})


DISK = FileSystemType("ext4", Kind.DISK)
PROC = FileSystemType("proc", Kind.PSEUDO)
NFS = FileSystemType("nfs", Kind.NETWORK)
TMPFS = FileSystemType("tmpfs", Kind.MEMORY)


@pytest.fixture
def disguise(monkeypatch: pytest.MonkeyPatch) -> Disguise:
    return Disguise(monkeypatch)


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (b"", set()),
        (b"N", set()),
        (b"y", {"ext4"}),
        (b"TRUE", {"ext4"}),
        (b"A", {"ext4", "nfs", "tmpfs"}),
    ],
)
def test_other_file_systems_are_taken_by_their_kind(
    tree: Path, disguise: Disguise, value: bytes, taken: set[str]
) -> None:
    places = {"ext4": "a/below", "nfs": "b", "tmpfs": "c/deep", "proc": "c/proc"}
    (tree / "c/proc").mkdir()
    (tree / "c/proc/cpuinfo").touch()
    for device, kind in enumerate((DISK, NFS, TMPFS, PROC), 1 << 40):
        disguise.mount(tree / places[kind.name], device, kind)
    outcome = backup_here(request(tree, env=[(b"CROSS_FILE_SYSTEMS", value)] if value else []))
    found = paths(outcome)
    inside = {"ext4": b"a/below/two", "nfs": b"b/three", "tmpfs": b"c/deep/four", "proc": b"c/proc/cpuinfo"}
    assert {name for name, path in inside.items() if path in found} == taken
    # The directories themselves are there in any case, and one line tells of each.
    assert {os.fsencode(place) for place in places.values()} < found
    assert sorted(line for line in outcome.lines(0) if "file system" in line) == sorted(
        f"/export/data/{places[name]}: is on another file system ({name}): backed up, too" for name in taken
    )
    assert sorted(outcome.lines(3)) == sorted(
        f"/export/data/{places[kind.name]}: is on another file system ({kind.name}, {kind.kind.value}):"
        " backed up as an empty directory"
        for kind in (DISK, NFS, TMPFS, PROC)
        if kind.name not in taken
    )
    assert outcome.finished.errors == 0


def test_a_file_system_in_another_one_and_back_again(tree: Path, disguise: Disguise) -> None:
    disguise.mount(tree / "c", 1 << 40, DISK)
    disguise.mount(tree / "c/deep", 1 << 41, PROC)
    outcome = backup_here(request(tree, env=[(b"CROSS_FILE_SYSTEMS", b"Y")]))
    assert {b"c/five", b"c/deep"} < paths(outcome)
    assert b"c/deep/four" not in paths(outcome)


def test_levels_over_two_file_systems(tree: Path, levels: Levels, disguise: Disguise) -> None:
    disguise.mount(tree / "c", 1 << 40, DISK)
    env: Env = [(b"CROSS_FILE_SYSTEMS", b"Y")]
    full = parse(levels.backup(0, env=env).stream)
    quiet = parse(levels.backup(1, env=env).stream)
    assert quiet.dumped == {2}
    assert quiet.used == full.used
    (tree / "c/five").write_text("changed")
    (tree / "c/deep/other").unlink()
    first = parse(levels.backup(1, env=env).stream)
    assert first.dumped == {2, *(full.tree()[path] for path in (b"c", b"c/five", b"c/deep"))}
    assert full.used - first.used == {full.tree()[b"c/deep/other"]}


def test_another_file_system_in_the_place_of_one_is_new_throughout(
    tree: Path, levels: Levels, disguise: Disguise
) -> None:
    env: Env = [(b"CROSS_FILE_SYSTEMS", b"Y")]
    disguise.mount(tree / "c", 1 << 40, DISK)
    full = parse(levels.backup(0, env=env).stream)
    disguise.mount(tree / "c", 1 << 41, DISK)  # the same inode numbers, old times, and not the same objects
    first = parse(levels.backup(1, env=env).stream)
    there = {path for path in full.tree() if path == b"c" or path.startswith(b"c/")}
    assert {path for path, number in first.tree().items() if number in first.dumped} == {b"", *there}
    assert not {first.tree()[path] for path in there} & full.used


def test_equal_inodes_of_two_file_systems_are_two_objects(tree: Path, levels: Levels, disguise: Disguise) -> None:
    """What is a hard link on one file system is none between two, and a level knows both again."""
    masks = {wanted: Mounts(wanted) for wanted in (Crossing.NONE, Crossing.DISKS)}
    for mounts in masks.values():
        mounts.begin(os.stat(tree).st_dev)
        assert mounts.mask(0) == 0
    mounts = masks[Crossing.DISKS]
    fd = os.open(tree, os.O_RDONLY)
    try:
        assert mounts.enter(1, 0, fd, os.stat(tree).st_dev) is None
        assert mounts.enter(2, 0, fd, 1 << 40) == DISK
        assert mounts.enter(3, 2, fd, 1 << 40) is None
    finally:
        os.close(fd)
    assert mounts.mask(1) == 0
    assert mounts.mask(2) == mounts.mask(3) > 1 << 61
    assert mounts.mask(2) < 1 << 63


def test_the_type_of_a_real_file_system() -> None:
    fd = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert type_of(fd) == PROC
    finally:
        os.close(fd)


def test_a_crossing_that_is_none() -> None:
    with pytest.raises(BadVariable, match="CROSS_FILE_SYSTEMS"):
        crossing(b"maybe")


@pytest.fixture
def mounted(tree: Path) -> Iterator[Callable[[str, str], Path]]:
    """Mounts a file system of a type at a place below the tree."""
    places: list[Path] = []

    def mount(kind: str, at: str) -> Path:
        place = tree / at
        place.mkdir(exist_ok=True)
        if subprocess.run(["mount", "-t", kind, "none", str(place)], capture_output=True, check=False).returncode:
            pytest.skip(f"no {kind} can be mounted here")
        places.append(place)
        return place

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", str(place)], check=True, timeout=60)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting takes root")
def test_real_mounts(tree: Path, mounted: Callable[[str, str], Path]) -> None:
    (mounted("tmpfs", "a/memory") / "inside").write_text("inside")
    mounted("proc", "a/memory/proc")
    (mounted("tmpfs", "a/below") / "inside").write_text("hides what is there")
    staying = backup_here(request(tree))
    assert {path for path in paths(staying) if path.startswith(b"a/")} == {b"a/one", b"a/memory", b"a/below"}
    crossed = backup_here(request(tree, env=[(b"CROSS_FILE_SYSTEMS", b"A")]))
    assert {path for path in paths(crossed) if path.startswith(b"a/")} == {
        b"a/one", b"a/memory", b"a/memory/inside", b"a/memory/proc", b"a/below", b"a/below/inside",
    }  # fmt: skip
    (line,) = crossed.lines(3)
    assert line.startswith("/export/data/a/memory/proc: is on another file system (proc, the kernel's own): ")


# --- tags


TAGGED: Env = [(b"EXCLUDE_IF_PRESENT", b".nobackup,CACHEDIR.TAG")]


def test_the_contents_of_a_tagged_directory_are_left_out(tree: Path) -> None:
    (tree / "c/.nobackup").touch()
    outcome = backup_here(request(tree, env=TAGGED))
    assert {path for path in paths(outcome) if path.startswith(b"c")} == {b"c", b"c/.nobackup"}
    assert outcome.lines(0)[0] == "/export/data/c: holds .nobackup: what is in it besides is left out"
    assert outcome.finished.errors == 0


@pytest.mark.parametrize(
    ("content", "is_tag"),
    [(CACHE_SIGNATURE + b"\n# made by a test", True), (CACHE_SIGNATURE[:-1], False), (b"", False), (b"x" * 43, False)],
)
def test_the_tag_of_a_cache_is_held_to_its_signature(tree: Path, content: bytes, is_tag: bool) -> None:
    (tree / "c/CACHEDIR.TAG").write_bytes(content)
    found = paths(backup_here(request(tree, env=TAGGED)))
    assert b"c/CACHEDIR.TAG" in found
    assert (b"c/five" not in found) is is_tag


@pytest.mark.parametrize("kind", ["directory", "symlink", "fifo"])
def test_what_only_has_the_name_of_a_caches_tag(tree: Path, kind: str) -> None:
    tag = tree / "c/CACHEDIR.TAG"
    if kind == "directory":
        tag.mkdir()
        (tree / "b/.nobackup").mkdir()
    elif kind == "symlink":
        (tree / "real").write_bytes(CACHE_SIGNATURE)
        tag.symlink_to("../real")
    else:
        os.mkfifo(tag)
    assert {b"c/five", b"b/three"} < paths(backup_here(request(tree, env=TAGGED)))


def test_a_tag_in_the_root_and_both_tags_at_once(tree: Path) -> None:
    (tree / ".nobackup").touch()
    (tree / "CACHEDIR.TAG").write_bytes(CACHE_SIGNATURE)
    outcome = backup_here(request(tree, env=TAGGED))
    assert paths(outcome) == {b"", b".nobackup", b"CACHEDIR.TAG"}


def test_a_tag_that_comes_and_goes_in_a_chain(tree: Path, levels: Levels) -> None:
    full = parse(levels.backup(0, env=TAGGED).stream)
    (tree / "c/.nobackup").touch()
    first = parse(levels.backup(1, env=TAGGED).stream)
    gone = {full.tree()[path] for path in (b"c/deep", b"c/deep/four", b"c/deep/other", b"c/five")}
    assert full.used - first.used == gone
    assert first.dumped == {2, first.tree()[b"c"], first.tree()[b"c/.nobackup"]}
    (tree / "c/.nobackup").unlink()
    second = parse(levels.backup(2, env=TAGGED).stream)
    back = {b"c", b"c/deep", b"c/deep/four", b"c/deep/other", b"c/five"}
    assert {path for path, number in second.tree().items() if number in second.dumped} == {b"", *back}


def test_a_tag_that_cannot_be_read_leaves_nothing_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "c/CACHEDIR.TAG").write_bytes(CACHE_SIGNATURE)

    def refuse(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mover.data.exclusion._is_signed", refuse)
    outcome = backup_here(request(tree, env=TAGGED))
    assert b"c/five" in paths(outcome)
    (line,) = outcome.lines(2)
    assert line == "/export/data/c: its tag cannot be read, so its contents are backed up: Permission denied (EACCES)"


# --- several subtrees


def several(*names: bytes, **more: bytes) -> Env:
    return [(b"MULTI_SUBTREE_NAMES", b"\n".join(names)), (b"DMP_NAME", b"some")] + [
        (name.encode(), value) for name, value in more.items()
    ]


def test_several_subtrees_and_the_directories_on_the_way(tree: Path, tmp_path: Path) -> None:
    expected = {b"", b"a", b"a/below", b"a/below/two", b"c", b"c/deep", b"c/deep/four", b"c/deep/other"}
    outcome = backup_here(request(tree, env=several(b"a/below", b"c/deep"), history=HistoryPlan(4, "file")))
    assert paths(outcome) == expected
    dump = parse(outcome.stream)
    assert dump.used == dump.dumped == set(dump.tree().values())
    # ONTAP's DMAs name the common root last, and end the list with a NUL.
    again = backup_here(request(tree, env=several(b"c/deep/", b"./a//below", b"/export/data", b"\0")))
    assert paths(again) == expected
    tar = backup_here(request(tree, env=several(b"a/below", b"c/deep"), butype="tar"))
    assert tar_paths(tar, tmp_path) == expected


def test_what_is_left_out_in_subtrees_is_left_out(tree: Path) -> None:
    (tree / "a/below/.nobackup").touch()
    env = several(b"a/below", b"c", EXCLUDE=b"c/deep", EXCLUDE_IF_PRESENT=b".nobackup")
    outcome = backup_here(request(tree, env=env))
    assert paths(outcome) == {b"", b"a", b"a/below", b"a/below/.nobackup", b"c", b"c/five"}
    assert outcome.finished.errors == 0


def test_levels_of_several_subtrees(tree: Path, levels: Levels) -> None:
    full = parse(levels.backup(0, env=several(b"a/below", b"c/deep")).stream)
    (tree / "a/one").write_text("not in it")
    (tree / "c/deep/four").write_text("changed")
    (tree / "c/deep/other").unlink()
    first = parse(levels.backup(1, env=several(b"a/below", b"c/deep")).stream)
    assert first.dumped == {full.tree()[path] for path in (b"", b"c", b"c/deep", b"c/deep/four")}
    assert full.used - first.used == {full.tree()[b"c/deep/other"]}
    # Another set by the same name: what is new in it is taken whole, what is not in it any more is gone.
    second = parse(levels.backup(2, env=several(b"b", b"c/deep")).stream)
    assert {path for path, number in second.tree().items() if number in second.dumped} >= {b"", b"b", b"b/three"}
    assert first.used - second.used == {full.tree()[path] for path in (b"a", b"a/below", b"a/below/two")}


def test_tables_of_another_name_are_no_base(tree: Path, levels: Levels) -> None:
    levels.backup(0, env=several(b"a"))
    outcome = levels.backup(1, env=[(b"MULTI_SUBTREE_NAMES", b"a"), (b"DMP_NAME", b"other")])
    assert outcome.finished.date is not None
    assert outcome.finished.date.level == 0
    assert [line for line in outcome.lines(3) if "this is a full backup" in line] != []


def test_a_tar_chain_removes_nothing_beside_the_subtrees(tree: Path, tmp_path: Path) -> None:
    """GNU tar removes what a directory's listing does not name: what is not wanted stands there, as not in it."""
    place = tmp_path / "recovered"
    shutil.copytree(tree, place)
    outcome = backup_here(request(tree, env=[*several(b"a/below"), (b"LEVEL", b"1")], butype="tar", level=1))
    (tmp_path / "stream.tar").write_bytes(outcome.stream)
    subprocess.run(["tar", "-xGf", str(tmp_path / "stream.tar"), "-C", str(place)], check=True, timeout=60)
    assert (place / "c/deep/four").exists()
    assert (place / "a/one").exists()


def test_a_subtree_that_goes_before_it_is_scanned(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        shutil.rmtree(tree / "c/deep")

    monkeypatch.setattr("mover.data.backup.check_subtrees", gone)
    outcome = backup_here(request(tree, env=several(b"a", b"c/deep")))
    assert {b"c", b"a/one"} < paths(outcome)
    assert outcome.finished.errors == 1
    assert outcome.lines(2) == ["/export/data/c/deep: left out: it is not there any more, or no directory"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"\n", "names no subtree"),
        (b"/export/data", "names no subtree"),
        (b"a\n.", "is the common root itself"),
        (b"a\n/elsewhere", "is not relative to /export/data"),
        (b"a\n../x", "cannot be used"),
        (b"a/" + b"x" * 256, "cannot be used"),
        (b"a\nb\na/", "a/ is named twice"),
        (b"a\na/below", "a/below lies in another of its subtrees"),
        (b"a/below\na", "another of its subtrees lies in a"),
        (b"\n".join(b"%d" % number for number in range(SUBTREES_MAX + 1)), "at most 1024 are possible"),
        (b"a/" * (1 << 17) + b"a", "MULTI_SUBTREE_NAMES has 262145 bytes, at most 262144 are possible"),
        (b"x/" * (1 << 14), "No such file or directory (ENOENT)"),
        (b"a\nnot there", "MULTI_SUBTREE_NAMES: not there: No such file or directory (ENOENT)"),
        (b"a/one", "MULTI_SUBTREE_NAMES: a/one: Not a directory (ENOTDIR)"),
        (b"link/below", "MULTI_SUBTREE_NAMES: link/below: "),
    ],
)
def test_lists_of_subtrees_that_are_refused(tree: Path, value: bytes, why: str) -> None:
    (tree / "link").symlink_to("a")
    refused = backup_here(request(tree, env=several(value))).refused
    assert refused.error == 9
    assert why in refused.text


@pytest.mark.parametrize("name", [[], [(b"DMP_NAME", b"")], [(b"DMP_NAME", b"x" * 256)]])
def test_several_subtrees_need_a_name(tree: Path, name: Env) -> None:
    refused = backup_here(request(tree, env=[(b"MULTI_SUBTREE_NAMES", b"a"), *name])).refused
    assert refused.error == 9
    assert "DMP_NAME" in refused.text


def test_a_subtree_on_another_file_system_is_refused_unless_they_are_wanted(tree: Path, disguise: Disguise) -> None:
    disguise.mount(tree / "c", 1 << 40, DISK)
    refused = backup_here(request(tree, env=several(b"a", b"c/deep"))).refused
    assert refused.text == "MULTI_SUBTREE_NAMES: c/deep is on another file system"
    taken = backup_here(request(tree, env=several(b"a", b"c/deep", CROSS_FILE_SYSTEMS=b"Y")))
    assert b"c/deep/four" in paths(taken)


def test_the_way_to_many_subtrees(tree: Path) -> None:
    for number in range(SUBTREES_MAX):
        (tree / f"many/{number % 32}/{number}").mkdir(parents=True)
    wanted = b"\n".join(b"many/%d/%d" % (number % 32, number) for number in range(SUBTREES_MAX))
    ways = parse_subtrees(wanted, b"/export/data")
    root = os.open(tree, os.O_RDONLY)
    try:
        check_subtrees(ways, root, crosses=False)
        syncfs(root)
    finally:
        os.close(root)
    assert len(ways["many"]) == 32


# --- what else is asked for


def test_access_control_lists_are_left_out_where_that_is_asked_for(tree: Path) -> None:
    access = bytes.fromhex("0200000001000600ffffffff02000400e8030000040004 00ffffffff10000400ffffffff20000400ffffffff")
    path = tree / "a/one"
    try:
        os.setxattr(path, "system.posix_acl_access", access)
        os.setxattr(path, "user.other", b"stays")
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")
    with_acls, without = (
        backup_here(request(tree, env=env, butype="tar")).stream for env in ([], [(b"NO_ACLS", b"Y")])
    )
    assert b"SCHILY.acl.access" in with_acls
    assert b"SCHILY.acl" not in without
    assert b"SCHILY.xattr.user.other" in without


def test_changed_bytes_are_the_estimate_of_a_level(tree: Path, levels: Levels) -> None:
    levels.backup(0)
    (tree / "a/one").write_bytes(b"x" * 40_000)
    outcome = levels.backup(1)
    total = outcome.gauges[DataGauge.TOTAL_BYTES]
    assert 40_000 <= total <= 40_000 + 4096 + 1024 * outcome.gauges[DataGauge.TOTAL_ENTRIES]
