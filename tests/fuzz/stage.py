"""The stage of the connection targets: where scripts are played, one after the other, with what they share.

What carries nothing from one script to the next is made once; the connection, its node, the devices and every worker
are made anew for each.
"""

import functools
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, Final, NoReturn, TypeVar, cast
from unittest.mock import patch

import structlog
import trio
from trio._core import _run
from trio.testing import MockClock

from mover.config import Config, load_config
from mover.control import connection as control_connection
from mover.control import data_ports, inventory, protocol_log, scopes
from mover.control.node import Node
from mover.control.volumes import Volumes
from mover.control.workers import Supervisor
from tests.fuzz import fakes
from tests.fuzz.choices import DRIVE, LIBRARY, OTHER_DRIVE, PASSWORD, USER, VOLUME
from tests.fuzz.connection import Player, traits_of
from tests.fuzz.library import SHELF, devices
from tests.fuzz.model import Broken
from tests.fuzz.script import DEBUGGED

OWN_FAULTS: Final = {
    "post not sent",
    "unexpected event of a relay",
    "unexpected event of a tape worker",
    "unexpected event of a data worker",
}
"""What is logged only where the server itself is wrong, beside exceptions."""
CONFIG: Final = f"""
[node]
name = "fuzzed"
state_directory = "STATE"
admin_socket = "STATE/admin"
authtype = ["challenge", "plaintext", "none"]
[node.volumes]
v = "{VOLUME.decode()}"
[limits]
ring = "128KiB"
idle_timeout_s = 180
authentication_timeout_s = 40
record_size_max = "64KiB"
[data_connections]
allow = ["127.0.0.0/8"]
port_range = "all"
[[lif]]
name = "only"
address = "127.0.0.1"
port = 0
[[user]]
name = "{USER.decode()}"
password = "{PASSWORD.decode()}"
[[library]]
name = "{LIBRARY.decode()}"
directory = "STATE/tapes"
drives = 1
slots = 3
import_export = 1
[[drive]]
name = "{DRIVE.decode()}"
device = "virtual:STATE/d0.tap"
[[drive]]
name = "{OTHER_DRIVE.decode()}"
device = "virtual:STATE/d1.tap"
"""
PLAYED_MAX: Final = 16
"""Scripts on one connection."""
T = TypeVar("T")
Judge = Callable[[bytes, Exception | None], None]


class Stage:
    """Where scripts are played, in one run of trio with a clock of its own.

    In a session (see ``version``) a connection that is as new after a script is kept for the next one.

    Args:
        version: every script's, opened and logged in; None = each script says.
        nursery: of the connections.

    Attributes:
        scene: of the script that is being played.
    """

    scene: ClassVar[fakes.Scene] = fakes.Scene()

    def __init__(self, directory: Path, version: int | None, nursery: trio.Nursery) -> None:
        (directory / "tapes").mkdir(exist_ok=True)
        path = directory / "mover.toml"
        path.touch(mode=0o600)
        text = CONFIG.replace("STATE", str(directory))
        path.write_text(text)
        self._config: Config = load_config(str(path))
        path.write_text(text.replace("[node]", "[node]\ndebug_enable = true"))
        self._debugging: Config = load_config(str(path))
        self._logs = directory / protocol_log.DIRECTORY
        self._version = version
        self._nursery = nursery
        self._devices = devices(self._config)
        self._untouched = traits_of(self._devices)
        self._player: Player | None = None
        self._played = 0  # by this player
        self._descriptors = _descriptors()
        trio.socket.set_custom_socket_factory(fakes.Sockets(lambda: Stage.scene))

    async def play(self, script: bytes, judge: Judge) -> None:
        """Play one script, and tell how it went: of a failure that took several, the script of all of them."""
        failure: Exception | None = None
        _run._r.seed(zlib.crc32(script))
        player = self._player or self.make(
            debugged=self._version is None and bool(script) and bool(script[0] & DEBUGGED)
        )
        try:
            if not self._played and self._version is not None:
                await player.begin()
            await player.play(script)
            self._played += 1
            if self._version is None or self._played == PLAYED_MAX or not await player.is_as_new():
                await self.close()
        except Exception as error:  # noqa: BLE001 - whatever escapes is the find
            failure = error
            await player.cut_off()
            script = script if self._version is None else player.history
            self._player = None
        judge(script, failure)

    def make(self, *, debugged: bool) -> Player:
        """A player whose connection is served; whoever does not play it here sees it off."""
        scene = Stage.scene = fakes.Scene()
        supervisor = cast("Supervisor", fakes.Supervisor(scene))
        if not self._untouched.unchanged():
            self._devices = devices(self._config)
            self._untouched = traits_of(self._devices)
        config = self._debugging if debugged else self._config
        player = self._player = Player(Node(config, supervisor, self._devices), scene, self._version)
        self._played = 0
        self._nursery.start_soon(player.serve)
        return player

    async def finish(self, judge: Judge) -> None:
        """No more scripts: see the last connection off; only a failure is told."""
        player = self._player
        try:
            await self.close()
        except Exception as failure:  # noqa: BLE001 - as in play
            if player is not None:
                await player.cut_off()
                judge(player.history, failure)

    async def close(self) -> None:
        """See the connection off that there is.

        Raises:
            Exception: something is left behind.
        """
        player, self._player = self._player, None
        if player is None:
            return
        await player.see_off()
        shutil.rmtree(self._logs, ignore_errors=True)
        before, self._descriptors = self._descriptors, _descriptors()
        if self._descriptors > before:
            raise Broken(f"{self._descriptors - before} descriptors more than before")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _errors_are_finds(_logger: object, _method: str, event: MutableMapping[str, Any]) -> NoReturn:
    # The world may fail, and that is logged too; an exception that nobody expected may not.
    if event.get("exc_info") or event["event"] in OWN_FAULTS:
        raise Broken(f"logged: {event}")
    raise structlog.DropEvent


