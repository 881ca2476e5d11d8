"""SCSI messages (02xx), alike in versions 2 to 4. Source: NDMPv4 section 3.3."""

from mover.ndmp.enums import ErrorCode
from mover.ndmp.xdr_types import I16, U8, U16, U32, Body, Enum, Opaque, String


class ScsiOpenRequest(Body, frozen=True):
    device: String


class ScsiOpenReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class ScsiCloseRequest(Body, frozen=True):
    pass


class ScsiCloseReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class ScsiGetStateRequest(Body, frozen=True):
    pass


class ScsiGetStateReply(Body, frozen=True):
    """Target in use; -1 where unknown."""

    error: Enum = ErrorCode.NO_ERR
    target_controller: I16 = -1
    target_id: I16 = -1
    target_lun: I16 = -1


class ScsiSetTargetRequest(Body, frozen=True):
    """Select a target of a device file that addresses a bus (v2, v3)."""

    device: String
    target_controller: U16
    target_id: U16
    target_lun: U16


class ScsiSetTargetReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class ScsiResetDeviceRequest(Body, frozen=True):
    pass


class ScsiResetDeviceReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class ScsiResetBusRequest(Body, frozen=True):
    """Reset the bus (v2, v3)."""


class ScsiResetBusReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class ExecuteCdbRequest(Body, frozen=True):
    """Pass a SCSI command through; timeout in milliseconds, 0 = for ever."""

    flags: U32  # CdbFlag
    timeout: U32
    datain_len: U32  # most bytes the DMA will take
    cdb: Opaque
    dataout: Opaque = b""


class ExecuteCdbReply(Body, frozen=True):
    """Outcome of a command that reached the device; sense data only with CHECK CONDITION."""

    error: Enum = ErrorCode.NO_ERR
    status: U8 = 0  # SCSI status byte
    dataout_len: U32 = 0  # bytes really sent
    datain: Opaque = b""
    ext_sense: Opaque = b""


class ScsiExecuteCdbRequest(ExecuteCdbRequest, frozen=True):
    pass


class ScsiExecuteCdbReply(ExecuteCdbReply, frozen=True):
    pass
