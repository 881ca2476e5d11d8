"""A recover is successful when it is on disk, and not before."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.data import file_systems
from mover.data.codes import HaltReason, RecoveryStatus
from mover.data.file_systems import FileSystems, FlushFailed, syncfs
from tests.data.recover_runner import name, recover_here
from tests.data.small_stream import listing, small_stream


@pytest.fixture
def shm() -> Iterator[Path]:
    """On another file system than ``tmp_path``, where there is one."""
    with tempfile.TemporaryDirectory(prefix="mover-data-", dir="/dev/shm") as directory:
        yield Path(directory)


def test_every_file_system_is_flushed_once_behind_the_last_object(
    tmp_path: Path, shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[int, int, int]] = []

    def record(fd: int) -> None:
        flushed.append((os.fstat(fd).st_dev, len(listing(tmp_path)), len(listing(shm))))
        syncfs(fd)

    monkeypatch.setattr(file_systems, "syncfs", record)
    outcome = recover_here(small_stream(), [name(tmp_path), name(shm, reported=b"again")])
    assert outcome.finished.reason == HaltReason.SUCCESSFUL
    wanted = {(os.stat(path).st_dev, len(listing(tmp_path)), len(listing(shm))) for path in (tmp_path, shm)}
    assert set(flushed) == wanted
    assert len(flushed) == len(wanted)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_what_cannot_be_written_to_disk_fails_the_recover(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(file_systems, "syncfs", fail)
    outcome = recover_here(small_stream(), [name(tmp_path)])
    assert outcome.finished.reason == HaltReason.INTERNAL_ERROR
    assert outcome.finished.text == f"what was recovered is not all on disk: {os.strerror(error)}"
    assert outcome.status == {b"": RecoveryStatus.IO_ERROR}


def test_nothing_is_flushed_behind_a_broken_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(file_systems, "syncfs", flushed.append)
    outcome = recover_here(small_stream()[:20_000], [name(tmp_path)])
    assert outcome.finished.reason == HaltReason.CONNECT_ERROR
    assert flushed == []


def test_the_call_itself(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    syncfs(fd)
    held = FileSystems()
    held.note(fd, 1)
    held.flush()
    os.close(fd)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)) as caught:
        syncfs(fd)
    assert caught.value.errno == errno.EBADF
    broken = os.open(tmp_path, os.O_PATH)
    held.note(broken, 2)
    with pytest.raises(FlushFailed, match=os.strerror(errno.EBADF)):
        held.flush()
    os.close(broken)
    held.close()
