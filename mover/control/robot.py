"""Operators at a real changer: what is in its elements, and moves, by the changer's own commands.

Elements have the names of a virtual library's, counted within their kind: slot0, drive0, mail0. Their addresses are the
changer's. Nothing is remembered: a robot's cartridges come and go by hands that nobody here sees.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from mover import scsi
from mover.control.cartridges import InventoryError
from mover.control.changer import ELEMENTS
from mover.control.device_port import DeviceHungError, DevicePort
from mover.control.refusal import Refusal
from mover.control.store import Location
from mover.scsi import ElementKind

if TYPE_CHECKING:
    from mover.control.device_changer import DeviceChanger
    from mover.control.drives import DriveBay
    from mover.control.node import Node

KINDS: Final = tuple(ELEMENTS)
AT_ONCE: Final = 1000  # elements asked for in one command
ELEMENT_BYTES: Final = 256  # more than a descriptor has
READY_S: Final = 120.0  # how long a device may say that it becomes ready, or that it is busy
_AGAIN_S: Final = 1.0
_ATTENTIONS: Final = 16  # in a row, of a device that has more to tell each time it is asked
_BECOMING_READY: Final = (0x2, 0x04, 0x01)
_ILLEGAL, _ATTENTION = 0x5, 0x6
_LOAD, _UNLOAD, _READY = b"\x1b\0\0\0\x01\0", b"\x1b\0\0\0\0\0", bytes(6)


class Slot(NamedTuple):
    """An element of a real changer under its name, and what it reports of it."""

    where: Location
    report: scsi.ReportedElement


class CommandFailed(Exception):  # noqa: N818 - the device's own word
    """A device ended a command with CHECK CONDITION, or is busy."""

    def __init__(self, name: str, sense: scsi.Sense, status: int) -> None:
        said = str(sense) if status == scsi.Status.CHECK_CONDITION else f"status {status:02X}h"
        super().__init__(f"{name}: {said}")
        self.sense = sense


async def command(port: DevicePort, name: str, cdb: bytes, data_in: int = 0) -> bytes:
    """The data of a command that is good in the end: unit attentions are taken note of, and a busy device waited for.

    Raises:
        CommandFailed, Refusal: it is not.
    """
    attentions, give_up = 0, trio.current_time() + READY_S
    while True:
        answer = await port.execute(cdb, data_in=data_in)
        if answer.status == scsi.Status.GOOD:
            return answer.data
        sense = scsi.read_sense(answer.sense)
        if answer.status == scsi.Status.CHECK_CONDITION and sense.key == _ATTENTION and attentions < _ATTENTIONS:
            attentions += 1
            continue
        waits = answer.status == scsi.Status.BUSY or sense == _BECOMING_READY
        if not waits or trio.current_time() > give_up:
            raise CommandFailed(name, sense, answer.status)
        await trio.sleep(_AGAIN_S)


class Robot:
    """A changer that an operator has meanwhile."""

    def __init__(self, changer: DeviceChanger, port: DevicePort) -> None:
        self.changer = changer
        self._port = port
        self._assignment: dict[ElementKind, range] | None = None

    async def _command(self, cdb: bytes, data_in: int = 0) -> bytes:
        return await command(self._port, self.changer.name, cdb, data_in)

    async def assignment(self) -> dict[ElementKind, range]:
        """The addresses of each kind; without MODE SENSE all that there can be."""
        if self._assignment is None:
            found: dict[ElementKind, range] = {}
            for cdb, header in scsi.ASSIGNMENT_REQUESTS:
                try:
                    found = scsi.read_assignment(await self._command(cdb, 255), header)
                except CommandFailed as error:
                    if error.sense.key != _ILLEGAL:
                        raise
                if found:
                    break
            self._assignment = found or dict.fromkeys((ElementKind.TRANSPORT, *KINDS), range(0xFFFF))
        return self._assignment

    async def elements(self, kinds: Iterable[ElementKind] = KINDS) -> list[Slot]:
        """What is in the elements, in the order of their kinds and addresses."""
        found = []
        assignment = await self.assignment()
        for kind in kinds:
            reports = await self._reports(kind, assignment[kind])
            first = min((each.address for each in reports), default=0)
            known = assignment[kind].start if len(assignment[kind]) < 0xFFFF else first
            found += [Slot(Location(ELEMENTS[kind], each.address - known), each) for each in reports]
        return found

    async def _reports(self, kind: ElementKind, addresses: range) -> list[scsi.ReportedElement]:
        reports: dict[int, scsi.ReportedElement] = {}
        for at in range(addresses.start, addresses.stop, AT_ONCE):
            some = range(at, min(at + AT_ONCE, addresses.stop))
            data = await self._status(kind, some)
            reports |= {each.address: each for each in scsi.read_elements(data, kind) if each.address in some}
        return [reports[address] for address in sorted(reports)]

    async def _status(self, kind: ElementKind, addresses: range) -> bytes:
        length = 16 + len(addresses) * ELEMENT_BYTES
        if kind is ElementKind.DATA_TRANSFER:
            try:
                return await self._command(scsi.status_request(kind, addresses, length, device_ids=True), length)
            except CommandFailed as error:
                if error.sense.key != _ILLEGAL:
                    raise
        return await self._command(scsi.status_request(kind, addresses, length), length)

    async def look(self) -> None:
        """INITIALIZE ELEMENT STATUS: the robot looks at every element."""
        await self._command(b"\x07" + bytes(5))

    async def move(self, source: Slot, destination: Slot) -> None:
        """MOVE MEDIUM by the transport that the robot itself chooses."""
        transport = (await self.assignment())[ElementKind.TRANSPORT]
        address = transport.start if 0 < len(transport) < 0xFFFF else 0
        await self._command(scsi.move_request(address, source.report.address, destination.report.address))


@asynccontextmanager
async def _port_of(node: Node, device: DeviceChanger | DriveBay) -> AsyncIterator[DevicePort]:
    """The way to a device for an operator's command, whose failures are told as the inventory's."""
    port = DevicePort(node.supervisor, device.name, device.device, device.timeout_s)
    try:
        yield port
    except CommandFailed as error:
        raise InventoryError("refused", str(error)) from error
    except DeviceHungError as error:
        node.hung.note(device, error.worker, error.text)
        raise InventoryError("failed", error.text) from error
    except Refusal as refusal:
        raise InventoryError("failed", refusal.text or f"{device.name}: {refusal.error.name}") from refusal
    finally:
        await port.close()


@asynccontextmanager
async def robot_of(node: Node, changer: DeviceChanger) -> AsyncIterator[Robot]:
    """A changer for an operator's command. Raises InventoryError: it is not free, or does not do what it is told."""
    with changer.operating():
        async with _port_of(node, changer) as port:
            yield Robot(changer, port)


def drive_of(slot: Slot, drives: Iterable[DriveBay]) -> DriveBay | None:
    """The configured drive in a drive's element, by the serial number that the changer knows; None = not known."""
    if not slot.report.device:
        return None
    words = slot.report.device.split()
    return next((bay for bay in drives if bay.identity.serial and bay.identity.serial in words), None)


async def load_drive(node: Node, bay: DriveBay, *, load: bool) -> None:
    """LOAD or UNLOAD of a real drive itself. Raises InventoryError."""
    async with _port_of(node, bay) as port:
        await command(port, bay.name, _LOAD if load else _UNLOAD)
        if load:  # drives take the command without a cartridge, too
            await command(port, bay.name, _READY)
