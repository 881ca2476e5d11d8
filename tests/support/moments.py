"""Statistics replies made by hand, and a control process that gives them: for what shows statistics."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec.structs import replace

from mover.admin.messages import Done, Failed, Reply, Request, decode_request, encode_reply
from mover.admin.sessions import Kill
from mover.admin.statistics import (
    DriveRow,
    EndedJob,
    JobRow,
    ProcessRow,
    Rates,
    RingRow,
    SessionRow,
    StatisticsReply,
    StatisticsShow,
    Totals,
)

MIB = 1024 * 1024
NOON = 1_700_000_000.0
HOSTILE = '/v/<img src=x onerror="document.title=1">\x1b[31m\u202ecod.exe'
"""A name that is markup, and that turns terminals and lines of text around."""


def rates(value: float) -> Rates:
    """The same over each time."""
    return Rates(over_1=value, over_10=value, over_60=value)


def moment(**changed: object) -> StatisticsReply:
    """A server with a local backup, a recover over the network, the mover of a three-way job, and what is theirs."""
    told: dict[str, object] = {
        "node": "fs1",
        "version": "0.1.0",
        "time": NOON,
        "uptime_seconds": 4000.0,
        "interval_seconds": 1.0,
        "cost_seconds": 8.0,
        "totals": totals(),
        "sessions": sessions(),
        "jobs": jobs(),
        "rings": rings(),
        "processes": processes(),
        "drives": drives(),
        "ended_jobs": ended_jobs(),
    }
    return StatisticsReply(**(told | changed))  # type: ignore[arg-type]  # of the caller's own types


def hostile() -> StatisticsReply:
    """One with names that strangers chose wherever they can."""
    return moment(
        jobs=[replace(each, path=HOSTILE, at=HOSTILE) for each in jobs()],
        ended_jobs=[replace(each, path=HOSTILE) for each in ended_jobs()],
    )


def totals() -> Totals:
    return Totals(
        data_bytes=3 << 30, mover_bytes=2 << 30, files=1234, history_entries=1200, history_wait_seconds=1.5,
        ring_full_seconds=2.5, ring_empty_seconds=0.5, worker_cpu_seconds={"data": 4.5, "template-data": 0.25},
        worker_exits={"data/exit 0": 2, "tape/signal SIGKILL": 1},
        jobs={"backup/successful": 1, "recover/failed": 2}, authentication_failures=7,
    )  # fmt: skip


def sessions() -> list[SessionRow]:
    return [
        SessionRow(session_id=3, client_addr="192.0.2.7", user="ndmp", ndmp_version=4, elapsed_seconds=95.5,
                   data_state="ACTIVE", mover_state="ACTIVE", tape_device="vtl0/drive0", job=5, requests=120,
                   posts=4500, received_bytes=9000, sent_bytes=800_000),
        SessionRow(session_id=12, vserver="vs1", client_addr="2001:db8::77", user="vsbackup", ndmp_version=4,
                   secure=True, elapsed_seconds=3700.0, data_state="ACTIVE", mover_state="IDLE", job=6, requests=44),
        SessionRow(session_id=14, client_addr="192.0.2.8", user="ndmp", ndmp_version=3, elapsed_seconds=61.0,
                   data_state="IDLE", mover_state="ACTIVE", tape_device="vtl0/drive1", requests=30),
        SessionRow(session_id=15, client_addr="192.0.2.9", elapsed_seconds=0.4),
    ]  # fmt: skip


def jobs() -> list[JobRow]:
    return [
        JobRow(number=5, session_id=3, operation="backup", backup_type="dump", level=0, path="/srv/home",
               at="/srv/home/anna/[red]plan\x1b[31m.txt", phase="files", entries=51_200, entries_expected=80_000,
               errors=2, history_entries=49_000, stream_bytes=3_000 * MIB, stream_bytes_left=1_000 * MIB,
               seconds_left=75, elapsed_seconds=90.0, rate=rates(33.3 * MIB), entries_rate=rates(560.0),
               bottleneck="tape", seconds={"tape": 60.0, "read": 20.0, "scan": 5.0},
               rate_history=[10.0, 20.0, 30.0, 33.0, 33.0, 12.0, 0.0, 33.0]),
        JobRow(number=6, session_id=12, vserver="vs1", operation="recover", backup_type="tar",
               path="/vol/vs1/[bold]日本\n", phase="files", entries=12, stream_bytes=700 * MIB, elapsed_seconds=30.0,
               rate=rates(20.0 * MIB), bottleneck="network", seconds={"network": 29.0}),
        JobRow(number=None, session_id=14, operation="mover-read", stream_bytes=123_456, elapsed_seconds=60.0,
               rate=rates(2048.0), bottleneck="ring-empty"),
    ]  # fmt: skip


def rings() -> list[RingRow]:
    return [
        RingRow(name="data-3", kind="data", session_id=3, size_bytes=8 * MIB, fill_ratio=0.875, waiting="full",
                bytes_in=3_007 * MIB, bytes_out=3_000 * MIB, times_full=1200, times_empty=3,
                waited_full_seconds=60.0, waited_empty_seconds=0.5, rate=rates(33.3 * MIB),
                fill_history=[0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.875]),
        RingRow(name="history-3", kind="history", session_id=3, size_bytes=1 * MIB, fill_ratio=0.01,
                fill_history=[0.0, 0.01]),
        RingRow(name="data-12", kind="data", session_id=12, size_bytes=8 * MIB, waiting="empty",
                waited_empty_seconds=29.0, rate=rates(20.0 * MIB)),
    ]  # fmt: skip


def processes() -> list[ProcessRow]:
    return [
        ProcessRow(pid=700, kind="control", state="sleeping", cpu_seconds=12.34, cpu_rate=rates(0.021),
                   resident_bytes=60 * MIB, open_files=41, threads=3, elapsed_seconds=4000.0),
        ProcessRow(pid=701, kind="template-data", state="sleeping", cpu_seconds=0.05, resident_bytes=20 * MIB),
        ProcessRow(pid=811, kind="data", session_id=3, state="running", cpu_seconds=55.5, cpu_rate=rates(0.756),
                   resident_bytes=90 * MIB, read_bytes=3_000 * MIB, read_rate=rates(33 * MIB), threads=2),
        ProcessRow(pid=812, kind="tape", session_id=3, state="disk-sleep", cpu_seconds=10.0, cpu_rate=rates(0.2),
                   resident_bytes=33 * MIB, write_bytes=3_000 * MIB, write_rate=rates(33 * MIB), threads=2),
        ProcessRow(pid=820, kind="relay", session_id=12, state="sleeping", cpu_seconds=1.0,
                   resident_bytes=18 * MIB),
    ]  # fmt: skip


def drives() -> list[DriveRow]:
    return [
        DriveRow(name="vtl0/drive0", state="in-use", session_id=3, barcode="VTL00001", file_number=1,
                 block_number=48_000, written_bytes=3_000 * MIB, io_seconds=61.0, underruns=2,
                 written_rate=rates(33.3 * MIB)),
        DriveRow(name="vtl0/drive1", state="in-use", session_id=14, barcode="VTL00002", file_number=0),
        DriveRow(name="nst0", state="hung"),
    ]  # fmt: skip


def ended_jobs() -> list[EndedJob]:
    return [
        EndedJob(number=4, session_id=2, operation="backup", backup_type="dump", level=1, path="/srv/home",
                 state="successful", started=NOON - 500, ended=NOON - 380, entries=1_234_567, stream_bytes=987_654_321,
                 rate=8_230_452.0, rate_history=[1.0, 3.0, 2.0], seconds={"read": 100.0}),
        EndedJob(number=3, session_id=1, vserver="vs1", operation="recover", backup_type="tar", path="/vol/vs1",
                 state="failed", started=NOON - 900, ended=NOON - 899, errors=1, stream_bytes=10),
    ]  # fmt: skip


def many(connections: int = 100, running: int = 20) -> StatisticsReply:
    """A server with that many connections and running jobs, a history of ten minutes with each."""
    history = [float(second % 60) for second in range(600)]
    return moment(
        sessions=[
            SessionRow(session_id=each, client_addr=f"192.0.2.{each % 250}", user="ndmp", ndmp_version=4,
                       data_state="ACTIVE" if each < running else "IDLE", mover_state="IDLE")
            for each in range(connections)
        ],
        jobs=[
            JobRow(number=each, session_id=each, operation="backup", backup_type="dump", level=0,
                   path=f"/srv/{each}", phase="files", entries=each * 1000, stream_bytes=each * 500 * MIB,
                   stream_bytes_left=5_000 * MIB, seconds_left=each, elapsed_seconds=60.0, rate=rates(each * 1e6),
                   bottleneck="tape", seconds={"tape": 30.0, "read": 10.0}, rate_history=history)
            for each in range(running)
        ],
        rings=[
            RingRow(name=f"{kind}-{each}", kind=kind, session_id=each, size_bytes=8 * MIB, fill_ratio=each / running,
                    fill_history=[value / 60 for value in history])
            for each in range(running) for kind in ("data", "history")
        ],
        processes=[
            ProcessRow(pid=1000 + 2 * each + number, kind=kind, session_id=each, state="running",
                       cpu_seconds=float(each), cpu_rate=rates(each / 10), resident_bytes=each * MIB)
            for each in range(running) for number, kind in enumerate(("data", "tape"))
        ],
        drives=[
            DriveRow(name=f"vtl0/drive{each}", state="in-use", session_id=each, file_number=1, block_number=each)
            for each in range(running)
        ],
    )  # fmt: skip


class FakeServer:
    """Answers at a unix socket as control would, any number of connections at once.

    Attributes:
        now: what StatisticsShow gets; a Failed refuses.
        requests: all but StatisticsShow that came.
        asked: how often StatisticsShow came.
    """

    def __init__(self, path: str, now: StatisticsReply | Failed) -> None:
        self.path = path
        self.now: StatisticsReply | Failed = now
        self.requests: list[Request] = []
        self.asked = 0
        self.answer: Callable[[Request], Reply] = self._answer
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    def _answer(self, request: Request) -> Reply:
        if isinstance(request, Kill):
            return Done(f"session {request.session_id} is ended")
        return Failed("not-found", "not here")

    def about_to_answer(self) -> None:
        """StatisticsShow has come; for who wants to change ``now``."""

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        """As if the process had ended."""
        if self._server is not None:
            self._server.close()
            serving = dict(self._serving)
            for writer in serving:
                writer.transport.abort()
            await asyncio.gather(*serving.values())
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[writer] = task
        try:
            while line := await reader.readline():
                request = decode_request(line)
                if isinstance(request, StatisticsShow):
                    self.about_to_answer()
                    self.asked += 1
                    reply: Reply = self.now
                else:
                    self.requests.append(request)
                    reply = self.answer(request)
                writer.write(encode_reply(reply))
                await writer.drain()
        except ConnectionError:
            pass  # the client has gone, or we have
        finally:
            del self._serving[writer]
            writer.close()


@asynccontextmanager
async def fake_server(path: str, now: StatisticsReply | Failed) -> AsyncIterator[FakeServer]:
    """One that is stopped at the end."""
    server = FakeServer(path, now)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
