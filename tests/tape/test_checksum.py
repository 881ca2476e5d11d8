"""Checksums of records: that one bit is found wherever it is read, what becomes of them, and `verify`."""

import os
import shutil
from binascii import crc32
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.tape.cartridge import Cartridge, CartridgeError
from mover.tape.checksum import UNKNOWN, checksum, continued
from mover.tape.codes import Error, TapeMode
from mover.tape.drive import Condition
from mover.tape.index import read_index
from mover.tape.offline import OfflineError, extract
from mover.tape.verify import Verified, VerifiedFile, verify
from mover.tape.virtual import VirtualDrive
from mover.workers.tape_messages import DriveSpec
from tests.tape import tap

SIZE = 64
RECORDS = [bytes([number]) * SIZE for number in range(8)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cartridge with eight records and a mark, and its index."""
    cartridge = tmp_path / "a.tap"
    tap.create(cartridge)
    drive = opened(cartridge)
    assert drive.write_records(memoryview(b"".join(RECORDS)), SIZE).done == 8
    assert drive.write_filemarks(1).done == 1
    drive.close(force=False)
    return cartridge


def opened(path: Path, mode: TapeMode = TapeMode.RDWR) -> VirtualDrive:
    return VirtualDrive(DriveSpec("vtl0/drive0", str(path), 1 << 40, 0, "1"), mode, implicit_filemark=False)


def flip(path: Path, record: int, *, times_kept: bool) -> None:
    """One bit in the middle of a record; with its times as the disk that lost it leaves them."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[record * (SIZE + 8) + 4 + SIZE // 2] ^= 0x10
    path.write_bytes(data)
    if times_kept:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def sums(path: Path) -> list[list[bool]]:
    """Of each tape file, which records have a checksum."""
    cartridge = Cartridge(str(path), writable=False, exclusive=False)
    cartridge.abandon()
    return [[each != UNKNOWN for each in file.sums] for file in cartridge.map.files]


def counted(found: Verified) -> list[tuple[int, int, int, int]]:
    return [(each.written, each.later, each.unknown, each.damaged) for each in found.files]


def test_the_checksum_is_that_of_the_standard() -> None:
    """RFC 3720 B.4: thirty-two zeros, thirty-two ones, and the usual check."""
    assert checksum(bytes(32)) == 0x8A9136AA
    assert checksum(b"\xff" * 32) == 0x62A8AB43
    assert checksum(memoryview(b"123456789")) == 0xE3069283
    assert checksum(b"") != UNKNOWN


@given(st.binary(max_size=50), st.integers(0, 50))
def test_a_checksum_goes_on(data: bytes, at: int) -> None:
    assert continued(checksum(data[:at]), data[at:]) == checksum(data)


@pytest.mark.parametrize("times_kept", [True, False])
@pytest.mark.parametrize("bad", [0, 5, 7])
def test_a_flipped_bit_is_never_given_as_data(path: Path, bad: int, times_kept: bool) -> None:
    flip(path, bad, times_kept=times_kept)
    drive = opened(path, TapeMode.READ)
    drive.rewind()
    buffer = bytearray(SIZE * 8)
    good = bad
    if good:
        assert drive.read_records(memoryview(buffer), SIZE)[:2] == (good, Condition.NONE)
        assert buffer[: good * SIZE] == b"".join(RECORDS[:good])
    assert drive.position().blockno == bad
    for size in (SIZE * 8, SIZE):
        outcome = drive.read_records(memoryview(buffer)[:size], SIZE)
        assert (outcome.done, outcome.error) == (0, Error.IO)
        assert f"record {bad} of tape file 0, at byte {bad * (SIZE + 8)}, has another checksum" in outcome.text
    for size in (1, SIZE, 2 * SIZE):  # also of a record of which only a part is wanted
        assert drive.read_record(memoryview(buffer)[:size], crosses_filemark=False).error == Error.IO
    assert drive.space_records(1, crosses_filemark=False).done == 1
    if bad < 7:
        assert drive.read_records(memoryview(buffer), SIZE).done == 7 - bad
        assert buffer[: (7 - bad) * SIZE] == b"".join(RECORDS[bad + 1 :])
    drive.close(force=False)
    assert counted(verify(str(path), keep=False)) == [(7, 0, 0, 1)]
    with pytest.raises(OfflineError, match="another checksum"):
        extract(str(path), str(path.parent / "out"), 0)


def test_what_does_not_fit_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mover.tape.cartridge.REST_BYTES", 7)
    path = tmp_path / "a.tap"
    tap.create(path)
    drive = opened(path)
    record = bytes(range(101))
    drive.write_records(memoryview(record), 101)
    drive.rewind()
    buffer = bytearray(3)
    assert drive.read_record(memoryview(buffer), crosses_filemark=False)[:2] == (3, Condition.NONE)
    drive.close(force=False)
    data = bytearray(path.read_bytes())
    data[4 + 100] ^= 1  # its last byte, before the pad
    path.write_bytes(data)
    drive = opened(path, TapeMode.READ)
    assert drive.read_record(memoryview(buffer), crosses_filemark=False).error == Error.IO
    drive.close(force=False)


def test_verify_tells_which_and_goes_on(path: Path) -> None:
    flip(path, 2, times_kept=True)
    flip(path, 6, times_kept=True)
    found = verify(str(path), keep=False)
    assert found.files == [VerifiedFile(0, 8, 6, 0, 0, 2)]
    assert [line.split(": ")[1].split(" of ")[0] for line in found.damages] == ["record 2", "record 6"]
    assert (found.kept, found.warning) == (0, "")


def test_a_copy_keeps_its_checksums(path: Path) -> None:
    copy = path.with_name("b.tap")
    shutil.copyfile(path, copy)
    assert sums(copy) == [[False] * 8, []]
    shutil.copyfile(f"{path}.idx", f"{copy}.idx")
    assert sums(copy) == [[True] * 8, []]
    drive = opened(copy)  # and its index is its own from then on
    assert drive.position().file_num == 0
    drive.close(force=False)
    cartridge = Cartridge(str(copy), writable=False)
    cartridge.abandon()
    assert cartridge.kept is not None
    assert sums(copy) == [[True] * 8, []]


def test_of_a_cartridge_that_others_went_on_writing_those_before_are_known(path: Path) -> None:
    tape = tap.read(path)
    tape[5:5] = [b"short"]
    path.write_bytes(tap.build(tape))
    assert sums(path) == [[True] * 5 + [False] * 4, []]
    assert counted(verify(str(path), keep=False)) == [(5, 0, 4, 0)]


def test_writing_over_forgets_the_old_ones(path: Path) -> None:
    drive = opened(path)
    drive.locate("object", 3)
    drive.write_records(memoryview(b"x" * 2 * SIZE), SIZE)
    drive.close(force=False)
    assert counted(verify(str(path), keep=False)) == [(5, 0, 0, 0)]


def test_a_lost_index_and_checksums_made_later(path: Path) -> None:
    os.unlink(f"{path}.idx")
    assert counted(verify(str(path), keep=False)) == [(0, 0, 8, 0)]
    assert not Path(f"{path}.idx").exists()
    first = verify(str(path), keep=True)
    assert (counted(first), first.kept) == ([(0, 0, 8, 0)], 8)
    second = verify(str(path), keep=True)
    assert (counted(second), second.kept) == ([(0, 8, 0, 0)], 0)
    drive = opened(path)
    drive.locate("object", 6)
    drive.write_records(memoryview(b"y" * SIZE), SIZE)
    drive.close(force=False)
    assert counted(verify(str(path), keep=False)) == [(1, 6, 0, 0)]
    flip(path, 1, times_kept=False)
    assert counted(verify(str(path), keep=False)) == [(1, 5, 0, 1)]


def test_keeping_leaves_the_tape_where_it_stands(path: Path) -> None:
    cartridge = Cartridge(str(path), writable=True)
    assert cartridge.kept is not None
    kept = cartridge.kept
    for file in cartridge.map.files:
        for number in range(file.records):
            file.sums[number] = UNKNOWN
    assert cartridge.close_with_sums()
    assert verify(str(path), keep=True).kept == 8
    cartridge = Cartridge(str(path), writable=True)
    assert cartridge.kept is not None
    assert (cartridge.kept.position, cartridge.kept.holder) == (kept.position, kept.holder)
    cartridge.abandon()


def test_nothing_is_kept_of_a_cartridge_in_use_or_torn(path: Path) -> None:
    drive = opened(path, TapeMode.READ)
    with pytest.raises(OfflineError, match="in use"):
        verify(str(path), keep=True)
    drive.close(force=False)
    with path.open("ab") as file:
        file.write(b"\x04\0\0\0ab")
    with pytest.raises(OfflineError, match=r"torn.*no checksums"):
        verify(str(path), keep=True)
    assert "torn" in verify(str(path), keep=False).warning


def test_an_index_of_the_first_version_is_believed_and_has_none(path: Path) -> None:
    with path.open("rb") as file:
        found = read_index(file.fileno(), str(path))
    assert found is not None
    new = found.contents
    old = (new.end, [each[:5] for each in new.files], new.position, new.holder, new.inode, new.size, new.mtime_ns)
    body = msgspec.msgpack.encode(old)
    Path(f"{path}.idx").write_bytes(b"mover tape index 1\n" + crc32(body).to_bytes(4, "little") + body)
    cartridge = Cartridge(str(path), writable=False, exclusive=False)
    cartridge.abandon()
    assert cartridge.kept is not None
    assert cartridge.kept.position == new.position
    assert sums(path) == [[False] * 8, []]
    assert verify(str(path), keep=True).kept == 8
    assert sums(path) == [[True] * 8, []]


@pytest.mark.parametrize("records", [1 << 60, 9])
def test_an_index_that_lies_is_not_believed(path: Path, records: int) -> None:
    with path.open("rb") as file:
        found = read_index(file.fileno(), str(path))
    assert found is not None
    start, _, *columns = found.contents.files[0]
    lie = msgspec.structs.replace(found.contents, files=[(start, records, *columns), found.contents.files[1]])
    body = msgspec.msgpack.encode(lie)
    Path(f"{path}.idx").write_bytes(b"mover tape index 2\n" + crc32(body).to_bytes(4, "little") + body)
    with path.open("rb") as file:
        assert read_index(file.fileno(), str(path)) is None


tapes = st.lists(st.none() | st.binary(min_size=1, max_size=3), max_size=10)


@settings(max_examples=60, deadline=None)
@given(tapes, tapes)
def test_checksums_are_taken_over_up_to_the_first_difference(
    tmp_path_factory: pytest.TempPathFactory, before: tap.Tape, after: tap.Tape
) -> None:
    path = tmp_path_factory.mktemp("tape") / "a.tap"
    path.write_bytes(tap.build(before))
    verify(str(path), keep=True)
    path.write_bytes(tap.build(after))
    shape_before, shape_after = ([len(item) if item else item for item in tape] for tape in (before, after))
    common = 0
    while common < min(len(before), len(after)) and shape_before[common] == shape_after[common]:
        common += 1
    expected = [place < common for place, item in enumerate(after) if item is not None]
    assert [each for file in sums(path) for each in file] == expected


def test_a_record_costs_no_more_than_24_bytes_in_memory(path: Path) -> None:
    cartridge = Cartridge(str(path), writable=True)
    cartridge.cut(0, 0)
    for number in range(200):
        size = 1 + number % 2  # no two neighbours alike: the most a record can take
        assert cartridge.append_records(memoryview(b"ab")[:size], size) == (1, None)
    _, _, *columns = cartridge.map.last.dump()
    assert [len(column) for column in columns] == [4 * 200, 8 * 200, 8 * 200, 4 * 200]
    cartridge.abandon()


def test_only_an_unflagged_record_is_good(path: Path) -> None:
    bad = b"\x02\0\0\x80" + b"no" + b"\x02\0\0\x80"
    path.write_bytes(bad + tap.build([b"yes"]))
    found = verify(str(path), keep=True)
    assert (counted(found), found.kept) == ([(0, 0, 1, 1)], 1)
    cartridge = Cartridge(str(path), writable=False)
    with pytest.raises(CartridgeError, match="bad record"):
        cartridge.read_record(0, 0, memoryview(bytearray(9)))
    cartridge.abandon()
