"""The connection target: one control connection with the server's real code behind it, driven by a script of bytes.

The script's first byte picks version and login; then each step is a request (any body), broken bytes, something that
a worker or a data connection's peer does, or time that passes. What must hold whatever the script does is checked
while it runs and at its end: every request has one reply, in order; every message decodes in its version; a halt is
posted once; nothing that the server logs as an error; it ends, and then holds nothing.
"""

import logging
import os
import struct
import tempfile
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, cast
from unittest.mock import patch

import structlog
import trio
from trio._core import _run
from trio.testing import wait_all_tasks_blocked

from mover.config import Config, load_config
from mover.config.debug_filter import INTERFACES
from mover.control import connection as control_connection
from mover.control import data_ports
from mover.control.cartridges import InventoryError
from mover.control.connection import Connection
from mover.control.control_stream import ControlStream
from mover.control.drives import Devices
from mover.control.node import Node
from mover.control.status import session_status
from mover.control.store import Store
from mover.control.workers import Supervisor
from mover.ndmp import edge, xdr
from mover.ndmp import messages as m
from mover.ndmp.auth import md5_digest
from mover.ndmp.dialogue import DialogueLog
from mover.ndmp.enums import HIGHEST_VERSION, MessageCode
from mover.ndmp.table import TABLE, VERSIONS
from tests.fuzz import fakes
from tests.fuzz.choices import DRIVE, OTHER_DRIVE, PASSWORD, USER, VOLUME, Choices, build
from tests.fuzz.model import Broken, Dialogue
from tests.fuzz.script import REQUEST, Op, canned, requests_of, wire_type

