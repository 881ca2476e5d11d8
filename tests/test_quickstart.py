"""scripts/quickstart, as somebody runs it who has just cloned the project; its environment is the tests' own."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import trees

TIMEOUT_S = 100
INTERRUPTED = "quickstart: interrupted; the servers are stopped and everything is removed"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short path: a unix socket lies below it."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def command(checkout: Path, *arguments: str | Path) -> list[str | Path]:
    return [sys.executable, checkout / "scripts/quickstart.py", *arguments]


def environment(checkout: Path, scratch: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout), "TMPDIR": str(scratch)}


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--three-way"]], ids=["local", "three-way"])
def test_a_tree_comes_back(options: list[str], scratch: Path, tmp_path: Path, checkout: Path) -> None:
    made = trees.make_tree(tmp_path / "tree", wide=300, depth=10, large_xattrs=True)
    result = subprocess.run(
        command(checkout, *options, tmp_path / "tree"),
        env=environment(checkout, scratch), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1] == f"quickstart: {made.entries} entries identical, 0 skipped"
    assert "processes, over" in result.stdout
    go_on = [line.strip() for line in lines[lines.index("To go on:") :] if " tape " in line or " list " in line]
    assert len(go_on) == 3
    for line in go_on:
        subprocess.run(line, shell=True, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)


@pytest.mark.slow
@pytest.mark.root
def test_attributes_that_only_root_may_set_come_back(scratch: Path, tmp_path: Path, checkout: Path) -> None:
    (tmp_path / "tree").mkdir()
    os.setxattr(tmp_path / "tree", "trusted.overlay.opaque", b"y")
    (tmp_path / "tree" / "file").touch()
    os.setxattr(tmp_path / "tree" / "file", "trusted.kept", b"kept")
    result = subprocess.run(
        command(checkout, tmp_path / "tree"),
        env=environment(checkout, scratch), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr
    assert result.stdout.splitlines()[-1] == "quickstart: 2 entries identical, 0 skipped"


@pytest.mark.slow
@pytest.mark.root
def test_of_anothers_tree_all_is_compared_but_what_a_user_may_not_restore(
    scratch: Path, tmp_path: Path, checkout: Path
) -> None:
    tree = scratch / "tree"
    (tree / "directory").mkdir(parents=True)
    (tree / "closed").mkdir()
    for name, mode in {
        "file": 0o644, "directory/setuid": 0o4755, "attributes": 0o644, "capable": 0o755, "secret": 0o600,
        "only-for-others": 0o004,
    }.items():  # fmt: skip
        (tree / name).write_text(name)
        os.chown(tree / name, 1000, 1000)
        (tree / name).chmod(mode)
    os.link(tree / "file", tree / "link")
    os.symlink("file", tree / "symlink")
    os.mknod(tree / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.setxattr(tree / "attributes", "user.kept", b"kept")
    os.setxattr(tree / "capable", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    (tree / "closed").chmod(0o700)
    for path in (tree, tree / "directory", tree / "closed", tree / "symlink"):
        os.chown(path, 1000, 1000, follow_symlinks=False)
    scratch.chmod(0o755)
    (scratch / "work").mkdir()
    # A user namespace makes us an ordinary user with the files of root, who may be the only one to reach the
    # interpreter.
    ordinary = ["unshare", "--user", "--map-user=1001", "--map-group=1001", "--"]
    result = subprocess.run(
        [*ordinary, *command(checkout, tree)],
        env={**environment(checkout, scratch / "work"), "HOME": "/nonexistent"},
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1] == "quickstart: 8 entries identical, 4 skipped"
    at = lines.index("left out of the comparison, because it cannot be restored here:")
    assert lines[at + 1 : at + 4] == [
        "  attribute security.capability: 1 entries",
        "  owner and group: 8 entries",
        "  set-user-ID and set-group-ID bits: 1 entries",
    ]
    at = lines.index("skipped:")
    assert lines[at + 1 : at + 5] == [
        "  closed: may not be read",
        "  null: a device, which only root may make",
        "  only-for-others: its owner may not read it, and recovered it is ours",
        "  secret: may not be read",
    ]
    assert "entries differ" not in result.stderr


@pytest.mark.slow
def test_interrupted_it_leaves_nothing(scratch: Path, tmp_path: Path, checkout: Path) -> None:
    trees.make_tree(tmp_path / "tree", wide=10, depth=2, huge_sparse=False)
    with subprocess.Popen(
        command(checkout, tmp_path / "tree"),
        env=environment(checkout, scratch), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        pids = []
        for line in process.stdout:
            pids += [int(pid) for pid in re.findall(r"pid (\d+)", line)]
            if line.startswith("$ mover backup"):
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == INTERRUPTED
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list(scratch.iterdir()) == []


# Runs scripts/quickstart.py, interrupts it within the very call that starts `mover backup`, and tells at its end
# whether that process is still there.
INTERRUPTED_AT_THE_START = """
import os, runpy, signal, subprocess, sys
started = []
class Popen(subprocess.Popen):
    def __init__(self, command, *arguments, **options):
        super().__init__(command, *arguments, **options)
        if "backup" in command:
            started.append(self.pid)
            os.kill(os.getpid(), signal.SIGINT)
