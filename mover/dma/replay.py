"""Plays the client's side of a protocol log against a server, up to the first difference.

Theory of operation. The log is walked line by line. A request is sent as it was recorded, with a sequence number of our
own and with a login made anew, for a log holds no secrets. A reply is waited for and compared. A NOTIFY post is
waited for, so that no request comes earlier in the dialogue than it did; other posts are compared with those
recorded of their kind whenever they come, file history element by element. What may differ stands in `replay_rules`.
A poll that finds the server less far than it was is repeated.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final  # Any: JSON values

import msgspec
import trio

from mover.dma.client import ControlStream, connect_control
from mover.dma.errors import ControlConnectionError, JobError
from mover.dma.options import Credentials, Server
from mover.dma.replay_log import is_shutdown, logins_taken, read_log
from mover.dma.replay_rules import DUMP_ID, difference, elements, is_progress, state_of
from mover.ndmp import edge
from mover.ndmp.auth import md5_digest
from mover.ndmp.dialogue import Message, Opening, describe, interface_of
from mover.ndmp.enums import HIGHEST_VERSION, AuthType, ErrorCode, MessageCode, MessageType
from mover.ndmp.errors import FramingError, NdmpError, XdrDecodeError
from mover.ndmp.extensions import DEFAULTS
from mover.ndmp.framing import RecordReader, mark
from mover.ndmp.header import SIZE, Header, decode_header
from mover.ndmp.messages import (
    AuthData,
    AuthMd5,
    AuthMd5Attr,
    AuthText,
    Body,
    ConfigGetAuthAttrReply,
    ConfigGetAuthAttrRequest,
    ConfigSetExtListReply,
    ConfigSetExtListRequest,
    ConnectClientAuthRequest,
    ConnectOpenReply,
    ConnectOpenRequest,
    Pval,
)
from mover.ndmp.table import VERSIONS

RECEIVE_BYTES: Final = 256 << 10
POLL_S: Final = 0.05
POLLS_S: Final = 30.0
"""How long a poll is repeated that finds the server less far than it was."""
REPLY_TIMEOUT_S: Final = 120.0

_NOTED: Final = frozenset(
    {MessageCode.CONNECT_OPEN, MessageCode.CONFIG_GET_AUTH_ATTR, MessageCode.CONFIG_SET_EXT_LIST}
)  # fmt: skip


class Difference(msgspec.Struct, frozen=True):
    """The first thing that was not as recorded. `line`: of the log; 0: of nothing in it."""

    line: int
    message: str
    field: str
    recorded: Any
    replayed: Any

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        what = f"{self.message}, {self.field}" if self.field else self.message
        return f"{where}{what}: recorded {_json(self.recorded)}, now {_json(self.replayed)}"


class ReplayResult(msgspec.Struct, frozen=True):
    """What came of it."""

    requests: int
    compared: int
    difference: Difference | None
    notes: list[str]


def _json(value: Any) -> str:
    text = "nothing" if value is None else msgspec.json.encode(value).decode()
    return text if len(text) <= 200 else text[:200] + "..."


class _DiffersError(Exception):
    def __init__(self, found: Difference) -> None:
        self.found = found


async def run_replay(
    path: Path, server: Server, credentials: Credentials | None, *, timeout_s: float = REPLY_TIMEOUT_S
) -> ReplayResult:
    """Play a log against a server.

    Args:
        credentials: for the log's logins; None: a log with a login that succeeded cannot be played.
        timeout_s: how long the server may take for a reply or post.

    Raises:
        JobError: the log cannot be played.
        ControlConnectionError: the server cannot be reached.
    """
    opening, messages, notes = await trio.to_thread.run_sync(read_log, path)
    stream = await connect_control(server, timeout_s)
    async with stream:
        player = _Player(stream, opening, messages, credentials, timeout_s, posts=not any("posts" in n for n in notes))
        found: Difference | None = None
        try:
            await player.play()
        except _DiffersError as differs:
            found = differs.found
    return ReplayResult(player.requests, player.compared, found, notes)


class _Player:
    def __init__(
        self, stream: ControlStream, opening: Opening, messages: list[tuple[int, Message]],
        credentials: Credentials | None, timeout_s: float, *, posts: bool,
    ) -> None:  # fmt: skip
        self.requests = 0
        self.compared = 0
        self._stream = stream
        self._opening = opening
        self._messages = messages
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._compares_posts = posts
        self._interfaces = frozenset(opening.interfaces)
        self._reader = RecordReader()
        self._version = HIGHEST_VERSION
        self._opens: int | None = None
        self._extensions: Mapping[int, int] = DEFAULTS
        self._chooses: Mapping[int, int] = {}  # what a SET_EXT_LIST asks for
        self._sequence = 0
        self._replies: dict[int, tuple[Message, bytes]] = {}
        self._waiting: dict[int, int] = {}  # recorded sequence -> ours
        self._challenge: bytes | None = None
        self._expected: dict[str, deque[tuple[int, Any]]] = {}
        self._came: dict[str, int] = {}
        self._ended = False
        for number, message in messages:
            if message.sender == "server" and message.kind == "post" and not is_shutdown(message):
                queue = self._expected.setdefault(message.message, deque())
                parts = elements(message.message, message.fields)
                queue.extend((number, part) for part in ([message.fields] if parts is None else parts))

    # ---- the walk

    async def play(self) -> None:
        """Walk the log; raises _DiffersError."""
        if not self._opening.whole:
            await self._enter()
        seen: dict[str, int] = {}
        logins = logins_taken(self._messages)
        for number, message in self._messages:
            if message.sender == "client":
                await self._play_request(number, message, logins)
            elif message.kind == "reply":
                await self._play_reply(number, message)
            elif message.message.startswith("NOTIFY_"):
                if is_shutdown(message):
                    break  # by an operator, not by the dialogue
                seen[message.message] = seen.get(message.message, 0) + 1
                await self._notice(number, message, seen[message.message])
        await self._finish()

    async def _notice(self, number: int, recorded: Message, ordinal: int) -> None:
        """Wait for the post that came here."""
        await self._until(
            lambda: self._came.get(recorded.message, 0) >= ordinal,
            lambda: Difference(number, recorded.message, "", recorded.fields, None),
        )

    async def _play_request(self, number: int, message: Message, logins: set[int]) -> None:
        try:
            record = bytes.fromhex(message.record or "")
        except ValueError as error:
            raise JobError(f"line {number}: the record cannot be read: {error}") from None
        try:
            header = decode_header(record)
        except XdrDecodeError:
            await self._send(record)  # cut off then, and sent so again
            return
        body = record[SIZE:]
        if header.message == MessageCode.CONNECT_CLIENT_AUTH and message.sequence in logins:
            body = self._login(record)
        elif DUMP_ID in body:
            body = self._of_any_dump(header, record)
        if header.message == MessageCode.CONNECT_OPEN and message.fields is not None:
            opens = message.fields.get("protocol_version")
            self._opens = opens if isinstance(opens, int) and opens in VERSIONS else None
        if header.message == MessageCode.CONFIG_SET_EXT_LIST:
            self._chooses = self._chosen(record)
        ours = await self._request(header, body)
        if message.sequence is not None:
            self._waiting[message.sequence] = ours

    async def _play_reply(self, number: int, recorded: Message) -> None:
        ours = self._waiting.pop(recorded.reply_to or 0, None)
        if ours is None:
            return  # its request came before the log began, or was not in the filter
        reply, record = await self._reply(number, recorded, ours)
        deadline = trio.current_time() + POLLS_S
        wanted = state_of(recorded.message, recorded.fields)
        while (
            wanted not in {None, "ACTIVE"}
            and state_of(reply.message, reply.fields) not in {None, wanted}
            and trio.current_time() < deadline
        ):
            await trio.sleep(POLL_S)
            ours = await self._request(Header(0, 0, MessageType.REQUEST, decode_header(record).message, 0, 0), b"")
            reply, record = await self._reply(number, recorded, ours)
        self._note(record)
        self.compared += 1
        if recorded.error != reply.error:
            raise _DiffersError(Difference(number, recorded.message, "header error", recorded.error, reply.error))
        if is_progress(recorded.message, recorded.fields):
            return
        found = difference(recorded.message, recorded.fields, reply.fields)
        if found is not None:
            raise _DiffersError(Difference(number, f"{recorded.message} reply", *found))

    async def _finish(self) -> None:
        """What was recorded of posts has to be here by now, or to come while the server closes."""
        with trio.move_on_after(self._timeout_s):
            while not self._ended and (self._closes() or any(self._expected.values())):
                await self._receive()
        if not self._compares_posts:
            return
        for name, queue in self._expected.items():
            if queue:
                number, fields = queue[0]
                raise _DiffersError(Difference(number, name, "", fields, None))

    def _closes(self) -> bool:
        last = [message for _, message in self._messages if message.sender == "client"][-1:]
        return bool(last) and last[0].message == MessageCode.CONNECT_CLOSE.name

    # ---- requests and logins

    async def _request(self, header: Header, body: bytes) -> int:
        self._sequence += 1
        self.requests += 1
        own = msgspec.structs.replace(header, sequence=self._sequence, time_stamp=int(time.time()) & 0xFFFF_FFFF)
        await self._send(own.encode() + body)
        return self._sequence

    async def _send(self, record: bytes) -> None:
        try:
            with trio.fail_after(self._timeout_s):
                await self._stream.send_all(mark(len(record)) + record)
        except (trio.BrokenResourceError, trio.TooSlowError):
            self._ended = True  # the next reply that is waited for tells

    def _login(self, record: bytes) -> bytes:
        """The body of a login that succeeded, with the secret that the log lacks."""
        try:
            recorded = edge.decode_request(self._version, MessageCode.CONNECT_CLIENT_AUTH, record, SIZE)
        except XdrDecodeError as error:
            raise JobError(f"a login of the log cannot be read: {error}") from None
        assert isinstance(recorded, ConnectClientAuthRequest)
        return self._encode(ConnectClientAuthRequest(self._login_data(recorded.auth_data)))

    def _chosen(self, record: bytes) -> Mapping[int, int]:
        """Class -> version of the extensions that a SET_EXT_LIST names."""
        try:
            request = edge.decode_request(self._version, MessageCode.CONFIG_SET_EXT_LIST, record, SIZE)
        except NdmpError:
            return {}  # it was not understood then, nor will it be now
        assert isinstance(request, ConfigSetExtListRequest)
        return {each.ext_class_id: each.ext_version for each in request.ndmp_selected_ext}

    def _of_any_dump(self, header: Header, record: bytes) -> bytes:
        """The body of a START request whose environment names a dump, without that name."""
        try:
            recorded = edge.decode_request(self._version, header.message, record, SIZE)
        except NdmpError:
            return record[SIZE:]  # it was not understood then, nor will it be now
        env = getattr(recorded, "env", None)
        if env is None:
            return record[SIZE:]
        changed = tuple(Pval(pair.name, b"") if pair.name == DUMP_ID else pair for pair in env)
        return self._encode(msgspec.structs.replace(recorded, env=changed))

    def _login_data(self, recorded: AuthData) -> AuthData:
        if not isinstance(recorded, (AuthText, AuthMd5)):
            return recorded
        if self._credentials is None:
            raise JobError("the log has a login, and secrets are not in it: name a user and a password")
        user, password = os.fsencode(self._credentials.user), os.fsencode(self._credentials.password)
        if isinstance(recorded, AuthText):
            return AuthText(user, password)
        return AuthMd5(user, md5_digest(self._challenge or bytes(64), password))

    def _encode(self, body: Body) -> bytes:
        return edge.encode_body(self._version, body)[1]

    async def _enter(self) -> None:
        """Open the connection for a log that begins later."""
        await self._until(
            lambda: any(name.startswith("NOTIFY_CONNECT") for name in self._came),
            lambda: Difference(0, "greeting", "", "one", None),
        )
        self._opens = self._opening.version
        await self._own(MessageCode.CONNECT_OPEN, ConnectOpenRequest(self._opening.version))
        if self._credentials is None:
            raise JobError("the log begins inside the dialogue: name a user and a password to log in")
        if self._version >= 2:
            await self._own(MessageCode.CONFIG_GET_AUTH_ATTR, ConfigGetAuthAttrRequest(AuthType.MD5))
        login = AuthText(b"", b"") if self._challenge is None else AuthMd5(b"", bytes(16))
        await self._own(MessageCode.CONNECT_CLIENT_AUTH, ConnectClientAuthRequest(self._login_data(login)))

    async def _own(self, code: MessageCode, body: Body) -> None:
        header = Header(0, 0, MessageType.REQUEST, code, 0, 0)
        wanted = Message(time=0, sender="server", kind="reply", message=code.name, version=self._version)
        reply, record = await self._reply(0, wanted, await self._request(header, self._encode(body)))
        self._note(record)
        error = reply.error or (reply.fields or {}).get("error")
        if error != "NO_ERR" and code is not MessageCode.CONFIG_GET_AUTH_ATTR:
            raise JobError(f"{code.name}: {error}")

    def _note(self, record: bytes) -> None:
        """What a reply changes here: version, challenge, extensions."""
        header = decode_header(record)
        if header.error or header.message not in _NOTED:
            return
        try:
            reply = edge.decode_reply(self._version, header.message, record, SIZE)
        except NdmpError:
            return  # it has no fields then, and differs
        if isinstance(reply, ConnectOpenReply) and self._opens is not None:
            if reply.error == ErrorCode.NO_ERR:
                self._version = self._opens
            self._opens = None
        elif isinstance(reply, ConfigGetAuthAttrReply) and isinstance(reply.server_attr, AuthMd5Attr):
            self._challenge = reply.server_attr.challenge
        elif isinstance(reply, ConfigSetExtListReply) and reply.error == ErrorCode.NO_ERR:
            self._extensions = self._chooses

    # ---- what comes

    async def _reply(self, number: int, recorded: Message, ours: int) -> tuple[Message, bytes]:
        await self._until(
            lambda: ours in self._replies,
            lambda: Difference(number, f"{recorded.message} reply", "", recorded.fields or recorded.error, None),
        )
        return self._replies.pop(ours)

    async def _until(self, here: Callable[[], bool], missing: Callable[[], Difference]) -> None:
        with trio.move_on_after(self._timeout_s):
            while not here() and not self._ended:
                await self._receive()
        if not here():
            raise _DiffersError(missing())

    async def _receive(self) -> None:
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self._ended = True
            return
        self._reader.feed(data)
        try:
            while (record := self._reader.next_record()) is not None:
                self._take(record)
        except FramingError as error:
            raise ControlConnectionError(f"the server breaks the protocol: {error}") from None

    def _take(self, record: bytes) -> None:
        message = describe(self._version, record, from_client=False, time=0, extensions=self._extensions)
        if message.kind == "reply" and message.reply_to is not None:
            self._replies[message.reply_to] = (message, record)
            return
        name = message.message
        self._came[name] = self._came.get(name, 0) + 1
        if name.startswith("NOTIFY_CONNECT") and message.fields is not None:
            offered = message.fields["protocol_version"]
            if offered < VERSIONS[0]:
                raise ControlConnectionError(f"the server offers version {offered}")
            self._version = min(offered, HIGHEST_VERSION)
        ours = not self._opening.whole and name.startswith("NOTIFY_CONNECT")
        if self._compares_posts and interface_of(record) in self._interfaces and not ours:
            self._compare_post(name, message)

    def _compare_post(self, name: str, message: Message) -> None:
        parts = elements(name, message.fields)
        queue = self._expected.get(name, deque())
        for part in [message.fields] if parts is None else parts:
            if not queue:
                raise _DiffersError(Difference(0, name, "", None, part))
            number, recorded = queue.popleft()
            self.compared += 1
            found = difference(name, recorded, part)
            if found is not None:
                raise _DiffersError(Difference(number, name, *found))
