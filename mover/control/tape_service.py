"""The TAPE service of a connection: the drive it has open, and the tape worker that has the drive.

The worker lives as long as the drive is open. What it says of the mover goes to the MOVER service. A worker that is
gone without having closed the drive leaves it at BOT, and its cartridge, if it could be written, noted as unflushed:
what it wrote is in the kernel's hands, and on disk after the next close.
"""

import math
import time
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mover.control.affinity import drive_elsewhere
from mover.control.deadlines import LATE_S, command_timeout_s, drive_deadline_s
from mover.control.device_names import FLAGS, MOTIONS, AtClose
from mover.control.drives import DriveBay
from mover.control.hung import describe_hung
from mover.control.record_memory import RecordMemory
from mover.control.refusal import Refusal
from mover.control.statistics_ledger import DriveFigures
from mover.control.workers import Worker, WorkerDied, WorkerHung, describe_exit
from mover.ndmp.enums import (
    ErrorCode,
    LogType,
    MoverHaltReason,
    MoverPauseReason,
    MoverState,
    TapeFlag,
    TapeMode,
    TapeOperation,
)
from mover.scsi import Answer, Locate
from mover.workers.device_messages import CommandDone, ExecuteCommand
from mover.workers.messages import Done, LogLine, Refused, Reply, ToWorker
from mover.workers.tape_messages import (
    CloseDrive,
    DriveOpened,
    DriveState,
    GetDriveState,
    GetTapePosition,
    LocateTape,
    MotionDone,
    MoverHalted,
    MoverPaused,
    MoveTape,
    OpenDrive,
    ReadRecord,
    RecordDone,
    TapePosition,
    WriteRecord,
)

if TYPE_CHECKING:
    from mover.control.connection import Connection

UNFLUSHED: Final = (
    "the cartridge was not closed in order here: what was written last is on disk only after the next TAPE_CLOSE"
)

_FAILURES: Final = frozenset({ErrorCode.IO_ERR, ErrorCode.TIMEOUT_ERR})


