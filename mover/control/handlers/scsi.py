"""SCSI: changers and drives by CDBs. Source: NDMPv4 section 3.3; states.md section 6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mover.control.scsi_service import data_in
from mover.control.scsi_target import Address
from mover.ndmp import messages as m
from mover.scsi import Fault

if TYPE_CHECKING:
    from mover.control.connection import Connection


async def scsi_open(connection: Connection, request: m.ScsiOpenRequest) -> m.ScsiOpenReply:
    """SCSI_OPEN."""
    await connection.scsi.open(request.device)
    return m.ScsiOpenReply()


async def scsi_close(connection: Connection, request: m.ScsiCloseRequest) -> m.ScsiCloseReply:
    """SCSI_CLOSE."""
    connection.scsi.audit()
    await connection.scsi.close()
    return m.ScsiCloseReply()


async def get_state(connection: Connection, request: m.ScsiGetStateRequest) -> m.ScsiGetStateReply:
    """SCSI_GET_STATE: the address of the target; -1 where none is set."""
    connection.scsi.audit()
    target = connection.scsi.target
    if target is None:
        return m.ScsiGetStateReply()
    address = target.address
    return m.ScsiGetStateReply(target_controller=address.controller, target_id=address.id, target_lun=address.lun)


async def set_target(connection: Connection, request: m.ScsiSetTargetRequest) -> m.ScsiSetTargetReply:
    """SCSI_SET_TARGET (versions 1 to 3)."""
    address = Address(request.target_controller, request.target_id, request.target_lun)
    await connection.scsi.set_target(request.device, address)
    return m.ScsiSetTargetReply()


async def reset_device(connection: Connection, request: m.ScsiResetDeviceRequest) -> m.ScsiResetDeviceReply:
    """SCSI_RESET_DEVICE."""
    await connection.scsi.reset(Fault.DEVICE_RESET)
    return m.ScsiResetDeviceReply()


async def reset_bus(connection: Connection, request: m.ScsiResetBusRequest) -> m.ScsiResetBusReply:
    """SCSI_RESET_BUS (versions 1 to 3)."""
    await connection.scsi.reset(Fault.BUS_RESET)
    return m.ScsiResetBusReply()


async def execute_cdb(connection: Connection, request: m.ScsiExecuteCdbRequest) -> m.ScsiExecuteCdbReply:
    """SCSI_EXECUTE_CDB: NO_ERR whatever the device said; that is the status."""
    answer = await connection.scsi.execute(request)
    return m.ScsiExecuteCdbReply(
        status=answer.status, dataout_len=answer.taken, datain=data_in(request, answer), ext_sense=answer.sense
    )
