"""The users of this service: those of the configuration, and those that operators made, with their passwords.

An NDMP password is good as long as the login password that it was generated for: it is sealed together with what tells
one login password from another, the hash of a local user or the shadow entry of the host's, and does not open when
that has changed.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec
import trio

from mover.config import Config
from mover.control import account_table, passwords
from mover.control.account_table import Access, AccountRow
from mover.control.auth_helper import HelperError, SystemUser, ask_host
from mover.control.reach import ALL, SCOPES, Bounds, UserScope, scope_of
from mover.control.seal import Seal, SealError
from mover.control.store import Store

USER_MAX: Final = 64  # characters
DAY_S: Final = 86_400
_hashing = trio.CapacityLimiter(2)
"""32 MiB and a processor each, and who asks has not logged in."""
_DIRECTORY_MARKS: Final = "\\@"  # of a user of Active Directory: DOMAIN\user, user@domain

PasswordState = Literal["configured", "none", "valid", "stale", "expired", "unknown"]
Code = Literal["bad-request", "not-found", "busy", "refused", "failed"]


class AccountError(Exception):
    """What an operator asked for is not done; one line."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code: Code = code


class Account(NamedTuple):
    """A user as logins need him.

    Attributes:
        bounds: what he reaches of what his LIF gives him.
        row: None = he stands in the configuration.
        configured: the password that stands there.
    """

    name: str
    role: str
    vservers: tuple[str, ...]
    bounds: Bounds
    row: AccountRow | None
    configured: bytes = b""

    def __repr__(self) -> str:
        return f"Account({self.name!r}, {self.role!r})"


