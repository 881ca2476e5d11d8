"""Two vservers and the LIFs of a cluster, over the wire: each connection sees and reaches what the tables say."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.ndmp import messages as m
from mover.ndmp.client import ClientProtocol, Post
from mover.ndmp.enums import AddressType, ConnectionStatusReason, DataHaltReason, ErrorCode, MoverMode, TapeMode
from mover.ndmp.extensions import CAB
from mover.ndmp.messages import Body
from tests.support.ndmp_client import DEADLINE_S, Job, NdmpClient, pairs
from tests.support.servers import Login, Server, ServerError, write_config

NODE = Login("backup", "the secret of the node")
ADMIN = Login("admin", "another secret of the node")
ONE = Login("one", "the secret of vs1")
TWO = Login("two", "the secret of vs2")
BOTH = Login("both", "the secret of vs1 and vs2")
DRIVE, CHANGER = b"vtl0/drive0", b"vtl0/changer"
LOCAL, TCP = AddressType.LOCAL, AddressType.TCP
ROLES = ("node-mgmt", "cluster-mgmt", "intercluster")


def user(login: Login, role: str, vservers: str = "") -> str:
    return f'[[user]]\nname = "{login.user}"\nrole = "{role}"\npassword = "{login.password}"\nvservers = [{vservers}]\n'


def lif(name: str, role: str, vserver: str = "") -> str:
    return f'[[lif]]\nname = "{name}"\nport = 0\nrole = "{role}"\nvserver = "{vserver}"\n'


def tree(directory: Path, name: str) -> Path:
    (directory / name / "tree").mkdir(parents=True)
    (directory / name / "tree" / "file").write_text(name)
    return directory / name


@pytest.fixture(scope="module")
def volumes(directory: Path) -> dict[str, Path]:
    made = {name: tree(directory, name) for name in ("of-node", "of-one", "of-two")}
    (made["of-one"] / "out").symlink_to(made["of-two"])
    return made


@pytest.fixture(scope="module")
def server(directory: Path, volumes: dict[str, Path]) -> Iterator[Server]:
    extra = [
        lif("cluster-mgmt", "cluster-mgmt"),
        lif("intercluster", "intercluster"),
        lif("data1", "data", "vs1"),
        lif("data2", "data", "vs2"),
        lif("data3", "data", "vs3"),
        lif("data4", "data", "vs4"),
        f'[[vserver]]\nname = "vs1"\nvolumes = {{ home = "{volumes["of-one"]}" }}\nauthtype = ["plaintext"]\n',
        f'[[vserver]]\nname = "vs2"\nvolumes = {{ home = "{volumes["of-two"]}" }}\n',
        '[[vserver]]\nname = "vs3"\nsessions = 1\n[[vserver]]\nname = "vs4"\ndisallowed_protocols = ["ndmp"]\n',
        user(ADMIN, "admin"),
        user(ONE, "vsadmin", '"vs1"'),
        user(TWO, "vsadmin-backup", '"vs2"'),
        user(BOTH, "vsadmin-backup", '"vs1", "vs2"'),
    ]
    config = write_config(directory, NODE, volumes={"srv": volumes["of-node"]}, drives=1, extra="\n".join(extra))
    with Server(config) as running:
        running.ask("tape", "load", "vtl0/drive0")
        yield running


def connect(server: Server, name: str, login: Login | None = None, method: str = "text") -> NdmpClient:
    """A connection to a LIF, by its name; node-mgmt is the first one."""
    name = "only" if name == "node-mgmt" else name
    (found,) = [each for each in server.ready.lifs if each.name == name]
    if name == "data2" and method == "text":
        method = "md5"  # vs2 has the default, challenge alone
    return NdmpClient(f"{found.address}:{found.port}", login=login, method=method)


LOGINS = {"node-mgmt": NODE, "cluster-mgmt": ADMIN, "intercluster": NODE, "data1": ONE, "data2": TWO}
REACHED = {
    "node-mgmt": ("of-node", "of-one", "of-two"),
    "cluster-mgmt": ("of-node", "of-one", "of-two"),
    "intercluster": ("of-node", "of-one", "of-two"),
    "data1": ("of-one",),
    "data2": ("of-two",),
}
ALIASES = {"of-one": b"/vs1/home", "of-two": b"/vs2/home"}
HAS_TAPES = {"node-mgmt", "intercluster"}


@pytest.mark.parametrize("name", LOGINS)
def test_what_is_shown_is_what_the_tables_say(server: Server, volumes: dict[str, Path], name: str) -> None:
    with connect(server, name, LOGINS[name]) as client:
        shown = client.ok(m.ConfigGetFsInfoRequest())
        assert isinstance(shown, m.ConfigGetFsInfoReply)
        named = [ALIASES.get(each, os.fsencode(volumes[each])) for each in REACHED[name]]
        assert [each.fs_logical_device for each in shown.fs_info] == named
        assert {each.fs_status for each in shown.fs_info} == {b"online"}
        tapes, changers = client.ok(m.ConfigGetTapeInfoRequest()), client.ok(m.ConfigGetScsiInfoRequest())
        assert isinstance(tapes, m.ConfigGetTapeInfoReply)
        assert isinstance(changers, m.ConfigGetScsiInfoReply)
        drives = [info.caplist[0].device for info in tapes.tape_info]
        robots = [each.device for info in changers.scsi_info for each in info.caplist]
        assert (drives, robots) == (([DRIVE], [CHANGER]) if name in HAS_TAPES else ([], []))
        types = client.ok(m.ConfigGetConnectionTypeRequest())
        assert types == m.ConfigGetConnectionTypeReply(addr_types=(LOCAL, TCP) if name in HAS_TAPES else (TCP,))


def choose_cab(client: NdmpClient) -> None:
    listed = client.ok(m.ConfigGetExtListRequest())
    assert isinstance(listed, m.ConfigGetExtListReply)
    assert m.ExtClass(CAB, (1,)) in listed.class_list
    client.ok(m.ConfigSetExtListRequest((m.SelectedExt(CAB, 1),)))
    client.protocol.extensions = {CAB: 1}


@pytest.mark.parametrize("name", LOGINS)
def test_what_a_dma_that_knows_of_clusters_reaches(server: Server, name: str) -> None:
    has = name in {"node-mgmt", "cluster-mgmt", "intercluster"}
    with connect(server, name, LOGINS[name]) as client:
        choose_cab(client)
        shown = client.ok(m.ConfigGetFsInfoRequest())
        assert isinstance(shown, m.ConfigGetFsInfoReply)
        assert len(shown.fs_info) == len(REACHED[name])
        tapes = client.ok(m.ConfigGetTapeInfoRequest())
        assert isinstance(tapes, m.ConfigGetTapeInfoReply)
        assert [info.caplist[0].device for info in tapes.tape_info] == ([DRIVE] if has else [])
        places = {pair.value for each in shown.fs_info for pair in each.fs_env if pair.name == b"AFFINITY"}
        places |= {
            pair.value
            for info in tapes.tape_info
            for each in info.caplist
            for pair in each.capability
            if pair.name == b"AFFINITY"
        }
        assert len(places) == 1, "one node"
        types = client.ok(m.ConfigGetConnectionTypeRequest())
        assert types == m.ConfigGetConnectionTypeReply(addr_types=(LOCAL, TCP) if has else (TCP,))
        assert client.error(m.ScsiOpenRequest(CHANGER)) == (0 if has else ErrorCode.NO_DEVICE_ERR)
        if has:
            client.ok(m.ScsiCloseRequest())
        assert client.error(m.TapeOpenRequest(DRIVE, TapeMode.RDWR)) == (0 if has else ErrorCode.NO_DEVICE_ERR)
        assert client.error(m.DataListenRequest(LOCAL)) == (0 if has else ErrorCode.ILLEGAL_ARGS_ERR)
        client.hang_up()


def test_a_data_connection_is_of_the_type_that_was_prepared(server: Server, volumes: dict[str, Path]) -> None:
    env = pairs(FILESYSTEM="/vs1/home/tree")
    with connect(server, "intercluster", NODE) as client:
        client.protocol.extensions = {CAB: 1}  # only spelled, not chosen
        assert client.error(m.CabDataConnPrepareRequest(TCP, b"dump", env)) == ErrorCode.NOT_SUPPORTED_ERR
        choose_cab(client)
        for wrong in (
            m.CabDataConnPrepareRequest(7, b"dump", env),
            m.CabDataConnPrepareRequest(TCP, b"cpio", env),
            m.CabDataConnPrepareRequest(TCP, b"dump", ()),
            m.CabDataConnPrepareRequest(TCP, b"dump", pairs(FILESYSTEM="/vs9/home")),
        ):
            assert client.error(wrong) == ErrorCode.ILLEGAL_ARGS_ERR
        client.ok(m.DataListenRequest(LOCAL))  # nothing was prepared
        assert client.error(m.CabDataConnPrepareRequest(TCP, b"dump", env)) == ErrorCode.ILLEGAL_STATE_ERR
        client.ok(m.DataAbortRequest())
        client.ok(m.DataStopRequest())
        client.ok(m.CabDataConnPrepareRequest(TCP, b"dump", env))
        assert client.error(m.DataListenRequest(LOCAL)) == ErrorCode.PRECONDITION_ERR
        assert client.error(m.DataConnectRequest(m.LOCAL)) == ErrorCode.PRECONDITION_ERR
        assert "CAB data connection prepare precondition error: TCP was prepared, not this type" in client.log()
        assert start_error(client, backup(volumes["of-one"])) == 0
        client.ok(m.DataListenRequest(LOCAL))  # STOP has ended what was prepared
        client.ok(m.DataAbortRequest())
        client.ok(m.DataStopRequest())
        client.hang_up()
    with connect(server, "data1", ONE) as client:
        choose_cab(client)
        client.ok(m.CabDataConnPrepareRequest(TCP, b"dump", env))
        for foreign in ("/vs2/home/tree", str(volumes["of-two"]), str(volumes["of-node"])):
            request = m.CabDataConnPrepareRequest(TCP, b"dump", pairs(FILESYSTEM=foreign))
            assert client.error(request) == ErrorCode.ILLEGAL_ARGS_ERR


@pytest.mark.parametrize("name", LOGINS)
def test_what_is_opened_is_what_is_shown(server: Server, name: str) -> None:
    has = name in HAS_TAPES
    with connect(server, name, LOGINS[name]) as client:
        assert client.error(m.ScsiOpenRequest(CHANGER)) == (0 if has else ErrorCode.NO_DEVICE_ERR)
        if has:
            client.ok(m.ScsiCloseRequest())
        assert client.error(m.ScsiOpenRequest(b"vtl0")) == ErrorCode.NO_DEVICE_ERR
        assert client.error(m.TapeOpenRequest(DRIVE, TapeMode.RDWR)) == (0 if has else ErrorCode.NO_DEVICE_ERR)
        assert client.error(m.DataListenRequest(LOCAL)) == (0 if has else ErrorCode.ILLEGAL_ARGS_ERR)
        assert client.error(m.DataConnectRequest(m.LOCAL)) == (
            ErrorCode.ILLEGAL_STATE_ERR if has else ErrorCode.ILLEGAL_ARGS_ERR
        )
        assert client.error(m.MoverListenRequest(MoverMode.READ, LOCAL)) == (
            ErrorCode.PRECONDITION_ERR if has else ErrorCode.ILLEGAL_ARGS_ERR
        )
        assert client.error(m.DataListenRequest(AddressType.TCP_IPV6)) == ErrorCode.ILLEGAL_ARGS_ERR
        client.hang_up()  # the next one finds the drive free


def start_error(client: NdmpClient, request: Body) -> int:
    """The answer to a START behind a TCP data connection, which is taken back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.ok(m.DataConnectRequest(m.tcp_address(0x7F00_0001, listener.getsockname()[1])))
        peer, _ = listener.accept()
    with peer:
        error = client.error(request)
        client.ok(m.DataAbortRequest())
        client.ok(m.DataStopRequest())
    return error


