"""Options that operators change while the server runs: each does what it says, for new connections, and stays."""

import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from mover.config import Config, Lif, Node, Vserver, load_config
from mover.control import sockets
from mover.control.connection import Connection
from mover.control.control_stream import ControlStream
from mover.control.drives import Devices
from mover.control.node import Node as ControlNode
from mover.control.options import ChangedOptions, OptionError
from mover.control.protocol_log import DIRECTORY
from mover.control.store import open_store
from mover.control.workers import Supervisor
from mover.ndmp import messages as m
from mover.ndmp.client import ClientProtocol, Post
from mover.ndmp.enums import AddressType, AuthType, ConnectionStatusReason, ErrorCode
from tests.support.ndmp_client import DEADLINE_S, NdmpClient
from tests.support.processes import settle
from tests.support.servers import Login, Server, write_config

LOGIN = Login("one", "the secret of vs1")
NODE = Login("ndmp", "the secret of the node")


@pytest.fixture(scope="module")
def config(directory: Path, volume: Path) -> Path:
    extra = (
        f'[[lif]]\nname = "data1"\nport = 0\nrole = "data"\nvserver = "vs1"\n'
        '[[lif]]\nname = "between"\naddress = "127.0.0.2"\nport = 0\nrole = "intercluster"\n'
        f'[[vserver]]\nname = "vs1"\nvolumes = {{ home = "{volume}" }}\nauthtype = ["challenge", "plaintext"]\n'
        f'[[user]]\nname = "{LOGIN.user}"\nrole = "vsadmin"\nvservers = ["vs1"]\npassword = "{LOGIN.password}"\n'
    )
    return write_config(directory, NODE, extra=extra)


@pytest.fixture(scope="module")
def running(config: Path) -> Iterator[Server]:
    with Server(config) as server:
        yield server


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """The server, as it was before when the test is over."""
    yield running
    for vserver in ("", "vs1"):
        changed = [each["option"] for each in shown(running, vserver) if each["origin"] == "modified"]
        if changed:
            running.ask("modify", "--vserver", vserver, *(word for name in changed for word in ("--reset", name)))


def shown(server: Server, vserver: str = "vs1") -> list[dict[str, str]]:
    return cast("list[dict[str, str]]", server.ask("show", "--vserver", vserver)["options"])


def value(server: Server, option: str, vserver: str = "vs1") -> tuple[str, str]:
    (found,) = [each for each in shown(server, vserver) if each["option"] == option]
    return found["value"], found["origin"]


def address(server: Server, lif: str) -> tuple[str, int]:
    (found,) = [each for each in server.ready.lifs if each.name == lif]
    return found.address, found.port


def greeting(server: Server, lif: str = "data1") -> m.NotifyConnectionStatusPost:
    protocol = ClientProtocol()
    with socket.create_connection(address(server, lif), timeout=DEADLINE_S) as sock:
        while (event := protocol.next_event()) is None:
            protocol.feed(sock.recv(65536))
    assert isinstance(event, Post)
    assert isinstance(event.body, m.NotifyConnectionStatusPost)
    return event.body


def connect(server: Server, lif: str = "data1", **options: int) -> NdmpClient:
    host, port = address(server, lif)
    return NdmpClient(f"{host}:{port}", login=LOGIN if lif == "data1" else NODE, **options)  # type: ignore[arg-type]  # a version


