"""Group connect: greeting, versions, who may say what before the login, errors of messages, order, closing.

Source: wire.md 2 and 4 to 9.
"""

import struct
from collections.abc import Iterator
from functools import partial
from os import fsencode
from typing import Final

from mover.conformance import samples
from mover.conformance.checks import Check, clause
from mover.conformance.results import MismatchError, NotOfferedError, ServerGoneError
from mover.conformance.session import Session, error_name, message_name, must
from mover.conformance.wire import fragments, marked, request_record
from mover.ndmp import edge
from mover.ndmp import messages as m
from mover.ndmp.auth import md5_digest
from mover.ndmp.enums import AuthType, ConnectionStatusReason, ErrorCode, MessageCode, MessageType

NOT_SUPPORTED: Final = ErrorCode.NOT_SUPPORTED_ERR.name
NOT_AUTHORIZED: Final = ErrorCode.NOT_AUTHORIZED_ERR.name
ILLEGAL_ARGS: Final = ErrorCode.ILLEGAL_ARGS_ERR.name
ILLEGAL_STATE: Final = ErrorCode.ILLEGAL_STATE_ERR.name
XDR_DECODE: Final = ErrorCode.XDR_DECODE_ERR.name
FRAGMENT_BYTES: Final = 5
PIPELINED: Final = 40

# number, body, what is wrong with it
_UNDECODABLE: Final = (
    (0x300, b"", "TAPE_OPEN without a body"),
    (0x300, struct.pack(">I", 4) + b"driv", "TAPE_OPEN without a mode"),
    (0x300, struct.pack(">I", 0xFFFF_FFFF) + bytes(8), "TAPE_OPEN with a name longer than the message"),
    (0x303, struct.pack(">I", 4), "TAPE_MTIO without a count"),
    (0x305, b"\0\0", "TAPE_READ of half a word"),
    (0xA05, bytes(12), "MOVER_SET_WINDOW of three words"),
    (0xA06, b"", "MOVER_READ without a body"),
    (0x402, struct.pack(">I", 0xFFFF_FFFF), "DATA_START_RECOVER with endless pairs"),
)


def checks(version: int) -> Iterator[Check]:
    """The checks of this group."""
    say = partial(clause, version)
    greeting = say("NOTIFY_CONNECTED" if version < 4 else "NOTIFY_CONNECTION_STATUS", "wire.md 7")
    yield Check("the greeting is the first message", greeting, _greeting, negotiated=False)
    if version == 4:
        yield Check("no text in a greeting that does not refuse", greeting, _no_text, negotiated=False)
    opening = say("CONNECT_OPEN", "wire.md 7")
    yield Check("unknown versions are refused, then a known one is taken", opening, _tries, negotiated=False)
    yield Check("CONNECT_OPEN again with another version", opening, _open_other, logged_in=False)
    yield Check("CONNECT_OPEN behind the login", opening, _open_late)
    if version > 1:  # V1 knows only sessions that begin with it
        yield Check("a request without CONNECT_OPEN takes the offered version", opening, _implicit, negotiated=False)
    for number in sorted((samples.FOREIGN | samples.UNKNOWN) - samples.NUMBERS[version]):
        where = say("NOT_SUPPORTED_ERR", "wire.md 6.1, 6.2")
        yield Check(f"message {number:#06x} does not exist", where, partial(_unknown, number=number))
    yield from _before_login(version)
    for number, body, what in _UNDECODABLE:
        if number not in samples.NUMBERS[version]:
            continue
        run = partial(_undecodable, number=number, body=body)
        interface = message_name(version, number).partition("_")[0]
        yield Check(what, say("XDR_DECODE_ERR", "wire.md 6.1"), run, interface=interface)
    yield from _unanswered(version)
    order = say("replies", "wire.md 4.1, 5")
    yield Check("pipelined requests are answered in order", order, _pipelined)
    marking = say("record marking", "wire.md 2")
    yield Check("a message in small fragments", marking, partial(_fragmented, empty=b""))
    yield Check("a message with an empty fragment", marking, partial(_fragmented, empty=bytes(4)))
    yield from _logins(version)
    closing = say("CONNECT_CLOSE", "wire.md 9")
    for when, negotiated, logged_in in (("first of all", 0, 0), ("before the login", 1, 0), ("behind it", 1, 1)):
        yield Check(f"CONNECT_CLOSE {when}", closing, _close, negotiated=bool(negotiated), logged_in=bool(logged_in))