def backup(path: bytes | str | Path) -> m.DataStartBackupRequest:
    return m.DataStartBackupRequest(b"dump", (m.Pval(b"FILESYSTEM", os.fsencode(path)),))


def recover(path: bytes | str | Path) -> m.DataStartRecoverRequest:
    return m.DataStartRecoverRequest((), (m.RecoverName(b"", os.fsencode(path)),), b"dump")


@pytest.mark.parametrize("name", LOGINS)
def test_what_is_backed_up_is_what_is_shown(server: Server, volumes: dict[str, Path], name: str) -> None:
    with connect(server, name, LOGINS[name]) as client:
        for volume, directory in volumes.items():
            paths = [os.fsencode(directory)] + [alias for each, alias in ALIASES.items() if each == volume]
            for path in paths:
                expected = 0 if volume in REACHED[name] else ErrorCode.ILLEGAL_ARGS_ERR
                assert start_error(client, backup(path + b"/tree")) == expected, path
                assert start_error(client, recover(path + b"/tree")) == expected, path


def test_no_way_leads_into_another_vserver(server: Server, volumes: dict[str, Path]) -> None:
    one, two = volumes["of-one"], volumes["of-two"]
    ways: list[str | Path] = [
        two,
        one / ".." / "of-two",
        one / "out",
        one / "out" / "tree",
        "/vs2/home",
        "/vs1/home/../../vs2/home",
        "/vs1/home/out/tree",
        "/vs1/../vs2/home",
        "/vs1/../" + str(two),
        "/vs1",
        "/vs1/home2",
        one.parent,
        "/",
        "/proc/self/root" + str(two),
    ]
    with connect(server, "data1", ONE) as client:
        for path in ways:
            assert start_error(client, backup(path)) == ErrorCode.ILLEGAL_ARGS_ERR, path
            assert start_error(client, recover(path)) == ErrorCode.ILLEGAL_ARGS_ERR or path in {
                one / "out",
                one / "out" / "tree",
                "/vs1/home/out/tree",
            }, path
        told = "\n".join(client.log())
        assert "vs2 " not in told
        assert "of vs2" not in told
    assert sorted(os.listdir(two)) == ["tree"]
    assert (two / "tree" / "file").read_text() == "of-two"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("node-mgmt", {NODE, ADMIN}),
        ("cluster-mgmt", {NODE, ADMIN}),
        ("intercluster", {NODE, ADMIN}),
        ("data1", {ONE, BOTH}),
        ("data2", {TWO, BOTH}),
    ],
)
def test_who_may_log_in_where(server: Server, name: str, allowed: set[Login]) -> None:
    for login in (NODE, ADMIN, ONE, TWO, BOTH):
        with connect(server, name) as client:
            try:
                client.log_in(login, "md5" if name == "data2" else "text")
            except AssertionError as error:
                assert "NOT_AUTHORIZED_ERR" in str(error)  # noqa: PT017 -- the refusal is what is looked for
                assert login not in allowed
            else:
                assert login in allowed


