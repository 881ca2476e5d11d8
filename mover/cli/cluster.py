"""`mover node` and `mover volume`: the nodes of a cluster, and with which of them each volume is."""

import click
import msgspec

from mover.admin.clusters import (
    NodeShow,
    NodeShowReply,
    VolumeMove,
    VolumeShow,
    VolumeShowReply,
)
from mover.cli.control_process import admin_socket_option, ask, do, json_option
from mover.cli.main import LazyGroup
from mover.cli.output import print_json, print_table, printable

NODE_COMMANDS = {"show": "mover.cli.cluster:node_show"}
VOLUME_COMMANDS = {"show": "mover.cli.cluster:volume_show", "move": "mover.cli.cluster:volume_move"}


@click.group(cls=LazyGroup, commands_in=NODE_COMMANDS)
def node() -> None:
    """Show the nodes of the cluster."""


@click.command("show")
@admin_socket_option
@json_option
def node_show(admin_socket: str | None, as_json: bool) -> None:
    """Show the nodes: whether they are up, where DMAs reach them, what they have."""
    reply = ask(admin_socket, NodeShow(), NodeShowReply)
    if as_json:
        print_json(
            {
                "nodes": [msgspec.to_builtins(each) for each in reply.nodes],
                "cluster-directory": reply.cluster_directory,
                "error": reply.error,
            }
        )
        return
    print_table(
        ["node", "state", "silent-seconds", "version", "lifs", "drives"],
        [
            [
                f"{each.node} (here)" if each.local else each.node,
                each.state,
                each.silent_seconds,
                each.version,
                ", ".join(f"{lif.name} {lif.role} {_endpoint(lif.address, lif.port)}" for lif in each.lifs),
                ", ".join(each.drives),
            ]
            for each in reply.nodes
        ],
    )
    if reply.error:
        click.echo(printable(f"as it was read last: {reply.error}"), err=True)


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@click.group(cls=LazyGroup, commands_in=VOLUME_COMMANDS)
def volume() -> None:
    """Show the volumes of the cluster, and move shared ones between its nodes."""


@click.command("show")
@click.option("--vserver", metavar="V", help="Those of this vserver.")
@admin_socket_option
@json_option
def volume_show(vserver: str | None, admin_socket: str | None, as_json: bool) -> None:
    """Show the volumes and the nodes that they are with."""
    reply = ask(admin_socket, VolumeShow(vserver), VolumeShowReply)
    if as_json:
        print_json({"volumes": [msgspec.to_builtins(each) for each in reply.volumes]})
        return
    print_table(
        ["vserver", "volume", "node", "state", "shared", "nodes", "path"],
        [
            [each.vserver, each.volume, each.node, each.state, each.shared, ", ".join(each.nodes), each.path]
            for each in reply.volumes
        ],
    )


@click.command("move")
@click.option("--volume", "name", required=True, metavar="NAME", help="One of shared_volumes.")
@click.option("--destination-node", required=True, metavar="NODE", help="Another node that has it, and is up.")
@click.option("--vserver", default="", metavar="V", help="That the volume belongs to.")
@admin_socket_option
@json_option
def volume_move(name: str, destination_node: str, vserver: str, admin_socket: str | None, as_json: bool) -> None:
    """Have another node back a shared volume up and recover into it.

    Jobs under way go on where they are; those that begin from then on are done by the other node.
    """
    do(admin_socket, VolumeMove(name, destination_node, vserver), as_json=as_json, names="volumes")
