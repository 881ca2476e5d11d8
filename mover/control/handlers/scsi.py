"""SCSI: no changer is served, so none can be opened. Source: NDMPv4 section 3.3; states.md section 6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mover.control.refusal import Refusal
from mover.ndmp import messages as m
from mover.ndmp.enums import ErrorCode

if TYPE_CHECKING:
    from mover.control.connection import Connection


async def scsi_open(connection: Connection, request: m.ScsiOpenRequest) -> m.ScsiOpenReply:
    """SCSI_OPEN."""
    if connection.tape.is_open:
        raise Refusal(ErrorCode.DEVICE_OPENED_ERR)
    raise Refusal(ErrorCode.NO_DEVICE_ERR)


async def scsi_close(connection: Connection, request: m.ScsiCloseRequest) -> m.ScsiCloseReply:
    """SCSI_CLOSE: nothing can be open."""
    raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)


async def get_state(connection: Connection, request: m.ScsiGetStateRequest) -> m.ScsiGetStateReply:
    """SCSI_GET_STATE: nothing can be open."""
    raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)


async def set_target(connection: Connection, request: m.ScsiSetTargetRequest) -> m.ScsiSetTargetReply:
    """SCSI_SET_TARGET (versions 2 and 3): nothing can be open."""
    raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)


async def reset_device(connection: Connection, request: m.ScsiResetDeviceRequest) -> m.ScsiResetDeviceReply:
    """SCSI_RESET_DEVICE: nothing can be open."""
    raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)


async def reset_bus(connection: Connection, request: m.ScsiResetBusRequest) -> m.ScsiResetBusReply:
    """SCSI_RESET_BUS (versions 2 and 3): nothing can be open."""
    raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)


async def execute_cdb(connection: Connection, request: m.ScsiExecuteCdbRequest) -> m.ScsiExecuteCdbReply:
    """SCSI_EXECUTE_CDB: nothing can be open."""
    raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)
