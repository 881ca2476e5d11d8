"""Cartridge files: the format, torn tails, markers, the index, protection, and a file system that is full."""

import errno
import os
import resource
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.tape.cartridge import PREALLOCATED_BYTES, Cartridge, CartridgeError
from mover.tape.codes import Error
from mover.tape.index import Index, set_aside, write_index
from mover.tape.tape_map import MARKS_MAX, TapeMap
from tests.tape import tap


@pytest.fixture
def path(tmp_path: Path) -> Path:
    cartridge = tmp_path / "a.tap"
    tap.create(cartridge)
    return cartridge


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """No file of this process may grow beyond this: what a full file system looks like to a write."""
    limit = 100_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def append(cartridge: Cartridge, *items: bytes | None, at: tuple[int, int] | None = None) -> None:
    cartridge.cut(*(at or (cartridge.map.marks, cartridge.map.last.records)))
    for item in items:
        if item is None:
            assert cartridge.append_marks(1) == (1, None)
        else:
            assert cartridge.append_records(memoryview(item), len(item)) == (1, None)


def contents(cartridge: Cartridge) -> tap.Tape:
    """Everything on it, read record by record at the places of the map."""
    tape: tap.Tape = []
    for number, file in enumerate(cartridge.map.files):
        if number:
            tape.append(tap.MARK)
        for block in range(file.records):
            buffer = bytearray(70_000)
            length = cartridge.read_record(number, block, memoryview(buffer))
            tape.append(bytes(buffer[:length]))
    return tape


def opened(path: Path, *, writable: bool = True) -> Cartridge:
    return Cartridge(str(path), writable=writable)


def being_written(path: Path) -> None:
    """What a drive leaves beside a cartridge that it writes, and a kill leaves there."""
    with path.open("rb") as file:
        assert set_aside(file.fileno(), str(path), TapeMap())


tapes = st.lists(st.none() | st.binary(min_size=1, max_size=40), max_size=12)


@settings(max_examples=100, deadline=None)
@given(tapes)
def test_what_is_written_is_what_the_format_says(tmp_path_factory: pytest.TempPathFactory, tape: tap.Tape) -> None:
    path = tmp_path_factory.mktemp("tape") / "a.tap"
    tap.create(path)
    cartridge = opened(path)
    append(cartridge, *tape)
    cartridge.close((0, 0), "drive")
    assert tap.read(path) == tape
    for indexed in (True, False):
        if not indexed:
            os.unlink(f"{path}.idx")
        cartridge = opened(path, writable=False)
        assert (cartridge.kept is not None) is indexed
        assert contents(cartridge) == tape
        cartridge.abandon()


def test_many_records_in_one_call(path: Path) -> None:
    """More than one call of writev and readv takes (IOV_MAX), with the pad byte of odd records."""
    for size in (3, 4):
        data = os.urandom(size * 2000)
        cartridge = opened(path)
        cartridge.cut(0, 0)
        assert cartridge.append_records(memoryview(data), size) == (2000, None)
        assert tap.read(path) == [data[at : at + size] for at in range(0, len(data), size)]
        found = bytearray(len(data))
        done = 0
        while done < 2000:
            count = cartridge.read_run(0, done, memoryview(found)[done * size :], size)
            assert count
            done += count
        assert bytes(found) == data
        cartridge.abandon()


@pytest.mark.parametrize("tape", [[b"abc", None, b"defg"], [b"abcd"], [None, b"x" * 9]])
def test_a_tail_torn_at_any_byte_is_cut_back_to_whole_records(tmp_path: Path, tape: tap.Tape) -> None:
    whole = tap.build(tape)
    ends = {len(tap.build(tape[:count])): count for count in range(len(tape) + 1)}
    for size in range(len(whole) + 1):
        path = tmp_path / f"{size}.tap"
        path.write_bytes(whole[:size])
        being_written(path)
        kept = tape[: ends[max(end for end in ends if end <= size)]]
        reader = opened(path, writable=False)
        assert contents(reader) == kept
        assert bool(reader.warning) is (size not in ends)
        reader.close((0, 0), "drive")
        assert path.stat().st_size == size
        writer = opened(path)
        assert bool(writer.warning) is (size not in ends)
        assert contents(writer) == kept
        append(writer, b"next")
        writer.close((0, 0), "drive")
        assert tap.read(path) == [*kept, b"next"]


