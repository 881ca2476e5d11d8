"""Asks one server for its DATA state from many connections, once a second each, at times that are fixed beforehand.

A process of its own, started by load.py. Its standard input and output carry a line of JSON each: Plan in, Connected
out, the time to begin in, Result out. An open loop: a request goes out when it is due, whether or not the ones before
it were answered, and its time counts from when it was due, so that a server, or a client, that stalls is not hidden.
"""

import gc
import random
import select
import socket
import struct
import sys
import time
from collections import Counter

import msgspec

from mover.ndmp.edge import encode_reply
from mover.ndmp.enums import HIGHEST_VERSION, ErrorCode, MessageCode, MessageType
from mover.ndmp.framing import RecordReader, mark
from mover.ndmp.header import SIZE, Header, decode_header
from mover.ndmp.messages import DataGetStateReply, DataGetStateRequest
from tests.support.ndmp_client import NdmpClient
from tests.support.servers import Login

FIRST_SEQUENCE = 0x10000  # of the requests that are timed, far from those of the login
SEQUENCE_OFFSET = 4  # behind the mark
LAST_REPLY_S = 10.0  # after the last request; what has not come by then is an error
READ_BYTES = 1 << 16


class Plan(msgspec.Struct, frozen=True):
    """What to do."""

    address: str
    login: Login | None  # None: a responder that answers from the first byte
    connections: int
    seconds: int


class Connected(msgspec.Struct, frozen=True):
    """All connections stand and are logged in."""

    seconds: float


class Result(msgspec.Struct, frozen=True):
    """What was seen."""

    requests: int
    replies_s: list[float]  # from when each was due to its good reply
    late_s: list[float]  # from when each was due to its send
    errors: dict[str, int]
    cpu_s: float


class Load:
    """The connections, and what has come of the requests."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sockets: list[socket.socket] = []
        self._clients: list[NdmpClient] = []  # held: they own their sockets
        self._expected = encode_reply(HIGHEST_VERSION, MessageCode.DATA_GET_STATE, DataGetStateReply())
        for _ in range(plan.connections):
            self._sockets.append(self._connect())
        self._readers = [RecordReader() for _ in self._sockets]
        header = Header(0, int(time.time()), MessageType.REQUEST, MessageCode.DATA_GET_STATE, 0, ErrorCode.NO_ERR)
        self._request = bytearray(mark(SIZE) + header.encode())
        self._due: list[float] = []
        self._asked_by: list[int] = []
        self._waiting: set[int] = set()  # indices of requests
        self._replies_s: list[float] = []
        self._late_s: list[float] = []
        self._errors: Counter[str] = Counter()

    def _connect(self) -> socket.socket:
        if self._plan.login is None:
            host, _, port = self._plan.address.rpartition(":")
            sock = socket.create_connection((host, int(port)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            client = NdmpClient(self._plan.address, login=self._plan.login, version=HIGHEST_VERSION)
            self._clients.append(client)
            # An idle machine has one answer: every later one is held to it, byte by byte.
            state = client.ok(DataGetStateRequest())
            self._expected = encode_reply(HIGHEST_VERSION, MessageCode.DATA_GET_STATE, state)
            sock = client.socket
        sock.setblocking(False)
        return sock

    def ask(self, begin: float) -> Result:
        """Ask from `begin` (monotonic) on for as long as planned, and wait for the replies."""
        # Fixed and arbitrary, as those of clients that know nothing of each other.
        phases = random.Random(self._plan.connections)
        times = [begin + phases.random() for _ in self._sockets]
        schedule = sorted(
            (first + second, number) for second in range(self._plan.seconds) for number, first in enumerate(times)
        )
        self._due = [due for due, _ in schedule]
        self._asked_by = [number for _, number in schedule]
        by_descriptor = {sock.fileno(): number for number, sock in enumerate(self._sockets)}
        cpu_s = time.process_time()
        gc.disable()  # a pause of ours would look like one of the server's
        with select.epoll() as poll:
            for descriptor in by_descriptor:
                poll.register(descriptor, select.EPOLLIN)
            self._exchange(poll, by_descriptor)
        if self._waiting:
            self._errors["no reply"] += len(self._waiting)
        return Result(len(self._due), self._replies_s, self._late_s, dict(self._errors), time.process_time() - cpu_s)

    def _exchange(self, poll: select.epoll, by_descriptor: dict[int, int]) -> None:
        sent = 0
        deadline = self._due[-1] + LAST_REPLY_S
        while True:
            while sent < len(self._due) and self._due[sent] <= time.monotonic():
                self._send(sent)
                sent += 1
            if sent < len(self._due):
                left = self._due[sent] - time.monotonic()
            elif self._waiting:
                left = deadline - time.monotonic()
                if left <= 0:
                    return
            else:
                return
            # select() takes microseconds where epoll's own wait takes milliseconds.
            ready, _, _ = select.select([poll], [], [], max(0.0, left))
            if ready:
                for descriptor, _ in poll.poll(0):
                    if not self._receive(by_descriptor[descriptor]):
                        poll.unregister(descriptor)

    def _send(self, index: int) -> None:
        self._late_s.append(time.monotonic() - self._due[index])
        struct.pack_into(">I", self._request, SEQUENCE_OFFSET, FIRST_SEQUENCE + index)
        try:
            sent = self._sockets[self._asked_by[index]].send(self._request)
        except OSError as error:
            self._errors[f"not sent: {error.strerror}"] += 1
            return
        if sent < len(self._request):
            self._errors["not sent whole"] += 1
        self._waiting.add(index)

    def _receive(self, number: int) -> bool:
        """Take what has come on a connection; False when nothing more can."""
        try:
            data = self._sockets[number].recv(READ_BYTES)
        except OSError as error:
            self._errors[f"connection lost: {error.strerror}"] += 1
            return False
        now = time.monotonic()
        if not data:
            self._errors["connection closed"] += 1
            return False
        reader = self._readers[number]
        reader.feed(data)
        while (record := reader.next_record()) is not None:
            self._judge(number, record, now)
        return True

    def _judge(self, number: int, record: bytes, now: float) -> None:
        header = decode_header(record)
        index = header.reply_sequence - FIRST_SEQUENCE
        if header.message_type != MessageType.REPLY or index not in self._waiting or self._asked_by[index] != number:
            self._errors[f"unasked message {header.message:#x}"] += 1
            return
        self._waiting.remove(index)
        if header.error != ErrorCode.NO_ERR or record[SIZE:] != self._expected:
            self._errors["wrong reply"] += 1
            return
        self._replies_s.append(now - self._due[index])


def main() -> None:
    """Entry point."""
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)
    began = time.monotonic()
    load = Load(plan)
    tell(Connected(time.monotonic() - began))
    line = sys.stdin.buffer.readline()
    if line:  # else whoever started us is gone
        tell(load.ask(msgspec.json.decode(line, type=float)))
        sys.stdin.buffer.read()  # the connections stand until whoever started us has looked at the server


def tell(message: msgspec.Struct) -> None:
    """A line for whoever started us."""
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
