"""Stand-ins for what lies beyond the control process: the DMA's socket, data connections and worker processes.

The workers here say only what real ones may say at that moment; when, and how a request ends, is the script's choice.
"""

import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import Final, Literal, Self

import trio

from mover.control.workers import WorkerDied, WorkerHung
from mover.ndmp.enums import MoverMode
from mover.ring import Consumer, DataGauge, Producer, RingClosed, RingFds
from mover.ring import Kind as RingKind
from mover.ring.layout import W_CONSUMER, ConsumerWord, DataPhase
from mover.workers.data_messages import (
    DataFinished,
    FileRecovered,
    PhaseEntered,
    StartBackup,
    StartRecover,
    StartRecoverFilehist,
    WantData,
)
from mover.workers.messages import Done, Event, LogLine, Refused, Reply, ToWorker
from mover.workers.relay_messages import AttachConnection, ConnectionLost, RelayFinished, StartRelay
from mover.workers.tape_messages import (
    DriveOpened,
    DriveState,
    GetDriveState,
    GetTapePosition,
    LocateTape,
    MotionDone,
    MoverHalted,
    MoverPaused,
    MoverPosition,
    MoveTape,
    OpenDrive,
    ReadRecord,
    RecordDone,
    StartMover,
    StopMover,
    TapePosition,
    WriteRecord,
)

WorkerKind = Literal["data", "tape", "relay"]
TCP_INFO_BYTES: Final = 104
UNACKED, LAST_ACK_MS = 24, 56
"""Where struct tcp_info has them."""
RING_FDS: Final = 3
LINES_MAX: Final = 300
"""That a data worker says at once."""
SLOW_S: Final = 5.0
SUCCESSFUL: Final = 1
"""A data worker's reason: all is well."""


class Mood(IntEnum):
    """How the next request to a worker ends."""

    FINE = 0
    REFUSED = 1
    DIED = 2
    HUNG = 3
    SLOW = 4  # fine, after a while
    NO_PROCESS = 5  # there is no worker to be had
    SILENT = 6  # no answer, until the caller's patience ends


class Scene:
    """What the script has arranged, and everything that the fakes have made.

    Attributes:
        moods: of the next requests to workers, in order, each with a number (the error of a refusal).
        peers_answer: whether outgoing data connections succeed.
        stirred: something has been arranged that stays.
    """

    def __init__(self) -> None:
        self.moods: deque[tuple[Mood, int]] = deque()
        self.peers_answer = True
        self.stirred = False
        self.workers: list[Worker] = []
        self.listeners: list[DataSocket] = []
        self.ports = 20_000

    def clear(self) -> None:
        """As in the beginning, where nothing is at work."""
        self.moods.clear()
        self.peers_answer = True
        self.workers = [worker for worker in self.workers if worker.alive]
        self.listeners.clear()

    def half_open(self, address: str, port: int) -> bool:
        """Whether somebody's handshake with a listener has begun and not ended: for the kernel's answer."""
        return any(each.half_open for each in self.listeners if each.getsockname() == (address, port))

    def mood(self) -> tuple[Mood, int]:
        return self.moods.popleft() if self.moods else (Mood.FINE, 0)

    def alive(self, kind: WorkerKind) -> "Worker | None":
        """The youngest worker of a kind that is at work."""
        for worker in reversed(self.workers):
            if worker.kind == kind and worker.alive:
                return worker
        return None


