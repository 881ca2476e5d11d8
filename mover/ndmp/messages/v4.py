"""Bodies of version 4 that differ from the internal form. Source: NDMPv4."""

from mover.ndmp.enums import AssociatedMessage, DataHaltReason, DataOperation, DataState, ErrorCode
from mover.ndmp.messages.common import LOCAL, Address
from mover.ndmp.messages.v3 import ConfigGetHostInfoReply, DataStartBackupRequest, DataStartRecoverRequest
from mover.ndmp.xdr_types import U32, U64, Body, Enum, String

__all__ = [
    "ConfigGetHostInfoReply",
    "DataGetStateReply",
    "DataStartBackupRequest",
    "DataStartRecoverRequest",
    "LogMessagePost",
    "NotifyDataHaltedPost",
    "NotifyMoverHaltedPost",
    "TapeGetStateReply",
]


class TapeGetStateReply(Body, frozen=True):
    unsupported: U32 = 0
    error: Enum = ErrorCode.NO_ERR
    flags: U32 = 0
    file_num: U32 = 0
    soft_errors: U32 = 0
    block_size: U32 = 0
    blockno: U32 = 0
    total_space: U64 = 0
    space_remain: U64 = 0


class DataGetStateReply(Body, frozen=True):
    unsupported: U32 = 0
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


class LogMessagePost(Body, frozen=True):
    log_type: Enum
    message_id: U32
    entry: String
    associated_message_valid: Enum = AssociatedMessage.NO_ASSOCIATED_MESSAGE
    associated_message_sequence: U32 = 0


class NotifyDataHaltedPost(Body, frozen=True):
    reason: Enum


class NotifyMoverHaltedPost(Body, frozen=True):
    reason: Enum
