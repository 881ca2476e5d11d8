"""A second reader of small files in a backup: a forked copy of the worker that reads ahead, batch by batch.

Theory of operation: the files of a plan are cut into batches, which both processes number alike. The worker writes
stream, history and report alone. The second reader puts the metadata and the content of small files into areas of
shared memory; when the worker comes to such a batch it packs the headers and copies the content, and whatever is not
in the area, because it is not simple or could not be read, it reads itself at its place in the order. So the stream
does not depend on who has read what, and a second reader that fails, stops or is killed costs time and nothing else.

Who reads a batch is settled by tickets. The worker sends the numbers of the batches for which there is an area, in
order, into a socket from which both receive: whoever gets a ticket has the batch. The second reader takes one after the
other and tells of each that is done, on a socket pair of its own. The worker takes one when it comes to a batch that
nobody has begun, and when little lies ready, so that the slower of the two has less to do and neither waits for long.
Each hand-over of an area is a system call, which orders the accesses to the memory before it. The second reader
leaves when the worker's end of a socket closes, however the worker ended.

Rejected: to let it write into the ring. A batch's place in the stream is known only when all before it has been
measured, and an unusual file in the midst of a batch moves the rest; the copy costs less than what that takes.
"""

import errno
import mmap
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from mover.data.backup_format import ObjectWriter
from mover.data.dump_format import DT_DIRECTORY, DT_FILE
from mover.data.forked_copy import PATIENCE_S, end_copy, fork_copy, lose_copy
from mover.data.open_directories import OpenDirectories
from mover.data.plan import Plan, Run

BATCH: Final = 128  # names that are read by one process
AREAS: Final = 6
AREA_BYTES: Final = 1 << 20
CONTENT_BYTES_MAX: Final = 64 << 10  # of larger files the copy costs more than a second reader gains
WORTH_ENTRIES: Final = 2_000  # below that the fork costs more than it gains
_MISSES_MAX: Final = 16  # a batch that begins with so many that are not simple is not gone on with

# O_NONBLOCK: what turned into a fifo since the scan must not hang us.
OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OPEN_QUIET: Final = OPEN | os.O_NOATIME  # needs the owner or CAP_FOWNER
PADDING: Final = tuple(bytes(length) for length in range(1024))  # the largest unit of a format

RECORD: Final = struct.Struct("<IIIIIIIIIQqqq")
"""A file in an area: index in its batch, place of the content, mode, uid, gid, size, atime, mtime and ctime in seconds,
blocks, the three times in nanoseconds."""
_RECORDS_BYTES: Final = BATCH * RECORD.size
_TICKET: Final = struct.Struct("<Q")
_DONE: Final = struct.Struct("<QI")  # batch, number of its records
_CHECK_MS: Final = 500


class Ready(NamedTuple):
    """A batch that the second reader has read: records of :data:`RECORD`, and the area in which the content lies."""

    records: memoryview
    area: memoryview


def has_files(run: Run) -> bool:
    """Whether there is anything to read in a run, and so any batch."""
    return run.types.count(DT_DIRECTORY) != len(run.types)


def batches(run: Run) -> Iterator[Run]:
    """The parts of a run that count as one each."""
    ordinal, names, types, inumbers = run
    for start in range(0, len(names), BATCH):
        end = start + BATCH
        yield Run(ordinal, names[start:end], types[start:end], inumbers[start:end])


