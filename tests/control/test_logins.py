"""Logins against a running server: users that operators made, what ends an NDMP password, and attacks."""

import contextlib
import json
import os
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from mover.admin import AdminClient, RefusedError, accounts, sessions
from mover.admin import messages as a
from mover.ndmp.auth import md5_digest
from mover.ndmp.enums import AuthType, ErrorCode
from mover.ndmp.messages import (
    ConfigGetAuthAttrReply,
    ConfigGetAuthAttrRequest,
    ConfigGetServerInfoReply,
    ConfigGetServerInfoRequest,
    ConnectClientAuthRequest,
    DataGetStateRequest,
    LogMessagePost,
)
from mover.ndmp.messages.common import AuthMd5, AuthMd5Attr, AuthText
from tests.support.ndmp_client import DEADLINE_S, NdmpClient
from tests.support.processes import settle
from tests.support.servers import Login, Server, write_config

pytestmark = pytest.mark.slow  # a server for each, and refusals that take their time

LOGIN = Login("ndmp", "the secret of the file")
LOGIN_PASSWORD = "correct horse"
LOCKOUT = 4
R = TypeVar("R", bound=a.Reply)


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="mover-logins-") as name:
        config = write_config(
            Path(name), LOGIN, drives=1,
            authtype=("challenge", "plaintext", "plaintext_sso"),
            extra=f"[authentication]\nlockout_failures = {LOCKOUT}\nlockout_s = 86400\n",
        )  # fmt: skip
        with Server(config) as running:
            yield running


def ask(server: Server, request: a.Request, kind: type[R]) -> R:
    with AdminClient(server.ready.admin_socket) as client:
        reply = client.ask(request)
    assert isinstance(reply, kind)
    return reply


def refused(server: Server, request: a.Request) -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught, AdminClient(server.ready.admin_socket) as client:
        client.ask(request)
    return caught.value.code, str(caught.value)


def made(server: Server, user: str = "ops", role: str = "backup") -> str:
    """A local user's NDMP password."""
    ask(server, accounts.UserCreate(user, role, password=LOGIN_PASSWORD), a.Done)
    return ask(server, accounts.GeneratePassword(user), accounts.PasswordReply).password


def state(server: Server, user: str = "ops") -> str:
    (found,) = ask(server, accounts.UserShow(user), accounts.UserShowReply).users
    return found.ndmp_password


def attempt(server: Server, user: str, password: str, method: str = "text") -> int:
    with NdmpClient(server.address) as client:
        if method == "text":
            return client.error(ConnectClientAuthRequest(AuthText(user.encode(), password.encode())))
        digest = md5_digest(challenge(client), password.encode())
        return client.error(ConnectClientAuthRequest(AuthMd5(user.encode(), digest)))


def challenge(client: NdmpClient) -> bytes:
    reply = client.ok(ConfigGetAuthAttrRequest(AuthType.MD5))
    assert isinstance(reply, ConfigGetAuthAttrReply)
    assert isinstance(reply.server_attr, AuthMd5Attr)
    return reply.server_attr.challenge


def files(server: Server) -> dict[str, bytes]:
    """Everything that the server has written."""
    state_directory = server.config.parent / "state"
    found = {path.name: path.read_bytes() for path in state_directory.rglob("*") if path.is_file()}
    return found | {"log": server.log.read_bytes()}


def audit(server: Server) -> list[dict[str, object]]:
    return [json.loads(line) for line in (server.config.parent / "state" / "audit.log").read_text().splitlines()]


@pytest.mark.parametrize("method", ["md5", "text"])
def test_a_user_logs_in_with_the_generated_password_also_behind_a_restart(server: Server, method: str) -> None:
    password = made(server)
    assert len(password) == 16
    assert state(server) == "valid"
    assert attempt(server, "ops", password, method) == ErrorCode.NO_ERR
    assert attempt(server, "ops", LOGIN_PASSWORD, method) == ErrorCode.NOT_AUTHORIZED_ERR
    server.stop()
    with Server(server.config) as again:
        assert state(again) == "valid"
        assert attempt(again, "ops", password, method) == ErrorCode.NO_ERR


def test_a_changed_login_password_ends_the_ndmp_password(server: Server) -> None:
    password = made(server)
    ask(server, accounts.UserModify("ops", password="another horse"), a.Done)
    assert state(server) == "stale"
    assert attempt(server, "ops", password) == ErrorCode.NOT_AUTHORIZED_ERR
    again = ask(server, accounts.GeneratePassword("ops"), accounts.PasswordReply).password
    assert attempt(server, "ops", again) == ErrorCode.NO_ERR
    assert attempt(server, "ops", password) == ErrorCode.NOT_AUTHORIZED_ERR
    newer = ask(server, accounts.GeneratePassword("ops"), accounts.PasswordReply).password
    assert newer != again
    assert attempt(server, "ops", again) == ErrorCode.NOT_AUTHORIZED_ERR


