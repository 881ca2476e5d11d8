"""What is mounted inside a tree that is backed up: whether it is backed up too, and how its inodes are told apart.

A backup stays on the file system of its root. With CROSS_FILE_SYSTEMS=Y it goes on into others that lie on disks, with
A into those in memory and on the network, too; into the kernel's own views never, because nothing in them can be
recovered and reading some of them has effects. Where it does not go on, the directory that something is mounted on is
in the backup as one sees it, and empty.

Source: statfs(2), linux/magic.h.
"""

import ctypes
import functools
import hashlib
import os
from enum import Enum
from typing import Final

from msgspec import Struct

from mover.data.variables import BadVariable

CROSS: Final = b"CROSS_FILE_SYSTEMS"
"""Variable of our own: N, Y or A, default N."""
NO_SUBVOLUME_INODE: Final = 2
"""Inode number of the empty directory that a snapshot of Btrfs has in the place of a subvolume."""
NOT_IN_SNAPSHOT: Final = "is a subvolume, which a snapshot does not hold"
_KEY_BITS: Final = 62


class Kind(Enum):
    """What a file system holds; the value says why it is left out."""

    DISK = "on a disk"
    MEMORY = "in memory"
    NETWORK = "on the network"
    PSEUDO = "the kernel's own"


class Crossing(Enum):
    """Which file systems a backup goes into beside that of its root."""

    NONE = frozenset[Kind]()
    DISKS = frozenset({Kind.DISK})
    ALL = frozenset({Kind.DISK, Kind.MEMORY, Kind.NETWORK})


_CROSSINGS: Final = {
    b"": Crossing.NONE,
    b"n": Crossing.NONE,
    b"f": Crossing.NONE,
    b"y": Crossing.DISKS,
    b"t": Crossing.DISKS,
    b"a": Crossing.ALL,
}


class FileSystemType(Struct, frozen=True):
    """A type as people call it, and what it holds."""

    name: str
    kind: Kind


_DISKS: Final = {
    0xEF53: "ext4",  # also ext2 and ext3
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0xCA451A4E: "bcachefs",
    0xF2F52010: "f2fs",
    0x794C7630: "overlay",
    0x4D44: "vfat",
    0x2011BAB0: "exfat",
    0x7366746E: "ntfs3",
    0x9660: "iso9660",
    0x15013346: "udf",
    0x73717368: "squashfs",
    0x01161970: "gfs2",
    0x7461636F: "ocfs2",
}
_MEMORY: Final = {
    0x01021994: "tmpfs",  # also devtmpfs, which says the same
    0x858458F6: "ramfs",
}
_NETWORK: Final = {
    0x6969: "nfs",
    0x517B: "smb",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x00C36400: "ceph",
    0x01021997: "9p",
    0x65735546: "fuse",  # whatever is behind it: mostly another host
    0x0BD00BD0: "lustre",
    0x5346414F: "afs",
    0x6B414653: "kafs",
    0x73757245: "coda",
    0x19830326: "beegfs",
    0x20030528: "orangefs",
    0x786F4256: "vboxsf",
}
_PSEUDO: Final = {
    0x9FA0: "proc",
    0x62656572: "sysfs",
    0x1CD1: "devpts",
    0x19800202: "mqueue",
    0x27E0EB: "cgroup",
    0x63677270: "cgroup2",
    0x64626720: "debugfs",
    0x74726163: "tracefs",
    0x73636673: "securityfs",
    0xF97CFF8C: "selinuxfs",
    0x43415D53: "smackfs",
    0x5A3C69F0: "apparmorfs",
    0xCAFE4A11: "bpf",
    0x6165676C: "pstore",
    0xDE5E81E4: "efivarfs",
    0x42494E4D: "binfmt_misc",
    0x62656570: "configfs",
    0x65735543: "fusectl",
    0x958458F6: "hugetlbfs",
    0x6E736673: "nsfs",
    0x67596969: "rpc_pipefs",
    0x6E667364: "nfsd",
    0x0187: "autofs",
    0x6C6F6F70: "binder",
    0x07655821: "resctrl",
}
TYPES: Final = {
    magic: FileSystemType(name, kind)
    for kind, names in {
        Kind.DISK: _DISKS,
        Kind.MEMORY: _MEMORY,
        Kind.NETWORK: _NETWORK,
        Kind.PSEUDO: _PSEUDO,
    }.items()
    for magic, name in names.items()
}
"""f_type of statfs(2) -> what it is. A type that is not here is taken for one on a disk."""


