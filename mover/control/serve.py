"""`mover serve`: the control process from its first socket to its last worker."""

import faulthandler
import json
import os
import resource
import signal
import socket
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import structlog
import trio

from mover.admin.statistics import StatisticsShow
from mover.config import Config, ConfigError, Lif, load_config
from mover.config.values import host_and_port
from mover.config.vservers import overlaps
from mover.control import systemd
from mover.control.accounts import Accounts
from mover.control.admin_server import AdminServer
from mover.control.announcement import announcement
from mover.control.cluster import Cluster
from mover.control.connection import Connection
from mover.control.control_stream import ControlStream
from mover.control.drives import Devices
from mover.control.holding import HeldError, hold
from mover.control.logs import STANDARD_ERROR, configure_logs
from mover.control.node import Node
from mover.control.options import ChangedOptions
from mover.control.registry import Registry, RegistryError
from mover.control.secure_ports import SecurePorts
from mover.control.secure_stream import SecureStream
from mover.control.snapshots import open_snapshots
from mover.control.sockets import CONTROL_BACKLOG, open_listener
from mover.control.store import Store, StoreError, open_store
from mover.control.tls_identity import IdentityError
from mover.control.workers import open_supervisor
from mover.ndmp.server import ServerProtocol
from mover.workers.confine import REFER_ABI, landlock_abi

if TYPE_CHECKING:
    from mover.control.web import Web

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
DESCRIPTORS: Final = 16_384
STANDARD_OUTPUT: Final = 1
ACCEPT_RETRY_S: Final = 0.2
DRAIN_LOOK_S: Final = 0.1
SIGNALS_DRAIN_S: Final = 0.01
FORCE_S: Final = 2.0
ELSEWHERE: Final = "not from this address"
CLOSE_S: Final = 20.0  # after grace_s, until everything is stopped by force
MARGIN_S: Final = 30.0  # what systemd gives us beyond that, before it kills
# What a running server cannot change; compared at SIGHUP.
_FIXED: Final = ("lif", "library", "drive", "changer")
_FIXED_NODE: Final = (
    "state_directory", "cluster_directory", "admin_socket", "log_format", "metrics",
    "statistics_interval_s",
)  # fmt: skip

log = structlog.get_logger()


class StartError(Exception):
    """The server cannot start; one line that names the thing and what is wrong with it."""


class Listener(NamedTuple):
    """An open LIF."""

    lif: Lif
    socket: trio.socket.SocketType

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])


