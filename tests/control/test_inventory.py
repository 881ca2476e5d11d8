"""Cartridges, drives and their leases over a real database and directory."""

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mover.config import Config, Drive, Library
from mover.control.cartridges import InventoryError
from mover.control.drives import Devices, FileDrive
from mover.control.inventory import LibraryInventory
from mover.control.store import Location, open_store
from mover.control.unflushed import Unflushed


@asynccontextmanager
async def inventory(tmp_path: Path, slots: int = 3, drives: int = 2) -> AsyncIterator[LibraryInventory]:
    directory = tmp_path / "tapes"
    directory.mkdir(exist_ok=True)
    library = Library(name="vtl0", directory=str(directory), slots=slots, drives=drives)
    with trio.fail_after(10):
        async with open_store(str(tmp_path / "state")) as store:
            found = LibraryInventory(library, store)
            await found.reconcile()
            yield found


def places(found: LibraryInventory) -> dict[str, Location]:
    return {barcode: cartridge.where for barcode, cartridge in found.cartridges.items()}


async def test_what_moved_is_there_after_a_restart(tmp_path: Path) -> None:
    async with inventory(tmp_path) as found:
        assert await found.create(None, 2) == ["VTL00001", "VTL00002"]
        assert (await found.load(1, "VTL00002")).path == str(tmp_path / "tapes" / "VTL00002.tap")
    async with inventory(tmp_path) as found:
        assert places(found) == {"VTL00001": Location("slot", 0), "VTL00002": Location("drive", 1)}
        assert (await found.unload(1)).barcode == "VTL00002"
        assert places(found)["VTL00002"] == Location("slot", 1)


async def test_files_and_places_are_reconciled(tmp_path: Path) -> None:
    async with inventory(tmp_path) as found:
        await found.create("GONE", 1)
        await found.create("KEPT", 1)
    (tmp_path / "tapes" / "GONE.tap").unlink()
    (tmp_path / "tapes" / "NEW.tap").touch()
    (tmp_path / "tapes" / "no barcode.tap").touch()
    (tmp_path / "tapes" / "other.txt").touch()
    async with inventory(tmp_path) as found:
        assert places(found) == {"KEPT": Location("slot", 1), "NEW": Location("slot", 0)}


async def test_a_smaller_library_moves_what_no_longer_fits(tmp_path: Path) -> None:
    async with inventory(tmp_path) as found:
        await found.create(None, 3)
        await found.load(1, "VTL00003")
    async with inventory(tmp_path, slots=2, drives=1) as found:
        assert places(found) == {"VTL00001": Location("slot", 0), "VTL00002": Location("slot", 1)}


async def test_load_takes_the_first_empty_cartridge_and_makes_one_where_there_is_none(tmp_path: Path) -> None:
    async with inventory(tmp_path) as found:
        await found.create(None, 1)
        (tmp_path / "tapes" / "VTL00001.tap").write_bytes(b"\0\0\0\0")
        assert (await found.load(0, None)).barcode == "VTL00002"
        await found.unload(0)
        assert (await found.load(0, None)).barcode == "VTL00002"


async def test_a_new_cartridge_leaves_those_in_drives_their_slots(tmp_path: Path) -> None:
    async with inventory(tmp_path, slots=4) as found:
        await found.create(None, 3)
        await found.load(0, "VTL00001")
        await found.load(1, "VTL00002")
        with pytest.raises(InventoryError, match="vtl0 has 1 free slots beside 2 of cartridges in drives, 2 wanted"):
            await found.create(None, 2)
        assert await found.create(None, 1) == ["VTL00004"]
        assert places(found)["VTL00004"] == Location("slot", 3)
        for drive, barcode, slot in ((1, "VTL00002", 1), (0, "VTL00001", 0)):
            await found.unload(drive)
            assert places(found)[barcode] == Location("slot", slot)


