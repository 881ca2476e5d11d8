"""The connection targets: one control connection with the server's real code behind it, driven by a script of bytes.

In the target ``connection`` the script's first byte picks version and login; in ``session1`` to ``session4`` every
script is short and has the version opened and a login. Then each step is a request (any body), broken bytes, something
that a worker or a data connection's peer does, or time that passes. What must hold whatever the script does is checked
while it runs and at its end: every request has one reply, in order; every message decodes in its version; a halt is
posted once; nothing that the server logs as an error; it ends, and then holds nothing.
"""

import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, cast

import msgspec
import trio
from trio.testing import wait_all_tasks_blocked

from mover.config.debug_filter import INTERFACES
from mover.control.cartridges import InventoryError
from mover.control.connection import Connection
from mover.control.control_stream import ControlStream
from mover.control.drives import Devices
from mover.control.handlers.data import ENV_BYTES_MAX
from mover.control.node import Node
from mover.control.recover_names import NAMES_IN_A_ROW
from mover.control.status import session_status
from mover.control.store import Location
from mover.control.version_1.tape import TRANSFER_BYTES_MAX
from mover.ndmp import edge, xdr
from mover.ndmp import messages as m
from mover.ndmp.auth import md5_digest
from mover.ndmp.dialogue import DialogueLog
from mover.ndmp.enums import HIGHEST_VERSION, DataState, MessageCode, MoverState, TapeMode
from mover.ndmp.server import ORDINARY_BYTES_MAX
from mover.ndmp.table import TABLE, VERSIONS
from mover.ndmp.xdr_types import STRING_MAX
from tests.fuzz import fakes
from tests.fuzz.choices import DRIVE, LIBRARY, OTHER_DRIVE, PASSWORD, USER, Choices, build
from tests.fuzz.model import Broken, Dialogue
from tests.fuzz.script import ENV, OCCUPIED, REQUEST, Op, ask, canned, requests_of, wire_type

STEPS_MAX: Final = 50
SESSION_STEPS_MAX: Final = 6
"""From one SETTLE to the next."""
CANNED_MAX: Final = 2
END_S: Final = 5000.0
"""Virtual seconds after which a connection that should have ended hangs: past every deadline of the server."""
HALF_OPEN: Final = 4
FAILS: Final = 8
OUTSIDER: Final = 3
"""How somebody connects: not yet, in vain, from where nobody may."""
OTHER_SESSION: Final = 1 << 20
PLAIN: Final = (int, float, str, bytes, type(None), tuple, msgspec.Struct)
RUNNING: Final = {"session_id", "started", "_last_request", "_begun", "_answered", "_sequence"}
"""What goes on also in a connection where nothing happens."""
LASTING: Final = {"record_size", "record_size_set", "window_offset", "window_length", "_close_asked", "_close_failed"}
"""What a DMA sets once for many jobs, or nobody looks at before it is set again."""


class Traits:
    """What one can see of objects: their plain attributes, and how much their containers hold, as they are now."""

    def __init__(self, *parts: object) -> None:
        seen = [(part, name, getattr(part, name)) for part in parts for name in _names(part)]
        told = [each for each in seen if each[1] not in RUNNING and each[1] not in LASTING]
        self._values = [each for each in told if isinstance(each[2], PLAIN)]
        self._lengths = [
            (value, len(value)) for _, _, value in told if isinstance(value, (list, dict, set, deque, bytearray))
        ]

    def forget_changed(self) -> None:
        """What has changed by now, though nothing has happened, is a count of something."""
        self._values = [each for each in self._values if getattr(each[0], each[1]) == each[2]]

    def unchanged(self) -> bool:
        """Whether all that is still so."""
        return all(getattr(part, name) == value for part, name, value in self._values) and all(
            len(container) == length for container, length in self._lengths
        )


def _names(part: object) -> Iterable[str]:
    return part.__struct_fields__ if isinstance(part, msgspec.Struct) else vars(part)


def traits_of(devices: Devices) -> Traits:
    """Of the devices: which cartridge is where, and who has what."""
    (inventory,) = devices.libraries.values()
    return Traits(*inventory.cartridges.values(), *devices, *devices.changers.values())


