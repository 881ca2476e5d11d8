"""The work that the benchmark times: mover's jobs over NDMP, and each peer's way to do the same."""

import contextlib
import os
import secrets
import selectors
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
from scale_memory import beyond_rings

from mover.ndmp.client import Post, Reply
from mover.ndmp.enums import DataHaltReason, ErrorCode, MoverMode, TapeMode
from mover.ndmp.framing import RECORD_LIMIT, RecordReader
from mover.ndmp.header import SIZE as HEADER_BYTES
from mover.ndmp.messages import (
    Body,
    DataStartBackupRequest,
    DataStartRecoverRequest,
    DataStopRequest,
    MoverStopRequest,
    NotifyDataHaltedPost,
    NotifyMoverHaltedPost,
    RecoverName,
    TapeCloseRequest,
    TapeOpenRequest,
)
from tests.support.ndmp_client import Job, NdmpClient, Seen, pairs
from tests.support.servers import Login, Server, write_config

DEADLINE_S = 300.0
MIB = 1 << 20
FH_CODES = range(0x700, 0x800)


class HistoryCounter(RecordReader):
    """Reads file history as a client must, message by message, and counts its entries instead of keeping them."""

    def __init__(self) -> None:
        super().__init__(RECORD_LIMIT)
        self.entries = 0

    def next_record(self) -> bytes | None:
        """The next message that is no history."""
        while (record := super().next_record()) is not None:
            if int.from_bytes(record[12:16], "big") not in FH_CODES:
                return record
            self.entries += int.from_bytes(record[HEADER_BYTES : HEADER_BYTES + 4], "big")
        return None


