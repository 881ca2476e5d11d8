"""Cartridges between slots, drives and the mail slot: what is moved, what is refused, and what a crash leaves."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mover.config import Library
from mover.control.cartridges import Cartridge, InventoryError
from mover.control.inventory import Found, LibraryInventory
from mover.control.store import Location, Place, StoreError, open_store


def slot(number: int) -> Location:
    return Location("slot", number)


def drive(number: int) -> Location:
    return Location("drive", number)


def mail(number: int) -> Location:
    return Location("mail", number)


@asynccontextmanager
async def inventory(tmp_path: Path, *barcodes: str) -> AsyncIterator[LibraryInventory]:
    """Four slots, two drives, two places in the mail slot."""
    (tmp_path / "tapes").mkdir(exist_ok=True)
    library = Library(name="vtl0", directory=str(tmp_path / "tapes"), slots=4, drives=2, import_export=2)
    with trio.fail_after(10):
        async with open_store(str(tmp_path / "state")) as store:
            found = LibraryInventory(library, store)
            await found.reconcile()
            for barcode in barcodes:
                await found.create(barcode, 1)
            yield found


def places(found: LibraryInventory) -> dict[str, str]:
    return {barcode: str(each.where) for barcode, each in sorted(found.cartridges.items())}


def files(tmp_path: Path) -> set[str]:
    return {str(path.relative_to(tmp_path / "tapes")) for path in (tmp_path / "tapes").rglob("*.tap")}


async def move(found: LibraryInventory, *steps: tuple[Location, Location], by_operator: bool = False) -> None:
    await found.move(steps, by_operator=by_operator)


async def test_a_cartridge_goes_everywhere_and_its_file_with_it(tmp_path: Path) -> None:
    async with inventory(tmp_path, "A", "B") as found:
        await move(found, (slot(0), drive(1)))
        cartridge = found.at(drive(1))
        assert cartridge is not None
        assert (cartridge.place, cartridge.path) == (Place(drive(1), 0), str(tmp_path / "tapes" / "A.tap"))
        for suffix in ("idx", "idx.cut"):
            (tmp_path / "tapes" / f"A.tap.{suffix}").touch()
        await move(found, (drive(1), mail(1)))
        assert cartridge.place == Place(mail(1), 0)
        assert files(tmp_path) == {"import_export/A.tap", "B.tap"}
        assert not list((tmp_path / "tapes").glob("A.tap*"))
    async with inventory(tmp_path) as found:
        assert places(found) == {"A": "mail1", "B": "slot1"}
        await move(found, (mail(1), slot(3)))
        assert found.cartridges["A"].place == Place(slot(3), 3)
        assert files(tmp_path) == {"A.tap", "B.tap"}


async def test_cartridges_change_places(tmp_path: Path) -> None:
    async with inventory(tmp_path, "A", "B", "C") as found:
        await move(found, (slot(0), mail(0)))
        await move(found, (mail(0), slot(1)), (slot(1), mail(0)))
        assert places(found) == {"A": "slot1", "B": "mail0", "C": "slot2"}
        assert files(tmp_path) == {"A.tap", "import_export/B.tap", "C.tap"}
        await move(found, (slot(2), slot(2)))
    async with inventory(tmp_path) as found:
        assert places(found) == {"A": "slot1", "B": "mail0", "C": "slot2"}


@pytest.mark.parametrize(
    ("code", "why", "text", "steps"),
    [
        ("refused", "source-empty", "vtl0: slot2 is empty", [(slot(2), drive(0))]),
        ("refused", "destination-full", "vtl0: slot1 already holds B", [(slot(0), slot(1))]),
        ("refused", "destination-full", "vtl0: slot1 already holds B", [(slot(0), drive(0)), (drive(1), slot(1))]),
        ("not-found", "", "vtl0 has no mail2", [(slot(0), mail(2))]),
        ("not-found", "", "vtl0 has no drive2", [(drive(2), slot(0))]),
        ("failed", "disk", "{mail}/A.tap: File exists", [(slot(0), mail(0))]),
        ("failed", "disk", "{mail}/A.tap: File exists", [(slot(1), mail(0)), (slot(0), mail(1))]),
    ],
)
async def test_what_cannot_be_moved(
    tmp_path: Path, code: str, why: str, text: str, steps: list[tuple[Location, Location]]
) -> None:
    async with inventory(tmp_path, "A", "B", "C") as found:
        await move(found, (slot(2), drive(1)))
        slot_for_mail = tmp_path / "tapes" / "import_export"
        (slot_for_mail / "A.tap").touch()
        before, there = places(found), files(tmp_path)
        with pytest.raises(InventoryError) as caught:
            await found.move(steps, by_operator=False)
        assert (caught.value.code, caught.value.why, str(caught.value)) == (code, why, text.format(mail=slot_for_mail))
        assert (places(found), files(tmp_path)) == (before, there)
        (slot_for_mail / "A.tap").unlink()
    async with inventory(tmp_path) as found:
        assert places(found) == before


async def test_a_move_that_is_not_recorded_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inventory(tmp_path, "A") as found:

        async def refuse(library: str, places: dict[str, Place]) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(found._store, "put_cartridges", refuse)
        with pytest.raises(InventoryError, match="the disk is full"):
            await move(found, (slot(0), mail(0)))
        assert (places(found), files(tmp_path)) == ({"A": "slot0"}, {"A.tap"})
    async with inventory(tmp_path) as found:
        assert places(found) == {"A": "slot0"}


CRASH = """
import os, signal, sys, trio
from mover.config import Library
from mover.control import inventory, store

