"""At which LIF of another node a DMA goes on that came to one of ours: one that takes the same login."""

import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

from mover.config import Lif
from mover.control.registry import LifRow

ROLES: Final = ("intercluster", "node-mgmt", "cluster-mgmt")
"""Of LIFs where the cluster's users log in, those that reach drives without CAB first."""


class Endpoint(NamedTuple):
    """Where a control connection goes."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def reachable_endpoint(rows: Sequence[LifRow], lif: Lif, local_address: str, *, secure: bool) -> Endpoint | None:
    """The best of a node's LIFs: of the role of our own first, then one where cluster users log in as well.

    Args:
        lif: of ours that the DMA came to; of a data LIF only data LIFs of the same vserver take its user.
        local_address: ours of the connection: a DMA that came from another host does not reach a loopback address.
        secure: the connection is encrypted, and so is the next one.

    Returns:
        None: no LIF fits. One on the unspecified address tells nobody where it is.
    """
    ours = ipaddress.ip_address(local_address.removeprefix("::ffff:").partition("%")[0])
    found = []
    for row in rows:
        try:
            address = ipaddress.ip_address(row.address)
        except ValueError:
            continue  # of another's making
        port = row.secure_port if secure else row.port
        fits = row.vserver == lif.vserver and (row.role == "data") == (lif.role == "data")
        if not fits or port is None or address.is_unspecified or (address.is_loopback and not ours.is_loopback):
            continue
        rank = -1 if row.role == lif.role else ROLES.index(row.role)
        found.append((rank, address.version != ours.version, Endpoint(row.address, port)))
    return min(found, key=lambda each: each[:2])[2] if found else None
