"""At which addresses of this node a data connection may be waited for: those of LIFs of the preferred roles.

Source: SVM-scoped NDMP guide, preferred-interface-role; extensions.md 3.5.
"""

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from mover.config import Lif


class Choice(NamedTuple):
    """The addresses to be tried, best first, and every LIF with what was found of it, for people."""

    addresses: list[str]
    considered: str


def choose_addresses(
    lifs: Sequence[Lif], roles: Sequence[str], own: Lif, local_address: str, *, ipv6: bool = False
) -> Choice:
    """The IPv4 or IPv6 addresses for a data connection.

    Args:
        roles: preferred-interface-role, the best one first; among LIFs of one role that of the control connection is.
        own: the LIF of the control connection; data LIFs of other vservers than its are none.
        local_address: ours of the control connection: what stands for a LIF on the unspecified address.
    """
    found: list[tuple[int, bool, int, str]] = []
    considered = []
    for index, lif in enumerate(lifs):
        address = local_address if lif.name == own.name or _is_unspecified(lif.address) else lif.address
        address = address.removeprefix("::ffff:")
        if lif.vserver != own.vserver and lif.vserver:
            continue  # not even named
        if lif.role not in roles:
            why = "is of another role"
        elif (":" in address) != ipv6:
            why = f"is no IPv{6 if ipv6 else 4} address"
        elif ipv6 and ipaddress.ip_address(address).is_link_local:
            why = "is link-local, and NDMP names no interface"
        else:
            why = "fits"
            found.append((roles.index(lif.role), lif.name != own.name, index, address))
        considered.append(f"{lif.name} ({lif.role}, {address}) {why}")
    return Choice(list(dict.fromkeys(address for *_, address in sorted(found))), ", ".join(considered))


def _is_unspecified(address: str) -> bool:
    return ipaddress.ip_address(address).is_unspecified
