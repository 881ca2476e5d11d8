"""The changer over a real inventory: what the robot says of failures, and who is told what."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mover import scsi
from mover.config import Config, Library, Node
from mover.control.cartridges import InventoryError
from mover.control.changer import LibraryChanger, address_of
from mover.control.drives import Devices
from mover.control.store import Location, open_store

SLOT, MAIL, DRIVE = Location("slot", 0), Location("mail", 0), Location("drive", 0)
READY, LOOK = bytes(6), bytes.fromhex("07 00 00 00 00 00")


@asynccontextmanager
async def changer(tmp_path: Path) -> AsyncIterator[LibraryChanger]:
    """Two slots, a drive, a place in the mail slot; the cartridge A in slot 0; open in session 7."""
    (tmp_path / "tapes").mkdir()
    library = Library(name="vtl0", directory=str(tmp_path / "tapes"), slots=2, drives=1, import_export=1)
    config = Config(node=Node(name="n1"), library=[library])
    with trio.fail_after(10):
        async with open_store(str(tmp_path / "state")) as store:
            devices = Devices(config, store)
            await devices.take_inventory()
            found = devices.changers["vtl0"]
            await found.inventory.create("A", 1)
            found.session_id = 7
            yield found


async def ends(found: LibraryChanger, cdb: bytes) -> scsi.Answer:
    return await found.execute(cdb, b"", owner=True)


def move(source: Location, destination: Location) -> bytes:
    return b"\xa5\0\0\0" + b"".join(address_of(each).to_bytes(2, "big") for each in (source, destination)) + bytes(4)


@pytest.mark.parametrize("address", [0, 1, 2, 0x100, 0x101, 0x102, 0x1FF, 0x200, 0x201, 0x202])
async def test_addresses_are_those_of_elements(tmp_path: Path, address: int) -> None:
    async with changer(tmp_path) as found:
        where = found.location(address)
        assert where is None or address_of(where) == address
        assert (where is None) == (address not in {1, 0x101, 0x200, 0x201})


async def test_what_the_disk_refuses_is_a_fault_of_the_robot(tmp_path: Path) -> None:
    async with changer(tmp_path) as found:
        in_the_way = tmp_path / "tapes" / "import_export" / "A.tap"
        in_the_way.touch()
        assert await ends(found, move(SLOT, MAIL)) == scsi.refusal(scsi.Fault.MOTION_FAILED)
        in_the_way.unlink()
        (tmp_path / "tapes").rename(tmp_path / "elsewhere")
        assert await ends(found, LOOK) == scsi.refusal(scsi.Fault.MOTION_FAILED)
        (tmp_path / "elsewhere").rename(tmp_path / "tapes")
        assert await ends(found, LOOK) == scsi.Answer()
        assert await ends(found, move(SLOT, MAIL)) == scsi.Answer()


async def test_a_drive_that_is_open_keeps_its_cartridge(tmp_path: Path) -> None:
    async with changer(tmp_path) as found:
        (bay,) = found.bays
        bay.session_id = 9
        assert await ends(found, move(SLOT, DRIVE)) == scsi.refusal(scsi.Fault.LOAD_FAILED)
        bay.session_id = None
        assert await ends(found, move(SLOT, DRIVE)) == scsi.Answer()
        bay.session_id = 9
        assert await ends(found, move(DRIVE, SLOT)) == scsi.refusal(scsi.Fault.REMOVAL_PREVENTED)
        with pytest.raises(InventoryError, match="vtl0/drive0 is open in session 9"):
            await found.operator_moves(DRIVE, SLOT)
        bay.session_id = None
        assert await ends(found, move(DRIVE, SLOT)) == scsi.Answer()
        assert bay.moves == 0


async def test_who_has_the_changer_is_told_of_what_operators_do(tmp_path: Path) -> None:
    async with changer(tmp_path) as found:
        changed, imported = (
            scsi.refusal(fault) for fault in (scsi.Fault.MEDIUM_CHANGED, scsi.Fault.IMPORT_EXPORT_ACCESSED)
        )
        (bay,) = found.bays
        await bay.load("A")
        assert await ends(found, READY) == changed
        await bay.unload()
        await found.operator_moves(SLOT, MAIL)
        assert [await ends(found, READY) for _ in range(3)] == [changed, imported, scsi.Answer()]
        await found.operator_looks()
        assert await ends(found, READY) == scsi.Answer()  # nothing has changed
        found.session_id = None
        found.closed()
        await found.operator_moves(MAIL, SLOT)
        found.session_id = 8
        assert await ends(found, READY) == scsi.Answer()  # a new owner knows nothing old
