"""What connections have of the configuration, by the vserver of the LIF they came to: options and volumes.

A vserver's options stand in the node's place, so that what serves a connection asks its configuration and need not know
whose option it is.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from msgspec.structs import replace

from mover.config import Config, Service, options
from mover.config.options import read
from mover.control.reach import VolumeScope
from mover.control.volumes import Volumes, Whereabouts

OPTIONS: Final = tuple(name for name in Service.__struct_fields__ if name not in {"volumes", "shared_volumes"})
NDMP: Final = "ndmp"


class Scope(NamedTuple):
    """The share of one vserver, or of the node.

    Attributes:
        vserver: "" = the node.
        config: with the options of the vserver in place of the node's.
        volumes: those of this node, by what the tables of reach call them; others' are the cluster's to tell.
    """

    vserver: str
    config: Config
    volumes: dict[VolumeScope, Volumes]

    def refusal(self, connected: Collection[str]) -> str | None:
        """Why no connection is taken; None = one is.

        Args:
            connected: the vservers of the connections that there are.
        """
        if not self.config.node.enable:  # that of the vserver
            return "the NDMP service is off here"
        for vserver in self.config.vserver:
            if vserver.name == self.vserver:
                if NDMP in vserver.disallowed_protocols:
                    return "NDMP is not allowed here"
                if list(connected).count(self.vserver) >= vserver.sessions:
                    return "too many sessions"
        return None


def scopes_of(config: Config, whereabouts: Whereabouts | None = None) -> dict[str, Scope]:
    """The scopes of a configuration, by vserver. Blocks while it looks for symbolic links in the volumes' paths.

    Args:
        whereabouts: what is with other nodes; None = nothing.
    """
    vservers = {each.name: each.volumes for each in config.vserver}
    everything = Volumes(config.node.volumes, vservers, whereabouts)
    scopes = {"": Scope("", config, {VolumeScope.NODE: everything, VolumeScope.CLUSTER: everything})}
    for name, directories in vservers.items():
        own = Volumes({}, {name: directories}, whereabouts, name)
        scopes[name] = Scope(
            name, _with_options(config, name), {VolumeScope.VSERVER: own, VolumeScope.VSERVER_ON_NODE: own}
        )
    return scopes


def _with_options(config: Config, vserver: str) -> Config:
    service = config.service(vserver)
    own = {name: getattr(service, name) for name in OPTIONS}
    ports = read(config, options.OPTIONS["data-port-range"], vserver)
    return replace(
        config,
        node=replace(config.node, **own),
        data_connections=replace(config.data_connections, port_range=ports),
    )
