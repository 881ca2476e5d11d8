"""The admin socket's door: operators <-> control, over a unix stream socket of mode 0600.

One JSON object per line in both directions; each request gets exactly one reply, in order, and the connection may
carry any number of them. The key "type" tells the messages apart ("tape-show"), field names have dashes on the wire.
Paths and names that are not UTF-8 are written with backslash escapes by the sender: JSON has no bytes.
"""

from typing import Annotated, Final, Literal, TypeVar

import msgspec.json
from msgspec import Meta, field

from mover.admin.base import Bottleneck, Message, Row
from mover.admin.clusters import NodeShow, NodeShowReply, VolumeMove, VolumeShow, VolumeShowReply
from mover.admin.statistics import StatisticsReply, StatisticsShow, WaitCause

REQUEST_BYTES_MAX: Final = 64 * 1024  # one line with its newline
REPLY_BYTES_MAX: Final = 16 * 1024 * 1024  # holds the cartridges of a full library of 65,000 slots

Operation = Literal["backup", "recover", "recover-filehist"]
AuthenticationMethod = Literal["password", "none"]
Access = Literal["all", "readonly", "none"]
JobState = Literal["running", "successful", "failed", "aborted", "interrupted"]


_Kind = TypeVar("_Kind")


class MessageError(ValueError):
    """A line is no message of this door; the text says what is wrong with it."""


# --- requests ---------------------------------------------------------------------------------------------------


class Version(Message, frozen=True):
    """Of the node, or of a vserver, which offers versions of its own. Reply: VersionReply; Failed: no such vserver."""

    vserver: str = ""


class Status(Message, frozen=True):
    """The connections, or the one with this id. Reply: StatusReply; Failed when the one is not there."""

    session_id: int | None = None


class Kill(Message, frozen=True):
    """End one connection and its jobs. Reply: Done when it is gone, or Failed."""

    session_id: int


class KillAll(Message, frozen=True):
    """End all connections, or those to the LIFs of a vserver. Reply: Done with their session ids, or Failed."""

    vserver: str | None = None


class OptionsShow(Message, frozen=True):
    """The options of a vserver, of the node for ""; None = of the node and of every vserver.

    Reply: OptionsReply; Failed for no such vserver.
    """

    vserver: str | None = ""


class OptionsModify(Message, frozen=True):
    """Change options of a vserver, of the node for "", and set others back to what the configuration says.

    They count for connections made from then on. Reply: Done with the options, or Failed, and then nothing has changed.
    """

    vserver: str = ""
    changes: dict[str, str] = {}
    reset: list[str] = []


class Jobs(Message, frozen=True):
    """The jobs, without sizes and causes of errors, or the one with this number. Reply: JobsReply; Failed for none."""

    number: int | None = None


class TapeShow(Message, frozen=True):
    """Drives and cartridges. Reply: TapeShowReply."""


class TapeCreate(Message, frozen=True):
    """Make ``count`` cartridges, or one with this barcode; None = the next free ones. Reply: Done or Failed."""

    library: str
    barcode: str | None = None
    count: Annotated[int, Meta(ge=1, le=65000)] = 1


class TapeLoad(Message, frozen=True):
    """Put a cartridge into a drive. ``barcode`` None = the first empty scratch one, made where there is none.

    Reply: Done or Failed.
    """

    drive: str
    barcode: str | None = None


class TapeUnload(Message, frozen=True):
    """Put the drive's cartridge back. Reply: Done or Failed."""

    drive: str


class LibraryShow(Message, frozen=True):
    """The elements of the libraries, or of the one named. Reply: LibraryShowReply; Failed where there is none such."""

    library: str | None = None


class LibraryInventory(Message, frozen=True):
    """Look which cartridge files were put in and taken out. Reply: Done, with the new barcodes, or Failed."""

    library: str


class LibraryMove(Message, frozen=True):
    """Move a cartridge from an element, or by its barcode, to an element ("slot0", "drive0", "mail0").

    Reply: Done or Failed.
    """

    library: str
    source: str
    destination: str


class LogStart(Message, frozen=True):
    """Log the messages of one connection that ``filter`` lets through, from now on.

    Reply: LogReply; Failed for no such session, one that is logged already, a wrong filter, no file.
    """

    session_id: int
    filter: str = "all"


class LogStop(Message, frozen=True):
    """End the protocol log of one connection. Reply: LogReply; Failed for no such session, or none that is logged."""

    session_id: int


