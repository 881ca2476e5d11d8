"""DATA: data connection, and the start and ends of backups and recovers.

Source: NDMPv4 section 3.5, NDMPv1 section 3.5; states.md sections 2 and 3; backup-env.md.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from mover.control.affinity import reaches_others
from mover.control.butypes import BUTYPES
from mover.control.data_addresses import NetworkAddress, address_type, network_address, places
from mover.control.data_connection import Carrier, DataConnection, DataRing, PeerEnd
from mover.control.environment import Environment, merge
from mover.control.local import join_local
from mover.control.recover_names import resolve_names
from mover.control.recover_tables import CHAINED, keeps_names, whole_destination, writes
from mover.control.refusal import Refusal
from mover.control.version_1 import OwnMover, RecordTapeService
from mover.control.volumes import ElsewhereError, PlacementError, show
from mover.ndmp import messages as m
from mover.ndmp.enums import AddressType, DataOperation, ErrorCode, MoverMode
from mover.ndmp.errors import IllegalStateError
from mover.ndmp.states import DataInput
from mover.workers.data_messages import (
    HistoryPlan,
    Pairs,
    Place,
    RecoverName,
    StartBackup,
    StartRecover,
    StartRecoverFilehist,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mover.control.connection import Connection
    from mover.control.data_run import Keep, Start

ENV_PAIRS_MAX = 4096  # many times what any client sends; looked through several times, with everybody else waiting
ENV_BYTES_MAX = 4 << 20  # kept as long as the operation: a thousand pairs of four kilobytes
PATHNAME_SEPARATOR = (b"PATHNAME_SEPARATOR", b"/")


async def get_state(connection: Connection, request: m.DataGetStateRequest) -> m.DataGetStateReply:
    """DATA_GET_STATE."""
    return connection.data.get_state()


async def get_env(connection: Connection, request: m.DataGetEnvRequest) -> m.DataGetEnvReply:
    """DATA_GET_ENV: the pairs of START, some changed, some added."""
    connection.machines.data.audit(DataInput.GET_ENV)
    return m.DataGetEnvReply(env=tuple(m.Pval(name, value) for name, value in connection.data.env))


async def abort(connection: Connection, request: m.DataAbortRequest) -> m.DataAbortReply:
    """DATA_ABORT."""
    connection.machines.data.audit(DataInput.ABORT)
    await connection.data.abort()
    return m.DataAbortReply()


async def stop(connection: Connection, request: m.DataStopRequest) -> m.DataStopReply:
    """DATA_STOP."""
    connection.machines.data.audit(DataInput.STOP)
    await connection.data.conclude()
    connection.data.stop()
    return m.DataStopReply()


async def listen(connection: Connection, request: m.DataListenRequest) -> m.DataListenReply:
    """DATA_LISTEN."""
    if request.addr_type not in connection.address_types:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    _audit_prepared(connection, request.addr_type)
    local = request.addr_type == AddressType.LOCAL
    machines, data = connection.machines, connection.data
    machines.audit_data(DataInput.LISTEN, local=local)
    if local:
        machines.apply_data(DataInput.LISTEN, local=True)
        return m.DataListenReply()

    async def accepted(carrier: Carrier) -> None:
        connection.data_ports.stop_listening("data")
        try:
            await _attach(connection, carrier, DataInput.PEER_CONNECTED)
        except IllegalStateError:
            connection.log.info("data connection came too late", peer=carrier.host)  # ABORT was quicker

    place = await connection.data_ports.listen(
        "data", AddressType(request.addr_type), accepted, data.listener_lost, watch=True
    )
    machines.apply_data(DataInput.LISTEN, local=False)
    if connection.version < 4:
        # In version 4 the address is that of the peer, from CONNECTED on.
        data.address = network_address(place.host, place.port)
    return m.DataListenReply(data_connection_addr=network_address(*place))


def _audit_prepared(connection: Connection, kind: int) -> None:
    """Refuse another type of data connection than CAB_DATA_CONN_PREPARE has announced. Source: extensions.md 3.3."""
    prepared = connection.data.prepared
    if prepared is not None and prepared != kind:
        raise Refusal(
            ErrorCode.PRECONDITION_ERR,
            f"CAB data connection prepare precondition error: {prepared.name} was prepared, not this type",
        )


async def connect(connection: Connection, request: m.DataConnectRequest) -> m.DataConnectReply:
    """DATA_CONNECT."""
    kind = address_type(request.addr)
    if kind not in connection.address_types:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    _audit_prepared(connection, kind)
    machines = connection.machines
    machines.audit_data(DataInput.CONNECT, local=kind == AddressType.LOCAL)
    if isinstance(request.addr, NetworkAddress):
        carrier = await connection.data_ports.connect_out(places(request.addr), watch=True)
        await _attach(connection, carrier, DataInput.CONNECT)
    else:
        await join_local(connection, machines.mover.mode, lambda: machines.apply_data(DataInput.CONNECT, local=True))
    return m.DataConnectReply()


async def _attach(connection: Connection, carrier: Carrier, signal: DataInput | None) -> None:
    """The TCP data connection stands: its relay watches it until the operation starts.

    Raises:
        IllegalStateError: the machine has moved on meanwhile; the connection is let go.
    """
    data = connection.data

    async def ended(how: PeerEnd) -> None:
        if data.connection_end is end:  # one that was let go may end while the next stands
            await data.on_peer_end(how)

    end = DataConnection.over(carrier, ended)
    attached = False
    try:
        if signal is not None:
            connection.machines.data.apply(signal)
        data.hold(end)
        attached = True
    finally:
        if not attached:
            await end.release(orderly=False)
    connection.nursery.start_soon(end.watch)


# --- START


def environment(connection: Connection, butype: bytes, pairs: tuple[m.Pval, ...]) -> Environment:
    """Type and environment of a START. Raises Refusal."""
    if butype not in BUTYPES:
        known = " and ".join(each.name for each in BUTYPES.values())
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, f"backup type {show(butype[:40])}: this server knows {known}")
    if len(pairs) > ENV_PAIRS_MAX:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, f"an environment of {len(pairs)} pairs, at most {ENV_PAIRS_MAX}")
    size = sum(len(pair.name) + len(pair.value) for pair in pairs)
    if size > ENV_BYTES_MAX:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, f"an environment of {size} bytes, at most {ENV_BYTES_MAX}")
    env = Environment(pairs, connection.version)
    env.check_level()
    return env


async def place_of(connection: Connection, path: bytes) -> Place:
    """Where a path lies, among the volumes that are with this node now. Raises Refusal."""
    await connection.node.cluster.refresh()
    try:
        return connection.volumes.place(path)
    except PlacementError as error:
        raise _not_placed(connection, error) from error


def _not_placed(connection: Connection, error: PlacementError) -> Refusal:
    """What the tables give a DMA, and this node cannot, fails for its place; anything else is a wrong name."""
    is_in_reach = isinstance(error, ElsewhereError) and reaches_others(connection)
    return Refusal(ErrorCode.PRECONDITION_ERR if is_in_reach else ErrorCode.ILLEGAL_ARGS_ERR, str(error))


def _answered_env(connection: Connection, env: Environment) -> Pairs:
    """The pairs of START and those that every operation adds."""
    return merge(env.pairs, [PATHNAME_SEPARATOR, (b"NDMP_VERSION", str(connection.version).encode())])


async def start_backup(connection: Connection, request: m.DataStartBackupRequest) -> m.DataStartBackupReply:
    """DATA_START_BACKUP."""
    _audit_start(connection, MoverMode.READ, request.mover_address)
    env = environment(connection, request.butype, request.env)
    if env.root is None:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, "the environment names no FILESYSTEM")
    place = await place_of(connection, env.root)
    butype = BUTYPES[request.butype]
    form = env.history_form(butype.history)
    ignores = b"Y" if connection.config.node.ignore_ctime_enabled else b"N"
    message = StartBackup(
        butype=butype.name,
        root=place,
        filesystem=env.root,
        env=merge([(b"IGNORE_CTIME", ignores)], env.pairs),
        history=HistoryPlan(connection.version, form) if form is not None else None,
        host=connection.config.node.name,
    )
    keep = functools.partial(connection.node.dump_dates.open, butype.name, place, env)
    await _start(connection, message, DataOperation.BACKUP, env, env.root, request.mover_address, keep)
    return m.DataStartBackupReply()


async def start_recover(connection: Connection, request: m.DataStartRecoverRequest) -> m.DataStartRecoverReply:
    """DATA_START_RECOVER."""
    _audit_start(connection, MoverMode.WRITE, request.mover_address)
    env = environment(connection, request.butype, request.env)
    await connection.node.cluster.refresh()
    try:
        names = await resolve_names(
            connection.version,
            request.nlist or [whole_image(env)],
            env.root,
            connection.volumes,
            direct=env.flag(b"DIRECT", default=False),
        )
    except PlacementError as error:
        raise _not_placed(connection, error) from error
    message = StartRecover(
        butype=BUTYPES[request.butype].name,
        names=names,
        env=env.pairs,
        recursive=env.flag(b"RECURSIVE", default=True),
        direct=connection.version > 1 and env.flag(b"DIRECT", default=False),
        direct_directories=connection.config.node.offset_map_enable,
    )
    keep = _keep_names(connection, env, names, message.butype)
    connection.data.report_names = bool(request.nlist)
    path = names[0].target.volume + b"/" + names[0].target.path
    await _start(connection, message, DataOperation.RECOVER, env, path, request.mover_address, keep)
    return m.DataStartRecoverReply()


def _keep_names(connection: Connection, env: Environment, names: list[RecoverName], butype: str) -> Keep | None:
    """What opens the table of the destination's names, where everything is recovered. Raises Refusal."""
    keeps = keeps_names(env, names) and butype == CHAINED
    place = whole_destination(names)
    if place is None or not writes(env):
        return None
    return functools.partial(connection.node.recover_tables.open, place, keep=keeps)