def test_gaps_and_end_of_medium_and_bad_records_are_known(path: Path) -> None:
    gap, end = b"\xfe\xff\xff\xff", b"\xff\xff\xff\xff"
    bad = b"\x04\0\0\x80" + b"evil" + b"\x04\0\0\x80"
    path.write_bytes(
        tap.build([b"ab"]) + gap + tap.build([b"cd"]) + bad + gap + tap.build([None, b"ef"]) + end + b"junk"
    )
    cartridge = opened(path)
    assert [file.records for file in cartridge.map.files] == [3, 1]
    buffer = memoryview(bytearray(10))
    assert [cartridge.read_record(0, block, buffer) for block in (0, 1)] == [2, 2]
    assert bytes(buffer[:2]) == b"cd"
    with pytest.raises(CartridgeError, match="bad record at byte 24") as caught:
        cartridge.read_record(0, 2, buffer)
    assert caught.value.error == Error.IO
    append(cartridge, b"gh")
    assert contents_of_file(cartridge, 1) == [b"ef", b"gh"]
    cartridge.abandon()


def contents_of_file(cartridge: Cartridge, number: int) -> list[bytes]:
    records = []
    for block in range(cartridge.map.files[number].records):
        buffer = bytearray(100)
        records.append(bytes(buffer[: cartridge.read_record(number, block, memoryview(buffer))]))
    return records


@pytest.mark.parametrize(
    "tail",
    [
        b"\xff\xff\xfe\xff" + b"x" * 20,
        b"\x04\0\0\x10" + b"x" * 20,
        b"\x04\0\0\0abcd\x05\0\0\0",
        b"\0\0\0\x0f" + b"x" * 20,
    ],
    ids=["half gap", "private record", "length words differ", "absurd length"],
)
def test_what_is_not_understood_ends_the_tape_and_is_left_alone(path: Path, tail: bytes) -> None:
    path.write_bytes(tap.build([b"ab"]) + tail)
    cartridge = opened(path)
    assert "byte 10" in cartridge.map.damage
    assert cartridge.map.damage in cartridge.warning
    assert contents(cartridge) == [b"ab"]
    cartridge.close((0, 0), "drive")
    assert path.read_bytes() == tap.build([b"ab"]) + tail
    assert not Path(f"{path}.idx").exists()


def test_a_file_of_zeros_is_not_filemarks_without_end(path: Path) -> None:
    os.truncate(path, 1 << 30)
    cartridge = opened(path, writable=False)
    assert cartridge.map.marks == MARKS_MAX
    assert f"more than {MARKS_MAX} filemarks" in cartridge.warning
    cartridge.abandon()
    assert path.stat().st_size == 1 << 30


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        b"An important letter that somebody named wrongly.\n" * 100,
        b"\x1f\x8b\x08\0 as a compressed one begins, which is a length word too",
        b"\x13\0\0\0 a tape of another kind",
        b"abc",
    ],
    ids=["text", "gzip", "other tape", "short"],
)
def test_a_file_that_is_no_cartridge_is_refused_by_name(path: Path, text: bytes, writable: bool) -> None:
    path.write_bytes(text)
    with pytest.raises(CartridgeError, match=r"a\.tap is no cartridge: .* at byte 0") as caught:
        opened(path, writable=writable)
    assert caught.value.error == Error.IO
    assert path.read_bytes() == text


