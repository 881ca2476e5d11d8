"""What one DMA costs the others: rounds of the scheduler for a request, and turns in between."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from mover.config import load_config
from mover.control.connection import Connection
from mover.control.control_stream import ControlStream
from mover.control.drives import Devices
from mover.control.incoming import CHUNK_BYTES, CHUNKS_AHEAD, Incoming
from mover.control.node import Node
from mover.control.outbox import Outbox
from mover.control.store import Store
from mover.control.workers import Supervisor
from mover.ndmp.client import ClientProtocol
from mover.ndmp.enums import MessageCode
from mover.ndmp.messages import (
    Body,
    ConnectClientAuthRequest,
    ConnectOpenRequest,
    DataGetStateRequest,
    TapeWriteRequest,
)
from mover.ndmp.messages.common import AuthText
from mover.ndmp.server import Request, ServerProtocol
from tests.control.conftest import LOGIN
from tests.fuzz import fakes
from tests.support.servers import write_config

DEADLINE_S = 30
ASKED = 50
ASK = DataGetStateRequest()


class Steps(trio.abc.Instrument):
    """Counts how often any task but one runs."""

    def __init__(self, without: trio.lowlevel.Task) -> None:
        self.taken = 0
        self._without = without

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.taken += task is not self._without


def incoming(stream: fakes.ControlStream) -> Incoming:
    protocol = ServerProtocol()
    protocol.authenticated = True
    return Incoming(protocol, cast("ControlStream", stream), structlog.get_logger(), lambda: None)


def requests(count: int, body: Body = ASK) -> bytes:
    protocol = ClientProtocol()
    return b"".join(protocol.request(body)[1] for _ in range(count))


async def test_a_request_for_a_state_costs_one_step_of_one_task(tmp_path: Path) -> None:
    config = load_config(str(write_config(tmp_path, LOGIN, volumes={})))
    nobody = cast("Supervisor", SimpleNamespace())  # no worker is needed
    node = Node(config, nobody, Devices(config, cast("Store", None)))
    stream = fakes.ControlStream()
    connection = Connection(node, cast("ControlStream", stream))
    login = ConnectClientAuthRequest(AuthText(LOGIN.user.encode(), LOGIN.password.encode()))
    with trio.fail_after(DEADLINE_S):
        protocol = ClientProtocol()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            for body in (ConnectOpenRequest(4), login, *[ASK] * 2):
                stream.push(protocol.request(body)[1])
                await wait_all_tasks_blocked()
            steps = Steps(trio.lowlevel.current_task())
            trio.lowlevel.add_instrument(steps)
            answered = len(stream.sent)
            for _ in range(ASKED):
                stream.push(protocol.request(ASK)[1])
                await wait_all_tasks_blocked()
            trio.lowlevel.remove_instrument(steps)
            assert len(stream.sent) == answered + ASKED
            assert steps.taken <= ASKED + 1  # the watch may look once
            stream.end()


async def test_requests_in_a_row_let_others_run() -> None:
    stream = fakes.ControlStream()
    comes = incoming(stream)
    stream.push(requests(ASKED))
    turns = 0

    async def run_on() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_on)
            for _ in range(ASKED):
                assert isinstance(await comes.next(), Request)
            nursery.cancel_scope.cancel()
    assert turns >= ASKED // 2


async def test_file_history_lets_others_run() -> None:
    stream, protocol = fakes.ControlStream(), ServerProtocol()
    outbox = Outbox(cast("ControlStream", stream), protocol, structlog.get_logger(), lambda: None)
    turns = 0

    async def run_on() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_on)
            for _ in range(ASKED):
                await outbox.send_history(MessageCode.FH_ADD_FILE, memoryview(bytes(4)))
            nursery.cancel_scope.cancel()
    assert len(stream.sent) == ASKED
    assert turns >= ASKED // 2


async def test_what_is_read_ahead_is_bounded_and_none_of_it_is_lost() -> None:
    stream = fakes.ControlStream()
    comes = incoming(stream)
    large = TapeWriteRequest(bytes(5000))
    count = CHUNK_BYTES * (CHUNKS_AHEAD + 4) // len(requests(1, large))
    everything = requests(count, large)
    stream.push(everything)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            comes.read_ahead(nursery)
            await wait_all_tasks_blocked()
            assert stream.waiting == len(everything) - CHUNK_BYTES * CHUNKS_AHEAD
            assert isinstance(await comes.next(), Request)  # which makes room
            await wait_all_tasks_blocked()
            assert stream.waiting == len(everything) - CHUNK_BYTES * (CHUNKS_AHEAD + 1)
            nursery.cancel_scope.cancel()
        for _ in range(count - 1):
            assert isinstance(await comes.next(), Request)
        assert stream.waiting == 0
        stream.end()
        assert await comes.next() is None


async def test_a_reset_is_seen_while_a_message_is_handled() -> None:
    stream = fakes.ControlStream()
    lost = trio.Event()
    comes = Incoming(ServerProtocol(), cast("ControlStream", stream), structlog.get_logger(), lost.set)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            comes.read_ahead(nursery)
            await wait_all_tasks_blocked()
            stream.reset()
            await lost.wait()
        assert await comes.next() is None


async def test_who_asks_while_another_reads_ahead_gets_what_comes() -> None:
    stream = fakes.ControlStream()
    comes = incoming(stream)
    got: list[object] = []

    async def ask(then: Callable[[], None]) -> None:
        got.append(await comes.next())
        then()

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            comes.read_ahead(nursery)
            nursery.start_soon(ask, stream.end)
            await wait_all_tasks_blocked()
            assert got == []
            stream.push(requests(1))
        assert [type(event) for event in got] == [Request]
        assert await comes.next() is None
