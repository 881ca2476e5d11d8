"""The configuration as structs: every key of the TOML file, its type and its default.

A key that TOML has no type for carries its parser in the annotation; mover.config.load applies it. The file is
described for administrators in docs/configuration.md.
"""

import socket
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from mover.config import values
from mover.config.debug_filter import parse_debug_filter

MIB: Final = 1 << 20
GIB: Final = 1 << 30
VIRTUAL: Final = "virtual:"
START_PERCENT: Final = 50
"""Of the ring, from which on a real drive goes on that had to stop."""

Size = Annotated[int, Meta(extra={"parse": values.parse_size})]
Window = Annotated[int, Meta(extra={"parse": values.parse_window})]
PortRange = Annotated[values.PortRange, Meta(extra={"parse": values.parse_port_range})]
Network = Annotated[str, Meta(extra={"parse": values.parse_network})]
IpAddress = Annotated[str, Meta(extra={"parse": values.parse_ip_address})]
HostPort = Annotated[str, Meta(extra={"parse": values.parse_host_port})]
Name = Annotated[str, Meta(extra={"parse": values.parse_name})]
Path = Annotated[str, Meta(extra={"parse": values.parse_path})]
SocketPath = Annotated[str, Meta(extra={"parse": values.parse_socket_path})]
DebugFilter = Annotated[str, Meta(extra={"parse": parse_debug_filter})]
Volumes = Annotated[dict[str, str], Meta(extra={"parse": values.parse_volumes})]
Password = Annotated[values.Secret, Meta(extra={"parse": values.parse_secret})]
LogicalVolume = Annotated[str, Meta(extra={"parse": values.parse_logical_volume})]
MountOptions = Annotated[str, Meta(extra={"parse": values.parse_mount_options})]
Dataset = Annotated[str, Meta(extra={"parse": values.parse_dataset})]
Command = Annotated[list[str], Meta(extra={"parse": values.parse_command})]
CommandSeconds = Annotated[int, Meta(ge=1, le=86_400)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Percent = Annotated[int, Meta(ge=0, le=100)]
Seconds = Annotated[int, Meta(ge=0)]
SomeSeconds = Annotated[int, Meta(ge=1)]
PEER_TIMEOUT_S_MAX: Final = 86_400  # a third of it is TCP_KEEPIDLE, and the kernel takes 32,767 there
Text = Annotated[str, Meta(min_length=1)]

AuthType = Literal["challenge", "plaintext", "plaintext_sso", "none"]
LifRole = Literal["node-mgmt", "data", "cluster-mgmt", "intercluster"]


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table of the file."""


class Service(_Table, frozen=True, kw_only=True):
    """What the node and each vserver have alike: volumes, and options of the same names.

    Attributes:
        volumes: volume name -> directory.
        shared_volumes: those that other nodes of the cluster have too; each is with one of them at a time.
        enable: connections are taken.
        abort_on_disk_error: an error of the disk ends a backup or recover, which else goes on without the object.
        ignore_ctime_enabled: IGNORE_CTIME of backups that do not give it.
        offset_map_enable: a recover by direct access finds what a directory holds, too.
        dump_detailed_stats: the backup log has the summary of each job at its end.
        preferred_interface_role: where data connections are waited for: at LIFs of these roles, best first.
        maxversion: highest NDMP version that is offered.
        tcpnodelay: of control connections.
        tcpwinsize: buffers of data connections in bytes; 0 = as the kernel has them.
        backup_log_enable: an entry in the backup log for what happens to each job.
        debug_enable: a protocol log of every connection from its first byte, of what debug_filter lets through.
        is_secure_control_connection_enabled: the LIFs have secure ports.
        data_connection_encryption: whether TCP data connections between two movers are encrypted: never, where both
            sides can be told the keys, or else there is none.
        is_extension_..._enabled: the extension of this class is offered, where it is at all.
    """

    volumes: Volumes = field(default_factory=dict)
    shared_volumes: list[Name] = field(default_factory=list)
    enable: bool = True
    abort_on_disk_error: bool = False
    ignore_ctime_enabled: bool = False
    offset_map_enable: bool = True
    dump_detailed_stats: bool = False
    preferred_interface_role: list[LifRole] = field(
        default_factory=lambda: ["intercluster", "cluster-mgmt", "node-mgmt"]
    )
    maxversion: Annotated[int, Meta(ge=1, le=4)] = 4
    tcpnodelay: bool = True
    tcpwinsize: Window = 0
    authtype: list[AuthType] = field(default_factory=lambda: ["challenge"])
    backup_log_enable: bool = True
    debug_enable: bool = False
    debug_filter: DebugFilter = "all"
    is_secure_control_connection_enabled: bool = False
    data_connection_encryption: Literal["off", "allowed", "required"] = "allowed"
    is_extension_0x2051_enabled: bool = True
    is_extension_0x2052_enabled: bool = True
    is_extension_0x7ff0_enabled: bool = True


class Node(Service, frozen=True, kw_only=True):
    """``[node]``: this host.

    Attributes:
        metrics: where /metrics and the status page are; "" = off.
        metrics_token: what they ask for; Secret("") = nothing, which loopback alone may have. Once loaded it holds the
            secret, and ``metrics_token_file`` nothing.
        log_format: auto = journal where standard error is systemd's journal, else console.
        cluster_directory: where all nodes of the cluster say what they have; "" = this is the only one.
        grace_s: how long jobs may go on after SIGTERM.
        backup_log_size, backup_log_old: bytes from which on a new file is begun, and how many old ones are kept.
        statistics_interval_s: between two samples of what this server does; 0 = statistics are off.
    """

    name: Name = field(default_factory=socket.gethostname)
    state_directory: Path = "/var/lib/mover"
    cluster_directory: Path = ""
    admin_socket: SocketPath = "/run/mover/admin.sock"
    log_format: Literal["auto", "console", "json", "journal"] = "auto"
    metrics: HostPort = "127.0.0.1:9110"
    metrics_token: Password = values.Secret("")
    metrics_token_file: Path = ""
    grace_s: Seconds = 30
    backup_log_size: Size = 16 * MIB
    backup_log_old: Annotated[int, Meta(ge=0, le=99)] = 5
    statistics_interval_s: Annotated[int, Meta(ge=0, le=60)] = 1


class Limits(_Table, frozen=True, kw_only=True):
    """``[limits]``: sizes in bytes, times in seconds.

    Attributes:
        sessions: NDMP connections at once; past it NOTIFY REFUSED.
        ring: bytes of a ring for virtual drives and relays.
        idle_timeout_s: 0 = never.
        heartbeat_s: a job of which nothing was said for so long tells the DMA where it is; 0 = never.
        spares: warm spare workers of each kind; 0 = none.
    """

    sessions: Count = 64
    record_size_max: Size = MIB
    ring: Size = 8 * MIB
    idle_timeout_s: Seconds = 0
    authentication_timeout_s: SomeSeconds = 60
    spares: Annotated[int, Meta(ge=0, le=16)] = 2
    heartbeat_s: Seconds = 30


class DataConnections(_Table, frozen=True, kw_only=True):
    """``[data_connections]``: TCP data connections.

    Attributes:
        port_range: where this node listens.
        allow: networks that may connect in and that CONNECT may reach; "lan" = the LIFs' own networks.
        connect_timeout_s: for a CONNECT of ours.
        peer_timeout_s: after so long without a sign the peer of a control or data connection is dead
            (keepalive, and bytes that stay unacknowledged).
        secure_loopback: keys of encrypted data connections also go over plain control connections from this host.
    """

    port_range: PortRange = values.PortRange(18600, 18699)
    allow: list[Network] = field(default_factory=lambda: ["127.0.0.0/8", "::1/128", "lan"])
    connect_timeout_s: SomeSeconds = 10
    peer_timeout_s: Annotated[int, Meta(ge=1, le=PEER_TIMEOUT_S_MAX)] = 30
    secure_loopback: bool = False


class Tls(_Table, frozen=True, kw_only=True):
    """``[tls]``: of secure ports; "" = not given.

    Attributes:
        certificate, key: PEM; without them they are made in the state directory.
        client_ca: PEM; clients have to show a certificate of one of these authorities.
    """

    certificate: Path = ""
    key: Path = ""
    client_ca: Path = ""


class Authentication(_Table, frozen=True, kw_only=True):
    """``[authentication]``: logins of DMAs.

    Attributes:
        allow: networks that DMAs may come from; "lan" = the LIFs' own networks.
        lockout_failures: so many failed logins in a row, and the user is locked out at that address.
        lockout_s: for so long, from the last failure on.
        ndmp_password_days: how long an NDMP password counts whose login password is not visible here; 0 = not at all.
        pam_service: the file in /etc/pam.d by which plaintext_sso asks about users of the host.
    """

    allow: list[Network] = field(default_factory=lambda: ["0.0.0.0/0", "::/0"])
    lockout_failures: Annotated[int, Meta(ge=1, le=1000)] = 10
    lockout_s: Annotated[int, Meta(ge=1, le=86_400)] = 300
    ndmp_password_days: Annotated[int, Meta(ge=0, le=3650)] = 0
    pam_service: Name = "mover"


class Lif(_Table, frozen=True, kw_only=True):
    """``[[lif]]``: a logical interface, an address that DMAs connect to. port 0 = any free port."""

    name: Name
    address: IpAddress = "127.0.0.1"
    port: Port = 10000
    secure_port: Port = 30000
    role: LifRole = "node-mgmt"
    vserver: str = ""


class Vserver(Service, frozen=True, kw_only=True):
    """``[[vserver]]``: a tenant.

    Attributes:
        sessions: NDMP connections at once at its LIFs; those of the node bound them too.
        data_port_range: where its data connections are waited for; None = as data_connections has it.
        disallowed_protocols: "ndmp" in it = its LIFs refuse every connection.
    """

    name: Name
    preferred_interface_role: list[LifRole] = field(default_factory=lambda: ["intercluster", "data"])
    sessions: Count = 64
    data_port_range: PortRange | None = None
    disallowed_protocols: list[Literal["ndmp"]] = field(default_factory=list)


class User(_Table, frozen=True, kw_only=True):
    """``[[user]]``: who may log in. Once loaded ``password`` holds the secret, and ``password_file`` nothing.

    Attributes:
        volumes: what he reaches: of the node's by NAME, of a vserver's by VSERVER/NAME; "*" = all.
        devices: drives and changers that he reaches, by name; "*" = all.
    """

    name: Text
    role: Text = "backup"
    vservers: list[Name] = field(default_factory=list)
    volumes: list[Text] = field(default_factory=lambda: ["*"])
    devices: list[Text] = field(default_factory=lambda: ["*"])
    password: Password = values.Secret("")
    password_file: Path = ""


class Library(_Table, frozen=True, kw_only=True):
    """``[[library]]``: a virtual tape library, whose cartridges are files in ``directory``.

    Attributes:
        slots: storage elements; also how many cartridges ``mover tape create`` makes room for.
        import_export: elements of the changer's mail slot.
        cartridge_size: capacity in bytes of a new cartridge.
        early_warning: how many bytes before its end a cartridge warns.
        start_percent, stop_percent: watermarks of its drives, see Drive.
    """

    name: Name
    kind: Literal["virtual"] = "virtual"
    directory: Path
    drives: Annotated[int, Meta(ge=1, le=256)] = 2
    slots: Annotated[int, Meta(ge=1, le=65000)] = 8
    import_export: Annotated[int, Meta(ge=0, le=255)] = 2
    cartridge_size: Size = 100 * GIB
    early_warning: Size = 256 * MIB
    start_percent: Percent = 0
    stop_percent: Percent = 0

    def drive_names(self) -> list[str]:
        """``vtl0/drive0``, ``vtl0/drive1`` and so on."""
        return [f"{self.name}/drive{number}" for number in range(self.drives)]


class RealDevice(_Table, frozen=True, kw_only=True):
    """What a drive and a changer of their own have in common.

    Attributes:
        chap_user: who we are to an iSCSI target; "" = no authentication. Once loaded ``chap_secret`` holds the secret,
            and ``chap_secret_file`` nothing.
        timeout_s: how long it may take for any operation; None = as long as each takes at most.
    """

    name: Name
    device: Text
    chap_user: str = ""
    chap_secret: Password = values.Secret("")
    chap_secret_file: Path = ""
    timeout_s: SomeSeconds | None = None


class Drive(RealDevice, frozen=True, kw_only=True):
    """``[[drive]]``: a drive of its own.

    Attributes:
        device: ``virtual:/path/to/file.tap``, a path of an st device, or ``iscsi://host[:port]/iqn/lun``.
        ring: bytes; None = that of [limits].
        block_size: of a real drive in fixed block mode, in bytes; 0 = variable.
        cartridge_size, early_warning: of a virtual drive's file, in bytes.
        start_percent: a drive that had to stop goes on when so much of the ring can be worked on; None = 0 for a
            virtual drive, START_PERCENT for any other.
        stop_percent: it stops when no more than that is left.
    """

    ring: Size | None = None
    block_size: Size = 0
    cartridge_size: Size = 100 * GIB
    early_warning: Size = 256 * MIB
    start_percent: Percent | None = None
    stop_percent: Percent = 0

    def virtual_path(self) -> str | None:
        """The cartridge file of a virtual drive."""
        return self.device.removeprefix(VIRTUAL) if self.device.startswith(VIRTUAL) else None

    def watermarks(self) -> tuple[int, int]:
        """``start_percent`` as it counts, and ``stop_percent``."""
        usual = START_PERCENT if self.virtual_path() is None else 0
        return usual if self.start_percent is None else self.start_percent, self.stop_percent


class Fault(_Table, frozen=True, kw_only=True):
    """``[[fault]]``: what a virtual drive rehearses; None = not given.

    Attributes:
        drive: by its name.
        record: write-error, read-error, hang: at the how-manieth record since the drive was opened.
        at: early-warning: bytes on the cartridge before it.
        rate, buffer, reposition_ms: slow: bytes a second, bytes, and milliseconds from a stop to moving again.
        seconds: hang.
    """

    drive: Text
    kind: Literal["write-error", "read-error", "early-warning", "slow", "hang"]
    record: Annotated[int, Meta(ge=1, le=values.SIZE_MAX)] | None = None
    at: Size | None = None
    rate: Size | None = None
    buffer: Size | None = None
    reposition_ms: Annotated[int, Meta(ge=0, le=60_000)] | None = None
    seconds: CommandSeconds | None = None


class Snapshot(_Table, frozen=True, kw_only=True):
    """``[[snapshot]]``: what backups of a volume read in its place, and what is run before and after.

    Attributes:
        volume: by its name in node.volumes.
        directory: btrfs: where snapshots go; "" = a hidden directory in the root of the subvolume.
        logical_volume: lvm: group/volume that the file system lies on.
        size: lvm: room for what changes meanwhile, in bytes; None = a thin volume, whose pool has it.
        mount_options: lvm: beside those that the file system needs.
        dataset: zfs.
        pre, post: a program and its arguments; empty = none.
        timeout_s: of each command.
        on_failure: whether the backup fails, or goes on with the live files.
    """

    volume: Name
    kind: Literal["btrfs", "lvm", "zfs", "none"]
    directory: Path = ""
    logical_volume: LogicalVolume = ""
    size: Size | None = None
    mount_options: MountOptions = ""
    dataset: Dataset = ""
    pre: Command = field(default_factory=list)
    post: Command = field(default_factory=list)
    timeout_s: CommandSeconds = 300
    on_failure: Literal["fail", "go-on"] = "fail"


class Changer(RealDevice, frozen=True, kw_only=True):
    """``[[changer]]``: a media changer of its own.

    Attributes:
        device: a path of an sg device, or ``iscsi://host[:port]/iqn/lun``.
    """


class Config(_Table, frozen=True, kw_only=True):
    """The whole file; the arrays of tables are named as in the file, in the singular.

    Attributes:
        given: the keys that stand in the file ("node.authtype", "vserver[0].sessions").
    """

    node: Node = field(default_factory=Node)
    limits: Limits = field(default_factory=Limits)
    data_connections: DataConnections = field(default_factory=DataConnections)
    authentication: Authentication = field(default_factory=Authentication)
    tls: Tls = field(default_factory=Tls)
    lif: list[Lif] = field(default_factory=lambda: [Lif(name="mgmt")])
    vserver: list[Vserver] = field(default_factory=list)
    user: list[User] = field(default_factory=list)
    library: list[Library] = field(default_factory=list)
    drive: list[Drive] = field(default_factory=list)
    changer: list[Changer] = field(default_factory=list)
    snapshot: list[Snapshot] = field(default_factory=list)
    fault: list[Fault] = field(default_factory=list)
    given: frozenset[str] = frozenset()

    def is_secure(self, lif: Lif) -> bool:
        """Whether a LIF has a secure port: as its vserver says, or the node where it belongs to none."""
        return self.service(lif.vserver).is_secure_control_connection_enabled

    def virtual_drives(self) -> list[str]:
        """The names of all virtual drives."""
        alone = [drive.name for drive in self.drive if drive.virtual_path() is not None]
        return [name for library in self.library for name in library.drive_names()] + alone

    def volume_names(self) -> list[str]:
        """Every volume: of the node by NAME, of a vserver by VSERVER/NAME."""
        tenants = [f"{vserver.name}/{name}" for vserver in self.vserver for name in vserver.volumes]
        return [*self.node.volumes, *tenants]

    def service(self, vserver: str) -> Service:
        """Volumes and options of a vserver; "" = of the node."""
        return {each.name: each for each in self.vserver}[vserver] if vserver else self.node
