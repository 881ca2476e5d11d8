"""What a drive by CDBs makes of faults, odd answers and fixed blocks."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mover.tape import logical_unit, scsi_medium
from mover.tape.codes import Error, TapeFlag, TapeMode
from mover.tape.drive import Condition, DriveError, Outcome, Position
from mover.tape.drive_logs import parse_parameters
from mover.tape.scsi_drive import ScsiDrive
from mover.tape.transport import Reply, Status, TransportError
from mover.workers.device_messages import DeviceSpec
from tests.tape.contract import block, contents, read, write
from tests.tape.model_drive import BECOMING_READY, MEDIUM_CHANGED, NO_MEDIUM, POWER_ON, Items, ModelDrive

READ, WRITE, WRITE_FILEMARKS, SPACE, MODE_SELECT, TEST_READY = 0x08, 0x0A, 0x10, 0x11, 0x15, 0x00
REWIND = b"\x01" + bytes(5)
HARDWARE = (4, 0x44, 0)
MEDIUM = (3, 0x11, 0)


@pytest.fixture
def model() -> ModelDrive:
    return ModelDrive()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logical_unit, "BUSY_PAUSE_S", 0)
    monkeypatch.setattr(scsi_medium, "READY_PAUSE_S", 0)


def opened(
    model: ModelDrive, mode: TapeMode = TapeMode.RDWR, *, block_size: int = 0, implicit_filemark: bool = True
) -> ScsiDrive:
    spec = DeviceSpec("t0", "iscsi://127.0.0.1/iqn.2026-01.test:vtl/1", block_size=block_size)
    return ScsiDrive(model.transport(), spec, mode, implicit_filemark=implicit_filemark)


def refusal(model: ModelDrive, mode: TapeMode = TapeMode.RDWR, *, block_size: int = 0) -> DriveError:
    with pytest.raises(DriveError) as caught:
        opened(model, mode, block_size=block_size)
    assert model.holder is None  # it was given back
    return caught.value


def odd(model: ModelDrive) -> ModelDrive:
    """As drives of the field and tgtd's are."""
    model.tells = model.locates = model.spaces_exactly = model.says_residual = model.gives_all = False
    return model


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


# --- against a list ---------------------------------------------------------------------------------------------


