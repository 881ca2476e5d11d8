"""Protocol logs of a running server: begun and ended by an operator, a file each, without secrets."""

import os
import stat
from pathlib import Path

import pytest

from mover.control import protocol_log
from mover.ndmp.dialogue import Closing, Message, Opening, decode_line
from mover.ndmp.messages import ConfigGetServerInfoRequest, TapeCloseRequest
from tests.control.conftest import LOGIN
from tests.support.ndmp_client import NdmpClient
from tests.support.servers import Server, ServerError, write_config


def session_of(server: Server) -> str:
    """The only session there is."""
    sessions = server.ask("status", "--fields", "session-id")["sessions"]
    assert isinstance(sessions, list)
    (session,) = sessions
    return str(session["session-id"])


def log(server: Server, verb: str, session: str, *more: str) -> dict[str, object]:
    return server.ask("log", verb, "--session-id", session, "--advanced", *more)


def test_a_running_session_is_logged_until_stopped(server: Server) -> None:
    with NdmpClient(server.address, login=LOGIN) as client:
        session = session_of(server)
        started = log(server, "start", session, "--filter", "all-config")
        path = Path(str(started["path"]))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with pytest.raises(ServerError, match="is logged already"):
            log(server, "start", session)
        client.ask(TapeCloseRequest())
        client.ask(ConfigGetServerInfoRequest())
        stopped = log(server, "stop", session)
        client.ask(TapeCloseRequest())
        with pytest.raises(ServerError, match="is not logged"):
            log(server, "stop", session)
        client.hang_up()
    lines = [decode_line(line) for line in path.read_bytes().splitlines()]
    assert (stopped["messages"], stopped["bytes"], stopped["writing"]) == (2, path.stat().st_size, False)
    first, request, reply, last = lines
    assert isinstance(first, Opening)
    assert not first.whole
    assert isinstance(request, Message)
    assert (request.sender, request.kind, request.message) == ("client", "request", "TAPE_CLOSE")
    assert isinstance(reply, Message)
    assert (reply.sender, reply.fields) == ("server", {"error": "DEV_NOT_OPEN_ERR"})
    assert reply.reply_to == request.sequence
    assert isinstance(last, Closing)
    assert last.reason == "stopped by an operator"


def test_a_session_that_is_not_there(server: Server) -> None:
    for verb in ("start", "stop"):
        with pytest.raises(ServerError, match="there is no session 4711"):
            log(server, verb, "4711")


def test_the_configuration_has_a_log_from_the_first_byte_without_secrets(directory: Path) -> None:
    own = directory / "debug"
    own.mkdir()
    config = write_config(own, LOGIN, node='debug_enable = true\ndebug_filter = "normal"')
    with Server(config) as server:
        for method in ("md5", "text"):
            with NdmpClient(server.address, login=LOGIN, method=method) as client:
                client.hang_up()
    logs = sorted((own / "state" / protocol_log.DIRECTORY).iterdir())
    assert len(logs) == 2
    for path in logs:
        text = path.read_bytes()
        assert LOGIN.password.encode() not in text
        assert LOGIN.password.encode().hex().encode() not in text
        lines = [decode_line(line) for line in text.splitlines()]
        assert isinstance(lines[0], Opening)
        assert lines[0].whole
        messages = [line for line in lines if isinstance(line, Message)]
        assert messages[0].message == "NOTIFY_CONNECTION_STATUS"
        assert messages[-1].message == "CONNECT_CLOSE"
        assert isinstance(lines[-1], Closing)


def test_the_oldest_logs_give_way(tmp_path: Path) -> None:
    for number in range(protocol_log.LOGS_KEPT + 2):
        path = tmp_path / f"session-{number}-x.jsonl"
        path.touch()
        os.utime(path, (number, number))
    (tmp_path / "mine").touch()
    protocol_log._make_room(str(tmp_path), [str(tmp_path / "session-1-x.jsonl")])
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == protocol_log.LOGS_KEPT
    assert {"mine", "session-1-x.jsonl"} <= left
    assert "session-0-x.jsonl" not in left
    assert "session-2-x.jsonl" not in left
