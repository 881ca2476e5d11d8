"""One NDMP connection: bytes in, requests handled strictly in order, replies and posts out.

Theory of operation. Requests are taken one at a time, by one task. One that is answered from what is at hand, as
hundreds of DMAs ask for states all the time, costs one round of the scheduler: the wait for it. Beside every other one
bytes are read ahead, so that a reset is seen also while it is being handled. Only a GET_STATE of DATA or MOVER does not
wait behind a TAPE or SCSI request whose device takes long. What goes out, and in which order, is the outbox's.
Everything the connection owns is let go in ``_release``, whatever ended it.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import structlog
import trio

from mover.config import options
from mover.control import sockets
from mover.control.control_stream import ControlStream
from mover.control.data_ports import DataPorts
from mover.control.data_service import DataService
from mover.control.deadlines import CLOSE_MAX_S
from mover.control.handlers import handler_of
from mover.control.incoming import Incoming
from mover.control.mover_service import MoverService
from mover.control.outbox import LOG_TEXT_MAX, Outbox
from mover.control.protocol_log import ProtocolLog
from mover.control.reach import REACH, Bounds, Reach, TapeScope
from mover.control.refusal import Refusal
from mover.control.scsi_service import ScsiService
from mover.control.tape_service import TapeService
from mover.control.version_1 import OwnMover, RecordTapeService, TapeDataService
from mover.control.volumes import show
from mover.ndmp import messages as m
from mover.ndmp.enums import AddressType, DataState, ErrorCode, LogType, MessageCode, MoverState
from mover.ndmp.errors import PeerError
from mover.ndmp.extensions import CAB, CAE, OFFERED, WITH_VSERVERS
from mover.ndmp.server import Answered, Discarded, Request, ServerProtocol
from mover.ndmp.states import SessionMachines
from mover.workers.peer import is_gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from mover.config import Lif
    from mover.control.node import Node
    from mover.control.volumes import Volumes
    from mover.control.workers import Worker

DISCARDED_MAX: Final = 16  # messages in a row that get no answer
WATCH_S: Final = 1.0
WATCH_PART: Final = 0.1  # of the shortest time limit: how late a look may find that it is over
QUIET_S: Final = 2.0  # a DMA that ends a job makes its requests in shorter intervals than this
RELEASE_S: Final = CLOSE_MAX_S + 30
END_CLOSE_S: Final = 10.0  # how long a drive may take to close when the server ends the connection
PATIENCE_S: Final = 0.5  # how long TAPE and SCSI requests hold up everything behind them
_GATED: Final = (0x04, 0x0A)  # DATA and MOVER requests cause posts
_SLOW: Final = (0x02, 0x03)  # SCSI and TAPE requests are answered when the device is done
_STATES: Final = (MessageCode.DATA_GET_STATE, MessageCode.MOVER_GET_STATE)
SERVICES: Final = {1: (RecordTapeService, OwnMover, TapeDataService)}
"""version -> its TAPE, MOVER and DATA services, where they are other ones."""
OTHER_SERVICES: Final = (TapeService, MoverService, DataService)
AUDITED: Final = {
    m.TapeOpenRequest: ("open", "tape"),
    m.ScsiOpenRequest: ("open", "scsi"),
    m.DataStartBackupRequest: ("start", "backup"),
    m.DataStartRecoverRequest: ("start", "recover"),
    m.DataStartRecoverFilehistRequest: ("start", "recover-filehist"),
}
"""Request -> what the audit log calls it once it is done."""


class Connection:
    """One control connection of a DMA.

    Args:
        lif: that the DMA connected to; None = the only one.

    Attributes:
        config: as it was when the connection began, with the options of the LIF's vserver in place of the node's.
        lif: that the DMA came to.
        vserver: that the LIF belongs to; "" = none.
        secure: the connection is encrypted by TLS.
        authenticated_as: the user; "" before the login.
        bounds: what he reaches of what the LIF gives; a change of it ends his sessions.
        outbox: what goes out to the DMA.
        data_ports: where TCP data connections come in and go out.
        machines, scsi, tape, mover, data: made when the protocol version is fixed.
    """

    machines: SessionMachines
    scsi: ScsiService
    tape: TapeService
    mover: MoverService
    data: DataService
    nursery: trio.Nursery

    def __init__(self, node: Node, stream: ControlStream, lif: Lif | None = None, *, secure: bool = False) -> None:
        self.node = node
        self.lif = lif or node.config.lif[0]
        self.vserver = self.lif.vserver
        self._scope = node.scope(self.lif)
        self.config = self._scope.config
        self.secure = secure
        self.session_id = node.next_session_id()
        self.started = time.monotonic()
        self.authenticated_as = ""
        self.bounds = Bounds()
        self.challenge: bytes | None = None
        self.protocol = ServerProtocol(self.config.node.maxversion)
        known = {**WITH_VSERVERS, **OFFERED} if self.config.vserver or self.config.node.cluster_directory else OFFERED
        self.protocol.extensions.offer(
            {each: versions for each, versions in sorted(known.items()) if self._has_extension(each)}
        )
        self.log = structlog.get_logger().bind(session=self.session_id)
        if self.vserver:
            self.log = self.log.bind(vserver=self.vserver)
        self.gone = trio.Event()
        self.services_open = False
        self.protocol_log: ProtocolLog | None = None
        self._stream = stream
        self._serving = trio.CancelScope()
        self.outbox = Outbox(stream, self.protocol, self.log, self._serving.cancel)
        self.incoming = Incoming(self.protocol, stream, self.log, self._serving.cancel)
        self.data_ports = DataPorts(self)
        self._last_request = time.monotonic()
        self._busy = False
        self._begun = 0  # requests
        self._answered = 0
        self._answer_sent = trio.lowlevel.ParkingLot()
        self._discarded = 0
        self.local_address, self.local_port = stream.socket.getsockname()[:2]
        self.peer_address, self.peer_port = stream.socket.getpeername()[:2]

    @property
    def version(self) -> int:
        """The protocol version in use; the offered one before that is settled."""
        return self.protocol.version

    # --- reach

    def _has_extension(self, number: int) -> bool:
        """Whether an extension class is switched on for the vserver, or the node."""
        return bool(options.read(self.config, options.OPTIONS[options.EXTENSIONS[number]], ""))  # of the LIF's scope

    @property
    def reach(self) -> Reach:
        """What the tables give to this connection now."""
        return REACH[self.lif.role, CAB in self.protocol.extensions.chosen]

    @property
    def volumes(self) -> Volumes:
        """The volumes that it reaches."""
        return self._scope.volumes[self.reach.volumes].within(self.bounds)

    @property
    def reaches_tapes(self) -> bool:
        """Whether it reaches drives and changers of this node at all."""
        return self.reach.tapes is not TapeScope.NONE

    def reaches_device(self, name: str) -> bool:
        """Whether it reaches the drive or changer of this name."""
        return self.reaches_tapes and self.bounds.has_device(name)

    @property
    def address_types(self) -> tuple[AddressType, ...]:
        """The kinds of data connections it may ask for; one over IPv6 cannot be spelled without its extension."""
        has_ipv6 = CAE in self.protocol.extensions.chosen
        return tuple(each for each in self.reach.address_types if has_ipv6 or each is not AddressType.TCP_IPV6)

    # --- life

    async def run(self) -> None:
        """Serve the connection until it ends; leaves nothing behind. Never raises for what a peer does."""
        self.node.connections[self.session_id] = self
        self.log.info("connected", peer=f"{self.peer_address}:{self.peer_port}")
        if self.config.node.debug_enable:
            try:
                self.start_log(self.config.node.debug_filter, whole=True)
            except OSError as error:  # the jobs of DMAs go on
                self.log.warning("no protocol log", error=error.strerror, path=error.filename)
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
            self.stop_log("the connection ended")
            self.node.connections.pop(self.session_id, None)
            self.gone.set()
            self.log.info("disconnected")

    async def _serve(self) -> None:
        node, peer_timeout_s = self.config.node, self.config.data_connections.peer_timeout_s
        sockets.set_control_options(self._stream.socket, peer_timeout_s, no_delay=node.tcpnodelay)
        await self.outbox.send(lambda: [self.protocol.connected()])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await self._take_requests()
            nursery.cancel_scope.cancel()

    async def _watch(self) -> None:
        """Find peers that do not log in, say nothing for too long, or are gone."""
        limits, peer_timeout_s = self.config.limits, self.config.data_connections.peer_timeout_s
        # Hundreds of connections that each look every second would cost more than their requests.
        seldom_s = max(WATCH_S, WATCH_PART * min(peer_timeout_s, limits.idle_timeout_s or peer_timeout_s))
        while True:
            await trio.sleep(seldom_s if self.protocol.authenticated else WATCH_S)
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

    def start_log(self, filter_text: str, *, whole: bool = False) -> ProtocolLog:
        """Log every message from now on. Raises ValueError for a wrong filter, OSError for no file."""
        self.protocol_log = ProtocolLog(self, filter_text, whole=whole)
        self.protocol.on_record = self.protocol_log.received
        self.outbox.on_message = self.protocol_log.sent
        self.log.info("protocol log started", path=self.protocol_log.path, filter=filter_text)
        return self.protocol_log

    def stop_log(self, reason: str) -> ProtocolLog | None:
        """Log no more messages; returns the log that there was."""
        ended, self.protocol_log = self.protocol_log, None
        self.protocol.on_record = self.outbox.on_message = None
        if ended is not None:
            ended.close(reason)
            self.log.info("protocol log ended", path=ended.path, messages=ended.messages, left_out=ended.left_out)
        return ended

    def end(self, close_s: float = END_CLOSE_S) -> None:
        """End the connection now, also one that its peer has left and that waits for its drive to close.

        Args:
            close_s: how long its drive may take to close, before the tape worker is killed.
        """
        if self.services_open:
            self.tape.hurry(close_s)
        self._serving.cancel()

    async def shut_down(self, text: str) -> None:
        """Tell the DMA that the server goes away."""
        with trio.move_on_after(1):
            await self.outbox.send(lambda: [self.protocol.shutdown(text.encode())])

    async def _release(self) -> None:
        """Free what the connection has; what fails in one service does not keep the next from freeing its own."""
        async with AsyncExitStack() as stack:
            stack.callback(self._stream.close)
            if self.services_open:
                for service in (self.tape, self.mover, self.data):
                    stack.push_async_callback(service.release)
                stack.push_async_callback(self.scsi.close)
            stack.push_async_callback(self.data_ports.close)
            stack.callback(self.outbox.close)

    # --- requests

    async def _take_requests(self) -> None:
        while (event := await self.incoming.next()) is not None:
            if not await self._take(event):
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
                await self.outbox.send(lambda: [self.protocol.answer(event)])
                return True
            case Request(code=MessageCode.CONNECT_CLOSE):
                return False
            case Request():
                self._discarded = 0
                self._busy = True
                try:
                    if event.code in _STATES and not self.data_ports.listening:
                        await self._answer(event)
                    else:
                        await self._answer_and_read_ahead(event)
                finally:
                    self._busy = False
                    self._last_request = time.monotonic()
                return True

    def _open_services(self) -> None:
        """The version is fixed: make the machines and the services over them."""
        self.machines = SessionMachines(self.version)
        tape, mover, data = SERVICES.get(self.version, OTHER_SERVICES)
        self.scsi = ScsiService(self)
        self.tape = tape(self)
        self.mover = mover(self)
        self.data = data(self)
        self.services_open = True

    async def _answer(self, request: Request) -> None:
        self._begun += 1
        if not self.services_open:
            self._open_services()
        if request.code >> 8 in _GATED:
            await self.data_ports.settle()
            self.outbox.hold_posts()
        try:
            reply = await self._handle(request)
        except BaseException:
            self.outbox.open_gate()
            raise
        await self.outbox.answer(reply)
        self._answered = self._begun
        if self._answer_sent:
            self._answer_sent.unpark_all()

    async def _answer_and_read_ahead(self, request: Request) -> None:
        """Answer what may wait for others, for a device for hours; a DMA that asks for states meanwhile gets them."""
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            reading = self.incoming.read_ahead(nursery)
            if request.code >> 8 in _SLOW:
                nursery.start_soon(self._answer_meanwhile, done)
            try:
                await self._answer(request)
            finally:
                done.set()  # not by a cancel: it may be in the midst of a reply
                reading.cancel()

    async def _answer_meanwhile(self, done: trio.Event) -> None:
        """Once the device takes long: answer GET_STATE of DATA and MOVER, until anything else comes, which waits."""
        with trio.move_on_after(PATIENCE_S):
            await done.wait()
        while not done.is_set():
            event = await self.incoming.next_before(done)
            if event is None:
                return
            if not isinstance(event, Request) or event.code not in _STATES:
                self.incoming.put_back(event)
                return
            self._last_request = time.monotonic()
            await self._answer_state(event)

    async def _answer_state(self, request: Request) -> None:
        reply = await self._handle(request)
        await self.outbox.send(lambda: [reply()])

    def _audit(self, event: str, what: str) -> None:
        if event == "start":
            target = show(self.data.path)
        elif what == "tape":
            target = self.tape.bay.name if self.tape.bay is not None else ""
        else:
            target = self.scsi.target.name if self.scsi.target is not None else ""
        self.node.audit.event(
            event, what=what, target=target, user=self.authenticated_as, client=self.peer_address,
            lif=self.lif.name, session=self.session_id,
        )  # fmt: skip

    async def next_answer(self) -> None:
        """Wait until a request that begins from now on has been answered."""
        now = self._begun
        while self._answered <= now:
            await self._answer_sent.park()

    async def _handle(self, request: Request) -> Callable[[], bytes]:
        """Run the handler; returns what encodes the reply when its turn to be sent has come."""
        handler = handler_of(request.version, type(request.body))
        if handler is None:
            return lambda: self.protocol.refuse_request(request, ErrorCode.NOT_SUPPORTED_ERR)
        error = ErrorCode.UNDEFINED_ERR
        try:
            body = await handler(self, request.body)
            audited = AUDITED.get(type(request.body))
            if audited is not None:
                self._audit(*audited)
        except Refusal as refusal:
            error = refusal.error
            self.log.info("refused", request=request.code.name, error=error.name, text=refusal.text[:LOG_TEXT_MAX])
            if refusal.text:
                await self.outbox.explain(LogType.ERROR, refusal.text)
        except PeerError as wrong:
            error = wrong.error_code
            self.log.info("refused", request=request.code.name, error=error.name, text=str(wrong))
        except Exception:
            self.log.exception("handler failed", request=request.code.name)
        else:
            return lambda: self.protocol.reply(request, body)
        return lambda: self.protocol.reply_error(request, error)
