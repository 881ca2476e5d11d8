"""The inventory of the virtual libraries: which cartridge is in which slot, drive or place of the mail slot.

Theory of operation. A cartridge is a file ``<directory>/<barcode>.tap``; one in the mail slot (an import/export
element) lies in ``<directory>/import_export``, where an operator takes it out or puts one in. The store remembers
places; what exists is what lies in the directories, so the two are reconciled at the start and whenever somebody asks:
a file that is new gets a free slot or place of the mail slot, a place whose file is gone is dropped.

Moves are serialised by one lock per library. One between slots and drives is a record in the store and nothing else.
One that takes a file to the other directory is noted as intended first, then the file is renamed, then the move is
recorded: what a crash interrupts is finished at the next start.
"""

import os
import re
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Literal, TypeVar, TypeVarTuple

import msgspec
import structlog
import trio

from mover.config import Library
from mover.control.cartridges import MAIL_DIRECTORY, Cartridge, InventoryError, barcodes_in, cartridge_path, move_file
from mover.control.durable import make_file
from mover.control.looks import look
from mover.control.store import Element, Location, Place, Places, Store, StoreError

_BARCODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

log = structlog.get_logger()


class Found(msgspec.Struct):
    """What an inventory came upon: barcodes that are new, and that are gone.

    Attributes:
        mail: whether any of them was in the mail slot.
    """

    new: list[str]
    gone: list[str]
    mail: bool = False


