"""The SCSI buses of this node: which device answers at controller, id and LUN.

A library is a bus of its own, numbered in the order of the configuration: id 0 is its changer, id 1 and on are its
drives. The drives of their own share the bus behind the last library, the real changers the one behind that. Every
device is LUN 0. A bus is opened by its name, that of its library, to be scanned; a device by its own.
"""

from __future__ import annotations

from copy import copy
from itertools import chain
from typing import TYPE_CHECKING, Final

from mover.control.scsi_target import Address, ScsiTarget, target_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mover.control.changer import LibraryChanger
    from mover.control.connection import Connection
    from mover.control.device_changer import DeviceChanger
    from mover.control.drives import DriveBay
    from mover.control.node import Node

OWN_DRIVES: Final = "drives"  # no library can be meant: its bus is found first
OWN_CHANGERS: Final = "changers"


class ScsiBus:
    """All buses of the node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._names: list[str] = []
        self._targets: dict[Address, ScsiTarget] = {}
        devices = node.devices
        for name, changer in devices.changers.items():
            self._add(name, chain([changer], changer.bays), 0)
        self._add(OWN_DRIVES, [bay for bay in devices if not bay.library], 1)
        self._add(OWN_CHANGERS, devices.own_changers, 0)

    def _add(self, name: str, devices: Iterable[LibraryChanger | DeviceChanger | DriveBay], first: int) -> None:
        targets = {
            (address := Address(len(self._names), number)): target_of(self._node, device, address)
            for number, device in enumerate(devices, start=first)
        }
        if targets:
            self._targets |= targets
            self._names.append(name)

    def __iter__(self) -> Iterator[ScsiTarget]:
        return iter(self._targets.values())

    def seen_by(self, connection: Connection) -> ScsiBus:
        """The buses with the devices that a connection reaches, where they always are; one without any is none."""
        seen = copy(self)
        seen._targets = {
            address: target for address, target in self._targets.items() if connection.reaches_device(target.name)
        }
        return seen

    def has(self, name: str) -> bool:
        """Whether a bus has this name."""
        return name in self._names and self.has_controller(self._names.index(name))

    def has_controller(self, controller: int) -> bool:
        """Whether there is a bus with this number."""
        return any(address.controller == controller for address in self._targets)

    def find(self, name: str) -> ScsiTarget | None:
        """The device of that name."""
        return next((target for target in self if target.name == name), None)

    def at(self, address: Address) -> ScsiTarget | None:
        """The device that answers there."""
        return self._targets.get(address)
