"""Users of the host: what an NDMP password is bound to, when it ends, and logins as the auth helper answers."""

import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from mover.config import Authentication, Config, Lif, Secret, User, Vserver
from mover.config import Node as NodeTable
from mover.control import accounts as accounts_module
from mover.control import passwords
from mover.control.accounts import DAY_S, AccountError, Accounts
from mover.control.audit import AuditLog
from mover.control.auth_helper import HelperError, SystemUser, ask_host
from mover.control.connection import Connection
from mover.control.logins import FLOOR_ASKING_S, FLOOR_S, FLOOR_SSO_S, Logins, Proof
from mover.control.store import open_store
from mover.ndmp.auth import md5_digest, new_challenge

pytestmark = pytest.mark.slow  # hashes of login passwords, and refusals that take their time


class Host:
    """Answers as the auth helper does."""

    def __init__(self) -> None:
        self.answer = SystemUser(known=True, fingerprint="f1", locked=False, accepted=False, text="")
        self.asked: list[tuple[str, str | None, str]] = []
        self.broken = False
        self.takes_s = 0.0

    async def __call__(self, user: str, *, password: str | None = None, service: str = "") -> SystemUser:
        self.asked.append((user, password, service))
        await trio.sleep(self.takes_s)
        if self.broken:
            raise HelperError("the auth helper did not answer")
        return self.answer

    def set(self, **changed: object) -> None:
        fields = {name: getattr(self.answer, name) for name in SystemUser.__struct_fields__}
        self.answer = SystemUser(**{**fields, **changed})


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(accounts_module, "ask_host", made)
    return made


def config(tmp_path: Path, days: int = 0) -> Config:
    return Config(
        node=NodeTable(state_directory=str(tmp_path)),
        authentication=Authentication(ndmp_password_days=days, lockout_failures=100),
        vserver=[Vserver(name="vs1"), Vserver(name="vs2")],
        lif=[Lif(name="mgmt"), Lif(name="data1", role="data", vserver="vs1"), Lif(name="ic", role="intercluster")],
        user=[User(name="file", password=Secret("of the file"))],
    )


@pytest.fixture
async def accounts(tmp_path: Path, host: Host) -> AsyncIterator[Accounts]:
    async with open_store(str(tmp_path)) as store:
        made = Accounts(config(tmp_path), store)
        await made.load()
        yield made


async def opened(accounts: Accounts, name: str) -> bytes | None:
    account = accounts.find(name)
    assert account is not None
    return (await accounts.ndmp_password(account))[0]


async def test_a_password_of_a_user_of_the_host_ends_with_the_login_password(accounts: Accounts, host: Host) -> None:
    with trio.fail_after(30):
        await accounts.create("root", "system", "backup", [], None, password_login=True)
        password = (await accounts.generate("root", "")).encode()
        assert await opened(accounts, "root") == password
        for changed in ({"fingerprint": "f2"}, {"known": False}, {"locked": True}, {"fingerprint": ""}):
            before = host.answer
            host.set(**changed)
            assert await opened(accounts, "root") is None
            host.answer = before
        assert await opened(accounts, "root") == password
        host.set(fingerprint="f2")
        assert await accounts.password_state("root") == "stale"
        host.broken = True
        assert await opened(accounts, "root") is None
        assert await accounts.password_state("root") == "unknown"


async def test_a_login_password_that_is_not_visible_is_refused_or_expires(
    accounts: Accounts, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(30):
        host.set(fingerprint="")
        await accounts.create("ldap", "system", "backup", [], None, password_login=True)
        with pytest.raises(AccountError, match=r"set authentication\.ndmp_password_days"):
            await accounts.generate("ldap", "")
        accounts.configure(config(tmp_path, days=30))
        password = (await accounts.generate("ldap", "")).encode()
        made = time.time()
        assert await opened(accounts, "ldap") == password
        monkeypatch.setattr(time, "time", lambda: made + 30 * DAY_S - 10)
        assert await opened(accounts, "ldap") == password
        monkeypatch.setattr(time, "time", lambda: made + 30 * DAY_S)
        assert await opened(accounts, "ldap") is None
        assert await accounts.password_state("ldap") == "expired"
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["DOMAIN\\user", "user@domain"])
async def test_users_of_active_directory_are_refused(accounts: Accounts, host: Host, name: str) -> None:
    with pytest.raises(AccountError, match="Active Directory"), trio.fail_after(30):
        await accounts.create(name, "system", "backup", [], None, password_login=True)
    assert host.asked == []


