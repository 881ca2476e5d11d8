"""The real st, sg and ch drivers, in a guest that boots Debian's kernel on this host's own files.

One boot does everything (tests/peers/st-guest.sh), because the guest is emulated and takes minutes; each test looks at
one stage. Where the guest does not come through, because there is no emulator, no kernel to download or the host is too
slow, the tests are skipped with the reason, under CI=true too: that says nothing about mover.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.e2e.test_ndmjob_conformance import compile_shim
from tests.support import peers

PROGRAMS = (
    "qemu-system-x86_64", "busybox", "cpio", "modprobe", "iscsistart", "tgtd", "mt", "mtx", "sg_inq", "ndmjob", "cc",
)  # fmt: skip
STAGES = ("load", "drive", "server", "job", "operators")
OF_THE_SERVER = {"server", "job", "operators"}
TOO_SLOW = "did not fork in"  # a worker, within the server's own deadline
LIMIT_S = 900
FETCH_S = 300  # the kernel's package
GUEST_FAILED = 125

# root: the guest reads this host's files as who starts it does.
pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(FETCH_S + LIMIT_S + 60)]


@pytest.fixture(scope="module")
def shared(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the guest has left its logs and statuses in."""
    missing = [program for program in PROGRAMS if peers.find(program) is None]
    if missing:
        pytest.skip(f"no guest: not installed: {', '.join(missing)}")
    runner = checkout.parent / "shared" / "peers" / "guest-run.sh"
    if not runner.exists():
        pytest.skip("no guest: peers/guest-run.sh is not beside the checkout")
    directory = tmp_path_factory.mktemp("guest")
    shutil.copy(checkout / "tests" / "peers" / "st-guest.sh", directory)
    compile_shim(directory, "-DSKIP_BWR")
    command = f"bash {directory}/st-guest.sh {checkout} {sys.executable} {directory}"
    said = directory / "runner.log"
    with said.open("wb") as output:
        runs = psutil.Popen(
            [runner, directory, command],
            env={**os.environ, "LIMIT": str(LIMIT_S)},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            status = runs.wait(FETCH_S + LIMIT_S)
        except psutil.TimeoutExpired:
            pytest.skip(f"the guest did not come through in {FETCH_S + LIMIT_S} s")
        finally:
            if runs.is_running():
                for process in (*runs.children(recursive=True), runs):
                    process.kill()
                runs.wait()
    if status == GUEST_FAILED:
        pytest.skip(f"the guest did not come through: {said.read_text(errors='replace')[-800:]}")
    return directory


@pytest.mark.parametrize("stage", STAGES)
def test_in_the_guest(shared: Path, stage: str) -> None:
    log, status = shared / f"{stage}.log", shared / f"{stage}.status"
    said = log.read_text(errors="replace")[-6000:] if log.exists() else "it did not begin"
    ended = status.read_text().strip() if status.exists() else "it did not end"
    server = shared / "serve.log"
    slow = server.exists() and TOO_SLOW in server.read_text(errors="replace")
    if ended != "0" and slow and stage in OF_THE_SERVER:
        pytest.skip("the guest is too slow for the server's own deadlines")
    assert ended == "0", f"{stage}:\n{said}"
