"""scripts/scale, small: its trees are what they say, and a run ends with a table and stores nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.short_runs import has_a_place

TIMEOUT_S = 590


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S + 10)
def test_a_short_run_ends_with_a_table(checkout: Path, tmp_path: Path) -> None:
    """What it measures of so small trees on a busy machine is not looked at."""
    performance = checkout / "docs" / "performance.json"
    before = performance.read_bytes()
    command = [sys.executable, str(checkout / "scripts/scale.py"), "--quick", "--attempts", "1"]
    result = subprocess.run(
        [*command, "--place", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(checkout)}, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines() if line[:2] == "| "]
    assert len(rows) == 2 + 8  # heading and rule, ratios and limits
    assert "level 1 of a tree of 3,032 entries" in rows[2][0]
    assert "a tree of 2,512 entries, 512 inodes" in rows[-1][0]
    assert performance.read_bytes() == before
    assert not list(tmp_path.iterdir())


def test_it_has_its_place(checkout: Path) -> None:
    assert has_a_place(checkout, "scale")
