"""`mover top` where nothing is drawn: JSON, plain tables, its side of the admin socket, and what it imports."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mover.admin import NoControlProcessError
from mover.admin.messages import Done, decode_reply, encode_reply
from mover.admin.sessions import Status, StatusReply
from mover.cli.main import main
from mover.cli.top.feed import Feed
from tests.admin.control import FakeControl
from tests.cli.conftest import Run
from tests.support.moments import fake_server, moment
from tests.support.screens import compare, universal_time

__all__ = ["universal_time"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"no json\n", "not a message"),
        (b"", "ended the connection"),
        (b"x" * 70_000, "a reply of more than 65536"),
        (encode_reply(Done("ha")), "answered Done"),
    ],
    ids=["garbage", "end", "endless", "another"],
)
def test_someone_else_at_the_socket(socket_path: str, said: bytes, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mover.cli.top.feed.REPLY_BYTES_MAX", 65536)

    async def talk() -> None:
        feed = Feed(socket_path)
        for _ in range(2):
            with pytest.raises(NoControlProcessError, match=why):
                await feed.ask(Status(), StatusReply)
        feed.close()
        await asyncio.sleep(0)  # so that it is closed before the loop is

    with FakeControl(socket_path, lambda _: said):
        asyncio.run(talk())


def test_a_silent_control_process_is_given_up_and_its_late_answer_is_nobody_s(socket_path: str) -> None:
    async def talk() -> None:
        waiting = asyncio.Event()
        async with fake_server(socket_path, moment()) as server:

            async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await waiting.wait()
                writer.close()

            await server.stop()
            listener = await asyncio.start_unix_server(silent, socket_path)
            feed = Feed(socket_path)
            with pytest.raises(NoControlProcessError, match=r"did not answer within 0\.05 s"):
                await feed.ask(Status(), StatusReply, 0.05)
            waiting.set()
            listener.close()
            await listener.wait_closed()

    asyncio.run(talk())


def test_json_is_the_statistics_reply(mover: Run, socket_path: str) -> None:
    now = moment()
    with FakeControl(socket_path, lambda _: now):
        result = mover("top", "--json")
    assert (result.exit_code, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    document = json.loads(result.stdout)
    assert document["jobs"][0]["stream-bytes"] == 3145728000
    assert "type" not in document
    document["type"] = "statistics-reply"
    assert decode_reply(json.dumps(document).encode()) == now


def test_once_prints_tables(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, lambda _: moment()):
        result = mover("top", "--once")
        in_ascii = mover("top", "--once", "--ascii")
    assert (result.exit_code, result.stderr) == (0, "")
    compare("once", result.stdout)
    assert in_ascii.stdout.isascii()


def test_without_a_terminal_it_says_so(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, lambda _: moment()):
        result = mover("top")
        wrong = mover("top", "--interval", "0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: this is no terminal" in result.stderr
    assert wrong.exit_code == 2


def test_only_the_live_view_imports_textual_and_only_when_it_draws() -> None:
    package = Path(sys.modules["mover"].__path__[0])
    found = {
        path.relative_to(package).parts[:2]
        for path in package.rglob("*.py")
        if re.search(r"^\s*(?:from|import) textual\b", path.read_text(), flags=re.MULTILINE)
    }
    assert found == {("cli", "top")}
    program = (
        "import sys\n"
        "from mover.cli.main import main\n"
        "try: main(['top', '--admin-socket', '/none'])\n"
        "except SystemExit: print(*sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    imported = set(run.stdout.split())
    assert "mover.cli.top.command" in imported
    assert imported.isdisjoint({"textual", "rich", "asyncio", "trio"})
    assert main.get_command(None, "top") is not None  # type: ignore[arg-type]  # of no context
