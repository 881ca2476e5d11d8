"""TAPE_EXECUTE_CDB: a drive answers what asks, and goes where LOCATE and REWIND send it.

The tape worker moves the tape, so it still knows where the tape stands; a virtual drive's answers are made here, a real
one's come through its worker. What would write, or move by records, is refused by name and not passed off as unknown:
the drive's position and counts are the server's (states.md 5.11).
"""

from typing import TYPE_CHECKING, Final

from mover import scsi
from mover.control.refusal import Refusal
from mover.control.scsi_service import audit_command
from mover.control.scsi_target import Command, write_protected
from mover.ndmp.enums import ErrorCode, TapeFlag
from mover.ndmp.messages import ExecuteCdbRequest
from mover.workers.tape_messages import DriveSpec

if TYPE_CHECKING:
    from mover.control.connection import Connection
    from mover.control.drives import DriveBay

LOAD_UNLOAD: Final = 0x1B  # MTIO OFF keeps account of it
REFUSED: Final = scsi.DISTURBING | {LOAD_UNLOAD}
REFUSED_OF_REAL: Final = REFUSED | {
    0x0F,  # READ REVERSE(6)
    0x14,  # RECOVER BUFFERED DATA
    0x16,  # RESERVE(6): the reservation is the tape worker's
    0x17,  # RELEASE(6)
    0x1D,  # SEND DIAGNOSTIC: a self-test may move the tape
    0x3B,  # WRITE BUFFER: new firmware
    0x56,  # RESERVE(10)
    0x57,  # RELEASE(10)
    0x5F,  # PERSISTENT RESERVE OUT
    0x81,  # READ REVERSE(16)
    0x82,  # ALLOW OVERWRITE
    0x8F,  # VERIFY(16)
    0xA5,  # MOVE MEDIUM of a changer in the drive's case
    0xA6,  # EXCHANGE MEDIUM
}
MOTIONS: Final = frozenset({0x01, 0x2B, 0x92})
"""REWIND, LOCATE(10) and (16): done by the tape worker."""


async def execute_on_tape(connection: "Connection", request: ExecuteCdbRequest) -> scsi.Answer:
    """A CDB to the open drive. Raises Refusal."""
    command = audit_command(request)
    tape = connection.tape
    tape.audit()
    bay = tape.bay
    assert bay is not None, "a drive is open"
    if command.cdb[0] in (REFUSED_OF_REAL if bay.real else REFUSED):
        text = f"operation code {command.cdb[0]:02X}h is refused here: TAPE_READ, TAPE_WRITE and TAPE_MTIO do that"
        raise Refusal(ErrorCode.NOT_SUPPORTED_ERR, text)
    if bay.real and command.cdb[0] not in MOTIONS:
        if bay.device() is None:
            raise Refusal(ErrorCode.NOT_SUPPORTED_ERR, f"the kernel has no sg node for {bay.name}")
        return await tape.command(command.cdb, command.data_out, command.data_in, command.timeout_s)
    return await _emulated(connection, bay, command)


async def _emulated(connection: "Connection", bay: "DriveBay", command: Command) -> scsi.Answer:
    tape = connection.tape
    unit = scsi.TapeDrive(
        bay.identity,
        await _status(connection, bay) if bay.path is not None else None,
        write_protected=await write_protected(bay),
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


async def _status(connection: "Connection", bay: "DriveBay") -> scsi.TapeStatus:
    if bay.real:
        return scsi.TapeStatus(objects=0)  # a motion does not ask where it begins
    tape = connection.tape
    state = await tape.state()
    spec = bay.spec()
    assert isinstance(spec, DriveSpec), "a virtual drive"
    return scsi.TapeStatus(
        objects=await tape.objects(),
        file_num=state.file_num or 0,
        early_warning=state.space_remain is not None and state.space_remain < spec.early_warning_bytes,
        space=state.total_space,
        remaining=state.space_remain,
        failed=bool(state.flags & TapeFlag.ERROR),
    )
