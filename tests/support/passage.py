"""Ways for users who are not the tests' own."""

import stat
import tempfile
from pathlib import Path

import pytest


def let_others_pass(directory: Path) -> None:
    """Let everybody go through to a directory of the tests; skips the test where one above them all is shut.

    pytest, and scripts/test, make theirs for one user alone.
    """
    common = Path(tempfile.gettempdir())
    for each in [directory, *directory.parents]:
        if each.stat().st_mode & stat.S_IXOTH:
            continue
        if common not in each.parents:
            pytest.skip(f"others may not pass {each}")
        each.chmod(0o755)
