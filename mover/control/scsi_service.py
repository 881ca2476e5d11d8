"""The SCSI service of a connection: the device, or the bus, that it has open, and the target its CDBs go to.

Whoever opens a device by its name has it alone, until SCSI_CLOSE. SET_TARGET goes to any other address, and has the
device there while it stays. One that somebody else has tells its name, and answers everything else with RESERVATION
CONFLICT.
Source: NDMPv4 section 3.3; NDMPv1 section 3.3; states.md sections 2.5 and 6.
"""

from typing import TYPE_CHECKING, Final

import trio

from mover import scsi
from mover.control.affinity import device_elsewhere
from mover.control.refusal import Refusal
from mover.control.scsi_target import Address, Command, ScsiTarget
from mover.ndmp.enums import CdbFlag, ErrorCode
from mover.ndmp.messages import ExecuteCdbRequest

if TYPE_CHECKING:
    from mover.control.connection import Connection

BUSES_UNTIL: Final = 3  # the last version that can set a target
PHASES: Final = (0, CdbFlag.DATA_IN, CdbFlag.DATA_OUT)  # a command has one phase of data (messages.md section 6)


class ScsiService:
    """What this connection has open of the SCSI interface.

    Attributes:
        is_open: whether a device or a bus is.
        target: where CDBs go; None = no target is set.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.is_open = False
        self.target: ScsiTarget | None = None
        self._opened: ScsiTarget | None = None  # by its name
        self._missing = ErrorCode.NO_DEVICE_ERR  # what a CDB meets while there is no target

    @property
    def _bus_is_settable(self) -> bool:
        return self._connection.version <= BUSES_UNTIL

    def audit(self) -> None:
        """Raise Refusal when nothing is open."""
        if not self.is_open:
            raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)

    async def open(self, device: bytes) -> None:
        """SCSI_OPEN: a device of a bus, or a bus by the name of its library. Raises Refusal."""
        if self.is_open or self._connection.tape.is_open:
            raise Refusal(ErrorCode.DEVICE_OPENED_ERR)
        bus = self._connection.node.scsi_bus.seen_by(self._connection)
        name = self._connection.node.cluster.own_name(device.decode("utf-8", "replace"))
        target = bus.find(name)
        if target is None and not (self._bus_is_settable and bus.has(name)):
            raise Refusal(ErrorCode.NO_DEVICE_ERR, device_elsewhere(self._connection, name))
        if target is not None:
            await self._have(target)
        self.is_open, self._missing = True, ErrorCode.NO_DEVICE_ERR
        self.target = self._opened = target

    async def _have(self, target: ScsiTarget) -> None:
        session_id = self._connection.session_id
        if not target.lease(session_id):
            raise Refusal(ErrorCode.DEVICE_BUSY_ERR, target.why_busy())
        try:
            await target.open()
        except BaseException:
            await target.release(session_id)
            raise

    async def close(self) -> None:
        """SCSI_CLOSE, and the end of the connection: locks and reservations go with the lease."""
        targets = {self.target, self._opened}
        self.is_open, self.target, self._opened = False, None, None
        with trio.CancelScope(shield=True):  # a real device is given back in a bounded time
            for target in targets:
                if target is not None:
                    await target.release(self._connection.session_id)

    async def set_target(self, device: bytes, address: Address) -> None:
        """SET_TARGET: by name or, with an empty one, by address. Raises Refusal; the target before it stands then.

        Version 1 lists no error for an address where nothing answers: EXECUTE_CDB says so (NDMPv1 3.3.4, 3.3.7).
        """
        self.audit()
        bus = self._connection.node.scsi_bus.seen_by(self._connection)
        target = bus.find(device.decode("utf-8", "replace")) if device else bus.at(address)
        if target is None:
            has_bus = bool(device) or bus.has_controller(address.controller)
            error = ErrorCode.NO_DEVICE_ERR if has_bus else ErrorCode.NO_BUS_ERR
            if self._connection.version > 1:
                raise Refusal(error)
            self._missing = error
        if self.target is not None and self.target not in {target, self._opened}:
            await self.target.release(self._connection.session_id)
        self.target = target
        if target is not None:
            target.lease(self._connection.session_id)

    async def reset(self, fault: scsi.Fault) -> None:
        """RESET_DEVICE and RESET_BUS: of what this connection has; the jobs of others go on. Raises Refusal."""
        self.audit()
        if self.target is not None and self.target.lease(self._connection.session_id):
            await self.target.reset(fault)

    async def execute(self, request: ExecuteCdbRequest) -> scsi.Answer:
        """EXECUTE_CDB. Raises Refusal."""
        command = audit_command(request)
        self.audit()
        if self.target is None:
            raise Refusal(self._missing)
        owner = self.target.lease(self._connection.session_id)
        record_bytes_max = self._connection.config.limits.record_size_max
        return await self.target.execute(command, owner=owner, record_bytes_max=record_bytes_max)


def audit_command(request: ExecuteCdbRequest) -> Command:
    """What a request asks for, unless its arguments are wrong. Raises Refusal."""
    if not request.cdb or request.flags not in PHASES:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    return Command(
        request.cdb,
        request.dataout if request.flags & CdbFlag.DATA_OUT else b"",
        request.datain_len if request.flags & CdbFlag.DATA_IN else 0,
        request.timeout / 1000,
    )


def data_in(request: ExecuteCdbRequest, answer: scsi.Answer) -> bytes:
    """What goes back to the DMA of the device's data."""
    return answer.data[: request.datain_len] if request.flags & CdbFlag.DATA_IN else b""
