"""The tester tested: a server that is right has no failure, and each kind of wrong answer is a failure."""

import time
from collections.abc import Iterator

import pytest

from mover.conformance.options import Options
from mover.conformance.results import NotReachedError, Report, Result, Row
from mover.conformance.run import MESSAGES_OF_GROUP, run
from mover.ndmp import messages as m
from mover.ndmp.enums import DataHaltReason, DataState, ErrorCode
from tests.conformance.fake_server import (
    PASSWORD,
    USER,
    FakeServer,
    HangUp,
    Peer,
    Reply,
    renumbered,
    resized,
    until_closed,
)

TIMEOUT_S = 1.5


def found(
    server: FakeServer, version: int = 4, *, group: str = "data", match: str = "", timeout_s: float = TIMEOUT_S
) -> Report:
    rows: list[Row] = []
    options = Options(
        host="127.0.0.1",
        port=server.port,
        user=USER.decode(),
        password=PASSWORD.decode(),
        versions=(version,),
        groups=(group,),
        match=match,
        timeout_s=timeout_s,
    )
    report = run(options, rows.append)
    assert rows == report.rows
    return report


def failures(report: Report) -> dict[str, str]:
    return {row.check: row.detail for row in report.rows if row.result is Result.FAIL}


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("group", ["data", "connect", "config", "joined", "job", "mover", "tape", "scsi"])
def test_a_server_that_is_right_fails_nothing(version: int, group: str) -> None:
    with FakeServer() as server:
        report = found(server, version, group=group, timeout_s=5)
    # It says no more about itself than it has to.
    expected = {"GET_SERVER_INFO names product and login methods"} if group == "config" and version > 2 else set()
    assert set(failures(report)) == expected
    assert report.offered_version == 4
    assert all(row.clause and row.version == version for row in report.rows)
    assert all(row.detail for row in report.rows if row.result is not Result.PASS)


# --- wrong answers ---------------------------------------------------------------------------------------------------


class Wrong(FakeServer):
    """Answers one request in one state wrongly."""

    def __init__(self, kind: type[m.Body], state: DataState, reply: Reply | None) -> None:
        super().__init__()
        self._kind, self._state, self._reply = kind, state, reply

    def handle(self, peer: Peer, body: m.Body) -> Reply | None:
        if isinstance(body, self._kind) and peer.state == self._state:
            return self._reply
        return peer.handle(body)


@pytest.mark.parametrize(
    ("kind", "state", "reply", "check", "detail"),
    [
        (m.DataStopRequest, DataState.IDLE, ErrorCode.DEV_NOT_OPEN_ERR, "DATA_STOP in IDLE",
         "expected ILLEGAL_STATE_ERR, got DEV_NOT_OPEN_ERR"),
        (m.DataAbortRequest, DataState.IDLE, m.DataAbortReply(), "DATA_ABORT in IDLE",
         "expected ILLEGAL_STATE_ERR, got NO_ERR"),
        (m.DataStopRequest, DataState.HALTED, ErrorCode.ILLEGAL_STATE_ERR, "DATA_STOP in HALTED",
         "expected NO_ERR and IDLE, got ILLEGAL_STATE_ERR"),
        (m.DataListenRequest, DataState.IDLE, None, "DATA_LISTEN LOCAL in IDLE",
         "waited in vain for a reply to DATA_LISTEN"),
        (m.DataListenRequest, DataState.IDLE, m.DataListenReply(), "DATA_LISTEN LOCAL in IDLE",
         "expected DATA LISTEN next, got IDLE"),
        (m.DataStopRequest, DataState.HALTED, m.DataStopReply(), "DATA_STOP in HALTED",
         "expected DATA IDLE next, got HALTED"),
        (m.DataListenRequest, DataState.IDLE, m.DataListenReply(0, m.IpcAddress(b"x")), "DATA_LISTEN LOCAL in IDLE",
         "expected an address of the type asked for (LOCAL), got another type"),
    ],
)  # fmt: skip
def test_a_wrong_answer(kind: type[m.Body], state: DataState, reply: Reply | None, check: str, detail: str) -> None:
    with Wrong(kind, state, reply) as server:
        report = found(server, match=check)
    assert failures(report)[check] == detail


def test_a_refusal_that_changes_something() -> None:
    class Changes(FakeServer):
        def handle(self, peer: Peer, body: m.Body) -> Reply | None:
            reply = peer.handle(body)
            if isinstance(body, m.DataGetEnvRequest):
                peer.state = DataState.LISTEN
            return reply

    with Changes() as server:
        wrong = failures(found(server, match="GET_ENV in IDLE"))
    detail = "expected no state to change by a refused request, got another GET_STATE"
    assert wrong["DATA_GET_ENV in IDLE"] == detail


