"""A second writer for small files: a forked copy of the worker that reads the same slots and makes its share of them.

Theory of operation: both processes step over every header of every slot, which is cheap, and decide by the same rule
(:data:`SHARE`, see the loop here and the one in :mod:`mover.data.recover_files`; for tar streams those in
:mod:`mover.data.tar_recover_second` and :mod:`mover.data.tar_recover`) whose a file is. The second writer
only makes what is simple, marks what it has made in shared memory, and says nothing else. Over a socket pair the
worker tells it of each slot it has taken, and it tells when it is through with one; only then the worker looks at the
marks, makes what is missing by itself, with all its reporting, and gives the slot back. So a second writer that
fails, stops at the first thing it does not like, or dies, costs time and nothing else. It leaves when the worker's
end of the socket pair closes, however the worker ended.
"""

import mmap
import os
import socket
import sys
import traceback
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from mover.data.dump_format import (
    CHECKSUM,
    HEADER_RECORDS_MAX,
    MAGIC,
    OFFSET_ADDR,
    RECORD_BYTES,
    RecordType,
)
from mover.data.object_maker import FILE_FLAGS
from mover.data.recover_headers import EXTENSION_BYTE, HEAD, read_tail
from mover.data.recover_plan import Plan
from mover.data.recover_stream import RecordReader
from mover.data.stream_blocks import BlockReader, StreamBroken
from mover.data.tree_writer import TreeWriter, remove
from mover.ring import Consumer, Entry

SHARE: Final = 64  # the second writer has every second run of so many entries: those with this bit in their index
WORTH_ENTRIES: Final = 2_000  # below that the fork costs more than it gains
_HELD_SLOTS_MAX: Final = 3
_TAKEN: Final = b"+"
_THROUGH: Final = b"-"
_U32: Final = 0xFFFF_FFFF
_BILLION: Final = 1_000_000_000


class _Following:
    """The second writer's source: the slots that the worker has told of."""

    def __init__(self, consumer: Consumer, sock: socket.socket) -> None:
        self._consumer = consumer
        self._socket = sock

    def peek(self) -> Entry:
        if self._socket.recv(1) != _TAKEN:
            os._exit(0)  # the worker has all it wants, or is gone
        return self._consumer.follow()

    def release(self) -> None:
        self._socket.sendall(_THROUGH)


Left = tuple[int, int, int]  # a file left to it: offset of its header in the slot, entry of the plan, size


class _Held(NamedTuple):
    """A slot that the worker is through with and the second writer perhaps not."""

    slot: memoryview
    left: list[Left]


