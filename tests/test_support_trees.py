"""The trees that tests back up: they hold what they promise, and the same seed makes the same tree."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from tests.support import trees


def statuses(root: Path) -> dict[bytes, os.stat_result]:
    """lstat of every entry, by path relative to the root."""
    found = {b".": os.lstat(root)}
    top = os.fsencode(root)
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, top)] = os.lstat(path)
    return found


def test_the_same_seed_makes_the_same_tree(tmp_path: Path) -> None:
    made = [
        trees.make_tree(tmp_path / name, large_xattrs=True, sub_microsecond=True, extremes=True) for name in ("a", "b")
    ]
    assert made[0] == made[1]
    result = compare_trees(tmp_path / "a", tmp_path / "b", time_granularity_ns=1)
    assert [str(difference) for difference in result.differences] == []
    assert result.compared == made[0].entries


def test_extremes(tmp_path: Path) -> None:
    """What an option adds; the longest target is as long as the file system takes it."""
    made = trees.make_tree(tmp_path / "tree", wide=1, depth=1, huge_sparse=False, extremes=True)
    entries = statuses(tmp_path / "tree")
    assert made.entries == len(entries)
    names = {path.rpartition(b"/")[2] for path in entries}
    assert {len(name) for name in names if name.startswith(b"N")} == {255}
    times = {path: status.st_mtime for path, status in entries.items() if path.startswith(b"extremes/time-")}
    latest = int(max(times.values()))  # what the file system can hold, if it is not all
    assert {path: min(int(path.partition(b"-")[2]), latest) for path in times} == {
        path: int(time) for path, time in times.items()
    }
    assert len(times) == 4
    shortened = any("4095" in line for line in made.left_out)
    assert shortened or entries[b"extremes/longest-target"].st_size == 4095


def test_another_seed_makes_another_tree(tmp_path: Path) -> None:
    for seed in (1, 2):
        trees.make_tree(tmp_path / str(seed), seed=seed, wide=10, depth=2, huge_sparse=False)
    assert compare_trees(tmp_path / "1", tmp_path / "2").differences != []


def test_every_kind_is_there(tmp_path: Path) -> None:
    made = trees.make_tree(tmp_path / "tree", as_root=os.geteuid() == 0)
    entries = statuses(tmp_path / "tree")
    assert made.entries == len(entries)
    kinds = {stat.S_IFMT(status.st_mode) for status in entries.values()}
    expected = {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK}
    if os.geteuid() == 0 and not any("device" in line for line in made.left_out):
        expected |= {stat.S_IFCHR, stat.S_IFBLK}
        assert os.minor(entries[b"special/big-minor"].st_rdev) == 70_000
        assert entries[b"owners/file-4000000000-4000000001"].st_uid == 4_000_000_000
    assert kinds == expected
    assert entries[b"sparse/huge"].st_size > trees.GIB
    assert entries[b"sparse/huge"].st_blocks < 1000
    assert entries[b"links/hard-1"].st_nlink == 4
    assert entries[b"links/long"].st_size == 1500
    assert entries[b"modes/file-4755"].st_mode & 0o7777 == 0o4755
    assert sum(path.startswith(b"wide/") for path in entries) == 2000
    assert max(path.count(b"/") for path in entries) >= 40
    assert any(status.st_mtime < 315_532_800 for status in entries.values())
    assert all(status.st_mtime_ns % 1000 == 0 for status in entries.values())
    assert any(status.st_mtime_ns % 1_000_000 for status in entries.values())
    if not any("ACL" in line for line in made.left_out):
        acl = os.getxattr(tmp_path / "tree/attributes/directory", "system.posix_acl_default")
        assert acl == trees.posix_acl(1001, 5, 6)


def test_cp_copies_it_identically(tmp_path: Path) -> None:
    """A copier that nobody here wrote and the comparer agree: no false alarm on any kind of entry."""
    trees.make_tree(tmp_path / "tree", large_xattrs=True, sub_microsecond=True, extremes=True)
    subprocess.run(["cp", "-a", tmp_path / "tree", tmp_path / "copy"], check=True, timeout=60)
    result = compare_trees(
        tmp_path / "tree",
        tmp_path / "copy",
        time_granularity_ns=1,
        # cp looks for holes only where whole blocks are missing
        exempt=lambda path, _status, what: (path, what) == (b"sparse/hole-tiny", "holes"),
    )
    assert [str(difference) for difference in result.differences] == []


def test_an_ordinary_user_makes_what_it_may() -> None:
    script = (
        "import os, sys\n"
        "from tests.support.trees import make_tree\n"
        "from mover.dma.compare import compare_trees\n"
        "os.geteuid() or os.setresuid(65534, 65534, 65534)\n"
        "made = [make_tree(sys.argv[1] + name, wide=5, depth=2, huge_sparse=False) for name in ('/a', '/b')]\n"
        "print(made[0].left_out[:1], compare_trees(sys.argv[1] + '/a', sys.argv[1] + '/b').differences)\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        seen = subprocess.run(
            [sys.executable, "-c", script, directory],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            check=True, capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip
    assert seen == "['devices: not root'] []\n"


def test_only_a_refusal_is_noted(tmp_path: Path) -> None:
    maker = trees._Maker(os.fsencode(tmp_path), 1, as_root=False)

    def fail(code: int) -> None:
        raise OSError(code, os.strerror(code))

    maker.attempt("something", lambda: fail(errno.ENOTSUP))
    assert maker.left_out == ["something: Operation not supported"]
    with pytest.raises(OSError, match="Input/output"):
        maker.attempt("something", lambda: fail(errno.EIO))


def test_small_files(tmp_path: Path) -> None:
    trees.make_small_files(tmp_path / "small", files=100, size=300, directories=7)
    files = [path for path in (tmp_path / "small").rglob("*") if path.is_file()]
    assert len(files) == 100
    assert {path.stat().st_size for path in files} == {300}
    assert len(list((tmp_path / "small").iterdir())) == 7
    assert len({path.read_bytes() for path in files}) == 100


def test_large_file(tmp_path: Path) -> None:
    trees.make_large_file(tmp_path / "large", size=9 * trees.MIB + 5)
    status = (tmp_path / "large").stat()
    assert status.st_size == 9 * trees.MIB + 5
    assert status.st_blocks * 512 >= status.st_size
