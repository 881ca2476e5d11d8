"""Makes one object of a dump, of any kind: content, holes, attributes, further names; the general path of a recover."""

import errno
import os
import re
import stat
from typing import Final

from mover.data.dump_format import RECORD_BYTES, Header, Inode
from mover.data.recover_plan import Plan, Target
from mover.data.recover_report import RecoverReport
from mover.data.stream_blocks import BlockReader
from mover.data.tree_writer import KeptExisting, TreeWriter, remove
from mover.data.xattr_blob import Attribute

FILE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SYMLINK_BYTES_MAX: Final = 4095
_SIZE_MAX: Final = 2**63 - 1
_SPECIAL: Final = frozenset({stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK})
_DEVICES: Final = frozenset({stat.S_IFCHR, stat.S_IFBLK})
_RUNS: Final = re.compile(rb"\0+|[^\0]+")


class Unfinished:
    """An object whose records are passing.

    Attributes:
        entry: index in the plan of the name it is made under; -1 = it is not made at all.
        others: the entries of its further names.
        made: the name it has until it is finished; another one while an older object keeps its name.
        fd: of a regular file, else -1.
        offset: bytes of content passed, holes included.
        written: end of the data written.
        damaged: a part of the stream was lost while it was read.
    """

    __slots__ = (
        "attributes", "damaged", "entry", "fd", "inode", "inumber", "made", "name", "offset", "others", "target",
        "written",
    )  # fmt: skip

    def __init__(self, inumber: int, inode: Inode, target: Target, name: bytes) -> None:
        self.inumber = inumber
        self.inode = inode
        self.target = target
        self.name = name
        self.made = name
        self.entry = -1
        self.others: list[int] = []
        self.fd = -1
        self.offset = 0
        self.written = 0
        self.damaged = False
        self.attributes: list[Attribute] = []

    @property
    def is_complete(self) -> bool:
        """Whether all of its content has passed."""
        return self.fd < 0 or self.offset >= self.inode.size

    def path(self) -> bytes:
        """Where it goes."""
        return self.target.path(self.name)