class ControlSocket:
    """The part of the control connection's socket that is asked for.

    Attributes:
        info: what the kernel tells of the peer (struct tcp_info).
    """

    def __init__(self) -> None:
        self.info = bytes(TCP_INFO_BYTES)

    def vanish(self) -> None:
        """The peer has not acknowledged anything for a long time."""
        info = bytearray(TCP_INFO_BYTES)
        struct.pack_into("=I", info, UNACKED, 1)
        struct.pack_into("=I", info, LAST_ACK_MS, 1 << 30)
        self.info = bytes(info)

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 10_000

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 40_000

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Nothing to set."""

    def getsockopt(self, level: int, option: int, length: int = 0) -> bytes:
        return self.info


class ControlStream:
    """The DMA's side of the control connection, fed by the script.

    Attributes:
        sent: every whole send of the server.
        reading: whether the DMA takes what is sent.
    """

    def __init__(self) -> None:
        self.socket = ControlSocket()
        self.sent: list[bytes] = []
        self.reading = True
        self._incoming = bytearray()
        self._ended = False
        self._reset = False
        self._changed = trio.Event()

    @property
    def waiting(self) -> int:
        """Bytes of the DMA that the server has not taken yet."""
        return len(self._incoming)

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def push(self, data: bytes) -> None:
        """The DMA sends; nothing after its end."""
        if not self._ended:
            self._incoming += data
            self._change()

    def end(self) -> None:
        """The DMA closes in order."""
        self._ended = True
        self._change()

    def reset(self) -> None:
        """The connection breaks."""
        self._reset = True
        self._change()

    def read_on(self, reading: bool) -> None:
        """The DMA stops reading, or goes on."""
        self.reading = reading
        self._change()

    async def arrival(self) -> None:
        if self._incoming or self._ended or self._reset:
            await trio.lowlevel.checkpoint()
        while not (self._incoming or self._ended or self._reset):
            await self._changed.wait()

    def receive_now(self, limit: int) -> bytes | None:
        if self._incoming:
            data = bytes(self._incoming[:limit])
            del self._incoming[:limit]
            return data
        if self._reset:
            raise trio.BrokenResourceError
        return b"" if self._ended else None

    def send_now(self, data: bytes | memoryview) -> int:
        if self._reset:
            raise trio.BrokenResourceError
        if not self.reading:
            return 0
        self.sent.append(bytes(data))
        return len(data)

    async def send_all(self, data: bytes | memoryview) -> None:
        while not self.send_now(data):
            await self._changed.wait()

    def close(self) -> None:
        self.reset()


class DataSocket(trio.socket.SocketType):
    """A socket of a data connection, or a listener for one.

    Attributes:
        half_open: somebody takes himself for connected who is not here yet.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._name = ("127.0.0.1", 0)
        self._peer = ("127.0.0.1", 1)
        self._broken = False
        self.half_open = False

    async def bind(self, address: object) -> None:
        await trio.lowlevel.checkpoint()
        self._scene.ports += 1
        self._name = ("127.0.0.1", self._scene.ports)

    def listen(self, backlog: int = 0) -> None:
        self._scene.listeners.append(self)

    def arrive(self, address: str) -> None:
        """Somebody connects."""
        if self._fd >= 0:
            self._peer = (address, 50_000)
            self.half_open = False
            os.eventfd_write(self._fd, 1)

    def fail(self) -> None:
        """The next to connect finds no descriptor left."""
        self._broken = True

    async def accept(self) -> tuple[trio.socket.SocketType, object]:
        await trio.lowlevel.wait_readable(self._fd)
        os.eventfd_read(self._fd)
        if self._broken:
            raise OSError(24, os.strerror(24))
        return DataSocket(self._scene), self._peer

    async def connect(self, address: object) -> None:
        await trio.lowlevel.checkpoint()
        if not self._scene.peers_answer:
            raise ConnectionRefusedError(111, "Connection refused")

    def getsockname(self) -> tuple[str, int]:
        return self._name

    def getpeername(self) -> tuple[str, int]:
        return self._peer

    def setsockopt(self, level: int, optname: int, value: object, optlen: int | None = None) -> None:
        """Nothing to set."""

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Sockets(trio.abc.SocketFactory):
    """Gives out data connection sockets that lead nowhere."""

    def __init__(self, scene: Callable[[], Scene]) -> None:
        self._scene = scene

    def socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0
    ) -> trio.socket.SocketType:
        return DataSocket(self._scene())


