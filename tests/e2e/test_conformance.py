"""`mover conformance` against the real server: nothing fails, and nothing is skipped that could be looked at."""

import json
import subprocess
from pathlib import Path
from typing import Any  # a JSON document

import pytest

from tests.e2e.conftest import MakeServer
from tests.support.servers import Login, Server, mover_command
from tests.support.trees import make_large_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TIME_LIMIT_S = 580
CHECK_LIMIT_S = 60  # the default is for a machine that does nothing else
EXPECTED_SKIPPED = {
    "needs --changer",
    "needs --sessions: it takes the sessions of others away",
    "needs --shutdown-pid: it ends the server",
    "needs a cartridge of at most 64 MiB in the drive",
    "nothing that a client can do makes a tape unreadable",
    # version 1 writes straight to the tape, and nothing can hold it
    "the backup has ended meanwhile: a larger file system is needed to see ACTIVE",
    "the backup ends before it can be asked: a larger file system is needed to see ACTIVE",
}
PASSES_AT_LEAST = {1: 160, 2: 380, 3: 460, 4: 510}


def run(server: Server, login: Login, directory: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON document of a run."""
    secret = directory / "password"
    secret.touch(mode=0o600)
    secret.write_text(login.password)
    command = [
        *mover_command(), "conformance", server.address, "--user", login.user, "--password-file", str(secret),
        "--tape-device", "vtl0/drive0", "--timeout", str(CHECK_LIMIT_S), "--json", *more,
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


def failed(document: dict[str, Any]) -> list[str]:
    return [f"{row['check']}: {row['detail']} ({row['clause']})" for row in document["rows"] if row["result"] == "fail"]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_check_of_a_version(version: int, shared: Server, login: Login, shared_shm: Path) -> None:
    target = shared_shm / "target"
    target.mkdir(exist_ok=True)
    paths = ["--filesystem", str(shared_shm / "source"), "--recover-to", str(target)]
    status, document = run(shared, login, shared_shm, "--versions", str(version), "--write", *paths)
    assert failed(document) == []
    assert status == 0
    assert {row["detail"] for row in document["rows"] if row["result"] == "skipped"} <= EXPECTED_SKIPPED
    assert document["counts"]["pass"] >= PASSES_AT_LEAST[version]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_what_depends_on_the_type_of_the_backup(version: int, shared: Server, login: Login, shared_shm: Path) -> None:
    target = shared_shm / "target"
    target.mkdir(exist_ok=True)
    paths = ["--filesystem", str(shared_shm / "source"), "--recover-to", str(target)]
    kind = ["--type", "tar", "--groups", "config,data,job,three-way"]
    status, document = run(shared, login, shared_shm, "--versions", str(version), "--write", *kind, *paths)
    assert failed(document) == []
    assert status == 0
    assert {row["detail"] for row in document["rows"] if row["result"] == "skipped"} <= EXPECTED_SKIPPED
    assert {"config", "data", "job"} <= {row["group"] for row in document["rows"] if row["result"] == "pass"}


def test_without_write_the_tape_stays_as_it_is(shared: Server, login: Login, shared_shm: Path) -> None:
    (cartridge,) = (shared_shm / "server" / "tapes").glob("*.tap")
    before = cartridge.read_bytes()
    groups = ["--groups", "scsi,tape,mover,joined"]
    status, document = run(shared, login, shared_shm, "--versions", "1,4", *groups)
    assert failed(document) == []
    assert status == 0
    assert cartridge.read_bytes() == before


def test_the_end_of_a_small_cartridge_and_of_the_server(make_server: MakeServer, login: Login, shm: Path) -> None:
    """What takes a server of its own: a tape that is filled, the limit of sessions, a shutdown."""
    (shm / "source").mkdir()
    (shm / "target").mkdir()
    make_large_file(shm / "source" / "large", size=12 << 20)
    server = make_server(
        "server", cartridge_size="3MiB", early_warning="256KiB", extra="[limits]\nsessions = 9\n"
    )  # fmt: skip
    options = [
        "--write", "--filesystem", str(shm / "source"), "--recover-to", str(shm / "target"),
        "--groups", "medium,notices", "--sessions", "20", "--shutdown-pid", str(server.pid),
    ]  # fmt: skip
    status, document = run(server, login, shm, *options)
    assert failed(document) == []
    assert status == 0
    assert {row["detail"] for row in document["rows"] if row["result"] == "skipped"} == {
        "nothing that a client can do makes a tape unreadable"
    }
    assert document["counts"]["not offered"] == 0
    told = [row for row in document["rows"] if row["check"] == "a server that goes away says so to every session"]
    assert [(row["version"], row["result"]) for row in told] == [(version, "pass") for version in (1, 2, 3, 4)]
