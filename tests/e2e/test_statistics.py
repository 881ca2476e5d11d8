"""Statistics of real servers: views agree with the jobs, and the side that is throttled is the bottleneck."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from mover.admin.client import AdminClient, RefusedError
from mover.admin.jobs import Jobs, JobsReply, JobStatus
from mover.admin.messages import Reply, Request
from mover.admin.sessions import Status, StatusReply
from mover.admin.statistics import ProcessRow, StatisticsReply, StatisticsShow, Totals
from mover.ndmp.enums import DataHaltReason, MoverHaltReason
from mover.ndmp.messages import (
    DataStopRequest,
    MoverStopRequest,
    TapeCloseRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import Job, NdmpClient
from tests.support.processes import busy_worker, settle
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


SLOW_DRIVE = '[[fault]]\ndrive = "vtl0/drive0"\nkind = "slow"\nrate = "8MiB"\n'
CPU_S = 0.1
RSS_BYTES = 5 << 20
READ_AGAIN = "configuration read again"


def used_s(pid: int) -> float:
    """Processor time of a process, of what it has reaped and of its children, as the kernel has it."""
    while True:
        processes = [psutil.Process(pid), *psutil.Process(pid).children()]
        try:
            return float(sum(sum(each.cpu_times()[:4]) for each in processes))
        except psutil.NoSuchProcess as gone:  # a copy of it has ended: it has been reaped, or is about to be
            if gone.pid == pid:
                raise


def agrees(server: Server, kind: str, pid: int, look: Callable[[int], float], row: Callable[[ProcessRow], float],
           within: float) -> None:  # fmt: skip
    """A row's figure lies between looks of our own before and behind it."""
    before = look(pid)
    rows = {each.pid: each for each in statistics(server).processes}
    after = look(pid)
    assert rows[pid].kind == kind
    assert min(before, after) - within <= row(rows[pid]) <= max(before, after) + within


def test_processes_agree_with_the_kernel(make_server: MakeServer, login: Login, shm: Path) -> None:
    source = shm / "source"
    make_small_files(source, files=3000, directories=5)
    make_large_file(source / "large", size=256 << 20)  # it is not waited for
    server = make_server("server", extra=SLOW_DRIVE)
    with Job.connect(server, server, login) as job:
        job.start_backup(str(source), HIST="n")
        settle(lambda: any(each.stream_bytes > 8 << 20 for each in statistics(server).jobs), "the stream flows", 30)
        # Of the data worker and the copy of itself that it works with, the row is that of the worker.
        data = next(each.pid for each in statistics(server).processes if each.kind == "data")
        workers = {"data": data, "tape": busy_worker(server, "tape"), "control": server.pid}
        for kind, pid in workers.items():
            agrees(server, kind, pid, used_s if kind != "control" else own_s, lambda row: row.cpu_seconds, CPU_S)
            agrees(
                server, kind, pid, lambda pid: psutil.Process(pid).memory_info().rss,
                lambda row: row.resident_bytes, RSS_BYTES,
            )  # fmt: skip
        now = statistics(server, history=True)
        kinds = [each.kind for each in now.processes]
        assert {"template-data", "template-tape", "template-relay", "spare-data"} <= set(kinds)
        owners = {each.pid: each.session_id for each in now.processes}
        session = now.sessions[0].session_id
        assert [owners[workers[kind]] for kind in ("data", "tape")] == [session, session]
        assert now.sessions[0].job == now.jobs[0].number
        assert now.jobs[0].stream_bytes > 0
        assert now.drives[0].session_id == session
        job.data.hang_up()


def own_s(pid: int) -> float:
    return float(sum(psutil.Process(pid).cpu_times()[:4]))


def flat(totals: Totals) -> Iterator[tuple[str, float]]:
    for name, value in msgspec.to_builtins(totals).items():
        if isinstance(value, dict):
            yield from ((f"{name}/{key}", each) for key, each in value.items())
        else:
            yield name, value


def test_totals_never_go_back(make_server: MakeServer, login: Login, shm: Path) -> None:
    small, large = shm / "small", shm / "large"
    make_small_files(small, files=200, directories=5)
    large.mkdir()
    make_large_file(large / "file", size=256 << 20)  # a worker is killed long before its end
    server = make_server("server", extra=SLOW_DRIVE)
    last: dict[str, float] = {}
    written = 0
    rounds: list[str] = []

    def look() -> StatisticsReply:
        nonlocal last, written
        now = statistics(server)
        totals = dict(flat(now.totals))
        assert {name: totals.get(name, -1.0) for name in last} == {
            name: max(value, totals.get(name, -1.0)) for name, value in last.items()
        }
        assert now.drives[0].written_bytes >= written
        last, written = totals, now.drives[0].written_bytes
        return now

    for victim in ("", "data", "tape", ""):
        with Job.connect(server, server, login) as job:
            job.start_backup(str(large if victim else small), HIST="y")
            look()
            if victim:
                settle(lambda: any(each.stream_bytes > 4 << 20 for each in look().jobs), "the stream flows", 30)
                os.kill(busy_worker(server, victim), signal.SIGKILL)
            reason = job.data.data_halted()
            assert (reason == DataHaltReason.SUCCESSFUL) == (not victim)
            look()
            job.data.hang_up()
        settle(lambda: not look().rings, "the rings are gone", 30)
        # A configuration that is read again, begins nothing anew.
        server.config.write_text(server.config.read_text().replace("grace_s = 2", f"grace_s = {2 + len(rounds)}"))
        rounds.append(victim)
        os.kill(server.pid, signal.SIGHUP)
        settle(lambda: server.log.read_text().count(READ_AGAIN) == len(rounds), READ_AGAIN, 30)
        look()
    now = look()
    assert now.totals.jobs == {"backup/successful": 2, "backup/failed": 2}
    assert now.totals.worker_exits["data/signal SIGKILL"] == 1
    assert now.totals.worker_exits["tape/signal SIGKILL"] == 1
    assert now.totals.worker_cpu_seconds["data"] > 0
    assert now.totals.files == sum(each.entries for each in now.ended_jobs)
    assert now.totals.data_bytes == sum(each.stream_bytes for each in now.ended_jobs)


def test_a_refused_login_counts(make_server: MakeServer, login: Login) -> None:
    server = make_server("server", load=False)
    with pytest.raises(AssertionError, match="NOT_AUTHORIZED"):
        NdmpClient(server.address, login=Login(login.user, "another one"))
    assert statistics(server).totals.authentication_failures == 1


def test_statistics_can_be_off(make_server: MakeServer) -> None:
    server = make_server("server", load=False, node="statistics_interval_s = 0")
    with pytest.raises(RefusedError, match="statistics are off"):
        statistics(server)
