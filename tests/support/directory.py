"""A directory of users for tests: a slapd of the test's own, and a host in a mount namespace that knows its users.

The host has an /etc of its own, where NSS and PAM ask nslcd, and nslcd asks slapd; the machine's own /etc is not
touched.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from tests.support import peers
from tests.support.processes import settle

PROGRAMS: Final = ("slapd", "slapadd", "ldappasswd", "ldapmodify", "nslcd")
BASE: Final = "dc=test"
ADMIN: Final = f"cn=admin,{BASE}"
ADMIN_PASSWORD: Final = "the secret of the directory"
START_S: Final = 60.0
_SLAPD: Final = """
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/nis.schema
include {schema}/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
pidfile {directory}/slapd.pid
password-hash {{CRYPT}}
password-crypt-salt-format "$6$%.12s"
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw "{password}"
directory {directory}/database
access to attrs=userPassword by anonymous auth by * none
access to * by * read
overlay ppolicy
ppolicy_default cn=policy,{base}
ppolicy_hash_cleartext
"""
_ENTRIES: Final = """
dn: {base}
objectClass: dcObject
objectClass: organization
dc: test
o: test

dn: cn=policy,{base}
objectClass: pwdPolicy
objectClass: device
cn: policy
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 100

dn: {user_dn}
objectClass: inetOrgPerson
objectClass: posixAccount
objectClass: shadowAccount
cn: {user}
sn: {user}
uid: {user}
uidNumber: 54322
gidNumber: 54322
homeDirectory: /nonexistent
loginShell: /bin/false
shadowLastChange: 20000
"""
_NSLCD: Final = """
uri ldapi://{socket}/
base {base}
binddn {admin}
bindpw {password}
"""
_NSSWITCH: Final = "passwd: files ldap\ngroup: files ldap\nshadow: files ldap\nhosts: files dns\n"
_ETC: Final = ("passwd", "group", "hosts", "services", "ld.so.cache", "ld.so.conf", "login.defs", "machine-id")
"""What programs of the namespace need of the machine's."""
NAMESPACE: Final = 'mount --bind "$1" /etc && mount -t tmpfs none /run && echo ready && exec sleep infinity'


class Directory(NamedTuple):
    """The directory and the host that asks it.

    Attributes:
        prefix: runs a command on that host.
        user, user_dn: of the one user there is.
    """

    prefix: list[str]
    uri: str
    user: str
    user_dn: str

    def set_password(self, password: str) -> None:
        """As ldappasswd does it: by the extended operation, which touches no date of the shadow entry."""
        self._as_admin("ldappasswd", "-s", password, self.user_dn)

    def modify(self, *lines: str) -> None:
        """Change the user's entry: ``replace: shadowExpire``, ``shadowExpire: 1``, or several with "-" between them."""
        self._as_admin("ldapmodify", text="\n".join([f"dn: {self.user_dn}", "changetype: modify", *lines, ""]))

    def _as_admin(self, program: str, *words: str, text: str = "") -> None:
        command = [str(peers.require(program)), "-x", "-H", self.uri, "-D", ADMIN, "-w", ADMIN_PASSWORD, *words]
        ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, f"{program}: {ended.stderr}"


class NoNamespaceError(Exception):
    """This machine does not let us mount anything."""


