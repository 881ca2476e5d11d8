"""The labelled cartridges of a running backup: the first one, and at the end of each the next."""

import trio

from mover.dma.cartridge_book import CartridgeBook
from mover.dma.catalogue import Catalogue
from mover.dma.changer import Changer
from mover.dma.drive import write_filemark
from mover.dma.errors import CartridgeError
from mover.dma.jobs import RunningJob
from mover.dma.loader import Loader
from mover.dma.options import Session
from mover.dma.services import set_window
from mover.dma.shelf import Loaded, Shelf
from mover.ndmp.enums import UNBOUNDED
from mover.ndmp.messages import MoverContinueReply, MoverContinueRequest

_in_thread = trio.to_thread.run_sync


def open_shelf(job: RunningJob, session: Session, catalogue: Catalogue) -> Shelf:
    """The shelf of a job as its options have it."""
    changer = Changer(job, session.changer, session.drive_element) if session.changer is not None else None
    return Shelf(Loader(job, changer), CartridgeBook(catalogue), session.wait_s)


class CartridgesUsed:
    """Where a backup lies so far.

    Args:
        number: of the job in the catalogue.
    """

    def __init__(self, job: RunningJob, catalogue: Catalogue, number: int) -> None:
        self.job = job
        self.number = number
        self.shelf = open_shelf(job, job.session, catalogue)
        self.book = self.shelf.book
        self._loaded: list[Loaded] = []
        self._offset = 0  # of the stream, where the present one begins
        self._empty: set[str] = set()  # ids of those that took nothing

    @property
    def names(self) -> list[str]:
        """Of the cartridges with a part of the backup, in order."""
        return [each.cartridge.name for each in self._loaded if each.cartridge.id not in self._empty]

    @property
    def tape_file(self) -> int:
        """That the backup begins with, on the first cartridge that has a part of it."""
        with_a_part = [each for each in self._loaded if each.cartridge.id not in self._empty]
        return (with_a_part or self._loaded)[0].tape_file

    async def begin(self, *, append: bool) -> None:
        """Have the first cartridge in the drive."""
        await self._note(await self.shelf.for_backup(append=append))

    async def go_on(self, bytes_moved: int) -> None:
        """The mover has paused at the end of a cartridge: go on with the next one.

        Args:
            bytes_moved: of the stream, on all cartridges so far.
        """
        full = self._loaded[-1].cartridge
        written = await self._ended(bytes_moved)
        await _in_thread(self.book.filled, full)
        if written:
            await write_filemark(self.job)  # behind early warning a filemark still fits
        await self.job.close_tape()
        self.shelf.loader.say(f"cartridge {full.name} is full with {written} bytes of this backup")
        if not written and len(self._empty) > 1:
            raise CartridgeError(f"cartridge {full.name} takes nothing, as {len(self._empty) - 1} before it")
        loaded = await self.shelf.next_for_backup({each.cartridge.id for each in self._loaded})
        self._offset = bytes_moved
        await self._note(loaded)
        await set_window(self.job.tape, bytes_moved, UNBOUNDED - bytes_moved)
        await self.job.tape.call(MoverContinueRequest(), MoverContinueReply)

    async def end(self, bytes_moved: int) -> None:
        """The backup has ended."""
        await self._ended(bytes_moved)

    async def _note(self, loaded: Loaded) -> None:
        position = len(self._loaded)
        self._loaded.append(loaded)
        await _in_thread(
            self.book.begin_segment, self.number, position, loaded.cartridge, loaded.tape_file, self._offset
        )
        self.shelf.loader.say(f"writing to cartridge {loaded.cartridge.name}, tape file {loaded.tape_file}")

    async def _ended(self, bytes_moved: int) -> int:
        """The present cartridge has its part; how many bytes of the stream that is."""
        written = bytes_moved - self._offset
        if not written:
            self._empty.add(self._loaded[-1].cartridge.id)
        await _in_thread(self.book.end_segment, self.number, len(self._loaded) - 1, written)
        return written
