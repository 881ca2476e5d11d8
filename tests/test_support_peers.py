"""The `peer` marker: a missing program fails under CI=true and is a named skip elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import peers

PLANTED = """
import pytest

@pytest.mark.peer("no-such-program", "sh")
def test_planted():
    raise AssertionError("ran")
"""


@pytest.mark.parametrize(
    ("ci", "status", "line"),
    [
        ("true", 1, "real peer not installed or not usable: no-such-program"),
        ("", 0, "SKIPPED [1] test_planted.py:4: real peer not installed or not usable: no-such-program"),
    ],
)
def test_a_missing_peer(ci: str, status: int, line: str, tmp_path: Path, checkout: Path) -> None:
    (tmp_path / "test_planted.py").write_text(PLANTED)
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", checkout / "pyproject.toml", "--rootdir", tmp_path, tmp_path],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(checkout)},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, line in result.stdout) == (status, True), result.stdout


def test_find_and_require() -> None:
    assert peers.find("sh") == peers.require("sh")
    assert peers.find("no-such-program") is None
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        peers.require("no-such-program")