class ObjectMaker:
    """Makes objects from their headers and records; errors go to the report."""

    def __init__(self, reader: BlockReader, plan: Plan, writer: TreeWriter, report: RecoverReport) -> None:
        self._reader = reader
        self._plan = plan
        self._writer = writer
        self._report = report

    def _unfinished(self, inumber: int, inode: Inode, entry: int) -> Unfinished:
        return Unfinished(inumber, inode, self._plan.targets[self._plan.places[entry]], self._plan.names[entry])

    def adopt(self, inumber: int, inode: Inode, entry: int, fd: int) -> Unfinished:
        """A regular file that was made and written whole elsewhere."""
        current = self._unfinished(inumber, inode, entry)
        current.entry, current.fd = entry, fd
        current.offset = current.written = inode.size
        return current

    def begin(self, header: Header, entries: range) -> Unfinished | None:
        """Make a wanted object; None when it cannot be made.

        Of its records only a symbolic link's are taken: ``add_data`` must follow for the others.
        """
        inode = header.inode
        kind = stat.S_IFMT(inode.mode)
        target = b""
        if kind == stat.S_IFLNK:
            data = self._reader.read(header.data_records)
            target = data[: inode.size] if 0 < inode.size <= len(data) else b""
            problem = ""
            if not 0 < len(target) <= _SYMLINK_BYTES_MAX or b"\0" in target:
                problem = "a symbolic link without a usable target in the dump"
        elif kind == stat.S_IFREG:
            problem = "" if inode.size <= _SIZE_MAX else f"a size of {inode.size} bytes in the dump"
        else:
            problem = "" if kind in _SPECIAL else f"an object of unknown kind in the dump (mode {inode.mode:o})"
        if header.is_metadata_only:
            problem = "only its attributes are in the dump, not its content: nothing was made"
        if problem:
            for entry in entries:
                self._fail(entry, problem)
            return None
        return self.make_first(header.inumber, inode, entries, target)

    def _fail(self, entry: int, why: str) -> None:
        target = self._plan.targets[self._plan.places[entry]]
        self._report.error(target.path(self._plan.names[entry]), why, target.request)

    def make_first(self, inumber: int, inode: Inode, entries: range, target: bytes) -> Unfinished | None:
        """Make the object under the first of its names that can be made; None, and reported, when none can.

        Args:
            inode: of a kind that can be made.
            target: of a symbolic link, one that can be used.
        """
        for entry in entries:
            current = self._unfinished(inumber, inode, entry)
            flags = _COPY_FLAGS if len(entries) > 1 else FILE_FLAGS
            if self._try_make(current, target, flags):
                current.entry = entry
                current.others = list(range(entry + 1, entries.stop))
                return current
        return None

    def _try_make(self, current: Unfinished, target: bytes, flags: int) -> bool:
        inode = current.inode
        kind = stat.S_IFMT(inode.mode)

        def create(directory: int, name: bytes) -> None:
            if kind == stat.S_IFREG:
                current.fd = os.open(name, flags, inode.mode & 0o700, dir_fd=directory)
            elif kind == stat.S_IFLNK:
                os.symlink(target, name, dir_fd=directory)
            else:
                # Nobody else may open a device before it has its owner.
                mode = kind | (inode.mode & 0o700)
                os.mknod(name, mode, inode.device if kind in _DEVICES else 0, dir_fd=directory)

        try:
            current.made = self._writer.make(self._writer.descriptor(current.target), current.name, create)
        except KeptExisting:
            self._report.kept_existing(current.path(), current.target.request, named=current.target.record is None)
        except PermissionError as error:
            if kind in _DEVICES and error.errno == errno.EPERM:
                self._report.left_out("device nodes", current.path, error)
            else:
                self._report.error(current.path(), error, current.target.request)
        except (OSError, OverflowError) as error:
            self._report.error(current.path(), error, current.target.request)
            self._writer.check_volume(current.target)
        else:
            return True
        return False

    # --- content -------------------------------------------------------------------------------------------

    def add_data(self, current: Unfinished | None, header: Header) -> None:
        """Write the records that a header describes; after a failure they are only stepped over."""
        if current is None or current.fd < 0 or current.damaged:
            # Behind a lost header the place of what follows is not known.
            self._reader.skip(header.data_records)
            return
        addr = header.addr[: header.records]
        if 0 not in addr:
            self._write_run(current, header.records)
            return
        for run in _RUNS.finditer(addr):
            records = run.end() - run.start()
            if addr[run.start()]:
                self._write_run(current, records)
            else:
                current.offset += records * RECORD_BYTES

    def _write_run(self, current: Unfinished, records: int) -> None:
        take, size = self._reader.take, current.inode.size
        while records:
            with take(records) as piece:
                offset, length = current.offset, len(piece)
                current.offset += length  # piece by piece: where the stream ends, the file is seen to be incomplete
                records -= length // RECORD_BYTES
                if offset < size:
                    self.write(current, piece[: size - offset], offset)

    def write(self, current: Unfinished, piece: memoryview, offset: int) -> None:
        """Write content; after a failure, which is reported, nothing is written any more."""
        fd, wanted = current.fd, len(piece)
        if fd < 0:
            return
        try:
            done = os.pwrite(fd, piece, offset)
            while done < wanted:
                done += os.pwrite(fd, piece[done:], offset + done)
        except OSError as error:
            self._give_up(current, error)
        else:
            self._report.file_bytes += wanted
            current.written = offset + wanted

    def _give_up(self, current: Unfinished, error: Exception) -> None:
        """A file cannot be written: it is removed, and none of its names is made."""
        os.close(current.fd)
        current.fd = -1
        current.entry = -1
        self._report.error(current.path(), error, current.target.request)
        self._writer.discard(current.target, current.made)
        self._writer.check_volume(current.target)

    # --- the end -------------------------------------------------------------------------------------------

    def finish(self, current: Unfinished) -> bool:
        """All has passed: set the attributes, give the object its place and its further names.

        Returns:
            whether it has the place of the first of them, whole.
        """
        if current.entry < 0:
            for entry in current.others:
                self._fail(entry, "its content could not be written")
            return False
        try:
            directory = self._writer.descriptor(current.target)
            if current.fd >= 0 and current.written != current.inode.size:
                os.ftruncate(current.fd, current.inode.size)
            self._set_attributes(current, directory)
            if current.damaged and current.made != current.name:
                remove(directory, current.made)
                for entry in [current.entry, *current.others]:
                    self._fail(entry, "a part of it is lost in the stream: what has its name stays")
                return False
            self._writer.place(directory, current.made, current.name)
            self._report.add_entry(current.inode.mode, current.inode.size)
            if current.damaged:
                self._report.error(current.path(), "a part of it is lost in the stream", current.target.request)
        except OSError as error:
            self._report.error(current.path(), error, current.target.request)
            self._writer.discard(current.target, current.made)
            for entry in current.others:
                self._fail(entry, "it could not be made under another of its names")
            self._writer.check_volume(current.target)
            return False
        else:
            for entry in current.others:
                self._further_name(current, entry)
            return not current.damaged
        finally:
            if current.fd >= 0:
                os.close(current.fd)
                current.fd = -1

    def _set_attributes(self, current: Unfinished, directory: int) -> None:
        writer, target = self._writer.attributes, current.target
        if current.fd >= 0:
            writer.set_open(
                current.fd,
                current.inode,
                current.attributes,
                current.path,
                target.request,
                clear_acls=target.inherits,
            )
        else:
            writer.set_named(directory, current.made, current.inode, current.attributes, current.path, target.request)

    def _further_name(self, current: Unfinished, entry: int) -> None:
        other = self._unfinished(current.inumber, current.inode, entry)
        try:
            source = self._writer.descriptor(current.target)
            directory = self._writer.descriptor(other.target)
            # One name in the dump that was asked for twice: two objects and not one with two names.
            if current.inode.nlink == 1 or os.fstat(source).st_dev != os.fstat(directory).st_dev:
                if not self._copy(current, other, source):
                    return
                self._report.add_entry(current.inode.mode, current.inode.size)
            else:
                self._writer.link(source, current.name, directory, other.name)
                self._report.add_links()
            if current.damaged:
                other.target.request.fail(current.target.request.status)
        except KeptExisting:
            self._report.kept_existing(other.path(), other.target.request, named=other.target.record is None)
        except OSError as error:
            self._report.error(other.path(), error, other.target.request)
            self._writer.check_volume(other.target)

    def _copy(self, current: Unfinished, other: Unfinished, source: int) -> bool:
        """Make an object again at another place; False when that failed and was reported."""
        target = os.readlink(current.name, dir_fd=source) if stat.S_ISLNK(current.inode.mode) else b""
        if not self._try_make(other, target, FILE_FLAGS):
            return False
        try:
            if other.fd >= 0:
                _copy_content(current.fd, other.fd, current.inode.size)
            other.attributes = current.attributes
            directory = self._writer.descriptor(other.target)
            self._set_attributes(other, directory)
            self._writer.place(directory, other.made, other.name)
        except OSError:
            self._writer.discard(other.target, other.made)
            raise
        finally:
            if other.fd >= 0:
                os.close(other.fd)
        return True


def _copy_content(source: int, target: int, size: int) -> None:
    """Copy a file, holes included."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # only a hole is left
                raise
            break
        offset = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(target, start, os.SEEK_SET)
        while start < offset:
            sent = os.sendfile(target, source, start, offset - start)
            if not sent:
                break
            start += sent
    os.ftruncate(target, size)
