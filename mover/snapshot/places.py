"""Where volumes lie, by the kernel's list of mounts."""

import fcntl
import os
import re
import struct
from typing import Final, NamedTuple

MOUNTS: Final = "/proc/self/mountinfo"
SUBVOLUME_INODE: Final = 256
"""Inode number of the root of every subvolume of Btrfs."""
_TO_PASS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# struct btrfs_ioctl_ino_lookup_args: treeid (0 = that of the file asked), objectid, name.
_INO_LOOKUP: Final = 0xD0009412
_INO_LOOKUP_ARGUMENTS: Final = struct.Struct("<QQ4080x")
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


class NoPlace(Exception):  # noqa: N818 - what is not there
    """A volume is not where, or not what, a snapshot of it needs; one line."""


class Mount(NamedTuple):
    """One line of the list: where it is mounted, and the kind of file system."""

    point: bytes
    kind: str


def read_mounts() -> list[Mount]:
    """All mounts, the one that covers others behind them. Raises OSError."""
    with open(MOUNTS, "rb") as file:
        return parse_mounts(file.read())


def parse_mounts(text: bytes) -> list[Mount]:
    """The lines of proc(5)'s mountinfo."""
    found = []
    for line in text.splitlines():
        before, _, behind = line.partition(b" - ")
        fields = before.split(b" ")
        point = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), fields[4])
        found.append(Mount(point, behind.split(b" ")[0].decode("ascii", "replace")))
    return found


def is_below(path: bytes, directory: bytes) -> bool:
    """Whether a path is a directory or something in it; both absolute, without symbolic links."""
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


def below(path: bytes, directory: bytes) -> bytes:
    """A path relative to a directory that it is in; b"" = it is the directory."""
    return path[len(directory.rstrip(b"/")) :].lstrip(b"/")


def mount_of(path: bytes, mounts: list[Mount]) -> Mount:
    """The mount that a path without symbolic links lies on."""
    # Of several at one point the last covers the others.
    return max((mount for mount in reversed(mounts) if is_below(path, mount.point)), key=lambda mount: len(mount.point))


def mounted_below(path: bytes, mounts: list[Mount]) -> list[bytes]:
    """What is mounted in a directory, relative to it."""
    return sorted({below(mount.point, path) for mount in mounts if is_below(mount.point, path)} - {b""})


def subvolume_of(path: bytes, mount: Mount) -> bytes:
    """The subvolume of Btrfs that a directory lies in.

    Raises:
        NoPlace: it lies in none that can be seen.
        OSError: it is not there.
    """
    if mount.kind != "btrfs":
        raise NoPlace(f"{os.fsdecode(path)} lies on {mount.kind}, not on btrfs")
    at = path
    while os.stat(at).st_ino != SUBVOLUME_INODE:
        if at == mount.point:
            raise NoPlace(f"{os.fsdecode(path)} lies in no subvolume that is mounted with its root")
        at = os.path.dirname(at)
    return at


def subvolume_number(fd: int) -> int:
    """The number of a subvolume of Btrfs, which no other one ever gets; ``fd``: its root.

    Raises:
        NoPlace: it is no root of a subvolume.
        OSError: it cannot be asked.
    """
    if os.fstat(fd).st_ino != SUBVOLUME_INODE:
        raise NoPlace("a directory that is no subvolume has the place of a snapshot")
    answer = bytearray(_INO_LOOKUP_ARGUMENTS.pack(0, SUBVOLUME_INODE))
    fcntl.ioctl(fd, _INO_LOOKUP, answer)
    return int(_INO_LOOKUP_ARGUMENTS.unpack(answer)[0])


def open_below(fd: int, path: bytes) -> int:
    """A directory below an open one, through no symbolic link; the caller's ``fd`` stays open. Raises OSError."""
    at = os.dup(fd)
    for name in filter(None, path.split(b"/")):
        try:
            below_it = os.open(name, _TO_PASS, dir_fd=at)
        finally:
            os.close(at)
        at = below_it
    return at


def open_directory(name: bytes, parent: int | None = None) -> int:
    """A directory that is no symbolic link. Raises OSError."""
    return os.open(name, _TO_PASS, dir_fd=parent)


def zfs_root_of(path: bytes) -> bytes:
    """The root of the ZFS file system that a directory lies in: it has ``.zfs``, also where listings hide that.

    Raises:
        NoPlace: it lies in none.
    """
    at = path
    while not os.path.isdir(os.path.join(at, b".zfs/snapshot")):
        if at == b"/":
            raise NoPlace(f"{os.fsdecode(path)} lies on no ZFS file system: no directory above it has .zfs/snapshot")
        at = os.path.dirname(at)
    return at