REFUSED: list[tuple[str, str, Callable[[LibraryInventory], Awaitable[object]]]] = [
    ("busy", "vtl0/drive0 already holds A", lambda found: found.load(0, "B")),
    ("not-found", "vtl0 has no cartridge X", lambda found: found.load(1, "X")),
    ("busy", "A is in vtl0/drive0", lambda found: found.load(1, "A")),
    ("refused", "vtl0/drive1 is empty", lambda found: found.unload(1)),
    ("refused", "vtl0 has 0 free slots beside 1 of cartridges in drives, 1 wanted", lambda found: found.create("Z", 1)),
    ("bad-request", "one barcode names one cartridge", lambda found: found.create("Y", 2)),
    (
        "bad-request",
        "'../x' is no barcode: letters, digits and _ . -, at most 32 characters",
        lambda found: found.create("../x", 1),
    ),
    (
        "bad-request",
        "'' is no barcode: letters, digits and _ . -, at most 32 characters",
        lambda found: found.create("", 1),
    ),
    ("refused", "{directory}/B.tap exists already", lambda found: found.create("B", 1)),
]


@pytest.mark.parametrize(("code", "text", "step"), REFUSED)
async def test_what_cannot_be_is_refused(
    tmp_path: Path, code: str, text: str, step: Callable[[LibraryInventory], Awaitable[object]]
) -> None:
    async with inventory(tmp_path) as found:
        for barcode in ("A", "B", "C"):
            await found.create(barcode, 1)
        await found.load(0, "A")
        before = places(found)
        with pytest.raises(InventoryError) as caught:
            await step(found)
        assert (caught.value.code, str(caught.value)) == (code, text.format(directory=tmp_path / "tapes"))
        assert places(found) == before


async def test_the_drives_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "tapes").mkdir()
    own = tmp_path / "own.tap"
    config = Config(
        library=[Library(name="vtl0", directory=str(tmp_path / "tapes"), start_percent=75, stop_percent=25)],
        drive=[Drive(name="nst0", device=f"virtual:{own}", ring=1 << 24)],
    )
    with trio.fail_after(10):
        async with open_store(str(tmp_path / "state")) as store:
            devices = Devices(config, store)
            await devices.take_inventory()
            assert [bay.name for bay in devices] == ["vtl0/drive0", "vtl0/drive1", "nst0"]
            assert [bay.watermarks for bay in devices] == [(75, 25), (75, 25), (0, 0)]
            assert Drive(name="real", device="/dev/nst0").watermarks() == (50, 0)
            assert devices.find("nst1") is None
            drive = devices.find("nst0")
            assert isinstance(drive, FileDrive)
            assert (drive.path, drive.ring_bytes, drive.barcode) == (str(own), 1 << 24, "")
            assert own.stat().st_size == 0
            loading = drive.spec().loading
            await drive.unload()
            assert drive.path is None
            with pytest.raises(InventoryError, match="no barcodes"):
                await drive.load("A")
            await drive.load(None)
            assert drive.spec().loading != loading
            drive.session_id = 7
            with pytest.raises(InventoryError, match="open in session 7"), drive.moving():
                pass
            assert drive.moves == 0


async def test_a_cartridge_without_write_bits_is_protected(tmp_path: Path) -> None:
    async with inventory(tmp_path) as found:
        await found.create("A", 1)
        assert not found.cartridges["A"].write_protected()
        os.chmod(tmp_path / "tapes" / "A.tap", 0o400)
        assert found.cartridges["A"].write_protected()
        assert (await found.load(0, None)).barcode != "A"  # no scratch cartridge


async def test_a_new_cartridge_and_its_name_are_on_disk_before_it_is_in_the_inventory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    tapes, own = tmp_path / "tapes", tmp_path / "own.tap"
    async with inventory(tmp_path) as found:
        await found.create("A", 1)
        assert synced == [str(tapes / "A.tap"), str(tapes)]
        synced.clear()
        FileDrive(Drive(name="nst0", device=f"virtual:{own}"), str(own), 1 << 24, Unflushed(), "n1").make_cartridge()
        assert synced == [str(own), str(tmp_path)]


async def test_a_cartridge_whose_name_cannot_be_made_durable_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with inventory(tmp_path) as found:
        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(InventoryError, match="Input/output error"):
            await found.create("A", 1)
        assert places(found) == {}
        assert list((tmp_path / "tapes").glob("*.tap")) == []
        monkeypatch.undo()
        assert await found.create("A", 1) == ["A"]
