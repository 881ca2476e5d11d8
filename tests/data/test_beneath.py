"""Opening and making directories beneath one: no way out, no symbolic link, with openat2 and without."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.data import beneath


@pytest.fixture(params=["openat2", "component-wise"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "component-wise":

        def refused(_root: int, _path: bytes) -> int:
            raise OSError(errno.ENOSYS, "no openat2 here")

        monkeypatch.setattr(beneath, "_openat2", refused)
    return str(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "in" / "a" / "b").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "file").write_text("")
    (tmp_path / "in" / "link").symlink_to("a")
    (tmp_path / "in" / "away").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "magic").symlink_to("/proc/self/cwd")
    fd = os.open(tmp_path / "in", os.O_RDONLY)
    yield fd
    os.close(fd)


def same(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    finally:
        os.close(fd)


def test_opens_what_lies_below(root: int, tmp_path: Path, way: str) -> None:
    assert same(beneath.open_beneath(root, []), tmp_path / "in")
    assert same(beneath.open_beneath(root, [b"a"]), tmp_path / "in/a")
    assert same(beneath.open_beneath(root, [b"a", b"b"]), tmp_path / "in/a/b")


@pytest.mark.parametrize("parts", [[b"link"], [b"link", b"b"], [b"away"], [b"magic"], [b"file"], [b"file", b"x"]])
def test_follows_nothing(root: int, parts: list[bytes], way: str) -> None:
    for function in (beneath.open_beneath, beneath.make_beneath):
        with pytest.raises(OSError, match=r"ymbolic|irectory") as caught:
            function(root, parts)
        assert caught.value.errno in {errno.ELOOP, errno.ENOTDIR}


def test_makes_what_is_missing(root: int, tmp_path: Path, way: str) -> None:
    assert same(beneath.make_beneath(root, [b"a", b"new", b"newer"], 0o700), tmp_path / "in/a/new/newer")
    assert (tmp_path / "in/a/new/newer").stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileNotFoundError):
        beneath.open_beneath(root, [b"gone", b"x"])


def test_a_path_longer_than_the_kernel_takes(root: int, way: str) -> None:
    parts = [b"%03d" % number + b"n" * 200 for number in range(40)]
    before = len(os.listdir("/proc/self/fd"))
    made = beneath.make_beneath(root, parts)
    opened = beneath.open_beneath(root, parts)
    assert os.path.samestat(os.fstat(made), os.fstat(opened))
    os.close(made)
    os.close(opened)
    assert len(os.listdir("/proc/self/fd")) == before


def test_components() -> None:
    assert beneath.components(b"") == []
    assert beneath.components(b"/") == []
    assert beneath.components(b"./a//b/") == [b"a", b"b"]
    for bad in (b"..", b"a/../b", b"a\0", b"n" * 256):
        with pytest.raises(ValueError, match="cannot be used"):
            beneath.components(bad)


def test_plain_names() -> None:
    assert all(map(beneath.is_plain_name, [b"a", b"...", b"\xff\n", b"n" * 255, b".a"]))
    assert not any(map(beneath.is_plain_name, [b"", b".", b"..", b"a/b", b"/", b"a\0", b"n" * 256]))
