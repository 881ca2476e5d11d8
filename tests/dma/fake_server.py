"""A small NDMP server in this process: real protocol and state tables, a tape that is a list, faults as parameters.

Data connections are made by handing the stream from one end to the other; addresses are numbers in a `World`.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from mover.dma import Credentials, Server
from mover.ndmp import messages as m
from mover.ndmp.auth import new_challenge, verify_md5
from mover.ndmp.enums import (
    AuthType,
    DataState,
    ErrorCode,
    LogType,
    MessageCode,
    MoverMode,
    MoverState,
    RecoveryStatus,
    TapeMode,
    TapeOperation,
)
from mover.ndmp.errors import IllegalStateError
from mover.ndmp.server import Answered, Request, ServerProtocol
from mover.ndmp.states import DataInput, MoverInput, SessionMachines

LOGIN = Credentials("ndmp", "secret")
Reply = m.Body | ErrorCode


@dataclass
class World:
    """What the servers of one test share, and how they misbehave."""

    version: int = 4
    methods: tuple[AuthType, ...] = (AuthType.MD5, AuthType.TEXT)
    tape: list[list[bytes]] = field(default_factory=list)
    """Tape files; each but an unfinished last one ends with a filemark."""
    marks: int = 0
    takes_marks: bool = True
    """Or else none is written, and the residual alone says so."""
    stream: bytes = b"image" * 1000
    history: list[m.Body] = field(default_factory=list)
    env: tuple[m.Pval, ...] = ()
    posts: list[m.Body] = field(default_factory=list)
    """Sent while the data operation runs."""
    fails: set[bytes] = field(default_factory=lambda: {b"/missing"})
    """Names that a recover does not find."""
    needed: int | None = None
    """Bytes that a recover wants; None: as many as `stream` has."""
    refuse: dict[MessageCode, ErrorCode] = field(default_factory=dict)
    refuse_in_header: dict[MessageCode, ErrorCode] = field(default_factory=dict)
    logged_refusal: m.Body | None = None
    """Sent behind each reply with an error."""
    logged_abort: m.Body | None = None
    """Sent behind the reply to MOVER_ABORT."""
    estimates: bool = True
    silent: set[MessageCode] = field(default_factory=set)
    hang_up: set[MessageCode] = field(default_factory=set)
    last_words: m.Body | None = None
    """Sent before the connection is closed by `hang_up`."""
    early_warning: bool = False
    lost_bytes: int = 0
    """So much less of a backup than the data service has sent is what the mover has moved."""
    hold: trio.Event | None = None
    """A data operation stays ACTIVE until this is set."""
    data_reason: DataInput = DataInput.COMPLETE
    mover_ends_with: MoverInput = MoverInput.CONNECTION_CLOSED
    lose_posts: bool = False
    """HALTED is only to be seen by GET_STATE."""
    requests: Counter[MessageCode] = field(default_factory=Counter)
    order: list[MessageCode] = field(default_factory=list)
    started: list[m.Body] = field(default_factory=list)
    """START requests as they came."""
    active: trio.Event = field(default_factory=trio.Event)
    """Set when a data operation runs."""
    listeners: "dict[int, FakeSession]" = field(default_factory=dict)
    machines: list[SessionMachines] = field(default_factory=list)

    def image(self, number: int) -> bytes:
        return b"".join(self.tape[number])


class FakeSession:
    """One control connection."""

    def __init__(self, world: World, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        self.world = world
        self.stream = stream
        self.nursery = nursery
        self.protocol = ServerProtocol(world.version)
        self.machines = SessionMachines(world.version)
        self.after: list[Callable[[], Awaitable[None]]] = []
        self.challenge = new_challenge()
        self.opened: TapeMode | None = None
        self.file = self.record = 0
        self.record_size = 0
        self.window: m.MoverSetWindowRequest | None = None
        self.peer: FakeSession | None = None  # the other end of the data connection
        self.bytes_moved = self.bytes_processed = 0
        self.read_wanted = trio.Event()
        self.closed_by_dma = trio.Event()
        self.env: tuple[m.Pval, ...] = ()
        self.lock = trio.Lock()

    async def send(self, data: bytes) -> None:
        async with self.lock:
            await self.stream.send_all(data)

    async def post(self, body: m.Body) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.send(self.protocol.post(body))

    async def run(self) -> None:
        await self.send(self.protocol.connected(b"fake"))
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in self.stream:
                self.protocol.feed(data)
                while (event := self.protocol.next_event()) is not None:
                    if isinstance(event, Answered):
                        self.machines = SessionMachines(self.protocol.version)
                        await self.send(self.protocol.answer(event))
                    elif isinstance(event, Request) and not await self.answer(event):
                        return
        self.nursery.cancel_scope.cancel()

    async def answer(self, request: Request) -> bool:
        world, code = self.world, request.code
        world.requests[code] += 1
        world.order.append(code)
        if code in world.hang_up or code == MessageCode.CONNECT_CLOSE:
            if code in world.hang_up and world.last_words is not None:
                await self.post(world.last_words)
            self.nursery.cancel_scope.cancel()
            return False
        if code in world.silent:
            return True
        if code in world.refuse_in_header:
            await self.send(self.protocol.refuse_request(request, world.refuse_in_header[code]))
            return True
        try:
            reply: Reply = world.refuse.get(code) or self.handle(request.body)
        except IllegalStateError:
            reply = ErrorCode.ILLEGAL_STATE_ERR
        if isinstance(reply, ErrorCode):
            await self.send(self.protocol.reply_error(request, reply))
            if world.logged_refusal is not None:
                await self.post(world.logged_refusal)
        else:
            await self.send(self.protocol.reply(request, reply))
            if code == MessageCode.MOVER_ABORT and world.logged_abort is not None:
                await self.post(world.logged_abort)
        for action in self.after:
            await action()
        self.after.clear()
        return True

    def handle(self, body: m.Body) -> Reply:
        match body:
            case m.ConfigGetServerInfoRequest():
                return m.ConfigGetServerInfoReply(auth_type=self.world.methods)
            case m.ConfigGetHostInfoRequest():
                return m.ConfigGetHostInfoReply(auth_type=self.world.methods)
            case m.ConfigGetExtListRequest():
                return m.ConfigGetExtListReply()
            case m.ConfigGetAuthAttrRequest():
                return m.ConfigGetAuthAttrReply(server_attr=m.AuthMd5Attr(self.challenge))
            case m.ConnectClientAuthRequest(auth_data):
                return self.login(auth_data)
            case m.DataGetStateRequest():
                data = self.machines.data
                return m.DataGetStateReply(
                    unsupported=0 if self.world.estimates else 3,
                    operation=data.operation,
                    state=data.state,
                    halt_reason=data.halt_reason,
                    bytes_processed=self.bytes_processed,
                    est_bytes_remain=len(self.world.stream) - self.bytes_processed,
                )
            case m.MoverGetStateRequest():
                mover = self.machines.mover
                return m.MoverGetStateReply(
                    state=mover.state,
                    halt_reason=mover.halt_reason,
                    pause_reason=mover.pause_reason,
                    bytes_moved=self.bytes_moved,
                )
            case _:
                name = type(body).__name__
                if name.startswith("Tape"):
                    return self.tape(body)
                return self.mover(body) if name.startswith("Mover") else self.data(body)

    def login(self, data: object) -> Reply:
        match data:
            case m.AuthText(user, password) if AuthType.TEXT in self.world.methods:
                good = (user, password) == (LOGIN.user.encode(), LOGIN.password.encode())
            case m.AuthMd5(user, digest) if AuthType.MD5 in self.world.methods:
                good = user == LOGIN.user.encode() and verify_md5(digest, self.challenge, LOGIN.password.encode())
            case m.AuthNone() if AuthType.NONE in self.world.methods:
                good = True
            case _:
                return ErrorCode.ILLEGAL_ARGS_ERR
        self.protocol.authenticated = good
        return m.ConnectClientAuthReply() if good else ErrorCode.NOT_AUTHORIZED_ERR

    # ---- tape

    def tape(self, body: m.Body) -> Reply:
        if isinstance(body, m.TapeOpenRequest):
            if body.device != b"drive0":
                return ErrorCode.NO_DEVICE_ERR
            self.opened = TapeMode(body.mode)
            return m.TapeOpenReply()
        if self.opened is None:
            return ErrorCode.DEV_NOT_OPEN_ERR
        match body:
            case m.TapeCloseRequest():
                self.opened = None
                return m.TapeCloseReply()
            case m.TapeGetStateRequest():
                return m.TapeGetStateReply(file_num=self.file, blockno=self.record)
            case m.TapeMtioRequest(operation, count):
                return m.TapeMtioReply(resid_count=count - self.mtio(operation, count))
            case m.TapeReadRequest(count):
                return self.tape_read(count)
            case _:
                return ErrorCode.NOT_SUPPORTED_ERR

    def tape_read(self, count: int) -> Reply:
        files = self.world.tape
        if self.file < len(files) and self.record < len(files[self.file]):
            self.record += 1
            return m.TapeReadReply(data_in=files[self.file][self.record - 1][:count])
        return ErrorCode.EOF_ERR if self.file < self.world.marks else ErrorCode.EOM_ERR

    def mtio(self, operation: int, count: int) -> int:
        world = self.world
        match operation:
            case TapeOperation.REW:
                self.file = self.record = 0
            case TapeOperation.FSF:
                done = min(count, world.marks - self.file)
                self.file += done
                self.record = 0
                if done < count and len(world.tape) > self.file:
                    self.record = len(world.tape[self.file])
                return done
            case TapeOperation.EOF if not world.takes_marks:
                return 0
            case TapeOperation.EOF:
                del world.tape[self.file + 1 :]
                world.marks = self.file = self.file + count
                self.record = 0
        return count

    # ---- mover

    def mover(self, body: m.Body) -> Reply:
        machines, mover = self.machines, self.machines.mover
        match body:
            case m.MoverSetRecordSizeRequest(size):
                mover.apply(MoverInput.SET_RECORD_SIZE)
                self.record_size = size
                return m.MoverSetRecordSizeReply()
            case m.MoverSetWindowRequest():
                mover.apply(MoverInput.SET_WINDOW)
                self.window = body
                return m.MoverSetWindowReply()
            case m.MoverListenRequest(mode, kind):
                if self.protocol.version == 4 and (self.window is None or not self.record_size):
                    return ErrorCode.PRECONDITION_ERR
                mover.apply(MoverInput.LISTEN)
                mover.mode, mover.local = MoverMode(mode), not kind
                return m.MoverListenReply(data_connection_addr=self.listen() if kind else m.LOCAL)
            case m.MoverConnectRequest(mode, address):
                machines.audit_mover(MoverInput.CONNECT, local=isinstance(address, m.LocalAddress))
                machines.apply_mover(MoverInput.CONNECT, local=isinstance(address, m.LocalAddress))
                mover.mode = MoverMode(mode)
                self.join(address, MoverInput.PEER_CONNECTED)
                return m.MoverConnectReply()
            case m.MoverReadRequest():
                mover.audit(MoverInput.READ)
                self.read_wanted.set()
                return m.MoverReadReply()
            case m.MoverCloseRequest():
                self.halt_mover(MoverInput.CLOSE)
                self.closed_by_dma.set()
                return m.MoverCloseReply()
            case m.MoverAbortRequest():
                self.halt_mover(MoverInput.ABORT)
                return m.MoverAbortReply()
            case m.MoverStopRequest():
                mover.apply(MoverInput.STOP)
                return m.MoverStopReply()
            case _:
                return ErrorCode.NOT_SUPPORTED_ERR

    def listen(self) -> m.Address:
        port = 1 + len(self.world.listeners)
        self.world.listeners[port] = self
        return m.tcp_address(0x7F000001, port)

    def join(self, address: object, _signal: object) -> None:
        """Become the peer of who listens at an address; it sees the connection a little later."""
        if isinstance(address, m.LocalAddress):
            self.peer = self
            return
        assert isinstance(address, m.TcpAddress)
        other = self.world.listeners.pop(address.endpoints[0].port)
        self.peer, other.peer = other, self
        if other.machines.mover.state is MoverState.LISTEN:
            other.machines.mover.apply(MoverInput.PEER_CONNECTED)
        else:
            other.machines.data.apply(DataInput.PEER_CONNECTED)

    def halt_mover(self, signal: MoverInput) -> None:
        mover = self.machines.mover
        if mover.apply(signal) and not self.world.lose_posts:
            body = m.NotifyMoverHaltedPost(mover.halt_reason)
            self.after.append(lambda: self.post(body))

    # ---- data

    def data(self, body: m.Body) -> Reply:
        machines, data = self.machines, self.machines.data
        match body:
            case m.DataListenRequest(kind):
                data.apply(DataInput.LISTEN)
                data.local = not kind
                return m.DataListenReply(data_connection_addr=self.listen() if kind else m.LOCAL)
            case m.DataConnectRequest(address):
                machines.audit_data(DataInput.CONNECT, local=isinstance(address, m.LocalAddress))
                machines.apply_data(DataInput.CONNECT, local=isinstance(address, m.LocalAddress))
                self.join(address, DataInput.PEER_CONNECTED)
                return m.DataConnectReply()
            case m.DataStartBackupRequest(mover_address=address):
                self.start(body, address, self.back_up)
                return m.DataStartBackupReply()
            case m.DataStartRecoverRequest(mover_address=address, nlist=nlist):
                self.start(body, address, lambda: self.recover(nlist))
                return m.DataStartRecoverReply()
            case m.DataStartRecoverFilehistRequest():
                self.start(body, None, lambda: self.recover(()))
                return m.DataStartRecoverFilehistReply()
            case m.DataAbortRequest():
                self.halt_data(DataInput.ABORT)
                return m.DataAbortReply()
            case m.DataGetEnvRequest():
                data.audit(DataInput.GET_ENV)
                return m.DataGetEnvReply(env=self.env + self.world.env)
            case m.DataStopRequest():
                data.apply(DataInput.STOP)
                return m.DataStopReply()
            case _:
                return ErrorCode.NOT_SUPPORTED_ERR

    def halt_data(self, signal: DataInput) -> None:
        data = self.machines.data
        if data.apply(signal) and not self.world.lose_posts:
            body = m.NotifyDataHaltedPost(data.halt_reason)
            self.after.append(lambda: self.post(body))

    def start(self, body: m.Body, address: object, operation: Callable[[], Awaitable[None]]) -> None:
        local = isinstance(address or (m.LOCAL if self.peer is self else None), m.LocalAddress)
        self.machines.audit_data(DataInput.START, local=local)
        self.world.started.append(body)
        self.machines.apply_data(DataInput.START, local=local)
        if address is not None:
            self.join(address, None)
        self.env = getattr(body, "env", ())

        async def begin() -> None:
            self.nursery.start_soon(operation)
            self.world.active.set()

        self.after.append(begin)

    async def flush(self) -> None:
        """Send what a background operation queued."""
        actions, self.after = self.after, []
        for action in actions:
            await action()

    async def back_up(self) -> None:
        world, mover = self.world, self.peer
        assert mover is not None
        for body in [*world.history, *world.posts]:
            await self.post(body)
        if world.hold is not None:
            await world.hold.wait()
        if self.machines.data.state is not DataState.ACTIVE:
            return
        size = mover.record_size
        records = [world.stream[start : start + size] for start in range(0, len(world.stream), size)]
        del world.tape[mover.file :]
        world.tape.append(records)
        mover.record = len(records)
        self.bytes_processed = len(world.stream)
        mover.bytes_moved = len(world.stream) - world.lost_bytes
        if world.early_warning:
            mover.machines.mover.apply(MoverInput.EARLY_WARNING)
            await mover.post(m.NotifyMoverPausedPost(mover.machines.mover.pause_reason))
            return
        mover.halt_mover(world.mover_ends_with)
        await mover.flush()
        self.halt_data(world.data_reason)
        await self.flush()

    async def recover(self, nlist: tuple[m.RecoverName, ...]) -> None:
        world, mover = self.world, self.peer
        assert mover is not None
        for body in [*world.history, *world.posts]:
            await self.post(body)
        if mover is not self:
            await self.post(m.NotifyDataReadPost(0, 0xFFFF_FFFF_FFFF_FFFF))
            await mover.read_wanted.wait()
        if world.hold is not None:
            await world.hold.wait()
        image = world.image(mover.file)
        needed = len(world.stream) if world.needed is None else world.needed
        mover.bytes_moved = self.bytes_processed = min(len(image), needed)
        if needed >= len(image):
            mover.machines.mover.apply(MoverInput.FILEMARK)
            await mover.post(m.NotifyMoverPausedPost(mover.machines.mover.pause_reason))
            await mover.closed_by_dma.wait()
        for name in nlist:
            found = name.original_path not in world.fails
            status = RecoveryStatus.SUCCESSFUL if found else RecoveryStatus.FAILED_NOT_FOUND
            await self.post(m.LogFilePost(name.original_path, status))
        self.halt_data(DataInput.COMPLETE if needed <= len(image) else DataInput.CONNECTION_LOST)
        await self.flush()


@asynccontextmanager
async def fake_server(world: World) -> AsyncIterator[Server]:
    """A listening server; every connection shares the world."""

    async def session(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            fake = FakeSession(world, stream, nursery)
            await fake.run()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, session, 0)
        port = next(
            listener.socket.getsockname()[1] for listener in listeners if listener.socket.family.name == "AF_INET"
        )
        yield Server("127.0.0.1", port)
        nursery.cancel_scope.cancel()


def unix_dir(name: bytes, node: int, parent: int) -> m.Dir:
    return m.Dir((m.UnixName(name),), node, parent)


def unix_node(node: int, ftype: int, size: int = 0, fh_info: int = 0) -> m.Node:
    return m.Node((m.FileStat(ftype=ftype, fattr=0o644, size=size, mtime=1_700_000_000, links=1),), node, fh_info)


def small_history() -> list[m.Body]:
    """A root with a file, and a directory with two names that are not UTF-8 or hold a newline."""
    return [
        m.FhAddDirPost(
            (
                unix_dir(b".", 2, 2),
                unix_dir(b"..", 2, 2),
                unix_dir(b"a", 11, 2),
                unix_dir(b"d", 12, 2),
                unix_dir(b".", 12, 12),
                unix_dir(b"..", 2, 12),
                unix_dir(b"x\n", 13, 12),
                unix_dir(b"\xff", 11, 12),
            )
        ),
        m.FhAddNodePost(
            (unix_node(2, 0), unix_node(11, 4, 5, 2048), unix_node(12, 0, 0, 1024), unix_node(13, 4, 7, 4096))
        ),
    ]


LOG_WARNING = m.LogMessagePost(LogType.WARNING, 1, b"file changed\nwhile read")
