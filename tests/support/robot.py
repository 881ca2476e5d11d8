"""A changer, or any SCSI device, as a DMA commands it: CDBs over NDMP."""

import struct
from typing import NamedTuple

from mover.ndmp.enums import CdbFlag
from mover.ndmp.messages import (
    ScsiCloseRequest,
    ScsiExecuteCdbReply,
    ScsiExecuteCdbRequest,
    ScsiOpenRequest,
    TapeExecuteCdbReply,
    TapeExecuteCdbRequest,
)
from tests.support.ndmp_client import NdmpClient

DRIVE, MAIL, SLOT = 0x001, 0x101, 0x200  # first address of each kind
LENGTH = 0x10000


class Sense(NamedTuple):
    """Sense key, additional sense code and qualifier."""

    key: int
    asc: int
    ascq: int


GOOD = Sense(0, 0, 0)


def read_sense(data: bytes) -> Sense:
    return Sense(data[2], data[12], data[13]) if data else GOOD


def execute(client: NdmpClient, cdb: str, *, timeout_ms: int = 0) -> ScsiExecuteCdbReply:
    """SCSI_EXECUTE_CDB of a command that asks, or takes no data."""
    reply = client.ok(ScsiExecuteCdbRequest(CdbFlag.DATA_IN, timeout_ms, LENGTH, bytes.fromhex(cdb)))
    assert isinstance(reply, ScsiExecuteCdbReply)
    return reply


def execute_on_tape(client: NdmpClient, cdb: str) -> TapeExecuteCdbReply:
    """TAPE_EXECUTE_CDB."""
    reply = client.ok(TapeExecuteCdbRequest(CdbFlag.DATA_IN, 0, LENGTH, bytes.fromhex(cdb)))
    assert isinstance(reply, TapeExecuteCdbReply)
    return reply


def ask(client: NdmpClient, cdb: str) -> bytes:
    """The data of a command that must be good."""
    reply = execute(client, cdb)
    assert (reply.status, reply.ext_sense) == (0, b""), read_sense(reply.ext_sense)
    return reply.datain


def sense(client: NdmpClient, cdb: str) -> Sense:
    """What a command ends with."""
    reply = execute(client, cdb)
    assert (reply.status, bool(reply.ext_sense)) in {(0, False), (2, True)}
    return read_sense(reply.ext_sense)


def move(client: NdmpClient, source: int, destination: int) -> Sense:
    """MOVE MEDIUM."""
    return sense(client, f"a5 00 0000 {source:04x} {destination:04x} 0000 00 00")


def ready(client: NdmpClient) -> Sense:
    """TEST UNIT READY."""
    return sense(client, "00 00 00 00 00 00")


def inventory(client: NdmpClient) -> dict[int, str]:
    """READ ELEMENT STATUS: address -> barcode of every full element."""
    data = ask(client, f"b8 10 0000 ffff 00 {LENGTH:06x} 00 00")
    assert int.from_bytes(data[5:8], "big") == len(data) - 8
    found, at = {}, 8
    while at < len(data):
        _, tags, size, length = struct.unpack_from(">BBHI", data, at)
        assert tags == 0x80
        end = at + 8 + length
        for start in range(at + 8, end, size):
            if data[start + 2] & 1:
                found[int.from_bytes(data[start : start + 2], "big")] = data[start + 12 : start + 44].rstrip().decode()
        at = end
    return found


def open_device(client: NdmpClient, device: str = "vtl0/changer") -> None:
    client.ok(ScsiOpenRequest(device.encode()))


def close_device(client: NdmpClient) -> None:
    client.ok(ScsiCloseRequest())
