"""`mover doctor` on the command line."""

import os
from pathlib import Path

import msgspec.json
import pytest

from mover.admin.accounts import UserShow, UserShowReply
from mover.admin.messages import Reply, Request, Version, VersionReply
from mover.admin.tapes import LibraryShow, LibraryShowReply, TapeShow, TapeShowReply
from tests.admin.control import FakeControl
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


def test_a_configuration_that_is_not_there_is_told(
    mover: Run, tmp_path: Path, socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not start without one: what the defaults look like must not pass for its health."""
    usual = str(tmp_path / "none.toml")
    monkeypatch.setattr("mover.cli.doctor.CONFIG_DEFAULT", usual)
    result = mover("doctor")
    assert result.exit_code == 1
    assert result.output.startswith(f"error   configuration: there is no {usual}, and defaults are looked at; ")
    answers: dict[type[Request], Reply] = {
        Version: VersionReply("1", "n1", os.getpid(), [4]), TapeShow: TapeShowReply([], []),
        LibraryShow: LibraryShowReply([]), UserShow: UserShowReply([]),
    }  # fmt: skip
    with FakeControl(socket_path, lambda request: answers[type(request)]):
        document = msgspec.json.decode(mover("doctor", "--json").output)
    first = document["findings"][0]
    assert (first["check"], first["level"], first["subject"]) == ("environment", "warning", "configuration")
    assert "--config" in first["action"]


def test_a_configuration_that_may_not_be_read_is_not_taken_for_none(
    mover: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("mover.cli.doctor.CONFIG_DEFAULT", str(tmp_path / "file" / "mover.toml"))
    result = mover("doctor")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Not a directory" in result.stderr
