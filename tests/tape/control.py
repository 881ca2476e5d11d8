"""Control's end of a tape worker, for tests: a worker in a thread or in a process, asked by blocking calls with a
deadline, and the other side of its rings."""

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from mover.ring import Consumer, Entry, Kind, Producer, RingClosed, RingControl
from mover.tape.codes import ALL_ONES, MoverMode, TapeMode
from mover.tape.worker import TapeWorker
from mover.workers.channel import Channel, ChannelBroken, Unpacker, pack, rights
from mover.workers.messages import Done, FromWorker, ToWorker, from_worker_decoder
from mover.workers.tape_messages import (
    DriveFault,
    DriveOpened,
    DriveSpec,
    MoverHalted,
    MoverPaused,
    MoverPosition,
    OpenDrive,
    ReadRecord,
    RecordDone,
    StartMover,
    WriteRecord,
)
from tests.tape import tap

DEADLINE_S: Final = 20.0
RECORD_BYTES: Final = 1 << 20
BIG: Final = 1 << 40
M = TypeVar("M", bound=FromWorker)


def _serve(channel: Channel) -> None:
    worker = TapeWorker()
    with suppress(ChannelBroken):
        while True:
            worker.handle(channel, channel.receive())
    channel.socket.close()


class Tape:
    """A tape worker and control's end of its socket."""

    def __init__(self, *, process: bool = False) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE_S)
        self.socket = ours
        self.process: subprocess.Popen[bytes] | None = None
        self._unpacker = Unpacker()
        self.memory = os.memfd_create("record")
        os.ftruncate(self.memory, RECORD_BYTES)
        if process:
            fd = theirs.fileno()
            self.process = subprocess.Popen([sys.executable, "-I", "-m", "mover.tape", str(fd)], pass_fds=[fd])
            theirs.close()
        else:
            threading.Thread(target=_serve, args=(Channel(theirs.detach()),), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
        os.close(self.memory)
        if self.process is not None:
            self.process.wait(DEADLINE_S)

    def send(self, message: ToWorker, *descriptors: int) -> None:
        self.socket.sendmsg([pack(message)], rights(list(descriptors)))

    def receive(self, kind: type[M]) -> M:
        """The next message, which must be of this kind."""
        message = self.next()
        assert isinstance(message, kind), message
        return message

    def end(self) -> MoverPaused | MoverHalted:
        """The mover's last word, which comes next."""
        message = self.next()
        assert isinstance(message, MoverPaused | MoverHalted), message
        return message

    def next(self) -> FromWorker:
        """The next message."""
        while (body := self._unpacker.next_body()) is None:
            data = self.socket.recv(65_536)
            assert data, "the worker closed its socket"
            self._unpacker.feed(data)
        message: FromWorker = from_worker_decoder.decode(body)
        return message

    def ask(self, message: ToWorker, kind: type[M], *descriptors: int) -> M:
        self.send(message, *descriptors)
        return self.receive(kind)

    def open(
        self,
        path: Path,
        mode: int = TapeMode.RDWR,
        *,
        capacity: int = BIG,
        early_warning: int = 0,
        implicit_filemark: bool = False,
        faults: tuple[DriveFault, ...] = (),
    ) -> DriveOpened:
        spec = DriveSpec("vtl0/drive0", str(path), capacity, early_warning, faults=faults)
        return self.ask(OpenDrive(spec, mode, implicit_filemark), DriveOpened, self.memory)

    def start(
        self,
        ring: RingControl,
        mode: MoverMode,
        record_size: int,
        *,
        window: tuple[int, int] = (0, ALL_ONES),
        window_is_new: bool = True,
        position: MoverPosition | None = None,
        version: int = 4,
        local: bool = False,
        percents: tuple[int, int] = (0, 0),
    ) -> None:
        message = StartMover(
            mode=mode,
            record_size=record_size,
            window_offset=window[0],
            window_length=window[1],
            window_is_new=window_is_new,
            position=position or MoverPosition(),
            version=version,
            local=local,
            start_percent=percents[0],
            stop_percent=percents[1],
        )
        self.ask(message, Done, *ring.fds)

    def write(self, record: bytes) -> RecordDone:
        os.pwrite(self.memory, record, 0)
        return self.ask(WriteRecord(len(record)), RecordDone)

    def read(self, count: int, *, crosses: bool = False) -> tuple[RecordDone, bytes]:
        done = self.ask(ReadRecord(count, crosses), RecordDone)
        return done, os.pread(self.memory, done.count, 0)


def feed(ring: RingControl, pieces: Iterable[bytes], kind: Kind | None = Kind.END) -> threading.Thread:
    """Put pieces into the ring, a slot each, from a thread; then end the stream (None: leave it open)."""

    def run() -> None:
        with Producer(ring.duplicate()) as producer, suppress(RingClosed):
            for piece in pieces:
                producer.reserve()[: len(piece)] = piece
                producer.commit(len(piece))
            if kind is not None:
                producer.finish(kind)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def peek(consumer: Consumer) -> Entry:
    """The next entry, before the deadline."""
    while (entry := consumer.try_peek()) is None:
        assert select.select([consumer], [], [], DEADLINE_S)[0], "nothing came into the ring"
    return entry


def take(consumer: Consumer, count: int) -> bytes:
    """The next ``count`` bytes out of the ring, which must end with an entry."""
    data = b""
    while len(data) < count:
        view, kind = peek(consumer)
        assert kind == Kind.DATA
        data += view
        view.release()
        consumer.release()
    assert len(data) == count
    return data


def cartridge(directory: Path, name: str = "a.tap") -> Path:
    path = directory / name
    tap.create(path)
    return path
