"""The virtual drive: the contract of a drive, the same against a list of records and marks, and its own numbers."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mover.tape.codes import Error, TapeFlag, TapeMode
from mover.tape.drive import Condition, Outcome, Position
from mover.tape.virtual import VirtualDrive
from mover.workers.tape_messages import DriveSpec
from tests.tape import tap
from tests.tape.contract import WHOLE_BYTES, Capability, DriveContract, Peer, write


def virtual(
    path: Path,
    mode: TapeMode = TapeMode.RDWR,
    *,
    capacity: int = WHOLE_BYTES,
    early_warning: int = 0,
    implicit_filemark: bool = True,
    loading: str = "",
) -> VirtualDrive:
    spec = DriveSpec("vtl0/drive0", str(path), capacity, early_warning, loading)
    return VirtualDrive(spec, mode, implicit_filemark=implicit_filemark)


class VirtualPeer(Peer):
    """Virtual drives with one cartridge file."""

    capabilities = frozenset(Capability)

    def __init__(self, path: Path) -> None:
        self._path: Path | None = path
        tap.create(path)

    def open(
        self,
        mode: TapeMode = TapeMode.RDWR,
        *,
        capacity: int = WHOLE_BYTES,
        early_warning: int = 0,
        implicit_filemark: bool = True,
    ) -> VirtualDrive:
        path = None if self._path is None else str(self._path)
        spec = DriveSpec("vtl0/drive0", path, capacity, early_warning)
        return VirtualDrive(spec, mode, implicit_filemark=implicit_filemark)

    def protect(self) -> None:
        assert self._path is not None
        self._path.chmod(0o444)

    def empty(self) -> None:
        self._path = None


class TestContract(DriveContract):
    """The contract on virtual drives."""

    @pytest.fixture
    def peer(self, tmp_path: Path) -> Peer:
        return VirtualPeer(tmp_path / "peer.tap")


class DriveAgainstList(RuleBasedStateMachine):
    """A drive beside a list of records and marks with an index into it."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="mover-drive-"))
        self.path = self.directory / "a.tap"
        tap.create(self.path)
        self.tape: tap.Tape = []
        self.at = 0
        self.mark_due = False
        self.drive = virtual(self.path)

    def teardown(self) -> None:
        self.drive.close(force=True)
        shutil.rmtree(self.directory)

    @rule(size=st.sampled_from([1, 2, 7, 64]), count=st.integers(1, 5), fill=st.integers(0, 255))
    def write_records(self, size: int, count: int, fill: int) -> None:
        records = [bytes([(fill + number) % 256]) * size for number in range(count)]
        assert self.drive.write_records(memoryview(b"".join(records)), size) == Outcome(count)
        self.tape[self.at :] = records
        self.at += count
        self.mark_due = True

    @rule(count=st.integers(0, 3))
    def write_filemarks(self, count: int) -> None:
        assert self.drive.write_filemarks(count) == Outcome(count)
        if count:
            self.tape[self.at :] = [tap.MARK] * count
            self.at += count
            self.mark_due = False

    def ahead(self) -> tuple[Condition, bytes]:
        if self.at == len(self.tape):
            return Condition.END_OF_DATA, b""
        item = self.tape[self.at]
        return (Condition.FILEMARK, b"") if item is None else (Condition.NONE, item)

    @rule(size=st.sampled_from([1, 7, 100]), crosses=st.booleans())
    def read_record(self, size: int, crosses: bool) -> None:
        condition, record = self.ahead()
        buffer = bytearray(size)
        outcome = self.drive.read_record(memoryview(buffer), crosses_filemark=crosses)
        assert outcome == Outcome(min(size, len(record)), condition, record_length=len(record))
        assert buffer[: outcome.done] == record[:size]
        if condition is Condition.NONE or (condition is Condition.FILEMARK and crosses):
            self.at += 1

    @rule(size=st.sampled_from([1, 2, 7, 64]), room=st.integers(1, 4))
    def read_records(self, size: int, room: int) -> None:
        run: list[bytes] = []
        for item in self.tape[self.at : self.at + room]:
            if item is None or len(item) != size:
                break
            run.append(item)
        condition, _ = self.ahead()
        buffer = bytearray(size * room)
        outcome = self.drive.read_records(memoryview(buffer), size)
        assert (outcome.done, outcome.condition) == (len(run), condition)
        assert bytes(buffer[: len(run) * size]) == b"".join(run)
        self.at += len(run)

    @rule(number=st.integers(0, 20))
    def locate_object(self, number: int) -> None:
        outcome = self.drive.locate("object", number)
        there = number <= len(self.tape)
        assert outcome == Outcome(0, Condition.NONE if there else Condition.END_OF_DATA)
        self.at = min(number, len(self.tape))

    @rule(number=st.integers(0, 6))
    def locate_file(self, number: int) -> None:
        behind = [0, *(place + 1 for place, item in enumerate(self.tape) if item is None)]
        there = number < len(behind)
        assert self.drive.locate("file", number) == Outcome(0, Condition.NONE if there else Condition.END_OF_DATA)
        self.at = behind[number] if there else len(self.tape)

    @rule()
    def locate_end(self) -> None:
        assert self.drive.locate("end", 0) == Outcome(0)
        self.at = len(self.tape)

    @invariant()
    def counts_its_objects(self) -> None:
        assert self.drive.objects() == self.at

    @rule(count=st.integers(0, 4))
    def forward_space_files(self, count: int) -> None:
        done, at = 0, self.at
        while done < count and tap.MARK in self.tape[at:]:
            at = self.tape.index(tap.MARK, at) + 1
            done += 1
        if done < count:
            at = len(self.tape)
        outcome = self.drive.space_files(count)
        assert outcome == Outcome(done, Condition.NONE if done == count else Condition.END_OF_DATA)
        self.at = at

    @rule(count=st.integers(1, 4))
    def backward_space_files(self, count: int) -> None:
        done, at = 0, self.at
        while done < count and tap.MARK in self.tape[:at]:
            at = max(place for place in range(at) if self.tape[place] is None)
            done += 1
        if done < count:
            at = 0
        outcome = self.drive.space_files(-count)
        assert outcome == Outcome(done, Condition.NONE if done == count else Condition.BEGINNING)
        self.at = at

    @rule(count=st.integers(0, 6), crosses=st.booleans())
    def forward_space_records(self, count: int, crosses: bool) -> None:
        done, condition = 0, Condition.NONE
        while done < count and condition is Condition.NONE:
            condition, _ = self.ahead()
            if condition is Condition.NONE:
                done += 1
                self.at += 1
        if condition is Condition.FILEMARK and crosses:
            self.at += 1
        assert self.drive.space_records(count, crosses_filemark=crosses) == Outcome(done, condition)

    @rule(count=st.integers(1, 6), crosses=st.booleans())
    def backward_space_records(self, count: int, crosses: bool) -> None:
        done, condition = 0, Condition.NONE
        while done < count and condition is Condition.NONE:
            if self.at == 0:
                condition = Condition.BEGINNING
            elif self.tape[self.at - 1] is None:
                condition = Condition.FILEMARK
            else:
                done += 1
                self.at -= 1
        if condition is Condition.FILEMARK and crosses:
            self.at -= 1
        assert self.drive.space_records(-count, crosses_filemark=crosses) == Outcome(done, condition)

    def implicit_mark(self) -> None:
        if self.mark_due:
            if self.at == len(self.tape):
                self.at += 1
            self.tape.append(tap.MARK)
            self.mark_due = False

    @rule()
    def rewind(self) -> None:
        assert self.drive.rewind() == Outcome(0)
        self.implicit_mark()
        self.at = 0

    @rule(index_lost=st.booleans())
    def close_and_open(self, index_lost: bool) -> None:
        assert self.drive.close(force=False) == Outcome(0)
        self.implicit_mark()
        if index_lost:
            Path(f"{self.path}.idx").unlink()
            self.at = 0
        self.drive = virtual(self.path)

    @invariant()
    def stands_where_the_list_says(self) -> None:
        before = self.tape[: self.at]
        marks = before.count(tap.MARK)
        records = len(before) - max((place + 1 for place, item in enumerate(before) if item is None), default=0)
        assert self.drive.position() == Position(marks, records)
        assert self.drive.state().position.blockno in {records, None}
        assert tap.read(self.path) == self.tape


