"""A client of NDMP version 1, written from the draft of October 1996 alone: standard library and xdrlib3.

It imports nothing of mover, so that an error of mover's codec is not made twice. Section numbers are the draft's.
Every wait has a deadline.
"""

import socket
import struct
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar

import xdrlib3

DEADLINE_S = 30.0
LAST_FRAGMENT = 0x8000_0000
P = ParamSpec("P")
T = TypeVar("T")

# 2.7, in the order of the enum
ERRORS = (
    "NO_ERR", "NOT_SUPPORTED_ERR", "DEVICE_BUSY_ERR", "DEVICE_OPENED_ERR", "NOT_AUTHORIZED_ERR", "PERMISSION_ERR",
    "DEV_NOT_OPEN_ERR", "IO_ERR", "TIMEOUT_ERR", "ILLEGAL_ARGS_ERR", "NO_TAPE_LOADED_ERR", "WRITE_PROTECT_ERR",
    "EOF_ERR", "EOM_ERR", "FILE_NOT_FOUND_ERR", "BAD_FILE_ERR", "NO_DEVICE_ERR", "NO_BUS_ERR", "XDR_DECODE_ERR",
    "ILLEGAL_STATE_ERR", "UNDEFINED_ERR", "XDR_ENCODE_ERR", "NO_MEM_ERR",
)  # fmt: skip

# 2.8
CONFIG_GET_HOST_INFO, CONFIG_GET_BUTYPE_ATTR = 0x100, 0x101
(
    SCSI_OPEN, SCSI_CLOSE, SCSI_GET_STATE, SCSI_SET_TARGET, SCSI_RESET_DEVICE, SCSI_RESET_BUS, SCSI_EXECUTE_CDB,
) = range(0x200, 0x207)  # fmt: skip
(
    TAPE_OPEN, TAPE_CLOSE, TAPE_GET_STATE, TAPE_MTIO, TAPE_WRITE, TAPE_READ, TAPE_SET_RECORD_SIZE, TAPE_EXECUTE_CDB,
) = range(0x300, 0x308)  # fmt: skip
DATA_GET_STATE, DATA_START_BACKUP, DATA_START_RECOVER, DATA_ABORT, DATA_GET_ENV = range(0x400, 0x405)
DATA_STOP, DATA_CONTINUE = 0x407, 0x408
NOTIFY_PAUSED, NOTIFY_HALTED, NOTIFY_CONNECTED = 0x500, 0x501, 0x502
LOG_LOG, LOG_DEBUG = 0x600, 0x601
FH_ADD_UNIX, FH_ADD_UNIX_DIR, FH_ADD_UNIX_NODE = 0x700, 0x701, 0x702
CONNECT_OPEN, CONNECT_AUTH, CONNECT_CLOSE = 0x900, 0x901, 0x902

READ_MODE, WRITE_MODE = 0, 1  # 3.4.1
FSF, BSF, FSR, BSR, REW, EOF, OFF = range(7)  # 3.4.4
IDLE, ACTIVE, PAUSED, HALTED = range(4)  # 3.5.1
NOACTION, BACKUP, RESTORE = range(3)
SUCCESSFUL, ABORTED, MEDIA_ERROR, INTERNAL_ERROR = range(1, 5)
PAUSE_EOM, PAUSE_EOF = 1, 2

Pairs = list[tuple[bytes, bytes]]


class Failed(Exception):  # noqa: N818 - an answer
    """A reply with an error, in its header or its body."""

    def __init__(self, request: int, error: int, where: str) -> None:
        super().__init__(f"{request:#x}: {ERRORS[error]} in the {where}")
        self.error = ERRORS[error]
        self.where = where


class Post(NamedTuple):
    """What the server said by itself."""

    code: int
    fields: tuple[Any, ...]  # whatever the message carries


class TapeState(NamedTuple):
    """3.4.3."""

    flags: int
    file_num: int
    record_num: int
    record_size: int
    soft_errors: int
    block_size: int
    blockno: int
    total_space: int
    space_remain: int


