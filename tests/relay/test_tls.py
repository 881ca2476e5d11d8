"""The relay with TLS on its data connection: who gets in, and that only what TLS calls an end is one."""

import contextlib
import os
import secrets
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

import pytest

from mover.control.data_encryption import make_certificate
from mover.ring import Consumer, Kind, Producer, RingControl, Verdict
from mover.workers.channel import Unpacker, pack, rights
from mover.workers.messages import Done, FromWorker, Refused, ToWorker, from_worker_decoder
from mover.workers.relay_messages import AttachConnection, ConnectorKeys, ListenerKeys, RelayFinished, StartRelay

pytestmark = pytest.mark.slow

DEADLINE_S: Final = 60
CONNECT_ERROR: Final = 23
TOKEN: Final = secrets.token_bytes(32)
STREAM: Final = bytes(range(256)) * 512  # two slots
Role = Literal["listener", "connector"]


class Relay:
    """A relay process, its control socket and its ring."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair()
        self.control.settimeout(DEADLINE_S)
        with theirs:
            command = [sys.executable, "-I", "-m", "mover.relay", str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self.ring = RingControl(65536, 4)
        self._unpacker = Unpacker()

    def tell(self, message: ToWorker, descriptors: list[int]) -> None:
        self.control.sendmsg([pack(message)], rights(descriptors))

    def listen(self) -> FromWorker:
        while (body := self._unpacker.next_body()) is None:
            data = self.control.recv(65536)
            assert data, "the relay went away"
            self._unpacker.feed(data)
        message: FromWorker = from_worker_decoder.decode(body)
        return message

    def attach(self, sock: socket.socket, keys: ListenerKeys | ConnectorKeys, handshake_s: float = DEADLINE_S) -> None:
        """Have it begin to shake hands; the answer is for ``listen``."""
        with sock:
            self.tell(AttachConnection(30, watch=False, keys=keys, handshake_s=handshake_s), [sock.fileno()])

    def start(self, direction: Literal["send", "receive"]) -> None:
        self.tell(StartRelay(direction), list(self.ring.fds))
        assert self.listen() == Done()

    def close(self) -> None:
        self.control.close()
        self.ring.close()
        assert self.process.wait(DEADLINE_S) is not None


class Keys(NamedTuple):
    listener: ListenerKeys
    connector: ConnectorKeys


@pytest.fixture(scope="module")
def keys() -> Keys:
    certificate, fingerprint = make_certificate()
    return Keys(ListenerKeys(certificate, TOKEN), ConnectorKeys(fingerprint, TOKEN))


@pytest.fixture
def relay() -> Iterator[Relay]:
    made = Relay()
    yield made
    made.close()


def joined() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection: the test's and the relay's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    ours.settimeout(DEADLINE_S)
    return ours, theirs


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def server_context(keys: Keys, tmp_path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "certificate.pem").write_bytes(keys.listener.certificate)
    context.load_cert_chain(tmp_path / "certificate.pem")
    return context


def receive_exactly(peer: ssl.SSLSocket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = peer.recv(count - len(data))
        assert chunk
        data += chunk
    return bytes(data)


def connect(ours: socket.socket, token: bytes = TOKEN) -> ssl.SSLSocket:
    """The connecting mover, as a test plays it."""
    peer = client_context().wrap_socket(ours, suppress_ragged_eofs=False)
    try:
        peer.sendall(token)
        assert peer.recv(1) == b"\x01"
    except BaseException:
        peer.close()
        raise
    return peer


def accept(ours: socket.socket, keys: Keys, tmp_path: Path) -> ssl.SSLSocket:
    """The listening mover, as a test plays it."""
    peer = server_context(keys, tmp_path).wrap_socket(ours, server_side=True, suppress_ragged_eofs=False)
    assert receive_exactly(peer, len(TOKEN)) == TOKEN
    peer.sendall(b"\x01")
    return peer


@pytest.fixture(params=["listener", "connector"])
def peer(request: pytest.FixtureRequest, relay: Relay, keys: Keys, tmp_path: Path) -> Iterator[ssl.SSLSocket]:
    """The other side of a relay that is the listener, or the connector."""
    ours, theirs = joined()
    if request.param == "listener":
        relay.attach(theirs, keys.listener)
        made = connect(ours)
    else:
        relay.attach(theirs, keys.connector)
        made = accept(ours, keys, tmp_path)
    assert relay.listen() == Done()
    assert made.version() == "TLSv1.3"
    with made:
        yield made


def fill(ring: RingControl, data: bytes) -> None:
    """Have the relay send this, and the end behind it."""
    with Producer(ring.duplicate()) as producer:
        for at in range(0, len(data), 65536):
            piece = data[at : at + 65536]
            producer.reserve()[: len(piece)] = piece
            producer.commit(len(piece))
        producer.finish(Kind.END)


def drain(ring: RingControl, *, finish: bool = True) -> tuple[bytes, Kind]:
    """What the relay put into the ring, and how it ended."""
    got = bytearray()
    with Consumer(ring.duplicate()) as consumer:
        while (entry := consumer.peek()).kind == Kind.DATA:
            got += entry.view
            entry.view.release()
            consumer.release()
        kind = Kind(entry.kind)
        if finish:
            consumer.finish()
    return bytes(got), kind


def test_sends_and_ends_in_order(relay: Relay, peer: ssl.SSLSocket) -> None:
    relay.start("send")
    fill(relay.ring, STREAM)
    assert receive_exactly(peer, len(STREAM)) == STREAM
    assert peer.recv(1) == b""  # close_notify: without it this raises
    peer.unwrap()
    assert relay.listen() == RelayFinished(orderly=True, peer_closed=False, text="", socket_bytes=len(STREAM))


def test_a_receiver_that_says_nothing_is_not_taken_at_its_silence(relay: Relay, peer: ssl.SSLSocket) -> None:
    relay.start("send")
    fill(relay.ring, b"all")
    assert receive_exactly(peer, 3) == b"all"
    poller = select.poll()
    poller.register(relay.control, select.POLLIN)
    assert poller.poll(3000) == []  # all is acknowledged, and not confirmed
    peer.close()  # the end of file alone, as anybody on the way could say it
    finished = relay.listen()
    assert isinstance(finished, RelayFinished)
    assert not finished.orderly


def test_receives_and_confirms_when_the_consumer_has_all(relay: Relay, peer: ssl.SSLSocket) -> None:
    relay.start("receive")

    def send() -> None:
        peer.sendall(STREAM)
        peer.unwrap()

    sender = threading.Thread(target=send)
    sender.start()
    assert drain(relay.ring) == (STREAM, Kind.END)
    sender.join(DEADLINE_S)
    assert not sender.is_alive()  # it got the relay's close_notify
    assert relay.listen() == RelayFinished(orderly=True, peer_closed=False, text="", socket_bytes=len(STREAM))


def test_a_reader_that_has_enough_is_told_to_the_producer(relay: Relay, peer: ssl.SSLSocket) -> None:
    relay.start("send")
    with Producer(relay.ring.duplicate()) as producer:
        producer.reserve()[:4] = b"some"
        producer.commit(4)
        assert receive_exactly(peer, 4) == b"some"
        with contextlib.suppress(OSError):  # it closes without a close_notify of its own: END has not come
            peer.unwrap()
        finished = relay.listen()
    assert isinstance(finished, RelayFinished)
    assert (finished.orderly, finished.peer_closed) == (False, True)


def test_a_consumer_that_has_enough_ends_the_sender_in_order(relay: Relay, peer: ssl.SSLSocket) -> None:
    relay.start("receive")
    peer.sendall(b"x" * 1000)
    with Consumer(relay.ring.duplicate()) as consumer:
        consumer.peek().view.release()
        consumer.finish()
        seen = False
        while not seen:  # what it sends meanwhile is dropped
            peer.sendall(b"y" * 1000)
            peer.settimeout(0.01)
            with contextlib.suppress(TimeoutError):
                seen = peer.recv(1) == b""
            peer.settimeout(DEADLINE_S)
    peer.close()
    finished = relay.listen()
    assert isinstance(finished, RelayFinished)
    assert finished.orderly


@pytest.mark.parametrize("end", ["failed", "verdict", "kill", "control"])
def test_a_sender_that_breaks_off_says_no_end(relay: Relay, peer: ssl.SSLSocket, end: str) -> None:
    relay.start("send")
    with Producer(relay.ring.duplicate()) as producer:
        producer.reserve()[:5] = b"hello"
        producer.commit(5)
        assert receive_exactly(peer, 5) == b"hello"
        if end == "failed":
            producer.finish(Kind.FAILED)
        elif end == "verdict":
            relay.ring.conclude(Verdict.BROKEN)
        elif end == "kill":
            relay.process.send_signal(signal.SIGKILL)
        else:
            relay.control.close()
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            peer.recv(1)


def test_an_end_of_file_without_a_word_of_tls_is_a_failure_in_band(relay: Relay, peer: ssl.SSLSocket) -> None:
    relay.start("receive")
    peer.sendall(b"half")
    socket.socket.shutdown(peer, socket.SHUT_WR)
    assert drain(relay.ring) == (b"half", Kind.FAILED)
    finished = relay.listen()
    assert isinstance(finished, RelayFinished)
    assert not finished.orderly
    assert "cut off" in finished.text


def test_keys_are_not_shown(relay: Relay, peer: ssl.SSLSocket, keys: Keys) -> None:
    shown = repr(AttachConnection(1, watch=True, keys=keys.listener)) + repr(keys)
    assert TOKEN.hex() not in shown
    assert repr(TOKEN) not in shown
    assert "PRIVATE" not in shown
    limits = Path(f"/proc/{relay.process.pid}/limits").read_text()
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    assert TOKEN.hex() not in Path(f"/proc/{relay.process.pid}/cmdline").read_text()


# --- who is not let in


def _wrong_token(ours: socket.socket) -> None:
    with pytest.raises((AssertionError, OSError)):
        connect(ours, secrets.token_bytes(32))


def _short_token(ours: socket.socket) -> None:
    with client_context().wrap_socket(ours) as peer, contextlib.suppress(OSError):
        peer.sendall(TOKEN[:-1])
        peer.unwrap()


def _old_tls(ours: socket.socket) -> None:
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError, match=r"(?i)protocol|version|reset"):
        context.wrap_socket(ours)


def _garbage(ours: socket.socket) -> None:
    with contextlib.suppress(OSError):
        ours.sendall(secrets.token_bytes(4096))
        ours.recv(1)


def _half_a_greeting(ours: socket.socket) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client_context().wrap_bio(incoming, outgoing).do_handshake()
    ours.sendall(outgoing.read()[:100])
    ours.shutdown(socket.SHUT_WR)
    ours.recv(1)


@pytest.mark.parametrize(
    "attempt", [_wrong_token, _short_token, _old_tls, _garbage, _half_a_greeting], ids=lambda each: each.__name__[1:]
)
def test_a_listener_refuses(relay: Relay, keys: Keys, attempt: Callable[[socket.socket], None]) -> None:
    ours, theirs = joined()
    with ours:
        relay.attach(theirs, keys.listener)
        attempt(ours)
        refused = relay.listen()
        assert isinstance(refused, Refused)
        assert refused.error == CONNECT_ERROR
        assert refused.text


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01"], ids=["silence", "a beginning"])
def test_who_does_not_shake_hands_is_not_waited_for(relay: Relay, keys: Keys, begun: bytes) -> None:
    ours, theirs = joined()
    with ours:
        ours.sendall(begun)
        relay.attach(theirs, keys.listener, handshake_s=0.2)
        assert relay.listen() == Refused(CONNECT_ERROR, "it did not shake hands in time")


def test_a_relay_that_shakes_hands_leaves_with_control(relay: Relay, keys: Keys) -> None:
    ours, theirs = joined()
    with ours:
        relay.attach(theirs, keys.listener)
        relay.control.close()
        assert relay.process.wait(DEADLINE_S) == 3


def test_a_connector_takes_no_other_certificate(relay: Relay, keys: Keys, tmp_path: Path) -> None:
    """Somebody in between has a certificate of his own, and never sees the token."""
    certificate, _ = make_certificate()
    other = Keys(ListenerKeys(certificate, TOKEN), keys.connector)
    ours, theirs = joined()
    relay.attach(theirs, keys.connector)
    with server_context(other, tmp_path).wrap_socket(ours, server_side=True) as peer:
        assert relay.listen() == Refused(CONNECT_ERROR, "it shows another certificate than the address has")
        with pytest.raises((AssertionError, OSError)):
            receive_exactly(peer, 1)


def test_a_connector_waits_for_the_word_of_the_listener(relay: Relay, keys: Keys, tmp_path: Path) -> None:
    ours, theirs = joined()
    relay.attach(theirs, keys.connector)
    with server_context(keys, tmp_path).wrap_socket(ours, server_side=True) as peer:
        assert receive_exactly(peer, len(TOKEN)) == TOKEN
        with contextlib.suppress(OSError):
            peer.unwrap()
        assert relay.listen() == Refused(CONNECT_ERROR, "it closed the connection")


# --- what is cut off


class Wire:
    """Passes on what a peer says to the relay, up to a byte, and then nothing but an end of file; all the other way."""

    def __init__(self, limit: int) -> None:
        self.peer, ours = joined()
        theirs, self.relay = joined()
        self._between = (ours, theirs)
        self.passed = 0
        self._limit = limit
        self._threads = [
            threading.Thread(target=self._pass, args=(ours, theirs, True)),
            threading.Thread(target=self._pass, args=(theirs, ours, False)),
        ]
        for thread in self._threads:
            thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, cut: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if cut:
                    data = data[: self._limit - self.passed]
                    self.passed += len(data)
                target.sendall(data)
                if cut and self.passed >= self._limit:
                    break
        with contextlib.suppress(OSError):  # also where the one behind us has reset
            target.shutdown(socket.SHUT_WR)

    def join(self) -> None:
        self.peer.close()
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
        for each in self._between:
            each.close()


def stream_through(keys: Keys, limit: int) -> tuple[FromWorker, tuple[bytes, Kind] | None, int]:
    """What a relay that receives says to a short stream of which so many bytes come through."""
    relay, wire = Relay(), Wire(limit)

    def play() -> None:
        with contextlib.suppress(OSError, AssertionError), connect(wire.peer) as peer:
            peer.sendall(b"a short stream")
            peer.unwrap()

    player = threading.Thread(target=play)
    player.start()
    try:
        relay.attach(wire.relay, keys.listener)
        answer = relay.listen()
        ended = None
        if answer == Done():
            relay.start("receive")
            ended = drain(relay.ring)
            answer = relay.listen()
    finally:
        relay.close()
        player.join(DEADLINE_S)
        wire.join()
    return answer, ended, wire.passed


def test_a_stream_that_is_cut_anywhere_is_never_whole(keys: Keys) -> None:
    answer, ended, whole = stream_through(keys, 1 << 20)
    assert isinstance(answer, RelayFinished)
    assert answer.orderly
    assert ended == (b"a short stream", Kind.END)
    cuts = [*range(0, whole - 90, 61), *range(whole - 90, whole, 10), whole - 1]
    for cut in cuts:
        answer, ended, _ = stream_through(keys, cut)
        if ended is None:
            assert isinstance(answer, Refused), cut
        else:
            assert isinstance(answer, RelayFinished), cut
            assert not answer.orderly, cut
            assert ended[1] == Kind.FAILED, cut


def test_nothing_of_openssl_is_loaded_for_a_plain_connection(relay: Relay) -> None:
    ours, theirs = joined()
    with ours, theirs:
        relay.tell(AttachConnection(30, watch=False), [theirs.fileno()])
        assert relay.listen() == Done()
        mapped = Path(f"/proc/{relay.process.pid}/maps").read_text()
        assert "libssl" not in mapped
        assert os.path.basename(ssl.__file__) == "ssl.py"
