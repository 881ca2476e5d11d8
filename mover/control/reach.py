"""What a control connection reaches, by the role of the LIF it came to and by whether its DMA has chosen CAB; who may
log in where. Tables only: what asks is the rest of control.

Source: SVM-scoped NDMP guide, "Availability of volumes and tape devices", "Data connection types" and "User
authentication"; extensions.md 3.4 and 7.5.
"""

from collections.abc import Collection
from enum import Enum
from typing import Final, NamedTuple

from mover.config.model import LifRole
from mover.ndmp.enums import AddressType


class VolumeScope(Enum):
    """The volumes that may be backed up and recovered into."""

    NODE = "all volumes of the LIF's node"
    VSERVER_ON_NODE = "the volumes of the LIF's vserver that are on the LIF's node"
    VSERVER = "the volumes of the LIF's vserver"
    CLUSTER = "all volumes in the cluster"


class TapeScope(Enum):
    """The tape devices and changers that are shown and opened."""

    NONE = "none"
    NODE = "those of the LIF's node"
    CLUSTER = "all in the cluster"


class Reach(NamedTuple):
    """What a control connection reaches. LOCAL among the address types: a job within one node is possible."""

    volumes: VolumeScope
    tapes: TapeScope
    address_types: tuple[AddressType, ...]


_REMOTE: Final = (AddressType.TCP, AddressType.TCP_IPV6)
_ALL: Final = (AddressType.LOCAL, *_REMOTE)

REACH: Final[dict[tuple[LifRole, bool], Reach]] = {
    # without CAB
    ("node-mgmt", False): Reach(VolumeScope.NODE, TapeScope.NODE, _ALL),
    ("data", False): Reach(VolumeScope.VSERVER_ON_NODE, TapeScope.NONE, _REMOTE),
    ("cluster-mgmt", False): Reach(VolumeScope.NODE, TapeScope.NONE, _REMOTE),
    ("intercluster", False): Reach(VolumeScope.NODE, TapeScope.NODE, _ALL),
    # with CAB
    ("node-mgmt", True): Reach(VolumeScope.NODE, TapeScope.NODE, _ALL),
    ("data", True): Reach(VolumeScope.VSERVER, TapeScope.NONE, _REMOTE),
    ("cluster-mgmt", True): Reach(VolumeScope.CLUSTER, TapeScope.CLUSTER, _ALL),
    ("intercluster", True): Reach(VolumeScope.CLUSTER, TapeScope.CLUSTER, _ALL),
}
"""(role of the LIF, CAB chosen) -> reach."""


ALL: Final = "*"
"""In the place of names: there is no bound."""


class Bounds(NamedTuple):
    """What a user reaches of what his LIF gives him, by names.

    Attributes:
        volumes: of the node: NAME; of a vserver: VSERVER/NAME.
        devices: drives and changers.
    """

    volumes: tuple[str, ...] = (ALL,)
    devices: tuple[str, ...] = (ALL,)

    def has_volume(self, name: str) -> bool:
        """Whether a volume is reached."""
        return ALL in self.volumes or name in self.volumes

    def has_device(self, name: str) -> bool:
        """Whether a drive or a changer is."""
        return ALL in self.devices or name in self.devices


class UserScope(Enum):
    """Whose user it is."""

    CLUSTER = "the cluster's"
    VSERVER = "one or more vservers'"


SCOPES: Final[dict[str, UserScope]] = {
    "admin": UserScope.CLUSTER,
    "backup": UserScope.CLUSTER,
    "vsadmin": UserScope.VSERVER,
    "vsadmin-backup": UserScope.VSERVER,
}
"""The roles that are there without being made. A custom role's scope is that of its user (:func:`scope_of`)."""

LOGIN: Final[dict[tuple[UserScope, LifRole], bool]] = {
    (UserScope.CLUSTER, "node-mgmt"): True,
    (UserScope.CLUSTER, "data"): False,
    (UserScope.CLUSTER, "cluster-mgmt"): True,
    (UserScope.CLUSTER, "intercluster"): True,
    (UserScope.VSERVER, "node-mgmt"): False,
    (UserScope.VSERVER, "data"): True,
    (UserScope.VSERVER, "cluster-mgmt"): False,
    (UserScope.VSERVER, "intercluster"): False,
}
"""(scope of the user, role of the LIF) -> may log in; a vserver's user only at LIFs of his vservers."""


def scope_of(role: str, vservers: Collection[str]) -> UserScope:
    """The scope of a user; one with a custom role is a vserver's user if he is bound to any."""
    return SCOPES.get(role) or (UserScope.VSERVER if vservers else UserScope.CLUSTER)


def may_log_in(role: str, vservers: Collection[str], lif_role: LifRole, lif_vserver: str) -> bool:
    """Whether a user may log in at a LIF.

    Args:
        role: of the user; that it carries the NDMP privilege is for others to know.
        vservers: those that the user is bound to.
        lif_vserver: that the LIF belongs to; "" = none.
    """
    scope = scope_of(role, vservers)
    return LOGIN[scope, lif_role] and (scope is UserScope.CLUSTER or lif_vserver in vservers)