class DataState(NamedTuple):
    """3.5.1."""

    operation: int
    state: int
    halt_reason: int
    pause_reason: int
    resvd1: int
    bytes_processed: int
    est_bytes_remain: int
    est_time_remain: int
    resvd2: int
    resvd3: int


class Reply:
    """A reply: its header's fields, and its body to unpack."""

    def __init__(self, header: tuple[int, ...], body: bytes) -> None:
        self.sequence, _, _, self.message, self.reply_sequence, self.error = header
        self.body = xdrlib3.Unpacker(body)
        self.size = len(body)


class V1Client:
    """One connection to an NDMP server of version 1.

    Attributes:
        posts: what the server said by itself, in order.
        offered: the version of the greeting.
        refused: the versions that it did not have.

    Args:
        versions: to try, one after the other (3.1.1).
        fragments: of each record sent.
    """

    def __init__(
        self, address: str, user: str = "", password: str = "", *, versions: tuple[int, ...] = (1,), fragments: int = 1
    ) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.posts: list[Post] = []
        self._fragments = fragments
        self._received = bytearray()
        self._sequence = 0
        self._ended = False
        self._server_sequence = 0
        try:
            _, (reason, self.offered, _) = self.wait_for(NOTIFY_CONNECTED)
            assert reason == 0
            self.refused = [version for version in versions if refusal(self.open, version) != "NO_ERR"]
            assert len(self.refused) < len(versions)
            if user:
                self.auth_text(user, password)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and not self._ended:
                self.hang_up()
        finally:
            self.socket.close()

    # --- messages (2.5, 2.6)

    def send(self, code: int, body: bytes = b"") -> int:
        """Send a request; returns its sequence number."""
        self._sequence += 1
        record = struct.pack(">6I", self._sequence, int(time.time()), 0, code, 0, 0) + body
        step = -(-len(record) // self._fragments)
        pieces = [record[at : at + step] for at in range(0, len(record), step)]
        data = b"".join(
            struct.pack(">I", len(piece) | (LAST_FRAGMENT if number == len(pieces) else 0)) + piece
            for number, piece in enumerate(pieces, 1)
        )
        self.socket.sendall(data)
        return self._sequence

    def reply_to(self, sequence: int) -> Reply:
        """Wait for the reply to a request; posts that come before it are kept."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            reply = self._receive(deadline)
            if reply is not None:
                assert reply.reply_sequence == sequence, "replies come in order"
                return reply

    def ask(self, code: int, body: bytes = b"") -> xdrlib3.Unpacker:
        """Send a request and return the body of its reply behind the error.

        Raises:
            Failed: there is an error in the header, or in the body.
        """
        reply = self.reply_to(self.send(code, body))
        assert reply.message == code
        if reply.error:
            assert reply.size == 0, "no message body will follow the message header (2.6)"
            raise Failed(code, reply.error, "header")
        error = reply.body.unpack_enum()
        if error:
            raise Failed(code, error, "body")
        return reply.body

    def done(self, code: int, body: bytes = b"") -> None:
        """A request whose reply holds the error only."""
        self.ask(code, body).done()

    def _receive(self, deadline: float) -> Reply | None:
        record = self._record(deadline)
        header = struct.unpack_from(">6I", record)
        self._server_sequence += 1
        assert header[0] == self._server_sequence, "starts at 1 and increases by 1 (2.6)"
        if header[2] == 1:
            return Reply(header, record[24:])
        assert header[2] == 0
        assert header[4:] == (0, 0)
        self.posts.append(Post(header[3], _POSTS[header[3]](xdrlib3.Unpacker(record[24:]))))
        return None

    def _record(self, deadline: float) -> bytes:
        record = b""
        while True:
            (word,) = struct.unpack(">I", self._take(4, deadline))
            record += self._take(word & ~LAST_FRAGMENT, deadline)
            if word & LAST_FRAGMENT:
                return record

    def _take(self, count: int, deadline: float) -> bytes:
        while len(self._received) < count:
            left = deadline - time.monotonic()
            assert left > 0, f"nothing came in time; posts: {self.posts[-5:]}"
            self.socket.settimeout(left)
            data = self.socket.recv(1 << 16)
            assert data, f"the server closed the connection; posts: {self.posts[-5:]}"
            self._received += data
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def wait_for(self, *codes: int) -> Post:
        """The first post of these kinds, taken from those seen."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            for post in self.posts:
                if post.code in codes:
                    self.posts.remove(post)
                    return post
            assert self._receive(deadline) is None, "a reply that nobody asked for"

    def closed(self) -> bool:
        """Whether the server has closed; waits for it."""
        self.socket.settimeout(DEADLINE_S)
        while data := self.socket.recv(1 << 16):
            self._received += data
        self._ended = True
        return True

    # --- CONNECT, CONFIG, SCSI (3.1 to 3.3)

    def open(self, version: int) -> None:
        packer = xdrlib3.Packer()
        packer.pack_uint(version)
        self.done(CONNECT_OPEN, packer.get_buffer())

    def auth_none(self) -> None:
        self.done(CONNECT_AUTH, struct.pack(">I", 0))

    def auth_text(self, user: str, password: str) -> None:
        packer = xdrlib3.Packer()
        packer.pack_enum(1)
        packer.pack_string(user.encode())
        packer.pack_string(password.encode())
        self.done(CONNECT_AUTH, packer.get_buffer())

    def hang_up(self) -> None:
        """CONNECT_CLOSE, which has no reply."""
        self.send(CONNECT_CLOSE)
        assert self.closed()

    def host_info(self) -> tuple[bytes, bytes, bytes, bytes, list[int]]:
        body = self.ask(CONFIG_GET_HOST_INFO)
        names = tuple(body.unpack_string() for _ in range(4))
        types = body.unpack_array(body.unpack_enum)
        body.done()
        return (*names, types)  # type: ignore[return-value]  # four of them

    def butype_attr(self, name: bytes) -> int:
        body = self.ask(CONFIG_GET_BUTYPE_ATTR, text(name))
        attrs: int = body.unpack_uint()
        body.done()
        return attrs

    # --- TAPE (3.4)

    def tape_open(self, device: str, mode: int) -> None:
        self.done(TAPE_OPEN, text(device.encode()) + struct.pack(">I", mode))

    def tape_close(self) -> None:
        self.done(TAPE_CLOSE)

    def tape_state(self) -> TapeState:
        body = self.ask(TAPE_GET_STATE)
        words = [body.unpack_uint() for _ in range(7)]
        state = TapeState._make([*words, body.unpack_uhyper(), body.unpack_uhyper()])
        body.done()
        return state

    def mtio(self, operation: int, count: int = 1) -> int:
        """Returns the residual count."""
        body = self.ask(TAPE_MTIO, struct.pack(">II", operation, count))
        residual: int = body.unpack_uint()
        body.done()
        return residual

    def tape_write(self, data: bytes) -> tuple[str, int]:
        """Error, which may stand beside a count, and count."""
        reply = self.reply_to(self.send(TAPE_WRITE, text(data)))
        assert not reply.error, ERRORS[reply.error]
        error, count = reply.body.unpack_enum(), reply.body.unpack_uint()
        reply.body.done()
        return ERRORS[error], count

    def tape_read(self, count: int) -> tuple[str, bytes]:
        """Error, which may stand beside data, and data."""
        reply = self.reply_to(self.send(TAPE_READ, struct.pack(">I", count)))
        assert not reply.error, ERRORS[reply.error]
        error, data = reply.body.unpack_enum(), reply.body.unpack_opaque()
        reply.body.done()
        return ERRORS[error], data

    def set_record_size(self, size: int) -> None:
        self.done(TAPE_SET_RECORD_SIZE, struct.pack(">I", size))

    def execute_cdb(self, request: int, cdb: bytes, alloc_len: int = 0) -> None:
        """Raises Failed; no device of these tests has an answer."""
        self.ask(request, struct.pack(">III", 1, 1000, alloc_len) + text(cdb) + text(b""))

    # --- DATA (3.5)

    def data_state(self) -> DataState:
        body = self.ask(DATA_GET_STATE)
        enums = [body.unpack_enum() for _ in range(4)]
        sizes = [body.unpack_uhyper() for _ in range(3)]
        est_time_remain = body.unpack_uint()
        state = DataState._make([*enums, *sizes, est_time_remain, body.unpack_uhyper(), body.unpack_uhyper()])
        body.done()
        return state

    def start_backup(self, env: Pairs, butype: bytes = b"dump") -> None:
        self.done(DATA_START_BACKUP, text(butype) + pack_pairs(env))

    def start_recover(self, env: Pairs, names: list[tuple[bytes, bytes, int]], butype: bytes = b"dump") -> None:
        """Names: original path, full destination, fh_info."""
        packer = xdrlib3.Packer()
        packer.pack_uint(len(names))
        for name, dest, fh_info in names:
            packer.pack_string(name)
            packer.pack_string(dest)
            packer.pack_uint(0)
            packer.pack_uhyper(fh_info)
        self.done(DATA_START_RECOVER, pack_pairs(env) + packer.get_buffer() + text(butype))

    def env(self) -> Pairs:
        body = self.ask(DATA_GET_ENV)
        pairs = [(body.unpack_string(), body.unpack_string()) for _ in range(body.unpack_uint())]
        body.done()
        return pairs

    def abort(self) -> None:
        self.done(DATA_ABORT)

    def stop(self) -> None:
        self.done(DATA_STOP)

    def go_on(self) -> None:
        """DATA_CONTINUE."""
        self.done(DATA_CONTINUE)

    def logged(self) -> list[str]:
        """What came by LOG_LOG so far."""
        return [post.fields[0].decode(errors="replace") for post in self.posts if post.code == LOG_LOG]


def text(value: bytes) -> bytes:
    """A string or opaque."""
    packer = xdrlib3.Packer()
    packer.pack_opaque(value)
    packed: bytes = packer.get_buffer()
    return packed


def pack_pairs(pairs: Pairs) -> bytes:
    """An environment."""
    return struct.pack(">I", len(pairs)) + b"".join(text(name) + text(value) for name, value in pairs)


def refusal(action: Callable[P, object], *arguments: P.args, **named: P.kwargs) -> str:
    """The error that an action is refused with; NO_ERR when it is not."""
    try:
        action(*arguments, **named)
    except Failed as failed:
        return failed.error
    return "NO_ERR"


# --- posts (section 4)


def _stat(body: xdrlib3.Unpacker) -> tuple[int, ...]:
    return (body.unpack_enum(), *(body.unpack_uint() for _ in range(6)), body.unpack_uhyper(), body.unpack_uhyper())


def _all(body: xdrlib3.Unpacker, one: Callable[[xdrlib3.Unpacker], T]) -> tuple[T, ...]:
    found = tuple(one(body) for _ in range(body.unpack_uint()))
    body.done()
    return found


def _paused(body: xdrlib3.Unpacker) -> tuple[int, int]:
    fields = body.unpack_enum(), body.unpack_uhyper()
    body.done()
    return fields


def _halted(body: xdrlib3.Unpacker) -> tuple[int, bytes]:
    fields = body.unpack_enum(), body.unpack_string()
    body.done()
    return fields


def _connected(body: xdrlib3.Unpacker) -> tuple[int, int, bytes]:
    fields = body.unpack_enum(), body.unpack_uint(), body.unpack_string()
    body.done()
    return fields


def _log(body: xdrlib3.Unpacker) -> tuple[bytes]:
    fields = (body.unpack_string(),)
    body.done()
    return fields


_POSTS: dict[int, Callable[[xdrlib3.Unpacker], tuple[Any, ...]]] = {
    NOTIFY_PAUSED: _paused,
    NOTIFY_HALTED: _halted,
    NOTIFY_CONNECTED: _connected,
    LOG_LOG: _log,
    LOG_DEBUG: _halted,  # an enum and a string too
    FH_ADD_UNIX: lambda body: _all(body, lambda one: (one.unpack_string(), _stat(one))),
    FH_ADD_UNIX_DIR: lambda body: _all(body, lambda one: (one.unpack_string(), one.unpack_uint(), one.unpack_uint())),
    FH_ADD_UNIX_NODE: lambda body: _all(body, lambda one: (_stat(one), one.unpack_uint())),
}
