"""The mover in mode WRITE: reads tape and puts what a MOVER_READ wants into the ring.

Theory of operation
===================
``_next`` is the stream offset of the record in front of the drive. As long as the wanted offset lies in that record no
motion is made, and records are taken as they come, short ones too. Otherwise the record's number is reckoned from the
window: its first record lies where the tape stood when the window was set, and every record has record_size bytes.
A record of which only a part was wanted is held: direct access reads an object's header and then what follows it, and
a drive that spaces back for that stops and starts.

What was read is committed to the ring at once, and a pause waits until the other side has taken it ("drain").

Source: states.md 4.6.
"""

import math
import select
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from mover.ring import Kind, Producer, RingClosed, RingFds, TapeGauge
from mover.tape.codes import ALL_ONES, Error, HaltReason, PauseReason
from mover.tape.drive import Condition, Drive, Outcome, Position
from mover.tape.mover_engine import Mover, MoverEvent, Stopped
from mover.workers.channel import Channel
from mover.workers.messages import Done, Refused, ToWorker
from mover.workers.tape_messages import MoverHalted, MoverPaused, ReadStream, StartMover

OPEN_ENDED: Final = 1 << 63  # so much left can only be of a read to the end of the stream: all ones and a little less
OPEN_END_S: Final = 5.0  # how long a pause at its end waits for a remote side's word that it has all it wants,
OPEN_END_MAX_S: Final = 60.0  # where that has more to make durable: up to this long,
DURABLE_BYTES_S: Final = 64 << 20  # as a slow disk does it
LOOK_S: Final = 0.02  # how often a local side is looked at meanwhile: that it begins to wait wakes nobody


class WindowStart(Struct, frozen=True):
    """Where the tape holds which record: a note that outlives a pause.

    Attributes:
        position: where the tape stood.
        offset: stream offset of the record there.
    """

    position: Position
    offset: int


