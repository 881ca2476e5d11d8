"""`mover serve`: the control process from its first socket to its last worker."""

import faulthandler
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
import trio

from mover.admin.statistics import StatisticsShow
from mover.config import Config
from mover.control import systemd
from mover.control.accounts import Accounts
from mover.control.admin_server import AdminServer
from mover.control.announcement import announcement
from mover.control.drives import Devices
from mover.control.listeners import (
    Listener,
    open_admin_socket,
    open_lif,
    open_metrics,
    open_secure_ports,
    own_connections,
)
from mover.control.logs import STANDARD_ERROR, configure_logs
from mover.control.node import Node
from mover.control.options import ChangedOptions
from mover.control.reload import read_again
from mover.control.snapshots import open_snapshots
from mover.control.start import StartError, hold_directories, join_cluster, load, open_state
from mover.control.store import StoreError
from mover.control.workers import open_supervisor
from mover.workers.confine import REFER_ABI, landlock_abi, mounts_refused

if TYPE_CHECKING:
    from mover.control.web import Web

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
DESCRIPTORS: Final = 16_384
STANDARD_OUTPUT: Final = 1
DRAIN_LOOK_S: Final = 0.1
SIGNALS_DRAIN_S: Final = 0.01
FORCE_S: Final = 2.0
CLOSE_S: Final = 20.0  # after grace_s, until everything is stopped by force
MARGIN_S: Final = 30.0  # what systemd gives us beyond that, before it kills

log = structlog.get_logger()


def run(config: Config, path: str | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Args:
        path: the file that SIGHUP reads again; None = SIGHUP changes nothing.
    """
    configure_logs(config.node.log_format)
    # Where it hung, when systemd's watchdog ends it by SIGABRT: lines of code, no values.
    faulthandler.enable(STANDARD_ERROR)
    _warn_of_landlock(landlock_abi())
    _warn_of_mounts(mounts_refused())
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


def _warn_of_mounts(refused: str | None) -> None:
    if refused is not None:
        log.warning("recovers have no mounts of their own here: Landlock alone holds them", error=refused)


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
            listeners = [await stack.enter_async_context(open_lif(lif)) for lif in config.lif]
            metrics = await stack.enter_async_context(open_metrics(config))
            hold_directories(stack, config)
            cluster = await stack.enter_async_context(join_cluster(config))
            store = await stack.enter_async_context(open_state(config.node.state_directory))
            devices = Devices(config, store)
            try:
                await devices.take_inventory()
            except OSError as error:
                raise StartError(f"{error.filename}: {error.strerror}") from error
            except StoreError as error:
                raise StartError(str(error)) from error
            accounts, options = Accounts(config, store), ChangedOptions(config, store)
            await load(accounts)
            await load(options)
            secure_ports = await open_secure_ports(stack, options.configure(config))
            admin_socket = await stack.enter_async_context(open_admin_socket(config.node.admin_socket))
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
                connections = await nursery.start(own_connections, node, listeners, accepting)
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


def _web(node: Node, listener: trio.socket.SocketType) -> "Web":
    from mover.control.web import Web  # noqa: PLC0415 - 80 ms, which a server without metrics does without

    look = partial(node.statistics.show, StatisticsShow())
    look_back = partial(node.statistics.show, StatisticsShow(history=True))
    return Web(listener, look, look_back, lambda: node.config.node.metrics_token)


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
            await read_again(node, path)
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
