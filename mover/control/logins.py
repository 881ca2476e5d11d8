"""Logins of DMAs: who may, by what, at which LIF; and what is said of those who may not.

Theory of operation. A refused login is answered NOT_AUTHORIZED_ERR, whatever the reason was, and not before a moment
that does not depend on it: the floor, which is longer than any of the ways to find out, and a multiple of it where one
took longer after all. So neither text nor time tells whether there is such a user. The reason goes to the server's log
and to the audit log, never the secret that was sent.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import trio

from mover.control.accounts import Account, Accounts
from mover.control.login_watch import LoginWatch, login_key
from mover.control.reach import may_log_in
from mover.ndmp.auth import new_challenge, verify_md5, verify_text

if TYPE_CHECKING:
    from mover.config import Config
    from mover.control.connection import Connection

FLOOR_S: Final = 0.1
FLOOR_ASKING_S: Final = 1.5
"""Where users are the host's: the auth helper is a process, and NSS may ask a directory."""
FLOOR_SSO_S: Final = 4.0
"""PAM itself takes some two seconds over a refusal."""
SHOWN_USER_MAX: Final = 64

Method = Literal["text", "md5"]


class Proof(NamedTuple):
    """What a DMA sent to prove who it is.

    Attributes:
        name: of the user.
        method: how.
        challenge: md5: the one that was open; None = there was none.
        secret: md5: the digest; text: the password.
        ndmp, login: text: whether NDMP passwords and login passwords count here.
    """

    name: bytes
    method: Method
    secret: bytes
    challenge: bytes | None = None
    ndmp: bool = True
    login: bool = False

    def __repr__(self) -> str:
        return f"Proof({self.name!r}, {self.method})"


class Logins:
    """The logins of a node."""

    def __init__(self, config: Config, accounts: Accounts) -> None:
        self._accounts = accounts
        self._watch = LoginWatch(config.authentication.lockout_failures, config.authentication.lockout_s)

    def configure(self, config: Config) -> None:
        """Take a configuration; what was counted stays."""
        self._watch.failures_max = config.authentication.lockout_failures
        self._watch.lockout_s = config.authentication.lockout_s

    async def log_in(self, connection: Connection, proof: Proof) -> Account | None:
        """Judge a login, and tell the logs; the user, or None for one that is refused, which takes its time."""
        started = trio.current_time()
        key = login_key(connection.peer_address, proof.name)
        try:
            account = self._accounts.find(proof.name.decode())
        except UnicodeDecodeError:
            account = None  # no user has such a name
        if self._watch.begin(key, started):
            reason: str | None = await self._refusal(connection, account, proof)
        else:
            reason = "locked out after too many failures"
        user = shown_user(proof.name)
        if reason is None:
            self._watch.succeeded(key)
            connection.log.info("logged in", user=user, method=proof.method)
        else:
            connection.node.statistics.ledger.authentication_failures += 1
            # The DMA's address stands here, for tools that ban by it.
            connection.log.warning(
                "login failed", user=user, method=proof.method, peer=connection.peer_address, reason=reason
            )
            if self._watch.is_locked(key, trio.current_time()):
                connection.log.warning("user is locked out", user=user, peer=connection.peer_address)
        tell = connection.node.audit.event if reason is None else connection.node.audit.stranger
        tell(
            "login",
            client=connection.peer_address,
            result="accepted" if reason is None else "refused",
            user=user,
            method=proof.method,
            lif=connection.lif.name,
            secure=connection.secure,
            session=connection.session_id,
            reason=reason or "",
        )
        if reason is not None:
            floor = FLOOR_SSO_S if proof.login else FLOOR_ASKING_S if self._accounts.asks_host() else FLOOR_S
            delay = self._watch.delay_s(key, floor)
            taken = trio.current_time() - started
            await trio.sleep(delay * max(1, math.ceil(taken / delay)) - taken)
        return account if reason is None else None

    async def _refusal(self, connection: Connection, account: Account | None, proof: Proof) -> str | None:
        """Why the login does not stand; None = it does. Everything is looked at in any case."""
        secret, missing = None, "there is no such user"
        if account is not None:
            secret, missing = await self._accounts.ndmp_password(account)
        right, wrong = False, ""
        if proof.method == "md5":
            # A name that is not there takes as long as a wrong password.
            given = proof.challenge if proof.challenge is not None else new_challenge()
            right = verify_md5(proof.secret, given, secret or new_challenge()) and proof.challenge is not None
            wrong = "wrong password" if proof.challenge is not None else "no challenge is open"
        if proof.method == "text" and proof.ndmp:
            right = verify_text(proof.secret, secret or new_challenge())
            wrong = "wrong password"
        right = right and secret is not None
        if proof.method == "text" and proof.login and not right:
            right, wrong = await self._accounts.verify_login(account, proof.secret)
            missing = "" if account is not None else missing
        if not right:
            return missing or wrong or "refused"
        assert account is not None
        if self._accounts.find(account.name) != account:  # somebody has to be asked, which takes time
            return "the user was changed meanwhile"
        return self._barred(account, connection)

    def _barred(self, account: Account, connection: Connection) -> str | None:
        """Why a user has no business at a LIF, whatever his password; None = he has."""
        if not self._accounts.carries_ndmp(account.role):
            return f"role {account.role} has no access to the NDMP service"
        lif = connection.lif
        if not may_log_in(account.role, account.vservers, lif.role, lif.vserver):
            return f"a user of role {account.role} may not log in at a LIF of role {lif.role}"
        return None

    def why_not_stay(self, connection: Connection) -> str | None:
        """Why a session of a user does not go on, passwords apart; None = it does, or has no user.

        He may not log in there any more, or reaches something else than at his login.
        """
        if not connection.authenticated_as:
            return None
        account = self._accounts.find(connection.authenticated_as)
        if account is None:
            return "there is no such user any more"
        if account.row is not None and not account.row.password_login:
            return "login by password is not enabled"
        if account.bounds != connection.bounds:
            return "what he reaches was changed"
        return self._barred(account, connection)


def shown_user(name: bytes) -> str:
    """A name that a stranger sent, for logs."""
    return name.decode("utf-8", "backslashreplace")[:SHOWN_USER_MAX]
