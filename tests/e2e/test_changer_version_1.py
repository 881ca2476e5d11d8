"""The SCSI interface of version 1, by a client that shares no code with the server.

Source: NDMPv1 3.3; states.md 2.5.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.dma.compare import compare_trees
from tests.e2e.conftest import MakeServer
from tests.support import v1_client as v1
from tests.support.robot import DRIVE, SLOT, Sense, read_sense
from tests.support.servers import Login
from tests.support.trees import make_tree
from tests.support.v1_client import V1Client, refusal, text
from tests.support.v1_jobs import back_up, connect, env_of, recover

pytestmark = pytest.mark.slow

INQUIRY, UNIT_READY = "12 00 00 00 60 00", "00 00 00 00 00 00"


class Ended(NamedTuple):
    """What a command ended with."""

    status: int
    data: bytes
    sense: Sense


def execute(client: V1Client, cdb: str, request: int = v1.SCSI_EXECUTE_CDB) -> Ended:
    body = client.ask(request, struct.pack(">III", 1, 1000, 4096) + text(bytes.fromhex(cdb)) + text(b""))
    status, _ = body.unpack_uint(), body.unpack_uint()
    data, sense = body.unpack_opaque(), body.unpack_opaque()
    body.done()
    return Ended(status, data, read_sense(sense))


def move(client: V1Client, source: int, destination: int) -> Ended:
    return execute(client, f"a5 00 0000 {source:04x} {destination:04x} 0000 00 00")


def set_target(client: V1Client, name: bytes, *numbers: int) -> None:
    client.done(v1.SCSI_SET_TARGET, text(name) + struct.pack(">III", *numbers))


def failed(client: V1Client, cdb: str) -> str:
    return refusal(lambda: execute(client, cdb))


def test_the_jukebox_configuration_with_its_robot(make_server: MakeServer, login: Login, shm: Path) -> None:
    """2.1, figure 3: one connection has the robot, another the drive."""
    make_tree(shm / "source", wide=20, depth=3, huge_sparse=False)
    server = make_server("server", load=False)
    server.ask("tape", "create", "vtl0", "--count", "2")
    with connect(server, login) as robot, connect(server, login) as client:
        robot.done(v1.SCSI_OPEN, text(b"vtl0/changer"))
        assert execute(robot, INQUIRY).data[8:32] == b"MOVER   VIRTUAL LIBRARY "
        assert refusal(client.tape_open, "vtl0/drive0", v1.WRITE_MODE) == "NO_TAPE_LOADED_ERR"
        assert move(robot, SLOT, DRIVE).status == 0
        saved = back_up(client, env_of(shm / "source"))
        assert move(robot, DRIVE, SLOT + 5).status == 0
        assert move(robot, SLOT + 1, DRIVE).status == 0
        assert move(robot, SLOT + 5, DRIVE).sense == Sense(5, 0x3B, 0x0D)
        assert move(robot, DRIVE, SLOT + 1).status == 0
        assert move(robot, SLOT + 5, DRIVE).status == 0
        recover(client, saved, shm / "target")
        robot.done(v1.SCSI_CLOSE)
    assert compare_trees(shm / "source", shm / "target").differences == []


def test_a_bus_is_scanned(make_server: MakeServer, login: Login) -> None:
    """Version 1 tells by EXECUTE_CDB, and not by SET_TARGET, that nothing is there."""
    server = make_server("server", drives=2, load=False)
    with connect(server, login) as client:
        assert refusal(client.done, v1.SCSI_OPEN, text(b"vtl9")) == "NO_DEVICE_ERR"
        client.done(v1.SCSI_OPEN, text(b"vtl0"))
        assert failed(client, INQUIRY) == "NO_DEVICE_ERR"
        found = {}
        for controller in range(2):
            for target in range(4):
                set_target(client, b"", controller, target, 0)
                try:
                    found[controller, target] = execute(client, INQUIRY).data[0]
                except v1.Failed:
                    expected = "NO_BUS_ERR" if controller else "NO_DEVICE_ERR"
                    assert failed(client, INQUIRY) == expected
        assert found == {(0, 0): 8, (0, 1): 1, (0, 2): 1}
        set_target(client, b"vtl0/drive1", 0, 0, 0)
        assert execute(client, UNIT_READY).sense == Sense(2, 0x3A, 0)
        set_target(client, b"vtl0/changer", 0, 0, 0)
        client.done(v1.SCSI_RESET_BUS)
        assert execute(client, UNIT_READY).sense == Sense(6, 0x29, 2)
        client.done(v1.SCSI_RESET_DEVICE)
        assert execute(client, UNIT_READY).sense == Sense(6, 0x29, 3)
        client.done(v1.SCSI_CLOSE)


def test_a_drive_is_asked_and_not_moved(make_server: MakeServer, login: Login) -> None:
    with connect(make_server("server"), login) as client:
        client.tape_open("vtl0/drive0", v1.WRITE_MODE)
        client.set_record_size(1024)
        client.tape_write(b"one")
        position = execute(client, "34 00 00 00 00 00 00 00 00 00", v1.TAPE_EXECUTE_CDB).data
        assert position[:8].hex() == "0000000000000001"
        assert refusal(lambda: execute(client, "2b 00 00 00000000 00 00 00", v1.TAPE_EXECUTE_CDB)) == "ILLEGAL_ARGS_ERR"
        client.tape_close()
