"""The commands `mover node` and `mover volume`: the cluster as this node sees it, and who has a shared volume."""

import structlog

from mover.admin import clusters as c
from mover.admin import messages as a
from mover.control.node import Node
from mover.control.registry import NodeRecord, RegistryError, VolumeKey, VolumeRow

log = structlog.get_logger()


async def answer(node: Node, request: c.NodeShow | c.VolumeShow | c.VolumeMove, operator: int) -> a.Reply:
    """What was asked for; the registry is read first."""
    await node.cluster.refresh()
    match request:
        case c.NodeShow():
            return _nodes(node)
        case c.VolumeShow():
            return _volumes(node, request.vserver)
        case c.VolumeMove():
            return await _move(node, request, operator)


def _records(node: Node) -> list[NodeRecord]:
    cluster = node.cluster
    names = sorted({cluster.name, *cluster.records})
    return [record for name in names if (record := cluster.record(name)) is not None]


def _nodes(node: Node) -> a.Reply:
    cluster = node.cluster
    return c.NodeShowReply(
        [
            c.NodeStatus(
                node=record.name,
                state=cluster.state(record.name),
                local=record.name == cluster.name,
                silent_seconds=None if record.name == cluster.name else cluster.silent_s(record.name),
                version=record.version,
                lifs=[
                    c.LifStatus(
                        name=lif.name,
                        role=lif.role,
                        address=lif.address,
                        port=lif.port,
                        secure_port=lif.secure_port,
                        vserver=lif.vserver,
                    )
                    for lif in record.lifs
                ],
                drives=[next(iter(each.names)) for each in record.drives],
                changers=[next(iter(each.names)) for each in record.changers],
            )
            for record in _records(node)
        ],
        cluster.registry.directory if cluster.registry is not None else "",
        cluster.error,
    )


def _volumes(node: Node, vserver: str | None) -> a.Reply:
    cluster, records = node.cluster, _records(node)
    configured = {each.name for each in node.config.vserver}
    known = configured | {row.vserver for record in records for row in record.volumes if row.vserver}
    if vserver and vserver not in known:
        return a.Failed("not-found", f"there is no vserver {vserver} (vservers: {', '.join(sorted(known)) or 'none'})")
    shared: dict[VolumeKey, list[tuple[str, VolumeRow]]] = {}
    rows: list[tuple[VolumeRow, str, list[str]]] = []
    for record in records:
        for row in record.volumes:
            if row.shared:
                shared.setdefault(row.key, []).append((record.name, row))
            else:
                rows.append((row, record.name, [record.name]))
    for key, found in shared.items():
        owner = cluster.owner(key)
        row = next((each for name, each in found if name == owner), found[0][1])
        rows.append((row, owner, [name for name, _ in found]))
    return c.VolumeShowReply(
        [
            c.VolumeStatus(
                vserver=row.vserver,
                volume=row.name,
                path=row.shown,
                node=where,
                state=cluster.state(where) if where else "",
                shared=row.shared,
                nodes=nodes,
            )
            for row, where, nodes in sorted(rows, key=lambda each: (*each[0].key, each[1]))
            if vserver is None or row.vserver == vserver
        ]
    )


async def _move(node: Node, request: c.VolumeMove, operator: int) -> a.Reply:
    key = VolumeKey(request.vserver, request.volume)
    try:
        before = await node.cluster.move(key, request.destination_node)
    except RegistryError as error:
        return a.Failed("refused", str(error))
    node.audit.event(
        "operator",
        what="VolumeMove",
        target=str(key),
        source=before,
        destination=request.destination_node,
        result="done",
        uid=operator,
    )
    log.info("volume moved", volume=str(key), source=before, destination=request.destination_node, uid=operator)
    text = f"volume {key} is with node {request.destination_node}; counts for jobs that begin from now on"
    return a.Done(text, [request.volume])
