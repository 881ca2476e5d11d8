"""A mount namespace in which a worker finds the trees of its work and nothing else.

Landlock stops neither chmod, chown, utime, setxattr nor stat by a path; where a path leads nowhere, they do nothing.
Where the host shares its mounts (systemd does), what is mounted or unmounted there below a tree is so here too. A tree
that is the root of a file system lies on a copy of what it is mounted on: so the host finds it busy, as ever.
A tree that the host can unmount stays until the worker ends: what is written gets to the file system.
Source: mount_namespaces(7), pivot_root(2), open_tree(2), proc(5).
"""

import contextlib
import ctypes
import errno
import os
import stat
import threading
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
_COPY: Final = 0x1 | os.O_CLOEXEC  # OPEN_TREE_CLONE
_ALL_BELOW_IT: Final = 0x8000  # AT_RECURSIVE
_NO_AUTOMOUNT: Final = 0x800
_FROM_DESCRIPTOR: Final = 0x4  # MOVE_MOUNT_F_EMPTY_PATH

_STAGE: Final = b"/proc"  # a directory that every host has, and that is not needed any more by then
_PROC_OPTIONS: Final = (b"subset=pid,hidepid=ptraceable", None)  # Linux 5.8, and before

_PROBED: Final = b"/etc"
"""A directory that every host has."""

REFUSED: Final = frozenset({errno.EPERM, errno.ENOSYS})
"""For every worker alike: a filter of system calls, a container, an old kernel. Control says it at its start."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


class HalfWay(Exception):  # noqa: N818 - a state
    """The old mounts are neither left nor back: the worker must end."""


def enter(paths: list[bytes]) -> None:
    """Leave the host's mounts for a new root that has these directories and files at their places, and /proc.

    Directories of one file system are taken by the one above them all, because there is no link from one mount to
    another. What does not exist is not there afterwards either. A tree that is everything changes nothing.

    Args:
        paths: absolute.

    Raises:
        OSError: it is not to be had (no CAP_SYS_ADMIN, a filter of system calls, a root that is no mount); everything
            is found as before.
        HalfWay: it failed where there is no way back.
    """
    trees = roots(paths)
    if b"/" in trees:
        return
    _check(_libc.unshare(_NEW_MOUNTS), "unshare")
    _mount(None, b"/", None, _ALL_BELOW | _FOLLOW_THE_HOST)
    with contextlib.ExitStack() as copies:
        copied: list[tuple[bytes, int]] = []
        for path in trees:
            real = os.path.realpath(path)
            if os.path.ismount(real) and real != b"/":
                copied.append((path, _copy_below(real, copies)))
            copied.append((path, _copy(path, _ALL_BELOW_IT, copies)))
        _mount(b"mover", _STAGE, b"tmpfs", _PLAIN, b"mode=755")
        try:
            os.chdir(_STAGE)
            _furnish(copied)
            _check(_libc.pivot_root(b".", b"."), "pivot_root")
        except OSError as error:
            os.chdir(b"/")
            _leave(_STAGE, error)
            raise
    # The old root lies on the new one now, and goes with all that is mounted in it.
    _leave(b".", None)
    os.chdir(b"/")


def refusal() -> str | None:
    """Why workers of a process with this one's rights will not have mounts of their own; None = they will.

    It is tried, in a thread: a mount namespace is a thread's, and goes with it.
    """
    refused: list[str] = []

    def enter_somewhere() -> None:
        try:
            enter([_PROBED])
        except (OSError, HalfWay) as error:
            refused.append(str(error))

    thread = threading.Thread(target=enter_somewhere, name="own mounts")
    thread.start()
    thread.join()
    return refused[0] if refused else None


def roots(paths: list[bytes]) -> list[bytes]:
    """The trees that hold all of these paths that exist: none in another, and no two directories of one device.

    It is everything where one of several directories lies behind a symbolic link: another tree may hold the link.
    """
    held: dict[bytes, int] = {}
    real: dict[bytes, bool] = {}
    for path in sorted(os.path.normpath(path) for path in paths):
        try:
            status = os.stat(path)
        except OSError:
            continue  # nothing to show; the operation has the error to tell
        device = status.st_dev if stat.S_ISDIR(status.st_mode) else -1
        if device != -1:
            real[path] = os.path.realpath(path) == path
        akin = [path, *(tree for tree, of in held.items() if of == device != -1)]
        above = os.path.commonpath(akin)
        held = {tree: of for tree, of in held.items() if not _is_in(tree, above)}
        if not any(_is_in(above, tree) for tree in held):
            held[above] = device
    return sorted(held) if len(real) < 2 or all(real.values()) else [b"/"]


def _copy(path: bytes, flags: int, copies: contextlib.ExitStack) -> int:
    descriptor = _check(_libc.syscall(_OPEN_TREE, _HERE, path, _COPY | flags), "open_tree")
    copies.callback(os.close, descriptor)
    return descriptor


def _copy_below(place: bytes, copies: contextlib.ExitStack) -> int:
    """Copy the directory that something is mounted on: its own file system shows it where it is mounted alone."""
    above, name = os.path.split(place)
    _mount(above, _STAGE, None, _BIND)
    try:
        return _copy(os.path.join(_STAGE, name), _NO_AUTOMOUNT, copies)
    finally:
        _leave(_STAGE, None)


def _leave(mount: bytes, error: OSError | None) -> None:
    try:
        _check(_libc.umount2(mount, _DETACH), "umount2")
    except OSError as stays:
        raise HalfWay(f"{stays}, after {error}" if error else str(stays)) from stays


def _is_in(path: bytes, tree: bytes) -> bool:
    return os.path.commonpath([path, tree]) == tree


def _furnish(trees: list[tuple[bytes, int]]) -> None:
    """Make the new root, which is the working directory."""
    os.mkdir(b"proc", 0o755)
    _mount_proc()
    for path, descriptor in trees:
        place = path[1:]
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if is_directory:
            os.makedirs(place, 0o755, exist_ok=True)  # the second time it is what the first one was mounted on
        else:
            os.makedirs(os.path.dirname(place) or b".", 0o755, exist_ok=True)
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _check(_libc.syscall(_MOVE_MOUNT, descriptor, b"", _HERE, place, _FROM_DESCRIPTOR), "move_mount")
        if not is_directory:  # such are read only; their modes and times are not Landlock's
            _mount(None, place, None, _REMOUNT | _BIND | _READ_ONLY | _PLAIN)
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