class Player:
    """A connection, and scripts played on it.

    Args:
        version: of a session: it is opened, the user logged in. None = the first byte of the script says.

    Attributes:
        history: a script that does all that was done so far.
    """

    def __init__(self, node: Node, scene: fakes.Scene, version: int | None) -> None:
        self._choices = Choices(b"")
        self._version = version
        self._dialogue = Dialogue()
        self._scene = scene
        self._stream = fakes.ControlStream()
        self._pending = b""
        self._pipelining = version is not None
        self._heard = 0
        self._cans = CANNED_MAX
        self._node = node
        self._connection = Connection(node, cast("ControlStream", self._stream))
        self._serving = trio.CancelScope()
        self._served = trio.Event()
        self._failure: Exception | None = None
        self._log: DialogueLog | None = None
        self._untouched: list[Traits] = []
        self.history = b""

    @property
    def sent(self) -> list[bytes]:
        """Every message of the server."""
        return self._stream.sent

    async def serve(self) -> None:
        """Run the connection to its end; a task that lives from script to script."""
        try:
            with self._serving:
                await self._connection.run()
        except Exception as failure:  # noqa: BLE001 - for whoever plays
            self._failure = failure
        finally:
            self._served.set()

    async def begin(self) -> None:
        """Open the version and log in."""
        assert self._version is not None
        self._open(self._version, login=True)
        await self._settle()
        found = self._connection
        services = (found.scsi, found.tape, found.mover, found.data)
        machines = (found.machines.data, found.machines.mover)
        self._untouched = [
            traits_of(self._node.devices),
            Traits(found, found.protocol, found.protocol.extensions, found.outbox, *services, *machines),
        ]
        self._ask(*edge.encode_body(self._version, m.DataGetStateRequest()))
        await self._settle()
        for traits in self._untouched:
            traits.forget_changed()

    async def play(self, script: bytes) -> None:
        """Run a script.

        Raises:
            Exception: something that must hold did not, or the server failed.
        """
        choices = self._choices = Choices(script)
        if self._version is None:
            first = choices.byte()
            login = first >> 5
            if first & OCCUPIED:
                self._occupy()
            if login < 7:
                self._open(HIGHEST_VERSION - first % len(VERSIONS), login=login < 6)
        try:
            await self._run_steps()
        finally:
            self.history += (bytes([Op.SETTLE]) if self.history else b"") + choices.taken
        if self._failure is not None:
            raise self._failure

    async def _run_steps(self) -> None:
        choices = self._choices
        steps_max = STEPS_MAX if self._version is None else SESSION_STEPS_MAX
        left = steps_max
        while not choices.ended and left and not self._connection.gone.is_set():
            left = steps_max if choices.next_is(Op.SETTLE) else left - 1
            await self._step()
        await self._settle()

    async def see_off(self) -> None:
        """Have every request answered, and the connection end.

        Raises:
            Exception: it does not, or something is left behind.
        """
        self._stream.read_on(True)
        if self._dialogue.exact and not self._dialogue.closed:
            await self._all_answered()
        self._stream.end()
        with trio.move_on_after(END_S):
            await self._served.wait()
        if self._failure is not None:
            raise self._failure
        if not self._served.is_set():
            raise Broken("the connection does not end")
        self._listen()
        if self._log is not None:
            self._log.close("the end", trio.current_time())
        self._leaves_nothing()

    async def cut_off(self) -> None:
        """Something is wrong: no more of it."""
        self._serving.cancel()
        await self._served.wait()

    async def is_as_new(self) -> bool:
        """Whether, once the DMA has ended what it began, nothing is left of it: another script may have it all."""
        if self._is_spent():
            return False
        ending = b"".join(self._ending())
        if ending:
            await self.play(ending)
            if self._is_spent():
                return False
        self._scene.clear()
        self._connection.tape.mode = TapeMode.READ  # of no drive
        return all(traits.unchanged() for traits in self._untouched)

    def _is_spent(self) -> bool:
        dialogue = self._dialogue
        usual = dialogue.exact and not dialogue.closed and not dialogue.asked and self._stream.reading
        return not usual or self._scene.stirred or self._connection.gone.is_set()

    def _ending(self) -> Iterator[bytes]:
        version = self._dialogue.version
        found = self._connection
        if found.machines.data.state is not DataState.IDLE:
            yield ask(version, m.DataAbortRequest()) + ask(version, m.DataStopRequest())
        if version > 1 and found.machines.mover.state is not MoverState.IDLE:
            yield ask(version, m.MoverAbortRequest()) + ask(version, m.MoverStopRequest())
        if found.tape.is_open:
            yield ask(version, m.TapeCloseRequest())
        if found.scsi.is_open:
            yield ask(version, m.ScsiCloseRequest())

    def _occupy(self) -> None:
        devices = self._node.devices
        for device in (devices.find(OTHER_DRIVE.decode()), *devices.changers.values()):
            assert device is not None
            device.session_id = OTHER_SESSION

    def _open(self, version: int, *, login: bool) -> None:
        self._ask(MessageCode.CONNECT_OPEN, struct.pack(">I", version))
        self._dialogue.version = version
        if login:
            auth = m.ConnectClientAuthRequest(m.AuthText(USER, PASSWORD))
            self._ask(*edge.encode_body(version, auth))

    def _ask(self, code: int, body: bytes) -> None:
        self._stream.push(self._dialogue.request(code, body))

    async def _step(self) -> None:
        op = self._choices.byte()
        session = self._version is not None
        if op in ACTIONS and not (session and op == Op.CANNED):
            if session and op not in SPOKEN:
                await self._settle()
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
        fixed = self._version is not None or self._connection.protocol.negotiated
        if isinstance(body, m.ConnectOpenRequest) and not fixed:
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
        leased = [bay.name for bay in self._node.devices if bay.session_id not in {None, OTHER_SESSION}]
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
        if self._version is None:  # else it is so anyhow
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
        how = self._choices.byte()
        if not self._scene.listeners:
            return
        listener = self._scene.listeners[-1]
        if how & HALF_OPEN:
            listener.half_open = True
            return
        if how & FAILS:
            listener.fail()
        listener.arrive("192.0.2.1" if how % 4 == OUTSIDER else "127.0.0.1")

    async def peers_fail(self) -> None:
        """Outgoing data connections are refused, or no longer."""
        self._scene.peers_answer = not self._scene.peers_answer

    async def time_passes(self) -> None:
        """Up to the longest wait of a connection that is not closing."""
        self._scene.stirred = True
        await trio.sleep((0.05, 0.2, 1.0, 6.0, 15.0, 70.0)[self._choices.byte() % 6])

    async def stop_reading(self) -> None:
        """The DMA stops reading what it is sent, or goes on."""
        self._stream.read_on(not self._stream.reading)

    async def load(self) -> None:
        """An operator puts the cartridge back into the first drive of its own, or takes it out."""
        bay = self._node.devices.find(DRIVE.decode())
        assert bay is not None
        try:
            await (bay.unload() if bay.path is not None and bay.session_id is None else bay.load(None))
        except InventoryError:
            return  # refused, as it may be

    async def huge(self) -> None:
        """A request of megabytes."""
        version, which = self._dialogue.version, self._choices.byte() % 5
        pairs = (m.Pval(b"X", bytes(STRING_MAX)),) * (ENV_BYTES_MAX // STRING_MAX + 1)
        name = m.RecoverName(b"x", b"/usr")
        address = m.LOCAL if version == 2 else None
        body: m.Body
        match which:
            case 0:
                body = m.DataStartBackupRequest(b"dump", pairs, address)
            case 1:
                body = m.TapeWriteRequest(bytes(TRANSFER_BYTES_MAX + 1))
            case 2:
                body = m.DataStartRecoverRequest(ENV, (name,) * (NAMES_IN_A_ROW + 1), b"dump", address)
            case 3:
                body = m.TapeWriteRequest(bytes(5000))
            case _:
                self._pending += self._dialogue.request(MessageCode.CONFIG_GET_HOST_INFO, bytes(ORDINARY_BYTES_MAX))
                return
        self._pending += self._dialogue.request(*edge.encode_body(version, body))

    async def operator(self) -> None:
        """An operator has a hand in the library."""
        changer = self._node.devices.changers[LIBRARY.decode()]
        (bay,) = changer.bays
        slot, mail = Location("slot", 0), Location("mail", 0)
        hands: tuple[Callable[[], Awaitable[object]], ...] = (
            bay.unload,
            lambda: bay.load(None),
            lambda: changer.operator_moves(slot, mail),
            lambda: changer.operator_moves(mail, slot),
            changer.operator_looks,
        )
        try:
            await hands[self._choices.byte() % len(hands)]()
        except InventoryError:
            return  # refused, as it may be

    async def shut_down(self) -> None:
        """The server goes away."""
        self._scene.stirred = True
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
        self._scene.stirred = True
        self._stream.socket.vanish()

    async def look(self) -> None:
        """An operator looks at the session."""
        session_status(self._connection, {})
        self._connection.is_winding_up()
        if self._connection.services_open:
            self._connection.data.phase()

    async def log(self) -> None:
        """The dialogue is logged from now on."""
        dialogue = DialogueLog(frozenset(INTERFACES), log_bytes_max=8000, rate_bytes=1000, burst_bytes=6000)
        self._log = dialogue
        connection = self._connection

        def received(record: bytes) -> None:
            dialogue.message(connection.version, record, from_client=True, now=trio.current_time())

        def sent(parts: Sequence[bytes | memoryview]) -> None:
            record = b"".join(parts)[4:]
            dialogue.message(connection.version, record, from_client=False, now=trio.current_time())

        connection.protocol.on_record, connection.outbox.on_message = received, sent
        self._scene.stirred = True

    async def hang_up(self) -> None:
        """The DMA closes its side."""
        self._dialogue.closed = True
        await self._settle()
        self._stream.end()


ACTIONS: Final[dict[int, Callable[[Player], Awaitable[None]]]] = {op: getattr(Player, op.name.lower()) for op in Op}
SPOKEN: Final = {Op.RAW_BODY, Op.ANY_NUMBER, Op.RAW_BYTES, Op.PIPELINE}
"""Steps that only send: in a short script they and requests go out together, and everything else waits for answers."""
