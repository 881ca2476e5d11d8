"""One load on one server, and the servers beside mover that are asked: a bare responder and ndmjob's daemon."""

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import msgspec
import psutil
from bench_measure import CHECKOUT
from load_client import Connected, Plan, Result
from load_report import Footprint, Run

HERE = Path(__file__).resolve().parent
START_S = 0.5  # until the first request may be due
CONNECT_S = 120.0
READY_S = 20.0
PR_SET_CHILD_SUBREAPER = 36

T = TypeVar("T")


class Client:
    """A load_client.py process; a context manager that ends it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "load_client.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        )
        try:
            self._write(plan)
            self.connected = self._read(Connected, CONNECT_S)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def begin(self) -> float:
        """Let it ask; returns when the last request will have been due (monotonic)."""
        begin = time.monotonic() + START_S
        self._write(begin)
        return begin + self._plan.seconds

    def result(self) -> Result:
        """Wait for what it has seen."""
        return self._read(Result, self._plan.seconds + CONNECT_S)

    def _write(self, message: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(message) + b"\n")
        self._process.stdin.flush()

    def _read(self, kind: type[T], timeout_s: float) -> T:
        assert self._process.stdout is not None
        watchdog = threading.Timer(timeout_s, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise RuntimeError("the client ended early, or did not end in time")
        return msgspec.json.decode(line, type=kind)

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


def footprint(processes: list[psutil.Process]) -> Footprint:
    """Of a server's processes now."""
    private, cpu_s = 0, 0.0
    for process in processes:
        private += process.memory_full_info().uss
        # In nanoseconds: three hundred processes that answer once a second each do not fill a tick of theirs.
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            cpu_s += int((task / "schedstat").read_text().split()[0]) / 1e9
    return Footprint(len(processes), private / 1e6, cpu_s)


def under_load(plan: Plan, processes: Callable[[], list[psutil.Process]], work: Callable[[float], None]) -> Run:
    """One load on a server, with `work` beside it until the time that it is given.

    Args:
        processes: those of the server that answer.
    """
    with Client(plan) as client:
        before = footprint(processes())
        work(client.begin())
        result = client.result()
        after = footprint(processes())
        spent = msgspec.structs.replace(after, cpu_s=after.cpu_s - before.cpu_s)
        return Run(plan.seconds, plan.connections, client.connected.seconds, result, spent)


def wait_idly(end: float) -> None:
    """Nothing beside the load."""
    time.sleep(max(0.0, end - time.monotonic()))


@contextlib.contextmanager
def responder() -> Iterator[tuple[str, int]]:
    """The address of a server that does nothing but answer, and its pid."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "load_responder.py")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    ) as process:
        try:
            assert process.stdout is not None
            yield f"127.0.0.1:{process.stdout.readline().strip()}", process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def ndmjob(program: Path, place: Path) -> Iterator[tuple[str, int]]:
    """The address of a fresh ndmjob daemon, and its pid."""
    # It forks for each connection and never waits for the children: they come to us when it is gone.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open(place / "ndmjob.log", "wb") as log:
        process = subprocess.Popen(
            [program, "-o", "daemon", "-p", str(port)], cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait_until_it_listens(process, port)
        yield f"127.0.0.1:{port}", process.pid
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("ndmjob's daemon did not come up")


def forked(pid: int) -> list[psutil.Process]:
    """A process and all that it has forked and that still live."""
    first = psutil.Process(pid)
    every = [first, *first.children(recursive=True)]
    return [each for each in every if each.status() != psutil.STATUS_ZOMBIE]
