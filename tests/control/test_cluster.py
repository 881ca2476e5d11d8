"""Two nodes of one cluster, over the wire: the guide's tables cell by cell, moved volumes, nodes that go.

"Of the node" and "of the cluster" are other volumes and drives here; what the guide's words mean is written down once,
in `seen`, and not taken from the server's own tables.
"""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.ndmp import messages as m
from mover.ndmp.enums import AddressType, DataHaltReason, ErrorCode, MoverMode, TapeMode
from mover.ndmp.extensions import CAB, CAE
from tests.control.test_reach import (
    AVAILABLE_WITH_CAB,
    AVAILABLE_WITHOUT_CAB,
    NAMES,
    TYPES,
    TYPES_WITH_CAB,
    TYPES_WITHOUT_CAB,
)
from tests.support.clusters import lif, user, vserver, write_node
from tests.support.ndmp_client import Job, NdmpClient, pairs
from tests.support.processes import settle
from tests.support.servers import Login, Server, ServerError

pytestmark = pytest.mark.slow

NODE = Login("backup", "the secret of the nodes")
ADMIN = Login("admin", "another secret of the nodes")
ONE = Login("one", "the secret of vs1")
TWO = Login("two", "the secret of vs2")
USERS = {"backup": NODE, "admin": ADMIN, "vsadmin": ONE, "vsadmin-backup": TWO}
DRIVE, CHANGER = b"vtl0/drive0", b"vtl0/changer"
LOCAL, TCP, TCP_IPV6 = AddressType.LOCAL, AddressType.TCP, AddressType.TCP_IPV6
NODES = ("n1", "n2")


class Found(NamedTuple):
    """A volume of the fixture: of which vserver, with which node at first."""

    vserver: str
    node: str


# Volumes by their directories' names; `moving` and `tenant` are configured on both nodes.
VOLUMES = {
    "srv1": Found("", "n1"),
    "srv2": Found("", "n2"),
    "moving": Found("", "n1"),
    "one1": Found("vs1", "n1"),
    "one2": Found("vs1", "n2"),
    "tenant": Found("vs1", "n1"),
    "two1": Found("vs2", "n1"),
    "two2": Found("vs2", "n2"),
}
SHARED = {"moving", "tenant"}


class Cluster(NamedTuple):
    """Two nodes and the trees of their volumes."""

    servers: dict[str, Server]
    trees: dict[str, Path]

    def shown(self, volume: str) -> bytes:
        found = VOLUMES[volume]
        return f"/{found.vserver}/{volume}".encode() if found.vserver else os.fsencode(self.trees[volume])

    def connect(self, node: str, lif_name: str, login: Login, method: str = "md5") -> NdmpClient:
        """A connection to a LIF, by its role or, of data LIFs, by its name."""
        name = "only" if lif_name == "node-mgmt" else lif_name
        (found,) = [each for each in self.servers[node].ready.lifs if each.name == name]
        return NdmpClient(f"{found.address}:{found.port}", login=login, method=method)


def config_of(directory: Path, trees: dict[str, Path], node: str) -> Path:
    def has(name: str, owner: str) -> bool:
        found = VOLUMES[name]
        return found.vserver == owner and (found.node == node or name in SHARED)

    volumes = {owner: {name: trees[name] for name in VOLUMES if has(name, owner)} for owner in ("", "vs1", "vs2")}
    extra = [
        lif("data1", "data", "vs1"),
        lif("data2", "data", "vs2"),
        vserver("vs1", volumes["vs1"], ["tenant"]),
        vserver("vs2", volumes["vs2"]),
        user(ADMIN, "admin"),
        user(ONE, "vsadmin", '"vs1"'),
        user(TWO, "vsadmin-backup", '"vs2"'),
    ]
    return write_node(directory, node, NODE, volumes=volumes[""], shared=["moving"], extra="\n".join(extra))


@pytest.fixture(scope="module")
def cluster(directory: Path) -> Iterator[Cluster]:
    trees = {name: directory / "volumes" / name for name in VOLUMES}
    for name, path in trees.items():
        (path / "tree").mkdir(parents=True)
        (path / "tree" / "file").write_text(name)
    with Server(config_of(directory, trees, "n1")) as n1, Server(config_of(directory, trees, "n2")) as n2:
        for server in (n1, n2):
            server.ask("tape", "load", "vtl0/drive0")
        yield Cluster({"n1": n1, "n2": n2}, trees)


