"""Every object of a plan that is no directory, in the order of the format: the part of a backup that reads files.

The loop over small regular files is the one that decides how fast a backup is, so it does nothing twice: a file is
opened by its directory's descriptor, asked once for metadata and once for attribute names, and read straight behind
the place of its header, which the format packs last. Everything unusual goes the general way.

Source: performance.md "Recommended backup path".
"""

import errno
import functools
import os
from collections.abc import Iterator
from typing import Final

from mover.data.backup_format import Job, ObjectWriter, Written
from mover.data.backup_history import FILE_TYPES
from mover.data.backup_stream import BackupStream
from mover.data.beneath import open_beneath
from mover.data.codes import LogType
from mover.data.dump_format import DT_DIRECTORY, DT_FILE, DT_SYMLINK, Inode
from mover.data.plan import OTHER_NAME, Plan, Run, inode_of
from mover.data.report import reason
from mover.data.scan import OpenDirectories
from mover.data.second_reader import (
    OPEN,
    OPEN_QUIET,
    PADDING,
    RECORD,
    Ready,
    SecondReader,
    batches,
    count_batches,
    has_files,
    is_worth_it,
)

_LARGE_BYTES: Final = 4 << 20  # from here on a file is named in the ring's note
_REGULAR: Final = FILE_TYPES[0o100000]


