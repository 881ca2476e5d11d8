"""The tables of what a control connection reaches, against the guide's own words."""

import itertools
from typing import get_args

import pytest

from mover.config.model import LifRole
from mover.control.reach import LOGIN, REACH, SCOPES, TapeScope, UserScope, VolumeScope, may_log_in, scope_of
from mover.ndmp.enums import AddressType

ROLES: tuple[LifRole, ...] = get_args(LifRole)
NAMES: dict[str, LifRole] = {
    "Node-management LIF": "node-mgmt",
    "Data LIF": "data",
    "Cluster-management LIF": "cluster-mgmt",
    "Intercluster LIF": "intercluster",
}
# The guide's four tables, letter by letter: LIF type, volumes, tape devices; LIF type, connection types.
AVAILABLE_WITHOUT_CAB = (
    ("Node-management LIF", "All volumes hosted by a node",
     "Tape devices connected to the node hosting the node-management LIF"),
    ("Data LIF", "Only volumes that belong to the SVM hosted by a node that hosts the data LIF", "None"),
    ("Cluster-management LIF", "All volumes hosted by a node that hosts the cluster-management LIF", "None"),
    ("Intercluster LIF", "All volumes hosted by a node that hosts the intercluster LIF",
     "Tape devices connected to the node hosting the intercluster LIF"),
)  # fmt: skip
AVAILABLE_WITH_CAB = (
    ("Node-management LIF", "All volumes hosted by a node",
     "Tape devices connected to the node hosting the node-management LIF"),
    ("Data LIF", "All volumes that belong to the SVM that hosts the data LIF", "None"),
    ("Cluster-management LIF", "All volumes in the cluster", "All tape devices in the cluster"),
    ("Intercluster LIF", "All volumes in the cluster", "All tape devices in the cluster"),
)  # fmt: skip
TYPES_WITH_CAB = (
    ("Node-management LIF", "LOCAL, TCP, TCP/IPv6"),
    ("Data LIF", "TCP, TCP/IPv6"),
    ("Cluster-management LIF", "LOCAL, TCP, TCP/IPv6"),
    ("Intercluster LIF", "LOCAL, TCP, TCP/IPv6"),
)
TYPES_WITHOUT_CAB = (
    ("Node-management LIF", "LOCAL, TCP, TCP/IPv6"),
    ("Data LIF", "TCP, TCP/IPv6"),
    ("Cluster-management LIF", "TCP, TCP/IPv6"),
    ("Intercluster LIF", "LOCAL, TCP, TCP/IPv6"),
)
TYPES = {"LOCAL": AddressType.LOCAL, "TCP": AddressType.TCP, "TCP/IPv6": AddressType.TCP_IPV6}


def volume_scope(words: str) -> VolumeScope:
    if "belong to the SVM" in words:
        return VolumeScope.VSERVER_ON_NODE if "hosted by a node" in words else VolumeScope.VSERVER
    return VolumeScope.CLUSTER if "in the cluster" in words else VolumeScope.NODE


def tape_scope(words: str) -> TapeScope:
    if words == "None":
        return TapeScope.NONE
    return TapeScope.CLUSTER if "in the cluster" in words else TapeScope.NODE


@pytest.mark.parametrize(("cab", "table"), [(False, AVAILABLE_WITHOUT_CAB), (True, AVAILABLE_WITH_CAB)])
def test_the_volumes_and_tape_devices_are_those_of_the_guide(
    table: tuple[tuple[str, str, str], ...], *, cab: bool
) -> None:
    told = {NAMES[lif]: (volume_scope(volumes), tape_scope(tapes)) for lif, volumes, tapes in table}
    assert {role: REACH[role, cab][:2] for role in ROLES} == told


@pytest.mark.parametrize(("cab", "table"), [(False, TYPES_WITHOUT_CAB), (True, TYPES_WITH_CAB)])
def test_the_connection_types_are_those_of_the_guide(table: tuple[tuple[str, str], ...], *, cab: bool) -> None:
    told = {NAMES[lif]: tuple(TYPES[word] for word in words.split(", ")) for lif, words in table}
    assert {role: REACH[role, cab].address_types for role in ROLES} == told


def test_no_cell_is_missing_and_none_is_made_up() -> None:
    assert set(REACH) == set(itertools.product(ROLES, (False, True)))
    assert set(LOGIN) == set(itertools.product(UserScope, ROLES))


@pytest.mark.parametrize("lif_role", ROLES)
@pytest.mark.parametrize("role", SCOPES)
def test_who_may_log_in_where(role: str, lif_role: LifRole) -> None:
    """Cluster users: every LIF but data LIFs. A vserver's users: "only the data LIF for that SVM"."""
    cluster_role = role in {"admin", "backup"}
    assert may_log_in(role, [], lif_role, "") == (cluster_role and lif_role != "data")
    assert may_log_in(role, ["vs1"], lif_role, "vs1") == (cluster_role != (lif_role == "data"))
    assert not may_log_in(role, ["vs2"], "data", "vs1")
    assert may_log_in(role, ["vs2", "vs1"], "data", "vs1") == (not cluster_role)


def test_a_custom_role_has_the_scope_of_its_user() -> None:
    assert scope_of("tapes", []) is UserScope.CLUSTER
    assert scope_of("tapes", ["vs1"]) is UserScope.VSERVER
    assert may_log_in("tapes", ["vs1"], "data", "vs1")
    assert not may_log_in("tapes", ["vs1"], "node-mgmt", "")
    assert not may_log_in("tapes", [], "data", "vs1")
