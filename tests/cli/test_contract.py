"""Every command against what they all promise: help, exit statuses, one line for what went wrong, JSON."""

import json
from collections.abc import Iterator

import click
import pytest

from mover.admin.messages import Done, Failed, Reply, Request, Version, VersionReply
from mover.admin.sessions import Status, StatusReply
from mover.admin.tapes import TapeShow, TapeShowReply
from mover.cli.main import main
from tests.admin.control import FakeControl
from tests.cli.conftest import Run

# The least that a command needs to ask the control process.
ASKING = {
    "version": ["--admin-socket", "SOCKET"],  # without it "no control process is running" is its answer
    "status": [],
    "probe": [],
    "top": [],
    "kill": ["--session-id", "1"],
    "kill-all": [],
    "on": [],
    "off": [],
    "show": [],
    "modify": ["--sessions", "1"],
    "jobs": [],
    "user create": ["--user", "u", "--role", "backup", "--source", "system"],
    "user show": [],
    "user modify": ["--user", "u", "--role", "admin"],
    "user delete": ["--user", "u"],
    "role create": ["--role", "r"],
    "role show": [],
    "role delete": ["--role", "r"],
    "generate-password": ["--user", "u"],
    "extensions show": ["--advanced"],
    "extensions modify": ["7ff0", "on", "--advanced"],
    "log start": ["--session-id", "1", "--advanced"],
    "log stop": ["--session-id", "1", "--advanced"],
    "tape show": [],
    "tape create": ["vtl0"],
    "tape load": ["vtl0/drive0"],
    "tape unload": ["vtl0/drive0"],
    "library show": [],
    "library inventory": ["vtl0"],
    "library move": ["vtl0", "slot0", "drive0"],
    "dumpdates list": [],
    "dumpdates delete": ["/vol/a"],
    "dumpdates export": ["/nonexistent/out"],
    "dumpdates import": ["/nonexistent/in"],
    "node show": [],
    "volume show": [],
    "volume move": ["--volume", "v", "--destination-node", "n"],
    "tape ls": ["A1"],
    "tape verify": ["A1"],
    "tape extract": ["A1", "--output", "/nonexistent/out"],
}
WITHOUT_JSON = {"serve"}


def commands(group: click.Group = main, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command, and every group, by the words that one types."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield above + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")


ALL = dict(commands())
SINGLE = [name for name, command in ALL.items() if not isinstance(command, click.Group)]


def test_every_command_that_asks_control_is_in_the_table() -> None:
    asking = {name for name in SINGLE if any(each.name == "admin_socket" for each in ALL[name].params)}
    assert asking - {"doctor"} == set(ASKING)  # which does without control too


@pytest.mark.parametrize("name", ALL)
def test_help(mover: Run, name: str) -> None:
    for option in ("--help", "-h"):
        result = mover(*name.split(), option)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith(f"Usage: mover {name} [OPTIONS]")
    if name in SINGLE:
        assert ("--json" in result.stdout) == (name not in WITHOUT_JSON)


@pytest.mark.parametrize("name", ALL)
def test_wrong_usage_is_status_2(mover: Run, name: str) -> None:
    result = mover(*name.split(), "--no-such-option")
    assert (result.exit_code, result.stdout) == (2, "")
    usage, *_, last = result.stderr.splitlines()
    assert usage.startswith(f"Usage: mover {name} [OPTIONS]")
    assert last.startswith("Error: ")


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["plain", "json"])
@pytest.mark.parametrize("name", ASKING)
def test_no_control_process_is_status_3(mover: Run, socket_path: str, name: str, as_json: list[str]) -> None:
    arguments = [socket_path if each == "SOCKET" else each for each in ASKING[name]]
    result = mover(*name.split(), *arguments, *as_json)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"mover: no control process at {socket_path}: No such file or directory\n"


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["plain", "json"])
@pytest.mark.parametrize("name", ASKING)
def test_what_control_refuses_is_one_line_and_status_1(
    mover: Run, socket_path: str, name: str, as_json: list[str]
) -> None:
    arguments = [socket_path if each == "SOCKET" else each for each in ASKING[name]]

    with FakeControl(socket_path, lambda _: Failed("busy", "not\x1b now")):
        result = mover(*name.split(), *arguments, *as_json)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "mover: not\\x1b now\n"


def answer(request: Request) -> Reply:
    match request:
        case Status():
            return StatusReply([])
        case TapeShow():
            return TapeShowReply([], [])
        case Version():
            return VersionReply("9.9", "fs1", 12, [2, 3, 4])
        case _:
            return Done("done", [])


@pytest.mark.parametrize("name", ["version", "status", "probe", "kill", "tape show", "tape create", "tape load"])
def test_json_is_one_document_on_one_line(mover: Run, socket_path: str, name: str) -> None:
    arguments = [socket_path if each == "SOCKET" else each for each in ASKING[name]]
    with FakeControl(socket_path, answer):
        result = mover(*name.split(), *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    assert isinstance(json.loads(result.stdout), dict)
