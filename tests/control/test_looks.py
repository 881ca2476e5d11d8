"""Looks at file systems that have died: nothing else waits for them, and who asked is told."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from mover.config import Drive, Library
from mover.control import inventory, looks, unflushed
from mover.control.cartridges import InventoryError, barcodes_in
from mover.control.drives import FileDrive
from mover.control.handlers.config import _fs_infos
from mover.control.inventory import LibraryInventory
from mover.control.looks import THREADS_OF_ONE, look
from mover.control.refusal import Refusal
from mover.control.registry import VolumeKey
from mover.control.scsi_target import write_protected
from mover.control.store import open_store
from mover.control.unflushed import Unflushed
from mover.control.volumes import Volume
from mover.ndmp.enums import ErrorCode

DEADLINE_S = 60.0
BRIEF_S = 0.1


class Dead:
    """A place where calls hang, until it is back."""

    def __init__(self) -> None:
        self._back = threading.Event()
        self._entered = threading.Semaphore(0)

    def call(self, *_: object) -> None:
        self._entered.release()
        assert self._back.wait(DEADLINE_S)

    def calls(self) -> int:
        """How many there have been since this was asked."""
        count = 0
        while self._entered.acquire(blocking=False):
            count += 1
        return count

    def hang(self, call: Callable[..., object]) -> Callable[..., object]:
        """The same call, there."""

        def hanging(*arguments: object, **keywords: object) -> object:
            self.call()
            return call(*arguments, **keywords)

        return hanging

    def come_back(self) -> None:
        self._back.set()


@pytest.fixture
def dead() -> Iterator[Dead]:
    made = Dead()
    yield made
    made.come_back()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "LOOK_S", BRIEF_S)


async def test_what_answers_is_returned() -> None:
    assert await look("/somewhere", divmod, 7, 2) == (3, 1)
    with pytest.raises(FileNotFoundError):
        await look("/somewhere", os.stat, "/somewhere/nowhere")


async def test_what_does_not_answer_is_left_behind(dead: Dead, brief: None, tmp_path: Path) -> None:
    for _ in range(THREADS_OF_ONE + 2):
        with trio.fail_after(DEADLINE_S), pytest.raises(TimeoutError) as raised:
            await look(str(tmp_path), dead.call)
        assert (raised.value.filename, raised.value.strerror) == (str(tmp_path), f"does not answer for {BRIEF_S:g} s")
    assert dead.calls() == THREADS_OF_ONE


async def test_another_place_is_not_held_up(dead: Dead, tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(look, str(tmp_path / "dead"), dead.call)
            await trio.testing.wait_all_tasks_blocked()
            assert await look(str(tmp_path / "alive"), divmod, 7, 2) == (3, 1)
            await trio.to_thread.run_sync(dead.come_back)  # nor is anybody else's thread


async def test_a_library_on_a_dead_mount_is_told_of_and_used_again(
    dead: Dead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "tapes"
    directory.mkdir()
    library = Library(name="vtl0", directory=str(directory), slots=3, drives=1)
    with trio.fail_after(DEADLINE_S):
        async with open_store(str(tmp_path / "state")) as store:
            found = LibraryInventory(library, store)
            await found.reconcile()
            await found.create("A", 1)
            with monkeypatch.context() as patch:
                patch.setattr(looks, "LOOK_S", BRIEF_S)
                patch.setattr(inventory, "barcodes_in", dead.hang(barcodes_in))
                patch.setattr(inventory, "_first_empty", dead.hang(inventory._first_empty))
                for ask in (found.take(()), found.load(0, None)):
                    with pytest.raises(InventoryError, match=f"{directory}.*does not answer") as raised:
                        await ask
                    assert (raised.value.code, raised.value.why) == ("failed", "disk")
            dead.come_back()
            assert (await found.take(())).gone == []
            assert (await found.load(0, None)).barcode == "A"


async def test_a_drive_whose_cartridge_does_not_answer(
    dead: Dead, brief: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.tap"
    own.touch()
    bay = FileDrive(Drive(name="nst0", device=f"virtual:{own}"), str(own), 1 << 24, Unflushed(), "n1")
    monkeypatch.setattr(unflushed, "_was_not_closed", dead.call)
    monkeypatch.setattr("mover.control.drives.is_protected", dead.call)
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(TimeoutError):
            await bay.is_opened()
        with pytest.raises(Refusal, match=f"nst0: {tmp_path} does not answer") as raised:
            await write_protected(bay)
    assert raised.value.error == ErrorCode.IO_ERR


async def test_a_volume_that_does_not_answer_is_offline(
    dead: Dead, brief: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statvfs = os.statvfs

    def look_at(directory: str) -> os.statvfs_result:
        if directory.endswith("dead"):
            dead.call()
        return statvfs(directory)

    monkeypatch.setattr(os, "statvfs", look_at)
    volumes = [Volume(os.fsencode(tmp_path / "dead"), str(tmp_path / "dead"), VolumeKey("", "dead"))]
    with trio.fail_after(DEADLINE_S):
        (info,) = await _fs_infos(volumes, ())
    assert info.fs_logical_device == os.fsencode(tmp_path / "dead")
    assert info.fs_status == f"offline: does not answer for {BRIEF_S:g} s".encode()
