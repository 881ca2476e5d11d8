"""A second writer for small files: a forked copy of the worker that makes the files which the worker hands over to it.

Theory of operation: the worker alone reads the stream and decides. A small file that is simple it either makes itself
or notes in a batch: its place in the slot, a number, its size. A full batch goes over a socket pair; the second writer
looks at the same slot in the ring's memory, makes each file with an open, a write, a utime and a close, and answers
with a byte a file. As long as it has less than :data:`AHEAD` batches to do, the next files are for it; else the worker
makes a few itself and looks again: so both are busy, however much of a processor each of them gets. The worker gives a
slot back only when all batches of it are answered, and makes what was not made then, with all its reporting. So a
second writer that fails, meets what it does not like, or dies, costs time and nothing else; one that does not answer
is killed and waited for first, so that it makes nothing behind the worker's back. It leaves when the worker's end of
the socket pair closes, however the worker ended.

What was rejected: two processes that read all headers and share by a fixed rule. Both then pay for every header, and
the slower one decides.
"""

import os
import select
import socket
import sys
from array import array
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from mover.data.codes import LogType
from mover.data.forked_copy import PATIENCE_S, fork_copy, lose_copy, wait_for_copy
from mover.data.report import Report
from mover.data.stream_blocks import BlockReader
from mover.ring import Consumer, Entry

RUN: Final = 32  # files in a batch, and how many the worker makes before it looks at the second writer again
AHEAD: Final = 4  # batches: with two it was idle for a third of the time, since the worker is interrupted too
_HELD_SLOTS_MAX: Final = 4
_NUMBERS: Final = 3  # of a file in a batch: its offset in the slot, a number, its size
FULL: Final = RUN * _NUMBERS
_MESSAGE_BYTES: Final = 8 * (1 + FULL)

Make = Callable[[memoryview, "array[int]"], bytes]
"""What the second writer does with the files of a batch, which lie in a slot: a byte each, 1 = made."""


class FirstWriter(Protocol):
    """What the worker does with files that it has handed over."""

    def count_made(self, files: "array[int]") -> None:
        """These were made: numbers as in a batch."""

    def make_late(self, slot: memoryview, at: int, number: int, size: int) -> None:
        """This one was not; may raise as the making of objects does."""


class _Batch:
    """Files handed over, and the answer once it has come; b"" = there is none."""

    __slots__ = ("answer", "files")

    def __init__(self, files: "array[int]") -> None:
        self.files = files
        self.answer: bytes | None = None


class _Held:
    """A slot that the worker has read to its end."""

    __slots__ = ("batches", "slot")

    def __init__(self, slot: memoryview, batches: list[_Batch]) -> None:
        self.slot = slot
        self.batches = batches


