"""Where a job's data and drive are in a cluster: what the server tells a DMA that has chosen CAB, and where to connect.

A volume or device of another node has AFFINITY_ADDRESS beside its AFFINITY (docs/operations.md). It is looked at for
every job and kept for none: a volume may have been moved since the last one.
"""

import ipaddress
import os
from typing import Final, NamedTuple

import msgspec

from mover.dma.client import Client
from mover.dma.errors import JobError, one_line
from mover.dma.options import Server
from mover.ndmp.extensions import CAB, CAE
from mover.ndmp.messages import (
    ConfigGetFsInfoReply,
    ConfigGetFsInfoRequest,
    ConfigGetTapeInfoReply,
    ConfigGetTapeInfoRequest,
    Pval,
)

AFFINITY: Final = b"AFFINITY"
ADDRESS: Final = b"AFFINITY_ADDRESS"
ADDRESS_BYTES_MAX: Final = 100


class Elsewhere(NamedTuple):
    """Another node than the one that was asked; server None = it tells of no address there."""

    node: str
    server: Server | None

    def reach(self, what: str) -> Server:
        """Where to connect to. Raises JobError: nowhere."""
        if self.server is None:
            raise JobError(f"{what} is with node {self.node}, which has no LIF that this login could go on to")
        return self.server


def wanted_extensions(client: Client) -> tuple[int, ...]:
    """The classes that are chosen where they are offered: CAE only where the server is reached over IPv6.

    Not by a link-local address: NDMP names no interface that a data connection could take.
    """
    address = ipaddress.ip_address(client.peer_address.partition("%")[0])
    over_ipv6 = isinstance(address, ipaddress.IPv6Address) and not (address.ipv4_mapped or address.is_link_local)
    return (CAE, CAB) if over_ipv6 else (CAB,)


async def volume_elsewhere(client: Client, path: bytes) -> Elsewhere | None:
    """The node that has the volume of a path; None = the one that was asked, or it does not say.

    Raises:
        NdmpError, ControlConnectionError: it was not told.
    """
    reply = await client.call(ConfigGetFsInfoRequest(), ConfigGetFsInfoReply)
    names = [name for name in path.split(b"/") if name]
    found: tuple[int, bool, Elsewhere | None] = (-1, False, None)
    for info in reply.fs_info:
        shown = [name for name in info.fs_logical_device.split(b"/") if name]
        if names[: len(shown)] == shown:
            where = _elsewhere(client, info.fs_env)
            found = max(found, (len(shown), where is None, where), key=lambda each: each[:2])
    return found[2]


async def drive_elsewhere(client: Client, drive: str) -> Elsewhere | None:
    """The node that has a drive, as ``volume_elsewhere``."""
    reply = await client.call(ConfigGetTapeInfoRequest(), ConfigGetTapeInfoReply)
    name = os.fsencode(drive)
    capabilities = [each for info in reply.tape_info for each in info.caplist if each.device == name]
    return _elsewhere(client, capabilities[0].capability) if capabilities else None


def _elsewhere(client: Client, pairs: tuple[Pval, ...]) -> Elsewhere | None:
    told = {pair.name: pair.value for pair in pairs}
    if AFFINITY not in told or ADDRESS not in told:
        return None
    node = one_line(told[AFFINITY].decode("utf-8", "replace"))
    return Elsewhere(node, _server(client.server, told[ADDRESS]))


def _server(asked: Server, text: bytes) -> Server | None:
    """An address as the server tells it; by TLS if the connection is that told it."""
    host, colon, port = text[:ADDRESS_BYTES_MAX].decode("latin-1").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    if not colon or not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65535:
        return None
    return msgspec.structs.replace(asked, host=host, port=int(port))
