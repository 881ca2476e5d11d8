"""One small file out of a long stream: what is read from the cartridge is a few records."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.ndmp.enums import DataHaltReason, MoverMode, TapeMode
from mover.ndmp.messages import (
    DataGetStateReply,
    DataGetStateRequest,
    DataStartRecoverRequest,
    RecoverName,
    TapeCloseRequest,
    TapeOpenRequest,
)
from tests.e2e.conftest import MakeServer
from tests.e2e.test_processes import Strace
from tests.support.ndmp_client import RECORD_SIZE, Job, NdmpClient, pairs
from tests.support.processes import workers
from tests.support.servers import Login, Server
from tests.support.sparse_dump import SparseDump, make_sparse_dump

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FILES = 2000
LARGE = 512 << 20
MIB = 1 << 20


class Site(NamedTuple):
    """A server with a dump of more than half a GiB in its drive."""

    server: Server
    dump: SparseDump
    target: Path


@pytest.fixture
def site(make_server: MakeServer, login: Login, shm: Path) -> Site:
    tapes, target = shm / "server" / "tapes", shm / "target"
    tapes.mkdir(parents=True)
    target.mkdir()
    cartridge = tapes / "SPARSE.tap"
    dump = make_sparse_dump(cartridge, files=FILES, directories=10, large_bytes=LARGE, record_size=RECORD_SIZE)
    server = make_server("server", load=False)
    server.ask("tape", "load", "vtl0/drive0", "--barcode", "SPARSE")
    with NdmpClient(server.address, login=login) as client:  # reads through it once: from here on there is an index
        client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.READ))
        client.ok(TapeCloseRequest())
    assert cartridge.with_suffix(".tap.idx").exists()
    return Site(server, dump, target)


def recover(site: Site, job: Job, names: tuple[RecoverName, ...]) -> None:
    """START_RECOVER on a data connection that stands, to DATA_HALTED."""
    job.data.ok(DataStartRecoverRequest(pairs(**site.dump.env, DIRECT="y"), names, b"dump"))
    assert job.data.data_halted() == DataHaltReason.SUCCESSFUL, job.data.log()


def name(site: Site, number: int) -> RecoverName:
    place = site.dump.places[number]
    target = os.fsencode(site.target) + place.path
    return RecoverName(place.path, target, node=place.node, fh_info=place.fh_info)


@pytest.mark.peer("strace")
def test_one_small_file_costs_a_few_records(site: Site, login: Login, shm: Path) -> None:
    wanted = FILES * 3 // 4
    with Job.connect(site.server, site.server, login) as job:
        job.connect_data(MoverMode.WRITE)
        trace = Strace(shm / "trace", workers(site.server, "tape"))
        recover(site, job, (name(site, wanted),))
        moved = trace.stop()
    place = site.dump.places[wanted]
    assert (site.target / os.fsdecode(place.path[1:])).read_bytes() == place.content
    assert 0 < moved["in", "cartridge"] <= 4 * RECORD_SIZE


def test_a_directory_costs_the_head_and_its_own_part(site: Site, login: Login) -> None:
    entry = RecoverName(b"/d3", os.fsencode(site.target) + b"/d3", node=6, fh_info=site.dump.directories[3])
    with Job.connect(site.server, site.server, login) as job:
        job.connect_data(MoverMode.WRITE)
        recover(site, job, (entry,))
        state = job.data.ok(DataGetStateRequest())
    assert isinstance(state, DataGetStateReply)
    places = [place for place in site.dump.places if place.path.startswith(b"/d3/")]
    assert len(places) == FILES // 10
    for place in places:
        assert (site.target / os.fsdecode(place.path[1:])).read_bytes() == place.content
    # Its files are spread over all small files of the stream; the large one between them is not read.
    assert state.bytes_processed < 64 * MIB
