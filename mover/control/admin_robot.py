"""The commands of operators at a real changer, and at the drives that it loads."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

import structlog

from mover.admin import messages as a
from mover.admin import tapes
from mover.control.cartridges import InventoryError
from mover.control.robot import Robot, Slot, drive_of, load_drive, robot_of
from mover.control.store import Element, Location
from mover.scsi import ElementKind

if TYPE_CHECKING:
    from mover.control.device_changer import DeviceChanger
    from mover.control.drives import DriveBay
    from mover.control.node import Node

ORDER: Final = (ElementKind.DATA_TRANSFER, ElementKind.IMPORT_EXPORT, ElementKind.STORAGE)
_ELEMENT: Final = re.compile(r"(slot|drive|mail)(0|[1-9][0-9]{0,4})")

log = structlog.get_logger()


def parse_element(name: str, expected: str) -> Location:
    """The element of that name. Raises InventoryError."""
    match = _ELEMENT.fullmatch(name)
    if match is None:
        raise InventoryError("bad-request", f"{name!r} is not {expected} (elements: slot0, drive0, mail0 and so on)")
    element: Element = "slot" if match[1] == "slot" else "drive" if match[1] == "drive" else "mail"
    return Location(element, int(match[2]))


# --- mover library


async def status(node: Node, changer: DeviceChanger) -> tapes.LibraryStatus:
    """What a changer reports; while somebody else has it, or it does not answer, why there is nothing to tell."""
    slots: list[Slot] = []
    error = ""
    await node.identities.wait()
    try:
        async with robot_of(node, changer) as robot:
            slots = await robot.elements(ORDER)
    except InventoryError as refused:
        error = str(refused)
    identity = changer.identity
    return tapes.LibraryStatus(
        name=changer.name,
        directory=changer.path,
        changer=changer.name,
        session_id=changer.session_id,
        elements=[_element(node, slot, slots) for slot in slots],
        error=error,
        hung_since=changer.hung_since,
        model=f"{identity.vendor} {identity.product}".strip(),
        serial=identity.serial,
    )


def _element(node: Node, slot: Slot, slots: list[Slot]) -> tapes.ElementStatus:
    report = slot.report
    home = next((each.where for each in slots if report.full and each.report.address == report.source), None)
    bay = drive_of(slot, node.devices) if slot.where.element == "drive" else None
    return tapes.ElementStatus(
        element=str(slot.where),
        address=report.address,
        barcode=report.barcode,
        home=str(home) if home is not None else "",
        imported=report.imported,
        full=report.full,
        drive=bay.name if bay is not None else "",
        exception="" if report.exception is None else f"{report.exception[0]:02X}h/{report.exception[1]:02X}h",
    )


async def look(node: Node, changer: DeviceChanger) -> a.Done:
    """Have the robot look at every element. Raises InventoryError."""
    async with robot_of(node, changer) as robot:
        await robot.look()
        full = [slot for slot in await robot.elements(ORDER) if slot.report.full]
    return a.Done(f"{changer.name} holds {len(full)} cartridges", sorted(slot.report.barcode for slot in full))


async def move(node: Node, changer: DeviceChanger, source: str, destination: str) -> a.Done:
    """Move a cartridge, named by its barcode or its element. Raises InventoryError."""
    where = parse_element(destination, "an element")
    async with robot_of(node, changer) as robot:
        await node.identities.wait()
        slots = await robot.elements(ORDER)
        start = _with_barcode(slots, source) or _at(slots, parse_element(source, "an element or a barcode"))
        moved = await _carry(node, robot, start, _at(slots, where))
    return a.Done(f"{moved} is in {where} of {changer.name}", [start.report.barcode])


def _with_barcode(slots: list[Slot], barcode: str) -> Slot | None:
    return next((slot for slot in slots if slot.report.full and slot.report.barcode == barcode), None)


def _at(slots: list[Slot], where: Location) -> Slot:
    for slot in slots:
        if slot.where == where:
            return slot
    raise InventoryError("not-found", f"there is no {where}")


async def _carry(node: Node, robot: Robot, source: Slot, destination: Slot) -> str:
    """Move a cartridge; the drives that it comes from and goes to are nobody else's meanwhile. Returns what it is."""
    drives = [drive_of(slot, node.devices) for slot in (source, destination)]
    with (
        drives[0].moving() if drives[0] is not None else nullcontext(),
        drives[1].moving() if drives[1] is not None else nullcontext(),
    ):
        if drives[0] is not None:
            await _let_go(node, drives[0])
        await robot.move(source, destination)
    barcode = source.report.barcode or "the cartridge"
    log.info("cartridge moved", changer=robot.changer.name, barcode=barcode, to=str(destination.where))
    return barcode


