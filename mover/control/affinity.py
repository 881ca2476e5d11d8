"""What a connection is shown of other nodes: volumes and devices in its reach, and where everything is.

Source: extensions.md 3.5, which does not know NetApp's own names for it: the two pairs are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mover.control.reach import TapeScope, VolumeScope
from mover.control.volumes import show
from mover.ndmp import messages as m
from mover.ndmp.extensions import CAB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mover.control.cluster import OtherDevice, OtherVolume
    from mover.control.connection import Connection

AFFINITY: Final = b"AFFINITY"
"""Where a volume or a device is: equal values are the same node."""
ADDRESS: Final = b"AFFINITY_ADDRESS"
"""Of what is with another node: ADDRESS:PORT for a control connection with the same login, "" = there is none."""


def to_bytes(text: str) -> bytes:
    """A text of the registry as NDMP has it."""
    return text.encode("utf-8", "replace")


def affinity(connection: Connection) -> tuple[m.Pval, ...]:
    """Where this node's own are, for a DMA that knows of clusters."""
    if CAB not in connection.protocol.extensions.chosen:
        return ()
    return (m.Pval(AFFINITY, to_bytes(connection.node.cluster.name)),)


def affinity_of(connection: Connection, node: str) -> tuple[m.Pval, ...]:
    """Where another node's are, and where the DMA goes on; only with CAB are they shown at all."""
    endpoint = connection.node.cluster.endpoint(
        node, connection.lif, connection.local_address, secure=connection.secure
    )
    return m.Pval(AFFINITY, to_bytes(node)), m.Pval(ADDRESS, to_bytes(str(endpoint or "")))


def reaches_others(connection: Connection) -> bool:
    """Whether the tables give it volumes of other nodes."""
    return connection.reach.volumes in {VolumeScope.CLUSTER, VolumeScope.VSERVER}


def volumes_of_others(connection: Connection) -> list[OtherVolume]:
    """The volumes of other nodes that it reaches."""
    if not reaches_others(connection):
        return []
    vserver = connection.vserver if connection.reach.volumes is VolumeScope.VSERVER else None
    volumes = connection.node.cluster.volumes_of_others(vserver)
    return [each for each in volumes if connection.bounds.has_volume(str(each.row.key))]


def drives_of_others(connection: Connection) -> list[OtherDevice]:
    """The drives of other nodes that it reaches."""
    return _reached(connection, connection.node.cluster.drives_of_others())


def changers_of_others(connection: Connection) -> list[OtherDevice]:
    """The changers of other nodes that it reaches."""
    return _reached(connection, connection.node.cluster.changers_of_others())


def drive_elsewhere(connection: Connection, name: str) -> str:
    """What a DMA is told that opens a drive of another node; "" = no other has one of this name, or it is not his."""
    return _elsewhere(connection, name, connection.node.cluster.drives_of_others())


def device_elsewhere(connection: Connection, name: str) -> str:
    """As ``drive_elsewhere``, of what SCSI_OPEN takes."""
    cluster = connection.node.cluster
    return _elsewhere(connection, name, [*cluster.changers_of_others(), *cluster.drives_of_others()])


def _elsewhere(connection: Connection, name: str, devices: Sequence[OtherDevice]) -> str:
    if not connection.reaches_tapes:
        return ""
    reached = [each for each in devices if connection.bounds.has_device(next(iter(each.row.names)))]
    where = connection.node.cluster.device_elsewhere(name, reached)
    return f"{show(to_bytes(name))} is {where}" if where else ""


def _reached(connection: Connection, devices: Sequence[OtherDevice]) -> list[OtherDevice]:
    if connection.reach.tapes is not TapeScope.CLUSTER:
        return []
    return [each for each in devices if connection.bounds.has_device(next(iter(each.row.names)))]
