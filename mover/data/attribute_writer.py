"""Sets owner, extended attributes, ACLs, mode and times of what a recover has made, in the order that keeps them.

chown clears setuid bits and capabilities, an ACL changes the mode's group bits: so owner, attributes, mode, times.
What this user may not set is counted and named once a kind; a file that did not get its owner gets no setuid bit.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence
from typing import Final

from mover.data.dump_format import Inode
from mover.data.recover_report import RecoverReport, Request
from mover.data.xattr_blob import ACL_ACCESS, ACL_DEFAULT, Attribute

_SET_ID_BITS: Final = 0o6000
_PERMISSION_BITS: Final = 0o7777
_OTHERS_BITS: Final = 0o077
OWNER_BITS: Final = 0o700  # the mode of a file until it has its owner
NOBODY: Final = 0xFFFF_FFFF
"""A user or group that chown cannot set."""
# What a user without privileges, or a file system without the feature, answers.
_NOT_FOR_US: Final = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL, errno.ENODATA})
Path = Callable[[], bytes]  # asked for when there is something to tell
_OF_PEOPLE: Final = (b"user.", b"trusted.")  # not those that a security module sets by itself
_ACLS: Final = (ACL_ACCESS, ACL_DEFAULT)


def give_away(fd: int, uid: int, gid: int, mode: int) -> None:
    """Give a file that was made for its owner alone its owner and its mode, without set-id bits.

    Raises:
        OSError: one of them could not be set.
    """
    os.fchown(fd, uid, gid)
    if mode & _OTHERS_BITS:
        os.fchmod(fd, mode)


class AttributeWriter:
    """Sets the attributes of single objects; errors go to the report."""

    def __init__(self, report: RecoverReport) -> None:
        self.uid = os.geteuid()
        self.gid = os.getegid()
        self._report = report
        self._may_give_away = True

    @property
    def gives_away(self) -> bool:
        """Whether this user may make files for others, as far as one knows."""
        return not self.uid and self._may_give_away

    def set_open(
        self,
        fd: int,
        inode: Inode,
        attributes: Sequence[Attribute],
        path: Path,
        request: Request,
        *,
        clear_acls: bool,
    ) -> None:
        """Set everything of an open file or directory.

        Args:
            clear_acls: remove ACLs that it has, from before or inherited, and the dump does not name.
        """
        owned = self._chown(fd, inode, path)
        if clear_acls:
            wanted = {name for name, _ in attributes}
            for name in _ACLS:
                if name not in wanted:
                    self._remove(fd, name, path, request)
        if attributes and self.uid and not inode.mode & stat.S_IWUSR:
            # user.* wants write permission; the mode is set last. A user who may not do this may not set attributes.
            with contextlib.suppress(PermissionError):
                os.fchmod(fd, stat.S_IRUSR | stat.S_IWUSR)
        for name, value in attributes:
            try:
                os.setxattr(fd, name, value)
            except (OSError, ValueError) as error:
                self._not_set(name, path, error, request)
        try:
            mode = inode.mode & _PERMISSION_BITS
            os.fchmod(fd, mode if owned else mode & ~_SET_ID_BITS)
            os.utime(fd, ns=(inode.atime_ns, inode.mtime_ns))
        except (OSError, OverflowError) as error:
            self._failed("mode and times", path, error, request)

    def clear(self, fd: int, wanted: Sequence[Attribute], path: Path, request: Request) -> None:
        """Remove extended attributes that people set, and the dump does not name, from a directory that was there."""
        kept = {name for name, _ in wanted}
        try:
            names = [os.fsencode(name) for name in os.listxattr(fd)]
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                self._failed("removal of extended attributes", path, error, request)
            return
        for name in names:
            if name.startswith(_OF_PEOPLE) and name not in kept:
                self._remove(fd, name, path, request)

    def set_named(
        self, directory: int, name: bytes, inode: Inode, attributes: Sequence[Attribute], path: Path, request: Request
    ) -> None:
        """Set everything of a symbolic link, device, fifo or socket, which cannot be opened.

        All but the link may have inherited an ACL, which goes if the dump does not name one.
        """
        owned = self._chown(name, inode, path, directory=directory)
        through = b"/proc/self/fd/%d/%s" % (directory, name)
        if not stat.S_ISLNK(inode.mode) and all(attribute != ACL_ACCESS for attribute, _ in attributes):
            self._remove(through, ACL_ACCESS, path, request)
        for attribute, value in attributes:
            try:
                os.setxattr(through, attribute, value, follow_symlinks=False)
            except (OSError, ValueError) as error:
                self._not_set(attribute, path, error, request)
        try:
            if inode.mode & 0o170000 != 0o120000:
                self._chmod_named(directory, name, inode.mode & (_PERMISSION_BITS if owned else 0o1777))
            os.utime(name, ns=(inode.atime_ns, inode.mtime_ns), dir_fd=directory, follow_symlinks=False)
        except (OSError, OverflowError) as error:
            self._failed("mode and times", path, error, request)

    @staticmethod
    def _chmod_named(directory: int, name: bytes, mode: int) -> None:
        # An O_PATH descriptor pins the object, so that a symbolic link put in its place is not followed.
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            status = os.fstat(fd)
            if status.st_mode & 0o170000 != 0o120000 and status.st_mode & _PERMISSION_BITS != mode:
                os.chmod(b"/proc/self/fd/%d" % fd, mode)
        finally:
            os.close(fd)

    def _chown(self, what: int | bytes, inode: Inode, path: Path, *, directory: int | None = None) -> bool:
        """Set the owner; whether the object has it now."""
        if NOBODY in {inode.uid, inode.gid}:  # to the kernel: leave it as it is
            self._report.left_out("owner", path, OSError(errno.EINVAL, os.strerror(errno.EINVAL)))
            return False
        if inode.uid != self.uid and not self._may_give_away:
            self._report.left_out("owner", path, PermissionError(errno.EPERM, os.strerror(errno.EPERM)))
            return False
        try:
            if isinstance(what, int):
                os.fchown(what, inode.uid, inode.gid)
            else:
                os.chown(what, inode.uid, inode.gid, dir_fd=directory, follow_symlinks=False)
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPERM and inode.uid != self.uid:
                self._may_give_away = False
            self._report.left_out("owner", path, error)
            return False
        return True

    def _remove(self, what: int | bytes, name: bytes, path: Path, request: Request) -> None:
        try:
            os.removexattr(what, name, follow_symlinks=isinstance(what, int))
        except OSError as error:
            # No ACL, none possible here, or no directory: then there is nothing to remove.
            if error.errno not in {errno.ENODATA, errno.EOPNOTSUPP, errno.EINVAL, errno.EACCES}:
                self._failed("removal of extended attributes", path, error, request)

    def _not_set(self, name: bytes, path: Path, error: Exception, request: Request) -> None:
        kind = name if name in _ACLS else name.partition(b".")[0] + b".*"
        self._failed("extended attributes " + os.fsdecode(kind), path, error, request)

    def _failed(self, what: str, path: Path, error: Exception, request: Request) -> None:
        if isinstance(error, OSError) and error.errno in _NOT_FOR_US:
            self._report.left_out(what, path, error)
        else:
            self._report.error(path(), error, request)
