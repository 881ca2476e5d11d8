"""Any object of a plan that is no directory, whatever its size and shape, and what becomes of one that cannot be read.

The general way of :mod:`mover.data.backup_files`: one object at a time, with all that there is to report of it.
"""

import errno
import functools
import os
from collections.abc import Iterator
from typing import Final

from mover.data.backup_format import Job, ObjectWriter, Written
from mover.data.backup_stream import BackupStream
from mover.data.beneath import open_beneath
from mover.data.dump_format import DT_FILE, DT_SYMLINK, FIRST_INUMBER, Inode
from mover.data.open_directories import OpenDirectories
from mover.data.plan import Plan, inode_of
from mover.data.report import reason
from mover.data.second_reader import OPEN, OPEN_QUIET

_LARGE_BYTES: Final = 4 << 20  # from here on a file is named in the ring's note


class GeneralWay:
    """Puts one object after the other into the stream.

    Attributes:
        elements: history of what was written and not told of yet: nodes, or files where it is by path.
    """

    def __init__(
        self,
        job: Job,
        plan: Plan,
        directories: OpenDirectories,
        stream: BackupStream,
        objects: ObjectWriter,
    ) -> None:
        self._plan = plan
        self._directories = directories
        self._root = job.root
        self._stream = stream
        self._objects = objects
        self._attributes = job.attributes
        self._history = history = job.history
        self._report = job.report
        self._producer = job.data
        self.elements: list[bytes] = []
        self._listed: tuple[int, list[bytes]] = (-1, [])  # the directory in which another name was looked for last
        # What is said of an inode again at each of its other names, by the format or by history.
        self._names_links = objects.names_links or (history is not None and history.by_path)
        self._written: dict[int, Written] = {}
        self._date = job.date
        self._keep_names: set[int] = set()  # inodes that have further names here, whatever they say of themselves
        self._lost: set[int] = set()  # inodes that have further names, perhaps, and are not in the stream

    def tell(self) -> None:
        """Send the history of what was written since the last time."""
        if self._history is not None and self.elements:
            self._history.add_objects(self.elements)
            self.elements.clear()

    def not_as_expected(self, fd: int, ordinal: int, name: bytes, content: memoryview, got: int) -> None:
        """A file that did not give the bytes that its size promised: fill with zeros and say so.

        Raises:
            OSError: it cannot be read.
        """
        if got > len(content):
            self._grew(ordinal, name)
            return
        while got < len(content):
            done = os.preadv(fd, [content[got:]], got)
            if not done:
                self._shrank(ordinal, name, len(content) - got)
                content[got:] = bytes(len(content) - got)
                return
            got += done

    def _grew(self, ordinal: int, name: bytes) -> None:
        self._report.warning(self._plan.path(ordinal, name), "grew while it was read: cut at the size it had")

    def _shrank(self, ordinal: int, name: bytes, missing: int) -> None:
        text = f"shrank while it was read: its last {missing} bytes are zeros"
        self._report.damaged(self._plan.path(ordinal, name), text)

    def regular_by_name(self, ordinal: int, directory: int, name: bytes, inumber: int, flags: int) -> None:
        """A regular file that is not open yet."""
        try:
            fd = os.open(name, flags, dir_fd=directory)
        except OSError as error:
            self.lose(ordinal, name, inumber, DT_FILE, error)
            return
        try:
            self.regular(ordinal, name, inumber, fd)
        finally:
            os.close(fd)

    def first_name(self, ordinal: int, directory: int, name: bytes, inumber: int) -> None:
        """A regular file that is not open yet, and of which further names are told: what it was at the scan.

        Another file may have got its name since, and all the names would be given that one's content.
        """
        try:
            fd = _open(name, directory)
        except OSError as error:
            self.lose(ordinal, name, inumber, DT_FILE, error)
            return
        try:
            other = self._first_as_scanned(ordinal, name, inumber, fd)
            if other >= 0:
                os.close(fd)
                fd = other
            self.regular(ordinal, name, inumber, fd)
        finally:
            os.close(fd)

    def _first_as_scanned(self, ordinal: int, name: bytes, inumber: int, opened: int) -> int:
        """A descriptor of the file whose first name another one has since the scan; -1 = none has, or it is gone."""
        try:
            stat = os.fstat(opened)
        except OSError:
            return -1  # asked again, and reported
        if stat.st_nlink == 1:
            self._keep_names.add(inumber)
        elif stat.st_ctime < self._date:
            return -1
        plan, path = self._plan, self._plan.path(ordinal, name)
        first = plan.links.first(self._other_names[inumber][0])
        expected = plan.inodes[first - FIRST_INUMBER] ^ plan.mask(ordinal)
        if stat.st_ino == expected:
            return -1
        differs = False
        for parent, other_name in self._places_of_others(inumber):
            try:
                fd = _open(other_name, parent)
            except OSError:
                continue  # it is gone, too
            try:
                found = os.fstat(fd)
            except OSError:
                os.close(fd)
                continue
            if (found.st_ino, found.st_dev, found.st_mode >> 12) == (expected, stat.st_dev, DT_FILE):
                self._report.warning(path, "another file has its name since the scan: read by another of its names")
                self._keep_names.add(inumber)
                plan.unsound.add(inumber)
                return fd
            os.close(fd)
            differs = differs or found.st_ino != stat.st_ino
        if differs:
            self._report.damaged(path, "its names are different files since the scan: all come back as this one")
            plan.unsound.add(inumber)
        return -1

    def regular(self, ordinal: int, name: bytes, inumber: int, fd: int) -> None:
        """An open regular file of any size and shape."""
        report, stream = self._report, self._stream
        path = functools.partial(self._plan.path, ordinal, name)
        errors = report.errors
        try:
            stat = os.fstat(fd)
        except OSError as error:
            self._leave_out(path(), inumber, reason(error), error)
            return
        if stat.st_mode >> 12 != DT_FILE:
            self._leave_out(path(), inumber, "it is not the regular file any more that it was at the scan")
            return
        inode = inode_of(stat)
        if inumber in self._keep_names:
            inode = inode._replace(nlink=max(2, inode.nlink))
        attributes = self._attributes.read(fd, path)
        if inode.size >= _LARGE_BYTES:
            self._producer.note(path())
            self.tell()
        offset = stream.offset
        self._objects.regular(fd, inumber, path, inode, attributes)
        if stream.read_error is not None:
            text = f"could not be read: {stream.missing_bytes} bytes are zeros: {reason(stream.read_error)}"
            report.error(path(), text, stream.read_error)
        elif stream.missing_bytes:
            self._shrank(ordinal, name, stream.missing_bytes)
        else:
            self._compare_size(fd, ordinal, name, inode.size)
        report.file_bytes += inode.size
        if report.errors != errors:
            self._plan.unsound.add(inumber)
        self._done(ordinal, name, inumber, inode, offset)

    def _compare_size(self, fd: int, ordinal: int, name: bytes, size: int) -> None:
        """Tell of a file that has another size now; where the end of a sparse one went, there was a hole to read."""
        try:
            now = os.fstat(fd).st_size
        except OSError as error:
            self._report.damaged(self._plan.path(ordinal, name), f"may have changed while it was read: {reason(error)}")
            return
        if now > size:
            self._grew(ordinal, name)
        elif now < size:
            self._shrank(ordinal, name, size - now)

    def special(self, ordinal: int, directory: int, name: bytes, inumber: int, kind: int) -> None:
        """A symbolic link, device, fifo or socket."""
        try:
            written = self._special_by_name(ordinal, name, inumber, kind, directory, name)
        except OSError as error:
            self.lose(ordinal, name, inumber, kind, error)
        else:
            if not written:
                path = self._plan.path(ordinal, name)
                self._leave_out(path, inumber, "its type is not what it was at the scan")

    def _special_by_name(
        self, ordinal: int, name: bytes, inumber: int, kind: int, directory: int, read_by: bytes
    ) -> bool:
        """As _special, read by any of its names; False: that has another type, and nothing is written.

        Raises:
            OSError: it cannot be looked at, and nothing is written.
        """
        stat = os.stat(read_by, dir_fd=directory, follow_symlinks=False)
        if stat.st_mode >> 12 != kind:
            return False
        target = os.readlink(read_by, dir_fd=directory) if kind == DT_SYMLINK else b""
        inode = inode_of(stat)._replace(size=len(target))
        offset = self._stream.offset
        # Opening these for their attributes would act on them, so their name stands below the directory's descriptor.
        place = b"/proc/self/fd/%d/%s" % (directory, read_by)
        path = functools.partial(self._plan.path, ordinal, name)
        errors = self._report.errors
        attributes = self._attributes.read(place, path)
        if self._report.errors != errors:
            self._plan.unsound.add(inumber)
        self._objects.special(inumber, path, inode, target, attributes)
        self._done(ordinal, name, inumber, inode, offset)
        return True

    def prefix(self, ordinal: int) -> bytes:
        """What stands before a name in history by path."""
        path = self._plan.path(ordinal)
        return b"/" + path + b"/" if path else b"/"

    def _done(self, ordinal: int, name: bytes, inumber: int, inode: Inode, offset: int) -> None:
        """Count an inode that is in the stream, and tell of it."""
        self._report.add_entry(inode.mode, inode.size)
        history = self._history
        if history is not None:
            path = self.prefix(ordinal) + name if history.by_path else b""
            self.elements.append(history.object_entry(path, inumber, inode, offset))
        if self._names_links and self._plan.links and (inode.nlink > 1 or inumber in self._keep_names):
            self._written[inumber] = Written(inumber, self._plan.path(ordinal, name), inode, offset)

    def other_name(self, ordinal: int, name: bytes, inumber: int) -> None:
        """A further name of an inode that is in the stream already, or could not be read under any name."""
        first = self._written.get(inumber)
        if first is not None if self._objects.names_links else inumber not in self._lost:
            self._report.tally.links()
        if first is None:
            if self._objects.names_links and inumber not in self._lost and self._is_held(inumber):
                why = "left out: its first name was the only one when it was read"
                self._report.error(self._plan.path(ordinal, name), why)
                self._plan.unsound.add(inumber)
            return
        self._objects.link(self._plan.path(ordinal, name), first)
        history = self._history
        if history is not None and history.by_path:
            path = self.prefix(ordinal) + name
            self.elements.append(history.object_entry(path, first.inumber, first.inode, first.offset))

    def _is_held(self, inumber: int) -> bool:
        """Whether the format has a place for an inode of several names."""
        plan = self._plan
        first = plan.links.first(self._other_names[inumber][0])
        ordinal = plan.directory_of(first)
        return plan.types[ordinal][first - plan.firsts[ordinal]] not in self._objects.not_held

    # --- what cannot be read ---------------------------------------------------------------------------------

    @functools.cached_property
    def _other_names(self) -> dict[int, list[int]]:
        """Number of an inode -> keys of its other names; made only when something is lost."""
        found: dict[int, list[int]] = {}
        for other, first in self._plan.links.items():
            found.setdefault(self._plan.inumber_of(first), []).append(other)
        return found

    def _places_of_others(self, inumber: int) -> Iterator[tuple[int, bytes]]:
        """Descriptor of the directory, good until the next one, and name of each other name of an inode."""
        plan = self._plan
        for other in self._other_names.get(inumber, []):
            parent = plan.directory_of(other)
            if self._listed[0] != parent:
                self._listed = parent, plan.entry_names(parent)
            try:
                directory = open_beneath(self._root, plan.components(parent))
            except OSError:
                continue  # what was in it is gone from there
            try:
                yield directory, self._listed[1][other - plan.firsts[parent]]
            finally:
                os.close(directory)

    def lose(self, ordinal: int, name: bytes, inumber: int, kind: int, error: OSError) -> None:
        """An inode that cannot be read by its first name: waited for, read by another one, or left out."""
        path = self._plan.path(ordinal, name)
        if error.errno == errno.EAGAIN:
            try:
                fd = _open_leased(name, self._directories.open(ordinal))
            except OSError as second:
                error = second
            else:
                try:
                    self.regular(ordinal, name, inumber, fd)
                finally:
                    os.close(fd)
                return
        for directory, other_name in self._places_of_others(inumber):
            fd = -1
            self._keep_names.add(inumber)
            try:
                if kind == DT_FILE:
                    fd = os.open(other_name, OPEN, dir_fd=directory)
                elif not self._special_by_name(ordinal, name, inumber, kind, directory, other_name):
                    continue
            except OSError:
                continue  # the next name may do; what counts is reported in the end
            self._report.warning(path, f"read by another of its names: {reason(error)}")
            self._plan.unsound.add(inumber)  # that name, too, can be another inode's by now
            if fd >= 0:
                try:
                    self.regular(ordinal, name, inumber, fd)
                finally:
                    os.close(fd)
            return
        self._leave_out(path, inumber, reason(error), error)

    def _leave_out(self, path: bytes, inumber: int, why: str, error: OSError | None = None) -> None:
        self._report.error(path, f"left out: {why}", error)
        if self._plan.links:
            self._lost.add(inumber)
        self._objects.leave_out(inumber)
        self._plan.unsound.add(inumber)


def _open(name: bytes, directory: int) -> int:
    """A file to be read, its access time left alone where that may be. Raises OSError."""
    try:
        return os.open(name, OPEN_QUIET, dir_fd=directory)
    except PermissionError:  # not the owner: the access time changes, as tar's would
        return os.open(name, OPEN, dir_fd=directory)


def _open_leased(name: bytes, directory: int) -> int:
    """Open a file on which a file server's client holds a lease, and wait until it gives it back.

    The kernel takes the lease away after /proc/sys/fs/lease-break-time. What was found by its name is pinned first:
    nothing but a regular file is waited for.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    pinned = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if os.fstat(pinned).st_mode >> 12 != DT_FILE:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return os.open(b"/proc/self/fd/%d" % pinned, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(pinned)
