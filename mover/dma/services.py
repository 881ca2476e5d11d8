"""Joins the data service and the mover of a job by a data connection, whichever side listens.

Version 4 wants record size and window before the mover listens; versions 2 and 3 take the window while it listens
(states reference 4.4). Version 2 has no DATA_CONNECT: its START requests carry the mover's address.
"""

import ipaddress
import os
from typing import Final

from mover.dma.client import Client
from mover.dma.errors import JobError, NdmpError
from mover.dma.jobs import RunningJob, States
from mover.ndmp.address_env import encryption
from mover.ndmp.enums import UNBOUNDED, AddressType, DataState, MoverMode, MoverState
from mover.ndmp.extensions import CAB, CAE
from mover.ndmp.messages import (
    Address,
    CabDataConnPrepareReply,
    CabDataConnPrepareRequest,
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
    Pval,
    TcpAddress,
    TcpEndpoint,
    TcpIpv6Address,
    TcpIpv6Endpoint,
)

_LISTENS: Final = frozenset({"MOVER_LISTEN", "DATA_LISTEN"})
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
    detail = f"{record_size} bytes"
    await job.tape.call(MoverSetRecordSizeRequest(record_size), MoverSetRecordSizeReply, detail=detail)
    kind = _kind(job)
    try:
        address = await _connect(job, mode, window, kind)
    except NdmpError as error:
        if kind != AddressType.TCP_IPV6 or error.message not in _LISTENS:
            raise
        job.events.note(f"no data connection over IPv6: {error}")
        address = await _connect(job, mode, window, AddressType.TCP)
    if address is not None:
        return address
    # The listening side may see the connection a little later than the connecting one.
    states = await job.wait_for(_joined_or_lost, CONNECT_S, "the data connection was not seen by both sides")
    if states.data.state == DataState.HALTED or states.mover.state == MoverState.HALTED:
        raise JobError(f"the data connection was lost before the operation began: {job.outcome()}")
    job.encryption = encryption(states.data.data_connection_addr)
    return None


def _joined_or_lost(states: States) -> bool:
    """Whether both sides see the data connection, or one does not have it any more."""
    data, mover = states.data.state, states.mover.state
    if data == DataState.HALTED or mover == MoverState.HALTED:
        return True
    return data != DataState.LISTEN and mover != MoverState.LISTEN


async def _connect(job: RunningJob, mode: MoverMode, window: tuple[int, int], kind: AddressType) -> Address | None:
    """As ``join_services``, by a data connection of this type."""
    await _prepare(job, kind)
    if job.session.data_listens:
        await _data_listens(job, mode, window, kind)
        return None
    address = await _mover_listens(job, mode, window, kind)
    if job.data.version < 3:
        return address
    await job.data.call(DataConnectRequest(address), DataConnectReply, detail=_text(address))
    return None


async def _prepare(job: RunningJob, kind: AddressType) -> None:
    """Tell a server of a cluster which volume the data connection is for, and of what type it will be."""
    if CAB in job.data.extensions and job.path:
        env = (Pval(b"FILESYSTEM", job.path),)
        request = CabDataConnPrepareRequest(kind, os.fsencode(job.session.butype), env)
        await job.data.call(request, CabDataConnPrepareReply, detail=os.fsdecode(job.path))


def _kind(job: RunningJob) -> AddressType:
    """The type of the data connection; both servers are reached over IPv6 where both have chosen CAE."""
    if job.local:
        return AddressType.LOCAL
    both = CAE in job.data.extensions and CAE in job.tape.extensions
    return AddressType.TCP_IPV6 if both else AddressType.TCP


async def _mover_listens(job: RunningJob, mode: MoverMode, window: tuple[int, int], kind: AddressType) -> Address:
    tape = job.tape
    if tape.version >= 4:
        await set_window(tape, *window)
    reply = await tape.call(MoverListenRequest(mode, kind), MoverListenReply, detail=job.session.drive)
    if tape.version < 4:
        await set_window(tape, *window)
    return reachable(_expected(reply.data_connection_addr, kind, "mover"), tape)


async def _data_listens(job: RunningJob, mode: MoverMode, window: tuple[int, int], kind: AddressType) -> None:
    data, tape = job.data, job.tape
    if min(data.version, tape.version) < 3:
        raise JobError("the data server cannot listen: protocol version 2 knows only a mover that listens")
    if tape.version >= 4:
        await set_window(tape, *window)  # version 3 has no state for it here and works without
    reply = await data.call(DataListenRequest(kind), DataListenReply)
    address = reachable(_expected(reply.data_connection_addr, kind, "data service"), data)
    await tape.call(MoverConnectRequest(mode, address), MoverConnectReply, detail=_text(address))


async def set_window(tape: Client, offset: int, length: int) -> None:
    """MOVER_SET_WINDOW: which part of the stream the tape file at the drive's position holds, or is to hold."""
    detail = f"offset {offset}, length {'unbounded' if length == UNBOUNDED else length}"
    await tape.call(MoverSetWindowRequest(offset, length), MoverSetWindowReply, detail=detail)


_KINDS: Final[dict[AddressType, type[Address]]] = {
    AddressType.LOCAL: LocalAddress,
    AddressType.TCP: TcpAddress,
    AddressType.TCP_IPV6: TcpIpv6Address,
}


def _expected(address: Address, kind: AddressType, who: str) -> Address:
    is_empty = isinstance(address, TcpAddress | TcpIpv6Address) and not address.endpoints
    if not isinstance(address, _KINDS[kind]) or is_empty:
        raise JobError(
            f"the {who} listens at an address of another kind than asked for, or at none: {type(address).__name__}"
        )
    return address


def reachable(address: Address, client: Client) -> Address:
    """A server that says "any address" is reached where its control connection goes."""
    own = ipaddress.ip_address(client.peer_address.partition("%")[0])
    match address, own:
        case TcpAddress(endpoints=points), ipaddress.IPv4Address():
            return TcpAddress(
                tuple(TcpEndpoint(point.ip_addr or int(own), point.port, point.addr_env) for point in points)
            )
        case TcpIpv6Address(endpoints=points), ipaddress.IPv6Address():
            return TcpIpv6Address(
                tuple(
                    TcpIpv6Endpoint(point.ipv6_addr if any(point.ipv6_addr) else own.packed, point.port, point.addr_env)
                    for point in points
                )
            )
        case _:
            return address


def _text(address: Address) -> str:
    match address:
        case TcpAddress(endpoints=points):
            return ", ".join(f"{ipaddress.IPv4Address(point.ip_addr)}:{point.port}" for point in points)
        case TcpIpv6Address(endpoints=points):
            return ", ".join(f"[{ipaddress.IPv6Address(point.ipv6_addr)}]:{point.port}" for point in points)
        case _:
            return "local"