class DumpDatesList(Message, frozen=True):
    """What incremental backups are based on. Reply: DumpDatesReply or Failed."""


class DumpDatesDelete(Message, frozen=True):
    """Forget dates of a directory, as the list names it; None = whatever the others say. Reply: Done or Failed."""

    filesystem: str
    butype: str | None = None
    level: int | None = None
    dump_date: str | None = None


class DumpDatesExport(Message, frozen=True):
    """Write all dates and tables to a new file on the server's machine. Reply: Done with the directories, or Failed."""

    path: str


class DumpDatesImport(Message, frozen=True):
    """Take dates and tables from such a file. Reply: Done, with the directories, or Failed."""

    path: str


class UserCreate(Message, frozen=True):
    """Make a user; ``password`` is the login password of a local one. Reply: Done or Failed.

    Attributes:
        volumes: that he reaches: of the node by NAME, of a vserver by VSERVER/NAME; "*" = all.
        devices: drives and changers that he reaches; "*" = all.
    """

    user: str
    role: str
    source: Literal["local", "system"] = "local"
    vservers: list[str] = field(default_factory=list)
    password: str | None = None
    authentication_method: AuthenticationMethod = "password"
    volumes: list[str] = field(default_factory=lambda: ["*"])
    devices: list[str] = field(default_factory=lambda: ["*"])

    def __repr__(self) -> str:
        return f"UserCreate({self.user!r}, {self.role!r})"


class UserModify(Message, frozen=True):
    """Change a user; None = as it is. Reply: Done or Failed."""

    user: str
    role: str | None = None
    vservers: list[str] | None = None
    password: str | None = None
    authentication_method: AuthenticationMethod | None = None
    volumes: list[str] | None = None
    devices: list[str] | None = None

    def __repr__(self) -> str:
        return f"UserModify({self.user!r})"


class UserDelete(Message, frozen=True):
    """Delete a user and end his sessions. Reply: Done or Failed."""

    user: str


class UserShow(Message, frozen=True):
    """The users, or the one named. Reply: UserShowReply; Failed where there is none such."""

    user: str | None = None


class RoleCreate(Message, frozen=True):
    """Make a role with an access to the NDMP service. Reply: Done or Failed."""

    role: str
    access: Access = "all"


class RoleDelete(Message, frozen=True):
    """Delete a role that no user has. Reply: Done or Failed."""

    role: str


class RoleShow(Message, frozen=True):
    """The roles, or the one named. Reply: RoleShowReply; Failed where there is none such."""

    role: str | None = None


class GeneratePassword(Message, frozen=True):
    """Make a user's NDMP password; a vserver that is named must be one of his. Reply: PasswordReply or Failed."""

    user: str
    vserver: str = ""


Request = (
    UserCreate
    | UserModify
    | UserDelete
    | UserShow
    | RoleCreate
    | RoleDelete
    | RoleShow
    | GeneratePassword
    | Version
    | Jobs
    | DumpDatesList
    | DumpDatesDelete
    | DumpDatesExport
    | DumpDatesImport
    | Status
    | Kill
    | KillAll
    | OptionsShow
    | OptionsModify
    | LogStart
    | LogStop
    | TapeShow
    | TapeCreate
    | TapeLoad
    | TapeUnload
    | LibraryShow
    | LibraryInventory
    | LibraryMove
    | NodeShow
    | VolumeShow
    | VolumeMove
    | StatisticsShow
)


# --- replies ----------------------------------------------------------------------------------------------------


class WorkerStatus(Row, frozen=True, kw_only=True):
    """One worker process of a connection.

    Attributes:
        kind: data, tape or relay.
        cpu_percent: of one core, since the last look (of the first look: the moment of it).
        rss_bytes: resident set, the shared ring included.
        read_bytes, write_bytes: by its read and write system calls.
    """

    pid: int
    kind: str
    cpu_percent: float = 0.0
    rss_bytes: int = 0
    read_bytes: int = 0
    write_bytes: int = 0


