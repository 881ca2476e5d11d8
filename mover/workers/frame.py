"""The frame around every worker's main loop: start, wait for work, leave when control does.

``python -I -m mover.<room> --template FD`` is what control spawns, one of each kind: it forks the workers (see
:mod:`mover.workers.template`). ``python -I -m mover.<room> FD`` is a single worker whose control socket is FD. As a
spare it is single threaded and waits for its first message. It leaves when the control socket closes, also while its
main loop is stuck in a system call: a watcher thread polls for the hang-up alone (events=0 consumes nothing).
PR_SET_PDEATHSIG would fire when the spawning *thread* ends, and control spawns from pool threads.
"""

import contextlib
import ctypes
import faulthandler
import fcntl
import os
import resource
import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import Final

from mover.workers import template
from mover.workers.channel import Channel, ChannelBroken, pack, rights
from mover.workers.confine import Grant, bound_capabilities, confine, prepare
from mover.workers.messages import ToWorker

PR_SET_NAME: Final = 15
EXIT_CONTROL_GONE: Final = 3
_DESCRIPTORS: Final = 512  # of which a recover keeps 256 for directories
Handler = Callable[[Channel, ToWorker], None]
Need = Callable[[ToWorker], Grant]
"""What a worker needs for the work that its first message begins."""
Rehearsal = Callable[[], tuple[ToWorker, list[int]]]
"""A request that this kind of worker refuses, and the descriptors that come with it."""


def _watch(fd: int) -> None:
    poller = select.poll()
    poller.register(fd, 0)
    while True:
        if any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poller.poll()):
            # Nothing is put in order here on purpose: an end that looks like a crash is what the other side must
            # see, and what is on tape is whole up to its last synchronised point in any case.
            os._exit(EXIT_CONTROL_GONE)


def _name_process(name: str) -> None:
    """What ``ps`` and ``top`` show: mover-data, mover-tape-tpl."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def run(
    kind: str,
    argv: list[str],
    handler: Handler,
    need: Need,
    *,
    capabilities: int = 0,
    rehearsal: Rehearsal | None = None,
) -> int:
    """The main program of worker room ``kind``: a template, or one worker; returns the exit status.

    ``capabilities``: all that ``need`` may ever grant. ``rehearsal``: what a spare serves before anybody waits for it.
    """
    bound_capabilities(capabilities)
    match argv[1:]:
        case ["--template", fd] if fd.isdigit():
            _name_process(f"mover-{kind}-tpl")

            def work(worker_fd: int, is_spare: bool) -> int:
                return _work(kind, worker_fd, handler, need, rehearsal if is_spare else None)

            return template.serve(int(fd), work)
        case [fd] if fd.isdigit():
            return _work(kind, int(fd), handler, need, None)
        case _:
            print(f"usage: {argv[0]} [--template] FD (workers are started by mover serve)", file=sys.stderr)
            return 2


def _rehearse(handler: Handler, need: Need, rehearsal: Rehearsal) -> None:
    """Serve a request that is refused, and nobody hears it.

    A forked worker shares the template's pages until it touches them: some 300 on the way to its first reply, at two or
    three microseconds each. A spare has the time for that.
    """
    message, descriptors = rehearsal()
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    with ours, channel.socket:
        ours.sendmsg([pack(message)], rights(descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        received = channel.receive()
        need(received)
        handler(channel, received)
    thread = threading.Thread(target=int, name="watcher", daemon=True)
    thread.start()
    thread.join()


def _make_room_for_descriptors(fd: int) -> None:
    """Have the table of descriptors as large as it will be, as long as there is one thread.

    A process of several waits some 10 ms for a grace period of the kernel (RCU) each time its table grows.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError):  # all are taken: then it grows when one is needed
        os.close(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, min(_DESCRIPTORS, limit) - 1))


def _work(kind: str, fd: int, handler: Handler, need: Need, rehearsal: Rehearsal | None) -> int:
    """Serve control's messages with ``handler`` until control closes the socket.

    The first message is awaited single threaded (a spare); it says what is needed, all else is given up, and only then
    the watcher starts.
    """
    _name_process(f"mover-{kind}")
    faulthandler.enable()
    template.leave_stopping_to_control()
    os.umask(0)
    prepare()
    channel = Channel(fd)
    os.set_inheritable(channel.fileno(), False)
    _make_room_for_descriptors(channel.fileno())
    if rehearsal is not None:
        _rehearse(handler, need, rehearsal)
    watcher: threading.Thread | None = None
    try:
        while True:
            message = channel.receive()
            if watcher is None:
                confine(need(message))
                watcher = threading.Thread(target=_watch, args=(channel.fileno(),), name="watcher", daemon=True)
                watcher.start()
            handler(channel, message)
    except ChannelBroken:
        # os._exit: threads and mappings go with the process, and nothing below may wait.
        sys.stderr.flush()
        os._exit(0 if watcher is None else EXIT_CONTROL_GONE)