class _Statfs(ctypes.Structure):
    """struct statfs: its first word is the type, and no architecture needs more than this."""

    _fields_ = (("type", ctypes.c_long), ("rest", ctypes.c_byte * 248))


_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.fstatfs.argtypes = [ctypes.c_int, ctypes.POINTER(_Statfs)]
_libc.fstatfs.restype = ctypes.c_int


def crossing(value: bytes) -> Crossing:
    """What CROSS_FILE_SYSTEMS asks for.

    Raises:
        BadVariable: none of its values.
    """
    found = _CROSSINGS.get(value[:1].lower())
    if found is None:
        raise BadVariable(f"CROSS_FILE_SYSTEMS is {value!r}: N, Y (disks) or A (also memory and network) is possible")
    return found


def type_of(fd: int) -> FileSystemType:
    """The type of the file system that an open file is on.

    Raises:
        OSError: it cannot be asked.
    """
    found = _Statfs()
    if _libc.fstatfs(fd, ctypes.byref(found)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    magic = found.type & 0xFFFF_FFFF
    return TYPES.get(magic) or FileSystemType(f"type {magic:#x}", Kind.DISK)


def file_system_id(fd: int) -> int:
    """What most file systems are known by on every mount; 0 = this one has none.

    Raises:
        OSError: it cannot be asked.
    """
    return os.statvfs(fd).f_fsid


def stands_for_subvolume(fd: int) -> bool:
    """Whether an open directory is what a snapshot of Btrfs has in the place of a subvolume.

    Raises:
        OSError: it cannot be asked.
    """
    return os.fstat(fd).st_ino == NO_SUBVOLUME_INODE and type_of(fd).name == "btrfs"


class Mounts:
    """The file systems that a scan has come to, and which directory is on which.

    An inode is known again by its number, which is one of its file system's. That of another file system than the
    root's gets a key in its place: the number with a mask of its file system, so large that it is no inode number.
    """

    def __init__(self, wanted: Crossing) -> None:
        self._wanted = wanted.value
        self._root = 0
        self._devices: dict[int, int] = {}  # ordinal -> device, of directories that are not on the root's
        self._masks: dict[int, int] = {}

    def begin(self, device: int) -> None:
        """The root is on this device."""
        self._root = device
        self._masks[device] = 0

    def device(self, ordinal: int) -> int:
        """The device on which a directory's entries are."""
        return self._devices.get(ordinal, self._root)

    def mask(self, ordinal: int) -> int:
        """What the inode numbers of a directory's entries are taken with."""
        return self._masks[self._devices[ordinal]] if ordinal in self._devices else 0

    def enter(self, ordinal: int, parent: int, fd: int, device: int) -> FileSystemType | None:
        """A directory was opened, ``fd``, on ``device``; returns what it is on if that is not its parent's.

        Raises:
            OSError: that cannot be asked.
        """
        above = self.device(parent)
        if device != self._root:
            self._devices[ordinal] = device
        if device == above:
            return None
        kind = type_of(fd)
        if device not in self._masks:
            self._masks[device] = _mask(file_system_id(fd) or device)
        return kind

    def goes_into(self, found: FileSystemType) -> bool:
        """Whether what is mounted is backed up."""
        return found.kind in self._wanted


@functools.cache
def _mask(file_system: int) -> int:
    """Of a file system by its id; where that changes, everything on it is backed up again."""
    digest = hashlib.blake2b(b"%d" % file_system, digest_size=8).digest()
    return int.from_bytes(digest, "big") % (1 << _KEY_BITS) | 1 << _KEY_BITS
