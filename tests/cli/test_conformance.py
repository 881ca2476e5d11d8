"""`mover conformance`: usage, exit statuses, the table and the JSON document, against the fake server."""

import json
import socket
from collections.abc import Iterator

import pytest

from mover.conformance.results import Result
from mover.ndmp import messages as m
from tests.cli.conftest import Run
from tests.conformance.fake_server import PASSWORD, USER, FakeServer, Peer, Reply

CHECK = ["--groups", "data", "--match", "in IDLE", "--timeout", "5"]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


def command(server: FakeServer, *more: str) -> list[str]:
    login = ["--user", USER.decode(), "--password", PASSWORD.decode()]
    return ["conformance", f"127.0.0.1:{server.port}", *login, *more]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--versions", "5"], "expected some of 1,2,3,4, got '5'"),
        (["--groups", "data,none"], "got 'none'"),
        (["--write"], "--write needs --tape-device"),
        (["--password-file", "/none"], "exclude each other"),
        (["--timeout", "0"], "--timeout"),
    ],
)
def test_wrong_usage_is_status_2(mover: Run, server: FakeServer, arguments: list[str], text: str) -> None:
    result = mover(*command(server, *arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in result.stderr


def test_nobody_there_is_status_3(mover: Run) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    result = mover("conformance", f"127.0.0.1:{port}", "--user", "u", "--password", "p")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"mover: cannot connect to 127.0.0.1:{port}: Connection refused\n"


def test_json(mover: Run, server: FakeServer) -> None:
    result = mover(*command(server, *CHECK, "--versions", "3", "--json"))
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert set(document) == {"server", "offered-version", "rows", "counts"}
    assert document["offered-version"] == 4
    assert set(document["counts"]) == {each.value for each in Result}
    assert document["counts"]["fail"] == 0
    rows = {(row["version"], row["check"]): row for row in document["rows"]}
    assert rows[3, "DATA_ABORT in IDLE"] == {
        "version": 3,
        "group": "data",
        "check": "DATA_ABORT in IDLE",
        "clause": "NDMPv3 DATA_ABORT; states.md 3.2",
        "result": "pass",
        "detail": "",
    }


def test_a_failure_is_status_1_and_stands_in_the_table(mover: Run) -> None:
    class Wrong(FakeServer):
        def handle(self, peer: Peer, body: m.Body) -> Reply | None:
            return m.DataAbortReply() if isinstance(body, m.DataAbortRequest) else peer.handle(body)

    with Wrong() as server:
        result = mover(*command(server, *CHECK, "--versions", "4"))
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if "DATA_ABORT in IDLE" in line]
    assert "NDMPv4 3.5 DATA_ABORT; states.md 3.2" in line
    assert line.endswith("expected ILLEGAL_STATE_ERR, got NO_ERR")
    assert "fail: version 4: DATA_ABORT in IDLE" in result.stderr


def test_all_shows_what_passed(mover: Run, server: FakeServer) -> None:
    short = mover(*command(server, *CHECK, "--versions", "4"))
    whole = mover(*command(server, *CHECK, "--versions", "4", "--all"))
    assert "DATA_STOP in IDLE" not in short.stdout
    assert "DATA_STOP in IDLE" in whole.stdout
    assert short.stdout.splitlines()[-1].startswith("all")
