"""TAPE messages (03xx) in the internal form. Source: NDMPv4 section 3.4."""

from mover.ndmp.enums import ErrorCode
from mover.ndmp.messages.scsi import ExecuteCdbReply, ExecuteCdbRequest
from mover.ndmp.xdr_types import U32, U64, Body, Enum, Opaque, String


class TapeOpenRequest(Body, frozen=True):
    device: String
    mode: Enum  # TapeMode; -1 stands for a mode the version does not have


class TapeOpenReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class TapeCloseRequest(Body, frozen=True):
    pass


class TapeCloseReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class TapeGetStateRequest(Body, frozen=True):
    pass


class TapeGetStateReply(Body, frozen=True):
    """Position and capacity; UNKNOWN_U32/UNKNOWN_U64 where supported but not known now."""

    unsupported: U32 = 0  # TapeUnsupported
    error: Enum = ErrorCode.NO_ERR
    flags: U32 = 0  # TapeFlag
    file_num: U32 = 0  # filemarks between BOT and here
    soft_errors: U32 = 0
    block_size: U32 = 0  # bytes; 0 in variable mode
    blockno: U32 = 0  # blocks since the last filemark or BOT
    total_space: U64 = 0  # bytes
    space_remain: U64 = 0  # bytes
    partition: U32 = 0  # v3 only
    record_num: U32 = 0  # v1 only: records since the last filemark or BOT
    record_size: U32 = 0  # v1 only: bytes


class TapeMtioRequest(Body, frozen=True):
    tape_op: Enum  # TapeOperation; -1 stands for an operation the version does not have
    count: U32


class TapeMtioReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    resid_count: U32 = 0  # operations not done


class TapeWriteRequest(Body, frozen=True):
    data_out: Opaque


class TapeWriteReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR
    count: U32 = 0  # bytes written


class TapeReadRequest(Body, frozen=True):
    count: U32  # bytes


class TapeReadReply(Body, frozen=True):
    """A record (v1: any number of them); blank tape is EOM_ERR here and becomes EOF_ERR in v1 to v3."""

    error: Enum = ErrorCode.NO_ERR
    data_in: Opaque = b""


class TapeSetRecordSizeRequest(Body, frozen=True):
    """The size of the records that TAPE_READ, TAPE_WRITE and the data operation use (v1)."""

    len: U32  # bytes


class TapeSetRecordSizeReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class TapeExecuteCdbRequest(ExecuteCdbRequest, frozen=True):
    pass


class TapeExecuteCdbReply(ExecuteCdbReply, frozen=True):
    pass