async def test_a_row_put_in_anothers_place_does_not_open(accounts: Accounts, tmp_path: Path) -> None:
    """Who can write the database, and not read the key, cannot give one user's password to another."""
    with trio.fail_after(30):
        for name in ("a", "b"):
            await accounts.create(name, "local", "backup", [], f"password of {name}", password_login=True)
            await accounts.generate(name, "")
        row = accounts._rows["a"]
        other = accounts._rows["b"]
        accounts._rows["b"] = type(row)(
            name="b", source=other.source, role="admin", sealed=row.sealed, made=row.made, login_hash=row.login_hash
        )
        assert await opened(accounts, "b") is None


async def test_a_vserver_of_another_is_refused(accounts: Accounts) -> None:
    with trio.fail_after(30):
        await accounts.create("v", "local", "vsadmin", ["vs1"], "long enough", password_login=True)
        assert len(await accounts.generate("v", "vs1")) == 16
        with pytest.raises(AccountError, match="v is no user of vserver vs2"):
            await accounts.generate("v", "vs2")
        await accounts.modify("v", None, ["vs1", "vs2"], None, password_login=None)
        assert len(await accounts.generate("v", "vs2")) == 16  # one password for both


def connection(accounts: Accounts, tmp_path: Path, lif: Lif, *, secure: bool = False) -> Connection:
    """As much of one as a login looks at."""
    log = SimpleNamespace(info=lambda *_, **__: None, warning=lambda *_, **__: None)
    statistics = SimpleNamespace(ledger=SimpleNamespace(authentication_failures=0))
    node = SimpleNamespace(audit=AuditLog(str(tmp_path)), accounts=accounts, statistics=statistics)
    found = SimpleNamespace(peer_address="192.0.2.1", lif=lif, secure=secure, session_id=1, log=log, node=node)
    return cast("Connection", found)


@pytest.mark.parametrize(
    ("role", "vservers", "lifs"),
    [
        ("backup", [], {"mgmt", "ic"}),
        ("admin", [], {"mgmt", "ic"}),
        ("vsadmin", ["vs1"], {"data1"}),
        ("vsadmin-backup", ["vs2"], set()),
        ("own", [], {"mgmt", "ic"}),
        ("own", ["vs1", "vs2"], {"data1"}),
        ("barred", [], set()),
    ],
)
async def test_the_role_says_at_which_lifs(
    accounts: Accounts, tmp_path: Path, role: str, vservers: list[str], lifs: set[str]
) -> None:
    with trio.fail_after(60):
        await accounts.create_role("own", "readonly")
        await accounts.create("u", "local", "own", vservers, "long enough", password_login=True)
        if role == "barred":
            password = await accounts.generate("u", "")
            await accounts.create_role("barred", "none")
        if role != "own":
            await accounts.modify("u", role, vservers, None, password_login=None)
        if role != "barred":
            password = await accounts.generate("u", "")
        logins = Logins(config(tmp_path), accounts)
        taken = set()
        for lif in config(tmp_path).lif:
            challenge = new_challenge()
            proof = Proof(b"u", "md5", md5_digest(challenge, password.encode()), challenge)
            if await logins.log_in(connection(accounts, tmp_path, lif), proof):
                taken.add(lif.name)
        assert taken == lifs


@pytest.mark.parametrize("kind", ["plain", "host", "sso"])
async def test_how_long_a_refusal_takes_tells_nothing(
    accounts: Accounts, host: Host, tmp_path: Path, kind: str, autojump_clock: MockClock
) -> None:
    """Whoever it is, and whatever is wrong: the answer comes at the same moment, by a clock that only waits move."""
    host.takes_s = 0.3
    await accounts.create("local", "local", "backup", [], "long enough", password_login=True)
    await accounts.create("bare", "local", "backup", [], "long enough", password_login=True)
    await accounts.generate("local", "")
    names = ["nobody", "local", "bare", "file", "x" * 500]
    if kind != "plain":
        await accounts.create("root", "system", "backup", [], None, password_login=True)
        await accounts.generate("root", "")
        names.append("root")
    logins = Logins(config(tmp_path), accounts)
    took = set()
    for name in names:
        for proof in (
            Proof(name.encode(), "text", b"wrong password", login=kind == "sso"),
            Proof(name.encode(), "md5", bytes(16), new_challenge()),
        ):
            if kind == "sso" and proof.method == "md5":
                continue
            began = trio.current_time()
            assert not await logins.log_in(connection(accounts, tmp_path, config(tmp_path).lif[0]), proof)
            took.add(round(trio.current_time() - began, 6))
    assert took == {{"plain": FLOOR_S, "host": FLOOR_ASKING_S, "sso": FLOOR_SSO_S}[kind]}


