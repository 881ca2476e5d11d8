"""Where a server listens: LIFs and their secure ports, the admin socket, the status page; and who comes to a LIF."""

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, NamedTuple

import structlog
import trio

from mover.config import Config, Lif
from mover.config.values import host_and_port
from mover.control.connection import Connection
from mover.control.control_stream import ControlStream
from mover.control.node import Node
from mover.control.secure_ports import SecurePorts
from mover.control.secure_stream import SecureStream
from mover.control.sockets import CONTROL_BACKLOG, open_listener
from mover.control.start import StartError
from mover.control.tls_identity import IdentityError
from mover.ndmp.server import ServerProtocol

ACCEPT_RETRY_S: Final = 0.2
ELSEWHERE: Final = "not from this address"

log = structlog.get_logger()


class Listener(NamedTuple):
    """An open LIF."""

    lif: Lif
    socket: trio.socket.SocketType

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])


@asynccontextmanager
async def open_lif(lif: Lif) -> AsyncIterator[Listener]:
    """Listen at a LIF. Raises StartError."""
    try:
        sock = await open_listener(lif.address, lif.port)
    except OSError as error:
        raise StartError(f"lif {lif.name}: {lif.address} port {lif.port}: {error.strerror}") from error
    with sock:
        yield Listener(lif, sock)


async def open_secure_ports(stack: AsyncExitStack, config: Config) -> SecurePorts:
    """Listen at the secure ports of the LIFs that have one. Raises StartError."""
    secure_ports = SecurePorts()
    stack.callback(secure_ports.close)
    try:
        await secure_ports.configure(config)
    except IdentityError as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(f"lif {error.filename}: its secure port: {error.strerror}") from error
    return secure_ports


@asynccontextmanager
async def open_metrics(config: Config) -> AsyncIterator[trio.socket.SocketType | None]:
    """Where the page and /metrics will be; None = nowhere, or the port that nobody has chosen is somebody else's.

    Raises:
        StartError: the port that was chosen is not free.
    """
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


@asynccontextmanager
async def open_admin_socket(path: str) -> AsyncIterator[trio.socket.SocketType]:
    """Listen for operators' commands, in the place of a server that is gone. Raises StartError."""
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


async def own_connections(
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
