"""A node's view of its cluster: a registry that hangs or fails, nodes that fall silent, addresses that lead on."""

import threading
from pathlib import Path

import msgspec
import pytest
import trio

from mover.config import Lif
from mover.control import cluster as module
from mover.control.addresses import Endpoint, reachable_endpoint
from mover.control.cluster import Cluster
from mover.control.reach import Bounds
from mover.control.registry import (
    Contents,
    LifRow,
    NodeRecord,
    Registry,
    RegistryError,
    VolumeKey,
    VolumeRow,
)
from tests.support.servers import Server, ServerError

DEADLINE_S = 30
OTHER = NodeRecord(
    name="n2",
    incarnation="a",
    volumes=[
        VolumeRow(name="srv", shown="/srv"),
        VolumeRow(vserver="vs1", name="home", shown="/vs1/home", shared=True),
    ],
)


class Hanging(Registry):
    """A directory that does not answer while ``free`` is not set."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory, "n1")
        self.free = threading.Event()
        self.free.set()
        self.reads = 0
        self.begun = threading.Event()

    def read(self) -> Contents:
        self.reads += 1
        self.begun.set()
        assert self.free.wait(DEADLINE_S)
        return super().read()


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    monkeypatch.setattr(module, "READ_S", 0.2)
    return Hanging(str(tmp_path))


async def test_a_directory_that_hangs_is_waited_for_once_and_what_was_read_counts(hanging: Hanging) -> None:
    with trio.fail_after(DEADLINE_S):
        cluster = Cluster("n1", hanging)
        while not cluster.records:  # a machine so slow that a first read takes longer asks again
            hanging.enter()
            hanging.publish(OTHER)
            await cluster.refresh()
        hanging.free.clear()
        hanging.begun.clear()
        before = hanging.reads
        for _ in range(3):
            await cluster.refresh()
        assert await trio.to_thread.run_sync(hanging.begun.wait, DEADLINE_S)  # its thread may begin late
        assert hanging.reads == before + 1
        assert cluster.error == f"{hanging.directory}: no answer within 0.2 s"
        assert cluster.records == {"n2": OTHER}
        with pytest.raises(RegistryError, match="no answer within"):
            await cluster.move(VolumeKey("vs1", "home"), "n2")
        hanging.free.set()
        while cluster.error:
            await cluster.refresh()
            await trio.sleep(0.01)


async def test_a_directory_that_fails_leaves_what_was_read(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path), "n1")
    cluster = Cluster("n1", registry)
    with trio.fail_after(DEADLINE_S):
        await cluster.join()
        registry.publish(OTHER)
        await cluster.refresh()
        nodes = tmp_path / "nodes"
        nodes.rename(tmp_path / "away")
        await cluster.refresh()
        assert cluster.error == f"{nodes}: No such file or directory"
        assert [each.row.name for each in cluster.volumes_of_others(None)] == ["srv"]
        (tmp_path / "away").rename(nodes)
        (nodes / "n2.json").write_text("{")
        await cluster.refresh()
        assert (cluster.error, list(cluster.records)) == ("", ["n2"])
        await cluster.leave()


async def test_a_beat_that_fails_in_a_way_nobody_has_thought_of_is_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    cluster = Cluster("n1", Registry(str(tmp_path), "n1"))
    again = trio.Event()
    beats = 0

    async def beat(_parts: object) -> None:
        nonlocal beats
        beats += 1
        if beats == 1:
            raise RuntimeError("of its own")
        again.set()

    monkeypatch.setattr(cluster, "beat", beat)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.beat_on, lambda: OTHER)
            await again.wait()
            nursery.cancel_scope.cancel()


async def test_a_node_is_up_as_long_as_its_beat_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("mover.control.cluster.time.monotonic", lambda: now[0])
    monkeypatch.setattr("mover.control.cluster.time.time", lambda: 5000.0)
    cluster = Cluster("n1", Registry("/nonexistent", "n1"))

    def take(**changes: object) -> str:
        record = msgspec.structs.replace(OTHER, **changes)
        cluster._take(Contents({"n2": record}, {}, []))
        return cluster.state("n2")

    assert cluster.state("n2") == "down"  # nobody knows it
    assert take(beat=1, written=4000.0) == "down"  # its file is old
    assert take(beat=2, written=4000.0) == "up"  # its clock is wrong, and it lives
    now[0] += module.DOWN_S - 1
    assert take(beat=2) == "up"
    now[0] += 2
    assert take(beat=2) == "down"
    assert take(beat=1, incarnation="b") == "up"
    assert take(beat=2, incarnation="b", stopped=True) == "stopped"
    assert cluster.state("n1") == "up"


async def test_what_is_with_others_is_told_within_a_user_s_bounds() -> None:
    cluster = Cluster("n1", Registry("/nonexistent", "n1"))
    owners = {VolumeKey("vs1", "home"): "n2"}
    cluster._take(Contents({"n2": OTHER}, owners, []))
    names = [b"vs1", b"home", b"x"]
    assert cluster.elsewhere(names, None, Bounds()) == "at node n2, which is down"
    assert cluster.elsewhere(names, "vs1", Bounds()) == "at node n2, which is down"
    assert cluster.elsewhere(names, "vs2", Bounds()) == ""
    assert cluster.elsewhere(names, None, Bounds(volumes=("srv",))) == ""
    assert cluster.elsewhere([b"vs1"], None, Bounds()) == ""
    cluster._take(Contents({"n2": OTHER}, {VolumeKey("vs1", "home"): "n1"}, []))
    assert cluster.elsewhere(names, None, Bounds()) == ""


@pytest.mark.parametrize(
    ("role", "vserver", "local", "secure", "expected"),
    [
        ("intercluster", "", "192.0.2.1", False, Endpoint("192.0.2.7", 10001)),
        ("node-mgmt", "", "192.0.2.1", False, Endpoint("192.0.2.8", 10002)),
        ("cluster-mgmt", "", "192.0.2.1", False, Endpoint("192.0.2.7", 10001)),
        ("intercluster", "", "192.0.2.1", True, Endpoint("192.0.2.8", 30002)),
        ("intercluster", "", "2001:db8::1", False, Endpoint("2001:db8::7", 10003)),
        ("data", "vs1", "192.0.2.1", False, Endpoint("192.0.2.9", 10004)),
        ("data", "vs2", "192.0.2.1", False, None),
        ("data", "vs3", "192.0.2.1", False, None),
        ("data", "vs3", "127.0.0.1", False, Endpoint("127.0.0.1", 10006)),
    ],
)
def test_the_address_that_leads_on_takes_the_same_login(
    role: str, vserver: str, local: str, secure: bool, expected: Endpoint | None
) -> None:
    rows = [
        LifRow(name="a", role="intercluster", address="192.0.2.7", port=10001),
        LifRow(name="b", role="node-mgmt", address="192.0.2.8", port=10002, secure_port=30002),
        LifRow(name="c", role="intercluster", address="2001:db8::7", port=10003),
        LifRow(name="d", role="data", address="192.0.2.9", port=10004, vserver="vs1"),
        LifRow(name="e", role="data", address="0.0.0.0", port=10005, vserver="vs2"),
        LifRow(name="f", role="data", address="127.0.0.1", port=10006, vserver="vs3"),
        LifRow(name="g", role="intercluster", address="no address", port=10007),
    ]
    lif = Lif(name="own", role=role, vserver=vserver)  # type: ignore[arg-type]  # of the parameters
    assert reachable_endpoint(rows, lif, local, secure=secure) == expected
    assert str(Endpoint("2001:db8::7", 1)) == "[2001:db8::7]:1"


@pytest.mark.slow
def test_a_node_alone_is_its_own_cluster(server: Server) -> None:
    nodes = server.ask("node", "show")
    rows = nodes["nodes"]
    assert isinstance(rows, list)
    assert [(each["state"], each["local"], each["drives"]) for each in rows] == [
        ("up", True, ["vtl0/drive0", "vtl0/drive1"])
    ]
    assert [each["port"] for each in rows[0]["lifs"]] == [server.ready.lifs[0].port]
    assert nodes["cluster-directory"] == ""
    volumes = server.ask("volume", "show")["volumes"]
    assert isinstance(volumes, list)
    assert [(each["volume"], each["state"], each["shared"]) for each in volumes] == [("v", "up", False)]
    with pytest.raises(ServerError, match="this node is in no cluster"):
        server.ask("volume", "move", "--volume", "v", "--destination-node", "n2")
    with pytest.raises(ServerError, match="there is no vserver vs9"):
        server.ask("volume", "show", "--vserver", "vs9")