def count_batches(run: Run) -> int:
    """How many :func:`batches` there are."""
    return -(-len(run.names) // BATCH)


def is_worth_it(plan: Plan) -> bool:
    """Whether there are processors and entries enough for a second reader."""
    return plan.entries >= WORTH_ENTRIES and len(os.sched_getaffinity(0)) > 1


class SecondReader:
    """The worker's side: offers batches and finds those that were read."""

    def __init__(
        self,
        plan: Plan,
        runs: Iterator[Run],
        root: int,
        objects: ObjectWriter,
        check: Callable[[], None],
        private_fd: int,
    ) -> None:
        """Fork the second reader.

        Args:
            runs: those of the plan, from the first one on; it goes through a copy of its own.
            root: descriptor of the root directory.
            check: called now and then in a wait; may raise to end it.
            private_fd: what it must not hold, the control socket.

        Raises:
            OSError: no memory, no process; nothing has happened then.
        """
        self._check = check
        self._head = 0  # the batch at hand
        self._offered = 0  # batches before this one were offered
        self._ready: dict[int, int] = {}  # batch -> number of records
        self._mine: set[int] = set()
        self._alive = True
        self._areas = _areas(mmap.mmap(-1, AREAS * AREA_BYTES))
        self._tickets, self._taken = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._done, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._offer()
        worker_ends = (private_fd, self._tickets.fileno(), self._done.fileno())
        try:
            self._process = fork_copy(
                lambda: _be_the_second_reader(
                    worker_ends, _Reading(plan, runs, root, objects, self._areas), self._taken, theirs
                )
            )
        except OSError:
            self._let_go()
            raise
        finally:
            theirs.close()

    def take(self, batch: int) -> Ready | None:
        """What was read of a batch; None = all of it is the worker's. To be called in ascending order.

        What an earlier call returned is not good any more.

        Raises:
            what ``check`` raises.
        """
        self._head = batch
        self._offer()
        while self._receive(socket.MSG_DONTWAIT):
            pass
        if batch not in self._ready and batch not in self._mine:
            self._claim()
            if batch not in self._mine:
                self._wait_for(batch)
        self._mine.discard(batch)
        count = self._ready.pop(batch, None)
        if count is None:
            return None
        if max(self._ready, default=batch) <= batch:
            self._claim()  # it is hardly ahead: the next one that nobody has begun is the worker's
        area = self._areas[batch % AREAS]
        return Ready(area[: count * RECORD.size], area)

    def close(self) -> None:
        """End the second reader. It has nothing to put in order."""
        if self._process:
            end_copy(self._process)
        self._let_go()

    def _let_go(self) -> None:
        for end in (self._tickets, self._taken, self._done):
            end.close()
        self._areas.clear()  # the memory goes with the last view of it, which an exception on its way may hold

    def _offer(self) -> None:
        """Send the tickets of batches for which there is an area: all before the one at hand are in the stream."""
        self._offered = max(self._offered, self._head)
        while self._alive and self._offered < self._head + AREAS:
            self._tickets.sendall(_TICKET.pack(self._offered))
            self._offered += 1

    def _claim(self) -> None:
        """Take the first ticket that nobody has, if there is one: the batch is the worker's then."""
        batch = -1
        while batch < self._head:  # those of batches that were passed over are of no use
            try:
                (batch,) = _TICKET.unpack(self._taken.recv(_TICKET.size, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return
        self._mine.add(batch)

    def _wait_for(self, batch: int) -> None:
        """Wait until a batch that the second reader has begun is done, or the second reader is gone or lost."""
        poller = select.poll()
        poller.register(self._done, select.POLLIN)
        give_up = time.monotonic() + PATIENCE_S
        while self._alive and batch not in self._ready:
            if poller.poll(_CHECK_MS):
                self._receive()
            elif time.monotonic() < give_up:
                self._check()
            else:
                self._alive = False
                process, self._process = self._process, 0
                lose_copy(process)

    def _receive(self, flags: int = 0) -> bool:
        """Take one message of a batch that is done; False: there is none."""
        if not self._alive:
            return False
        try:
            message = self._done.recv(_DONE.size, flags)
        except BlockingIOError:
            return False
        except OSError:
            message = b""
        if not message:
            self._alive = False
            return False
        batch, count = _DONE.unpack(message)
        if batch >= self._head:
            self._ready[batch] = count
        return True


def _areas(memory: mmap.mmap) -> list[memoryview]:
    whole = memoryview(memory)
    return [whole[at : at + AREA_BYTES] for at in range(0, AREAS * AREA_BYTES, AREA_BYTES)]


def _be_the_second_reader(
    worker_ends: tuple[int, ...], reading: "_Reading", tickets: socket.socket, done: socket.socket
) -> None:
    for fd in worker_ends:
        os.close(fd)  # with them open here, neither control nor this process would see that the worker died
    reading.run(tickets, done)


class _Reading:
    """What the second reader does."""

    def __init__(
        self, plan: Plan, runs: Iterator[Run], root: int, objects: ObjectWriter, areas: list[memoryview]
    ) -> None:
        self._runs = runs
        self._objects = objects
        self._areas = areas
        self._directories = OpenDirectories(plan, root)

    def run(self, tickets: socket.socket, done: socket.socket) -> None:
        """Read what there are tickets for, until there is nothing more or the worker is gone."""
        number = 0
        wanted = -1
        for run in self._runs:
            if not has_files(run):
                continue
            for batch in batches(run):
                if wanted < number:
                    ticket = tickets.recv(_TICKET.size)
                    if not ticket:
                        return
                    (wanted,) = _TICKET.unpack(ticket)
                if wanted == number:
                    done.sendall(_DONE.pack(number, self._read(batch, self._areas[number % AREAS])))
                number += 1

    def _read(self, batch: Run, area: memoryview) -> int:
        """The simple files of a batch; returns how many there are."""
        ordinal, names, types, _ = batch
        try:
            directory = self._directories.open(ordinal)
            if not self._directories.is_as_scanned(ordinal, directory):
                return 0
        except OSError:
            return 0  # the worker meets it again, and reports it
        _, name_max = self._objects.packer(ordinal)
        below = self._objects.unit_bytes - 1
        size_max = min(self._objects.small_bytes_max, CONTENT_BYTES_MAX)
        open_file, fstat, listxattr, readv, close = os.open, os.fstat, os.listxattr, os.readv, os.close
        pack, flags, padding = RECORD.pack_into, OPEN_QUIET, PADDING
        position, area_end, at, record_bytes = _RECORDS_BYTES, len(area), 0, RECORD.size
        for index, (name, kind) in enumerate(zip(names, types, strict=True)):
            if kind != DT_FILE:
                continue
            if index >= _MISSES_MAX and not at:
                break
            try:
                fd = open_file(name, flags, dir_fd=directory)
            except OSError as error:
                if error.errno == errno.EPERM:
                    flags = OPEN  # not the owner: the access time changes, as tar's would
                continue  # the worker meets it again, and reports what there is to report
            try:
                stat = fstat(fd)
                # By index the times are whole seconds; typeshed gives them the attributes' type.
                mode, _, _, nlink, uid, gid, size, atime, mtime, ctime = stat
                blocks = stat.st_blocks
                end = position + (size + below & ~below)
                if (
                    mode >> 12 == DT_FILE
                    and nlink == 1
                    and end < area_end
                    and size <= size_max
                    and len(name) <= name_max
                    and blocks << 9 >= size
                    and not (atime | mtime | ctime) >> 32  # type: ignore[operator]  # see above
                    and not listxattr(fd)
                    # One byte more than expected shows growth.
                    and (not size or readv(fd, [area[position : position + size + 1]]) == size)
                ):
                    tail = end - position - size
                    if tail:
                        area[position + size : end] = padding[tail]
                    pack(
                        area, at, index, position, mode, uid, gid, size, atime, mtime, ctime, blocks,
                        stat.st_atime_ns, stat.st_mtime_ns, stat.st_ctime_ns,
                    )  # fmt: skip
                    at += record_bytes
                    position = end
            except OSError:
                continue  # the worker meets it again, and tells what it is
            finally:
                close(fd)
        return at // record_bytes