class Bench:
    """Where the benchmark works, and how."""

    def __init__(self, place: Path, *, record_size: int) -> None:
        self.place = place
        self.record_size = record_size
        self.login = Login("bench", secrets.token_urlsafe(12))
        self.source = place / "source"
        """The volume; trees to back up lie below it."""
        self.source.mkdir()
        self._runs = 0

    def new_directory(self, name: str) -> Path:
        """A directory of its own for one run."""
        self._runs += 1
        path = self.place / f"{name}-{self._runs}"
        path.mkdir()
        return path

    def keep_memory(self, size: int) -> None:
        """Have so many bytes of memory given to this machine and free, until the place is removed.

        A host takes back what a virtual machine does not use, in blocks of 2 MiB, and who touches it next waits for it.
        Of each MiB a page stays in use, so that no such block is free.
        """
        rest = bytes(MIB - 4096)
        given = self.place / "given"
        with open(self.place / "kept", "xb", buffering=0) as kept, open(given, "xb", buffering=0) as file:
            for _ in range(size // MIB):
                kept.write(rest[:4096])
                file.write(rest)
        given.unlink()

    @contextlib.contextmanager
    def servers(
        self, *, three_way: bool = False, drives: int = 1, sessions: int = 64
    ) -> Iterator[tuple[Server, Server, Path]]:
        """The data server, the tape server (the same one unless three-way) and a directory to recover into.

        New for every run, with new cartridges: one that is overwritten would first have to be emptied.
        """
        place = self.new_directory("run")
        recovered = place / "recovered"
        recovered.mkdir()
        volumes = {"source": self.source, "recovered": recovered}
        config = partial(write_config, login=self.login, extra=f"[limits]\nsessions = {sessions}")
        try:
            with contextlib.ExitStack() as stack:
                data = stack.enter_context(
                    Server(config(place / "data", volumes=volumes, drives=0 if three_way else drives))
                )
                tape = data
                if three_way:
                    tape = stack.enter_context(Server(config(place / "tape", drives=drives)))
                for drive in range(drives):
                    tape.ask("tape", "load", f"vtl0/drive{drive}")
                settle([data, tape])
                yield data, tape, recovered
        finally:
            shutil.rmtree(place)

    def job(self, data: Server, tape: Server) -> Job:
        """Connections for one job."""
        return Job.connect(data, tape, self.login)


def settle(servers: Sequence[Server]) -> None:
    """Waits until the warm spares have started: no process of the servers uses the processor any more."""
    deadline = time.monotonic() + 10
    quiet = 0
    while quiet < 3 and time.monotonic() < deadline:
        before = used_cpu_s(servers)
        time.sleep(0.1)
        quiet = quiet + 1 if used_cpu_s(servers) - before < 0.005 else 0


def used_cpu_s(servers: Sequence[Server]) -> float:
    """Processor time of the servers so far, in seconds."""
    used = 0.0
    for server in servers:
        for process in server.processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # the last job's worker has just left
                used += sum(process.cpu_times()[:2])
    return used


def finish(job: Job) -> float:
    """Waits for both HALTED notifications; returns when the later one came."""
    halted = job.data.wait_until(lambda seen: isinstance(seen.body, NotifyDataHaltedPost), "DATA_HALTED", DEADLINE_S)
    assert isinstance(halted.body, NotifyDataHaltedPost)
    if halted.body.reason != DataHaltReason.SUCCESSFUL:
        raise RuntimeError(f"the data service halted with reason {halted.body.reason}: {job.data.log()}")
    mover = job.tape.wait_until(lambda seen: isinstance(seen.body, NotifyMoverHaltedPost), "MOVER_HALTED", DEADLINE_S)
    return max(halted.at, mover.at)


class Times(NamedTuple):
    """Of one backup, in seconds."""

    streaming_s: float  # from START_BACKUP's reply to both HALTED
    whole_s: float  # from START_BACKUP's request
    history_entries: int


def backup(
    bench: Bench, job: Job, tree: Path, *, history: bool = False, butype: str = "dump", record_size: int | None = None
) -> Times:
    """One backup of a tree below the source; ``record_size``: other than the benchmark's."""
    counter = HistoryCounter()
    if history:
        job.data.protocol._reader = counter
    job.connect_data(MoverMode.READ, record_size=record_size or bench.record_size)
    env = pairs(FILESYSTEM=str(tree), HIST="y" if history else "n")
    began = time.monotonic()
    job.data.ok(DataStartBackupRequest(butype.encode(), env))
    replied = time.monotonic()
    ended = finish(job)
    return Times(ended - replied, ended - began, counter.entries)


def stop(job: Job) -> None:
    """Back to IDLE, the drive closed."""
    job.data.ok(DataStopRequest())
    job.tape.ok(MoverStopRequest())
    job.tape.ok(TapeCloseRequest())


def timed_backup(
    bench: Bench,
    tree: Path,
    *,
    three_way: bool = False,
    history: bool = False,
    butype: str = "dump",
    record_size: int | None = None,
) -> Times:
    """One backup with servers of its own."""
    with bench.servers(three_way=three_way) as (data, tape, _), bench.job(data, tape) as job:
        return backup(bench, job, tree, history=history, butype=butype, record_size=record_size)


def records(bench: Bench, file: Path, record_size: int) -> float:
    """Seconds of the tape worker's own code writing a file as records to a new cartridge."""
    place = bench.new_directory("records")
    program = Path(__file__).with_name("bench_records.py")
    command: list[str | Path] = [sys.executable, program, file, place / "cartridge.tap", str(record_size)]
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return float(done.stdout)
    finally:
        shutil.rmtree(place)


def timed_recover(bench: Bench, tree: Path, *, butype: str = "dump") -> float:
    """Seconds of one recover, from START_RECOVER's request to DATA_HALTED."""
    with bench.servers() as (data, tape, recovered):
        with bench.job(data, tape) as job:
            backup(bench, job, tree, butype=butype)
            stop(job)
        settle([data])
        with bench.job(data, tape) as job:
            job.connect_data(MoverMode.WRITE, record_size=bench.record_size)
            names = (RecoverName(b"", os.fsencode(recovered)),)
            began = time.monotonic()
            job.data.ok(DataStartRecoverRequest(pairs(FILESYSTEM=str(tree)), names, butype.encode()))
            halted = job.data.wait_until(
                lambda seen: isinstance(seen.body, NotifyDataHaltedPost), "DATA_HALTED", DEADLINE_S
            )
            assert isinstance(halted.body, NotifyDataHaltedPost)
            if halted.body.reason != DataHaltReason.SUCCESSFUL:
                raise RuntimeError(f"the recover halted with reason {halted.body.reason}: {job.data.log()}")
            return halted.at - began


# ---- peers


def timed_command(*command: str | Path, place: Path | None = None) -> float:
    """Seconds that a command takes, in a directory."""
    began = time.monotonic()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, cwd=place)
    return time.monotonic() - began


def dd(bench: Bench, file: Path, block_size: int) -> float:
    """Seconds of dd of one file to where the tapes are."""
    place = bench.new_directory("dd")
    try:
        return timed_command("dd", f"if={file}", f"of={place / 'copy'}", f"bs={block_size}", "status=none")
    finally:
        shutil.rmtree(place)


def cp(bench: Bench, file: Path) -> float:
    """Seconds of cp of one file to where the tapes are."""
    place = bench.new_directory("cp")
    try:
        return timed_command("cp", file, place / "copy")
    finally:
        shutil.rmtree(place)


RECEIVER = """
import socket, sys, time
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
began = time.monotonic()
buffer = bytearray(1 << 20)
view = memoryview(buffer)
with open(sys.argv[1], "wb", buffering=0) as file:
    while count := connection.recv_into(buffer):
        file.write(view[:count])
print(time.monotonic() - began, flush=True)
"""
SENDER = """
import socket, sys
buffer = bytearray(1 << 20)
view = memoryview(buffer)
with open(sys.argv[1], "rb", buffering=0) as file:
    with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as connection:
        while count := file.readinto(buffer):
            connection.sendall(view[:count])
"""


