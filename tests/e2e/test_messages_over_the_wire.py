"""Messages by hand against the real server: who may say what before the login, errors in the header and in the body,
order, opening and closing. Bytes are made and read here, not by the project's codec.

Source: wire.md sections 4 to 9.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import pytest

from mover.ndmp.auth import md5_digest
from tests.support.ndmp_client import DEADLINE_S
from tests.support.servers import Login, Server

NO_ERR, NOT_SUPPORTED, NOT_AUTHORIZED, DEV_NOT_OPEN, ARGS, XDR_DECODE, IS = 0, 1, 4, 6, 9, 18, 19
REQUEST, REPLY = 0, 1
CONNECTED: Final = 0x502

CONNECT_OPEN, CLIENT_AUTH, CONNECT_CLOSE, SERVER_AUTH = 0x900, 0x901, 0x902, 0x903
HOST_INFO, BUTYPE_ATTR, CONNECTION_TYPE, AUTH_ATTR, SERVER_INFO = 0x100, 0x101, 0x102, 0x103, 0x108
DATA_GET_STATE, MOVER_GET_STATE, TAPE_GET_STATE, TAPE_OPEN = 0x400, 0xA00, 0x302, 0x300

# Numbers of each version (wire.md 6.2, messages.md 1); 0x40b in versions 2 and 3 is NDMJOB's extension.
_ALWAYS = {
    *(0x100, 0x102, 0x103), *(0x200, 0x201, 0x202, 0x204, 0x206), *range(0x300, 0x306), 0x307,
    *(0x400, 0x401, 0x402, 0x403, 0x404, 0x407, 0x40B), *(0x900, 0x901, 0x902, 0x903), *range(0xA00, 0xA09),
}  # fmt: skip
_FROM_3 = {*range(0x104, 0x109), 0x409, 0x40A, 0xA09}
NUMBERS: Final = {
    2: _ALWAYS | {0x101, 0x203, 0x205},
    3: _ALWAYS | _FROM_3 | {0x203, 0x205},
    4: _ALWAYS | _FROM_3 | {0x109, 0x10A},
}
BEFORE_LOGIN: Final = {
    2: {0x900, 0x901, 0x902, 0x100, 0x103, 0x101, 0x102},
    3: {0x900, 0x901, 0x902, 0x108, 0x103},
    4: {0x900, 0x901, 0x902, 0x108, 0x103},
}
POSTS: Final = range(0x500, 0x800)


class Message(NamedTuple):
    """A message as it came."""

    sequence: int
    kind: int
    number: int
    answers: int
    error: int
    body: bytes

    @property
    def body_error(self) -> int:
        """The body's first word; not for TAPE_GET_STATE and DATA_GET_STATE, where it is the second."""
        return int(struct.unpack_from(">I", self.body)[0])


def record(sequence: int, kind: int, number: int, body: bytes = b"", *, answers: int = 0, error: int = 0) -> bytes:
    header = struct.pack(">6I", sequence, 1_600_000_000, kind, number, answers, error)
    return struct.pack(">I", 0x8000_0000 | len(header + body)) + header + body


def opaque(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)


def u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


class Wire:
    """A connection without any protocol of its own."""

    def __init__(self, server: Server) -> None:
        host, _, port = server.address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=DEADLINE_S)
        self.greeting = self.receive()
        self.sequence = 0

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def receive(self) -> Message:
        """The next message; EOFError at the end of the connection."""
        data, last = b"", False
        while not last:
            (mark,) = struct.unpack(">I", self.exactly(4))
            last = bool(mark & 0x8000_0000)
            data += self.exactly(mark & 0x7FFF_FFFF)
        sequence, _, kind, number, answers, error = struct.unpack_from(">6I", data)
        return Message(sequence, kind, number, answers, error, data[24:])

    def ended(self) -> bool:
        try:
            self.receive()
        except (EOFError, ConnectionResetError):
            return True
        return False

    def request(self, number: int, body: bytes = b"") -> bytes:
        """A request with the next sequence number."""
        self.sequence += 1
        return record(self.sequence, REQUEST, number, body)

    def ask(self, number: int, body: bytes = b"") -> Message:
        """The reply to a request, past posts."""
        self.socket.sendall(self.request(number, body))
        return self.reply(number, self.sequence)

    def reply(self, number: int, sequence: int) -> Message:
        while (message := self.receive()).kind != REPLY:
            assert message.number in POSTS
        assert (message.number, message.answers) == (number, sequence)
        if message.error:
            assert message.body == b""  # an error in the header replaces the body
        return message

    def log_in(self, login: Login) -> None:
        reply = self.ask(AUTH_ATTR, u32(2))
        challenge = reply.body[8:72]
        digest = md5_digest(challenge, login.password.encode())
        reply = self.ask(CLIENT_AUTH, u32(2) + opaque(login.user.encode()) + digest)
        assert (reply.error, reply.body_error) == (NO_ERR, NO_ERR)


