"""A drive that hangs, tgtd stopped in the midst: each operation ends with an error in its time, the drive is nobody's
until it answers again, and operators are told since when."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mover.ndmp.enums import CdbFlag, ErrorCode, MoverHaltReason, MoverMode, TapeMode, TapeOperation
from mover.ndmp.messages import (
    ConfigGetTapeInfoReply,
    ConfigGetTapeInfoRequest,
    DataStartBackupRequest,
    ScsiExecuteCdbReply,
    ScsiExecuteCdbRequest,
    TapeCloseRequest,
    TapeExecuteCdbRequest,
    TapeMtioRequest,
    TapeOpenRequest,
    TapeWriteRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import Job, NdmpClient, pairs
from tests.support.processes import busy_worker, settle
from tests.support.robot import GOOD, ask, close_device, execute_on_tape, open_device, read_sense, ready
from tests.support.servers import Login, Server
from tests.support.tgtd import PROGRAMS, Tgtd
from tests.support.trees import make_large_file

pytestmark = [pytest.mark.slow, pytest.mark.peer(*PROGRAMS), pytest.mark.timeout(300)]

DRIVE = "lto0"


@pytest.fixture
def tgtd(shm: Path) -> Iterator[Tgtd]:
    with Tgtd(shm / "tgtd", tape_mib=256) as started:
        yield started


def make(make_server: MakeServer, tgtd: Tgtd, *keys: str) -> Server:
    lines = ["[[drive]]", f'name = "{DRIVE}"', f'device = "{tgtd.url()}"', *keys]
    return make_server("server", drives=0, load=False, extra="\n".join(lines))


@pytest.fixture
def server(make_server: MakeServer, tgtd: Tgtd) -> Server:
    """Whose drive may take three seconds for anything."""
    return make(make_server, tgtd, "timeout_s = 3")


@contextmanager
def stopped(tgtd: Tgtd) -> Iterator[None]:
    os.kill(tgtd.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(tgtd.pid, signal.SIGCONT)


def drive(server: Server) -> dict[str, Any]:
    drives: Any = server.ask("tape", "show")["drives"]
    (shown,) = drives
    assert isinstance(shown, dict)
    return shown


def hung(server: Server) -> list[str]:
    devices: Any = server.ask("status")["hung-devices"]
    return [each["name"] for each in devices]


def is_told(server: Server, login: Login) -> None:
    """Everyone hears that the drive hangs."""
    shown = drive(server)
    assert shown["state"] == "hung"
    assert shown["hung-since"] > 0
    assert hung(server) == [DRIVE]
    findings: Any = server.ask("doctor", "--config", str(server.config), statuses=(1,))["findings"]
    wrong = [(each["check"], each["subject"]) for each in findings if each["level"] == "error"]
    assert wrong == [("hung devices", f"drive {DRIVE}")]
    with NdmpClient(server.address, login=login) as client:
        assert client.error(TapeOpenRequest(DRIVE.encode(), TapeMode.RDWR)) == ErrorCode.DEVICE_BUSY_ERR
        client.hang_up()


def comes_back(server: Server, login: Login) -> None:
    settle(lambda: drive(server)["state"] == "closed", "it answers again", 60)
    assert hung(server) == []
    with NdmpClient(server.address, login=login) as client:
        client.ok(TapeOpenRequest(DRIVE.encode(), TapeMode.RDWR))
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
        client.ok(TapeCloseRequest())
        client.hang_up()


def test_an_operation_that_hangs(server: Server, tgtd: Tgtd, login: Login) -> None:
    with NdmpClient(server.address, login=login) as client:
        client.ok(TapeOpenRequest(DRIVE.encode(), TapeMode.RDWR))
        client.ok(TapeWriteRequest(b"record" * 1000))
        with stopped(tgtd):
            assert client.error(TapeMtioRequest(TapeOperation.REW, 1)) == ErrorCode.IO_ERR
            client.hang_up()
            settle(lambda: drive(server)["state"] == "hung", "it was not closed in order", 30)
            is_told(server, login)
    comes_back(server, login)


def test_a_job_whose_drive_hangs(server: Server, tgtd: Tgtd, login: Login, shm: Path) -> None:
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=16 << 20)

    with Job.connect(server, server, login, drive=DRIVE) as job:
        job.connect_data(MoverMode.READ)
        with stopped(tgtd):
            job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source))))
            assert job.tape.mover_halted() == MoverHaltReason.MEDIA_ERROR
            job.data.close()
            settle(lambda: drive(server)["state"] == "hung", "the connection let it go", 30)
            is_told(server, login)
    comes_back(server, login)


def in_drive_s(server: Server) -> float:
    """How long the drive was in calls."""
    shown: Any = server.ask("top", "--once")["drives"]
    (row,) = shown
    return float(row["io-seconds"])


def test_a_mover_whose_worker_hangs_with_its_drive(
    make_server: MakeServer, tgtd: Tgtd, login: Login, shm: Path
) -> None:
    """As in a system call of the st driver, which no signal interrupts: the worker cannot tell, and control sees it."""
    server = make(make_server, tgtd, "timeout_s = 30")  # the worker itself would say so then
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=16 << 20)
    with Job.connect(server, server, login, drive=DRIVE) as job:
        job.connect_data(MoverMode.READ, record_size=1 << 20)
        before = in_drive_s(server)
        with stopped(tgtd):
            job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source))))
            settle(lambda: in_drive_s(server) > before + 1, "the mover waits for its drive", 25)
            os.kill(busy_worker(server, "tape"), signal.SIGSTOP)
            assert job.tape.mover_halted(deadline_s=150) == MoverHaltReason.INTERNAL_ERROR
            is_told(server, login)
            job.data.close()
    comes_back(server, login)


def test_opening_a_drive_that_hangs(server: Server, tgtd: Tgtd, login: Login) -> None:
    with NdmpClient(server.address, login=login) as client:
        with stopped(tgtd):
            assert client.error(TapeOpenRequest(DRIVE.encode(), TapeMode.RDWR)) in {
                ErrorCode.IO_ERR, ErrorCode.DEVICE_BUSY_ERR,
            }  # fmt: skip
        client.hang_up()
    settle(lambda: drive(server)["state"] == "closed", "it answers again", 60)
    comes_back(server, login)


def test_a_drive_killed_with_its_session_is_looked_at(make_server: MakeServer, tgtd: Tgtd, login: Login) -> None:
    """A tape worker that dies leaves a drive that answers: nobody waits for long."""
    server = make(make_server, tgtd)
    with NdmpClient(server.address, login=login) as client:
        client.ok(TapeOpenRequest(DRIVE.encode(), TapeMode.RDWR))
        session: Any = server.ask("probe")["sessions"]
        (worker,) = session[0]["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        settle(lambda: client.error(TapeMtioRequest(TapeOperation.TUR, 1)) == ErrorCode.DEV_NOT_OPEN_ERR, "it is lost")
        client.hang_up()
    comes_back(server, login)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_commands_to_an_open_drive(version: int, server: Server, login: Login) -> None:
    with NdmpClient(server.address, login=login, version=version) as client:
        client.ok(TapeOpenRequest(DRIVE.encode(), TapeMode.RDWR))
        reply = execute_on_tape(client, "12 00 00 00 60 00")
        assert (reply.status, reply.datain[8:32]) == (0, b"TESTDRV ULT3580-TD4     ")
        assert execute_on_tape(client, "12 01 80 00 ff 00").datain[4:].strip() == b"DRV0000001"
        for cdb in (
            "0a 00 00 00 10 00",
            "11 01 00 00 01 00",
            "15 00 00 00 00 00",
            "1b 00 00 00 00 00",
            "3b" + "00" * 9,
        ):
            error = client.error(TapeExecuteCdbRequest(0, 0, 0, bytes.fromhex(cdb)))
            assert error == ErrorCode.NOT_SUPPORTED_ERR, cdb
        client.ok(TapeWriteRequest(b"record" * 1000))
        assert execute_on_tape(client, "01 00 00 00 00 00").status == 0  # REWIND: the worker's
        unknown = execute_on_tape(client, "ff 00 00 00 00 00")
        assert (unknown.status, read_sense(unknown.ext_sense).key) == (2, 5)
        client.ok(TapeCloseRequest())
        client.hang_up()


def test_commands_that_time_out(server: Server, tgtd: Tgtd, login: Login) -> None:
    with NdmpClient(server.address, login=login) as client:
        client.ok(TapeOpenRequest(DRIVE.encode(), TapeMode.READ))
        with stopped(tgtd):
            assert client.error(TapeExecuteCdbRequest(0, 500, 0, bytes(6))) == ErrorCode.TIMEOUT_ERR
        client.hang_up()
    comes_back(server, login)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_the_scsi_interface_has_a_drive_that_nobody_has_open(version: int, server: Server, login: Login) -> None:
    with NdmpClient(server.address, login=login, version=version) as client:
        open_device(client, DRIVE)
        for _ in range(10):
            if ready(client) == GOOD:
                break
        assert ask(client, "12 00 00 00 60 00")[0] == 1
        parameters = bytes(4) + bytes([0, 0, 0, 0]) + bytes(4)
        request = ScsiExecuteCdbRequest(
            CdbFlag.DATA_OUT, 0, 0, bytes([0x15, 0x10, 0, 0, len(parameters), 0]), parameters
        )
        reply = client.ok(request)
        assert isinstance(reply, ScsiExecuteCdbReply)
        assert reply.status in {0, 2}
        with NdmpClient(server.address, login=login) as other:
            assert other.error(TapeOpenRequest(DRIVE.encode(), TapeMode.READ)) == ErrorCode.DEVICE_BUSY_ERR
            other.hang_up()
        close_device(client)
        client.ok(TapeOpenRequest(DRIVE.encode(), TapeMode.READ))
        client.ok(TapeCloseRequest())
        client.hang_up()


def test_the_list_of_drives(server: Server, login: Login) -> None:
    with NdmpClient(server.address, login=login) as client:
        reply = client.ok(ConfigGetTapeInfoRequest())
        assert isinstance(reply, ConfigGetTapeInfoReply)
        (info,) = reply.tape_info
        assert info.model == b"TESTDRV ULT3580-TD4"
        pairs = {pair.name: pair.value for pair in info.caplist[0].capability}
        assert (pairs[b"SERIAL_NUMBER"], pairs[b"EXECUTE_CDB"]) == (b"DRV0000001", b"b")
        client.hang_up()


def test_a_drive_that_is_not_there_is_listed_as_configured(make_server: MakeServer, tgtd: Tgtd, login: Login) -> None:
    server = make(make_server, tgtd)
    tgtd.kill()
    with NdmpClient(server.address, login=login) as client:
        reply = client.ok(ConfigGetTapeInfoRequest())
        assert isinstance(reply, ConfigGetTapeInfoReply)
        assert [info.caplist[0].device for info in reply.tape_info] == [DRIVE.encode()]
        client.hang_up()
