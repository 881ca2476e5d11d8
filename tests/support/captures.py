"""Control connections captured without rights: a relay on loopback that keeps the bytes, and a capture file of them.

The relay also cuts messages into fragments, both ways.
"""

import contextlib
import itertools
import selectors
import socket
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

DEADLINE_S: Final = 60.0
CAPTURED_PORT: Final = 10000
"""The server's port in the file, whatever it was: by it a dissector knows NDMP."""
_SEGMENT: Final = 32 * 1024  # bytes of a packet; below the longest IPv4 packet
_LAST: Final = 0x8000_0000
_RAW_IP: Final = 101  # link type: packets begin with the IP header
_SYN, _ACK, _PUSH, _FIN = 0x02, 0x10, 0x08, 0x01


class Piece(NamedTuple):
    """A message of a control connection as it went on, with its record marking."""

    from_client: bool
    data: bytes


def fragments(record: bytes, count: int) -> bytes:
    """A message in so many fragments, or in one of each byte where it is shorter."""
    count = max(1, min(count, len(record)))
    cuts = [len(record) * number // count for number in range(count + 1)]
    pieces = [record[start:end] for start, end in itertools.pairwise(cuts)]
    marks = [len(piece) | (_LAST if number == count - 1 else 0) for number, piece in enumerate(pieces)]
    return b"".join(struct.pack(">I", mark) + piece for mark, piece in zip(marks, pieces, strict=True))


class _Cutter:
    """A byte stream with record marking in, the same messages in so many fragments out."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._buffer = bytearray()
        self._record = bytearray()
        self.records: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        out = []
        while len(self._buffer) >= 4:
            (mark,) = struct.unpack_from(">I", self._buffer)
            length = mark & ~_LAST
            if len(self._buffer) < 4 + length:
                break
            self._record += self._buffer[4 : 4 + length]
            del self._buffer[: 4 + length]
            if mark & _LAST:
                self.records.append(bytes(self._record))
                out.append(fragments(self.records[-1], self._count))
                self._record.clear()
        return out


class CapturedConnection:
    """One control connection that went through the relay.

    Attributes:
        pieces: what went on, in order.
        records: the messages in it, of both sides.
    """

    def __init__(self, client: socket.socket, server: socket.socket, count: int) -> None:
        self.pieces: list[Piece] = []
        self._sides = {client: (server, _Cutter(count)), server: (client, _Cutter(count))}
        self._client = client

    @property
    def records(self) -> list[bytes]:
        return [record for _, cutter in self._sides.values() for record in cutter.records]

    def relay(self) -> None:
        """Until both sides have closed."""
        with selectors.DefaultSelector() as selector:
            for side in self._sides:
                selector.register(side, selectors.EVENT_READ)
            while selector.get_map():
                events = selector.select(DEADLINE_S)
                if not events:
                    raise TimeoutError("a captured connection stands still")
                for key, _ in events:
                    if not self._pass_on(key.fileobj):  # type: ignore[arg-type]  # registered above
                        selector.unregister(key.fileobj)

    def _pass_on(self, side: socket.socket) -> bool:
        other, cutter = self._sides[side]
        try:
            data = side.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            with contextlib.suppress(OSError):  # closed already
                other.shutdown(socket.SHUT_WR)
            return False
        for message in cutter.feed(data):
            self.pieces.append(Piece(side is self._client, message))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it closed with a message on the way
                other.sendall(message)
        return True


class CapturingRelay:
    """A port on loopback that leads to a server; a context manager that waits for its connections to end.

    Attributes:
        address: HOST:PORT to connect to.
        connections: those captured, in the order of their beginning.

    Args:
        target: HOST:PORT of the server.
        count: fragments of each message, both ways.
    """

    def __init__(self, target: str, *, count: int = 1) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._count = count
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listener.getsockname()[:2])
        self.connections: list[CapturedConnection] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "a captured connection did not end"
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the with-block ended
                return
            thread = threading.Thread(target=self._converse, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _converse(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target, timeout=DEADLINE_S) as server:
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = CapturedConnection(client, server, self._count)
            self.connections.append(connection)
            connection.relay()


def write_capture(path: Path, connections: Sequence[CapturedConnection]) -> None:
    """Write connections as packets of a classic capture file, each on a client port of its own."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, _RAW_IP))
        milliseconds = 0
        for number, connection in enumerate(connections):
            for packet in _packets(connection.pieces, 40000 + number):
                seconds, rest = divmod(milliseconds, 1000)
                file.write(struct.pack("<IIII", seconds, rest * 1000, len(packet), len(packet)))
                file.write(packet)
                milliseconds += 1


def _packets(pieces: Sequence[Piece], port: int) -> list[bytes]:
    """The TCP packets of one connection, from SYN to FIN."""
    sent = {True: 1, False: 1}  # next sequence number of the client, of the server
    packets = [
        _packet(from_client=True, port=port, sequence=0, acknowledged=0, flags=_SYN),
        _packet(from_client=False, port=port, sequence=0, acknowledged=1, flags=_SYN | _ACK),
        _packet(from_client=True, port=port, sequence=1, acknowledged=1, flags=_ACK),
    ]
    for side, data in pieces:
        for at in range(0, len(data), _SEGMENT):
            part = data[at : at + _SEGMENT]
            packets.append(
                _packet(
                    from_client=side, port=port, sequence=sent[side], acknowledged=sent[not side],
                    flags=_ACK | _PUSH, data=part,
                )
            )  # fmt: skip
            sent[side] = sent[side] + len(part) & 0xFFFF_FFFF
    packets += [
        _packet(from_client=side, port=port, sequence=sent[side], acknowledged=sent[not side], flags=_FIN | _ACK)
        for side in (True, False)
    ]
    return packets


def _packet(*, from_client: bool, port: int, sequence: int, acknowledged: int, flags: int, data: bytes = b"") -> bytes:
    """An IPv4 packet; checksums are 0, as offloading leaves them."""
    client, server = ((127, 0, 0, 1), port), ((127, 0, 0, 2), CAPTURED_PORT)
    source, target = (client, server) if from_client else (server, client)
    tcp = struct.pack(">HHIIBBHHH", source[1], target[1], sequence, acknowledged, 5 << 4, flags, 0xFFFF, 0, 0)
    total = 20 + len(tcp) + len(data)
    ip = struct.pack(">BBHHHBBH4B4B", 0x45, 0, total, 0, 0, 64, 6, 0, *source[0], *target[0])
    return ip + tcp + data
