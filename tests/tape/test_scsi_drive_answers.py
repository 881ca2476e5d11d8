"""What a drive by CDBs makes of odd answers, of fixed blocks and of log pages."""

from collections.abc import Iterator

import pytest

from mover.tape.codes import Error, TapeMode
from mover.tape.drive import Condition, Outcome, Position
from mover.tape.drive_logs import parse_parameters
from mover.tape.scsi_drive import ScsiDrive
from tests.tape.contract import block, contents, read, write
from tests.tape.model_drive import Items, ModelDrive
from tests.tape.scsi_drives import odd, opened

SPACE = 0x11


def test_a_drive_that_runs_over_marks_and_tells_where_it_is(model: ModelDrive) -> None:
    model.items = [b"aaaa", None, b"bbbb"]
    model.spaces_exactly = False
    drive = opened(model, TapeMode.READ)
    failed = drive.space_records(2, crosses_filemark=False)
    assert (failed.condition, failed.text) == (
        Condition.FAILED, "drive t0: it left file 0 as it passed 2 records",
    )  # fmt: skip
    drive.close(force=False)


# --- the end of the data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "done", "position"),
    [
        ([], 0, Position(0, 0)),
        ([b"aaaa", None], 1, Position(1, 0)),
        ([b"aaaa", None, b"bbbb", b"cccc"], 1, Position(1, 2)),
        ([b"aaaa"], 0, Position(0, 1)),
        ([None, None], 2, Position(2, 0)),
    ],
)
@pytest.mark.parametrize("make", [lambda model: model, odd], ids=["as it should be", "odd"])
def test_who_appends_is_told_whether_a_mark_is_missing(
    model: ModelDrive, items: Items, done: int, position: Position, make: object
) -> None:
    assert callable(make)
    make(model)
    model.items = items
    drive = opened(model)
    drive.rewind()
    assert drive.space_files(1000) == Outcome(done, Condition.END_OF_DATA)
    assert (drive.position(), model.at) == (position, len(items))
    drive.close(force=False)


def test_a_drive_that_tells_its_place_and_no_residual(model: ModelDrive) -> None:
    """What it cannot know exactly it does not tell as done."""
    model.items = [b"aaaa", b"bbbb", None, b"cccc", None]
    model.says_residual = False
    drive = opened(model, TapeMode.READ)
    assert drive.space_files(9) == Outcome(2, Condition.END_OF_DATA)
    assert drive.position() == Position(2, 0)
    drive.rewind()
    failed = drive.space_records(9, crosses_filemark=False)
    assert (failed.condition, failed.text) == (
        Condition.FAILED, "drive t0: it does not say how many of 9 records it passed",
    )  # fmt: skip
    assert drive.rewind() == Outcome(0)
    drive.close(force=False)


@pytest.mark.parametrize("count", [3, 4, 200_000])
def test_an_odd_drive_passes_many_files_at_once(model: ModelDrive, count: int) -> None:
    model.items = [b"aaaa", None, b"bbbb", None, b"cccc", None]
    drive = opened(odd(model), TapeMode.READ)
    drive.rewind()
    model.log.clear()
    short = count > 3
    assert drive.space_files(count) == Outcome(3, Condition.END_OF_DATA if short else Condition.NONE)
    assert (drive.position(), model.at) == (Position(3, 0), 6)
    assert (model.log.count(SPACE) == 1) == (not short)
    drive.close(force=False)


# --- fixed blocks -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["as it should be", "odd"])
def fixed(model: ModelDrive, request: pytest.FixtureRequest) -> Iterator[ScsiDrive]:
    if request.param == "odd":
        odd(model)
    drive = opened(model, block_size=512)
    drive.rewind()
    yield drive
    drive.close(force=True)


def test_records_of_several_blocks(model: ModelDrive, fixed: ScsiDrive) -> None:
    records = b"".join(block(number, 1024) for number in range(5))
    assert fixed.write_records(memoryview(records), 1024) == Outcome(5)
    assert fixed.write_records(memoryview(b"s" * 512), 512) == Outcome(1)
    assert fixed.position() == Position(0, 11)
    fixed.write_filemarks(1)
    assert [len(item) for item in model.items if item is not None] == [512] * 11
    fixed.rewind()
    buffer = bytearray(10 * 1024)
    assert fixed.read_records(memoryview(buffer), 1024)[:2] == (5, Condition.NONE)
    assert bytes(buffer[: len(records)]) == records
    assert fixed.position() == Position(0, 10)
    assert fixed.read_records(memoryview(buffer), 1024)[:2] == (0, Condition.NONE)
    assert fixed.read_record(memoryview(buffer)[:1024], crosses_filemark=False) == Outcome(512, record_length=512)
    assert fixed.read_records(memoryview(buffer), 1024)[:2] == (0, Condition.FILEMARK)
    assert fixed.space_records(-4, crosses_filemark=False) == Outcome(4)
    assert read(fixed, 512) == (block(3, 512), Condition.NONE)
    assert fixed.state().block_size == 512


def test_what_is_no_multiple_of_a_block(fixed: ScsiDrive) -> None:
    assert fixed.write_records(memoryview(bytes(700)), 700).error == Error.ILLEGAL_ARGS
    assert fixed.read_record(memoryview(bytearray(100)), crosses_filemark=False).error == Error.ILLEGAL_ARGS
    assert fixed.read_records(memoryview(bytearray(700)), 700)[:2] == (0, Condition.NONE)


def test_blocks_of_another_length(model: ModelDrive, fixed: ScsiDrive) -> None:
    model.items = [bytes(512), bytes(700), None]
    assert read(fixed, 512) == (bytes(512), Condition.NONE)
    failed = fixed.read_record(memoryview(bytearray(512)), crosses_filemark=False)
    assert (failed.error, failed.text) == (Error.IO, "drive t0: the block here is not one of 512 bytes")


# --- log pages --------------------------------------------------------------------------------------------------


def test_capacity_and_alerts(model: ModelDrive) -> None:
    model.capacity = 100 << 20
    model.alerts = {21, 63}
    drive = opened(model)
    assert drive.warning == "TapeAlert: cleaning requested, flag 63"
    write(drive, bytes(1 << 20))
    state = drive.state()
    assert (state.total_space, state.space_remain) == (100 << 20, 99 << 20)
    drive.close(force=False)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", {}),
        (b"\0\3\0", {}),
        (b"\0\3\0\4\0\0\0\7", {3: b"\0\0\0\7"}),
        (b"\0\3\0\4\0\0\0\7\0\1\0\xff\0", {3: b"\0\0\0\7"}),
        (b"\0\1\0\0\0\2\0\1x", {1: b"", 2: b"x"}),
    ],
)
def test_log_parameters(data: bytes, expected: dict[int, bytes]) -> None:
    assert parse_parameters(data) == expected


def test_contents_of_a_whole_tape(model: ModelDrive) -> None:
    model.items = [b"aaaa", None, b"bb" * 5000, None, None, b"c"]
    drive = opened(odd(model), TapeMode.READ)
    assert contents(drive) == model.items
    drive.close(force=False)
