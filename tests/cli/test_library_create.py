"""library create: what it makes, the section that it prints, and what it leaves alone."""

import json
import os
import tomllib
from pathlib import Path

import pytest

from mover.config import parse_config
from tests.cli.conftest import Run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mover.toml"
    path.write_text(f'[node]\nname = "fs1"\nstate_directory = "{tmp_path / "state"}"\n')
    return path


def test_a_library_for_the_configuration(mover: Run, tmp_path: Path, config: Path) -> None:
    directory = tmp_path / "below" / 'a "name"'
    made = mover("library", "create", "vtl-a", "--directory", str(directory), "--slots", "3", "--config", str(config))
    assert made.exit_code == 0
    assert sorted(os.listdir(directory)) == ["VTLA0001.tap", "VTLA0002.tap", "VTLA0003.tap", "import_export"]
    assert [path.stat().st_size for path in directory.glob("*.tap")] == [0, 0, 0]
    assert directory.stat().st_mode & 0o777 == 0o700
    assert made.stderr.startswith(f"{directory} holds 3 cartridges")
    assert tomllib.loads(made.stdout) == {
        "library": [
            {
                "name": "vtl-a", "directory": str(directory), "drives": 2, "slots": 3, "import_export": 2,
                "cartridge_size": "100GiB",
            }
        ]
    }  # fmt: skip
    with config.open("a") as file:
        file.write(made.stdout)
    (library,) = parse_config(str(config)).library
    assert (library.name, library.directory, library.slots) == ("vtl-a", str(directory), 3)


def test_all_options_as_json(mover: Run, tmp_path: Path, config: Path) -> None:
    directory = tmp_path / "tapes"
    directory.mkdir()
    arguments = ["--drives", "1", "--slots", "9", "--import-export", "0", "--cartridge-size", "10MiB"]
    arguments += ["--early-warning", "1MiB", "--cartridges", "1", "--config", str(config), "--json"]
    made = mover("library", "create", "x", "--directory", str(directory), *arguments)
    document = json.loads(made.stdout)
    assert (made.exit_code, made.stderr) == (0, "")
    assert (document["directory"], document["barcodes"]) == (str(directory), ["X0001"])
    assert os.listdir(directory) == ["X0001.tap"]
    (library,) = tomllib.loads(document["section"])["library"]
    assert (library["cartridge_size"], library["early_warning"]) == ("10MiB", "1MiB")


@pytest.mark.parametrize(
    ("name", "arguments", "status", "text"),
    [
        ("v", ["--slots", "2", "--cartridges", "3"], 2, "3 cartridges do not fit into 2 slots"),
        ("a/b", [], 2, "library[0].name: expected a name"),
        ("v", ["--cartridge-size", "much"], 2, "library[0].cartridge_size: expected a size"),
        ("v", ["--cartridge-size", "1MiB"], 2, "library[0].early_warning: expected less than cartridge_size"),
        ("v", ["--config", "/nonexistent/mover.toml"], 2, "mover: /nonexistent/mover.toml: no such file"),
    ],
)
def test_what_the_server_would_refuse_is_not_made(
    mover: Run, tmp_path: Path, config: Path, name: str, arguments: list[str], status: int, text: str
) -> None:
    directory = tmp_path / "tapes"
    given = ["--config", str(config), *arguments]
    made = mover("library", "create", name, "--directory", str(directory), *given)
    assert (made.exit_code, made.stdout) == (status, "")
    assert text in made.stderr
    assert not directory.exists()


def test_a_name_that_the_configuration_has_is_refused(mover: Run, tmp_path: Path, config: Path) -> None:
    with config.open("a") as file:
        file.write(f'[[library]]\nname = "vtl0"\ndirectory = "{tmp_path / "other"}"\n')
    made = mover("library", "create", "vtl0", "--directory", str(tmp_path / "tapes"), "--config", str(config))
    assert made.exit_code == 2
    assert "vtl0" in made.stderr
    assert not (tmp_path / "tapes").exists()


def test_cartridges_that_are_there_stay_as_they_are(mover: Run, tmp_path: Path, config: Path) -> None:
    directory = tmp_path / "tapes"
    directory.mkdir()
    (directory / "OLD.tap").write_bytes(b"data")
    made = mover("library", "create", "v", "--directory", str(directory), "--config", str(config))
    assert (made.exit_code, made.stdout) == (1, "")
    assert made.stderr == f"mover: {directory} holds cartridges already: OLD.tap\n"
    assert os.listdir(directory) == ["OLD.tap"]


def test_what_cannot_be_made_leaves_nothing(
    mover: Run, tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def full(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if str(path).endswith("V0002.tap"):
            raise OSError(28, "No space left on device", path)
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", full)
    directory = tmp_path / "tapes"
    made = mover("library", "create", "v", "--directory", str(directory), "--config", str(config))
    assert (made.exit_code, made.stdout) == (1, "")
    assert made.stderr == f"mover: {directory}/V0002.tap: No space left on device\n"
    assert not directory.exists()


@pytest.mark.root
def test_the_files_belong_to_whom_the_directory_belongs(mover: Run, tmp_path: Path, config: Path) -> None:
    directory = tmp_path / "tapes"
    directory.mkdir()
    os.chown(directory, 1234, 1235)
    mover("library", "create", "v", "--directory", str(directory), "--slots", "1", "--config", str(config))
    for name in ("V0001.tap", "import_export"):
        status = (directory / name).stat()
        assert (status.st_uid, status.st_gid) == (1234, 1235)
