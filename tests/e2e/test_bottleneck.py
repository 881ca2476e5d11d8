"""Each side of a job is slow in turn: the bottleneck shown is the slow one, live and in the summary."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mover.admin.client import AdminClient
from mover.admin.jobs import Jobs, JobsReply, JobStatus
from mover.admin.statistics import JobRow, StatisticsReply, StatisticsShow, WaitCause
from mover.ndmp.enums import DataHaltReason, MoverHaltReason
from mover.ndmp.messages import (
    DataStopRequest,
    MoverReadRequest,
    MoverStopRequest,
    NotifyDataReadPost,
    TapeCloseRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support.cartridges import take
from tests.support.namespaces import HOSTS, Network, missing_programs
from tests.support.ndmp_client import Job, NdmpClient
from tests.support.processes import busy_worker, settle
from tests.support.servers import Login, Server, write_config
from tests.support.trees import make_large_file

pytestmark = pytest.mark.slow

MIB = 1 << 20
SLOW_DRIVE = '[[fault]]\ndrive = "vtl0/drive0"\nkind = "slow"\nrate = "12MiB"\nbuffer = "1MiB"\n'
SIZE = 64 * MIB
READ_SIZE = 300 * MIB
HISTORY_FILES = 20_000
LIVE_S = 60.0
NETWORK_BYTES_S = 6 * MIB


def running(server: Server) -> JobRow | None:
    """The job, or on a tape host the mover, that runs."""
    with AdminClient(server.ready.admin_socket) as client:
        reply = client.ask(StatisticsShow())
    assert isinstance(reply, StatisticsReply), reply
    return reply.jobs[0] if reply.jobs else None


def summary(server: Server) -> JobStatus:
    """Of the job that ended last."""
    with AdminClient(server.ready.admin_socket) as client:
        reply = client.ask(Jobs())
    assert isinstance(reply, JobsReply)
    return reply.jobs[-1]


def shows(server: Server, word: WaitCause) -> None:
    """Wait until the running job shows this bottleneck, and most of its time so far went to it."""
    seen: list[tuple[str, dict[WaitCause, float]]] = []

    def told() -> bool:
        row = running(server)
        assert row is not None, seen
        seen.append((row.bottleneck, row.seconds))
        return row.bottleneck == word and most(row.seconds) == word

    try:
        settle(told, word, LIVE_S)
    finally:
        print(seen[-30:])


def most(seconds: dict[WaitCause, float]) -> WaitCause | None:
    return max(seconds, key=lambda cause: seconds[cause], default=None)


def end(job: Job) -> None:
    assert job.data.data_halted() == DataHaltReason.SUCCESSFUL, job.data.log()
    assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
    job.data.ok(DataStopRequest())
    job.tape.ok(MoverStopRequest())
    job.tape.ok(TapeCloseRequest())


def ends_with(job: Job, server: Server, word: WaitCause) -> None:
    end(job)
    ended = summary(server)
    print(ended.wait_seconds, ended.elapsed_seconds)
    assert most(ended.wait_seconds) == word
    assert sum(ended.wait_seconds.values()) <= ended.elapsed_seconds + 0.01


@contextmanager
def halting(pid: int) -> Iterator[None]:
    """A process gets one part in twenty of the time: stopped and continued, over and over."""
    over = threading.Event()

    def halt() -> None:
        try:
            while not over.is_set():
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.095)
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.005)
        except ProcessLookupError:
            return  # it is through

    thread = threading.Thread(target=halt)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("way", ["local", "three-way"])
def test_a_slow_drive(way: str, make_server: MakeServer, login: Login, shm: Path) -> None:
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=SIZE if way == "local" else 2 * SIZE)  # much fits between the two hosts
    tape = make_server("tape-host", extra=SLOW_DRIVE)
    data = tape if way == "local" else make_server("file-server", drives=0)
    with Job.connect(data, tape, login) as job:
        job.start_backup(str(source), HIST="n")
        shows(data, "tape")
        if way == "three-way":
            shows(tape, "tape")
        ends_with(job, data, "tape")
    with Job.connect(data, tape, login) as job:
        job.start_recover(str(source), str(shm / "target"))
        if way == "three-way":
            wanted = take(job.data, NotifyDataReadPost)
            job.tape.ok(MoverReadRequest(wanted.offset, wanted.length))
        shows(tape, "tape")
        if way == "local":
            ends_with(job, data, "tape")
        else:
            ends_with(job, data, "network")  # of two slow ones behind a connection its receiver cannot tell which


@pytest.mark.parametrize("way", ["local", "three-way"])
def test_a_slow_reader(way: str, make_server: MakeServer, login: Login, shm: Path) -> None:
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=READ_SIZE)
    # A burst of the reader fits: one that is stopped while it waits for room would seem to wait all the time.
    ring = '[limits]\nring = "128MiB"\n'
    tape = make_server("tape-host", extra=ring)
    data = tape if way == "local" else make_server("file-server", drives=0, extra=ring)
    with Job.connect(data, tape, login) as job:
        job.start_backup(str(source), HIST="n")
        with halting(busy_worker(data, "data")):
            shows(data, "read")
            if way == "three-way":
                shows(tape, "network")  # its receiver cannot tell a slow sender from a slow network
            ends_with(job, data, "read")


@pytest.mark.parametrize("way", ["local", "three-way"])
def test_a_dma_that_does_not_read(way: str, make_server: MakeServer, login: Login, shm: Path) -> None:
    source = shm / "source"
    source.mkdir()
    for number in range(HISTORY_FILES):
        (source / f"{number:06}-{'long name ' * 12}").touch()
    tape = make_server("tape-host")
    data = tape if way == "local" else make_server("file-server", drives=0)
    with narrow(data, tape, login) as job:
        job.start_backup(str(source), HIST="y")
        shows(data, "file-history")
        row = running(data)
        assert row is not None
        end(job)
        assert summary(data).wait_seconds["file-history"] >= row.seconds["file-history"]


def narrow(data: Server, tape: Server, login: Login) -> Job:
    """A DMA whose end of the control connection to the file server takes little unread."""

    def client(server: Server) -> NdmpClient:
        host, _, port = server.address.rpartition(":")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        sock.settimeout(30)
        sock.connect((host, int(port)))
        return NdmpClient(server.address, login=login, connection=sock)

    first = client(data)
    return Job(first, first if data is tape else client(tape))


@pytest.mark.root
@pytest.mark.skipif(bool(missing_programs("ip", "tc")), reason=missing_programs("ip", "tc"))
def test_a_slow_network(login: Login, shm: Path) -> None:
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=48 * MIB)
    servers: dict[str, Server] = {}
    with Network() as network:
        try:
            for host, address in HOSTS.items():
                config = write_config(shm / host, login, volumes={"shm": shm}, drives=1, address=address)
                servers[host] = Server(config, prefix=network.command(host))
            servers["b"].ask("tape", "load", "vtl0/drive0")

            def connect(host: str) -> NdmpClient:
                name, _, port = servers[host].address.rpartition(":")
                return NdmpClient(servers[host].address, login=login, connection=network.connect((name, int(port)), 30))

            network.slow_down("a", NETWORK_BYTES_S)
            with Job(connect("a"), connect("b")) as job:
                job.start_backup(str(source), HIST="n")
                shows(servers["a"], "network")
                shows(servers["b"], "network")
                ends_with(job, servers["a"], "network")
            network.speed_up("a")
            network.slow_down("b", NETWORK_BYTES_S)
            with Job(connect("a"), connect("b")) as job:
                job.start_recover(str(source), str(shm / "target"))
                wanted = take(job.data, NotifyDataReadPost)
                job.tape.ok(MoverReadRequest(wanted.offset, wanted.length))
                shows(servers["a"], "network")
                shows(servers["b"], "network")
                ends_with(job, servers["a"], "network")
        finally:
            for server in servers.values():
                server.stop()