def choose(client: NdmpClient, *classes: int) -> None:
    """Extension classes that are offered, in version 1."""
    client.ok(m.ConfigGetExtListRequest())
    client.ok(m.ConfigSetExtListRequest(tuple(m.SelectedExt(each, 1) for each in classes)))
    client.protocol.extensions = dict.fromkeys(classes, 1)


def seen(words: str, node: str, vserver_name: str) -> dict[str, str]:
    """Volume -> the node it is with, of those that the guide's words mean."""
    of_vserver = "belong to the SVM" in words
    everywhere = "in the cluster" in words or (of_vserver and "hosted by a node" not in words)
    return {
        name: found.node
        for name, found in VOLUMES.items()
        if (everywhere or found.node == node) and (not of_vserver or found.vserver == vserver_name)
    }


def pair(env: tuple[m.Pval, ...], name: bytes) -> bytes:
    return {each.name: each.value for each in env}.get(name, b"")


CELLS = [
    (*row, *types, cab)
    for cab, table, connection_types in (
        (False, AVAILABLE_WITHOUT_CAB, TYPES_WITHOUT_CAB),
        (True, AVAILABLE_WITH_CAB, TYPES_WITH_CAB),
    )
    for row, types in zip(table, connection_types, strict=True)
]


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(("kind", "volumes", "tapes", "_", "types", "cab"), CELLS)
def test_every_cell_of_the_guide(
    cluster: Cluster, node: str, kind: str, volumes: str, tapes: str, _: str, types: str, *, cab: bool
) -> None:
    role = NAMES[kind]
    for name, login, vserver_name in (
        [("data1", ONE, "vs1"), ("data2", TWO, "vs2")] if role == "data" else [(role, NODE, "")]
    ):
        with cluster.connect(node, name, login) as client:
            choose(client, *([CAB, CAE] if cab else [CAE]))
            reached = seen(volumes, node, vserver_name)
            shown = client.ok(m.ConfigGetFsInfoRequest())
            assert isinstance(shown, m.ConfigGetFsInfoReply)
            rows = {each.fs_logical_device: each for each in shown.fs_info}
            assert len(rows) == len(shown.fs_info)
            assert set(rows) == {cluster.shown(each) for each in reached}
            assert {each.fs_status for each in shown.fs_info} == {b"online"}
            for each, where in reached.items():
                env = rows[cluster.shown(each)].fs_env
                assert pair(env, b"AFFINITY") == (where.encode() if cab else b"")
                assert (b"AFFINITY_ADDRESS" in {one.name for one in env}) == (where != node)
            drives = {"None": {}, "All tape devices in the cluster": {DRIVE: node, other_drive(node): other(node)}}
            expected = drives.get(tapes, {DRIVE: node})
            assert shown_drives(client) == expected
            assert shown_changers(client) == {each.replace(b"drive0", b"changer") for each in expected}
            offered = client.ok(m.ConfigGetConnectionTypeRequest())
            assert offered == m.ConfigGetConnectionTypeReply(
                addr_types=tuple(TYPES[word] for word in types.split(", "))
            )


def other(node: str) -> str:
    return "n2" if node == "n1" else "n1"


def other_drive(node: str) -> bytes:
    return f"{other(node)}:".encode() + DRIVE


def shown_drives(client: NdmpClient) -> dict[bytes, str]:
    """Own name of each drive -> the node it is at; without CAB the node that was asked, which is not told."""
    tapes = client.ok(m.ConfigGetTapeInfoRequest())
    assert isinstance(tapes, m.ConfigGetTapeInfoReply)
    host = client.ok(m.ConfigGetHostInfoRequest())
    assert isinstance(host, m.ConfigGetHostInfoReply)
    return {
        info.caplist[0].device: (pair(info.caplist[0].capability, b"AFFINITY") or host.hostname).decode()
        for info in tapes.tape_info
    }


