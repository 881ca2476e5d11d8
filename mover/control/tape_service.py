"""The TAPE service of a connection: the drive it has open, and the tape worker that has the drive.

The worker lives as long as the drive is open. What it says of the mover goes to the MOVER service.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from mover.control.drives import DriveBay
from mover.control.inventory import InventoryError
from mover.control.record_memory import RecordMemory
from mover.control.refusal import Refusal
from mover.control.workers import Worker, WorkerDied, WorkerHung, describe_exit
from mover.ndmp.enums import ErrorCode, LogType, MoverState, TapeMode, TapeOperation
from mover.workers.messages import (
    CloseDrive,
    Done,
    DriveOpened,
    DriveState,
    GetDriveState,
    LogLine,
    MotionDone,
    MoverHalted,
    MoverPaused,
    MoveTape,
    OpenDrive,
    ReadRecord,
    RecordDone,
    Refused,
    Reply,
    ToWorker,
    WriteRecord,
)

if TYPE_CHECKING:
    from mover.control.connection import Connection

# How long a drive may take, in seconds. A rewind or a locate may take minutes, spacing over a whole tape hours.
DEADLINES_S: Final[dict[type, float]] = {
    OpenDrive: 120,
    CloseDrive: 900,
    GetDriveState: 60,
    MoveTape: 3 * 3600,
    WriteRecord: 600,
    ReadRecord: 600,
}


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
        self._memory: RecordMemory | None = None

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
        if self.is_open:
            raise Refusal(ErrorCode.DEVICE_OPENED_ERR)
        bay = self._connection.node.devices.find(device.decode("utf-8", "replace"))
        if bay is None:
            raise Refusal(ErrorCode.NO_DEVICE_ERR)
        if bay.session_id is not None or bay.moves:
            raise Refusal(ErrorCode.DEVICE_BUSY_ERR)
        if bay.path is None and mode != TapeMode.RAW:
            raise Refusal(ErrorCode.NO_TAPE_LOADED_ERR, f"{bay.name} is empty: mover tape load {bay.name}")
        bay.session_id = self._connection.session_id
        worker: Worker | None = None
        memory: RecordMemory | None = None
        opened = False
        try:
            memory = RecordMemory(self._connection.config.limits.record_size_max)
            worker = await self._connection.node.supervisor.take("tape")
            reply = await worker.request(
                OpenDrive(drive=bay.spec(), mode=mode, implicit_filemark=self._connection.version >= 4),
                [memory.fd],
                deadline_s=DEADLINES_S[OpenDrive],
            )
            match reply:
                case DriveOpened():
                    opened = True
                case Refused():
                    raise Refusal(reply.error, reply.text)
                case _:
                    raise Refusal(ErrorCode.IO_ERR, f"the tape worker answered OpenDrive with {type(reply).__name__}")
        except (OSError, WorkerDied, WorkerHung) as error:
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
                        await self._connection.mover.on_paused(event)
                    case MoverHalted():
                        await self._connection.mover.on_halted(event)
                    case _:
                        self._connection.log.error("unexpected event of a tape worker", message=type(event).__name__)
        except trio.ClosedResourceError:
            return  # closed by us
        if worker is self.worker:
            bay = self.bay
            self._free()
            assert bay is not None, "a worker has a drive"
            text = f"{bay.name}: the tape worker died: {describe_exit(worker.exit_status)}"
            await self._connection.mover.on_tape_lost(text)
            await self._connection.outbox.log_message(LogType.ERROR, text)

    def _free(self) -> None:
        """The worker is gone: nobody has the drive any more."""
        if self.bay is not None:
            self.bay.session_id = None
        if self._memory is not None:
            self._memory.close()
        self.bay = self.worker = self._memory = None

    async def ask(self, message: ToWorker) -> Reply:
        """Ask the tape worker. Raises Refusal when there is none, or when it dies or hangs."""
        if self.worker is None:
            raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)
        worker = self.worker
        try:
            reply = await worker.request(message, deadline_s=DEADLINES_S[type(message)])
        except WorkerDied as error:
            raise Refusal(ErrorCode.IO_ERR, str(error)) from error
        except WorkerHung as error:
            worker.kill()  # its listener then frees the drive
            raise Refusal(ErrorCode.IO_ERR, str(error)) from error
        if isinstance(reply, Refused):
            raise Refusal(reply.error, reply.text)
        return reply

    async def close(self) -> None:
        """Close the drive; after a failure it is still open (states.md 5.3). Raises Refusal."""
        reply = await self.ask(CloseDrive())
        assert isinstance(reply, Done), reply
        await self._stop()

    async def _stop(self) -> None:
        worker = self.worker
        if worker is None:
            return
        self.worker = None  # its end is no accident
        with trio.CancelScope(shield=True):
            await worker.stop()
            self._free()

    async def release(self) -> None:
        """The connection ends: an implicit TAPE_CLOSE, then the drive is free whatever happened."""
        if self.worker is None:
            return
        with trio.move_on_after(DEADLINES_S[CloseDrive]):
            # Whatever fails was logged by who noticed; a second CloseDrive closes after a failed one.
            for _ in range(2):
                with suppress(Refusal):
                    await self.ask(CloseDrive())
                    break
        await self._stop()

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
        return reply

    async def move(self, operation: TapeOperation, count: int) -> MotionDone:
        """MTIO; after OFF the cartridge is out of the drive. Raises Refusal."""
        bay = self.bay
        reply = await self.ask(
            MoveTape(operation=operation, count=count, crosses_filemark=self._connection.version < 4)
        )
        assert isinstance(reply, MotionDone), reply
        if operation == TapeOperation.OFF and reply.error == ErrorCode.NO_ERR and bay is not None:
            try:
                where = await bay.unload()
                self._connection.log.info("cartridge unloaded", drive=bay.name, cartridge=where)
            except InventoryError as error:
                # As with a real drive whose changer has no room: the cartridge stays, ejected, in the drive.
                await self._connection.outbox.log_message(LogType.WARNING, str(error))
        return reply

    async def write(self, data: bytes) -> RecordDone:
        """One record. Raises Refusal."""
        assert self._memory is not None
        self._memory.store(data)
        reply = await self.ask(WriteRecord(length=len(data)))
        assert isinstance(reply, RecordDone), reply
        return reply

    async def read(self, count: int) -> tuple[RecordDone, bytes]:
        """At most ``count`` bytes of one record. Raises Refusal."""
        memory = self._memory
        assert memory is not None
        reply = await self.ask(ReadRecord(count=count, crosses_filemark=self._connection.version < 4))
        assert isinstance(reply, RecordDone), reply
        data = b"" if reply.error != ErrorCode.NO_ERR else memory.load(reply.count)
        return reply, data
