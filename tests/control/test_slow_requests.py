"""Requests that take long to decode: other connections go on meanwhile, and none is lost."""

import threading
from typing import cast

import pytest
import structlog
import trio

from mover.control.connection import Connection
from mover.control.control_stream import ControlStream
from mover.control.handlers.data import ENV_PAIRS_MAX, environment
from mover.control.incoming import Incoming
from mover.control.refusal import Refusal
from mover.ndmp import edge
from mover.ndmp import messages as m
from mover.ndmp.enums import MessageType
from mover.ndmp.framing import mark
from mover.ndmp.header import SIZE, Header
from mover.ndmp.server import SLOW_BYTES, Answered, Request, ServerProtocol, Unread

DEADLINE_S = 60.0
NAMES = m.DataStartRecoverRequest((), (m.RecoverName(b"a/b/c", b"/x/y"),) * 3_000, b"dump")


def message(body: m.Body, cut: int = 0) -> bytes:
    code, wire = edge.encode_body(4, body)
    record = Header(1, 0, MessageType.REQUEST, code, 0, 0).encode() + wire[: len(wire) - cut]
    return mark(len(record)) + record


class Stream:
    """Has one piece after the other."""

    def __init__(self, *pieces: bytes) -> None:
        self._data = b"".join(pieces)

    async def arrival(self) -> None:
        await trio.lowlevel.checkpoint()

    def receive_now(self, count: int) -> bytes:
        data, self._data = self._data[:count], self._data[count:]
        return data


def incoming(*pieces: bytes) -> Incoming:
    protocol = ServerProtocol()
    protocol.authenticated = True
    stream = cast("ControlStream", Stream(*pieces))  # what is used of one
    return Incoming(protocol, stream, structlog.get_logger(), lambda: None)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Decoding has begun; and waits for the test."""
    begun, go_on = threading.Event(), threading.Event()
    read = ServerProtocol.read

    def wait(protocol: ServerProtocol, unread: Unread) -> Request | Answered:
        begun.set()
        assert go_on.wait(DEADLINE_S)
        return read(protocol, unread)

    monkeypatch.setattr(ServerProtocol, "read", wait)
    return begun, go_on


async def test_others_go_on_while_one_is_decoded(gate: tuple[threading.Event, threading.Event]) -> None:
    begun, go_on = gate
    events: list[object] = []
    source = incoming(message(NAMES), message(m.DataGetStateRequest()))

    async def listen() -> None:
        events.append(await source.next())
        events.append(await source.next())

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.to_thread.run_sync(begun.wait, DEADLINE_S)
            assert events == []
            go_on.set()  # which nobody would do, were it decoded here
    first, second = events
    assert isinstance(first, Request)
    assert first.body == NAMES
    assert isinstance(second, Request)
    assert second.body == m.DataGetStateRequest()


async def test_one_that_was_cancelled_comes_all_the_same(gate: tuple[threading.Event, threading.Event]) -> None:
    _, go_on = gate
    go_on.set()
    source = incoming(message(NAMES))
    with trio.fail_after(DEADLINE_S):
        event = None
        tries = 0
        while event is None:
            tries += 1
            with trio.CancelScope() as scope:
                if tries < 100:
                    scope.cancel()  # at each place where it can be
                event = await source.next()
    assert isinstance(event, Request)
    assert event.body == NAMES


async def test_one_that_is_wrong_is_answered() -> None:
    with trio.fail_after(DEADLINE_S):
        event = await incoming(message(NAMES, cut=8)).next()
    assert isinstance(event, Answered)


def test_the_records_of_a_tape_are_not_slow() -> None:
    def unread(body: m.Body) -> Unread:
        protocol = ServerProtocol()
        protocol.authenticated = True
        protocol.feed(message(body))
        event = protocol.next_unread()
        assert isinstance(event, Unread)
        return event

    assert len(message(NAMES)) > SLOW_BYTES + SIZE
    assert unread(NAMES).is_slow
    assert not unread(m.TapeWriteRequest(bytes(1 << 20))).is_slow
    assert not unread(m.DataGetStateRequest()).is_slow


def test_an_environment_has_so_many_pairs() -> None:
    connection = cast("Connection", None)  # it is not asked
    pairs = (m.Pval(b"N", b"v"),) * (ENV_PAIRS_MAX + 1)
    with pytest.raises(Refusal, match=f"an environment of {ENV_PAIRS_MAX + 1} pairs, at most {ENV_PAIRS_MAX}"):
        environment(connection, b"dump", pairs)
