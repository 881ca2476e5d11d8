"""What a DMA sees of a job that says nothing by itself: log messages in a silence, and what is left of it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.ndmp.enums import DataState, LogType, MoverMode
from mover.ndmp.messages import (
    DataAbortRequest,
    DataGetStateReply,
    DataGetStateRequest,
    DataStartBackupRequest,
    DataStartRecoverRequest,
    DataStopRequest,
    LogMessagePost,
    NotifyMoverPausedPost,
    RecoverName,
)
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import Job, NdmpClient, Seen, pairs
from tests.support.processes import busy_worker
from tests.support.servers import Login, Server

MIB = 1 << 20
LEVELS = 1500  # Landlock looks at every directory above: that takes a scan long enough to be stopped in it
EVERY_SECOND = "[limits]\nheartbeat_s = 1\n"


@pytest.fixture
def deep(shm: Path) -> Iterator[Path]:
    place = shm / "source"
    place.mkdir()
    fd = os.open(place, os.O_RDONLY)
    for _ in range(LEVELS):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    yield place
    subprocess.run(["rm", "-rf", str(place)], check=True, timeout=60)  # shutil goes down by recursion


def heartbeats(client: NdmpClient, kind: str) -> list[Seen]:
    return [seen for seen in client.posts if isinstance(seen.body, LogMessagePost) and is_heartbeat(seen, kind)]


def is_heartbeat(seen: Seen, kind: str) -> bool:
    return isinstance(seen.body, LogMessagePost) and seen.body.entry.startswith(kind.encode() + b": ")


def state(client: NdmpClient) -> DataGetStateReply:
    reply = client.ok(DataGetStateRequest())
    assert isinstance(reply, DataGetStateReply)
    return reply


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    return make_server("server", extra=EVERY_SECOND)


@pytest.mark.slow
@pytest.mark.parametrize("version", [3, 4])
def test_a_worker_that_hangs_in_its_scan_is_told_of(server: Server, login: Login, deep: Path, version: int) -> None:
    (deep / "large").write_bytes(bytes(32 * MIB))  # more than window and ring take: it cannot end before it is stopped
    with Job.connect(server, server, login, version=version) as job:
        job.connect_data(MoverMode.READ, window_length=MIB)
        job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(deep))))
        worker = busy_worker(server, "data")
        os.kill(worker, signal.SIGSTOP)
        try:
            first = job.data.wait_until(lambda seen: is_heartbeat(seen, "backup"), "heartbeat")
            assert isinstance(first.body, LogMessagePost)
            assert first.body.log_type == LogType.NORMAL
            if first.body.entry.startswith(b"backup: scanning: "):  # else it was quicker, and waits for its tape now
                job.data.wait_until(lambda seen: len(heartbeats(job.data, "backup")) > 2, "heartbeats")
                assert str(deep).encode() in first.body.entry
            assert state(job.data).state == DataState.ACTIVE
            sessions = server.ask("status")["sessions"]
            assert isinstance(sessions, list)
            session = sessions[0]
            assert session["data-entries"] > 0
            assert session["data-phase"] in {"SCAN", "DIRECTORIES", "FILES"}
        finally:
            os.kill(worker, signal.SIGCONT)
        job.data.ok(DataAbortRequest())
        job.data.data_halted()
        told = len(heartbeats(job.data, "backup"))
        job.data.ok(DataStopRequest())
        assert len(heartbeats(job.data, "backup")) == told


@pytest.mark.slow
def test_what_is_left_of_a_full_backup(server: Server, login: Login, shm: Path) -> None:
    source = shm / "source"
    for number in range(60):
        path = source / f"{number}" / "file"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes([number]) * MIB)
    with Job.connect(server, server, login) as job:
        job.connect_data(MoverMode.READ, window_length=16 * MIB)
        job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source))))
        job.data.wait_for(NotifyMoverPausedPost)
        now = state(job.data)
        # Sixteen MiB are on the tape, up to eight and a file more were read.
        assert now.unsupported == 0
        assert 30 * MIB < now.est_bytes_remain < 45 * MIB
        assert now.est_time_remain < 1 << 31
        job.data.ok(DataAbortRequest())
        job.data.data_halted()
        now = state(job.data)
        assert (now.unsupported, now.est_bytes_remain, now.est_time_remain) == (0, 0, 0)


@pytest.mark.slow
def test_what_is_left_of_a_recover(server: Server, login: Login, shm: Path) -> None:
    source = shm / "source"
    source.mkdir()
    (source / "large").write_bytes(bytes(8 * MIB))
    with Job.connect(server, server, login) as job:
        job.start_backup(str(source))
        job.data.data_halted()
        length = state(job.data).bytes_processed
        job.tape.mover_halted()
        job.data.hang_up()
    with Job.connect(server, server, login) as job:
        job.connect_data(MoverMode.WRITE)
        worker = busy_worker(server, "tape")
        os.kill(worker, signal.SIGSTOP)  # no byte comes
        try:
            _recover(job, source, shm, str(length))
            job.data.wait_until(lambda seen: is_heartbeat(seen, "recover"), "heartbeat")
            now = state(job.data)
            assert now.est_bytes_remain == length - now.bytes_processed
        finally:
            os.kill(worker, signal.SIGCONT)
        assert job.data.data_halted() == 1
    assert (shm / "target/large").stat().st_size == 8 * MIB


def _recover(job: Job, source: Path, shm: Path, length: str) -> None:
    names = (RecoverName(b"", str(shm / "target").encode()),)
    env = pairs(FILESYSTEM=str(source), MOVER_STREAM_BYTES=length)
    job.data.ok(DataStartRecoverRequest(env, names, b"dump"))
