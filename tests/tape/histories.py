"""Histories of a virtual drive: any operations, with kills, switched-off hosts and failing disks in the midst of them.

Beside the drive goes the list of all states that the tape has had since it was last synced. After a kill it must be in
one of those of the operation that was under way, after a switch-off in one of those since the last sync, and after an
error in the one that the operation's count names. What has a checksum on disk must have it still.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mover.tape.cartridge import Cartridge
from mover.tape.checksum import UNKNOWN
from mover.tape.codes import Error, TapeMode
from mover.tape.drive import Condition, Outcome
from mover.tape.virtual import VirtualDrive
from mover.workers.tape_messages import DriveSpec
from tests.tape import tap
from tests.tape.contract import WHOLE_BYTES, contents
from tests.tape.failing_disk import Disk, KilledError, Plan

PLANS = st.one_of(
    st.none(),
    st.none(),
    st.builds(
        Plan,
        st.sampled_from(["no space", "I/O error", "kill", "switch off"]),
        st.integers(0, 7),
        st.sampled_from([0, 10, 50, 90, 100]),
    ),
)


class TapeHistory(RuleBasedStateMachine):
    """One cartridge and the drives that open it, one after another."""

    happened: Counter[str] = Counter()  # over all histories of this process: what scripts/tape-histories tells

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="mover-history-"))
        self.path = self.directory / "a.tap"
        tap.create(self.path)
        self.disk = Disk(self.path)
        self.tape: tap.Tape = []
        self.since_sync: list[tap.Tape] = [[]]
        self.at = 0
        self.mark_due = False
        self.loading = 0
        self.changed = False  # by this drive
        self.known: list[bool] = []  # of each item of the tape, whether the drive has its checksum; marks have none
        self.kept: list[bool] = []  # as of the index, while nothing is changed
        self.aside: list[bool] = []  # as of what was set aside
        self._small = mock.patch("mover.tape.cartridge.PREALLOCATED_BYTES", 4096)
        self._small.start()
        with self.disk.watched():
            self.drive = self.opened()
        self.happened["histories"] += 1

    def teardown(self) -> None:
        self.drive.close(force=True)
        self._small.stop()
        shutil.rmtree(self.directory)

    def opened(self) -> VirtualDrive:
        spec = DriveSpec("vtl0/drive0", str(self.path), WHOLE_BYTES, 0, str(self.loading))
        return VirtualDrive(spec, TapeMode.RDWR, implicit_filemark=True)

    # --- an operation and what may happen in it -------------------------------------------------------------

    def run(self, operation: Callable[[], Outcome], plan: Plan | None, states: list[tap.Tape]) -> Outcome | None:
        """Do it; None when it did not come to its end, and the drive has been opened anew.

        Args:
            states: the states of the tape that it passes through beside the present one.
        """
        self.happened["operations"] += 1
        before = self.aside
        if states:
            stays = min(_common(self.tape, each) for each in states)
            self.aside = (self.aside if self.changed else self.known)[:stays]
            self.changed = True
        passed = [self.tape, *states]
        self.since_sync += states
        try:
            with self.disk.watched(plan):
                outcome = operation()
        except KilledError:
            self.died(passed, before)
            return None
        fired = self.disk.fired
        if fired is None:
            return outcome
        self.happened[fired.fate] += 1
        self.aside = []  # it may have been the index that could not be written
        self.kept = []
        if outcome.condition is not Condition.FAILED:
            return outcome
        assert outcome.error == Error.IO
        with self.disk.watched():
            self.drive.close(force=True)
        self.begin_again([*passed, *([*each, tap.MARK] for each in passed)], [])  # it closes with a mark if it can
        return outcome

    def died(self, passed: list[tap.Tape], aside_before: list[bool]) -> None:
        fired = self.disk.fired
        assert fired is not None
        self.happened[fired.fate] += 1
        self.lose_drive()
        killed = list(self.aside)
        both = zip(aside_before, self.aside, strict=False)
        self.aside = [first and then for first, then in both]  # it may not have come to that, nor to its sync
        if fired.fate == "switch off":
            self.disk.switch_off(fired.percent)
            self.begin_again(self.since_sync, self.aside)
        else:
            self.begin_again(passed, killed if self.changed else self.kept)

    def lose_drive(self) -> None:
        cartridge = self.drive._cartridge
        if cartridge is not None:
            with suppress(OSError):  # it was closing
                cartridge.abandon()

    def begin_again(self, allowed: list[tap.Tape], has: list[bool]) -> None:
        """Open the drive anew, and see that the tape is as it may be, and has the checksums that are on disk."""
        self.loading += 1
        with self.disk.watched():
            self.drive = self.opened()
            assert self.drive.position() == (0, 0)
            found = contents(self.drive)
        assert found in allowed
        assert found == tap.read(self.path)
        self.known = self.checksums()
        assert all(known for known, wanted in zip(self.known, has, strict=False) if wanted)
        self.tape, self.at, self.mark_due, self.changed = found, len(found), False, False
        self.kept = has
        self.since_sync.append(found)

    def checksums(self) -> list[bool]:
        cartridge = Cartridge(str(self.path), writable=False, exclusive=False)
        cartridge.abandon()
        known: list[bool] = []
        for number, file in enumerate(cartridge.map.files):
            known += [False] * (number > 0) + [each != UNKNOWN for each in file.sums]
        return known

    def synced(self) -> None:
        self.since_sync = [self.tape]

    def take(self, tape: tap.Tape, at: int) -> None:
        """The operation has left this on the tape, new from this item on."""
        self.known = self.known[:at] + [item is not None for item in tape[at:]]
        self.tape = tape

    def holds_good_ones(self, done: int, states: list[tap.Tape]) -> None:
        """After a failed write: what was told to be on tape is, and nothing more of it."""
        assert done == 0 or self.tape in (states[done], [*states[done], tap.MARK])

    # --- operations -----------------------------------------------------------------------------------------

    @rule(size=st.sampled_from([2, 2, 7, 64]), count=st.integers(1, 4), fill=st.integers(0, 255), plan=PLANS)
    def write_records(self, size: int, count: int, fill: int, plan: Plan | None) -> None:
        records = [bytes([(fill + number) % 256]) * size for number in range(count)]
        before = self.tape[: self.at]
        states: list[tap.Tape] = [[*before, *records[:done]] for done in range(count + 1)]
        data = memoryview(b"".join(records))
        outcome = self.run(lambda: self.drive.write_records(data, size), plan, states)
        if outcome is None:
            return
        if outcome.condition is Condition.FAILED:
            self.holds_good_ones(outcome.done, states)
            return
        assert outcome == Outcome(count)
        self.take(states[count], self.at)
        self.at += count
        self.mark_due = True

    @rule(count=st.integers(1, 3), plan=PLANS)
    def write_filemarks(self, count: int, plan: Plan | None) -> None:
        states: list[tap.Tape] = [[*self.tape[: self.at], *[tap.MARK] * done] for done in range(count + 1)]
        outcome = self.run(lambda: self.drive.write_filemarks(count), plan, states)
        if outcome is None:
            return
        if outcome.condition is Condition.FAILED:
            self.holds_good_ones(outcome.done, states)
            return
        assert outcome == Outcome(count)
        self.take(states[count], self.at)
        self.at += count
        self.mark_due = False
        self.synced()

    @rule(plan=PLANS)
    def rewind(self, plan: Plan | None) -> None:
        outcome = self.with_implicit_mark(self.drive.rewind, plan)
        if outcome == Outcome(0):
            self.at = 0

    @rule(plan=PLANS)
    def close_and_open(self, plan: Plan | None) -> None:
        outcome = self.with_implicit_mark(lambda: self.drive.close(force=False), plan)
        if outcome != Outcome(0):
            return
        self.synced()
        whole = self.disk.fired is None
        self.changed = False
        with self.disk.watched():
            self.drive = self.opened()
        known, at = self.checksums(), self.drive.objects()
        if whole:
            assert (known, at) == (self.known, self.at)
            self.kept = known
        else:  # perhaps without an index
            assert at in (0, self.at)
            self.known, self.at = known, at or 0

    def with_implicit_mark(self, operation: Callable[[], Outcome], plan: Plan | None) -> Outcome | None:
        states: list[tap.Tape] = [[*self.tape, tap.MARK]] if self.mark_due else []
        outcome = self.run(operation, plan, states)
        if outcome == Outcome(0) and states:
            end = len(self.tape)
            self.at += self.at == end
            self.take(states[0], end)
            self.mark_due = False
            self.synced()
        return outcome

    @rule(number=st.integers(0, 8))
    def locate(self, number: int) -> None:
        self.drive.locate("object", number)
        self.at = min(number, len(self.tape))

    @rule(size=st.sampled_from([1, 7, 100]))
    def read_record(self, size: int) -> None:
        buffer = bytearray(size)
        outcome = self.drive.read_record(memoryview(buffer), crosses_filemark=True)
        item = self.tape[self.at] if self.at < len(self.tape) else b""
        assert bytes(buffer[: outcome.done]) == (item or b"")[:size]
        self.at = min(self.at + 1, len(self.tape))

    @rule(percent=st.sampled_from([None, 0, 10, 50, 90, 100]))
    def end(self, percent: int | None) -> None:
        """A kill, or a switch-off, while nothing is under way."""
        self.happened["kill" if percent is None else "switch off"] += 1
        self.lose_drive()
        if percent is None:
            self.begin_again([self.tape], self.aside if self.changed else self.kept)
        else:
            self.disk.switch_off(percent)
            self.begin_again(self.since_sync, self.aside)

    @invariant()
    def holds_what_the_list_says(self) -> None:
        assert tap.read(self.path) == self.tape
        assert self.drive.objects() == self.at


def _common(one: tap.Tape, other: tap.Tape) -> int:
    """How many items both begin with."""
    for number, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine != its:
            return number
    return min(len(one), len(other))
