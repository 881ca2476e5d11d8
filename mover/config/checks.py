"""Checks between keys: what contradicts itself, and what this version would silently ignore."""

import ipaddress
from collections.abc import Iterable
from typing import Final

from mover.config import values
from mover.config.errors import ConfigError
from mover.config.model import VIRTUAL, AuthType, Config, Drive, RealDevice, Snapshot
from mover.config.values import is_iscsi_url
from mover.config.vservers import overlaps

RECORD_BYTES_MAX: Final = 16 << 20  # a longer record fits no NDMP message, nor do drives write any
RING_BYTES_MAX: Final = 32 << 30  # 65,536 slots of at least half a MiB
NODE_ROLES: Final = ("admin", "backup")
VSERVER_ROLES: Final = ("vsadmin", "vsadmin-backup")
_OF_SNAPSHOTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "btrfs": ((), ("directory",)),
    "lvm": (("logical_volume",), ("size", "mount_options")),
    "zfs": (("dataset",), ()),
    "none": ((), ()),
}
"""Kind of snapshot -> keys that it needs, keys that it may have; no other kind takes them."""
_OF_FAULTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "write-error": (("record",), ()),
    "read-error": (("record",), ()),
    "early-warning": (("at",), ()),
    "slow": (("rate",), ("buffer", "reposition_ms")),
    "hang": (("record", "seconds"), ()),
}
"""Kind of fault -> keys that it needs, keys that it may have; no other kind takes them."""
_OF_VIRTUAL_DRIVES: Final = ("cartridge_size", "early_warning")
_OF_REAL_DRIVES: Final = ("block_size", "timeout_s")
_DRIVE_DEFAULTS: Final = Drive(name="", device="virtual:")
ISCSI: Final = "iscsi://"
DRIVE_KINDS: Final = f"expected {VIRTUAL}/path/to/file.tap, a node such as /dev/nst0, or {ISCSI}host[:port]/iqn/lun"
BLOCK_BYTES_MAX: Final = (1 << 24) - 1  # 24 bits of a block descriptor, SSC-4 8.3


def check_consistency(path: str, config: Config) -> None:
    """Refuse what contradicts itself.

    Raises:
        ConfigError: names the first such key.
    """
    for table, rows in (
        ("lif", config.lif), ("vserver", config.vserver), ("user", config.user),
        ("library", config.library), ("drive", config.drive), ("changer", config.changer),
    ):  # fmt: skip
        _unique(path, table, [row.name for row in rows])
    if not config.lif:
        raise ConfigError(f"{path}: lif: expected at least one, got []")
    _check_lifs(path, config)
    _check_users(path, config)
    _check_shared(path, config)
    for given, needed in (("certificate", "key"), ("key", "certificate")):
        if getattr(config.tls, given) and not getattr(config.tls, needed):
            raise ConfigError(f"{path}: tls.{needed}: a value is needed with tls.{given}")
    for line in overlaps(config, lambda directory: directory):
        raise ConfigError(f"{path}: {line}")
    for given, needed in (("certificate", "key"), ("key", "certificate")):
        if getattr(config.tls, given) and not getattr(config.tls, needed):
            raise ConfigError(f"{path}: tls.{needed}: a value is needed with tls.{given}")
    _check_metrics(path, config)
    for table, authtype in _authtypes(config):
        if not authtype:
            raise ConfigError(f"{path}: {table}.authtype: expected at least one, got []")
    _check_sizes(path, config)
    _check_watermarks(path, config)
    _check_changers(path, config)
    _check_drives(path, config)
    _check_snapshots(path, config)
    _check_faults(path, config)


def _check_metrics(path: str, config: Config) -> None:
    node = config.node
    if node.metrics_token and node.metrics_token_file:
        raise ConfigError(f"{path}: node.metrics_token: expected either metrics_token or metrics_token_file")
    if not node.metrics or node.metrics_token or node.metrics_token_file:
        return
    address, _ = values.host_and_port(node.metrics)
    if not ipaddress.ip_address(address).is_loopback:
        raise ConfigError(
            f"{path}: node.metrics: expected an address of loopback, or metrics_token_file with it, "
            f'got "{node.metrics}"'
        )


def _check_faults(path: str, config: Config) -> None:
    drives = config.virtual_drives()
    for index, fault in enumerate(config.fault):
        key = f"{path}: fault[{index}]"
        if fault.drive not in drives:
            raise ConfigError(f'{key}.drive: expected the name of a virtual drive, got "{fault.drive}"')
        needed, possible = _OF_FAULTS[fault.kind]
        for name in ("record", "at", "rate", "buffer", "reposition_ms", "seconds"):
            value = getattr(fault, name)
            if value is None and name in needed:
                raise ConfigError(f'{key}.{name}: a value is needed where kind is "{fault.kind}"')
            if value is not None and name not in (*needed, *possible):
                raise ConfigError(f'{key}.{name}: not with kind = "{fault.kind}", got {value}')


