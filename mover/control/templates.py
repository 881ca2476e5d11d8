"""Templates seen from control: one process of each kind that forks workers, and the workers' processes it reaps.

A worker's process is not our child, so its end is seen at a pidfd and its exit status comes from the template. A pidfd
names one process for ever; a pid that the template has reaped may be another's.
"""

import errno
import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from typing import Final

import structlog
import trio

from mover.workers.channel import rights
from mover.workers.template import EXITED, FAILED, FORKED, RECORD, SPARE, WANTED

GRACE_S: Final = 2.0
FORK_S: Final = 10.0  # a fork takes a millisecond or two
STATUS_S: Final = 1.0  # how long the template may take to tell the status of a process that has ended

log = structlog.get_logger()


class ForkedProcess:
    """A worker's process.

    Attributes:
        exit_status: None while it runs, or when its template died before it could tell; negative = that signal.
        cpu_seconds: that it has used, told with its exit status; 0 before.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exit_status: int | None = None
        self.cpu_seconds = 0.0
        self._told = trio.Event()
        self._waited = False
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._pidfd = -1  # it has ended, and its status is on its way

    @property
    def ended(self) -> bool:
        if self._waited or self._pidfd < 0:
            return True
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(0))

    def tell(self, status: int | None, cpu_seconds: float = 0.0) -> None:
        """The template's word."""
        self.exit_status, self.cpu_seconds = status, cpu_seconds
        self._told.set()

    async def wait(self) -> None:
        """Until it has ended and, as far as that can be known, its status is known."""
        if self._waited:
            return
        if self._pidfd >= 0:
            await trio.lowlevel.wait_readable(self._pidfd)
        with trio.move_on_after(STATUS_S):
            await self._told.wait()
        self.give_up()

    def give_up(self) -> None:
        """Watch it no longer, whether it has ended or not."""
        if not self._waited and self._pidfd >= 0:
            os.close(self._pidfd)
        self._waited = True

    def kill(self) -> None:
        """SIGKILL."""
        if not self._waited and self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


class Template:
    """One template process; started on the first fork, started again when it died."""

    def __init__(self, kind: str, nursery: trio.Nursery) -> None:
        self.kind = kind
        self._nursery = nursery
        self._forking = trio.Lock()
        self._socket: trio.socket.SocketType | None = None
        self._process: trio.Process | None = None
        self._waiting: deque[trio.MemorySendChannel[ForkedProcess | OSError]] = deque()
        self._running: dict[int, ForkedProcess] = {}

    @property
    def pid(self) -> int | None:
        """Of the process; None = there is none now."""
        return self._process.pid if self._process is not None and self._socket is not None else None

    async def fork(self, worker_socket: socket.socket, *, spare: bool) -> ForkedProcess:
        """A new worker whose control socket is ``worker_socket``; the caller closes its own copy.

        Args:
            spare: nobody waits for it yet.

        Raises:
            OSError: no process could be made.
        """
        async with self._forking:
            if self._socket is None:
                await self._start()
            assert self._socket is not None
            sender, receiver = trio.open_memory_channel[ForkedProcess | OSError](1)
            self._waiting.append(sender)
            # Once asked for, the process is taken in whatever happens to the caller.
            with trio.CancelScope(shield=True):
                try:
                    await self._socket.sendmsg([SPARE if spare else WANTED], rights([worker_socket.fileno()]))
                except OSError:
                    if sender in self._waiting:  # not asked: no answer is this one's
                        self._waiting.remove(sender)
                    raise
                try:
                    with trio.fail_after(FORK_S):
                        answer = await receiver.receive()
                except trio.EndOfChannel:
                    raise OSError(errno.ECHILD, f"the {self.kind} template died") from None
                except trio.TooSlowError:
                    # Another one takes its place. Its workers go on: each leaves by its own control socket.
                    assert self._process is not None
                    self._process.kill()
                    raise OSError(
                        errno.ETIMEDOUT,
                        f"the {self.kind} template (pid {self._process.pid}) did not fork in {FORK_S:g} s",
                    ) from None
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def start(self) -> None:
        """Make it warm before anybody needs it. Raises OSError."""
        async with self._forking:
            if self._socket is None:
                await self._start()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await trio.lowlevel.open_process(
                    [sys.executable, "-I", "-m", f"mover.{self.kind}", "--template", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
        self._process = process
        self._socket = trio.socket.from_stdlib_socket(ours)
        self._nursery.start_soon(self._own, process, self._socket)

    def close(self) -> None:
        """Let the template go; its task ends with it."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    async def _own(self, process: trio.Process, connection: trio.socket.SocketType) -> None:
        """Read what the template says until it is gone. Shielded: it must outlive the workers it reaps."""
        with trio.CancelScope(shield=True):
            try:
                await self._read(connection)
            except OSError as error:
                log.warning("template conversation broken", kind=self.kind, error=str(error))
            # All at once: from here on a successor may be started, and what is noted then is the successor's.
            self._socket = None
            connection.close()
            for sender in self._waiting:
                sender.close()
            self._waiting.clear()
            for worker in self._running.values():
                worker.tell(None)
            self._running.clear()
            with trio.move_on_after(GRACE_S):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            if process.returncode != 0:
                log.warning("template ended", kind=self.kind, pid=process.pid, exit=process.returncode)

    def _take_in(self, pid: int) -> ForkedProcess | OSError:
        try:
            process = self._running[pid] = ForkedProcess(pid)
        except OSError as error:
            return error  # no descriptor to watch it by; it leaves when its control socket is closed
        return process

    async def _read(self, connection: trio.socket.SocketType) -> None:
        buffer = b""
        while data := await connection.recv(4096):
            buffer += data
            while len(buffer) >= RECORD.size:
                kind, pid, status, cpu_seconds = RECORD.unpack_from(buffer)
                buffer = buffer[RECORD.size :]
                if kind == FORKED:
                    self._waiting.popleft().send_nowait(self._take_in(pid))
                elif kind == FAILED:
                    self._waiting.popleft().send_nowait(OSError(status, os.strerror(status)))
                elif kind == EXITED and (ended := self._running.pop(pid, None)) is not None:
                    ended.tell(status, cpu_seconds)
