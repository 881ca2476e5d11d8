"""File systems in image files, loop-mounted for tests and unmounted also if a test fails, is stopped or is killed."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.support import peers

MAKERS: Final = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
"""File system -> the command that makes it, without the image."""
HOST: Final = "host"
"""In the place of a file system: the one that temporary files are on."""
IMAGE_BYTES: Final = 512 << 20  # without holes only where something was written; XFS makes none below 300 MiB
DEADLINE_S: Final = 60
_MEMORY: Final = "/dev/shm"
# It outlives the process that mounted: the pipe to it ends with that one, in whatever way.
_GUARD: Final = 'read -r _; umount "$1" || umount -l "$1"; rm -f "$2"'


class NoMount(Exception):  # noqa: N818 - a fact
    """A file system cannot be made or mounted here; the text says why."""


@contextlib.contextmanager
def fast_directory() -> Iterator[Path]:
    """A temporary directory in memory where there is room, else where temporary files go; removed at the end."""
    room = shutil.disk_usage(_MEMORY).free if os.access(_MEMORY, os.W_OK | os.X_OK) else 0
    with tempfile.TemporaryDirectory(prefix="mover-test-", dir=_MEMORY if room > 2 * IMAGE_BYTES else None) as path:
        yield Path(path)


@contextlib.contextmanager
def mounted(kind: str, *, options: Sequence[str] = (), image_bytes: int = IMAGE_BYTES) -> Iterator[Path]:
    """The root of a new file system of a kind in ``MAKERS``.

    Raises:
        NoMount: not as this user, not with what is installed, or not by this kernel.
    """
    if os.geteuid() != 0:
        raise NoMount("needs root to mount")
    maker = peers.find(MAKERS[kind][0])
    if maker is None:
        raise NoMount(f"{MAKERS[kind][0]} is not installed")
    with fast_directory() as directory:
        image, mount = directory / "image", directory / "mount"
        mount.mkdir()
        with image.open("wb") as file:
            file.truncate(image_bytes)
        _run([str(maker), *MAKERS[kind][1:], str(image)])
        guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "sh", str(mount), str(image)],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            _run(["mount", "-o", ",".join(["loop", *options]), str(image), str(mount)])
            yield mount
        finally:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait(DEADLINE_S)


class Ground(NamedTuple):
    """Where trees are, and where they are recovered to: both hold extended attributes, if the first does."""

    kind: str
    trees: Path
    places: Path


@contextlib.contextmanager
def ground(kind: str) -> Iterator[Ground]:
    """A file system of this kind, or the host's where that cannot be mounted.

    The host's trees lie where temporary files go, because a file system in memory gives no inode a second time, and
    are recovered into memory, because a recover waits for the disk.
    """
    with contextlib.ExitStack() as stack:
        if kind != HOST:
            try:
                path = stack.enter_context(mounted(kind))
            except NoMount:
                kind = HOST
            else:
                yield Ground(kind, path, path)
                return
        trees = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mover-test-")))
        memory = stack.enter_context(fast_directory())
        yield Ground(kind, trees, memory if _holds_attributes(memory) else trees)


def _holds_attributes(directory: Path) -> bool:
    try:
        os.setxattr(directory, "user.mark", b"x")
    except OSError:
        return False
    return True


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    if done.returncode:
        raise NoMount(f"{' '.join(command)}: {done.stderr.strip()}")