def test_a_torn_record_is_cut_off_only_where_a_crash_of_ours_has_torn_it(path: Path) -> None:
    torn = tap.build([b"ab", None, b"cd"]) + b"\x09\0\0\0torn"
    path.write_bytes(torn)  # a copy that was interrupted
    being_written(path)
    other = path.with_name("other.tap")
    shutil.copy(path, other)
    shutil.copy(f"{path}.idx.cut", f"{other}.idx.cut")
    for foreign in (other, path):
        if foreign is path:
            os.unlink(f"{path}.idx.cut")
        with pytest.raises(CartridgeError, match=r"nothing beside it says .* `truncate -s 24` cuts it off"):
            opened(foreign)
        reader = opened(foreign, writable=False)
        assert contents(reader) == [b"ab", None, b"cd"]
        assert "its 8 bytes are ignored" in reader.warning
        reader.close((0, 0), "drive")
        assert foreign.read_bytes() == torn
    os.truncate(path, 24)
    assert contents(opened(path)) == [b"ab", None, b"cd"]


def test_what_lies_behind_damage_is_not_destroyed_by_appending(path: Path) -> None:
    before = tap.build([b"ab"]) + b"\x05\0\0\0abcd\x04\0\0\0" + tap.build([b"ef"] * 9)
    path.write_bytes(before)
    cartridge = opened(path)
    with pytest.raises(OSError, match="to write here would destroy what lies behind it"):
        cartridge.cut(0, 1)
    assert path.read_bytes() == before
    append(cartridge, b"label", at=(0, 0))  # the tape begins anew
    cartridge.close((0, 1), "drive")
    assert tap.read(path) == [b"label"]


def test_the_index_of_another_state_is_not_believed(path: Path) -> None:
    cartridge = opened(path)
    append(cartridge, b"ab", None)
    cartridge.close((1, 0), "drive")
    cartridge = opened(path)
    assert cartridge.kept is not None
    assert (cartridge.kept.position, cartridge.kept.holder) == ((1, 0), "drive")
    cartridge.abandon()
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    cartridge = opened(path)
    assert cartridge.kept is None
    cartridge.close((0, 0), "drive")
    index = Path(f"{path}.idx")
    whole = index.read_bytes()
    for at in range(0, len(whole), 7):
        index.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        cartridge = opened(path, writable=False)
        assert cartridge.kept is None
        cartridge.abandon()


@pytest.mark.parametrize("tape", [[b"a" * 100, b"b" * 50], [b"a" * 99], [b"a" * 100, None], [None]])
def test_an_index_is_not_believed_where_the_cartridge_ends_otherwise(path: Path, tape: tap.Tape) -> None:
    """Same file, size and time, as a copy onto it with its times leaves them."""
    cartridge = opened(path)
    append(cartridge, *tape)
    cartridge.close((0, 0), "d0 1")
    status = path.stat()
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    cartridge = opened(path, writable=False)
    assert cartridge.kept is None
    cartridge.abandon()