@contextmanager
def wire(server: Server, version: int = 4, login: Login | None = None) -> Iterator[Wire]:
    """A connection with its version fixed, logged in with ``login``."""
    made = Wire(server)
    with made.socket:
        assert made.ask(CONNECT_OPEN, u32(version)).body_error == NO_ERR
        if login is not None:
            made.log_in(login)
        yield made


# --- header and body -------------------------------------------------------------------------------------------------


def test_the_greeting(shared: Server) -> None:
    with wire(shared) as it:
        greeting = it.greeting
        assert (greeting.sequence, greeting.kind, greeting.number) == (1, REQUEST, CONNECTED)
        assert (greeting.answers, greeting.error) == (0, NO_ERR)
        assert greeting.body == u32(0, 4, 0)  # connected, version 4, no text


@pytest.mark.parametrize("version", [2, 3, 4])
def test_numbers_the_version_does_not_have(version: int, shared: Server, login: Login) -> None:
    others = NUMBERS[2] | NUMBERS[3] | NUMBERS[4]
    version_1 = {0x306, 0x405, 0x406, 0x408}
    unknown = {0x10B, 0x207, 0x308, 0x40C, 0x800, 0x904, 0xA0A, 0xB00, 0x2050_0001, 0xF001_0000}
    for number in sorted((others | version_1 | unknown) - NUMBERS[version]):
        with wire(shared, version, login) as it:
            assert it.ask(number, b"anything").error == NOT_SUPPORTED, hex(number)
            assert it.ask(MOVER_GET_STATE).body_error == NO_ERR  # and the session goes on


@pytest.mark.parametrize("version", [2, 3, 4])
def test_what_is_taken_before_the_login(version: int, shared: Server) -> None:
    """Not on the list: NOT_AUTHORIZED in the header, before the body is looked at. On it: anything else."""
    with wire(shared, version) as it:
        for number in sorted(NUMBERS[version] - {CONNECT_OPEN, CONNECT_CLOSE}):
            error = it.ask(number, b"\xff" * 3).error
            if number not in BEFORE_LOGIN[version]:
                assert error == NOT_AUTHORIZED, hex(number)
            else:
                assert error in {NO_ERR, XDR_DECODE}, hex(number)


@pytest.mark.parametrize("version", [3, 4])
def test_who_the_server_is_is_told_after_the_login(version: int, shared: Server, login: Login) -> None:
    """Version 4: vendor, product and revision are empty before; the login methods are there."""
    with wire(shared, version) as it:
        before = it.ask(SERVER_INFO)
        methods = u32(2, 2, 1)
        assert before.body.endswith(methods)
        if version == 4:
            assert before.body == u32(0, 0, 0, 0) + methods
        it.log_in(login)
        after = it.ask(SERVER_INFO)
        assert after.body.endswith(methods)
        assert b"mover" in after.body


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize(
    ("number", "body"),
    [
        (TAPE_OPEN, b""),
        (TAPE_OPEN, u32(4) + b"driv"),  # no mode
        (TAPE_OPEN, u32(0xFFFF_FFFF) + bytes(8)),  # a length past the record
        (0x303, u32(4)),  # MTIO without a count
        (0x305, b"\0\0"),  # READ: half a word
        (0xA05, u32(0, 0, 0)),  # SET_WINDOW: three words of four
        (0xA06, b""),
        (0x402, u32(0xFFFF_FFFF)),  # START_RECOVER: pairs without number
    ],
)
def test_a_body_that_does_not_decode(version: int, number: int, body: bytes, shared: Server, login: Login) -> None:
    with wire(shared, version, login) as it:
        assert it.ask(number, body).error == XDR_DECODE
        assert it.ask(MOVER_GET_STATE).body_error == NO_ERR


@pytest.mark.parametrize("version", [2, 3, 4])
def test_values_out_of_range_are_the_bodys_error(version: int, shared: Server, login: Login) -> None:
    bad = [
        (TAPE_OPEN, opaque(b"vtl0/drive0") + u32(123)),
        (0xA01, u32(123, 0)),  # MOVER_LISTEN: mode
        (0xA01, u32(0, 123)),  # address type
        (AUTH_ATTR, u32(99)),
        (CLIENT_AUTH, u32(99)),  # a union arm that nobody knows: its discriminant could be read
    ]
    if version > 2:
        bad += [(0x409, u32(123)), (0x40A, u32(123)), (0xA09, u32(0, 123))]
    with wire(shared, version, login) as it:
        for number, body in bad:
            reply = it.ask(number, body)
            assert (reply.error, reply.body_error) == (NO_ERR, ARGS), hex(number)


