"""The Debian package, built once for all tests that look into it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import peers

BUILD_S = 600


@pytest.fixture(scope="session")
def package(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .deb of this checkout, as scripts/make-deb builds it."""
    python = shutil.which("python3", path="/usr/bin")
    if python is None or peers.find("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb and /usr/bin/python3")
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    told = subprocess.run(
        [python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    if told.stdout.strip() != ours:
        pytest.skip(f"the package is for {python}, Python {told.stdout.strip()}, and these tests run under {ours}")
    output = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, checkout / "scripts" / "make_deb.py", "--output", output],
        env={**os.environ, "PYTHONPATH": str(checkout)}, capture_output=True, text=True, timeout=BUILD_S, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip())
