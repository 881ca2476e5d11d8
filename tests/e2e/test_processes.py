"""It is what it says: distinct processes on one memfd, no stream byte through a pipe or a control socket, and byte
counters that are what the kernel counted at the drive."""

import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from mover.ndmp.enums import DataHaltReason, MoverHaltReason
from mover.ndmp.messages import (
    DataGetStateReply,
    DataGetStateRequest,
    MoverGetStateReply,
    MoverGetStateRequest,
)
from tests.support import peers
from tests.support.ndmp_client import RECORD_SIZE, Job
from tests.support.processes import mapped_rings, settle, workers
from tests.support.servers import Login, Server
from tests.support.trees import make_large_file

pytestmark = [pytest.mark.slow, pytest.mark.peer("strace")]
MIB = 1 << 20
CALL = re.compile(r"^(?:\d+ +)?(\w+)\((\d+)<([^>]*(?:->[^>]*)?)>.*\) = (\d+)$")


class Strace:
    """What processes read and wrote, by kind of descriptor."""

    def __init__(self, output: Path, pids: list[int]) -> None:
        calls = "read,readv,pread64,preadv,preadv2,write,writev,pwrite64,pwritev,pwritev2"
        calls += ",sendto,sendmsg,recvfrom,recvmsg,sendfile,splice"
        command = [
            str(peers.require("strace")),
            "-f",
            "-yy",
            "-q",
            "-o",
            str(output),
            "-s",
            "0",
            "-e",
            f"trace={calls}",
        ]
        for pid in pids:
            command += ["-p", str(pid)]
        self.output = output
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        settle(lambda: all(_traced(pid) for pid in pids), "strace attached")

    def stop(self) -> Counter[tuple[str, str]]:
        """Bytes by (direction, what the descriptor is)."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        moved: Counter[tuple[str, str]] = Counter()
        for line in self.output.read_text().splitlines():
            if match := CALL.match(line):
                call, _, target, count = match.groups()
                moved["in" if call.startswith(("read", "pread", "recv")) else "out", _kind(target)] += int(count)
        return moved


def _traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"TracerPid:\s*(\d+)", status)[1]) != 0  # type: ignore[index]  # the kernel always has the line


def _kind(target: str) -> str:
    for kind, pattern in (
        ("event", "anon_inode:"),
        ("unix", "UNIX"),
        ("tcp", "TCP"),
        ("pipe", "pipe:"),
        ("ring", "memfd:"),
    ):
        if pattern in target:
            return kind
    return "cartridge" if target.endswith(".tap") else "file" if "/" in target else target


def sharing(pids: list[int]) -> Counter[str]:
    """How many of the processes have each data ring mapped."""
    return Counter(inode for pid in pids for inode in mapped_rings(pid))


@pytest.fixture
def source(shm: Path) -> Path:
    root = shm / "source"
    root.mkdir()
    make_large_file(root / "large", size=64 * MIB)
    return root


def test_workers_share_one_memfd_and_nothing_else_carries_the_stream(
    ends: tuple[Server, Server], login: Login, source: Path, shm: Path
) -> None:
    data, tape = ends
    watched = {server.pid: server for server in (data, tape)}
    everyone = [
        pid for server in watched.values() for kind in ("data", "tape", "relay") for pid in workers(server, kind)
    ]
    with Job.connect(data, tape, login) as job:
        traces = {pid: Strace(shm / f"trace-{pid}", [pid]) for pid in {*everyone, *watched}}
        # HIST=n: what is left for the control process is the dialogue
        job.start_backup(str(source), HIST="n")
        # Processes: each ring is mapped by exactly two. A worker maps it a moment after control's reply.
        rings = 1 if data is tape else 2
        settle(lambda: sorted(sharing(everyone).values()) == [2] * rings, f"{rings} rings between two workers each")
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        mover = job.tape.ok(MoverGetStateRequest())
        state = job.data.ok(DataGetStateRequest())
        moved = {pid: trace.stop() for pid, trace in traces.items()}
    assert isinstance(mover, MoverGetStateReply)
    assert isinstance(state, DataGetStateReply)

    # The stream passes files, rings, the data connection and the cartridge, and nothing else.
    stream = state.bytes_processed
    assert stream > 64 * MIB
    for pid, counted in moved.items():
        small = sum(count for (_, kind), count in counted.items() if kind in {"unix", "pipe", "event"})
        assert small < 2 * MIB, f"{pid}: {counted}"
        if pid in watched:
            assert sum(counted.values()) < 4 * MIB, f"control moved {counted}"

    # Counters: the records on the cartridge, their length words beside them.
    at_drive = sum(counted["out", "cartridge"] for counted in moved.values())
    records = -(-stream // RECORD_SIZE)
    assert mover.bytes_moved == stream
    assert mover.record_num == records
    assert at_drive == records * (RECORD_SIZE + 8)
