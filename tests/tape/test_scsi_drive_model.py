"""A drive by CDBs beside a list, whatever is done with it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mover.tape.codes import Error
from mover.tape.drive import Condition, Outcome
from tests.tape.model_drive import Items, ModelDrive
from tests.tape.scsi_drives import odd, opened


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
