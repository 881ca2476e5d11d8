"""A mount namespace in which a worker finds the trees of its work and nothing else.

Landlock stops neither chmod, chown, utime, setxattr nor stat by a path; where a path leads nowhere, they do nothing.
What is unmounted on the host is unmounted here, too, where the host shares its mounts; what is mounted there later is
not seen. Source: mount_namespaces(7), pivot_root(2), open_tree(2), proc(5).
"""

import contextlib
import ctypes
import errno
import os
import stat
from typing import Final

_NEW_MOUNTS: Final = 0x00020000  # CLONE_NEWNS

_READ_ONLY: Final = 1
_NO_SUID: Final = 2
_NO_DEVICES: Final = 4
_NO_PROGRAMS: Final = 8
_REMOUNT: Final = 1 << 5
_BIND: Final = 1 << 12
_ALL_BELOW: Final = 1 << 14  # MS_REC
_FOLLOW_THE_HOST: Final = 1 << 19  # MS_SLAVE
_PLAIN: Final = _NO_SUID | _NO_DEVICES | _NO_PROGRAMS
_DETACH: Final = 2

_OPEN_TREE: Final = 428  # the same numbers on every architecture
_MOVE_MOUNT: Final = 429
_HERE: Final = -100  # AT_FDCWD
_COPY: Final = 0x1 | 0x8000 | os.O_CLOEXEC  # OPEN_TREE_CLONE, AT_RECURSIVE
_FROM_DESCRIPTOR: Final = 0x4  # MOVE_MOUNT_F_EMPTY_PATH

_STAGE: Final = b"/proc"  # a directory that every host has, and that is not needed any more by then
_PROC_OPTIONS: Final = (b"subset=pid,hidepid=ptraceable", None)  # Linux 5.8, and before

_libc: Final = ctypes.CDLL(None, use_errno=True)


def enter(paths: list[bytes]) -> None:
    """Leave the host's mounts for a new root that has these directories and files at their places, and /proc.

    Directories of one file system are taken by the one above them all, because there is no link from one mount to
    another. What does not exist is not there afterwards either. A tree that is everything changes nothing.

    Args:
        paths: absolute.

    Raises:
        OSError: it is not to be had (no CAP_SYS_ADMIN, a filter of system calls, a root that is no mount); everything
            is found as before.
    """
    trees = roots(paths)
    if b"/" in trees:
        return
    _check(_libc.unshare(_NEW_MOUNTS), "unshare")
    _mount(None, b"/", None, _ALL_BELOW | _FOLLOW_THE_HOST)
    with contextlib.ExitStack() as copies:
        copied: list[tuple[bytes, int]] = []
        for path in trees:
            descriptor = _check(_libc.syscall(_OPEN_TREE, _HERE, path, _COPY), "open_tree")
            copies.callback(os.close, descriptor)
            copied.append((path, descriptor))
        _mount(b"mover", _STAGE, b"tmpfs", _PLAIN, b"mode=755")
        try:
            os.chdir(_STAGE)
            _furnish(copied)
            _check(_libc.pivot_root(b".", b"."), "pivot_root")
        except OSError:
            os.chdir(b"/")
            _check(_libc.umount2(_STAGE, _DETACH), "umount2")
            raise
    # The old root lies on the new one now, and goes with all that is mounted in it.
    _check(_libc.umount2(b".", _DETACH), "umount2")
    os.chdir(b"/")


def roots(paths: list[bytes]) -> list[bytes]:
    """The trees that hold all of these paths that exist: none in another, and no two directories of one device."""
    held: dict[bytes, int] = {}
    for path in sorted(os.path.normpath(path) for path in paths):
        try:
            status = os.stat(path)
        except OSError:
            continue  # nothing to show; the operation has the error to tell
        device = status.st_dev if stat.S_ISDIR(status.st_mode) else -1
        akin = [path, *(tree for tree, of in held.items() if of == device != -1)]
        above = os.path.commonpath(akin)
        held = {tree: of for tree, of in held.items() if not _is_in(tree, above)}
        if not any(_is_in(above, tree) for tree in held):
            held[above] = device
    return sorted(held)


def _is_in(path: bytes, tree: bytes) -> bool:
    return os.path.commonpath([path, tree]) == tree


def _furnish(trees: list[tuple[bytes, int]]) -> None:
    """Make the new root, which is the working directory."""
    os.mkdir(b"proc", 0o755)
    _mount_proc()
    for path, descriptor in trees:
        place = path[1:]
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.makedirs(place, 0o755, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(place) or b".", 0o755, exist_ok=True)
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _check(_libc.syscall(_MOVE_MOUNT, descriptor, b"", _HERE, place, _FROM_DESCRIPTOR), "move_mount")
    _mount(None, b".", None, _REMOUNT | _BIND | _READ_ONLY | _PLAIN)


def _mount_proc() -> None:
    """For the way through /proc/self/fd; of other processes it shows none, where the kernel can hide them."""
    for options in _PROC_OPTIONS:
        try:
            _mount(b"proc", b"proc", b"proc", _PLAIN, options)
        except OSError as error:
            if error.errno != errno.EINVAL or options is None:
                raise
        else:
            return


def _mount(source: bytes | None, place: bytes, kind: bytes | None, flags: int, options: bytes | None = None) -> None:
    _check(_libc.mount(source, place, kind, ctypes.c_ulong(flags), options), f"mount of {os.fsdecode(place)}")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