# ---- opening


def _greeting(session: Session) -> None:
    header = session.greeting.header
    must(header.sequence == 1, "sequence number 1", header.sequence)
    must(header.reply_sequence == 0, "reply sequence 0", header.reply_sequence)
    must(header.error == 0, "no error in the header", error_name(header.error))
    must(session.offered_version >= session.version, f"version {session.version} offered", session.offered_version)


def _no_text(session: Session) -> None:
    post = edge.decode_request(4, MessageCode.NOTIFY_CONNECTION_STATUS, session.greeting.body)
    assert isinstance(post, m.NotifyConnectionStatusPost)
    must(post.reason == ConnectionStatusReason.CONNECTED and not post.text_reason, "no text", post.text_reason)


def _tries(session: Session) -> None:
    for version in (0, session.offered_version + 1, 0xFFFF):
        session.expect(m.ConnectOpenRequest(version), ILLEGAL_ARGS)
    session.expect(m.ConnectOpenRequest(session.version), "NO_ERR")


def _open_other(session: Session) -> None:
    other = 2 if session.version == 1 else session.version - 1
    allowed = (ILLEGAL_STATE,) if session.version > 2 else (ILLEGAL_STATE, ILLEGAL_ARGS)
    session.expect(m.ConnectOpenRequest(other), *allowed)
    session.log_in()  # the version is what it was


def _open_late(session: Session) -> None:
    other = 2 if session.version == 1 else session.version - 1
    allowed = (ILLEGAL_STATE,) if session.version > 2 else (ILLEGAL_STATE, ILLEGAL_ARGS)
    session.expect(m.ConnectOpenRequest(other), *allowed)
    _still_there(session)


def _implicit(session: Session) -> None:
    if session.version != session.offered_version:
        raise NotOfferedError(f"only with the version of the greeting, {session.offered_version}")
    session.expect(m.ConfigGetAuthAttrRequest(AuthType.NONE), "NO_ERR", ILLEGAL_ARGS)
    other = session.version - 1
    answer = session.ask(m.ConnectOpenRequest(other)).error
    must(answer != "NO_ERR", f"CONNECT_OPEN({other}) refused, the version is fixed", answer)
    session.log_in()


def _still_there(session: Session) -> None:
    """The session goes on as if nothing had been."""
    session.done(m.ConfigGetHostInfoRequest())


# ---- what is not taken


def _unknown(session: Session, number: int) -> None:
    """A request behind it shows at once when there is no answer."""
    sequence = session.wire.request(number, b"anything")
    behind = session.wire.request(MessageCode.CONFIG_GET_HOST_INFO)
    while not (message := session.wire.receive("a reply")).is_reply:
        pass
    if message.header.reply_sequence == behind:
        raise MismatchError(f"expected {NOT_SUPPORTED} in the header, got no answer")
    got = error_name(message.header.error)
    must(message.header.reply_sequence == sequence, "the reply to this request", "another")
    must(got == NOT_SUPPORTED, f"{NOT_SUPPORTED} in the header", f"{got} in the header")
    session.reply(MessageCode.CONFIG_GET_HOST_INFO, behind)


def _before_login(version: int) -> Iterator[Check]:
    for number in sorted(samples.NUMBERS[version] - {samples.CONNECT_OPEN, samples.CONNECT_CLOSE}):
        if number == samples.CONNECT_CLIENT_AUTH:
            continue  # every other check logs in
        name = message_name(version, number)
        if number in samples.BEFORE_LOGIN[version]:
            what, run = f"{name} is taken before the login", _taken
        elif number in samples.MAYBE_BEFORE_LOGIN[version]:
            what, run = f"{name} is answered before the login", _answered
        else:
            what, run = f"{name} is refused before the login", _refused
        yield Check(
            what, clause(version, "NOT_AUTHORIZED_ERR", "wire.md 8"), partial(run, number=number), logged_in=False
        )


