"""The inventory of the virtual libraries: which cartridge is in which slot or drive.

A cartridge is a file ``<directory>/<barcode>.tap``. The store remembers places; what exists is what lies in the
directory, so at the start the two are reconciled: a file that is new gets a free slot, a place whose file is gone is
dropped. Moves are serialised by one lock per library.
"""

import os
import re
from functools import partial
from typing import Final, Literal

import msgspec
import structlog
import trio

from mover.config import Library
from mover.control.durable import make_file
from mover.control.store import Location, Store, StoreError

SUFFIX: Final = ".tap"
_BARCODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")

log = structlog.get_logger()


Code = Literal["bad-request", "not-found", "busy", "refused", "failed"]


class InventoryError(Exception):
    """A move or a cartridge that cannot be; ``code`` is that of the admin socket's Failed."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code: Code = code


class Cartridge(msgspec.Struct):
    """A cartridge and where it is."""

    barcode: str
    path: str
    where: Location

    def used_bytes(self) -> int:
        """Size of the file; 0 also when it cannot be looked at, because it is gone."""
        try:
            return os.stat(self.path).st_size
        except OSError:
            return 0

    def write_protected(self) -> bool:
        """Whether the file may not be written by anyone: the tab of a virtual cartridge."""
        try:
            return not os.stat(self.path).st_mode & 0o222
        except OSError:
            return False  # gone, and its directory perhaps with it


class LibraryInventory:
    """The cartridges of one library."""

    def __init__(self, library: Library, store: Store) -> None:
        self.library = library
        self._store = store
        self._moving = trio.Lock()
        self.cartridges: dict[str, Cartridge] = {}

    def _path(self, barcode: str) -> str:
        return os.path.join(self.library.directory, barcode + SUFFIX)

    def _free_slots(self) -> list[int]:
        taken = {each.where.number for each in self.cartridges.values() if each.where.element == "slot"}
        return [number for number in range(self.library.slots) if number not in taken]

    def in_drive(self, number: int) -> Cartridge | None:
        """The cartridge in a drive, counted from 0."""
        for cartridge in self.cartridges.values():
            if cartridge.where == ("drive", number):
                return cartridge
        return None

    async def reconcile(self) -> None:
        """Bring places and files together.

        Raises:
            OSError: the directory cannot be read.
            StoreError: the places cannot be read or written.
        """
        known = await self._store.cartridges(self.library.name)
        names = await trio.to_thread.run_sync(os.listdir, self.library.directory)
        present = sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
        for barcode in sorted(known.keys() - set(present)):
            log.warning("cartridge file is gone", library=self.library.name, barcode=barcode)
        self.cartridges.clear()
        for barcode in present:
            where = known.get(barcode)
            if where is not None and where.number < self._elements(where):
                self.cartridges[barcode] = Cartridge(barcode, self._path(barcode), where)
        for barcode in present:
            if barcode in self.cartridges:
                continue
            if not _BARCODE.fullmatch(barcode):
                log.warning("file name is no barcode", library=self.library.name, file=self._path(barcode))
                continue
            free = self._free_slots()
            if not free:
                log.warning("no free slot for cartridge", library=self.library.name, barcode=barcode)
                continue
            self.cartridges[barcode] = Cartridge(barcode, self._path(barcode), Location("slot", free[0]))
            log.info("cartridge adopted", library=self.library.name, barcode=barcode, slot=free[0])
        await self._store.replace_cartridges(
            self.library.name, {barcode: each.where for barcode, each in self.cartridges.items()}
        )

    def _elements(self, where: Location) -> int:
        return self.library.slots if where.element == "slot" else self.library.drives

    async def create(self, barcode: str | None, count: int) -> list[str]:
        """Make cartridges and put them in free slots; returns their barcodes.

        Raises:
            InventoryError: no room, or a barcode that is taken or none.
        """
        async with self._moving:
            if barcode is not None and count != 1:
                raise InventoryError("bad-request", "one barcode names one cartridge")
            if len(self._free_slots()) < count:
                raise InventoryError(
                    "refused", f"{self.library.name} has {len(self._free_slots())} free slots, {count} wanted"
                )
            return [await self._create(self._next_barcode() if barcode is None else barcode) for _ in range(count)]

    async def _create(self, barcode: str) -> str:
        if not _BARCODE.fullmatch(barcode):
            raise InventoryError(
                "bad-request", f"{barcode!r} is no barcode: letters, digits and _ . -, at most 32 characters"
            )
        path = self._path(barcode)
        try:
            await trio.to_thread.run_sync(partial(make_file, path, exclusive=True))
        except FileExistsError:
            raise InventoryError("refused", f"{path} exists already") from None
        except OSError as error:
            raise InventoryError("failed", f"{path}: {error.strerror}") from error
        where = Location("slot", self._free_slots()[0])
        try:
            await self._note(barcode, where)
        except InventoryError:
            os.unlink(path)
            raise
        self.cartridges[barcode] = Cartridge(barcode, path, where)
        return barcode

    def _next_barcode(self) -> str:
        prefix = re.sub(r"[^A-Z0-9]", "", self.library.name.upper())[:4] or "TAPE"
        number = 1
        while f"{prefix}{number:04d}" in self.cartridges or os.path.exists(self._path(f"{prefix}{number:04d}")):
            number += 1
        return f"{prefix}{number:04d}"

    async def load(self, drive: int, barcode: str | None) -> Cartridge:
        """Put a cartridge into a drive: the named one, or the first empty one in a slot, made where there is none.

        Raises:
            InventoryError: the drive is full, or there is no such cartridge in a slot.
        """
        async with self._moving:
            there = self.in_drive(drive)
            name = f"{self.library.name}/drive{drive}"
            if there is not None:
                raise InventoryError("busy", f"{name} already holds {there.barcode}")
            cartridge = self._named(barcode) if barcode is not None else self._scratch()
            if cartridge is None:
                if not self._free_slots():
                    raise InventoryError(
                        "refused", f"{self.library.name} has no empty cartridge and no free slot to make one in"
                    )
                cartridge = self.cartridges[await self._create(self._next_barcode())]
            await self._move(cartridge, Location("drive", drive))
            return cartridge

    def _named(self, barcode: str) -> Cartridge:
        cartridge = self.cartridges.get(barcode)
        if cartridge is None:
            raise InventoryError("not-found", f"{self.library.name} has no cartridge {barcode}")
        if cartridge.where.element == "drive":
            raise InventoryError("busy", f"{barcode} is in {self.library.name}/drive{cartridge.where.number}")
        return cartridge

    def _scratch(self) -> Cartridge | None:
        in_slots = [each for each in self.cartridges.values() if each.where.element == "slot"]
        for cartridge in sorted(in_slots, key=lambda each: each.where.number):
            if os.path.exists(cartridge.path) and not cartridge.used_bytes() and not cartridge.write_protected():
                return cartridge
        return None

    async def unload(self, drive: int) -> Cartridge:
        """Put a drive's cartridge into the first free slot.

        Raises:
            InventoryError: the drive is empty, or no slot is free.
        """
        async with self._moving:
            cartridge = self.in_drive(drive)
            name = f"{self.library.name}/drive{drive}"
            if cartridge is None:
                raise InventoryError("refused", f"{name} is empty")
            free = self._free_slots()
            if not free:
                raise InventoryError("refused", f"{self.library.name} has no free slot for {cartridge.barcode}")
            await self._move(cartridge, Location("slot", free[0]))
            return cartridge

    async def _move(self, cartridge: Cartridge, where: Location) -> None:
        await self._note(cartridge.barcode, where)
        cartridge.where = where

    async def _note(self, barcode: str, where: Location) -> None:
        try:
            await self._store.put_cartridge(self.library.name, barcode, where)
        except StoreError as error:
            raise InventoryError("failed", str(error)) from error
