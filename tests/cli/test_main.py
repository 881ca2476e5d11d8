"""The command line itself: exit statuses, the lookup of the admin socket, version, and what a start imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mover import __version__
from mover.admin.messages import Reply, Request, Version, VersionReply
from mover.admin.sessions import Status, StatusReply
from mover.cli import control_process
from tests.admin.control import FakeControl
from tests.cli.conftest import Run


def answer(request: Request) -> Reply:
    match request:
        case Version():
            return VersionReply("9.9", "fs1", 12, [2, 3, 4])
        case _:
            return StatusReply([])


def test_no_control_process_is_status_3(mover: Run, socket_path: str) -> None:
    for command in (["status"], ["probe", "--json"], ["kill", "--session-id", "1"], ["tape", "show"]):
        result = mover(*command)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr == f"mover: no control process at {socket_path}: No such file or directory\n"


@pytest.mark.parametrize(
    "arguments", [["reboot"], ["status", "--color"], ["tape", "load"], ["kill", "--session-id", "x"]]
)
def test_wrong_usage_is_status_2(mover: Run, arguments: list[str]) -> None:
    result = mover(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")


def test_version(mover: Run, socket_path: str) -> None:
    alone = mover("version", "--json", env={"MOVER_CONFIG": "/dev/null", "MOVER_ADMIN_SOCKET": None})
    with FakeControl(socket_path, answer):
        plain, as_json = mover("version"), mover("version", "--json")
    assert json.loads(alone.stdout) == {"version": __version__, "server": None}
    assert plain.stdout == f"mover {__version__}\nfs1 runs mover 9.9 (pid 12), NDMP versions 2, 3, 4\n"
    assert json.loads(as_json.stdout) == {
        "version": __version__,
        "server": {
            "version": "9.9",
            "node": "fs1",
            "pid": 12,
            "ndmp-versions": [2, 3, 4],
            "certificate-fingerprint": "",
        },
    }


def test_the_socket_is_looked_up_option_then_environment_then_config(
    mover: Run, socket_path: str, tmp_path: Path
) -> None:
    config = tmp_path / "mover.toml"
    config.write_text(f'[node]\nadmin_socket = "{socket_path}"\n[[user]]\nname="u"\npassword_file="/none"\n')
    with FakeControl(socket_path, answer) as control:
        by_option = mover("status", "--admin-socket", socket_path, env={"MOVER_ADMIN_SOCKET": "/none"})
        by_environment = mover("status")
        by_config = mover("status", env={"MOVER_CONFIG": str(config)})
    assert [by_option.exit_code, by_environment.exit_code, by_config.exit_code] == [0, 0, 0]
    assert control.requests == [Status()] * 3


HINT = "(--admin-socket PATH asks a running server without it)"


def test_a_config_that_cannot_be_used_is_status_2(mover: Run, tmp_path: Path) -> None:
    config = tmp_path / "mover.toml"
    config.write_text(f'[node]\ngrace = 1\nadmin_socket = "{tmp_path}/none"\n')
    result = mover("status", env={"MOVER_CONFIG": str(config)})
    assert (result.exit_code, result.stderr) == (
        2,
        f"mover: {config}: node.grace: unknown key; did you mean grace_s? {HINT}\n",
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[node]\ngrace = 1\nadmin_socket = '{}'\n", "node.grace: unknown key; did you mean grace_s?"),
        (
            '[node]\nadmin_socket = "{}"\n[[lif]\n',
            "Expected ']]' at the end of an array declaration (at line 3, column 6)",
        ),
    ],
)
def test_a_running_server_is_shown_although_its_configuration_was_broken_since(
    text: str, error: str, mover: Run, socket_path: str, tmp_path: Path
) -> None:
    config = tmp_path / "mover.toml"
    config.write_text(text.format(socket_path))
    with FakeControl(socket_path, answer) as control:
        shown = mover("status", env={"MOVER_CONFIG": str(config)})
        refused = mover("kill", "--session-id", "1", env={"MOVER_CONFIG": str(config)})
    assert (shown.exit_code, shown.stderr) == (
        0,
        f"mover: {config}: {error} {HINT}; {socket_path} answers, with the configuration it has\n",
    )
    assert (refused.exit_code, refused.stdout, refused.stderr) == (2, "", f"mover: {config}: {error} {HINT}\n")
    assert control.requests == [Status()]


def test_without_a_config_the_default_socket_is_asked(
    mover: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_process, "CONFIG_DEFAULT", str(tmp_path / "none.toml"))
    assert control_process.configured_socket() == "/run/mover/admin.sock"
    monkeypatch.setenv("MOVER_CONFIG", "")
    assert control_process.configured_socket() == "/run/mover/admin.sock"
    monkeypatch.setenv("MOVER_CONFIG", str(tmp_path / "none.toml"))
    assert mover("status", env={}).exit_code == 2


def test_a_start_imports_no_heavy_module() -> None:
    program = (
        "import sys\n"
        "from mover.cli.main import main\n"
        "try: main(['status', '--admin-socket', '/none'])\n"
        "except SystemExit: print(*sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    imported = set(run.stdout.split())
    assert "mover.cli.status" in imported
    heavy = {"trio", "asyncio", "rich", "textual", "structlog", "psutil", "mover.control", "mover.dma"}
    assert imported.isdisjoint(heavy)
