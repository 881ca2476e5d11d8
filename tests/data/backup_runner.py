"""Runs a backup in this process or in a real data worker, with the test as control and as consumer of the rings."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from mover.data import backup
from mover.ring import Consumer, DataGauge, Kind, RingClosed, RingControl, Verdict
from mover.ring.layout import GAUGES
from mover.workers.channel import Channel, Unpacker, pack, rights
from mover.workers.data_messages import BackupDate, DataFinished, HistoryPlan, Place, StartBackup
from mover.workers.messages import Done, FromWorker, LogLine, Refused, from_worker_decoder

DEADLINE_S = 60
FILESYSTEM = b"/export/data"
CLOCK_REALTIME_COARSE = 5  # linux/time.h; what times of change are taken from


class Outcome(NamedTuple):
    """What came of one backup."""

    messages: list[FromWorker]
    stream: bytes
    end: int | None  # Kind of the in-band end
    posts: list[tuple[int, bytes]]
    gauges: dict[DataGauge, int]
    all_gauges: list[int]

    @property
    def finished(self) -> DataFinished:
        last = self.messages[-1]
        assert isinstance(last, DataFinished), last
        return last

    @property
    def refused(self) -> Refused:
        (only,) = self.messages
        assert isinstance(only, Refused), only
        return only

    def lines(self, *log_types: int) -> list[str]:
        return [
            line.text.decode("utf-8", "replace")
            for line in self.messages
            if isinstance(line, LogLine) and line.log_type in (log_types or range(4))
        ]


class Reader(threading.Thread):
    """Drains a ring from a thread."""

    def __init__(self, ring: RingControl) -> None:
        super().__init__(daemon=True)
        self.entries: list[tuple[int, bytes]] = []
        self.end: int | None = None
        self._consumer = Consumer(ring.duplicate())

    def run(self) -> None:
        with self._consumer as consumer, contextlib.suppress(RingClosed):
            while True:
                view, kind = consumer.peek()
                if kind in {Kind.END, Kind.FAILED}:
                    self.end = kind
                    return
                self.entries.append((kind, bytes(view)))
                view.release()
                consumer.release()


class _Rings:
    """The rings of one backup and their readers."""

    def __init__(self, slot_bytes: int, slots: int, history: HistoryPlan | None, history_slot_bytes: int) -> None:
        self.data = RingControl(slot_bytes, slots)
        self.history = RingControl(history_slot_bytes, 4) if history is not None else None
        self.readers = [Reader(ring) for ring in self.all]

    @property
    def all(self) -> list[RingControl]:
        return [self.data] + ([self.history] if self.history is not None else [])

    def outcome(self, messages: list[FromWorker]) -> Outcome:
        """Ends the readers that have not met an in-band end and gathers what came."""
        if isinstance(messages[-1], DataFinished) and messages[-1].reason in {1, 3}:
            self.readers[0].join(DEADLINE_S)
            assert self.readers[0].end == (Kind.END if messages[-1].reason == 1 else Kind.FAILED)
        gauges = {gauge: self.data.gauge("producer", gauge) for gauge in DataGauge}
        everything = [self.data.gauge("producer", index) for index in range(GAUGES)]
        if self.history is not None:
            statistics = self.history.statistics()
            while statistics.entries_in != statistics.entries_out:  # the reader is on its way
                self.readers[1].join(0.01)
                statistics = self.history.statistics()
        for ring in self.all:
            ring.conclude(Verdict.BROKEN)
        for reader in self.readers:
            reader.join(DEADLINE_S)
            assert not reader.is_alive()
        for ring in self.all:
            ring.close()
        stream = b"".join(entry for _, entry in self.readers[0].entries)
        posts = self.readers[1].entries if self.history is not None else []
        return Outcome(messages, stream, self.readers[0].end, posts, gauges, everything)


class _Channel:
    """Stands for the control socket of a backup in this process."""

    def __init__(self, descriptors: list[int]) -> None:
        self.messages: list[FromWorker] = []
        self._descriptors = descriptors

    def send(self, message: FromWorker) -> None:
        self.messages.append(message)

    @staticmethod
    def fileno() -> int:
        """What a copy of this process closes: its standard error, which is of no use to it."""
        return 2

    def take_descriptors(self, count: int) -> list[int]:
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        assert len(taken) == count
        return taken


def request(
    root: os.PathLike[str] | str,
    *,
    path: bytes = b"",
    env: Sequence[tuple[bytes, bytes]] = (),
    history: HistoryPlan | None = None,
    butype: str = "dump",
    host: str = "files1",
    level: int = 0,
    base: BackupDate | None = None,
    keeps_table: bool = False,
    date: int | None = None,
    warnings: Sequence[str] = (),
) -> StartBackup:
    """Args: date: None = now."""
    place = Place(os.fsencode(root), path)
    when = int(time.clock_gettime(CLOCK_REALTIME_COARSE)) if date is None else date
    return StartBackup(
        butype, place, FILESYSTEM, list(env), history, host, when, level, base, keeps_table, list(warnings)
    )


def backup_here(
    message: StartBackup,
    *,
    slot_bytes: int = 1 << 20,
    slots: int = 4,
    history_slot_bytes: int = 1 << 16,
    files: Sequence[int] = (),
) -> Outcome:
    """The backup in this process and thread, so that a test can reach into it.

    Args:
        files: descriptors of the tables that the message speaks of; they stay the caller's.
    """
    rings = _Rings(slot_bytes, slots, message.history, history_slot_bytes)
    channel = _Channel([*(fd for ring in rings.all for fd in ring.duplicate()), *map(os.dup, files)])
    for reader in rings.readers:
        reader.start()
    backup.start(cast("Channel", channel), message)  # only these two methods are used
    return rings.outcome(channel.messages[1:] if isinstance(channel.messages[0], Done) else channel.messages)


class Worker:
    """A real data worker and control's end of its socket."""

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self.process = process
        self.socket = sock
        self._unpacker = Unpacker()

    def send(self, message: StartBackup, descriptors: list[int]) -> None:
        data = pack(message)
        sent = self.socket.sendmsg([data], rights(descriptors))
        self.socket.sendall(data[sent:])

    def receive(self) -> FromWorker:
        while True:
            body = self._unpacker.next_body()
            if body is not None:
                message: FromWorker = from_worker_decoder.decode(body)
                return message
            data = self.socket.recv(65536)
            assert data, "the worker is gone"
            self._unpacker.feed(data)


@contextlib.contextmanager
def worker() -> Iterator[Worker]:
    """A data worker; it must leave in good order when its socket closes."""
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    command = [sys.executable, "-I", "-m", "mover.data", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    try:
        yield Worker(process, ours)
    finally:
        ours.close()
        try:
            process.wait(DEADLINE_S)
        finally:
            process.kill()
            process.wait()


def backup_in_worker(message: StartBackup, *, slot_bytes: int = 1 << 20, slots: int = 4) -> Outcome:
    """The backup in a process of its own, as control would run it."""
    rings = _Rings(slot_bytes, slots, message.history, 1 << 16)
    messages: list[FromWorker] = []
    with worker() as data_worker:
        data_worker.send(message, [fd for ring in rings.all for fd in ring.fds])
        reply = data_worker.receive()
        assert isinstance(reply, Done), reply
        for reader in rings.readers:
            reader.start()
        while not (messages and isinstance(messages[-1], DataFinished)):
            messages.append(data_worker.receive())
    return rings.outcome(messages)
