"""What a drive by CDBs makes of faults, at its opening and at work."""

import pytest

from mover.tape import logical_unit
from mover.tape.codes import Error, TapeFlag, TapeMode
from mover.tape.drive import Condition, DriveError, Outcome, Position
from mover.tape.transport import Reply, Status, TransportError
from tests.tape.contract import block, read, write
from tests.tape.model_drive import BECOMING_READY, MEDIUM_CHANGED, NO_MEDIUM, POWER_ON, ModelDrive
from tests.tape.scsi_drives import odd, opened

READ, WRITE, WRITE_FILEMARKS, SPACE, MODE_SELECT, TEST_READY = 0x08, 0x0A, 0x10, 0x11, 0x15, 0x00
REWIND = b"\x01" + bytes(5)
HARDWARE = (4, 0x44, 0)
MEDIUM = (3, 0x11, 0)


def refusal(model: ModelDrive, mode: TapeMode = TapeMode.RDWR, *, block_size: int = 0) -> DriveError:
    with pytest.raises(DriveError) as caught:
        opened(model, mode, block_size=block_size)
    assert model.holder is None  # it was given back
    return caught.value


# --- opening ----------------------------------------------------------------------------------------------------


def test_a_cartridge_that_is_being_threaded_is_waited_for(model: ModelDrive) -> None:
    model.fail(TEST_READY, POWER_ON, MEDIUM_CHANGED, *[BECOMING_READY] * 5)
    drive = opened(model)
    write(drive, b"aaaa")
    drive.close(force=False)
    assert model.items == [b"aaaa", None]


def test_not_a_tape_drive(model: ModelDrive) -> None:
    def inquiry(_: bytes, data: memoryview) -> int:
        data[:36] = b"\x08" + bytes(35)
        return 36

    model.answer(0x12, inquiry)
    assert "no tape drive but a device of type 0x08" in str(refusal(model))


def test_settings_that_cannot_be_made(model: ModelDrive) -> None:
    model.fail(MODE_SELECT, (5, 0x26, 0), (5, 0x26, 0))
    assert "blocks of 1024 bytes cannot be set" in str(refusal(model, block_size=1024))
    model.fail(MODE_SELECT, Reply(Status.GOOD, b"", 0))
    assert "it stays at blocks of 512 bytes" in str(refusal(model))


def test_a_reserved_drive_and_one_that_cannot_be_reserved(model: ModelDrive) -> None:
    drive = opened(model)
    with pytest.raises(DriveError, match="reserved by another initiator") as caught:
        opened(model)
    assert caught.value.error == Error.DEVICE_BUSY
    drive.close(force=False)
    model.reserves = False
    opened(model).close(force=False)


def test_a_lost_way_at_the_opening(model: ModelDrive) -> None:
    model.fail(TEST_READY, TransportError("gone"))
    assert str(refusal(model)) == "gone"


def test_a_medium_that_comes_while_the_drive_is_open(model: ModelDrive) -> None:
    model.loaded = False
    drive = opened(model, TapeMode.RAW)
    assert drive.test_ready().error == Error.NO_TAPE_LOADED
    model.loaded = True
    model.attentions.append(MEDIUM_CHANGED)
    assert drive.test_ready() == Outcome(0)
    write(drive, b"aaaa")
    assert drive.unload() == Outcome(0)
    assert drive.test_ready().error == Error.NO_TAPE_LOADED
    model.loaded = True
    assert drive.test_ready().error == Error.NO_TAPE_LOADED  # it was unloaded, and none was put in
    model.attentions.append(MEDIUM_CHANGED)
    assert drive.test_ready() == Outcome(0)
    assert drive.position() == Position(0, 0)
    drive.close(force=False)