def _check_changers(path: str, config: Config) -> None:
    names = {each.name: f"library[{index}]" for index, each in enumerate(config.library)}
    names |= {each.name: f"drive[{index}]" for index, each in enumerate(config.drive)}
    for index, changer in enumerate(config.changer):
        key = f"{path}: changer[{index}]"
        if changer.name in names:
            raise ConfigError(f'{key}.name: expected a name of its own, got "{changer.name}" as {names[changer.name]}')
        _check_login(key, changer)


def _check_drives(path: str, config: Config) -> None:
    for index, drive in enumerate(config.drive):
        key = f"{path}: drive[{index}]"
        _check_login(key, drive)
        if drive.block_size > BLOCK_BYTES_MAX:
            raise ConfigError(
                f"{key}.block_size: expected at most {BLOCK_BYTES_MAX} bytes, got {drive.block_size} bytes"
            )
        virtual = drive.virtual_path() is not None
        for name in _OF_VIRTUAL_DRIVES if not virtual else _OF_REAL_DRIVES:
            if getattr(drive, name) != getattr(_DRIVE_DEFAULTS, name):
                wanted = f"a {VIRTUAL} device" if not virtual else "a real drive"
                raise ConfigError(f'{key}.{name}: expected {wanted} with it, got "{drive.device}"')


def _check_login(key: str, device: RealDevice) -> None:
    secrets = bool(device.chap_secret) + bool(device.chap_secret_file)
    if device.chap_user and secrets != 1:
        raise ConfigError(f"{key}.chap_secret: expected either chap_secret or chap_secret_file with chap_user")
    if secrets and not device.chap_user:
        raise ConfigError(f"{key}.chap_user: a value is needed with chap_secret and chap_secret_file")
    if device.chap_user and not device.device.startswith(ISCSI):
        raise ConfigError(f'{key}.chap_user: expected an iscsi:// device with it, got "{device.device}"')


def _authtypes(config: Config) -> list[tuple[str, list[AuthType]]]:
    """The login methods of the node and of each vserver, with the table they stand in."""
    return [
        ("node", config.node.authtype),
        *((f"vserver[{index}]", each.authtype) for index, each in enumerate(config.vserver)),
    ]


def _check_snapshots(path: str, config: Config) -> None:
    seen: dict[str, int] = {}
    for index, snapshot in enumerate(config.snapshot):
        key = f"{path}: snapshot[{index}]"
        if snapshot.volume not in config.node.volumes:
            raise ConfigError(f'{key}.volume: expected one of node.volumes, got "{snapshot.volume}"')
        if snapshot.volume in seen:
            other = seen[snapshot.volume]
            raise ConfigError(
                f'{key}.volume: expected a volume of its own, got "{snapshot.volume}" as snapshot[{other}]'
            )
        seen[snapshot.volume] = index
        _check_kind(key, snapshot)


def _check_kind(key: str, snapshot: Snapshot) -> None:
    needed, possible = _OF_SNAPSHOTS[snapshot.kind]
    for name in needed:
        if not getattr(snapshot, name):
            raise ConfigError(f'{key}.{name}: a value is needed where kind is "{snapshot.kind}"')
    for kind, (others, more) in _OF_SNAPSHOTS.items():
        for name in (*others, *more):
            value = getattr(snapshot, name)
            if value and name not in (*needed, *possible):
                raise ConfigError(
                    f'{key}.{name}: expected kind = "{kind}" with it, got kind = "{snapshot.kind}" and {value!r}'
                )
    if snapshot.kind == "none" and not snapshot.pre and not snapshot.post:
        raise ConfigError(f'{key}.kind: expected pre or post with "none", which does nothing by itself')


def _unique(path: str, table: str, names: Iterable[str]) -> None:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in seen:
            raise ConfigError(
                f'{path}: {table}[{index}].name: expected a name of its own, got "{name}" as {table}[{seen[name]}]'
            )
        seen[name] = index


def _check_users(path: str, config: Config) -> None:
    vservers = {each.name for each in config.vserver}
    for index, user in enumerate(config.user):
        key = f"{path}: user[{index}]"
        if bool(user.password) == bool(user.password_file):
            raise ConfigError(f"{key}.password: expected either password or password_file")
        for name in user.vservers:
            if name not in vservers:
                raise ConfigError(f'{key}.vservers: expected a [[vserver]], got "{name}"')
        for name in user.volumes:
            if name not in ("*", *config.volume_names()):
                raise ConfigError(
                    f'{key}.volumes: expected volumes of the node, VSERVER/NAME of vservers, or "*", got "{name}"'
                )
        if user.role in VSERVER_ROLES and not user.vservers:
            raise ConfigError(f"{key}.vservers: a user of role {user.role} needs one at least, got []")
        if user.role in NODE_ROLES and user.vservers:
            raise ConfigError(f"{key}.vservers: a user of role {user.role} has none, got {user.vservers}")


