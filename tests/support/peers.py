"""Finds the programs that nobody here wrote and that tests check mover against."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

# Where Debian puts what is not on an ordinary user's PATH, and scripts/test what it takes out of packages.
_MORE_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/lib/amanda", str(Path(sys.prefix) / "peers"))
_SCRIPTS = Path(__file__).resolve().parent.parent / "peers"
# What a bare `peer` marker stands for.
ALL = ("restore", "dump", "ndmjob", "strace")


@functools.cache
def find(program: str) -> Path | None:
    """The program's path, or None where it is not installed or does not start.

    A script of this name in tests/peers takes the program's place.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_DIRECTORIES))
    found = shutil.which(program, path=path)
    script = _SCRIPTS / program
    if found is not None and script.exists():
        result = subprocess.run([script, "-v"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
        return script if result.returncode == 0 else None
    return Path(found) if found else None


def require(program: str) -> Path:
    """The program's path, for tests whose `peer` marker names it.

    Raises:
        FileNotFoundError: it is not installed; the marker's hook should have said so before.
    """
    found = find(program)
    if found is None:
        raise FileNotFoundError(f"{program} is not installed; does the test's peer marker name it?")
    return found
