"""Users of an LDAP directory: slapd, asked by the host's NSS and PAM in a mount namespace of the test's own."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mover.admin import accounts
from mover.admin import messages as a
from mover.ndmp.enums import ErrorCode
from mover.ndmp.messages import ConnectClientAuthRequest
from mover.ndmp.messages.common import AuthText
from tests.control.test_logins import ask, attempt, audit, files, refused, state
from tests.support.directory import PROGRAMS, Directory, NoNamespaceError, directory_of
from tests.support.secure_port import configured, secure_client
from tests.support.servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.peer(*PROGRAMS, "nsenter", "unshare")]

USER = "mover-ldap-user"
FIRST, SECOND = "the first login password", "the second login password"


@contextmanager
def host(extra: str = "", *, shows_hashes: bool = False) -> Iterator[tuple[Server, Directory]]:
    """A server whose host asks the directory, with the user made known to it."""
    with tempfile.TemporaryDirectory(prefix="mover-ldap-") as name:
        place = Path(name)
        try:
            with (
                directory_of(place, USER, FIRST, shows_hashes=shows_hashes) as directory,
                Server(configured(place / "server", extra), prefix=directory.prefix) as server,
            ):
                ask(server, accounts.UserCreate(USER, "backup", "system"), a.Done)
                yield server, directory
        except NoNamespaceError as error:
            pytest.skip(f"no mounts here: {error}")


def log_in(server: Server, password: str) -> bool:
    """By TEXT over TLS."""
    with secure_client(server) as client:
        request = ConnectClientAuthRequest(AuthText(USER.encode(), password.encode()))
        error = client.error(request)
    assert error in {ErrorCode.NO_ERR, ErrorCode.NOT_AUTHORIZED_ERR}
    return error == ErrorCode.NO_ERR


def test_the_login_password_counts_as_the_directory_has_it() -> None:
    pytest.importorskip("pam", reason="the extra pam is not installed")
    with host() as (server, directory):
        assert log_in(server, FIRST)
        assert not log_in(server, SECOND)
        assert not log_in(server, "")  # which LDAP itself would take for an anonymous bind
        directory.set_password(SECOND)
        assert not log_in(server, FIRST)
        assert log_in(server, SECOND)
        locked = "pwdAccountLockedTime"
        directory.modify(f"add: {locked}", f"{locked}: 000001010000Z")
        assert not log_in(server, SECOND)
        directory.modify(f"delete: {locked}")
        assert log_in(server, SECOND)
        directory.modify("add: shadowExpire", "shadowExpire: 1")
        assert not log_in(server, SECOND)
        logins = [line for line in audit(server) if line["event"] == "login"]
        results = ["accepted", *["refused"] * 3, "accepted", "refused", "accepted", "refused"]
        assert [(line["user"], line["result"]) for line in logins] == [(USER, result) for result in results]
        server.stop()
        for name, content in files(server).items():
            assert not any(password.encode() in content for password in (FIRST, SECOND)), name


def test_no_ndmp_password_where_the_directory_hides_the_hash() -> None:
    """Its change could not be noticed; with a number of days there is one that ends by itself."""
    with host() as (server, _):
        code, text = refused(server, accounts.GeneratePassword(USER))
        assert code == "refused"
        assert "set authentication.ndmp_password_days" in text
    with host("[authentication]\nndmp_password_days = 30\n") as (server, directory):
        password = ask(server, accounts.GeneratePassword(USER), accounts.PasswordReply).password
        assert attempt(server, USER, password, "md5") == ErrorCode.NO_ERR
        directory.modify("add: shadowExpire", "shadowExpire: 1")  # what is visible counts all the same
        assert attempt(server, USER, password, "md5") == ErrorCode.NOT_AUTHORIZED_ERR


def test_an_ndmp_password_ends_with_the_password_in_the_directory() -> None:
    with host(shows_hashes=True) as (server, directory):
        password = ask(server, accounts.GeneratePassword(USER), accounts.PasswordReply).password
        assert attempt(server, USER, password, "md5") == ErrorCode.NO_ERR
        directory.set_password(SECOND)  # the date of the shadow entry stays
        assert state(server, USER) == "stale"
        assert attempt(server, USER, password, "md5") == ErrorCode.NOT_AUTHORIZED_ERR
        directory.set_password(FIRST)  # again, but with another salt
        assert attempt(server, USER, password, "md5") == ErrorCode.NOT_AUTHORIZED_ERR
        password = ask(server, accounts.GeneratePassword(USER), accounts.PasswordReply).password
        assert attempt(server, USER, password, "md5") == ErrorCode.NO_ERR