def _early(session: Session, number: int) -> str:
    return session.ask(samples.requests(session.version, session.options)[number]).error


def _taken(session: Session, number: int) -> None:
    answer = _early(session, number)
    must(answer != NOT_AUTHORIZED, "an answer without a login", answer)


def _answered(session: Session, number: int) -> None:
    answer = _early(session, number)
    session.log_in()
    if answer == NOT_SUPPORTED:
        raise NotOfferedError(f"answered {NOT_SUPPORTED}")


def _refused(session: Session, number: int) -> None:
    answer = _early(session, number)
    if answer == NOT_SUPPORTED:
        raise NotOfferedError(f"answered {NOT_SUPPORTED}")
    must(answer == NOT_AUTHORIZED, NOT_AUTHORIZED, answer)


def _undecodable(session: Session, number: int, body: bytes) -> None:
    message = session.reply(number, session.wire.request(number, body))
    error = message.header.error
    if not error and session.version == 4 and len(message.body) >= 4:  # V4 allows header or body
        (error,) = struct.unpack_from(">I", message.body)
    must(error_name(error) == XDR_DECODE, XDR_DECODE, error_name(error))
    _still_there(session)


def _unanswered(version: int) -> Iterator[Check]:
    posts = [request_record(sequence, code, bytes(8)) for sequence, code in ((77, 0x501), (78, 0x602), (79, 0x705))]
    silent = {
        "posts of a client": b"".join(marked(record) for record in posts),
        "replies of a client": marked(request_record(80, samples.DATA_GET_STATE, bytes(4), MessageType.REPLY)),
        "an unknown message type": marked(request_record(81, samples.DATA_GET_STATE, b"", 7)),
        "a header that is cut off": marked(bytes(10)),
    }
    for what, data in silent.items():
        where = clause(version, "messages without a reply", "wire.md 6.1")
        yield Check(f"{what}: no answer", where, partial(_no_answer, data=data))


def _no_answer(session: Session, data: bytes) -> None:
    session.wire.send(data)
    code = MessageCode.CONFIG_GET_HOST_INFO
    sequence = session.wire.request(code)
    while not (message := session.wire.receive("a reply to the request behind it")).is_reply:
        pass
    got = (message.header.message, message.header.reply_sequence)
    must(got == (code, sequence), "no reply but to the request behind it", f"a reply to message {got[0]:#06x}")


# ---- order


def _pipelined(session: Session) -> None:
    numbers = [MessageCode.CONFIG_GET_HOST_INFO, samples.DATA_GET_STATE, samples.CONFIG_GET_AUTH_ATTR]
    if session.version == 1:
        numbers.pop()
    wanted, data = [], b""
    for at in range(PIPELINED):
        number = numbers[at % len(numbers)]
        body = struct.pack(">I", AuthType.NONE) if number == samples.CONFIG_GET_AUTH_ATTR else b""
        sequence, record = session.wire.next_request(number, body)
        wanted.append((int(number), sequence))
        data += marked(record)
    session.wire.send(data)
    for number, sequence in wanted:
        while not (message := session.wire.receive(f"the reply to request {sequence}")).is_reply:
            pass
        got = (message.header.message, message.header.reply_sequence)
        must(got == (number, sequence), f"the reply to request {sequence}", f"one to request {got[1]}")


def _fragmented(session: Session, empty: bytes) -> None:
    sequence, record = session.wire.next_request(MessageCode.CONFIG_GET_HOST_INFO)
    session.wire.send(empty + fragments(record, len(record) if empty else FRAGMENT_BYTES))
    answer = session.decoded(session.reply(MessageCode.CONFIG_GET_HOST_INFO, sequence), 0x100)
    must(answer.good, "NO_ERR", answer.error)


# ---- login