class DriveAgainstList(RuleBasedStateMachine):
    """A drive by CDBs beside the list that the model's tape is."""

    odd = False

    def __init__(self) -> None:
        super().__init__()
        self.model = odd(ModelDrive()) if self.odd else ModelDrive()
        self.drive = opened(self.model, implicit_filemark=False)
        self.drive.rewind()
        self.tape: Items = []
        self.at = 0

    def teardown(self) -> None:
        assert self.drive.close(force=False) == Outcome(0)
        assert (self.model.items, self.model.at) == (self.tape, self.at)

    @rule(size=st.sampled_from([1, 2, 7, 64]), count=st.integers(1, 4), fill=st.integers(0, 255))
    def write_records(self, size: int, count: int, fill: int) -> None:
        records = [bytes([(fill + number) % 256]) * size for number in range(count)]
        assert self.drive.write_records(memoryview(b"".join(records)), size) == Outcome(count)
        self.tape[self.at :] = records
        self.at += count

    @rule(count=st.integers(0, 3))
    def write_filemarks(self, count: int) -> None:
        assert self.drive.write_filemarks(count) == Outcome(count)
        if count:
            self.tape[self.at :] = [None] * count
            self.at += count

    def knows_the_way(self, outcome: Outcome) -> bool:
        """A drive that does not tell where it stands may be asked what needs that: it says so and moves nothing."""
        if self.odd and "is not known, and the drive does not tell" in outcome.text:
            assert (outcome.done, outcome.error) == (0, Error.IO)
            self.rewind()
            return False
        return True

    def ahead(self) -> tuple[Condition, bytes]:
        if self.at == len(self.tape):
            return Condition.END_OF_DATA, b""
        item = self.tape[self.at]
        return (Condition.FILEMARK, b"") if item is None else (Condition.NONE, item)

    @rule(size=st.sampled_from([1, 3, 7, 10, 64, 100]), crosses=st.booleans())
    def read_record(self, size: int, crosses: bool) -> None:
        condition, record = self.ahead()
        buffer = bytearray(size)
        outcome = self.drive.read_record(memoryview(buffer), crosses_filemark=crosses)
        if condition is Condition.NONE:
            count = min(size, len(record))
            assert outcome == Outcome(count, record_length=len(record))
            assert buffer[:count] == record[:count]
        else:
            assert outcome == Outcome(0, condition)
        if condition is Condition.NONE or (condition is Condition.FILEMARK and crosses):
            self.at += 1

    @rule(size=st.sampled_from([1, 2, 7, 64]), count=st.integers(1, 5))
    def read_records(self, size: int, count: int) -> None:
        buffer = bytearray(size * count)
        outcome = self.drive.read_records(memoryview(buffer), size)
        run = []
        for item in self.tape[self.at : self.at + count]:
            if item is None or len(item) != size:
                break
            run.append(item)
        condition = Condition.NONE if run else self.ahead()[0]
        assert outcome[:2] == (len(run), condition)
        assert bytes(buffer[: size * len(run)]) == b"".join(run)
        self.at += len(run)

    @rule(count=st.integers(-4, 4))
    def space_files(self, count: int) -> None:
        outcome = self.drive.space_files(count)
        if not self.knows_the_way(outcome):
            return
        marks = [number for number, item in enumerate(self.tape) if item is None]
        if count < 0:
            before = [number for number in marks if number < self.at]
            done = min(-count, len(before))
            short = Condition.BEGINNING if done < -count else Condition.NONE
            self.at = 0 if short is Condition.BEGINNING else before[-done]
        else:
            after = [number for number in marks if number >= self.at]
            done = min(count, len(after))
            short = Condition.END_OF_DATA if done < count else Condition.NONE
            if count:
                self.at = len(self.tape) if done < count else after[done - 1] + 1
        assert outcome == Outcome(done, short)

    @rule(count=st.integers(-5, 5), crosses=st.booleans())
    def space_records(self, count: int, crosses: bool) -> None:
        outcome = self.drive.space_records(count, crosses_filemark=crosses)
        if not self.knows_the_way(outcome):
            return
        step, done, condition = (1 if count > 0 else -1), 0, Condition.NONE
        while done < abs(count):
            if count < 0 and self.at == 0:
                condition = Condition.BEGINNING
                break
            if count > 0 and self.at == len(self.tape):
                condition = Condition.END_OF_DATA
                break
            if self.tape[self.at if step > 0 else self.at - 1] is None:
                condition = Condition.FILEMARK
                self.at += step if crosses else 0
                break
            self.at += step
            done += 1
        assert outcome == Outcome(done, condition)

    @rule(number=st.integers(0, 12), unit=st.sampled_from(["object", "file", "end"]))
    def locate(self, number: int, unit: str) -> None:
        outcome = self.drive.locate(unit, number)  # type: ignore[arg-type]  # one of the three
        marks = [place + 1 for place, item in enumerate(self.tape) if item is None]
        places = {"object": list(range(len(self.tape) + 1)), "file": [0, *marks], "end": []}[unit]
        there = number < len(places)
        self.at = places[number] if there else len(self.tape)
        assert outcome == Outcome(0, Condition.NONE if there or unit == "end" else Condition.END_OF_DATA)

    @rule()
    def rewind(self) -> None:
        assert self.drive.rewind() == Outcome(0)
        self.at = 0

    @invariant()
    def position_is_right_where_it_is_known(self) -> None:
        marks = self.tape[: self.at].count(None)
        since = self.at - max([place + 1 for place, item in enumerate(self.tape[: self.at]) if item is None], default=0)
        file, records = self.drive.position()
        assert (file in {None, marks}, records in {None, since}) == (True, True)
        assert self.drive.objects() in {None, self.at}
        if not self.odd:
            assert (file, self.drive.objects()) == (marks, self.at)

    @invariant()
    def tape_is_as_the_list(self) -> None:
        assert self.model.items == self.tape


class OddDriveAgainstList(DriveAgainstList):
    """A drive that does not tell where it stands."""

    odd = True


SETTINGS = settings(max_examples=100, stateful_step_count=20)
TestDriveAgainstList = DriveAgainstList.TestCase
TestDriveAgainstList.settings = SETTINGS
TestOddDriveAgainstList = OddDriveAgainstList.TestCase
TestOddDriveAgainstList.settings = SETTINGS


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
