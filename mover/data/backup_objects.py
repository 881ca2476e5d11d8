"""What every format needs of an object that is backed up: its extended attributes, and where its data lies."""

import errno
import os
from collections.abc import Callable, Iterator
from typing import Final

from mover.data.backup_report import BackupReport
from mover.data.dump_format import Inode
from mover.data.report import reason
from mover.data.xattr_blob import Attribute

_ATTRIBUTE_BLOCK: Final = 4096  # ext4's, beside the content's
_NOT_SUPPORTED: Final = frozenset({errno.ENOTSUP, errno.ENOSYS})


_ACLS: Final = frozenset(
    {
        "system.posix_acl_access",
        "system.posix_acl_default",
        "system.nfs4_acl",
        "system.nfs4acl_xdr",
        "system.richacl",
        "system.ntfs_acl",
        "system.cifs_acl",
        "security.NTACL",
    }
)
"""The attributes that hold access control lists, by POSIX, NFSv4, Windows."""


class AttributeReader:
    """Reads extended attributes. A file system without them is asked for each object, which costs next to nothing."""

    def __init__(self, report: BackupReport, *, without_acls: bool = False) -> None:
        self._report = report
        self._left_out = _ACLS if without_acls else frozenset[str]()

    def read(self, target: int | bytes, path: Callable[[], bytes]) -> list[Attribute]:
        """All attributes of an open object, or of the one that a path names (a symbolic link itself).

        What cannot be read is reported under ``path`` and left out.
        """
        follow = isinstance(target, int)
        attributes: list[Attribute] = []
        try:
            for name in os.listxattr(target, follow_symlinks=follow):
                if name in self._left_out:
                    continue
                try:
                    attributes.append((os.fsencode(name), os.getxattr(target, name, follow_symlinks=follow)))
                except OSError as error:
                    if error.errno != errno.ENODATA:  # removed between the two calls
                        self._report.error(path(), f"attribute {name!r} left out: {reason(error)}", error)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                self._report.error(path(), f"extended attributes left out: {reason(error)}", error)
        return attributes


def may_have_holes(inode: Inode, attributes: list[Attribute]) -> bool:
    """Whether the blocks of a file are too few for its content; one of them may hold attributes instead."""
    return inode.blocks * 512 < inode.size + (_ATTRIBUTE_BLOCK if attributes else 0)


def data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges (first byte, one behind the last) of a file's first ``size`` bytes that are no holes, in order."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a hole to the end
            # The file system does not tell: everything is data.
            start, end = offset, size
        if start < size:
            yield start, min(end, size)
        offset = end