def _logins(version: int) -> Iterator[Check]:
    where = clause(version, "CONNECT_CLIENT_AUTH" if version > 1 else "CONNECT_AUTH", "wire.md 8")
    bad: dict[str, m.AuthText | m.AuthMd5] = {
        "TEXT with a wrong password": m.AuthText(b"", b"wrong"),
        "TEXT of an unknown user": m.AuthText(b"nobody knows this user", b"wrong"),
    }
    if version > 1:
        bad["MD5 with a wrong digest"] = m.AuthMd5(b"", bytes(16))
    for what, data in bad.items():
        yield Check(f"a login by {what}", where, partial(_bad_login, data=data), logged_in=False)
    yield Check("a login by an unknown method", where, _unknown_method, logged_in=False)
    if version == 1:
        yield Check("a login by the reserved method 2", where, _reserved_method, logged_in=False)
        return
    yield Check("GET_AUTH_ATTR of an unknown method", clause(version, "CONFIG_GET_AUTH_ATTR", "messages.md 5"),
                _unknown_attr, logged_in=False)  # fmt: skip
    yield Check("CONNECT_SERVER_AUTH behind the login proves the password, by MD5",
                clause(version, "CONNECT_SERVER_AUTH", "wire.md 8; extensions.md 7.4"), _server)  # fmt: skip


def _bad_login(session: Session, data: m.AuthText | m.AuthMd5) -> None:
    """Refused, and the session goes on: not logged in, and open for the right login."""
    if isinstance(data, m.AuthMd5):
        session.expect_or_not_offered(m.ConfigGetAuthAttrRequest(AuthType.MD5), "NO_ERR", ILLEGAL_ARGS)
    user = data.auth_id or fsencode(session.options.user)
    data = m.AuthText(user, data.auth_password) if isinstance(data, m.AuthText) else m.AuthMd5(user, data.auth_digest)
    answer = session.expect_or_not_offered(m.ConnectClientAuthRequest(data), NOT_AUTHORIZED, ILLEGAL_ARGS)
    if answer.error == ILLEGAL_ARGS:
        raise NotOfferedError("the method is answered ILLEGAL_ARGS_ERR")
    early = session.ask(m.DataGetStateRequest()).error
    must(early in {NOT_AUTHORIZED, NOT_SUPPORTED}, f"{NOT_AUTHORIZED} behind a failed login", early)
    session.log_in()


def _unknown_method(session: Session) -> None:
    session.expect(m.ConnectClientAuthRequest(m.UnknownArm(99)), ILLEGAL_ARGS, NOT_SUPPORTED)
    session.log_in()


def _reserved_method(session: Session) -> None:
    session.expect(m.ConnectClientAuthRequest(m.UnknownArm(2)), ILLEGAL_ARGS, NOT_SUPPORTED)
    session.log_in()


def _unknown_attr(session: Session) -> None:
    session.expect(m.ConfigGetAuthAttrRequest(99), ILLEGAL_ARGS)


def _server(session: Session) -> None:
    challenge = bytes(range(64))
    request = m.ConnectServerAuthRequest(m.AuthMd5Attr(challenge))
    answer = session.expect_or_not_offered(request, "NO_ERR", ILLEGAL_ARGS)
    if not answer.good:
        raise NotOfferedError("the method is answered ILLEGAL_ARGS_ERR")
    assert isinstance(answer.body, m.ConnectServerAuthReply)
    result = answer.body.server_result
    right = md5_digest(challenge, fsencode(session.options.password))
    must(isinstance(result, m.AuthMd5) and result.auth_digest == right, "the digest of the password", "another")


# ---- closing


def _close(session: Session) -> None:
    session.wire.request(samples.CONNECT_CLOSE)
    try:
        while True:
            message = session.wire.receive("the end of the connection")
            if message.is_reply:
                raise MismatchError(f"expected no reply to CONNECT_CLOSE, got reply {message.header.message:#06x}")
            if message.header.message != MessageCode.NOTIFY_CONNECTION_STATUS:
                raise MismatchError(f"expected nothing but an end, got message {message.header.message:#06x}")
    except ServerGoneError as gone:
        if not gone.closed:
            raise MismatchError(f"expected the server to close the connection, got: {gone}") from None
