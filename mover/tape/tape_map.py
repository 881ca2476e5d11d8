"""The map of a cartridge: where every record and filemark lies, as runs of equal records.

Theory of operation
===================
A backup's tape file is one run of equal records, so the map of a full cartridge is a few numbers a tape file and
every motion is arithmetic on it: no byte of the cartridge is read to space, and residuals and block numbers are
exact in both directions. Reading still checks the length words of each record against the map, so that a map that
does not fit its file ends in an error and never in a wrong record.
"""

from array import array
from bisect import bisect_right
from typing import Final, NamedTuple

# SIMH .tap: the low 28 bits of a length word are the length, the top four its class.
LENGTH_BITS: Final = 0x0FFFFFFF
CLASS_BITS: Final = 0xF0000000
GOOD_RECORD: Final = 0x00000000
BAD_RECORD: Final = 0x80000000  # the drive that wrote it reported an error in it
# Filemarks of one cartridge: each costs some 350 bytes of memory, and a gigabyte of zeros would be 268 million of them.
MARKS_MAX: Final = 1 << 17


def extent(word: int) -> int:
    """Bytes that a record with this length word takes in the file: both words, data, pad of an odd length."""
    length = word & LENGTH_BITS
    return 8 + length + (length & 1)


class Place(NamedTuple):
    """Where a record lies: offset of its first length word, that word, and how many like it follow, itself included."""

    offset: int
    word: int
    run: int


class TapeFile:
    """The records between two filemarks."""

    __slots__ = ("_firsts", "_offsets", "_words", "records", "start")

    def __init__(self, start: int) -> None:
        self.start = start  # offset behind the mark before it, 0 for the first
        self.records = 0
        self._words = array("I")
        self._offsets = array("Q")
        self._firsts = array("Q")  # number of the first record of the run

    @property
    def end(self) -> int:
        """Offset behind the last record."""
        if not self._words:
            return self.start
        return self._offsets[-1] + (self.records - self._firsts[-1]) * extent(self._words[-1])

    def append(self, offset: int, word: int, count: int) -> None:
        """Add ``count`` records with this length word that lie from ``offset`` on."""
        if not self._words or self._words[-1] != word or self.end != offset:
            self._words.append(word)
            self._offsets.append(offset)
            self._firsts.append(self.records)
        self.records += count

    def place(self, block: int) -> Place:
        """Where record ``block`` lies, which must exist."""
        run = bisect_right(self._firsts, block) - 1
        first = self._firsts[run]
        until = self._firsts[run + 1] if run + 1 < len(self._firsts) else self.records
        word = self._words[run]
        return Place(self._offsets[run] + (block - first) * extent(word), word, until - block)

    def offset(self, block: int) -> int:
        """Where a record written behind ``block`` records goes."""
        return self.end if block == self.records else self.place(block).offset

    def truncate(self, block: int) -> None:
        """Forget the records from ``block`` on."""
        kept = bisect_right(self._firsts, block - 1) if block else 0
        del self._words[kept:], self._offsets[kept:], self._firsts[kept:]
        self.records = block

    def runs(self) -> list[tuple[int, int]]:
        """(length word, number of records) of each run, in order."""
        until = [*self._firsts[1:], self.records]
        return [(word, end - first) for word, first, end in zip(self._words, self._firsts, until, strict=True)]

    def dump(self) -> tuple[int, int, bytes, bytes, bytes]:
        """The numbers as the index keeps them."""
        return self.start, self.records, self._words.tobytes(), self._offsets.tobytes(), self._firsts.tobytes()

    @classmethod
    def restore(cls, start: int, records: int, words: bytes, offsets: bytes, firsts: bytes) -> "TapeFile":
        """The reverse of dump.

        Raises:
            ValueError: the three columns do not belong together.
        """
        file = cls(start)
        file._words.frombytes(words)
        file._offsets.frombytes(offsets)
        file._firsts.frombytes(firsts)
        file.records = records
        if not len(file._words) == len(file._offsets) == len(file._firsts) <= records:
            raise ValueError("columns of different length")
        return file


class TapeMap:
    """All tape files of a cartridge; every one but the last ends with a filemark.

    Attributes:
        end: offset of the end of recorded data.
        damage: why nothing behind ``end`` can be read although bytes lie there; "" = a good end.
    """

    def __init__(self) -> None:
        self.files = [TapeFile(0)]
        self.end = 0
        self.damage = ""

    @property
    def marks(self) -> int:
        return len(self.files) - 1

    @property
    def last(self) -> TapeFile:
        return self.files[-1]

    def append_records(self, word: int, count: int) -> None:
        """Records were written at the end."""
        self.last.append(self.end, word, count)
        self.end += count * extent(word)

    def append_marks(self, count: int) -> None:
        """Filemarks were written at the end."""
        for _ in range(count):
            self.end += 4
            self.files.append(TapeFile(self.end))

    def truncate(self, file_num: int, block: int) -> None:
        """Forget everything behind this position; what was damaged there is gone with it."""
        file = self.files[file_num]
        self.end = file.offset(block)
        file.truncate(block)
        del self.files[file_num + 1 :]
        self.damage = ""

    def at_end(self, file_num: int, block: int) -> bool:
        return file_num == self.marks and block == self.last.records