@contextmanager
def directory_of(directory: Path, user: str, password: str, *, shows_hashes: bool = False) -> Iterator[Directory]:
    """A directory with one user, and a host that knows it.

    Args:
        directory: for everything it writes; its path has to be short, for sockets.
        shows_hashes: the host's shadow entries hold the hash of the login password, which most set-ups hide.

    Raises:
        NoNamespaceError: no mounts here.
    """
    with ExitStack() as stack:
        uri = f"ldapi://{quote(str(directory / 'ldapi'), safe='')}/"
        user_dn = f"uid={user},{BASE}"
        _start_slapd(stack, directory, uri, user, user_dn)
        holder = _start_namespace(stack, directory, shows_hashes=shows_hashes)
        prefix = [str(peers.require("nsenter")), f"--mount=/proc/{holder.pid}/ns/mnt", "--wd=/", *_library_path()]
        nslcd = subprocess.Popen([*prefix, str(peers.require("nslcd")), "-n"], stdin=subprocess.DEVNULL)
        stack.callback(_end, nslcd)
        made = Directory(prefix, uri, user, user_dn)
        made.set_password(password)
        settle(lambda: _knows(prefix, user), "the host knows the user", START_S)
        yield made


def _start_slapd(stack: ExitStack, directory: Path, uri: str, user: str, user_dn: str) -> None:
    (directory / "database").mkdir()
    config, entries = directory / "slapd.conf", directory / "entries.ldif"
    names = {"base": BASE, "admin": ADMIN, "password": ADMIN_PASSWORD, "directory": directory}
    config.write_text(_SLAPD.format(schema="/etc/ldap/schema", **names))
    entries.write_text(_ENTRIES.format(user=user, user_dn=user_dn, **names))
    subprocess.run(
        [str(peers.require("slapadd")), "-f", str(config), "-l", str(entries)],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    command = [str(peers.require("slapd")), "-f", str(config), "-h", uri, "-d", "0"]  # -d keeps it in the foreground
    with open(directory / "slapd.log", "wb") as log:
        slapd = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    stack.callback(_end, slapd)
    deadline = time.monotonic() + START_S
    while not (directory / "ldapi").exists():
        assert slapd.poll() is None, (directory / "slapd.log").read_text()
        assert time.monotonic() < deadline, "slapd does not start"
        time.sleep(0.05)


def _start_namespace(stack: ExitStack, directory: Path, *, shows_hashes: bool) -> subprocess.Popen[str]:
    etc = directory / "etc"
    (etc / "pam.d").mkdir(parents=True)
    for name in _ETC:
        if (Path("/etc") / name).exists():
            shutil.copy(Path("/etc") / name, etc / name)
    (etc / "shadow").touch(mode=0o600)
    (etc / "nsswitch.conf").write_text(_NSSWITCH)
    socket = quote(str(directory / "ldapi"), safe="")
    config = _NSLCD.format(socket=socket, base=BASE, admin=ADMIN, password=ADMIN_PASSWORD)
    nslcd = etc / "nslcd.conf"
    nslcd.touch(mode=0o600)
    nslcd.write_text(config + ("map shadow userPassword userPassword\n" if shows_hashes else ""))
    module = _file_of("security/pam_ldap.so")
    (etc / "pam.d" / "mover").write_text(f"auth required {module}\naccount required {module}\n")
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", NAMESPACE, "sh", str(etc)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stack.callback(_end, holder)
    assert holder.stdout is not None
    if holder.stdout.readline() != "ready\n":
        assert holder.stderr is not None
        raise NoNamespaceError(holder.stderr.read().strip())
    return holder


def _file_of(name: str) -> Path:
    """A file of the package that nslcd came with; it may have been unpacked anywhere."""
    root = peers.require("nslcd").parent.parent.parent
    (found,) = {path.resolve() for above in ("lib", "usr/lib") for path in (root / above).glob(f"*/{name}")}
    return found


def _library_path() -> list[str]:
    """What has programs find the NSS module where it was unpacked to. Of one that is installed they know, and the
    system's directory of libraries would stand before those that an interpreter brings along."""
    if peers.require("nslcd").resolve().parent == Path("/usr/sbin"):
        return []
    return ["env", f"LD_LIBRARY_PATH={_file_of('libnss_ldap.so.2').parent}"]


def _knows(prefix: list[str], user: str) -> bool:
    return subprocess.run([*prefix, "getent", "passwd", user], capture_output=True, check=False).returncode == 0


def _end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