async def _in_place(work: Callable[..., T], *arguments: object, **_: object) -> T:
    return work(*arguments)


def _is_half_open(address: str, port: int) -> bool:
    return Stage.scene.half_open(address, port)


class VirtualTime:
    """The time module of a connection."""

    monotonic = staticmethod(trio.current_time)


@functools.cache
def _volumes(directories: tuple[tuple[str, str], ...]) -> Volumes:
    return Volumes(dict(directories))


@contextmanager
def quiet_world() -> Iterator[Path]:
    """A directory for stages. What the server logs as an error is a find, and threads do their work in place.

    A thread would not be seen by the virtual clock, which jumps when nothing runs.
    """
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR), processors=[_errors_are_finds]
    )
    try:
        with (
            patch.object(trio.to_thread, "run_sync", _in_place),
            patch.object(control_connection, "time", VirtualTime),
            patch.object(data_ports, "is_half_open", _is_half_open),
            patch.object(inventory, "barcodes_in", SHELF.barcodes_in),
            patch.object(inventory, "move_file", SHELF.move_file),
            patch.object(inventory, "make_file", SHELF.make_file),
            patch.object(scopes, "Volumes", lambda directories, *_: _volumes(tuple(directories.items()))),
            # trio shuffles what can run: with this door, made for hypothesis, and a seed, a script plays the same again
            patch.object(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
            tempfile.TemporaryDirectory(prefix="mover-fuzz-") as name,
        ):
            yield Path(name)
    finally:
        structlog.configure(**before)


async def play_all(directory: Path, version: int | None, scripts: Iterable[bytes], judge: Judge) -> None:
    """Play scripts as they come, and tell how each went; for `trio.run` with a MockClock that jumps at once."""
    async with trio.open_nursery() as nursery:
        stage = Stage(directory, version, nursery)
        for script in scripts:
            await stage.play(script, judge)
        await stage.finish(judge)


class Turns:
    """A stage that plays a script when it is called with it, inside ``quiet_world``.

    trio is the guest of a loop that turns only while a script is played: a fuzzer calls, and cannot be called.
    """

    def __init__(self, directory: Path, version: int | None, judge: Judge) -> None:
        self._script: bytes | None = None
        self._playing = False
        self._judge = judge
        self._soon: SimpleQueue[Callable[[], object]] = SimpleQueue()
        trio.lowlevel.start_guest_run(
            self._play,
            directory,
            version,
            run_sync_soon_threadsafe=self._soon.put,
            done_callback=lambda outcome: outcome.unwrap(),  # it plays for ever: this raises
            clock=MockClock(autojump_threshold=0),
        )

    def __call__(self, script: bytes) -> None:
        self._script, self._playing = script, True
        while self._playing:
            self._soon.get()()

    async def _play(self, directory: Path, version: int | None) -> None:
        async with trio.open_nursery() as nursery:
            stage = Stage(directory, version, nursery)
            while True:
                while (script := self._script) is None:
                    await trio.lowlevel.checkpoint()
                self._script = None
                await stage.play(script, self._judge)
                self._playing = False
