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


async def execute_cdb(connection: Connection, request: m.ScsiExecuteCdbRequest) -> m.ScsiExecuteCdbReply:
    """SCSI_EXECUTE_CDB: nothing can be open."""
    raise Refusal(ErrorCode.DEV_NOT_OPEN_ERR)