def test_all_refusals_look_alike(server: Server) -> None:
    """Nobody learns which users there are: one error, no text, also behind the lockout."""
    made(server)
    ask(server, accounts.UserCreate("without", "backup", password=LOGIN_PASSWORD), a.Done)
    made(server, "off")
    ask(server, accounts.UserModify("off", authentication_method="none"), a.Done)
    for user in ("ops", "without", "off", "nobody", "", "\x00", "ö" * 100, LOGIN.user):
        for method in ("text", "md5"):
            with NdmpClient(server.address) as client:
                data: AuthText | AuthMd5 = AuthText(user.encode(), b"wrong")
                if method == "md5":
                    data = AuthMd5(user.encode(), md5_digest(challenge(client), b"wrong"))
                reply = client.ask(ConnectClientAuthRequest(data))
                assert (reply.error, reply.request.name) == (ErrorCode.NOT_AUTHORIZED_ERR, "CONNECT_CLIENT_AUTH")
                assert client.error(DataGetStateRequest()) == ErrorCode.NOT_AUTHORIZED_ERR
                assert [seen for seen in client.posts if isinstance(seen.body, LogMessagePost)] == []


def test_too_many_failures_lock_the_user_out_at_that_address_also_with_the_right_password(server: Server) -> None:
    password = made(server)
    for _ in range(LOCKOUT):
        assert attempt(server, "ops", "guess") == ErrorCode.NOT_AUTHORIZED_ERR
    assert attempt(server, "ops", password) == ErrorCode.NOT_AUTHORIZED_ERR
    assert attempt(server, "ops", password, "md5") == ErrorCode.NOT_AUTHORIZED_ERR
    assert attempt(server, LOGIN.user, LOGIN.password) == ErrorCode.NO_ERR
    assert "user is locked out" in server.log.read_text()
    assert audit(server)[-2]["reason"] == "locked out after too many failures"


def test_a_brute_force_over_many_connections_at_once_gets_no_more_tries(server: Server) -> None:
    made(server)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(NdmpClient(server.address)) for _ in range(12)]
        sent = [client.send(ConnectClientAuthRequest(AuthText(b"ops", b"guess"))) for client in clients]
        for client, sequence in zip(clients, sent, strict=True):
            assert client.reply_to(sequence, "CLIENT_AUTH").error == ErrorCode.NOT_AUTHORIZED_ERR
    reasons = [line["reason"] for line in audit(server) if line["event"] == "login"]
    assert reasons.count("wrong password") == LOCKOUT
    assert reasons.count("locked out after too many failures") == 12 - LOCKOUT


def test_a_digest_that_was_overheard_is_of_no_use(server: Server) -> None:
    password = made(server)
    with NdmpClient(server.address) as client:
        overheard = AuthMd5(b"ops", md5_digest(challenge(client), password.encode()))
        assert client.error(ConnectClientAuthRequest(overheard)) == ErrorCode.NO_ERR
        assert client.error(ConnectClientAuthRequest(overheard)) == ErrorCode.NOT_AUTHORIZED_ERR
        assert client.error(DataGetStateRequest()) == ErrorCode.NOT_AUTHORIZED_ERR
    with NdmpClient(server.address) as client:
        assert client.error(ConnectClientAuthRequest(overheard)) == ErrorCode.NOT_AUTHORIZED_ERR
        challenge(client)
        assert client.error(ConnectClientAuthRequest(overheard)) == ErrorCode.NOT_AUTHORIZED_ERR


@pytest.mark.parametrize(
    "request_",
    [
        accounts.UserDelete("ops"),
        accounts.UserModify("ops", authentication_method="none"),
        accounts.UserModify("ops", role="outsiders"),
    ],
    ids=["deleted", "disabled", "without the privilege"],
)
def test_a_user_who_may_not_any_more_loses_his_sessions(server: Server, request_: a.Request) -> None:
    password = made(server)
    ask(server, accounts.RoleCreate("outsiders", "none"), a.Done)
    with NdmpClient(server.address, login=Login("ops", password)) as client:
        done = ask(server, request_, a.Done)
        assert "1 session of his ended" in done.text
        assert client.socket.recv(65536) == b""
    assert attempt(server, "ops", password) == ErrorCode.NOT_AUTHORIZED_ERR
    assert attempt(server, LOGIN.user, LOGIN.password) == ErrorCode.NO_ERR


