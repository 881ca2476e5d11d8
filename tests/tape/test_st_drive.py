"""A drive behind the st driver: the contract of a drive on a model of the driver, and what only this driver does."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from mover.ring import Consumer, RingControl, Verdict
from mover.tape.codes import Error, MoverMode, TapeFlag, TapeMode, TapeOperation
from mover.tape.drive import Condition, DriveError, Outcome, Position
from mover.tape.st_device import Option
from mover.tape.st_drive import StDrive
from mover.tape.transport import TakesCommands
from mover.workers.device_messages import DeviceSpec
from mover.workers.messages import Done
from mover.workers.tape_messages import MotionDone, MoveTape, ReadStream
from tests.tape.contract import WHOLE_BYTES, Capability, DriveContract, Peer, contents, read, write
from tests.tape.control import Tape, take
from tests.tape.fake_st import FakeSt

SPEC = DeviceSpec("lto0", "/dev/nst0")


def opened(
    st: FakeSt, mode: TapeMode = TapeMode.RDWR, *, implicit_filemark: bool = True, block_size: int = 0
) -> StDrive:
    spec = DeviceSpec("lto0", "/dev/nst0", "/dev/sg1" if st.sg else "", block_size=block_size)
    return StDrive(
        spec,
        mode,
        implicit_filemark=implicit_filemark,
        opens=st.open,
        opens_sg=lambda _: FakeSg(st),
        sleep=lambda _: None,
    )


class FakeSg:
    """The sg node of the same drive."""

    def __init__(self, st: FakeSt) -> None:
        self.execute = st.execute

    def close(self) -> None:
        """Nothing is held."""


class FakePeer(Peer):
    """A drive behind a model of the driver."""

    capabilities = frozenset(Capability)

    def __init__(self, st: FakeSt) -> None:
        self.st = st

    def open(
        self,
        mode: TapeMode = TapeMode.RDWR,
        *,
        capacity: int = WHOLE_BYTES,
        early_warning: int = 0,
        implicit_filemark: bool = True,
    ) -> StDrive:
        self.st.capacity, self.st.early_warning = capacity, early_warning
        drive = opened(self.st, mode, implicit_filemark=implicit_filemark)
        self.st.loaded = self.st.loaded or mode != TapeMode.RAW
        return drive

    def protect(self) -> None:
        self.st.protected = True

    def empty(self) -> None:
        self.st.loaded = False


class BarePeer(FakePeer):
    """A kernel without sg nodes."""

    faults: ClassVar[dict[str, str]] = {"test_capacity": "the st driver knows no capacity"}


class OddPeer(FakePeer):
    """A drive that does not say where it stands, and is read by commands."""

    capabilities = frozenset(Capability) - {Capability.KNOWS_BLOCKNO}  # the driver sees nothing of them


class Reloading(FakeSt):
    """A drive whose tape is put in again by whoever opens it after an unload."""

    unloaded = False

    def open(self, path: str, writable: bool) -> FakeSt:
        if self.unloaded:
            self.loaded, self.unloaded = True, False
        return super().open(path, writable)

    def close(self) -> None:
        self.unloaded = not self.loaded and "OFFL" in self.calls
        super().close()


MODELS: dict[str, Callable[[], FakeSt]] = {
    "tells": lambda: Reloading(sg=True),
    "tells, in the background": lambda: Reloading(background=True),
    "tells nothing": lambda: Reloading(tells=False),
    "odd": lambda: Reloading(background=True, odd=True),
}


class TestContract(DriveContract):
    """The contract on drives of every kind that the driver meets."""

    @pytest.fixture(params=MODELS, autouse=True)
    def peer(self, request: pytest.FixtureRequest) -> Peer:
        st = MODELS[request.param]()
        peer = OddPeer if st.odd else FakePeer if st.sg else BarePeer
        return peer(st)


# --- opening ----------------------------------------------------------------------------------------------------


def test_another_process_has_it() -> None:
    st = FakeSt()
    st.in_use = True
    with pytest.raises(DriveError, match="lto0") as caught:
        opened(st)
    assert caught.value.error == Error.DEVICE_BUSY


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, Error.PERMISSION), (errno.ENXIO, Error.IO)])
def test_a_node_that_cannot_be_opened(number: int, code: Error) -> None:
    st = FakeSt()
    st.fails = [("open", number)]
    with pytest.raises(DriveError) as caught:
        opened(st)
    assert caught.value.error == code


def test_a_tape_that_is_being_threaded_is_waited_for() -> None:
    st = FakeSt()
    st.not_ready_looks = 3
    opened(st).close(force=False)
    assert st.calls.count("open") == 4


def test_a_drive_that_never_gets_ready_is_empty() -> None:
    st = FakeSt()
    st.not_ready_looks = 1 << 20
    with pytest.raises(DriveError) as caught:
        opened(st)
    assert (caught.value.error, st.in_use) == (Error.NO_TAPE_LOADED, False)


def test_a_driver_that_promises_filemarks_too_early_is_refused_for_writing() -> None:
    st = FakeSt()
    st.option = Option.NOWAIT_EOF
    with pytest.raises(DriveError, match="no-wait-eof"):
        opened(st)
    assert not st.in_use
    opened(st, TapeMode.READ).close(force=False)


def test_a_close_behind_a_read_stays_in_its_file() -> None:
    """MT_ST_SYSV."""
    st = FakeSt()
    st.tape, st.option = [b"a", b"b", None], Option.SYSV
    drive = opened(st, TapeMode.READ)
    read(drive)
    drive.close(force=False)
    assert st.calls[-3:] == ["FSR", "status", "close"]


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
def test_a_write_error_counts_the_records_before_it(background: bool) -> None:
    st = FakeSt(background=background)
    drive = opened(st)
    assert drive.write_records(memoryview(bytes(30)), 10) == Outcome(3)
    st.fails = [("write", errno.EIO)]
    failed = drive.write_records(memoryview(bytes(30)), 10)
    assert (failed.done, failed.condition, failed.error) == (0, Condition.FAILED, Error.IO)
    assert drive.state().flags & TapeFlag.ERROR
    assert drive.position() == Position(None, None)
    assert "rewind first" in drive.write_records(memoryview(bytes(10)), 10).text
    assert drive.close(force=False).error == Error.IO  # the implicit filemark has no place
    assert drive.close(force=True) == Outcome(0)
    assert st.tape == [bytes(10)] * 3  # and none of the driver's own was written


def test_a_tape_that_was_changed_meanwhile_is_not_written_to() -> None:
    st = FakeSt()
    drive = opened(st)
    write(drive, b"a")
    st.tape, st.at = [b"label", None], 0
    st.fails = [("write", errno.EIO)]  # the unit attention
    assert drive.write_records(memoryview(b"b"), 1).error == Error.IO
    for refused in (
        drive.write_filemarks(1),
        drive.space_files(1),
        drive.read_record(memoryview(bytearray(9)), crosses_filemark=False),
    ):
        assert refused.error == Error.IO
    drive.close(force=False)
    drive.close(force=True)
    assert st.tape == [b"label", None]


def test_a_read_error_is_no_end_of_data() -> None:
    st = FakeSt(tells=False)
    st.tape = [b"a", b"b", None]
    drive = opened(st)
    st.fails = [("read", errno.EIO)]
    outcome = drive.read_record(memoryview(bytearray(9)), crosses_filemark=False)
    assert (outcome.condition, outcome.error) == (Condition.FAILED, Error.IO)
    assert read(drive)[1] is Condition.FAILED
    drive.rewind()
    assert read(drive) == (b"a", Condition.NONE)


def test_a_blank_tape_put_in_the_place_of_a_full_one_is_no_end_of_data() -> None:
    st = FakeSt()
    st.tape = [b"a", b"b", None]
    drive = opened(st)
    read(drive)
    st.tape, st.at = [], 0
    assert read(drive)[1] is Condition.FAILED


def test_good_records_before_an_error_are_handed_out_and_then_it_is_told() -> None:
    st = FakeSt()
    st.tape = [b"12", b"34", b"56"]
    drive = opened(st)
    room = bytearray(6)
    take, left = st.read, [None, None]

    def fail_on_the_third(view: memoryview) -> int:
        if not left:
            st.fails = [("read", errno.EIO)]
        else:
            left.pop()
        return take(view)

    st.read = fail_on_the_third  # type: ignore[method-assign]
    assert drive.read_records(memoryview(room), 2)[:2] == (2, Condition.NONE)
    assert (bytes(room[:4]), drive.read_records(memoryview(room), 2).condition) == (b"1234", Condition.FAILED)


def test_a_record_that_the_driver_does_not_take() -> None:
    st = FakeSt()
    drive = opened(st)
    st.fails = [("write", errno.EINVAL)]
    assert drive.write_records(memoryview(b"a"), 1).error == Error.ILLEGAL_ARGS
    write(drive, b"b")
    assert contents(drive) == [b"b", None]


def test_soft_errors_are_counted() -> None:
    st = FakeSt()
    drive = opened(st)
    for _ in range(2):
        st.soft_errors = 3
        write(drive, b"a")
    assert drive.state().soft_errors == 6


# --- records ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("length", [10, 11, 15, 19, 20, 21, 4000])
def test_a_record_longer_than_asked_for(length: int, odd: bool) -> None:
    record = bytes(number % 251 + 1 for number in range(length))
    st = FakeSt(odd=odd)
    st.tape = [record, b"next"]
    drive = opened(st)
    room = bytearray(10)
    assert drive.read_record(memoryview(room), crosses_filemark=False) == Outcome(10, record_length=length)
    assert bytes(room) == record[:10]
    assert read(drive) == (b"next", Condition.NONE)
    assert drive.position() == Position(0, 2)


def test_no_motion_for_a_filemark_that_is_passed_next() -> None:
    """The tape is behind it already: a real one would stop and start twice."""
    st = FakeSt()
    st.tape = [b"a", None, b"b", None]
    drive = opened(st)
    assert [read(drive)[1] for _ in range(3)] == [Condition.NONE, Condition.FILEMARK, Condition.FILEMARK]
    assert drive.space_files(1) == Outcome(1)
    assert read(drive) == (b"b", Condition.NONE)
    assert not {"FSF", "BSF", "FSR", "BSR"} & set(st.calls)


def test_fixed_blocks() -> None:
    st = FakeSt()
    drive = opened(st, block_size=4)
    assert st.block_size == 4
    assert drive.write_records(memoryview(b"aaaabbbbccccdddd"), 8) == Outcome(2)
    assert drive.write_records(memoryview(b"x" * 6), 6).error == Error.ILLEGAL_ARGS
    assert drive.position() == Position(0, 4)
    drive.write_records(memoryview(b"tail"), 4)
    drive.write_filemarks(1)
    drive.rewind()
    room = bytearray(64)
    assert drive.read_record(memoryview(room)[:3], crosses_filemark=True).error == Error.ILLEGAL_ARGS
    assert drive.read_records(memoryview(room), 8).done == 2
    assert drive.read_record(memoryview(room)[:8], crosses_filemark=False) == Outcome(4, record_length=4)
    assert drive.read_record(memoryview(room)[:8], crosses_filemark=False).condition is Condition.FILEMARK
    assert drive.space_records(-5, crosses_filemark=False) == Outcome(5)
    assert drive.state().block_size == 4
    drive.close(force=False)


def test_a_count_beyond_the_command_is_done_in_parts() -> None:
    st = FakeSt()
    st.tape = [b"a", None]
    drive = opened(st)
    assert drive.space_files(0xFFFF_FFFF) == Outcome(1, Condition.END_OF_DATA)


# --- where the tape stands --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tells", [False, True])
def test_a_flush_is_not_taken_for_a_filemark_later(tells: bool) -> None:
    """The driver counts blocks from 0 again behind MTWEOF 0."""
    st = FakeSt(tells=tells)
    drive = opened(st, implicit_filemark=False)
    write(drive, b"a", b"b")
    drive.close(force=False)
    assert st.tape == [b"a", b"b"]
    again = opened(st)
    assert (again.position().blockno, again.objects()) == (None, 2 if tells else None)
    assert read(again)[1] is Condition.END_OF_DATA


def test_a_drive_that_was_left_in_the_midst_by_others() -> None:
    st = FakeSt()
    st.tape = [b"a", None, b"b", b"c", None, b"d"]
    st.at, st.file, st.block = 4, -1, -1
    drive = opened(st)
    assert (drive.position(), drive.objects()) == (Position(None, None), 4)
    assert drive.space_records(-9, crosses_filemark=False) == Outcome(2, Condition.FILEMARK)
    assert read(drive) == (b"b", Condition.NONE)
    assert drive.space_records(9, crosses_filemark=True) == Outcome(1, Condition.FILEMARK)
    assert (drive.objects(), read(drive)) == (5, (b"d", Condition.NONE))
    assert drive.space_files(-9) == Outcome(2, Condition.BEGINNING)
    assert drive.position() == Position(0, 0)


def test_without_a_place_there_is_no_way_back() -> None:
    st = FakeSt(tells=False)
    st.tape = [b"a", b"b", None]
    st.at, st.file, st.block = 1, -1, -1
    drive = opened(st)
    assert "not known" in drive.space_records(-1, crosses_filemark=False).text
    assert drive.rewind() == Outcome(0)
    assert read(drive) == (b"a", Condition.NONE)


def test_back_over_filemarks_a_drive_that_tells_nothing_is_counted_from_the_beginning() -> None:
    """By SPACE backwards tgtd's drive ended in the wrong file, and a record of that one was read as another's."""
    st = FakeSt(tells=False)
    st.tape = [b"a", None, b"b", b"c", None, b"d", None]
    drive = opened(st)
    drive.space_files(3)
    for file, first in ((2, b"d"), (1, b"b")):
        assert drive.space_files(-2) == Outcome(2)
        assert drive.position() == Position(file - 1, None)
        assert drive.space_files(1) == Outcome(1)
        assert read(drive) == (first, Condition.NONE)
        assert drive.space_files(-1) == Outcome(1)
        assert drive.space_files(1) == Outcome(1)
    assert not [call for call in st.calls if call.startswith("BSF")]


# --- commands ---------------------------------------------------------------------------------------------------


def test_commands_go_by_the_sg_node(tmp_path: Path) -> None:
    node = tmp_path / "sg1"
    node.touch()
    for sg_device, takes in (("", False), (str(node), True), (str(tmp_path / "gone"), False)):
        spec = DeviceSpec("lto0", "/dev/nst0", sg_device)
        drive = StDrive(spec, TapeMode.READ, implicit_filemark=True, opens=FakeSt().open)
        assert isinstance(drive, TakesCommands) is takes
        assert ("gone" in drive.warning) is ("gone" in sg_device)
        drive.close(force=False)


@pytest.mark.parametrize("last", ["filemark", "rewind", "unload", "close"])
@pytest.mark.parametrize("met", ["reset", "late write error"])
def test_what_a_command_met_behind_the_driver_is_told(met: str, last: str) -> None:
    """LOG SENSE by the sg node hears of a reset or a late error in the driver's place: the driver never will."""
    st = FakeSt(sg=True)
    drive = opened(st, implicit_filemark=False)
    write(drive, b"aaaa")
    sense = (b"\x70\0\x06" + bytes(9) + b"\x29\0") if met == "reset" else (b"\x71\0\x03" + bytes(9) + b"\x0c\0")
    st.sense.append(sense)
    drive.state()
    assert not st.sense
    operations: dict[str, Callable[[], Outcome]] = {
        "filemark": lambda: drive.write_filemarks(1),
        "rewind": drive.rewind,
        "unload": drive.unload,
        "close": lambda: drive.close(force=False),
    }
    outcome = operations[last]()
    assert (outcome.condition, outcome.error) == (Condition.FAILED, Error.IO)
    assert ("reset" if met == "reset" else "of what was written before") in outcome.text
    assert drive.rewind() == Outcome(0)  # told once
    assert drive.state().total_space is not None


