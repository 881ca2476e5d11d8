"""Jobs beside each other and clients that misbehave: none stops the others, nothing grows."""

import socket
import threading
import time
from pathlib import Path

import psutil
import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.enums import DataHaltReason, MoverHaltReason, MoverMode
from mover.ndmp.messages import DataStartBackupRequest, FhAddDirPost, FhAddNodePost
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import Job, NdmpClient, pairs
from tests.support.servers import Login, Server
from tests.support.trees import make_small_files

MIB = 1 << 20
STALL_S = 30.0


@pytest.mark.slow
def test_two_jobs_at_once_on_two_drives(make_server: MakeServer, login: Login, shm: Path) -> None:
    server = make_server("server", drives=2)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            source, target, drive = shm / f"source-{number}", shm / f"target-{number}", f"vtl0/drive{number}"
            make_small_files(source, files=3000, directories=10, seed=number)
            for start in ("backup", "recover"):
                with Job.connect(server, server, login, drive=drive) as job:
                    if start == "backup":
                        job.start_backup(str(source), HIST="y")
                    else:
                        job.start_recover(str(source), str(target))
                    assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
                    assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
                    job.data.hang_up()
            assert compare_trees(source, target).differences == []
        except BaseException as failure:  # noqa: BLE001 - shown by the main thread
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert failures == []


def test_a_silent_client_and_a_giant_fragment_disturb_nobody(local: Server, login: Login) -> None:
    host, _, port = local.address.rpartition(":")
    control = psutil.Process(local.pid)
    with (
        socket.create_connection((host, int(port)), 10) as silent,
        socket.create_connection((host, int(port)), 10) as giant,
        NdmpClient(local.address, login=login) as other,
    ):
        before = control.memory_info().rss
        assert silent.recv(4)
        giant.sendall(b"\x7f\xff\xff\xff")
        giant.settimeout(10)
        while giant.recv(65536):
            pass  # the greeting, and then the end: 2 GiB will not be waited for
        assert control.memory_info().rss - before < 8 * MIB
        other.hang_up()


@pytest.mark.slow
def test_a_client_that_does_not_read_its_history_makes_the_job_wait(local: Server, login: Login, shm: Path) -> None:
    source = shm / "source"
    make_small_files(source, files=120_000, size=10, directories=60)
    with Job.connect(local, local, login) as job:
        job.data.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        job.connect_data(MoverMode.READ)
        job.data.send(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source), HIST="y")))
        family = local.processes()
        time.sleep(2)  # the rings and socket buffers fill; from here on nothing may move
        at_rest = {process.pid: process.memory_info().rss for process in family if process.is_running()}
        ended = time.monotonic() + STALL_S
        while time.monotonic() < ended:
            time.sleep(1)
            for process in family:
                if process.is_running():
                    assert process.memory_info().rss - at_rest[process.pid] < 4 * MIB
        assert job.data.data_halted(deadline_s=60) == DataHaltReason.SUCCESSFUL
        nodes = sum(len(seen.body.nodes) for seen in job.data.posts if isinstance(seen.body, FhAddNodePost))
        names = sum(len(seen.body.dirs) for seen in job.data.posts if isinstance(seen.body, FhAddDirPost))
        assert nodes == 120_061
        assert names == 120_060 + 2 * 61
        halted = [type(seen.body).__name__ for seen in job.data.posts].index("NotifyDataHaltedPost")
        late = job.data.posts[halted + 1 :]
        assert not any(isinstance(seen.body, FhAddDirPost | FhAddNodePost) for seen in late)
