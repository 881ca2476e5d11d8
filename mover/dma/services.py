"""Joins the data service and the mover of a job by a data connection, whichever side listens.

Version 4 wants record size and window before the mover listens; versions 2 and 3 take the window while it listens
(states reference 4.4). Version 2 has no DATA_CONNECT: its START requests carry the mover's address.
"""

import ipaddress
from typing import Final

from mover.dma.client import Client
from mover.dma.errors import JobError
from mover.dma.jobs import RunningJob
from mover.ndmp.address_env import encryption
from mover.ndmp.enums import UNBOUNDED, AddressType, DataState, MoverMode, MoverState
from mover.ndmp.messages import (
    Address,
    DataConnectReply,
    DataConnectRequest,
    DataListenReply,
    DataListenRequest,
    LocalAddress,
    MoverConnectReply,
    MoverConnectRequest,
    MoverListenReply,
    MoverListenRequest,
    MoverSetRecordSizeReply,
    MoverSetRecordSizeRequest,
    MoverSetWindowReply,
    MoverSetWindowRequest,
    TcpAddress,
    TcpEndpoint,
)

CONNECT_S: Final = 30.0
"""How long both sides may take to see the data connection."""


async def join_services(
    job: RunningJob, mode: MoverMode, record_size: int, window: tuple[int, int] = (0, UNBOUNDED)
) -> Address | None:
    """Set up the mover and make the data connection.

    Args:
        window: offset and length of the mover's first one.

    Returns:
        The mover's address for a START request of version 2; None where the connection stands already.

    Raises:
        NdmpError, JobError: the servers cannot be joined.
    """
    tape, data = job.tape, job.data
    detail = f"{record_size} bytes"
    await tape.call(MoverSetRecordSizeRequest(record_size), MoverSetRecordSizeReply, detail=detail)
    if job.session.data_listens:
        await _data_listens(job, mode, window)
    else:
        address = await _mover_listens(job, mode, window)
        if data.version < 3:
            return address
        await data.call(DataConnectRequest(address), DataConnectReply, detail=_text(address))
    # The listening side may see the connection a little later than the connecting one.
    states = await job.wait_for(
        lambda states: states.data.state != DataState.LISTEN and states.mover.state != MoverState.LISTEN,
        CONNECT_S,
        "the data connection was not seen by both sides",
    )
    job.encryption = encryption(states.data.data_connection_addr)
    return None


async def _mover_listens(job: RunningJob, mode: MoverMode, window: tuple[int, int]) -> Address:
    tape = job.tape
    kind = AddressType.LOCAL if job.local else AddressType.TCP
    if tape.version >= 4:
        await set_window(tape, *window)
    reply = await tape.call(MoverListenRequest(mode, kind), MoverListenReply, detail=job.session.drive)
    if tape.version < 4:
        await set_window(tape, *window)
    return reachable(_expected(reply.data_connection_addr, job, "mover"), tape)


async def _data_listens(job: RunningJob, mode: MoverMode, window: tuple[int, int]) -> None:
    data, tape = job.data, job.tape
    if min(data.version, tape.version) < 3:
        raise JobError("the data server cannot listen: protocol version 2 knows only a mover that listens")
    kind = AddressType.LOCAL if job.local else AddressType.TCP
    if tape.version >= 4:
        await set_window(tape, *window)  # version 3 has no state for it here and works without
    reply = await data.call(DataListenRequest(kind), DataListenReply)
    address = reachable(_expected(reply.data_connection_addr, job, "data service"), data)
    await tape.call(MoverConnectRequest(mode, address), MoverConnectReply, detail=_text(address))


async def set_window(tape: Client, offset: int, length: int) -> None:
    """MOVER_SET_WINDOW: which part of the stream the tape file at the drive's position holds, or is to hold."""
    detail = f"offset {offset}, length {'unbounded' if length == UNBOUNDED else length}"
    await tape.call(MoverSetWindowRequest(offset, length), MoverSetWindowReply, detail=detail)


def _expected(address: Address, job: RunningJob, who: str) -> Address:
    wanted = LocalAddress if job.local else TcpAddress
    if not isinstance(address, wanted) or (isinstance(address, TcpAddress) and not address.endpoints):
        raise JobError(f"the {who} listens at an address of another kind than asked for: {address!r}")
    return address


def reachable(address: Address, client: Client) -> Address:
    """A server that says "any address" is reached where its control connection goes."""
    if not isinstance(address, TcpAddress):
        return address
    try:
        own = int(ipaddress.IPv4Address(client.peer_address))
    except ValueError:
        return address
    return TcpAddress(
        tuple(TcpEndpoint(point.ip_addr or own, point.port, point.addr_env) for point in address.endpoints)
    )


def _text(address: Address) -> str:
    if isinstance(address, TcpAddress):
        return ", ".join(f"{ipaddress.IPv4Address(point.ip_addr)}:{point.port}" for point in address.endpoints)
    return "local"
