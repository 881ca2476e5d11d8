"""One NDMP connection: bytes in, requests handled strictly in order, replies and posts out.

Theory of operation. A reader task moves the peer's bytes into a short queue, so that a reset is seen also while a
request is being handled; past the queue TCP makes the peer wait. Requests are taken one at a time. There is one send
lock and one send per message. A post that a request causes goes out behind its reply: while a DATA or MOVER request
is handled, posts wait in order. Everything the connection owns is let go in ``_release``, whatever ended it.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
import trio

from mover.control import sockets
from mover.control.data_connection import RESET_ON_CLOSE
from mover.control.data_service import DataService
from mover.control.handlers import HANDLERS
from mover.control.mover_service import MoverService
from mover.control.refusal import Refusal
from mover.control.tape_service import TapeService
from mover.control.volumes import Volumes
from mover.ndmp.enums import DataState, ErrorCode, LogType, MessageCode, MoverState
from mover.ndmp.errors import FramingError, NdmpError, PeerError
from mover.ndmp.messages import Body, LogMessagePost
from mover.ndmp.server import Answered, Discarded, Request, ServerProtocol
from mover.ndmp.states import SessionMachines
from mover.workers.peer import is_gone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mover.control.node import Node
    from mover.control.workers import Worker
    from mover.workers.messages import LogLine

CHUNK_BYTES: Final = 64 * 1024
CHUNKS_QUEUED: Final = 8
UNAUTHENTICATED_BYTES_MAX: Final = 64 * 1024  # of one message, before a login
DEFERRED_MAX: Final = 256  # posts of a job held back behind a reply; then the job waits for the DMA to read
LOG_TEXT_MAX: Final = 8192  # of one line, in characters or bytes; a path can be a megabyte long
ADDRESSES_MAX: Final = 8  # of a data connection's peer that are tried, each for connect_timeout_s
DISCARDED_MAX: Final = 16  # messages in a row that get no answer
WATCH_S: Final = 1.0
QUIET_S: Final = 2.0  # a DMA that ends a job makes its requests in shorter intervals than this
SETTLE_S: Final = 10.0  # how long a DATA or MOVER request waits for a data connection that is being accepted
RELEASE_S: Final = 930.0  # the longest CloseDrive and a little
_GATED: Final = (0x04, 0x0A)  # DATA and MOVER requests cause posts


class _Arrival:
    """A data connection listener and how far it is with what arrives there.

    The peer's CONNECT is answered as soon as the kernels have shaken hands, so the DMA's next request may be here
    before we have accepted: it must find the connection made.
    """

    def __init__(self, listener: trio.socket.SocketType) -> None:
        self._poll = select.poll()
        self._poll.register(listener.fileno(), select.POLLIN)
        self._step = trio.Event()
        self.taking = False
        self.over = False

    def pending(self) -> bool:
        """Whether somebody has connected and is not dealt with yet."""
        if self.over:
            return False
        return self.taking or bool(self._poll.poll(0))

    def stepped(self, *, over: bool) -> None:
        """One arrival is dealt with: refused, or taken over."""
        self.over = over
        self._step.set()
        self._step = trio.Event()

    async def settle(self) -> None:
        while self.pending():
            await self._step.wait()


def _short(text: bytes) -> bytes:
    return text if len(text) <= LOG_TEXT_MAX else text[:LOG_TEXT_MAX] + b"..."


class Connection:
    """One control connection of a DMA.

    Attributes:
        config: as it was when the connection began.
        authenticated_as: the user; "" before the login.
        machines, tape, mover, data: made when the protocol version is fixed.
    """

    machines: SessionMachines
    tape: TapeService
    mover: MoverService
    data: DataService
    nursery: trio.Nursery

    def __init__(self, node: Node, stream: trio.SocketStream) -> None:
        self.node = node
        self.config = node.config
        self.session_id = node.next_session_id()
        self.started = time.monotonic()
        self.authenticated_as = ""
        self.challenge: bytes | None = None
        self.protocol = ServerProtocol()
        self.volumes = Volumes(self.config.node.volumes)
        self.allow = sockets.AllowList(self.config)
        self.log = structlog.get_logger().bind(session=self.session_id)
        self.gone = trio.Event()
        self.services_open = False
        self._stream = stream
        self._serving = trio.CancelScope()
        self._send_lock = trio.Lock()
        self._gate: trio.Event | None = None
        self._deferred: list[Body] = []
        self._closed = False
        self._last_request = time.monotonic()
        self._busy = False
        self._begun = 0  # requests
        self._answered = 0
        self._answer_sent = trio.Event()
        self._discarded = 0
        self._listening: dict[str, trio.CancelScope] = {}
        self._arrivals: set[_Arrival] = set()
        self.local_address, self.local_port = stream.socket.getsockname()[:2]
        self.peer_address, self.peer_port = stream.socket.getpeername()[:2]

    @property
    def version(self) -> int:
        """The protocol version in use; the offered one before that is settled."""
        return self.protocol.version

    # --- life

    async def run(self) -> None:
        """Serve the connection until it ends; leaves nothing behind. Never raises for what a peer does."""
        self.node.connections[self.session_id] = self
        self.log.info("connected", peer=f"{self.peer_address}:{self.peer_port}")
        try:
            async with trio.open_nursery() as self.nursery:
                try:
                    with self._serving:
                        await self._serve()
                finally:
                    # The listeners to the workers live on in the nursery until everything is let go.
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + RELEASE_S):
                        await self._release()
                    self.nursery.cancel_scope.cancel()
        except Exception:
            self.log.exception("connection failed")
        finally:
            self.node.connections.pop(self.session_id, None)
            self.gone.set()
            self.log.info("disconnected")

    async def _serve(self) -> None:
        sockets.set_control_options(self._stream.socket, self.config.data_connections.peer_timeout_s)
        sender, receiver = trio.open_memory_channel[bytes](CHUNKS_QUEUED)
        await self._send(lambda: [self.protocol.connected()])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, sender)
            nursery.start_soon(self._watch)
            await self._take_requests(receiver)
            nursery.cancel_scope.cancel()

    async def _read(self, sender: trio.MemorySendChannel[bytes]) -> None:
        """Move bytes into the queue; end of file ends the queue, a reset ends the connection."""
        async with sender:
            while True:
                try:
                    chunk = await self._stream.receive_some(CHUNK_BYTES)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self.log.info("connection lost")
                    self._serving.cancel()
                    return
                if not chunk:
                    return
                await sender.send(bytes(chunk))

    async def _watch(self) -> None:
        """Find peers that do not log in, say nothing for too long, or are gone."""
        limits, peer_timeout_s = self.config.limits, self.config.data_connections.peer_timeout_s
        while True:
            await trio.sleep(WATCH_S)
            now = time.monotonic()
            if not self.protocol.authenticated and now - self.started > limits.authentication_timeout_s:
                self.log.warning("no login in time", seconds=limits.authentication_timeout_s)
                break
            if limits.idle_timeout_s and not self.is_working() and now - self._last_request > limits.idle_timeout_s:
                self.log.info("idle for too long", seconds=limits.idle_timeout_s)
                break
            if is_gone(self._stream.socket, peer_timeout_s):
                self.log.warning("peer does not answer", seconds=peer_timeout_s)
                break
        self._serving.cancel()

    def is_working(self) -> bool:
        """Whether a request is being handled or a job is under way."""
        if self._busy:
            return True
        if not self.services_open:
            return False
        return (
            self.machines.data.state is DataState.ACTIVE
            or self.machines.mover.state in {MoverState.ACTIVE, MoverState.PAUSED}
        )  # fmt: skip

    def is_winding_up(self) -> bool:
        """Whether a DMA whose job has ended is still about to stop its machines and to close its drive."""
        if not self.services_open or time.monotonic() - self._last_request > QUIET_S:
            return False
        return (
            self.tape.is_open
            or self.machines.data.state is not DataState.IDLE
            or self.machines.mover.state is not MoverState.IDLE
        )

    def workers(self) -> list[Worker]:
        """The worker processes at work for this connection."""
        if not self.services_open:
            return []
        ends = (self.data.connection_end, self.mover.connection_end)
        relays = [end.relay for end in ends if end is not None]
        return [worker for worker in (self.data.worker, self.tape.worker, *relays) if worker is not None]

    def end(self) -> None:
        """End the connection now."""
        self._serving.cancel()

    async def shut_down(self, text: str) -> None:
        """Tell the DMA that the server goes away."""
        with trio.move_on_after(1):
            await self._send(lambda: [self.protocol.shutdown(text.encode())])

    async def _release(self) -> None:
        self._closed = True
        for scope in self._listening.values():
            scope.cancel()
        if self.services_open:
            await self.data.release()
            await self.mover.release()
            await self.tape.release()
        with trio.move_on_after(1):
            await self._stream.aclose()

    # --- requests

    async def _take_requests(self, receiver: trio.MemoryReceiveChannel[bytes]) -> None:
        pending = 0
        async for chunk in receiver:
            self.protocol.feed(chunk)
            pending += len(chunk)
            while True:
                try:
                    event = self.protocol.next_event()
                except FramingError as error:
                    self.log.warning("broken framing", error=str(error))
                    return
                if event is None:
                    break
                pending = 0
                if not await self._take(event):
                    return
            if not self.protocol.authenticated and pending > UNAUTHENTICATED_BYTES_MAX:
                self.log.warning("message too long before login", bytes=pending)
                return

    async def _take(self, event: Request | Answered | Discarded) -> bool:
        """Handle one message; False ends the connection."""
        self._last_request = time.monotonic()
        match event:
            case Discarded():
                self.log.debug("message discarded", reason=event.reason)
                self._discarded += 1
                return self._discarded < DISCARDED_MAX
            case Answered():
                self._discarded = 0
                await self._send(lambda: [event.data])
                return True
            case Request(code=MessageCode.CONNECT_CLOSE):
                return False
            case Request():
                self._discarded = 0
                self._busy = True
                try:
                    await self._answer(event)
                finally:
                    self._busy = False
                    self._last_request = time.monotonic()
                return True

    def _open_services(self) -> None:
        """The version is fixed: make the machines and the services over them."""
        self.machines = SessionMachines(self.version)
        self.tape = TapeService(self)
        self.mover = MoverService(self)
        self.data = DataService(self)
        self.services_open = True

    async def _answer(self, request: Request) -> None:
        self._begun += 1
        if not self.services_open:
            self._open_services()
        if request.code >> 8 in _GATED:
            with trio.move_on_after(SETTLE_S):
                for arrival in list(self._arrivals):
                    await arrival.settle()
            self._gate = trio.Event()
        try:
            reply = await self._handle(request)
        except BaseException:
            self._open_gate()
            raise
        await self._send(lambda: [reply()])
        await self._flush()
        self._answered = self._begun
        self._answer_sent.set()
        self._answer_sent = trio.Event()

    async def next_answer(self) -> None:
        """Wait until a request that begins from now on has been answered."""
        now = self._begun
        while self._answered <= now:
            await self._answer_sent.wait()

    async def _handle(self, request: Request) -> Callable[[], bytes]:
        """Run the handler; returns what encodes the reply when its turn to be sent has come."""
        handler: Callable[[Connection, Body], Awaitable[Body]] | None = HANDLERS.get(type(request.body))
        if handler is None:
            return lambda: self.protocol.refuse_request(request, ErrorCode.NOT_SUPPORTED_ERR)
        error = ErrorCode.UNDEFINED_ERR
        try:
            body = await handler(self, request.body)
        except Refusal as refusal:
            error = refusal.error
            self.log.info("refused", request=request.code.name, error=error.name, text=refusal.text[:LOG_TEXT_MAX])
            if refusal.text:
                await self._defer_log(refusal.text)
        except PeerError as wrong:
            error = wrong.error_code
            self.log.info("refused", request=request.code.name, error=error.name, text=str(wrong))
        except Exception:
            self.log.exception("handler failed", request=request.code.name)
        else:
            return lambda: self.protocol.reply(request, body)
        return lambda: self.protocol.reply_error(request, error)

    async def _defer_log(self, text: str) -> None:
        """A log message about the reply that is about to go out."""
        if self._gate is None:
            self._gate = trio.Event()
        await self.log_message(LogType.ERROR, text)

    # --- out

    async def _send(self, encode: Callable[[], list[bytes | memoryview]]) -> None:
        """Encode and send under the lock, so that sequence numbers leave in order; a lost peer ends the connection."""
        async with self._send_lock:
            if self._closed:
                return
            parts = encode()
            try:
                await self._stream.send_all(parts[0] if len(parts) == 1 else b"".join(parts))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._closed = True
                self._serving.cancel()
            except BaseException:
                self._closed = True  # cut off inside a message: nothing can follow it
                self._serving.cancel()
                raise

    async def _flush(self) -> None:
        """The reply is out: send what waited for it, then let posts go straight out again."""
        while self._deferred:
            body = self._deferred.pop(0)
            await self._send_post(body)
        self._open_gate()

    def _open_gate(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.set()

    async def _send_post(self, body: Body) -> None:
        try:
            await self._send(lambda: [self.protocol.post(body)])
        except NdmpError as error:
            self.log.error("post not sent", post=type(body).__name__, error=str(error))

    async def post(self, body: Body) -> None:
        """Send a post, behind the reply of the request that is being handled."""
        if self._gate is not None:
            self._deferred.append(body)
            return
        await self._send_post(body)

    async def room(self) -> None:
        """Wait while too many posts are held back: what a job says without end must not pile up here."""
        while self._gate is not None and len(self._deferred) >= DEFERRED_MAX:
            await self._gate.wait()

    async def log_message(self, log_type: int, text: str | bytes) -> None:
        """A LOG message for people at the DMA."""
        entry = _short(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)
        await self.post(LogMessagePost(log_type=log_type, message_id=0, entry=entry))

    async def log_line(self, line: LogLine) -> None:
        """A worker's line, for the DMA and for our own log."""
        self.log.info("job", text=_short(line.text).decode("utf-8", "backslashreplace"), type=line.log_type)
        await self.log_message(line.log_type, line.text)

    async def send_history(self, code: int, body: memoryview) -> None:
        """One encoded file history post; waits for the DMA to read."""
        while self._gate is not None:
            await self._gate.wait()
        await self._send(lambda: [self.protocol.post_raw(code, body), body])

    # --- data connections

    async def listen(
        self,
        owner: str,
        accepted: Callable[[trio.socket.SocketType, str, int], Awaitable[None]],
        lost: Callable[[str], None],
    ) -> tuple[str, int]:
        """Listen for one TCP data connection on the address of the control connection; returns address and port.

        Raises:
            Refusal: no port is free, or the control connection is not over IPv4.
        """
        address = self.data_address()
        ports = self.config.data_connections.port_range
        try:
            listener = await sockets.open_data_listener(address, ports.first, ports.last)
        except OSError as error:
            raise Refusal(ErrorCode.CONNECT_ERR, f"no data connection listener on {address}: {error}") from error
        port = listener.getsockname()[1]
        scope = self._listening[owner] = trio.CancelScope()
        arrival = _Arrival(listener)

        async def accept() -> None:
            with listener, scope:
                try:
                    while True:
                        sock, peer = await listener.accept()
                        if self.allow.allows(peer[0]):
                            arrival.taking = True
                            break
                        self.log.warning("data connection refused", peer=peer[0])
                        sock.close()
                        arrival.stepped(over=False)
                except OSError as error:
                    lost(f"the data connection listener failed: {error.strerror}")
                    return
            if scope.cancelled_caught:
                return
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            await accepted(sock, peer[0], peer[1])

        async def own() -> None:
            self._arrivals.add(arrival)
            try:
                await accept()
            finally:
                self._arrivals.discard(arrival)
                arrival.stepped(over=True)

        self.nursery.start_soon(own)
        return address, port

    def stop_listening(self, owner: str) -> None:
        """Close the data connection listener, if there is one."""
        scope = self._listening.pop(owner, None)
        if scope is not None:
            scope.cancel()

    def data_address(self) -> str:
        """Where data connections listen: our address of the control connection. Raises Refusal over IPv6."""
        address: str = self.local_address.removeprefix("::ffff:")
        with suppress(ValueError):
            sockets.ip_number(address)
            return address
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, f"TCP data connections are IPv4 only, this LIF has {address}")

    async def connect_out(self, addresses: list[tuple[str, int]]) -> tuple[trio.socket.SocketType, str, int]:
        """Connect a data connection to the first address that answers.

        Raises:
            Refusal: none is allowed, or none answers.
        """
        reasons = []
        for address, port in addresses[:ADDRESSES_MAX]:
            if not self.allow.allows(address):
                reasons.append(f"{address} is not in data_connections.allow")
                continue
            try:
                sock = await sockets.connect_data(address, port, self.config.data_connections.connect_timeout_s)
            except OSError as error:
                reasons.append(f"{address}:{port}: {error.strerror or error}")
                continue
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            return sock, address, port
        raise Refusal(ErrorCode.CONNECT_ERR, f"no data connection: {'; '.join(reasons) or 'no address'}")
