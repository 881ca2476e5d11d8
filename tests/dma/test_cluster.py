"""The built-in DMA in a cluster of two real nodes: it goes where the volume and the drive are, job by job."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from mover.dma import (
    BackupOptions,
    ControlConnectionError,
    Credentials,
    JobError,
    LogLine,
    NdmpError,
    RecoverOptions,
    Server,
    run_backup,
    run_recover,
)
from mover.dma.drive import open_drive
from mover.dma.jobs import open_job
from mover.dma.options import Session
from mover.dma.services import join_services
from mover.ndmp.enums import MoverMode
from mover.ndmp.extensions import CAB, CAE
from mover.ndmp.messages import LocalAddress, TcpIpv6Address
from tests.control.test_ipv6 import has_ipv6
from tests.support.clusters import lif, user, vserver, write_node
from tests.support.servers import Login
from tests.support.servers import Server as Serve

pytestmark = pytest.mark.slow

NODE = Login("backup", "the secret of the nodes")
TAPES = Login("tapes", "of who may use drives")
TENANT = Login("tenant", "the secret of vs1")
DRIVE = "vtl0/drive0"
DEADLINE_S = 60
NODES = ("n1", "n2")


class Site(NamedTuple):
    """Two nodes that both have the volumes `moving` and, of vserver vs1, `home`."""

    directory: Path
    nodes: dict[str, Serve]

    @property
    def volume(self) -> Path:
        return self.directory / "volume"

    def server(self, node: str, lif_name: str) -> Server:
        (found,) = [each for each in self.nodes[node].ready.lifs if each.name == lif_name]
        return Server(found.address, found.port)

    def session(self, **changes: object) -> dict[str, object]:
        asked = {"data": self.server("n1", "intercluster"), "credentials": Credentials(*NODE), "drive": DRIVE}
        return {**asked, **changes}

    def backup(self, **changes: object) -> BackupOptions:
        given = {"filesystem": str(self.volume), "catalogue": self.directory / "catalogue", **self.session(**changes)}
        return BackupOptions(**given)  # type: ignore[arg-type]  # a test's own choices

    def recover(self, **changes: object) -> RecoverOptions:
        given = {"destination": "", "catalogue": self.directory / "catalogue", **self.session(**changes)}
        return RecoverOptions(**given)  # type: ignore[arg-type]  # as above

    def move(self, node: str, volume: str = "moving", vserver_name: str = "") -> None:
        option = ["--vserver", vserver_name] if vserver_name else []
        self.nodes["n1"].ask("volume", "move", "--volume", volume, "--destination-node", node, *option)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    volumes = {name: tmp_path / name for name in ("volume", "home")}
    for name, path in volumes.items():
        (path / "below").mkdir(parents=True)
        (path / "below" / "file").write_text(f"what {name} holds")
    extra = [
        lif("data1", "data", "vs1"),
        vserver("vs1", {"home": volumes["home"]}, ["home"]),
        user(TENANT, "vsadmin", '"vs1"'),
        user(TAPES, "backup"),
    ]
    configs = {
        node: write_node(
            tmp_path,
            node,
            NODE,
            volumes={"moving": volumes["volume"]},
            shared=["moving"],
            extra="\n".join(extra),
        )
        for node in NODES
    }
    with Serve(configs["n1"]) as n1, Serve(configs["n2"]) as n2:
        for serve in (n1, n2):
            serve.ask("tape", "load", DRIVE)
        yield Site(tmp_path, {"n1": n1, "n2": n2})


def notes(log: list[LogLine]) -> list[str]:
    return [line.text for line in log if "is with node" in line.text]


def jobs_of(serve: Serve) -> list[str]:
    """Paths of the jobs that a node has done."""
    jobs = serve.ask("jobs")["jobs"]
    assert isinstance(jobs, list)
    return [each["path"] for each in jobs]


async def test_a_moved_volume_is_backed_up_three_way_and_recovered(site: Site) -> None:
    """The same policy before and after the move, and no other option."""
    at_n2 = f"the volume is with node n2, at {site.server('n2', 'intercluster')}"
    with trio.fail_after(DEADLINE_S):
        before = await run_backup(site.backup())
        await trio.to_thread.run_sync(site.move, "n2")
        after = await run_backup(site.backup())
    assert (notes(before.log), notes(after.log)) == ([], [at_n2])
    assert (before.tape_file, after.tape_file) == (0, 1)
    assert after.warnings == before.warnings == []
    for path in (site.volume / "below" / "file", site.volume / "below"):
        path.unlink() if path.is_file() else path.rmdir()
    with trio.fail_after(DEADLINE_S):
        result = await run_recover(site.recover())
    assert (notes(result.log), result.failed) == ([at_n2], [])
    assert (site.volume / "below" / "file").read_text() == "what volume holds"
    counts = [len(jobs_of(site.nodes[node])) for node in NODES]
    assert counts == [1, 2]  # the data's part of each job is where the volume was


async def test_a_drive_of_another_node_is_gone_to(site: Site) -> None:
    drive = f"n2:{DRIVE}"
    with trio.fail_after(DEADLINE_S):
        three_way = await run_backup(site.backup(drive=drive, tape_credentials=Credentials(*TAPES)))
        await trio.to_thread.run_sync(site.move, "n2")
        local = await run_backup(site.backup(drive=drive))
    there = site.server("n2", "intercluster")
    assert notes(three_way.log) == [f"drive {drive} is with node n2, at {there}"]
    assert notes(local.log) == [f"the volume is with node n2, at {there}"]
    assert [three_way.tape_file, local.tape_file] == [0, 1]


async def test_a_tenant_goes_on_to_the_data_lif_of_his_vserver(site: Site) -> None:
    await trio.to_thread.run_sync(site.move, "n2", "home", "vs1")
    options = site.backup(
        data=site.server("n1", "data1"),
        credentials=Credentials(*TENANT),
        tape=site.server("n1", "intercluster"),
        tape_credentials=Credentials(*NODE),
        filesystem="/vs1/home",
    )
    with trio.fail_after(DEADLINE_S):
        result = await run_backup(options)
    assert notes(result.log) == [f"the volume is with node n2, at {site.server('n2', 'data1')}"]
    assert jobs_of(site.nodes["n2"]) == ["/vs1/home"]


async def test_without_extensions_nothing_is_followed(site: Site) -> None:
    await trio.to_thread.run_sync(site.move, "n2")
    with trio.fail_after(DEADLINE_S), pytest.raises(NdmpError) as refused:
        await run_backup(site.backup(extensions=False))
    assert "DATA_START_BACKUP: ILLEGAL_ARGS_ERR" in str(refused.value)
    assert "volume moving is at node n2" in str(refused.value)


async def test_what_is_where_no_login_leads_is_told(site: Site) -> None:
    """A node that has gone leaves an address where nobody answers; one without a fitting LIF leaves none."""
    record = site.directory / "cluster" / "nodes" / "n2.json"
    await trio.to_thread.run_sync(site.move, "n2")
    await trio.to_thread.run_sync(site.nodes["n2"].stop)
    with trio.fail_after(DEADLINE_S), pytest.raises(ControlConnectionError, match="cannot connect to"):
        await run_backup(site.backup())
    record.write_text(json.dumps({**json.loads(record.read_text()), "lifs": []}))
    with trio.fail_after(DEADLINE_S), pytest.raises(JobError, match="the volume is with node n2, which has no LIF"):
        await run_backup(site.backup())


async def test_the_data_connection_is_local_where_both_are_on_one_node(site: Site) -> None:
    session = Session(**site.session())  # type: ignore[arg-type]  # a test's own choices
    with trio.fail_after(DEADLINE_S):
        async with open_job(session, None, None, os.fsencode(site.volume)) as job:
            assert job.data.extensions == {CAB: 1}
            await open_drive(job, write=True)
            await join_services(job, MoverMode.READ, 65536)
            assert isinstance((await job.poll()).data.data_connection_addr, LocalAddress)
            await job.abort(JobError("a test"))


@pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6 loopback")
async def test_two_nodes_that_are_reached_over_ipv6_are_joined_over_it(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    volumes = {"n1": {"srv": tmp_path / "volume"}, "n2": {}}
    configs = [write_node(tmp_path, node, NODE, volumes=volumes[node], address="::1") for node in NODES]
    with Serve(configs[0]) as n1, Serve(configs[1]) as n2:
        n2.ask("tape", "load", DRIVE)
        n1_lif, n2_lif = n1.ready.lifs[0], n2.ready.lifs[0]
        session = Session(
            data=Server("::1", n1_lif.port),
            tape=Server("::1", n2_lif.port),
            credentials=Credentials(*NODE),
            drive=DRIVE,
        )
        with trio.fail_after(DEADLINE_S):
            async with open_job(session, None, None, os.fsencode(tmp_path / "volume")) as job:
                assert job.data.extensions == job.tape.extensions == {CAE: 1, CAB: 1}
                await open_drive(job, write=True)
                await join_services(job, MoverMode.READ, 65536)
                assert isinstance((await job.poll()).data.data_connection_addr, TcpIpv6Address)
                await job.abort(JobError("a test"))
            backup = BackupOptions(
                data=session.data,
                tape=session.tape,
                credentials=session.credentials,
                drive=DRIVE,
                filesystem=str(tmp_path / "volume"),
                catalogue=tmp_path / "catalogue",
            )
            assert (await run_backup(backup)).tape_file == 0
