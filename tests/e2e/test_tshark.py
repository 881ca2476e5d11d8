"""Dialogues of whole jobs, read by tshark's dissector: nobody here wrote it, and it finds nothing wrong.

The dialogues go through a relay that cuts messages into fragments both ways, so server and client take them as well.
"""

import socket
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any  # Any: options of the DMA

import pytest
import trio

from mover.dma import (
    BackupOptions,
    Credentials,
    ListOptions,
    RecoverOptions,
    TapeListOptions,
    run_backup,
    run_list,
    run_recover,
)
from mover.dma import Server as Target
from mover.ndmp.enums import AddressType, AuthType, MoverMode, TapeMode, TapeOperation
from mover.ndmp.messages import (
    LOCAL,
    Body,
    ConfigGetAuthAttrRequest,
    ConfigGetButypeAttrRequest,
    ConfigGetButypeInfoRequest,
    ConfigGetConnectionTypeRequest,
    ConfigGetExtListRequest,
    ConfigGetFsInfoRequest,
    ConfigGetHostInfoRequest,
    ConfigGetScsiInfoRequest,
    ConfigGetServerInfoRequest,
    ConfigGetTapeInfoRequest,
    ConfigSetExtListRequest,
    ConnectOpenRequest,
    ConnectServerAuthRequest,
    DataAbortRequest,
    DataConnectRequest,
    DataGetEnvRequest,
    DataGetStateRequest,
    DataListenRequest,
    DataStopRequest,
    MoverAbortRequest,
    MoverCloseRequest,
    MoverConnectRequest,
    MoverContinueRequest,
    MoverGetStateRequest,
    MoverListenReply,
    MoverListenRequest,
    MoverReadRequest,
    MoverSetRecordSizeRequest,
    MoverSetWindowRequest,
    MoverStopRequest,
    NotifyMoverPausedPost,
    ScsiCloseRequest,
    ScsiExecuteCdbRequest,
    ScsiGetStateRequest,
    ScsiOpenRequest,
    ScsiResetBusRequest,
    ScsiResetDeviceRequest,
    ScsiSetTargetRequest,
    TapeCloseRequest,
    TapeExecuteCdbRequest,
    TapeGetStateRequest,
    TapeMtioRequest,
    TapeOpenRequest,
    TapeReadRequest,
    TapeWriteRequest,
    TcpAddress,
    tcp_address,
)
from mover.ndmp.messages.common import AuthMd5Attr
from mover.ndmp.table import TABLE
from tests.e2e.conftest import MakeServer
from tests.support import peers
from tests.support.captures import CapturingRelay, write_capture
from tests.support.ndmp_client import ALL, DEADLINE_S, NdmpClient
from tests.support.servers import Login
from tests.support.trees import make_small_files

REQUEST, REPLY = 0, 1
Read = tuple[int | None, int]
"""Number and type of a message; None: with an error in its header."""

NOT_SENT = {"LOG_DEBUG", "LOG_FILE", "DATA_START_RECOVER_FILEHIST"}
"""Messages that do not come up in every version: debug lines, a name's fate, listing a tape."""
# What tshark 4.0 itself does not know. It has no messages of version 2 alone and no START_RECOVER_FILEHIST, reads some
# of version 2 in the layout of version 3, which has a mask in front and no mover in START, and looks for a body behind
# an error in the header (None).
NOT_READ: dict[int, set[Read]] = {
    2: {
        *((code, REQUEST) for code in (0x101, 0x600, 0x700, 0x701, 0x702, 0x40B, 0x401, 0x402)),
        *((code, REPLY) for code in (0x101, 0x302, 0x400, None)),
    },
    3: {(None, REPLY)},
    4: {(0x40B, REQUEST), (0x40B, REPLY), (None, REPLY)},
}

VERSIONS_OF: dict[type, set[int]] = {}
for (_version, _), _row in TABLE.items():
    VERSIONS_OF.setdefault(_row.request, set()).add(_version)

pytestmark = [pytest.mark.slow, pytest.mark.peer("tshark")]


@pytest.mark.parametrize("count", [1, 2, 37])
@pytest.mark.parametrize("version", [2, 3, 4])
async def test_a_dissector_reads_every_message(
    make_server: MakeServer, shm: Path, login: Login, version: int, count: int
) -> None:
    server = make_server("server")
    make_small_files(shm / "source", files=400, directories=8, seed=version)
    with trio.fail_after(90):
        await trio.to_thread.run_sync(_converse, server.address, login, shm, version, count)


def _converse(address: str, login: Login, shm: Path, version: int, count: int) -> None:
    with CapturingRelay(address, count=count) as relay:
        trio.run(_jobs, relay.address, login, shm, version)
        with NdmpClient(relay.address, version=version) as client:
            _by_hand(client, login, version)
            client.hang_up()
    capture = shm / "capture.pcap"
    write_capture(capture, relay.connections)
    sent = Counter(
        (struct.unpack_from(">6I", record)[3], struct.unpack_from(">6I", record)[2])
        for connection in relay.connections
        for record in connection.records
    )
    codes = {code for code, _ in sent}
    assert {row.name for (each, code), row in TABLE.items() if each == version and code not in codes} <= NOT_SENT
    assert _wrong(capture, version) - NOT_READ[version] == set()
    assert Counter(_read(capture, version)) == sent


