"""The addresses at which a data connection is waited for."""

import pytest

from mover.config import Lif
from mover.config.model import LifRole
from mover.control.interfaces import choose_addresses


def lif(name: str, address: str, role: LifRole = "node-mgmt", vserver: str = "") -> Lif:
    return Lif(name=name, address=address, role=role, vserver=vserver)


MGMT, OTHER = lif("mgmt", "10.0.0.1"), lif("other", "10.0.0.2")
BETWEEN, SIX = lif("between", "10.1.0.1", "intercluster"), lif("six", "fe80::1", "intercluster")
ONE, TWO = lif("one", "10.2.0.1", "data", "vs1"), lif("two", "10.2.0.2", "data", "vs2")
LIFS = [MGMT, OTHER, SIX, BETWEEN, ONE, TWO]


@pytest.mark.parametrize(
    ("roles", "own", "addresses"),
    [
        (["node-mgmt"], MGMT, ["10.0.0.1", "10.0.0.2"]),
        (["node-mgmt"], OTHER, ["10.0.0.2", "10.0.0.1"]),  # that of the control connection
        (["intercluster", "node-mgmt"], MGMT, ["10.1.0.1", "10.0.0.1", "10.0.0.2"]),
        (["node-mgmt", "intercluster"], BETWEEN, ["10.0.0.1", "10.0.0.2", "10.1.0.1"]),
        (["intercluster", "data"], ONE, ["10.1.0.1", "10.2.0.1"]),
        (["data"], TWO, ["10.2.0.2"]),
        (["data"], MGMT, []),
        (["cluster-mgmt"], MGMT, []),
    ],
)
def test_the_roles_decide_and_then_the_control_connection(roles: list[LifRole], own: Lif, addresses: list[str]) -> None:
    assert choose_addresses(LIFS, roles, own, own.address).addresses == addresses


def test_a_lif_on_every_address_is_where_the_dma_came_to() -> None:
    anywhere = lif("anywhere", "0.0.0.0")
    assert choose_addresses([anywhere], ["node-mgmt"], anywhere, "192.0.2.7").addresses == ["192.0.2.7"]
    assert choose_addresses([anywhere], ["node-mgmt"], anywhere, "::ffff:192.0.2.7").addresses == ["192.0.2.7"]
    assert choose_addresses([lif("six", "::")], ["node-mgmt"], lif("six", "::"), "2001:db8::1").addresses == []


def test_what_was_looked_at_names_no_lif_of_another_vserver() -> None:
    assert choose_addresses(LIFS, ["cluster-mgmt"], ONE, ONE.address).considered == (
        "mgmt (node-mgmt, 10.0.0.1) is of another role, other (node-mgmt, 10.0.0.2) is of another role, "
        "six (intercluster, fe80::1) is of another role, between (intercluster, 10.1.0.1) is of another role, "
        "one (data, 10.2.0.1) is of another role"
    )
    assert choose_addresses([SIX], ["intercluster"], MGMT, MGMT.address).considered == (
        "six (intercluster, fe80::1) is no IPv4 address"
    )


def test_over_ipv6_the_lif_is_one_that_has_it_and_can_be_named() -> None:
    seven = lif("seven", "2001:db8::7", "node-mgmt")
    choice = choose_addresses([*LIFS, seven], ["intercluster", "node-mgmt"], MGMT, MGMT.address, ipv6=True)
    assert choice.addresses == ["2001:db8::7"]
    assert "mgmt (node-mgmt, 10.0.0.1) is no IPv6 address" in choice.considered
    assert "six (intercluster, fe80::1) is link-local, and NDMP names no interface" in choice.considered
    anywhere = lif("anywhere", "::")
    assert choose_addresses([anywhere], ["node-mgmt"], anywhere, "2001:db8::1", ipv6=True).addresses == ["2001:db8::1"]
    assert choose_addresses([anywhere], ["node-mgmt"], anywhere, "::ffff:192.0.2.7", ipv6=True).addresses == []
