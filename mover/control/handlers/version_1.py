"""Version 1 where its requests mean something else: record size, reads and writes of many records, CONTINUE.

Source: NDMPv1 sections 3.2.2, 3.4 and 3.5.6; states.md section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mover.control.handlers import config, tape
from mover.control.refusal import Refusal
from mover.control.version_1 import RecordTapeService, TapeDataService
from mover.control.version_1.tape import ASKING_CDBS
from mover.ndmp import messages as m
from mover.ndmp.enums import ButypeAttribute, DataState, ErrorCode
from mover.ndmp.states import DataInput
from mover.ndmp.window import check_record_size

if TYPE_CHECKING:
    from mover.control.connection import Connection


def _tape(connection: Connection) -> RecordTapeService:
    service = connection.tape
    assert isinstance(service, RecordTapeService)
    return service


async def get_butype_attr(connection: Connection, request: m.ConfigGetButypeAttrRequest) -> m.ConfigGetButypeAttrReply:
    """CONFIG_GET_BUTYPE_ATTR: no direct access, because nothing tells which part of the stream a loaded tape holds."""
    reply = await config.get_butype_attr(connection, request)
    return msgspec.structs.replace(reply, attrs=reply.attrs & ~ButypeAttribute.RECOVER_DIRECT)


async def set_record_size(connection: Connection, request: m.TapeSetRecordSizeRequest) -> m.TapeSetRecordSizeReply:
    """TAPE_SET_RECORD_SIZE: anywhere on the tape; an operation keeps the size it began with (NDMPv1 3.4.7).

    While DATA is ACTIVE it is ILLEGAL_STATE_ERR, which the draft lists here, and not DEVICE_BUSY_ERR as for the other
    requests (states.md 2.4).
    """
    if check_record_size(request.len, maximum=connection.config.limits.record_size_max) != ErrorCode.NO_ERR:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    if connection.machines.data.state is DataState.ACTIVE:
        raise Refusal(ErrorCode.ILLEGAL_STATE_ERR)
    service = _tape(connection)
    service.audit()
    service.record_size = request.len
    return m.TapeSetRecordSizeReply()


async def get_state(connection: Connection, request: m.TapeGetStateRequest) -> m.TapeGetStateReply:
    """TAPE_GET_STATE: records count inside the tape file, and a record is a block."""
    reply = await tape.get_state(connection, request)
    return msgspec.structs.replace(reply, record_num=reply.blockno, record_size=_tape(connection).record_size)


async def write(connection: Connection, request: m.TapeWriteRequest) -> m.TapeWriteReply:
    """TAPE_WRITE: any number of records, the last one padded."""
    service = _tape(connection)
    if len(request.data_out) > service.transfer_max:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    service.audit()
    done = await service.write(request.data_out)
    await tape.log_failure(connection, done.error, done.text)
    return m.TapeWriteReply(done.error, done.count)


async def read(connection: Connection, request: m.TapeReadRequest) -> m.TapeReadReply:
    """TAPE_READ: any number of records; EOF_ERR comes with the bytes read before the filemark."""
    service = _tape(connection)
    if request.count > service.transfer_max:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    service.audit()
    done, data = await service.read(request.count)
    await tape.log_failure(connection, done.error, done.text)
    return m.TapeReadReply(done.error, data)


async def execute_cdb(connection: Connection, request: m.TapeExecuteCdbRequest) -> m.TapeExecuteCdbReply:
    """TAPE_EXECUTE_CDB: only what leaves the drive as it is (NDMPv1 3.4.8)."""
    if not request.cdb or request.cdb[0] not in ASKING_CDBS:
        _tape(connection).audit()
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    return await tape.execute_cdb(connection, request)


async def continue_(connection: Connection, request: m.DataContinueRequest) -> m.DataContinueReply:
    """DATA_CONTINUE: the next tape is in the drive. NDMPv1 3.5.6 lists nothing about the drive: as for START."""
    connection.machines.data.audit(DataInput.CONTINUE)
    await _tape(connection).audit_operation(writes=connection.machines.mover.mode.writes_tape)
    assert isinstance(connection.data, TapeDataService)
    await connection.data.go_on()
    return m.DataContinueReply()