class FilePhase:
    """Reads all non-directories of a plan and gives them to the writer of a format."""

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
        self._private_fd = job.private_fd
        self._elements: list[bytes] = []  # history of the batch under way: nodes, or files where it is by path
        self._listed: tuple[int, list[bytes]] = (-1, [])  # the directory in which another name was looked for last
        # What is said of an inode again at each of its other names, by the format or by history.
        self._names_links = objects.names_links or (history is not None and history.by_path)
        self._written: dict[int, Written] = {}
        self._read_by_another_name: set[int] = set()
        self._lost: set[int] = set()  # inodes that have further names, perhaps, and are not in the stream
        self._replaced_ordinals: set[int] = set()

    def run(self) -> None:
        runs = self._plan.ascending_runs() if self._objects.ascending else self._plan.runs()
        second = self._second_reader(runs)
        try:
            self._run(runs, second)
        finally:
            if second is not None:
                second.close()

    def _second_reader(self, runs: Iterator[Run]) -> SecondReader | None:
        if not is_worth_it(self._plan):
            return None
        try:
            check, private_fd = self._producer.check, self._private_fd
            return SecondReader(self._plan, runs, self._root, self._objects, check, private_fd)
        except OSError as error:
            self._report.say(LogType.WARNING, f"without a second reader: {reason(error)}")
            return None

    def _run(self, runs: Iterator[Run], second: SecondReader | None) -> None:
        plan, producer = self._plan, self._producer
        number = 0  # of the next batch
        for run in runs:
            ordinal = run.ordinal
            self._objects.directory(ordinal)
            if not has_files(run):
                continue
            producer.note(b"/".join(plan.components(ordinal, 256)))
            try:
                directory = self._directories.open(ordinal)
                if not self._directories.is_as_scanned(ordinal, directory):
                    self._replaced(run)
            except OSError as error:
                self._lose_all(run, error)
                number += count_batches(run)
                continue
            for batch in batches(run):
                ready = second.take(number) if second is not None else None
                number += 1
                if ready is not None:
                    self._ready_batch(batch, directory, ready)
                else:
                    self._batch(batch, directory)
                self._tell()
                self._report.publish()

    def _replaced(self, run: Run) -> None:
        """A directory has got the name of another: what is read now are not the inodes that have these numbers.

        Those may keep their times of change wherever they are, so only the table makes a later level take them.
        """
        if run.ordinal not in self._replaced_ordinals:
            self._replaced_ordinals.add(run.ordinal)
            text = "replaced by another directory since the scan: what that holds by the same names is in the backup"
            self._report.warning(self._plan.path(run.ordinal), text)
        self._plan.unsound.update(
            inumber for kind, inumber in zip(run.types, run.inumbers, strict=True) if kind != DT_DIRECTORY
        )

    def _tell(self) -> None:
        if self._history is not None and self._elements:
            self._history.add_objects(self._elements)
            self._elements.clear()

    def _batch(self, run: Run, directory: int) -> None:
        """Some entries of one directory."""
        ordinal, names, types, inumbers = run
        stream, report, objects = self._stream, self._report, self._objects
        history, tell = self._history, self._elements.append
        by_path = history is not None and history.by_path
        node_entry = history.encoder.node_entry if history is not None and not by_path else None
        file_entry = history.encoder.file_entry if history is not None and by_path else None
        prefix = self._prefix(ordinal) if by_path else b""
        open_file, fstat, listxattr, readv, close = os.open, os.fstat, os.listxattr, os.readv, os.close
        padding, flags = PADDING, OPEN_QUIET
        pack, name_max = objects.packer(ordinal)
        head, below, small_max = objects.head_bytes, objects.unit_bytes - 1, objects.small_bytes_max

        slot, position, slot_start = stream.slot, stream.position, stream.slot_start
        slot_end = len(slot)
        atime = mtime = ctime = 0
        sizes: list[int] = []  # of the files that were packed here
        count = sizes.append
        fd = -1
        try:
            for name, kind, inumber in zip(names, types, inumbers, strict=True):
                if kind == DT_DIRECTORY:
                    continue
                if kind == DT_FILE:
                    try:
                        fd = open_file(name, flags, dir_fd=directory)
                        stat = fstat(fd)
                        # By index the times are whole seconds; typeshed gives them the attributes' type.
                        mode, _, _, nlink, uid, gid, size, atime, mtime, ctime = stat  # type: ignore[assignment]
                        start = position + head
                        end = start + (size + below & ~below)
                        blocks = stat.st_blocks
                        if (
                            mode >> 12 == DT_FILE
                            and nlink == 1
                            and end < slot_end
                            and size <= small_max
                            and len(name) <= name_max
                            and blocks << 9 >= size
                            and not (atime | mtime | ctime) >> 32
                            and not listxattr(fd)
                        ):
                            if size:
                                # One byte more than expected, over the place of the next header, shows growth.
                                got = readv(fd, [slot[start : start + size + 1]])
                                if got != size:
                                    self._not_as_expected(fd, ordinal, name, slot[start : start + size], got)
                                tail = end - start - size
                                if tail:
                                    slot[start + size : end] = padding[tail]
                            offset = slot_start + position
                            pack(
                                slot, position, offset, inumber, name,
                                mode, uid, gid, size, blocks, atime, mtime, ctime,
                                stat.st_atime_ns, stat.st_mtime_ns, stat.st_ctime_ns,
                            )  # fmt: skip
                            close(fd)
                            fd = -1
                            position = end
                            count(size)
                            if node_entry is not None:
                                tell(
                                    node_entry(inumber, _REGULAR, mtime, atime, ctime, uid, gid, mode, size, 1, offset)
                                )
                            elif file_entry is not None:
                                tell(
                                    file_entry(
                                        prefix + name,
                                        *(inumber, _REGULAR, mtime, atime, ctime, uid, gid, mode, size, 1, offset),
                                    )
                                )
                            continue
                    except OSError as error:
                        if fd < 0 and error.errno == errno.EPERM and flags != OPEN:
                            flags = OPEN  # not the owner: the access time changes, as tar's would
                        elif fd < 0 or error.errno == errno.EIO:
                            if fd >= 0:
                                close(fd)
                                fd = -1
                            stream.position = position
                            self._lose(ordinal, name, inumber, kind, error)
                            slot, position, slot_start = stream.slot, stream.position, stream.slot_start
                            slot_end = len(slot)
                            continue
                        # What else can fail is asked again, and told apart, in the general way.
                stream.position = position
                if fd >= 0:
                    self._regular(ordinal, name, inumber, fd)
                    close(fd)
                    fd = -1
                elif kind == OTHER_NAME:
                    self._other_name(ordinal, name, inumber)
                elif kind in objects.not_held:
                    report.omitted(self._plan.path(ordinal, name), objects.not_held[kind])
                elif kind == DT_FILE:
                    self._regular_by_name(ordinal, directory, name, inumber, flags)
                else:
                    self._special(ordinal, directory, name, inumber, kind)
                slot, position, slot_start = stream.slot, stream.position, stream.slot_start
                slot_end = len(slot)
        finally:
            if fd >= 0:
                close(fd)
            stream.position = position
            report.add_files(sizes)

    def _ready_batch(self, run: Run, directory: int, ready: Ready) -> None:
        """As _batch, of entries of which the second reader has read some."""
        ordinal, names, _, inumbers = run
        stream, report, objects = self._stream, self._report, self._objects
        history, tell = self._history, self._elements.append
        by_path = history is not None and history.by_path
        node_entry = history.encoder.node_entry if history is not None and not by_path else None
        file_entry = history.encoder.file_entry if history is not None and by_path else None
        prefix = self._prefix(ordinal) if by_path else b""
        pack, _ = objects.packer(ordinal)
        head, below, area = objects.head_bytes, objects.unit_bytes - 1, ready.area
        slot, position, slot_start = stream.slot, stream.position, stream.slot_start
        slot_end = len(slot)
        sizes: list[int] = []
        done = 0  # entries before this one
        try:
            for (
                index, place, mode, uid, gid, size, atime, mtime, ctime, blocks, atime_ns, mtime_ns, ctime_ns,
            ) in RECORD.iter_unpack(ready.records):  # fmt: skip
                if done != index:
                    stream.position = position
                    self._batch(_part(run, done, index), directory)
                    slot, position, slot_start = stream.slot, stream.position, stream.slot_start
                done = index + 1
                start = position + head
                padded = size + below & ~below
                end = start + padded
                if end >= slot_end:  # read again, into two slots
                    stream.position = position
                    self._batch(_part(run, index, done), directory)
                    slot, position, slot_start = stream.slot, stream.position, stream.slot_start
                    continue
                slot[start:end] = area[place : place + padded]
                offset = slot_start + position
                inumber = inumbers[index]
                pack(
                    slot, position, offset, inumber, names[index],
                    mode, uid, gid, size, blocks, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns,
                )  # fmt: skip
                position = end
                sizes.append(size)
                if node_entry is not None:
                    tell(node_entry(inumber, _REGULAR, mtime, atime, ctime, uid, gid, mode, size, 1, offset))
                elif file_entry is not None:
                    path = prefix + names[index]
                    tell(file_entry(path, inumber, _REGULAR, mtime, atime, ctime, uid, gid, mode, size, 1, offset))
        finally:
            report.add_files(sizes)
        stream.position = position
        if done < len(names):
            self._batch(_part(run, done, len(names)), directory)

    def _not_as_expected(self, fd: int, ordinal: int, name: bytes, content: memoryview, got: int) -> None:
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

    # --- the general way -------------------------------------------------------------------------------------

    def _regular_by_name(self, ordinal: int, directory: int, name: bytes, inumber: int, flags: int) -> None:
        try:
            fd = os.open(name, flags, dir_fd=directory)
        except OSError as error:
            self._lose(ordinal, name, inumber, DT_FILE, error)
            return
        try:
            self._regular(ordinal, name, inumber, fd)
        finally:
            os.close(fd)

    def _regular(self, ordinal: int, name: bytes, inumber: int, fd: int) -> None:
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
        attributes = self._attributes.read(fd, path)
        if inode.size >= _LARGE_BYTES:
            self._producer.note(path())
            self._tell()
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

    def _special(self, ordinal: int, directory: int, name: bytes, inumber: int, kind: int) -> None:
        """A symbolic link, device, fifo or socket."""
        try:
            written = self._special_by_name(ordinal, name, inumber, kind, directory, name)
        except OSError as error:
            self._lose(ordinal, name, inumber, kind, error)
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

    def _prefix(self, ordinal: int) -> bytes:
        """What stands before a name in history by path."""
        path = self._plan.path(ordinal)
        return b"/" + path + b"/" if path else b"/"

    def _done(self, ordinal: int, name: bytes, inumber: int, inode: Inode, offset: int) -> None:
        """Count an inode that is in the stream, and tell of it."""
        self._report.add_entry(inode.mode, inode.size)
        history = self._history
        if history is not None:
            path = self._prefix(ordinal) + name if history.by_path else b""
            self._elements.append(history.object_entry(path, inumber, inode, offset))
        if self._names_links and self._plan.links and (inode.nlink > 1 or inumber in self._read_by_another_name):
            self._written[inumber] = Written(inumber, self._plan.path(ordinal, name), inode, offset)

    def _other_name(self, ordinal: int, name: bytes, inumber: int) -> None:
        """A further name of an inode that is in the stream already, or could not be read under any name."""
        first = self._written.get(inumber)
        if first is not None if self._objects.names_links else inumber not in self._lost:
            self._report.tally.links()
        if first is None:
            return
        self._objects.link(self._plan.path(ordinal, name), first)
        history = self._history
        if history is not None and history.by_path:
            path = self._prefix(ordinal) + name
            self._elements.append(history.object_entry(path, first.inumber, first.inode, first.offset))

    # --- what cannot be read ---------------------------------------------------------------------------------

    @functools.cached_property
    def _other_names(self) -> dict[int, list[int]]:
        """Number of an inode -> keys of its other names; made only when something is lost."""
        found: dict[int, list[int]] = {}
        for other, first in self._plan.links.items():
            found.setdefault(self._plan.inumber_of(first), []).append(other)
        return found

    def _lose(self, ordinal: int, name: bytes, inumber: int, kind: int, error: OSError) -> None:
        """An inode that cannot be read by its first name: waited for, read by another one, or left out."""
        path = self._plan.path(ordinal, name)
        if error.errno == errno.EAGAIN:
            try:
                fd = _open_leased(name, self._directories.open(ordinal))
            except OSError as second:
                error = second
            else:
                try:
                    self._regular(ordinal, name, inumber, fd)
                finally:
                    os.close(fd)
                return
        for other in self._other_names.get(inumber, []):
            parent = self._plan.directory_of(other)
            if self._listed[0] != parent:
                self._listed = parent, self._plan.entry_names(parent)
            other_name = self._listed[1][other - self._plan.firsts[parent]]
            try:
                directory = open_beneath(self._root, self._plan.components(parent))
            except OSError:
                continue  # the next name may do; what counts is reported in the end
            fd = -1
            self._read_by_another_name.add(inumber)
            try:
                if kind == DT_FILE:
                    fd = os.open(other_name, OPEN, dir_fd=directory)
                elif not self._special_by_name(ordinal, name, inumber, kind, directory, other_name):
                    continue
            except OSError:
                continue
            finally:
                os.close(directory)
            self._report.warning(path, f"read by another of its names: {reason(error)}")
            self._plan.unsound.add(inumber)  # that name, too, can be another inode's by now
            if fd >= 0:
                try:
                    self._regular(ordinal, name, inumber, fd)
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

    def _lose_all(self, run: Run, error: OSError) -> None:
        """The entries of a directory that cannot be opened any more."""
        for name, kind, inumber in zip(run.names, run.types, run.inumbers, strict=True):
            if kind not in {DT_DIRECTORY, OTHER_NAME}:
                self._lose(run.ordinal, name, inumber, kind, error)
        self._tell()
        self._report.publish()


def _part(run: Run, start: int, end: int) -> Run:
    """Some of the entries of a run."""
    return Run(run.ordinal, run.names[start:end], run.types[start:end], run.inumbers[start:end])


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
