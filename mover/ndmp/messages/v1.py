"""Bodies of version 1 that differ from the internal form. Source: NDMPv1 (draft of October 1996) section 3 and 4.

Reserved fields are sent as 0 and ignored. FH_ADD_UNIX, _DIR and _NODE and the LOG posts are as in version 2.
"""

from typing import Annotated

import msgspec

from mover.ndmp.enums import AuthType, DataHaltReason, DataOperation, DataPauseReason, DataState, ErrorCode
from mover.ndmp.messages.common import AuthNone, AuthText, Pval
from mover.ndmp.xdr_types import U16, U32, U64, Arms, Body, Enum, String, UnknownArm

AuthData = Annotated[
    AuthNone | AuthText | UnknownArm,
    Arms({AuthType.NONE: AuthNone, AuthType.TEXT: AuthText}),
]
"""Auth type 2 is a reserved name without an arm. Source: NDMPv1 3.1.2."""


class ConnectAuthRequest(Body, frozen=True):
    """Source: NDMPv1 3.1.2."""

    auth_data: AuthData


class TapeGetStateReply(Body, frozen=True):
    """48 bytes. Source: NDMPv1 3.4.3."""

    error: Enum = ErrorCode.NO_ERR
    flags: U32 = 0
    file_num: U32 = 0
    record_num: U32 = 0
    record_size: U32 = 0
    soft_errors: U32 = 0
    block_size: U32 = 0
    blockno: U32 = 0
    total_space: U64 = 0
    space_remain: U64 = 0


class DataGetStateReply(Body, frozen=True):
    """64 bytes. Source: NDMPv1 3.5.1."""

    error: Enum = ErrorCode.NO_ERR
    operation: Enum = DataOperation.NOACTION
    state: Enum = DataState.IDLE
    halt_reason: Enum = DataHaltReason.NA
    pause_reason: Enum = DataPauseReason.NA
    resvd1: U64 = 0
    bytes_processed: U64 = 0
    est_bytes_remain: U64 = 0
    est_time_remain: U32 = 0
    resvd2: U64 = 0
    resvd3: U64 = 0


class DataStartBackupRequest(Body, frozen=True):
    """Source: NDMPv1 3.5.2."""

    bu_type: String
    env: tuple[Pval, ...]


class Name(msgspec.Struct, frozen=True, gc=False):
    """nlist element. Source: NDMPv1 3.5.3."""

    name: String
    dest: String
    resvd: U16
    fh_info: U64


class DataStartRecoverRequest(Body, frozen=True):
    """Source: NDMPv1 3.5.3."""

    env: tuple[Pval, ...]
    nlist: tuple[Name, ...]
    bu_type: String


class NotifyPausedPost(Body, frozen=True):
    """Source: NDMPv1 4.1.1."""

    reason: Enum
    resvd: U64 = 0
