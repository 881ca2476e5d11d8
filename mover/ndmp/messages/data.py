"""DATA messages (04xx) in the internal form. Source: NDMPv4 section 3.5."""

import msgspec

from mover.ndmp.enums import UNKNOWN_U64, DataHaltReason, DataOperation, DataPauseReason, DataState, ErrorCode
from mover.ndmp.messages.common import LOCAL, Address, Pval
from mover.ndmp.xdr_types import U32, U64, Body, Enum, String


class DataGetStateRequest(Body, frozen=True):
    pass


class DataGetStateReply(Body, frozen=True):
    """Progress of the data operation; sizes in bytes, time in seconds."""

    unsupported: U32 = 0  # DataUnsupported
    error: Enum = ErrorCode.NO_ERR
    operation: Enum = DataOperation.NOACTION
    state: Enum = DataState.IDLE
    halt_reason: Enum = DataHaltReason.NA
    bytes_processed: U64 = 0
    est_bytes_remain: U64 = 0
    est_time_remain: U32 = 0
    data_connection_addr: Address = LOCAL
    read_offset: U64 = 0  # of the last NOTIFY_DATA_READ
    read_length: U64 = 0
    pause_reason: Enum = DataPauseReason.NA  # v1 only


class DataStartBackupRequest(Body, frozen=True):
    """Start a backup; in v2 it also connects to the mover."""

    butype: String
    env: tuple[Pval, ...] = ()
    mover_address: Address | None = None  # v2 only, always there


class DataStartBackupReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class RecoverName(msgspec.Struct, frozen=True, gc=False):
    """What to recover and where to; what `destination` means differs by version (`mover.ndmp.nlist`)."""

    original_path: String  # v1, v2: name
    destination: String  # v4: destination_path; v3: destination_dir; v1, v2: dest, the full target
    name: String = b""  # v3: new_name; absent in v1, v2
    other_name: String = b""  # absent in v1, v2
    node: U64 = UNKNOWN_U64  # absent in v1, v2
    fh_info: U64 = UNKNOWN_U64


class DataStartRecoverRequest(Body, frozen=True):
    """Start a recover; in v2 it also connects to the mover."""

    env: tuple[Pval, ...]
    nlist: tuple[RecoverName, ...]
    butype: String
    mover_address: Address | None = None  # v2 only, always there


class DataStartRecoverReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class DataStartRecoverFilehistRequest(Body, frozen=True):
    """Make file history out of a backup stream (v4; v2 and v3 as an extension of NDMJOB)."""

    env: tuple[Pval, ...]
    nlist: tuple[RecoverName, ...]
    butype: String
    mover_address: Address | None = None  # v2 only, always there


class DataStartRecoverFilehistReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class DataAbortRequest(Body, frozen=True):
    pass


class DataAbortReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class DataGetEnvRequest(Body, frozen=True):
    pass


class DataGetEnvReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    env: tuple[Pval, ...] = ()


class DataStopRequest(Body, frozen=True):
    pass


class DataStopReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class DataContinueRequest(Body, frozen=True):
    """Go on after a pause (v1)."""


class DataContinueReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class DataListenRequest(Body, frozen=True):
    """Wait for a data connection (v3 on)."""

    addr_type: Enum  # AddressType


class DataListenReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    data_connection_addr: Address = LOCAL


class DataConnectRequest(Body, frozen=True):
    """Make the data connection (v3 on)."""

    addr: Address


class DataConnectReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