def test_a_user_who_is_taken_out_of_the_file_loses_his_sessions(server: Server) -> None:
    password = made(server)
    with (
        NdmpClient(server.address, login=LOGIN) as client,
        NdmpClient(server.address, login=Login("ops", password)) as other,
    ):
        text = server.config.read_text()
        server.config.write_text(text.replace(f'name = "{LOGIN.user}"', 'name = "successor"'))
        os.kill(server.pid, signal.SIGHUP)
        assert client.socket.recv(65536) == b""
        other.ok(DataGetStateRequest())
    ended = [each for each in audit(server) if each["event"] == "kill"]
    assert [(each["user"], each["reason"]) for each in ended] == [(LOGIN.user, "there is no such user any more")]


def test_login_passwords_do_not_go_over_a_plain_connection(server: Server) -> None:
    """plaintext_sso is configured, and is not there without TLS."""
    made(server)
    assert attempt(server, "ops", LOGIN_PASSWORD) == ErrorCode.NOT_AUTHORIZED_ERR
    with NdmpClient(server.address) as client:
        info = client.ok(ConfigGetServerInfoRequest())
        assert isinstance(info, ConfigGetServerInfoReply)
        assert info.auth_type == (AuthType.MD5, AuthType.TEXT)


def test_roles_say_who_may(server: Server) -> None:
    ask(server, accounts.RoleCreate("operators", "readonly"), a.Done)
    ask(server, accounts.RoleCreate("outsiders", "none"), a.Done)
    assert attempt(server, "reader", made(server, "reader", "operators")) == ErrorCode.NO_ERR
    password = made(server, "turned")
    ask(server, accounts.UserModify("turned", role="outsiders"), a.Done)
    assert attempt(server, "turned", password) == ErrorCode.NOT_AUTHORIZED_ERR
    assert refused(server, accounts.GeneratePassword("turned"))[0] == "refused"
    assert refused(server, accounts.RoleDelete("operators")) == ("busy", "role operators is that of reader")
    ask(server, accounts.UserDelete("reader"), a.Done)
    ask(server, accounts.RoleDelete("operators"), a.Done)
    roles = ask(server, accounts.RoleShow(), accounts.RoleShowReply).roles
    assert [(each.role, each.access, each.built_in) for each in roles] == [
        ("admin", "all", True), ("backup", "all", True), ("vsadmin", "all", True), ("vsadmin-backup", "all", True),
        ("outsiders", "none", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (accounts.UserCreate("ndmp", "backup", password="long enough"), "busy", "there is a user ndmp already"),
        (accounts.UserCreate("u", "backup"), "bad-request", "a local user needs a login password"),
        (
            accounts.UserCreate("u", "backup", password="short"), "bad-request",
            "a login password has at least 8 characters",
        ),
        (
            accounts.UserCreate("u", "nosuch", password="long enough"), "not-found",
            "there is no role nosuch (roles: admin, backup, vsadmin, vsadmin-backup)",
        ),
        (
            accounts.UserCreate("u", "vsadmin", password="long enough"), "bad-request",
            "a user of role vsadmin needs a vserver",
        ),
        (
            accounts.UserCreate("u", "vsadmin", vservers=["v9"], password="long enough"), "not-found",
            "there is no vserver v9 (vservers: none)",
        ),
        (
            accounts.UserCreate("DOMAIN\\u", "backup", "system"), "refused",
            "DOMAIN\\u: users of Active Directory cannot log in by NDMP",
        ),
        (accounts.UserCreate("nosuch-user", "backup", "system"), "not-found", "nosuch-user is no user of this host"),
        (accounts.UserModify("nobody9", role="admin"), "not-found", "there is no user nobody9"),
        (accounts.UserDelete("nobody9"), "not-found", "there is no user nobody9"),
        (accounts.UserShow("nobody9"), "not-found", "there is no user nobody9"),
        (accounts.GeneratePassword("nobody9"), "not-found", "there is no user nobody9"),
        (accounts.RoleCreate("admin"), "busy", "there is a role admin already"),
        (accounts.RoleDelete("admin"), "refused", "role admin is always there"),
        (accounts.RoleShow("nosuch"), "not-found", "there is no role nosuch"),
    ],
)  # fmt: skip
def test_what_operators_may_not(shared: Server, request_: a.Request, code: str, text: str) -> None:
    assert refused(shared, request_) == (code, text)


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="mover-logins-") as name,
        Server(write_config(Path(name), LOGIN)) as running,
    ):
        yield running


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a:b", "-a", "a\nb", "x" * 65])
def test_names_that_are_none(shared: Server, name: str) -> None:
    for request in (accounts.UserCreate(name, "backup", password="long enough"), accounts.RoleCreate(name)):
        assert refused(shared, request)[0] == "bad-request"


