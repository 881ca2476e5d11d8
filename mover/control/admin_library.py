"""The commands `mover library`: what is in the elements of a virtual library, and moving cartridges by hand."""

import re
from typing import Final

from mover.admin import messages as a
from mover.control.cartridges import InventoryError
from mover.control.changer import LibraryChanger, address_of
from mover.control.drives import Devices
from mover.control.store import Element, Location

ORDER: Final[tuple[Element, ...]] = ("drive", "mail", "slot")
_ELEMENT: Final = re.compile(r"(slot|drive|mail)(0|[1-9][0-9]{0,4})")
LISTED: Final = 5  # names in a line for people


def find_changer(devices: Devices, library: str) -> LibraryChanger:
    """The changer of a library. Raises InventoryError."""
    changer = devices.changers.get(library)
    if changer is None:
        known = ", ".join(devices.changers) or "none"
        raise InventoryError("not-found", f"there is no library {library} (libraries: {known})")
    return changer


def show(devices: Devices, request: a.LibraryShow) -> a.LibraryShowReply:
    """Every library, or the one named. Raises InventoryError."""
    changers = devices.changers.values() if request.library is None else [find_changer(devices, request.library)]
    return a.LibraryShowReply([_status(changer) for changer in changers])


def _status(changer: LibraryChanger) -> a.LibraryStatus:
    inventory = changer.inventory
    library = inventory.library
    return a.LibraryStatus(
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


def _element(changer: LibraryChanger, where: Location) -> a.ElementStatus:
    cartridge = changer.inventory.at(where)
    if cartridge is None:
        return a.ElementStatus(element=str(where), address=address_of(where))
    home = cartridge.place.home
    return a.ElementStatus(
        element=str(where),
        address=address_of(where),
        barcode=cartridge.barcode,
        home=str(Location("slot", home)) if home is not None else "",
        imported=cartridge.place.imported,
        ejected=cartridge.ejected,
    )


async def look(devices: Devices, request: a.LibraryInventory) -> a.Done:
    """Look what was put in and taken out. Raises InventoryError."""
    changer = find_changer(devices, request.library)
    found = await changer.operator_looks()
    changes = [f"{word} {_list(names)}" for word, names in (("new:", found.new), ("gone:", found.gone)) if names]
    count = len(changer.inventory.cartridges)
    return a.Done(
        f"{request.library} holds {count} cartridges; {', '.join(changes) or 'nothing has changed'}", found.new
    )


async def move(devices: Devices, request: a.LibraryMove) -> a.Done:
    """Move a cartridge by hand. Raises InventoryError."""
    changer = find_changer(devices, request.library)
    cartridge = changer.inventory.cartridges.get(request.source)
    source = cartridge.where if cartridge is not None else _parse(request.source, "an element or a barcode")
    moved = await changer.operator_moves(source, _parse(request.destination, "an element"))
    return a.Done(f"{moved.barcode} is in {moved.where} of {request.library}", [moved.barcode])


def _parse(name: str, expected: str) -> Location:
    match = _ELEMENT.fullmatch(name)
    if match is None:
        raise InventoryError("bad-request", f"{name!r} is not {expected} (elements: slot0, drive0, mail0 and so on)")
    element: Element = "slot" if match[1] == "slot" else "drive" if match[1] == "drive" else "mail"
    return Location(element, int(match[2]))


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:LISTED])
    return shown if len(names) <= LISTED else f"{shown} and {len(names) - LISTED} more"
