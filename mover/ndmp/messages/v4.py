"""Bodies of version 4 that differ from the internal form. Source: NDMPv4."""

from mover.ndmp.enums import ErrorCode
from mover.ndmp.messages.v3 import ConfigGetHostInfoReply, DataStartBackupRequest, DataStartRecoverRequest
from mover.ndmp.xdr_types import U32, U64, Body, Enum

__all__ = [
    "ConfigGetHostInfoReply",
    "DataStartBackupRequest",
    "DataStartRecoverRequest",
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


class NotifyDataHaltedPost(Body, frozen=True):
    reason: Enum


class NotifyMoverHaltedPost(Body, frozen=True):
    reason: Enum
