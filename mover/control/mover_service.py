"""The MOVER service of a connection: it moves data between the open drive and the data connection.

The machine's states are control's; the work is the tape worker's (``StartMover`` to ``MoverPaused`` or
``MoverHalted``). A handler that starts the worker holds ``_changing`` until the state says so, so that the worker's
first event finds it.
"""

from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mover.control.bottleneck import Meter
from mover.control.data_addresses import DataAddress
from mover.control.data_connection import DataConnection, DataRing, PeerEnd, RelayFailed
from mover.control.deadlines import mover_deadline_s
from mover.control.local import tell_other_end
from mover.control.mover_run import MoverRun, counters_now
from mover.control.outbox import log_post
from mover.control.refusal import Refusal
from mover.control.workers import Worker
from mover.ndmp.enums import (
    DataState,
    ErrorCode,
    LogType,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
)
from mover.ndmp.messages import (
    LOCAL,
    MoverGetStateReply,
    NotifyMoverHaltedPost,
    NotifyMoverPausedPost,
)
from mover.ndmp.states import MoverInput, mover_version
from mover.ndmp.window import effective_window, initial_record_size
from mover.ring import RingStatistics, Verdict
from mover.workers.tape_messages import MoverHalted, MoverPaused, MoverPosition, StartMover

if TYPE_CHECKING:
    from mover.control.connection import Connection

TELL_S: Final = 0.7  # how long a halt waits for the worker's own word before it is told without it
LEAVE_S: Final = 10.0  # how long ABORT and CLOSE wait for the worker to leave the tape alone

_PAUSES: Final[dict[int, MoverInput]] = {
    MoverPauseReason.EOM: MoverInput.EARLY_WARNING,
    MoverPauseReason.EOF: MoverInput.FILEMARK,
    MoverPauseReason.SEEK: MoverInput.OUTSIDE_WINDOW,
    MoverPauseReason.EOW: MoverInput.WINDOW_FULL,
    MoverPauseReason.MEDIA_ERROR: MoverInput.MEDIA_ERROR,
}
_HALTS: Final[dict[int, MoverInput]] = {
    MoverHaltReason.CONNECT_CLOSED: MoverInput.CONNECTION_CLOSED,
    MoverHaltReason.CONNECT_ERROR: MoverInput.CONNECTION_LOST,
    MoverHaltReason.MEDIA_ERROR: MoverInput.MEDIA_ERROR,
}


