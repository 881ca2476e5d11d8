"""One command of the configuration: run without a shell, with a deadline, its last words kept.

A command is the leader of a process group of its own. At its deadline, and when control goes, the whole group gets
SIGTERM and a moment later SIGKILL: LVM holds SIGTERM back while a volume stands still, and must not be killed there.
It ends when its first process does: what a command leaves running, such as the holder of a database's lock, stays.
"""

import ctypes
import os
import select
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

KEPT_BYTES: Final = 16 << 10
"""Of what a command says, as a rule; what came before is thrown away."""
LINES_MAX: Final = 10
LINE_CHARACTERS_MAX: Final = 300
GRACE_S: Final = 5.0
"""Between SIGTERM and SIGKILL at a deadline."""
GONE_GRACE_S: Final = 1.0
"""The same where control has gone, or wants no more: it waits two seconds for this process."""
KILLED_S: Final = 5.0
_CHUNK: Final = 64 << 10
_LAST_READS: Final = 16  # more than a pipe holds
_CANNOT_RUN: Final = 127
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PR_SET_PDEATHSIG: Final = 1
_GIVEN_BACK: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)

_libc: Final = ctypes.CDLL(None)


class Stopped(Exception):  # noqa: N818 - named for what happened
    """Control is gone, or wants no more of this."""


class Output(NamedTuple):
    """A pipe that commands write to. ``ours``: the reading end does not block."""

    ours: int
    theirs: int


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        status: its exit status, negative = killed by that signal; None = it cannot be killed, and still runs.
        late: its deadline had come.
        lines: the last ones of what it said.
        whole: nothing before them was thrown away.
    """

    status: int | None
    late: bool
    lines: list[str]
    whole: bool

    def last_words(self) -> list[str]:
        """What is worth a place in a log."""
        return [_printable(line) for line in self.lines[-LINES_MAX:]]

    def failure(self, arguments: Sequence[str], timeout_s: float) -> str:
        """What went wrong, in one line; "" = nothing."""
        program = os.path.basename(arguments[0])
        if self.status is None:
            return f"{program} did not end within {timeout_s:g} s, and cannot be killed"
        if self.late:
            return f"{program} did not end within {timeout_s:g} s"
        if not self.status:
            return ""
        how = f"exit status {self.status}" if self.status > 0 else signal.Signals(-self.status).name
        return f"{program} failed ({how})" + (f": {self.last_words()[-1]}" if self.lines else "")


def environment() -> dict[str, str]:
    """All that a command gets of the server's environment: where programs are found, and a home."""
    kept = {name: os.environ[name] for name in ("HOME",) if name in os.environ}
    path = os.environ.get("PATH") or _DEFAULT_PATH
    # LVM else complains of descriptors that it has not opened itself.
    return {"PATH": path, "LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1", **kept}


def run(
    arguments: Sequence[str],
    timeout_s: float,
    control: int,
    output: Output | None = None,
    *,
    dies_of: int = signal.SIGKILL,
    kept_bytes: int = KEPT_BYTES,
    directory: int | None = None,
) -> Ended:
    """Run one command to its end or its deadline.

    Args:
        control: the socket whose hang-up says that nobody waits any more.
        output: where it writes; None = a pipe of its own.
        dies_of: what the command gets where this process is killed under it.
        kept_bytes: how much of what it says is kept.
        directory: descriptor of the directory that it begins in; None = the root.

    Raises:
        Stopped: control has gone; so has the command.
        OSError: no process could be made.
    """
    own = output is None
    pipe = open_output() if output is None else output
    try:
        return _run(arguments, timeout_s, control, pipe, dies_of, kept_bytes, directory)
    finally:
        if own:
            os.close(pipe.ours)
            os.close(pipe.theirs)


