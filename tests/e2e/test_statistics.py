"""Statistics of real servers: views agree with the jobs, and the side that is throttled is the bottleneck."""

from pathlib import Path

import pytest

from mover.admin.client import AdminClient
from mover.admin.messages import Jobs, JobsReply, JobStatus, Reply, Request, Status, StatusReply
from mover.admin.statistics import StatisticsReply, StatisticsShow
from mover.ndmp.enums import DataHaltReason, MoverHaltReason
from mover.ndmp.messages import (
    DataStopRequest,
    MoverStopRequest,
    TapeCloseRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import Job
from tests.support.servers import Login, Server
from tests.support.trees import make_large_file, make_small_files

pytestmark = pytest.mark.slow


def ask(server: Server, request: Request) -> Reply:
    with AdminClient(server.ready.admin_socket) as client:
        return client.ask(request)


def statistics(server: Server, *, history: bool = False) -> StatisticsReply:
    reply = ask(server, StatisticsShow(history))
    assert isinstance(reply, StatisticsReply), reply
    return reply


def last_job(server: Server) -> JobStatus:
    reply = ask(server, Jobs())
    assert isinstance(reply, JobsReply)
    return reply.jobs[-1]


@pytest.mark.parametrize("way", ["local", "three-way"])
def test_every_view_tells_the_same_of_a_job(way: str, make_server: MakeServer, login: Login, shm: Path) -> None:
    source = shm / "source"
    make_small_files(source, files=300, directories=5)
    make_large_file(source / "large", size=20 << 20)
    tape = make_server("tape-host")
    data = tape if way == "local" else make_server("file-server", drives=0)
    with Job.connect(data, tape, login) as job:
        job.start_backup(str(source), HIST="y")
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL, job.data.log()
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        probe = ask(data, Status())
        now, here = statistics(data), statistics(tape)
        print(now)
        assert isinstance(probe, StatusReply)
        ended, summary = now.ended_jobs[0], last_job(data)
        assert ended.number == summary.number
        assert ended.entries == sum(summary.entries.values()) == now.totals.files
        assert ended.stream_bytes == summary.stream_bytes == now.totals.data_bytes
        assert probe.sessions[0].data_bytes_processed == summary.stream_bytes
        assert probe.sessions[0].data_entries == ended.entries
        assert ended.history_entries == summary.history_entries == now.totals.history_entries
        assert here.totals.mover_bytes == summary.stream_bytes
        assert here.drives[0].written_bytes >= summary.stream_bytes
        assert now.totals.jobs == {"backup/successful": 1}
        assert now.jobs == []
        job.data.ok(DataStopRequest())
        job.tape.ok(MoverStopRequest())
        job.tape.ok(TapeCloseRequest())
    assert statistics(tape).drives[0].written_bytes == here.drives[0].written_bytes
