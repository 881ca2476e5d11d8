"""Makes trees to back up: one with every kind of entry that Linux has, and the plain ones of the benchmarks.

The same seed makes the same tree, times included, so that two calls give equal trees.
"""

import errno
import functools
import os
import random
import socket
import stat
import struct
from collections.abc import Callable
from typing import NamedTuple

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

LONG_NAME = b"n" * 254  # Debian's dump and restore lose 255
STRANGE_NAMES = [
    LONG_NAME,
    b"two\nlines",
    b"\xff\xfe raw bytes",
    b"latin-1 \xe4\xf6\xfc",
    "größe-日本".encode(),
    b" spaces around ",
    b"-leading-dash",
    b"--",
    b"back\\slash \"quotes' * ? [x]",
    b"\x01control\x7f",
    b"...",
]
MODES = [0o000, 0o400, 0o444, 0o600, 0o640, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777]
OWNERS = [(0, 0), (1, 1), (1000, 100), (65534, 65534), (100_000, 100_000), (4_000_000_000, 4_000_000_001)]
SIZES = {  # a dump header covers 512 KiB, a record is 1 KiB, a slot is 1 MiB
    b"empty": 0,
    b"one-byte": 1,
    b"one-record": KIB,
    b"record-and-one": KIB + 1,
    b"record-less-one": KIB - 1,
    b"eight-records": 8 * KIB,
    b"header-less-one": 512 * KIB - 1,
    b"header-full": 512 * KIB,
    b"header-and-one": 512 * KIB + 1,
    b"slot-full": MIB,
    b"slot-and-record": MIB + KIB,
    b"large": 3 * MIB + 12_345,
}
# name -> (apparent size, extents of data as (offset, length))
SPARSE = {
    b"hole-first": (256 * KIB, [(128 * KIB, 128 * KIB)]),
    b"hole-middle": (768 * KIB, [(0, 64 * KIB), (640 * KIB, 128 * KIB)]),
    b"hole-last": (700 * KIB, [(0, 4 * KIB)]),
    b"hole-only": (600_000, []),
    b"hole-tiny": (100, []),
    b"holes-many": (2 * MIB, [(offset, 4 * KIB) for offset in range(0, 2 * MIB, 64 * KIB)]),
    b"hole-unaligned": (300_001, [(5_000, 100), (200_001, 100_000)]),
}
HUGE_SPARSE = (GIB + 512 * MIB + 7, [(0, 5), (GIB + 3, 10), (GIB + 512 * MIB, 7)])

_FAR_TIMES_S = [2**31 - 1, 2**31, 2**32 - 1, 2**32 + 5]
_REFUSALS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSPC, errno.E2BIG, errno.ENAMETOOLONG}
_ACL_ACCESS = "system.posix_acl_access"
_ACL_DEFAULT = "system.posix_acl_default"
_ANY = 0xFFFF_FFFF  # the id of an ACL entry that has none


class Tree(NamedTuple):
    """What was made."""

    entries: int  # the root included
    left_out: list[str]  # kinds that the file system or the user's rights did not allow


