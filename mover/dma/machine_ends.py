"""Ending a data service that still runs: what every job does when it fails, whatever stands at the other end."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from mover.dma.client import Client
from mover.dma.errors import NdmpError
from mover.dma.events import JobEvents
from mover.ndmp.enums import DataState
from mover.ndmp.messages import (
    DataAbortReply,
    DataAbortRequest,
    DataGetStateReply,
    DataGetStateRequest,
    DataStopReply,
    DataStopRequest,
)

HALT_S: Final = 5.0
"""How long an aborted machine may take to halt."""


async def data_state(client: Client) -> int:
    """The state of a data service now."""
    return (await client.call(DataGetStateRequest(), DataGetStateReply)).state


async def abort_data(client: Client) -> None:
    """DATA_ABORT, if there is something to abort. A lost connection needs none: the server ends what it had begun."""
    if client.failure is None and await data_state(client) not in {DataState.IDLE, DataState.HALTED}:
        with contextlib.suppress(NdmpError):  # halted just now, or a server that aborts ACTIVE only (NDMJOB)
            await client.call(DataAbortRequest(), DataAbortReply)


async def stop_data(client: Client, events: JobEvents) -> None:
    """DATA_STOP once it has halted, if it does so within HALT_S."""
    if client.failure is not None:
        return
    if await halts(lambda: data_state(client), events, DataState.ACTIVE, DataState.HALTED):
        await client.call(DataStopRequest(), DataStopReply)


async def halts(ask: Callable[[], Awaitable[int]], events: JobEvents, active: int, halted: int) -> bool:
    """Whether a machine is HALTED, once it has left ACTIVE or the time for that is over."""
    deadline = trio.current_time() + HALT_S
    while (state := await ask()) == active and trio.current_time() < deadline:
        await events.changed(0.02)
    return state == halted
