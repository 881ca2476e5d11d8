"""What this node says of itself in the cluster's registry: LIFs with their real ports, volumes, drives, changers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mover.control.cluster import lif_row, volume_rows
from mover.control.handlers.config import changer_row, changers, drive_row
from mover.control.registry import NodeRecord

if TYPE_CHECKING:
    from mover.control.node import Node


def announcement(node: "Node", ports: Mapping[str, int]) -> NodeRecord:
    """The parts of the record that are not the cluster's own.

    Args:
        ports: of the LIFs, by their names.
    """
    return NodeRecord(
        name=node.cluster.name,
        incarnation="",
        lifs=[lif_row(lif, ports[lif.name], node.secure_ports.port(lif)) for lif in node.config.lif],
        volumes=volume_rows(node.config),
        drives=[drive_row(node, bay) for bay in node.devices],
        changers=[changer_row(changer) for changer in changers(node)],
    )
