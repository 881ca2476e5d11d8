"""What a worker may still do once it has its work: capabilities, files, network. For good, before it parses a byte.

A worker reads what strangers sent: a stream, a cartridge, a name list. So it keeps only what its one operation needs
(:class:`Grant`), and a fault in it reaches no further. Landlock and no_new_privs hold for the calling thread and those
it starts later, so :func:`confine` comes before the first thread. Landlock stops neither chmod, chown, utime and
setxattr outside its rules, nor a connection to a named unix socket: metadata is set through descriptors found beneath
the volume, a recover has mounts of its own (:mod:`mover.workers.own_mounts`), and the admin socket's mode says who
connects. Source: docs/architecture.md section 1, Rights.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
from typing import Final

from msgspec import Struct

from mover.workers import own_mounts

# capability(7), by number: linux/capability.h
CAP_CHOWN: Final = 1 << 0
CAP_DAC_OVERRIDE: Final = 1 << 1
CAP_DAC_READ_SEARCH: Final = 1 << 2
CAP_FOWNER: Final = 1 << 3
CAP_FSETID: Final = 1 << 4
CAP_SYS_RAWIO: Final = 1 << 17
CAP_SYS_ADMIN: Final = 1 << 21
CAP_MKNOD: Final = 1 << 27
CAP_SETFCAP: Final = 1 << 31

# landlock(7): linux/landlock.h
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
REMOVE_DIR: Final = 1 << 4
REMOVE_FILE: Final = 1 << 5
MAKE_CHAR: Final = 1 << 6
MAKE_DIR: Final = 1 << 7
MAKE_REG: Final = 1 << 8
MAKE_SOCK: Final = 1 << 9
MAKE_FIFO: Final = 1 << 10
MAKE_BLOCK: Final = 1 << 11
MAKE_SYM: Final = 1 << 12
REFER: Final = 1 << 13
"""Link and rename between directories."""
TRUNCATE: Final = 1 << 14
IOCTL_DEV: Final = 1 << 15
"""ioctl of a device that is opened from then on."""

READ: Final = READ_FILE | READ_DIR
CHANGE: Final = READ | WRITE_FILE | TRUNCATE | MAKE_REG | REMOVE_FILE
"""Read, write, make and remove regular files, within one directory."""
POPULATE: Final = (
    CHANGE | REFER | REMOVE_DIR | MAKE_DIR | MAKE_SYM | MAKE_FIFO | MAKE_SOCK | MAKE_CHAR | MAKE_BLOCK
)  # fmt: skip
"""Everything but execute and device ioctls."""

_OF_FILES: Final = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV  # a rule for a file may name no others
REFER_ABI: Final = 2
_FS_RIGHTS: Final = ((1, 0x1FFF), (REFER_ABI, REFER), (3, TRUNCATE), (5, IOCTL_DEV))  # ABI and what it can hold
_NET_ABI: Final = 4
_NET_RIGHTS: Final = 0b11  # bind and connect of TCP
_CONNECT: Final = 0b10
_SCOPE_ABI: Final = 6
_SCOPES: Final = 0b11  # abstract unix sockets, and signals to processes outside

_CREATE_RULESET: Final = 444  # the same number on every architecture
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION_FLAG: Final = 1
_RULE_PATH_BENEATH: Final = 1
_RULE_NET_PORT: Final = 2

_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAP_SETPCAP: Final = 1 << 8
_CAPABILITY_HEADER: Final = struct.pack("<Ii", 0x20080522, 0)  # version 3, this thread
_CAPABILITIES: Final = 64  # more than there are; the kernel says where the end is

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Grant(Struct, frozen=True):
    """What one operation needs.

    Attributes:
        capabilities: a mask; a worker never gets more than the server has.
        trees: directories with the Landlock rights beneath them, or single files; one that does not exist grants
            nothing.
        ports: of TCP, that it may connect to, at any address: Landlock knows no addresses.
        own_mounts: of a server with CAP_SYS_ADMIN: nothing but the trees is found by any path.
    """

    capabilities: int = 0
    trees: tuple[tuple[bytes, int], ...] = ()
    ports: tuple[int, ...] = ()
    own_mounts: bool = False


def landlock_abi() -> int:
    """The version of Landlock that this kernel has; 0 = none, or switched off at boot."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def mounts_refused() -> str | None:
    """Why recovers of this process's rights have no mounts of their own; None = they have, or nobody may mount."""
    return own_mounts.refusal() if _permitted() & CAP_SYS_ADMIN else None