TestDriveAgainstList = DriveAgainstList.TestCase
TestDriveAgainstList.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


# --- early warning and end of medium ---------------------------------------------------------------------------


def test_early_warning_once_then_writes_to_the_end(path: Path) -> None:
    """Records of 100 bytes take 108; early warning begins behind 500, the medium ends at 1000."""
    drive = virtual(path, capacity=1000, early_warning=500)
    records = memoryview(bytes(1000))
    assert drive.write_records(records, 100) == Outcome(5, Condition.EARLY_WARNING)
    assert drive.write_filemarks(1) == Outcome(1)
    outcome = drive.write_records(records, 100)
    assert (outcome.done, outcome.condition, outcome.error) == (4, Condition.FAILED, Error.IO)
    assert drive.state().flags & TapeFlag.ERROR
    assert drive.write_filemarks(3) == Outcome(3)
    assert drive.state().space_remain == 1000 - 9 * 108 - 4 * 4
    assert not drive.state().flags & TapeFlag.ERROR
    drive.close(force=False)
    assert tap.read(path) == [bytes(100)] * 5 + [None] + [bytes(100)] * 4 + [None] * 3


def test_the_record_that_crosses_succeeds_and_the_next_one_warns(path: Path) -> None:
    drive = virtual(path, capacity=1000, early_warning=500)
    for _ in range(5):
        write(drive, bytes(100))
    assert drive.write_records(memoryview(bytes(100)), 100) == Outcome(0, Condition.EARLY_WARNING)
    write(drive, bytes(100))
    drive.rewind()
    write(drive, *[bytes(100)] * 5)
    assert drive.write_records(memoryview(bytes(100)), 100).condition is Condition.EARLY_WARNING
    drive.close(force=False)


