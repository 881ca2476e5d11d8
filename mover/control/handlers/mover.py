"""MOVER: record size, window, data connection, and the mover's start and ends.

Source: NDMPv4 section 3.6; states.md section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mover.control.data_addresses import NetworkAddress, address_type, network_address, places
from mover.control.data_connection import Carrier, DataConnection, PeerEnd
from mover.control.local import join_local
from mover.control.refusal import Refusal
from mover.ndmp import messages as m
from mover.ndmp.enums import AddressType, ErrorCode, MoverMode
from mover.ndmp.errors import IllegalStateError
from mover.ndmp.states import MoverInput
from mover.ndmp.window import (
    check_connection_arguments,
    check_connection_preconditions,
    check_continue,
    check_read,
    check_record_size,
    check_window,
)
from mover.ring import Verdict

if TYPE_CHECKING:
    from mover.control.connection import Connection


def require(error: ErrorCode) -> None:
    """Raise Refusal unless the check passed."""
    if error != ErrorCode.NO_ERR:
        raise Refusal(error)


async def get_state(connection: Connection, request: m.MoverGetStateRequest) -> m.MoverGetStateReply:
    """MOVER_GET_STATE."""
    return connection.mover.get_state()


async def set_record_size(connection: Connection, request: m.MoverSetRecordSizeRequest) -> m.MoverSetRecordSizeReply:
    """MOVER_SET_RECORD_SIZE."""
    maximum = connection.config.limits.record_size_max
    error = check_record_size(request.len, maximum=maximum)
    if error != ErrorCode.NO_ERR:
        raise Refusal(error, f"a record of {request.len} bytes: 1 to {maximum} are taken (limits.record_size_max)")
    connection.machines.mover.audit(MoverInput.SET_RECORD_SIZE)
    connection.mover.set_record_size(request.len)
    return m.MoverSetRecordSizeReply()


async def set_window(connection: Connection, request: m.MoverSetWindowRequest) -> m.MoverSetWindowReply:
    """MOVER_SET_WINDOW."""
    machine, mover = connection.machines.mover, connection.mover
    machine.audit(MoverInput.SET_WINDOW)
    require(
        check_window(connection.version, machine.state, machine.mode, mover.record_size, request.offset, request.length)
    )
    mover.set_window(request.offset, request.length)
    return m.MoverSetWindowReply()


def _audit_connection(connection: Connection, signal: MoverInput, mode: int, addr_type: int) -> MoverMode:
    """Arguments, states, device and preconditions of LISTEN and CONNECT, in this order."""
    mover = connection.mover
    require(check_connection_arguments(mode, addr_type, frozenset(connection.address_types)))
    connection.machines.audit_mover(signal, local=addr_type == AddressType.LOCAL)
    if not connection.tape.is_open:
        raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)
    if MoverMode(mode).writes_tape and not connection.tape.writable:
        raise Refusal(ErrorCode.PERMISSION_ERR)
    require(
        check_connection_preconditions(
            connection.version, mode, mover.record_size, mover.window_offset, mover.window_length
        )
    )
    return MoverMode(mode)


async def listen(connection: Connection, request: m.MoverListenRequest) -> m.MoverListenReply:
    """MOVER_LISTEN."""
    mode = _audit_connection(connection, MoverInput.LISTEN, request.mode, request.addr_type)
    mover, machines = connection.mover, connection.machines
    if request.addr_type == AddressType.LOCAL:
        machines.apply_mover(MoverInput.LISTEN, local=True)
        machines.mover.mode = mode
        return m.MoverListenReply()

    async def accepted(carrier: Carrier) -> None:
        connection.data_ports.stop_listening("mover")
        try:
            await _go(connection, carrier, mode, MoverInput.PEER_CONNECTED)
        except Refusal as refusal:
            mover.listener_lost(refusal.text or str(refusal))
        except IllegalStateError:
            connection.log.info("data connection came too late", peer=carrier.host)  # ABORT or CLOSE was quicker

    place = await connection.data_ports.listen(
        "mover", AddressType(request.addr_type), accepted, mover.listener_lost, watch=False
    )
    machines.apply_mover(MoverInput.LISTEN, local=False)
    machines.mover.mode = mode
    mover.address = network_address(place.host, place.port)  # without the keys, which nobody needs twice
    return m.MoverListenReply(data_connection_addr=network_address(*place))


async def _go(connection: Connection, carrier: Carrier, mode: MoverMode, signal: MoverInput) -> None:
    """The TCP data connection stands: relay on one side of a ring, tape worker on the other, mover ACTIVE."""
    mover = connection.mover

    async def ended(how: PeerEnd) -> None:
        if mover.connection_end is end:  # one that was let go may end while the next stands
            await mover.on_peer_end(how)

    end = DataConnection.over(carrier, ended)
    started = False
    try:
        end.use_ring(mover.make_ring())
        async with mover.changing():
            connection.machines.mover.audit(signal)  # an ABORT may have come while the relay took the socket
            mover.hold(end)
            await mover.start(mode)
            connection.machines.mover.apply(signal)
            connection.machines.mover.mode = mode
            started = True
    except OSError as error:
        raise Refusal(ErrorCode.CONNECT_ERR, str(error)) from error
    finally:
        if not started:
            if mover.connection_end is end:
                mover.connection_end = None
            end.break_off(Verdict.BROKEN)
            await end.release(orderly=False)
    connection.nursery.start_soon(end.watch)
    await mover.join_relay(mode)


async def connect(connection: Connection, request: m.MoverConnectRequest) -> m.MoverConnectReply:
    """MOVER_CONNECT."""
    kind = address_type(request.addr)
    mode = _audit_connection(connection, MoverInput.CONNECT, request.mode, kind)
    if isinstance(request.addr, NetworkAddress):
        carrier = await connection.data_ports.connect_out(places(request.addr), watch=False)
        await _go(connection, carrier, mode, MoverInput.CONNECT)
    else:
        await join_local(connection, mode, lambda: connection.machines.apply_mover(MoverInput.CONNECT, local=True))
    return m.MoverConnectReply()


async def read(connection: Connection, request: m.MoverReadRequest) -> m.MoverReadReply:
    """MOVER_READ."""
    machine, mover = connection.machines.mover, connection.mover
    machine.audit(MoverInput.READ)
    # Whether a read is unfinished only the tape worker knows: its gauge may be behind what the peer has already got.
    require(check_read(machine.mode, 0, request.offset, request.length))
    await mover.read(request.offset, request.length)
    return m.MoverReadReply()


async def continue_(connection: Connection, request: m.MoverContinueRequest) -> m.MoverContinueReply:
    """MOVER_CONTINUE: the same worker or, after a change of drives, another one takes up the ring."""
    machine, mover = connection.machines.mover, connection.mover
    machine.audit(MoverInput.CONTINUE)
    if not connection.tape.is_open:
        raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)
    if machine.mode.writes_tape and not connection.tape.writable:
        raise Refusal(ErrorCode.PERMISSION_ERR)
    require(check_continue(connection.version, window_is_new=mover.window_is_new))
    async with mover.changing():
        machine.audit(MoverInput.CONTINUE)
        await mover.start(machine.mode)
        machine.apply(MoverInput.CONTINUE)
        mover.has_moved()
    return m.MoverContinueReply()


async def close(connection: Connection, request: m.MoverCloseRequest) -> m.MoverCloseReply:
    """MOVER_CLOSE: the data connection is closed, the mover HALTED."""
    connection.machines.mover.audit(MoverInput.CLOSE)
    await connection.mover.break_off(MoverInput.CLOSE)
    return m.MoverCloseReply()


async def abort(connection: Connection, request: m.MoverAbortRequest) -> m.MoverAbortReply:
    """MOVER_ABORT: no effect when halted already."""
    connection.machines.mover.audit(MoverInput.ABORT)
    await connection.mover.break_off(MoverInput.ABORT)
    return m.MoverAbortReply()


async def stop(connection: Connection, request: m.MoverStopRequest) -> m.MoverStopReply:
    """MOVER_STOP."""
    connection.machines.mover.audit(MoverInput.STOP)
    connection.mover.stop()
    return m.MoverStopReply()