class TapeService:
    """The drive that this connection has open.

    Attributes:
        bay, worker, mode: of the open drive; None = no drive is open.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.bay: DriveBay | None = None
        self.worker: Worker | None = None
        self.mode = TapeMode.READ
        self._at_close = AtClose.STAYS
        self._memory: RecordMemory | None = None
        self._freed = trio.Event()
        self._close_asked = self._close_failed = False
        self._failed = False  # the drive has failed at something: it may not answer any more
        self._close_within_s = math.inf
        self._releasing: trio.CancelScope | None = None

    @property
    def is_open(self) -> bool:
        return self.worker is not None

    @property
    def writable(self) -> bool:
        """Whether the open mode permits writing."""
        return self.mode in {TapeMode.RDWR, TapeMode.RAW}

    async def open(self, device: bytes, mode: int) -> None:
        """Open a drive for this connection alone. Raises Refusal."""
        if mode not in set(TapeMode):
            raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
        if self.is_open or self._connection.scsi.is_open:
            raise Refusal(ErrorCode.DEVICE_OPENED_ERR)
        name = self._connection.node.cluster.own_name(device.decode("utf-8", "replace"))
        found = self._connection.node.devices.find_device(name)
        if found is None or not self._connection.reaches_device(found[0].name):
            raise Refusal(ErrorCode.NO_DEVICE_ERR, drive_elsewhere(self._connection, name))
        bay, at_close = found
        await self._connection.node.hung.wait(bay)
        if bay.hung_since is not None:
            raise Refusal(ErrorCode.DEVICE_BUSY_ERR, describe_hung(bay))
        if bay.session_id is not None or bay.moves:
            raise Refusal(ErrorCode.DEVICE_BUSY_ERR)
        if bay.path is None and mode != TapeMode.RAW:
            raise Refusal(ErrorCode.NO_TAPE_LOADED_ERR, f"{bay.name} is empty: mover tape load {bay.name}")
        bay.session_id = self._connection.session_id
        worker: Worker | None = None
        memory: RecordMemory | None = None
        opened = False
        try:
            await bay.is_opened()
            memory = RecordMemory(self._connection.config.limits.record_size_max)
            worker = await self._connection.node.supervisor.take("tape")
            reply = await worker.request(
                OpenDrive(drive=bay.spec(), mode=mode, implicit_filemark=self._connection.version >= 4),
                [memory.fd],
                deadline_s=drive_deadline_s(bay.kind, OpenDrive, bay.timeout_s),
            )
            match reply:
                case DriveOpened():
                    opened = True
                case Refused():
                    raise Refusal(reply.error, reply.text)
                case _:
                    raise Refusal(ErrorCode.IO_ERR, f"the tape worker answered OpenDrive with {type(reply).__name__}")
        except (OSError, WorkerDied, WorkerHung) as error:
            if worker is not None and isinstance(error, WorkerHung):
                self._connection.node.hung.note(bay, worker, str(error))
                worker.kill()
            raise Refusal(ErrorCode.IO_ERR, f"{bay.name}: {error}") from error
        finally:
            if not opened:
                with trio.CancelScope(shield=True):
                    if worker is not None:
                        await worker.stop()
                    if memory is not None:
                        memory.close()
                    bay.session_id = None
        self.bay, self.worker, self._memory, self.mode = bay, worker, memory, TapeMode(mode)
        self._at_close = at_close
        self._close_asked = self._close_failed = self._failed = False
        self._freed = trio.Event()
        if bay.unflushed:
            text = f"{bay.name}: {UNFLUSHED}"
            await self._connection.outbox.log_message(LogType.WARNING, text)
        if reply.warning:
            await self._connection.outbox.log_message(LogType.WARNING, f"{bay.name}: {reply.warning}")
        self._connection.nursery.start_soon(self._listen, worker)

    async def _listen(self, worker: Worker) -> None:
        """What the tape worker says by itself, until it is gone."""
        try:
            async for event in worker.events:
                match event:
                    case LogLine():
                        await self._connection.outbox.log_line(event)
                    case MoverPaused():
                        self._failed = self._failed or event.reason == MoverPauseReason.MEDIA_ERROR
                        await self._connection.mover.on_paused(event)
                    case MoverHalted():
                        self._failed = self._failed or event.reason == MoverHaltReason.MEDIA_ERROR
                        await self._connection.mover.on_halted(event)
                    case _:
                        self._connection.log.error("unexpected event of a tape worker", message=type(event).__name__)
        except trio.ClosedResourceError:
            return  # closed by us
        if worker is self.worker:
            bay = self.bay
            assert bay is not None, "a worker has a drive"
            self._free(worker, flushed=False)
            text = f"{bay.name}: the tape worker died: {describe_exit(worker.exit_status)}"
            await self._connection.mover.on_tape_lost(text)
            await self._connection.outbox.log_message(LogType.ERROR, text)

    def _free(self, worker: Worker, *, flushed: bool) -> None:
        """The worker is gone: nobody has the drive any more, but a worker that hangs in it.

        Args:
            flushed: it has closed the drive, and said that all is on disk.
        """
        if self.bay is not None:
            if not worker.ended.is_set() or (self.bay.real and (self._failed or not flushed)):
                text = "it failed while it was open" if flushed else "its worker was lost with the drive open"
                self._connection.node.hung.note(self.bay, worker, text)
            self.bay.session_id = None
            if flushed:
                self.bay.was_closed()
            else:
                self.bay.was_lost(written=self.writable)
                text = UNFLUSHED if self.bay.unflushed else "nothing was written"
                self._connection.log.warning("drive lost", drive=self.bay.name, cartridge=self.bay.path, text=text)
        if self._memory is not None:
            self._memory.close()
        self.bay = self.worker = self._memory = None
        self._freed.set()

    async def ask(self, message: ToWorker) -> Reply:
        """Ask the tape worker. Raises Refusal when there is none, or when it dies or hangs."""
        if self.worker is None:
            raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)
        assert self.bay is not None, "a worker has a drive"
        deadline_s = drive_deadline_s(self.bay.kind, type(message), self.bay.timeout_s)
        reply = await self._request(self.worker, self.bay, message, deadline_s)
        if isinstance(reply, Refused):
            raise Refusal(reply.error, reply.text)
        return reply

    async def _request(self, worker: Worker, bay: DriveBay, message: ToWorker, deadline_s: float) -> Reply:
        """Past the deadline the drive is lost, and taken for hung. Raises Refusal."""
        try:
            reply = await worker.request(message, deadline_s=deadline_s)
        except WorkerDied as error:
            raise Refusal(ErrorCode.IO_ERR, str(error)) from error
        except WorkerHung as error:
            self._connection.node.hung.note(bay, worker, str(error))
            self._note_error(bay)
            worker.kill()
            await self._freed.wait()  # by its listener: the DMA's next TAPE_OPEN finds no drive open
            raise Refusal(ErrorCode.IO_ERR, str(error)) from error
        if isinstance(reply, (Refused, MotionDone, RecordDone)) and reply.error in _FAILURES:
            self._failed = True
            self._note_error(bay)
        return reply

    async def close(self) -> None:
        """Close the drive; after a failure it is still open (states.md 5.3). Raises Refusal."""
        await self._closed(flushed=await self._ask_to_close())

    async def _closed(self, *, flushed: bool) -> None:
        await self._stop(flushed=flushed)
        if flushed:
            await self._connection.data.aftermath.note_flush(whole=True)

    async def _ask_to_close(self) -> bool:
        """Have the worker close the drive; returns whether all is on disk. Raises Refusal.

        A second CloseDrive closes also where the first one failed, and then says nothing of the disk.
        """
        first, self._close_asked = not self._close_asked, True
        if first and self._at_close in MOTIONS:
            await self._move_at_close(MOTIONS[self._at_close])
        try:
            reply = await self.ask(CloseDrive())
        except Refusal as refusal:
            if self.worker is not None and refusal.error == ErrorCode.DEV_NOT_OPEN_ERR:
                return not self._close_failed  # by an earlier CloseDrive, whose answer was not waited for
            if refusal.error == ErrorCode.DEVICE_BUSY_ERR:
                self._close_asked = not first  # not tried
            else:
                self._close_failed = True
                if refusal.error == ErrorCode.IO_ERR and refusal.__cause__ is None:  # the worker's own word
                    await self._connection.data.aftermath.note_flush(whole=False)
            raise
        assert isinstance(reply, Done), reply
        return first

    async def _move_at_close(self, operation: TapeOperation) -> None:
        """Rewind or unload, as the device's name says. Where that fails the tape stays, and the close tells of it."""
        try:
            reply = await self.move(operation, 1)
        except Refusal as refusal:
            self._connection.log.warning("tape not moved at its close", operation=operation.name, text=refusal.text)
            return
        if reply.error not in {ErrorCode.NO_ERR, ErrorCode.NO_TAPE_LOADED_ERR, ErrorCode.DEVICE_BUSY_ERR}:
            self._connection.log.warning("tape not moved at its close", operation=operation.name, text=reply.text)

    async def _stop(self, *, flushed: bool) -> None:
        worker = self.worker
        if worker is None:
            return
        self.worker = None  # its end is no accident
        with trio.CancelScope(shield=True):
            if not flushed:
                worker.kill()
            await worker.stop()
            self._free(worker, flushed=flushed)

    def hurry(self, within_s: float) -> None:
        """Past so many seconds ``release`` kills a worker that has not closed the drive, also one it waits for now."""
        self._close_within_s = min(self._close_within_s, within_s)
        if self._releasing is not None:
            self._releasing.deadline = min(self._releasing.deadline, trio.current_time() + within_s)

    async def give_up(self, worker: Worker, text: str) -> None:
        """It hangs in the midst of the mover's work: its worker is killed, and nobody gets the drive meanwhile."""
        bay = self.bay
        if bay is None or worker is not self.worker:
            return
        self._connection.node.hung.note(bay, worker, text)
        await self._stop(flushed=False)
        text = f"{bay.name}: {text}"
        await self._connection.mover.on_tape_lost(text)
        await self._connection.outbox.log_message(LogType.ERROR, text)

    async def release(self) -> None:
        """The connection ends: an implicit TAPE_CLOSE, then the drive is free whatever happened."""
        if self.bay is None:
            return
        within_s = min(self._close_within_s, drive_deadline_s(self.bay.kind, CloseDrive, self.bay.timeout_s))
        flushed = False
        with trio.move_on_after(within_s) as self._releasing:
            try:
                flushed = await self._ask_to_close()
            except Refusal as refusal:
                self._connection.log.warning("drive not closed", error=refusal.error.name, text=refusal.text)
                flushed = self.worker is not None and await self._close_after_failure()
        if self._releasing.cancelled_caught:
            self._connection.log.warning("tape worker killed with the drive open", within_s=within_s)
        await self._closed(flushed=flushed)

    async def _close_after_failure(self) -> bool:
        try:
            return await self._ask_to_close()
        except Refusal as refusal:
            self._connection.log.error("drive not closed", error=refusal.error.name, text=refusal.text)
            return False

    def audit(self) -> None:
        """Raise Refusal when no drive is open, or the mover has the tape."""
        if not self.is_open:
            raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)
        if self._connection.machines.mover.state in {MoverState.LISTEN, MoverState.ACTIVE}:
            raise Refusal(ErrorCode.DEVICE_BUSY_ERR)

    async def state(self) -> DriveState:
        """Position and capacity. Raises Refusal."""
        reply = await self.ask(GetDriveState())
        assert isinstance(reply, DriveState), reply
        flags = reply.flags & ~int(TapeFlag.NOREWIND) | int(FLAGS[self._at_close])
        return msgspec.structs.replace(reply, flags=flags)

    async def move(self, operation: TapeOperation, count: int) -> MotionDone:
        """MTIO; after OFF the cartridge is ejected, and the drive empty for all but a changer. Raises Refusal."""
        bay = self.bay
        reply = await self.ask(
            MoveTape(operation=operation, count=count, crosses_filemark=self._connection.version < 4)
        )
        assert isinstance(reply, MotionDone), reply
        flushes = (operation == TapeOperation.EOF and count) or operation == TapeOperation.OFF
        if flushes and reply.error in {ErrorCode.NO_ERR, ErrorCode.IO_ERR}:
            await self._connection.data.aftermath.note_flush(whole=reply.error == ErrorCode.NO_ERR)
        if operation == TapeOperation.OFF and reply.error == ErrorCode.NO_ERR and bay is not None:
            bay.was_closed()
            self._connection.log.info("cartridge ejected", drive=bay.name, cartridge=bay.path)
            bay.eject()  # as from a real drive, a robot or an operator takes it
        return reply

    async def objects(self) -> int | None:
        """Records and filemarks before the tape's position; None = not known. Raises Refusal."""
        reply = await self.ask(GetTapePosition())
        assert isinstance(reply, TapePosition), reply
        return reply.objects

    async def command(self, cdb: bytes, data_out: bytes, data_in: int, wanted_s: float) -> Answer:
        """A CDB to a real drive, which its worker passes on.

        Args:
            data_in: most bytes that it may answer with.
            wanted_s: how long the client lets it take; 0 = as the table of deadlines says.

        Raises:
            Refusal: it was not done; TIMEOUT_ERR: nobody knows.
        """
        memory, bay, worker = self._memory, self.bay, self.worker
        if memory is None or bay is None or worker is None:
            raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)
        room = self._connection.config.limits.record_size_max
        if len(data_out) > room:
            raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
        memory.store(data_out)
        timeout_s = command_timeout_s(cdb, bay.timeout_s, wanted_s)
        message = ExecuteCommand(cdb, len(data_out) or min(data_in, room), bool(data_out), timeout_s)
        reply = await self._request(worker, bay, message, timeout_s + LATE_S)
        if isinstance(reply, Refused):
            raise Refusal(reply.error, f"{bay.name}: {reply.text}")
        assert isinstance(reply, CommandDone), reply
        data = b"" if data_out else memory.load(reply.transferred)
        return Answer(reply.status, data, reply.sense, reply.transferred if data_out else 0)

    async def locate(self, target: Locate) -> MotionDone:
        """Move to an object, a file or the end of data; residual 1 = the tape ends before it. Raises Refusal."""
        reply = await self.ask(LocateTape(target.unit, target.number))
        assert isinstance(reply, MotionDone), reply
        return reply

    async def write(self, data: bytes) -> RecordDone:
        """One record. Raises Refusal."""
        assert self._memory is not None
        self._memory.store(data)
        began = time.monotonic_ns()
        reply = await self.ask(WriteRecord(length=len(data)))
        assert isinstance(reply, RecordDone), reply
        self._count(DriveFigures(written_bytes=reply.count, io_ns=time.monotonic_ns() - began))
        return reply

    def note_mover_error(self) -> None:
        """The drive has failed the mover."""
        if self.bay is not None:
            self._note_error(self.bay)

    def _note_error(self, bay: DriveBay) -> None:
        self._connection.node.statistics.ledger.add_drive(bay.name, DriveFigures(errors=1))

    def _count(self, figures: DriveFigures) -> None:
        if self.bay is not None:
            self._connection.node.statistics.ledger.add_drive(self.bay.name, figures)

    async def read(self, count: int) -> tuple[RecordDone, bytes]:
        """At most ``count`` bytes of one record. Raises Refusal."""
        memory = self._memory
        assert memory is not None
        began = time.monotonic_ns()
        reply = await self.ask(ReadRecord(count=count, crosses_filemark=self._connection.version < 4))
        assert isinstance(reply, RecordDone), reply
        self._count(DriveFigures(read_bytes=reply.count, io_ns=time.monotonic_ns() - began))
        data = b"" if reply.error != ErrorCode.NO_ERR else memory.load(reply.count)
        return reply, data