def test_login_methods_are_those_of_the_vserver(server: Server) -> None:
    offers = {"node-mgmt": (2, 1), "data1": (1,), "data2": (2,)}
    for name, expected in offers.items():
        with connect(server, name) as client:
            reply = client.ok(m.ConfigGetServerInfoRequest())
            assert isinstance(reply, m.ConfigGetServerInfoReply)
            assert reply.auth_type == expected


def greeting(server: Server, name: str) -> m.NotifyConnectionStatusPost:
    """What a LIF says first."""
    (found,) = [each for each in server.ready.lifs if each.name == name]
    protocol = ClientProtocol()
    with socket.create_connection((found.address, found.port), timeout=DEADLINE_S) as sock:
        while (event := protocol.next_event()) is None:
            protocol.feed(sock.recv(65536))
    assert isinstance(event, Post)
    assert isinstance(event.body, m.NotifyConnectionStatusPost)
    return event.body


def test_a_vserver_has_its_own_bound_of_sessions(server: Server) -> None:
    with connect(server, "data3"):
        refused = greeting(server, "data3")
        assert (refused.reason, refused.text_reason) == (ConnectionStatusReason.REFUSED, b"too many sessions")
        assert greeting(server, "data1").reason == ConnectionStatusReason.CONNECTED


def test_a_vserver_that_disallows_ndmp_takes_no_connection(server: Server) -> None:
    refused = greeting(server, "data4")
    assert (refused.reason, refused.text_reason) == (ConnectionStatusReason.REFUSED, b"NDMP is not allowed here")


