"""Mounts of a worker's own: by no path is anything found but the trees of its work, whatever Landlock looks at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mover.workers import own_mounts
from tests.support.mounts import NoMount, mounted

TIMEOUT_S = 60


def in_a_child(paths: list[Path], *acts: str, before: str = "pass") -> list[str]:
    """What became of each act, a Python expression, in a process with these trees: "done" or an errno's name."""
    child = f"""
import errno, os, stat, sys
from mover.workers import confine, own_mounts
def attempt(act):
    try:
        return str(eval(act) or "done")
    except OSError as error:
        return errno.errorcode[error.errno]
{before}
try:
    own_mounts.enter({[os.fsencode(path) for path in paths]!r})
except OSError as error:
    print("refused", errno.errorcode[error.errno], file=sys.stderr)
print("\\n".join([attempt(act) for act in {acts!r}]))
"""
    ran = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stderr
    if before == "pass" and "refused EPERM" in ran.stderr:
        pytest.skip("no mount namespace is to be had here")
    assert ("refused" in ran.stderr) == (before != "pass"), ran.stderr
    return ran.stdout.splitlines()


def test_the_trees_that_hold_all(tmp_path: Path) -> None:
    for name in ("a/in", "a-b", "c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").touch()
    base = os.fsencode(tmp_path)
    assert own_mounts.roots([]) == own_mounts.roots([base + b"/none"]) == []
    assert own_mounts.roots([base + b"/c/"]) == [base + b"/c"]
    assert own_mounts.roots([base + b"/a/in", base + b"/a", base + b"/a/../a/in"]) == [base + b"/a"]
    # There is no link from one mount to another, so these have one.
    assert own_mounts.roots([base + b"/a", base + b"/a-b"]) == [base]
    assert own_mounts.roots([base + b"/c", base + b"/file"]) == [base + b"/c", base + b"/file"]
    assert own_mounts.roots([base + b"/file", base + b"/c", base + b"/a/in"]) == [base]
    assert own_mounts.roots([b"/", base]) == [b"/"]
    (tmp_path / "link").symlink_to("a")
    assert own_mounts.roots([base + b"/link"]) == [base + b"/link"]
    assert own_mounts.roots([base + b"/link", base + b"/c"]) == [b"/"]


@pytest.mark.root
def test_nothing_else_is_found_by_any_path(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for place in (inside, outside):
        place.mkdir()
        (place / "file").write_text("x")
    (inside / "out").symlink_to(outside / "file")
    before = (outside / "file").stat()
    through = f"/proc/{os.getpid()}/root{outside}/file"
    ways = [str(outside / "file"), str(inside / "out"), f"{inside}/../outside/file"]
    acts = [
        act
        for way in ways
        for act in (
            f"os.stat({way!r})",
            f"os.chmod({way!r}, 0o777)",
            f"os.chown({way!r}, 1, 1)",
            f"os.utime({way!r}, (0, 0))",
            f"os.setxattr({way!r}, 'user.mark', b'x')",
            f"os.open({way!r}, os.O_PATH)",
        )
    ]
    right = [f"os.chmod({str(inside / 'file')!r}, 0o640)", "os.close(os.open('/proc/self/fd/0', os.O_PATH))"]
    listed = f"[os.listdir('/'), os.listdir({str(tmp_path)!r}), os.listdir('/etc')]"
    results = in_a_child([inside, Path("/etc/passwd")], *acts, *right, listed, "os.mkdir('/new')", "os.getcwd()")
    assert results[: len(acts)] == ["ENOENT"] * len(acts)
    *rest, found, made, here = results[len(acts) :]
    assert rest == ["done", "done"]
    top, beside, etc = eval(found)
    assert set(top) == {"proc", "etc", inside.parts[1]}
    assert (beside, etc) == (["inside"], ["passwd"])
    assert (made, here) == ("EROFS", "/")
    after = (outside / "file").stat()
    assert (after.st_mode, after.st_uid, after.st_mtime) == (before.st_mode, before.st_uid, before.st_mtime)
    assert os.listxattr(outside / "file") == []
    assert (inside / "file").stat().st_mode & 0o777 == 0o640
    # With the rights of a worker there is no way by another process either.
    give_up = "confine.confine(confine.Grant(confine.CAP_DAC_OVERRIDE))"
    assert in_a_child([inside], give_up, f"os.stat({through!r})")[1] in {"EACCES", "ENOENT"}


@pytest.mark.root
def test_links_between_two_trees_of_one_file_system(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for place in (one, other):
        place.mkdir()
    (one / "file").touch()
    assert in_a_child([one, other], f"os.link({str(one / 'file')!r}, {str(other / 'file')!r})") == ["done"]
    assert (one / "file").samefile(other / "file")


@pytest.mark.root
def test_what_is_mounted_in_a_tree_is_there(tmp_path: Path) -> None:
    try:
        with mounted("ext4", image_bytes=32 << 20) as place:
            (place / "file").touch()
            acts = [f"os.chmod({str(place / 'file')!r}, 0o600)", f"os.stat({str(tmp_path)!r})"]
            assert in_a_child([place.parent], *acts)[0] == "done"
    except NoMount as reason:
        pytest.skip(str(reason))


@pytest.mark.root
@pytest.mark.parametrize("call", ["unshare", "mount", "syscall", "pivot_root"])
def test_where_it_is_not_to_be_had_everything_is_found_as_before(tmp_path: Path, call: str) -> None:
    """A call that a filter refuses: the worker goes on as it is."""
    (tmp_path / "inside").mkdir()
    before = f"""
class Filtered:
    def __getattr__(self, name):
        return (lambda *_: -1) if name == {call!r} else getattr(real, name)
real = own_mounts._libc
own_mounts._libc = Filtered()
own_mounts.ctypes.get_errno = lambda: errno.EPERM
"""
    acts = [f"os.listdir({str(tmp_path)!r})", "os.stat('/proc/self/status') and None"]
    assert in_a_child([tmp_path / "inside"], *acts, before=before) == ["['inside']", "done"]
