"""A replay of a log that nobody wrote, against a server that is none: an error or a difference, no traceback."""

import json
import struct
from pathlib import Path
from typing import Any  # Any: JSON values

import pytest
import trio

from mover.dma import Credentials, DmaError, Server
from mover.dma.replay import ReplayResult, run_replay
from mover.ndmp.dialogue import ALL_INTERFACES
from mover.ndmp.enums import MessageCode, MessageType
from mover.ndmp.framing import mark
from mover.ndmp.header import Header

DEADLINE_S = 10
WAIT_S = 5

Line = dict[str, Any]
OPENING: Line = {
    "type": "log", "time": 0, "format": 1, "server": "any", "session": 1, "peer": "any", "version": 4,
    "filter": "all", "interfaces": sorted(ALL_INTERFACES), "whole": True,
}  # fmt: skip
INSIDE: Line = {**OPENING, "whole": False}


def header(code: int, sequence: int, *, kind: int = MessageType.REPLY, reply_to: int = 0) -> bytes:
    return Header(sequence, 0, kind, code, reply_to, 0).encode()


def line(sender: str, kind: str, message: str, fields: Any = None, **more: Any) -> Line:
    return {
        "type": "message", "time": 0, "version": 4, "from": sender, "kind": kind, "message": message, "fields": fields,
        **more,
    }  # fmt: skip


def request(code: MessageCode, sequence: int, body: bytes, fields: Any = None) -> Line:
    record = (header(code, sequence, kind=MessageType.REQUEST) + body).hex()
    return line("client", "request", code.name, fields, sequence=sequence, record=record)


def reply(message: str, to: int, fields: Any) -> Line:
    return line("server", "reply", message, fields, **{"reply-to": to})


def sent(code: int, body: bytes, *, kind: int = MessageType.REPLY, reply_to: int = 1) -> bytes:
    record = header(code, 1, kind=kind, reply_to=reply_to if kind == MessageType.REPLY else 0) + body
    return mark(len(record)) + record


def offers(version: int) -> bytes:
    body = struct.pack(">3I", 0, version, 0)
    return sent(MessageCode.NOTIFY_CONNECTION_STATUS, body, kind=MessageType.REQUEST)


GREETED = line("server", "post", "NOTIFY_CONNECTION_STATUS", {"reason": "CONNECTED", "protocol_version": 4})
OPENED = request(MessageCode.CONNECT_OPEN, 1, struct.pack(">I", 4), {"protocol_version": 4})
TAKEN = reply("CONNECT_OPEN", 1, {"error": "NO_ERR"})
LOGIN = request(MessageCode.CONNECT_CLIENT_AUTH, 2, b"")
LOGGED_IN = reply("CONNECT_CLIENT_AUTH", 2, {"error": "NO_ERR"})
NO_ERR = sent(MessageCode.CONNECT_OPEN, bytes(4))


async def play(path: Path, lines: list[Line], answers: bytes) -> ReplayResult | DmaError:
    """What comes of a log against a server that says ``answers`` whatever it is asked."""
    await trio.Path(path).write_text("".join(json.dumps(each) + "\n" for each in lines))

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(answers)
            await stream.send_eof()
            while await stream.receive_some():
                pass

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, serve, 0)
            server = Server("127.0.0.1", listeners[0].socket.getsockname()[1])
            try:
                return await run_replay(path, server, Credentials("user", "secret"), timeout_s=WAIT_S)
            except DmaError as error:
                return error
            finally:
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize("version", [-1, 0, 5, 99, 70_000])
async def test_a_log_of_no_version(version: int, tmp_path: Path) -> None:
    result = await play(tmp_path / "log", [{**INSIDE, "version": version}], offers(4))
    assert str(result) == f"{tmp_path / 'log'}:1: a log of version {version}, which there is not"


async def test_a_server_of_no_version(tmp_path: Path) -> None:
    result = await play(tmp_path / "log", [OPENING, GREETED, OPENED, TAKEN], offers(0))
    assert str(result) == "the server offers version 0"


@pytest.mark.parametrize("opens", ["4", -1, 99, None, [4], {"a": 4}])
async def test_a_request_for_no_version(opens: object, tmp_path: Path) -> None:
    """The record counts, and what it asks for; the login behind it is made in the version offered."""
    opened = {**OPENED, "fields": {"protocol_version": opens}}
    login = request(MessageCode.CONNECT_CLIENT_AUTH, 2, bytes(4))
    result = await play(tmp_path / "log", [OPENING, GREETED, opened, TAKEN, login, LOGGED_IN], offers(4) + NO_ERR)
    assert isinstance(result, ReplayResult)
    assert result.difference is not None


async def test_a_login_that_is_none(tmp_path: Path) -> None:
    result = await play(tmp_path / "log", [OPENING, GREETED, OPENED, TAKEN, LOGIN, LOGGED_IN], offers(4) + NO_ERR)
    assert str(result).startswith("a login of the log cannot be read")


@pytest.mark.parametrize(
    "answers",
    [
        sent(MessageCode.CONNECT_OPEN, b""),
        sent(MessageCode.CONFIG_GET_AUTH_ATTR, b""),
        sent(MessageCode.NOTIFY_DATA_HALTED, bytes(4)),
        sent(MessageCode.CONNECT_CLOSE, b""),
        sent(0x7FF00000, bytes(8)),
    ],
)
async def test_a_server_that_answers_nonsense(answers: bytes, tmp_path: Path) -> None:
    result = await play(tmp_path / "log", [OPENING, GREETED, OPENED, TAKEN], offers(4) + answers)
    assert isinstance(result, ReplayResult)
    assert result.difference is not None


@pytest.mark.parametrize("message", ["FH_ADD_FILE", "FH_ADD_DIR", "NOTIFY_DATA_HALTED", "LOG_MESSAGE"])
@pytest.mark.parametrize("fields", [None, {}, {"files": 5}, {"files": None}, {"type": {"a": []}}])
async def test_posts_of_no_shape(message: str, fields: object, tmp_path: Path) -> None:
    lines = [OPENING, GREETED, OPENED, TAKEN, line("server", "post", message, fields)]
    result = await play(tmp_path / "log", lines, offers(4) + NO_ERR)
    assert isinstance(result, ReplayResult)
    assert result.difference is not None


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("DATA_GET_STATE", {"state": ["ACTIVE"]}),
        ("MOVER_GET_STATE", {"state": {"a": 1}}),
        ("DATA_GET_ENV", {"env": [{"name": [], "value": "1"}, {"name": {}, "value": "2"}]}),
    ],
)
async def test_replies_of_no_shape(message: str, fields: object, tmp_path: Path) -> None:
    asked = request(MessageCode[message], 1, b"")
    answers = sent(MessageCode[message], bytes(200))
    result = await play(tmp_path / "log", [OPENING, GREETED, asked, reply(message, 1, fields)], offers(4) + answers)
    assert isinstance(result, ReplayResult)
    assert result.difference is not None
