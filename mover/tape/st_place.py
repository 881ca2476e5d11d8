"""Where a tape behind the st driver stands, by our own count.

The driver's count loses the block number at every filemark it meets backwards and at the end of data, and takes a flush
for a filemark. Here a number is known as long as every motion since it was known told its length.
"""

from typing import NamedTuple

from mover.tape.drive import Position


class _End(NamedTuple):
    file: int | None
    block: int | None
    objects: int | None


class Place:
    """Where the tape stands; None = not known.

    Attributes:
        file, block: filemarks between BOT and here, blocks since the last mark.
        objects: both, since BOT.
        past_mark: the tape itself is behind the filemark in front of which it counts as standing.
        before_mark: a filemark is known to be next.
        lost: why nothing at all is known, until the tape is positioned anew; "" = it is not so.
    """

    def __init__(self, file: int | None, block: int | None, objects: int | None) -> None:
        self.file, self.block, self.objects = file, block, objects
        self.past_mark = self.before_mark = False
        self.lost = ""
        self._end: _End | None = None

    def position(self) -> Position:
        """As NDMP counts."""
        return Position(self.file, self.block)

    def lose(self, why: str) -> None:
        """Nothing is known any more, also not where the data ends: it may be another tape."""
        self.lost, self._end = why, None

    def rewound(self) -> None:
        """To BOT."""
        self.file = self.block = self.objects = 0
        self.past_mark = self.before_mark = False
        self.lost = ""

    def passed_records(self, count: int) -> None:
        """Over blocks, backwards when negative."""
        self.past_mark = self.before_mark = False
        if self.block is not None:
            self.block += count
        if self.objects is not None:
            self.objects += count

    def passed_marks(self, count: int, *, adjacent: bool = False) -> None:
        """Forward over filemarks; ``adjacent``: nothing lay between them and here."""
        self.past_mark = self.before_mark = False
        if not count:
            return
        self.block = 0
        if self.file is not None:
            self.file += count
        self.objects = self.objects + count if adjacent and self.objects is not None else None

    def backed_over_marks(self, count: int, *, adjacent: bool = False) -> None:
        """Backwards over filemarks, to the near side of the last one; ``adjacent`` as above."""
        self.past_mark = False
        self.before_mark = True
        self.block = None
        if self.file is not None:
            self.file -= count
        self.objects = self.objects - count if adjacent and self.objects is not None else None

    def stopped_at_mark(self, *, crosses: bool) -> None:
        """The tape went over a filemark that ended what was asked for."""
        if crosses:
            self.passed_marks(1, adjacent=True)
        else:
            self.past_mark = self.before_mark = True

    def wrote(self) -> None:
        """Something was written: recorded data ends here."""
        self._end = _End(self.file, self.block, self.objects)

    @property
    def at_written_end(self) -> bool:
        """Whether what was written last ended here."""
        return self._end is not None and self._end == (self.file, self.block, self.objects) and not self.past_mark

    def reached_end(self, file: int | None, objects: int | None) -> None:
        """At the end of data, found by a motion that did not count records.

        Args:
            file, objects: what is known of it otherwise.
        """
        end = self._end
        known = end is not None and end.file is not None and (file is None or file == end.file)
        self.lost = ""
        self.past_mark = self.before_mark = False
        self.file, self.block, self.objects = file, None, objects
        if known and end is not None:
            self.file, self.block = end.file, end.block
            self.objects = end.objects if objects is None else objects

    def moved_to(self, objects: int) -> None:
        """At an object that a LOCATE has found."""
        self.lost = ""
        self.past_mark = self.before_mark = False
        self.file, self.block, self.objects = (0, 0, 0) if objects == 0 else (None, None, objects)