# --- the place is lost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", [POWER_ON, MEDIUM_CHANGED, (6, 0x2A, 1), (6, 0x5A, 1)])
def test_after_a_unit_attention_nothing_goes_on_silently(model: ModelDrive, attention: tuple[int, int, int]) -> None:
    """What is on the tape stays as it is until who writes knows where."""
    drive = opened(model)
    write(drive, b"aaaa", b"bbbb")
    model.attentions.append(attention)
    model.at = 0
    refused = [
        drive.write_records(memoryview(b"cccc"), 4),
        drive.write_filemarks(1),
        drive.read_record(memoryview(bytearray(9)), crosses_filemark=False),
        drive.space_files(1),
        drive.space_records(-1, crosses_filemark=False),
        drive.locate("end", 0),
        drive.test_ready(),
    ]
    assert {(each.condition, each.error) for each in refused} == {(Condition.FAILED, Error.IO)}
    assert drive.position() == Position(None, None)
    assert drive.state().flags & TapeFlag.ERROR
    assert model.items == [b"aaaa", b"bbbb"]
    failed = drive.close(force=False)
    assert (failed.condition, failed.error) == (Condition.FAILED, Error.IO)
    assert drive.rewind() == Outcome(0)
    assert drive.position() == Position(0, 0)
    assert read(drive) == (b"aaaa", Condition.NONE)
    assert drive.close(force=False) == Outcome(0)


def test_settings_are_made_again_after_a_reset(model: ModelDrive) -> None:
    drive = opened(model)
    model.attentions.append(POWER_ON)
    model.block_size = 512
    assert drive.write_records(memoryview(b"aaaa"), 4).error == Error.IO
    assert drive.rewind() == Outcome(0)
    write(drive, b"aaaa")
    drive.close(force=False)


@pytest.mark.parametrize("notice", [(6, 0x3F, 0x0E), (6, 0x2A, 2), (6, 0x5E, 1)])
def test_a_unit_attention_that_means_nothing(model: ModelDrive, notice: tuple[int, int, int]) -> None:
    drive = opened(model)
    model.attentions += [notice, notice]
    write(drive, b"aaaa")
    assert model.items == [b"aaaa"]
    drive.close(force=False)