def shown_changers(client: NdmpClient) -> set[bytes]:
    changers = client.ok(m.ConfigGetScsiInfoRequest())
    assert isinstance(changers, m.ConfigGetScsiInfoReply)
    return {each.device for info in changers.scsi_info for each in info.caplist}


@pytest.mark.parametrize("cab", [False, True])
@pytest.mark.parametrize("name", ["node-mgmt", "cluster-mgmt", "intercluster", "data1"])
def test_what_is_used_is_what_is_here_and_the_refusal_says_where_the_rest_is(
    cluster: Cluster, name: str, *, cab: bool
) -> None:
    """At n1: its own volumes and drive where the tables give them; those of n2 are refused, by its name."""
    data = name == "data1"
    in_reach = cab and name != "node-mgmt"
    has_tapes = name in {"intercluster", "node-mgmt"} or (cab and name == "cluster-mgmt")
    with cluster.connect("n1", name, ONE if data else NODE) as client:
        if cab:
            choose(client, CAB)
        for volume, found in VOLUMES.items():
            visible = not data or found.vserver == "vs1"
            path = cluster.shown(volume) + b"/tree"
            expected = 0
            if found.node == "n2":
                expected = ErrorCode.PRECONDITION_ERR if in_reach else ErrorCode.ILLEGAL_ARGS_ERR
            if not visible:
                expected = ErrorCode.ILLEGAL_ARGS_ERR
            client.posts.clear()
            assert start_error(client, backup(path)) == expected, volume
            if cab:
                request = m.CabDataConnPrepareRequest(TCP, b"dump", pairs(FILESYSTEM=path.decode()))
                assert client.error(request) == expected, volume
                client.ok(m.DataListenRequest(TCP))
                client.ok(m.DataAbortRequest())
                client.ok(m.DataStopRequest())
            told = "\n".join(client.log())
            assert ("at node n2" in told) == (visible and found.node == "n2"), told
            if cab and visible and found.node == "n2" and in_reach:
                assert "CAB data connection prepare precondition error: " in told
        for device in (DRIVE, b"n1:" + DRIVE):
            error = client.error(m.TapeOpenRequest(device, TapeMode.RDWR))
            assert error == (0 if has_tapes else ErrorCode.NO_DEVICE_ERR)
            if has_tapes:
                client.ok(m.TapeCloseRequest())
        client.posts.clear()
        for opening in (m.TapeOpenRequest(b"n2:" + DRIVE, TapeMode.RDWR), m.ScsiOpenRequest(b"n2:" + CHANGER)):
            assert client.error(opening) == ErrorCode.NO_DEVICE_ERR
        client.ok(m.ConfigGetHostInfoRequest())  # a line of the log follows the reply that it explains
        told = "\n".join(client.log())
        assert ("n2:vtl0/drive0 is at node n2" in told and "n2:vtl0/changer is at node n2" in told) == has_tapes
        assert client.error(m.ScsiOpenRequest(b"n1:" + CHANGER)) == (0 if has_tapes else ErrorCode.NO_DEVICE_ERR)
        client.hang_up()


def start_error(client: NdmpClient, request: m.DataStartBackupRequest) -> int:
    """The answer to a START behind a TCP data connection, which is taken back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.ok(m.DataConnectRequest(m.tcp_address(0x7F00_0001, listener.getsockname()[1])))
        peer, _ = listener.accept()
    with peer:
        error = client.error(request)
        client.ok(m.DataAbortRequest())
        client.ok(m.DataStopRequest())
    return error


def backup(path: bytes) -> m.DataStartBackupRequest:
    return m.DataStartBackupRequest(b"dump", (m.Pval(b"FILESYSTEM", path),))


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("lif_name", ["node-mgmt", "cluster-mgmt", "intercluster", "data1", "data2"])
def test_who_may_log_in_where(cluster: Cluster, node: str, lif_name: str) -> None:
    """The fifth matrix: cluster users at every LIF but data LIFs, a vserver's users at its data LIFs alone."""
    for role, login in USERS.items():
        allowed = {"vsadmin": lif_name == "data1", "vsadmin-backup": lif_name == "data2"}
        expected = allowed.get(role, not lif_name.startswith("data"))
        try:
            with cluster.connect(node, lif_name, login):
                assert expected, role
        except AssertionError as error:
            if "NOT_AUTHORIZED_ERR" not in str(error):
                raise
            assert not expected, role


