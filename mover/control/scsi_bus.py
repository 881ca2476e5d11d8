"""The SCSI buses of this node: which device answers at controller, id and LUN, and who has it.

A library is a bus of its own, numbered in the order of the configuration: id 0 is its changer, id 1 and on are its
drives. The drives of their own share the bus behind the last library. Every device is LUN 0. A bus is opened by its
name, that of its library, to be scanned; a device by its own.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from mover import scsi
from mover.control.changer import LibraryChanger
from mover.control.drives import Devices, DriveBay

OWN_DRIVES: Final = "drives"  # no library can be meant: its bus is found first


class Address(NamedTuple):
    """Where a device answers."""

    controller: int
    id: int
    lun: int = 0


class ScsiTarget:
    """A device on a bus: a changer or a drive."""

    def __init__(self, device: LibraryChanger | DriveBay, address: Address) -> None:
        self._device = device
        self.address = address

    @property
    def name(self) -> str:
        return self._device.name

    def lease(self, session_id: int) -> bool:
        """Have the device for this connection alone; False = another has it, or a cartridge is on its way."""
        device = self._device
        if device.session_id is None and not (isinstance(device, DriveBay) and device.moves):
            device.session_id = session_id
        return device.session_id == session_id

    def release(self, session_id: int) -> None:
        """Give it back, if this connection has it."""
        if self._device.session_id != session_id:
            return
        self._device.session_id = None
        if isinstance(self._device, LibraryChanger):
            self._device.closed()

    def reset(self, fault: scsi.Fault) -> None:
        """RESET DEVICE, RESET BUS. A drive keeps nothing that could be reset."""
        if isinstance(self._device, LibraryChanger):
            self._device.reset(fault)

    async def execute(self, cdb: bytes, data_out: bytes, *, owner: bool, record_bytes_max: int) -> scsi.Answer:
        """A CDB.

        Args:
            owner: it comes from who has the lease.
            record_bytes_max: longest record of a drive.
        """
        if isinstance(self._device, LibraryChanger):
            return await self._device.execute(cdb, data_out, owner=owner)
        return _execute_on(self._device, cdb, data_out, record_bytes_max, owner=owner)


def _execute_on(bay: DriveBay, cdb: bytes, data_out: bytes, record_bytes_max: int, *, owner: bool) -> scsi.Answer:
    """A CDB to a drive that nobody has open as a tape: nobody is there to move it, but it may be asked and ejected."""
    unit = scsi.TapeDrive(
        bay.identity,
        scsi.TapeStatus() if bay.path is not None else None,
        write_protected=bay.write_protected(),
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


class ScsiBus:
    """All buses of the node."""

    def __init__(self, devices: Devices) -> None:
        self._names: list[str] = []
        self._targets: dict[Address, ScsiTarget] = {}
        for name, changer in devices.changers.items():
            self._add(name, chain([changer], changer.bays), 0)
        own = [bay for bay in devices if not bay.library]
        if own:
            self._add(OWN_DRIVES, own, 1)

    def _add(self, name: str, devices: Iterable[LibraryChanger | DriveBay], first: int) -> None:
        for number, device in enumerate(devices, start=first):
            address = Address(len(self._names), number)
            self._targets[address] = ScsiTarget(device, address)
        self._names.append(name)

    def __iter__(self) -> Iterator[ScsiTarget]:
        return iter(self._targets.values())

    def has(self, name: str) -> bool:
        """Whether a bus has this name."""
        return name in self._names

    def has_controller(self, controller: int) -> bool:
        """Whether there is a bus with this number."""
        return controller < len(self._names)

    def find(self, name: str) -> ScsiTarget | None:
        """The device of that name."""
        return next((target for target in self if target.name == name), None)

    def at(self, address: Address) -> ScsiTarget | None:
        """The device that answers there."""
        return self._targets.get(address)