def test_the_index_goes_before_the_first_change(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cartridge = opened(path)
    append(cartridge, b"ab")
    cartridge.close((0, 0), "drive")
    assert Path(f"{path}.idx").exists()
    cartridge = opened(path)
    synced = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    cartridge.cut(0, 0)
    assert not Path(f"{path}.idx").exists()
    aside = [f"{path}.idx.cut.new", str(path.parent)]
    assert synced == aside  # gone for good, before the cartridge is another one
    append(cartridge, b"ab")
    cartridge.cut(0, 0)
    assert synced == aside
    cartridge.abandon()


def killed(path: Path) -> Path:
    """What a SIGKILL now leaves, as a cartridge of its own."""
    copy = path.parent / "killed" / path.name
    copy.parent.mkdir(exist_ok=True)
    for each in copy.parent.iterdir():
        each.unlink()
    for each in path.parent.glob(f"{path.name}*"):
        shutil.copy2(each, copy.parent)
    return copy


def known(path: Path) -> list[bool]:
    """Of each record, whether it has a checksum, and that all of them hold."""
    cartridge = Cartridge(str(path), writable=False, exclusive=False)
    try:
        assert cartridge.kept is None
        contents(cartridge)
        return [bool(each) for file in cartridge.map.files for each in file.sums]
    finally:
        cartridge.abandon()


def test_a_kill_costs_the_checksums_of_the_new_records_only(path: Path) -> None:
    cartridge = opened(path)
    append(cartridge, b"ab", b"cd", None, b"ef", b"gh")
    cartridge.close((0, 0), "drive")
    cartridge = opened(path)
    cartridge.cut(1, 1)
    assert not Path(f"{path}.idx").exists()
    assert known(killed(path)) == [True] * 3
    append(cartridge, b"ij", at=(1, 1))
    assert known(killed(path)) == [True, True, True, False]
    with killed(path).open("ab") as file:
        file.write(b"\x09\0\0\0torn")
    assert known(path.parent / "killed" / path.name) == [True, True, True, False]
    append(cartridge, b"kl", at=(1, 2))
    append(cartridge, b"xy", at=(0, 1))  # writing over what was set aside
    assert known(killed(path)) == [True, False]
    append(cartridge, b"12", at=(0, 0))
    assert known(killed(path)) == [False]
    cartridge.close((0, 0), "drive")
    assert sorted(each.name for each in path.parent.glob("*.*")) == [path.name, f"{path.name}.idx"]


def test_what_is_set_aside_stays_until_a_close_and_holds_after_a_failure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cartridge = opened(path)
    append(cartridge, b"ab", b"cd")
    cartridge.close((0, 0), "drive")
    cartridge = opened(path)
    cartridge.cut(0, 2)
    os.truncate(path, 4)  # by somebody else
    assert cartridge.append_records(memoryview(b"ef"), 2)[0] == 0
    cartridge.close((0, 2), "drive")
    assert known(path) == []
    path.write_bytes(tap.build([b"ab", b"cd", b"ef"]))
    assert known(path) == [True, True, False]
    again = opened(path)
    again.cut(0, 2)
    replace = os.replace

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)

    monkeypatch.setattr(os, "replace", full)
    append(again, b"gh", at=(0, 1))  # it can be set aside no more, and must not stay either
    monkeypatch.setattr(os, "replace", replace)
    assert known(killed(path)) == [False, False]
    again.close((0, 0), "drive")


def test_an_index_that_cannot_be_written_leaves_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)

    cartridge = opened(path)
    append(cartridge, b"ab")
    monkeypatch.setattr(os, "replace", full)
    cartridge.close((0, 0), "drive")
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.idx.cut"]


_WORD, _FIRST = (4).to_bytes(4, "little"), bytes(8)


@pytest.mark.parametrize(
    "changes",
    [
        {"end": (1 << 64) - 1},
        {"end": -1},
        {"end": 25},
        {"files": [(0, 2, _WORD, (1 << 63).to_bytes(8, "little"), _FIRST, b"")]},
        {"files": [(0, 2, _WORD, bytes(8), (1).to_bytes(8, "little"), b"")]},
        {"files": [(0, 2, bytes(4), bytes(8), _FIRST, b"")]},
        {"files": [(-(1 << 63), 2, _WORD, bytes(8), _FIRST, b"")]},
        {"files": [(0, 2, b"", b"", b"", b"")]},
        {"files": [(0, 0, b"", b"", b"", b""), (1, 0, b"", b"", b"", b"")]},
        {"files": [(0, 2, _WORD * 2, bytes(16), _FIRST * 2, b"")]},
    ],
)
def test_an_index_that_no_cartridge_can_have_is_not_believed(path: Path, changes: dict[str, object]) -> None:
    """Its checksum holds: whoever made it can make that, too."""
    path.write_bytes(tap.build([b"aaaa", b"bbbb"]))
    cartridge = opened(path)
    good = Index.of(cartridge.map, (0, 0), "")
    cartridge.close((0, 0), "")
    with path.open("rb") as file:
        assert write_index(file.fileno(), str(path), msgspec.structs.replace(good, **changes))
    cartridge = opened(path)
    assert cartridge.kept is None
    assert contents(cartridge) == [b"aaaa", b"bbbb"]
    append(cartridge, b"cc", at=(0, 1))
    cartridge.close((0, 0), "")
    assert path.read_bytes() == tap.build([b"aaaa", b"cc"])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("suffix", [".idx", ".idx.cut"])
