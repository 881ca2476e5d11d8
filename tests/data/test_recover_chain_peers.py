"""Chains made by Debian's dump of a mounted ext4 come back level by level."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from tests.data.chain_runner import Destination

pytestmark = [pytest.mark.slow, pytest.mark.peer("dump"), pytest.mark.root]


def populate(mount: Path) -> None:
    for path in ("a/one", "a/deep/two", "b/three", "gone/four", "swap-1/x", "swap-2/y", "top"):
        (mount / path).parent.mkdir(exist_ok=True)
        (mount / path).write_text(path * 500)
    os.link(mount / "top", mount / "a/link")
    os.symlink("top", mount / "symbolic")
    os.mkfifo(mount / "b/fifo")


def first_changes(mount: Path) -> None:
    (mount / "a").rename(mount / "b/a")
    shutil.rmtree(mount / "gone")
    (mount / "swap-1").rename(mount / "aside")
    (mount / "swap-2").rename(mount / "swap-1")
    (mount / "aside").rename(mount / "swap-2")
    (mount / "new").mkdir()
    (mount / "new/file").write_text("new")
    (mount / "b/a/link").unlink()
    os.setxattr(mount / "top", "user.mark", b"late")


def second_changes(mount: Path) -> None:
    (mount / "symbolic").unlink()
    (mount / "symbolic").mkdir()
    (mount / "symbolic/in").write_text("a directory now")
    shutil.rmtree(mount / "new")
    (mount / "new").write_text("a file now")
    (mount / "b/a/deep/two").rename(mount / "two")
    os.link(mount / "two", mount / "b/also-two")
    (mount / "b").chmod(0o700)


def test_levels_of_debians_dump(ext4: Path, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    destination = Destination(tmp_path / "volume")
    for level, change in enumerate([populate, first_changes, second_changes]):
        if level:
            time.sleep(1.1)  # its dates are whole seconds: what changes in the second of a dump belongs to both
        change(ext4)
        os.sync()
        command = ["dump", f"-{level}", "-u", "-D", str(tmp_path / "dumpdates"), "-f", "-", str(ext4)]
        stream = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout
        outcome = destination.recover(stream)
        assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), outcome.text()
        assert outcome.finished.table_kept
        # It drops the fractions of seconds.
        comparison = compare_trees(ext4, destination.path, time_granularity_ns=10**9)
        assert list(map(str, comparison.differences)) == []