class FromTape(Mover):
    """A mover in mode WRITE; see Mover for the arguments.

    Args:
        fds: the data ring's descriptors, owned from here on.
        note: where the window began on this drive, as of an earlier run; None = not known.

    Attributes:
        window_start: the note for a later run.

    Raises:
        ValueError, OSError: this is no ring, or it cannot be mapped; the descriptors are closed.
    """

    def __init__(
        self,
        channel: Channel,
        drive: Drive,
        start: StartMover,
        serve: Callable[[ToWorker], None],
        fds: RingFds,
        note: WindowStart | None,
    ) -> None:
        super().__init__(channel, drive, start, serve)
        self._ring = Producer(fds, control_fd=channel.fileno(), attention=self.attention)
        self._window_end = min(ALL_ONES, self._window_offset + self._window_length)
        here = drive.position()
        if start.window_is_new:
            note = WindowStart(here, self._window_offset)
        elif note is None or note.position.file_num != here.file_num or None in {*note.position, *here}:
            # The client went on to another tape file and set no window: the stream goes on where it stopped.
            inside = max(0, self._read_offset - self._window_offset)
            note = WindowStart(here, self._window_offset + inside // self._record_size * self._record_size)
        self.window_start = note
        # Records between the window's first one and the drive, and the stream offset of the one in front of it.
        block_size = drive.state().block_size
        self._blocks = max(1, self._record_size // block_size) if block_size else 1  # that a record is, on tape
        self._block = ((here.blockno or 0) - (note.position.blockno or 0)) // self._blocks
        self._next = note.offset + self._block * self._record_size
        self._scratch = bytearray(0)  # a record of which only a part is wanted
        self._held_at, self._held_until = 0, 0  # stream offsets of what it holds
        self._local = start.local
        self._attach(self._ring)

    def _read_stream(self, message: ReadStream) -> None:
        open_ended = message.length == ALL_ONES and message.offset == 0
        if self._bytes_left:
            text = f"MOVER_READ while {self._bytes_left} bytes of another one are left"
            self._channel.send(Refused(Error.READ_IN_PROGRESS, text))
        elif not message.length or (message.offset + message.length > ALL_ONES and not open_ended):
            text = f"MOVER_READ of {message.length} bytes at {message.offset}"
            self._channel.send(Refused(Error.ILLEGAL_ARGS, text))
        else:
            self._read_offset, self._bytes_left = message.offset, message.length
            self._gauges[TapeGauge.SEEK_POSITION] = message.offset
            self._publish()
            self._channel.send(Done())

    def run(self) -> MoverEvent:
        """Serve reads until the mover pauses or halts; the ring is left then."""
        ring = self._ring
        try:
            event = self._serve_reads(ring)
            if isinstance(event, MoverPaused) and event.reason != PauseReason.MEDIA_ERROR:
                self._let_go(ring)
            else:
                ring.drain()
        except RingClosed as end:
            event = self._ring_closed(end)
        except Stopped as stop:
            event = self._halted(stop.reason, "the mover was stopped")
        if isinstance(event, MoverHalted):
            _end(ring, Kind.END if event.reason == HaltReason.CONNECT_CLOSED else Kind.FAILED)
        ring.detach()
        return event

    def _serve_reads(self, ring: Producer) -> MoverEvent:
        while True:
            self.attention()
            if not self._bytes_left:
                self._wait_for_read(ring)
                continue
            if not self._window_offset <= self._read_offset < self._window_end:
                text = f"offset {self._read_offset} lies outside the window"
                return self._paused(PauseReason.SEEK, text, seek_position=self._read_offset)
            if self._held_at <= self._read_offset < self._held_until:
                self._deliver_held(ring)
                continue
            event = self._go_to_record() or self._deliver(ring)
            self._publish()
            if event is not None:
                return event

    def _wait_for_read(self, ring: Producer) -> None:
        """Wait until control or the other side of the ring has something to say.

        The ring's eventfd is readable as long as slots are free, so only its edges are waited for.
        """
        with select.epoll() as waiter:
            waiter.register(self._channel.fileno(), select.EPOLLIN)
            waiter.register(ring.fileno(), select.EPOLLIN | select.EPOLLET)
            while not self._bytes_left:
                ring.check()
                waiter.poll()
                self.attention()

    def _let_go(self, ring: Producer) -> None:
        """Wait before a pause until the bytes have gone on, and after an open-ended read for the other side's end.

        A pause takes effect after what was read is on the data connection (states.md 4.2). A read to the end of the
        stream runs past it, to the end of the window or the tape file, and whoever has found the stream's end needs a
        moment to say so; NDMJOB's client takes a mover that is PAUSED while DATA is ACTIVE for one that needs a tape.
        A local data worker is seen to wait for more when it needs it, and else, however long it takes to make all
        durable, is not through yet; of a remote one nothing is seen, and the wait goes by what was sent to it.

        Raises:
            RingClosed: nothing more is wanted, there is nothing to pause for.
            Stopped: control ends the mover.
        """
        ring.drain()
        if self._bytes_left < OPEN_ENDED:
            return
        deadline = math.inf if self._local else time.monotonic() + open_end_s(self._bytes_moved)
        with select.epoll() as waiter:
            waiter.register(self._channel.fileno(), select.EPOLLIN)
            waiter.register(ring.fileno(), select.EPOLLIN | select.EPOLLET)
            while (left := deadline - time.monotonic()) > 0:
                ring.check()
                if self._local and ring.consumer_waits():
                    return
                waiter.poll(min(left, LOOK_S) if self._local else left)
                self.attention()

    def _go_to_record(self) -> MoverEvent | None:
        """Put the record that holds the wanted byte in front of the drive."""
        size = self._record_size
        if self._next <= self._read_offset < self._next + size:
            return None
        block = (self._read_offset - self.window_start.offset) // size
        delta = block - self._block
        drive = self._drive
        outcome = self._timed(lambda: drive.space_records(delta * self._blocks, crosses_filemark=False))
        moved = outcome.done // self._blocks * (1 if delta > 0 else -1)
        self._passed(moved, moved * size)
        if outcome.condition is Condition.NONE:
            self._next = self.window_start.offset + block * size
            return None
        if outcome.condition is Condition.FAILED:
            return self._media_error(outcome.text)
        if delta < 0:
            return self._media_error(f"offset {self._read_offset} lies before the beginning of the tape file")
        return self._end_of_tape(outcome, f"offset {self._read_offset} lies behind the tape file")

    def _deliver(self, ring: Producer) -> MoverEvent | None:
        """Read what one slot holds, or one record of which only a part is wanted."""
        size = self._record_size
        skip = self._read_offset - self._next
        wanted = min(self._bytes_left, self._window_end - self._read_offset)
        self._marks.make_room(ring, wanted // ring.slot_bytes)
        slot = ring.reserve()
        drive = self._drive
        whole = 0 if skip else min(wanted, len(slot)) // size
        if whole:
            outcome = self._timed(lambda: drive.read_records(slot[: whole * size], size))
            if outcome.done:
                count = outcome.done * size
                self._has_read(outcome.done, count)
                self._sent(ring, count)
                return None
            if outcome.condition is not Condition.NONE:
                return self._not_read(outcome)
        # A record by itself: it has another size, or only a part of it is wanted.
        into = slot[:size] if whole else self._scratch_record()
        outcome = self._timed(lambda: drive.read_record(into, crosses_filemark=False))
        if outcome.condition is not Condition.NONE:
            return self._not_read(outcome)
        self._has_read(1, outcome.record_length)
        if outcome.record_length > size:
            return self._media_error(f"a record of {outcome.record_length} bytes, record_size is {size}")
        if whole:
            self._sent(ring, outcome.done)
            return None
        self._held_at, self._held_until = self._next - outcome.done, self._next
        if self._read_offset < self._held_until:
            self._deliver_held(ring)
        return None

    def _deliver_held(self, ring: Producer) -> None:
        """A copy: part of a record, or a record longer than a slot."""
        wanted = min(self._bytes_left, self._window_end - self._read_offset)
        at = self._read_offset - self._held_at
        end = min(self._held_until - self._held_at, at + wanted)
        while at < end:
            slot = ring.reserve()
            count = min(end - at, len(slot))
            slot[:count] = memoryview(self._scratch)[at : at + count]
            at += count
            self._sent(ring, count)
        self._publish()

    def _scratch_record(self) -> memoryview:
        if not self._scratch:
            self._scratch = bytearray(self._record_size)
        return memoryview(self._scratch)

    def _has_read(self, records: int, count: int) -> None:
        self._gauges[TapeGauge.DRIVE_BYTES] += count
        self._passed(records, count)

    def _passed(self, records: int, count: int) -> None:
        """The tape moved over records with ``count`` bytes."""
        self._record_num += records
        self._block += records
        self._next += count

    def _sent(self, ring: Producer, count: int) -> None:
        ring.commit(count)
        self._bytes_moved += count
        self._read_offset += count
        self._bytes_left -= count

    def _not_read(self, outcome: Outcome) -> MoverEvent:
        if outcome.condition is Condition.FAILED:
            return self._media_error(outcome.text)
        return self._end_of_tape(outcome, f"{outcome.condition.value} at offset {self._next} of the stream")


def open_end_s(sent_bytes: int) -> float:
    """How long a remote side may take to make durable what was sent to it, before it counts as waiting for more."""
    return max(OPEN_END_S, min(OPEN_END_MAX_S, sent_bytes / DURABLE_BYTES_S))


def _end(ring: Producer, kind: Kind) -> None:
    """Tell the other side in band, if that needs no waiting; control's verdict tells it otherwise."""
    try:
        if ring.try_reserve() is not None:
            ring.commit(0, kind)
    except RingClosed:
        return  # it has ended already
