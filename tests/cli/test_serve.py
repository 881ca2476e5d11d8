"""What `mover serve` says when it cannot start."""

from pathlib import Path

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
