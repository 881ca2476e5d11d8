"""What the commands' tests share: the command line run in this process, and a socket for a fake control."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mover.cli.main import main

Run = Callable[..., Result]


@pytest.fixture
def socket_path(tmp_path: Path) -> str:
    return str(tmp_path / "admin.sock")


@pytest.fixture
def mover(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command against the fake control's socket."""
    monkeypatch.delenv("MOVER_CONFIG", raising=False)

    def run(*arguments: str, env: dict[str, str | None] | None = None) -> Result:
        return CliRunner().invoke(
            main, arguments, env={"MOVER_ADMIN_SOCKET": socket_path} if env is None else env, prog_name="mover"
        )

    return run
