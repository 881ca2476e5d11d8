"""Chooses the cartridges of a job, and makes sure which they are.

Theory of operation. A barcode says which cartridge to fetch, the label in tape file 0 which one it is; nothing is read
or written before the label was read. What is there already is never written over: a backup begins behind the last tape
file of a cartridge of this catalogue, or on one that holds nothing that is needed. That is one with our label and
nothing behind it, one whose backups have all expired, with those that build on them, or a blank one, which gets a label
first. A cartridge with data and no label of ours, or with a label that this catalogue does not know and data behind it,
is left alone, and named.
"""

import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import msgspec
import trio

from mover.dma import tape_label
from mover.dma.cartridge_book import Cartridge, CartridgeBook
from mover.dma.drive import go_to_end
from mover.dma.elements import Element, ElementKind
from mover.dma.errors import CartridgeError
from mover.dma.loader import Loader
from mover.dma.tape_label import Found
from mover.media import Label, LabelError, check_name

LOOK_S: Final = 2.0
"""How often the drive or the changer is looked at while an operator is waited for."""
INSPECTED_MAX: Final = 50
"""Cartridges that are loaded in search of one that can be written."""
CLEANING: Final = "CLN"
"""How barcodes of cleaning cartridges begin."""

_T = TypeVar("_T")
_in_thread = trio.to_thread.run_sync


class Loaded(msgspec.Struct, frozen=True):
    """A cartridge in the open drive, which stands where the next tape file begins."""

    cartridge: Cartridge
    tape_file: int