def _check_lifs(path: str, config: Config) -> None:
    vservers = {each.name for each in config.vserver}
    endpoints: dict[tuple[str, int], tuple[int, str]] = {}
    for index, lif in enumerate(config.lif):
        key = f"{path}: lif[{index}]"
        if lif.vserver and lif.vserver not in vservers:
            raise ConfigError(f'{key}.vserver: expected a [[vserver]], got "{lif.vserver}"')
        if (lif.role == "data") != bool(lif.vserver):
            raise ConfigError(
                f"{key}.vserver: a LIF of role data belongs to a [[vserver]] and no other does, "
                f'got role {lif.role} and vserver "{lif.vserver}"'
            )
        for name, port in [("port", lif.port), *([("secure_port", lif.secure_port)] if config.is_secure(lif) else [])]:
            other = endpoints.setdefault((lif.address, port), (index, name)) if port else (index, name)
            if other != (index, name):
                raise ConfigError(f"{key}.{name}: expected a port of its own, got {port} as lif[{other[0]}].{other[1]}")
        if "none" in config.service(lif.vserver).authtype and not ipaddress.ip_address(lif.address).is_loopback:
            table = f"vserver {lif.vserver}" if lif.vserver else "node"
            raise ConfigError(
                f'{path}: {table}.authtype: "none" is for loopback LIFs only, got lif[{index}].address {lif.address}'
            )


def _check_shared(path: str, config: Config) -> None:
    services = [("node", config.node), *((f"vserver[{index}]", each) for index, each in enumerate(config.vserver))]
    for table, service in services:
        for name in service.shared_volumes:
            if name not in service.volumes:
                raise ConfigError(f'{path}: {table}.shared_volumes: expected a name of {table}.volumes, got "{name}"')
        if service.shared_volumes and not config.node.cluster_directory:
            raise ConfigError(f"{path}: node.cluster_directory: a value is needed with {table}.shared_volumes")
    if config.node.cluster_directory == config.node.state_directory:
        raise ConfigError(
            f"{path}: node.cluster_directory: expected another directory than node.state_directory, "
            f"got {config.node.cluster_directory}"
        )


def _check_sizes(path: str, config: Config) -> None:
    limits = config.limits
    if limits.record_size_max > RECORD_BYTES_MAX:
        raise ConfigError(
            f"{path}: limits.record_size_max: expected at most {RECORD_BYTES_MAX} bytes, "
            f"got {limits.record_size_max} bytes"
        )
    rings = [("limits.ring", limits.ring)]
    rings += [(f"drive[{n}].ring", drive.ring) for n, drive in enumerate(config.drive) if drive.ring is not None]
    for key, ring in rings:
        if ring > RING_BYTES_MAX:
            raise ConfigError(f"{path}: {key}: expected at most {RING_BYTES_MAX} bytes, got {ring} bytes")
        if ring < 2 * limits.record_size_max:
            raise ConfigError(
                f"{path}: {key}: expected at least two records of limits.record_size_max "
                f"({2 * limits.record_size_max} bytes), got {ring} bytes"
            )
    media = [(f"library[{n}]", each.cartridge_size, each.early_warning) for n, each in enumerate(config.library)]
    media += [(f"drive[{n}]", each.cartridge_size, each.early_warning) for n, each in enumerate(config.drive)]
    for key, capacity, early_warning in media:
        if early_warning >= capacity:
            raise ConfigError(
                f"{path}: {key}.early_warning: expected less than cartridge_size ({capacity} bytes), "
                f"got {early_warning} bytes"
            )


def _check_watermarks(path: str, config: Config) -> None:
    marks = [(f"library[{n}]", each.start_percent, each.stop_percent) for n, each in enumerate(config.library)]
    marks += [(f"drive[{n}]", *each.watermarks()) for n, each in enumerate(config.drive)]
    for key, start, stop in marks:
        if stop and stop >= start:
            raise ConfigError(f"{path}: {key}.stop_percent: expected less than start_percent ({start}), got {stop}")


def check_supported(path: str, config: Config) -> None:
    """Refuse what a later version will do and this one would only ignore.

    Raises:
        ConfigError: names the first such key and says what there is instead.
    """
    for index, drive in enumerate(config.drive):
        path_of = drive.virtual_path()
        if not is_iscsi_url(drive.device) and not _is_path(drive.device if path_of is None else path_of):
            raise ConfigError(f'{path}: drive[{index}].device: {DRIVE_KINDS}, got "{drive.device}"')
    for index, changer in enumerate(config.changer):
        if not is_iscsi_url(changer.device) and not _is_path(changer.device):
            raise ConfigError(
                f"{path}: changer[{index}].device: expected an sg node such as /dev/sg3, "
                f'or iscsi://host[:port]/iqn/lun, got "{changer.device}"'
            )


def _is_path(text: str) -> bool:
    return text.startswith("/") and "\0" not in text