def prepare() -> None:
    """Go through what `confine` will call: a forked spare then pays for the first touch of its pages, not a request."""
    landlock_abi()
    _permitted()


def confine(grant: Grant) -> None:
    """Give up everything but the grant, in this thread and those it will start; there is no way back.

    Where the kernel has no Landlock, or one too old for the grant, files are held by capabilities and ownership alone;
    control warns of that, and, as a try at its start found them refused, of recovers in the host's mounts. Whatever
    else keeps a worker from mounts of its own has a line on the server's standard error.

    Raises:
        OSError: the kernel refuses what it is known to have.
        HalfWay: the worker has neither the host's mounts nor its own.
    """
    if grant.own_mounts and _permitted() & CAP_SYS_ADMIN:
        try:
            own_mounts.enter([path for path, _ in grant.trees])
        except OSError as error:
            if error.errno not in own_mounts.REFUSED:
                print(f"a worker goes on in the host's mounts: {error}", file=sys.stderr, flush=True)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    abi = landlock_abi()
    # The first version denies every link and rename between directories: a recover would lose hard links.
    if abi >= REFER_ABI or (abi and not any(rights & REFER for _, rights in grant.trees)):
        _restrict(grant, abi)
    _keep_capabilities(grant.capabilities)


def _restrict(grant: Grant, abi: int) -> None:
    handled = 0
    for since, rights in _FS_RIGHTS:
        if abi >= since:
            handled |= rights
    attributes = struct.pack(
        "<QQQ", handled, _NET_RIGHTS if abi >= _NET_ABI else 0, _SCOPES if abi >= _SCOPE_ABI else 0
    )  # an older kernel takes a longer struct whose unknown part is zero
    ruleset = _syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for path, rights in grant.trees:
            _allow(ruleset, path, rights & handled)
        for port in grant.ports if abi >= _NET_ABI else ():
            _syscall(_ADD_RULE, ruleset, _RULE_NET_PORT, struct.pack("<QQ", _CONNECT, port), 0)
        _syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: bytes, rights: int) -> None:
    try:
        tree = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # nothing to grant; the operation opens it again and has the error to tell
    try:
        if not stat.S_ISDIR(os.fstat(tree).st_mode):
            rights &= _OF_FILES
        _syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("<Qi", rights, tree), 0)
    finally:
        os.close(tree)


def bound_capabilities(mask: int) -> None:
    """Take all but these out of what this process and its children can ever hold; what they hold already stays.

    Done once, in the process that forks the workers of a kind. Without CAP_SETPCAP the bounding set stays as it is,
    which no_new_privs makes harmless.

    Raises:
        OSError: the kernel refuses what it is known to have.
    """
    if not _permitted() & _CAP_SETPCAP:
        return
    for number in range(_CAPABILITIES):
        if not mask >> number & 1 and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            if ctypes.get_errno() == errno.EINVAL:
                return  # behind the last capability of this kernel
            raise _error("prctl(PR_CAPBSET_DROP)")


def _keep_capabilities(mask: int) -> None:
    kept = _permitted() & mask
    low, high = kept & 0xFFFF_FFFF, kept >> 32
    if _libc.capset(_CAPABILITY_HEADER, struct.pack("<6I", low, low, 0, high, high, 0)) != 0:
        raise _error("capset")


def _permitted() -> int:
    words = ctypes.create_string_buffer(24)
    if _libc.capget(_CAPABILITY_HEADER, words) != 0:
        raise _error("capget")
    held: tuple[int, ...] = struct.unpack("<6I", words.raw)  # effective, permitted, inheritable; twice 32 bits
    return held[1] | held[4] << 32


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise _error(f"prctl({option})")


def _syscall(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise _error(f"system call {number}")
    return result


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
