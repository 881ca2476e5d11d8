"""Runs a measuring script at its smallest: it has to end with its table, and to store nothing."""

import os
import subprocess
import sys
from pathlib import Path

DEADLINE_S = 110


def rows_of_a_quick_run(checkout: Path, script: str) -> list[str]:
    """The rows of the table, without heading and rule, of one of ``scripts`` with ``--quick``.

    How good the figures of a busy machine are is not looked at.
    """
    performance = checkout / "docs" / "performance.json"
    before = performance.read_bytes()
    result = subprocess.run(
        [sys.executable, str(checkout / "scripts" / script), "--quick"],
        env=os.environ | {"PYTHONPATH": str(checkout)}, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr
    assert performance.read_bytes() == before
    return [line for line in result.stdout.splitlines() if line[:2] == "| "][2:]


def has_a_place(checkout: Path, name: str) -> bool:
    """Whether docs/performance.md has one place for a script's table."""
    page = (checkout / "docs" / "performance.md").read_text()
    return page.count(f"<!-- {name}: begin -->") == page.count(f"<!-- {name}: end -->") == 1
