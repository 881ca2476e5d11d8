"""A template process: a worker's interpreter with everything imported, which forks a worker in a millisecond or two.

A cold worker costs 40 to 100 ms of processor time, nearly all of it imports; ten jobs that start at once would wait
for each other. The template is single threaded, opens nothing but its own socket to control, and does nothing but
fork and reap; so what a worker inherits is code. It leaves when control closes its socket; the workers do so by
themselves, each by its own socket, and are seen off: where orphans are reaped late, one that is dead would seem alive.

The conversation, one kind of record each way. Control sends one byte with one descriptor, the new worker's control
socket; the byte says whether somebody waits for the worker (WANTED) or nobody does yet (SPARE). The template answers
FORKED with the pid, in order, and says EXITED with pid and status when it has reaped a worker; until then the pid
cannot be anybody else's.
"""

import gc
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

from mover.workers.channel import ANCILLARY_BYTES, receive_descriptors

WANTED: Final = b"w"
SPARE: Final = b"s"
RECORD: Final = struct.Struct("<Biid")  # kind, pid, status as os.waitstatus_to_exitcode gives it, processor seconds
FORKED: Final = 1
EXITED: Final = 2  # with the processor time that the worker and what it has reaped have used
FAILED: Final = 3  # no fork; status is the errno
SEE_OFF_S: Final = 1.0  # how long the template of a control that is gone waits for its workers to end


def leave_stopping_to_control() -> None:
    """Ignore what a terminal or a service manager sends to all processes at once: jobs may have a grace period."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _wake(_number: int, _frame: FrameType | None) -> None:
    """SIGCHLD: the wake-up descriptor says it all."""


def serve(control_fd: int, work: Callable[[int, bool], int]) -> int:
    """Fork workers for control until it is gone; ``work(fd, is_spare)`` is a worker's whole life."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _wake)
    leave_stopping_to_control()
    gc.freeze()  # the imported objects stay in pages that all workers share
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(woken, select.POLLIN)
    try:
        while True:
            ready = dict(poller.poll())
            if control.fileno() in ready:
                forked = _fork(control)
                if forked is not None:
                    break
            if woken in ready:
                os.read(woken, 4096)
                _reap(control)
    except (ConnectionError, EOFError):
        _see_off(woken)
        return 0  # control closed its end, or was killed
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control.close()
    os.close(woken)
    os.close(wake)
    return work(*forked)


def _fork(control: socket.socket) -> tuple[int, bool] | None:
    """Take one request. Returns descriptor and whether it is a spare in the worker, None in the template.

    Raises:
        EOFError, ConnectionError: control is gone.
    """
    data, ancillary, flags, _ = control.recvmsg(1, ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
    descriptors = receive_descriptors(ancillary, flags)
    if not data:
        raise EOFError
    (worker_fd,) = descriptors
    try:
        pid = os.fork()
    except OSError as error:
        answer = RECORD.pack(FAILED, 0, error.errno or 0, 0.0)
    else:
        if pid == 0:
            return worker_fd, data == SPARE
        answer = RECORD.pack(FORKED, pid, 0, 0.0)
    os.close(worker_fd)
    control.sendall(answer)
    return None


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        cpu_seconds = used.ru_utime + used.ru_stime
        control.sendall(RECORD.pack(EXITED, pid, os.waitstatus_to_exitcode(status), cpu_seconds))


def _see_off(woken: int) -> None:
    """Reap the workers as they leave, for a while."""
    poller = select.poll()
    poller.register(woken, select.POLLIN)
    deadline = time.monotonic() + SEE_OFF_S
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            continue
        left = deadline - time.monotonic()
        if left <= 0:
            return
        if poller.poll(left * 1000):
            os.read(woken, 4096)
