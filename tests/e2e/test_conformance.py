"""`mover conformance` against the real server: nothing fails, and nothing is skipped that could be looked at."""

import json
import subprocess
from pathlib import Path

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


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_check_of_a_version(version: int, shared: Server, login: Login, shared_shm: Path) -> None:
    secret = shared_shm / "password"
    secret.touch(mode=0o600)
    secret.write_text(login.password)
    target = shared_shm / "target"
    target.mkdir(exist_ok=True)
    command = [
        *mover_command(), "conformance", shared.address, "--user", login.user, "--password-file", str(secret),
        "--versions", str(version), "--tape-device", "vtl0/drive0", "--write",
        "--filesystem", str(shared_shm / "source"), "--recover-to", str(target), "--json",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)
    assert result.stdout, result.stderr
    document = json.loads(result.stdout)
    wrong = [
        f"{row['check']}: {row['detail']} ({row['clause']})" for row in document["rows"] if row["result"] == "fail"
    ]
    assert wrong == []
    assert result.returncode == 0
    assert {row["detail"] for row in document["rows"] if row["result"] == "skipped"} <= EXPECTED_SKIPPED
    assert document["counts"]["pass"] >= PASSES_AT_LEAST[version]
