"""The media changer: a CDB in, status, data and sense out, or the move that the CDB asks for. Source: SMC-3, SPC-4."""

from typing import Final, NamedTuple

from mover.scsi.elements import (
    TRANSPORT_ADDRESS,
    ElementKind,
    Elements,
    Geometry,
    StatusRequest,
    element_status,
)
from mover.scsi.sense import CommandError, Fault
from mover.scsi.unit import COMMON, Answer, Command, Identity, LogicalUnit, log_parameter

MEDIA_CHANGER: Final = 0x08
SMC_3: Final = 0x0480  # version descriptor
_MOVES: Final = 0x0E  # storage, import/export, data transfer: a bit each, the transport's is bit 0
_PAGE_KINDS: Final = (
    ElementKind.TRANSPORT, ElementKind.STORAGE, ElementKind.IMPORT_EXPORT, ElementKind.DATA_TRANSFER,
)  # fmt: skip


class Moves(NamedTuple):
    """Cartridges to be moved, all or none: (source, destination) addresses; sources empty before anything arrives."""

    steps: tuple[tuple[int, int], ...]


class TakeInventory(NamedTuple):
    """Look at what is in every element."""


class Changer(LogicalUnit):
    """The changer of one library.

    Attributes:
        removal_prevented: operators may not get at the import/export elements.
        reserved: operators may not move anything.
        moves: cartridges moved since the start.
    """

    def __init__(self, identity: Identity, geometry: Geometry, elements: Elements) -> None:
        super().__init__(identity)
        self.geometry = geometry
        self._elements = elements
        self.commands = COMMANDS
        self.removal_prevented = False
        self.reserved = False
        self.moves = 0

    def execute(self, cdb: bytes, data_out: bytes = b"", *, owner: bool = True) -> Answer | Moves | TakeInventory:
        """Answer a CDB, or say what it wants done before it can be answered.

        Args:
            data_out: what came with it.
            owner: whether it comes from who has the changer.
        """
        outcome = self.look_up(cdb, data_out, owner=owner)
        assert isinstance(outcome, (Answer, Moves, TakeInventory))
        return outcome

    def moved(self, count: int) -> None:
        """So many cartridges were moved for the robot's client."""
        self.moves += count

    def forget(self) -> None:
        super().forget()
        self.removal_prevented = self.reserved = False

    def reset(self, fault: Fault) -> None:
        """RESET DEVICE or RESET BUS: locks and reservations go. Source: SAM-5 6.3."""
        self.forget()
        self.attend(fault)

    # --- elements

    def _element(self, cdb: bytes, at: int) -> int:
        address = int.from_bytes(cdb[at : at + 2], "big")
        if self.geometry.kind_of(address) is None:
            raise CommandError(Fault.ELEMENT_ADDRESS)
        return address

    def _transport(self, cdb: bytes) -> None:
        if int.from_bytes(cdb[2:4], "big") != TRANSPORT_ADDRESS:
            raise CommandError(Fault.ELEMENT_ADDRESS)

    def _place(self, cdb: bytes, at: int) -> int:
        """An element that a cartridge can be put in."""
        address = self._element(cdb, at)
        if address == TRANSPORT_ADDRESS:  # page 1Fh says so
            raise CommandError(Fault.FIELD_IN_CDB, at)
        return address

    def move_medium(self, cdb: bytes, data_out: bytes) -> Moves:
        """MOVE MEDIUM. Source: SMC-3 6.6."""
        self._transport(cdb)
        source, destination = self._element(cdb, 4), self._place(cdb, 6)
        _not_inverted(cdb, 10, 0x01)
        return Moves(((source, destination),))

    def exchange_medium(self, cdb: bytes, data_out: bytes) -> Moves:
        """EXCHANGE MEDIUM: what is in the first destination goes to the second one. Source: SMC-3 6.1."""
        self._transport(cdb)
        source, first, second = self._element(cdb, 4), self._place(cdb, 6), self._place(cdb, 8)
        _not_inverted(cdb, 10, 0x03)
        if first in {source, second}:
            raise CommandError(Fault.FIELD_IN_CDB, 6)
        return Moves(((first, second), (source, first)))

    def position_to_element(self, cdb: bytes, data_out: bytes) -> Answer:
        """POSITION TO ELEMENT: the hand is everywhere at once. Source: SMC-3 6.8."""
        self._transport(cdb)
        self._element(cdb, 4)
        _not_inverted(cdb, 8, 0x01)
        return Answer()

    def initialize_element_status(self, cdb: bytes, data_out: bytes) -> TakeInventory:
        """INITIALIZE ELEMENT STATUS. Source: SMC-3 6.3."""
        return TakeInventory()

    def initialize_with_range(self, cdb: bytes, data_out: bytes) -> TakeInventory:
        """INITIALIZE ELEMENT STATUS WITH RANGE: more than the range is looked at, as may be. Source: SMC-3 6.4."""
        if cdb[1] & 1:  # RANGE
            self._element(cdb, 2)
        return TakeInventory()

    def read_element_status(self, cdb: bytes, data_out: bytes) -> Answer:
        """READ ELEMENT STATUS. Source: SMC-3 6.10."""
        code = cdb[1] & 0x0F
        if code > max(ElementKind):
            raise CommandError(Fault.FIELD_IN_CDB, 1)
        request = StatusRequest(
            kinds=(ElementKind(code),) if code else _PAGE_KINDS,
            first=int.from_bytes(cdb[2:4], "big"),
            most=int.from_bytes(cdb[4:6], "big"),
            volume_tags=bool(cdb[1] & 0x10),
            device_ids=bool(cdb[6] & 0x01),
        )
        length = int.from_bytes(cdb[7:10], "big")
        return Answer(data=element_status(self.geometry, self._elements, request, length))

    # --- locks

    def prevent_allow(self, cdb: bytes, data_out: bytes) -> Answer:
        """PREVENT ALLOW MEDIUM REMOVAL: keeps operators from the import/export elements. Source: SPC-4 6.16."""
        if cdb[4] & 0x02:
            raise CommandError(Fault.FIELD_IN_CDB, 4)
        self.removal_prevented = bool(cdb[4] & 0x01)
        return Answer()

    def reserve(self, cdb: bytes, data_out: bytes) -> Answer:
        """RESERVE(6) and (10) of the whole unit: operators move nothing meanwhile. Source: SPC-2 7.24, 7.25."""
        self._whole_unit(cdb)
        self.reserved = True
        return Answer()

    def release(self, cdb: bytes, data_out: bytes) -> Answer:
        """RELEASE(6) and (10). Source: SPC-2 7.16, 7.17."""
        self._whole_unit(cdb)
        self.reserved = False
        return Answer()

    @staticmethod
    def _whole_unit(cdb: bytes) -> None:
        if cdb[1] & 0x13:  # third party or extents (elements): neither is offered
            raise CommandError(Fault.FIELD_IN_CDB, 1)

    # --- pages

    def mode_pages(self) -> dict[int, bytes]:
        """Element addresses, transport geometry, what can be moved whereto. Source: SMC-3 7.3."""
        assignment = b"".join(
            (numbers.start if numbers else 0).to_bytes(2, "big") + len(numbers).to_bytes(2, "big")
            for numbers in map(self.geometry.addresses, _PAGE_KINDS)
        )
        moves = _MOVES if self.geometry.addresses(ElementKind.IMPORT_EXPORT) else _MOVES & ~0x04
        table = [0, *(moves if moves & 1 << kind else 0 for kind in (1, 2, 3))]  # from: transport, storage, i/e, drives
        return {
            0x1D: bytes([0x1D, 18]) + assignment + bytes(2),
            0x1E: bytes([0x1E, 2, 0, 0]),
            0x1F: bytes([0x1F, 18, moves, 0, *table, 0, 0, 0, 0, *table, 0, 0, 0, 0]),
        }

    def log_pages(self) -> dict[int, bytes]:
        """Media changer statistics: moves, picks, places. Source: SMC-3 7.2."""
        count = (self.moves & 0xFFFFFFFF).to_bytes(4, "big")
        return {0x14: b"".join(log_parameter(code, count) for code in (0x0000, 0x0001, 0x0003))}


def _not_inverted(cdb: bytes, at: int, bits: int) -> None:
    """Cartridges have one side."""
    if cdb[at] & bits:
        raise CommandError(Fault.FIELD_IN_CDB, at)


COMMANDS: Final = COMMON | {
    0x07: Command(6, Changer.initialize_element_status),
    0x15: Command(6, Changer.mode_select_6),
    0x16: Command(6, Changer.reserve),
    0x17: Command(6, Changer.release),
    0x1E: Command(6, Changer.prevent_allow),
    0x2B: Command(10, Changer.position_to_element),
    0x37: Command(10, Changer.initialize_with_range),
    0x55: Command(10, Changer.mode_select_10),
    0x56: Command(10, Changer.reserve),
    0x57: Command(10, Changer.release),
    0xA5: Command(12, Changer.move_medium),
    0xA6: Command(12, Changer.exchange_medium),
    0xB8: Command(12, Changer.read_element_status),
    0xE7: Command(10, Changer.initialize_with_range),  # as many older libraries number it
}
