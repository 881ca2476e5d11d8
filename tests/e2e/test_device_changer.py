"""A real changer, tgtd's over iSCSI, as DMAs use it: the SCSI interface, and the list of devices.

tgtd's faults are its own (its changer reports 8 bytes too few, and knows no EXCHANGE); it is expected to do as it does.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from mover.ndmp.enums import CdbFlag, ErrorCode
from mover.ndmp.messages import (
    ConfigGetScsiInfoReply,
    ConfigGetScsiInfoRequest,
    ScsiCloseRequest,
    ScsiExecuteCdbReply,
    ScsiExecuteCdbRequest,
    ScsiGetStateReply,
    ScsiGetStateRequest,
    ScsiOpenRequest,
    ScsiResetDeviceRequest,
    ScsiSetTargetRequest,
)
from mover.scsi import ElementKind, read_elements, status_request
from tests.support.ndmp_client import NdmpClient
from tests.support.robot import GOOD, Sense, ask, close_device, move, open_device, read_sense, ready, sense
from tests.support.servers import Login, Server, write_config
from tests.support.tgtd import PROGRAMS, Tgtd, running_library

pytestmark = [pytest.mark.slow, pytest.mark.peer(*PROGRAMS), pytest.mark.timeout(300)]

DRIVE, SLOT, MAIL = 256, 4096, 769
SOURCE_EMPTY, DESTINATION_FULL = Sense(5, 0x3B, 0x0E), Sense(5, 0x3B, 0x0D)


@pytest.fixture(scope="module")
def tgtd() -> Iterator[Tgtd]:
    with running_library() as running:
        yield running


@pytest.fixture(scope="module")
def server(tgtd: Tgtd, login: Login) -> Iterator[Server]:
    directory = tgtd.directory / "server"
    extra = f'[[changer]]\nname = "mc0"\ndevice = "{tgtd.changer_url}"\n'
    with Server(write_config(directory, login, extra=extra)) as running:
        yield running


def connect(server: Server, login: Login, version: int) -> NdmpClient:
    return NdmpClient(server.address, login=login, version=version, method="md5" if version > 1 else "text")


@pytest.fixture(params=[1, 2, 3, 4])
def client(request: pytest.FixtureRequest, server: Server, login: Login) -> Iterator[NdmpClient]:
    with connect(server, login, request.param) as client:
        yield client
        client.hang_up()


@pytest.fixture
def other(server: Server, login: Login) -> Iterator[NdmpClient]:
    with NdmpClient(server.address, login=login) as client:
        yield client
        client.hang_up()


def settled(client: NdmpClient) -> None:
    """What a client does first: unit attentions of a new nexus go."""
    for _ in range(10):
        if ready(client) == GOOD:
            return
    raise AssertionError("not ready")


def full(client: NdmpClient, kind: ElementKind, first: int, count: int) -> dict[int, str]:
    data = ask(client, status_request(kind, range(first, first + count), 4096).hex())
    return {each.address: each.barcode for each in read_elements(data, kind) if each.full}


def test_a_cartridge_is_moved(client: NdmpClient) -> None:
    open_device(client, "mc0")
    settled(client)
    assert full(client, ElementKind.STORAGE, SLOT, 5) == {
        SLOT: "TAPE01L4", SLOT + 1: "TAPE02L4", SLOT + 2: "TAPE03L4",
    }  # fmt: skip
    assert move(client, SLOT + 1, DRIVE) == GOOD
    assert full(client, ElementKind.DATA_TRANSFER, DRIVE, 2) == {DRIVE: "TAPE02L4"}
    assert move(client, SLOT + 1, DRIVE + 1) == SOURCE_EMPTY
    assert move(client, SLOT, DRIVE) == DESTINATION_FULL
    assert move(client, DRIVE, SLOT + 1) == GOOD
    close_device(client)


@pytest.mark.parametrize("client", [3, 4], indirect=True)
def test_who_it_is(client: NdmpClient) -> None:
    reply = client.ok(ConfigGetScsiInfoRequest())
    assert isinstance(reply, ConfigGetScsiInfoReply)
    (info,) = reply.scsi_info
    (capability,) = info.caplist
    assert (info.model, capability.device) == (b"TESTLIB VTL", b"mc0")
    assert {pair.name: pair.value for pair in capability.capability} == {
        b"VENDOR": b"TESTLIB", b"PRODUCT": b"VTL", b"SERIAL_NUMBER": b"LIB0000001",
    }  # fmt: skip


def test_one_connection_has_it(client: NdmpClient, other: NdmpClient) -> None:
    open_device(client, "mc0")
    assert other.error(ScsiOpenRequest(b"mc0")) == ErrorCode.DEVICE_BUSY_ERR
    assert client.error(ScsiOpenRequest(b"mc0")) == ErrorCode.DEVICE_OPENED_ERR
    reply = client.ok(ScsiGetStateRequest())
    assert isinstance(reply, ScsiGetStateReply)
    assert (reply.target_controller, reply.target_id, reply.target_lun) == (0, 0, 0)
    client.ok(ScsiResetDeviceRequest())
    settled(client)  # the way was made anew
    close_device(client)
    open_device(other, "mc0")
    close_device(other)
    assert client.error(ScsiCloseRequest()) == ErrorCode.DEV_NOT_OPEN_ERR


def test_a_connection_that_ends_gives_it_back(server: Server, login: Login, other: NdmpClient) -> None:
    with NdmpClient(server.address, login=login) as client:
        open_device(client, "mc0")
        settled(client)
        client.hang_up()
    open_device(other, "mc0")
    close_device(other)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_who_passes_by_on_its_bus(version: int, server: Server, login: Login, other: NdmpClient) -> None:
    open_device(other, "mc0")
    with connect(server, login, version) as client:
        open_device(client, "changers")
        client.ok(ScsiSetTargetRequest(b"", 0, 0, 0))
        data = ask(client, "12 00 00 00 60 00")
        assert (data[0], data[8:32]) == (8, b"TESTLIB VTL             ")
        assert ask(client, "12 01 80 00 ff 00")[4:] == b"LIB0000001"
        reply = client.ok(ScsiExecuteCdbRequest(0, 0, 0, bytes(6)))
        assert isinstance(reply, ScsiExecuteCdbReply)
        assert reply.status == 0x18  # RESERVATION CONFLICT
        close_device(other)
        settled(client)
        assert other.error(ScsiOpenRequest(b"mc0")) == ErrorCode.DEVICE_BUSY_ERR
        close_device(client)
        client.hang_up()


def test_data_goes_out_and_wrong_commands_come_back(client: NdmpClient) -> None:
    open_device(client, "mc0")
    settled(client)
    assert sense(client, "a6 00 0001 1000 0100 0101 00 00") == Sense(5, 0x20, 0)  # EXCHANGE: tgtd has none
    parameters = bytes(4) + bytes([0x1D, 0x12]) + bytes(18)
    request = ScsiExecuteCdbRequest(CdbFlag.DATA_OUT, 0, 0, bytes([0x15, 0x10, 0, 0, len(parameters), 0]), parameters)
    reply = client.ok(request)
    assert isinstance(reply, ScsiExecuteCdbReply)
    assert (reply.status, reply.datain) in {(0, b""), (2, b"")}
    assert reply.dataout_len <= len(parameters)
    assert (reply.status == 2) == bool(reply.ext_sense)
    both = CdbFlag.DATA_IN | CdbFlag.DATA_OUT
    assert client.error(ScsiExecuteCdbRequest(both, 0, 10, bytes(6))) == ErrorCode.ILLEGAL_ARGS_ERR
    assert client.error(ScsiExecuteCdbRequest(0, 0, 0, b"")) == ErrorCode.ILLEGAL_ARGS_ERR
    reply = client.ok(ScsiExecuteCdbRequest(CdbFlag.DATA_IN, 0, 8, bytes.fromhex("120000000800")))
    assert isinstance(reply, ScsiExecuteCdbReply)
    assert (len(reply.datain), reply.datain[0]) == (8, 8)
    close_device(client)


def test_a_changer_that_hangs(tgtd: Tgtd, server: Server, login: Login) -> None:
    """The DMA's own time counts; the connection goes on, and so does the changer once it answers."""
    with NdmpClient(server.address, login=login) as client:
        open_device(client, "mc0")
        settled(client)
        os.kill(tgtd.pid, signal.SIGSTOP)
        try:
            request = ScsiExecuteCdbRequest(0, 300, 0, bytes(6))
            assert client.error(request) == ErrorCode.TIMEOUT_ERR
        finally:
            os.kill(tgtd.pid, signal.SIGCONT)
        settled(client)
        close_device(client)
        client.hang_up()


def test_the_sense_of_a_new_nexus_is_passed_on(client: NdmpClient) -> None:
    open_device(client, "mc0")
    reply = client.ok(ScsiExecuteCdbRequest(0, 0, 0, bytes(6)))
    assert isinstance(reply, ScsiExecuteCdbReply)
    assert read_sense(reply.ext_sense).key in {0, 6}
    close_device(client)