def test_marks_stop_at_the_end_of_the_medium(path: Path) -> None:
    drive = virtual(path, capacity=20, implicit_filemark=True)
    write(drive, b"abcd")
    outcome = drive.write_filemarks(5)
    assert (outcome.done, outcome.error) == (2, Error.IO)
    assert drive.position() == Position(2, 0)
    drive.close(force=False)


def test_marks_without_measure_are_refused(path: Path) -> None:
    drive = virtual(path)
    outcome = drive.write_filemarks(0xFFFF_FFFF)
    assert (outcome.done, outcome.condition, outcome.error) == (0, Condition.FAILED, Error.ILLEGAL_ARGS)
    assert drive.write_filemarks(1) == Outcome(1)
    drive.close(force=False)


def test_a_close_that_fails_leaves_the_drive_open_once(path: Path) -> None:
    drive = virtual(path, capacity=12)
    write(drive, b"abcd")
    assert drive.close(force=False).error == Error.IO
    assert drive.position() == Position(0, 1)
    assert drive.close(force=True) == Outcome(0)
    assert tap.read(path) == [b"abcd"]


# --- opening and refusals --------------------------------------------------------------------------------------


def test_another_loading_begins_at_bot(path: Path) -> None:
    drive = virtual(path, loading="1")
    write(drive, b"a", b"b")
    drive.close(force=False)
    for loading, position in (("1", Position(1, 0)), ("2", Position(0, 0))):
        drive = virtual(path, loading=loading)
        assert drive.position() == position
        drive.close(force=False)


def test_damage_is_a_read_error_and_is_written_over_from_before_it_only(path: Path) -> None:
    path.write_bytes(tap.build([b"ab"]) + b"\x04\0\0\x10" + b"x" * 20)
    drive = virtual(path)
    assert drive.space_records(5, crosses_filemark=False)[:3] == (1, Condition.FAILED, Error.IO)
    assert drive.read_record(memoryview(bytearray(9)), crosses_filemark=False).error == Error.IO
    assert drive.space_files(1).error == Error.IO
    refused = drive.write_records(memoryview(b"cd"), 2)
    assert (refused.done, refused.error, "destroy" in refused.text) == (0, Error.IO, True)
    drive.rewind()
    write(drive, b"cd")
    drive.close(force=False)
    assert tap.read(path) == [b"cd", None]