class Worker:
    """A worker process, as control sees it."""

    def __init__(self, kind: WorkerKind, pid: int, scene: Scene) -> None:
        self.kind = kind
        self.pid = pid
        self.started = 0.0
        self.exit_status: int | None = None
        self.gone = self.ended = trio.Event()
        self._scene = scene
        self._sender, self.events = trio.open_memory_channel[Event](1024)
        self._descriptors: list[int] = []
        self._work: ToWorker | None = None  # what was started and has not ended
        self._asking = trio.Lock()

    @property
    def alive(self) -> bool:
        return not self.gone.is_set()

    async def request(self, message: ToWorker, descriptors: Sequence[int] = (), *, deadline_s: float) -> Reply:
        async with self._asking:
            return await self._request(message, descriptors, deadline_s)

    async def _request(self, message: ToWorker, descriptors: Sequence[int], deadline_s: float) -> Reply:
        await trio.lowlevel.checkpoint()
        mood, number = self._scene.mood()
        if mood is Mood.SLOW:
            await trio.sleep(SLOW_S)
        if mood is Mood.DIED:
            self.die(-9)
        if mood is Mood.SILENT:
            with trio.move_on_after(deadline_s):
                await self.gone.wait()
        if self.gone.is_set():
            raise WorkerDied(self.kind, self.pid, self.exit_status)
        if mood in {Mood.HUNG, Mood.SILENT}:
            raise WorkerHung(self.kind, self.pid, type(message).__name__, deadline_s)
        if mood is Mood.REFUSED and not isinstance(
            message, (GetDriveState, GetTapePosition, LocateTape, MoveTape, WriteRecord, ReadRecord)
        ):
            return Refused(number % 24 or 1, "refused by the script")
        return self._answer(message, descriptors, number if mood is Mood.REFUSED else 0)

    def _answer(self, message: ToWorker, descriptors: Sequence[int], error: int) -> Reply:
        error %= 24
        text = "failed by the script" if error else ""
        match message:
            case OpenDrive():
                return DriveOpened(write_protected=False, warning="a torn record" if self.pid % 2 else "")
            case GetDriveState():
                known = None if self.pid % 2 else 7
                return DriveState(3, known, known, 0, 0, known, known)
            case GetTapePosition():
                return TapePosition(None if self.pid % 2 else 7)
            case LocateTape():
                return MotionDone(error, self.pid % 2, text)
            case MoveTape(count=count):
                return MotionDone(error, count if error else 0, text)
            case WriteRecord(length=length):
                return RecordDone(error, 0 if error else length, text)
            case ReadRecord(count=count):
                return RecordDone(error, 0 if error else count, text)
            case StartMover() | StartBackup() | StartRecover() | StartRecoverFilehist() | StartRelay():
                self._descriptors += [os.dup(fd) for fd in descriptors]
                self._work = message
            case AttachConnection():
                self._work = message
            case _:
                pass
        return Done()

    async def tell(self, message: ToWorker, descriptors: Sequence[int] = ()) -> None:
        await trio.lowlevel.checkpoint()
        if self.gone.is_set():
            raise WorkerDied(self.kind, self.pid, self.exit_status)
        mood, _ = self._scene.mood() if isinstance(self._work, StartMover) else (Mood.FINE, 0)
        if isinstance(message, StopMover) and isinstance(self._work, StartMover) and mood is not Mood.HUNG:
            self._say(MoverHalted(message.reason, MoverPosition(), ""))
            self._work = None

    def _say(self, event: Event) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.WouldBlock):
            self._sender.send_nowait(event)

    def speak(self, kind: int, number: int, text: bytes) -> None:
        """Say one of the things that a worker may say now."""
        match self._work:
            case StartMover():
                self._speak_of_moving(kind, number, text)
            case StartBackup() | StartRecover() | StartRecoverFilehist() as work:
                self._speak_of_data(work, kind, number, text)
            case AttachConnection(watch=True):
                self._work = None
                self._say(ConnectionLost(text.decode("utf-8", "replace")))
            case StartRelay() if kind & 4:
                self._say(LogLine(number % 4, text))
            case StartRelay(direction=direction):
                self._work = None
                if direction == "receive":
                    self._end_stream(RingKind.END if kind & 1 else RingKind.FAILED)
                self._say(RelayFinished(bool(kind & 1), bool(kind & 2), text.decode("utf-8", "replace"), number))
            case _:
                if self.kind != "data":
                    self._say(LogLine(number % 4, text))

    def _speak_of_moving(self, kind: int, number: int, text: bytes) -> None:
        position = MoverPosition(bytes_moved=number & 0xFFFF_FFFF, record_num=kind)
        words = text.decode("utf-8", "replace")
        match kind % 4:
            case 0:
                self._say(MoverPaused(number % 7, 512, position, words))
                self._leave()
            case 1:
                self._say(MoverHalted(number % 7, position, words))
                self._leave()
            case 3 if isinstance(self._work, StartMover) and self._work.mode == MoverMode.WRITE:
                self._fill()
            case _:
                self._say(LogLine(number % 4, text))

    def _speak_of_data(
        self, work: StartBackup | StartRecover | StartRecoverFilehist, kind: int, number: int, text: bytes
    ) -> None:
        match kind % 7:
            case 0:
                if isinstance(work, StartBackup):
                    self._end_stream(RingKind.FAILED if number % 6 != SUCCESSFUL else RingKind.END)
                self._say(DataFinished(number % 6, text.decode("utf-8", "replace"), 1, 2, 0, 3, 4, 5, [(b"X", text)]))
                self._work = None
            case 1 if not isinstance(work, StartBackup):
                self._say(WantData(number & 0xFFFF_FFFF, 512))
            case 2 if isinstance(work, StartRecover):
                self._say(FileRecovered(text, number % 12))
            case 3 if not isinstance(work, StartRecover) and work.history is not None:
                self._tell_history((0x700 if work.history.version < 3 else 0x703) + number % 3)
            case 4:
                self._publish(work, number)
            case 6 if isinstance(work, StartBackup):
                self._say(PhaseEntered(number % len(DataPhase)))
            case 6:
                self._want_input()
            case _:
                for _ in range(min(max(number, 1), LINES_MAX)):
                    self._say(LogLine(number % 4, text))

    def _fds(self, which: int) -> RingFds:
        return RingFds(*[os.dup(fd) for fd in self._descriptors[which * RING_FDS : (which + 1) * RING_FDS]])

    def _end_stream(self, kind: RingKind) -> None:
        """The end in band, where there is room for it."""
        producer = Producer(self._fds(0))
        try:
            if producer.try_reserve() is not None:
                producer.commit(0, kind)
        except RingClosed:
            return
        finally:
            producer.detach()

    def _tell_history(self, code: int) -> None:
        """One empty post of file history."""
        producer = Producer(self._fds(1))
        try:
            slot = producer.try_reserve()
            if slot is not None:
                slot[:4] = bytes(4)
                producer.commit(4, code)
        except RingClosed:
            return
        finally:
            producer.detach()

    def _want_input(self) -> None:
        """Wait for more of the stream than there is."""
        consumer = Consumer(self._fds(0))
        consumer._words[W_CONSUMER + ConsumerWord.WAITING_SINCE_NS] = 1
        consumer.close()

    def _fill(self) -> None:
        """Put as much into the ring as it holds."""
        producer = Producer(self._fds(0))
        try:
            while producer.try_reserve() is not None:
                producer.commit(0, RingKind.DATA)
        except RingClosed:
            return
        finally:
            producer.detach()

    def _publish(self, work: ToWorker, number: int) -> None:
        """The gauges that GET_STATE shows."""
        side = Producer(self._fds(0)) if isinstance(work, StartBackup) else Consumer(self._fds(0))
        side.gauges[DataGauge.STREAM_BYTES] = number & 0xFFFF
        side.gauges[DataGauge.TOTAL_BYTES] = number & 0xFFFF_FFFF
        side.close()

    def _leave(self) -> None:
        self._work = None
        for fd in self._descriptors:
            os.close(fd)
        self._descriptors.clear()

    def die(self, status: int) -> None:
        """The process is gone."""
        if self.gone.is_set():
            return
        self._leave()
        self.exit_status = status
        self.gone.set()
        self._sender.close()

    def kill(self) -> None:
        self.die(-9)

    async def stop(self) -> None:
        self.events.close()
        self.die(0)
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()


class Supervisor:
    """Gives out fake workers."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def look_after(self, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        trio.lowlevel.spawn_system_task(task, *arguments)

    async def take(self, kind: WorkerKind) -> Worker:
        await trio.lowlevel.checkpoint()
        moods = self._scene.moods
        if moods and moods[0][0] is Mood.NO_PROCESS:
            moods.popleft()
            raise OSError(11, "no process could be started")
        worker = Worker(kind, 1000 + len(self._scene.workers), self._scene)
        self._scene.workers.append(worker)
        return worker
