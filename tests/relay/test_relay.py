"""The relay as a real process: bytes both ways, and every end seen from the other side of the connection."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from mover.ring import Consumer, Kind, Producer, RelayGauge, RingControl, Verdict
from mover.workers.channel import Unpacker, pack, rights
from mover.workers.messages import Done, FromWorker, Refused, ToWorker, from_worker_decoder
from mover.workers.relay_messages import AttachConnection, ConnectionLost, RelayFinished, StartRelay
from tests.support.processes import settle

DEADLINE_S = 20


class Rig(NamedTuple):
    process: subprocess.Popen[bytes]
    control: socket.socket
    peer: socket.socket
    ring: RingControl
    unpacker: Unpacker

    def ask(self, message: ToWorker, descriptors: list[int]) -> FromWorker:
        self.control.sendmsg([pack(message)], rights(descriptors))
        return self.listen()

    def listen(self) -> FromWorker:
        while (body := self.unpacker.next_body()) is None:
            data = self.control.recv(65536)
            assert data, "the relay went away"
            self.unpacker.feed(data)
        message: FromWorker = from_worker_decoder.decode(body)
        return message


@pytest.fixture(params=[True])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A relay that has its connection; the parameter says whether it watches it."""
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "mover.relay", str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    peer.settimeout(DEADLINE_S)
    ring = RingControl(65536, 4)
    made = Rig(process, ours, peer, ring, Unpacker())
    with accepted:
        assert made.ask(AttachConnection(peer_timeout_s=10, watch=request.param), [accepted.fileno()]) == Done()
    yield made
    ours.close()
    peer.close()
    ring.close()
    assert process.wait(DEADLINE_S) is not None


def receive_all(peer: socket.socket) -> bytes:
    data = bytearray()
    while chunk := peer.recv(65536):
        data += chunk
    return bytes(data)