class SessionStatus(Row, frozen=True, kw_only=True):
    """One NDMP connection: ONTAP's fields in ONTAP's order, then mover's own. "" and None = does not apply.

    Attributes:
        data_phase: of a running operation: SCAN, CHANGES, DIRECTORIES, FILES or FINISH.
        data_entries: found by the scan of a backup so far; once it has halted, those that it has dealt with.
        is_data_connection_encrypted: a TCP data connection stands, and TLS is on it.
    """

    vserver: str = ""
    session_id: int
    ndmp_version: int = 0
    session_authorized: bool = False
    data_state: str = ""
    data_operation: str = ""
    data_halt_reason: str = ""
    data_con_addr_type: str = ""
    data_con_addr: str = ""
    data_con_port: int | None = None
    data_bytes_processed: int = 0
    mover_state: str = ""
    mover_mode: str = ""
    mover_pause_reason: str = ""
    mover_halt_reason: str = ""
    mover_record_size: int = 0
    mover_record_num: int = 0
    mover_bytes_moved: int = 0
    mover_seek_position: int = 0
    mover_bytes_left_to_read: int = 0
    mover_window_offset: int = 0
    mover_window_length: int = 0
    mover_position: int = 0
    mover_setrecordsize_flag: bool = False
    mover_setwindow_flag: bool = False
    mover_con_addr_type: str = ""
    mover_con_addr: str = ""
    mover_con_port: int | None = None
    eff_host: str = ""
    client_addr: str = ""
    client_port: int = 0
    spt_device_id: str = ""
    spt_ha: int | None = None
    spt_scsi_id: int | None = None
    spt_scsi_lun: int | None = None
    tape_device: str = ""
    tape_modes: str = ""
    node: str = ""
    is_secure_control_connection: bool = False
    data_backup_mode: str = ""
    data_path: str = ""
    source_addr: str = ""
    elapsed_seconds: float = 0.0
    bottleneck: Bottleneck = "idle"
    ring_fill_percent: float = 0.0
    data_phase: str = ""
    data_entries: int = 0
    snapshot: str = ""
    is_data_connection_encrypted: bool = False
    workers: list[WorkerStatus] = field(default_factory=list)


class DriveStatus(Row, frozen=True, kw_only=True):
    """One drive.

    Attributes:
        name: as in the configuration, ``vtl0/drive0``.
        library: "" for a drive of its own.
        state: empty, loaded, ejected (a cartridge is in it and not threaded), in-use (open by ``session_id``), closed
            (a real drive, of which only who opens it knows what is in it), or hung (it does not answer).
        barcode: of the cartridge in it; "" = none, or a drive of its own.
        path: the cartridge file; "" = none.
        unflushed: of the cartridge: it was not closed in order (its tape worker or the whole server was killed), or
            comes from elsewhere, and what was written last may not be on disk before it is opened and closed again.
        hung_since: since when it does not answer, in seconds since 1970; None = it is not hung.
        model, serial: of a real drive, as it says itself; "" = it has not said so.
    """

    name: str
    library: str = ""
    state: Literal["empty", "loaded", "ejected", "in-use", "closed", "hung"]
    session_id: int | None = None
    barcode: str = ""
    path: str = ""
    write_protected: bool = False
    unflushed: bool = False
    hung_since: float | None = None
    model: str = ""
    serial: str = ""


class CartridgeStatus(Row, frozen=True, kw_only=True):
    """One cartridge of a library; ``drive`` is "" while it is in a slot."""

    barcode: str
    library: str
    path: str
    drive: str = ""
    used_bytes: int = 0
    capacity_bytes: int = 0
    write_protected: bool = False
    unflushed: bool = False


class ElementStatus(Row, frozen=True, kw_only=True):
    """One element of a library.

    Attributes:
        element: "drive0", "mail0", "slot0" and so on; mail is the mail slot, import/export.
        address: as the changer numbers it.
        barcode: of the cartridge in it; "" = empty.
        home: of the cartridge: the slot it was in last; "" = it has not been in one.
        imported: of a cartridge in the mail slot: an operator put it there, not the robot.
        ejected: of a cartridge in a drive: it is not threaded.
        full: a cartridge is in it; of a real changer also one without a barcode.
        drive: of a real changer's drive: its name in the configuration, "" = not known.
        exception: what a real changer says is wrong with it: additional sense code and qualifier; "" = nothing.
    """

    element: str
    address: int
    barcode: str = ""
    home: str = ""
    imported: bool = False
    ejected: bool = False
    full: bool = False
    drive: str = ""
    exception: str = ""


class HungDevice(Row, frozen=True, kw_only=True):
    """A drive or a changer that does not answer, and that nobody gets; ``hung_since`` in seconds since 1970."""

    name: str
    hung_since: float