def run(config: Config, path: str | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Args:
        path: the file that SIGHUP reads again; None = SIGHUP changes nothing.
    """
    configure_logs(config.node.log_format)
    # Where it hung, when systemd's watchdog ends it by SIGABRT: lines of code, no values.
    faulthandler.enable(STANDARD_ERROR)
    _warn_of_landlock(landlock_abi())
    _raise_descriptor_limit()
    try:
        return trio.run(_serve, config, path)
    except StartError as error:
        print(f"mover serve: {error}", file=sys.stderr)
        return 1
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # everything is down: one more asks for nothing


def _warn_of_landlock(abi: int) -> None:
    if not abi:
        log.warning("this kernel has no Landlock: workers are confined by capabilities and file ownership alone")
    elif abi < REFER_ABI:
        log.warning(
            "this kernel's Landlock is too old for recovers: capabilities and file ownership alone confine them"
        )


def _raise_descriptor_limit() -> None:
    """A session with a job holds some twenty descriptors, and the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(config: Config, path: str | None) -> int:
    # Watched before anything is open: a signal that comes early ends us in order.
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with AsyncExitStack() as stack:
            listeners = [await stack.enter_async_context(_open_lif(lif)) for lif in config.lif]
            metrics = await stack.enter_async_context(_open_metrics(config))
            _hold_directories(stack, config)
            cluster = await stack.enter_async_context(_cluster(config))
            store = await stack.enter_async_context(_store(config.node.state_directory))
            devices = Devices(config, store)
            try:
                await devices.take_inventory()
            except OSError as error:
                raise StartError(f"{error.filename}: {error.strerror}") from error
            except StoreError as error:
                raise StartError(str(error)) from error
            accounts = await _load_accounts(config, store)
            options = await _load_options(config, store)
            secure_ports = await _open_secure_ports(stack, options.configure(config))
            admin_socket = await stack.enter_async_context(_open_admin_socket(config.node.admin_socket))
            supervisor = await stack.enter_async_context(open_supervisor(config.limits.spares))
            snapshots = await stack.enter_async_context(open_snapshots(config))
            node = Node(config, supervisor, devices, snapshots, accounts, secure_ports, options, cluster)
            supervisor.on_exit = node.statistics.end_worker
            await trio.to_thread.run_sync(node.jobs.open)
            node.identities.ask()
            web = None if metrics is None else _web(node, metrics)
            async with trio.open_nursery() as nursery:
                admin = AdminServer(node)
                nursery.start_soon(node.statistics.run)
                nursery.start_soon(node.audit.run)
                nursery.start_soon(admin.serve, admin_socket)
                if web is not None:
                    nursery.start_soon(web.serve)
                accepting = trio.CancelScope()
                parts = partial(announcement, node, {each.lif.name: each.port for each in listeners})
                await cluster.beat(parts)
                nursery.start_soon(cluster.beat_on, parts)
                connections = await nursery.start(_own_connections, node, listeners, accepting)
                _announce(node, listeners, web)
                nursery.start_soon(systemd.feed_watchdog)
                await _obey(signals, node, path, listeners, accepting)
                connections.cancel()
                admin.close()
                await _force(node)
                nursery.cancel_scope.cancel()
        # What came meanwhile is answered by our going; the receiver would hand it on to the default handler.
        with trio.move_on_after(SIGNALS_DRAIN_S):
            async for _ in signals:
                pass
    log.info("stopped")
    return 0


# --- sockets


@asynccontextmanager
async def _open_lif(lif: Lif) -> AsyncIterator[Listener]:
    try:
        sock = await open_listener(lif.address, lif.port)
    except OSError as error:
        raise StartError(f"lif {lif.name}: {lif.address} port {lif.port}: {error.strerror}") from error
    with sock:
        yield Listener(lif, sock)


def _hold_directories(stack: AsyncExitStack, config: Config) -> None:
    """The state and the cartridges are ours alone, or there is no start."""
    state = config.node.state_directory
    wanted = [(f"state directory {state}", state)]
    wanted += [
        (f"library {library.name}: {library.directory}", library.directory)
        for library in config.library
        if os.path.realpath(library.directory) != os.path.realpath(state)
    ]
    for name, directory in wanted:
        try:
            if directory == state:
                os.makedirs(directory, mode=0o700, exist_ok=True)
            stack.enter_context(hold(directory))
        except HeldError:
            raise StartError(f"{name}: in use by another mover serve, or named twice") from None
        except OSError as error:
            raise StartError(f"{name}: {error.strerror}") from error


@asynccontextmanager
async def _store(directory: str) -> AsyncIterator[Store]:
    try:
        opened = open_store(directory)
        store = await opened.__aenter__()
    except (OSError, sqlite3.Error) as error:
        raise StartError(f"state directory {directory}: {error}") from error
    try:
        yield store
    finally:
        await opened.__aexit__(None, None, None)


@asynccontextmanager
async def _cluster(config: Config) -> AsyncIterator[Cluster]:
    directory = config.node.cluster_directory
    cluster = Cluster(config.node.name, Registry(directory, config.node.name) if directory else None)
    try:
        await cluster.join()
    except RegistryError as error:
        raise StartError(f"cluster directory {error}") from error
    except trio.TooSlowError:
        raise StartError(f"cluster directory {directory}: does not answer") from None
    except OSError as error:
        raise StartError(f"cluster directory {error.filename or directory}: {error.strerror}") from error
    try:
        yield cluster
    finally:
        await cluster.leave()


async def _load_options(config: Config, store: Store) -> ChangedOptions:
    options = ChangedOptions(config, store)
    try:
        await options.load()
    except StoreError as error:
        raise StartError(str(error)) from error
    return options


async def _open_secure_ports(stack: AsyncExitStack, config: Config) -> SecurePorts:
    secure_ports = SecurePorts()
    stack.callback(secure_ports.close)
    try:
        await secure_ports.configure(config)
    except IdentityError as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(f"lif {error.filename}: its secure port: {error.strerror}") from error
    return secure_ports


async def _load_accounts(config: Config, store: Store) -> Accounts:
    accounts = Accounts(config, store)
    try:
        await accounts.load()
    except StoreError as error:
        raise StartError(str(error)) from error
    return accounts


@asynccontextmanager
async def _open_metrics(config: Config) -> AsyncIterator[trio.socket.SocketType | None]:
    """Where the page and /metrics will be; None = nowhere, or the port that nobody has chosen is somebody else's."""
    metrics = config.node.metrics
    if not metrics:
        yield None
        return
    try:
        sock = await open_listener(*host_and_port(metrics))
    except OSError as error:
        if "node.metrics" in config.given:
            raise StartError(f"node.metrics: {metrics}: {error.strerror}") from error
        log.warning("no status page and no metrics: node.metrics says where else", at=metrics, error=error.strerror)
        yield None
        return
    with sock:
        yield sock


def _web(node: Node, listener: trio.socket.SocketType) -> "Web":
    from mover.control.web import Web  # noqa: PLC0415 - 80 ms, which a server without metrics does without

    look = partial(node.statistics.show, StatisticsShow())
    look_back = partial(node.statistics.show, StatisticsShow(history=True))
    return Web(listener, look, look_back, lambda: node.config.node.metrics_token)


@asynccontextmanager
async def _open_admin_socket(path: str) -> AsyncIterator[trio.socket.SocketType]:
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with sock:
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            _remove_stale(path)
            await sock.bind(path)
            # Nobody can connect before listen(), so the mode is right from the first moment that counts.
            os.chmod(path, 0o600)
            sock.listen(CONTROL_BACKLOG)
            ours = os.stat(path)
        except OSError as error:
            raise StartError(f"admin socket {path}: {error.strerror or error}") from error
        try:
            yield sock
        finally:
            # Gone already, or replaced by somebody who did not know of us: not ours to remove.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path, follow_symlinks=False), ours):
                    os.unlink(path)


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that is gone. Raises StartError for one that lives, and for what is no socket."""
    try:
        if not stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode):
            raise StartError(f"admin socket {path}: exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise StartError(f"admin socket {path}: another mover serve answers there")


# --- connections


async def _own_connections(
    node: Node,
    listeners: list[Listener],
    accepting: trio.CancelScope,
    task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept on every LIF until ``accepting`` is cancelled; own the connections until the reported scope is."""
    async with trio.open_nursery() as nursery:
        task_status.started(nursery.cancel_scope)

        async def accept(listener: Listener) -> None:
            while True:
                try:
                    sock, _ = await listener.socket.accept()
                except OSError as error:
                    # Too many files, or a peer that went away: the next one may do better.
                    log.warning("no connection accepted", lif=listener.lif.name, error=error.strerror)
                    await trio.sleep(ACCEPT_RETRY_S)
                    continue
                nursery.start_soon(_begin, node, ControlStream(sock), listener.lif)

        def begin(stream: ControlStream, lif: Lif) -> None:
            nursery.start_soon(_begin, node, stream, lif)

        def admits(peer: str, lif: Lif) -> bool:
            if not node.clients.allows(peer):
                _note_stranger(node, peer, lif)
                return False
            return True

        with accepting:
            async with trio.open_nursery() as acceptors:
                for listener in listeners:
                    acceptors.start_soon(accept, listener)
                acceptors.start_soon(node.secure_ports.serve, begin, admits)
        await trio.sleep_forever()


def _note_stranger(node: Node, peer: str, lif: Lif) -> None:
    if node.audit.stranger("connect", peer, result="refused", lif=lif.name, reason=ELSEWHERE):
        log.warning("connection refused", lif=lif.name, peer=peer, reason=ELSEWHERE)


async def _begin(node: Node, stream: ControlStream, lif: Lif) -> None:
    try:
        peer = str(stream.socket.getpeername()[0])
    except OSError as error:  # gone before it was served
        log.debug("connection lost at once", error=error.strerror)
        stream.close()
        return
    reason = node.refusal(lif, peer)
    if not node.clients.allows(peer):
        reason = ELSEWHERE
        _note_stranger(node, peer, lif)
    elif reason is not None:
        log.warning("connection refused", lif=lif.name, peer=peer, reason=reason)
    if reason is not None:
        try:
            with trio.move_on_after(1):
                await stream.send_all(ServerProtocol().refuse(reason.encode()))
        except trio.BrokenResourceError:
            log.debug("refusal not sent")
        finally:
            stream.close()
        return
    try:
        connection = Connection(node, stream, lif, secure=isinstance(stream, SecureStream))
    except OSError as error:  # gone before it was served
        log.debug("connection lost at once", error=error.strerror)
        stream.close()
        return
    await connection.run()


# --- signals


async def _obey(
    signals: AsyncIterator[int],
    node: Node,
    path: str | None,
    listeners: list[Listener],
    accepting: trio.CancelScope,
) -> None:
    """Until it is time to go: SIGHUP reads the configuration, SIGTERM and SIGINT stop, a second one at once."""
    async for number in signals:
        if number == signal.SIGHUP:
            systemd.reloading()
            await _reload(node, path)
            systemd.ready(_listening(listeners))
            continue
        break
    log.info("stopping", grace_s=node.config.node.grace_s, connections=len(node.connections))
    systemd.stopping(node.config.node.grace_s + CLOSE_S + FORCE_S + MARGIN_S)
    node.stopping = True
    accepting.cancel()
    async with trio.open_nursery() as nursery:

        async def again() -> None:
            async for number in signals:
                if number != signal.SIGHUP:
                    log.warning("stopping at once")
                    nursery.cancel_scope.cancel()

        nursery.start_soon(again)
        await _drain(node)
        nursery.cancel_scope.cancel()


async def _drain(node: Node) -> None:
    """Tell every DMA, give jobs their grace, then end what is left."""
    connections = list(node.connections.values())
    async with trio.open_nursery() as nursery:
        for connection in connections:
            nursery.start_soon(connection.shut_down, "the server is shutting down")
    with trio.move_on_after(node.config.node.grace_s):
        # A loop, because "working" is a question to many objects, asked rarely
        while any(each.is_working() or each.is_winding_up() for each in node.connections.values()):  # noqa: ASYNC110
            await trio.sleep(DRAIN_LOOK_S)
    for connection in list(node.connections.values()):
        connection.end()
    with trio.move_on_after(CLOSE_S):
        for connection in list(node.connections.values()):
            await connection.gone.wait()


async def _force(node: Node) -> None:
    """Connections that are cancelled still let go in order; past a moment their workers are killed under them."""
    with trio.move_on_after(FORCE_S):
        for connection in list(node.connections.values()):
            await connection.gone.wait()
    if node.connections:
        log.warning("killing the workers of what does not end", sessions=sorted(node.connections))
        for worker in list(node.supervisor.workers.values()):
            worker.kill()


def _load(path: str) -> Config:
    """The configuration, once no volume of a vserver lies in one of another. Raises ConfigError."""
    config = load_config(path)
    for line in overlaps(config, os.path.realpath):
        raise ConfigError(f"{path}: {line}")
    return config


async def _reload(node: Node, path: str | None) -> None:
    if path is None:
        log.warning("no configuration file to read again")
        return
    try:
        config = await trio.to_thread.run_sync(_load, path)
    except (ConfigError, OSError) as error:
        log.error("configuration not taken", error=str(error))
        return
    before = node.options.configured
    changed = [name for name in _FIXED if getattr(config, name) != getattr(before, name)]
    changed += [f"node.{name}" for name in _FIXED_NODE if getattr(config.node, name) != getattr(before.node, name)]
    if config.limits.spares != before.limits.spares:
        changed.append("limits.spares")
    fixed = [*_FIXED]
    if [each.name for each in config.vserver] != [each.name for each in before.vserver]:
        fixed.append("vserver")  # LIFs are theirs
        changed.append("vserver")
    if changed:
        log.warning("these need a restart", keys=changed)
    taken = msgspec.structs.replace(
        config,
        **{name: getattr(before, name) for name in fixed},
        node=msgspec.structs.replace(config.node, **{name: getattr(before.node, name) for name in _FIXED_NODE}),
    )
    await trio.to_thread.run_sync(node.configure, taken)
    try:
        await node.secure_ports.configure(node.config)
    except IdentityError as error:
        log.error("certificate not taken", error=str(error))
    except OSError as error:
        log.error("secure port not opened", lif=error.filename, error=error.strerror)
    node.end_barred_sessions()  # of users who are not in it any more, or are others
    log.info("configuration read again", path=path)


# --- who is told


def _listening(listeners: list[Listener]) -> str:
    """For `systemctl status`."""
    return "listening on " + ", ".join(f"{each.lif.name} ({each.lif.address} port {each.port})" for each in listeners)


def _announce(node: Node, listeners: list[Listener], web: "Web | None") -> None:
    """The ready line, and systemd."""
    ready = {
        "ready": True,
        "pid": os.getpid(),
        "lifs": [
            {
                "name": each.lif.name,
                "address": each.lif.address,
                "port": each.port,
                "secure_port": node.secure_ports.port(each.lif),
            }
            for each in listeners
        ],
        "admin_socket": node.config.node.admin_socket,
        "metrics": web and web.address,
    }
    try:
        os.write(STANDARD_OUTPUT, json.dumps(ready).encode() + b"\n")
    except OSError as error:
        log.warning("the ready line was not taken", error=error.strerror)
    systemd.ready(_listening(listeners))
