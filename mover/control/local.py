"""The LOCAL data connection: DATA and MOVER of one connection get the two sides of one ring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mover.control.data_connection import DataConnection, Delivery, PeerEnd
from mover.control.refusal import Refusal
from mover.ndmp.enums import ErrorCode, MoverMode
from mover.ndmp.messages import LOCAL
from mover.ring import Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mover.control.connection import Connection
    from mover.control.data_service import DataService
    from mover.control.mover_service import MoverService


async def join_local(
    connection: Connection,
    mode: MoverMode,
    move: Callable[[], None],
    begin: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Make the ring, ``begin`` the data operation (version 2), put the tape worker to work, ``move`` both machines.

    Raises:
        Refusal: a worker would not, or there is no memory; nothing has changed.
    """
    data, mover = connection.data, connection.mover
    data_end = DataConnection(LOCAL, data.on_peer_end)
    mover_end = DataConnection(LOCAL, mover.on_peer_end)
    if mode is MoverMode.READ:
        data_end.delivery = mover_end.delivery = Delivery()
    joined = False
    try:
        ring = mover.make_ring()
        data_end.use_ring(ring)
        mover_end.use_ring(ring)
        data.hold(data_end)
        if begin is not None:
            await begin()
        async with mover.changing():
            mover.hold(mover_end)
            await mover.start(mode)
            move()
            connection.machines.mover.mode = mode
            joined = True
    except OSError as error:
        raise Refusal(ErrorCode.CONNECT_ERR, f"no data ring: {error.strerror}") from error
    finally:
        if not joined:
            mover.connection_end = None
            mover_end.break_off(Verdict.BROKEN)
            await mover_end.release(orderly=False)
            await data.release()


def tell_other_end(connection: Connection, service: DataService | MoverService, end: PeerEnd) -> None:
    """The local data connection of the other machine has ended with ours; the first word counts."""
    other = service.connection_end
    # Noted at once: a request that the DMA sends as soon as it hears of it may run before the new task.
    if other is not None and other.local and other.note_end(end):
        connection.nursery.start_soon(other.tell_end)
