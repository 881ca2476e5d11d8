"""What an upgrade does to a running server: the script of the package with the programs that it calls made up."""

import subprocess
from pathlib import Path

import pytest

TIMEOUT_S = 60.0
OPEN = "vserver session-id\n-       7"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory of programs; deb-systemd-invoke tells what it was asked for."""
    for name, text in {
        "systemctl": 'exit "${INACTIVE:-0}"',
        "mover": 'printf "%s\\n" "$SAID"; exit "${STATUS:-0}"',
        "deb-systemd-invoke": 'echo "$@" >>"$ASKED"',
    }.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("before", "environment", "action"),
    [
        ("", {}, "start"),
        ("1.0", {"INACTIVE": "3"}, "restart"),
        ("1.0", {"SAID": "no sessions"}, "restart"),
        ("1.0", {"SAID": OPEN}, None),
        ("1.0", {"SAID": "tape0 is hung since 2026-01-01 00:00:00\nno sessions"}, None),
        # A configuration that is being edited, or a server that this version does not understand: it may have jobs.
        ("1.0", {"SAID": "", "STATUS": "2"}, None),
        ("1.0", {"SAID": "no sessions", "STATUS": "3"}, None),
    ],
)
def test_an_upgrade_ends_no_session(
    checkout: Path, programs: Path, before: str, environment: dict[str, str], action: str | None
) -> None:
    asked = programs / "asked"
    done = subprocess.run(
        ["sh", "-ec", 'set -- nothing; . "$SCRIPT"; start "$BEFORE"'],
        env={
            "PATH": f"{programs}:/usr/bin:/bin",
            "SCRIPT": str(checkout / "packaging" / "postinst"),
            "ASKED": str(asked),
            "BEFORE": before,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert (asked.read_text() if asked.exists() else None) == (action and f"{action} mover.service\n")
    assert ("systemctl restart mover" in done.stderr) == (action is None)
