"""The comparer is what every other end-to-end test believes: each kind of difference must make it fail."""

import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mover.dma.compare import Comparison, compare_trees, data_extents, printable, rounded_extents

DATA = bytes(range(256)) * 16  # 4096 bytes


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal trees."""
    left, right = tmp_path / "left", tmp_path / "right"
    for root in (left, right):
        build(root)
    assert whats(compare_trees(left, right)) == []
    return left, right


def build(root: Path) -> None:
    """A small tree with one entry of each kind that an ordinary user can make."""
    (root / "dir/deep").mkdir(parents=True)
    (root / "file").write_bytes(DATA)
    (root / "large").write_bytes(DATA * 700)  # 2.7 MiB: three chunks
    (root / "empty").touch()
    (root / "dir/one").write_bytes(b"linked")
    (root / "dir/two").hardlink_to(root / "dir/one")
    (root / "dir/deep/three").write_bytes(b"linked")
    (root / "symlink").symlink_to("nowhere")
    os.mkfifo(root / "fifo")
    with open(root / "sparse", "wb") as file:
        file.write(DATA)
        file.seek(1 << 20)
        file.write(DATA)
        file.truncate(2 << 20)
    os.setxattr(root / "file", "user.colour", b"green")
    for path in [root, *root.rglob("*")]:
        os.utime(path, ns=(10**18, 10**18 + 123_456_000), follow_symlinks=False)


def whats(result: Comparison) -> list[tuple[bytes, str]]:
    return [(difference.path, difference.what) for difference in result.differences]


def keeping_times(path: Path, change: Callable[[], object]) -> None:
    """Applies a change and puts the mtimes of the entry and its directory back."""
    before = [(each, os.lstat(each).st_mtime_ns) for each in (path, path.parent) if os.path.lexists(each)]
    change()
    for each, mtime in before:
        if os.path.lexists(each):
            os.utime(each, ns=(mtime, mtime), follow_symlinks=False)


def test_equal_trees_are_equal_and_counted(pair: tuple[Path, Path]) -> None:
    result = compare_trees(*pair)
    entries = 1 + sum(1 for _ in pair[0].rglob("*"))
    assert result == Comparison(entries, entries, [], {})


@pytest.mark.parametrize("name", ["file", "large", "sparse"])
@pytest.mark.parametrize("where", [0, 4095, -1])
def test_one_flipped_bit(pair: tuple[Path, Path], name: str, where: int) -> None:
    path = pair[1] / name
    offset = where if where >= 0 else ((1 << 20) + 4095 if name == "sparse" else path.stat().st_size - 1)

    def flip() -> None:
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0x10]))

    keeping_times(path, flip)
    assert whats(compare_trees(*pair)) == [(name.encode(), "content")]


def test_one_missing_xattr_and_one_changed(pair: tuple[Path, Path]) -> None:
    os.setxattr(pair[1] / "file", "user.colour", b"red")
    assert whats(compare_trees(*pair)) == [(b"file", "xattr user.colour")]
    os.removexattr(pair[1] / "file", "user.colour")
    assert whats(compare_trees(*pair)) == [(b"file", "xattr user.colour")]
    os.setxattr(pair[0] / "dir", "user.note", b"")
    assert whats(compare_trees(*pair)) == [(b"dir", "xattr user.note"), (b"file", "xattr user.colour")]


def test_a_different_acl(pair: tuple[Path, Path]) -> None:
    entries = [(0x01, 6, 0xFFFFFFFF), (0x02, 7, 12345), (0x04, 4, 0xFFFFFFFF), (0x10, 7, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF)]  # fmt: skip # noqa: E501 - one ACL, one line
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    for root in pair:
        os.setxattr(root / "file", "system.posix_acl_access", acl)
    assert whats(compare_trees(*pair)) == []
    os.setxattr(pair[1] / "file", "system.posix_acl_access", acl.replace(struct.pack("<I", 12345), b"\1\0\0\0"))
    assert whats(compare_trees(*pair)) == [(b"file", "xattr system.posix_acl_access")]


@pytest.mark.parametrize("offset", [4096, 1 << 19, (2 << 20) - 4096])
def test_one_filled_hole(pair: tuple[Path, Path], offset: int) -> None:
    path = pair[1] / "sparse"

    def fill() -> None:
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(bytes(4096))

    keeping_times(path, fill)
    assert whats(compare_trees(*pair)) == [(b"sparse", "holes")]
    assert whats(compare_trees(pair[1], pair[0])) == [(b"sparse", "holes")]


def test_a_hole_filled_by_reserving_it(pair: tuple[Path, Path]) -> None:
    path = pair[1] / "sparse"

    def reserve() -> None:
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, 2 << 20)

    keeping_times(path, reserve)
    (found,) = whats(compare_trees(*pair))
    assert found[0] == b"sparse"
    assert found[1] in {"allocation", "holes"}


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("file", lambda path: path.chmod(0o4000 | path.stat().st_mode), "set-id"),
        ("file", lambda path: path.chmod(0o755), "mode"),
        ("dir/deep", lambda path: path.chmod(0o1777), "mode"),
        ("file", lambda path: os.truncate(path, 4095), "size"),
        ("empty", lambda path: path.write_bytes(b"x"), "size"),
    ],
)
def test_a_change_of_one_kind(pair: tuple[Path, Path], name: str, change: Callable[[Path], None], what: str) -> None:
    path = pair[1] / name
    keeping_times(path, lambda: change(path))
    assert whats(compare_trees(*pair)) == [(name.encode(), what)]


@pytest.mark.parametrize("name", ["file", "dir", "symlink", "fifo", "."])
def test_another_mtime(pair: tuple[Path, Path], name: str) -> None:
    os.utime(pair[1] / name, ns=(10**18, 10**18 + 123_457_000), follow_symlinks=False)
    assert whats(compare_trees(*pair)) == [(name.encode(), "mtime")]
    assert whats(compare_trees(*pair, time_granularity_ns=1_000_000)) == []
    os.utime(pair[1] / name, ns=(10**18, 10**18 + 123_456_999), follow_symlinks=False)
    assert whats(compare_trees(*pair)) == []
    assert whats(compare_trees(*pair, time_granularity_ns=1)) == [(name.encode(), "mtime")]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("name", ["file", "symlink", "dir"])
def test_another_owner(pair: tuple[Path, Path], name: str) -> None:
    os.chown(pair[1] / name, 4_000_000_000, -1, follow_symlinks=False)
    assert whats(compare_trees(*pair)) == [(name.encode(), "owner")]
    os.chown(pair[1] / name, 0, 1234, follow_symlinks=False)
    assert whats(compare_trees(*pair)) == [(name.encode(), "group")]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_another_device(pair: tuple[Path, Path]) -> None:
    for root, minor in zip(pair, (3, 70_000), strict=True):
        os.mknod(root / "dir/deep/device", stat.S_IFCHR | 0o600, os.makedev(1, minor))
        for path in (root / "dir/deep/device", root / "dir/deep"):
            os.utime(path, ns=(0, 0))
    assert whats(compare_trees(*pair)) == [(b"dir/deep/device", "device")]


def test_a_broken_and_a_new_hard_link(pair: tuple[Path, Path]) -> None:
    def split() -> None:
        (pair[1] / "dir/two").unlink()
        shutil.copy2(pair[1] / "dir/one", pair[1] / "dir/two")

    keeping_times(pair[1] / "dir/two", split)
    assert whats(compare_trees(*pair)) == [(b"dir/two", "hard link")]
    assert whats(compare_trees(pair[1], pair[0])) == [(b"dir/two", "hard link")]


def test_a_link_to_the_wrong_group(pair: tuple[Path, Path]) -> None:
    path = pair[1] / "dir/two"

    def relink() -> None:
        path.unlink()
        path.hardlink_to(pair[1] / "dir/deep/three")

    keeping_times(path, relink)
    assert whats(compare_trees(*pair)) == [(b"dir/two", "hard link")]


def test_another_target(pair: tuple[Path, Path]) -> None:
    path = pair[1] / "symlink"
    path.unlink()
    path.symlink_to("elsewhere")
    for each in (path, path.parent):
        os.utime(each, ns=(10**18, 10**18 + 123_456_000), follow_symlinks=False)
    assert whats(compare_trees(*pair)) == [(b"symlink", "target")]


def test_a_missing_and_an_extra_entry(pair: tuple[Path, Path]) -> None:
    keeping_times(pair[1] / "file", (pair[1] / "file").unlink)
    keeping_times(pair[1] / "extra", (pair[1] / "extra").touch)
    result = compare_trees(*pair)
    assert [tuple(difference) for difference in result.differences] == [
        (b"extra", "missing", "absent", "file"),
        (b"file", "missing", "file", "absent"),
    ]
    assert result.compared == result.identical + 2


def test_another_type_and_no_following(pair: tuple[Path, Path]) -> None:
    """A symbolic link to an equal directory is not that directory."""

    def swap() -> None:
        (pair[1] / "dir/deep").rename(pair[1].parent / "away")
        (pair[1] / "dir/deep").symlink_to(pair[1].parent / "away")

    keeping_times(pair[1] / "dir/deep", swap)
    assert [tuple(each) for each in compare_trees(*pair).differences] == [(b"dir/deep", "type", "directory", "symlink")]


def test_skipped_entries_are_named_and_left_out(pair: tuple[Path, Path]) -> None:
    (pair[1] / "file").write_bytes(b"quite different")
    keeping_times(pair[1] / "fifo", (pair[1] / "fifo").unlink)
    (pair[1] / "dir").chmod(0o700)
    skip = {b"file": "not ours", b"fifo": "may not be made", b"dir": "mode", b"nowhere": "never met"}
    result = compare_trees(*pair, skip=skip)
    assert result.differences == []
    assert result.skipped == {path: skip[path] for path in (b"file", b"fifo", b"dir")}
    assert result.compared == result.identical == sum(1 for _ in pair[0].rglob("*")) + 1 - 3


def test_exempt_decides_by_path_status_and_kind(pair: tuple[Path, Path]) -> None:
    for name in ("symlink", "file"):
        os.utime(pair[1] / name, ns=(0, 0), follow_symlinks=False)
    result = compare_trees(*pair, exempt=lambda _path, status, what: what == "mtime" and stat.S_ISLNK(status.st_mode))
    assert whats(result) == [(b"file", "mtime")]


def test_sockets_and_strange_names(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name = b"\xff\n -\xe4" + b"n" * 200
    for root in pair:
        path = os.path.join(os.fsencode(root), b"dir", b"deep", name)
        with open(path, "wb") as file:
            file.write(b"same")
        with socket.socket(socket.AF_UNIX) as server:
            monkeypatch.chdir(root / "dir")  # the address has a hundred bytes only
            server.bind("socket")
        for each in (
            path,
            os.fsencode(root / "dir/socket"),
            os.fsencode(root / "dir/deep"),
            os.fsencode(root / "dir"),
        ):
            os.utime(each, ns=(0, 0))
    assert whats(compare_trees(*pair)) == []
    changed = os.path.join(os.fsencode(pair[1]), b"dir", b"deep", name)
    with open(changed, "wb") as file:
        file.write(b"Same")
    os.utime(changed, ns=(0, 0))
    (difference,) = compare_trees(*pair).differences
    assert str(difference).startswith("dir/deep/\\xff\\n -\\xe4nnn")
    assert difference.left == "byte 73 at offset 0"


def test_an_unreadable_file_is_a_difference_unless_skipped() -> None:
    """Judged by an ordinary user, since root reads everything; root becomes one."""
    script = (
        "import os, sys\n"
        "from mover.dma.compare import compare_trees\n"
        "os.geteuid() or os.setresuid(65534, 65534, 65534)\n"
        "skip = {b'file': 'mode', b'dir/deep': 'mode'} if sys.argv[3:] else {}\n"
        "result = compare_trees(sys.argv[1], sys.argv[2], skip=skip)\n"
        "print([d[:2] for d in result.differences], sorted(result.skipped))\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        pair = Path(directory) / "left", Path(directory) / "right"
        for root in pair:
            build(root)
            (root / "file").chmod(0)
            (root / "dir/deep").chmod(0)
        Path(directory).chmod(0o755)
        seen = [
            subprocess.run(
                [sys.executable, "-c", script, *map(str, pair), *extra],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
                check=True, capture_output=True, text=True, timeout=60,
            ).stdout
            for extra in ([], ["skip"])
        ]  # fmt: skip
        for root in pair:
            (root / "dir/deep").chmod(0o700)
    assert seen == [
        "[(b'dir/deep', 'unreadable'), (b'file', 'unreadable')] []\n",
        "[] [b'dir/deep', b'file']\n",
    ]


@pytest.mark.parametrize(
    ("extents", "granularity", "size", "expected"),
    [
        ([], 4096, 10, []),
        ([(1024, 2048)], 4096, 10_000, [(0, 4096)]),
        ([(0, 1), (4095, 4097)], 4096, 5000, [(0, 5000)]),
        ([(0, 1), (8192, 8193)], 4096, 100_000, [(0, 4096), (8192, 12288)]),
        ([(0, 20), (5, 7), (21, 22)], 1, 22, [(0, 20), (21, 22)]),
    ],
)
def test_rounding(extents: list[tuple[int, int]], granularity: int, size: int, expected: list[tuple[int, int]]) -> None:
    assert rounded_extents(extents, granularity, size) == expected


def test_extents_of_an_open_file(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "w+b") as file:
        file.truncate(1 << 20)
        assert list(data_extents(file.fileno(), 1 << 20)) == []
        file.seek(1 << 19)
        file.write(DATA)
        file.flush()
        assert list(data_extents(file.fileno(), 1 << 20)) == [(1 << 19, (1 << 19) + 4096)]
        assert list(data_extents(file.fileno(), (1 << 19) + 1)) == [(1 << 19, (1 << 19) + 1)]


def test_paths_for_people() -> None:
    assert printable(b"a\nb\xff\xc3\xa4\x1b[0m") == "a\\nb\\xff\u00e4\\x1b[0m"
