"""Group data: the DATA machine, its arguments and its peer. Source: states.md 3; NDMJOB test-data."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from mover.conformance.checks import NOTHING, Check, Need, clause
from mover.conformance.results import MismatchError, NotOfferedError
from mover.conformance.session import Session, must
from mover.conformance.stages import bring_data, environment, names, need_address, start_backup
from mover.conformance.walk import after_data, data_walk
from mover.ndmp import messages as m
from mover.ndmp.enums import AddressType, DataHaltReason, DataState, ErrorCode

ARGS: Final = ErrorCode.ILLEGAL_ARGS_ERR.name
ILLEGAL_STATE: Final = ErrorCode.ILLEGAL_STATE_ERR.name
CONNECT: Final = ErrorCode.CONNECT_ERR.name
FILESYSTEM: Final = frozenset({Need.FILESYSTEM})


def checks(version: int) -> Iterator[Check]:
    """The checks of this group."""
    yield from data_walk(version)

    def check(name: str, message: str, notes: str, run: object, needs: frozenset[Need] = NOTHING) -> Check:
        return Check(name, clause(version, f"DATA_{message}", notes), run, needs, "DATA")  # type: ignore[arg-type]  # a function below

    if version == 2:
        yield check("START_BACKUP of an unknown type", "START_BACKUP", "states.md 3.5", _bogus_type_2)
        yield check("START_BACKUP with mover address type 123", "START_BACKUP", "wire.md 6.3", _bogus_address_2)
        yield check("START_BACKUP that reaches nobody", "START_BACKUP", "states.md 3.1", _nobody_2, FILESYSTEM)
        yield check("START_BACKUP to LOCAL without a mover", "START_BACKUP", "states.md 3.1", _no_mover_2, FILESYSTEM)
        return
    bogus = {"123": m.DataListenRequest(123), "IPC": m.DataListenRequest(AddressType.IPC)}
    for what, listen in bogus.items():
        run = partial(_not_offered_address, request=listen, kind=what)
        yield check(f"LISTEN with address type {what}", "LISTEN", "states.md 3.6; NDMJOB test-data", run)
    odd: dict[str, m.Address] = {"123": m.UnknownArm(123), "IPC": m.IpcAddress(b"x")}
    if version == 4:
        odd["TCP and no address"] = m.TcpAddress(())
    for what, address in odd.items():
        run = partial(_not_offered_address, request=m.DataConnectRequest(address), kind=what)
        yield check(f"CONNECT with address type {what}", "CONNECT", "states.md 3.6; wire.md 6.3", run)
    yield check("CONNECT that reaches nobody stays IDLE", "CONNECT", "states.md 3.2", _nobody)
    yield check("CONNECT to LOCAL without a mover", "CONNECT", "states.md 3.6", _no_mover)
    yield check("START_BACKUP of an unknown type", "START_BACKUP", "states.md 3.5", _bogus_type)
    yield check("START_RECOVER of an unknown type", "START_RECOVER", "states.md 3.5", _bogus_recover_type)
    for kind in (AddressType.TCP, AddressType.LOCAL):
        yield check(
            f"LISTEN {kind.name}, ABORT, STOP leave no reason behind", "STOP", "states.md 3.4; NDMJOB test-data",
            partial(_round, kind=kind),
        )  # fmt: skip
    yield check("the address in LISTEN and CONNECTED", "GET_STATE", "states.md 3.4", _addresses)
    yield check("a peer that leaves in CONNECTED halts", "CONNECT", "states.md 3.3", _peer_leaves)
    yield check("a peer that leaves in ACTIVE halts", "START_BACKUP", "states.md 3.3", _peer_leaves_active, FILESYSTEM)


def _nothing_changes(session: Session, request: m.Body, *allowed: str) -> None:
    before = session.everything()
    session.expect(request, *allowed)
    must(session.everything() == before, "no state to change by a refused request", "another GET_STATE")


def _not_offered_address(session: Session, request: m.Body, kind: str) -> None:
    if kind == "IPC" and AddressType.IPC in session.offer.addr_types:
        raise NotOfferedError("the server lists IPC")
    _nothing_changes(session, request, ARGS)


def _nobody(session: Session) -> None:
    need_address(session, AddressType.TCP)
    _nothing_changes(session, m.DataConnectRequest(session.peer.nobody()), CONNECT)
    after_data(session, "IDLE")


def _no_mover(session: Session) -> None:
    need_address(session, AddressType.LOCAL)
    _nothing_changes(session, m.DataConnectRequest(m.LOCAL), ILLEGAL_STATE)


def _bogus_type(session: Session) -> None:
    bring_data(session, "CONNECTED")
    _nothing_changes(session, m.DataStartBackupRequest(b"bogus", environment(session)), ARGS)


def _bogus_recover_type(session: Session) -> None:
    bring_data(session, "CONNECTED")
    _nothing_changes(session, m.DataStartRecoverRequest(environment(session), names(session), b"bogus"), ARGS)


def _round(session: Session, kind: AddressType) -> None:
    need_address(session, kind)
    for _ in range(2):
        session.done(m.DataListenRequest(kind))
        after_data(session, "LISTEN")
        session.done(m.DataAbortRequest())
        after_data(session, "HALTED")
        session.done(m.DataStopRequest())
        after_data(session, "IDLE")


def _addresses(session: Session) -> None:
    """v3: the listening address in LISTEN; from CONNECTED on the peer's. v4: one element, without addr_env."""
    need_address(session, AddressType.TCP)
    listening = session.ok(m.DataListenRequest(AddressType.TCP), m.DataListenReply).data_connection_addr
    if session.version == 3:
        told = session.data_state().data_connection_addr
        must(told == listening, "LISTEN's address in GET_STATE", told)
    connection = session.peer.connect(listening)
    session.done(m.DataGetStateRequest())
    while (state := session.data_state()).state == DataState.LISTEN:
        pass  # each turn is a request with the deadline of the check
    address = state.data_connection_addr
    must(isinstance(address, m.TcpAddress), "a TCP address in CONNECTED", address)
    assert isinstance(address, m.TcpAddress)
    must(len(address.endpoints) == 1, "one address in CONNECTED", len(address.endpoints))
    endpoint, port = address.endpoints[0], int(connection.getsockname()[1])
    must(endpoint.port == port and not endpoint.addr_env, f"the peer's port {port}", endpoint.port)


