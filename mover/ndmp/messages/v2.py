"""Bodies of version 2 that differ from the internal form. Source: NDMPv2, and the XDR files in use."""

from typing import Annotated

import msgspec

from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    DataOperation,
    DataState,
    ErrorCode,
    MoverHaltReason,
    MoverPauseReason,
    MoverState,
)
from mover.ndmp.messages.common import LOCAL, LocalAddress, Pval
from mover.ndmp.xdr_types import U16, U32, U64, Arms, Body, Enum, String, UnknownArm


class SingleTcpAddress(msgspec.Struct, frozen=True):
    """The TCP arm before version 4: one address, no environment."""

    ip_addr: U32
    port: U16


MoverAddress = Annotated[
    LocalAddress | SingleTcpAddress | UnknownArm,
    Arms({AddressType.LOCAL: LocalAddress, AddressType.TCP: SingleTcpAddress}),
]


class TapeGetStateReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    flags: U32 = 0
    file_num: U32 = 0
    soft_errors: U32 = 0
    block_size: U32 = 0
    blockno: U32 = 0
    total_space: U64 = 0
    space_remain: U64 = 0


class DataGetStateReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    operation: Enum = DataOperation.NOACTION
    state: Enum = DataState.IDLE
    halt_reason: Enum = DataHaltReason.NA
    bytes_processed: U64 = 0
    est_bytes_remain: U64 = 0
    est_time_remain: U32 = 0
    mover: MoverAddress = LOCAL
    read_offset: U64 = 0
    read_length: U64 = 0


class DataStartBackupRequest(Body, frozen=True):
    mover: MoverAddress
    bu_type: String
    env: tuple[Pval, ...]


class Name(msgspec.Struct, frozen=True, gc=False):
    """nlist element."""

    name: String
    dest: String
    ssid: U16
    fh_info: U64


class DataStartRecoverRequest(Body, frozen=True):
    mover: MoverAddress
    env: tuple[Pval, ...]
    nlist: tuple[Name, ...]
    bu_type: String


class MoverGetStateReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    state: Enum = MoverState.IDLE
    pause_reason: Enum = MoverPauseReason.NA
    halt_reason: Enum = MoverHaltReason.NA
    record_size: U32 = 0
    record_num: U32 = 0
    data_written: U64 = 0
    seek_position: U64 = 0
    bytes_left_to_read: U64 = 0
    window_offset: U64 = 0
    window_length: U64 = 0


class MoverListenReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    mover: MoverAddress = LOCAL


class LogLogPost(Body, frozen=True):
    entry: String


class LogDebugPost(Body, frozen=True):
    level: Enum  # LogLevel
    message: String


class LogFilePost(Body, frozen=True):
    name: String
    ssid: U16
    error: Enum


class UnixStat(msgspec.Struct, frozen=True):
    """Attributes of an object."""

    ftype: Enum
    mtime: U32
    atime: U32
    ctime: U32
    uid: U32
    gid: U32
    mode: U32
    size: U64
    fh_info: U64


class UnixPath(msgspec.Struct, frozen=True):
    """Element of FH_ADD_UNIX_PATH."""

    name: String
    fstat: UnixStat


class UnixDir(msgspec.Struct, frozen=True):
    """Element of FH_ADD_UNIX_DIR."""

    name: String
    node: U32
    parent: U32


class UnixNode(msgspec.Struct, frozen=True):
    """Element of FH_ADD_UNIX_NODE."""

    fstat: UnixStat
    node: U32


class FhAddUnixPathPost(Body, frozen=True):
    paths: tuple[UnixPath, ...]


class FhAddUnixDirPost(Body, frozen=True):
    dirs: tuple[UnixDir, ...]


class FhAddUnixNodePost(Body, frozen=True):
    nodes: tuple[UnixNode, ...]
