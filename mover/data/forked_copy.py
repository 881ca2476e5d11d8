"""The life of a forked copy of a worker: it does one piece of work, and nothing else of the worker runs on in it.

It never outlives its worker, and its worker does not wait for it without end: a copy may be stopped, or hang in a call.
"""

import ctypes
import gc
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Final, NoReturn

PATIENCE_S: Final = 60.0
"""How long a worker waits for what a copy has begun. Longer than a disk takes that is only slow."""
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


def fork_copy(work: Callable[[], object]) -> int:
    """Fork a copy, which does its work and ends; the process, in the worker.

    An error of the copy's is told on standard error, and costs the worker time. That a socket of the worker's is gone
    (ConnectionError) is an end like any other: so is the worker.

    Raises:
        OSError: no memory, no process.
    """
    sys.stderr.flush()
    process = os.fork()
    if not process:
        _work_and_leave(work)
    return process


def _work_and_leave(work: Callable[[], object]) -> NoReturn:
    status = 1
    try:
        # The worker's thread that forks is its main one. A copy that is stopped would not see its sockets close.
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        gc.freeze()  # a collection would touch, and so copy, what is shared with the worker
        work()
        status = 0
    except ConnectionError:
        status = 0
    except Exception:  # noqa: BLE001 - nothing of the copied worker may run on
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def wait_for_copy(process: int, patience_s: float) -> None:
    """Wait until a copy that is about to leave has left; past the time it is lost."""
    try:
        fd = os.pidfd_open(process)
    except OSError:  # no descriptor to be had: then without patience
        end_copy(process)
        return
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        has_left = poller.poll(patience_s * 1000)
    finally:
        os.close(fd)
    if has_left:
        os.waitpid(process, 0)
    else:
        lose_copy(process)


def end_copy(process: int) -> None:
    """Kill a copy and wait until it is gone.

    A call that nothing interrupts it still goes through with, and that is waited for: until then it may write.
    """
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def lose_copy(process: int) -> None:
    """As ``end_copy``, of one that has not come back in time, which standard error tells."""
    print("a forked copy does not get on and is killed: its worker goes on alone", file=sys.stderr, flush=True)
    end_copy(process)