def receive_exactly(peer: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = peer.recv(count - len(data))
        assert chunk
        data += chunk
    return bytes(data)


def sockets(pid: int) -> int:
    """How many sockets a process holds; the control socket is one."""
    held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return sum(name.startswith("socket:") for name in held)


def start(rig: Rig, direction: str) -> None:
    message = StartRelay(direction="send" if direction == "send" else "receive")
    assert rig.ask(message, list(rig.ring.fds)) == Done()


def test_sends_and_ends_in_order(rig: Rig) -> None:
    start(rig, "send")
    with Producer(rig.ring.duplicate()) as producer:
        for number in range(10):
            producer.reserve()[:] = bytes([number]) * 65536
            producer.commit(65536)
            assert receive_exactly(rig.peer, 65536) == bytes([number]) * 65536
        producer.finish(Kind.END)
    assert receive_all(rig.peer) == b""
    rig.peer.close()
    assert rig.listen() == RelayFinished(orderly=True, peer_closed=False, text="", socket_bytes=655_360)


def test_receives_and_holds_the_connection_until_the_consumer_has_all(rig: Rig) -> None:
    start(rig, "receive")
    with Consumer(rig.ring.duplicate()) as consumer:
        rig.peer.sendall(b"abc" * 50_000)
        rig.peer.shutdown(socket.SHUT_WR)
        got = bytearray()
        while (entry := consumer.peek()).kind == Kind.DATA:
            got += entry.view
            entry.view.release()
            consumer.release()
        assert entry.kind == Kind.END
        assert got == b"abc" * 50_000
        poller = select.poll()
        poller.register(rig.peer, select.POLLIN)
        assert poller.poll(50) == []  # still held: nothing says yet that the bytes are safe
        consumer.finish()
    assert rig.peer.recv(1) == b""
    assert rig.listen() == RelayFinished(orderly=True, peer_closed=False, text="", socket_bytes=150_000)


@pytest.mark.parametrize("end", ["failed", "verdict", "kill", "control"])
def test_a_sender_that_breaks_off_resets(rig: Rig, end: str) -> None:
    start(rig, "send")
    with Producer(rig.ring.duplicate()) as producer:
        producer.reserve()[:5] = b"hello"
        producer.commit(5)
        assert receive_exactly(rig.peer, 5) == b"hello"
        if end == "failed":
            producer.finish(Kind.FAILED)
        elif end == "verdict":
            rig.ring.conclude(Verdict.BROKEN)
        elif end == "kill":
            rig.process.send_signal(signal.SIGKILL)
        else:
            rig.control.close()
        with pytest.raises(ConnectionResetError):
            rig.peer.recv(1)
    if end in {"failed", "verdict"}:
        finished = rig.listen()
        assert isinstance(finished, RelayFinished)
        assert not finished.orderly


def test_an_abort_behind_the_end_resets(rig: Rig) -> None:
    """The peer has the stream's end and has not read it: a mover that waits for a cartridge."""
    rig.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    start(rig, "send")
    with Producer(rig.ring.duplicate()) as producer:
        for _ in range(4):
            producer.reserve()
            producer.commit(65536)
        producer.finish(Kind.END)
        settle(lambda: rig.ring.statistics().entries_out == 5, "the relay has taken the end")
        rig.ring.conclude(Verdict.BROKEN)
        finished = rig.listen()
    assert finished == RelayFinished(orderly=False, peer_closed=False, text="the ring is broken", socket_bytes=4 << 16)
    with pytest.raises(ConnectionResetError):
        receive_all(rig.peer)


def test_a_peer_that_resets_below_a_failure_is_not_waited_for(rig: Rig) -> None:
    """What it left unacknowledged stays in the send queue for good."""
    rig.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    start(rig, "send")
    with Producer(rig.ring.duplicate()) as producer:
        for _ in range(4):
            producer.reserve()
            producer.commit(65536)
        producer.finish(Kind.FAILED)
        settle(lambda: rig.ring.gauge("consumer", RelayGauge.SOCKET_BYTES) == 4 * 65536, "the relay has sent all")
        rig.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        rig.peer.close()
        finished = rig.listen()
    assert isinstance(finished, RelayFinished)
    assert not finished.orderly


def test_a_peer_that_resets_is_a_failure_in_band(rig: Rig) -> None:
    start(rig, "receive")
    with Consumer(rig.ring.duplicate()) as consumer:
        rig.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        rig.peer.close()
        assert consumer.peek().kind == Kind.FAILED
    finished = rig.listen()
    assert isinstance(finished, RelayFinished)
    assert not finished.orderly


def test_a_reset_while_the_ring_is_full_is_a_failure_at_once(rig: Rig) -> None:
    """Not a relay that spins until there is room, which may be hours away when the mover waits for a cartridge."""
    start(rig, "receive")
    rig.peer.sendall(bytes(rig.ring.statistics().slot_bytes * 4))
    settle(lambda: rig.ring.statistics().entries_in == 4, "the ring is full")
    rig.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    rig.peer.close()
    with Consumer(rig.ring.duplicate()) as consumer:
        settle(lambda: sockets(rig.process.pid) == 1, "the relay has let its connection go")
        for kind in [Kind.DATA] * 4 + [Kind.FAILED]:
            entry = consumer.peek()
            assert entry.kind == kind
            entry.view.release()
            consumer.release()
    finished = rig.listen()
    assert isinstance(finished, RelayFinished)
    assert not finished.orderly


def test_a_consumer_that_has_enough_ends_the_sender_in_order(rig: Rig) -> None:
    start(rig, "receive")
    with Consumer(rig.ring.duplicate()) as consumer:
        rig.peer.sendall(b"x" * 100_000)
        consumer.peek()
        consumer.finish()
        assert rig.peer.recv(1) == b""  # a close, not a reset
        rig.peer.close()
    finished = rig.listen()
    assert isinstance(finished, RelayFinished)
    assert finished.orderly


def test_a_reader_that_has_enough_is_told_to_the_producer(rig: Rig) -> None:
    start(rig, "send")
    rig.peer.shutdown(socket.SHUT_WR)
    finished = rig.listen()
    assert isinstance(finished, RelayFinished)
    assert (finished.orderly, finished.peer_closed) == (False, True)


def test_a_peer_lost_before_the_start(rig: Rig) -> None:
    rig.peer.close()
    assert isinstance(rig.listen(), ConnectionLost)
    assert isinstance(rig.ask(StartRelay(direction="send"), list(rig.ring.fds)), Refused)


@pytest.mark.parametrize("rig", [False], indirect=True)
def test_a_stream_that_is_over_before_the_start_arrives(rig: Rig) -> None:
    rig.peer.sendall(b"short")
    rig.peer.shutdown(socket.SHUT_WR)
    start(rig, "receive")
    with Consumer(rig.ring.duplicate()) as consumer:
        entry = consumer.peek()
        assert (entry.kind, bytes(entry.view)) == (Kind.DATA, b"short")
        entry.view.release()
        consumer.release()
        assert consumer.peek().kind == Kind.END
        consumer.finish()
    assert rig.peer.recv(1) == b""
    assert rig.listen() == RelayFinished(orderly=True, peer_closed=False, text="", socket_bytes=5)


@pytest.mark.parametrize("rig", [False], indirect=True)
def test_what_came_before_a_reset_stands_before_the_failure(rig: Rig) -> None:
    rig.peer.sendall(b"short")
    rig.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    rig.peer.close()
    start(rig, "receive")
    with Consumer(rig.ring.duplicate()) as consumer:
        entry = consumer.peek()
        assert (entry.kind, bytes(entry.view)) == (Kind.DATA, b"short")
        entry.view.release()
        consumer.release()
        assert consumer.peek().kind == Kind.FAILED


def test_the_relay_holds_nothing_but_its_own(rig: Rig) -> None:
    start(rig, "receive")
    held = [os.readlink(f"/proc/{rig.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{rig.process.pid}/fd")]
    rings = {name for name in held if "memfd:" in name}
    assert len(rings) == 1  # the memfd itself and the mapping's own descriptor of it
    assert sum(name.startswith("socket:") for name in held) == 2