def test_a_bodys_error_leaves_the_body_whole(shared: Server, login: Login) -> None:
    with wire(shared, 4, login) as it:
        reply = it.ask(0x303, u32(4, 1))  # MTIO, no drive is open
        assert (reply.error, len(reply.body), reply.body_error) == (NO_ERR, 8, DEV_NOT_OPEN)
        reply = it.ask(0x404)  # GET_ENV in IDLE
        assert (reply.error, reply.body) == (NO_ERR, u32(IS, 0))
        reply = it.ask(TAPE_GET_STATE)  # the mask comes first
        assert (reply.error, len(reply.body)) == (NO_ERR, 44)
        assert struct.unpack_from(">2I", reply.body)[1] == DEV_NOT_OPEN
        reply = it.ask(0xA01, u32(0, 0))  # LISTEN without a tape: the address is LOCAL
        assert (reply.error, reply.body) == (NO_ERR, u32(DEV_NOT_OPEN, 0))


def test_what_gets_no_answer(shared: Server, login: Login) -> None:
    """Posts and replies of a client, unknown message types, cut-off headers; the error field does not count."""
    with wire(shared, 4, login) as it:
        it.socket.sendall(
            b"".join(
                [
                    record(77, REQUEST, 0x501, u32(1)),
                    record(78, REQUEST, 0x602, b""),
                    record(79, REQUEST, 0x7FF, b""),
                    record(80, REPLY, DATA_GET_STATE, u32(0), answers=2),
                    record(81, 7, DATA_GET_STATE),
                    struct.pack(">I", 0x8000_0000 | 10) + bytes(10),
                    record(82, REQUEST, MOVER_GET_STATE, error=IS),
                ]
            )
        )
        message = it.receive()
        assert (message.number, message.answers, message.error) == (MOVER_GET_STATE, 82, NO_ERR)


@pytest.mark.parametrize("pieces", [1, 3])
def test_pipelined_requests_are_answered_in_order(pieces: int, shared: Server, login: Login) -> None:
    """Also those that fail, in one segment or cut into fragments and segments anywhere."""
    numbers = [DATA_GET_STATE, MOVER_GET_STATE, 0x2000, TAPE_OPEN, HOST_INFO, 0xA02] * 10
    with wire(shared, 4, login) as it:
        before = it.ask(HOST_INFO).sequence
        first = it.sequence + 1
        if pieces == 1:
            it.socket.sendall(b"".join(it.request(number) for number in numbers))
        else:
            it.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data = b"".join(self_cut(it.request(number)) for number in numbers)
            for at in range(0, len(data), 37):
                it.socket.sendall(data[at : at + 37])
        replies = [it.receive() for _ in numbers]
        assert [reply.number for reply in replies] == numbers
        assert [reply.answers for reply in replies] == list(range(first, first + len(numbers)))
        assert [reply.sequence for reply in replies] == list(range(before + 1, before + 1 + len(numbers)))


def self_cut(message: bytes) -> bytes:
    """The same message in fragments of five bytes."""
    body = message[4:]
    parts = [body[at : at + 5] for at in range(0, len(body), 5)]
    marks = [len(part) | (0x8000_0000 if number == len(parts) - 1 else 0) for number, part in enumerate(parts)]
    return b"".join(struct.pack(">I", mark) + part for mark, part in zip(marks, parts, strict=True))


# --- opening and closing ---------------------------------------------------------------------------------------------


def test_versions_are_tried_until_one_fits(shared: Server) -> None:
    it = Wire(shared)
    with it.socket:
        for version in (0, 5, 9, 0xFFFF):
            assert it.ask(CONNECT_OPEN, u32(version)).body_error == ARGS
        assert it.ask(CONNECT_OPEN, u32(3)).body_error == NO_ERR
        assert it.ask(0x109).error == NOT_SUPPORTED  # of version 4 only


@pytest.mark.parametrize("refused_before", [True, False])
def test_any_other_request_takes_the_offered_version(refused_before: bool, shared: Server) -> None:
    it = Wire(shared)
    with it.socket:
        if refused_before:
            assert it.ask(CONNECT_OPEN, u32(5)).body_error == ARGS
        assert it.ask(0x109).error == NOT_AUTHORIZED  # version 4 has it
        assert it.ask(CONNECT_OPEN, u32(3)).body_error == IS
        assert it.ask(CONNECT_OPEN, u32(4)).body_error == NO_ERR


@pytest.mark.parametrize("version", [2, 3, 4])
def test_connect_open_twice(version: int, shared: Server, login: Login) -> None:
    """The same again before the login does no harm; anything else is too late."""
    with wire(shared, version) as it:
        assert it.ask(CONNECT_OPEN, u32(version)).body_error == NO_ERR
        assert it.ask(CONNECT_OPEN, u32(2 if version != 2 else 3)).body_error == IS
        it.log_in(login)
        assert it.ask(CONNECT_OPEN, u32(version)).body_error == IS
        assert it.ask(CONNECT_OPEN, u32(9)).body_error == IS
        assert it.ask(MOVER_GET_STATE).body_error == NO_ERR


