"""The changer of a virtual library as DMAs and operators use it, in versions 2, 3 and 4.

Source: states.md section 6; SMC-3.
"""

import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.admin.client import AdminClient
from mover.admin.tapes import TapeShow, TapeShowReply, TapeUnload
from mover.dma.compare import compare_trees
from mover.ndmp.enums import (
    CdbFlag,
    DataHaltReason,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    TapeAttribute,
    TapeMode,
    TapeOperation,
)
from mover.ndmp.messages import (
    ConfigGetScsiInfoReply,
    ConfigGetScsiInfoRequest,
    ConfigGetTapeInfoReply,
    ConfigGetTapeInfoRequest,
    ScsiCloseRequest,
    ScsiExecuteCdbReply,
    ScsiExecuteCdbRequest,
    ScsiGetStateReply,
    ScsiGetStateRequest,
    ScsiOpenRequest,
    ScsiResetBusRequest,
    ScsiResetDeviceRequest,
    ScsiSetTargetRequest,
    TapeCloseRequest,
    TapeMtioRequest,
    TapeOpenRequest,
)
from tests.support.ndmp_client import Job, NdmpClient
from tests.support.robot import (
    DRIVE,
    GOOD,
    MAIL,
    SLOT,
    Sense,
    ask,
    close_device,
    execute,
    inventory,
    move,
    open_device,
    ready,
    sense,
)
from tests.support.servers import Login, Server, ServerError, write_config

pytestmark = pytest.mark.slow

CHANGER = b"vtl0/changer"
VERSIONS = [2, 3, 4]
REMOVAL_PREVENTED, SOURCE_EMPTY, DESTINATION_FULL = Sense(5, 0x53, 2), Sense(5, 0x3B, 0x0E), Sense(5, 0x3B, 0x0D)
LOAD_FAILED, BAD_ADDRESS = Sense(5, 0x53, 0), Sense(5, 0x21, 1)
MEDIUM_CHANGED, IMPORTED = Sense(6, 0x28, 0), Sense(6, 0x28, 1)


@pytest.fixture(scope="module")
def shm() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="mover-e2e-", dir="/dev/shm"))
    (directory / "source").mkdir()
    for number in range(20):
        (directory / "source" / f"file{number}").write_bytes(b"content" * number * 1000)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def server(shm: Path, login: Login) -> Iterator[Server]:
    """A library with two drives and four cartridges, a second library, and a drive of its own."""
    (shm / "tapes2").mkdir()
    extra = (
        f'[[library]]\nname = "vtl1"\ndirectory = "{shm}/tapes2"\ndrives = 1\nslots = 1\nimport_export = 0\n'
        f'[[drive]]\nname = "nst0"\ndevice = "virtual:{shm}/own.tap"\n'
    )
    with Server(write_config(shm / "server", login, volumes={"shm": shm}, drives=2, extra=extra)) as running:
        running.ask("tape", "create", "vtl0", "--count", "4")
        yield running


@pytest.fixture(autouse=True)
def home(server: Server) -> Iterator[None]:
    """Every cartridge in its slot, before and after."""
    with AdminClient(server.ready.admin_socket) as operator:

        def there() -> dict[str, str]:
            shown = operator.ask(TapeShow())
            assert isinstance(shown, TapeShowReply)
            return {each.barcode: each.drive for each in shown.cartridges if each.library == "vtl0"}

        assert there() == dict.fromkeys(("VTL00001", "VTL00002", "VTL00003", "VTL00004"), "")
        yield
        for drive in there().values():
            if drive:
                operator.ask(TapeUnload(drive))


@pytest.fixture(params=VERSIONS)
def client(request: pytest.FixtureRequest, server: Server, login: Login) -> Iterator[NdmpClient]:
    with NdmpClient(server.address, login=login, version=request.param) as client:
        yield client
        client.hang_up()


@pytest.fixture
def other(server: Server, login: Login) -> Iterator[NdmpClient]:
    with NdmpClient(server.address, login=login) as client:
        yield client
        client.hang_up()


FULL = {SLOT + number: f"VTL0000{number + 1}" for number in range(4)}


def address(client: NdmpClient) -> tuple[int, int, int]:
    reply = client.ok(ScsiGetStateRequest())
    assert isinstance(reply, ScsiGetStateReply)
    return reply.target_controller, reply.target_id, reply.target_lun


