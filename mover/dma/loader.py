"""Gets cartridges into the job's drive and out of it: by the changer, or with an operator's hands."""

from typing import Final

import trio

from mover.dma.changer import Changer, OpenChanger
from mover.dma.drive import mtio, open_drive
from mover.dma.elements import Element, ElementKind
from mover.dma.errors import CartridgeError, ChangerError, NdmpError
from mover.dma.jobs import RunningJob
from mover.dma.results import LogLine
from mover.ndmp.enums import ErrorCode, TapeOperation

LOAD_S: Final = 120.0
"""How long a drive may take to thread what the robot has put in."""
LOAD_PAUSE_S: Final = 0.25
_PROTECTED: Final = frozenset({ErrorCode.WRITE_PROTECT_ERR, ErrorCode.PERMISSION_ERR})


class Loader:
    """The hands.

    Args:
        changer: None = an operator's.

    Attributes:
        barcode: of what was loaded last; "" = not known.
    """

    def __init__(self, job: RunningJob, changer: Changer | None) -> None:
        self.job = job
        self.changer = changer
        self.barcode = ""

    def say(self, text: str) -> None:
        """A line for who watches the job."""
        self.job.events.add_log(LogLine("normal", text))

    async def places(self, *, anywhere: bool = False) -> list[Element]:
        """The elements with a cartridge that can be used: the job's drive if it is full, then slots.

        Args:
            anywhere: then other drives, in which an earlier job has left one, and the mail slot, where one is brought.

        Raises:
            NdmpError, ChangerError: the changer cannot be asked.
        """
        assert self.changer is not None
        async with self.changer.opened() as changer:
            elements = await changer.elements()
            drive = changer.drive_of(elements)
        there = [each for each in elements if each.full and each.accessible and each.address != drive.address]
        slots = [each for each in there if each.kind is ElementKind.STORAGE]
        drives = [each for each in there if each.kind is ElementKind.DATA_TRANSFER]
        mail = [each for each in there if each.kind is ElementKind.IMPORT_EXPORT]
        return ([drive] if drive.full else []) + slots + (drives + mail if anywhere else [])

    async def load(self, place: Element, *, write: bool) -> bool:
        """Bring the cartridge of an element into the drive, and open that.

        Returns:
            False: it is not there any more, or cannot be used; that was said.
        """
        try:
            await self._fetch(place)
            await self._open_threaded(write=write)
        except (ChangerError, CartridgeError) as error:
            self.say(str(error))
            return False
        return True

    async def open(self, *, write: bool) -> None:
        """Open the drive with what is in it.

        Raises:
            CartridgeError: there is nothing in it, or nothing that can be written.
            NdmpError: it cannot be opened.
        """
        drive = self.job.session.drive
        try:
            await open_drive(self.job, write=write)
        except NdmpError as error:
            if error.code == ErrorCode.NO_TAPE_LOADED_ERR:
                raise CartridgeError(f"{drive} is empty: load a cartridge") from error
            if error.code in _PROTECTED:
                raise CartridgeError(f"{drive}: cartridge {self.barcode or 'in it'} is write-protected") from error
            raise

    async def _open_threaded(self, *, write: bool) -> None:
        """Open the drive once it has threaded what the robot put in."""
        deadline = trio.current_time() + LOAD_S
        while True:
            try:
                return await self.open(write=write)
            except CartridgeError as error:
                cause = error.__cause__
                threading = isinstance(cause, NdmpError) and cause.code == ErrorCode.NO_TAPE_LOADED_ERR
                if not threading or trio.current_time() >= deadline:
                    raise
            await trio.sleep(LOAD_PAUSE_S)

    async def eject(self) -> None:
        """Have the drive let go of its cartridge, so that a robot or an operator can take it; then it is closed.

        Of a drive that cannot the changer says so when it is to move the cartridge.
        """
        try:
            if not self.job.tape_open:
                await open_drive(self.job, write=False)
            await mtio(self.job, TapeOperation.OFF, 1)
        except NdmpError as error:
            if error.code == ErrorCode.DEVICE_BUSY_ERR:
                raise
        await self.job.close_tape()
        self.barcode = ""

    async def _fetch(self, place: Element) -> None:
        assert self.changer is not None
        async with self.changer.opened() as changer:
            elements = await changer.elements()
            drive = changer.drive_of(elements)
        _check_still_there(elements, place)
        if place.address != drive.address:
            if drive.full:
                _home(changer, elements, drive)  # before the drive lets go of what would have to stay in it
                await self.eject()
            async with self.changer.opened() as changer:
                await self._exchange(changer, place)
        elif not await self._is_threaded():
            async with self.changer.opened() as changer:
                await self._exchange(changer, place)
        self.barcode = place.barcode

    async def _is_threaded(self) -> bool:
        """Whether the drive has its cartridge; False = it was ejected and nobody has taken it."""
        try:
            await open_drive(self.job, write=False)
        except NdmpError as error:
            return error.code != ErrorCode.NO_TAPE_LOADED_ERR
        await self.job.close_tape()
        return True

    @staticmethod
    async def _exchange(changer: OpenChanger, place: Element) -> None:
        """Put the cartridge in the drive back where it came from, and the other one in, or the same one anew."""
        elements = await changer.elements()
        drive = changer.drive_of(elements)
        _check_still_there(elements, place)
        if drive.full:
            home = _home(changer, elements, drive)
            await changer.move(drive, home)
            place = home if place.address == drive.address else place
        await changer.move(place, drive)


def _home(changer: OpenChanger, elements: list[Element], drive: Element) -> Element:
    """The slot for the cartridge in the drive. Raises ChangerError: none is free."""
    free = [each for each in elements if each.kind is ElementKind.STORAGE and not each.full]
    home = [each for each in free if each.address == drive.source] or free
    if not home:
        cartridge = drive.barcode or "the cartridge"
        raise ChangerError(f"{changer.name}: no free slot for {cartridge} in the drive: move one out of the library")
    return home[0]


def _check_still_there(elements: list[Element], place: Element) -> None:
    """Raise CartridgeError where hands or another job have put something else there since it was chosen."""
    there = next((each for each in elements if each.address == place.address), None)
    if there is None or not there.full or there.barcode != place.barcode:
        now = there.barcode or "a cartridge without a barcode" if there is not None and there.full else "nothing"
        raise CartridgeError(f"{place.barcode or 'the cartridge'} is not in element {place.address} any more: {now} is")
