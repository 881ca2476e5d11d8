"""Group notices: what a server says that takes no session any more, or goes away. Source: wire.md 7, 9.

The shutdown is told when all else of a run is done, for it ends the server: `shutdown_rows`.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Final

from mover.conformance.checks import Check, Need, clause
from mover.conformance.options import Options
from mover.conformance.results import (
    MismatchError,
    NotOfferedError,
    NotReachedError,
    Result,
    Row,
    ServerGoneError,
)
from mover.conformance.session import Offer, Session, must, open_session
from mover.conformance.wire import Message, Wire
from mover.ndmp import edge
from mover.ndmp import messages as m
from mover.ndmp.enums import ConnectionStatusReason, MessageCode
from mover.ndmp.errors import NdmpError

GROUP: Final = "notices"
SHUTDOWN: Final = "a server that goes away says so to every session"
AGAIN_S: Final = 0.05


def _clause(version: int) -> str:
    return clause(version, "NOTIFY_CONNECTED" if version < 4 else "NOTIFY_CONNECTION_STATUS", "wire.md 7, 9")


def checks(version: int) -> Iterator[Check]:
    """The checks of this group."""
    needs = frozenset({Need.SESSIONS})
    yield Check("past the limit of sessions one is REFUSED", _clause(version), _refused, needs)


def _status(version: int, message: Message) -> m.NotifyConnectionStatusPost:
    """A message that has to be a connection status."""
    if message.header.message != MessageCode.NOTIFY_CONNECTION_STATUS or message.is_reply:
        raise MismatchError(f"expected NOTIFY_CONNECTION_STATUS, got message {message.header.message:#06x}")
    try:
        post = edge.decode_request(version, MessageCode.NOTIFY_CONNECTION_STATUS, message.body)
    except NdmpError as error:
        raise MismatchError(f"NOTIFY_CONNECTION_STATUS does not decode: {error}") from None
    assert isinstance(post, m.NotifyConnectionStatusPost)
    return post


def _refused(session: Session) -> None:
    """Sessions are opened until one is refused; with the others gone one opens again."""
    options = session.options
    with contextlib.ExitStack() as held:
        for _ in range(options.sessions):
            wire = held.enter_context(_wire(options, session.wire.deadline))
            post = _status(session.version, wire.receive("a greeting"))
            if post.reason == ConnectionStatusReason.REFUSED:
                must(wire.ended(), "the end of a connection that was refused", "nothing")
                break
            must(post.reason == ConnectionStatusReason.CONNECTED, "CONNECTED or REFUSED", f"reason {post.reason}")
        else:
            raise NotOfferedError(f"{options.sessions} sessions at once are taken")
    session.done(m.ConfigGetHostInfoRequest())  # those that were there before go on
    while True:
        with _wire(options, session.wire.deadline) as wire:
            if _status(session.version, wire.receive("a greeting")).reason == ConnectionStatusReason.CONNECTED:
                return
        must(time.monotonic() + AGAIN_S < session.wire.deadline, "a session once the others are gone", "REFUSED")
        time.sleep(AGAIN_S)


def _wire(options: Options, deadline: float) -> Wire:
    """A connection that the server may refuse at once, and that says so like no connection at all."""
    try:
        return Wire(options.host, options.port, deadline, options.tls)
    except NotReachedError as error:
        raise MismatchError(f"expected a connection that is greeted or REFUSED, got none: {error}") from None


# ---- the end


def shutdown_rows(options: Options, offers: dict[int, Offer]) -> list[Row]:
    """One row a version: all sessions stand when the server's process is told to end.

    Args:
        offers: of the versions in which sessions open.
    """

    def row(version: int, result: Result, detail: str) -> Row:
        return Row(version, GROUP, SHUTDOWN, _clause(version), result, detail)

    if options.match not in SHUTDOWN:
        return []
    if options.shutdown_pid is None:
        return [row(version, Result.SKIPPED, "needs --shutdown-pid: it ends the server") for version in offers]
    with contextlib.ExitStack() as held:
        sessions: dict[int, Session] = {}
        rows: list[Row] = []
        deadline = time.monotonic() + options.timeout_s
        for version, offer in offers.items():
            try:
                sessions[version] = held.enter_context(open_session(options, version, offer, [], deadline=deadline))
            except (MismatchError, NotOfferedError, ServerGoneError, NotReachedError) as why:
                rows.append(row(version, Result.FAIL, f"no session opens: {why}"))
        try:
            os.kill(options.shutdown_pid, signal.SIGTERM)
        except OSError as error:
            why_not = f"process {options.shutdown_pid} cannot be told to end: {error.strerror}"
            return [*rows, *(row(version, Result.SKIPPED, why_not) for version in sessions)]
        for version, session in sessions.items():
            try:
                _told(session)
            except (MismatchError, ServerGoneError) as why:
                rows.append(row(version, Result.FAIL, str(why)))
            else:
                rows.append(row(version, Result.PASS, ""))
        return rows


def _told(session: Session) -> None:
    post = _status(session.version, session.wire.receive("NOTIFY_CONNECTION_STATUS with SHUTDOWN"))
    must(post.reason == ConnectionStatusReason.SHUTDOWN, "SHUTDOWN", f"reason {post.reason}")
    must(session.wire.ended(), "the end of the connection behind SHUTDOWN", "nothing")
