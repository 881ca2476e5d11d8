"""Data connections over IPv6, for DMAs that have chosen the extension for it (class 2051)."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from mover.control.data_addresses import places
from mover.ndmp import messages as m
from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    DataState,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    TapeMode,
    TapeOperation,
)
from mover.ndmp.extensions import CAE
from tests.support.ndmp_client import ALL, DEADLINE_S, RECORD_SIZE, NdmpClient, pairs
from tests.support.servers import Login, Server, write_config

LOGIN = Login("ndmp", "a secret")
DRIVE = b"vtl0/drive0"
IPV6 = AddressType.TCP_IPV6


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6 loopback")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    (directory / "volume" / "tree").mkdir(parents=True)
    (directory / "volume" / "tree" / "file").write_bytes(bytes(range(256)) * 1000)
    extra = '[[lif]]\nname = "six"\naddress = "::1"\nport = 0\nrole = "intercluster"\n'
    config = write_config(directory, LOGIN, volumes={"srv": directory / "volume"}, drives=1, extra=extra)
    with Server(config) as running:
        running.ask("tape", "load", DRIVE.decode())
        yield running


def connect(server: Server, *, chosen: bool = True, lif: str = "only", version: int = 4) -> NdmpClient:
    (found,) = [each for each in server.ready.lifs if each.name == lif]
    client = NdmpClient(f"{found.address}:{found.port}", login=LOGIN, version=version)
    if chosen:
        listed = client.ok(m.ConfigGetExtListRequest())
        assert isinstance(listed, m.ConfigGetExtListReply)
        assert m.ExtClass(CAE, (1,)) in listed.class_list
        client.ok(m.ConfigSetExtListRequest((m.SelectedExt(CAE, 1),)))
    return client


def address(host: str, port: int) -> m.TcpIpv6Address:
    return m.TcpIpv6Address((m.TcpIpv6Endpoint(socket.inet_pton(socket.AF_INET6, host), port),))


def listening(client: NdmpClient, kind: AddressType = IPV6) -> m.TcpIpv6Address:
    reply = client.ok(m.DataListenRequest(kind))
    assert isinstance(reply, m.DataListenReply)
    assert isinstance(reply.data_connection_addr, m.TcpIpv6Address)
    return reply.data_connection_addr


def reset(client: NdmpClient) -> None:
    client.ok(m.DataAbortRequest())
    client.ok(m.DataStopRequest())


@pytest.mark.parametrize("lif", ["only", "six"])
def test_only_who_has_chosen_the_extension_has_the_type(server: Server, lif: str) -> None:
    with connect(server, chosen=False, lif=lif) as client:
        shown = client.ok(m.ConfigGetConnectionTypeRequest())
        assert shown == m.ConfigGetConnectionTypeReply(addr_types=(AddressType.LOCAL, AddressType.TCP))
        for wrong in (m.DataListenRequest(IPV6), m.DataConnectRequest(address("::1", 1))):
            assert client.error(wrong) == ErrorCode.ILLEGAL_ARGS_ERR
    with connect(server, lif=lif) as client:
        shown = client.ok(m.ConfigGetConnectionTypeRequest())
        assert shown == m.ConfigGetConnectionTypeReply(addr_types=(AddressType.LOCAL, AddressType.TCP, IPV6))
        assert client.error(m.DataConnectRequest(m.TcpIpv6Address(()))) == ErrorCode.ILLEGAL_ARGS_ERR


def open_drive(tape: NdmpClient, mode: MoverMode) -> None:
    tape.ok(m.TapeOpenRequest(DRIVE, TapeMode.RDWR if mode is MoverMode.READ else TapeMode.READ))
    tape.ok(m.TapeMtioRequest(TapeOperation.REW, 1))
    tape.ok(m.MoverSetRecordSizeRequest(RECORD_SIZE))
    tape.ok(m.MoverSetWindowRequest(0, ALL))


def finish(data: NdmpClient, tape: NdmpClient) -> None:
    assert data.data_halted() == DataHaltReason.SUCCESSFUL, data.log()
    assert tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED, tape.log()
    data.ok(m.DataStopRequest())
    tape.ok(m.MoverStopRequest())
    tape.ok(m.TapeCloseRequest())


@pytest.mark.slow
def test_a_job_goes_three_ways_over_ipv6(server: Server, directory: Path) -> None:
    """The mover listens for the backup, the data service for the recover."""
    with connect(server) as data, connect(server) as tape:
        open_drive(tape, MoverMode.READ)
        waiting = tape.ok(m.MoverListenRequest(MoverMode.READ, IPV6))
        assert isinstance(waiting, m.MoverListenReply)
        assert isinstance(waiting.data_connection_addr, m.TcpIpv6Address)
        ((host, port, _),) = places(waiting.data_connection_addr)
        assert host == "::1"
        data.ok(m.DataConnectRequest(waiting.data_connection_addr))
        state = data.ok(m.DataGetStateRequest())
        assert isinstance(state, m.DataGetStateReply)
        assert (state.state, state.data_connection_addr) == (DataState.CONNECTED, waiting.data_connection_addr)
        rows = cast("list[dict[str, object]]", server.ask("probe")["sessions"])
        shown = [row for row in rows if row["data-state"] == "CONNECTED"]
        assert [(row["data-con-addr-type"], row["data-con-addr"], row["data-con-port"]) for row in shown] == [
            ("tcp-ipv6", "::1", port)
        ]
        data.ok(m.DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(directory / "volume" / "tree"))))
        finish(data, tape)
    with connect(server, lif="six") as data, connect(server, lif="six") as tape:
        open_drive(tape, MoverMode.WRITE)
        tape.ok(m.MoverConnectRequest(MoverMode.WRITE, listening(data)))
        names = (m.RecoverName(b"", str(directory / "volume" / "back").encode()),)
        env = pairs(FILESYSTEM=str(directory / "volume" / "tree"))
        data.ok(m.DataStartRecoverRequest(env, names, b"dump"))
        tape.ok(m.MoverReadRequest(0, ALL))
        finish(data, tape)
    (found,) = (directory / "volume" / "back").rglob("file")
    assert found.read_bytes() == (directory / "volume" / "tree" / "file").read_bytes()


def test_who_connects_has_to_be_allowed_and_there(server: Server) -> None:
    with connect(server) as client, socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))  # and does not listen
        for host, port, text in (
            ("2001:db8::1", 9, "2001:db8::1 is not in data_connections.allow"),
            ("::1", sock.getsockname()[1], "Connection refused"),
        ):
            assert client.error(m.DataConnectRequest(address(host, port))) == ErrorCode.CONNECT_ERR
            client.ok(m.DataGetStateRequest())  # what was logged is here before its reply
            assert text in client.log()[-1]


def test_a_peer_that_has_connected_is_waited_for(server: Server) -> None:
    with connect(server) as client:
        ((host, port, _),) = places(listening(client))
        with socket.create_connection((host, port), timeout=DEADLINE_S) as peer:
            state = client.ok(m.DataGetStateRequest())
            assert isinstance(state, m.DataGetStateReply)
            own = address(*peer.getsockname()[:2])
            assert (state.state, state.data_connection_addr) == (DataState.CONNECTED, own)
        assert client.data_halted() == DataHaltReason.CONNECT_ERROR
        client.ok(m.DataStopRequest())


def test_the_lif_is_one_of_the_family_that_is_preferred(server: Server) -> None:
    try:
        server.ask("modify", "--preferred-interface-role", "node-mgmt")
        with connect(server) as client:
            assert client.error(m.DataListenRequest(IPV6)) == ErrorCode.CONNECT_ERR
            client.ok(m.DataGetStateRequest())
            assert "only (node-mgmt, 127.0.0.1) is no IPv6 address" in client.log()[-1]
            assert "six (intercluster, ::1) is of another role" in client.log()[-1]
    finally:
        server.ask("modify", "--reset", "preferred-interface-role")


def test_version_3_cannot_spell_it(server: Server) -> None:
    with connect(server, chosen=False, version=3) as client:
        assert client.error(m.DataListenRequest(IPV6)) == ErrorCode.ILLEGAL_ARGS_ERR
        shown = client.ok(m.ConfigGetConnectionTypeRequest())
        assert shown == m.ConfigGetConnectionTypeReply(addr_types=(AddressType.LOCAL, AddressType.TCP))


def test_what_is_switched_off_is_not_there(server: Server) -> None:
    try:
        server.ask("extensions", "modify", "0x2051", "off", "--advanced")
        with connect(server, chosen=False) as client:
            client.ok(m.ConfigGetExtListRequest())
            wanted = m.ConfigSetExtListRequest((m.SelectedExt(CAE, 1),))
            assert client.error(wanted) == ErrorCode.CLASS_NOT_SUPPORTED
            assert client.error(m.DataListenRequest(IPV6)) == ErrorCode.ILLEGAL_ARGS_ERR
    finally:
        server.ask("extensions", "modify", "0x2051", "default", "--advanced")
