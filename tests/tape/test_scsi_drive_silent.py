"""What a drive by CDBs must not take for success: errors that come late, in odd places, or without a name."""

from collections.abc import Callable

import pytest

from mover.tape import logical_unit
from mover.tape.codes import Error, TapeMode
from mover.tape.drive import Condition, Outcome, Position
from mover.tape.scsi_drive import ScsiDrive
from mover.tape.transport import Reply, Status
from mover.workers.device_messages import DeviceSpec
from tests.tape.contract import write
from tests.tape.model_drive import BLANK, EOM, FILEMARK, NO_SENSE, POWER_ON, CheckError, ModelDrive

READ, WRITE, WRITE_FILEMARKS, SPACE = 0x08, 0x0A, 0x10, 0x11
REWIND, LOAD_UNLOAD, LOG_SENSE = 0x01, 0x1B, 0x4D
NOTICE = (6, 0x2A, 2)
DEFERRED = Reply(Status.CHECK_CONDITION, b"\x71\0\x03" + bytes(9) + b"\x0c\0", 0)
RECORD = memoryview(b"cccc")


def opened(model: ModelDrive, *, implicit_filemark: bool = False) -> ScsiDrive:
    spec = DeviceSpec("t0", "iscsi://127.0.0.1/iqn.2026-01.test:vtl/1")
    return ScsiDrive(model.transport(), spec, TapeMode.RDWR, implicit_filemark=implicit_filemark)


def sense(key: int, asc: int = 0, ascq: int = 0, *, flags: int = 0, information: int | None = None) -> Reply:
    return Reply(Status.CHECK_CONDITION, CheckError(key, asc, ascq, flags=flags, information=information).sense, 0)


def fails(outcome: Outcome) -> None:
    """Nothing was done, and there is an error to say so."""
    assert (outcome.done, outcome.condition, outcome.error) == (0, Condition.FAILED, Error.IO), outcome
    assert outcome.text


@pytest.mark.parametrize(
    "reply",
    [
        sense(NO_SENSE, 0, 2, flags=EOM, information=1),
        sense(NO_SENSE, information=1),
        sense(NO_SENSE, 0, 1, flags=FILEMARK),
        sense(NO_SENSE, 0, 4, flags=EOM),
        sense(BLANK, 0, 5),
    ],
)
def test_a_filemark_that_is_not_written_has_an_error(model: ModelDrive, reply: Reply) -> None:
    drive = opened(model)
    write(drive, b"aaaa")
    model.fail(WRITE_FILEMARKS, reply)
    fails(drive.write_filemarks(1))


@pytest.mark.parametrize(
    "reply",
    [
        Reply(Status.GOOD, b"", 3),
        sense(NO_SENSE, information=4),
        sense(NO_SENSE, 0, 2, flags=EOM, information=2),
        sense(NO_SENSE, 0, 1, flags=FILEMARK),
        sense(BLANK, 0, 5),
    ],
)
def test_a_record_that_was_not_taken_whole_has_an_error(model: ModelDrive, reply: Reply) -> None:
    drive = opened(model)
    write(drive, b"aaaa")
    model.fail(WRITE, reply)
    fails(drive.write_records(RECORD, 4))


def test_a_device_full_of_notices_has_not_done_what_it_was_told(model: ModelDrive) -> None:
    drive = opened(model)
    write(drive, b"aaaa")
    model.fail(REWIND, *[NOTICE] * logical_unit.AGAIN_MAX)
    fails(drive.rewind())
    assert model.at == 1
    model.fail(WRITE, *[NOTICE] * logical_unit.AGAIN_MAX)
    assert drive.rewind() == Outcome(0)
    fails(drive.write_records(RECORD, 4))


@pytest.mark.parametrize("last", ["filemark", "record", "rewind", "unload", "close"])
def test_a_deferred_error_that_another_command_met_is_told(model: ModelDrive, last: str) -> None:
    """The drive tells it once: who asks for the capacity meanwhile must not be the only one who hears of it."""
    drive = opened(model)
    write(drive, b"aaaa")
    model.fail(LOG_SENSE, DEFERRED)
    drive.state()
    operations: dict[str, Callable[[], Outcome]] = {
        "filemark": lambda: drive.write_filemarks(1),
        "record": lambda: drive.write_records(RECORD, 4),
        "rewind": drive.rewind,
        "unload": drive.unload,
        "close": lambda: drive.close(force=False),
    }
    outcome = operations[last]()
    fails(outcome)
    assert "of what was written before" in outcome.text
    assert drive.rewind() == Outcome(0)  # it is told once


@pytest.mark.parametrize("last", ["rewind", "unload"])
def test_a_reset_that_another_command_met_is_told_to_who_wrote(model: ModelDrive, last: str) -> None:
    """What the drive had in its buffer is gone with the reset."""
    drive = opened(model)
    write(drive, b"aaaa")
    model.fail(LOG_SENSE, sense(*POWER_ON))
    drive.state()
    fails(drive.rewind() if last == "rewind" else drive.unload())
    assert drive.rewind() == Outcome(0)
    assert drive.position() == Position(0, 0)


@pytest.mark.parametrize("met", ["at once", "by another command"])
@pytest.mark.parametrize("last", ["rewind", "unload"])
def test_a_close_tells_again_what_the_rewind_before_it_was_told(model: ModelDrive, last: str, met: str) -> None:
    """Control rewinds or unloads at the close where the device's name says so, and leaves what fails to the close."""
    drive = opened(model)
    write(drive, b"aaaa")
    model.fail(LOG_SENSE if met == "by another command" else REWIND if last == "rewind" else LOAD_UNLOAD, DEFERRED)
    if met == "by another command":
        drive.state()
    fails(drive.rewind() if last == "rewind" else drive.unload())
    failed = drive.close(force=False)
    fails(failed)
    assert "of what was written before" in failed.text
    drive.close(force=True)


def test_a_close_behind_a_good_rewind_has_no_doubt(model: ModelDrive) -> None:
    drive = opened(model)
    write(drive, b"aaaa")
    model.fail(REWIND, DEFERRED)
    fails(drive.rewind())
    assert drive.rewind() == Outcome(0)
    assert drive.close(force=False) == Outcome(0)


def test_a_reset_behind_a_filemark_is_no_loss(model: ModelDrive) -> None:
    drive = opened(model)
    write(drive, b"aaaa")
    assert drive.write_filemarks(1) == Outcome(1)
    model.fail(LOG_SENSE, sense(*POWER_ON))
    drive.state()
    assert drive.rewind() == Outcome(0)


def test_an_end_of_data_that_is_not_found_is_no_end_of_data(model: ModelDrive) -> None:
    """A cartridge whose end was never written (8/14/03) is not blank, and nobody may write on from there."""
    not_found = (BLANK, 0x14, 3)
    drive = opened(model)
    model.fail(READ, not_found)
    fails(drive.read_record(memoryview(bytearray(4)), crosses_filemark=False))
    model.fail(SPACE, not_found)
    fails(drive.space_files(1))
    model.fail(SPACE, not_found)
    fails(drive.locate("end", 0))
