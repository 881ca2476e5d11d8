"""The Debian package: what is in it, what lintian says, and that it runs from wherever it is unpacked."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import mover
from mover.cli.completion import SHELLS, completion_script
from tests.support import peers
from tests.support.servers import Login, write_config

pytestmark = [pytest.mark.slow, pytest.mark.peer("dpkg-deb"), pytest.mark.timeout(900)]
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    subprocess.run(["dpkg", "-x", package, root], check=True, timeout=TIMEOUT_S)
    return root


def program(root: Path) -> list[str]:
    """The program's own interpreter and the program, as the kernel would start them where it is installed."""
    first, flag = (root / "usr/bin/mover").read_text().splitlines()[0].removeprefix("#!/").split()
    return [str(root / first), flag, str(root / "usr/bin/mover")]


def test_what_the_package_says_of_itself(package: Path) -> None:
    told = subprocess.run(["dpkg-deb", "-f", package], capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    fields = dict(line.split(": ", 1) for line in told.stdout.splitlines() if not line.startswith(" "))
    assert (fields["Package"], fields["Version"].split("-")[0]) == ("mover", mover.__version__)
    assert fields["Depends"].startswith("python3 (>= 3.1")
    assert "python3 (<< 3.1" in fields["Depends"]


def test_all_files_are_roots_and_of_one_time(package: Path) -> None:
    told = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_S
    )
    listed = subprocess.run(
        ["tar", "--full-time", "--utc", "-tv"], input=told.stdout, capture_output=True, check=True, timeout=TIMEOUT_S
    )
    rows = [line.split(None, 5) for line in listed.stdout.decode().splitlines()]
    assert {row[1] for row in rows} == {"root/root"}
    assert len({(row[3], row[4]) for row in rows}) == 1
    modes = {row[5].split(" -> ")[0]: row[0] for row in rows}
    assert modes["./etc/mover/mover.toml"] == "-rw-r-----"
    assert modes["./etc/mover/"] == "drwxr-x---"
    assert [name for name, mode in modes.items() if mode[8] == "w" and mode[0] != "l"] == []


@pytest.mark.peer("lintian")
def test_lintian_finds_no_fault(package: Path) -> None:
    told = subprocess.run(
        [peers.require("lintian"), "--allow-root", "--fail-on", "error,warning", package],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout


def test_pages_and_completions_are_those_of_the_commands(unpacked: Path) -> None:
    assert (unpacked / "usr/share/man/man1/mover-backup.1.gz").exists()
    assert (unpacked / "usr/share/man/man5/mover.toml.5.gz").exists()
    places = (
        "bash-completion/completions/mover",
        "zsh/vendor-completions/_mover",
        "fish/vendor_completions.d/mover.fish",
    )
    for shell, place in zip(SHELLS, places, strict=True):
        assert (unpacked / "usr/share" / place).read_text() == completion_script(shell)


def test_it_runs_from_where_it_is_unpacked(unpacked: Path) -> None:
    told = subprocess.run(
        [*program(unpacked), "--version"], cwd="/", capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    assert told.stdout == f"mover {mover.__version__}\n"


def test_it_serves_with_its_own_packages_and_workers(unpacked: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, Login("ndmp", "correct-horse"), volumes={"v": tmp_path}, drives=1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*program(unpacked), "serve", "--config", str(config)],
            cwd="/", env=environment, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        told = subprocess.run(
            [*program(unpacked), "tape", "load", "vtl0/drive0", "--admin-socket", ready["admin_socket"]],
            env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
        )  # fmt: skip
        assert told.stdout == "VTL00001 (empty) is in vtl0/drive0\n"
        maps = Path(f"/proc/{server.pid}/maps").read_text()
        assert str(unpacked) in maps  # what is compiled in msgspec and others is its own
        assert "/.venv/" not in maps
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(TIMEOUT_S) == 0
        assert server.stdout is not None
        server.stdout.close()


def test_the_scripts_of_the_package_are_shell(checkout: Path) -> None:
    for script in ("postinst", "prerm", "postrm"):
        subprocess.run(["sh", "-n", checkout / "packaging" / script], check=True, timeout=TIMEOUT_S)
