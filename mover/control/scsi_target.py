"""A device as CDBs find it: whose it is, and what becomes of a command; emulated, or a real one behind a worker."""

import math
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import trio

from mover import scsi
from mover.control.changer import LibraryChanger
from mover.control.device_changer import DeviceChanger
from mover.control.device_port import DeviceHungError, DevicePort
from mover.control.drives import DriveBay
from mover.control.hung import HungDevices, describe_hung
from mover.control.looks import look
from mover.control.refusal import Refusal
from mover.control.workers import Supervisor
from mover.ndmp.enums import ErrorCode

if TYPE_CHECKING:
    from mover.control.node import Node


class Address(NamedTuple):
    """Where a device answers."""

    controller: int
    id: int
    lun: int = 0


class Command(NamedTuple):
    """A CDB with its data.

    Attributes:
        data_in: most bytes that the device may answer with.
        timeout_s: how long it may take; 0 = the client does not say.
    """

    cdb: bytes
    data_out: bytes
    data_in: int
    timeout_s: float


class ScsiTarget(ABC):
    """A device on a bus."""

    def __init__(self, device: LibraryChanger | DeviceChanger | DriveBay, address: Address) -> None:
        self._device = device
        self.address = address

    @property
    def name(self) -> str:
        return self._device.name

    def is_free_for(self, session_id: int) -> bool:
        """Whether this connection has the device, or could have it now."""
        device = self._device
        if isinstance(device, (DriveBay, DeviceChanger)) and device.hung_since is not None:
            return False
        if device.session_id is not None:
            return device.session_id == session_id
        return not isinstance(device, (DriveBay, DeviceChanger)) or not device.moves

    def lease(self, session_id: int) -> bool:
        """Have the device for this connection alone; False = another has it, a cartridge is on its way, it hangs."""
        if not self.is_free_for(session_id):
            return False
        self._device.session_id = session_id
        return True

    def why_busy(self) -> str:
        """A line for who did not get it; "" = another has it."""
        device = self._device
        if isinstance(device, (DriveBay, DeviceChanger)) and device.hung_since is not None:
            return describe_hung(device)
        return ""

    async def open(self) -> None:  # noqa: B027 - nothing is to be done for emulated ones
        """Be sure that commands reach the device, which this connection has. Raises Refusal."""

    async def release(self, session_id: int) -> None:
        """Give it back, if this connection has it."""
        if self._device.session_id == session_id:
            await self._close()
            self._device.session_id = None

    @abstractmethod
    async def _close(self) -> None:
        """Nobody has it any more."""

    @abstractmethod
    async def reset(self, fault: scsi.Fault) -> None:
        """RESET DEVICE, RESET BUS."""

    @abstractmethod
    async def execute(self, command: Command, *, owner: bool, record_bytes_max: int) -> scsi.Answer:
        """A CDB. Raises Refusal.

        Args:
            owner: it comes from who has the lease.
            record_bytes_max: longest record of a virtual drive.
        """


class EmulatedTarget(ScsiTarget):
    """The changer of a virtual library, or a virtual drive."""

    async def _close(self) -> None:
        if isinstance(self._device, LibraryChanger):
            self._device.closed()

    async def reset(self, fault: scsi.Fault) -> None:
        if isinstance(self._device, LibraryChanger):  # a drive keeps nothing that could be reset
            self._device.reset(fault)

    async def execute(self, command: Command, *, owner: bool, record_bytes_max: int) -> scsi.Answer:
        with trio.move_on_after(command.timeout_s or math.inf):
            if isinstance(self._device, LibraryChanger):
                return await self._device.execute(command.cdb, command.data_out, owner=owner)
            assert isinstance(self._device, DriveBay), "a real changer is no emulated target"
            protected = await write_protected(self._device)
            return _execute_on(
                self._device, command.cdb, command.data_out, record_bytes_max, owner=owner, protected=protected
            )
        raise Refusal(ErrorCode.TIMEOUT_ERR, f"{self.name} was not free within {command.timeout_s:g} s")


async def write_protected(bay: DriveBay) -> bool:
    """Whether the cartridge in a drive may not be written. Raises Refusal: where it lies nothing answers."""
    path = bay.path
    if path is None or bay.real:
        return False
    try:
        return await look(os.path.dirname(path), bay.write_protected)
    except OSError as error:
        raise Refusal(ErrorCode.IO_ERR, f"{bay.name}: {error.filename} {error.strerror}") from error


def _execute_on(
    bay: DriveBay, cdb: bytes, data_out: bytes, record_bytes_max: int, *, owner: bool, protected: bool
) -> scsi.Answer:
    """A CDB to a drive that nobody has open as a tape: nobody is there to move it, but it may be asked and ejected."""
    unit = scsi.TapeDrive(
        bay.identity,
        scsi.TapeStatus() if bay.path is not None else None,
        write_protected=protected,
        record_bytes_max=record_bytes_max,
        ejects=True,
    )
    outcome = unit.execute(cdb, data_out, owner=owner)
    if isinstance(outcome, scsi.Answer):
        return outcome
    assert isinstance(outcome, scsi.LoadUnload), "only an open tape is moved"
    if outcome.load and bay.path is None:
        if not bay.ejected:
            return scsi.refusal(scsi.Fault.NO_MEDIUM)
        bay.thread()
    elif not outcome.load and bay.path is not None:
        bay.eject()
    return scsi.Answer()


class DeviceTarget(ScsiTarget):
    """A real changer, or a real drive that nobody has open as a tape."""

    def __init__(
        self, device: DeviceChanger | DriveBay, address: Address, supervisor: Supervisor, hung: HungDevices
    ) -> None:
        super().__init__(device, address)
        self._real = device
        self._hung = hung
        self._port = DevicePort(supervisor, device.name, device.device, device.timeout_s)

    async def open(self) -> None:
        try:
            await self._port.open()
        except DeviceHungError as error:
            self._hung.note(self._real, error.worker, error.text)
            raise

    async def _close(self) -> None:
        await self._port.close()

    async def reset(self, fault: scsi.Fault) -> None:
        """The way to the device is made anew, so that it forgets what this nexus had: others' jobs on it go on."""
        await self._port.close()

    async def execute(self, command: Command, *, owner: bool, record_bytes_max: int) -> scsi.Answer:
        if not owner:
            if self._real.hung_since is not None:
                raise Refusal(ErrorCode.IO_ERR, describe_hung(self._real))
            return scsi.tell_bystander(self._real.identity, command.cdb)
        try:
            return await self._port.execute(command.cdb, command.data_out, command.data_in, command.timeout_s)
        except DeviceHungError as error:
            self._hung.note(self._real, error.worker, error.text)
            raise


def target_of(node: "Node", device: LibraryChanger | DeviceChanger | DriveBay, address: Address) -> ScsiTarget:
    """The target for a device."""
    if isinstance(device, LibraryChanger) or not device.real:
        return EmulatedTarget(device, address)
    return DeviceTarget(device, address, node.supervisor, node.hung)
