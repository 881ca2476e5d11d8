"""The cable between file server and tape host is cut in mid-job: both sides halt within the configured time."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.ndmp.enums import DataHaltReason, MoverHaltReason
from mover.ndmp.messages import (
    DataStopRequest,
    MoverReadRequest,
    MoverStopRequest,
    NotifyDataHaltedPost,
    NotifyDataReadPost,
    NotifyMoverHaltedPost,
    TapeCloseRequest,
)
from tests.support.namespaces import HOSTS, Network
from tests.support.ndmp_client import Job, NdmpClient
from tests.support.processes import settle
from tests.support.servers import Login, Server, write_config
from tests.support.trees import make_large_file

pytestmark = [pytest.mark.slow, pytest.mark.root]
MIB = 1 << 20
PEER_TIMEOUT_S = 3
SIZE = 512 * MIB


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


@pytest.mark.parametrize("operation", ["backup", "recover"])
def test_both_sides_halt_when_the_link_is_cut(operation: str, network: Network, login: Login, shm: Path) -> None:
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=SIZE)
    timeout = f"peer_timeout_s = {PEER_TIMEOUT_S}"
    servers = {}
    try:
        for host, address in HOSTS.items():
            config = write_config(
                shm / host, login, volumes={"shm": shm}, drives=1, address=address, data_connections=timeout
            )
            servers[host] = Server(config, prefix=network.command(host))
        servers["b"].ask("tape", "load", "vtl0/drive0")
        if operation == "recover":
            with connect(network, servers, login) as job:
                job.start_backup(str(source))
                assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
                assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
                job.tape.hang_up()
        with connect(network, servers, login) as job:
            if operation == "backup":
                job.start_backup(str(source))
            else:
                job.start_recover(str(source), str(shm / "target"))
                wanted = job.data.wait_for(NotifyDataReadPost)
                job.tape.ok(MoverReadRequest(wanted.offset, wanted.length))
            network.cut()
            at = time.monotonic()
            data = job.data.wait_until(lambda seen: isinstance(seen.body, NotifyDataHaltedPost), "DATA_HALTED")
            mover = job.tape.wait_until(lambda seen: isinstance(seen.body, NotifyMoverHaltedPost), "MOVER_HALTED")
            assert isinstance(data.body, NotifyDataHaltedPost)
            assert isinstance(mover.body, NotifyMoverHaltedPost)
            assert data.body.reason == DataHaltReason.CONNECT_ERROR
            assert mover.body.reason == MoverHaltReason.CONNECT_ERROR
            assert max(data.at, mover.at) - at < PEER_TIMEOUT_S + 2
            job.data.ok(DataStopRequest())
            job.tape.ok(MoverStopRequest())
            job.tape.ok(TapeCloseRequest())
        settle(lambda: servers["b"].ask("status") is not None, "the tape host answers")
    finally:
        for server in servers.values():
            server.stop()


def test_the_dma_of_a_cut_link_fails_within_its_time(network: Network, login: Login, shm: Path) -> None:
    """The DMA is beside the file server: the data connection and its way to the tape host are cut."""
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=SIZE)
    servers = {}
    patched = f"import mover.dma.client as c; c.USER_TIMEOUT_S = {PEER_TIMEOUT_S}; import mover.cli.main as m; m.main()"
    try:
        for host, address in HOSTS.items():
            config = write_config(
                shm / host, login, volumes={"shm": shm}, drives=1, address=address,
                data_connections=f"peer_timeout_s = {PEER_TIMEOUT_S}",
            )  # fmt: skip
            servers[host] = Server(config, prefix=network.command(host))
        servers["b"].ask("tape", "load", "vtl0/drive0")

        def tapes() -> list[Path]:
            return list((shm / "b").rglob("*.tap"))

        (shm / "password").touch(mode=0o600)
        (shm / "password").write_text(login.password)
        command = [
            *network.command("a"), sys.executable, "-c", patched, "backup", str(source),
            "--host", servers["a"].address, "--tape-host", servers["b"].address, "--drive", "vtl0/drive0",
            "--user", login.user, "--password-file", str(shm / "password"), "--catalogue", str(shm / "catalogue"),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as backup:
            try:
                settle(
                    lambda: backup.poll() is not None or any(tape.stat().st_size > MIB for tape in tapes()),
                    "the tape is written", 30,
                )  # fmt: skip
                assert backup.poll() is None, backup.communicate()
                network.cut()
                output, errors = backup.communicate(timeout=60)
            finally:
                backup.kill()
        assert backup.returncode == 1, (output, errors)
        assert errors.splitlines()[-1].startswith("mover: "), errors
        assert "Traceback" not in errors
    finally:
        for server in servers.values():
            server.stop()


def connect(network: Network, servers: dict[str, Server], login: Login) -> Job:
    def client(server: Server) -> NdmpClient:
        host, _, port = server.address.rpartition(":")
        return NdmpClient(server.address, login=login, connection=network.connect((host, int(port)), 10))

    return Job(client(servers["a"]), client(servers["b"]))
