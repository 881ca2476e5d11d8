"""The contract of a drive, for every back end: each subclass of DriveContract runs it on the drives of one Peer.

An expectation is never loosened because a peer does otherwise: what a peer cannot do at all is missing from its
``capabilities``, and what it does wrong stands in its ``faults`` by the name of the test, which then has to fail.

Source: states.md sections 5.2 to 5.9; each test names its clause.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import ClassVar

import pytest

from mover.tape.codes import Error, TapeFlag, TapeMode
from mover.tape.drive import Condition, Drive, DriveError, Outcome, Position

WHOLE_BYTES = 1 << 40  # a medium that no test fills
SERIES = [(1, 512), (100, 1024), (1, 512), (100, 139), (1, 512), (99, 10240), (1, 512), (3, 32768), (1, 512)]


class Capability(Enum):
    """What a peer has for the tests to use."""

    SMALL_MEDIUM = "a medium of as many bytes as a test asks for, with early warning where it asks for it"
    PROTECTION = "the medium can be write protected"
    EMPTY = "the drive can be without a medium"
    SECOND_OPEN = "the same medium can be asked for by a second drive, or the drive a second time"
    TINY_RECORDS = "records of one to three bytes; READ BLOCK LIMITS of some drives has none"
    KNOWS_BLOCKNO = "the drive knows where it stands also after it was closed and opened"


class Peer(ABC):
    """Makes open drives with a medium that is blank at first."""

    capabilities: ClassVar[frozenset[Capability]]
    faults: ClassVar[Mapping[str, str]] = {}  # test -> what the peer does instead

    @abstractmethod
    def open(
        self,
        mode: TapeMode = TapeMode.RDWR,
        *,
        capacity: int = WHOLE_BYTES,
        early_warning: int = 0,
        implicit_filemark: bool = True,
    ) -> Drive:
        """The drive with its medium, where it stood at the last close.

        Raises:
            DriveError: it cannot be opened so.
        """

    @abstractmethod
    def protect(self) -> None:
        """Write protect the medium, while the drive is closed."""

    @abstractmethod
    def empty(self) -> None:
        """Take the medium out, while the drive is closed."""


def needs(capability: Capability) -> pytest.MarkDecorator:
    return pytest.mark.needs_of_drive(capability)


def write(drive: Drive, *records: bytes) -> None:
    for record in records:
        assert drive.write_records(memoryview(record), len(record)) == Outcome(1)


def read(drive: Drive, size: int = 1000, *, crosses: bool = False) -> tuple[bytes, Condition]:
    buffer = bytearray(size)
    outcome = drive.read_record(memoryview(buffer), crosses_filemark=crosses)
    return bytes(buffer[: outcome.done]), outcome.condition


def contents(drive: Drive) -> list[bytes | None]:
    """All that is on tape, a filemark as None."""
    drive.rewind()
    tape: list[bytes | None] = []
    while True:
        record, condition = read(drive, 1 << 16, crosses=True)
        if condition is Condition.END_OF_DATA:
            return tape
        tape.append(None if condition is Condition.FILEMARK else record)


def refused(peer: Peer, mode: TapeMode) -> Error:
    with pytest.raises(DriveError) as caught:
        peer.open(mode)
    return caught.value.error


def block(number: int, size: int) -> bytes:
    return bytes([number % 251]) * size


class DriveContract:
    """The tests; a subclass has the fixture ``peer``."""

    @pytest.fixture(autouse=True)
    def _as_named_for_the_peer(self, request: pytest.FixtureRequest, peer: Peer) -> None:
        for mark in request.node.iter_markers("needs_of_drive"):
            if mark.args[0] not in peer.capabilities:
                pytest.skip(f"the peer has not: {mark.args[0].value}")
        if request.node.originalname in peer.faults:
            request.applymarker(pytest.mark.xfail(reason=peer.faults[request.node.originalname], strict=True))

    # --- open, close, unload (5.2, 5.3, 5.7) --------------------------------------------------------------------

    def test_mode_read_reads_and_writes_nothing(self, peer: Peer) -> None:
        """5.5, mode READ; 5.9 items 1 and 2: also on a blank cartridge."""
        drive = peer.open(TapeMode.READ)
        assert drive.write_records(memoryview(b"aaaa"), 4).error == Error.PERMISSION
        assert drive.write_filemarks(1).error == Error.PERMISSION
        assert read(drive) == (b"", Condition.END_OF_DATA)
        assert drive.rewind() == Outcome(0)
        assert drive.close(force=False) == Outcome(0)

    @needs(Capability.PROTECTION)
    def test_a_protected_medium(self, peer: Peer) -> None:
        """5.2: RDWR is refused, READ and RAW are not; 5.5 and 5.7: writes answer WRITE_PROTECT."""
        peer.protect()
        assert refused(peer, TapeMode.RDWR) == Error.WRITE_PROTECT
        peer.open(TapeMode.READ).close(force=False)
        drive = peer.open(TapeMode.RAW)
        assert drive.write_protected
        assert drive.state().flags == TapeFlag.NOREWIND | TapeFlag.WR_PROT
        assert drive.write_records(memoryview(b"aaaa"), 4).error == Error.WRITE_PROTECT
        assert drive.write_filemarks(1).error == Error.WRITE_PROTECT
        drive.close(force=False)

    @needs(Capability.EMPTY)
    def test_an_empty_drive(self, peer: Peer) -> None:
        """5.2: only RAW opens it; 5.7: then NO_TAPE_LOADED."""
        peer.empty()
        assert [refused(peer, mode) for mode in (TapeMode.READ, TapeMode.RDWR)] == [Error.NO_TAPE_LOADED] * 2
        drive = peer.open(TapeMode.RAW)
        refusals = [
            *[drive.rewind(), drive.unload(), drive.test_ready(), drive.space_files(1), drive.write_filemarks(1)],
            *[drive.write_records(memoryview(b"aaaa"), 4), drive.space_records(1, crosses_filemark=False)],
            *[drive.read_record(memoryview(bytearray(9)), crosses_filemark=False), drive.locate("end", 0)],
        ]
        assert [outcome.error for outcome in refusals] == [Error.NO_TAPE_LOADED] * 9
        assert drive.position() == Position(None, None)
        assert drive.objects() is None
        assert (drive.state().total_space, drive.state().space_remain) == (None, None)
        assert drive.close(force=False) == Outcome(0)

    @needs(Capability.SECOND_OPEN)
    @pytest.mark.parametrize("mode", TapeMode)
    def test_one_at_a_time(self, peer: Peer, mode: TapeMode) -> None:
        """5.2: in use elsewhere is DEVICE_BUSY, whatever the modes, until the close."""
        drive = peer.open(mode)
        assert [refused(peer, other) for other in TapeMode] == [Error.DEVICE_BUSY] * 3
        drive.close(force=False)
        peer.open(TapeMode.RDWR).close(force=False)

    @needs(Capability.KNOWS_BLOCKNO)
    def test_opening_does_not_move_the_tape(self, peer: Peer) -> None:
        """5.2, 5.3: closing does not rewind, and the next open finds the tape where it stood."""
        drive = peer.open()
        write(drive, b"aaaa", b"bbbb", b"cccc")
        drive.write_filemarks(1)
        drive.rewind()
        drive.space_records(2, crosses_filemark=False)
        drive.close(force=False)
        drive = peer.open(TapeMode.READ)
        assert drive.position() == Position(0, 2)
        assert read(drive) == (b"cccc", Condition.NONE)
        drive.close(force=False)

    def test_after_unload_the_tape_is_gone(self, peer: Peer) -> None:
        """5.7, OFF: the drive stays open and answers NO_TAPE_LOADED; 5.4: the implicit mark was written."""
        drive = peer.open()
        write(drive, b"aaaa")
        assert drive.unload() == Outcome(0)
        assert drive.test_ready().error == Error.NO_TAPE_LOADED
        assert drive.close(force=False) == Outcome(0)
        drive = peer.open()
        assert drive.position() == Position(0, 0)
        assert drive.test_ready() == Outcome(0)
        assert contents(drive) == [b"aaaa", None]
        drive.close(force=False)

    # --- the implicit filemark (5.4) ----------------------------------------------------------------------------

    def test_one_implicit_mark_behind_data(self, peer: Peer) -> None:
        """5.4: `write, REW` and `write, EOF 1, REW` leave the same."""
        drive = peer.open()
        write(drive, b"aaaa")
        drive.rewind()
        assert contents(drive) == [b"aaaa", None]
        drive.rewind()
        write(drive, b"bbbb")
        drive.write_filemarks(1)
        assert contents(drive) == [b"bbbb", None]
        drive.close(force=False)

    def test_the_implicit_mark_comes_behind_the_data_wherever_the_tape_stands(self, peer: Peer) -> None:
        """5.4, as deviated from in 5.9 item 6: motion writes none, the close writes it at the end of the data."""
        drive = peer.open()
        write(drive, b"aaaa", b"bbbb")
        assert drive.space_records(-1, crosses_filemark=False) == Outcome(1)
        drive.close(force=False)
        drive = peer.open()
        assert contents(drive) == [b"aaaa", b"bbbb", None]
        drive.close(force=False)

    def test_without_the_rule_there_is_no_mark(self, peer: Peer) -> None:
        """5.4: a rule of version 4."""
        drive = peer.open(implicit_filemark=False)
        write(drive, b"aaaa")
        assert contents(drive) == [b"aaaa"]
        drive.close(force=False)

    # --- writing, early warning, end of medium (5.5) ------------------------------------------------------------

    def test_a_write_ends_the_recorded_data(self, peer: Peer) -> None:
        """SSC: what lay behind the place of a write cannot be read any more."""
        drive = peer.open()
        write(drive, b"aaaa", b"bbbb", b"cccc")
        drive.write_filemarks(2)
        drive.rewind()
        drive.space_records(1, crosses_filemark=False)
        write(drive, b"newer")
        assert read(drive) == (b"", Condition.END_OF_DATA)
        assert contents(drive) == [b"aaaa", b"newer", None]
        drive.rewind()
        drive.write_filemarks(1)
        assert contents(drive) == [None]
        drive.close(force=False)

    @needs(Capability.SMALL_MEDIUM)
    def test_early_warning_once_and_then_to_the_end(self, peer: Peer) -> None:
        """5.5: the record that crosses is on tape, the next one answers once, then writes succeed to the end."""
        drive = peer.open(capacity=1 << 16, early_warning=1 << 15)
        records = memoryview(b"".join(block(number, 1000) for number in range(70)))
        warned = drive.write_records(records, 1000)
        assert (warned.condition, 1 <= warned.done < 65) == (Condition.EARLY_WARNING, True)
        assert drive.position() == Position(0, warned.done)
        assert drive.write_filemarks(1) == Outcome(1)
        assert drive.write_records(records[:1000], 1000) == Outcome(1)
        ended = drive.write_records(records, 1000)
        assert (ended.condition, ended.error) == (Condition.FAILED, Error.IO)
        assert drive.state().flags & TapeFlag.ERROR
        first = [block(number, 1000) for number in range(warned.done)]
        last = [block(number, 1000) for number in range(ended.done)]
        assert contents(drive)[: warned.done + 2 + ended.done] == [*first, None, block(0, 1000), *last]
        assert not drive.state().flags & TapeFlag.ERROR
        drive.close(force=True)

    @needs(Capability.SMALL_MEDIUM)
    def test_capacity(self, peer: Peer) -> None:
        """5.8: total_space is the medium's, space_remain what can be written from here on."""
        drive = peer.open(capacity=1 << 20)
        blank = drive.state()
        assert blank.total_space is not None
        assert blank.space_remain == blank.total_space
        write(drive, bytes(1 << 16))
        written = drive.state()
        assert written.total_space == blank.total_space
        assert written.space_remain is not None
        assert 0 <= written.space_remain <= blank.total_space - (1 << 16)
        drive.close(force=False)

    # --- reading (5.6) ------------------------------------------------------------------------------------------

    def test_records_of_any_length_come_back(self, peer: Peer) -> None:
        """5.6: variable mode, one record a read; 5.8: block_size is 0."""
        drive = peer.open()
        assert drive.state().block_size == 0
        sizes = [4, 5, 512, 513, 10_240, 65_535, 65_536, 262_144, 1 << 20]
        if Capability.TINY_RECORDS in peer.capabilities:
            sizes += [1, 2, 3]
        for size in sizes:
            write(drive, block(size, size))
        drive.rewind()
        for size in sizes:
            assert read(drive, 1 << 20) == (block(size, size), Condition.NONE)
        drive.close(force=False)

    def test_layout_of_one_record_and_a_mark(self, peer: Peer) -> None:
        """5.6 and 5.9 item 3: a shorter record is normal, of a longer one the rest is dropped."""
        drive = peer.open()
        write(drive, bytes(1024))
        assert drive.write_filemarks(1) == Outcome(1)
        for size, count in ((1024, 1024), (2048, 1024), (512, 512)):
            drive.rewind()
            buffer = bytearray(size)
            outcome = drive.read_record(memoryview(buffer), crosses_filemark=False)
            assert outcome == Outcome(count, record_length=1024)
            assert [read(drive, size)[1] for _ in range(2)] == [Condition.FILEMARK] * 2
        drive.close(force=False)

    def test_a_filemark_is_not_passed_or_is(self, peer: Peer) -> None:
        """5.6: version 4 stays on the BOT side, the older ones go to the EOT side."""
        drive = peer.open()
        write(drive, b"aaaa")
        drive.write_filemarks(1)
        write(drive, b"bbbb")
        drive.rewind()
        drive.space_records(1, crosses_filemark=False)
        assert [read(drive) for _ in range(3)] == [(b"", Condition.FILEMARK)] * 3
        assert drive.state().position.file_num == 0
        assert read(drive, crosses=True) == (b"", Condition.FILEMARK)
        assert drive.state().position == Position(1, 0)
        assert read(drive) == (b"bbbb", Condition.NONE)
        drive.close(force=False)

    @pytest.mark.parametrize("crosses", [False, True], ids=["version 4", "versions 2 and 3"])
    def test_the_end_of_data_is_met_again_and_again(self, peer: Peer, crosses: bool) -> None:
        """5.6: blank; 5.9 item 5."""
        drive = peer.open()
        write(drive, b"aaaa")
        assert [read(drive, crosses=crosses) for _ in range(3)] == [(b"", Condition.END_OF_DATA)] * 3
        assert drive.position() == Position(0, 1)
        drive.close(force=False)

    def test_many_records_in_one_call(self, peer: Peer) -> None:
        """Drive.read_records: as many as have this length, lie in a row and fit; then it says what is next."""
        drive = peer.open()
        records = b"".join(block(number, 100) for number in range(20))
        assert drive.write_records(memoryview(records), 100) == Outcome(20)
        write(drive, b"short")
        drive.write_filemarks(1)
        drive.rewind()
        buffer = bytearray(3000)
        done = 0
        while done < 20:
            outcome = drive.read_records(memoryview(buffer)[done * 100 :], 100)
            assert (outcome.condition, outcome.done > 0) == (Condition.NONE, True)
            done += outcome.done
        assert (done, bytes(buffer[:2000])) == (20, records)
        assert drive.read_records(memoryview(buffer), 100)[:2] == (0, Condition.NONE)
        assert read(drive) == (b"short", Condition.NONE)
        assert drive.read_records(memoryview(buffer), 100)[:2] == (0, Condition.FILEMARK)
        drive.close(force=False)

    # --- motion (5.7) and counters (5.8) ------------------------------------------------------------------------

    def test_count_zero_moves_nothing(self, peer: Peer) -> None:
        """5.7: FSF, BSF, FSR, BSR and EOF with count 0."""
        drive = peer.open()
        write(drive, b"aaaa", b"bbbb")
        drive.space_records(-1, crosses_filemark=False)
        outcomes = [drive.space_files(0), drive.space_records(0, crosses_filemark=False), drive.write_filemarks(0)]
        assert outcomes == [Outcome(0)] * 3
        assert drive.position() == Position(0, 1)
        assert read(drive) == (b"bbbb", Condition.NONE)
        drive.close(force=False)

    def test_residuals_at_the_beginning(self, peer: Peer) -> None:
        """5.7, meets BOT; 5.9 item 4."""
        drive = peer.open()
        assert drive.space_records(-100, crosses_filemark=False) == Outcome(0, Condition.BEGINNING)
        assert drive.space_files(-100) == Outcome(0, Condition.BEGINNING)
        drive.write_filemarks(1)
        assert drive.space_files(-100) == Outcome(1, Condition.BEGINNING)
        assert drive.space_files(100) == Outcome(1, Condition.END_OF_DATA)
        assert [read(drive)[1] for _ in range(2)] == [Condition.END_OF_DATA] * 2
        drive.close(force=False)

    def test_residuals_of_a_record_without_a_mark(self, peer: Peer) -> None:
        """5.9 item 6."""
        drive = peer.open()
        drive.rewind()
        write(drive, bytes(512))
        assert drive.space_records(-100, crosses_filemark=False).done == 1
        assert [drive.space_records(100, crosses_filemark=False).done for _ in range(2)] == [1, 0]
        assert drive.space_files(100).done == 0
        drive.close(force=False)

    def test_spacing_over_files_stops_on_the_far_side(self, peer: Peer) -> None:
        """5.7: FSF n to the EOT side of the nth mark, BSF n to the BOT side of the nth one back."""
        drive = peer.open()
        for record in (b"aaaa", b"bbbb", b"cccc"):
            write(drive, record)
            drive.write_filemarks(1)
        drive.rewind()
        assert drive.space_files(2) == Outcome(2)
        assert read(drive) == (b"cccc", Condition.NONE)
        assert drive.space_files(-2) == Outcome(2)
        assert read(drive) == (b"", Condition.FILEMARK)
        assert drive.position().file_num == 0
        assert drive.space_records(-1, crosses_filemark=False) == Outcome(1)
        assert read(drive) == (b"aaaa", Condition.NONE)
        assert drive.space_files(9) == Outcome(3, Condition.END_OF_DATA)
        assert drive.position() == Position(3, 0)
        drive.close(force=False)

    def test_locate(self, peer: Peer) -> None:
        """SSC LOCATE by object, by file and to the end of data; an object that is not there ends at the end."""
        drive = peer.open()
        write(drive, b"aaaa", b"bbbb")
        drive.write_filemarks(1)
        write(drive, b"cccc")
        for number, expected in enumerate([b"aaaa", b"bbbb", b"", b"cccc"]):
            assert drive.locate("object", number) == Outcome(0)
            assert drive.objects() == number
            assert read(drive)[0] == expected
        assert drive.locate("file", 1) == Outcome(0)
        assert drive.position() == Position(1, 0)
        assert drive.locate("end", 0) == Outcome(0)
        assert (drive.position(), drive.objects()) == (Position(1, 1), 4)
        assert drive.locate("object", 0) == Outcome(0)
        assert drive.locate("object", 5).condition is Condition.END_OF_DATA
        assert drive.locate("file", 2).condition is Condition.END_OF_DATA
        assert drive.objects() == 4
        drive.close(force=False)

    @pytest.mark.parametrize("crosses", [False, True], ids=["version 4", "versions 2 and 3"])
    def test_series(self, peer: Peer, crosses: bool) -> None:
        """5.9 item 7: written, read, skipped over in both directions, with file_num and blockno after each step."""
        drive = peer.open()
        for number, (records, size) in enumerate(SERIES):
            for record in range(records):
                write(drive, block(record, size))
                assert drive.state().position == Position(number, record + 1)
            assert drive.write_filemarks(1) == Outcome(1)
            assert drive.state().position == Position(number + 1, 0)
        drive.rewind()
        drive.close(force=False)

        drive = peer.open(TapeMode.READ)
        for number, (records, size) in enumerate(SERIES):
            for record in range(records):
                assert read(drive, size, crosses=crosses) == (block(record, size), Condition.NONE)
                assert drive.state().position == Position(number, record + 1)
            assert read(drive, size, crosses=crosses) == (b"", Condition.FILEMARK)
            if not crosses:
                assert drive.state().position == Position(number, None)
                assert drive.space_files(1) == Outcome(1)
            assert drive.state().position == Position(number + 1, 0)
        drive.rewind()

        for number, (records, size) in enumerate(SERIES):
            drive.rewind()
            assert drive.space_files(number) == Outcome(number)
            assert drive.state().position == Position(number, 0)
            assert drive.space_records(1_000_000, crosses_filemark=crosses) == Outcome(records, Condition.FILEMARK)
            if crosses:
                assert drive.state().position == Position(number + 1, 0)
                assert drive.space_files(-1) == Outcome(1)
                assert drive.state().position == Position(number, None)
            else:
                assert drive.state().position == Position(number, records)
            end = Condition.FILEMARK if number else Condition.BEGINNING
            assert drive.space_records(-1_000_000, crosses_filemark=crosses) == Outcome(records, end)
            if crosses and number:
                assert drive.state().position == Position(number - 1, None)
                assert drive.space_files(1) == Outcome(1)
            assert drive.state().position == Position(number, 0)
            assert drive.space_records(0, crosses_filemark=crosses) == Outcome(0)
            half = records // 2
            assert drive.space_records(half, crosses_filemark=crosses) == Outcome(half)
            assert read(drive, size) == (block(half, size), Condition.NONE)
            if half:
                assert drive.space_records(-2, crosses_filemark=crosses) == Outcome(2)
                assert drive.state().position == Position(number, half - 1)
                assert read(drive, size) == (block(half - 1, size), Condition.NONE)
        drive.close(force=False)