def _halts(session: Session, reason: DataHaltReason) -> None:
    got = session.wait_for(m.NotifyDataHaltedPost).reason
    must(got == reason, f"NOTIFY_DATA_HALTED with {reason.name}", f"reason {got}")
    now = session.data_state()
    must((now.state, now.halt_reason) == (DataState.HALTED, reason), f"HALTED, {reason.name}", now.halt_reason)


def _peer_leaves(session: Session) -> None:
    connection = bring_data(session, "CONNECTED")
    assert connection is not None
    connection.close()
    _halts(session, DataHaltReason.CONNECT_ERROR)


def _peer_leaves_active(session: Session) -> None:
    connection = bring_data(session, "ACTIVE")
    assert connection is not None
    connection.close()
    _halts(session, DataHaltReason.CONNECT_ERROR)


# ---- version 2


def _bogus_type_2(session: Session) -> None:
    need_address(session, AddressType.TCP)
    request = m.DataStartBackupRequest(b"bogus", environment(session), session.peer.listen())
    _nothing_changes(session, request, ARGS)


def _bogus_address_2(session: Session) -> None:
    _nothing_changes(session, start_backup(session, m.UnknownArm(123)), ARGS)


def _nobody_2(session: Session) -> None:
    """No error code of its own: an error and IDLE, or NO_ERR and then HALTED CONNECT_ERROR."""
    need_address(session, AddressType.TCP)
    answer = session.ask(start_backup(session, session.peer.nobody()))
    if answer.good:
        _halts(session, DataHaltReason.CONNECT_ERROR)
    elif answer.error not in {ErrorCode.UNDEFINED_ERR.name, ErrorCode.IO_ERR.name}:
        raise MismatchError(f"expected UNDEFINED_ERR, IO_ERR or NO_ERR, got {answer.error}")
    else:
        after_data(session, "IDLE")


def _no_mover_2(session: Session) -> None:
    need_address(session, AddressType.LOCAL)
    _nothing_changes(session, start_backup(session, m.LOCAL), ILLEGAL_STATE)
