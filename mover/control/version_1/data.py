"""The DATA service of version 1: it ends when data worker and tape are both at rest, and pauses with its mover.

Theory of operation. Data worker and tape worker share a ring, as in every LOCAL operation. The DMA sees one machine:
- the mover pauses at the end of a tape or a tape file: DATA is PAUSED. A recover that has read its last byte in front
  of the filemark does not pause: it is looked whether the data worker waits for more, or says that it is through;
- a backup is SUCCESSFUL when its last record is on tape, which may be a pause later than the data worker's last word;
- before DATA is HALTED the tape worker has left the tape, so that TAPE requests find it free.

LOG_DEBUG is sent when the environment says DEBUG=y. Source: NDMPv1 sections 2.3, 3.5, 4.1 and 4.2.
"""

from typing import TYPE_CHECKING, Final

import trio

from mover.control.data_connection import DataConnection
from mover.control.data_run import Keep, Start
from mover.control.data_service import DataService
from mover.control.version_1.mover import OwnMover
from mover.ndmp.enums import (
    DataHaltReason,
    DataOperation,
    DataState,
    LogLevel,
    LogType,
    MoverHaltReason,
    MoverPauseReason,
    MoverState,
)
from mover.ndmp.messages import LogMessagePost, NotifyPausedPost
from mover.ndmp.states import DataInput
from mover.workers.data_messages import DataFinished, FileRecovered, Pairs

if TYPE_CHECKING:
    from mover.control.connection import Connection

LOOK_S: Final = 0.02
"""How often it is looked whether a recover at the end of a tape file wants more: its worker's wait is a word in the
ring that nobody is woken by."""

_PAUSES: Final[dict[MoverPauseReason, DataInput]] = {
    MoverPauseReason.EOM: DataInput.END_OF_TAPE,
    MoverPauseReason.EOF: DataInput.FILEMARK,
}


class TapeDataService(DataService):
    """The data operation of a connection of version 1."""

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection)
        self._debugs = False
        self._halting = trio.Lock()
        self._mover.on_pause = self._on_mover_paused

    @property
    def _mover(self) -> OwnMover:
        mover = self._connection.mover
        assert isinstance(mover, OwnMover)
        return mover

    def bytes_processed(self) -> int:
        """Stream bytes so far: of a backup those on tape, which nothing else in version 1 tells."""
        if self.machine.operation is DataOperation.BACKUP:
            return self._mover.counters().bytes_moved
        return super().bytes_processed()

    # --- an operation

    async def begin(
        self, message: Start, operation: DataOperation, env: Pairs, path: bytes, keep: Keep | None = None
    ) -> None:
        """As in the other versions. Raises Refusal."""
        await super().begin(message, operation, env, path, keep)
        self._debugs = dict(env).get(b"DEBUG", b"")[:1].lower() in {b"y", b"t"}

    def work(self) -> None:
        """The machine is ACTIVE."""
        super().work()
        bay = self._connection.tape.bay
        drive = "no drive" if bay is None else bay.name
        text = f"{self.machine.operation.name} on {drive} in records of {self._mover.record_size} bytes"
        self._connection.nursery.start_soon(self._debug, LogLevel.DIAG_INFO, text)

    async def _debug(self, level: LogLevel, text: str) -> None:
        """A diagnostic message, INFO where there are few of a kind in an operation (NDMPv1 4.2.2)."""
        if self._debugs:
            entry = text.encode("utf-8", "backslashreplace")
            await self._connection.outbox.post(LogMessagePost(LogType.DEBUG, 0, entry, level=level))

    async def _report(self, event: FileRecovered) -> None:
        """Nothing: NDMPv1 2.8 has the number of LOG_FILE and no layout. The worker's lines name what failed."""

    # --- pauses

    async def _on_mover_paused(self, reason: MoverPauseReason, text: str) -> None:
        """The tape or the tape file is at its end: the DMA's turn, unless nothing more is wanted."""
        signal = _PAUSES.get(reason)
        if signal is None:
            await self._break(DataInput.FAILED, f"the tape does not hold what is wanted: {text}")
            return
        if self.machine.operation is not DataOperation.BACKUP and not await self._wants_more():
            return
        if self._mover.machine.state is not MoverState.PAUSED or not self.machine.can(signal):
            return
        self.machine.apply(signal)
        name = self.machine.pause_reason.name
        self._connection.log.info("data paused", reason=name, bytes=self.bytes_processed())
        await self._debug(LogLevel.DIAG_SUMMARY, f"paused: {name} after {self._mover.position.bytes_moved} bytes")
        await self._connection.outbox.post(NotifyPausedPost(self.machine.pause_reason))

    async def _wants_more(self) -> bool:
        """Whether a recover waits for bytes that the tape file does not hold; False when it is through, or ended."""
        while self.machine.state is DataState.ACTIVE and self.result is None:
            ring = self.ring_statistics()
            if ring is None:
                return False
            if ring.waiting == "empty":
                return True
            await trio.sleep(LOOK_S)
        return False

    async def go_on(self) -> None:
        """CONTINUE. Raises Refusal: it stays PAUSED."""

        def move() -> None:
            self.machine.apply(DataInput.CONTINUE)

        await self._mover.resume(move)
        await self._debug(LogLevel.DIAG_SUMMARY, f"continued at {self._mover.position.bytes_moved} bytes")

    # --- ends

    async def _complete(self, event: DataFinished) -> None:
        run = self._run
        await self._debug(
            LogLevel.DIAG_INFO,
            f"data worker: {event.directories} directories, {event.files} files, {event.errors} errors, "
            f"{event.stream_bytes} bytes of stream, {event.history_entries} entries of file history",
        )
        if event.reason == DataHaltReason.CONNECT_ERROR:
            await self._mover.last_word()
        if self._run is run:  # else it was ended meanwhile, and what runs now may be the next operation
            await super()._complete(event)

    def _ends_with(self, end: DataConnection) -> bool:
        """A backup is over when the tape has its last record: the tape is the operation's own."""
        return True

    def _cause(self, signal: DataInput) -> DataInput:
        """A failure is the tape's when the mover halted for that; there is no data connection that could be lost."""
        if signal in {DataInput.COMPLETE, DataInput.ABORT}:
            return signal
        of_tape = self._mover.machine.halt_reason is MoverHaltReason.MEDIA_ERROR
        return DataInput.MEDIA_ERROR if of_tape and self.machine.can(DataInput.MEDIA_ERROR) else DataInput.FAILED

    async def _halt(self, signal: DataInput, text: str) -> None:
        run = self._run
        async with self._halting:  # who comes first says why: an ABORT makes data worker and mover fail
            if self._run is run:
                await self._mover.settle(orderly=signal is DataInput.COMPLETE, text=text)
                await super()._halt(signal, text)

    async def _let_go(self, *, orderly: bool, text: str) -> None:
        end, self.connection_end = self.connection_end, None
        run, self._run = self._run, None
        self._connection.nursery.start_soon(self.aftermath.give_back, run, end, orderly)

    def stop(self) -> None:
        """STOP: back to IDLE, the mover with it."""
        super().stop()
        self._mover.stop()
        self._debugs = False
