"""Runs a recover by direct access in this process, with a mover that sends the pieces it is asked for."""

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from mover.data.recover import start
from mover.ring import Kind, Producer, RingClosed, RingControl, Verdict
from mover.workers.channel import Channel
from mover.workers.data_messages import DataFinished, FileRecovered, Pairs, Place, RecoverName, StartRecover, WantData
from mover.workers.messages import FromWorker, LogLine, Refused
from tests.data.recover_runner import ALL_ONES, DEADLINE_S, Outcome, WasRefused

Read = Callable[[int, int], bytes]
"""Bytes of a stream: (offset, length); fewer where it ends."""


class _Channel(Channel):
    """A channel that ends in a list, and in the mover for what is wanted of the stream."""

    def __init__(self, fds: list[int], wanted: "queue.SimpleQueue[WantData | None]") -> None:
        self.messages: list[FromWorker] = []
        self._fds = fds
        self._wanted = wanted

    def fileno(self) -> int:
        return -1  # no second writer is forked off the tests' process

    def send(self, message: FromWorker) -> None:
        self.messages.append(message)
        if isinstance(message, WantData):
            self._wanted.put(message)

    def take_descriptors(self, count: int) -> list[int]:
        taken, self._fds = self._fds[:count], self._fds[count:]
        return taken


class _Mover(threading.Thread):
    """Serves one read after the other; two at a time, or one past the end, are what a real mover would not take.

    Attributes:
        wrong: what was asked for and should not have been.
        over: bytes that were asked for beyond the end of the stream.
    """

    def __init__(self, ring: RingControl, read: Read, piece_bytes: int) -> None:
        super().__init__(daemon=True)
        self.wanted: queue.SimpleQueue[WantData | None] = queue.SimpleQueue()
        self.wrong: list[str] = []
        self.over = 0
        self._producer = Producer(ring.duplicate())
        self._read = read
        self._piece_bytes = piece_bytes

    def run(self) -> None:
        with self._producer as producer:
            while (want := self.wanted.get(timeout=DEADLINE_S)) is not None:
                try:
                    if not self._serve(producer, want):
                        producer.finish(Kind.END)  # as a DMA does that has no further tape
                        return
                except RingClosed:
                    return

    def _serve(self, producer: Producer, want: WantData) -> bool:
        at, left = want.offset, want.length
        while left:
            slot = producer.reserve()
            piece = self._read(at, min(left, len(slot), self._piece_bytes))
            if not piece:
                self.over = left if left < 1 << 63 else 0
                return False
            slot[: len(piece)] = piece
            at += len(piece)
            left -= len(piece)
            if not left and not self.wanted.empty():
                self.wrong.append(f"{want} was not served when the next came")
            producer.commit(len(piece))
        return True


def name(
    target: os.PathLike[str] | str, original: bytes, fh_info: int, node: int = ALL_ONES, below: bytes | None = None
) -> RecoverName:
    """An entry of the recover list."""
    place = Place(os.fsencode(target), original if below is None else below)
    return RecoverName(original=original, target=place, reported=original, node=node, fh_info=fh_info)


def make_sources(root: Path, bulk_bytes: int) -> None:
    """Small files with and without attributes, and between them a large one, so that a jump over it is worth it."""
    (root / "a/b").mkdir(parents=True)
    (root / "a/small").write_bytes(b"small")
    (root / "a/b/leaf").write_bytes(b"leaf")
    os.setxattr(root / "a/b/leaf", "user.note", b"n" * 3000)
    os.setxattr(root / "a/b", "user.of", b"a directory")
    (root / "bulk").write_bytes(os.urandom(bulk_bytes))
    (root / "empty").write_bytes(b"")


def recover_direct(
    stream: bytes | Read,
    names: list[RecoverName],
    *,
    env: Pairs | None = None,
    recursive: bool = True,
    directories: bool = True,
    piece_bytes: int = 64 * 1024,
    overshoots: bool = False,
    butype: str = "dump",
) -> Outcome:
    """Recover ``names`` with DIRECT=y.

    Args:
        stream: its bytes, or what reads them.
        directories: offset-map-enable.
        piece_bytes: how many bytes the mover puts into a slot.
        overshoots: whether reads past the end of the stream are all right.
    """
    read: Read = stream if callable(stream) else lambda at, length: stream[at : at + length]
    ring = RingControl(64 * 1024, 4)
    mover = _Mover(ring, read, piece_bytes)
    channel = _Channel(list(ring.duplicate()), mover.wanted)
    umask = os.umask(0)
    mover.start()
    try:
        message = StartRecover(
            butype=butype,
            names=names,
            env=env or [],
            recursive=recursive,
            direct=True,
            direct_directories=directories,
        )
        start(channel, message)
    finally:
        os.umask(umask)
        ring.conclude(Verdict.CLOSED)
        mover.wanted.put(None)
        mover.join(DEADLINE_S)
        ring.close()
    assert not mover.is_alive()
    assert not mover.wrong
    assert overshoots or not mover.over
    messages = channel.messages
    if isinstance(messages[0], Refused):
        raise WasRefused(messages[0])
    (finished,) = [message for message in messages if isinstance(message, DataFinished)]
    posts = [message for message in messages if isinstance(message, FileRecovered)]
    assert [post.name for post in posts] == [each.reported for each in names]
    return Outcome(
        finished,
        {post.name: post.status for post in posts},
        [(message.log_type, message.text) for message in messages if isinstance(message, LogLine)],
        [message for message in messages if isinstance(message, WantData)],
        b"",
        [],
    )
