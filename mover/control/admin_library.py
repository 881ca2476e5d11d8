"""The commands `mover library`: what is in the elements of a library, and moving cartridges by hand.

Of virtual libraries; those of real changers are in `mover/control/admin_robot.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mover.admin import messages as a
from mover.admin import tapes
from mover.control import admin_robot
from mover.control.admin_robot import parse_element
from mover.control.cartridges import InventoryError
from mover.control.changer import LibraryChanger, address_of
from mover.control.device_changer import DeviceChanger
from mover.control.drives import Devices
from mover.control.store import Element, Location

if TYPE_CHECKING:
    from mover.control.node import Node

ORDER: Final[tuple[Element, ...]] = ("drive", "mail", "slot")
LISTED: Final = 5  # names in a line for people


def find_changer(devices: Devices, library: str) -> LibraryChanger | DeviceChanger:
    """The changer of a library, or a real one. Raises InventoryError."""
    changers: dict[str, LibraryChanger | DeviceChanger] = {each.name: each for each in devices.own_changers}
    changers |= devices.changers
    if library not in changers:
        known = ", ".join([*devices.changers, *(each.name for each in devices.own_changers)]) or "none"
        raise InventoryError("not-found", f"there is no library {library} (libraries: {known})")
    return changers[library]


async def show(node: Node, request: tapes.LibraryShow) -> tapes.LibraryShowReply:
    """Every library and real changer, or the one named. Raises InventoryError."""
    devices = node.devices
    changers: list[LibraryChanger | DeviceChanger] = [*devices.changers.values(), *devices.own_changers]
    if request.library is not None:
        changers = [find_changer(devices, request.library)]
    return tapes.LibraryShowReply(
        [
            await admin_robot.status(node, changer) if isinstance(changer, DeviceChanger) else _status(changer)
            for changer in changers
        ]
    )


def _status(changer: LibraryChanger) -> tapes.LibraryStatus:
    inventory = changer.inventory
    library = inventory.library
    return tapes.LibraryStatus(
        name=library.name,
        directory=library.directory,
        changer=changer.name,
        session_id=changer.session_id,
        elements=[
            _element(changer, Location(element, number))
            for element in ORDER
            for number in range(inventory.elements(element))
        ],
    )


def _element(changer: LibraryChanger, where: Location) -> tapes.ElementStatus:
    cartridge = changer.inventory.at(where)
    if cartridge is None:
        return tapes.ElementStatus(element=str(where), address=address_of(where))
    home = cartridge.place.home
    return tapes.ElementStatus(
        element=str(where),
        address=address_of(where),
        barcode=cartridge.barcode,
        full=True,
        home=str(Location("slot", home)) if home is not None else "",
        imported=cartridge.place.imported,
        ejected=cartridge.ejected,
    )


async def look(node: Node, request: tapes.LibraryInventory) -> a.Done:
    """Look what was put in and taken out. Raises InventoryError."""
    changer = find_changer(node.devices, request.library)
    if isinstance(changer, DeviceChanger):
        return await admin_robot.look(node, changer)
    found = await changer.operator_looks()
    changes = [f"{word} {_list(names)}" for word, names in (("new:", found.new), ("gone:", found.gone)) if names]
    count = len(changer.inventory.cartridges)
    return a.Done(
        f"{request.library} holds {count} cartridges; {', '.join(changes) or 'nothing has changed'}", found.new
    )


async def move(node: Node, request: tapes.LibraryMove) -> a.Done:
    """Move a cartridge by hand. Raises InventoryError."""
    changer = find_changer(node.devices, request.library)
    if isinstance(changer, DeviceChanger):
        return await admin_robot.move(node, changer, request.source, request.destination)
    cartridge = changer.inventory.cartridges.get(request.source)
    source = cartridge.where if cartridge is not None else parse_element(request.source, "an element or a barcode")
    moved = await changer.operator_moves(source, parse_element(request.destination, "an element"))
    return a.Done(f"{moved.barcode} is in {moved.where} of {request.library}", [moved.barcode])


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:LISTED])
    return shown if len(names) <= LISTED else f"{shown} and {len(names) - LISTED} more"