def test_a_drive_that_has_no_time(model: ModelDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = opened(model)
    busy = Reply(Status.BUSY, b"", 0)
    model.fail(WRITE, busy, Reply(Status.TASK_SET_FULL, b"", 0), busy)
    write(drive, b"aaaa")
    monkeypatch.setattr(logical_unit, "BUSY_S", 0)
    model.fail(WRITE, busy, busy)
    assert drive.write_records(memoryview(b"bbbb"), 4).error == Error.DEVICE_BUSY
    drive.close(force=False)
    assert model.items == [b"aaaa", None]


def test_a_lost_way_ends_everything_but_the_close(model: ModelDrive) -> None:
    drive = opened(model)
    write(drive, b"aaaa")
    model.fail(WRITE, TransportError("the session is lost"))
    assert drive.write_records(memoryview(b"bbbb"), 4)[1:4] == (Condition.FAILED, Error.IO, "the session is lost")
    model.fail(TEST_READY, TransportError("the session is lost"), TransportError("the session is lost"))
    assert drive.rewind().error == Error.IO
    assert drive.close(force=True) == Outcome(0)


def test_somebody_elses_commands(model: ModelDrive) -> None:
    """A command that moves the tape is noticed, and a unit attention that it met."""
    drive = opened(model)
    write(drive, b"aaaa", b"bbbb")
    drive.transport.execute(REWIND, timeout_s=1)
    assert read(drive) == (b"aaaa", Condition.NONE)
    assert drive.position() == Position(0, 1)
    model.attentions.append(POWER_ON)
    assert drive.transport.execute(bytes(6), timeout_s=1).status == Status.CHECK_CONDITION
    assert drive.read_record(memoryview(bytearray(9)), crosses_filemark=False).error == Error.IO
    assert drive.rewind() == Outcome(0)
    drive.close(force=False)


# --- errors of the medium ---------------------------------------------------------------------------------------


def test_a_write_error_says_what_is_lost_of_the_buffer(model: ModelDrive) -> None:
    drive = opened(model)
    write(drive, b"aaaa", b"bbbb", b"cccc")
    model.unwritten = 2
    model.alerts = {3, 20}
    model.fail(WRITE, MEDIUM)
    failed = drive.write_records(memoryview(b"dddd" * 2), 4)
    assert (failed.done, failed.condition, failed.error) == (0, Condition.FAILED, Error.IO)
    assert failed.text == (
        "drive t0: medium error (3/11/00); 2 of the blocks and marks before it did not come onto the tape; "
        "TapeAlert: hard error, cleaning required"
    )
    assert drive.state().flags & TapeFlag.ERROR
    drive.close(force=True)


def test_the_number_of_good_records_is_exact(model: ModelDrive) -> None:
    drive = opened(model)
    records = memoryview(b"".join(block(number, 8) for number in range(6)))
    assert drive.write_records(records[:32], 8) == Outcome(4)
    model.fail(WRITE, HARDWARE)
    assert drive.write_records(records[32:], 8)[:3] == (0, Condition.FAILED, Error.IO)
    assert model.items == [block(number, 8) for number in range(4)]
    drive.close(force=True)


def test_a_deferred_error_is_not_of_the_record_it_came_with(model: ModelDrive) -> None:
    drive = opened(model)
    write(drive, b"aaaa")
    deferred = bytes([0x71, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x0C, 0, 0, 0, 0, 0])
    model.fail(WRITE, Reply(Status.CHECK_CONDITION, deferred, 0))
    failed = drive.write_records(memoryview(b"bbbb"), 4)
    assert (failed.done, failed.error) == (0, Error.IO)
    assert failed.text == "drive t0: of what was written before: medium error (3/0C/00)"
    drive.close(force=True)


def test_a_close_that_cannot_flush(model: ModelDrive) -> None:
    drive = opened(model, implicit_filemark=False)
    write(drive, b"aaaa")
    model.fail(WRITE_FILEMARKS, MEDIUM)
    assert drive.close(force=False).error == Error.IO
    assert drive.close(force=True) == Outcome(0)


def test_reading_on_behind_an_error(model: ModelDrive) -> None:
    model.items = [b"aaaa", b"bbbb", None]
    drive = opened(model, TapeMode.READ)
    model.fail(READ, MEDIUM)
    assert drive.read_record(memoryview(bytearray(4)), crosses_filemark=False).error == Error.IO
    assert drive.position() == Position(0, 0)  # the drive says so
    assert read(drive) == (b"aaaa", Condition.NONE)
    drive.close(force=False)
    drive = opened(odd(model), TapeMode.READ)
    drive.rewind()
    model.fail(READ, MEDIUM)
    assert drive.read_record(memoryview(bytearray(4)), crosses_filemark=False).error == Error.IO
    assert drive.position() == Position(None, None)
    drive.close(force=False)


def test_errors_that_were_overcome_are_counted(model: ModelDrive) -> None:
    drive = opened(model)
    recovered = bytes([0x70, 0, 1, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x17, 1, 0, 0, 0, 0])
    model.fail(SPACE, Reply(Status.CHECK_CONDITION, recovered, 0))
    drive.locate("end", 0)
    model.corrected = 5
    assert drive.state().soft_errors == 6
    drive.close(force=False)


def test_a_record_that_did_not_come_whole(model: ModelDrive) -> None:
    model.items = [b"aaaa"]
    drive = opened(model, TapeMode.READ)
    model.fail(READ, Reply(Status.GOOD, b"", 3))
    failed = drive.read_record(memoryview(bytearray(4)), crosses_filemark=False)
    assert (failed.condition, failed.text) == (
        Condition.FAILED, "drive t0: 3 bytes came of a record that was to be whole",
    )  # fmt: skip
    drive.close(force=False)


def test_no_medium_in_the_midst(model: ModelDrive) -> None:
    drive = opened(model)
    model.fail(WRITE, NO_MEDIUM)
    assert drive.write_records(memoryview(b"aaaa"), 4).error == Error.NO_TAPE_LOADED
    drive.close(force=True)