class MoverService:
    """The mover's variables and what it holds.

    Attributes:
        version: whose rules the mover follows.
        position: counters as of the last pause or halt; while it runs the ring's gauges are ahead of them.
        window_offset, window_length: as set; length 0 = none.
        window_is_new: set since the worker was last put to work.
        meter: of the data connection that stands, or stood last; None = there was none.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.machine = connection.machines.mover
        self.version = mover_version(connection.version)
        self.connection_end: DataConnection | None = None
        self.record_size = initial_record_size(self.version)
        self.record_size_set = False
        self.window_offset = 0
        self.window_length = 0
        self.window_is_new = True
        self.position = MoverPosition()
        self.seek_position = 0
        self.meter: Meter | None = None
        self.address: DataAddress = LOCAL
        self._run = MoverRun()
        self._changing = trio.Lock()
        self._moved = trio.Event()

    # --- what GET_STATE and status show

    @property
    def session_id(self) -> int:
        """Of its connection."""
        return self._connection.session_id

    @property
    def vserver(self) -> str:
        """Of its connection."""
        return self._connection.vserver

    @property
    def is_remote(self) -> bool:
        """Whether a data connection to another server stands, and data is moved."""
        end = self.connection_end
        return end is not None and not end.local and self.machine.state in {MoverState.ACTIVE, MoverState.PAUSED}

    def counters(self) -> MoverPosition:
        """The counters now."""
        end = self.connection_end
        if self._run.worker is None or end is None:
            return self.position
        assert end.ring is not None, "a worker is in it"
        return counters_now(self.position, end.ring, self.machine.mode)

    def ring_statistics(self) -> RingStatistics | None:
        """The data ring's counters while the data connection stands."""
        end = self.connection_end
        return end.ring.control.statistics() if end is not None and end.ring is not None else None

    def get_state(self) -> MoverGetStateReply:
        """All variables, as MOVER_GET_STATE tells them."""
        machine, counters = self.machine, self.counters()
        return MoverGetStateReply(
            mode=machine.mode,
            state=machine.state,
            pause_reason=machine.pause_reason,
            halt_reason=machine.halt_reason,
            record_size=self.record_size,
            record_num=counters.record_num & 0xFFFF_FFFF,
            bytes_moved=counters.bytes_moved,
            seek_position=self.seek_position,
            bytes_left_to_read=counters.bytes_left,
            window_offset=self.window_offset,
            window_length=self.window_length,
            data_connection_addr=self.address,
        )

    # --- variables

    def set_record_size(self, size: int) -> None:
        """A new record size makes the window of version 4 invalid."""
        self.record_size = size
        self.record_size_set = True
        if self.version >= 4:
            self.window_offset = self.window_length = 0

    def set_window(self, offset: int, length: int) -> None:
        """The part of the stream that the tape file at hand holds or may hold."""
        self.window_offset, self.window_length = offset, length
        self.window_is_new = True
        self.position = msgspec.structs.replace(
            self.position,
            record_num=offset // self.record_size if self.record_size else 0,
            window_written=0,
        )

    # --- the data connection

    def hold(self, connection_end: DataConnection) -> None:
        """The data connection stands."""
        self.connection_end = connection_end
        self.address = connection_end.address

    def make_ring(self) -> DataRing:
        """The data ring, as the open drive wants it. Raises OSError."""
        bay = self._connection.tape.bay
        ring_bytes = bay.ring_bytes if bay is not None else self._connection.config.limits.ring
        ring = DataRing(ring_bytes, self.record_size)
        self._connection.node.statistics.ledger.add_ring("data", self._connection.session_id, ring.control)
        return ring

    def changing(self) -> trio.Lock:
        """Held by who starts the worker until the machine says ACTIVE."""
        return self._changing

    async def start(self, mode: MoverMode) -> None:
        """Put the tape worker to work on the ring. The caller holds ``changing`` and moves the machine.

        Raises:
            Refusal: it would not, or is gone.
        """
        end, worker = self.connection_end, self._connection.tape.worker
        assert end is not None
        assert end.ring is not None
        if worker is None:
            raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)
        offset, length = effective_window(self.window_offset, self.window_length)
        bay = self._connection.tape.bay
        start_percent, stop_percent = bay.watermarks if bay is not None else (0, 0)
        ring = end.ring.control
        if bay is not None:
            self._connection.node.statistics.ledger.attach_tape(ring, bay.name, writes=mode.writes_tape)
        if not end.local and (self.meter is None or self.meter.ring is not ring):
            self.meter = Meter(ring, "relay", "tape") if mode.writes_tape else Meter(ring, "tape", "relay")
        await self._run.start(
            worker,
            end.ring,
            StartMover(
                mode=mode,
                record_size=self.record_size,
                window_offset=offset,
                window_length=length,
                window_is_new=self.window_is_new,
                position=self.position,
                version=self.version,
                local=end.local,
                start_percent=start_percent,
                stop_percent=stop_percent,
            ),
        )
        self.window_is_new = False
        if bay is not None:
            deadline_s = mover_deadline_s(bay.kind, bay.timeout_s, ring.statistics().slot_bytes // self.record_size)
            self._connection.nursery.start_soon(self._watch, worker, end.ring, mode, deadline_s)

    async def _watch(self, worker: Worker, ring: DataRing, mode: MoverMode, deadline_s: float) -> None:
        """Give up a drive that does not come back from one call of the mover's."""
        if await self._run.overdue(ring, mode, deadline_s):
            text = f"the drive has not come back to the mover within {deadline_s:.0f} s"
            await self._connection.tape.give_up(worker, text)

    async def join_relay(self, mode: MoverMode) -> None:
        """Let the relay carry between its socket and the ring; a relay that cannot is a lost connection."""
        end = self.connection_end
        if end is None:
            return  # halted already
        try:
            await end.start("receive" if mode is MoverMode.READ else "send")
        except RelayFailed as error:
            await end.conclude_end(PeerEnd(orderly=False, closed=False, text=str(error)))

    async def read(self, offset: int, length: int) -> None:
        """MOVER_READ, of the DMA or of a local data worker. Raises Refusal."""
        await self._run.read(offset, length)
        self.seek_position = offset

    async def read_when_active(self, offset: int, length: int) -> None:
        """What a local data worker wants, held back while the mover is paused. Raises Refusal."""
        while self.machine.state is MoverState.PAUSED:
            await self._moved.wait()
        await self.read(offset, length)

    def has_moved(self) -> None:
        """The machine's state changed: wake who waits for that."""
        self._moved.set()
        self._moved = trio.Event()

    # --- what happens

    async def on_paused(self, event: MoverPaused) -> None:
        """The worker left the ring and waits for the DMA."""
        self._run.leave()
        if event.reason == MoverPauseReason.MEDIA_ERROR:
            self._connection.tape.note_mover_error()
        async with self._changing:
            self._left_at(event.position)
            if self.machine.state is not MoverState.ACTIVE:
                return
            signal = _PAUSES.get(event.reason)
            if signal is MoverInput.EARLY_WARNING and self.machine.mode is MoverMode.WRITE:
                signal = MoverInput.END_OF_DATA
            if signal is None:
                await self._halt(MoverInput.FAILED, f"the tape worker paused with reason {event.reason}")
                return
            if signal is MoverInput.MEDIA_ERROR and self.version >= 4:
                await self._halt(signal, event.text)
                return
            self.machine.apply(signal)
            self.has_moved()
            self._connection.log.info("mover paused", reason=self.machine.pause_reason.name, text=event.text)
            await self._tell_pause(event)
            end = self.connection_end
        if end is not None and end.end is not None:
            await self.on_peer_end(end.end)  # ended meanwhile: a paused mover does not see it in the ring

    async def on_halted(self, event: MoverHalted) -> None:
        """The worker left the ring for good."""
        self._run.leave()
        if event.reason == MoverHaltReason.MEDIA_ERROR:
            self._connection.tape.note_mover_error()
        async with self._changing:
            self._left_at(event.position)
            if self.machine.state is not MoverState.ACTIVE:
                return
            signal = _HALTS.get(event.reason, MoverInput.FAILED)
            if signal is MoverInput.MEDIA_ERROR and self.version < 4:
                signal = MoverInput.FAILED  # the drive is of no use; versions 2 and 3 have no such halt
            end = self.connection_end
            if signal is MoverInput.CONNECTION_CLOSED and self.machine.mode is MoverMode.WRITE and end is not None:
                # Only the other side knows whether it has all it wants or broke off.
                with trio.move_on_after(TELL_S):
                    await end.ended.wait()
                if end.end is not None and not (end.end.orderly or end.end.closed):
                    signal = MoverInput.CONNECTION_LOST
            # Reading tape, the failure stands in the ring behind what was read, and that still arrives (4.2).
            in_band = event.reason == MoverHaltReason.MEDIA_ERROR and self.machine.mode is MoverMode.WRITE
            text = event.text
            if signal is MoverInput.CONNECTION_LOST and end is not None and end.end is not None and end.end.text:
                text = end.end.text  # of a relay that died the worker knows only that it was stopped
            await self._halt(signal, text, in_band=in_band)

    async def on_tape_lost(self, text: str) -> None:
        """The tape worker died."""
        counters = self.counters()
        self._run.leave()
        if self.connection_end is not None:
            self.connection_end.break_off(Verdict.BROKEN)
        async with self._changing:
            self._left_at(counters)
            if self.machine.can(MoverInput.FAILED):
                await self._halt(MoverInput.FAILED, text)

    async def on_peer_end(self, end: PeerEnd) -> None:
        """The other side of the ring ended: relay or local data worker."""
        state, mode = self.machine.state, self.machine.mode
        if state not in {MoverState.ACTIVE, MoverState.PAUSED} or self.connection_end is None:
            return
        if mode is MoverMode.READ and end.orderly:
            return  # the stream's end is in the ring, and is written in its turn
        closed = mode is MoverMode.WRITE and (end.orderly or end.closed)
        self.connection_end.break_off(Verdict.CLOSED if closed else Verdict.BROKEN)
        await self._run.stop(MoverHaltReason.CONNECT_CLOSED if closed else MoverHaltReason.CONNECT_ERROR, TELL_S)
        async with self._changing:
            signal = MoverInput.CONNECTION_CLOSED if closed else MoverInput.CONNECTION_LOST
            if self.machine.can(signal):
                await self._halt(signal, end.text)

    def _left_at(self, position: MoverPosition) -> None:
        """Where the worker stood when it left; after STOP, which has cleared all, that comes too late."""
        if self.machine.state not in {MoverState.IDLE, MoverState.LISTEN}:
            self.position = position

    async def _halt(self, signal: MoverInput, text: str, *, in_band: bool = False) -> None:
        """Move to HALTED, let go of the data connection, tell the DMA.

        Args:
            in_band: the other side finds the failure in the ring, behind the last byte.
        """
        # While something was waited for a request may have been quicker.
        if not self.machine.can(signal) or not self.machine.apply(signal):
            return
        reason = self.machine.halt_reason
        self.has_moved()
        orderly = reason is MoverHaltReason.CONNECT_CLOSED
        if orderly:
            self._connection.log.info("mover halted", reason=reason.name, text=text)
        else:
            self._connection.log.warning("mover halted", reason=reason.name, text=text)
        why = f"the mover halted: {reason.name}" + (f" ({text})" if text else "")
        self._hang_up(orderly=orderly, in_band=in_band, text=why)
        await self._tell_halt(reason, text)

    async def _tell_pause(self, event: MoverPaused) -> None:
        await self._connection.outbox.post(NotifyMoverPausedPost(self.machine.pause_reason, event.seek_position))

    async def _tell_halt(self, reason: MoverHaltReason, text: str) -> None:
        told = text and reason is not MoverHaltReason.CONNECT_CLOSED
        why = [log_post(LogType.ERROR, f"mover: {text}")] if told else []
        # In one go: a STOP that comes right now is answered behind both.
        await self._connection.outbox.post(*why, NotifyMoverHaltedPost(reason, text.encode()))

    def _hang_up(self, *, orderly: bool, in_band: bool, text: str) -> None:
        end, self.connection_end = self.connection_end, None
        if end is None:
            return
        _conclude_delivery(end, whole=orderly)
        if not orderly and not in_band:
            end.break_off(Verdict.BROKEN)
        self._connection.nursery.start_soon(partial(end.release, orderly=orderly or in_band))
        reads_on = in_band and self._connection.machines.data.state is DataState.ACTIVE
        if end.local and not reads_on:
            tell_other_end(self._connection, self._connection.data, PeerEnd(orderly=orderly, closed=orderly, text=text))

    # --- requests that end it

    async def break_off(self, signal: MoverInput) -> None:
        """ABORT or CLOSE: halt now, and wait until the tape is left alone.

        CLOSE of a mover that reads tape is the end of a stream: what it put into the ring still arrives
        (states.md 4.2). One that has its whole stream to write is waited for: cut off, its CONNECT_CLOSED would
        look like a good backup to a DMA that closes as soon as DATA is HALTED. Every other such end breaks the data
        connection.
        """
        if signal is MoverInput.CLOSE and self._has_whole_stream():
            with trio.move_on_after(LEAVE_S):
                while self.machine.state is MoverState.ACTIVE:
                    await self._moved.wait()
            if self.machine.state is not MoverState.PAUSED:
                return  # halted; or writing still, and halts when that is done
        mode = self.machine.mode
        if not self.machine.apply(signal):
            return
        reason = self.machine.halt_reason
        self.has_moved()
        self._connection.data_ports.stop_listening("mover")
        self._connection.log.info("mover halted", reason=reason.name, by=signal.value)
        end, self.connection_end = self.connection_end, None
        _conclude_delivery(end, whole=False)
        delivers = signal is MoverInput.CLOSE and mode is MoverMode.WRITE
        if end is not None and not delivers:
            end.break_off(Verdict.CLOSED if signal is MoverInput.CLOSE else Verdict.BROKEN)
        try:
            await self._run.stop(reason, LEAVE_S)
        except trio.Cancelled:
            # The connection goes down while we wait: nobody but us knows of this end any more.
            if end is not None:
                end.break_off(Verdict.BROKEN)
                await end.release(orderly=False)
            raise
        if end is not None:
            if delivers and self._run.has_left:
                self._connection.nursery.start_soon(end.deliver_end)
            else:
                end.break_off(Verdict.BROKEN)
                self._connection.nursery.start_soon(partial(end.release, orderly=False))
                if end.local:
                    tell_other_end(
                        self._connection,
                        self._connection.data,
                        PeerEnd(orderly=False, closed=False, text=f"the mover halted: {reason.name}"),
                    )
        await self._tell_halt(reason, "")

    def _has_whole_stream(self) -> bool:
        """Whether it writes tape and the other side has ended in order: the rest is in the ring, its end behind it."""
        end = self.connection_end.end if self.connection_end is not None else None
        writes = self.machine.state is MoverState.ACTIVE and self.machine.mode is MoverMode.READ
        return writes and end is not None and end.orderly

    def stop(self) -> None:
        """STOP: back to IDLE, counters cleared."""
        self.machine.apply(MoverInput.STOP)
        self.has_moved()
        self.position = MoverPosition()
        self.seek_position = 0
        self.window_offset = self.window_length = 0
        self.window_is_new = True
        self.address = LOCAL

    def listener_lost(self, text: str) -> None:
        """Nobody can connect any more."""
        if self.machine.can(MoverInput.CONNECTION_LOST):
            self._connection.nursery.start_soon(self._halt, MoverInput.CONNECTION_LOST, text)

    async def release(self) -> None:
        """The connection ends: nothing is told, everything is let go."""
        end, self.connection_end = self.connection_end, None
        _conclude_delivery(end, whole=False)
        if end is not None:
            end.break_off(Verdict.BROKEN)
        await self._run.stop(MoverHaltReason.ABORTED, TELL_S)
        if end is not None:
            await end.release(orderly=False)


def _conclude_delivery(end: DataConnection | None, *, whole: bool) -> None:
    if end is not None and end.delivery is not None:
        end.delivery.conclude(whole=whole)