subprocess.Popen = Popen
del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("started", len(started), "left", sum(os.path.exists(f"/proc/{pid}") for pid in started))
"""


@pytest.mark.slow
def test_interrupted_while_a_job_starts_it_waits_for_it(scratch: Path, tmp_path: Path, checkout: Path) -> None:
    trees.make_tree(tmp_path / "tree", wide=10, depth=2, huge_sparse=False)
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT_THE_START, *command(checkout, tmp_path / "tree")[1:]],
        env=environment(checkout, scratch), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout.splitlines()[-1]) == (1, "started 1 left 0")
    assert result.stderr.splitlines()[-1] == INTERRUPTED
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("what", ["missing", "file"])
def test_a_wrong_directory_is_one_line(what: str, scratch: Path, tmp_path: Path, checkout: Path) -> None:
    (tmp_path / "file").touch()
    result = subprocess.run(
        command(checkout, tmp_path / what),
        env=environment(checkout, scratch), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"quickstart: {tmp_path / what}: not a directory that can be read\n"
    assert list(scratch.iterdir()) == []


def fresh_clone(checkout: Path, place: Path) -> Path:
    """What the first minutes of a clone need."""
    clone = place / "clone"
    shutil.copytree(checkout / "scripts", clone / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(checkout / name, clone)
    shutil.copytree(checkout / "mover", clone / "mover", ignore=shutil.ignore_patterns("__pycache__"))
    return clone


def without_network() -> dict[str, str]:
    """pip finds nothing by itself, and its index refuses at once."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0"}


@pytest.mark.slow
@pytest.mark.parametrize("script", ["quickstart", "test"])
def test_a_fresh_clone_without_network_is_one_line(script: str, tmp_path: Path, checkout: Path) -> None:
    clone = fresh_clone(checkout, tmp_path)
    result = subprocess.run(
        [clone / "scripts" / script], env=without_network(), capture_output=True, text=True, timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    what = {"quickstart": "installing the project", "test": "updating pip"}[script]
    *steps, last = result.stderr.splitlines()
    assert last == f"{script}: {what} failed: pip reached no package index that has what is needed; is there a network?"
    assert all(step.startswith((f"{script}: making ", f"{script}: installing ")) for step in steps)


@pytest.mark.parametrize("script", ["quickstart", "test"])
def test_help_needs_no_environment(script: str, tmp_path: Path, checkout: Path) -> None:
    clone = fresh_clone(checkout, tmp_path)
    result = subprocess.run(
        [clone / "scripts" / script, "--help"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: scripts/{script} [")
    assert not (clone / ".venv").exists()


def test_wrong_usage_is_status_2(scratch: Path, checkout: Path) -> None:
    result = subprocess.run(
        command(checkout, "--four-way"),
        env=environment(checkout, scratch), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == "scripts/quickstart: error: unrecognized arguments: --four-way"