class Shared:
    """The worker's side of the pair: a source that gives a slot back only when all that was handed over is made.

    Attributes:
        batch: where the worker notes files, three numbers each; at :data:`FULL` it is to be handed over.
    """

    def __init__(
        self, reader: BlockReader, consumer: Consumer, private_fd: int, make: Make, writer: FirstWriter
    ) -> None:
        """Fork the second writer, and become the reader's source.

        Args:
            private_fd: what the copy must not hold, the control socket.

        Raises:
            OSError: no memory, no process; nothing has happened then.
        """
        self.batch: array[int] = array("q")
        self._reader = reader
        self._consumer = consumer
        self._writer = writer
        self._slot = reader.slot_at_hand()
        self._batches: list[_Batch] = []  # of the slot at hand
        self._held: deque[_Held] = deque()
        self._held_max = min(_HELD_SLOTS_MAX, consumer.slots // 2)
        self._unanswered: deque[_Batch] = deque()
        self._steps = 0  # entries taken since the last batch
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._answers = select.poll()
        self._answers.register(self._socket, select.POLLIN)
        worker_ends = private_fd, self._socket.fileno()
        try:
            self._process = fork_copy(lambda: _be_the_second_writer(worker_ends, self._slot, consumer, theirs, make))
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
        reader.source = self

    # --- what to hand over ---------------------------------------------------------------------------------

    def wants_more(self) -> bool:
        """Whether the next files are for the second writer."""
        while self._unanswered and self._receive():
            pass
        return self._process != 0 and len(self._unanswered) < AHEAD

    def hand_over(self) -> bool:
        """Send what is in the batch; returns as ``wants_more``."""
        if self.batch:
            batch = _Batch(self.batch[:])
            del self.batch[:]
            self._batches.append(batch)
            self._unanswered.append(batch)
            try:
                self._socket.send(self._steps.to_bytes(8, sys.byteorder) + batch.files.tobytes())
            except OSError:
                self._lose()
            self._steps = 0
        return self.wants_more()

    def settle(self) -> None:
        """Wait until all that was noted is made, by either process.

        Raises:
            DestinationLost: as the making of objects does.
        """
        self.hand_over()
        for held in self._held:
            self._settle(held)
        if self._slot is not None:
            held = _Held(self._slot, self._batches)
            self._batches = []
            self._settle(held)

    def _receive(self) -> bool:
        """Take an answer; False where none has come."""
        try:
            answer = self._socket.recv(RUN, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            answer = b""
        if not answer:
            self._lose()
            return False
        self._unanswered.popleft().answer = answer
        return True

    def _wait(self) -> None:
        """Wait for an answer; without one the second writer is lost."""
        if self._answers.poll(PATIENCE_S * 1000):
            self._receive()
            return
        process, self._process = self._process, 0
        lose_copy(process)  # before what it was to make is made here
        self._lose()

    def _lose(self) -> None:
        """The second writer has failed: go on without it."""
        for batch in self._unanswered:
            batch.answer = b""
        self._unanswered.clear()
        self._leave()

    def _leave(self) -> None:
        self._socket.close()
        process, self._process = self._process, 0
        if process:
            wait_for_copy(process, PATIENCE_S)

    def _settle(self, held: _Held) -> None:
        batches, held.batches = held.batches, []
        for batch in batches:
            while batch.answer is None:
                self._wait()
            files, answer = batch.files, batch.answer
            count = len(files) // _NUMBERS
            if answer == b"\1" * count:
                self._writer.count_made(files)
                continue
            late = []
            made: array[int] = array("q")
            for at, flag in enumerate(answer[:count].ljust(count, b"\0")):
                file = files[at * _NUMBERS : (at + 1) * _NUMBERS]
                if flag:
                    made += file
                else:
                    late.append(file)
            self._writer.count_made(made)
            for offset, number, size in late:
                self._writer.make_late(held.slot, offset, number, size)

    # --- the reader's source -------------------------------------------------------------------------------

    def peek(self) -> Entry:
        """The next entry. While none is there every slot is given back: a mover that pauses or fails waits for that."""
        while (entry := self._consumer.try_peek()) is None:
            if not self._held:
                entry = self._consumer.peek()
                break
            self._give_back()
        self._slot = entry.view[:]
        self._steps += 1
        return entry

    def release(self) -> None:
        """Hold the slot at hand, so that neither process waits for the other at its end; give the oldest back."""
        self._hold()
        while len(self._held) > self._held_max:
            self._give_back()

    def finish(self) -> None:
        """Settle everything, give all slots back but the one at hand, and let the second writer go.

        Raises:
            DestinationLost: as the making of objects does.
        """
        at_hand = self._slot is not None
        try:
            self._hold()
            while len(self._held) > at_hand:
                self._give_back()
            for held in self._held:
                self._settle(held)
        finally:
            for held in self._held:
                held.slot.release()
            self._held.clear()
            self._leave()
            self._reader.source = self._consumer

    def _hold(self) -> None:
        self.hand_over()
        slot, self._slot = self._slot, None
        if slot is not None:
            self._held.append(_Held(slot, self._batches))
            self._batches = []

    def _give_back(self) -> None:
        """The oldest slot, when all of it is made."""
        held = self._held[0]
        self._settle(held)
        self._held.popleft()
        held.slot.release()
        self._consumer.release()


def share(reader: BlockReader, private_fd: int, make: Make, writer: FirstWriter, report: Report) -> Shared | None:
    """Have a second writer where there is a second processor; None, which may have been told, where there is not.

    Args:
        private_fd: the control socket; -1 = work alone.
    """
    source = reader.source
    if private_fd < 0 or len(os.sched_getaffinity(0)) < 2:
        return None
    assert isinstance(source, Consumer)
    try:
        return Shared(reader, source, private_fd, make, writer)
    except OSError as error:
        report.log(LogType.WARNING, f"without a second writer: {error.strerror}".encode())
        return None


def _be_the_second_writer(
    worker_ends: tuple[int, ...], at_hand: memoryview | None, consumer: Consumer, sock: socket.socket, make: Make
) -> None:
    for fd in worker_ends:
        os.close(fd)  # with them open here, neither control nor this process would see that the worker died
    while message := sock.recv(_MESSAGE_BYTES):  # until the worker has all it wants, or is gone
        steps, *_ = numbers = array("q", message)
        del numbers[0]
        if steps:
            at_hand = consumer.follow(steps).view
        assert at_hand is not None
        sock.send(make(at_hand, numbers))