@pytest.mark.parametrize("version", [2, 3])
def test_a_bus_is_scanned(version: int, server: Server, login: Login) -> None:
    with NdmpClient(server.address, login=login, version=version) as client:
        open_device(client, "vtl0")
        assert address(client) == (-1, -1, -1)
        assert client.error(ScsiExecuteCdbRequest(0, 0, 0, bytes(6))) == ErrorCode.NO_DEVICE_ERR
        found = {}
        for controller in range(5):
            for target in range(4):
                error = client.error(ScsiSetTargetRequest(b"", controller, target, 0))
                if error == ErrorCode.NO_ERR:
                    assert address(client) == (controller, target, 0)
                    data = ask(client, "12 00 00 00 60 00")
                    found[controller, target] = (data[0], ask(client, "12 01 80 00 ff 00")[4:])
                else:
                    assert error == (ErrorCode.NO_DEVICE_ERR if controller < 3 else ErrorCode.NO_BUS_ERR)
        kinds = {place: kind for place, (kind, _) in found.items()}
        assert kinds == {(0, 0): 8, (0, 1): 1, (0, 2): 1, (1, 0): 8, (1, 1): 1, (2, 1): 1}
        assert len({serial for _, serial in found.values()}) == len(found)
        assert client.error(ScsiSetTargetRequest(b"", 0, 0, 1)) == ErrorCode.NO_DEVICE_ERR
        assert client.error(ScsiSetTargetRequest(b"bogus", 0, 0, 0)) == ErrorCode.NO_DEVICE_ERR
        client.ok(ScsiSetTargetRequest(b"vtl0/changer", 9, 9, 9))  # a name needs no address
        assert address(client) == (0, 0, 0)
        close_device(client)
        assert client.error(ScsiSetTargetRequest(b"", 0, 0, 0)) == ErrorCode.DEV_NOT_OPEN_ERR


@pytest.mark.parametrize("version", [3, 4])
def test_devices_are_listed_with_their_names_and_numbers(version: int, server: Server, login: Login) -> None:
    with NdmpClient(server.address, login=login, version=version) as client:
        changers = client.ok(ConfigGetScsiInfoRequest())
        drives = client.ok(ConfigGetTapeInfoRequest())
        assert isinstance(changers, ConfigGetScsiInfoReply)
        assert isinstance(drives, ConfigGetTapeInfoReply)
        assert [(each.model, each.caplist[0].device) for each in changers.scsi_info] == [
            (b"MOVER VIRTUAL LIBRARY", b"vtl0/changer"),
            (b"MOVER VIRTUAL LIBRARY", b"vtl1/changer"),
        ]
        assert [each.caplist[0].device for each in drives.tape_info] == [
            b"vtl0/drive0",
            b"vtl0/drive1",
            b"vtl1/drive0",
            b"nst0",
        ]
        raw = TapeAttribute.RAW if version == 4 else 0
        assert [[(each.device, each.attr) for each in info.caplist] for info in drives.tape_info[2:]] == [
            [
                (b"vtl1/drive0", raw),
                (b"vtl1/rdrive0", raw | TapeAttribute.REWIND),
                (b"vtl1/udrive0", raw | TapeAttribute.UNLOAD),
            ],
            [(b"nst0", raw), (b"st0", raw | TapeAttribute.REWIND), (b"ust0", raw | TapeAttribute.UNLOAD)],
        ]
        for info in (*changers.scsi_info, *drives.tape_info):
            device = info.caplist[0]
            told = {pair.name: pair.value for pair in device.capability}
            open_device(client, device.device.decode())
            assert ask(client, "12 01 80 00 ff 00")[4:] == told[b"SERIAL_NUMBER"]
            data = ask(client, "12 00 00 00 60 00")
            assert (data[8:16].rstrip(), data[16:32].rstrip()) == (told[b"VENDOR"], told[b"PRODUCT"])
            close_device(client)


def test_a_cartridge_is_fetched_written_and_put_back(
    client: NdmpClient, server: Server, login: Login, shm: Path
) -> None:
    open_device(client)
    assert ready(client) == GOOD
    assert inventory(client) == FULL
    assert move(client, SLOT + 1, DRIVE) == GOOD
    assert inventory(client) == {SLOT: "VTL00001", SLOT + 2: "VTL00003", SLOT + 3: "VTL00004", DRIVE: "VTL00002"}
    with Job.connect(server, server, login) as job:
        job.start_backup(str(shm / "source"))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        assert move(client, DRIVE, SLOT + 1) == REMOVAL_PREVENTED  # the drive is open
        job.tape.ok(TapeMtioRequest(TapeOperation.EOF, 1))
        job.tape.ok(TapeMtioRequest(TapeOperation.OFF, 1))
        assert move(client, DRIVE, SLOT + 1) == REMOVAL_PREVENTED
        job.tape.ok(TapeCloseRequest())
    assert move(client, DRIVE, SLOT + 7) == GOOD
    assert move(client, SLOT + 7, DRIVE + 1) == GOOD
    target = shm / f"target{client.protocol.version}"
    with Job.connect(server, server, login, drive="vtl0/drive1") as job:
        job.start_recover(str(shm / "source"), str(target))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
    assert compare_trees(shm / "source", target, time_granularity_ns=1000).differences == []
    for _ in range(1000):  # until the connection has let the drive go
        if (end := move(client, DRIVE + 1, SLOT + 1)) != REMOVAL_PREVENTED:
            break
    assert end == GOOD
    assert inventory(client) == FULL
    close_device(client)


