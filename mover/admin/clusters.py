"""The cluster at the admin socket: its nodes, its volumes, and moving one of them."""

from typing import Literal

from msgspec import field

from mover.admin.base import Message, Row

NodeState = Literal["up", "down", "stopped"]


class NodeShow(Message, frozen=True):
    """The nodes of the cluster. Reply: NodeShowReply."""


class VolumeShow(Message, frozen=True):
    """The volumes of the cluster, or those of a vserver. Reply: VolumeShowReply; Failed for no such vserver."""

    vserver: str | None = None


class VolumeMove(Message, frozen=True):
    """Move a shared volume to another node, for jobs that begin from then on. Reply: Done or Failed."""

    volume: str
    destination_node: str
    vserver: str = ""


class LifStatus(Row, frozen=True, kw_only=True):
    """One LIF; secure_port None = it has none."""

    name: str
    role: str
    address: str
    port: int
    secure_port: int | None = None
    vserver: str = ""


class NodeStatus(Row, frozen=True, kw_only=True):
    """One node.

    Attributes:
        state: stopped = it has ended in order; down = it has not been seen to live for a while.
        silent_seconds: since it was last seen to live; None = this node, or one that never was.
        version: of mover there.
    """

    node: str
    state: NodeState
    local: bool
    silent_seconds: float | None = None
    version: str = ""
    lifs: list[LifStatus] = field(default_factory=list)
    drives: list[str] = field(default_factory=list)
    changers: list[str] = field(default_factory=list)


class VolumeStatus(Row, frozen=True, kw_only=True):
    """One volume.

    Attributes:
        path: as DMAs see it at its node.
        node: that it is with; "" = a shared one that no node has claimed.
        state: of the node; "" = there is none.
        shared: whether it can be moved, to another of ``nodes``.
    """

    vserver: str = ""
    volume: str
    path: str
    node: str
    state: NodeState | Literal[""]
    shared: bool = False
    nodes: list[str] = field(default_factory=list)


class NodeShowReply(Message, frozen=True):
    """The nodes by name; ``error`` = why the cluster directory was not read last time."""

    nodes: list[NodeStatus]
    cluster_directory: str = ""
    error: str = ""


class VolumeShowReply(Message, frozen=True):
    """The volumes, those first that belong to no vserver."""

    volumes: list[VolumeStatus]


Request = NodeShow | VolumeShow | VolumeMove
Reply = NodeShowReply | VolumeShowReply
