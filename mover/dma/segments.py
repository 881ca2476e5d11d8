"""Where a recover's image lies: one tape file of the cartridge in the drive, or segments on labelled cartridges."""

from typing import Final, Protocol

from mover.dma.cartridge_book import Segment
from mover.dma.drive import go_to_file, open_drive
from mover.dma.jobs import RunningJob
from mover.dma.shelf import Shelf
from mover.ndmp.enums import UNBOUNDED

Window = tuple[int, int]
"""Offset and length of the mover's window."""
WHOLE: Final[Window] = (0, UNBOUNDED)


class TapeSource(Protocol):
    """What a recover reads; its text says which."""

    async def open(self) -> Window:
        """Open the drive where the image begins; the mover's first window."""
        ...

    async def go_to(self, offset: int) -> Window | None:
        """Open the drive where another part of the image begins, that with this byte; None = there is none."""
        ...


class TapeFileSource:
    """One tape file of whatever cartridge is in the drive."""

    def __init__(self, job: RunningJob, tape_file: int) -> None:
        self.job = job
        self.tape_file = tape_file

    def __str__(self) -> str:
        return f"tape file {self.tape_file}"

    async def open(self) -> Window:
        """See TapeSource."""
        await open_drive(self.job, write=False)
        await go_to_file(self.job, self.tape_file)
        return WHOLE

    async def go_to(self, offset: int) -> Window | None:
        """See TapeSource: all of it is here."""
        return None


class SegmentSource:
    """Segments on labelled cartridges, each fetched when its bytes are wanted.

    Args:
        segments: at least one, in the order of the stream.
    """

    def __init__(self, shelf: Shelf, segments: tuple[Segment, ...]) -> None:
        self.shelf = shelf
        self.job = shelf.job
        self.segments = segments
        self._present = -1

    def __str__(self) -> str:
        here = self.segments[self._present]
        return f"tape file {here.tape_file} of cartridge {here.cartridge.name}"

    async def open(self) -> Window:
        """See TapeSource."""
        return await self._open(0)

    async def go_to(self, offset: int) -> Window | None:
        """See TapeSource."""
        for number, each in enumerate(self.segments):
            if each.offset <= offset < each.offset + each.bytes and number != self._present:
                await self.job.close_tape()
                return await self._open(number)
        return None

    async def _open(self, number: int) -> Window:
        segment = self.segments[number]
        await self.shelf.for_reading(segment.cartridge)
        self.shelf.loader.say(f"reading cartridge {segment.cartridge.name}, tape file {segment.tape_file}")
        await go_to_file(self.job, segment.tape_file, rewind=True)
        self._present = number
        # The last one's end is the tape file's: what was padded there is no part of the stream.
        if number < len(self.segments) - 1:
            return segment.offset, segment.bytes
        return segment.offset, UNBOUNDED - segment.offset  # for 0 this is unbounded too
