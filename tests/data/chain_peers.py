"""Chains of levels laid over each other by programs that nobody here wrote: Debian's `restore -r` and GNU tar."""

import os
import stat
import subprocess
from pathlib import Path

from mover.dma.compare import Difference, compare_trees
from tests.support import peers

DEADLINE_S = 100
_TAR = (
    "--acls", "--xattrs", "--xattrs-include=*", "--warning=no-timestamp",
    "--warning=no-unknown-keyword",  # hdrcharset, of a sparse file whose name is not UTF-8
    "-xpGf", "-",
)  # fmt: skip


def restore(stream: bytes, place: Path, temporary: Path, *, moving: bytes | None = None) -> None:
    """Apply one level to ``place``; a complaint is an error.

    Args:
        moving: the beginning of paths that it may complain of: what was gone before the backup read it.
    """
    command = [str(peers.require("restore")), "-r", "-f", "-", "-T", str(temporary)]
    done = subprocess.run(command, input=stream, cwd=place, capture_output=True, timeout=DEADLINE_S, check=False)
    complaints = [line for line in done.stderr.splitlines() if b"/dev/tty" not in line]
    if moving is not None:
        complaints = [line for line in complaints if moving not in line]
    assert (done.returncode, complaints) == (0, [])


class RestoreChain:
    """A directory that `restore -r` lays levels of type dump into.

    Attributes:
        moving: as in :func:`restore`.
    """

    def __init__(self, directory: Path) -> None:
        """Args: directory: an empty one."""
        self.path = directory / "restored"
        self.moving: bytes | None = None
        self._temporary = directory / "temporary"
        self.path.mkdir()
        self._temporary.mkdir()

    def lay(self, stream: bytes) -> None:
        """One level."""
        restore(stream, self.path, self._temporary, moving=self.moving)

    def differences(self, tree: bytes) -> list[Difference]:
        """What is not as in the tree, and is not restore's own doing."""
        compared = compare_trees(tree, self.path, skip={b"restoresymtable": "restore's own"})
        return [one for one in compared.differences if not self._is_restores_own(tree, one)]

    @staticmethod
    def _is_restores_own(tree: bytes, one: Difference) -> bool:
        """What `restore -r` itself does not bring back."""
        if one.what == "mtime":
            # It removes and makes entries in the root after it has set its times, and has 32 bits for the seconds.
            return one.path == b"." or os.lstat(os.path.join(tree, one.path)).st_mtime >= 1 << 32
        # It sets the attributes that an object has and removes none that the object had at an earlier level.
        return one.what.startswith("xattr ") and one.left == "absent"


def lay(stream: bytes, place: Path) -> None:
    """Extract one level over what is there; a complaint is an error."""
    command = [str(peers.require("tar")), *_TAR]
    done = subprocess.run(command, input=stream, cwd=place, capture_output=True, check=False, timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (0, b"")


class TarChain:
    """A directory that GNU tar extracts levels of type tar into."""

    def __init__(self, directory: Path) -> None:
        """Args: directory: an empty one."""
        self.path = directory / "extracted"
        self.path.mkdir()

    def lay(self, stream: bytes) -> None:
        """One level."""
        lay(stream, self.path)

    def differences(self, tree: bytes) -> list[Difference]:
        """What is not as in the tree, to the nanosecond, and is not tar's own doing."""

        def is_directory(path: bytes, status: os.stat_result, what: str) -> bool:
            # It takes no attribute from a directory that is there.
            return what.startswith("xattr") and stat.S_ISDIR(status.st_mode)

        return compare_trees(tree, self.path, exempt=is_directory, time_granularity_ns=1).differences
