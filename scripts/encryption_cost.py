"""Measures what encryption costs a data connection: two relays over loopback, in clear and by TLS 1.3 in turn.

Started by scripts/encryption-cost. A process fills the ring of the one relay, another empties that of the other; the
bytes are the same zeros each time. What counts is the processor time of each relay, which others on the machine do not
change much.
"""

import argparse
import os
import secrets
import socket
import statistics
import subprocess
import sys
import time
from typing import Final, Literal, NamedTuple

import psutil
from bench_measure import commit, conduct, now, say
from bench_report import Limit, Report, machine

from mover.control.data_encryption import make_certificate
from mover.ring import Consumer, Kind, Producer, RingControl
from mover.workers.channel import Unpacker, pack, rights
from mover.workers.messages import Done, FromWorker, ToWorker, from_worker_decoder
from mover.workers.relay_messages import AttachConnection, ConnectorKeys, ListenerKeys, RelayFinished, StartRelay

SLOT_BYTES: Final = 256 << 10
SLOTS: Final = 32
DEADLINE_S: Final = 600.0
BAR_MS: Final = 4000.0
"""A quarter of a gigabyte a second for each processor: two networks of 1 Gbit/s."""


class Relay:
    """A relay process with its ring."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._control.settimeout(DEADLINE_S)
        with theirs:
            command = [sys.executable, "-I", "-m", "mover.relay", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self._unpacker = Unpacker()
        self.ring = RingControl(SLOT_BYTES, SLOTS)

    def tell(self, message: ToWorker, descriptors: list[int]) -> None:
        """Send it an order."""
        self._control.sendmsg([pack(message)], rights(descriptors))

    def listen(self) -> FromWorker:
        """What it says next."""
        while (body := self._unpacker.next_body()) is None:
            data = self._control.recv(65536)
            if not data:
                raise RuntimeError("a relay went away")
            self._unpacker.feed(data)
        message: FromWorker = from_worker_decoder.decode(body)
        return message

    def expect_done(self) -> None:
        """It has done what it was told."""
        if (answer := self.listen()) != Done():
            raise RuntimeError(f"a relay says {answer}")

    def cpu_s(self) -> float:
        """Processor time since it was started."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def close(self) -> None:
        """End it."""
        self._control.close()
        self._process.wait(DEADLINE_S)
        self.ring.close()


class Measured(NamedTuple):
    """One stream: processor time for a gigabyte at each side, and how fast it was."""

    sending_ms: float
    receiving_ms: float
    megabytes_s: float


def carry(slots: int, *, encrypted: bool) -> Measured:
    """Have one stream carried."""
    certificate, fingerprint = make_certificate()
    token = secrets.token_bytes(32)
    with socket.create_server(("127.0.0.1", 0)) as server:
        connected = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    sending, receiving = Relay(), Relay()
    try:
        with connected, accepted:
            own, peer = ConnectorKeys(fingerprint, token), ListenerKeys(certificate, token)
            for relay, sock, keys in ((sending, connected, own), (receiving, accepted, peer)):
                order = AttachConnection(30, watch=False, keys=keys if encrypted else None, handshake_s=DEADLINE_S)
                relay.tell(order, [sock.fileno()])
            sending.expect_done()
            receiving.expect_done()
        directions: tuple[tuple[Relay, Literal["send", "receive"]], ...] = ((sending, "send"), (receiving, "receive"))
        for relay, direction in directions:
            relay.tell(StartRelay(direction), list(relay.ring.fds))
            relay.expect_done()
        before = sending.cpu_s(), receiving.cpu_s()
        began = time.monotonic()
        _move(sending.ring, receiving.ring, slots)
        elapsed = time.monotonic() - began
        for relay in (sending, receiving):
            ended = relay.listen()
            if not isinstance(ended, RelayFinished) or not ended.orderly:
                raise RuntimeError(f"a stream did not end well: {ended}")
        gigabytes = slots * SLOT_BYTES / 1e9
        spent = sending.cpu_s() - before[0], receiving.cpu_s() - before[1]
        return Measured(1e3 * spent[0] / gigabytes, 1e3 * spent[1] / gigabytes, 1e3 * gigabytes / elapsed)
    finally:
        sending.close()
        receiving.close()


def _move(source: RingControl, target: RingControl, slots: int) -> None:
    """Fill the one ring, and empty the other in a process of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        with Consumer(target.duplicate()) as consumer:
            while (entry := consumer.peek()).kind == Kind.DATA:
                entry.view.release()
                consumer.release()
            status = 0 if entry.kind == Kind.END else 1
            consumer.finish()
        os._exit(status)
    with Producer(source.duplicate()) as producer:
        for _ in range(slots):
            producer.reserve()
            producer.commit(SLOT_BYTES)
        producer.finish(Kind.END)
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("the stream did not arrive whole")


def run(slots: int, pairs: int) -> Report:
    """The whole table."""
    clear: list[Measured] = []
    encrypted: list[Measured] = []
    for number in range(pairs):
        say(f"pair {number + 1} of {pairs}")
        clear.append(carry(slots, encrypted=False))
        encrypted.append(carry(slots, encrypted=True))

    def median(measured: list[Measured], field: str) -> float:
        at = Measured._fields.index(field)
        return statistics.median(each[at] for each in measured)

    rates = f"{median(encrypted, 'megabytes_s'):,.0f} MB/s against {median(clear, 'megabytes_s'):,.0f} in clear"
    found = [
        Limit(
            work=f"{side} relay, encrypted: processor time for a gigabyte", bar=BAR_MS, unit="ms",
            value=median(encrypted, f"{side}_ms"),
            seen=f"in clear {median(clear, f'{side}_ms'):,.0f} ms; {rates}; load average {os.getloadavg()[0]:.1f}",
        )
        for side in ("sending", "receiving")
    ]  # fmt: skip
    conditions = {
        **machine(),
        "streams": f"{slots * SLOT_BYTES / 1e9:.1f} GB in slots of {SLOT_BYTES >> 10} KiB over loopback; medians of"
        f" {pairs} interleaved pairs; both relays, their producer and their consumer share the processors",
    }
    return Report(date=now(), commit=commit(), conditions=conditions, ratios=[], limits=found)


def main() -> int:
    """Parses the command line, measures, prints, stores."""
    parser = argparse.ArgumentParser(prog="scripts/encryption-cost", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short pair, to try it; nothing is stored")
    options = parser.parse_args()
    slots, pairs = (64, 1) if options.quick else (4096, 5)
    return conduct("encryption", lambda: run(slots, pairs), keep=not options.quick)


if __name__ == "__main__":
    sys.exit(main())