@pytest.mark.parametrize(
    "request_", [accounts.UserModify("ndmp"), accounts.UserDelete("ndmp"), accounts.GeneratePassword("ndmp")]
)
def test_a_user_of_the_file_is_not_changed(shared: Server, request_: a.Request) -> None:
    assert refused(shared, request_) == (
        "refused", "user ndmp stands in the configuration file, with his NDMP password",
    )  # fmt: skip


def test_who_comes_from_elsewhere_is_refused_before_a_login(server: Server) -> None:
    text = server.config.read_text()
    server.config.write_text(text.replace("[authentication]", '[authentication]\nallow = ["127.0.0.2/32"]'))
    said = "configuration read again"
    os.kill(server.pid, signal.SIGHUP)
    settle(lambda: said in server.log.read_text(), said)
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as stranger:
        assert b"not from this address" in stranger.recv(65536)
        assert stranger.recv(65536) == b""
    allowed = socket.create_connection((host, int(port)), timeout=DEADLINE_S, source_address=("127.0.0.2", 0))
    with NdmpClient(server.address, login=LOGIN, connection=allowed) as client:
        client.ok(DataGetStateRequest())
    first = audit(server)[0]
    assert (first["event"], first["client"], first["reason"]) == ("connect", "127.0.0.1", "not from this address")


def test_secrets_are_nowhere(server: Server) -> None:
    password = made(server)
    for user, secret in (("ops", password), ("ops", LOGIN_PASSWORD), ("nobody", "typed wrong"), LOGIN):
        attempt(server, user, secret)
        attempt(server, user, secret, "md5")
    refused(server, accounts.UserCreate("ops", "backup", password=LOGIN_PASSWORD))
    refused(server, accounts.UserCreate("x", "nosuch", password=LOGIN_PASSWORD))
    said = json.dumps([server.ask(*words) for words in (["status"], ["probe"], ["user", "show"], ["version"])])
    server.stop()
    secrets = [each.encode() for each in (password, LOGIN_PASSWORD, "typed wrong", LOGIN.password)]
    found = files(server)
    key = found["seal.key"]
    for name, content in {**found, "said": said.encode()}.items():
        for hidden in secrets:
            assert hidden not in content, name
        assert name == "seal.key" or key not in content, name
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (server.config.parent / "state").iterdir()
        if path.name in {"seal.key", "mover.sqlite", "audit.log"}
    }
    assert modes == {"seal.key": 0o600, "mover.sqlite": 0o600, "audit.log": 0o600}


def test_the_audit_log_has_what_was_done_and_by_whom(server: Server) -> None:
    before = time.time()
    password = made(server)
    attempt(server, "ops", "wrong")
    with NdmpClient(server.address, login=Login("ops", password)) as client:
        (session,) = [row.session_id for row in ask(server, sessions.Status(), sessions.StatusReply).sessions]
        ask(server, sessions.Kill(session), a.Done)
        client.socket.recv(65536)
    lines = [{key: value for key, value in line.items() if key != "time"} for line in audit(server)]
    times = [line["time"] for line in audit(server)]
    assert times == sorted(times, key=str)
    assert str(times[0]) >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))
    uid = lines[0]["uid"]
    common = {"user": "ops", "client": "127.0.0.1", "lif": "only", "secure": False}
    assert lines == [
        {"event": "operator", "what": "UserCreate", "target": "ops", "result": "done", "uid": uid},
        {"event": "operator", "what": "GeneratePassword", "target": "ops", "result": "done", "uid": uid},
        {
            "event": "login", "result": "refused", "method": "text", "session": session - 1,
            "reason": "wrong password", **common,
        },
        {"event": "login", "result": "accepted", "method": "md5", "session": session, "reason": "", **common},
        {"event": "kill", "session": session, "user": "ops", "client": "127.0.0.1", "uid": uid},
    ]  # fmt: skip


def test_a_lost_key_ends_the_passwords_and_not_the_service(server: Server) -> None:
    password = made(server)
    server.stop()
    (server.config.parent / "state" / "seal.key").unlink()
    with Server(server.config) as again:
        assert attempt(again, "ops", password) == ErrorCode.NOT_AUTHORIZED_ERR
        assert state(again) == "unknown"
        assert attempt(again, LOGIN.user, LOGIN.password) == ErrorCode.NO_ERR
        newer = ask(again, accounts.GeneratePassword("ops"), accounts.PasswordReply).password
        assert attempt(again, "ops", newer) == ErrorCode.NO_ERR
