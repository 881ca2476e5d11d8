"""Every worker, and control, is killed at ten points of a backup and of a recover, local and three-way.

Told within a second, with the right reason; nothing leaks; the next job on the same drive works.
"""

import os
import signal
import time
from pathlib import Path
from typing import Literal

import psutil
import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.enums import DataHaltReason, MoverHaltReason, MoverMode
from mover.ndmp.messages import (
    DataGetStateReply,
    DataGetStateRequest,
    MoverReadRequest,
    NotifyDataHaltedPost,
    NotifyDataReadPost,
    NotifyMoverHaltedPost,
)
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import Job, NdmpClient
from tests.support.processes import busy_worker, expect_no_new_descriptors, mapped_rings, settle, workers, zombies
from tests.support.servers import Login, Server
from tests.support.trees import make_large_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MIB = 1 << 20
SIZE = 256 * MIB
POINTS = 10
TOLD_S = 1.0

Operation = Literal["backup", "recover"]


@pytest.fixture
def source(shm: Path) -> Path:
    root = shm / "source"
    root.mkdir()
    make_large_file(root / "large", size=SIZE)
    for number in range(200):
        (root / f"small-{number}").write_bytes(bytes([number]) * 5000)
    return root


def run_to_the_end(data: Server, tape: Server, login: Login, operation: Operation, source: Path, target: Path) -> None:
    """A whole job that must succeed."""
    with Job.connect(data, tape, login) as job:
        start(job, operation, source, target)
        serve_reads(job)
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        for client in {job.data, job.tape}:
            client.hang_up()


def start(job: Job, operation: Operation, source: Path, target: Path) -> None:
    if operation == "backup":
        job.start_backup(str(source), HIST="n")
    else:
        job.start_recover(str(source), str(target), HIST="n")


def serve_reads(job: Job) -> None:
    """What a DMA does between two servers: each NOTIFY_DATA_READ becomes one MOVER_READ."""
    if job.local or job.mode is not MoverMode.WRITE:
        return
    wanted = job.data.wait_for(NotifyDataReadPost)
    job.tape.ok(MoverReadRequest(wanted.offset, wanted.length))


def processed(client: NdmpClient) -> int:
    reply = client.ok(DataGetStateRequest())
    assert isinstance(reply, DataGetStateReply)
    return reply.bytes_processed


def wait_for_bytes(job: Job, wanted: int) -> None:
    """Until so much of the stream has passed, by polling as a DMA does."""
    deadline = time.monotonic() + 20
    while processed(job.data) < wanted:
        assert time.monotonic() < deadline, f"{wanted} bytes did not pass"
        if any(isinstance(seen.body, NotifyDataHaltedPost) for seen in job.data.posts):
            return


VICTIMS = [
    ("local", "data"),
    ("local", "tape"),
    ("three-way", "data"),
    ("three-way", "data-relay"),
    ("three-way", "tape-relay"),
    ("three-way", "tape"),
]


@pytest.mark.parametrize("operation", ["backup", "recover"])
@pytest.mark.parametrize(("way", "victim"), VICTIMS)
def test_a_killed_worker_ends_its_job_and_nothing_else(
    way: str, victim: str, operation: Operation, make_server: MakeServer, login: Login, source: Path, shm: Path
) -> None:
    tape = make_server("tape-host")
    data = tape if way == "local" else make_server("file-server", drives=0)
    target = shm / "target"
    if operation == "recover":
        run_to_the_end(data, tape, login, "backup", source, target)
    killed = 0
    for point in range(POINTS):
        with (
            expect_no_new_descriptors(data),
            expect_no_new_descriptors(tape),
            Job.connect(data, tape, login) as job,
        ):
            start(job, operation, source, target)
            serve_reads(job)
            wait_for_bytes(job, point * SIZE // POINTS // 2)
            server = data if victim in {"data", "data-relay"} else tape
            try:
                pid = busy_worker(server, victim.removeprefix("data-").removeprefix("tape-"))
            except AssertionError:
                continue  # the job was faster than the look
            at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            data_halted = job.data.wait_until(
                lambda seen: isinstance(seen.body, NotifyDataHaltedPost), "NOTIFY_DATA_HALTED"
            )
            mover_halted = job.tape.wait_until(
                lambda seen: isinstance(seen.body, NotifyMoverHaltedPost), "NOTIFY_MOVER_HALTED"
            )
            assert isinstance(data_halted.body, NotifyDataHaltedPost)
            assert isinstance(mover_halted.body, NotifyMoverHaltedPost)
            reasons = (DataHaltReason(data_halted.body.reason), MoverHaltReason(mover_halted.body.reason))
            if reasons == (DataHaltReason.SUCCESSFUL, MoverHaltReason.CONNECT_CLOSED):
                continue  # it was done when the signal came
            killed += 1
            assert max(data_halted.at, mover_halted.at) - at < TOLD_S
            assert reasons == expected(victim)
            if victim == "tape-relay":
                assert any("the relay died: signal SIGKILL" in line for line in job.tape.log())
            for client in {job.data, job.tape}:
                client.hang_up()
    assert killed >= POINTS // 2
    run_to_the_end(data, tape, login, "backup", source, target)
    check_clean(data)
    check_clean(tape)


def expected(victim: str) -> tuple[DataHaltReason, MoverHaltReason]:
    """Who says what when one side is gone: a crash is never CONNECT_CLOSED."""
    if victim == "data":
        return DataHaltReason.INTERNAL_ERROR, MoverHaltReason.CONNECT_ERROR
    if victim == "tape":
        return DataHaltReason.CONNECT_ERROR, MoverHaltReason.INTERNAL_ERROR
    return DataHaltReason.CONNECT_ERROR, MoverHaltReason.CONNECT_ERROR


def is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def check_clean(server: Server) -> None:
    """No zombie, and no process that still has a ring."""
    settle(lambda: zombies(server) == [], "no zombie")
    everyone = [pid for kind in ("data", "tape", "relay") for pid in workers(server, kind)]
    settle(lambda: not any(mapped_rings(pid) for pid in everyone), "no ring left mapped")


@pytest.mark.parametrize("operation", ["backup", "recover"])
@pytest.mark.parametrize("way", ["local", "three-way"])
def test_a_killed_control_takes_its_workers_along_and_starts_again(
    way: str, operation: Operation, make_server: MakeServer, login: Login, source: Path, shm: Path
) -> None:
    target = shm / "target"
    for point in range(POINTS):
        tape = make_server("tape-host", load=point == 0)
        data = tape if way == "local" else make_server("file-server", drives=0)
        if operation == "recover" and point == 0:
            run_to_the_end(data, tape, login, "backup", source, target)
        killed = tape
        with Job.connect(data, tape, login) as job:
            start(job, operation, source, target)
            serve_reads(job)
            wait_for_bytes(job, point * SIZE // POINTS // 2)
            family = [psutil.Process(pid) for kind in ("data", "tape", "relay") for pid in workers(killed, kind)]
            os.kill(killed.pid, signal.SIGKILL)
            _, alive = psutil.wait_procs(family, timeout=2)
            # A dead orphan is init's to reap, and some inits take their time.
            assert [process for process in alive if not is_zombie(process)] == []
        killed.reap_killed()
        if data is not tape:
            data.stop()
    tape = make_server("tape-host", load=False)
    data = tape if way == "local" else make_server("file-server", drives=0)
    if operation == "backup":
        run_to_the_end(data, tape, login, "backup", source, target)
    run_to_the_end(data, tape, login, "recover", source, shm / "final")
    assert compare_trees(source, shm / "final").differences == []
