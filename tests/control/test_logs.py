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


@pytest.mark.parametrize("form", ["console", "json", "journal"])
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


@pytest.mark.parametrize("form", ["console", "json", "journal"])
def test_a_full_disk_behind_standard_error_is_no_failure(form: str) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", _LOG, form, "name"], stdout=subprocess.PIPE, stderr=full, check=True, timeout=30
        )
    assert result.stdout == b"alive\n"


def test_of_the_journal_each_event_is_one_line_with_its_priority() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _LOG, "journal", 'a "b" = c'], capture_output=True, text=True, check=True, timeout=30
    )
    (line,) = result.stderr.splitlines()
    assert line.startswith(r'<3>login failed user="a \"b\" = c" exception="Traceback (most recent call last):\n')


_LEVELS = """
import structlog
from mover.control.logs import configure_logs
configure_logs("journal")
log = structlog.get_logger()
for level in ("critical", "error", "warning", "info", "debug"):
    getattr(log, level)(level, number=7, path="/a/b", nothing="")
"""


def test_the_levels_are_those_of_the_journal() -> None:
    result = subprocess.run([sys.executable, "-c", _LEVELS], capture_output=True, text=True, check=True, timeout=30)
    assert result.stderr.splitlines() == [
        f'<{number}>{level} number=7 path=/a/b nothing=""'
        for number, level in ((2, "critical"), (3, "error"), (4, "warning"), (6, "info"))
    ]


_AUTO = """
import os, sys
import structlog
from mover.control.logs import configure_logs
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = sys.argv[1].format(device=status.st_dev, inode=status.st_ino)
configure_logs("auto")
structlog.get_logger().info("alive")
"""


@pytest.mark.parametrize(
    ("stream", "is_journal"),
    [("{device}:{inode}", True), ("{device}:1{inode}", False), ("1{device}:{inode}", False), ("", False), ("x", False)],
)
def test_the_form_follows_where_standard_error_goes(stream: str, is_journal: bool) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _AUTO, stream], capture_output=True, text=True, check=True, timeout=30
    )
    assert (result.stderr == "<6>alive\n") is is_journal
    assert "alive" in result.stderr


_SECRET = """
import sys
import structlog
from mover.control.logs import configure_logs
configure_logs(sys.argv[1])

def log_in(password):
    nested = {"password": password}
    raise ValueError("refused")

def whole(words):
    password = "-".join(words)
    try:
        log_in(password)
    except ValueError:
        structlog.get_logger().exception("login failed")
    structlog.get_logger().error("login failed", exc_info=True)
    log_in(password)

whole(["correct", "horse"])
"""


@pytest.mark.parametrize("form", ["console", "json", "journal"])
def test_no_traceback_shows_the_values_of_variables(form: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _SECRET, form], check=False, capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 1
    assert "login failed" in result.stderr
    assert "ValueError: refused" in result.stderr
    assert "correct-horse" not in result.stderr
