"""TAPE_EXECUTE_CDB on a virtual drive, in versions 2, 3 and 4. Source: states.md sections 5.1 and 5.11; SSC-4."""

import pytest

from mover.ndmp.enums import CdbFlag, ErrorCode, MoverMode, MoverState, TapeMode, TapeOperation
from mover.ndmp.messages import TapeCloseRequest, TapeExecuteCdbRequest, TapeMtioRequest, TapeOpenRequest
from tests.e2e.conftest import MakeServer
from tests.e2e.test_tape_over_the_wire import mtio, position, read, write
from tests.support.ndmp_client import NdmpClient
from tests.support.robot import Sense, execute_on_tape, read_sense
from tests.support.servers import Login, Server
from tests.support.stages import DRIVE, bring_mover, open_tape, stage

pytestmark = pytest.mark.slow

POSITION, LONG_POSITION = "34 00 00 00 00 00 00 00 00 00", "34 06 00 00 00 00 00 00 00 00"


def data(client: NdmpClient, cdb: str) -> bytes:
    reply = execute_on_tape(client, cdb)
    assert (reply.status, reply.ext_sense) == (0, b""), read_sense(reply.ext_sense)
    return reply.datain


def sense(client: NdmpClient, cdb: str) -> Sense:
    return read_sense(execute_on_tape(client, cdb).ext_sense)


def refused(client: NdmpClient, cdb: str) -> int:
    return client.error(TapeExecuteCdbRequest(CdbFlag.DATA_IN, 0, 4096, bytes.fromhex(cdb)))


def locate(number: int) -> str:
    return f"2b 00 00 {number:08x} 00 00 00"


def objects(client: NdmpClient) -> int:
    return int.from_bytes(data(client, POSITION)[4:8], "big")


@pytest.mark.parametrize("version", [2, 3, 4])
def test_where_the_tape_stands_and_where_it_is_sent(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        client = at.client
        open_tape(client)
        assert data(client, POSITION)[0] & 0x80  # BOP
        for record in (b"zero", b"one"):
            write(client, record)
        mtio(client, TapeOperation.EOF, 1)
        write(client, b"three")
        assert objects(client) == 4
        assert data(client, LONG_POSITION)[8:24].hex() == f"{4:016x}{1:016x}"
        assert data(client, locate(1)) == b""
        assert read(client, 100) == ("NO_ERR", b"one")
        assert position(client) == (0, 2)
        assert data(client, "92 08 00 00 0000000000000001 00 00 00 00") == b""
        assert position(client) == (1, 0)
        assert read(client, 100) == ("NO_ERR", b"three")
        assert sense(client, locate(1000)) == Sense(8, 0, 5)
        assert objects(client) == 4
        assert data(client, "01 00 00 00 00 00") == b""  # REWIND
        assert read(client, 100) == ("NO_ERR", b"zero")
        assert data(client, "92 18 00 00 0000000000000000 00 00 00 00") == b""
        write(client, b"four")
        assert objects(client) == 5
        client.ok(TapeCloseRequest())


def test_what_a_drive_tells(shared: Server, login: Login) -> None:
    with NdmpClient(shared.address, login=login) as client:
        assert refused(client, "00 00 00 00 00 00") == ErrorCode.DEV_NOT_OPEN_ERR
        client.ok(TapeOpenRequest(DRIVE, TapeMode.RDWR))
        assert data(client, "00 00 00 00 00 00") == b""
        assert data(client, "12 00 00 00 60 00")[8:32] == b"MOVER   VIRTUAL DRIVE   "
        serial = data(client, "12 01 80 00 ff 00")[4:]
        assert data(client, "12 01 83 00 ff 00").endswith(b"VIRTUAL DRIVE   " + serial)
        assert data(client, "05 00 00 00 00 00") == bytes.fromhex("00 100000 0001")
        assert data(client, "03 00 00 00 12 00")[2] == 0
        assert data(client, "1a 00 00 00 ff 00").hex() == "0b001008" + "00" * 8
        capacity = data(client, "4d 00 71 00 00 00 00 00 ff 00")
        assert int.from_bytes(capacity[-4:], "big") == 100 << 10  # MiB
        assert sense(client, "ff 00 00 00 00 00") == Sense(5, 0x20, 0)
        client.ok(TapeMtioRequest(TapeOperation.OFF, 1))
        assert sense(client, "00 00 00 00 00 00") == Sense(2, 0x3A, 0)
        assert sense(client, POSITION) == Sense(2, 0x3A, 0)
        client.ok(TapeCloseRequest())
        shared.ask("tape", "load", DRIVE.decode())
        client.hang_up()


@pytest.mark.parametrize("version", [2, 3, 4])
def test_what_would_move_or_write_by_records_is_refused_by_name(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        open_tape(at.client)
        write(at.client, b"one")
        for opcode in ("04", "08", "0a", "10", "11", "15", "19", "1b", "8a", "91"):
            assert refused(at.client, opcode + " 00 00 00 01" + " 00" * 11) == ErrorCode.NOT_SUPPORTED_ERR
            told = f"operation code {opcode.upper()}h is refused".encode()
            at.client.wait_until(lambda seen, told=told: told in getattr(seen.body, "entry", b""), "the reason")  # type: ignore[misc]  # of one argument
        for flags, cdb in ((3, bytes(6)), (8, bytes(6)), (0, b"")):
            assert at.client.error(TapeExecuteCdbRequest(flags, 0, 0, cdb)) == ErrorCode.ILLEGAL_ARGS_ERR
        assert objects(at.client) == 1
        at.client.ok(TapeCloseRequest())


def test_early_warning_and_protection_are_told(make_server: MakeServer, login: Login) -> None:
    server = make_server("server", cartridge_size="64KiB", early_warning="48KiB")
    with NdmpClient(server.address, login=login) as client:
        open_tape(client)
        assert data(client, POSITION)[0] == 0x80
        write(client, bytes(20 << 10))
        assert data(client, POSITION)[0] == 0x01  # BPEW
        client.ok(TapeCloseRequest())
        client.hang_up()


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_mover_has_its_tape_to_itself(version: int, shared: Server, login: Login) -> None:
    with stage(shared, login, version) as at:
        bring_mover(at.client, MoverState.LISTEN, MoverMode.READ, at.peer)
        assert refused(at.client, "00 00 00 00 00 00") == ErrorCode.DEVICE_BUSY_ERR
