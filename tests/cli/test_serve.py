"""What `mover serve` says when it cannot start."""

from pathlib import Path

import pytest

import mover.control.serve as control
from mover.config import Config, load_config
from tests.cli.conftest import Run


def test_a_missing_or_wrong_config_is_status_2(mover: Run, tmp_path: Path) -> None:
    config = tmp_path / "mover.toml"
    missing = mover("serve", "--config", str(config))
    assert (missing.exit_code, missing.stderr) == (2, f"mover: {config}: No such file or directory\n")
    config.write_text("[[lif]]\nname = 'a'\nport = 70000\n")
    wrong = mover("serve", env={"MOVER_CONFIG": str(config)})
    assert (wrong.exit_code, wrong.stderr) == (
        2,
        f"mover: {config}: lif[0].port: expected 0..65535, got 70000\n",
    )


def test_missing_directories_are_one_line_and_status_1(mover: Run, tmp_path: Path) -> None:
    config = tmp_path / "mover.toml"
    config.write_text(
        f'[node]\nstate_directory = "{tmp_path}/state"\nadmin_socket = "{tmp_path}/a.sock"\n'
        f'volumes = {{ a = "{tmp_path}/a", b = "{tmp_path}/b" }}\n'
    )
    result = mover("serve", "--config", str(config))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"mover: {config}: node.volumes.a: {tmp_path}/a: no such directory; "
        f"node.volumes.b: {tmp_path}/b: no such directory\n"
    )


def test_the_server_gets_the_config_and_the_path_to_read_again(
    mover: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mover.toml").write_text(f'[node]\nstate_directory = "{tmp_path}"\nadmin_socket = "{tmp_path}/a.sock"\n')
    given: list[tuple[Config, str | None]] = []

    def run(config: Config, path: str | None = None) -> int:
        given.append((config, path))
        return 1

    monkeypatch.setattr(control, "run", run)
    assert mover("serve", "--config", "mover.toml").exit_code == 1
    assert given == [(load_config("mover.toml"), f"{tmp_path}/mover.toml")]
