"""Brings DATA and MOVER of a session into each of their states, with the tester as the data connection's other side:
then only the machine in question leaves IDLE.
"""

import socket
import time
from os import fsencode
from typing import Final

from mover.conformance.results import MismatchError, SkippedError
from mover.conformance.session import Session, need
from mover.ndmp import messages as m
from mover.ndmp.enums import (
    AddressType,
    DataState,
    ErrorCode,
    MoverMode,
    MoverState,
    TapeMode,
    TapeOperation,
)

RECORD: Final = 1024
ALL: Final = 2**64 - 1
BUSY_WAIT_S: Final = 0.05
BUSY_MAX_S: Final = 1.0


def mover_mode(column: str) -> MoverMode:
    """The mode of a column's name; WRITE, which only reads the tape, where none is named."""
    return MoverMode.READ if "READ" in column.split() else MoverMode.WRITE


def writes(session: Session) -> bool:
    return session.options.write


def device(session: Session) -> bytes:
    assert session.options.tape_device is not None
    return fsencode(session.options.tape_device)


def open_tape(session: Session, mode: TapeMode | None = None) -> None:
    """Open the drive and rewind it; for writing only where the operator allows it.

    A drive that the last check's session has not let go of yet is waited for.
    """
    if mode is None:
        mode = TapeMode.RDWR if writes(session) else TapeMode.READ
    request = m.TapeOpenRequest(device(session), mode)
    until = min(time.monotonic() + BUSY_MAX_S, session.wire.deadline - BUSY_WAIT_S)
    while (answer := session.ask(request)).error == ErrorCode.DEVICE_BUSY_ERR.name:
        if time.monotonic() > until:
            break
        time.sleep(BUSY_WAIT_S)
    if not answer.good:
        raise MismatchError(f"TAPE_OPEN({session.options.tape_device}): expected NO_ERR, got {answer.error}")
    session.done(m.TapeMtioRequest(TapeOperation.REW, 1))


def environment(session: Session, *, history: bool = False) -> tuple[m.Pval, ...]:
    """What a backup or recover needs; no file history unless asked for, so that nothing comes in between."""
    filesystem = session.options.filesystem or "/"
    name = b"filesystem" if session.version == 1 else b"FILESYSTEM"
    return (m.Pval(name, fsencode(filesystem)), m.Pval(b"HIST", b"y" if history else b"n"))


def names(session: Session) -> tuple[m.RecoverName, ...]:
    return (m.RecoverName(b"", fsencode(session.options.recover_to or "/nonexistent")),)


def start_backup(
    session: Session, mover: m.Address | None = None, *, history: bool = False
) -> m.DataStartBackupRequest:
    """START_BACKUP of the file system; `mover` is version 2's address."""
    return m.DataStartBackupRequest(fsencode(session.options.butype), environment(session, history=history), mover)


def need_address(session: Session, kind: AddressType) -> None:
    """Raise SkippedError where the server does not list a kind of data connection."""
    listed = session.offer.addr_types
    need(kind in listed or not listed, f"the server does not list {kind.name} data connections")


def any_address(session: Session) -> AddressType:
    """TCP, or LOCAL where the server lists nothing else."""
    listed = session.offer.addr_types
    return AddressType.TCP if AddressType.TCP in listed or not listed else AddressType.LOCAL


def listen_mover(
    session: Session, mode: MoverMode, kind: AddressType, window: tuple[int, int], *, record_size: int = RECORD
) -> m.Address:
    """MOVER_LISTEN with record size and window set, each in the order of the version; the tape is open."""
    need_address(session, kind)
    session.done(m.MoverSetRecordSizeRequest(record_size))
    if session.version >= 4:
        session.done(m.MoverSetWindowRequest(*window))
    reply = session.ok(m.MoverListenRequest(mode, kind), m.MoverListenReply)
    if session.version < 4:
        session.done(m.MoverSetWindowRequest(*window))
    return reply.data_connection_addr