class LibraryStatus(Row, frozen=True, kw_only=True):
    """A virtual library or a real changer; ``session_id`` has the changer open. Elements: drives, mail slot, slots.

    Attributes:
        directory: of a virtual library; of a real changer its device.
        error: why a real changer's elements are not told; "" = they are.
        hung_since: since when the changer does not answer, in seconds since 1970; None = it is not hung.
        model, serial: of a real changer, as it says itself.
    """

    name: str
    directory: str
    changer: str
    session_id: int | None = None
    elements: list[ElementStatus]
    error: str = ""
    hung_since: float | None = None
    model: str = ""
    serial: str = ""


class DumpDateStatus(Row, frozen=True, kw_only=True):
    """A backup that others can be based on.

    Attributes:
        level: that it was asked for; full: it turned out a full one.
        date: seconds since 1970.
        dump_date: the token, a number of 64 bits, that names it; "" = it is found by its level.
        table_bytes: of its inode table.
    """

    butype: str
    filesystem: str
    level: int
    full: bool
    date: int
    dump_date: str = ""
    table_bytes: int = 0


class UserStatus(Row, frozen=True, kw_only=True):
    """One user.

    Attributes:
        source: whose the login password is.
        ndmp_password: configured: it stands in the configuration; stale: the login password has changed since;
            unknown: the login password cannot be asked about at the moment.
        generated: the NDMP password, in seconds since 1970; None = it was not.
        volumes, devices: that he reaches, by names; "*" = all.
    """

    user: str
    role: str
    vservers: list[str]
    source: Literal["configuration", "local", "system"]
    authentication_method: AuthenticationMethod
    ndmp_password: Literal["configured", "none", "valid", "stale", "expired", "unknown"]
    generated: int | None = None
    volumes: list[str] = field(default_factory=lambda: ["*"])
    devices: list[str] = field(default_factory=lambda: ["*"])


class RoleStatus(Row, frozen=True, kw_only=True):
    """One role; built_in: it is there without being made."""

    role: str
    access: Access
    built_in: bool


class UserShowReply(Message, frozen=True):
    """The users, those of the configuration first."""

    users: list[UserStatus]


class RoleShowReply(Message, frozen=True):
    """The roles, those first that are always there."""

    roles: list[RoleStatus]


class PasswordReply(Message, frozen=True):
    """A new NDMP password, which is not shown again."""

    vserver: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"PasswordReply({self.user!r})"


class VersionReply(Message, frozen=True):
    """The running control process and the NDMP versions it speaks, lowest first.

    Attributes:
        certificate_fingerprint: SHA-256 of that of its secure ports; "" = it has none.
    """

    version: str
    node: str
    pid: int
    ndmp_versions: list[int]
    certificate_fingerprint: str = ""


class OptionStatus(Row, frozen=True, kw_only=True):
    """One option: its value as `mover modify` takes it, and where it comes from. vserver "" = the node."""

    vserver: str = ""
    option: str
    value: str
    origin: Literal["default", "config", "modified"]


class OptionsReply(Message, frozen=True):
    """Options, those of the node first."""

    options: list[OptionStatus]


class ErrorCause(Row, frozen=True, kw_only=True):
    """Errors of one cause.

    Attributes:
        cause: the symbol of an error number (EACCES), or changed, stream, parent, other.
        paths: of the first ten.
    """

    cause: str
    count: int
    paths: list[str] = field(default_factory=list)


class SizeClass(Row, frozen=True, kw_only=True):
    """Regular files of so many bytes, both ends included."""

    from_bytes: int
    to_bytes: int
    files: int