class LibraryInventory:
    """The cartridges of one library, by barcode."""

    def __init__(self, library: Library, store: Store) -> None:
        self.library = library
        self._store = store
        self._moving = trio.Lock()
        self.cartridges: dict[str, Cartridge] = {}
        self._at: dict[Location, Cartridge] = {}

    def _path(self, barcode: str) -> str:
        return cartridge_path(self.library.directory, barcode, "slot")

    def elements(self, element: Element) -> int:
        """How many elements of this kind the library has."""
        counts = {"slot": self.library.slots, "drive": self.library.drives, "mail": self.library.import_export}
        return counts[element]

    def at(self, where: Location) -> Cartridge | None:
        """The cartridge in an element."""
        return self._at.get(where)

    def in_drive(self, number: int) -> Cartridge | None:
        """The cartridge in a drive, counted from 0, also one that was ejected."""
        return self._at.get(Location("drive", number))

    def _free(self, element: Element) -> list[int]:
        return [number for number in range(self.elements(element)) if Location(element, number) not in self._at]

    def _free_slots(self) -> list[int]:
        """Those first that no cartridge in a drive comes from."""
        homes = self._homes()
        return sorted(self._free("slot"), key=lambda number: (number in homes, number))

    def _homes(self) -> set[int | None]:
        """Slots that the cartridges in drives come from, and are to find free when they go back."""
        return {each.place.home for each in self.cartridges.values() if each.where.element == "drive"}

    def _room(self) -> int:
        """How many cartridges can be made, such that each of those in drives still has a slot to go back to."""
        in_drives = sum(each.where.element == "drive" for each in self.cartridges.values())
        return max(0, len(self._free("slot")) - in_drives)

    def _put(self, cartridge: Cartridge) -> None:
        self.cartridges[cartridge.barcode] = cartridge
        self._at[cartridge.where] = cartridge

    # --- what is there

    async def reconcile(self) -> None:
        """At the start: finish what a crash interrupted, then bring places and files together.

        Raises:
            OSError: a directory cannot be read, or a file cannot be renamed.
            StoreError: the places cannot be read or written.
        """
        if self.library.import_export:
            mail = os.path.join(self.library.directory, MAIL_DIRECTORY)
            try:
                await trio.to_thread.run_sync(partial(os.makedirs, mail, exist_ok=True))
            except OSError as error:  # a directory that is closed to writing is still good to read from
                log.warning("no mail slot", directory=mail, error=error.strerror)
        known = await self._store.cartridges(self.library.name)
        intended = await self._store.intended(self.library.name)
        for barcode, place in intended.items():
            await trio.to_thread.run_sync(self._finish, barcode, place)
            log.warning("interrupted move finished", library=self.library.name, barcode=barcode, to=str(place.where))
        await self._look({**known, **intended}, ())

    def _finish(self, barcode: str, place: Place) -> None:
        """Rename the file of an interrupted move, if that has not been done."""
        target = cartridge_path(self.library.directory, barcode, place.where.element)
        other = cartridge_path(self.library.directory, barcode, "slot" if place.where.element == "mail" else "mail")
        if not os.path.exists(target) and os.path.exists(other):
            move_file(other, target)

    async def _ask(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Look at files of the library. Raises InventoryError: nothing answers there, or not as it should."""
        try:
            return await look(self.library.directory, work, *arguments)
        except OSError as error:
            raise InventoryError("failed", f"{error.filename}: {error.strerror}", "disk") from error

    async def take(self, in_use: Collection[int]) -> Found:
        """Look at the directories again.

        Args:
            in_use: drives that are open: what is in them stays, whatever became of its file.

        Raises:
            InventoryError: a directory cannot be read, or the store refuses.
        """
        async with self._moving:
            known = {barcode: each.place for barcode, each in self.cartridges.items()}
            found = Found([], [])
            try:
                with trio.CancelScope(shield=True):
                    found = await self._look(known, in_use)
            except OSError as error:
                raise InventoryError("failed", f"{error.filename}: {error.strerror}", "disk") from error
            except StoreError as error:
                raise InventoryError("failed", str(error), "disk") from error
            return found

    async def _look(self, known: Places, in_use: Collection[int]) -> Found:
        name, directory = self.library.name, self.library.directory
        inside = await look(directory, barcodes_in, directory)
        mailed: set[str] = set()
        if self.library.import_export:
            with suppress(FileNotFoundError):  # there is no mail slot to look into
                mailed = await look(directory, barcodes_in, os.path.join(directory, MAIL_DIRECTORY))
        for barcode in sorted(inside & mailed):
            log.warning("two cartridges of one barcode", library=name, barcode=barcode)
            twice = known.get(barcode)
            (inside if twice is not None and twice.where.element == "mail" else mailed).discard(barcode)
        open_drives = {Location("drive", number) for number in in_use}
        inside |= {barcode for barcode, place in known.items() if place.where in open_drives}
        found = Found(new=[], gone=sorted(known.keys() - inside - mailed))
        for barcode in found.gone:
            log.warning("cartridge file is gone", library=name, barcode=barcode)
            found.mail |= known[barcode].where.element == "mail"
        before, self.cartridges, self._at = self.cartridges, {}, {}
        for barcode in sorted(inside | mailed):
            place = known.get(barcode)
            if place is None or (place.where.element == "mail") != (barcode in mailed):
                continue
            if place.where.number < self.elements(place.where.element):
                self._put(before.get(barcode) or Cartridge(barcode, directory, place))
        free: dict[Element, list[int]] = {"slot": self._free_slots()[::-1], "mail": self._free("mail")[::-1]}
        for barcode in sorted((inside | mailed) - self.cartridges.keys()):
            element: Literal["slot", "mail"] = "mail" if barcode in mailed else "slot"
            self._adopt(barcode, element, free[element], found)
        await self._store.replace_cartridges(name, {barcode: each.place for barcode, each in self.cartridges.items()})
        return found

    def _adopt(self, barcode: str, element: Literal["slot", "mail"], free: list[int], found: Found) -> None:
        """Find a place for a file that has none: the last of the free ones."""
        path = cartridge_path(self.library.directory, barcode, element)
        if not _BARCODE.fullmatch(barcode):
            log.warning("file name is no barcode", library=self.library.name, file=path)
            return
        if not free:
            log.warning("no free place for cartridge", library=self.library.name, barcode=barcode, element=element)
            return
        where = Location(element, free.pop())
        home = where.number if element == "slot" else None
        self._put(Cartridge(barcode, self.library.directory, Place(where, home, element == "mail")))
        found.new.append(barcode)
        found.mail |= element == "mail"
        log.info("cartridge adopted", library=self.library.name, barcode=barcode, to=str(where))

    async def create(self, barcode: str | None, count: int) -> list[str]:
        """Make cartridges and put them in free slots; returns their barcodes.

        Raises:
            InventoryError: no room, or a barcode that is taken or none.
        """
        async with self._moving:
            if barcode is not None and count != 1:
                raise InventoryError("bad-request", "one barcode names one cartridge")
            if barcode is not None:
                await self._check_new(barcode)
            room, free = self._room(), len(self._free("slot"))
            if room < count:
                kept = f" beside {free - room} of cartridges in drives" if free > room else ""
                raise InventoryError("refused", f"{self.library.name} has {room} free slots{kept}, {count} wanted")
            return [
                await self._create(await self._next_barcode() if barcode is None else barcode) for _ in range(count)
            ]

    async def _check_new(self, barcode: str) -> None:
        """Raise InventoryError where no cartridge can have this barcode, or one has it."""
        if not _BARCODE.fullmatch(barcode):
            raise InventoryError(
                "bad-request", f"{barcode!r} is no barcode: letters, digits and _ . -, at most 32 characters"
            )
        there = self.cartridges.get(barcode)
        path = self._path(barcode) if there is None else there.path
        if there is not None or await self._ask(os.path.lexists, path):
            raise InventoryError("refused", f"{path} exists already")

    async def _create(self, barcode: str) -> str:
        path = self._path(barcode)
        try:
            await trio.to_thread.run_sync(partial(make_file, path, exclusive=True))
        except FileExistsError:
            raise InventoryError("refused", f"{path} exists already") from None
        except OSError as error:
            raise InventoryError("failed", f"{path}: {error.strerror}") from error
        number = self._free_slots()[0]
        place = Place(Location("slot", number), number)
        try:
            await self._note({barcode: place})
        except InventoryError:
            await trio.to_thread.run_sync(os.unlink, path)
            raise
        self._put(Cartridge(barcode, self.library.directory, place))
        return barcode

    async def _next_barcode(self) -> str:
        prefix = re.sub(r"[^A-Z0-9]", "", self.library.name.upper())[:4] or "TAPE"
        return await self._ask(self._first_unused, prefix, set(self.cartridges))

    def _first_unused(self, prefix: str, used: set[str]) -> str:
        number = 1
        while f"{prefix}{number:04d}" in used or os.path.lexists(self._path(f"{prefix}{number:04d}")):
            number += 1
        return f"{prefix}{number:04d}"

    # --- moves

    async def load(self, drive: int, barcode: str | None) -> Cartridge:
        """Put a cartridge into a drive: the named one, or the first empty one in a slot, made where there is none.

        One that was ejected and left in the drive is put away first.

        Raises:
            InventoryError: the drive is full, or there is no such cartridge in a slot.
        """
        async with self._moving:
            there = self.in_drive(drive)
            name = f"{self.library.name}/drive{drive}"
            if there is not None and not there.ejected:
                raise InventoryError("busy", f"{name} already holds {there.barcode}")
            if there is not None and barcode == there.barcode:
                self.thread(there)
                return there
            cartridge = self._named(barcode) if barcode is not None else await self._scratch()
            if there is not None:
                await self._put_away(there)
            if cartridge is None:
                if not self._room():
                    raise InventoryError(
                        "refused", f"{self.library.name} has no empty cartridge and no free slot to make one in"
                    )
                cartridge = self.cartridges[await self._create(await self._next_barcode())]
            await self._carry_out([(cartridge, Location("drive", drive))])
            return cartridge

    @staticmethod
    def thread(cartridge: Cartridge) -> None:
        """A cartridge in a drive is loaded anew, so it stands at BOT."""
        cartridge.loading = secrets.token_hex(8)
        cartridge.ejected = False

    def _named(self, barcode: str) -> Cartridge:
        cartridge = self.cartridges.get(barcode)
        if cartridge is None:
            raise InventoryError("not-found", f"{self.library.name} has no cartridge {barcode}")
        if cartridge.where.element == "drive":
            raise InventoryError("busy", f"{barcode} is in {self.library.name}/drive{cartridge.where.number}")
        return cartridge

    async def _scratch(self) -> Cartridge | None:
        in_slots = [each for each in self.cartridges.values() if each.where.element == "slot"]
        return await self._ask(_first_empty, sorted(in_slots, key=lambda each: each.where.number))

    async def unload(self, drive: int) -> Cartridge:
        """Put a drive's cartridge into the slot it came from, or the first free one.

        Raises:
            InventoryError: the drive is empty, or no slot is free.
        """
        async with self._moving:
            cartridge = self.in_drive(drive)
            if cartridge is None:
                raise InventoryError("refused", f"{self.library.name}/drive{drive} is empty")
            await self._put_away(cartridge)
            return cartridge

    async def _put_away(self, cartridge: Cartridge) -> None:
        free = self._free_slots()
        if not free:
            raise InventoryError("refused", f"{self.library.name} has no free slot for {cartridge.barcode}")
        home = cartridge.place.home
        await self._carry_out([(cartridge, Location("slot", home if home in free and home is not None else free[0]))])

    async def move(self, steps: Sequence[tuple[Location, Location]], *, by_operator: bool) -> list[Cartridge]:
        """Move cartridges from one element to another, all or none; a source empties before anything arrives.

        Cancelled while it waits for its turn it has done nothing; once begun it goes to its end.

        Args:
            by_operator: what comes into the mail slot so was put there by an operator.

        Raises:
            InventoryError: an element is not there, a source is empty or a destination full, or the disk refuses.
        """
        async with self._moving:
            planned = self._plan(steps)
            await self._carry_out(planned, imported=by_operator)
            return [cartridge for cartridge, _ in planned]

    def _plan(self, steps: Sequence[tuple[Location, Location]]) -> list[tuple[Cartridge, Location]]:
        for where in {each for step in steps for each in step}:
            if not 0 <= where.number < self.elements(where.element):
                raise InventoryError("not-found", f"{self.library.name} has no {where}")
        planned = []
        sources = {source for source, _ in steps}
        for source, destination in steps:
            cartridge = self._at.get(source)
            if cartridge is None:
                raise InventoryError("refused", f"{self.library.name}: {source} is empty", "source-empty")
            there = self._at.get(destination)
            if there is not None and destination not in sources:
                text = f"{self.library.name}: {destination} already holds {there.barcode}"
                raise InventoryError("refused", text, "destination-full")
            planned.append((cartridge, destination))
        return planned

    async def _carry_out(self, planned: Sequence[tuple[Cartridge, Location]], *, imported: bool = False) -> None:
        """Rename files where that is needed, record the places, then believe them."""
        places: Places = {}
        renames: list[tuple[str, str]] = []
        for cartridge, where in planned:
            home = where.number if where.element == "slot" else cartridge.place.home
            places[cartridge.barcode] = Place(where, home, imported and where.element == "mail")
            target = cartridge_path(self.library.directory, cartridge.barcode, where.element)
            if target != cartridge.path:
                renames.append((cartridge.path, target))
        with trio.CancelScope(shield=True):
            await self._do(places, renames)
        for cartridge, _ in planned:
            del self._at[cartridge.where]
        for cartridge, where in planned:
            cartridge.place = places[cartridge.barcode]
            self._at[where] = cartridge
            self.thread(cartridge)

    async def _do(self, places: Places, renames: Sequence[tuple[str, str]]) -> None:
        if renames:
            await self._intend(places)
        done: list[tuple[str, str]] = []
        try:
            for source, target in renames:
                await trio.to_thread.run_sync(move_file, source, target)
                done.append((source, target))
            await self._note(places)
        except (OSError, InventoryError) as error:
            await self._take_back(done)
            if isinstance(error, InventoryError):
                raise
            raise InventoryError("failed", f"{error.filename}: {error.strerror}", "disk") from error

    async def _take_back(self, renamed: list[tuple[str, str]]) -> None:
        """A move failed: the files go back, and nothing is intended any more."""
        try:
            for source, target in reversed(renamed):
                await trio.to_thread.run_sync(move_file, target, source)
            await self._store.intend(self.library.name, {})
        except (OSError, StoreError) as error:
            # As after a crash: the intent stands, and the next start finishes what it says.
            log.error("failed move not taken back", library=self.library.name, error=str(error))

    async def _intend(self, places: Places) -> None:
        try:
            await self._store.intend(self.library.name, places)
        except StoreError as error:
            raise InventoryError("failed", str(error), "disk") from error

    async def _note(self, places: Places) -> None:
        try:
            await self._store.put_cartridges(self.library.name, places)
        except StoreError as error:
            raise InventoryError("failed", str(error), "disk") from error


def _first_empty(cartridges: Sequence[Cartridge]) -> Cartridge | None:
    """The first that can be written and holds nothing. Blocks."""
    for cartridge in cartridges:
        if os.path.exists(cartridge.path) and not cartridge.used_bytes() and not cartridge.write_protected():
            return cartridge
    return None
