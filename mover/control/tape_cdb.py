"""TAPE_EXECUTE_CDB: a virtual drive answers what asks, and goes where LOCATE and REWIND send it.

The tape worker moves the tape, so it still knows where the tape stands. What would write, or move by records, is
refused by name and not passed off as unknown: the drive's position and counts are the server's (states.md 5.11).
"""

from typing import TYPE_CHECKING, Final

from mover import scsi
from mover.control.refusal import Refusal
from mover.control.scsi_service import audit_command
from mover.ndmp.enums import ErrorCode, TapeFlag
from mover.ndmp.messages import ExecuteCdbRequest

if TYPE_CHECKING:
    from mover.control.connection import Connection

LOAD_UNLOAD: Final = 0x1B  # MTIO OFF keeps account of it
REFUSED: Final = scsi.DISTURBING | {LOAD_UNLOAD}


async def execute_on_tape(connection: "Connection", request: ExecuteCdbRequest) -> scsi.Answer:
    """A CDB to the open drive. Raises Refusal."""
    command = audit_command(request)
    tape = connection.tape
    tape.audit()
    if request.cdb[0] in REFUSED:
        text = f"operation code {request.cdb[0]:02X}h is refused here: TAPE_READ, TAPE_WRITE and TAPE_MTIO do that"
        raise Refusal(ErrorCode.NOT_SUPPORTED_ERR, text)
    bay = tape.bay
    assert bay is not None, "a drive is open"
    unit = scsi.TapeDrive(
        bay.identity,
        await _status(connection) if bay.path is not None else None,
        write_protected=bay.write_protected(),
        record_bytes_max=connection.config.limits.record_size_max,
    )
    outcome = unit.execute(command.cdb, command.data_out)
    if isinstance(outcome, scsi.Answer):
        return outcome
    assert isinstance(outcome, scsi.Locate), "an open tape is not ejected by a CDB"
    done = await tape.locate(outcome)
    if done.error != ErrorCode.NO_ERR:
        connection.log.warning("locate failed", drive=bay.name, text=done.text)
        return scsi.refusal(scsi.Fault.MOTION_FAILED)
    return scsi.refusal(scsi.Fault.END_OF_DATA) if done.residual else scsi.Answer()


async def _status(connection: "Connection") -> scsi.TapeStatus:
    tape = connection.tape
    state = await tape.state()
    assert tape.bay is not None
    zone = tape.bay.spec().early_warning_bytes
    return scsi.TapeStatus(
        objects=await tape.objects(),
        file_num=state.file_num or 0,
        early_warning=state.space_remain is not None and state.space_remain < zone,
        space=state.total_space,
        remaining=state.space_remain,
        failed=bool(state.flags & TapeFlag.ERROR),
    )
