"""A dump stream of one object of each kind, and what a recover makes of it."""

import os
import stat
from pathlib import Path

from tests.data.dump_writer import DumpWriter, Meta, attribute_blob

REGULAR = stat.S_IFREG | 0o644
LARGE = bytes(range(256)) * 5000  # over two headers


def own(mode: int, **more: int) -> Meta:
    return Meta(mode, os.geteuid(), os.getegid(), **more)


def small_stream(order: str = "<") -> bytes:
    """dir/, dir/inner, dir/deep/, dir/deep/leaf, top, hard = dir/hard, link, sparse, large, fifo, empty."""
    writer = DumpWriter(order).begin(range(2, 14))
    names = [(3, b"dir"), (5, b"top"), (6, b"hard"), (7, b"link"), (8, b"sparse"), (9, b"large"), (10, b"fifo")]
    writer.directory(2, [*names, (11, b"empty")], meta=own(stat.S_IFDIR | 0o755))
    writer.directory(3, [(4, b"deep"), (6, b"hard"), (12, b"inner")], meta=own(stat.S_IFDIR | 0o2750))
    writer.directory(4, [(13, b"leaf")], parent=3, meta=own(stat.S_IFDIR | 0o500))
    writer.content(5, own(REGULAR), b"top")
    writer.content(6, own(stat.S_IFREG | 0o600, nlink=2), b"linked")
    writer.content(7, own(stat.S_IFLNK | 0o777), b"dir/inner")
    writer.content(8, own(stat.S_IFREG | 0o4711), b"a" * 1500 + bytes(300_000) + b"b" * 700, holes=True)
    writer.extension(8, own(REGULAR), attribute_blob([(1, b"first", b"1")], in_inode=True))
    writer.extension(8, own(REGULAR), b"whatever", number=77)
    writer.extension(8, own(REGULAR), attribute_blob([(1, b"second", b"")]))
    writer.content(9, own(REGULAR), LARGE)
    writer.content(10, own(stat.S_IFIFO | 0o640), b"")
    writer.content(11, own(stat.S_IFREG | 0o444), b"")
    writer.content(12, own(stat.S_IFREG | 0o640), b"i" * 1024)
    writer.content(13, own(REGULAR), b"leaf")
    return writer.end(3)


def listing(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


ALL = {"dir", "dir/deep", "dir/deep/leaf", "dir/hard", "dir/inner"} | {
    "top", "hard", "link", "sparse", "large", "fifo", "empty",
}  # fmt: skip


def check_small_tree(root: Path) -> None:
    assert listing(root) == ALL
    assert (root / "top").read_bytes() == b"top"
    assert (root / "large").read_bytes() == LARGE
    assert (root / "dir/inner").read_bytes() == b"i" * 1024
    assert (root / "empty").stat().st_size == 0
    assert os.readlink(root / "link") == "dir/inner"
    assert (root / "hard").samefile(root / "dir/hard")
    assert (root / "hard").stat().st_nlink == 2
    sparse = root / "sparse"
    assert sparse.read_bytes() == b"a" * 1500 + bytes(300_000) + b"b" * 700
    assert sparse.stat().st_blocks * 512 < 100_000
    assert os.getxattr(sparse, "user.first") == b"1"
    assert os.getxattr(sparse, "user.second") == b""
    modes = {"dir": 0o2750, "dir/deep": 0o500, "sparse": 0o4711, "fifo": 0o640, "empty": 0o444, "hard": 0o600}
    for path, mode in modes.items():
        assert stat.S_IMODE((root / path).stat().st_mode) == mode, path
    assert stat.S_ISFIFO((root / "fifo").stat().st_mode)
    for path in ALL:
        status = (root / path).lstat()
        assert status.st_mtime_ns == 1_600_000_000_123_456_000, path
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