async def _let_go(node: Node, bay: DriveBay) -> None:
    """Have a drive unload its tape; one that does not says so by the move that fails."""
    try:
        await load_drive(node, bay, load=False)
    except InventoryError as error:
        log.warning("drive does not unload", drive=bay.name, error=str(error))


# --- mover tape


async def load(node: Node, bay: DriveBay, barcode: str | None) -> a.Done:
    """Put the cartridge of that barcode into a drive; without one thread what is in it. Raises InventoryError."""
    if barcode is None:
        with bay.moving():
            await load_drive(node, bay, load=True)
        return a.Done(f"{bay.name} has loaded what is in it", [])
    changer = await _changer_of(node, bay)
    if changer is None:
        raise InventoryError("refused", f"no changer of the configuration knows {bay.name}: it is loaded by hand")
    async with robot_of(node, changer) as robot:
        slots = await robot.elements(ORDER)
        start = _with_barcode(slots, barcode)
        if start is None:
            raise InventoryError("not-found", f"there is no cartridge {barcode} in {changer.name}")
        await _carry(node, robot, start, _element_of(node, bay, slots))
    return a.Done(f"{barcode} is in {bay.name}", [barcode])


async def unload(node: Node, bay: DriveBay) -> a.Done:
    """Have a drive unload, and its changer put the cartridge back into its slot. Raises InventoryError."""
    changer = await _changer_of(node, bay)
    if changer is None:
        with bay.moving():
            await load_drive(node, bay, load=False)
        return a.Done(f"{bay.name} has unloaded; no changer of the configuration knows it", [])
    async with robot_of(node, changer) as robot:
        slots = await robot.elements(ORDER)
        start = _element_of(node, bay, slots)
        if not start.report.full:
            raise InventoryError("refused", f"{bay.name} is empty")
        home = _home(slots, start)
        moved = await _carry(node, robot, start, home)
    return a.Done(f"{moved} is out of {bay.name}, in {home.where} of {changer.name}", [start.report.barcode])


def _element_of(node: Node, bay: DriveBay, slots: list[Slot]) -> Slot:
    for slot in slots:
        if slot.where.element == "drive" and drive_of(slot, node.devices) is bay:
            return slot
    raise InventoryError("failed", f"the changer does not know {bay.name} any more")


def _home(slots: list[Slot], start: Slot) -> Slot:
    """Where a cartridge came from, if that is free; else the first free slot. Raises InventoryError."""
    free = [slot for slot in slots if slot.where.element == "slot" and not slot.report.full]
    if not free:
        raise InventoryError("refused", "there is no free slot")
    return next((slot for slot in free if slot.report.address == start.report.source), free[0])


async def _changer_of(node: Node, bay: DriveBay) -> DeviceChanger | None:
    """The changer that has a drive of this serial number; None = none says so. Raises InventoryError."""
    await node.identities.wait()
    refused: InventoryError | None = None
    for changer in node.devices.own_changers:
        try:
            async with robot_of(node, changer) as robot:
                drives = await robot.elements([ElementKind.DATA_TRANSFER])
        except InventoryError as error:
            refused = error
            continue
        if any(drive_of(slot, [bay]) is bay for slot in drives):
            return changer
    if refused is not None:  # it might be this one
        raise refused
    return None
