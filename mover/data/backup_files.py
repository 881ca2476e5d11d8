"""Every object of a plan that is no directory, in the order of the format: the part of a backup that reads files.

The loop over small regular files is the one that decides how fast a backup is, so it does nothing twice: a file is
opened by its directory's descriptor, asked once for metadata and once for attribute names, and read straight behind
the place of its header, which the format packs last. Everything unusual goes the general way
(:mod:`mover.data.backup_general`).

Source: performance.md "Recommended backup path".
"""

import errno
import os
from collections.abc import Iterator
from typing import Final

from mover.data.backup_format import Job, ObjectWriter
from mover.data.backup_general import GeneralWay
from mover.data.backup_history import FILE_TYPES
from mover.data.backup_stream import BackupStream
from mover.data.codes import LogType
from mover.data.dump_format import DT_DIRECTORY, DT_FILE
from mover.data.open_directories import OpenDirectories
from mover.data.plan import FIRST_NAME, OTHER_NAME, Plan, Run
from mover.data.report import reason
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
        self._history = job.history
        self._report = job.report
        self._producer = job.data
        self._private_fd = job.private_fd
        self._general = GeneralWay(job, plan, directories, stream, objects)
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
                self._general.tell()
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

    def _batch(self, run: Run, directory: int) -> None:
        """Some entries of one directory."""
        ordinal, names, types, inumbers = run
        stream, report, objects = self._stream, self._report, self._objects
        history, tell = self._history, self._general.elements.append
        by_path = history is not None and history.by_path
        node_entry = history.encoder.node_entry if history is not None and not by_path else None
        file_entry = history.encoder.file_entry if history is not None and by_path else None
        prefix = self._general.prefix(ordinal) if by_path else b""
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
                                    self._general.not_as_expected(fd, ordinal, name, slot[start : start + size], got)
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
                            self._general.lose(ordinal, name, inumber, kind, error)
                            slot, position, slot_start = stream.slot, stream.position, stream.slot_start
                            slot_end = len(slot)
                            continue
                        # What else can fail is asked again, and told apart, in the general way.
                stream.position = position
                if fd >= 0:
                    self._general.regular(ordinal, name, inumber, fd)
                    close(fd)
                    fd = -1
                elif kind == FIRST_NAME:
                    self._general.first_name(ordinal, directory, name, inumber)
                elif kind == OTHER_NAME:
                    self._general.other_name(ordinal, name, inumber)
                elif kind in objects.not_held:
                    report.omitted(self._plan.path(ordinal, name), objects.not_held[kind])
                elif kind == DT_FILE:
                    self._general.regular_by_name(ordinal, directory, name, inumber, flags)
                else:
                    self._general.special(ordinal, directory, name, inumber, kind)
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
        history, tell = self._history, self._general.elements.append
        by_path = history is not None and history.by_path
        node_entry = history.encoder.node_entry if history is not None and not by_path else None
        file_entry = history.encoder.file_entry if history is not None and by_path else None
        prefix = self._general.prefix(ordinal) if by_path else b""
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

    def _lose_all(self, run: Run, error: OSError) -> None:
        """The entries of a directory that cannot be opened any more."""
        for name, kind, inumber in zip(run.names, run.types, run.inumbers, strict=True):
            if kind not in {DT_DIRECTORY, OTHER_NAME}:
                kind_lost = DT_FILE if kind == FIRST_NAME else kind
                self._general.lose(run.ordinal, name, inumber, kind_lost, error)
        self._general.tell()
        self._report.publish()


def _part(run: Run, start: int, end: int) -> Run:
    """Some of the entries of a run."""
    return Run(run.ordinal, run.names[start:end], run.types[start:end], run.inumbers[start:end])
