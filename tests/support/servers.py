"""Runs `mover serve` as an operator would: a configuration file, the ready line, SIGTERM.

Blocking, and shared by the end-to-end tests and the scripts. Every process is known by its pid; stopping a server
also ends workers that did not leave by themselves, and says so.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec
import psutil

from mover.admin.client import AdminClient
from mover.admin.tapes import TapeLoad

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0


class ServerError(Exception):
    """A server did not start, or left something behind; one line for people."""


class ReadyLif(msgspec.Struct, frozen=True):
    """A listener of the ready line."""

    name: str
    address: str
    port: int
    secure_port: int | None


class Ready(msgspec.Struct, frozen=True):
    """The ready line."""

    ready: bool
    pid: int
    lifs: list[ReadyLif]
    admin_socket: str
    metrics: str | None


class Login(NamedTuple):
    """A user of the configuration and of the DMA."""

    user: str
    password: str


def mover_command() -> list[str]:
    """The `mover` of the environment that runs us."""
    return [str(Path(sys.executable).parent / "mover")]


SLOTS: Final = 8
"""Of a library, at the least: as many as the configuration has where it says nothing."""


def write_config(
    directory: Path,
    login: Login,
    *,
    volumes: Mapping[str, Path] | None = None,
    drives: int = 0,
    cartridge_size: str = "100GiB",
    early_warning: str = "16MiB",
    authtype: Sequence[str] = ("challenge", "plaintext"),
    address: str = "127.0.0.1",
    metrics: str = "",
    node: str = "",
    data_connections: str = "",
    extra: str = "",
) -> Path:
    """Writes a configuration on loopback with any free port, everything it keeps below `directory`.

    Args:
        volumes: name -> directory.
        drives: drives of the virtual library vtl0; 0 = no library.
        address: of the only LIF.
        metrics: address and port; "" = off.
        node: TOML to append to the section of that name.
        data_connections: TOML to append to the section of that name.
        extra: TOML to append.

    Raises:
        ServerError: a path cannot be written in TOML, which is UTF-8.
    """
    (directory / "state").mkdir(parents=True, exist_ok=True)
    lines = [
        "[node]",
        f"name = {_toml(directory.name)}",
        f"state_directory = {_toml(directory / 'state')}",
        f"admin_socket = {_toml(directory / 'admin.sock')}",
        f"authtype = [{', '.join(_toml(kind) for kind in authtype)}]",
        "grace_s = 2",
        f"metrics = {_toml(metrics)}",
        node,
        "[node.volumes]",
        *(f"{_toml(name)} = {_toml(path)}" for name, path in (volumes or {}).items()),
        "[data_connections]",
        'port_range = "all"',
        data_connections,
        "[[lif]]",
        'name = "only"',
        f"address = {_toml(address)}",
        "port = 0",
        "[[user]]",
        f"name = {_toml(login.user)}",
        f"password = {_toml(login.password)}",
    ]
    if drives:
        (directory / "tapes").mkdir(exist_ok=True)
        lines += [
            "[[library]]",
            'name = "vtl0"',
            f"directory = {_toml(directory / 'tapes')}",
            f"drives = {drives}",
            f"slots = {max(SLOTS, drives)}",  # the home of a cartridge in a drive stays its own
            f"cartridge_size = {_toml(cartridge_size)}",
            f"early_warning = {_toml(early_warning)}",
        ]
    path = directory / "mover.toml"
    path.touch(mode=0o600)  # it holds a password
    path.write_text("\n".join([*lines, extra, ""]))
    return path


def _toml(value: str | Path) -> str:
    """A TOML basic string; JSON's escapes are among TOML's, its surrogates are not."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise ServerError(f"{value!s:.200}: a path that is not UTF-8 cannot stand in a configuration") from None
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


class Server:
    """A running `mover serve`; a context manager that stops it.

    Attributes:
        config, log: its configuration file and its log.
        ready: its ready line.

    Args:
        prefix: a command that runs the server, for example in another network namespace.
    """

    def __init__(self, config: Path, *, timeout_s: float = READY_TIMEOUT_S, prefix: Sequence[str] = ()) -> None:
        self.config = config
        self.log = config.with_name("server.log")
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*prefix, *mover_command(), "serve", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C on a terminal is for whoever runs us, who then stops it
            )
        self._seen: set[psutil.Process] = set()
        try:
            self.ready = msgspec.json.decode(self._first_line(timeout_s), type=Ready)
        except BaseException:
            with contextlib.suppress(ServerError):  # why it did not start is the better message
                self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The control process."""
        return self._process.pid

    @property
    def address(self) -> str:
        """HOST:PORT of its first LIF."""
        lif = self.ready.lifs[0]
        return f"{lif.address}:{lif.port}"

    def processes(self) -> list[psutil.Process]:
        """The control process and its workers, as far as they are running now."""
        try:
            control = psutil.Process(self.pid)
            found = [control, *control.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
        self._seen.update(found)
        return found

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM, and wait for the control process and every worker to be gone.

        Raises:
            ServerError: it had to be killed, or its exit status was not 0.
        """
        if self._process.stdout is None or self._process.stdout.closed:
            return
        self._process.stdout.close()
        self.processes()
        started = self._process.poll() is None
        if started:
            self._process.send_signal(signal.SIGTERM)
        wrong = []
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            wrong.append("the control process did not end")
            self._process.kill()
            self._process.wait()
        workers = [process for process in self._seen if process.pid != self.pid]
        _, alive = psutil.wait_procs(workers, timeout=3)
        for process in alive:
            wrong.append(f"worker {process.pid} did not leave")
            process.kill()
        if started and self._process.returncode != 0 and not wrong:
            wrong.append(f"mover serve ended with status {self._process.returncode}")
        if wrong:
            raise ServerError(f"{'; '.join(wrong)} (see {self.log})")

    def reap_killed(self) -> None:
        """Wait for a control process that the test itself has killed; stop has nothing left to do then."""
        self._process.wait(STOP_TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def command(self, *arguments: str) -> list[str]:
        """A command line of `mover` that talks to this server's admin socket."""
        return [*mover_command(), *arguments, "--admin-socket", self.ready.admin_socket]

    def load(self, drive: str, barcode: str | None = None) -> None:
        """What `mover tape load` asks for, without the third of a second that a process of its own takes to start."""
        with AdminClient(self.ready.admin_socket) as client:
            client.ask(TapeLoad(drive, barcode))

    def ask(self, *arguments: str, statuses: tuple[int, ...] = (0,)) -> dict[str, object]:
        """Runs an operator's command with --json and returns its document.

        Args:
            statuses: that it may end with.

        Raises:
            ServerError: it failed.
        """
        result = subprocess.run(
            [*self.command(*arguments), "--json"], capture_output=True, text=True, timeout=60, check=False
        )
        if result.returncode not in statuses:
            raise ServerError(f"mover {' '.join(arguments)}: {result.stderr.strip() or result.returncode}")
        return msgspec.json.decode(result.stdout, type=dict[str, object])

    def _first_line(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise ServerError(f"mover serve was not ready within {timeout_s:g} s (see {self.log})")
                piece = os.read(self._process.stdout.fileno(), 65536)
                if not piece:
                    raise ServerError(f"mover serve did not start: {self._last_words()}")
                line += piece
        return line

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="backslashreplace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self._process.wait()}"
