"""MOVER messages (0Axx) in the internal form. Source: NDMPv4 section 3.6."""

from mover.ndmp.enums import ErrorCode, MoverHaltReason, MoverMode, MoverPauseReason, MoverState
from mover.ndmp.messages.common import LOCAL, Address
from mover.ndmp.xdr_types import U32, U64, Body, Enum


class MoverGetStateRequest(Body, frozen=True):
    pass


class MoverGetStateReply(Body, frozen=True):
    """Progress of the mover; sizes and offsets in bytes."""

    error: Enum = ErrorCode.NO_ERR
    mode: Enum = MoverMode.NOACTION  # v4 only
    state: Enum = MoverState.IDLE
    pause_reason: Enum = MoverPauseReason.NA
    halt_reason: Enum = MoverHaltReason.NA
    record_size: U32 = 0
    record_num: U32 = 0
    bytes_moved: U64 = 0  # v2, v3: data_written
    seek_position: U64 = 0
    bytes_left_to_read: U64 = 0
    window_offset: U64 = 0
    window_length: U64 = 0
    data_connection_addr: Address = LOCAL  # v3 on


class MoverListenRequest(Body, frozen=True):
    """Wait for a data connection."""

    mode: Enum  # MoverMode
    addr_type: Enum  # AddressType


class MoverListenReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    data_connection_addr: Address = LOCAL


class MoverContinueRequest(Body, frozen=True):
    """Go on after a pause."""


class MoverContinueReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class MoverAbortRequest(Body, frozen=True):
    pass


class MoverAbortReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class MoverStopRequest(Body, frozen=True):
    pass


class MoverStopReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class MoverSetWindowRequest(Body, frozen=True):
    """The part of the stream that the tape file at hand holds or may hold."""

    offset: U64
    length: U64


class MoverSetWindowReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class MoverReadRequest(Body, frozen=True):
    """Send this part of the stream to the data connection."""

    offset: U64
    length: U64


class MoverReadReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class MoverCloseRequest(Body, frozen=True):
    """Close the data connection."""


class MoverCloseReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class MoverSetRecordSizeRequest(Body, frozen=True):
    len: U32  # bytes


class MoverSetRecordSizeReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class MoverConnectRequest(Body, frozen=True):
    """Make the data connection (v3 on)."""

    mode: Enum  # MoverMode
    addr: Address


class MoverConnectReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
