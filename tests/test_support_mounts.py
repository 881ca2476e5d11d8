"""Mounted file systems of tests go, whatever becomes of the test."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mounts import HOST, MAKERS, NoMount, ground, mounted
from tests.support.processes import settle

HOLDER = """
import sys
from tests.support.mounts import mounted
with mounted("ext4") as path:
    print(path, flush=True)
    sys.stdin.read()
"""


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


class Failed(Exception):  # noqa: N818 - a test did
    """Its argument is where the file system was."""


def fail_on(kind: str) -> None:
    with mounted(kind) as path:
        assert f" {path} {kind} " in mounts()
        (path / "file").write_text("x")
        raise Failed(path)


@pytest.mark.root
@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_system_is_there_and_gone(kind: str) -> None:
    try:
        with pytest.raises(Failed) as failed:
            fail_on(kind)
    except NoMount as why:
        pytest.skip(str(why))
    path = failed.value.args[0]
    assert str(path) not in mounts()
    assert not path.parent.exists()


@pytest.mark.root
def test_it_goes_with_a_process_that_is_killed(checkout: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        path = process.stdout.readline().strip()
        if not path:
            assert process.wait(60) != 0
            pytest.skip("nothing can be mounted here")
        assert f" {path} ext4 " in mounts()
        process.kill()
        process.wait()
        image = Path(path).with_name("image")
        settle(
            lambda: path not in mounts() and not image.exists(),
            "the file system and its image are gone",
            deadline_s=60,
        )
    shutil.rmtree(Path(path).parent)


def test_there_is_always_a_ground() -> None:
    for kind in (HOST, "xfs"):
        with ground(kind) as where:
            assert where.kind in {HOST, kind}
            for place in (where.trees, where.places):
                assert os.listdir(place) in ([], ["lost+found"])
        assert not where.trees.exists()