class Shelf:
    """The cartridges that a job can have.

    Args:
        wait_s: how long an operator is waited for who brings what is missing.
    """

    def __init__(self, loader: Loader, book: CartridgeBook, wait_s: float) -> None:
        self.loader = loader
        self.job = loader.job
        self.book = book
        self.wait_s = wait_s

    # ---- for a backup

    async def for_backup(self, *, append: bool) -> Loaded:
        """A cartridge to begin a backup on; the drive is open behind what is on it.

        Args:
            append: behind the backups on a cartridge that is not full; else only on one that holds nothing needed.

        Raises:
            CartridgeError: there is none.
        """
        return await self._patiently(partial(self._begin, append=append))

    async def next_for_backup(self, used: set[str]) -> Loaded:
        """The next cartridge of a backup that has filled one; the drive is closed.

        Args:
            used: ids of the labels of those that the backup lies on.

        Raises:
            CartridgeError: there is none.
        """
        if self.loader.changer is None:
            await self.loader.eject()
        return await self._patiently(partial(self._scratch, used))

    async def _begin(self, *, append: bool) -> Loaded:
        loaded = await self._appendable() if append else None
        return loaded if loaded is not None else await self._scratch(set())

    async def _appendable(self) -> Loaded | None:
        """A cartridge of the catalogue that takes more, the one labelled last first; None = none is here."""
        if self.loader.changer is None:
            await self.loader.open(write=True)
            return await self._behind_what_is_there()
        needed = await _in_thread(self.book.needed, time.time())
        known = {
            each.barcode: each
            for each in await _in_thread(self.book.cartridges)
            if each.barcode and each.id in needed and not each.full
        }
        places = [each for each in await self.loader.places() if each.barcode in known]
        places.sort(key=lambda each: (each.kind is not ElementKind.DATA_TRANSFER, -known[each.barcode].labelled))
        for place in places:
            if await self.loader.load(place, write=True):
                loaded = await self._behind_what_is_there()
                if loaded is not None:
                    return loaded
        return None

    async def _behind_what_is_there(self) -> Loaded | None:
        """Go behind the last backup on the cartridge in the open drive.

        Returns:
            None, and the drive closed: it is none of ours with backups on it, or has no room.
        """
        found = await tape_label.look(self.job)
        known = await self.known(found)
        if known is not None and not known.full and known.gone is None:
            last = await _in_thread(self.book.last_tape_file, known)
            if last:  # one without a backup on it is for who looks for an empty one
                number = await go_to_end(self.job)
                if number > last:
                    return Loaded(known, number)
                self.loader.say(f"{found} ends in front of tape file {last}, which the catalogue has on it: left alone")
        await self.job.close_tape()
        return None

    async def _scratch(self, used: set[str]) -> Loaded:
        """A cartridge that holds nothing that is needed, with a new label."""
        changer = self.loader.changer
        if changer is None:
            await self.loader.open(write=True)
            return await self._relabel_present(used)
        places = await self._scratch_places(used)
        for place in places[:INSPECTED_MAX]:
            if not await self.loader.load(place, write=True):
                continue
            try:
                return await self._relabel_present(used)
            except CartridgeError as error:
                self.loader.say(str(error))
        raise CartridgeError(
            f"{changer.name}: no cartridge in it can be written ({len(places)} were looked at); put in a blank one, or "
            "label one whose backups nobody needs: mover cartridge label"
        )

    async def _scratch_places(self, used: set[str]) -> list[Element]:
        """Where cartridges are that may hold nothing needed: those that the catalogue knows before all others."""
        needed = await _in_thread(self.book.needed, time.time())
        known = {each.barcode: each for each in await _in_thread(self.book.cartridges) if each.barcode}
        places = [
            each
            for each in await self.loader.places()
            if not each.barcode.startswith(CLEANING)
            and (each.barcode not in known or known[each.barcode].id not in needed | used)
        ]
        return sorted(places, key=lambda each: (each.barcode not in known, each.address))

    async def _relabel_present(self, used: set[str]) -> Loaded:
        """Give the cartridge in the open drive a new label. Raises CartridgeError, and the drive is closed."""
        try:
            found = await tape_label.look(self.job)
            known = await self.audit_scratch(found, used)
            name = found.label.name if found.label is not None else self.loader.barcode or await self._free_name()
            return Loaded(await self.write_label(name, replaces=known), 1)
        except CartridgeError:
            await self.job.close_tape()
            raise

    async def audit_scratch(self, found: Found, used: set[str]) -> Cartridge | None:
        """What the catalogue knows of a cartridge that may be written over. Raises CartridgeError: it may not."""
        if found.blank:
            return None
        where = self.loader.barcode or self.job.session.drive
        if found.label is None:
            raise CartridgeError(f"{where} is {found}: it is not written over")
        known = await self.known(found)
        if known is None:
            if await tape_label.empty_behind_label(self.job):
                return None
            raise CartridgeError(f"{where} is {found}, with data that this catalogue does not know: not written over")
        if known.id in used or known.id in await _in_thread(self.book.needed, time.time()):
            raise CartridgeError(f"{where} is {found}, and backups on it are to be kept")
        # An old copy of the catalogue does not know what was written since.
        noted = await _in_thread(partial(self.book.last_tape_file, known, begun=True))
        if await tape_label.last_tape_file(self.job) > noted:
            raise CartridgeError(f"{where} is {found}, with more on it than this catalogue knows: not written over")
        return known

    # ---- for a recover

    async def for_reading(self, cartridge: Cartridge) -> None:
        """Have this cartridge in the drive, open for reading.

        Raises:
            CartridgeError: it is not here.
        """
        if cartridge.gone is not None:
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(cartridge.gone))
            raise CartridgeError(f"cartridge {cartridge.name} was labelled anew at {since}: this backup is not on it")
        await self._patiently(partial(self._find, cartridge))

    async def _find(self, cartridge: Cartridge) -> None:
        changer = self.loader.changer
        if changer is None:
            await self.loader.open(write=False)
            found = await self._is(cartridge)
            if found is not None:
                raise CartridgeError(f"load cartridge {cartridge.name} into {self.job.session.drive}: {found} is in it")
            return
        wanted = cartridge.barcode or cartridge.name
        places = [each for each in await self.loader.places(anywhere=True) if each.barcode in {wanted, ""}]
        others = []
        for place in sorted(places, key=lambda each: not each.barcode):
            if await self.loader.load(place, write=False):
                found = await self._is(cartridge)
                if found is None:
                    return
                others.append(f"{place.barcode or f'element {place.address}'} is {found}")
        but = f" ({'; '.join(others)})" if others else ""
        raise CartridgeError(f"put cartridge {cartridge.name} into {changer.name}: no {wanted} is in it{but}")

    async def _is(self, cartridge: Cartridge) -> Found | None:
        """None if this cartridge is in the open drive; else what is, and the drive is closed."""
        found = await tape_label.look(self.job)
        if found.label is not None and found.label.id == cartridge.id:
            return None
        await self.job.close_tape()
        return found

    # ---- labels

    async def write_label(self, name: str, *, replaces: Cartridge | None) -> Cartridge:
        """Write a label over whatever is on the cartridge in the open drive, and note that.

        Args:
            replaces: what the catalogue had on it.

        Raises:
            CartridgeError: the name fits no label, or it could not be written.
        """
        try:
            label = Label(check_name(name), os.urandom(16).hex(), int(time.time()))
        except LabelError as error:
            raise CartridgeError(str(error)) from error
        # Noted before: once the old label is written over, whatever comes of it, what was behind it is not there.
        note = partial(
            self.book.labelled, label, self.loader.barcode, replaces=replaces.id if replaces is not None else None
        )
        cartridge = await _in_thread(note)
        await tape_label.write_label(self.job, label)
        return cartridge

    async def known(self, found: Found) -> Cartridge | None:
        """What the catalogue has of a label, and that the changer calls it by this barcode now."""
        if found.label is None:
            return None
        cartridge = await _in_thread(self.book.find, found.label.id)
        barcode = self.loader.barcode
        if cartridge is not None and barcode not in {"", cartridge.barcode}:
            await _in_thread(self.book.seen, cartridge, barcode)
        return cartridge

    async def _free_name(self) -> str:
        """A name for a cartridge that has no barcode."""
        taken = {each.name for each in await _in_thread(self.book.cartridges)}
        number = len(taken) + 1
        while f"M{number:06}" in taken:
            number += 1
        return f"M{number:06}"

    async def _patiently(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Try until an operator has brought what is missing, or the time for that is over."""
        deadline = trio.current_time() + self.wait_s
        told = ""
        while True:
            try:
                return await attempt()
            except CartridgeError as error:
                if trio.current_time() >= deadline:
                    raise
                if str(error) != told:
                    told = str(error)
                    self.loader.say(f"waiting: {told}")
            if self.loader.changer is None:
                await self.loader.eject()  # whoever brings another one can take it
            await trio.sleep(LOOK_S)
