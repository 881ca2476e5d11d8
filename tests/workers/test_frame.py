"""What spares rehearse: requests that are refused, and that leave nothing behind."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mover.data import __main__ as data
from mover.data.rights import need
from mover.tape import __main__ as tape
from mover.tape.worker import TapeWorker
from mover.workers.channel import Channel, Unpacker, pack, rights
from mover.workers.confine import Grant
from mover.workers.frame import Handler, Rehearsal, _rehearse
from mover.workers.messages import Refused, ToWorker, from_worker_decoder


def data_worker() -> tuple[Handler, Callable[[ToWorker], Grant], Rehearsal]:
    return data.handle, need, data.rehearsal


def tape_worker() -> tuple[Handler, Callable[[ToWorker], Grant], Rehearsal]:
    return TapeWorker().handle, tape.need, tape.rehearsal


@pytest.mark.parametrize("worker", [data_worker, tape_worker])
def test_a_rehearsal_is_refused_and_leaves_nothing(
    worker: Callable[[], tuple[Handler, Callable[[ToWorker], Grant], Rehearsal]],
) -> None:
    handler, needs, rehearsal = worker()
    before, threads = os.listdir("/proc/self/fd"), set(threading.enumerate())
    _rehearse(handler, needs, rehearsal)
    message, descriptors = rehearsal()
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    with ours, channel.socket:
        ours.sendmsg([pack(message)], rights(descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        handler(channel, channel.receive())
        unpacker = Unpacker()
        unpacker.feed(ours.recv(65_536))
        body = unpacker.next_body()
        assert body is not None
        assert isinstance(from_worker_decoder.decode(body), Refused)
    assert os.listdir("/proc/self/fd") == before
    assert set(threading.enumerate()) <= threads


def test_its_table_of_descriptors_has_grown_before_the_watcher_starts() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-I", "-m", "mover.data", str(theirs.fileno())]
        worker = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        try:
            theirs.close()
            until = time.monotonic() + 60
            while _descriptors_fit(worker.pid) < 512:
                assert worker.poll() is None, "the worker has ended"
                assert time.monotonic() < until
                time.sleep(0.01)
            assert os.listdir(f"/proc/{worker.pid}/task") == [str(worker.pid)]
        finally:
            ours.close()
            worker.wait(60)
    assert worker.returncode == 0


def _descriptors_fit(pid: int) -> int:
    """For how many there is room in the table of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("FDSize:"))