def owners(server: Server) -> dict[str, str]:
    volumes = server.ask("volume", "show")["volumes"]
    assert isinstance(volumes, list)
    return {each["volume"]: each["node"] for each in volumes}


def move(server: Server, name: str, node: str, vserver_name: str = "") -> None:
    vserver_option = ["--vserver", vserver_name] if vserver_name else []
    server.ask("volume", "move", "--volume", name, "--destination-node", node, *vserver_option)


def test_a_volume_that_is_moved_is_backed_up_and_shown_at_its_new_node_at_once(cluster: Cluster) -> None:
    path = cluster.shown("moving") + b"/tree"
    with cluster.connect("n1", "intercluster", NODE) as one, cluster.connect("n2", "intercluster", NODE) as two:
        choose(one, CAB)
        assert start_error(one, backup(path)) == 0
        assert start_error(two, backup(path)) == ErrorCode.ILLEGAL_ARGS_ERR
        assert "volume moving is at node n1" in "\n".join(two.log())
        assert affinity_of(one, cluster.shown("moving")) == [b"n1"]
        move(cluster.servers["n1"], "moving", "n2")
        try:
            assert owners(cluster.servers["n1"])["moving"] == owners(cluster.servers["n2"])["moving"] == "n2"
            assert start_error(one, backup(path)) == ErrorCode.PRECONDITION_ERR
            assert start_error(two, backup(path)) == 0
            assert affinity_of(one, cluster.shown("moving")) == [b"n2"]
            assert affinity_of(two, cluster.shown("moving")) == [b""]  # not chosen there
        finally:
            move(cluster.servers["n2"], "moving", "n1")
        assert start_error(one, backup(path)) == 0


def affinity_of(client: NdmpClient, shown_path: bytes) -> list[bytes]:
    shown = client.ok(m.ConfigGetFsInfoRequest())
    assert isinstance(shown, m.ConfigGetFsInfoReply)
    return [pair(each.fs_env, b"AFFINITY") for each in shown.fs_info if each.fs_logical_device == shown_path]


def test_a_volume_of_a_vserver_moves_and_no_other_vserver_hears_of_it(cluster: Cluster) -> None:
    move(cluster.servers["n2"], "tenant", "n2", "vs1")
    try:
        for node in NODES:
            volumes = cluster.servers[node].ask("volume", "show", "--vserver", "vs1")["volumes"]
            assert isinstance(volumes, list)
            assert {(each["volume"], each["node"]) for each in volumes} == {
                ("one1", "n1"), ("one2", "n2"), ("tenant", "n2"),
            }  # fmt: skip
        with cluster.connect("n1", "data2", TWO) as client:
            choose(client, CAB)
            for path in (b"/vs1/tenant", b"/vs1/one2", os.fsencode(cluster.trees["one2"])):
                assert start_error(client, backup(path)) == ErrorCode.ILLEGAL_ARGS_ERR
            told = "\n".join(client.log())
            assert "n2" not in told
    finally:
        move(cluster.servers["n1"], "tenant", "n1", "vs1")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--volume", "srv1", "--destination-node", "n2"], "no node has srv1 among its shared_volumes"),
        (["--volume", "moving", "--destination-node", "n9"], "there is no node n9"),
        (["--volume", "moving", "--vserver", "vs2", "--destination-node", "n2"], "among its shared_volumes"),
        (["--volume", "../x", "--destination-node", "n2"], "among its shared_volumes"),
    ],
)
def test_a_move_that_cannot_be_is_refused(cluster: Cluster, arguments: list[str], why: str) -> None:
    with pytest.raises(ServerError, match=why):
        cluster.servers["n1"].ask("volume", "move", *arguments)
    assert owners(cluster.servers["n1"]) == {name: found.node for name, found in VOLUMES.items()}


