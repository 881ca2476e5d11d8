"""scripts/encryption-cost, small: a run ends with a table and stores nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_short_run_ends_with_a_table(checkout: Path) -> None:
    """How much it costs on a busy machine is not looked at."""
    performance = checkout / "docs" / "performance.json"
    before = performance.read_bytes()
    result = subprocess.run(
        [sys.executable, str(checkout / "scripts/encryption_cost.py"), "--quick"],
        env=os.environ | {"PYTHONPATH": str(checkout)}, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr
    rows = [line for line in result.stdout.splitlines() if line[:2] == "| "]
    assert len(rows) == 2 + 2  # heading and rule, one of each side
    assert performance.read_bytes() == before


def test_it_has_its_place(checkout: Path) -> None:
    page = (checkout / "docs" / "performance.md").read_text()
    assert page.count("<!-- encryption: begin -->") == page.count("<!-- encryption: end -->") == 1