def test_what_cannot_be_moved(client: NdmpClient, other: NdmpClient) -> None:
    open_device(client)
    assert move(client, SLOT + 5, DRIVE) == SOURCE_EMPTY
    assert move(client, 0, DRIVE) == SOURCE_EMPTY
    assert move(client, SLOT, SLOT + 1) == DESTINATION_FULL
    assert move(client, SLOT + 8, DRIVE) == BAD_ADDRESS
    other.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RAW))
    assert move(client, SLOT, DRIVE) == LOAD_FAILED
    other.ok(TapeCloseRequest())
    assert inventory(client) == FULL
    assert move(client, SLOT, DRIVE) == GOOD
    assert sense(client, f"a6 00 0000 {SLOT + 1:04x} {DRIVE:04x} {SLOT + 6:04x} 00 00") == GOOD
    assert inventory(client)[DRIVE] == "VTL00002"
    assert move(client, SLOT + 6, SLOT) == GOOD
    assert move(client, DRIVE, SLOT + 1) == GOOD
    close_device(client)


def test_export_and_import(client: NdmpClient, server: Server, shm: Path) -> None:
    mail = shm / "server" / "tapes" / "import_export"
    open_device(client)
    assert move(client, SLOT, MAIL) == GOOD
    assert move(client, SLOT + 3, MAIL + 1) == GOOD
    assert sorted(path.name for path in mail.glob("*.tap")) == ["VTL00001.tap", "VTL00004.tap"]
    (mail / "VTL00001.tap").rename(shm / "on a shelf")
    assert ready(client) == GOOD  # nobody has looked
    server.ask("library", "inventory", "vtl0")
    assert ready(client) == IMPORTED
    assert ready(client) == GOOD
    assert inventory(client) == {SLOT + 1: "VTL00002", SLOT + 2: "VTL00003", MAIL + 1: "VTL00004"}
    (shm / "on a shelf").rename(mail / "VTL00001.tap")
    assert ask(client, "07 00 00 00 00 00") == b""  # who looks itself need not be told
    assert ready(client) == GOOD
    data = ask(client, "b8 03 0000 ffff 00 001000 00 00")
    assert [data[at + 2] for at in (16, 32)] == [0x3B, 0x39]  # one put there by an operator, one by the robot
    assert move(client, MAIL, SLOT) == GOOD
    assert move(client, MAIL + 1, SLOT + 3) == GOOD
    assert inventory(client) == FULL
    close_device(client)


def test_one_device_and_one_owner(client: NdmpClient, other: NdmpClient, server: Server) -> None:
    open_device(client)
    assert client.error(ScsiOpenRequest(CHANGER)) == ErrorCode.DEVICE_OPENED_ERR
    assert client.error(TapeOpenRequest(b"vtl0/drive0", TapeMode.READ)) == ErrorCode.DEVICE_OPENED_ERR
    assert other.error(ScsiOpenRequest(CHANGER)) == ErrorCode.DEVICE_BUSY_ERR
    sessions = server.ask("status", "--spt-device-id", "vtl0/changer")["sessions"]
    assert isinstance(sessions, list)
    (session,) = sessions
    assert [session[f"spt-{name}"] for name in ("ha", "scsi-id", "scsi-lun")] == [0, 0, 0]
    close_device(client)
    assert client.error(ScsiCloseRequest()) == ErrorCode.DEV_NOT_OPEN_ERR
    open_device(other, "vtl0/drive1")
    assert client.error(ScsiOpenRequest(b"vtl0/drive1")) == ErrorCode.DEVICE_BUSY_ERR
    assert client.error(TapeOpenRequest(b"vtl0/drive1", TapeMode.READ)) == ErrorCode.DEVICE_BUSY_ERR
    close_device(other)
    with NdmpClient(server.address, version=4) as unknown:
        assert unknown.error(ScsiOpenRequest(CHANGER)) == ErrorCode.NOT_AUTHORIZED_ERR