def test_a_reason_outside_its_state() -> None:
    class Keeps(FakeServer):
        def handle(self, peer: Peer, body: m.Body) -> Reply | None:
            reply = peer.handle(body)
            if isinstance(body, m.DataStopRequest):
                peer.reason = DataHaltReason.ABORTED
            return reply

    with Keeps() as server:
        assert failures(found(server, match="DATA_STOP in"))["DATA_STOP in HALTED"].startswith(
            "expected halt reason NA"
        )


def test_an_error_that_the_version_does_not_have() -> None:
    class Newer(FakeServer):
        def spoil(self, peer: Peer, data: bytes, request: m.Body | None) -> Iterator[bytes]:
            yield resized(data, b"\0\0\0\x1a") if isinstance(request, m.DataStopRequest) else data

    with Newer() as server:
        detail = "DATA_STOP is answered with PRECONDITION_ERR, which version 3 does not have"
        assert failures(found(server, 3, match="DATA_STOP in IDLE"))["DATA_STOP in IDLE"] == detail


# --- wrong posts -----------------------------------------------------------------------------------------------------


class WrongPosts(FakeServer):
    def __init__(self, posts: list[m.Body]) -> None:
        super().__init__()
        self._posts = posts

    def posts(self, body: m.Body) -> list[m.Body]:
        return self._posts


HALTED = m.NotifyDataHaltedPost(DataHaltReason.ABORTED)


@pytest.mark.parametrize(
    ("posts", "detail"),
    [
        ([], "waited in vain for post NotifyDataHalted"),
        ([m.NotifyDataHaltedPost(DataHaltReason.SUCCESSFUL)], "expected NOTIFY_DATA_HALTED with ABORTED, got reason 1"),
        ([m.NotifyMoverHaltedPost(2)], "waited in vain for post NotifyDataHalted"),
    ],
)
def test_a_wrong_post(posts: list[m.Body], detail: str) -> None:
    with WrongPosts(posts) as server:
        wrong = failures(found(server, match="DATA_ABORT in LISTEN"))
    assert wrong["DATA_ABORT in LISTEN LOCAL"] == detail


# --- wrong bytes -----------------------------------------------------------------------------------------------------


def at_listen(kind: object) -> bool:
    return isinstance(kind, m.DataListenRequest)


class Header(FakeServer):
    """Header fields of replies to LISTEN are other ones."""

    def __init__(self, **fields: int) -> None:
        super().__init__()
        self._fields = fields

    def spoil(self, peer: Peer, data: bytes, request: m.Body | None) -> Iterator[bytes]:
        yield renumbered(data, **self._fields) if at_listen(request) else data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "check", "detail"),
    [
        ({"sequence": 77}, MESSAGES_OF_GROUP, "message 0x0409 has sequence number 77, expected"),
        ({"message_type": 5}, MESSAGES_OF_GROUP, "message 0x0409 has message type 5"),
        ({"message_type": 0}, MESSAGES_OF_GROUP, "message 0x0409 is a request, which a server never sends"),
        ({"reply_sequence": 9999}, MESSAGES_OF_GROUP, "reply 0x0409 to request 9999, expected 0x0409 to"),
        ({"reply_sequence": 9999}, "DATA_LISTEN LOCAL in IDLE", "waited in vain for a reply to DATA_LISTEN"),
        ({"message": 0x40A}, "DATA_LISTEN LOCAL in IDLE", "waited in vain for a reply to DATA_LISTEN"),
        ({"error": 19}, MESSAGES_OF_GROUP, "reply 0x0409 has an error in its header and 8 bytes more"),
    ],
)
def test_a_wrong_header(fields: dict[str, int], check: str, detail: str) -> None:
    with Header(**fields) as server:
        assert detail in failures(found(server, match="DATA_LISTEN LOCAL in IDLE"))[check]


class Bytes(FakeServer):
    """Other bytes instead of a reply to LISTEN."""

    def __init__(self, data: bytes | None = None, body: bytes | None = None) -> None:
        super().__init__()
        self._data, self._body = data, body

    def spoil(self, peer: Peer, data: bytes, request: m.Body | None) -> Iterator[bytes]:
        if not at_listen(request):
            yield data
        elif self._data is not None:
            yield self._data
        elif self._body is not None:
            yield resized(data, self._body)
        else:
            raise HangUp


