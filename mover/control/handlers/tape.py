"""TAPE: the drive through its tape worker. Source: NDMPv4 section 3.4; states.md section 5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mover.control.refusal import Refusal
from mover.control.scsi_service import data_in
from mover.control.tape_cdb import execute_on_tape
from mover.ndmp import messages as m
from mover.ndmp.enums import (
    UNKNOWN_U32,
    UNKNOWN_U64,
    ErrorCode,
    LogType,
    TapeOperation,
    TapeUnsupported,
)

if TYPE_CHECKING:
    from mover.control.connection import Connection


async def tape_open(connection: Connection, request: m.TapeOpenRequest) -> m.TapeOpenReply:
    """TAPE_OPEN."""
    await connection.tape.open(request.device, request.mode)
    return m.TapeOpenReply()


async def tape_close(connection: Connection, request: m.TapeCloseRequest) -> m.TapeCloseReply:
    """TAPE_CLOSE."""
    connection.tape.audit()
    await connection.tape.close()
    return m.TapeCloseReply()


async def get_state(connection: Connection, request: m.TapeGetStateRequest) -> m.TapeGetStateReply:
    """TAPE_GET_STATE, also while the mover moves."""
    state = await connection.tape.state()
    unsupported = TapeUnsupported.PARTITION if connection.version == 3 else TapeUnsupported(0)
    if state.total_space is None:
        unsupported |= TapeUnsupported.TOTAL_SPACE
    if state.space_remain is None:
        unsupported |= TapeUnsupported.SPACE_REMAIN
    return m.TapeGetStateReply(
        unsupported=unsupported,
        flags=state.flags,
        file_num=UNKNOWN_U32 if state.file_num is None else state.file_num,
        soft_errors=state.soft_errors,
        block_size=state.block_size,
        blockno=UNKNOWN_U32 if state.blockno is None else state.blockno,
        total_space=UNKNOWN_U64 if state.total_space is None else state.total_space,
        space_remain=UNKNOWN_U64 if state.space_remain is None else state.space_remain,
    )


async def mtio(connection: Connection, request: m.TapeMtioRequest) -> m.TapeMtioReply:
    """TAPE_MTIO."""
    if request.tape_op not in set(TapeOperation):
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    connection.tape.audit()
    done = await connection.tape.move(TapeOperation(request.tape_op), request.count)
    await log_failure(connection, done.error, done.text)
    return m.TapeMtioReply(done.error, done.residual)


async def write(connection: Connection, request: m.TapeWriteRequest) -> m.TapeWriteReply:
    """TAPE_WRITE: one record."""
    if len(request.data_out) > connection.config.limits.record_size_max:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    connection.tape.audit()
    if not request.data_out:
        return m.TapeWriteReply()
    done = await connection.tape.write(request.data_out)
    await log_failure(connection, done.error, done.text)
    return m.TapeWriteReply(done.error, done.count)


async def read(connection: Connection, request: m.TapeReadRequest) -> m.TapeReadReply:
    """TAPE_READ: at most one record."""
    if request.count > connection.config.limits.record_size_max:
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR)
    connection.tape.audit()
    if request.count == 0:
        return m.TapeReadReply()
    done, data = await connection.tape.read(request.count)
    await log_failure(connection, done.error, done.text)
    return m.TapeReadReply(done.error, data)


async def execute_cdb(connection: Connection, request: m.TapeExecuteCdbRequest) -> m.TapeExecuteCdbReply:
    """TAPE_EXECUTE_CDB: NO_ERR whatever the drive said; that is the status."""
    answer = await execute_on_tape(connection, request)
    return m.TapeExecuteCdbReply(
        status=answer.status, dataout_len=answer.taken, datain=data_in(request, answer), ext_sense=answer.sense
    )


async def log_failure(connection: Connection, error: int, text: str) -> None:
    """Real failures are worth a line; filemarks and ends of tape are met on a good day."""
    if text and error not in {ErrorCode.NO_ERR, ErrorCode.EOF_ERR, ErrorCode.EOM_ERR}:
        await connection.outbox.explain(LogType.ERROR, text)
