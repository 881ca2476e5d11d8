"""Jobs about cartridges alone: label them, look what is in a changer, list what the catalogue has."""

import time
from functools import partial
from pathlib import Path
from typing import Final

import trio

from mover.dma import tape_label
from mover.dma.cartridge_book import Cartridge, CartridgeBook
from mover.dma.cartridges_used import open_shelf
from mover.dma.catalogue import Catalogue
from mover.dma.changer import Changer
from mover.dma.elements import Element, ElementKind
from mover.dma.errors import CartridgeError, JobError
from mover.dma.events import LogSink
from mover.dma.jobs import ProgressSink, open_job
from mover.dma.options import InventoryOptions, LabelOptions
from mover.dma.results import CartridgeInfo, ElementContents, InventoryResult, LabelledCartridge, LabelResult
from mover.dma.shelf import CLEANING, Shelf

_in_thread = trio.to_thread.run_sync
_KINDS: Final = {
    ElementKind.DATA_TRANSFER: "drive",
    ElementKind.IMPORT_EXPORT: "mail",
    ElementKind.STORAGE: "slot",
}


async def run_label(
    options: LabelOptions, *, progress: ProgressSink | None = None, log: LogSink | None = None
) -> LabelResult:
    """Label cartridges: blank ones and ours that hold nothing needed; with `overwrite` any.

    Raises:
        DmaError: a server, the drive or the changer cannot be used.
        JobError: the changer has no cartridge of a name.
    """
    catalogue = await _in_thread(Catalogue, options.catalogue)
    try:
        async with open_job(options, progress, log) as job:
            labelling = _Labelling(open_shelf(job, options, catalogue), options)
            job.enter("label")
            await labelling.run()
            return LabelResult(labelling.labelled, labelling.refused)
    finally:
        catalogue.close()


class _Labelling:
    def __init__(self, shelf: Shelf, options: LabelOptions) -> None:
        self.shelf = shelf
        self.loader = shelf.loader
        self.options = options
        self.labelled: list[LabelledCartridge] = []
        self.refused: list[str] = []

    async def run(self) -> None:
        names = self.options.names
        if self.loader.changer is None:
            await self.loader.open(write=True)
            await self._label(names[0])
            return
        for place in await self._places(names):
            if await self.loader.load(place, write=True):
                await self._label(place.barcode, blank_only=not names)
            else:
                self.refused.append(f"{place.barcode} cannot be loaded for writing")

    async def _places(self, names: list[str]) -> list[Element]:
        places = [each for each in await self.loader.places() if each.barcode]
        if not names:
            known = {each.barcode for each in await _in_thread(self.shelf.book.cartridges)}
            return [each for each in places if not each.barcode.startswith(CLEANING) and each.barcode not in known]
        missing = sorted(set(names) - {each.barcode for each in places})
        if missing:
            raise JobError(f"{self.options.changer}: no cartridge {', '.join(missing)} in a slot or in the drive")
        return [each for each in places if each.barcode in names]

    async def _label(self, name: str, *, blank_only: bool = False) -> None:
        """Label the cartridge in the open drive, which is closed then."""
        shelf, where = self.shelf, self.loader.barcode or self.options.drive
        known: Cartridge | None = None
        try:
            found = await tape_label.look(shelf.job)
            if blank_only and not found.blank:
                raise CartridgeError(f"{where} is {found}: left alone")
            if self.options.overwrite:
                known = await shelf.known(found)
            else:
                known = await shelf.audit_scratch(found, set())
        except CartridgeError as error:
            self.refused.append(str(error))
        else:
            cartridge = await shelf.write_label(name, replaces=known)
            self.labelled.append(LabelledCartridge(cartridge.name, cartridge.barcode, cartridge.id))
            self.loader.say(f"labelled {cartridge.name}")
        await shelf.job.close_tape()


async def run_inventory(
    options: InventoryOptions, *, progress: ProgressSink | None = None, log: LogSink | None = None
) -> InventoryResult:
    """What is in each element of a changer, as the changer says it.

    Raises:
        DmaError: a server or the changer cannot be used.
    """
    assert options.changer is not None
    catalogue = await _in_thread(Catalogue, options.catalogue)
    try:
        async with open_job(options, progress, log) as job:
            job.enter("inventory")
            async with Changer(job, options.changer, options.drive_element).opened() as changer:
                if options.initialize:
                    await changer.initialize()
                elements = await changer.elements()
        known = await _in_thread(CartridgeBook(catalogue).known, time.time())
    finally:
        catalogue.close()
    cartridges = {each.barcode: each for each in known if each.barcode}
    nothing = CartridgeInfo("", "", 0, full=False, jobs=[], needed=False)
    found = []
    for each in elements:
        its = cartridges.get(each.barcode, nothing) if each.full else nothing
        kind = _KINDS[each.kind]
        found.append(ElementContents(each.address, kind, each.barcode, each.full, its.name, its.jobs, its.needed))
    return InventoryResult(found)


async def run_cartridges(catalogue: Path) -> list[CartridgeInfo]:
    """The cartridges that a catalogue knows. Raises CatalogueError."""
    opened = await _in_thread(partial(Catalogue, catalogue, create=False))
    try:
        return await _in_thread(CartridgeBook(opened).known, time.time())
    finally:
        opened.close()