@pytest.mark.parametrize("name", [b"", b"bogus", b"vtl0/drive2", b"\xff", b"vtl0/changer\0"])
def test_devices_that_are_none(name: bytes, other: NdmpClient) -> None:
    assert other.error(ScsiOpenRequest(name)) == ErrorCode.NO_DEVICE_ERR
    assert other.error(ScsiOpenRequest(b"vtl0")) == ErrorCode.NO_DEVICE_ERR  # no targets are set in version 4


def test_the_end_of_a_connection_closes_its_device(server: Server, login: Login, other: NdmpClient) -> None:
    with NdmpClient(server.address, login=login) as client:
        open_device(client)
        assert sense(client, "16 00 00 00 00 00") == GOOD
        client.hang_up()
    for _ in range(1000):
        if (error := other.error(ScsiOpenRequest(CHANGER))) != ErrorCode.DEVICE_BUSY_ERR:
            break
    assert error == ErrorCode.NO_ERR
    server.ask("tape", "load", "vtl0/drive0")  # the reservation went with it
    assert ready(other) == MEDIUM_CHANGED


@pytest.mark.parametrize("version", [2, 3])
def test_a_drive_that_another_has_open_only_tells_its_name(version: int, server: Server, login: Login) -> None:
    server.ask("tape", "load", "vtl0/drive1")
    with (
        NdmpClient(server.address, login=login, version=version) as client,
        NdmpClient(server.address, login=login) as other,
    ):
        open_device(client)
        assert ask(client, "16 00 00 00 00 00") == b""
        other.ok(TapeOpenRequest(b"vtl0/drive1", TapeMode.READ))
        client.ok(ScsiSetTargetRequest(b"", 0, 2, 0))
        assert ask(client, "12 00 00 00 60 00")[0] == 1
        assert execute(client, "00 00 00 00 00 00").status == 0x18
        assert other.error(ScsiOpenRequest(CHANGER)) == ErrorCode.DEVICE_OPENED_ERR
        client.ok(ScsiResetBusRequest())  # nothing of another's
        other.ok(TapeCloseRequest())
        assert ready(client) == GOOD
        assert other.error(TapeOpenRequest(b"vtl0/drive1", TapeMode.READ)) == ErrorCode.DEVICE_BUSY_ERR
        # The changer, which was opened by name, has been kept all the time.
        assert other.error(ScsiOpenRequest(CHANGER)) == ErrorCode.DEVICE_BUSY_ERR
        client.ok(ScsiSetTargetRequest(b"", 0, 0, 0))
        other.ok(TapeOpenRequest(b"vtl0/drive1", TapeMode.READ))
        assert ready(client) == GOOD
        client.hang_up()
        other.hang_up()


def test_a_drive_is_asked_and_ejected(client: NdmpClient, server: Server) -> None:
    server.ask("tape", "load", "vtl0/drive0", "--barcode", "VTL00003")
    open_device(client, "vtl0/drive0")
    assert ready(client) == GOOD
    assert ask(client, "34 00 00 00 00 00 00 00 00 00")[0] == 0x04  # nobody has the tape open
    assert sense(client, "01 00 00 00 00 00") == Sense(5, 0x20, 0)
    assert ask(client, "1b 00 00 00 00 00") == b""
    assert ready(client) == Sense(2, 0x3A, 0)
    close_device(client)
    shown = server.ask("tape", "show")["drives"]
    assert isinstance(shown, list)
    assert (shown[0]["state"], shown[0]["barcode"]) == ("ejected", "VTL00003")
    assert client.error(TapeOpenRequest(b"vtl0/drive0", TapeMode.READ)) == ErrorCode.NO_TAPE_LOADED_ERR
    open_device(client, "vtl0/drive0")
    assert ask(client, "1b 00 00 00 01 00") == b""
    close_device(client)
    client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.READ))
    client.ok(TapeCloseRequest())
    open_device(client, "vtl0/drive1")
    assert sense(client, "1b 00 00 00 01 00") == Sense(2, 0x3A, 0)
    close_device(client)


def test_locks_keep_operators_out(client: NdmpClient, server: Server, shm: Path) -> None:
    def refused(*command: str) -> str:
        with pytest.raises(ServerError) as caught:
            server.ask(*command)
        return str(caught.value)

    open_device(client)
    assert ask(client, "56 00 00 00 00 00 00 00 00 00") == b""
    for command in (("tape", "load", "vtl0/drive0"), ("library", "move", "vtl0", "slot0", "slot6")):
        assert "vtl0/changer is reserved by session" in refused(*command)
    assert ask(client, "57 00 00 00 00 00 00 00 00 00") == b""
    assert ask(client, "1e 00 00 00 01 00") == b""
    for command in (("library", "inventory", "vtl0"), ("library", "move", "vtl0", "VTL00001", "mail0")):
        assert "keeps the mail slot of vtl0/changer locked" in refused(*command)
    server.ask("library", "move", "vtl0", "VTL00001", "slot6")
    assert ready(client) == MEDIUM_CHANGED
    assert move(client, SLOT + 6, MAIL) == GOOD  # the robot itself is free to
    assert move(client, MAIL, SLOT) == GOOD
    close_device(client)
    server.ask("library", "inventory", "vtl0")