def test_a_reset_behind_a_filemark_is_no_loss() -> None:
    st = FakeSt(sg=True)
    drive = opened(st)
    write(drive, b"aaaa")
    assert drive.write_filemarks(1) == Outcome(1)
    st.sense.append(b"\x70\0\x06" + bytes(9) + b"\x29\0")
    drive.state()
    assert drive.rewind() == Outcome(0)


def test_the_mover_seeks_by_records_of_several_fixed_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = bytes(range(200))
    st = FakeSt()
    st.tape = [b"label", None, *[stream[at : at + 5] for at in range(0, 200, 5)], None]

    def open_st(spec: object, mode: TapeMode, *, implicit_filemark: bool) -> StDrive:
        return opened(st, mode, implicit_filemark=implicit_filemark, block_size=5)

    monkeypatch.setattr("mover.tape.worker.open_drive", open_st)
    ring = RingControl(64, 4)
    with Tape() as tape, Consumer(ring.duplicate()) as consumer:
        tape.open(Path("/dev/nst0"), TapeMode.READ)
        assert tape.ask(MoveTape(TapeOperation.FSF, 1, False), MotionDone).error == Error.NO_ERR
        tape.start(ring, MoverMode.WRITE, 10, window=(0, 200))
        for offset, length in ((0, 20), (150, 10), (25, 3), (190, 10), (5, 60)):
            tape.ask(ReadStream(offset, length), Done)
            assert take(consumer, length) == stream[offset : offset + length]
    ring.conclude(Verdict.BROKEN)
    ring.close()