async def _jobs(address: str, login: Login, shm: Path, version: int) -> None:
    """Backups with both forms of history, a recover of everything and of one name, and a list of the tape."""
    host, _, port = address.rpartition(":")
    options: dict[str, Any] = {
        "data": Target(host, int(port)), "credentials": Credentials(login.user, login.password),
        "drive": "vtl0/drive0", "max_version": version,
    }  # fmt: skip
    catalogue = shm / "catalogue"
    for history in ("d", "f"):
        await run_backup(BackupOptions(filesystem=str(shm / "source"), history=history, catalogue=catalogue, **options))
    await run_recover(RecoverOptions(destination=str(shm / "target"), catalogue=catalogue, **options))
    await run_recover(
        RecoverOptions(
            destination=str(shm / "other"),
            names=["nothing of this name"],
            catalogue=catalogue,
            tape=options["data"],
            **options,
        )
    )
    if version == 4:
        await run_list(ListOptions(catalogue=catalogue, from_tape=TapeListOptions(tape_file=0, **options)))


def _by_hand(client: NdmpClient, login: Login, version: int) -> None:
    """Messages that a job does not need, the first before a login; what a version lacks is not asked for."""
    for early in (ConfigGetAuthAttrRequest(AuthType.MD5), ConfigGetHostInfoRequest(), TapeCloseRequest()):
        client.ask(early)
    client.log_in(login, "text" if version == 2 else "md5")
    drive, changer = b"vtl0/drive0", b"vtl0/changer"
    inquiry = (1, 1000, 96, bytes([0x12, 0, 0, 0, 96, 0]), b"")
    requests: list[Body] = [
        ConfigGetHostInfoRequest(), ConfigGetButypeAttrRequest(b"dump"), ConfigGetConnectionTypeRequest(),
        ConfigGetButypeInfoRequest(), ConfigGetFsInfoRequest(), ConfigGetTapeInfoRequest(), ConfigGetScsiInfoRequest(),
        ConfigGetServerInfoRequest(), ConfigGetExtListRequest(), ConfigSetExtListRequest(),
        ConnectServerAuthRequest(AuthMd5Attr(bytes(64))), ConnectOpenRequest(version),
        ScsiOpenRequest(changer), ScsiGetStateRequest(), ScsiExecuteCdbRequest(*inquiry), ScsiResetDeviceRequest(),
        ScsiSetTargetRequest(changer, 0, 0, 0), ScsiResetBusRequest(), ScsiCloseRequest(),
        TapeOpenRequest(drive, TapeMode.RDWR), TapeMtioRequest(TapeOperation.REW, 1), TapeWriteRequest(b"x" * 10240),
        TapeMtioRequest(TapeOperation.EOF, 2), TapeGetStateRequest(), TapeMtioRequest(TapeOperation.REW, 1),
        TapeReadRequest(20480), TapeReadRequest(20480), TapeExecuteCdbRequest(*inquiry),
        MoverGetStateRequest(), MoverSetRecordSizeRequest(65536), MoverSetWindowRequest(0, ALL),
        MoverListenRequest(MoverMode.READ, AddressType.TCP), MoverGetStateRequest(), MoverReadRequest(0, 100),
        MoverContinueRequest(), MoverCloseRequest(), MoverAbortRequest(), MoverStopRequest(),
        MoverConnectRequest(MoverMode.READ, tcp_address(0x7F000001, 1)), MoverStopRequest(),
        DataListenRequest(AddressType.TCP), DataGetStateRequest(), DataGetEnvRequest(), DataAbortRequest(),
        DataStopRequest(), DataConnectRequest(LOCAL), TapeCloseRequest(),
    ]  # fmt: skip
    for request in requests:
        if version in VERSIONS_OF[type(request)]:
            client.ask(request)
    _pause(client, drive)


def _pause(client: NdmpClient, drive: bytes) -> None:
    """A mover that reads tape pauses at the filemark, with the test as the other end of the data connection."""
    for request in (
        TapeOpenRequest(drive, TapeMode.READ), TapeMtioRequest(TapeOperation.REW, 1), MoverSetRecordSizeRequest(10240),
        MoverSetWindowRequest(0, ALL),
    ):  # fmt: skip
        client.ok(request)
    reply = client.ok(MoverListenRequest(MoverMode.WRITE, AddressType.TCP))
    assert isinstance(reply, MoverListenReply)
    assert isinstance(reply.data_connection_addr, TcpAddress)
    with socket.create_connection(("127.0.0.1", reply.data_connection_addr.endpoints[0].port), DEADLINE_S):
        client.ok(MoverReadRequest(0, ALL))
        client.wait_for(NotifyMoverPausedPost)
        client.ok(MoverCloseRequest())
        client.ok(MoverStopRequest())
    client.ok(TapeCloseRequest())


def _tshark(capture: Path, version: int, *arguments: str) -> list[str]:
    """What tshark prints, in lines."""
    result = subprocess.run(
        [peers.require("tshark"), "-r", capture, "-o", f"ndmp.default_protocol_version:Version {version}",
         "-o", "ndmp.defragment:TRUE", "-o", "ndmp.desegment:TRUE", *arguments],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return result.stdout.splitlines()


def _read(capture: Path, version: int) -> list[Read]:
    """Number and type of every message that tshark has put together."""
    return [(int(code, 0), int(kind)) for code, kind, _ in _messages(capture, version, "ndmp.msg")]


def _wrong(capture: Path, version: int) -> set[Read]:
    """The messages with which tshark is not content."""
    found = _messages(capture, version, "_ws.malformed || ndmp.fragment.error || ndmp.msg.unknown")
    return {(int(code, 0) if error == "0" else None, int(kind)) for code, kind, error in found}


def _messages(capture: Path, version: int, which: str) -> list[list[str]]:
    """Number, type and header error of messages; each stands in a packet of its own."""
    fields = [word for field in ("msg", "msg_type", "error") for word in ("-e", f"ndmp.{field}")]
    lines = _tshark(capture, version, "-Y", which, "-T", "fields", "-E", "occurrence=f", *fields)
    return [line.split("\t") for line in lines]
