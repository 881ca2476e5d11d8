"""What users are bound to, over the wire: to them no other volume, drive or changer exists."""

import os
import signal
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from mover.admin import accounts
from mover.admin import messages as a
from mover.config import ConfigError, load_config
from mover.control import account_table
from mover.control.account_table import AccountRow, read_accounts, write_account
from mover.control.reach import Bounds
from mover.control.store import SCHEMA_VERSION, open_store
from mover.control.volumes import PlacementError, Volumes
from mover.ndmp import messages as m
from mover.ndmp.enums import ErrorCode, TapeMode
from mover.ndmp.messages import Body
from mover.workers.data_messages import Place
from tests.control.test_logins import LOGIN_PASSWORD, ask, refused
from tests.support.ndmp_client import NdmpClient
from tests.support.processes import settle
from tests.support.servers import Login, Server, write_config

NODE = Login("all", "the secret of the node")
BOUND = Login("bound", "the secret of one volume")
NONE = Login("none", "the secret of nothing")
TENANT = Login("tenant", "the secret of one volume of vs1")
DRIVES = (b"vtl0/drive0", b"vtl0/drive1")
CHANGER = b"vtl0/changer"


def bounded(login: Login, role: str, vservers: str, volumes: str, devices: str) -> str:
    return (
        f'[[user]]\nname = "{login.user}"\nrole = "{role}"\npassword = "{login.password}"\n'
        f"vservers = [{vservers}]\nvolumes = [{volumes}]\ndevices = [{devices}]\n"
    )


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mover-bounds-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    for volume in ("one", "two", "vs1-home", "vs1-mail"):
        (directory / volume / "tree").mkdir(parents=True)
        (directory / volume / "tree" / "file").write_text(volume)
    (directory / "one" / "out").symlink_to(directory / "two")
    extra = [
        f'[[vserver]]\nname = "vs1"\n[vserver.volumes]\nhome = "{directory}/vs1-home"\nmail = "{directory}/vs1-mail"\n',
        '[[lif]]\nname = "data1"\nport = 0\nrole = "data"\nvserver = "vs1"\n',
        bounded(BOUND, "backup", "", '"one"', '"vtl0/drive1"'),
        bounded(NONE, "backup", "", "", ""),
        bounded(TENANT, "vsadmin", '"vs1"', '"vs1/home"', '"*"'),
    ]
    volumes = {each: directory / each for each in ("one", "two")}
    with Server(write_config(directory, NODE, volumes=volumes, drives=2, extra="\n".join(extra))) as running:
        running.ask("tape", "load", "vtl0/drive1")
        yield running


def connect(server: Server, login: Login, version: int = 4) -> NdmpClient:
    lif = server.ready.lifs[1 if login is TENANT else 0]
    return NdmpClient(f"{lif.address}:{lif.port}", login=login, version=version, method="md5")