def whole_image(env: Environment) -> m.RecoverName:
    """What an empty recover list stands for: everything, to where PREFIX says, else back to FILESYSTEM.

    Deviates: version 4 demands an entry (section 3.5.3); NDMJOB's client sends none for a whole recover, in every
    version, with the destination in PREFIX.
    """
    destination = env.get(b"PREFIX") or env.root
    if not destination:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, "the recover list is empty, and the environment names no destination")
    return m.RecoverName(b"", destination, name=b"")


async def start_recover_filehist(
    connection: Connection, request: m.DataStartRecoverFilehistRequest
) -> m.DataStartRecoverFilehistReply:
    """DATA_START_RECOVER_FILEHIST."""
    _audit_start(connection, MoverMode.WRITE, request.mover_address)
    env = environment(connection, request.butype, request.env)
    butype = BUTYPES[request.butype]
    form = env.history_form(butype.history) or butype.history
    message = StartRecoverFilehist(butype=butype.name, env=env.pairs, history=HistoryPlan(connection.version, form))
    await _start(connection, message, DataOperation.RECOVER_FILEHIST, env, env.root or b"", request.mover_address)
    return m.DataStartRecoverFilehistReply()


def _audit_start(connection: Connection, mode: MoverMode, address: object | None) -> None:
    """States of a START; version 2 connects with it, so its address is judged here too. Raises Refusal."""
    machines = connection.machines
    if connection.version == 1:
        machines.data.audit(DataInput.START)
        return
    if connection.version > 2:
        machines.audit_start(mode)
        return
    kind = address_type(address)
    if kind not in connection.address_types:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    local = kind == AddressType.LOCAL
    machines.audit_data(DataInput.START, local=local)
    if local and machines.mover.mode is not mode:
        raise Refusal(ErrorCode.ILLEGAL_STATE_ERR)


