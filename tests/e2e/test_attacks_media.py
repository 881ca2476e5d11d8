"""Attacks on media: cartridges that are removed, cut or full, directories without space."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mover.ndmp.enums import DataHaltReason, ErrorCode, MoverHaltReason, MoverMode, TapeOperation
from mover.ndmp.messages import (
    DataStartBackupRequest,
    DataStartRecoverRequest,
    DataStopRequest,
    MoverContinueRequest,
    MoverSetWindowRequest,
    MoverStopRequest,
    NotifyMoverPausedPost,
    RecoverName,
    TapeCloseRequest,
    TapeMtioRequest,
    TapeWriteRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import ALL, RECORD_SIZE, Job, pairs
from tests.support.servers import Login, Server, ServerError
from tests.support.trees import make_large_file

pytestmark = pytest.mark.slow  # servers of their own, and waits that are meant

MIB = 1 << 20


@pytest.fixture
def source(shm: Path) -> Path:
    root = shm / "source"
    root.mkdir()
    make_large_file(root / "large", size=128 * MIB)
    return root


@pytest.fixture
def small_tapes(shm: Path) -> Iterator[Path]:
    """The cartridges' directory of the server named "server", on a file system of 8 MiB."""
    yield from mounted(shm / "server" / "tapes", "8m")


@pytest.fixture
def small_state(shm: Path) -> Iterator[Path]:
    """The state directory of the server named "server", on a file system of 1 MiB."""
    yield from mounted(shm / "server" / "state", "1m")


def mounted(directory: Path, size: str) -> Iterator[Path]:
    directory.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", directory], check=True)
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


def fill(directory: Path) -> Path:
    """Take all space that is left."""
    path = directory / "fill"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, bytes(4096))
    except OSError:
        return path
    finally:
        os.close(fd)


def cartridge(shm: Path) -> Path:
    (path,) = (shm / "server" / "tapes").glob("*.tap")
    return path


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, 1 * MIB)


def lengthen(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(bytes(5 * MIB))


@pytest.mark.parametrize("change", [remove, cut, lengthen])
def test_a_cartridge_that_somebody_changes_in_a_backup_fails_it(
    change: Callable[[Path], None], local: Server, login: Login, source: Path, shm: Path
) -> None:
    path, written = cartridge(shm), 8 * MIB
    with Job.connect(local, local, login) as job:
        job.connect_data(MoverMode.READ, window_length=written)  # a pause is the moment that a test can be sure of
        job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source))))
        job.tape.wait_for(NotifyMoverPausedPost)
        change(path)
        job.tape.ok(MoverSetWindowRequest(written, ALL - written))
        job.tape.ok(MoverContinueRequest())
        assert job.tape.mover_halted() == MoverHaltReason.MEDIA_ERROR
        assert job.data.data_halted() == DataHaltReason.CONNECT_ERROR
        assert any("removed" in line or "changed by somebody" in line for line in job.data.log())
        job.tape.ok(MoverStopRequest())
        assert job.tape.error(TapeMtioRequest(TapeOperation.EOF, 1)) == ErrorCode.IO_ERR
        assert job.tape.error(TapeCloseRequest()) == ErrorCode.IO_ERR
        job.tape.ok(TapeCloseRequest())
        job.tape.hang_up()
    assert not path.with_name(path.name + ".idx").exists()


def test_a_cartridge_that_is_cut_in_a_recover_is_never_a_wrong_read(
    local: Server, login: Login, source: Path, shm: Path
) -> None:
    with Job.connect(local, local, login) as job:
        job.start_backup(str(source))
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        job.tape.hang_up()
    with Job.connect(local, local, login) as job:
        job.connect_data(MoverMode.WRITE)
        os.truncate(cartridge(shm), 40 * MIB)
        names = (RecoverName(b"", str(shm / "target").encode()),)
        job.data.ok(DataStartRecoverRequest(pairs(FILESYSTEM=str(source)), names, b"dump"))
        assert job.tape.mover_halted() == MoverHaltReason.MEDIA_ERROR
        assert job.data.data_halted() == DataHaltReason.CONNECT_ERROR
        job.tape.hang_up()


@pytest.mark.root
def test_a_file_system_that_is_full_keeps_whole_records(
    small_tapes: Path, make_server: MakeServer, login: Login, source: Path
) -> None:
    server = make_server("server")
    with Job.connect(server, server, login) as job:
        job.start_backup(str(source))
        assert job.tape.mover_halted() == MoverHaltReason.MEDIA_ERROR
        assert job.data.data_halted() == DataHaltReason.CONNECT_ERROR
        assert any("No space left on device" in line for line in job.tape.log())
        job.tape.ok(MoverStopRequest())
        job.data.ok(DataStopRequest())
        job.tape.ok(TapeMtioRequest(TapeOperation.EOF, 1))
        assert job.tape.error(TapeWriteRequest(bytes(RECORD_SIZE))) == ErrorCode.IO_ERR
        job.tape.ok(TapeMtioRequest(TapeOperation.REW, 1))
        job.tape.ok(TapeCloseRequest())
        job.tape.hang_up()
    (path,) = small_tapes.glob("*.tap")
    document = server.ask("tape", "ls", str(path))
    files = document["files"]
    assert isinstance(files, list)
    (file,) = files
    assert file["record-bytes"] == RECORD_SIZE
    assert file["bytes"] == file["records"] * RECORD_SIZE > 6 * MIB
    assert document["warning"] == ""


@pytest.mark.root
def test_a_state_directory_without_space_refuses_moves_and_serves_jobs(
    small_state: Path, make_server: MakeServer, login: Login, source: Path
) -> None:
    server = make_server("server")
    filler = fill(small_state)
    for command in (["unload", "vtl0/drive0"], ["create", "vtl0"]):
        with pytest.raises(ServerError, match=r"disk is full|I/O error"):
            server.ask("tape", *command)
    with Job.connect(server, server, login) as job:
        job.start_backup(str(source))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        job.tape.hang_up()
    filler.unlink()
    server.ask("tape", "unload", "vtl0/drive0")
