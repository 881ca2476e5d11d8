"""Reading the file: every table, every kind of mistake and the exact line it gets."""

import os
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.config import Config, ConfigError, Fault, Lif, PortRange, Secret, load_config, parse_config
from mover.config.values import SIZE_UNITS

DRIVE = "[[drive]]\nname='d'\ndevice='virtual:/d.tap'\n"
WHOLE = """
[node]
name = "fs1"
state_directory = "/var/lib/mover"
admin_socket = "/run/mover/admin.sock"
log_format = "json"
metrics = "[::]:0"
metrics_token = "a token of the tests"
volumes = { srv = "/srv/", root = "/" }
authtype = ["challenge", "plaintext"]
grace_s = 5
[limits]
sessions = 2
record_size_max = "256KiB"
ring = "8MB"
idle_timeout_s = 0
authentication_timeout_s = 60
spares = 0
[data_connections]
port_range = "all"
allow = ["127.0.0.0/8", "::1/128", "lan"]
connect_timeout_s = 3
peer_timeout_s = 9
[[lif]]
name = "mgmt"
address = "127.0.0.1"
port = 0
secure_port = 30000
role = "node-mgmt"
vserver = ""
[[lif]]
name = "six"
address = "0:0::1"
[[user]]
name = "ndmp"
role = "admin"
vservers = []
password = "geheim"
[[library]]
name = "vtl0"
kind = "virtual"
directory = "/var/lib/mover/vtl0"
drives = 3
slots = 8
import_export = 2
cartridge_size = "1TB"
early_warning = "1MiB"
[[drive]]
name = "file"
device = "virtual:/tmp/file.tap"
ring = "512MiB"
[[fault]]
drive = "vtl0/drive2"
kind = "slow"
rate = "10MiB"
buffer = "2MiB"
reposition_ms = 1500
[[fault]]
drive = "file"
kind = "hang"
record = 7
seconds = 90
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, mode: int = 0o600) -> Config:
    path = Path("mover.toml")
    path.write_text(text)
    path.chmod(mode)
    return load_config("mover.toml")


def failure(text: str, mode: int = 0o600) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, mode)
    return str(caught.value)


def test_an_empty_file_is_all_defaults() -> None:
    assert load("") == Config()
    assert load("").lif == [Lif(name="mgmt", address="127.0.0.1", port=10000, secure_port=30000, role="node-mgmt")]
    assert load("").data_connections.port_range == PortRange(18600, 18699)


def test_every_key_is_read() -> None:
    config = load(WHOLE)
    assert config.node.volumes == {"srv": "/srv", "root": "/"}
    assert config.node.authtype == ["challenge", "plaintext"]
    assert (config.node.metrics, config.node.metrics_token.reveal()) == ("[::]:0", "a token of the tests")
    assert config.limits.record_size_max == 262144
    assert config.limits.ring == 8_000_000
    assert config.data_connections.port_range == PortRange(0, 0)
    assert config.data_connections.allow == ["127.0.0.0/8", "::1/128", "lan"]
    assert [(lif.name, lif.address, lif.port) for lif in config.lif] == [
        ("mgmt", "127.0.0.1", 0),
        ("six", "::1", 10000),
    ]
    assert config.user[0].password.reveal() == "geheim"
    assert config.library[0].drive_names() == ["vtl0/drive0", "vtl0/drive1", "vtl0/drive2"]
    assert config.library[0].cartridge_size == 10**12
    assert config.drive[0].virtual_path() == "/tmp/file.tap"
    assert config.drive[0].ring == 512 << 20
    assert config.fault == [
        Fault(drive="vtl0/drive2", kind="slow", rate=10 << 20, buffer=2 << 20, reposition_ms=1500),
        Fault(drive="file", kind="hang", record=7, seconds=90),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[[lif]]\nname="a"\nport = 70000', "lif[0].port: expected 0..65535, got 70000"),
        ('[[lif]]\nname="a"\nport = "x"', 'lif[0].port: expected 0..65535, got "x"'),
        ("[[lif]]\nport = 1", "lif[0].name: a value is needed"),
        ("[lif]\nport = 1", "lif: expected an array of tables (written with [[ ]]), got a table"),
        ("lif = []", "lif: expected at least one, got []"),
        ("[node]\ngrace = 3", "node.grace: unknown key; did you mean grace_s?"),
        ('[node]\n"a\\n` - at" = 3', 'node."a\\n` - at": unknown key'),
        ("[qtree]", "qtree: unknown key"),
        ("[node]\ngrace_s = -1", "node.grace_s: expected an integer of at least 0, got -1"),
        ("[node]\ngrace_s = 1.5", "node.grace_s: expected an integer of at least 0, got 1.5"),
        ("[node]\nname = ''", 'node.name: expected a name of letters, digits, dot, dash and underscore, got ""'),
        ("[node]\nlog_format = 'xml'", 'node.log_format: expected one of auto, console, journal, json, got "xml"'),
        ("[node]\nstate_directory = 'x'", 'node.state_directory: expected an absolute path, got "x"'),
        (
            "[node]\nvolumes = { srv = 'srv' }",
            "node.volumes: expected names and absolute paths, and 'srv' is not an absolute path, got a table",
        ),
        (
            "[node]\nvolumes = { srv = '/srv/../etc' }",
            ("node.volumes: expected names and absolute paths, and 'srv' is not an absolute path without .., "
            "got a table"),
        ),
        ("[node]\nvolumes = ['/srv']", 'node.volumes: expected a table of names and absolute paths, got ["/srv"]'),
        (
            "[node]\nauthtype = ['md5']",
            'node.authtype[0]: expected one of challenge, none, plaintext, plaintext_sso, got "md5"',
        ),
        ("[node]\nauthtype = []", "node.authtype: expected at least one, got []"),
        (
            "[limits]\nring = '8MIB'",
            "limits.ring: expected a size with a unit of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, got \"8MIB\"",
        ),
        (
            "[limits]\nring = '1MiB'",
            "limits.ring: expected at least two records of limits.record_size_max (2097152 bytes), got 1048576 bytes",
        ),
        (
            "[limits]\nring = '64MiB'\nrecord_size_max = '17MiB'",
            "limits.record_size_max: expected at most 16777216 bytes, got 17825792 bytes",
        ),
        ("[limits]\nring = '33GiB'", "limits.ring: expected at most 34359738368 bytes, got 35433480192 bytes"),
        (
            "[[drive]]\nname='d'\ndevice='virtual:/a'\nring = '1TiB'",
            "drive[0].ring: expected at most 34359738368 bytes, got 1099511627776 bytes",
        ),
        (
            "[data_connections]\npeer_timeout_s = 100000",
            "data_connections.peer_timeout_s: expected 1..86400, got 100000",
        ),
        (
            "[data_connections]\nport_range = '9-1'",
            'data_connections.port_range: expected "all" or ports "first-last" within 1..65535, got "9-1"',
        ),
        (
            "[data_connections]\nallow = ['lan', '10.0.0.1/8']",
            ('data_connections.allow[1]: expected "lan" or a network in CIDR form without host bits, '
            'such as "10.0.0.0/8", got "10.0.0.1/8"'),
        ),
        (
            "[[lif]]\nname='a'\naddress='localhost'",
            'lif[0].address: expected an IPv4 or IPv6 address, got "localhost"',
        ),
        (
            "[[lif]]\nname='a'\n[[lif]]\nname='b'",
            "lif[1].port: expected a port of its own, got 10000 as lif[0].port",
        ),
        (
            "[[lif]]\nname='a'\n[[lif]]\nname='a'\nport=0",
            'lif[1].name: expected a name of its own, got "a" as lif[0]',
        ),
        ("[[lif]]\nname='a'\nvserver='v'", 'lif[0].vserver: expected a [[vserver]], got "v"'),
        (
            "[[lif]]\nname='a'\nrole='data'",
            ("lif[0].vserver: a LIF of role data belongs to a [[vserver]] and no other does, "
            'got role data and vserver ""'),
        ),
        (
            "[node]\nauthtype=['none']\n[[lif]]\nname='a'\naddress='0.0.0.0'",
            'node.authtype: "none" is for loopback LIFs only, got lif[0].address 0.0.0.0',
        ),
        (
            "[node]\nmetrics='0.0.0.0:9110'",
            'node.metrics: expected an address of loopback, or metrics_token_file with it, got "0.0.0.0:9110"',
        ),
        (
            "[node]\nmetrics_token='0123456789abcdef'\nmetrics_token_file='/t'",
            "node.metrics_token: expected either metrics_token or metrics_token_file",
        ),
        (
            "[node]\nmetrics_token='0123456789abcde'",
            "node.metrics_token: expected a token of at least 16 characters, got a shorter one that is not shown",
        ),
        ("[node]\nmetrics_token_file='/none'", "node.metrics_token_file: /none: No such file or directory"),
        ("[node]\nmetrics='x'", 'node.metrics: expected "address:port", or "" for off, got "x"'),
        ("[tls]\nkey='/k'", "tls.certificate: a value is needed with tls.key"),
        (
            "[[user]]\nname='u'",
            "user[0].password: expected either password or password_file",
        ),
        (
            "[[user]]\nname='u'\nrole='vsadmin'\npassword_file='/p'",
            "user[0].vservers: a user of role vsadmin needs one at least, got []",
        ),
        (
            "[[user]]\nname='u'\nrole='own'\nvservers=['vs9']\npassword_file='/p'",
            'user[0].vservers: expected a [[vserver]], got "vs9"',
        ),
        (
            "[[drive]]\nname='nst0'\ndevice='nst0'",
            ("drive[0].device: expected virtual:/path/to/file.tap, a node such as /dev/nst0, "
            "or iscsi://host[:port]/iqn/lun, "
            'got "nst0"'),
        ),
        (
            "[[drive]]\nname='t0'\ndevice='iscsi://u%s@h/iqn.2026-01.test:vtl/1'",
            ("drive[0].device: expected virtual:/path/to/file.tap, a node such as /dev/nst0, "
            "or iscsi://host[:port]/iqn/lun, "
            'got "iscsi://u%s@h/iqn.2026-01.test:vtl/1"'),
        ),
        (
            "[[drive]]\nname='t0'\ndevice='iscsi://h/iqn.2026-01.test:vtl/1'\nchap_user='u'",
            "drive[0].chap_secret: expected either chap_secret or chap_secret_file with chap_user",
        ),
        (
            "[[drive]]\nname='t0'\ndevice='iscsi://h/iqn.2026-01.test:vtl/1'\ncartridge_size='1GiB'",
            'drive[0].cartridge_size: expected a virtual: device with it, got "iscsi://h/iqn.2026-01.test:vtl/1"',
        ),
        (
            "[[drive]]\nname='d'\ndevice='virtual:/d.tap'\nblock_size='4KiB'",
            'drive[0].block_size: expected a real drive with it, got "virtual:/d.tap"',
        ),
        (
            "[[drive]]\nname='t0'\ndevice='iscsi://h/iqn.2026-01.test:vtl/1'\nblock_size='16MiB'",
            "drive[0].block_size: expected at most 16777215 bytes, got 16777216 bytes",
        ),
        (
            "[[drive]]\nname='d'\ndevice=\"virtual:/a\\u0000b\"",
            ("drive[0].device: expected virtual:/path/to/file.tap, a node such as /dev/nst0, "
            "or iscsi://host[:port]/iqn/lun, "
            'got "virtual:/a\0b"'),
        ),
        (
            "[[changer]]\nname='mc0'\ndevice='sg3'",
            'changer[0].device: expected an sg node such as /dev/sg3, or iscsi://host[:port]/iqn/lun, got "sg3"',
        ),
        (
            "[[changer]]\nname='mc0'\ndevice='/dev/sg3'\nchap_user='u'\nchap_secret='s'",
            'changer[0].chap_user: expected an iscsi:// device with it, got "/dev/sg3"',
        ),
        (
            "[[changer]]\nname='mc0'\ndevice='iscsi://h/iqn.2026-01.test:vtl/3'\nchap_user='u'",
            "changer[0].chap_secret: expected either chap_secret or chap_secret_file with chap_user",
        ),
        (
            "[[changer]]\nname='mc0'\ndevice='iscsi://h/iqn.2026-01.test:vtl/3'\nchap_secret='s'",
            "changer[0].chap_user: a value is needed with chap_secret and chap_secret_file",
        ),
        (
            "[[drive]]\nname='mc0'\ndevice='virtual:/d.tap'\n[[changer]]\nname='mc0'\ndevice='/dev/sg3'",
            'changer[0].name: expected a name of its own, got "mc0" as drive[0]',
        ),
        (
            "[[library]]\nname='v'\ndirectory='/v'\ncartridge_size='1MB'\nearly_warning='1MB'",
            "library[0].early_warning: expected less than cartridge_size (1000000 bytes), got 1000000 bytes",
        ),
        (
            "[[library]]\nname='v'\ndirectory='/v'\nstart_percent=20\nstop_percent=20",
            "library[0].stop_percent: expected less than start_percent (20), got 20",
        ),
        (
            "[[drive]]\nname='d'\ndevice='virtual:/d.tap'\nstop_percent=1",
            "drive[0].stop_percent: expected less than start_percent (0), got 1",
        ),
        (
            "[[drive]]\nname='d'\ndevice='virtual:/d.tap'\nstart_percent=101",
            "drive[0].start_percent: expected 0..100, got 101",
        ),
        (
            f"{DRIVE}[[fault]]\ndrive='e'\nkind='hang'\nrecord=1\nseconds=1",
            'fault[0].drive: expected the name of a virtual drive, got "e"',
        ),
        (
            f"{DRIVE}[[fault]]\ndrive='d'\nkind='hang'\nrecord=1",
            'fault[0].seconds: a value is needed where kind is "hang"',
        ),
        (
            f"{DRIVE}[[fault]]\ndrive='d'\nkind='hang'\nseconds=1\nrecord={1 << 63}",
            f"fault[0].record: expected 1..{(1 << 63) - 1}, got {1 << 63}",
        ),
        (
            f"{DRIVE}cartridge_size={1 << 63}",
            f"drive[0].cartridge_size: expected a size with a unit of {', '.join(SIZE_UNITS)}, got {1 << 63}",
        ),
        (
            f"{DRIVE}[[fault]]\ndrive='d'\nkind='slow'\nrate='1MiB'\nreposition_ms=0\nat=5",
            'fault[0].at: not with kind = "slow", got 5',
        ),
        (
            f"{DRIVE}[[fault]]\ndrive='d'\nkind='slow'\nrate='1MiB'\nreposition_ms=60001",
            "fault[0].reposition_ms: expected 0..60000, got 60001",
        ),
        ("a = ", "Invalid value (at end of document)"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_file_key_and_value(text: str, line: str) -> None:
    assert failure(text) == f"mover.toml: {line}"


def test_a_missing_file() -> None:
    with pytest.raises(ConfigError, match=re.escape("none.toml: No such file or directory")):
        load_config("none.toml")


@pytest.mark.parametrize("value", ["5", "''", "['geheim']", "{a='geheim'}"])
def test_a_wrong_password_is_not_shown(value: str) -> None:
    assert failure(f"[[user]]\nname='u'\npassword={value}") == (
        "mover.toml: user[0].password: expected a non-empty string, got a value that is not shown"
    )


def test_secrets_compare_by_value_and_are_not_pickled() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1
    with pytest.raises(TypeError, match="not to be pickled"):
        pickle.dumps(Secret("a"))


def test_a_password_is_in_no_repr() -> None:
    assert "geheim" not in repr(load("[[user]]\nname='u'\npassword='geheim'"))


def test_a_password_in_a_readable_file_is_refused() -> None:
    assert failure("[[user]]\nname='u'\npassword='geheim'", 0o644) == (
        "mover.toml: user[0].password: refused, because mover.toml is readable by others (chmod o-r)"
    )


def user_with_file(tmp_path: Path, content: bytes, mode: int = 0o640) -> str:
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    secret.chmod(mode)
    return f"[[user]]\nname='u'\npassword_file='{secret}'"


def test_a_password_file_gives_its_first_line(tmp_path: Path) -> None:
    assert load(user_with_file(tmp_path, b"two words\r\nrest"), 0o644).user[0].password.reveal() == "two words"


@pytest.mark.parametrize(
    ("content", "mode", "line"),
    [
        (b"geheim\n", 0o604, "refused, because {} is readable by others (chmod o-r)"),
        (b"\ngeheim\n", 0o600, "{}: expected the password as its first line, in UTF-8"),
        (b"\xff\n", 0o600, "{}: expected the password as its first line, in UTF-8"),
        (b"x" * 5000, 0o600, "{}: expected the password as its first line, in UTF-8"),
    ],
)
def test_a_password_file_that_will_not_do(tmp_path: Path, content: bytes, mode: int, line: str) -> None:
    text = user_with_file(tmp_path, content, mode)
    assert failure(text) == f"mover.toml: user[0].password_file: {line.format(tmp_path / 'secret')}"


def test_a_missing_password_file(tmp_path: Path) -> None:
    text = user_with_file(tmp_path, b"geheim\n")
    os.unlink(tmp_path / "secret")
    assert failure(text) == (f"mover.toml: user[0].password_file: {tmp_path}/secret: No such file or directory")
    assert parse_config("mover.toml").user[0].name == "u"


@given(st.integers(1, 10**6), st.sampled_from(["B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]))
@settings(max_examples=30)
def test_sizes(number: int, unit: str) -> None:
    factor = {"B": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}[unit[0]]
    Path("size.toml").write_text(f"[limits]\nring = '{number}{unit}'\n")
    assert parse_config("size.toml").limits.ring == number * (1024 if "i" in unit else 1000) ** factor


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_no_text_escapes_as_another_error(text: str) -> None:
    Path("any.toml").write_text(text, errors="surrogatepass")
    line = "any.toml: "
    try:
        load_config("any.toml")
    except ConfigError as error:
        line = str(error)
    assert line.startswith("any.toml: ")
    assert "\n" not in line


def test_a_changers_secret_is_read_from_its_file() -> None:
    Path("secret").write_text("chap secret\n")
    Path("secret").chmod(0o600)
    text = (
        "[[changer]]\nname='mc0'\ndevice='iscsi://h/iqn.2026-01.test:vtl/3'\nchap_user='u'\nchap_secret_file='SECRET'"
    )
    text = text.replace("SECRET", str(Path("secret").resolve()))
    (changer,) = load(text).changer
    assert (changer.chap_user, changer.chap_secret.reveal()) == ("u", "chap secret")
    assert "chap secret" not in repr(changer)
    Path("secret").chmod(0o644)
    assert "changer[0].chap_secret_file: refused" in failure(text)
