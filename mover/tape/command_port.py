"""A device that a tape worker passes CDBs on to: a changer, or a drive that nobody has open as a tape."""

import mmap
import os

from mover.tape.codes import Error
from mover.tape.drive import DriveError
from mover.tape.open_drive import open_transport
from mover.tape.transport import Status, Transport, TransportError
from mover.workers.device_messages import CloseDevice, CommandDone, DeviceOpened, ExecuteCommand, OpenDevice
from mover.workers.messages import Done, Refused

NOT_OPEN = "no device is open"


class CommandPort:
    """The device that a worker has open for CDBs, and the memory for their data."""

    def __init__(self) -> None:
        self._transport: Transport | None = None
        self._memory: mmap.mmap | None = None

    def open(self, message: OpenDevice, memory: int) -> DeviceOpened | Refused:
        """Open it; ``memory`` stays the caller's."""
        if self._transport is not None:
            return Refused(Error.DEVICE_OPENED, "a device is open already")
        try:
            transport = open_transport(message.device)
        except DriveError as error:
            return Refused(error.error, str(error))
        try:
            self._memory = mmap.mmap(memory, os.fstat(memory).st_size)
        except (OSError, ValueError) as error:
            transport.close()
            return Refused(Error.IO, f"{message.device.name}: no memory for the data of commands: {error}")
        self._transport = transport
        return DeviceOpened()

    def execute(self, message: ExecuteCommand) -> CommandDone | Refused:
        """Have the device do a command."""
        if self._transport is None or self._memory is None:
            return Refused(Error.DEV_NOT_OPEN, NOT_OPEN)
        return execute(self._transport, self._memory, message)

    def close(self, _: CloseDevice) -> Done:
        """Give it back; a second time does nothing."""
        if self._transport is not None:
            self._transport.close()
        self._transport = self._memory = None
        return Done()


def execute(transport: Transport, memory: mmap.mmap, message: ExecuteCommand) -> CommandDone | Refused:
    """Have a device do a command whose data lies in ``memory``, or comes there."""
    if not 0 <= message.length <= len(memory):
        return Refused(Error.ILLEGAL_ARGS, f"{message.length} bytes of data, at most {len(memory)}")
    try:
        if message.length == 0:
            reply = transport.execute(message.cdb, timeout_s=message.timeout_s)
        else:
            with memoryview(memory) as whole, whole[: message.length] as data:
                reply = transport.execute(message.cdb, data, writes=message.writes, timeout_s=message.timeout_s)
    except TransportError as error:
        return Refused(Error.TIMEOUT if error.timed_out else Error.IO, str(error))
    sense = reply.sense if reply.status == Status.CHECK_CONDITION else b""
    return CommandDone(reply.status, sense, min(reply.transferred, message.length))