def _kind(session: Session, words: list[str]) -> AddressType:
    """How a state is reached: as its name says; one that is past by any kind, the others by TCP to have a peer."""
    if "LOCAL" in words:
        return AddressType.LOCAL
    return any_address(session) if words[0] == "HALTED" else AddressType.TCP


def bring_mover(session: Session, column: str) -> socket.socket | None:
    """Bring MOVER from IDLE to a column of the tables, the tape open and at its beginning.

    Returns:
        The other side of the data connection, where there is one.
    """
    words = column.split()
    state, mode = words[0], mover_mode(column)
    open_tape(session)
    if state == "IDLE":
        return None
    if mode is MoverMode.WRITE and writes(session):  # something to read
        session.done(m.TapeWriteRequest(bytes(RECORD)), m.TapeMtioRequest(TapeOperation.REW, 1))
    kind = _kind(session, words)
    address = listen_mover(session, mode, kind, (0, RECORD) if state == "PAUSED" else (0, ALL))
    if state == "LISTEN":
        return None
    if state == "HALTED":
        session.done(m.MoverAbortRequest())
        session.wait_for(m.NotifyMoverHaltedPost)
        return None
    connection = session.peer.connect(address)
    if state == "PAUSED":
        if mode is MoverMode.READ:
            connection.sendall(bytes(2 * RECORD))
        else:
            until_mover(session, MoverState.ACTIVE)
            session.done(m.MoverReadRequest(8 * RECORD, RECORD))
        session.wait_for(m.NotifyMoverPausedPost)
    else:
        until_mover(session, MoverState.ACTIVE)
    return connection


def bring_data(session: Session, column: str) -> socket.socket | None:
    """Bring DATA from IDLE to a column of the tables; ACTIVE is a backup that nobody reads.

    Returns:
        The other side of the data connection, where there is one.
    """
    words = column.split()
    state = words[0]
    if state == "IDLE":
        return None
    if session.version == 2:
        need_address(session, AddressType.TCP)
        session.done(start_backup(session, session.peer.listen()))
        connection = session.peer.accept()
        if state == "HALTED":
            session.done(m.DataAbortRequest())
            session.wait_for(m.NotifyDataHaltedPost)
        else:
            _need_active(session)
        return connection
    kind = _kind(session, words)
    need_address(session, kind)
    reply = session.ok(m.DataListenRequest(kind), m.DataListenReply)
    if state == "LISTEN":
        return None
    if state == "HALTED":
        session.done(m.DataAbortRequest())
        session.wait_for(m.NotifyDataHaltedPost)
        return None
    connection = session.peer.connect(reply.data_connection_addr)
    _until_data(session, DataState.CONNECTED)
    if state == "ACTIVE":
        session.done(start_backup(session))
        _need_active(session)
    return connection


def _need_active(session: Session) -> None:
    if session.data_state().state == DataState.HALTED:
        raise SkippedError("the backup ends before anybody reads it: a larger file system is needed to see ACTIVE")


def until_mover(session: Session, state: MoverState) -> None:
    """The server takes a connection in its own time, and no post tells it."""
    while (now := session.mover_state().state) == MoverState.LISTEN:
        _pause(session, "the mover stays in LISTEN although a peer has connected")
    if now != state:
        raise MismatchError(f"expected the mover {state.name} once a peer has connected, got state {now}")


def _until_data(session: Session, state: DataState) -> None:
    while (now := session.data_state().state) == DataState.LISTEN:
        _pause(session, "DATA stays in LISTEN although a peer has connected")
    if now != state:
        raise MismatchError(f"expected DATA {state.name} once a peer has connected, got state {now}")


def _pause(session: Session, what: str) -> None:
    if time.monotonic() + BUSY_WAIT_S > session.wire.deadline:
        raise MismatchError(what)
    time.sleep(BUSY_WAIT_S)
