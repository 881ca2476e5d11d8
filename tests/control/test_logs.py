"""Logs as lines: what comes from outside, and a standard error that takes nothing."""

import subprocess
import sys

import pytest

_LOG = """
import sys
import structlog
from mover.control.logs import configure_logs
configure_logs(sys.argv[1])
try:
    raise ValueError("inside")
except ValueError:
    structlog.get_logger().exception("login failed", user=sys.argv[2])
print("alive")
"""


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("user", ["a\x1b[31mred", "x\nfaked line", "\u202eback", "\x9b31m", "\udcff"])
def test_what_comes_from_outside_neither_steers_a_terminal_nor_makes_lines(form: str, user: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _LOG, form, user], capture_output=True, text=True, check=True, timeout=30
    )
    first = result.stderr.splitlines()[0]
    assert first.isprintable()
    assert "login failed" in first
    assert "user" in first
    assert "ValueError: inside" in result.stderr.replace("\\n", "\n")


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_full_disk_behind_standard_error_is_no_failure(form: str) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", _LOG, form, "name"], stdout=subprocess.PIPE, stderr=full, check=True, timeout=30
        )
    assert result.stdout == b"alive\n"
