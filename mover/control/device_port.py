"""A real device as control commands it: one worker that has it open for CDBs.

The worker is taken by the first command, and again by the next one after a command that was not answered: what the
device did then is not known, and the way to it is made anew.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from mover import scsi
from mover.control.deadlines import LATE_S, OPEN_DEVICE_S, command_timeout_s
from mover.control.record_memory import RecordMemory
from mover.control.refusal import Refusal
from mover.control.workers import Supervisor, Worker, WorkerDied, WorkerHung
from mover.ndmp.enums import ErrorCode
from mover.workers.device_messages import (
    CloseDevice,
    CommandDone,
    DeviceOpened,
    DeviceSpec,
    ExecuteCommand,
    OpenDevice,
)
from mover.workers.messages import Refused

if TYPE_CHECKING:
    from mover.workers.messages import Reply, ToWorker

DATA_BYTES_MAX: Final = 4 << 20  # of one command, either way
CLOSE_S: Final = 10.0


class DevicePort:
    """The way for CDBs to one device.

    Args:
        name: of the device, for texts.
        device: how a worker reaches it now; None = not at all.
        timeout_s: how long the device may take for anything; None = as the table of deadlines says.

    Attributes:
        worker: who has the device open; None = nobody.
    """

    def __init__(
        self, supervisor: Supervisor, name: str, device: Callable[[], DeviceSpec | None], timeout_s: float | None
    ) -> None:
        self._supervisor = supervisor
        self._name = name
        self._device = device
        self._timeout_s = timeout_s
        self._memory: RecordMemory | None = None
        self._turn = trio.Lock()
        self.worker: Worker | None = None

    async def open(self) -> None:
        """Make the way now. Raises Refusal."""
        async with self._turn:
            await self._open()

    async def _open(self) -> None:
        if self.worker is not None and self.worker.alive:
            return
        await self._drop()
        spec = self._device()
        if spec is None:
            raise Refusal(ErrorCode.NO_DEVICE_ERR, f"{self._name}: the kernel has no sg node for it")
        deadline_s = OPEN_DEVICE_S if self._timeout_s is None else self._timeout_s + LATE_S
        try:
            self._memory = RecordMemory(DATA_BYTES_MAX)
            self.worker = await self._supervisor.take("tape")
            reply = await self._ask(OpenDevice(spec), deadline_s, [self._memory.fd])
        except OSError as error:
            await self._drop()
            raise Refusal(ErrorCode.IO_ERR, f"{self._name}: {error}") from error
        if not isinstance(reply, DeviceOpened):
            await self._drop()
            raise Refusal(ErrorCode.IO_ERR, f"{self._name}: the worker answered with {type(reply).__name__}")

    async def execute(self, cdb: bytes, data_out: bytes = b"", data_in: int = 0, wanted_s: float = 0) -> scsi.Answer:
        """Have the device do a command.

        Args:
            data_in: most bytes that it may answer with, where nothing goes out.
            wanted_s: how long it may take; 0 = as the table of deadlines says.

        Raises:
            Refusal: it was not done, or nobody knows: TIMEOUT_ERR when the time was over.
            DeviceHungError: not even the worker came back in time.
        """
        if len(data_out) > DATA_BYTES_MAX:
            raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
        async with self._turn:
            await self._open()
            memory = self._memory
            assert memory is not None, "the device is open"
            if data_out:
                memory.store(data_out)
            length = len(data_out) or min(data_in, DATA_BYTES_MAX)
            timeout_s = command_timeout_s(cdb, self._timeout_s, wanted_s)
            command = ExecuteCommand(cdb, length, bool(data_out), timeout_s)
            reply = await self._ask(command, timeout_s + LATE_S)
            assert isinstance(reply, CommandDone), reply
            data = memory.load(reply.transferred) if not data_out else b""
        return scsi.Answer(reply.status, data, reply.sense, reply.transferred if data_out else 0)

    async def _ask(self, message: "ToWorker", deadline_s: float, descriptors: list[int] | None = None) -> "Reply":
        """Raises Refusal, and the worker is gone then, but for a request that it found wrong."""
        worker = self.worker
        assert worker is not None, "a worker was taken"
        try:
            reply = await worker.request(message, descriptors or [], deadline_s=deadline_s)
        except WorkerDied as error:
            await self._drop()
            raise Refusal(ErrorCode.IO_ERR, f"{self._name}: {error}") from error
        except WorkerHung as error:
            worker.kill()
            await self._drop()
            raise DeviceHungError(worker, f"{self._name}: {error}") from error
        except BaseException:  # cancelled: what the device does is not waited for
            worker.kill()
            await self._drop()
            raise
        if isinstance(reply, Refused):
            if reply.error != ErrorCode.ILLEGAL_ARGS_ERR:
                await self._drop()
            raise Refusal(ErrorCode(reply.error), f"{self._name}: {reply.text}")
        return reply

    async def close(self) -> None:
        """Give the device back; a second time does nothing. Bounded, whatever the device does."""
        with trio.CancelScope(shield=True):
            worker = self.worker
            if worker is not None and worker.alive:
                try:
                    await worker.request(CloseDevice(), deadline_s=CLOSE_S)
                except (WorkerDied, WorkerHung):
                    worker.kill()
            await self._drop()

    async def _drop(self) -> None:
        worker, self.worker = self.worker, None
        memory, self._memory = self._memory, None
        if worker is not None:
            await worker.stop()
        if memory is not None:
            memory.close()


class DeviceHungError(Refusal):
    """A device did not let its worker come back within the deadline.

    Attributes:
        worker: which has been killed, but may not have ended.
    """

    def __init__(self, worker: Worker, text: str) -> None:
        super().__init__(ErrorCode.TIMEOUT_ERR, text)
        self.worker = worker