def socket_pair(bench: Bench, file: Path) -> float:
    """Seconds of a minimal file -> socket -> file pair of Python programs, from connection to end of file."""
    place = bench.new_directory("pair")
    try:
        command = [sys.executable, "-c", RECEIVER, str(place / "copy")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
            assert receiver.stdout is not None
            port = receiver.stdout.readline().strip()
            subprocess.run([sys.executable, "-c", SENDER, file, port], check=True)
            return float(receiver.stdout.readline())
    finally:
        shutil.rmtree(place)


TAR = ["tar", "--format=pax", "--acls", "--xattrs"]


def tar_create(tree: Path) -> float:
    """Seconds of GNU tar saving the same metadata into a pipe."""
    began = time.monotonic()
    with (
        subprocess.Popen([*TAR, "-C", tree, "-cf", "-", "."], stdout=subprocess.PIPE) as tar,
        subprocess.Popen(["cat"], stdin=tar.stdout, stdout=subprocess.DEVNULL) as cat,
    ):
        assert tar.stdout is not None
        tar.stdout.close()
        statuses = tar.wait(), cat.wait()
    if statuses != (0, 0):
        raise RuntimeError(f"tar and cat ended with {statuses}")
    return time.monotonic() - began


def tar_extract(bench: Bench, archive: Path) -> float:
    """Seconds of tar extracting the archive."""
    place = bench.new_directory("tar")
    try:
        return timed_command("tar", "-C", place, "-xf", archive)
    finally:
        shutil.rmtree(place)


def restore_all(bench: Bench, dump: Path) -> float:
    """Seconds of restore making all of a dump."""
    place = bench.new_directory("restore")
    try:
        return timed_command("restore", "-r", "-f", dump, place=place)
    finally:
        shutil.rmtree(place)


# ---- limits


def memory(bench: Bench, tree: Path) -> dict[str, int]:
    """Peak of each kind of process over a backup with history and a recover, in bytes."""
    peaks: dict[str, int] = {}
    ended = threading.Event()
    with bench.servers() as (data, tape, recovered):

        def sample() -> None:
            while not ended.wait(0.05):
                for process in data.processes():
                    with contextlib.suppress(OSError, ProcessLookupError):
                        command = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
                        module = next((word for word in command if word.startswith(b"mover.")), b"mover.control")
                        kind = module.decode().removeprefix("mover.")
                        peaks[kind] = max(peaks.get(kind, 0), beyond_rings(process.pid, "Rss"))

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            with bench.job(data, tape) as job:
                backup(bench, job, tree, history=True)
                stop(job)
            with bench.job(data, tape) as job:
                job.start_recover(str(tree), str(recovered))
                job.data.data_halted(deadline_s=DEADLINE_S)
        finally:
            ended.set()
            thread.join()
    return peaks


def ask_all(clients: Sequence[NdmpClient], requests: Sequence[Body]) -> list[float]:
    """Sends one request on each connection at once; seconds until each reply, which must be good."""
    taken: list[float] = []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        began = time.monotonic()
        for client, request in zip(clients, requests, strict=True):
            client.send(request)
        waiting = set(clients)
        while waiting:
            for key, _ in selector.select(DEADLINE_S):
                client = key.data
                reply = _reply_that_came(client)
                if reply is not None:
                    taken.append(time.monotonic() - began)
                    if reply != ErrorCode.NO_ERR:
                        raise RuntimeError(f"{ErrorCode(reply).name}: {client.log()}")
                    selector.unregister(client.socket)
                    waiting.remove(client)
    return taken


def _reply_that_came(client: NdmpClient) -> int | None:
    """The error of a reply among what the server has sent, None when there is none yet."""
    data = client.socket.recv(1 << 18, socket.MSG_DONTWAIT)
    if not data:
        raise RuntimeError("the server closed the connection")
    client.protocol.feed(data)
    error = None
    while (event := client.protocol.next_event()) is not None:
        if isinstance(event, Reply):
            error = event.error
        elif isinstance(event, Post):
            client.posts.append(Seen(time.monotonic(), event.body))
    return error


class Latencies(NamedTuple):
    """Seconds from request to reply."""

    tape_open: list[float]
    start_backup: list[float]


def latencies(bench: Bench, tree: Path, *, at_once: int, rounds: int) -> Latencies:
    """TAPE_OPEN and START_BACKUP of small backups, so many sessions at once."""
    seen = Latencies([], [])
    with bench.servers(drives=at_once) as (data, _tape, _recovered):
        for _round in range(rounds):
            settle([data])
            with contextlib.ExitStack() as stack:
                jobs = []
                for number in range(at_once):
                    client = stack.enter_context(NdmpClient(data.address, login=bench.login))
                    jobs.append(Job(client, client, f"vtl0/drive{number}"))
                clients = [job.data for job in jobs]
                opens = [TapeOpenRequest(job.drive.encode(), TapeMode.RDWR) for job in jobs]
                seen.tape_open.extend(ask_all(clients, opens))
                for job in jobs:
                    job.tape.ok(TapeCloseRequest())
                    job.connect_data(MoverMode.READ, record_size=bench.record_size)
                start = DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(tree), HIST="n"))
                seen.start_backup.extend(ask_all(clients, [start] * at_once))
                for job in jobs:
                    finish(job)
                    stop(job)
    return seen
