"""What both directions of the mover share: where it stands, how control reaches it, and how it ends.

A mover runs on the worker's only thread. Between slots, and whenever it waits in the ring, it reads what control has
sent: the answer to GetDriveState must not wait for a record. It ends by returning the event that control is to get;
it has left the ring then.

Source: states.md sections 4.2 to 4.6.
"""

import time
from collections.abc import Callable
from typing import Final

from mover.ring import Consumer, Producer, RingClosed, TapeGauge, Verdict
from mover.tape.codes import ALL_ONES, HaltReason, PauseReason
from mover.tape.drive import Condition, Drive, Outcome
from mover.tape.watermarks import Watermarks
from mover.workers.channel import Channel
from mover.workers.messages import ToWorker
from mover.workers.tape_messages import MoverHalted, MoverPaused, MoverPosition, ReadStream, StartMover, StopMover

MoverEvent = MoverPaused | MoverHalted
VERSION_WITH_MEDIA_ERROR_HALT: Final = 4


class Stopped(Exception):  # noqa: N818 - control's wish, not an error
    """Control sent StopMover."""

    def __init__(self, reason: int) -> None:
        super().__init__(f"stopped for reason {reason}")
        self.reason = reason


class Mover:
    """A mover at work on an open drive.

    Args:
        channel: the control socket.
        drive: the open drive.
        start: what control asked for.
        serve: answers any message that is not the mover's own.
    """

    def __init__(self, channel: Channel, drive: Drive, start: StartMover, serve: Callable[[ToWorker], None]) -> None:
        self._channel = channel
        self._drive = drive
        self._serve = serve
        self._version = start.version
        self._record_size = start.record_size
        self._window_offset = start.window_offset
        self._window_length = start.window_length
        self._bytes_moved = start.position.bytes_moved
        self._record_num = start.position.record_num
        self._read_offset = start.position.read_offset
        self._bytes_left = start.position.bytes_left
        self._window_written = 0 if start.window_is_new else start.position.window_written
        self._gauges: memoryview = memoryview(bytearray(8 * len(TapeGauge))).cast("Q")
        self._percents = start.start_percent, start.stop_percent
        self._marks = Watermarks(1, *self._percents)

    def _attach(self, ring: Consumer | Producer) -> None:
        """Publish in this ring, and keep to its watermarks; a run before this one may have begun to count."""
        self._gauges = ring.gauges
        self._marks = Watermarks(ring.slots, *self._percents, underruns=self._gauges[TapeGauge.UNDERRUNS])
        self._publish()

    def position(self) -> MoverPosition:
        """Where the mover stands now."""
        return MoverPosition(
            bytes_moved=self._bytes_moved,
            record_num=self._record_num,
            read_offset=self._read_offset,
            bytes_left=self._bytes_left,
            window_written=self._window_written,
        )

    # --- control -----------------------------------------------------------------------------------------------

    def attention(self) -> None:
        """Serve what control has sent; called by the ring while it waits, and between slots.

        Raises:
            Stopped: control wants the mover to end.
            ChannelBroken: control is gone.
        """
        while self._channel.pending():
            message = self._channel.receive()
            match message:
                case StopMover():
                    raise Stopped(message.reason)
                case ReadStream():
                    self._read_stream(message)
                case _:
                    self._serve(message)

    def _read_stream(self, message: ReadStream) -> None:
        raise NotImplementedError

    # --- the drive ---------------------------------------------------------------------------------------------

    def _timed(self, operation: Callable[[], Outcome]) -> Outcome:
        gauges, started = self._gauges, time.monotonic_ns()
        gauges[TapeGauge.IO_SINCE_NS] = started
        outcome = operation()
        gauges[TapeGauge.IO_SINCE_NS] = 0
        gauges[TapeGauge.IO_NS] += time.monotonic_ns() - started
        return outcome

    def _publish(self) -> None:
        gauges = self._gauges
        gauges[TapeGauge.RECORDS] = self._record_num
        gauges[TapeGauge.BYTES_MOVED] = self._bytes_moved
        gauges[TapeGauge.BYTES_LEFT] = self._bytes_left
        gauges[TapeGauge.UNDERRUNS] = self._marks.underruns
        file_num, blockno = self._drive.position()
        gauges[TapeGauge.FILE_NUM] = ALL_ONES if file_num is None else file_num
        gauges[TapeGauge.BLOCKNO] = ALL_ONES if blockno is None else blockno

    # --- ends --------------------------------------------------------------------------------------------------

    def _paused(self, reason: PauseReason, text: str, *, seek_position: int = 0) -> MoverPaused:
        return MoverPaused(reason, seek_position, self.position(), text)

    def _halted(self, reason: int, text: str) -> MoverHalted:
        return MoverHalted(reason, self.position(), text)

    def _media_error(self, text: str) -> MoverEvent:
        """Version 4 halts, the older ones pause and leave it to the client (states.md 4.2)."""
        if self._version >= VERSION_WITH_MEDIA_ERROR_HALT:
            return self._halted(HaltReason.MEDIA_ERROR, text)
        return self._paused(PauseReason.MEDIA_ERROR, text, seek_position=self._read_offset)

    def _ring_closed(self, end: RingClosed) -> MoverHalted:
        if end.verdict == Verdict.CLOSED:
            return self._halted(HaltReason.CONNECT_CLOSED, "the data connection was closed")
        return self._halted(HaltReason.CONNECT_ERROR, "the data connection failed")

    def _end_of_tape(self, outcome: Outcome, text: str) -> MoverPaused:
        """A filemark or the end of recorded data stands where a record was wanted."""
        reason = PauseReason.EOF if outcome.condition is Condition.FILEMARK else PauseReason.EOM
        return self._paused(reason, text, seek_position=self._read_offset)
