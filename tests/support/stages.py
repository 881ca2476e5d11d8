"""Brings DATA and MOVER of a connection into each of their states, with the test itself as the data connection's
other side: then only the machine in question leaves IDLE.
"""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from mover.ndmp.enums import (
    AddressType,
    DataState,
    MoverMode,
    MoverState,
    TapeMode,
    TapeOperation,
)
from mover.ndmp.messages import (
    DataAbortRequest,
    DataGetStateReply,
    DataGetStateRequest,
    DataListenReply,
    DataListenRequest,
    DataStartBackupRequest,
    MoverAbortRequest,
    MoverGetStateReply,
    MoverGetStateRequest,
    MoverListenReply,
    MoverListenRequest,
    MoverReadRequest,
    MoverSetRecordSizeRequest,
    MoverSetWindowRequest,
    NotifyDataHaltedPost,
    NotifyMoverHaltedPost,
    NotifyMoverPausedPost,
    TapeGetStateRequest,
    TapeMtioRequest,
    TapeOpenRequest,
    TapeWriteRequest,
    TcpAddress,
)
from mover.ndmp.messages.common import Address, tcp_address
from tests.support.ndmp_client import ALL, DEADLINE_S, NdmpClient, pairs
from tests.support.servers import Login, Server

DRIVE = b"vtl0/drive0"
LOOPBACK = 0x7F000001
RECORD = 1024


class Peer:
    """The other side of TCP data connections: it connects, or is connected to, and reads nothing by itself."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._listener.settimeout(DEADLINE_S)

    @property
    def address(self) -> TcpAddress:
        """Where it listens; whoever connects is let wait."""
        return tcp_address(LOOPBACK, self._listener.getsockname()[1])

    def accept(self) -> socket.socket:
        connection, _ = self._listener.accept()
        return self._stack.enter_context(connection)

    def connect(self, address: object) -> socket.socket:
        """Connect to the address of a LISTEN reply."""
        assert isinstance(address, TcpAddress)
        (endpoint,) = address.endpoints
        assert endpoint.ip_addr == LOOPBACK
        connection = socket.create_connection(("127.0.0.1", endpoint.port), timeout=DEADLINE_S)
        return self._stack.enter_context(connection)

    def close(self) -> None:
        self._stack.close()


class Stage(NamedTuple):
    """One connection in some state, with the peer of its data connection."""

    client: NdmpClient
    peer: Peer

    @property
    def version(self) -> int:
        return self.client.protocol.version


@contextlib.contextmanager
def stage(server: Server, login: Login, version: int) -> Iterator[Stage]:
    """A fresh connection, everything IDLE; behind it the server has let go of all that it had."""
    peer = Peer()
    client = NdmpClient(server.address, login=login, version=version)
    try:
        yield Stage(client, peer)
        client.hang_up()
    finally:
        client.close()
        peer.close()


def data_state(client: NdmpClient) -> DataGetStateReply:
    state = client.ok(DataGetStateRequest())
    assert isinstance(state, DataGetStateReply)
    return state


def mover_state(client: NdmpClient) -> MoverGetStateReply:
    state = client.ok(MoverGetStateRequest())
    assert isinstance(state, MoverGetStateReply)
    return state


def everything(client: NdmpClient) -> tuple[object, ...]:
    """All that the three GET_STATEs tell, but for how far a running operation is."""
    data = msgspec.structs.replace(
        data_state(client), bytes_processed=0, est_bytes_remain=0, est_time_remain=0, unsupported=0
    )
    tape = client.ask(TapeGetStateRequest())
    return data, mover_state(client), tape.error, tape.body


def open_tape(client: NdmpClient, mode: TapeMode = TapeMode.RDWR) -> None:
    client.ok(TapeOpenRequest(DRIVE, mode))
    client.ok(TapeMtioRequest(TapeOperation.REW, 1))


def bring_data(client: NdmpClient, state: DataState, peer: Peer, source: Path) -> socket.socket | None:
    """Bring DATA from IDLE to a state; ACTIVE is a backup of `source` that nobody reads.

    Returns:
        The other side of the data connection, where there is one.
    """
    version = client.protocol.version
    start = DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source)))
    if version == 2:
        if state == DataState.IDLE:
            return None
        client.ok(msgspec.structs.replace(start, mover_address=peer.address))
        connection = peer.accept()
        if state == DataState.HALTED:
            client.ok(DataAbortRequest())
            client.wait_for(NotifyDataHaltedPost)
        return connection
    if state == DataState.IDLE:
        return None
    listening = client.ok(DataListenRequest(AddressType.TCP))
    assert isinstance(listening, DataListenReply)
    if state == DataState.HALTED:
        client.ok(DataAbortRequest())
        client.wait_for(NotifyDataHaltedPost)
    elif state != DataState.LISTEN:
        connection = peer.connect(listening.data_connection_addr)
        if state == DataState.ACTIVE:
            client.ok(start)
        return connection
    return None


def listen(
    client: NdmpClient,
    mode: MoverMode,
    *,
    record_size: int = RECORD,
    window: tuple[int, int] = (0, ALL),
    kind: AddressType = AddressType.TCP,
) -> Address:
    """MOVER_LISTEN with record size and window set, each in the order of the version; the tape is open."""
    client.ok(MoverSetRecordSizeRequest(record_size))
    if client.protocol.version >= 4:
        client.ok(MoverSetWindowRequest(*window))
    listening = client.ok(MoverListenRequest(mode, kind))
    if client.protocol.version < 4:
        client.ok(MoverSetWindowRequest(*window))
    assert isinstance(listening, MoverListenReply)
    return listening.data_connection_addr


def bring_mover(client: NdmpClient, state: MoverState, mode: MoverMode, peer: Peer) -> socket.socket | None:
    """Bring MOVER from IDLE to a state, with the tape open and at its beginning.

    Returns:
        The other side of the data connection, where there is one.
    """
    open_tape(client)
    if state == MoverState.IDLE:
        return None
    if mode is MoverMode.WRITE:  # something to read
        client.ok(TapeWriteRequest(bytes(RECORD)))
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
    address = listen(client, mode, window=(0, RECORD) if state == MoverState.PAUSED else (0, ALL))
    if state == MoverState.HALTED:
        client.ok(MoverAbortRequest())
        client.wait_for(NotifyMoverHaltedPost)
    elif state != MoverState.LISTEN:
        connection = peer.connect(address)
        if state == MoverState.PAUSED:
            if mode is MoverMode.READ:
                connection.sendall(bytes(2 * RECORD))
            else:
                client.ok(MoverReadRequest(8 * RECORD, 1))
            client.wait_for(NotifyMoverPausedPost)
        return connection
    return None
