"""REFUSED and SHUTDOWN: what a server has to say, told from one that only closes."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from mover.conformance.options import Options
from mover.conformance.results import Result
from mover.conformance.run import run
from mover.ndmp import messages as m
from tests.conformance.fake_server import PASSWORD, USER, FakeServer, HangUp, Peer

LIMIT = 4
REFUSED = "past the limit of sessions one is REFUSED"
TOLD = "a server that goes away says so to every session"


def outcome(server: FakeServer, check: str, timeout_s: float = 10, **options: int) -> tuple[Result, str]:
    wanted = Options(
        host="127.0.0.1", port=server.port, user=USER.decode(), password=PASSWORD.decode(), versions=(3,),
        groups=("notices",), timeout_s=timeout_s, **options,  # type: ignore[arg-type]  # sessions, shutdown_pid
    )  # fmt: skip
    (row,) = [each for each in run(wanted, lambda row: None).rows if each.check == check]
    return row.result, row.detail


class Crowded(FakeServer):
    """Takes so many sessions; says REFUSED to the next, or nothing."""

    says = True

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._live = 0

    def spoil(self, peer: Peer, data: bytes, request: m.Body | None) -> Iterator[bytes]:
        if isinstance(request, m.NotifyConnectionStatusPost) and self._live > LIMIT:
            if self.says:
                yield peer.protocol.refuse(b"full")[: len(data) + 8]
            raise HangUp
        yield data

    def _serve(self, *arguments: object) -> None:
        with self._lock:
            self._live += 1
        try:
            super()._serve(*arguments)  # type: ignore[arg-type]  # a connection
        finally:
            with self._lock:
                self._live -= 1


class Silent(Crowded):
    says = False


def test_a_server_that_refuses_by_name() -> None:
    with Crowded() as server:
        assert outcome(server, REFUSED, sessions=10) == (Result.PASS, "")
        assert outcome(server, REFUSED, sessions=2) == (Result.NOT_OFFERED, "2 sessions at once are taken")
        result, why = outcome(server, REFUSED)
    assert (result, why) == (Result.SKIPPED, "needs --sessions: it takes the sessions of others away")


def test_a_server_that_refuses_without_a_word() -> None:
    with Silent() as server:
        result, detail = outcome(server, REFUSED, sessions=10)
    assert (result, detail) == (Result.FAIL, "the server closed the connection before a greeting")


class GoesAway(FakeServer):
    """Tells each session that is logged in so, or nothing, when a process has ended; then closes."""

    def __init__(self, process: subprocess.Popen[bytes], reason: int | None) -> None:
        super().__init__()
        self._process = process
        self._reason = reason

    def spoil(self, peer: Peer, data: bytes, request: m.Body | None) -> Iterator[bytes]:
        yield data
        if isinstance(request, m.ConnectClientAuthRequest):
            self._start(self._tell, peer)

    def _tell(self, peer: Peer) -> None:
        self._process.wait()
        with contextlib.suppress(OSError):  # those that look around before have gone
            if self._reason is not None:
                peer.socket.sendall(peer.protocol.post(m.NotifyConnectionStatusPost(self._reason, 4, b"gone")))
            peer.socket.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("reason", "result", "detail"),
    [
        (1, Result.PASS, ""),
        (2, Result.FAIL, "expected SHUTDOWN, got reason 2"),
        (None, Result.FAIL, "the server closed the connection before NOTIFY_CONNECTION_STATUS with SHUTDOWN"),
    ],
)
def test_a_server_that_goes_away(reason: int | None, result: Result, detail: str) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            with GoesAway(process, reason) as server:
                assert outcome(server, TOLD, shutdown_pid=process.pid) == (result, detail)
        finally:
            process.kill()


def test_a_process_that_is_not_there() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
        with FakeServer() as server:
            result, why = outcome(server, TOLD, shutdown_pid=process.pid)
    assert result is Result.SKIPPED
    assert why.endswith("cannot be told to end: No such process")