class Accounts:
    """Users and roles of a node.

    Args:
        store: None = there are users of the configuration only, for tests.
    """

    def __init__(self, config: Config, store: Store | None = None) -> None:
        self._config = config
        self._store = store
        self._seal = Seal(config.node.state_directory)
        self._rows: dict[str, AccountRow] = {}
        self._roles: dict[str, Access] = {}
        self._changing = trio.Lock()

    def configure(self, config: Config) -> None:
        """Take a configuration."""
        self._config = config

    async def load(self) -> None:
        """Read what the store has. Raises StoreError."""
        if self._store is not None:
            self._rows = {row.name: row for row in await self._store.run(account_table.read_accounts)}
            self._roles = await self._store.run(account_table.read_roles)

    # --- who is who

    def find(self, name: str) -> Account | None:
        """The user of a name; one of the configuration goes before one that was made."""
        for user in self._config.user:
            if user.name == name:
                bounds = Bounds(tuple(user.volumes), tuple(user.devices))
                return Account(name, user.role, tuple(user.vservers), bounds, None, user.password.reveal().encode())
        row = self._rows.get(name)
        return None if row is None else Account(name, row.role, row.vservers, Bounds(row.volumes, row.devices), row)

    def names(self) -> list[str]:
        """Every user, those of the configuration first."""
        configured = [user.name for user in self._config.user]
        return configured + [name for name in sorted(self._rows) if name not in configured]

    def asks_host(self) -> bool:
        """Whether some users are the host's, about whom it is asked at their logins."""
        return any(row.source == "system" for row in self._rows.values())

    def roles(self) -> dict[str, Access]:
        """Every role with its access to the NDMP service."""
        return {**dict.fromkeys(SCOPES, "all"), **self._roles}

    def carries_ndmp(self, role: str) -> bool:
        """Whether users of a role may use the NDMP service at all."""
        return self.roles().get(role, "none") != "none"

    # --- passwords

    async def ndmp_password(self, account: Account) -> tuple[bytes | None, str]:
        """The NDMP password, or None and why there is none that counts."""
        row = account.row
        if row is None:
            return account.configured, ""
        secret, state = await self._open(row)
        return secret, "" if secret is not None else f"NDMP password: {state}"

    async def _open(self, row: AccountRow) -> tuple[bytes | None, PasswordState | str]:
        if not row.password_login:
            return None, "login by password is not enabled"
        if not row.sealed:
            return None, "none"
        try:
            fingerprint, expires = await self._fingerprint(row)
            if expires and time.time() >= row.made + self._config.authentication.ndmp_password_days * DAY_S:
                return None, "expired"
            secret = await trio.to_thread.run_sync(self._seal.open, row.sealed, _bound_to(row, fingerprint, row.made))
        except (AccountError, SealError) as error:
            return None, str(error)
        return (secret, "valid") if secret is not None else (None, "stale")

    async def _fingerprint(self, row: AccountRow) -> tuple[str, bool]:
        """What changes with the login password, and whether that is not visible, so that time has to end it.

        Raises:
            AccountError: the user is not the host's any more, is locked, or his password cannot be told.
        """
        if row.source == "local":
            return row.login_hash, False
        host = await _ask(row.name)
        if not host.known:
            raise AccountError("refused", f"{row.name} is no user of this host")
        if host.locked:
            raise AccountError("refused", f"the account of {row.name} at this host is locked or has expired")
        if not host.fingerprint and not self._config.authentication.ndmp_password_days:
            raise AccountError(
                "refused",
                f"the login password of {row.name} is not visible to this server, which could not notice its change: "
                "set authentication.ndmp_password_days for passwords that expire instead",
            )
        return host.fingerprint, not host.fingerprint

    async def verify_login(self, account: Account | None, password: bytes) -> tuple[bool, str]:
        """Whether a login password is right, and why not. Who is not there takes as long as a local user."""
        row = account.row if account is not None else None
        if row is not None and row.source == "system" and row.password_login:
            try:
                host = await ask_host(
                    row.name,
                    password=password.decode("utf-8", "surrogateescape"),
                    service=self._config.authentication.pam_service,
                )
            except (HelperError, UnicodeEncodeError) as error:
                return False, str(error)
            if host.locked or not host.known:
                return False, "the host has no such user, or has locked him"
            return host.accepted, host.text
        kept = row.login_hash if row is not None and row.password_login else ""
        right = await trio.to_thread.run_sync(passwords.verify_login, password, kept, limiter=_hashing)
        return right, "" if right else "wrong login password, or none"

    # --- what operators do; every one of these raises AccountError and StoreError

    async def create(
        self, name: str, source: Literal["local", "system"], role: str, vservers: Sequence[str],
        password: str | None, *, password_login: bool, bounds: Bounds = Bounds(),  # noqa: B008 - immutable
    ) -> None:  # fmt: skip
        """Add a user."""
        async with self._changing:
            self._check_name(name)
            if self.find(name) is not None:
                raise AccountError("busy", f"there is a user {name} already")
            login_hash = ""
            if source == "system":
                if any(mark in name for mark in _DIRECTORY_MARKS):
                    raise AccountError("refused", f"{name}: users of Active Directory cannot log in by NDMP")
                if password is not None:
                    raise AccountError("bad-request", "the login password of a user of the host is the host's")
                if not (await _ask(name)).known:
                    raise AccountError("not-found", f"{name} is no user of this host")
            elif password is None:
                raise AccountError("bad-request", "a local user needs a login password")
            else:
                login_hash = await _hash(password)
            row = AccountRow(
                name=name, source=source, role=role, vservers=tuple(vservers), password_login=password_login,
                login_hash=login_hash, volumes=bounds.volumes, devices=bounds.devices,
            )  # fmt: skip
            self._check_role(row)
            self._check_volumes(row)
            await self._write(row)

    async def modify(
        self, name: str, role: str | None, vservers: Sequence[str] | None, password: str | None,
        *, password_login: bool | None, volumes: Sequence[str] | None = None, devices: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        """Change a user; None = as it is. With a new login password his NDMP password does not count any more."""
        async with self._changing:
            row = self._row(name)
            changed: dict[str, object] = {"role": role, "password_login": password_login}
            for key, names in (("vservers", vservers), ("volumes", volumes), ("devices", devices)):
                if names is not None:
                    changed[key] = tuple(names)
            if password is not None:
                if row.source == "system":
                    raise AccountError("bad-request", "the login password of a user of the host is the host's")
                changed["login_hash"] = await _hash(password)
            row = msgspec.structs.replace(row, **{key: value for key, value in changed.items() if value is not None})
            self._check_role(row)
            if volumes is not None:
                self._check_volumes(row)
            await self._write(row)

    async def delete(self, name: str) -> None:
        """Forget a user."""
        async with self._changing:
            self._row(name)
            await self._run(lambda database: account_table.delete_account(database, name))
            del self._rows[name]

    async def generate(self, name: str, vserver: str) -> str:
        """Make a new NDMP password, in the place of the one there was."""
        async with self._changing:
            row = self._row(name)
            if vserver and vserver not in row.vservers:
                raise AccountError("refused", f"{name} is no user of vserver {vserver}")
            if not row.password_login:
                raise AccountError("refused", f"login by password is not enabled for {name}")
            if not self.carries_ndmp(row.role):
                raise AccountError("refused", f"role {row.role} of {name} has no access to the NDMP service")
            fingerprint, _ = await self._fingerprint(row)
            password, made = passwords.new_ndmp_password(), int(time.time())
            bound_to = _bound_to(row, fingerprint, made)
            try:
                sealed = await trio.to_thread.run_sync(self._seal.seal, password.encode(), bound_to)
            except SealError as error:
                raise AccountError("failed", str(error)) from error
            await self._write(msgspec.structs.replace(row, sealed=sealed, made=made))
            return password

    async def password_state(self, name: str) -> PasswordState:
        """What a user's NDMP password is good for."""
        row = self._rows.get(name)
        if row is None or any(user.name == name for user in self._config.user):
            return "configured"
        if not row.sealed:
            return "none"
        _, state = await self._open(msgspec.structs.replace(row, password_login=True))
        known: dict[str, PasswordState] = {"valid": "valid", "stale": "stale", "expired": "expired"}
        return known.get(state, "unknown")

    async def create_role(self, name: str, access: Access) -> None:
        """Add a role."""
        async with self._changing:
            self._check_name(name)
            if name in self.roles():
                raise AccountError("busy", f"there is a role {name} already")
            await self._run(lambda database: account_table.write_role(database, name, access))
            self._roles[name] = access

    async def delete_role(self, name: str) -> None:
        """Forget a role that no user has."""
        async with self._changing:
            if name in SCOPES:
                raise AccountError("refused", f"role {name} is always there")
            if name not in self._roles:
                raise AccountError("not-found", f"there is no role {name}")
            having = [each for each in self.names() if (found := self.find(each)) and found.role == name]
            if having:
                raise AccountError("busy", f"role {name} is that of {', '.join(having[:5])}")
            await self._run(lambda database: account_table.delete_role(database, name))
            del self._roles[name]

    # --- checks

    def _check_name(self, name: str) -> None:
        if not 0 < len(name) <= USER_MAX or not name.isprintable() or name.startswith("-") or set(name) & set(" ,:"):
            raise AccountError(
                "bad-request", f"a name has 1 to {USER_MAX} printable characters, no blank, comma or colon"
            )

    def _check_role(self, row: AccountRow) -> None:
        if row.role not in self.roles():
            raise AccountError("not-found", f"there is no role {row.role} (roles: {', '.join(self.roles())})")
        known = [vserver.name for vserver in self._config.vserver]
        for vserver in row.vservers:
            if vserver not in known:
                raise AccountError("not-found", f"there is no vserver {vserver} (vservers: {_list(known)})")
        if scope_of(row.role, row.vservers) is UserScope.VSERVER and not row.vservers:
            raise AccountError("bad-request", f"a user of role {row.role} needs a vserver")
        if SCOPES.get(row.role) is UserScope.CLUSTER and row.vservers:
            raise AccountError("bad-request", f"a user of role {row.role} has no vserver")

    def _check_volumes(self, row: AccountRow) -> None:
        known = self._config.volume_names()
        for name in row.volumes:
            if name not in (ALL, *known):
                raise AccountError("not-found", f"there is no volume {name} (volumes: {_list(known)})")

    def _row(self, name: str) -> AccountRow:
        if any(user.name == name for user in self._config.user):
            raise AccountError("refused", f"user {name} stands in the configuration file, with his NDMP password")
        row = self._rows.get(name)
        if row is None:
            raise AccountError("not-found", f"there is no user {name}")
        return row

    async def _write(self, row: AccountRow) -> None:
        await self._run(lambda database: account_table.write_account(database, row))
        self._rows[row.name] = row

    async def _run(self, work: Callable[[sqlite3.Connection], None]) -> None:
        assert self._store is not None  # operators reach only a server, which has one
        await self._store.run(work)


def _bound_to(row: AccountRow, fingerprint: str, made: int) -> bytes:
    return msgspec.json.encode([row.name, row.source, fingerprint, made])


async def _ask(name: str) -> SystemUser:
    try:
        return await ask_host(name)
    except HelperError as error:
        raise AccountError("failed", str(error)) from error


async def _hash(password: str) -> str:
    if wrong := passwords.wrong_with(password):
        raise AccountError("bad-request", wrong)
    return await trio.to_thread.run_sync(passwords.hash_login, password.encode(), limiter=_hashing)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
