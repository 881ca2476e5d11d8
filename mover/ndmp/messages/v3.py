"""Bodies of version 3 that differ from the internal form. Source: NDMPv3."""

from typing import Annotated

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
from mover.ndmp.messages.common import LOCAL, FcAddress, IpcAddress, LocalAddress, Pval
from mover.ndmp.messages.data import RecoverName
from mover.ndmp.messages.v2 import SingleTcpAddress
from mover.ndmp.xdr_types import U32, U64, Arms, Body, Enum, String, UnknownArm

Address = Annotated[
    LocalAddress | SingleTcpAddress | FcAddress | IpcAddress | UnknownArm,
    Arms(
        {
            AddressType.LOCAL: LocalAddress,
            AddressType.TCP: SingleTcpAddress,
            AddressType.FC: FcAddress,
            AddressType.IPC: IpcAddress,
        }
    ),
]


class ConfigGetHostInfoReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    hostname: String = b""
    os_type: String = b""
    os_vers: String = b""
    hostid: String = b""


class TapeGetStateReply(Body, frozen=True):
    unsupported: U32 = 0  # on the wire: invalid
    error: Enum = ErrorCode.NO_ERR
    flags: U32 = 0
    file_num: U32 = 0
    soft_errors: U32 = 0
    block_size: U32 = 0
    blockno: U32 = 0
    total_space: U64 = 0
    space_remain: U64 = 0
    partition: U32 = 0


class DataGetStateReply(Body, frozen=True):
    invalid: U32 = 0
    error: Enum = ErrorCode.NO_ERR
    operation: Enum = DataOperation.NOACTION
    state: Enum = DataState.IDLE
    halt_reason: Enum = DataHaltReason.NA
    bytes_processed: U64 = 0
    est_bytes_remain: U64 = 0
    est_time_remain: U32 = 0
    data_connection_addr: Address = LOCAL
    read_offset: U64 = 0
    read_length: U64 = 0


class DataStartBackupRequest(Body, frozen=True):
    butype: String
    env: tuple[Pval, ...]


class DataStartRecoverRequest(Body, frozen=True):
    env: tuple[Pval, ...]
    nlist: tuple[RecoverName, ...]
    butype: String


class DataListenReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    data_connection_addr: Address = LOCAL


class DataConnectRequest(Body, frozen=True):
    addr: Address


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
    data_connection_addr: Address = LOCAL


class MoverListenReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    data_connection_addr: Address = LOCAL


class MoverConnectRequest(Body, frozen=True):
    mode: Enum
    addr: Address


class LogMessagePost(Body, frozen=True):
    log_type: Enum
    message_id: U32
    entry: String


class LogFilePost(Body, frozen=True):
    name: String
    error: Enum
