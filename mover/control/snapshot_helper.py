"""The snapshot helper's process, seen from control: started for one request, and ended with it."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import structlog
import trio

from mover.control.templates import ForkedProcess
from mover.control.workers import Worker, WorkerDied, WorkerHung
from mover.workers.messages import LogLine, Reply, ToWorker

LEFT_S: Final = 60.0
"""How long a snapshot command whose helper was killed may go on, before what it does is undone under it."""
_CHUNK: Final = 65_536

log = structlog.get_logger()


async def ask_helper(message: ToWorker, said: Callable[[LogLine], None], *, deadline_s: float) -> Reply:
    """Have a helper do one thing; at return it, and every snapshot command that it ran, has ended.

    Args:
        said: called with each line that its commands have said, before this returns.

    Raises:
        OSError: no process could be started.
        WorkerDied, WorkerHung: it ended, or did not, before it had answered.
    """
    ours, theirs = socket.socketpair()
    try:
        reading, writing = os.pipe2(os.O_CLOEXEC)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    try:
        with theirs:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-I", "-m", "mover.snapshot", *map(str, (theirs.fileno(), reading, writing))],
                pass_fds=[theirs.fileno(), reading, writing],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C at a terminal is control's to judge
            )
    except BaseException:
        ours.close()
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        answer = await _converse(process, ours, message, said, deadline_s)
        await _see_commands_off(reading)
    except trio.Cancelled:
        await _see_commands_off(reading)
        raise
    finally:
        os.close(reading)
    if isinstance(answer, Exception):
        raise answer
    return answer


async def _converse(
    process: trio.Process,
    connection: socket.socket,
    message: ToWorker,
    said: Callable[[LogLine], None],
    deadline_s: float,
) -> Reply | WorkerDied | WorkerHung:
    forked = ForkedProcess(process.pid)
    worker = Worker("snapshot", forked, trio.socket.from_stdlib_socket(connection))
    waiting = trio.CancelScope(shield=True)

    async def tell() -> None:
        with waiting:
            forked.tell(await process.wait())

    answer: Reply | WorkerDied | WorkerHung
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        nursery.start_soon(worker.serve)
        try:
            try:
                answer = await worker.request(message, deadline_s=deadline_s)
            except (WorkerDied, WorkerHung) as error:
                answer = error
            _pass_on(worker, said)
        finally:
            await worker.stop()
            waiting.cancel()
            nursery.cancel_scope.cancel()  # one that cannot be killed is not waited for
    return answer


def _pass_on(worker: Worker, said: Callable[[LogLine], None]) -> None:
    while True:
        try:
            event = worker.events.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return
        if isinstance(event, LogLine):
            said(event)
        else:
            log.error("unexpected event of a snapshot helper", message=type(event).__name__)


async def _see_commands_off(reading: int) -> None:
    """Wait until nobody can write into the snapshot commands' pipe any more; at once, unless the helper was killed."""
    os.set_blocking(reading, False)
    with trio.CancelScope(shield=True, deadline=trio.current_time() + LEFT_S) as scope:
        while True:
            await trio.lowlevel.wait_readable(reading)
            if not os.read(reading, _CHUNK):
                return
    if scope.cancelled_caught:
        log.error("a snapshot command whose helper was killed goes on", seconds=LEFT_S)
