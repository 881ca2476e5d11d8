"""A template whose control is gone: it sees its workers off, but not for ever."""

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mover.workers.channel import rights
from mover.workers.template import FORKED, RECORD, SPARE

DEADLINE_S = 60
PROGRAM = """
import socket, sys
from mover.workers import template

def work(fd, is_spare):
    with socket.socket(fileno=fd) as control:
        control.recv(1)  # as a spare: until control is gone
    return 0

template.SEE_OFF_S = float(sys.argv[2])
sys.exit(template.serve(int(sys.argv[1]), work))
"""


@contextmanager
def template(see_off_s: float) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """The process, and control's end of its socket."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [sys.executable, "-c", PROGRAM, str(theirs.fileno()), str(see_off_s)]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        with process:
            try:
                ours.settimeout(DEADLINE_S)
                yield process, ours
            finally:
                process.kill()


def fork(template_socket: socket.socket) -> tuple[int, socket.socket]:
    """A worker's pid, and control's end of its socket."""
    ours, theirs = socket.socketpair()
    with theirs:
        template_socket.sendmsg([SPARE], rights([theirs.fileno()]))
    kind, pid, _, _ = RECORD.unpack(template_socket.recv(RECORD.size))
    assert kind == FORKED
    return pid, ours


def test_workers_are_seen_off() -> None:
    with template(DEADLINE_S) as (process, control):
        workers = [fork(control) for _ in range(3)]
        control.close()
        for _, worker in workers:
            worker.close()
        assert process.wait(DEADLINE_S) == 0
        assert [pid for pid, _ in workers if os.path.exists(f"/proc/{pid}")] == []


def test_a_template_without_workers_leaves_at_once() -> None:
    with template(2 * DEADLINE_S) as (process, control):
        control.close()
        assert process.wait(DEADLINE_S) == 0


def test_a_worker_that_stays_is_left() -> None:
    with template(0.05) as (process, control):
        pid, worker = fork(control)
        with worker:
            ended = os.pidfd_open(pid)
            control.close()
            assert process.wait(DEADLINE_S) == 0
            assert select.select([ended], [], [], 0)[0] == []
        assert select.select([ended], [], [], DEADLINE_S)[0] == [ended]
        os.close(ended)