def test_the_nodes_show_each_other(cluster: Cluster) -> None:
    for server in cluster.servers.values():
        nodes = server.ask("node", "show")["nodes"]
        assert isinstance(nodes, list)
        assert [(each["node"], each["state"]) for each in nodes] == [("n1", "up"), ("n2", "up")]
        assert {each["role"] for each in nodes[1]["lifs"]} == {"node-mgmt", "cluster-mgmt", "intercluster", "data"}
        assert nodes[1]["drives"] == ["vtl0/drive0"]
    with cluster.connect("n2", "node-mgmt", NODE):
        sessions = cluster.servers["n2"].ask("probe", "--fields", "node")["sessions"]
        assert {"node": "n2"} in sessions  # type: ignore[operator]  # a list


def test_a_backup_of_a_moved_volume_goes_three_way_by_the_wire(cluster: Cluster) -> None:
    """What a DMA that knows of clusters does: the data at the volume's node, the drive at the other."""
    move(cluster.servers["n1"], "moving", "n2")
    try:
        with cluster.connect("n2", "intercluster", NODE) as data, cluster.connect("n1", "intercluster", NODE) as tape:
            choose(data, CAB)
            env = pairs(FILESYSTEM=os.fsdecode(cluster.shown("moving")), LEVEL="0")
            data.ok(m.CabDataConnPrepareRequest(TCP, b"dump", env))
            Job(data, tape).connect_data(MoverMode.READ)
            data.ok(m.DataStartBackupRequest(b"dump", env))
            assert data.data_halted() == DataHaltReason.SUCCESSFUL
            tape.mover_halted()
            data.ok(m.DataStopRequest())
            tape.hang_up()
    finally:
        move(cluster.servers["n1"], "moving", "n1")


def test_a_node_that_goes_is_shown_as_gone_and_what_it_has_stays_listed(directory: Path) -> None:
    trees = {name: directory / "going" / "volumes" / name for name in ("srv1", "srv2", "moving")}
    for path in trees.values():
        path.mkdir(parents=True)
    configs = {
        node: write_node(
            directory / "going",
            node,
            NODE,
            volumes={f"srv{node[1]}": trees[f"srv{node[1]}"], "moving": trees["moving"]},
            shared=["moving"],
        )
        for node in NODES
    }
    with Server(configs["n1"]) as n1:
        cluster = Cluster({"n1": n1}, trees)

        def state() -> str:
            nodes = n1.ask("node", "show")["nodes"]
            assert isinstance(nodes, list)
            return str({each["node"]: each["state"] for each in nodes}["n2"])

        def check(word: str) -> None:
            with cluster.connect("n1", "intercluster", NODE) as client:
                choose(client, CAB)
                shown = client.ok(m.ConfigGetFsInfoRequest())
                assert isinstance(shown, m.ConfigGetFsInfoReply)
                told = {each.fs_logical_device: each.fs_status for each in shown.fs_info}
                assert told[os.fsencode(trees["srv2"])] == f"offline: node n2 is {word}".encode()
                assert start_error(client, backup(os.fsencode(trees["srv2"]))) == ErrorCode.PRECONDITION_ERR
                assert f"at node n2, which is {word}" in "\n".join(client.log())
                assert shown_drives(client) == {DRIVE: "n1", b"n2:" + DRIVE: "n2"}
            with pytest.raises(ServerError, match=f"node n2 is {word}"):
                move(n1, "moving", "n2")

        with Server(configs["n2"]) as n2:
            assert state() == "up"
            twin = write_node(directory / "going", "twin", NODE, volumes={})
            twin.write_text(twin.read_text().replace('name = "twin"', 'name = "n2"'))
            with pytest.raises(ServerError, match="another mover serve is node n2"):
                Server(twin)
        assert state() == "stopped"
        check("stopped")
        with Server(configs["n2"]) as n2:
            move(n1, "moving", "n2")
            assert owners(n1)["moving"] == "n2"
            os.kill(n2.pid, signal.SIGKILL)
            n2.reap_killed()
            settle(lambda: state() == "down", "the node is seen to be down", 90)
            check("down")
            move(n1, "moving", "n1")  # the node that is left takes it over
            with cluster.connect("n1", "node-mgmt", NODE) as client:
                assert start_error(client, backup(os.fsencode(trees["moving"]))) == 0
        assert Path(configs["n2"]).exists()
