"""Extensions of version 4, part of group config: negotiation, and TEST_ECHO of class 7ff0. Source: extensions.md 2."""

import struct
from collections.abc import Iterator
from functools import partial
from typing import Final

from mover.conformance.checks import Check, clause
from mover.conformance.results import NotOfferedError
from mover.conformance.session import Session, error_name, must
from mover.ndmp import messages as m
from mover.ndmp.enums import ErrorCode

NO_CLASS: Final = m.SelectedExt(0x7ABC, 1)
"""An extension that nobody has."""
TEST: Final = 0x7FF0
TEST_ECHO: Final = 0x7FF0_0000
WORDS: Final = (b"", b"x", b"four", b"an odd text\n" * 100)
NOT_SUPPORTED: Final = ErrorCode.NOT_SUPPORTED_ERR.name


def extension_checks(version: int) -> Iterator[Check]:
    """The checks of a version that has extensions."""

    def check(name: str, message: str, run: object) -> Check:
        return Check(name, clause(version, message, "extensions.md 2"), run)  # type: ignore[arg-type]  # a function below

    chosen = "CONFIG_SET_EXT_LIST"
    yield check("SET_EXT_LIST before GET_EXT_LIST", chosen, _set_first)
    yield check("GET_EXT_LIST twice", chosen, _get_twice)
    yield check("SET_EXT_LIST of an unknown class", chosen, _unknown_class)
    yield check("SET_EXT_LIST of a class twice", chosen, _double_class)
    yield check("SET_EXT_LIST of an unknown version", chosen, _unknown_version)
    yield check("after SET_EXT_LIST both are illegal", chosen, _fixed)
    for of_class in (1, 2):
        run = partial(_echo, version=of_class)
        yield check(f"TEST_ECHO, version {of_class} of its class, returns what it is sent", "TEST_ECHO", run)
    yield check("TEST_ECHO where its class was not chosen", "TEST_ECHO", _not_chosen)
    yield check("TEST_ECHO without a negotiation takes the default version", "TEST_ECHO", _default)
    yield check("a message that the test class does not have", "TEST_ECHO", _no_such_message)


def _listed(session: Session) -> tuple[m.ExtClass, ...]:
    answer = session.expect_or_not_offered(m.ConfigGetExtListRequest(), "NO_ERR")
    assert isinstance(answer.body, m.ConfigGetExtListReply)
    return answer.body.class_list


def _set_first(session: Session) -> None:
    session.expect_or_not_offered(m.ConfigSetExtListRequest(()), ErrorCode.PRECONDITION_ERR.name)


def _get_twice(session: Session) -> None:
    first = _listed(session)
    must(_listed(session) == first, "the same list again", "another")
    must(len({each.ext_class_id for each in first}) == len(first), "each class once", "one twice")
    must(all(each.ext_version for each in first), "a version of each class", "none")


def _unknown_class(session: Session) -> None:
    _listed(session)
    session.expect(m.ConfigSetExtListRequest((NO_CLASS,)), ErrorCode.CLASS_NOT_SUPPORTED.name)
    session.expect(m.ConfigSetExtListRequest(()), "NO_ERR")  # nothing was selected: another list may be tried


def _double_class(session: Session) -> None:
    chosen = _some_class(session)
    session.expect(m.ConfigSetExtListRequest((chosen, chosen)), ErrorCode.EXT_DUPL_CLASSES.name)


def _unknown_version(session: Session) -> None:
    chosen = m.SelectedExt(_some_class(session).ext_class_id, 0xFFFE)
    session.expect(m.ConfigSetExtListRequest((chosen,)), ErrorCode.VERSION_NOT_SUPPORTED.name)


def _some_class(session: Session) -> m.SelectedExt:
    for each in _listed(session):
        if each.ext_version:
            return m.SelectedExt(each.ext_class_id, each.ext_version[0])
    raise NotOfferedError("no extension is offered")


def _fixed(session: Session) -> None:
    _listed(session)
    session.expect(m.ConfigSetExtListRequest(()), "NO_ERR")
    session.expect(m.ConfigSetExtListRequest(()), ErrorCode.EXT_DN_ILLEGAL.name)
    session.expect(m.ConfigGetExtListRequest(), ErrorCode.EXT_DN_ILLEGAL.name)


# ---- the class for tests


def _versions(session: Session) -> tuple[int, ...]:
    """Of the test class, the default first; raises NotOfferedError."""
    for each in _listed(session):
        if each.ext_class_id == TEST:
            return each.ext_version
    raise NotOfferedError("class 7ff0 is not offered")


def _body(text: bytes, short: int | None) -> bytes:
    """What request and reply have in common; `short` is version 2's."""
    padded = text + bytes(-len(text) % 4)
    return struct.pack(">I", len(text)) + padded + (b"" if short is None else struct.pack(">I", short))


def _ask(session: Session, number: int, body: bytes) -> tuple[str, bytes]:
    """The error in the header, and the body of the reply."""
    message = session.reply(number, session.wire.request(number, body))
    return error_name(message.header.error), message.body


def _echoes(session: Session, version: int) -> None:
    for text in WORDS:
        body = _body(text, 0xABCD if version == 2 else None)
        got = _ask(session, TEST_ECHO, body)
        must(got == ("NO_ERR", bytes(4) + body), f"NO_ERR and the {len(text)} bytes that were sent", got)


def _echo(session: Session, version: int) -> None:
    if version not in _versions(session):
        raise NotOfferedError(f"version {version} of class 7ff0 is not offered")
    session.done(m.ConfigSetExtListRequest((m.SelectedExt(TEST, version),)))
    _echoes(session, version)


def _not_chosen(session: Session) -> None:
    _versions(session)
    session.done(m.ConfigSetExtListRequest(()))
    error, _ = _ask(session, TEST_ECHO, _body(b"x", None))
    must(error == NOT_SUPPORTED, f"{NOT_SUPPORTED} in the header", error)


def _default(session: Session) -> None:
    """A server may insist on a negotiation; else the first use fixes what is in force."""
    with_default = _versions(session)[0]
    error, _ = _ask(session, TEST_ECHO, _body(b"", 0 if with_default == 2 else None))
    if error == NOT_SUPPORTED:
        raise NotOfferedError("the server insists on SET_EXT_LIST")
    if with_default in {1, 2}:
        _echoes(session, with_default)
    session.expect(m.ConfigGetExtListRequest(), ErrorCode.EXT_DN_ILLEGAL.name)
    session.expect(m.ConfigSetExtListRequest(()), ErrorCode.EXT_DN_ILLEGAL.name)


def _no_such_message(session: Session) -> None:
    _versions(session)
    error, _ = _ask(session, TEST_ECHO + 0x7777, b"")
    must(error == NOT_SUPPORTED, f"{NOT_SUPPORTED} in the header", error)