@pytest.mark.parametrize(
    ("data", "body", "check", "detail"),
    [
        (None, None, "DATA_LISTEN LOCAL in IDLE", "the server closed the connection before a reply to DATA_LISTEN"),
        (b"\xff" * 64, None, "DATA_LISTEN LOCAL in IDLE", "garbage instead of a reply to DATA_LISTEN"),
        (b"\0\0\0\0" * 100, None, "DATA_LISTEN LOCAL in IDLE", "garbage instead of a reply to DATA_LISTEN"),
        (b"\x80\0\0\x04spam", None, "DATA_LISTEN LOCAL in IDLE", "garbage instead of a reply to DATA_LISTEN"),
        (b"\x80\0\x01\0", None, "DATA_LISTEN LOCAL in IDLE", "waited in vain for a reply to DATA_LISTEN"),
        (None, b"\0\0", "DATA_LISTEN LOCAL in IDLE", "the reply to DATA_LISTEN does not decode"),
        (None, b"\0\0\0\0\0\0\0\1\xff\xff\xff\xff", "DATA_LISTEN LOCAL in IDLE", "the reply to DATA_LISTEN does not"),
        (None, bytes(28), MESSAGES_OF_GROUP, "20 bytes behind the body of the reply to DATA_LISTEN"),
    ],
)  # fmt: skip
def test_wrong_bytes(data: bytes | None, body: bytes | None, check: str, detail: str) -> None:
    with Bytes(data, body) as server:
        assert detail in failures(found(server, match="DATA_LISTEN LOCAL in IDLE"))[check]


class Endless(FakeServer):
    """LISTEN is answered by the same for ever."""

    def __init__(self, data: bytes, pause_s: float) -> None:
        super().__init__()
        self._data, self._pause_s = data, pause_s

    def spoil(self, peer: Peer, data: bytes, request: m.Body | None) -> Iterator[bytes]:
        return until_closed(peer, self._data, self._pause_s) if at_listen(request) else iter([data])


@pytest.mark.slow
@pytest.mark.parametrize("pause_s", [0, 0.02])
def test_an_endless_answer_ends_with_the_deadline(pause_s: float) -> None:
    """A flood of posts, and a byte now and then: neither outlives the deadline of its check."""
    log = b"\x80\0\0\x1c" + bytes(8) + b"\0\0\0\0\0\0\x06\x02" + bytes(12)
    data = log if pause_s == 0 else b"\x80"
    with Endless(data, pause_s) as server:
        began = time.monotonic()
        report = found(server, match="DATA_LISTEN LOCAL in IDLE")
        took = time.monotonic() - began
    assert "DATA_LISTEN LOCAL in IDLE" in failures(report)
    assert took < 10


# --- servers that are not there --------------------------------------------------------------------------------------


class Silent(FakeServer):
    """Takes connections and says nothing."""

    def spoil(self, peer: Peer, data: bytes, request: m.Body | None) -> Iterator[bytes]:
        return iter([])


class SilentAfterLogin(FakeServer):
    """Answers what opens a session and looks around, for the first session only."""

    sessions = 0
    looks_around = 7  # sessions that it takes to open and to ask what there is

    def handle(self, peer: Peer, body: m.Body) -> Reply | None:
        if isinstance(body, m.ConnectClientAuthRequest):
            self.sessions += 1
        return peer.handle(body) if self.sessions <= self.looks_around else None


def test_a_server_without_a_greeting() -> None:
    with Silent() as server:
        report = found(server)
    assert failures(report) == {"a session opens": "waited in vain for a greeting"}
    assert {row.detail for row in report.rows if row.result is Result.SKIPPED} == {"no session opens"}


@pytest.mark.slow
def test_a_server_that_stops_answering_is_given_up() -> None:
    with SilentAfterLogin() as server:
        report = found(server)
    assert 5 <= len(failures(report)) < 10
    assert any(row.detail.startswith("given up: no session opens any more") for row in report.rows)


def test_a_wrong_password() -> None:
    class Forgets(FakeServer):
        def handle(self, peer: Peer, body: m.Body) -> Reply | None:
            wrong = isinstance(body, m.ConnectClientAuthRequest)
            return ErrorCode.NOT_AUTHORIZED_ERR if wrong else peer.handle(body)

    with Forgets() as server:
        assert failures(found(server)) == {"a session opens": "no login: NOT_AUTHORIZED_ERR"}


def test_a_version_that_is_not_offered() -> None:
    class Old(FakeServer):
        offered = 3

    with Old() as server:
        report = found(server, 4)
    assert {row.result for row in report.rows} == {Result.NOT_OFFERED}
    assert report.rows[0].detail == "version 4: the greeting offers version 3"


def test_nobody_there() -> None:
    with FakeServer() as server:
        port = server.port
    options = Options(host="127.0.0.1", port=port, user="u", password="p")
    with pytest.raises(NotReachedError, match="refused"):
        run(options, lambda row: None)


def test_what_a_run_may_not_use_is_skipped() -> None:
    with FakeServer() as server:
        report = found(server)
    why = {row.check: row.detail for row in report.rows if row.result is Result.SKIPPED}
    assert why["DATA_ABORT in ACTIVE"] == "needs --filesystem"
    assert why["DATA_LISTEN TCP in IDLE"] == "the server does not list TCP data connections"
