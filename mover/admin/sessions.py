"""NDMP connections at the admin socket: what they do, ending them, and the protocol logs of them."""

from typing import Final

from msgspec import field

from mover.admin.base import Bottleneck, Message, Row


class Status(Message, frozen=True):
    """The connections, or the one with this id. Reply: StatusReply; Failed when the one is not there."""

    session_id: int | None = None


class Kill(Message, frozen=True):
    """End one connection and its jobs. Reply: Done when it is gone, or Failed."""

    session_id: int


class KillAll(Message, frozen=True):
    """End all connections, or those to the LIFs of a vserver. Reply: Done with their session ids, or Failed."""

    vserver: str | None = None


class LogStart(Message, frozen=True):
    """Log the messages of one connection that ``filter`` lets through, from now on.

    Reply: LogReply; Failed for no such session, one that is logged already, a wrong filter, no file.
    """

    session_id: int
    filter: str = "all"


class LogStop(Message, frozen=True):
    """End the protocol log of one connection. Reply: LogReply; Failed for no such session, or none that is logged."""

    session_id: int


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


SESSION_FIELDS: Final = SessionStatus.__struct_encode_fields__


class HungDevice(Row, frozen=True, kw_only=True):
    """A drive or a changer that does not answer, and that nobody gets; ``hung_since`` in seconds since 1970."""

    name: str
    hung_since: float


class StatusReply(Message, frozen=True):
    """The connections, by session id, and the drives and changers that do not answer."""

    sessions: list[SessionStatus]
    hung_devices: list[HungDevice] = []


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


Request = Status | Kill | KillAll | LogStart | LogStop
Reply = StatusReply | LogReply
