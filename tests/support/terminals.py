"""A command on a real terminal: tmux, with a server of its own that ends with the test."""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

DEADLINE_S: Final = 60.0
_SIZES: Final = {"COLUMNS", "LINES"}  # of another terminal, where pytest runs in several processes


class Terminal:
    """A window of tmux with one command in it; the last line says how it ended.

    Args:
        environment: set for the command; None = taken away.
    """

    def __init__(
        self, command: Sequence[str], columns: int, lines: int, environment: Mapping[str, str | None] | None = None
    ) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="mover-tmux-"))  # a socket's path is to be short
        changed = ["-u" + name if value is None else f"{name}={value}" for name, value in (environment or {}).items()]
        changed.sort(key=lambda each: not each.startswith("-u"))
        started = shlex.join(["env", *changed, *command])
        self._tmux(
            "-f", "/dev/null", "-u", "new-session", "-d", "-x", str(columns), "-y", str(lines),
            f"{started}; echo ended with $?; exec cat",
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print("--- the terminal", self.screen(), sep="\n")
        server = psutil.Process(int(self._tmux("display-message", "-p", "#{pid}")))
        family = [server, *server.children(recursive=True)]
        self._tmux("kill-server")
        _, alive = psutil.wait_procs(family, timeout=DEADLINE_S)
        assert alive == []
        shutil.rmtree(self._directory)

    def _tmux(self, *arguments: str) -> str:
        kept = {name: value for name, value in os.environ.items() if name not in _SIZES}
        result = subprocess.run(
            ["tmux", "-S", str(self._directory / "socket"), *arguments],
            capture_output=True, text=True, timeout=DEADLINE_S, check=True,
            env={**kept, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        return result.stdout

    def screen(self, *, attributes: bool = False) -> str:
        """What is to be seen; with the escape sequences of colours and the like, if asked for."""
        return self._tmux("capture-pane", "-p", *(["-e"] if attributes else []))

    def press(self, *keys: str) -> None:
        """Keys by tmux's names, or single letters."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, lines: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def wait_for(self, text: str | Callable[[str], bool]) -> str:
        """Until the screen says so; returns it."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            screen = self.screen()
            if text(screen) if callable(text) else text in screen:
                return screen
            assert time.monotonic() < deadline, f"not on the screen in {DEADLINE_S:g} s: {text}\n{screen}"
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """To the command."""
        shell = psutil.Process(int(self._tmux("display-message", "-p", "#{pane_pid}")))
        (command,) = shell.children()
        command.send_signal(number)
