"""scripts/load, small: the client that asks in an open loop, and what becomes of its figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 170


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S + 10)
def test_a_short_run_ends_with_a_table_and_no_error(checkout: Path) -> None:
    performance = checkout / "docs" / "performance.json"
    before = performance.read_bytes()
    command = [sys.executable, str(checkout / "scripts/load.py"), "--quick"]
    result = subprocess.run(
        [*command, "--connections", "10", "--seconds", "3", "--pairs", "1"],
        env=os.environ | {"PYTHONPATH": str(checkout)}, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines() if line[:1] == "|"]
    by_name = {row[0]: row for row in rows}
    assert by_name["the same, errors"][2:] == ["0.0 errors", "every reply as it should be", "reached"]
    for server in ("nothing but replies", "mover", "mover, one backup streaming"):
        assert by_name[server][1] == "30"
        assert by_name[server][5] == "none"
    assert performance.read_bytes() == before


def test_each_benchmark_has_its_place(checkout: Path) -> None:
    assert "bench" in json.loads((checkout / "docs" / "performance.json").read_bytes())
    page = (checkout / "docs" / "performance.md").read_text()
    for name in ("bench", "load"):
        assert page.count(f"<!-- {name}: begin -->") == page.count(f"<!-- {name}: end -->") == 1