async def _start(
    connection: Connection,
    message: Start,
    operation: DataOperation,
    env: Environment,
    path: bytes,
    address: m.Address | None,
    keep: Keep | None = None,
) -> None:
    """Have a data worker accept the operation, then move the machine.

    Version 2 makes the connection with it, version 1 also sets up the mover, on the drive that is open.
    """
    data, machines = connection.data, connection.machines
    mode = MoverMode.READ if operation is DataOperation.BACKUP else MoverMode.WRITE

    async def begin() -> None:
        end = data.connection_end
        assert end is not None
        try:
            if end.ring is None:
                limits = connection.config.limits
                ring = DataRing(limits.ring, limits.record_size_max)
                connection.node.statistics.ledger.add_ring("data", connection.session_id, ring.control)
                end.use_ring(ring)
        except OSError as error:
            raise Refusal(ErrorCode.UNDEFINED_ERR, f"no data ring: {error.strerror}") from error
        await data.begin(message, operation, _answered_env(connection, env), path, keep)

    if connection.version == 1:
        tape, mover = connection.tape, connection.mover
        assert isinstance(tape, RecordTapeService)
        assert isinstance(mover, OwnMover)
        await tape.audit_operation(writes=mode.writes_tape)
        await mover.join(mode, tape.record_size, lambda: machines.apply_data(DataInput.START, local=True), begin)
    elif connection.version > 2:
        if data.connection_end is None:
            raise Refusal(ErrorCode.ILLEGAL_STATE_ERR)  # lost in this moment; DATA_HALTED is on its way
        await begin()
        machines.data.apply(DataInput.START)
    elif isinstance(address, m.TcpAddress):
        await _start_over_tcp_in_version_2(connection, address, begin)
    else:
        await join_local(
            connection, machines.mover.mode, lambda: machines.apply_data(DataInput.START, local=True), begin
        )
    data.machine.operation = operation
    data.work()
    await data.join_relay("send" if operation is DataOperation.BACKUP else "receive")


async def _start_over_tcp_in_version_2(
    connection: Connection, address: m.TcpAddress, begin: Callable[[], Awaitable[None]]
) -> None:
    data = connection.data
    try:
        carrier = await connection.data_ports.connect_out(places(address), watch=True)
    except Refusal as refusal:
        # Version 2 has no code for it, and stays IDLE.
        raise Refusal(ErrorCode.IO_ERR, refusal.text) from refusal
    await _attach(connection, carrier, None)
    begun = False
    try:
        await begin()
        connection.machines.apply_data(DataInput.START, local=False)
        begun = True
    finally:
        if not begun:
            await data.release()