@pytest.mark.parametrize("version", [2, 3, 4])
def test_server_auth(version: int, shared: Server, login: Login) -> None:
    """The user's own digest over the client's challenge; TEXT would tell the password, NONE proves nothing."""
    challenge = bytes(range(64))
    with wire(shared, version) as it:
        assert it.ask(SERVER_AUTH, u32(2) + challenge).error == NOT_AUTHORIZED
        it.log_in(login)
        digest = md5_digest(challenge, login.password.encode())
        assert it.ask(SERVER_AUTH, u32(2) + challenge).body == u32(0, 2) + opaque(login.user.encode()) + digest
        for refused in (u32(0), u32(1), u32(99)):
            assert it.ask(SERVER_AUTH, refused).body == u32(ARGS, 0)
        assert it.ask(SERVER_AUTH, u32(2) + challenge[:-4]).error == XDR_DECODE


@pytest.mark.parametrize("version", [2, 3, 4])
def test_logins(version: int, shared: Server, login: Login) -> None:
    user, password = opaque(login.user.encode()), opaque(login.password.encode())
    with wire(shared, version) as it:
        for wrong in (user + opaque(b"wrong"), opaque(b"nobody") + password, user + opaque(b"")):
            reply = it.ask(CLIENT_AUTH, u32(1) + wrong)
            assert (reply.error, reply.body_error) == (NO_ERR, NOT_AUTHORIZED)
        assert it.ask(CLIENT_AUTH, u32(0)).body_error == ARGS  # NONE is not offered
        assert it.ask(CLIENT_AUTH, u32(2) + user + bytes(16)).body_error == NOT_AUTHORIZED  # without a challenge
        assert it.ask(MOVER_GET_STATE).error == NOT_AUTHORIZED
        assert it.ask(CLIENT_AUTH, u32(1) + user + password).body_error == NO_ERR
        assert it.ask(MOVER_GET_STATE).body_error == NO_ERR
        assert it.ask(CLIENT_AUTH, u32(1) + user + opaque(b"wrong")).body_error == NOT_AUTHORIZED
        assert it.ask(MOVER_GET_STATE).error == NOT_AUTHORIZED  # a failed login takes the right away
        it.log_in(login)
        assert it.ask(TAPE_OPEN, opaque(b"vtl0/drive0") + u32(0)).body_error == NO_ERR
        assert it.ask(CLIENT_AUTH, u32(1) + user + opaque(b"wrong")).body_error == IS  # not with a device open
        assert it.ask(0x301).body_error == NO_ERR


@pytest.mark.parametrize("when", ["first", "opened", "logged in"])
def test_connect_close(when: str, shared: Server, login: Login) -> None:
    """No reply, no post, the connection is closed; what was asked before is answered."""
    it = Wire(shared)
    with it.socket:
        if when != "first":
            assert it.ask(CONNECT_OPEN, u32(4)).body_error == NO_ERR
        if when == "logged in":
            it.log_in(login)
            it.socket.sendall(it.request(HOST_INFO) + it.request(CONNECT_CLOSE) + it.request(HOST_INFO))
            assert it.receive().number == HOST_INFO
        else:
            it.socket.sendall(it.request(CONNECT_CLOSE))
        assert it.ended()


@pytest.mark.parametrize("how", ["CONNECT_CLOSE", "end of file"])
def test_the_end_of_a_connection_closes_its_drive(how: str, shared: Server, login: Login) -> None:
    opening = opaque(b"vtl0/drive0") + u32(0)
    with wire(shared, 4, login) as it:
        assert it.ask(TAPE_OPEN, opening).body_error == NO_ERR
        if how == "CONNECT_CLOSE":
            it.socket.sendall(it.request(CONNECT_CLOSE))
        else:
            it.socket.shutdown(socket.SHUT_WR)
        assert it.ended()
    with wire(shared, 4, login) as it:
        assert it.ask(TAPE_OPEN, opening).body_error == NO_ERR
        assert it.ask(0x301).body_error == NO_ERR


@pytest.mark.parametrize("version", [3, 4])
def test_a_reply_comes_before_the_post_it_causes(version: int, shared: Server, login: Login) -> None:
    with wire(shared, version, login) as it:
        assert it.ask(0x409, u32(0)).body_error == NO_ERR  # DATA_LISTEN LOCAL
        it.socket.sendall(it.request(0x403))
        reply, post = it.receive(), it.receive()
        assert (reply.kind, reply.number, reply.body) == (REPLY, 0x403, u32(NO_ERR))
        assert (post.kind, post.number, post.answers) == (REQUEST, 0x501, 0)
        assert post.body[:4] == u32(2)  # ABORTED
