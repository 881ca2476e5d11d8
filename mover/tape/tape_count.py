"""Where a tape stands by what was done with it: files, blocks and objects, as far as they are known.

A drive that tells its position is asked; one that does not is counted along with. What was seen once is kept: at which
object each file begins, and where the data ends.
"""

from typing import Final

from mover.tape.drive import Position

FILES_KEPT_MAX: Final = 100_000  # beginnings of files; of those behind it less is known after spacing


class TapeCount:
    """Filemarks before here, blocks since the last one, and both together; None = not known."""

    def __init__(self) -> None:
        self.file: int | None = None
        self.block: int | None = None
        self.objects: int | None = None
        self.at_end = False
        self._starts: dict[int, int] = {0: 0}
        self._end: tuple[int | None, int | None, int | None] | None = None

    @property
    def position(self) -> Position:
        return Position(self.file, self.block)

    def leave(self) -> None:
        """The tape is on its way to where only the drive can say."""
        self._leave_end()
        self.file = self.block = self.objects = None

    def forget(self, *, medium: bool = False) -> None:
        """Nobody knows where the tape stands and where its data ends, or even (``medium``) which it is."""
        self.file = self.block = self.objects = None
        self.at_end, self._end = False, None
        if medium:
            self._starts = {0: 0}

    def to_beginning(self) -> None:
        self._leave_end()
        self.file = self.block = self.objects = 0

    def by_records(self, count: int) -> None:
        """So many blocks further, or back when negative."""
        self._leave_end()
        self._add(count)

    def over_mark(self) -> None:
        """Onto the far side of the mark that is next."""
        self._leave_end()
        self._add_marks(1)

    def to_file(self, number: int | None) -> None:
        """Onto the first block of a file; None = of which is not known."""
        self._leave_end()
        self.file, self.block = number, 0
        self.objects = None if number is None else self._starts.get(number)

    def to_end_of_file(self, number: int | None) -> None:
        """In front of the mark that ends a file."""
        self._leave_end()
        self.file = number
        after = None if number is None else self._starts.get(number + 1)
        self.objects = None if after is None else after - 1
        self._find_block()

    def to_end(self, file: int | None = None) -> None:
        """To the end of the data, behind so many marks where that is known otherwise."""
        if self.at_end:
            return
        self.file, self.block, self.objects = self._end or (None, None, None)
        if self.file is None:
            self.file = file
        self.at_end = True

    def is_end(self) -> None:
        """The data has been found to end here."""
        self.at_end = True

    def wrote_records(self, count: int) -> None:
        self._cut()
        self._add(count)

    def wrote_marks(self, count: int) -> None:
        self._cut()
        self._add_marks(count)

    def told(self, objects: int, file: int | None) -> None:
        """The drive says where it stands; what it does not say may follow from what was seen."""
        if file is not None:
            self.file = file
        elif self.objects not in {None, objects}:
            self.file = self.block = None
        self.objects = objects
        if self.block == 0 and self.file is not None:
            self._keep_start(self.file)
        else:
            self._find_block()

    def file_of(self, objects: int) -> tuple[int, int]:
        """The last file known to begin at or before an object, and the object it begins at."""
        return max(
            ((number, start) for number, start in self._starts.items() if start <= objects), key=lambda found: found[1]
        )

    # --------------------------------------------------------------------------------------------------------

    def _add(self, count: int) -> None:
        if self.block is not None:
            self.block += count
        if self.objects is not None:
            self.objects += count

    def _add_marks(self, count: int) -> None:
        for _ in range(count):
            if self.file is not None:
                self.file += 1
            self.block = 0
            if self.objects is not None:
                self.objects += 1
            if self.file is not None:
                self._keep_start(self.file)

    def _find_block(self) -> None:
        start = None if self.file is None else self._starts.get(self.file)
        self.block = None if start is None or self.objects is None else self.objects - start

    def _keep_start(self, number: int) -> None:
        if self.objects is not None and (number in self._starts or len(self._starts) < FILES_KEPT_MAX):
            self._starts[number] = self.objects

    def _leave_end(self) -> None:
        if self.at_end:
            self._end = self.file, self.block, self.objects
            self.at_end = False

    def _cut(self) -> None:
        """A write ends the data here."""
        if not self.at_end:
            file = self.file
            known = self._starts.items()
            self._starts = {0: 0} if file is None else {number: start for number, start in known if number <= file}
            self.at_end = True
        self._end = None