def test_resets(client: NdmpClient) -> None:
    for request in (ScsiResetDeviceRequest(), ScsiResetBusRequest()):
        if isinstance(request, ScsiResetBusRequest) and client.protocol.version == 4:
            continue
        assert client.error(request) == ErrorCode.DEV_NOT_OPEN_ERR
        open_device(client)
        assert ask(client, "16 00 00 00 00 00") == b""
        client.ok(request)
        assert ready(client) == Sense(6, 0x29, 3 if isinstance(request, ScsiResetDeviceRequest) else 2)
        assert ready(client) == GOOD
        close_device(client)


def test_arguments_and_data(client: NdmpClient) -> None:
    inquiry = bytes.fromhex("12 00 00 00 60 00")
    both = CdbFlag.DATA_IN | CdbFlag.DATA_OUT
    for request in (
        ScsiExecuteCdbRequest(both, 0, 96, inquiry),
        ScsiExecuteCdbRequest(4, 0, 96, inquiry),
        ScsiExecuteCdbRequest(CdbFlag.DATA_IN, 0, 96, b""),
    ):
        assert client.error(request) == ErrorCode.ILLEGAL_ARGS_ERR
    assert client.error(ScsiExecuteCdbRequest(CdbFlag.DATA_IN, 0, 96, inquiry)) == ErrorCode.DEV_NOT_OPEN_ERR
    open_device(client)
    whole = ask(client, "12 00 00 00 60 00")
    for flags, length, expected in ((CdbFlag.DATA_IN, 8, whole[:8]), (0, 96, b""), (CdbFlag.DATA_IN, 1000, whole)):
        assert client.ok(ScsiExecuteCdbRequest(flags, 0, length, inquiry)) == ScsiExecuteCdbReply(datain=expected)
    select = bytes.fromhex("15 10 00 00 08 00")
    page = bytes(4) + bytes.fromhex("1e 02 00 00")
    reply = client.ok(ScsiExecuteCdbRequest(CdbFlag.DATA_OUT, 0, 0, select, page + b"more"))
    assert reply == ScsiExecuteCdbReply(dataout_len=8)
    reply = client.ok(ScsiExecuteCdbRequest(0, 0, 0, select, page))  # not sent to the device
    assert isinstance(reply, ScsiExecuteCdbReply)
    assert reply.status == 2
    close_device(client)


def test_a_robot_that_is_not_free_in_time(client: NdmpClient, server: Server, shm: Path) -> None:
    open_device(client)
    database = sqlite3.connect(shm / "server" / "state" / "mover.sqlite", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")  # an operator's move waits for it
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(30)
        admin.connect(server.ready.admin_socket)
        try:
            admin.sendall(b'{"type": "tape-load", "drive": "vtl0/drive1", "barcode": "VTL00004"}\n')
            server.ask("version")
            cdb = bytes.fromhex(f"a5 00 0000 {SLOT:04x} {DRIVE:04x} 0000 00 00")
            assert client.error(ScsiExecuteCdbRequest(0, 100, 0, cdb)) == ErrorCode.TIMEOUT_ERR
        finally:
            database.execute("ROLLBACK")
        assert b'"done"' in admin.recv(65536)
    database.close()
    assert ready(client) == MEDIUM_CHANGED
    assert inventory(client) == {SLOT: "VTL00001", SLOT + 1: "VTL00002", SLOT + 2: "VTL00003", DRIVE + 1: "VTL00004"}
    close_device(client)


def test_a_stream_needs_its_tape(server: Server, login: Login, other: NdmpClient) -> None:
    """While a mover has the tape, the robot leaves it alone."""
    server.ask("tape", "load", "vtl0/drive0", "--barcode", "VTL00001")
    open_device(other)
    with Job.connect(server, server, login) as job:
        job.connect_data(MoverMode.READ)
        assert move(other, DRIVE, SLOT) == REMOVAL_PREVENTED
        job.data.hang_up()
    for _ in range(1000):
        if (end := move(other, DRIVE, SLOT)) != REMOVAL_PREVENTED:
            break
    assert end == GOOD
    assert inventory(other) == FULL