def failure(server: Server, *arguments: str) -> str:
    result = subprocess.run(server.command(*arguments), capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode != 0
    return result.stderr


@pytest.mark.slow
def test_each_value_is_shown_with_its_origin(server: Server) -> None:
    assert value(server, "authtype") == ("challenge,plaintext", "config")
    assert value(server, "authtype", "") == ("challenge,plaintext", "config")
    assert value(server, "sessions") == ("64", "default")
    server.ask("modify", "--vserver", "vs1", "--sessions", "5", "--authtype", "challenge")
    assert value(server, "sessions") == ("5", "modified")
    assert value(server, "sessions", "") == ("64", "default")
    assert value(server, "authtype") == ("challenge", "modified")
    server.ask("modify", "--vserver", "vs1", "--reset", "sessions", "--reset", "authtype")
    assert value(server, "sessions") == ("64", "default")
    assert value(server, "authtype") == ("challenge,plaintext", "config")
    said = (Path(server.config).parent / "state" / "audit.log").read_text().splitlines()
    first, second = [each for each in map(json.loads, said) if each["event"] == "operator"][:2]
    assert (first["what"], first["target"], first["uid"]) == ("OptionsModify", "vs1", os.getuid())
    assert first["changed"] == "sessions=5 authtype=challenge"
    assert second["reset"] == "sessions authtype"
    all_of_them = cast("list[dict[str, str]]", server.ask("show", "--vserver", "*", "--option", "sessions")["options"])
    assert [each["vserver"] for each in all_of_them] == ["", "vs1"]


@pytest.mark.slow
def test_off_refuses_new_connections_and_lets_the_others_go_on(server: Server) -> None:
    with connect(server) as client:
        server.ask("off", "--vserver", "vs1")
        assert greeting(server) == m.NotifyConnectionStatusPost(
            ConnectionStatusReason.REFUSED, 4, b"the NDMP service is off here"
        )
        client.ok(m.DataGetStateRequest())
    assert greeting(server, "only").reason == ConnectionStatusReason.CONNECTED
    server.ask("on", "--vserver", "vs1")
    assert greeting(server).reason == ConnectionStatusReason.CONNECTED
    server.ask("off")
    for lif in ("only", "data1"):
        assert greeting(server, lif).text_reason == b"the NDMP service is off"
    server.ask("on")
    assert greeting(server).reason == ConnectionStatusReason.CONNECTED


def test_protocols_are_allowed_and_disallowed(server: Server) -> None:
    server.ask("modify", "--vserver", "vs1", "--disallowed-protocols", "ndmp")
    assert greeting(server).text_reason == b"NDMP is not allowed here"
    server.ask("modify", "--vserver", "vs1", "--allowed-protocols", "ndmp")
    assert greeting(server).reason == ConnectionStatusReason.CONNECTED
    assert "there is no option disallowed-protocols of the node" in failure(
        server, "modify", "--disallowed-protocols", "ndmp"
    )


def test_authtype_is_what_is_offered(server: Server) -> None:
    server.ask("modify", "--vserver", "vs1", "--authtype", "plaintext")
    host, port = address(server, "data1")
    with NdmpClient(f"{host}:{port}") as client:
        reply = client.ok(m.ConfigGetServerInfoRequest())
        assert isinstance(reply, m.ConfigGetServerInfoReply)
        assert reply.auth_type == (AuthType.TEXT,)
        assert client.error(m.ConfigGetAuthAttrRequest(AuthType.MD5)) == ErrorCode.ILLEGAL_ARGS_ERR


def test_sessions_bound_the_connections(server: Server) -> None:
    with connect(server):
        server.ask("modify", "--vserver", "vs1", "--sessions", "1")
        assert greeting(server).text_reason == b"too many sessions"
        assert greeting(server, "only").reason == ConnectionStatusReason.CONNECTED
        server.ask("modify", "--sessions", "1")
        assert greeting(server, "only").text_reason == b"too many sessions"


def test_maxversion_is_the_highest_that_is_spoken(server: Server) -> None:
    server.ask("modify", "--vserver", "vs1", "--maxversion", "3")
    assert greeting(server).protocol_version == 3
    assert greeting(server, "only").protocol_version == 4
    host, port = address(server, "data1")
    with pytest.raises(AssertionError, match="ILLEGAL_ARGS_ERR"):
        NdmpClient(f"{host}:{port}", version=4)
    with connect(server, version=3) as client:
        client.ok(m.DataGetStateRequest())
    server.ask("modify", "--maxversion", "2")
    assert cast("dict[str, object]", server.ask("version")["server"])["ndmp-versions"] == [1, 2]


def test_data_connections_are_waited_for_in_the_port_range(server: Server) -> None:
    ports = range(21000, 21400)
    with connect(server) as before:
        server.ask("modify", "--vserver", "vs1", "--data-port-range", f"{ports[0]}-{ports[-1]}")
        with connect(server) as client:
            for each, inside in ((client, True), (before, False)):  # a connection keeps what it began with
                reply = each.ok(m.DataListenRequest(AddressType.TCP))
                assert isinstance(reply, m.DataListenReply)
                assert isinstance(reply.data_connection_addr, m.TcpAddress)
                assert (reply.data_connection_addr.endpoints[0].port in ports) == inside
                each.ok(m.DataAbortRequest())


@pytest.mark.parametrize(("lif", "vserver", "own"), [("only", "", "node-mgmt"), ("data1", "vs1", "data")])
def test_data_connections_are_waited_for_at_the_preferred_lifs(
    server: Server, lif: str, vserver: str, own: str
) -> None:
    def listens_at() -> str:
        with connect(server, lif) as client:
            reply = client.ok(m.DataListenRequest(AddressType.TCP))
            assert isinstance(reply, m.DataListenReply)
            assert isinstance(reply.data_connection_addr, m.TcpAddress)
            return sockets.ip_text(reply.data_connection_addr.endpoints[0].ip_addr)

    assert listens_at() == "127.0.0.2"  # intercluster is the first
    server.ask("modify", "--vserver", vserver, "--preferred-interface-role", f"{own},intercluster")
    assert listens_at() == "127.0.0.1"
    server.ask("modify", "--vserver", vserver, "--preferred-interface-role", "cluster-mgmt")
    with connect(server, lif) as client:
        assert client.error(m.DataListenRequest(AddressType.TCP)) == ErrorCode.CONNECT_ERR
        client.ok(m.DataGetStateRequest())  # what was logged is here before its reply
        (line,) = client.log()
        assert line.startswith("no LIF for a data connection: preferred-interface-role is cluster-mgmt; ")
        assert "between (intercluster, 127.0.0.2) is of another role" in line
        assert ("data1" in line) == (lif == "data1")


def test_a_protocol_log_of_every_connection(server: Server, directory: Path) -> None:
    def logs() -> set[str]:
        where = directory / "state" / DIRECTORY
        return set(os.listdir(where)) if where.exists() else set()

    before = logs()
    server.ask("modify", "--vserver", "vs1", "--debug-enable", "true", "--debug-filter", "data")
    with connect(server) as client:
        client.ok(m.DataGetStateRequest())
        (name,) = logs() - before
        text = (directory / "state" / DIRECTORY / name).read_text()
        assert "DATA_GET_STATE" in text
        assert "CONNECT_OPEN" not in text
    before = logs()
    with connect(server, "only") as client:
        client.ok(m.DataGetStateRequest())
        assert logs() == before


def test_the_backup_log_is_left_alone(server: Server, directory: Path, volume: Path) -> None:
    log = directory / "state" / "backup.log"

    def jobs_told() -> int:
        with connect(server) as client, socket.create_server(("127.0.0.1", 0)) as listener:
            before = log.read_text()
            client.ok(m.DataConnectRequest(m.tcp_address(0x7F00_0001, listener.getsockname()[1])))
            client.ok(m.DataStartBackupRequest(b"dump", (m.Pval(b"FILESYSTEM", os.fsencode(volume)),)))
            client.ok(m.DataAbortRequest())
            client.ok(m.DataStopRequest())
            client.hang_up()
        return log.read_text()[len(before) :].count(" Start ")

    assert jobs_told() == 1
    server.ask("modify", "--vserver", "vs1", "--backup-log-enable", "false")
    assert jobs_told() == 0


@pytest.mark.slow
def test_what_means_nothing_here_is_refused_with_its_reason(server: Server) -> None:
    assert "dump-logical-find is not applicable: there are no qtrees" in failure(
        server, "modify", "--dump-logical-find", "true"
    )
    assert "there is no vserver vs9 (vservers: vs1)" in failure(server, "modify", "--vserver", "vs9", "--sessions", "1")
    assert "there is no vserver vs9" in failure(server, "show", "--vserver", "vs9")
    assert "sessions: expected a number" in failure(server, "modify", "--sessions", "many")
    assert "either a value or a reset" in failure(server, "modify", "--sessions", "1", "--reset", "sessions")
    assert all(each["origin"] != "modified" for each in shown(server, ""))


def test_all_sessions_of_a_vserver_are_ended(server: Server) -> None:
    with connect(server) as one, connect(server) as two, connect(server, "only") as other:
        done = server.ask("kill-all", "--vserver", "vs1")
        assert len(cast("list[int]", done["session-ids"])) >= 2
        for client in (one, two):
            with pytest.raises((AssertionError, OSError)):
                client.ok(m.DataGetStateRequest())
        other.ok(m.DataGetStateRequest())
        server.ask("kill-all")
        with pytest.raises((AssertionError, OSError)):
            other.ok(m.DataGetStateRequest())


@pytest.mark.slow
def test_changes_outlast_a_new_configuration_and_a_restart(directory: Path, volume: Path) -> None:
    own = directory / "own"
    path = write_config(own, NODE, volumes={"v": volume})
    with Server(path) as server:
        server.ask("modify", "--maxversion", "3", "--tcpwinsize", "64KiB")
        path.write_text(path.read_text().replace("grace_s = 2", "grace_s = 2\ntcpwinsize = 8192\ntcpnodelay = false"))
        os.kill(server.pid, signal.SIGHUP)
        settle(lambda: value(server, "tcpnodelay", "") == ("false", "config"), "the new configuration")
        assert value(server, "tcpwinsize", "") == ("65536", "modified")
        server.ask("modify", "--reset", "tcpwinsize")
        assert value(server, "tcpwinsize", "") == ("8192", "config")
    with Server(path) as server:
        assert value(server, "maxversion", "") == ("3", "modified")
        assert greeting(server, "only").protocol_version == 3


@pytest.mark.slow
def test_secure_ports_are_opened_and_closed(directory: Path, volume: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = write_config(directory / "secure", NODE, volumes={"v": volume})
        path.write_text(path.read_text().replace('name = "only"', f'name = "only"\nsecure_port = {port}'))
        with Server(path) as server:
            secure = "--is-secure-control-connection-enabled"
            assert "no secure port" in failure(server, "modify", secure, "true")
            assert value(server, secure[2:], "") == ("false", "default")
            taken.close()
            server.ask("modify", secure, "true")
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            plain = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
            with context.wrap_socket(plain) as sock:
                assert sock.recv(4)
            server.ask("modify", "--reset", secure[2:])
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)


# --- what cannot be seen from outside


@pytest.mark.parametrize("no_delay", [True, False])
async def test_tcpnodelay_is_set_on_control_connections(tmp_path: Path, *, no_delay: bool) -> None:
    with trio.fail_after(DEADLINE_S):
        config = Config(
            node=Node(state_directory=str(tmp_path), tcpnodelay=not no_delay),
            vserver=[Vserver(name="vs1", tcpnodelay=no_delay)],
        )
        node = ControlNode(config, cast("Supervisor", SimpleNamespace()), Devices(config, None))  # type: ignore[arg-type]  # no library
        (lif,) = config.lif
        listener = trio.socket.socket()
        with listener:
            await listener.bind(("127.0.0.1", 0))
            listener.listen()
            client = trio.socket.socket()
            with client:
                await client.connect(listener.getsockname())
                ours, _ = await listener.accept()
                data_lif = type(lif)(name="d", role="data", vserver="vs1")
                connection = Connection(node, ControlStream(ours), data_lif)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(connection.run)
                    await wait_all_tasks_blocked()
                    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == no_delay
                    nursery.cancel_scope.cancel()


async def test_tcpwinsize_is_the_buffers_of_data_connections() -> None:
    with trio.fail_after(DEADLINE_S):
        with await sockets.open_data_listener("127.0.0.1", 0, 0, 65536) as listener:
            host, port = listener.getsockname()
            with await sockets.connect_data(host, port, 10, 32768) as out:
                accepted, _ = await listener.accept()
                with accepted:
                    for sock, window in ((accepted, 65536), (out, 32768)):
                        for name in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                            assert sock.getsockopt(socket.SOL_SOCKET, name) == 2 * window  # as Linux counts them


async def test_changes_that_contradict_the_configuration_are_refused_together(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with open_store(str(tmp_path)) as store:
            config = Config(vserver=[Vserver(name="vs1")])
            options = ChangedOptions(config, store)
            await options.change("vs1", {"sessions": "3"}, [])
            with pytest.raises(OptionError, match="authtype"):
                await options.change("vs1", {"sessions": "4", "authtype": "sso"}, [])
            with pytest.raises(OptionError, match="no such option to reset"):
                await options.change("vs1", {}, ["restore-vm-cache-size"])
            again = ChangedOptions(config, store)
            await again.load()
            changed = again.configure(config)
            assert changed.vserver[0].sessions == 3
            assert again.value(changed, "vs1", "sessions") == ("3", "modified")
            without = Config()  # the vserver is gone, and what was changed of it waits
            assert again.configure(without) == without


async def test_a_change_that_contradicts_a_new_configuration_takes_no_other_with_it(tmp_path: Path) -> None:
    """What is off stays off, also where LIFs have become such that a login method is not for them any more."""
    with trio.fail_after(DEADLINE_S):
        async with open_store(str(tmp_path)) as store:
            lif = Lif(name="data1", role="data", vserver="vs1", port=10001)
            vservers = [Vserver(name="vs1"), Vserver(name="vs2")]
            config = Config(vserver=vservers, lif=[Lif(name="only"), lif])
            options = ChangedOptions(config, store)
            await options.change("vs1", {"authtype": "none", "enable": "false"}, [])
            await options.change("vs2", {"enable": "false"}, [])
            moved = replace(config, lif=[Lif(name="only"), replace(lif, address="192.0.2.1")])
            taken = options.configure(moved)
            assert [each.enable for each in taken.vserver] == [False, False]
            assert options.value(taken, "vs1", "authtype") == ("challenge", "default")
            assert options.value(taken, "vs1", "enable") == ("false", "modified")
            assert options.value(options.configure(config), "vs1", "authtype") == ("none", "modified")


async def test_options_are_changed_where_secrets_stand_in_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret of both\n")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "mover.toml").write_text(
        f'[[user]]\nname = "u"\npassword_file = "{tmp_path}/secret"\n'
        '[[drive]]\nname = "t0"\ndevice = "iscsi://h/iqn.2026-01.test:vtl/1"\n'
        f'chap_user = "u"\nchap_secret_file = "{tmp_path}/secret"\n'
    )
    config = load_config(str(tmp_path / "mover.toml"))
    with trio.fail_after(DEADLINE_S):
        async with open_store(str(tmp_path)) as store:
            options = ChangedOptions(config, store)
            await options.change("", {"sessions": "3"}, [])
            assert options.configure(config).limits.sessions == 3
    assert (config.user[0].password.reveal(), config.drive[0].chap_secret.reveal()) == ("secret of both",) * 2