STEPS_MAX: Final = 50
CANNED_MAX: Final = 2
END_S: Final = 5000.0
"""Virtual seconds after which a connection that should have ended hangs: past every deadline of the server."""
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
[[drive]]
name = "{DRIVE.decode()}"
device = "virtual:STATE/d0.tap"
[[drive]]
name = "{OTHER_DRIVE.decode()}"
device = "virtual:STATE/d1.tap"
"""
T = TypeVar("T")


class Player:
    """One script, played."""

    def __init__(self, stage: "Stage", choices: Choices) -> None:
        self._stage = stage
        self._choices = choices
        self._dialogue = Dialogue()
        self._scene = stage.scene = fakes.Scene()
        self._stream = fakes.ControlStream()
        self._pending = b""
        self._pipelining = False
        self._heard = 0
        self._cans = CANNED_MAX
        node = Node(stage.config, cast("Supervisor", fakes.Supervisor(self._scene)), Devices(stage.config, stage.store))
        self._node = node
        self._connection = Connection(node, cast("ControlStream", self._stream))

    @property
    def sent(self) -> list[bytes]:
        """Every message of the server."""
        return self._stream.sent

    async def play(self) -> None:
        """Run the script, then see the connection off."""
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._connection.run)
                self._open()
                steps = 0
                while not self._choices.ended and steps < STEPS_MAX and not self._connection.gone.is_set():
                    steps += 1
                    await self._step()
                await self._settle()
                self._stream.read_on(True)
                if self._dialogue.exact and not self._dialogue.closed:
                    await self._all_answered()
                self._stream.end()
                scope.deadline = trio.current_time() + END_S
        if scope.cancelled_caught:
            raise Broken("the connection does not end")
        self._listen()
        self._leaves_nothing()

    def _open(self) -> None:
        first = self._choices.byte()
        version = HIGHEST_VERSION - first % 4
        version = version if version in VERSIONS else HIGHEST_VERSION
        login = first >> 5
        if login < 7:
            self._ask(MessageCode.CONNECT_OPEN, struct.pack(">I", version))
            self._dialogue.version = version
        if login < 6:
            auth = m.ConnectClientAuthRequest(m.AuthText(USER, PASSWORD))
            self._ask(*edge.encode_body(version, auth))

    def _ask(self, code: int, body: bytes) -> None:
        self._stream.push(self._dialogue.request(code, body))

    async def _step(self) -> None:
        op = self._choices.byte()
        if op in ACTIONS:
            await ACTIONS[op](self)
        else:
            rows = requests_of(self._dialogue.version)
            self._request(rows[(op - REQUEST) % len(rows)].code)
        if not self._pipelining:
            await self._settle()

    async def _settle(self) -> None:
        if self._pending:
            self._stream.push(self._pending)
            self._pending = b""
        await wait_all_tasks_blocked()
        self._listen()

    def _listen(self) -> None:
        sent = self._stream.sent
        while self._heard < len(sent):
            self._dialogue.take(sent[self._heard])
            self._heard += 1

    def _request(self, code: int) -> None:
        version = self._dialogue.version
        body = build(wire_type(version, code), self._choices)
        if isinstance(body, m.ConnectClientAuthRequest) and isinstance(body.auth_data, m.AuthMd5):
            challenge = self._connection.challenge
            if challenge is not None and not any(body.auth_data.auth_digest):  # the right answer to the challenge
                digest = md5_digest(challenge, PASSWORD)
                body = m.ConnectClientAuthRequest(m.AuthMd5(body.auth_data.auth_id, digest))
        if isinstance(body, m.ConnectOpenRequest) and not self._connection.protocol.negotiated:
            self._dialogue.exact = False  # what follows is read in a version that the model does not follow
        self._pending += self._dialogue.request(code, xdr.encode(body))

    async def _all_answered(self) -> None:
        """Whatever is under way ends, and then no request is without its reply."""
        with trio.move_on_after(END_S / 2):
            while self._dialogue.asked and not self._connection.gone.is_set():
                await trio.sleep(fakes.SLOW_S)
                self._listen()
        if self._dialogue.asked and not self._connection.gone.is_set():
            raise Broken(f"no reply to {self._dialogue.asked}")

    def _leaves_nothing(self) -> None:
        left = [worker.kind for worker in self._scene.workers if worker.alive]
        leased = [bay.name for bay in self._node.devices if bay.session_id is not None]
        if left or leased or self._node.connections:
            raise Broken(f"left behind: workers {left}, drives {leased}, connections {len(self._node.connections)}")

    # --- actions: each a byte of the script

    async def canned(self) -> None:
        """A canned beginning."""
        beginnings = canned(self._dialogue.version)
        index = self._choices.byte()
        if self._cans:
            self._cans -= 1
            self._choices.insert(beginnings[index % len(beginnings)])

    async def raw_body(self) -> None:
        """A request whose body is any bytes."""
        rows = requests_of(self._dialogue.version)
        row = rows[self._choices.byte() % len(rows)]
        body = self._choices.take(self._choices.byte())
        if row.code == MessageCode.CONNECT_OPEN:
            self._dialogue.exact = False
        self._pending += self._dialogue.request(row.code, body)

    async def any_number(self) -> None:
        """A request with any message number."""
        code = self._choices.word()
        if (self._dialogue.version, code) not in TABLE:
            self._pending += self._dialogue.request(code, self._choices.take(self._choices.byte()))

    async def raw_bytes(self) -> None:
        """Bytes that are no message, or part of one."""
        self._dialogue.exact = False
        self._pending += self._choices.take(self._choices.byte())

    async def pipeline(self) -> None:
        """From now on requests are sent without waiting for replies, or no longer."""
        self._pipelining = not self._pipelining

    async def settle(self) -> None:
        """Wait until all that can be done is done, also while requests are pipelined."""
        await self._settle()

    async def worker_speaks(self) -> None:
        """A worker says something by itself."""
        kinds: tuple[fakes.WorkerKind, ...] = ("data", "tape", "relay")
        worker = self._scene.alive(kinds[self._choices.byte() % 3])
        kind, number, text = self._choices.byte(), self._choices.integer(), self._choices.string()
        if worker is not None:
            worker.speak(kind, number, text)

    async def worker_dies(self) -> None:
        """A worker process is killed."""
        kinds: tuple[fakes.WorkerKind, ...] = ("data", "tape", "relay")
        worker = self._scene.alive(kinds[self._choices.byte() % 3])
        if worker is not None:
            worker.die(-9)

    async def mood(self) -> None:
        """How a request to a worker will end."""
        self._scene.moods.append((fakes.Mood(self._choices.byte() % len(fakes.Mood)), self._choices.byte()))

    async def peer_connects(self) -> None:
        """Somebody connects to the youngest data connection listener."""
        outside = self._choices.byte() % 4 == 3
        if self._scene.listeners:
            self._scene.listeners[-1].arrive("192.0.2.1" if outside else "127.0.0.1")

    async def peers_fail(self) -> None:
        """Outgoing data connections are refused, or no longer."""
        self._scene.peers_answer = not self._scene.peers_answer

    async def time_passes(self) -> None:
        """Up to the longest wait of a connection that is not closing."""
        await trio.sleep((0.05, 0.2, 1.0, 6.0, 15.0, 70.0)[self._choices.byte() % 6])

    async def stop_reading(self) -> None:
        """The DMA stops reading what it is sent, or goes on."""
        self._stream.read_on(not self._stream.reading)

    async def load(self) -> None:
        """An operator puts the cartridge back into the first drive, or takes it out."""
        bay = next(iter(self._node.devices))
        try:
            await (bay.unload() if bay.path is not None and bay.session_id is None else bay.load(None))
        except InventoryError:
            return  # refused, as it may be

    async def shut_down(self) -> None:
        """The server goes away."""
        await self._connection.shut_down("going away")

    async def end(self) -> None:
        """The connection is ended by the server."""
        self._dialogue.closed = True
        self._connection.end()

    async def reset(self) -> None:
        """The control connection breaks."""
        self._dialogue.closed = True
        self._stream.reset()

    async def vanish(self) -> None:
        """The DMA is gone, and its kernel with it; the server finds out in its own time."""
        self._stream.socket.vanish()

    async def look(self) -> None:
        """An operator looks at the session."""
        session_status(self._connection, {})
        self._connection.is_winding_up()
        if self._connection.services_open:
            self._connection.data.phase()

    async def log(self) -> None:
        """The dialogue is logged from now on."""
        dialogue = DialogueLog(frozenset(INTERFACES), log_bytes_max=30_000, rate_bytes=1000, burst_bytes=2000)
        connection = self._connection

        def received(record: bytes) -> None:
            dialogue.message(connection.version, record, from_client=True, now=trio.current_time())

        def sent(parts: Sequence[bytes | memoryview]) -> None:
            record = b"".join(parts)[4:]
            dialogue.message(connection.version, record, from_client=False, now=trio.current_time())

        connection.protocol.on_record, connection.outbox.on_message = received, sent

    async def hang_up(self) -> None:
        """The DMA closes its side."""
        self._dialogue.closed = True
        await self._settle()
        self._stream.end()


ACTIONS: Final[dict[int, Callable[[Player], Awaitable[None]]]] = {op: getattr(Player, op.name.lower()) for op in Op}


class Stage:
    """Where scripts are played, one after the other, in one run of trio with a clock of its own.

    Attributes:
        scene: of the script that is being played.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "mover.toml"
        path.touch(mode=0o600)
        path.write_text(CONFIG.replace("STATE", str(directory)))
        self.config: Config = load_config(str(path))
        self.store = cast("Store", None)  # a library's; there is none
        self.scene = fakes.Scene()
        self._descriptors = 0  # after the last script
        trio.socket.set_custom_socket_factory(fakes.Sockets(lambda: self.scene))

    async def play(self, script: bytes) -> None:
        """Play one script.

        Raises:
            Broken: something that must hold did not.
        """
        before = self._descriptors or _descriptors()
        try:
            await Player(self, Choices(script)).play()
        finally:
            self._descriptors = _descriptors()
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


class VirtualTime:
    """The time module of a connection."""

    monotonic = staticmethod(trio.current_time)


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
            patch.object(data_ports, "is_half_open", lambda *_: False),  # the ports are not real
            # trio shuffles what can run: with this door, made for hypothesis, and a seed, a script plays the same again
            patch.object(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
            tempfile.TemporaryDirectory(prefix="mover-fuzz-") as name,
        ):
            yield Path(name)
    finally:
        structlog.configure(**before)


async def play_all(directory: Path, scripts: Iterable[bytes], judge: Callable[[bytes, Exception | None], None]) -> None:
    """Play scripts as they come, and tell how each went; for `trio.run` with a MockClock that jumps at once."""
    stage = Stage(directory)
    for script in scripts:
        failure: Exception | None = None
        _run._r.seed(zlib.crc32(script))
        try:
            await stage.play(script)
        except Exception as error:  # noqa: BLE001 - whatever escapes is the find
            failure = error
        judge(script, failure)
