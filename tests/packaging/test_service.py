"""The Debian package under a systemd of its own: started, given jobs, reloaded, watched, stopped, removed.

One start of systemd does everything (tests/peers/systemd-guest.sh); each test looks at one stage. It runs in the guest
that boots Debian's kernel and, because the guest is emulated and takes minutes, first of all in namespaces on this
host's kernel. Where either does not come through, because there is no emulator, no kernel to download, no right to make
namespaces, or the host is too slow, its tests are skipped with the reason: that says nothing about mover.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support import peers
from tests.support.documents import code_of

STAGES = (
    "boot", "install", "configure", "local_job", "reload", "three_way", "watchdog", "upgrade", "credential", "wrong",
    "tighter", "stop", "remove", "by_the_document", "from_a_checkout",
)  # fmt: skip
ON_THE_HOST_ALONE = {  # an emulated processor takes too long
    "upgrade", "credential", "wrong", "tighter", "remove", "by_the_document", "from_a_checkout",
}  # fmt: skip
SCRIPT = "systemd-guest.sh"
SYSTEMD = Path("/lib/systemd/systemd")
FETCH_S = 300  # the kernel's package
LIMIT_S = {"host": 600, "guest": 900}
GUEST_FAILED = 125
PROGRAMS = ("unshare", "nsenter", "dpkg", "systemctl", "ip")
PROGRAMS_OF_THE_GUEST = ("qemu-system-x86_64", "busybox", "cpio", "modprobe")

# root: namespaces, and the guest reads this host's files as who starts it does.
pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(FETCH_S + max(LIMIT_S.values()) + 900)]


def on_the_host(script: str) -> list[str]:
    """In namespaces of its own, with nothing but a loopback interface, on this kernel."""
    return [
        "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--cgroup", "--net", "--ipc", "--uts", "--kill-child",
        "bash", "-c", f"ip link set lo up && mount -t tmpfs run /run && {script}",
    ]  # fmt: skip


def in_the_guest(script: str, runner: Path, directory: Path) -> list[str]:
    """In the guest, whose kernel has overlay as a module."""
    modules = "$(sed 's/.*mover.mods=\\([^ ]*\\).*/\\1/' /proc/cmdline)"
    return [str(runner), str(directory), f"modprobe -d {modules} overlay && {script}"]


@pytest.fixture(scope="module", params=["host", "guest"])
def shared(
    request: pytest.FixtureRequest, checkout: Path, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The directory in which the stages have left their logs and statuses."""
    where: str = request.param
    wanted = PROGRAMS + (PROGRAMS_OF_THE_GUEST if where == "guest" else ())
    missing = [program for program in wanted if peers.find(program) is None]
    if missing or not SYSTEMD.exists():
        pytest.skip(f"not installed: {', '.join(missing) or SYSTEMD}")
    directory = tmp_path_factory.mktemp(where)
    stages = [each for each in STAGES if where == "host" or each not in ON_THE_HOST_ALONE]
    script = f"STAGES='{' '.join(stages)}' bash {shutil.copy(checkout / 'tests' / 'peers' / SCRIPT, directory)}"
    script += f" {_repacked(package, directory) if where == 'guest' else shutil.copy(package, directory)} {directory}"
    if where == "host":
        _leave_what_is_typed(checkout, package, directory / "typed")
    runner = checkout.parent / "shared" / "peers" / "guest-run.sh"
    if where == "guest" and not runner.exists():
        pytest.skip("no guest: peers/guest-run.sh is not beside the checkout")
    command = on_the_host(script) if where == "host" else in_the_guest(script, runner, directory)
    said = directory / "runner.log"
    limit_s = FETCH_S + LIMIT_S[where]
    with said.open("wb") as output:
        runs = psutil.Popen(
            command,
            env={**os.environ, "LIMIT": str(LIMIT_S[where]), "MEM": "2048"},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            status = runs.wait(limit_s)
        except psutil.TimeoutExpired:
            pytest.skip(f"{where}: did not come through in {limit_s} s")
        finally:
            if runs.is_running():
                for process in (*runs.children(recursive=True), runs):
                    process.kill()
                runs.wait()
    if (where == "guest" and status == GUEST_FAILED) or not (directory / "boot.status").exists():
        pytest.skip(f"{where}: systemd did not start: {said.read_text(errors='replace')[-800:]}")
    return directory


def _leave_what_is_typed(checkout: Path, package: Path, directory: Path) -> None:
    """The commands of docs/install.md, for the stages that run them."""
    (directory / "dist").mkdir(parents=True)
    shutil.copy(package, directory / "dist")
    build, install = code_of("install.md", "The Debian package")
    assert build == "scripts/make-deb\n"  # which has made the package
    restart, user = code_of("install.md", "The first user and the first job")
    (configuration,) = code_of("install.md", "The first user and the first job", "toml")
    (service,) = code_of("install.md", "From a checkout")
    (edit,) = code_of("install.md", "The service")
    for name, text in (
        ("package", install), ("restart", restart), ("user", user), ("configuration", configuration),
        ("service", service), ("edit", edit),
    ):  # fmt: skip
        (directory / name).write_text(text)
    # The root of the stages is this host's own file system, without others that are mounted.
    if (checkout / ".venv" / "bin" / "mover").exists() and os.stat(sys.base_prefix).st_dev == os.stat("/").st_dev:
        (directory / "checkout").write_text(str(checkout))


def _repacked(package: Path, directory: Path) -> Path:
    """The package without its compression, for a processor that is emulated."""
    tree = directory / "package"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True, timeout=FETCH_S)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, directory / package.name],
        stdout=subprocess.DEVNULL, check=True, timeout=FETCH_S,
    )  # fmt: skip
    shutil.rmtree(tree)
    return directory / package.name


@pytest.mark.parametrize("stage", STAGES)
def test_stage(shared: Path, stage: str) -> None:
    if stage in ON_THE_HOST_ALONE and "guest" in shared.name:
        pytest.skip("on the host alone")
    if stage == "from_a_checkout" and not (shared / "typed" / "checkout").exists():
        pytest.skip("the environment of the checkout, or its Python, lies on a file system that the stages do not see")
    log, status = shared / f"{stage}.log", shared / f"{stage}.status"
    said = log.read_text(errors="replace")[-6000:] if log.exists() else "it did not begin"
    ended = status.read_text().strip() if status.exists() else "it did not end"
    assert ended == "0", f"{stage}:\n{said}"