directory, state, dies_at = sys.argv[1:]
real = inventory.move_file
renamed = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def move_file(source, target):
    global renamed
    if dies_at == f"before rename {renamed}":
        die()
    real(source, target)
    renamed += 1

async def put(self, library, places):
    die()

async def run():
    async with store.open_store(state) as opened:
        library = Library(name="vtl0", directory=directory, slots=4, drives=2, import_export=2)
        found = inventory.LibraryInventory(library, opened)
        await found.reconcile()
        inventory.move_file = move_file
        store.Store.put_cartridges = put
        at = store.Location
        await found.move([(at("mail", 1), at("slot", 0)), (at("slot", 0), at("mail", 1))], by_operator=False)

trio.run(run)
"""


@pytest.mark.parametrize("dies_at", ["before rename 0", "before rename 1", "before the record"])
async def test_a_crash_between_a_move_on_disk_and_its_record_is_repaired(tmp_path: Path, dies_at: str) -> None:
    async with inventory(tmp_path, "A", "B", "C", "D") as found:
        await move(found, (slot(1), mail(1)))
    process = await trio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-c", CRASH, str(tmp_path / "tapes"), str(tmp_path / "state"), dies_at],
            timeout=60,
            check=False,
        )
    )
    assert process.returncode == -signal.SIGKILL
    async with inventory(tmp_path) as found:
        assert places(found) == {"A": "mail1", "B": "slot0", "C": "slot2", "D": "slot3"}
        assert files(tmp_path) == {"import_export/A.tap", "B.tap", "C.tap", "D.tap"}
        assert await found._store.intended("vtl0") == {}


async def test_where_the_record_was_lost_the_disk_is_right(tmp_path: Path) -> None:
    """A crash of the host may take the last commits with it, or an operator has moved files by hand."""
    async with inventory(tmp_path, "A", "B") as found:
        await move(found, (slot(1), mail(1)))
    os.rename(tmp_path / "tapes" / "A.tap", tmp_path / "tapes" / "import_export" / "A.tap")
    os.rename(tmp_path / "tapes" / "import_export" / "B.tap", tmp_path / "tapes" / "B.tap")
    async with inventory(tmp_path) as found:
        assert places(found) == {"A": "mail0", "B": "slot0"}
        assert found.cartridges["A"].place.imported


async def test_an_inventory_finds_what_was_put_in_and_taken_out(tmp_path: Path) -> None:
    async with inventory(tmp_path, "A", "B", "C") as found:
        await move(found, (slot(0), drive(0)), (slot(1), mail(0)))
        loading = found.cartridges["A"].loading
        for name in ("A.tap", "import_export/B.tap"):
            (tmp_path / "tapes" / name).unlink()
        for name in ("NEW.tap", "import_export/IN.tap", "import_export/C.tap"):
            (tmp_path / "tapes" / name).touch()
        assert await found.take({0}) == Found(new=["IN", "NEW"], gone=["B"], mail=True)
        assert places(found) == {"A": "drive0", "C": "slot2", "IN": "mail0", "NEW": "slot1"}  # slot0 is A's
        assert found.cartridges["A"].loading == loading
        assert found.cartridges["IN"].place == Place(mail(0), None, imported=True)
        assert await found.take(()) == Found(new=[], gone=["A"])
        (tmp_path / "tapes").rename(tmp_path / "elsewhere")
        with pytest.raises(InventoryError, match="No such file or directory"):
            await found.take(())
        assert places(found) == {"C": "slot2", "IN": "mail0", "NEW": "slot1"}  # an unmounted directory empties nothing


async def test_an_ejected_cartridge_is_put_away_or_threaded_again(tmp_path: Path) -> None:
    async with inventory(tmp_path, "A", "B") as found:
        (tmp_path / "tapes" / "A.tap").write_bytes(b"\0\0\0\0")
        cartridge: Cartridge = await found.load(0, "A")
        cartridge.ejected = True
        loading = cartridge.loading
        assert (await found.load(0, "A")).loading != loading
        assert not cartridge.ejected
        cartridge.ejected = True
        assert (await found.load(0, None)).barcode == "B"
        assert (places(found), cartridge.ejected) == ({"A": "slot0", "B": "drive0"}, False)


async def test_a_cartridge_goes_back_to_its_slot_while_that_is_free(tmp_path: Path) -> None:
    async with inventory(tmp_path, "A", "B", "C") as found:
        await found.load(0, "C")
        await found.unload(0)
        assert places(found)["C"] == "slot2"
        await found.load(0, "C")
        await move(found, (slot(0), slot(2)))
        await found.unload(0)
        assert places(found)["C"] == "slot0"


async def test_a_store_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "tapes").mkdir()
    (tmp_path / "tapes" / "A.tap").touch()
    with sqlite3.connect(tmp_path / "state" / "mover.sqlite") as database:
        database.execute(
            "CREATE TABLE cartridge (library TEXT NOT NULL, barcode TEXT NOT NULL, element TEXT NOT NULL CHECK "
            "(element IN ('slot', 'drive')), number INTEGER NOT NULL, PRIMARY KEY (library, barcode)) STRICT"
        )
        database.execute("INSERT INTO cartridge VALUES ('vtl0', 'A', 'drive', 1)")
    database.close()
    for _ in range(2):
        async with inventory(tmp_path) as found:
            assert found.cartridges["A"].place == Place(drive(1))
    with sqlite3.connect(tmp_path / "state" / "mover.sqlite") as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(sqlite3.DatabaseError, match="later version of mover"):
        async with inventory(tmp_path):
            pass