async def test_a_helper_that_is_slower_than_the_floor_makes_a_multiple_of_it(
    accounts: Accounts, host: Host, tmp_path: Path, autojump_clock: MockClock
) -> None:
    await accounts.create("root", "system", "backup", [], None, password_login=True)
    await accounts.generate("root", "")
    host.takes_s = 2 * FLOOR_ASKING_S + 0.2
    logins = Logins(config(tmp_path), accounts)
    began = trio.current_time()
    where = connection(accounts, tmp_path, config(tmp_path).lif[0])
    assert not await logins.log_in(where, Proof(b"root", "text", b"wrong"))
    assert trio.current_time() - began == pytest.approx(3 * FLOOR_ASKING_S)


async def test_the_login_password_of_a_user_of_the_host_is_put_to_pam(
    accounts: Accounts, host: Host, tmp_path: Path
) -> None:
    with trio.fail_after(60):
        await accounts.create("root", "system", "backup", [], None, password_login=True)
        logins = Logins(config(tmp_path), accounts)
        host.asked.clear()
        host.set(accepted=True)
        where = connection(accounts, tmp_path, config(tmp_path).lif[0], secure=True)
        proof = Proof(b"root", "text", b"the login password", ndmp=False, login=True)
        assert await logins.log_in(where, proof)
        assert ("root", "the login password", "mover") in host.asked
        assert "the login password" not in repr(proof)
        await accounts.modify("root", None, None, None, password_login=False)
        host.asked.clear()
        assert not await logins.log_in(where, proof)
        assert all(password is None for _, password, _ in host.asked)


async def test_a_user_who_is_deleted_while_his_login_is_looked_at_is_not_let_in(
    accounts: Accounts, host: Host, tmp_path: Path
) -> None:
    with trio.fail_after(60):
        await accounts.create("root", "system", "backup", [], None, password_login=True)
        password = (await accounts.generate("root", "")).encode()
        logins = Logins(config(tmp_path), accounts)
        where = connection(accounts, tmp_path, config(tmp_path).lif[0])
        assert await logins.log_in(where, Proof(b"root", "text", password))
        asked, host.takes_s = len(host.asked), 3.0
        results: list[bool] = []

        async def log_in() -> None:
            results.append(await logins.log_in(where, Proof(b"root", "text", password)) is not None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_in)
            while len(host.asked) == asked:
                await trio.lowlevel.checkpoint()
            await accounts.delete("root")
        assert results == [False]


async def test_strangers_hash_two_passwords_at_a_time(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """scrypt takes 32 MiB."""
    lock, together, most = threading.Lock(), 0, 0

    def verify(password: bytes, kept: str) -> bool:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.02)
        with lock:
            together -= 1
        return False

    monkeypatch.setattr(passwords, "verify_login", verify)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(accounts.verify_login, None, b"password")
    assert 1 <= most <= 2


async def test_the_real_helper_knows_who_is_there() -> None:
    with trio.fail_after(60):
        root, nobody = await ask_host("root"), await ask_host("no-such-user-of-mover")
        refused = await ask_host("no-such-user-of-mover", password="wrong", service="mover")
    assert root.known
    assert (nobody.known, nobody.fingerprint, nobody.locked) == (False, "", False)
    assert (refused.accepted, bool(refused.text)) == (False, True)


@pytest.mark.parametrize("name", ["", "\x00", "a\nb", "ö" * 100, "-x"])
async def test_the_real_helper_stands_odd_names(name: str) -> None:
    with trio.fail_after(60):
        assert not (await ask_host(name)).known