def test_what_lies_in_the_place_of_an_index_is_not_waited_for_and_not_held_in_memory(path: Path, suffix: str) -> None:
    """A pipe that nobody writes, a directory, and more than a cartridge of this size has in its index."""
    path.write_bytes(tap.build([b"aaaa"]))
    place = Path(f"{path}{suffix}")
    os.mkfifo(place)
    opened(path, writable=False).abandon()
    place.unlink()
    place.mkdir()
    opened(path, writable=False).abandon()
    place.rmdir()
    place.touch()
    os.truncate(place, 1 << 40)
    cartridge = opened(path, writable=False)
    assert contents(cartridge) == [b"aaaa"]
    cartridge.abandon()


def test_an_index_is_not_written_to_where_a_link_leads(path: Path) -> None:
    other = path.with_name("other.tap")
    other.write_bytes(tap.build([b"the only copy"]))
    before = other.read_bytes()
    for suffix in (".idx.new", ".idx.cut.new"):
        Path(f"{path}{suffix}").symlink_to(other)
    cartridge = opened(path)
    append(cartridge, b"aaaa", None)
    cartridge.close((0, 1), "")
    cartridge = opened(path)
    append(cartridge, b"bbbb")
    cartridge.close((0, 1), "")
    assert other.read_bytes() == before
    assert not Path(f"{path}.idx").is_symlink()
    cartridge = opened(path, writable=False)
    assert cartridge.kept is not None
    assert contents(cartridge) == [b"aaaa", None, b"bbbb"]
    cartridge.abandon()


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_the_index_is_as_private_as_its_cartridge(path: Path, mode: int) -> None:
    path.chmod(mode)
    before = os.umask(0)  # as in a worker
    try:
        opened(path).close((0, 0), "drive")
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(f"{path}.idx").stat().st_mode) == mode


def test_one_drive_at_a_time(path: Path) -> None:
    first = opened(path, writable=False)
    with pytest.raises(CartridgeError, match="in use") as caught:
        opened(path)
    assert caught.value.error == Error.DEVICE_BUSY
    first.abandon()
    opened(path).abandon()


def test_no_write_permission_bit_protects_even_from_root(path: Path) -> None:
    path.chmod(0o444)
    with pytest.raises(CartridgeError, match="write protected") as caught:
        opened(path)
    assert caught.value.error == Error.WRITE_PROTECT
    cartridge = opened(path, writable=False)
    assert cartridge.write_protected
    cartridge.abandon()


@pytest.mark.parametrize(("name", "error"), [("none.tap", Error.NO_TAPE_LOADED), (".", Error.IO)])
def test_what_is_no_file(tmp_path: Path, name: str, error: Error) -> None:
    with pytest.raises(CartridgeError, match=str(tmp_path)) as caught:
        opened(tmp_path / name)
    assert caught.value.error == error


def test_a_full_file_system_keeps_whole_records(path: Path, file_size_limit: int) -> None:
    cartridge = opened(path)
    cartridge.cut(0, 0)
    data = os.urandom(200_000)
    written, failure = cartridge.append_records(memoryview(data), 10_000)
    assert failure is not None
    assert failure.errno == errno.EFBIG
    assert written == file_size_limit // 10_008
    assert cartridge.append_marks(1) == (1, None)
    cartridge.close((0, 0), "drive")
    assert tap.read(path) == [*(data[at * 10_000 : (at + 1) * 10_000] for at in range(written)), None]


def test_reserved_space_is_given_back_and_never_seen(path: Path) -> None:
    cartridge = opened(path)
    append(cartridge, b"ab")
    assert path.stat().st_size == 10
    cartridge.close((0, 0), "drive")
    assert path.stat().st_blocks * 512 < PREALLOCATED_BYTES