def open_output() -> Output:
    """A pipe for :func:`run`. Raises OSError."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(ours, False)
    return Output(ours, theirs)


def _run(
    arguments: Sequence[str],
    timeout_s: float,
    control: int,
    output: Output,
    dies_of: int,
    kept_bytes: int,
    directory: int | None,
) -> Ended:
    pid = os.fork()
    if pid == 0:
        _become(arguments, output.theirs, dies_of, directory)
    with suppress(OSError):  # it has done it itself, and begun
        os.setpgid(pid, pid)
    watched = _Watched(pid, output.ours, control, kept_bytes)
    try:
        deadline = time.monotonic() + timeout_s
        ended = watched.wait(deadline)
        if ended is False:
            watched.kill(GRACE_S)
    except Stopped:
        watched.kill(GONE_GRACE_S)
        raise
    finally:
        lines = watched.lines()
        status = watched.reap()
    return Ended(status, ended is False, lines, watched.whole)


def _become(arguments: Sequence[str], output: int, dies_of: int, directory: int | None) -> None:
    """In the forked child: become the command, and never return."""
    try:
        os.setpgid(0, 0)
        _libc.prctl(_PR_SET_PDEATHSIG, int(dies_of), 0, 0, 0)
        for number in _GIVEN_BACK:
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        os.chdir("/" if directory is None else directory)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execvpe(arguments[0], [os.fsencode(each) for each in arguments], environment())  # noqa: S606 - no shell on purpose
    except BaseException as error:  # noqa: BLE001 - nothing of this process may go on in the child
        why = error.strerror if isinstance(error, OSError) else str(error)
        os.write(2, os.fsencode(f"{arguments[0]}: {why}\n"))
    finally:
        os._exit(_CANNOT_RUN)


class _Watched:
    """A command that runs."""

    def __init__(self, pid: int, output: int, control: int, kept_bytes: int) -> None:
        self.whole = True
        self._kept_bytes = kept_bytes
        self._pid = pid
        self._output = output
        self._control = control
        self._pidfd = os.pidfd_open(pid)
        self._kept = bytearray()
        self._poller = select.poll()
        self._poller.register(self._pidfd, select.POLLIN)
        self._poller.register(output, select.POLLIN)
        self._poller.register(control, 0)  # the hang-up alone

    def wait(self, deadline: float) -> bool:
        """Until it has ended, and throw away most of what it says; False = the deadline came first.

        Raises:
            Stopped: control has gone.
        """
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            ready = dict(self._poller.poll(left * 1000))
            if self._output in ready:
                self._read()
            if self._control in ready:
                self._poller.unregister(self._control)
                raise Stopped
            if self._pidfd in ready:
                return True

    def _read(self) -> bool:
        """One piece of what it says; False = there is nothing now."""
        try:
            data = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return False
        self._kept += data
        if len(self._kept) > self._kept_bytes:
            del self._kept[: -self._kept_bytes]
            self.whole = False
        return bool(data)

    def kill(self, grace_s: float) -> None:
        """End the whole group; one that cannot be killed is left behind."""
        for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILLED_S)):
            with suppress(ProcessLookupError):
                os.killpg(self._pid, number)
            with suppress(Stopped):
                self.wait(time.monotonic() + patience_s)
        # Not reaped yet, so the number is still this group's.

    def lines(self) -> list[str]:
        """The end of what it said."""
        for _ in range(_LAST_READS):  # a process that it left behind may go on for ever
            if not self._read():
                break
        text = self._kept.decode("utf-8", "backslashreplace")
        return [line for line in text.splitlines() if line.strip()]

    def reap(self) -> int | None:
        """Its exit status; None = it still runs."""
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        finally:
            os.close(self._pidfd)
        return os.waitstatus_to_exitcode(status) if pid else None


def _printable(line: str) -> str:
    shown = "".join(char if char.isprintable() else " " for char in line).strip()
    return shown if len(shown) <= LINE_CHARACTERS_MAX else shown[:LINE_CHARACTERS_MAX] + "..."