def test_sessions_are_told_apart_by_their_vserver(server: Server) -> None:
    with connect(server, "data1", ONE), connect(server, "data2", TWO), connect(server, "node-mgmt", NODE):
        for vserver in ("vs1", "vs2"):
            sessions = server.ask("status", "--vserver", vserver)["sessions"]
            assert isinstance(sessions, list)
            assert {each["vserver"] for each in sessions} == {vserver}
            probed = server.ask("probe", "--vserver", vserver, "--fields", "vserver,client-addr")["sessions"]
            assert {"vserver": vserver, "client-addr": "127.0.0.1"} in probed  # type: ignore[operator]  # a list


def test_a_backup_of_a_vserver_goes_to_a_drive_of_the_node_three_way(server: Server, volumes: dict[str, Path]) -> None:
    with connect(server, "data1", ONE) as data, connect(server, "intercluster", NODE) as tape:
        job = Job(data, tape)
        job.connect_data(MoverMode.READ)
        data.ok(m.DataStartBackupRequest(b"dump", pairs(FILESYSTEM="/vs1/home/tree", UPDATE="y", LEVEL="0")))
        assert data.data_halted() == DataHaltReason.SUCCESSFUL
        tape.mover_halted()
        data.ok(m.DataStopRequest())
        tape.hang_up()
    jobs = server.ask("jobs", "--vserver", "vs1")["jobs"]
    assert isinstance(jobs, list)
    assert [each["path"] for each in jobs if each["state"] == "successful"][-1] == "/vs1/home/tree"
    assert "vs1" not in {each["vserver"] for each in server.ask("jobs", "--vserver", "vs2")["jobs"]}  # type: ignore[attr-defined]  # a list
    dates = server.ask("dumpdates", "list")["dump-dates"]
    assert [each["filesystem"] for each in dates] == [str(volumes["of-one"] / "tree")]  # type: ignore[attr-defined]  # a list


def test_a_vserver_has_versions_of_its_own(server: Server) -> None:
    server.ask("modify", "--vserver", "vs2", "--maxversion", "3")
    try:
        told = {name: server.ask("version", *words)["server"] for name, words in (
            ("node", ()), ("vs1", ("--vserver", "vs1")), ("vs2", ("--vserver", "vs2")),
        )}  # fmt: skip
    finally:
        server.ask("modify", "--vserver", "vs2", "--reset", "maxversion")
    assert {name: each["ndmp-versions"] for name, each in told.items()} == {  # type: ignore[index]  # documents
        "node": [1, 2, 3, 4], "vs1": [1, 2, 3, 4], "vs2": [1, 2, 3],
    }  # fmt: skip
    with pytest.raises(ServerError, match="there is no vserver vs9"):
        server.ask("version", "--vserver", "vs9")
