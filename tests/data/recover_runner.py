"""Runs a recover in a real data worker, with the test as control and as producer of the ring."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mover.data.recover import start
from mover.data.tree_writer import DESCRIPTORS_MAX
from mover.ring import Consumer, Kind, Producer, RingClosed, RingControl, Verdict
from mover.ring.layout import GAUGES
from mover.workers.channel import Channel, Unpacker, pack, rights
from mover.workers.data_messages import (
    DataFinished,
    FileRecovered,
    HistoryPlan,
    Pairs,
    PhaseEntered,
    Place,
    RecoverName,
    StartRecover,
    StartRecoverFilehist,
    WantData,
)
from mover.workers.messages import FromWorker, LogLine, Refused, from_worker_decoder

DEADLINE_S = 60
# The worker's own frame around the recover; rights are dropped behind the imports, because the interpreter may lie
# where only root can read.
_WORKER = """
import os, sys
from mover.data import recover, tree_writer
from mover.data.rights import need
from mover.workers.frame import run
tree_writer.DESCRIPTORS_MAX = int(sys.argv[3])
if sys.argv[2] != "-":
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
sys.exit(run("data", ["worker", sys.argv[1]], recover.start, need))
"""
ALL_ONES = 2**64 - 1


class Outcome(NamedTuple):
    """What a worker said of one recover."""

    finished: DataFinished
    status: dict[bytes, int]
    lines: list[tuple[int, bytes]]
    wanted: list[WantData]
    stderr: bytes
    posts: list[tuple[int, bytes]]  # of the history ring
    gauges: Sequence[int] = ()  # of the worker, at its end

    def text(self) -> bytes:
        return b"\n".join(line for _, line in self.lines)


class WasRefused(Exception):  # noqa: N818 - an answer
    """The worker refused; error and text."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.text)
        self.refused = refused


def name(
    target: os.PathLike[str] | str, original: bytes = b"", *, below: bytes = b"", reported: bytes | None = None
) -> RecoverName:
    """An entry of the recover list: ``original`` goes to ``below`` in the volume ``target``."""
    place = Place(os.fsencode(target), below)
    reported = original if reported is None else reported
    return RecoverName(original=original, target=place, reported=reported, node=ALL_ONES, fh_info=ALL_ONES)


def cut(stream: bytes, lengths: int | Sequence[int], slot_bytes: int) -> Iterable[bytes]:
    """The stream in pieces of the lengths given, again and again."""
    repeated = [lengths] if isinstance(lengths, int) else list(lengths)
    at = turn = 0
    while at < len(stream):
        length = min(repeated[turn % len(repeated)], slot_bytes)
        yield stream[at : at + length]
        at += length
        turn += 1


def _produce(
    ring: RingControl, pieces: Iterable[bytes], end: Kind | Verdict | None, *, read_along: bool = True
) -> None:
    with Producer(ring.duplicate()) as producer:
        try:
            for piece in pieces:
                producer.reserve()[: len(piece)] = piece
                producer.commit(len(piece))
            if isinstance(end, Kind):
                if end is Kind.FAILED and read_along:
                    producer.drain()  # as a mover does that cannot read on
                producer.finish(end)
        except RingClosed:
            return
    if isinstance(end, Verdict):
        ring.conclude(end)


def _drain(ring: RingControl, posts: list[tuple[int, bytes]]) -> None:
    with Consumer(ring.duplicate()) as consumer:
        while True:
            try:
                view, kind = consumer.peek()
            except RingClosed:
                return
            if kind < 0x100:
                view.release()
                return
            posts.append((kind, bytes(view)))
            view.release()
            consumer.release()