def shown(client: NdmpClient) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Volumes, drives and changers."""
    volumes, tapes, changers = (
        client.ok(m.ConfigGetFsInfoRequest()),
        client.ok(m.ConfigGetTapeInfoRequest()),
        client.ok(m.ConfigGetScsiInfoRequest()),
    )
    assert isinstance(volumes, m.ConfigGetFsInfoReply)
    assert isinstance(tapes, m.ConfigGetTapeInfoReply)
    assert isinstance(changers, m.ConfigGetScsiInfoReply)
    return (
        [each.fs_logical_device for each in volumes.fs_info],
        [info.caplist[0].device for info in tapes.tape_info],
        [info.caplist[0].device for info in changers.scsi_info],
    )


def test_only_what_a_user_is_bound_to_is_shown(server: Server, directory: Path) -> None:
    one, two = (os.fsencode(directory / each) for each in ("one", "two"))
    expected = {
        NODE: ([one, two, b"/vs1/home", b"/vs1/mail"], list(DRIVES), [CHANGER]),
        BOUND: ([one], [DRIVES[1]], []),
        NONE: ([], [], []),
        TENANT: ([b"/vs1/home"], [], []),
    }
    for login, reached in expected.items():
        with connect(server, login) as client:
            assert shown(client) == reached, login


def answer(client: NdmpClient, request: Body) -> tuple[int, list[str]]:
    """The error and what the log says, which for what is not reached are those for what is not there."""
    before = len(client.log())
    return client.error(request), client.log()[before:]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_other_devices_are_not_there(server: Server, version: int) -> None:
    with connect(server, BOUND, version) as client:
        for device in (DRIVES[0], b"nr" + DRIVES[0]):
            missing = answer(client, m.TapeOpenRequest(b"vtl0/drive7", TapeMode.RDWR))
            assert missing[0] == ErrorCode.NO_DEVICE_ERR
            assert answer(client, m.TapeOpenRequest(device, TapeMode.RDWR)) == missing
        for device in (CHANGER, DRIVES[0]):
            assert answer(client, m.ScsiOpenRequest(device)) == answer(client, m.ScsiOpenRequest(b"vtl9/changer"))
        client.ok(m.TapeOpenRequest(DRIVES[1], TapeMode.RDWR))
        client.ok(m.TapeCloseRequest())
        client.ok(m.ScsiOpenRequest(DRIVES[1]))
        if version < 4:  # the bus is scanned from there
            for number in (0, 1):
                assert client.error(m.ScsiSetTargetRequest(b"", 0, number, 0)) == ErrorCode.NO_DEVICE_ERR
            assert client.error(m.ScsiSetTargetRequest(CHANGER, 0, 0, 0)) == ErrorCode.NO_DEVICE_ERR
            client.ok(m.ScsiSetTargetRequest(b"", 0, 2, 0))
        client.ok(m.ScsiCloseRequest())
    with connect(server, NONE, version) as client:
        for request in (m.TapeOpenRequest(DRIVES[1], TapeMode.RDWR), m.ScsiOpenRequest(b"vtl0")):
            assert client.error(request) == ErrorCode.NO_DEVICE_ERR


def test_another_login_takes_no_device_along(server: Server) -> None:
    again = m.ConnectClientAuthRequest(m.AuthText(BOUND.user.encode(), BOUND.password.encode()))
    with connect(server, NODE) as client:
        client.ok(m.ScsiOpenRequest(CHANGER))
        assert client.error(again) == ErrorCode.ILLEGAL_STATE_ERR
        client.ok(m.ScsiCloseRequest())
        client.log_in(BOUND, "md5")
        assert client.error(m.ScsiOpenRequest(CHANGER)) == ErrorCode.NO_DEVICE_ERR


def backup(path: bytes) -> m.DataStartBackupRequest:
    return m.DataStartBackupRequest(b"dump", (m.Pval(b"FILESYSTEM", path),))


def recover(path: bytes) -> m.DataStartRecoverRequest:
    return m.DataStartRecoverRequest((), (m.RecoverName(b"", path),), b"dump")


def test_other_volumes_are_not_there(server: Server, directory: Path) -> None:
    """START answers, by error and by text, as for a path that does not exist; nothing is done."""
    paths: dict[Login, list[str | Path]] = {
        BOUND: [directory / "two", directory / "one" / ".." / "two", directory, "/vs1/home", directory / "vs1-home"],
        NONE: [directory / "one", directory / "one" / "tree", "/vs1/home"],
        TENANT: ["/vs1/mail", directory / "vs1-mail", "/vs1/home/../mail", directory / "one"],
    }
    for login, refused_paths in paths.items():
        with connect(server, login) as client:
            for path in [os.fsencode(each) for each in refused_paths]:
                for request in (backup, recover):
                    error, told = start(client, request(path))
                    missing, told_missing = start(client, request(b"/missing"))
                    assert error == missing == ErrorCode.ILLEGAL_ARGS_ERR, path
                    if b".." not in path:
                        assert [line.replace(path.decode(), "/missing") for line in told] == told_missing
    reached: dict[Login, str | Path] = {BOUND: directory / "one" / "tree", TENANT: "/vs1/home/tree"}
    for login, reached_path in reached.items():
        with connect(server, login) as client:
            assert start(client, backup(os.fsencode(reached_path)))[0] == 0
    with connect(server, BOUND) as client:  # a symbolic link out of the volume is not followed
        assert start(client, backup(os.fsencode(directory / "one" / "out" / "tree")))[0] == ErrorCode.ILLEGAL_ARGS_ERR
    assert (directory / "two" / "tree" / "file").read_text() == "two"


def start(client: NdmpClient, request: Body) -> tuple[int, list[str]]:
    """The answer to a START behind a TCP data connection, which is taken back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.ok(m.DataConnectRequest(m.tcp_address(0x7F00_0001, listener.getsockname()[1])))
        peer, _ = listener.accept()
    with peer:
        found = answer(client, request)
        client.ok(m.DataAbortRequest())
        client.ok(m.DataStopRequest())
    return found