class Shared:
    """The worker's side of the pair: a source that gives a slot back only when both are through with it.

    Attributes:
        alive: whether files may be left to the second writer.
        left: those of the slot at hand.
    """

    def __init__(
        self,
        reader: BlockReader,
        consumer: Consumer,
        marks: int,
        private_fd: int,
        work: Callable[[mmap.mmap], None],
        settle: Callable[[memoryview, list[Left], mmap.mmap], None],
    ) -> None:
        """Fork the second writer.

        Args:
            marks: bytes in which it marks what it has made.
            private_fd: what it must not hold, the control socket.
            work: what it does, with the reader and those marks.
            settle: called with a slot, the files left in it and the marks of those made, when both are through.

        Raises:
            OSError: no memory, no process; nothing has happened then.
        """
        self.consumer = consumer
        self.alive = True
        self.left: list[Left] = []
        self._made = mmap.mmap(-1, marks)
        self._settle_slot = settle
        self._slot = reader.slot_at_hand()
        self._held: deque[_Held] = deque()
        self._held_max = min(_HELD_SLOTS_MAX, consumer.slots // 4)
        self._socket, theirs = socket.socketpair()
        sys.stderr.flush()
        try:
            self._process = os.fork()
        except OSError:
            self._socket.close()
            theirs.close()
            raise
        if not self._process:
            self._socket.close()
            _be_the_second_writer(reader, consumer, private_fd, theirs, work, self._made)
        theirs.close()

    def peek(self) -> Entry:
        """The next entry. While none is there every slot is given back: a mover that pauses or fails waits for that."""
        while (entry := self.consumer.try_peek()) is None:
            if not self._held:
                entry = self.consumer.peek()
                break
            self._settle()
            self.consumer.release()
        self._slot = entry.view[:]
        if self.alive:
            try:
                self._socket.sendall(_TAKEN)
            except OSError:
                self.alive = False
        return entry

    def release(self) -> None:
        """Hold the slot at hand, so that neither process waits for the other at every slot; give the oldest back."""
        self._hold()
        while len(self._held) > self._held_max:
            self._settle()
            self.consumer.release()

    def finish(self) -> None:
        """Settle everything, give all slots back but the one at hand, and let the second writer go.

        Raises:
            DestinationLost: as the making of objects does.
        """
        at_hand = self._slot is not None
        self._hold()
        try:
            while self._held:
                self._settle()
                if self._held or not at_hand:
                    self.consumer.release()
        finally:
            self._socket.close()
            os.waitpid(self._process, 0)
            self._made.close()

    def _hold(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._held.append(_Held(slot, self.left))
            self.left = []

    def _settle(self) -> None:
        """Wait until the second writer is through with the oldest slot."""
        slot, left = self._held.popleft()
        if self.alive:
            try:
                self.alive = self._socket.recv(1) == _THROUGH
            except OSError:
                self.alive = False
        with slot:
            self._settle_slot(slot, left, self._made)


def _be_the_second_writer(
    reader: BlockReader,
    consumer: Consumer,
    private_fd: int,
    sock: socket.socket,
    work: Callable[[mmap.mmap], None],
    made: mmap.mmap,
) -> None:
    """Never returns."""
    status = 1
    try:
        # With the control socket open here, control would not see at once that the worker died.
        os.close(private_fd)
        reader.source = _Following(consumer, sock)
        reader.on_slot = _nothing
        work(made)
        status = 0
    except (StreamBroken, ConnectionError):
        status = 0  # the worker meets the same and reports it, or is gone
    except Exception:  # noqa: BLE001 - nothing of the copied worker may run on
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _nothing() -> None:
    """The worker publishes the gauges."""


def make_share(reader: RecordReader, plan: Plan, writer: TreeWriter, made: mmap.mmap) -> None:
    """Make this process's share of the simple files; returns at the first header that is not in order, or the END."""
    inumbers, places, names, targets = plan.inumbers, plan.places, plan.names, plan.targets
    unpack = HEAD.unpack_from
    open_file, write, set_times, close = os.open, os.write, os.utime, os.close
    uid, gid = writer.attributes.uid, writer.attributes.gid
    cursor = 0
    place, directory = -1, -1
    tail, tail_sum, present, plain, marked = b"", 0, 0, False, False
    while True:
        if reader.pos == reader.end:
            reader.more()
        view, pos, end = reader.view, reader.pos, reader.end
        words = unpack(view, pos)
        new_tail = bytes(view[pos + OFFSET_ADDR : pos + RECORD_BYTES])
        if new_tail != tail:
            tail = new_tail
            tail_sum, present, plain, marked = read_tail(tail)
        if (sum(words) + tail_sum) & _U32 != CHECKSUM or words[6] != MAGIC:
            return  # what follows is the worker's to judge
        record_type, inumber, records = words[0], words[5], words[40]
        body = pos + RECORD_BYTES
        if record_type in {RecordType.INODE, RecordType.ADDR}:
            if records > HEADER_RECORDS_MAX:
                return
            after = body + (records << 10)
            size = words[10] | words[11] << 32
            if record_type == RecordType.INODE and plain:
                if inumber > inumbers[cursor]:
                    cursor = bisect_left(inumbers, inumber, cursor)
                # The same conditions as in the worker's loop: what it leaves here and is not made is made there late.
                if (
                    inumber == inumbers[cursor]
                    and cursor & SHARE
                    and words[8] & 0o177000 == 0o100000
                    and words[36] == uid
                    and words[37] == gid
                    and inumbers[cursor + 1] != inumber
                    and records <= present
                    and 0 <= (records << 10) - size < RECORD_BYTES
                    and after < end
                    and not view[after + EXTENSION_BYTE] & 0x80
                    and not (marked and words[39])
                    and not targets[places[cursor]].inherits
                ):
                    low = words[38] if marked else 0
                    try:
                        if places[cursor] != place:
                            place = -1
                            directory = writer.descriptor(targets[places[cursor]])
                            place = places[cursor]
                        fd = open_file(names[cursor], FILE_FLAGS, words[8] & 0o777, dir_fd=directory)
                    except OSError:
                        fd = -1  # the worker meets it again, and reports it
                    if fd >= 0:
                        whole = False
                        try:
                            whole = not size or write(fd, view[body : body + size]) == size
                            set_times(
                                fd,
                                ns=(
                                    words[12] * _BILLION + words[13] * 1000 + (low & 0x3FF),
                                    words[14] * _BILLION + words[15] * 1000 + (low >> 10 & 0x3FF),
                                ),
                            )
                        except OSError:
                            whole = False
                        close(fd)
                        if whole:
                            made[cursor] = 1
                        else:
                            remove(directory, names[cursor])
                    cursor += 1
                    reader.pos = after
                    continue
            if records > present and plain:
                records -= tail.count(0, 0, records)
        elif record_type not in {RecordType.BITS, RecordType.CLRI}:
            return
        reader.pos = body
        reader.skip(records)