class JobStatus(Row, frozen=True, kw_only=True):
    """One backup or recover, running or over.

    Attributes:
        number: of the job; never given again.
        vserver: whose data LIF the DMA came to; "" = no data LIF.
        level: of a backup; None = a recover.
        state: interrupted = the server ended before it did.
        halt_reason: as NOTIFY_DATA_HALTED told it; "" = not told.
        text: why it ended so.
        started, ended: seconds since 1970; ended None = running, or not known.
        phase: scan, changes, directories, files or finish: where it is, or was at its end.
        entries: kind -> how many are in the stream, or were recovered; "unknown" = their kind was not looked at.
        file_bytes: of the content of regular files.
        sizes: of regular files.
        left_out: reason -> objects, or attributes of objects, that were left out without an error.
        history_wait_seconds: waited for the DMA to take file history.
        ring_full_seconds: the data ring's producer waited: in a backup for tape or network, in a recover for the disk.
        ring_empty_seconds: its consumer waited, for the other of the two.
        wait_seconds: cause -> seconds that went to it; what is missing to ``elapsed_seconds`` was not waited.
        whole: the worker's last word is in it; else what it had published before.
    """

    number: int
    session_id: int
    vserver: str = ""
    operation: Operation
    backup_type: str
    path: str
    level: int | None = None
    client_addr: str = ""
    state: JobState = "running"
    halt_reason: str = ""
    text: str = ""
    started: float
    ended: float | None = None
    elapsed_seconds: float = 0.0
    phase: str = ""
    entries: dict[str, int] = field(default_factory=dict)
    file_bytes: int = 0
    stream_bytes: int = 0
    history_entries: int = 0
    sizes: list[SizeClass] = field(default_factory=list)
    errors: int = 0
    error_causes: list[ErrorCause] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    phase_seconds: dict[str, float] = field(default_factory=dict)
    history_wait_seconds: float = 0.0
    ring_full_seconds: float = 0.0
    ring_empty_seconds: float = 0.0
    wait_seconds: dict[WaitCause, float] = field(default_factory=dict)
    whole: bool = False


class StatusReply(Message, frozen=True):
    """The connections, by session id, and the drives and changers that do not answer."""

    sessions: list[SessionStatus]
    hung_devices: list[HungDevice] = []


class JobsReply(Message, frozen=True):
    """The jobs, the oldest first."""

    jobs: list[JobStatus]


class TapeShowReply(Message, frozen=True):
    """Drives and cartridges in the order of the configuration."""

    drives: list[DriveStatus]
    cartridges: list[CartridgeStatus]


class LibraryShowReply(Message, frozen=True):
    """Libraries in the order of the configuration."""

    libraries: list[LibraryStatus]


class DumpDatesReply(Message, frozen=True):
    """The dates, the oldest first."""

    dump_dates: list[DumpDateStatus]


class LogReply(Message, frozen=True):
    """A protocol log, just begun or ended: where it is, and how much is in it.

    Attributes:
        left_out: messages that came faster than a log may grow.
        writing: whether it goes on.
    """

    session_id: int
    path: str
    filter: str
    messages: int
    left_out: int
    bytes: int
    writing: bool


class Done(Message, frozen=True):
    """It is done; ``text`` says what, for people, ``names`` the barcodes made or moved, for scripts."""

    text: str
    names: list[str] = field(default_factory=list)


class Failed(Message, frozen=True):
    """It is not done, and nothing was changed."""

    code: Literal["bad-request", "not-found", "busy", "refused", "failed"]
    text: str


Reply = (
    VersionReply
    | UserShowReply
    | RoleShowReply
    | PasswordReply
    | OptionsReply
    | DumpDatesReply
    | JobsReply
    | StatusReply
    | TapeShowReply
    | LibraryShowReply
    | NodeShowReply
    | VolumeShowReply
    | LogReply
    | StatisticsReply
    | Done
    | Failed
)

SESSION_FIELDS: Final = SessionStatus.__struct_encode_fields__

_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode_request(request: Request) -> bytes:
    """The request as one line.

    Raises:
        MessageError: longer than REQUEST_BYTES_MAX.
    """
    return _line(request, REQUEST_BYTES_MAX)


def encode_reply(reply: Reply) -> bytes:
    """The reply as one line.

    Raises:
        MessageError: longer than REPLY_BYTES_MAX.
    """
    return _line(reply, REPLY_BYTES_MAX)


def decode_request(line: bytes) -> Request:
    """A line, with or without its newline, as a request.

    Raises:
        MessageError: it is none; the text may be sent back in Failed("bad-request", text).
    """
    return _decode(_requests, line, REQUEST_BYTES_MAX)


def decode_reply(line: bytes) -> Reply:
    """A line, with or without its newline, as a reply.

    Raises:
        MessageError: it is none.
    """
    return _decode(_replies, line, REPLY_BYTES_MAX)


def _line(message: Request | Reply, limit: int) -> bytes:
    line = msgspec.json.encode(message) + b"\n"
    if len(line) > limit:
        raise MessageError(f"a message of {len(line)} bytes is longer than {limit}")
    return line


def _decode(decoder: msgspec.json.Decoder[_Kind], line: bytes, limit: int) -> _Kind:
    if len(line) > limit:
        raise MessageError(f"a message of {len(line)} bytes is longer than {limit}")
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MessageError(f"not a message of the admin socket: {error}") from None
