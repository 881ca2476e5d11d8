"""The changer of a virtual library: the robot that DMAs command by CDBs, and the operators' hands beside it.

The emulation (`mover/scsi`) says what is to be moved; here it is moved, in the inventory and past the drives' leases.
Who has the changer is told of what operators do meanwhile, by unit attentions, and may lock them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import structlog

from mover import scsi
from mover.control.cartridges import Cartridge, InventoryError, Why
from mover.control.store import Element, Location

if TYPE_CHECKING:
    from mover.control.drives import DriveBay
    from mover.control.inventory import Found, LibraryInventory

KINDS: Final[dict[Element, scsi.ElementKind]] = {
    "slot": scsi.ElementKind.STORAGE,
    "drive": scsi.ElementKind.DATA_TRANSFER,
    "mail": scsi.ElementKind.IMPORT_EXPORT,
}
ELEMENTS: Final = {kind: element for element, kind in KINDS.items()}
_FAULTS: Final[dict[Why, scsi.Fault]] = {
    "source-empty": scsi.Fault.SOURCE_EMPTY,
    "destination-full": scsi.Fault.DESTINATION_FULL,
    "disk": scsi.Fault.MOTION_FAILED,
    "": scsi.Fault.MOTION_FAILED,
}

log = structlog.get_logger()

Steps = Sequence[tuple[Location, Location]]


def address_of(where: Location) -> int:
    """The SMC address of an element."""
    return scsi.FIRST[KINDS[where.element]] + where.number


class LibraryChanger:
    """The changer of one library.

    Attributes:
        bays: the library's drives, in order.
        session_id: the connection that has it open; None = nobody.
    """

    def __init__(self, inventory: LibraryInventory, identity: scsi.Identity) -> None:
        library = inventory.library
        self.name = f"{library.name}/changer"
        self.inventory = inventory
        self.bays: list[DriveBay] = []
        self.session_id: int | None = None
        geometry = scsi.Geometry(drives=library.drives, slots=library.slots, import_export=library.import_export)
        self._geometry = geometry
        self._unit = scsi.Changer(identity, geometry, self)

    @property
    def identity(self) -> scsi.Identity:
        """What its INQUIRY says."""
        return self._unit.identity

    def location(self, address: int) -> Location | None:
        """The element with an SMC address; None for the transport, and where there is none."""
        kind = self._geometry.kind_of(address)
        element = ELEMENTS.get(kind) if kind is not None else None
        return Location(element, address - scsi.FIRST[KINDS[element]]) if element is not None else None

    # --- what the emulation asks

    def occupant(self, address: int) -> scsi.Occupant | None:
        """The cartridge in an element."""
        where = self.location(address)
        cartridge = self.inventory.at(where) if where is not None else None
        if cartridge is None:
            return None
        home = cartridge.place.home
        source = address_of(Location("slot", home)) if home is not None else None
        return scsi.Occupant(cartridge.barcode, source, cartridge.place.imported)

    def accessible(self, address: int) -> bool:
        """Whether nobody has this drive open."""
        return self._bay(address).session_id is None

    def designator(self, address: int) -> bytes:
        """The drive's identity."""
        return self._bay(address).identity.designator

    def _bay(self, address: int) -> DriveBay:
        return self.bays[address - scsi.FIRST[scsi.ElementKind.DATA_TRANSFER]]

    # --- the robot

    async def execute(self, cdb: bytes, data_out: bytes, *, owner: bool) -> scsi.Answer:
        """A CDB of a DMA. Cancelled while it waits for its turn, nothing has been moved."""
        outcome = self._unit.execute(cdb, data_out, owner=owner)
        try:
            match outcome:
                case scsi.Answer():
                    return outcome
                case scsi.Moves():
                    return await self._robot_moves(outcome)
                case scsi.TakeInventory():
                    await self._look()
                    return scsi.Answer()
        except InventoryError as error:
            log.error("robot failed", changer=self.name, error=str(error))
            return scsi.refusal(scsi.Fault.MOTION_FAILED)

    async def _robot_moves(self, moves: scsi.Moves) -> scsi.Answer:
        steps: list[tuple[Location, Location]] = []
        for source, destination in moves.steps:
            there, where = self.location(source), self.location(destination)
            assert where is not None, "the emulation lets nothing be put into the transport"
            if there is None:  # the transport's hand is always empty
                return scsi.refusal(scsi.Fault.SOURCE_EMPTY)
            steps.append((there, where))
        try:
            with self._drives_of(steps):
                moved = await self.inventory.move(steps, by_operator=False)
        except InventoryError as error:
            log.warning("robot refused", changer=self.name, why=str(error))
            return scsi.refusal(self._fault(error, steps))
        self._unit.moved(len(moved))
        log.info("robot moved", changer=self.name, moves=_described(moved))
        return scsi.Answer()

    def _fault(self, error: InventoryError, steps: Steps) -> scsi.Fault:
        if error.why != "drive-open":
            return _FAULTS[error.why]
        opened = any(
            source.element == "drive" and self.bays[source.number].session_id is not None for source, _ in steps
        )
        return scsi.Fault.REMOVAL_PREVENTED if opened else scsi.Fault.LOAD_FAILED

    @contextmanager
    def _drives_of(self, steps: Steps) -> Iterator[None]:
        """Nobody opens the drives that a move touches. Raises InventoryError when somebody has one open."""
        numbers = {where.number for step in steps for where in step if where.element == "drive"}
        with ExitStack() as stack:
            for number in sorted(numbers):
                if number < len(self.bays):  # the inventory says of others that they are not there
                    stack.enter_context(self.bays[number].moving())
            yield

    async def _look(self) -> Found:
        return await self.inventory.take(
            {number for number, bay in enumerate(self.bays) if bay.session_id is not None or bay.moves}
        )

    def reset(self, fault: scsi.Fault) -> None:
        """RESET DEVICE, RESET BUS."""
        self._unit.reset(fault)

    def closed(self) -> None:
        """Nobody has it open any more: its locks go."""
        self._unit.forget()

    # --- operators

    def audit_operator(self, *, mail: bool = False) -> None:
        """Raise InventoryError when who has the changer keeps operators out.

        Args:
            mail: whether it is about the mail slot.
        """
        if self._unit.reserved:
            raise InventoryError("busy", f"{self.name} is reserved by session {self.session_id}")
        if mail and self._unit.removal_prevented:
            raise InventoryError("busy", f"session {self.session_id} keeps the mail slot of {self.name} locked")

    def changed_by_operator(self, *, mail: bool = False) -> None:
        """Who has the changer is told that its picture of the library is old."""
        if self.session_id is not None:
            self._unit.attend(scsi.Fault.IMPORT_EXPORT_ACCESSED if mail else scsi.Fault.MEDIUM_CHANGED)

    async def operator_moves(self, source: Location, destination: Location) -> Cartridge:
        """Move a cartridge by hand. Raises InventoryError."""
        steps = [(source, destination)]
        mail = "mail" in {source.element, destination.element}
        self.audit_operator(mail=mail)
        with self._drives_of(steps):
            (cartridge,) = await self.inventory.move(steps, by_operator=True)
        self.changed_by_operator(mail=mail)
        return cartridge

    async def operator_looks(self) -> Found:
        """Take inventory: cartridges were put in or taken out. Raises InventoryError."""
        self.audit_operator(mail=True)
        found = await self._look()
        if found.new or found.gone:
            self.changed_by_operator(mail=found.mail)
        return found


def _described(moved: Sequence[Cartridge]) -> list[str]:
    return [f"{cartridge.barcode} to {cartridge.where}" for cartridge in moved]