@pytest.mark.slow  # a login password is hashed
def test_operators_bind_users_and_let_them_loose(server: Server, directory: Path) -> None:
    ask(server, accounts.UserCreate("ops", "backup", password=LOGIN_PASSWORD, volumes=["one"], devices=[]), a.Done)
    login = Login("ops", ask(server, accounts.GeneratePassword("ops"), accounts.PasswordReply).password)
    one = os.fsencode(directory / "one")
    with connect(server, login) as client:
        assert shown(client) == ([one], [], [])
        ask(server, accounts.UserModify("ops", role="admin"), a.Done)  # which bars him from nothing
        assert shown(client) == ([one], [], [])
        done = ask(server, accounts.UserModify("ops", devices=["vtl0/changer"]), a.Done)
        assert done.text == "user ops is changed, and 1 session of his ended"
    with connect(server, login) as client:
        assert shown(client) == ([one], [], [CHANGER])
    (row,) = ask(server, accounts.UserShow("ops"), accounts.UserShowReply).users
    assert (row.volumes, row.devices) == (["one"], ["vtl0/changer"])
    ask(server, accounts.UserModify("ops", volumes=["*"], devices=["*"]), a.Done)
    with connect(server, login) as client, connect(server, NODE) as free:
        assert shown(client) == shown(free)
    for wrong in (
        accounts.UserModify("ops", volumes=["nine"]),
        accounts.UserModify("ops", volumes=["home"]),  # a vserver's goes by VSERVER/NAME
        accounts.UserModify("ops", devices=["vtl0"]),
        accounts.UserCreate("more", "backup", password=LOGIN_PASSWORD, volumes=["vs1/nine"]),
        accounts.UserCreate("more", "backup", password=LOGIN_PASSWORD, devices=["vtl0/drive7"]),
    ):
        assert refused(server, wrong)[0] == "not-found"
    ask(server, accounts.UserDelete("ops"), a.Done)


@pytest.mark.slow
def test_a_new_configuration_ends_the_sessions_of_those_it_binds(server: Server) -> None:
    text = server.config.read_text()
    with connect(server, NODE) as unchanged, connect(server, NONE) as changed:
        server.config.write_text(text.replace("volumes = []", 'volumes = ["one"]'))
        try:
            os.kill(server.pid, signal.SIGHUP)
            while changed.socket.recv(65536):
                pass
        finally:
            server.config.write_text(text)
        shown(unchanged)
    os.kill(server.pid, signal.SIGHUP)
    settle(
        lambda: ask(server, accounts.UserShow(NONE.user), accounts.UserShowReply).users[0].volumes == [], "read again"
    )


def test_a_configuration_names_volumes_that_there_are(tmp_path: Path) -> None:
    path = write_config(tmp_path, NODE, extra=bounded(BOUND, "backup", "", '"nine"', ""))
    with pytest.raises(ConfigError, match=r'user\[1\]\.volumes: expected volumes of the node, .*, got "nine"'):
        load_config(str(path))


def test_a_volume_that_is_not_reached_holds_no_path() -> None:
    volumes = Volumes({"srv": "/srv", "home": "/home"}, {"vs1": {"home": "/vol/home"}})
    bound = volumes.within(Bounds(volumes=("srv", "vs1/home")))
    assert [each.name for each in bound.listed] == ["srv", "vs1/home"]
    assert bound.place(b"/vs1/home/x") == Place(b"/vol/home", b"x")
    for path in (b"/home", b"/home/x", b"/"):
        with pytest.raises(PlacementError, match="outside every volume of this server"):
            bound.place(path)
    assert volumes.within(Bounds()) is volumes
    assert volumes.within(Bounds(volumes=())).listed == []


async def test_users_of_an_earlier_version_reach_everything(tmp_path: Path) -> None:
    """Its database has no columns for bounds: it gets them, and what is written then comes back."""
    with closing(sqlite3.connect(tmp_path / "mover.sqlite")) as database:
        database.executescript(account_table.TABLES)
        database.execute("CREATE TABLE option (vserver TEXT, name TEXT, value TEXT)")
        database.execute("INSERT INTO account VALUES ('ops', 'local', 'backup', '', 1, 'hash', x'00', 7)")
        database.execute("PRAGMA user_version = 4")
        database.commit()
    ops = AccountRow(name="ops", source="local", role="backup", login_hash="hash", sealed=b"\0", made=7)
    bound = AccountRow(name="b", source="local", role="backup", volumes=("one", "vs1/home"), devices=())
    with trio.fail_after(30):
        async with open_store(str(tmp_path)) as store:
            assert await store.run(read_accounts) == [ops]
            await store.run(lambda database: write_account(database, bound))
        async with open_store(str(tmp_path)) as store:
            assert await store.run(read_accounts) == [bound, ops]
            version = await store.run(lambda database: database.execute("PRAGMA user_version").fetchone())
    assert version == (SCHEMA_VERSION,)
