"""Opens and makes directories beneath a directory descriptor, never through a symbolic link nor out of it.

openat2 with RESOLVE_BENEATH does it in one call; where the kernel or a seccomp filter refuses that call, one
component at a time with O_NOFOLLOW does the same.
"""

import ctypes
import errno
import os
from typing import Final

NAME_MAX: Final = 255
DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_SYS_OPENAT2: Final = 437  # the same number on every architecture (asm-generic/unistd.h)
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
_PIECE_BYTES: Final = 3_500  # the kernel takes paths below 4,096 bytes
_TRIES: Final = 8  # EAGAIN: a rename elsewhere raced with the check for ".."


class _OpenHow(ctypes.Structure):
    """struct open_how (openat2(2))."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_how = _OpenHow(DIRECTORY_FLAGS, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
_how_size: Final = ctypes.c_size_t(ctypes.sizeof(_how))
_number: Final = ctypes.c_long(_SYS_OPENAT2)


def is_plain_name(name: bytes) -> bool:
    """Whether a name from outside may be used as one component of a path."""
    return 0 < len(name) <= NAME_MAX and b"/" not in name and b"\0" not in name and name not in {b".", b".."}


def components(path: bytes) -> list[bytes]:
    """The components of a relative path; empty ones and "." are dropped.

    Raises:
        ValueError: "..", NUL or a component over 255 bytes.
    """
    parts = [part for part in path.split(b"/") if part not in {b"", b"."}]
    for part in parts:
        if not is_plain_name(part):
            raise ValueError(f"{os.fsdecode(path)!r} holds a component that cannot be used")
    return parts


def open_directory_at(parent: int, name: bytes) -> int:
    """A directory by its plain name in an open one.

    Raises:
        OSError: ENOTDIR also for a symbolic link.
    """
    return os.open(name, DIRECTORY_FLAGS, dir_fd=parent)


def open_or_allow_at(parent: int, name: bytes) -> tuple[int, int]:
    """As open_directory_at, also where the owner, who is this user, has no right to: it is given to him.

    Returns:
        the descriptor, and the mode that the directory had before.

    Raises:
        OSError: as open_directory_at.
    """
    try:
        fd = open_directory_at(parent, name)
    except PermissionError:
        pinned = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            status = os.fstat(pinned)
            if status.st_uid != os.geteuid() or status.st_mode & 0o700 == 0o700:
                raise
            mode = status.st_mode & 0o7777
            os.chmod(b"/proc/self/fd/%d" % pinned, mode | 0o700)  # an O_PATH descriptor cannot do it itself
        finally:
            os.close(pinned)
        return open_directory_at(parent, name), mode
    return fd, os.fstat(fd).st_mode & 0o7777


def _openat2(root: int, path: bytes) -> int:
    for _ in range(_TRIES):
        fd = int(_libc.syscall(_number, ctypes.c_int(root), path, ctypes.byref(_how), _how_size))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in {errno.EAGAIN, errno.EINTR}:
            raise OSError(code, os.strerror(code), path)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def _component_wise(root: int, path: bytes) -> int:
    fd = os.open(".", DIRECTORY_FLAGS, dir_fd=root)
    for part in path.split(b"/"):
        below = fd
        try:
            fd = open_directory_at(below, part)
        finally:
            os.close(below)
    return fd


def _open_piece(root: int, path: bytes) -> int:
    try:
        return _openat2(root, path)
    except OSError as error:
        if error.errno not in {errno.ENOSYS, errno.EPERM}:
            raise
    return _component_wise(root, path)


def _pieces(parts: list[bytes]) -> list[bytes]:
    """Paths short enough for the kernel that together are ``parts``."""
    pieces: list[bytes] = []
    piece: list[bytes] = []
    length = 0
    for part in parts:
        if length + len(part) > _PIECE_BYTES:
            pieces.append(b"/".join(piece))
            piece, length = [], 0
        piece.append(part)
        length += len(part) + 1
    return [*pieces, b"/".join(piece)] if piece else pieces


def open_beneath(root: int, parts: list[bytes]) -> int:
    """The directory that the components name below the open directory ``root``, as a new descriptor.

    Raises:
        OSError: it does not exist, is no directory, or a symbolic link is on the way (ELOOP or ENOTDIR).
    """
    if not parts:
        return os.open(".", DIRECTORY_FLAGS, dir_fd=root)
    fd = root
    for piece in _pieces(parts):
        below = fd
        try:
            fd = _open_piece(below, piece)
        finally:
            if below != root:
                os.close(below)
    return fd


def make_beneath(root: int, parts: list[bytes], mode: int = 0o755) -> int:
    """As open_beneath, but directories that are missing are made with ``mode``.

    Raises:
        OSError: a directory cannot be made or opened.
    """
    try:
        return open_beneath(root, parts)
    except FileNotFoundError:
        pass  # the usual case of a recover to a new place: made below
    fd = root
    for part in parts:
        below = fd
        try:
            try:
                fd = open_directory_at(below, part)
            except FileNotFoundError:
                os.mkdir(part, mode, dir_fd=below)
                fd = open_directory_at(below, part)
        finally:
            if below != root:
                os.close(below)
    return fd
