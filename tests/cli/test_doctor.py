"""`mover doctor` on the command line."""

from pathlib import Path

import msgspec.json
import pytest

from tests.cli.conftest import Run


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """One that is well, of a server that does not run."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "file").touch()
    path = tmp_path / "mover.toml"
    path.write_text(
        f'[node]\nmetrics = ""\nstate_directory = "{tmp_path}/state"\nadmin_socket = "{tmp_path}/admin.sock"\n'
        f'volumes = {{ v = "{tmp_path}/volume" }}\n[data_connections]\nport_range = "all"\n'
        '[[lif]]\nname = "l"\nport = 0\n[[user]]\nname = "u"\npassword = "correct horse battery"\n'
    )
    path.chmod(0o600)
    return path


def test_what_is_well_is_shown_on_demand(mover: Run, configuration: Path) -> None:
    result = mover("doctor", "--config", str(configuration))
    assert result.exit_code == 0, result.output
    assert "volume v" not in result.output
    assert result.output.splitlines()[-1].startswith("0 errors, ")
    assert "volume v" in mover("doctor", "--config", str(configuration), "--all").output


def test_an_error_is_exit_status_1_and_says_what_to_do(mover: Run, configuration: Path, tmp_path: Path) -> None:
    (tmp_path / "volume" / "file").unlink()
    (tmp_path / "volume").rmdir()
    result = mover("doctor", "--config", str(configuration), "--json")
    assert result.exit_code == 1
    document = msgspec.json.decode(result.output)
    wrong = [each for each in document["findings"] if each["level"] == "error"]
    assert {each["check"] for each in wrong} == {"environment", "volumes"}
    assert all(each["action"] for each in wrong)
    assert document["counts"]["error"] == len(wrong)
    assert "correct horse" not in result.output


def test_a_wrong_configuration_is_exit_status_2(mover: Run, tmp_path: Path) -> None:
    path = tmp_path / "mover.toml"
    path.write_text("[node]\nnmae = 'x'\n")
    result = mover("doctor", "--config", str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "node.nmae" in result.stderr
