"""The mover in mode READ: takes the stream from the ring and writes it to tape record by record.

Whole records go to the drive straight from their slot, all of a slot in one call; only a record that straddles slots
is copied together. An entry is given back when all its bytes are on tape, so at any moment what is not on tape is in
the ring, where a pause leaves it for the successor.
"""

from collections.abc import Callable
from typing import Final

from mover.ring import Consumer, Kind, RingClosed, RingFds, TapeGauge
from mover.tape.codes import Error, HaltReason, PauseReason
from mover.tape.drive import Condition, Drive
from mover.tape.mover_engine import Mover, MoverEvent, Stopped
from mover.workers.channel import Channel
from mover.workers.messages import Refused, ToWorker
from mover.workers.tape_messages import ReadStream, StartMover

VERSION_WITH_EOW: Final = 3


class ToTape(Mover):
    """A mover in mode READ; see Mover for the arguments.

    Args:
        fds: the data ring's descriptors, owned from here on.

    Raises:
        ValueError, OSError: this is no ring, it cannot be mapped or cannot hold a record; the descriptors are closed.
    """

    def __init__(
        self, channel: Channel, drive: Drive, start: StartMover, serve: Callable[[ToWorker], None], fds: RingFds
    ) -> None:
        super().__init__(channel, drive, start, serve)
        self._ring = Consumer(fds, control_fd=channel.fileno(), attention=self.attention)
        if self._record_size > (self._ring.slots - 1) * self._ring.slot_bytes:
            slots, slot_bytes = self._ring.slots, self._ring.slot_bytes
            self._ring.close()
            raise ValueError(f"records of {self._record_size} bytes in a ring of {slots} slots of {slot_bytes}")
        self._attach(self._ring)

    def _read_stream(self, message: ReadStream) -> None:
        self._channel.send(Refused(Error.ILLEGAL_STATE, "the mover writes to tape: MOVER_READ needs mode WRITE"))

    def run(self) -> MoverEvent:
        """Move data until the mover pauses or halts; the ring is left then."""
        with self._ring:
            try:
                return self._carry(self._ring)
            except RingClosed as end:
                return self._ring_closed(end)
            except Stopped as stop:
                return self._halted(stop.reason, "the mover was stopped")

    def _carry(self, ring: Consumer) -> MoverEvent:
        size = self._record_size
        used = ring.cursor
        held: list[memoryview] = []  # the beginning of a record that is not whole yet, in entries not given back
        filled = 0
        while True:
            self.attention()
            self._marks.gather(ring)
            view, kind = ring.peek()
            if kind == Kind.END:
                if held:
                    pad = size - filled
                    event, _ = self._put(memoryview(b"".join([*held, bytes(pad)])), pad)
                    if event is not None:
                        return event
                for _ in range(len(held) + 1):
                    ring.release()
                ring.finish()  # a relay on the other side holds its connection until this word
                return self._halted(HaltReason.CONNECT_CLOSED, "")
            if kind != Kind.DATA:
                return self._halted(HaltReason.CONNECT_ERROR, "the stream was broken off by its producer")
            if held:
                used = size - filled
                if len(view) < used:
                    held.append(view)
                    filled += len(view)
                    if len(held) >= max(2, ring.slots // 2):
                        held = ring.compact()
                    continue
                event, _ = self._put(memoryview(b"".join([*held, view[:used]])))
                if event is not None:
                    return event
                for _ in held:
                    ring.release()
                ring.cursor = used
            whole = (len(view) - used) // size * size
            if whole:
                event, records = self._put(view[used : used + whole])
                used += records * size
                ring.cursor = used
                if event is not None:
                    return event
            filled = len(view) - used
            if filled:
                held = [view[used:]]
            else:
                held = []
                ring.release()
            used = 0

    def _put(self, view: memoryview, pad: int = 0) -> tuple[MoverEvent | None, int]:
        """Write whole records, the last with ``pad`` bytes that are not of the stream.

        Returns:
            Why not all of them could be written, None when all are on tape; and how many are.
        """
        size = self._record_size
        room = max(0, self._window_length - self._window_written) // size
        wanted = len(view) // size
        fits = min(wanted, room)
        drive = self._drive
        outcome = self._timed(lambda: drive.write_records(view if fits == wanted else view[: fits * size], size))
        done = outcome.done
        self._record_num += done
        self._window_written += done * size
        self._bytes_moved += done * size - (pad if done == wanted else 0)
        self._gauges[TapeGauge.DRIVE_BYTES] += done * size
        self._publish()
        if outcome.condition is Condition.EARLY_WARNING:
            return self._paused(PauseReason.EOM, "early warning"), done
        if outcome.condition is Condition.FAILED:
            return self._media_error(outcome.text), done
        if done < wanted:
            reason = PauseReason.EOW if self._version >= VERSION_WITH_EOW else PauseReason.EOF
            return self._paused(reason, "the window is used up"), done
        return None, done
