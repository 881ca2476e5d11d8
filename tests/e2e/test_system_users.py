"""Users of the host, with a /etc/passwd, /etc/shadow and /etc/pam.d of the test's own in a mount namespace."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.admin import accounts
from mover.admin import messages as a
from mover.ndmp.enums import ErrorCode
from mover.ndmp.messages import ConnectClientAuthRequest
from mover.ndmp.messages.common import AuthText
from tests.control.test_logins import ask, attempt, files, refused, state
from tests.support import peers
from tests.support.secure_port import configured, secure_client
from tests.support.servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.peer("openssl")]

USER = "mover-test-user"
PASSWORDS = ("the first login password", "the second login password")
# The server's own view of these files; everybody else keeps the host's.
_BIND = 'mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/shadow && mount --bind "$3" /etc/pam.d && shift 3'
NAMESPACE = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{_BIND} && exec "$@"', "sh"]


def hashed(password: str) -> str:
    """As passwd(1) would write it."""
    command = [str(peers.require("openssl")), "passwd", "-6", "-stdin"]
    return subprocess.run(command, input=password, capture_output=True, text=True, check=True).stdout.strip()


class Host(NamedTuple):
    """A server in the namespace, and its shadow file, which is written in place."""

    server: Server
    shadow: Path

    def set_password(self, kept: str, *, changed: int = 20_000, expires: str = "") -> None:
        self.shadow.write_text(f"{USER}:{kept}:{changed}:0:99999:7::{expires}:\n")


@pytest.fixture
def host() -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="mover-users-") as name:
        directory = Path(name)
        passwd, shadow, pam = directory / "passwd", directory / "shadow", directory / "pam.d"
        passwd.write_text(f"{Path('/etc/passwd').read_text()}\n{USER}:x:54321:54321::/nonexistent:/bin/false\n")
        shadow.touch(mode=0o600)
        pam.mkdir()
        (pam / "mover").write_text("auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
        prefix = [*NAMESPACE, str(passwd), str(shadow), str(pam)]
        possible = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
        if possible.returncode != 0:
            pytest.skip(f"no mounts here: {possible.stderr.strip()}")
        with Server(configured(directory), prefix=prefix) as server:
            made = Host(server, shadow)
            made.set_password(hashed(PASSWORDS[0]))
            yield made


def test_a_changed_login_password_ends_the_ndmp_password(host: Host) -> None:
    server = host.server
    ask(server, accounts.UserCreate(USER, "backup", "system"), a.Done)
    password = ask(server, accounts.GeneratePassword(USER), accounts.PasswordReply).password
    kept = host.shadow.read_text()

    def counts() -> bool:
        return attempt(server, USER, password, "md5") == ErrorCode.NO_ERR

    assert counts()
    host.set_password(hashed(PASSWORDS[1]), changed=20_001)  # passwd
    assert state(server, USER) == "stale"
    assert not counts()
    host.set_password(hashed(PASSWORDS[0]))  # the same password with another salt, as after a change there and back
    assert not counts()
    host.shadow.write_text(kept.replace(":20000:", ":20001:"))  # the date alone
    assert not counts()
    host.shadow.write_text(kept)
    assert counts()
    host.shadow.write_text(kept.replace(f"{USER}:$", f"{USER}:!$"))  # passwd -l
    assert not counts()
    host.shadow.write_text(kept.replace("7:::", "7::1:"))  # chage -E
    assert not counts()
    host.shadow.write_text("")
    assert not counts()
    assert refused(server, accounts.GeneratePassword(USER))[0] == "refused"
    hidden = kept.split(":")[1].encode()
    server.stop()
    for name, content in files(server).items():
        assert password.encode() not in content, name
        assert hidden not in content, name


def test_the_login_password_counts_by_pam_and_tls(host: Host) -> None:
    pytest.importorskip("pam", reason="the extra pam is not installed")
    server = host.server
    ask(server, accounts.UserCreate(USER, "backup", "system"), a.Done)

    def log_in(password: str) -> bool:
        with secure_client(server) as client:
            request = ConnectClientAuthRequest(AuthText(USER.encode(), password.encode()))
            return client.error(request) == ErrorCode.NO_ERR

    kept = host.shadow.read_text()
    assert log_in(PASSWORDS[0])
    assert not log_in(PASSWORDS[1])
    host.set_password(hashed(PASSWORDS[1]))
    assert not log_in(PASSWORDS[0])
    assert log_in(PASSWORDS[1])
    host.shadow.write_text(kept.replace(f"{USER}:$", f"{USER}:!$"))  # a locked account
    assert not log_in(PASSWORDS[0])
    host.set_password("")  # none at all
    assert not log_in("")
    ask(server, accounts.UserModify(USER, authentication_method="none"), a.Done)
    host.shadow.write_text(kept)
    assert not log_in(PASSWORDS[0])
    server.stop()
    for name, content in files(server).items():
        assert not any(password.encode() in content for password in PASSWORDS), name
