"""Values of the configuration that TOML has no type for: sizes, port ranges, networks, names, paths, secrets.

Each ``parse_`` function takes what TOML gave and returns the value, or raises ValueError whose text completes
the sentence "expected ...".
"""

import hmac
import ipaddress
import re
from typing import Any, Final, NamedTuple  # Any: TOML values before they are checked

SIZE_UNITS: Final = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip

WINDOW_MIN: Final = 4 << 10
WINDOW_MAX: Final = 64 << 20
SIZE_MAX: Final = (1 << 63) - 1  # bytes; no file is longer

SUN_PATH_MAX: Final = 107  # bytes of a unix socket's path, without the closing zero

_SIZE = re.compile(r"([0-9]{1,15}) ?([A-Za-z]+)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PORTS = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
# As mover/tape/iscsi.py takes it apart: the rooms may not import each other, and a wrong one is told at the start.
_ISCSI_URL = re.compile(
    r"iscsi://(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9._-]{0,252})(?::(?P<port>[0-9]{1,5}))?"
    r"/[a-z0-9][a-zA-Z0-9.:_-]{0,222}/(?P<lun>[0-9]{1,5})"
)
_PORT_MAX = 65_535
_LUN_MAX = 16_383
_LOGICAL_VOLUME = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}/[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}")
_MOUNT_OPTIONS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_=,.:-]{0,254}")
_DATASET = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*(?:/[A-Za-z0-9][A-Za-z0-9_.:-]*)*")
DATASET_MAX: Final = 200  # ZFS takes 255 with the name of a snapshot
COMMAND_BYTES_MAX: Final = 64 << 10


class Secret:
    """A string that shows itself only when asked by name: never in repr, in logs or in error texts."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not to be pickled")


class PortRange(NamedTuple):
    """Ports ``first`` to ``last``, both included; (0, 0) lets the kernel take any free port ("all")."""

    first: int
    last: int


def parse_size(value: Any) -> int:
    """Bytes of a size such as ``"1MiB"``; a plain integer is bytes."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    size = 0
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif match is not None and match[2] in SIZE_UNITS:
        size = int(match[1]) * SIZE_UNITS[match[2]]
    if not 0 < size <= SIZE_MAX:
        raise ValueError(f"a size with a unit of {', '.join(SIZE_UNITS)}")
    return size


def parse_window(value: Any) -> int:
    """A TCP buffer of 4 KiB to 64 MiB; 0 of ``"auto"``."""
    if value == "auto":
        return 0
    try:
        size = parse_size(value)
    except ValueError:
        size = 0
    if not WINDOW_MIN <= size <= WINDOW_MAX:
        raise ValueError(f'"auto" or a size from {WINDOW_MIN} to {WINDOW_MAX} bytes')
    return size


def parse_port_range(value: Any) -> PortRange:
    """``"18600-18699"``, or ``"all"``."""
    if value == "all":
        return PortRange(0, 0)
    match = _PORTS.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 65535:
        raise ValueError('"all" or ports "first-last" within 1..65535')
    return PortRange(int(match[1]), int(match[2]))


def parse_network(value: Any) -> str:
    """A network in CIDR form, or ``"lan"``."""
    if value == "lan":
        return "lan"
    try:
        if not isinstance(value, str) or "/" not in value:
            raise ValueError
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError('"lan" or a network in CIDR form without host bits, such as "10.0.0.0/8"') from None


def parse_ip_address(value: Any) -> str:
    """An IPv4 or IPv6 address, no host name."""
    try:
        if not isinstance(value, str):
            raise ValueError
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address") from None


def is_iscsi_url(text: str) -> bool:
    """Whether this is ``iscsi://host[:port]/target/lun``."""
    match = _ISCSI_URL.fullmatch(text)
    return match is not None and 0 < int(match["port"] or 1) <= _PORT_MAX and int(match["lun"]) <= _LUN_MAX


def parse_host_port(value: Any) -> str:
    """``"127.0.0.1:9110"``, ``"[::1]:9110"``, or ``""``."""
    if value == "":
        return ""
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    try:
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError
        if (ipaddress.ip_address(host.strip("[]")).version == 6) != host.startswith("["):
            raise ValueError
    except ValueError:
        raise ValueError('"address:port", or "" for off') from None
    return str(value)


def host_and_port(text: str) -> tuple[str, int]:
    """Address and port of what parse_host_port has let through, ``""`` excepted."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def parse_name(value: Any) -> str:
    """A name of a LIF, library, drive, vserver or volume."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("a name of letters, digits, dot, dash and underscore")
    return value


def parse_path(value: Any) -> str:
    """An absolute path."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("an absolute path")
    return value


def parse_socket_path(value: Any) -> str:
    """An absolute path short enough for a unix socket."""
    if len(parse_path(value).encode()) > SUN_PATH_MAX:
        raise ValueError(f"an absolute path of at most {SUN_PATH_MAX} bytes")
    return str(value)


def parse_volumes(value: Any) -> dict[str, str]:
    """A table of volume names and absolute directories without ``..``; trailing slashes go."""
    if not isinstance(value, dict):
        raise ValueError("a table of names and absolute paths")
    volumes = {}
    for name, directory in value.items():
        try:
            volumes[parse_name(name)] = parse_path(directory).rstrip("/") or "/"
            if ".." in directory.split("/"):  # what lies below it could not be told from its name
                raise ValueError("an absolute path without ..")
        except ValueError as error:
            raise ValueError(f"names and absolute paths, and {name!r} is not {error}") from None
    return volumes


def parse_logical_volume(value: Any) -> str:
    """``"group/volume"``, as lvs(8) names them."""
    if not isinstance(value, str) or not _LOGICAL_VOLUME.fullmatch(value):
        raise ValueError('a volume group and a logical volume, such as "vg0/srv"')
    return value


def parse_mount_options(value: Any) -> str:
    """Options for mount -o, without any that would let somebody write."""
    if not isinstance(value, str) or not _MOUNT_OPTIONS.fullmatch(value) or "rw" in value.split(","):
        raise ValueError("options of mount(8) with commas between them, and not rw")
    return value


def parse_dataset(value: Any) -> str:
    """A ZFS file system, such as ``"tank/srv"``."""
    if not isinstance(value, str) or not _DATASET.fullmatch(value) or len(value) > DATASET_MAX:
        raise ValueError('the name of a ZFS file system, such as "tank/srv"')
    return value


def parse_command(value: Any) -> list[str]:
    """A program by its absolute path, and its arguments; no shell looks at them."""
    words = value if isinstance(value, list) and all(isinstance(word, str) for word in value) else None
    if not words or not words[0].startswith("/") or any("\0" in word for word in words):
        raise ValueError('a program and its arguments, such as ["/usr/local/sbin/quiesce", "srv"]')
    if sum(len(word.encode("utf-8", "surrogateescape")) + 1 for word in words) > COMMAND_BYTES_MAX:
        raise ValueError(f"a command of at most {COMMAND_BYTES_MAX} bytes")
    return list(words)


def parse_secret(value: Any) -> Secret:
    """A non-empty string that is never shown again."""
    if not isinstance(value, str) or not value:
        raise ValueError("a non-empty string")
    return Secret(value)
