"""`mover conformance` against the real server: nothing fails, and nothing is skipped that could be looked at."""

import json
import subprocess
from pathlib import Path
from typing import Any  # a JSON document

import pytest

from tests.support.servers import Login, Server, mover_command

pytestmark = pytest.mark.slow

TIME_LIMIT_S = 280
EXPECTED_SKIPPED = {
    "needs --changer",
    # version 1 writes straight to the tape, and nothing can hold it
    "the backup has ended meanwhile: a larger file system is needed to see ACTIVE",
    "the backup ends before it can be asked: a larger file system is needed to see ACTIVE",
}
PASSES_AT_LEAST = {1: 160, 2: 380, 3: 460, 4: 500}


def run(server: Server, login: Login, directory: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON document of a run."""
    secret = directory / "password"
    secret.touch(mode=0o600)
    secret.write_text(login.password)
    command = [
        *mover_command(), "conformance", server.address, "--user", login.user, "--password-file", str(secret),
        "--tape-device", "vtl0/drive0", "--json", *more,
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


def test_without_write_the_tape_stays_as_it_is(shared: Server, login: Login, shared_shm: Path) -> None:
    (cartridge,) = (shared_shm / "server" / "tapes").glob("*.tap")
    before = cartridge.read_bytes()
    groups = ["--groups", "scsi,tape,mover,joined"]
    status, document = run(shared, login, shared_shm, "--versions", "1,4", *groups)
    assert failed(document) == []
    assert status == 0
    assert cartridge.read_bytes() == before