class _Control:
    """Control's end of the control socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unpacker = Unpacker()

    def receive(self) -> FromWorker | None:
        while True:
            body = self._unpacker.next_body()
            if body is not None:
                message: FromWorker = from_worker_decoder.decode(body)
                return message
            data = self._socket.recv(65536)
            if not data:
                return None
            self._unpacker.feed(data)


def recover(
    stream: bytes,
    names: list[RecoverName],
    *,
    end: Kind | Verdict | None = Kind.END,
    recursive: bool = True,
    lengths: int | Sequence[int] = 64 * 1024,
    slot_bytes: int = 64 * 1024,
    slots: int = 8,
    user: int | None = None,
    filehist: HistoryPlan | None = None,
    butype: str = "dump",
    ended: threading.Event | None = None,
    directories_open: int = DESCRIPTORS_MAX,
    env: Pairs | None = None,
    tables: Sequence[int] = (),
    first: str = "",
) -> Outcome:
    """Recover ``names`` from ``stream``.

    Args:
        first: what the worker's process runs before anything else.
        user: run the worker as this user and group.
        ended: set when the control socket has ended.
        directories_open: how many the worker may keep open.
        tables: open files for the names of the destination.

    Raises:
        WasRefused: the worker answered with Refused.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    ring = RingControl(slot_bytes, slots)
    history = RingControl(64 * 1024, 4, "history") if filehist is not None else None
    arguments = [str(theirs.fileno()), "-" if user is None else str(user), str(directories_open)]
    worker = subprocess.Popen(
        [sys.executable, "-I", "-c", first + _WORKER, *arguments],
        pass_fds=[theirs.fileno()],
        stderr=subprocess.PIPE,
    )
    theirs.close()
    posts: list[tuple[int, bytes]] = []
    threads = [threading.Thread(target=_produce, args=(ring, cut(stream, lengths, slot_bytes), end), daemon=True)]
    if history is not None:
        threads.append(threading.Thread(target=_drain, args=(history, posts), daemon=True))
    request: StartRecover | StartRecoverFilehist
    descriptors = list(ring.fds)
    if filehist is None:
        request = StartRecover(butype=butype, names=names, env=env or [], recursive=recursive, tables=len(tables))
        descriptors += tables
    else:
        assert history is not None
        request = StartRecoverFilehist(butype=butype, env=env or [], history=filehist)
        descriptors += history.fds
    finished: DataFinished | None = None
    status: dict[bytes, int] = {}
    lines: list[tuple[int, bytes]] = []
    wanted: list[WantData] = []
    try:
        data = pack(request)
        sent = ours.sendmsg([data], rights(descriptors))
        ours.sendall(data[sent:])
        control = _Control(ours)
        reply = control.receive()
        if isinstance(reply, Refused):
            raise WasRefused(reply)
        assert type(reply).__name__ == "Done", reply
        for thread in threads:
            thread.start()
        while finished is None:
            match control.receive():
                case LogLine(log_type, text):
                    lines.append((log_type, text))
                case FileRecovered(reported, value):
                    assert reported not in status or isinstance(value, int)
                    status[reported] = value
                case WantData() as message:
                    wanted.append(message)
                case DataFinished() as message:
                    finished = message
                case PhaseEntered():
                    continue
                case other:
                    raise AssertionError(other)
    finally:
        ours.close()
        if ended is not None:
            ended.set()
        if history is not None:
            history.conclude(Verdict.CLOSED) if finished is None else None
        _, stderr = worker.communicate(timeout=DEADLINE_S)
        ring.conclude(Verdict.BROKEN)
        if history is not None and finished is not None:
            with Producer(history.duplicate()) as producer:
                producer.finish(Kind.END)  # behind the worker's last post
        for thread in threads:
            if thread.ident is not None:
                thread.join(DEADLINE_S)
                assert not thread.is_alive()
        ring.close()
        if history is not None:
            history.close()
    return Outcome(finished, status, lines, wanted, stderr, posts, _gauges(ring))


def _gauges(ring: RingControl) -> list[int]:
    return [ring.gauge("consumer", index) for index in range(GAUGES)]


class _Here(Channel):
    """A channel that ends in a list."""

    def __init__(self, fds: list[int]) -> None:
        self.messages: list[FromWorker] = []
        self._fds = fds

    def fileno(self) -> int:
        return -1  # no second writer is forked off the tests' process

    def send(self, message: FromWorker) -> None:
        self.messages.append(message)

    def take_descriptors(self, count: int) -> list[int]:
        taken, self._fds = self._fds[:count], self._fds[count:]
        return taken


def recover_here(
    stream: bytes,
    names: list[RecoverName],
    *,
    end: Kind = Kind.END,
    env: Pairs | None = None,
    tables: Sequence[int] = (),
    butype: str = "dump",
    recursive: bool = True,
    lengths: Sequence[int] = (),
) -> Outcome:
    """As ``recover``, but within this process and from a ring that holds the whole stream: for many small cases.

    Args:
        lengths: of the pieces in which the stream comes, again and again; () = it is one.
        tables: open files for the names of the destination, of which the worker gets copies.
    """
    pieces = list(cut(stream, lengths or [len(stream)], len(stream)))
    ring = RingControl(max(map(len, pieces), default=1), len(pieces) + 2)
    channel = _Here([*ring.duplicate(), *map(os.dup, tables)])
    umask = os.umask(0)
    try:
        _produce(ring, pieces, end, read_along=False)
        message = StartRecover(butype=butype, names=names, env=env or [], recursive=recursive, tables=len(tables))
        start(channel, message)
    finally:
        os.umask(umask)
        ring.close()
    messages = channel.messages
    (finished,) = [message for message in messages if isinstance(message, DataFinished)]
    return Outcome(
        finished,
        {message.name: message.status for message in messages if isinstance(message, FileRecovered)},
        [(message.log_type, message.text) for message in messages if isinstance(message, LogLine)],
        [message for message in messages if isinstance(message, WantData)],
        b"",
        [],
        _gauges(ring),
    )


__all__ = ["Outcome", "WasRefused", "cut", "name", "recover", "recover_here"]