def posix_acl(named_user: int, permissions: int, named_group: int, *, owner: int = 6) -> bytes:
    """A POSIX ACL in the kernel's attribute form: a named user and group, mask rwx, nothing for others."""
    entries = [
        (0x01, owner, _ANY),
        (0x02, permissions, named_user),
        (0x04, 4, _ANY),
        (0x08, 5, named_group),
        (0x10, 7, _ANY),
        (0x20, 0, _ANY),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def make_tree(
    root: str | os.PathLike[str],
    *,
    seed: int = 1,
    as_root: bool | None = None,
    wide: int = 2000,
    depth: int = 40,
    huge_sparse: bool = True,
    large_xattrs: bool = False,
    newlines: bool = True,
    sub_microsecond: bool = False,
    extremes: bool = False,
) -> Tree:
    """Makes `root` (which must not exist) and below it every kind of entry.

    Args:
        seed: decides contents, times and small choices.
        as_root: also devices, owners and unreadable modes; default: when the process is root.
        wide: entries of the widest directory.
        depth: directories inside each other.
        huge_sparse: also a sparse file of 1.5 GiB apparent size.
        large_xattrs: also a file with over 4 KiB of attributes, which Debian's restore cannot read.
        newlines: also names that line-based tools cannot tell apart.
        sub_microsecond: mtimes of full nanoseconds, which a dump stream cannot hold.
        extremes: also names of 255 bytes, the longest target of a symbolic link, and times beyond 2038 and 2106; some
            of it Debian's dump and restore do not bring back.
    """
    maker = _Maker(os.fsencode(root), seed, os.geteuid() == 0 if as_root is None else as_root)
    maker.directory(b".")
    maker.sizes()
    maker.sparse(huge_sparse)
    maker.wide_and_deep(wide, depth)
    maker.links()
    maker.special_files()
    maker.names(newlines)
    maker.permissions()
    maker.attributes(large_xattrs)
    if extremes:
        maker.extremes()
    maker.times(1 if sub_microsecond else 1000)
    return Tree(len(maker.made), maker.left_out)


def make_small_files(
    root: str | os.PathLike[str], *, files: int = 50_000, size: int = 4 * KIB, directories: int = 100, seed: int = 1
) -> None:
    """Makes `root` with `files` files of `size` random bytes, spread evenly over `directories`."""
    pool = random.Random(seed).randbytes(MIB + size)
    top = os.fsencode(root)
    os.mkdir(top)
    for number in range(directories):
        os.mkdir(b"%s/directory-%03d" % (top, number))
    for number in range(files):
        path = b"%s/directory-%03d/file-%05d" % (top, number % directories, number)
        start = number * 997 % MIB
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.write(descriptor, pool[start : start + size])
        finally:
            os.close(descriptor)


def make_large_file(path: str | os.PathLike[str], *, size: int = 2 * GIB, seed: int = 1) -> None:
    """Makes one file of `size` bytes that neither compresses to nothing nor has holes."""
    block = bytearray(random.Random(seed).randbytes(8 * MIB))
    with open(path, "xb", buffering=0) as file:
        written = 0
        while written < size:
            struct.pack_into("<Q", block, 0, written)
            written += file.write(memoryview(block)[: size - written])


class _Maker:
    """The state of one make_tree: where, what was made, and what could not be."""

    def __init__(self, root: bytes, seed: int, as_root: bool) -> None:
        self.made: list[bytes] = []  # relative paths in order, parents first
        self.left_out: list[str] = []
        self._root = root
        self._random = random.Random(seed)
        self._as_root = as_root

    def _path(self, name: bytes) -> bytes:
        self.made.append(name)
        return self._root if name == b"." else self._root + b"/" + name

    def directory(self, name: bytes) -> None:
        os.mkdir(self._path(name), 0o755)

    def file(self, name: bytes, content: bytes) -> bytes:
        path = self._path(name)
        with open(path, "xb") as file:
            file.write(content)
        return path

    def attempt(self, what: str, action: Callable[[], None]) -> None:
        """Does what a file system may not offer, and notes it when it does not."""
        try:
            action()
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            self.left_out.append(f"{what}: {error.strerror}")

    def sizes(self) -> None:
        self.directory(b"sizes")
        for name, size in SIZES.items():
            self.file(b"sizes/" + name, self._random.randbytes(size))
        self.file(b"sizes/zeros-written", bytes(64 * KIB))

    def sparse(self, huge: bool) -> None:
        self.directory(b"sparse")
        for name, (size, extents) in {**SPARSE, **({b"huge": HUGE_SPARSE} if huge else {})}.items():
            with open(self._path(b"sparse/" + name), "xb", buffering=0) as file:
                for offset, length in extents:
                    os.pwrite(file.fileno(), self._random.randbytes(length), offset)
                file.truncate(size)

    def wide_and_deep(self, wide: int, depth: int) -> None:
        self.directory(b"empty-directory")
        self.directory(b"wide")
        for number in range(wide):
            self.file(b"wide/entry-%05d" % number, b"%d" % number if number % 7 else b"")
        path = b"deep"
        for level in range(depth):
            self.directory(path)
            self.file(path + b"/here", b"level %d\n" % level)
            path += b"/level-%02d" % level

    def links(self) -> None:
        self.directory(b"links")
        self.directory(b"links/elsewhere")
        for name, target in {
            b"relative": b"../sizes/large",
            b"dangling": b"no/such/place",
            b"absolute": b"/",
            b"directory": b"elsewhere",
            b"itself": b"itself",
            b"raw-bytes": b"\xff\n",
            b"long": b"t" * 1500,
            b"record-long": b"t" * KIB,
        }.items():
            self.attempt(f"target of {len(target)} bytes", functools.partial(self._symlink, b"links/" + name, target))
        first = self.file(b"links/hard-1", self._random.randbytes(5000))
        os.link(first, self._path(b"links/hard-2"))
        os.link(first, self._path(b"links/elsewhere/hard-3"))
        os.link(first, self._path(b"zz-hard-4"))
        self.attempt("hard link to a symbolic link", self._link_to_link)

    def _symlink(self, name: bytes, target: bytes) -> None:
        os.symlink(target, self._root + b"/" + name)
        self.made.append(name)

    def _link_to_link(self) -> None:
        target = self._root + b"/links/dangling"
        os.link(target, self._root + b"/links/dangling-2", follow_symlinks=False)
        self.made.append(b"links/dangling-2")

    def special_files(self) -> None:
        self.directory(b"special")
        os.mkfifo(self._path(b"special/fifo"), 0o640)
        # mknod where it is allowed: an address holds a hundred bytes only, but bind needs no right.
        self.attempt("socket", lambda: self._socket(b"special/socket"))
        if not self._as_root:
            self.left_out.append("devices: not root")
            return
        for name, kind, major, minor in [
            (b"null", stat.S_IFCHR, 1, 3),
            (b"disk", stat.S_IFBLK, 8, 1),
            (b"big-minor", stat.S_IFBLK, 259, 70_000),
            (b"big-major", stat.S_IFCHR, 511, 255),
        ]:
            node = functools.partial(self._node, name, kind, os.makedev(major, minor))
            self.attempt(f"device {major}:{minor}", node)

    def _node(self, name: bytes, kind: int, device: int) -> None:
        os.mknod(self._root + b"/special/" + name, kind | 0o600, device)
        self.made.append(b"special/" + name)

    def _socket(self, name: bytes) -> None:
        directory = os.open(self._root + b"/" + os.path.dirname(name), os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(b"/proc/self/fd/%d/%s" % (directory, os.path.basename(name)))
        finally:
            os.close(directory)
        self.made.append(name)

    def names(self, newlines: bool) -> None:
        self.directory(b"names")
        for name in STRANGE_NAMES:
            if newlines or (name.isascii() and name.decode().isprintable()):
                self.file(b"names/" + name, name)
        self.directory(b"names/" + LONG_NAME[:-1] + b"d")
        self.file(b"names/" + LONG_NAME[:-1] + b"d/" + LONG_NAME, b"")

    def permissions(self) -> None:
        """Modes and owners; owners first, since giving a file away clears its setuid bit."""
        self.directory(b"modes")
        for mode in MODES:
            if self._as_root or mode & 0o400:
                os.chmod(self.file(b"modes/file-%04o" % mode, b"mode %o" % mode), mode)
        for mode in (0o700, 0o1777, 0o2755) + ((0o000, 0o511) if self._as_root else ()):
            name = b"modes/directory-%04o" % mode
            self.directory(name)
            self.file(name + b"/inside", b"")
            os.chmod(self._root + b"/" + name, mode)
        if not self._as_root:
            self.left_out.append("owners and unreadable modes: not root")
            return
        self.directory(b"owners")
        for uid, gid in OWNERS:
            path = self.file(b"owners/file-%d-%d" % (uid, gid), b"")
            os.chown(path, uid, gid)
            os.chmod(path, 0o4750)
            link = self._path(b"owners/link-%d-%d" % (uid, gid))
            os.symlink(b"nowhere", link)
            os.chown(link, uid, gid, follow_symlinks=False)
        self.directory(b"owners/directory")
        os.chown(self._root + b"/owners/directory", 1000, 100)

    def attributes(self, large: bool) -> None:
        self.directory(b"attributes")
        plain = self.file(b"attributes/user", b"with attributes")
        self.attempt("user attributes", lambda: self._user_attributes(plain))
        self.directory(b"attributes/directory")
        directory = self._root + b"/attributes/directory"
        self.file(b"attributes/directory/inside", b"")
        self.attempt("attribute of a directory", lambda: os.setxattr(directory, "user.place", b"here"))
        access = self.file(b"attributes/acl", b"with an ACL")
        both = self.file(b"attributes/acl-and-user", b"with both")
        self.attempt("POSIX ACLs", lambda: self._acls(access, both, directory))
        if self._as_root:
            # A capability in the kernel's form, version 2: net_bind_service, effective and permitted.
            capable = self.file(b"attributes/capability", b"#!/bin/true\n")
            value = struct.pack("<5I", 0x0200_0001, 1 << 10, 0, 0, 0)
            self.attempt("capability", lambda: os.setxattr(capable, "security.capability", value))
        if large:
            path = self.file(b"attributes/large", b"over 4 KiB of attributes")
            self.attempt("attributes over 4 KiB", lambda: self._large_attributes(path))

    def _user_attributes(self, path: bytes) -> None:
        os.setxattr(path, "user.text", "größe".encode())
        os.setxattr(path, "user.empty", b"")
        os.setxattr(path, "user.bytes", bytes(range(256)))
        os.setxattr(path, "user." + "n" * 100, self._random.randbytes(1000))

    def _acls(self, access: bytes, both: bytes, directory: bytes) -> None:
        os.setxattr(access, _ACL_ACCESS, posix_acl(1000, 6, 100))
        os.setxattr(both, _ACL_ACCESS, posix_acl(100_000, 1, 4_000_000_000))
        os.setxattr(both, "user.beside", b"an ACL")
        os.setxattr(directory, _ACL_ACCESS, posix_acl(1000, 7, 5, owner=7))
        os.setxattr(directory, _ACL_DEFAULT, posix_acl(1001, 5, 6))

    def _large_attributes(self, path: bytes) -> None:
        for number in range(3):
            os.setxattr(path, f"user.large{number}", self._random.randbytes(2000))

    def extremes(self) -> None:
        self.directory(b"extremes")
        longest = b"N" * 255
        self.directory(b"extremes/" + longest)
        self.file(b"extremes/%s/%s" % (longest, longest), b"names of 255 bytes")
        os.link(self._root + b"/extremes/%s/%s" % (longest, longest), self._path(b"extremes/" + longest[:-1] + b"h"))
        link = b"extremes/longest-target"
        self.attempt("target of 4095 bytes", lambda: self._symlink(link, b"t" * 4095))
        for seconds in _FAR_TIMES_S:
            self.file(b"extremes/time-%d" % seconds, b"")

    def times(self, unit_ns: int) -> None:
        """Sets every mtime last, children before parents; some before 1980, all with a fraction."""
        special_s = [0, 1, 86_400, 315_532_799, 315_532_800, 946_684_800, 2_147_483_647]
        for number, name in enumerate(reversed(self.made)):
            seconds = special_s[number % 50] if number % 50 < len(special_s) else self._random.randrange(1, 1 << 30)
            mtime = seconds * 10**9 + self._random.randrange(0, 10**9) // unit_ns * unit_ns
            far = name.removeprefix(b"extremes/time-")
            if far != name:
                mtime = int(far) * 10**9 + 123_456_000
            os.utime(self._root + b"/" + name, ns=(mtime, mtime), follow_symlinks=False)
