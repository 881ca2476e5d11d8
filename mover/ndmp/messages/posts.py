"""Posts in the internal form: NOTIFY (05xx), LOG (06xx), file history (07xx). Source: NDMPv4 sections 3.7 to 3.9."""

from typing import Annotated

import msgspec

from mover.ndmp.enums import AssociatedMessage, FileType, FsType, LogLevel
from mover.ndmp.xdr_types import U16, U32, U64, Arms, Body, Enum, String, UnknownArm


class NotifyPausedPost(Body, frozen=True):
    """The data operation waits for a change of tape (v1)."""

    reason: Enum  # DataPauseReason


class NotifyDataHaltedPost(Body, frozen=True):
    """The data operation ended; NOTIFY_HALTED in v1."""

    reason: Enum  # DataHaltReason
    text_reason: String = b""  # v1 to v3


class NotifyConnectionStatusPost(Body, frozen=True):
    """First message of a connection; NOTIFY_CONNECTED before v4."""

    reason: Enum  # ConnectionStatusReason
    protocol_version: U16
    text_reason: String = b""


class NotifyMoverHaltedPost(Body, frozen=True):
    reason: Enum  # MoverHaltReason
    text_reason: String = b""  # v2, v3


class NotifyMoverPausedPost(Body, frozen=True):
    reason: Enum  # MoverPauseReason
    seek_position: U64 = 0


class NotifyDataReadPost(Body, frozen=True):
    """The data service wants this part of the stream; becomes a MOVER_READ."""

    offset: U64
    length: U64


class LogMessagePost(Body, frozen=True):
    """A message for people; LOG_LOG or LOG_DEBUG in v1 and v2."""

    log_type: Enum  # LogType
    message_id: U32
    entry: String
    associated_message_valid: Enum = AssociatedMessage.NO_ASSOCIATED_MESSAGE  # v4
    associated_message_sequence: U32 = 0  # sequence of a message of the server's own
    level: Enum = LogLevel.USER_INFO  # LOG_DEBUG of v1 and v2


class LogFilePost(Body, frozen=True):
    """Fate of one nlist entry; v2 and v3 carry an error code instead."""

    name: String  # original_path as received
    recovery_status: Enum  # RecoveryStatus


class UnixName(msgspec.Struct, frozen=True):
    path: String


class NtName(msgspec.Struct, frozen=True):
    nt_path: String
    dos_path: String


class OtherName(msgspec.Struct, frozen=True):
    other_name: String


FileName = Annotated[
    UnixName | NtName | OtherName | UnknownArm,
    Arms({FsType.UNIX: UnixName, FsType.NT: NtName, FsType.OTHER: OtherName}),
]


class FileStat(msgspec.Struct, frozen=True):
    """Attributes of an object; times in seconds since 1970, size in bytes."""

    unsupported: U32 = 0  # FileStatUnsupported; v3 name: invalid
    fs_type: Enum = FsType.UNIX
    ftype: Enum = FileType.OTHER
    mtime: U32 = 0
    atime: U32 = 0
    ctime: U32 = 0
    owner: U32 = 0
    group: U32 = 0
    fattr: U32 = 0  # permission bits
    size: U64 = 0
    links: U32 = 0


class File(msgspec.Struct, frozen=True):
    """An entry of FH_ADD_FILE: path and attributes."""

    names: tuple[FileName, ...]
    stats: tuple[FileStat, ...]
    node: U64
    fh_info: U64


class Dir(msgspec.Struct, frozen=True):
    """An entry of FH_ADD_DIR: a base name in a directory."""

    names: tuple[FileName, ...]
    node: U64
    parent: U64


class Node(msgspec.Struct, frozen=True):
    """An entry of FH_ADD_NODE: attributes of an object."""

    stats: tuple[FileStat, ...]
    node: U64
    fh_info: U64


class FhAddFilePost(Body, frozen=True):
    """Path based history; FH_ADD_UNIX in v1, FH_ADD_UNIX_PATH in v2."""

    files: tuple[File, ...]


class FhAddDirPost(Body, frozen=True):
    """Directory entries; FH_ADD_UNIX_DIR in v1 and v2."""

    dirs: tuple[Dir, ...]


class FhAddNodePost(Body, frozen=True):
    """Attributes by node; FH_ADD_UNIX_NODE in v1 and v2."""

    nodes: tuple[Node, ...]
