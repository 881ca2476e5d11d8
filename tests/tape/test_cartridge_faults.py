"""Cartridges that are protected, on a file system that is full or fails, or changed by others under the drive."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.tape.cartridge import PREALLOCATED_BYTES, CartridgeError
from mover.tape.codes import Error
from tests.tape import tap
from tests.tape.cartridges import append, opened


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """No file of this process may grow beyond this: what a full file system looks like to a write."""
    limit = 100_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
