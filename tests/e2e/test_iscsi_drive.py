"""Jobs through a server whose drive is a real one over iSCSI: tgtd's."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.enums import DataHaltReason, ErrorCode, MoverHaltReason, MoverMode, TapeMode, TapeOperation
from mover.ndmp.messages import (
    DataStartBackupRequest,
    TapeCloseRequest,
    TapeMtioRequest,
    TapeOpenRequest,
    TapeReadReply,
    TapeReadRequest,
    TapeWriteRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import Job, NdmpClient, pairs
from tests.support.servers import Login, Server, mover_command
from tests.support.tgtd import PROGRAMS, Tgtd
from tests.support.trees import make_large_file, make_small_files

pytestmark = [pytest.mark.slow, pytest.mark.peer(*PROGRAMS, "iscsi-ls"), pytest.mark.timeout(180)]

DRIVE = "t0"
MIB = 1 << 20
CHAP = ("operator", "a-secret-of-14")


def drive_config(tgtd: Tgtd, *more: str) -> str:
    return "\n".join(["[[drive]]", f'name = "{DRIVE}"', f'device = "{tgtd.url()}"', *more])


@pytest.fixture
def tgtd(shm: Path) -> Iterator[Tgtd]:
    with Tgtd(shm / "tgtd", tape_mib=256) as started:
        yield started


@pytest.fixture
def server(make_server: MakeServer, tgtd: Tgtd) -> Server:
    return make_server("server", drives=0, extra=drive_config(tgtd))


@pytest.fixture
def source(shm: Path) -> Path:
    root = shm / "source"
    make_small_files(root, files=300, directories=5)
    make_large_file(root / "large", size=8 * MIB)
    return root


def run(server: Server, login: Login, source: Path, target: Path | None) -> None:
    """A backup, or with a target a recover."""
    with Job.connect(server, server, login, drive=DRIVE) as job:
        if target is None:
            job.start_backup(str(source), HIST="y")
        else:
            job.start_recover(str(source), str(target))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        job.tape.ok(TapeCloseRequest())
        job.data.hang_up()


def test_a_backup_and_its_recover(server: Server, login: Login, source: Path, shm: Path) -> None:
    run(server, login, source, None)
    run(server, login, source, shm / "target")
    assert compare_trees(source, shm / "target").differences == []


def test_fixed_blocks(make_server: MakeServer, tgtd: Tgtd, login: Login, source: Path, shm: Path) -> None:
    """Records of several blocks each, and a record that is no multiple of them is refused."""
    server = make_server("server", drives=0, extra=drive_config(tgtd, 'block_size = "4KiB"'))
    run(server, login, source, None)
    run(server, login, source, shm / "target")
    assert compare_trees(source, shm / "target").differences == []
    with NdmpClient(server.address, login=login) as client:
        client.ok(TapeOpenRequest(DRIVE.encode(), TapeMode.RDWR))
        assert client.error(TapeWriteRequest(bytes(1000))) == ErrorCode.ILLEGAL_ARGS_ERR
        client.hang_up()


def test_tape_operations(server: Server, login: Login) -> None:
    with NdmpClient(server.address, login=login) as client:
        client.ok(TapeOpenRequest(DRIVE.encode(), TapeMode.RDWR))
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
        for size in (512, 20_000, MIB):
            client.ok(TapeWriteRequest(bytes([size % 251]) * size))
        client.ok(TapeMtioRequest(TapeOperation.EOF, 1))
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
        for size in (512, 20_000, MIB):
            reply = client.ok(TapeReadRequest(MIB))
            assert isinstance(reply, TapeReadReply)
            assert bytes(reply.data_in) == bytes([size % 251]) * size
        assert client.error(TapeReadRequest(MIB)) == ErrorCode.EOF_ERR
        client.ok(TapeCloseRequest())
        client.hang_up()


@pytest.mark.parametrize("secret", [CHAP[1], "another-secret"], ids=["right", "wrong"])
def test_chap(make_server: MakeServer, shm: Path, login: Login, secret: str) -> None:
    with Tgtd(shm / "chap", chap=CHAP) as tgtd:
        keys = (f'chap_user = "{CHAP[0]}"', f'chap_secret = "{secret}"')
        server = make_server("server", drives=0, extra=drive_config(tgtd, *keys))
        with NdmpClient(server.address, login=login) as client:
            request = TapeOpenRequest(DRIVE.encode(), TapeMode.READ)
            if secret == CHAP[1]:
                client.ok(request)
            else:
                assert client.error(request) == ErrorCode.PERMISSION_ERR
            client.hang_up()
        assert secret not in server.log.read_text()


def test_a_target_that_dies_ends_the_job(server: Server, tgtd: Tgtd, login: Login, shm: Path) -> None:
    """The mover halts with an error that says so, nothing hangs, and the next open is refused."""
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=16 * MIB)
    with Job.connect(server, server, login, drive=DRIVE) as job:
        job.connect_data(MoverMode.READ)
        os.kill(tgtd.pid, signal.SIGSTOP)  # so that the job is not over before the target dies
        job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source))))
        tgtd.kill()
        assert job.tape.mover_halted() == MoverHaltReason.MEDIA_ERROR
        job.data.close()
    with NdmpClient(server.address, login=login) as client:
        error = client.error(TapeOpenRequest(DRIVE.encode(), TapeMode.RDWR))
        assert error in {ErrorCode.IO_ERR, ErrorCode.DEVICE_BUSY_ERR}  # busy as long as it is known not to answer
        client.hang_up()
    assert "session with the target is lost" in server.log.read_text()


def test_images_behind_each_other_and_single_files_of_one(
    server: Server, login: Login, source: Path, shm: Path
) -> None:
    """The built-in DMA goes behind what is on the tape, and comes back to a file of it by direct access."""
    password = shm / "password"
    password.touch(mode=0o600)
    password.write_text(login.password)
    job = ["--host", server.address, "--drive", DRIVE, "--user", login.user, "--password-file", str(password)]
    job += ["--catalogue", str(shm / "catalogue")]
    for _ in range(2):
        ran = subprocess.run(
            [*mover_command(), "backup", *job, str(source), "--record-size", "10KiB"],
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
    assert "tape file 1" in ran.stdout + ran.stderr
    names = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()][-3:]
    target = shm / "target"
    ran = subprocess.run(
        [*mover_command(), "recover", *job, "--job", "2", "--destination", str(target), *map(str, names)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert [(target / name).read_bytes() for name in names] == [(source / name).read_bytes() for name in names]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_conformance(version: int, server: Server, login: Login, shm: Path) -> None:
    """What a strict client asks of a drive: on one that tells neither its place nor its residuals."""
    password = shm / "password"
    password.touch(mode=0o600)
    password.write_text(login.password)
    ran = subprocess.run(
        [
            *mover_command(), "conformance", server.address, "--user", login.user, "--password-file", str(password),
            "--tape-device", DRIVE, "--write", "--versions", str(version), "--groups", "tape", "--timeout", "100",
            "--json",
        ],
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
