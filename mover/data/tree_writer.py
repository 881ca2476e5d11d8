"""Makes directories and objects for a recover, only ever beneath the destination and by directory descriptor.

Directories are made with mode 0700 and get their attributes last, deepest first. Objects are made under a name that
does not exist yet; where one exists already that is no directory, they are made beside it and renamed over it when they
are whole, so a broken recover does not cost the old file.
"""

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from mover.data.attribute_writer import AttributeWriter
from mover.data.beneath import components, make_beneath, open_beneath, open_directory_at, open_or_allow_at
from mover.data.file_systems import FileSystems
from mover.data.recover_plan import Target
from mover.data.recover_report import ParentNotMade, RecoverReport
from mover.data.tally import PARENT
from mover.data.xattr_blob import ACL_ACCESS, ACL_DEFAULT
from mover.workers.data_messages import Place

DESCRIPTORS_MAX: Final = 256
_KEPT_LEVELS: Final = 64  # of a deep path: the next one asked for is the one above, again and again
MADE: Final = 0o700


class DestinationLost(Exception):  # noqa: N818 - the end of the whole job
    """The destination volume is not there any more."""


class KeptExisting(OSError):  # noqa: N818 - as it was asked for
    """What has the name of an object was kept, since nothing is to be overwritten."""


class TreeWriter:
    """The destination of one recover.

    Args:
        volumes: open directories by their paths; owned from here on.

    Attributes:
        overwrites: what has the name of an object gives way to it, unless it is a directory.
        file_systems: where it has made or found directories.
    """

    def __init__(self, volumes: dict[bytes, int], report: RecoverReport, *, overwrites: bool = True) -> None:
        self.attributes = AttributeWriter(report)
        self.file_systems = FileSystems()
        self._volumes = volumes
        self._report = report
        self._open: OrderedDict[int, int] = OrderedDict()  # target index -> descriptor, oldest use first
        self._temporary = 0
        self.overwrites = overwrites

    def close(self) -> None:
        """Close every descriptor."""
        self.forget()
        for fd in self._volumes.values():
            os.close(fd)
        self._volumes.clear()
        self.file_systems.close()

    def forget(self) -> None:
        """The targets of another plan follow, whose numbers begin anew: close the directories that are kept open."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def scratch(self, volume: bytes) -> int:
        """A file without a name on the destination's file system, to read and write; the descriptor is the caller's.

        Raises:
            OSError: it cannot be made.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = -1
        while fd < 0:
            self._temporary += 1
            name = b".mover-%d-%d" % (os.getpid(), self._temporary)
            try:
                fd = os.open(name, flags, 0o600, dir_fd=self._volumes[volume])
            except FileExistsError:
                continue  # left by a process of the same number: the next name
            os.unlink(name, dir_fd=self._volumes[volume])
        return fd

    def open_destination(self, place: Place) -> int:
        """The directory at a place, which must be there, as a descriptor of the caller's own.

        One that is shut even to its owner, who is this user, is opened to him.

        Raises:
            OSError: it cannot be opened.
        """
        parts = components(place.path)
        holder = open_beneath(self._volumes[place.volume], parts[:-1])
        try:
            return open_or_allow_at(holder, parts[-1])[0] if parts else os.dup(holder)
        finally:
            os.close(holder)

    def inode_of_destination(self, place: Place) -> int:
        """The inode number of what is at a place, on its file system.

        Raises:
            OSError: there is nothing.
        """
        parts = components(place.path)
        holder = open_beneath(self._volumes[place.volume], parts[:-1])
        try:
            status = os.stat(parts[-1], dir_fd=holder, follow_symlinks=False) if parts else os.fstat(holder)
        finally:
            os.close(holder)
        return status.st_ino

    # --- directories ---------------------------------------------------------------------------------------

    def descriptor(self, target: Target) -> int:
        """The open directory; good until 256 others have been asked for.

        Raises:
            OSError: it cannot be opened, or could not be made.
        """
        fd = self._open.get(target.index)
        if fd is not None:
            self._open.move_to_end(target.index)
            return fd
        if target.failed:
            raise ParentNotMade(errno.ENOENT, "its directory could not be made")
        chain: list[Target] = []  # from the target up to below what is open
        above: Target | None = target
        while above is not None and above.index not in self._open:
            chain.append(above)
            above = above.parent
        levels = max(1, min(_KEPT_LEVELS, DESCRIPTORS_MAX // 4)) if len(chain) > _KEPT_LEVELS else 1
        fd = self._open_far(chain[levels - 1 :], above)
        for each in reversed(chain[: levels - 1]):
            fd = self._keep(each, open_directory_at(fd, each.name))
        return fd

    def _open_far(self, chain: list[Target], above: Target | None) -> int:
        """The first of the chain, whose last lies in ``above``, or nowhere but in its volume."""
        first, top = chain[0], chain[-1]
        if above is None:
            root, parts = self._volumes[top.volume], [*top.parts]
            chain = chain[:-1]
        else:
            root, parts = self._open[above.index], []
        parts += [each.name for each in reversed(chain)]
        return self._keep(first, open_beneath(root, parts))

    def _keep(self, target: Target, fd: int) -> int:
        if len(self._open) >= DESCRIPTORS_MAX:
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)
        self._open[target.index] = fd
        return fd

    def make_directories(self, targets: list[Target]) -> None:
        """Make or open every target; one that fails is reported and marked."""
        for target in targets:
            try:
                if target.parent is None:
                    self._make_top(target)
                elif target.parent.failed:
                    # Reported where it began; here it only counts.
                    target.failed = True
                    self._report.count_error(PARENT, target.path())
                    continue
                else:
                    self._make_in(target, self.descriptor(target.parent), target.name)
            except OSError as error:
                target.failed = True
                self._report.error(target.path(), error, target.request)
                self.check_volume(target)
            else:
                self._report.directories += target.record is not None

    def _make_top(self, target: Target) -> None:
        volume = self._volumes[target.volume]
        if target.record is None or not target.parts:
            fd = make_beneath(volume, target.parts)
            self._keep(target, fd)
            self._look_for_inheritance(target, fd, made=False)
            return
        holder = make_beneath(volume, target.parts[:-1])
        try:
            self._make_in(target, holder, target.parts[-1])
        finally:
            os.close(holder)

    def _make_in(self, target: Target, parent: int, name: bytes) -> None:
        made = True
        try:
            os.mkdir(name, MADE, dir_fd=parent)
        except FileExistsError:
            made = False
        try:
            fd = open_directory_at(parent, name) if target.record is None else open_or_allow_at(parent, name)[0]
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                raise FileExistsError(errno.EEXIST, "exists and is no directory") from error
            raise
        self._keep(target, fd)
        self._look_for_inheritance(target, fd, made=made)

    def _look_for_inheritance(self, target: Target, fd: int, *, made: bool) -> None:
        """Clean a directory of ours of what it inherited; note what an older one hands down."""
        status = os.fstat(fd)
        self.file_systems.note(fd, status.st_dev)
        default_acl = hands_down(fd)
        # On a file system mounted with grpid every directory hands its group down, and no bit of it says so.
        target.inherits = status.st_gid != self.attributes.gid
        if made:
            if default_acl or stat.S_IMODE(status.st_mode) != MADE:
                shed_inheritance(fd)
            return
        target.inherits |= default_acl or bool(status.st_mode & stat.S_ISGID)
        target.existed = True
        if not self.overwrites:
            return
        if status.st_uid == self.attributes.uid and status.st_mode & MADE != MADE and target.record is not None:
            os.fchmod(fd, stat.S_IMODE(status.st_mode) | MADE)  # its own mode comes with its attributes

    def finish_directories(self, targets: list[Target]) -> None:
        """Set the attributes of every directory that was made, deepest first."""
        for target in reversed(targets):
            if target.failed or target.record is None or (target.existed and not self.overwrites):
                continue
            record = target.record
            try:
                fd = self.descriptor(target)
            except OSError as error:
                self._report.error(target.path(), error, target.request)
                self.check_volume(target)
                continue
            if target.existed:
                self.attributes.clear(fd, record.attributes, target.path, target.request)
            self.attributes.set_open(fd, record.inode, record.attributes, target.path, target.request, clear_acls=True)

    def check_volume(self, target: Target) -> None:
        """Tell a lost destination from an error of a single object.

        Raises:
            DestinationLost: the volume's directory was removed, or its file system is gone.
        """
        volume = target.place()[0]
        try:
            if os.fstat(self._volumes[volume]).st_nlink:
                return
            why = "was removed"
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
        raise DestinationLost(f"the destination volume {os.fsdecode(volume)} {why}")

    # --- objects -------------------------------------------------------------------------------------------

    def make(self, directory: int, name: bytes, create: Callable[[int, bytes], None]) -> bytes:
        """Make an object by ``create(directory, name)``, which must fail when the name exists.

        Returns:
            the name under which it was made; when it is another one than ``name``, ``place`` must follow.

        Raises:
            OSError: it could not be made; EISDIR when a directory has its name.
            KeptExisting: something has its name and stays.
        """
        try:
            create(directory, name)
        except FileExistsError:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "a directory of this name exists") from None
            if not self.overwrites:
                raise KeptExisting(errno.EEXIST, "it exists and was kept") from None
        else:
            return name
        while True:
            self._temporary += 1
            beside = b".mover-%d-%d" % (os.getpid(), self._temporary)
            try:
                create(directory, beside)
            except FileExistsError:
                continue  # left by a process of the same number: the next name
            return beside

    def discard(self, target: Target, name: bytes) -> None:
        """Remove what was made and is not whole; what cannot be removed is reported."""
        try:
            remove(self.descriptor(target), name)
        except OSError as error:
            self._report.error(target.path(name), error, target.request)

    @staticmethod
    def place(directory: int, made: bytes, name: bytes) -> None:
        """Put what was made beside its name into its place."""
        if made == name:
            return
        try:
            os.rename(made, name, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            # Where it failed; and a rename between two names of one inode does nothing at all and leaves both.
            remove(directory, made)

    def link(self, source_directory: int, source: bytes, directory: int, name: bytes) -> None:
        """A further name of something made before."""

        def create(at: int, new: bytes) -> None:
            os.link(source, new, src_dir_fd=source_directory, dst_dir_fd=at, follow_symlinks=False)

        self.place(directory, self.make(directory, name, create), name)


def remove(directory: int, name: bytes) -> None:
    """Remove a name if it exists."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return


def shed_inheritance(fd: int) -> None:
    """Free a new directory of the ACLs and the mode that it has from the one it is in."""
    for name in (ACL_DEFAULT, ACL_ACCESS):
        if _has_attribute(fd, name):
            os.removexattr(fd, name)
    os.fchmod(fd, MADE)


def hands_down(fd: int) -> bool:
    """Whether new objects in a directory get an ACL from it."""
    return _has_attribute(fd, ACL_DEFAULT)


def _has_attribute(fd: int, name: bytes) -> bool:
    try:
        os.getxattr(fd, name)
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.EOPNOTSUPP}:
            return False
        raise
    return True