def test_a_cartridge_that_changed_under_us_is_an_error_not_a_wrong_record(path: Path) -> None:
    cartridge = opened(path)
    append(cartridge, b"abcd", b"efgh", b"ijkl")
    data = bytearray(path.read_bytes())
    data[12] ^= 1
    path.write_bytes(data)
    buffer = memoryview(bytearray(12))
    with pytest.raises(CartridgeError, match="file was changed"):
        cartridge.read_run(0, 0, buffer, 4)
    with pytest.raises(CartridgeError, match="file was changed"):
        cartridge.read_record(0, 1, buffer)
    path.write_bytes(b"")
    with pytest.raises(CartridgeError, match="file was changed"):
        cartridge.read_record(0, 0, buffer)
    cartridge.abandon()


@pytest.mark.parametrize("length", [None, 5, 200])
def test_a_cartridge_that_is_removed_or_cut_under_us_takes_nothing_more(path: Path, length: int | None) -> None:
    """None: removed. What was written is lost: nothing may pretend that it is there."""
    cartridge = opened(path)
    append(cartridge, b"abcd", b"efgh")
    if length is None:
        path.unlink()
    else:
        os.truncate(path, length)
    written, failure = cartridge.append_records(memoryview(b"ijkl"), 4)
    assert (written, type(failure)) == (0, FileNotFoundError if length is None else OSError)
    with pytest.raises(OSError, match=r"removed|changed by somebody else"):
        cartridge.sync()
    cartridge.close((0, 2), "drive")
    assert not Path(f"{path}.idx").exists()
    assert length is None or path.stat().st_size == length


def test_a_cartridge_that_is_removed_behind_the_last_record_is_found_by_its_sync(path: Path) -> None:
    cartridge = opened(path)
    append(cartridge, b"abcd")
    path.unlink()
    with pytest.raises(OSError, match="removed"):
        cartridge.sync()
    cartridge.abandon()


def test_after_a_failed_fsync_nothing_is_promised_any_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells of a lost page once: a second fsync that succeeds is no proof."""
    cartridge = opened(path)
    append(cartridge, b"abcd")
    fsync = os.fsync

    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    assert cartridge.append_marks(1)[1] is not None
    monkeypatch.setattr(os, "fsync", fsync)
    for call in (cartridge.sync, lambda: cartridge.cut(1, 0)):
        with pytest.raises(OSError, match="Input/output error"):
            call()
    cartridge.close((1, 0), "drive")
    assert not Path(f"{path}.idx").exists()


def test_a_torn_tail_that_cannot_be_cut_off_breaks_the_cartridge(
    path: Path, monkeypatch: pytest.MonkeyPatch, file_size_limit: int
) -> None:
    cartridge = opened(path)
    cartridge.cut(0, 0)

    def failing(_: int, __: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "ftruncate", failing)
    written, failure = cartridge.append_records(memoryview(bytes(2 * file_size_limit)), 10_000)
    assert (written, failure and failure.errno) == (file_size_limit // 10_008, errno.EFBIG)
    with pytest.raises(OSError, match="Read-only file system"):
        cartridge.cut(0, written)
    monkeypatch.undo()
    cartridge.close((0, 0), "drive")
    again = opened(path)
    assert "torn" in again.warning
    assert again.map.last.records == written
    again.abandon()


def test_a_position_that_cannot_be_kept_is_not_the_one_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cartridge = opened(path)
    append(cartridge, b"ab", b"cd")
    cartridge.close((0, 2), "drive")
    cartridge = opened(path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    cartridge.close((0, 0), "drive")
    monkeypatch.undo()
    assert known(path) == [True, True]  # which also sees that no position is kept


def test_an_index_is_on_disk_before_it_takes_a_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cartridge = opened(path)
    append(cartridge, b"ab")
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(fd: int) -> None:
        calls.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")
        fsync(fd)

    def noted_replace(source: str, target: str) -> None:
        calls.append(f"replace {os.path.basename(target)}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    cartridge.close((0, 0), "drive")
    assert calls == ["sync a.tap.idx.new", "replace a.tap.idx"]
