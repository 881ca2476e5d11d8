"""The index beside a cartridge: when it is believed, what a kill leaves of it, and where it is written."""

import errno
import os
import shutil
import stat
from pathlib import Path

import msgspec
import pytest

from mover.tape.cartridge import Cartridge
from mover.tape.index import Index, write_index
from tests.tape import tap
from tests.tape.cartridges import append, contents, opened


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
