"""The map of a cartridge: where every record and filemark lies, as runs of equal records, and each one's checksum.

Theory of operation
===================
A backup's tape file is one run of equal records, so the map of a full cartridge is a few numbers a tape file and
every motion is arithmetic on it: no byte of the cartridge is read to space, and residuals and block numbers are
exact in both directions. Reading still checks the length words of each record against the map, so that a map that
does not fit its file ends in an error and never in a wrong record.

The checksums cost four bytes a record; a tape whose records all differ in length takes 24 bytes a record in all. Of a
million such records the 900,000th is located and read in some 15 us, of a million equal ones in 10.
"""

from array import array
from bisect import bisect_right
from itertools import chain, islice
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
    """The records between two filemarks.

    Attributes:
        start: offset behind the mark before it, 0 for the first.
        records: their number.
        sums: the checksum of each, ``checksum.UNKNOWN`` where there is none.
    """

    __slots__ = ("_firsts", "_offsets", "_words", "records", "start", "sums")

    def __init__(self, start: int) -> None:
        self.start = start
        self.records = 0
        self.sums = array("I")
        self._words = array("I")
        self._offsets = array("Q")
        self._firsts = array("Q")  # number of the first record of the run

    @property
    def end(self) -> int:
        """Offset behind the last record."""
        if not self._words:
            return self.start
        return self._offsets[-1] + (self.records - self._firsts[-1]) * extent(self._words[-1])

    def _check_places(self) -> None:
        """Raise ValueError unless the runs lie behind each other, each of some records that have a length."""
        if not self._words:
            if self.records:
                raise ValueError(f"{self.records} records without a length")
            return
        end, first = self.start, 0
        untils = chain(islice(self._firsts, 1, None), (self.records,))
        for word, offset, begins, until in zip(self._words, self._offsets, self._firsts, untils, strict=True):
            if begins != first or until <= begins or offset < end or not word & LENGTH_BITS:
                raise ValueError(f"no records can lie at byte {offset}")
            end, first = offset + (until - begins) * extent(word), until

    def append(self, offset: int, word: int, count: int, sums: "array[int] | None" = None) -> None:
        """Add ``count`` records with this length word that lie from ``offset`` on; their checksums, None = unknown."""
        if not self._words or self._words[-1] != word or self.end != offset:
            self._words.append(word)
            self._offsets.append(offset)
            self._firsts.append(self.records)
        self.records += count
        self.sums.extend(_unknown(count) if sums is None else sums)

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
        del self._words[kept:], self._offsets[kept:], self._firsts[kept:], self.sums[block:]
        self.records = block

    def common(self, other: "TapeFile") -> int:
        """How many records, from the first one on, both have of the same lengths in the same places."""
        if self.start != other.start:
            return 0
        mine, others = self._columns(), other._columns()
        for run, (ours, theirs) in enumerate(zip(mine, others, strict=False)):
            if ours != theirs:
                same_place = ours[:3] == theirs[:3]
                return min(ours[3], theirs[3]) if same_place else self._firsts[run]
        return min(self.records, other.records)

    def _columns(self) -> list[tuple[int, int, int, int]]:
        """Word, offset, first record and the one behind the last of each run."""
        until = [*self._firsts[1:], *[self.records] * bool(self._words)]
        return list(zip(self._words, self._offsets, self._firsts, until, strict=True))

    def runs(self) -> list[tuple[int, int]]:
        """(length word, number of records) of each run, in order."""
        return [(word, end - first) for word, _, first, end in self._columns()]

    def dump(self) -> tuple[int, int, bytes, bytes, bytes, bytes]:
        """The numbers as the index keeps them."""
        columns = self._words.tobytes(), self._offsets.tobytes(), self._firsts.tobytes()
        return self.start, self.records, *columns, self.sums.tobytes()

    @classmethod
    def restore(cls, start: int, records: int, words: bytes, offsets: bytes, firsts: bytes, sums: bytes) -> "TapeFile":
        """The reverse of dump; no ``sums`` at all = unknown.

        Raises:
            ValueError: the columns do not belong together, or no records can lie so.
        """
        file = cls(start)
        file._words.frombytes(words)
        file._offsets.frombytes(offsets)
        file._firsts.frombytes(firsts)
        file.records = records
        if not len(file._words) == len(file._offsets) == len(file._firsts) <= records:
            raise ValueError("columns of different length")
        file._check_places()
        if sums and len(sums) != file.sums.itemsize * records:
            raise ValueError(f"{len(sums)} bytes of checksums of {records} records")
        if sums:
            file.sums.frombytes(sums)
        else:
            file.sums = _unknown(records)
        return file


def _unknown(count: int) -> "array[int]":
    """The checksums of records of which none is known."""
    return array("I", bytes(4 * count))


class TapeMap:
    """All tape files of a cartridge; every one but the last ends with a filemark.

    Attributes:
        end: offset of the end of recorded data.
        damage: why nothing behind ``end`` can be read although bytes lie there; "" = a good end.
        later: from and to which offset the checksums are not those of the writing but of a later reading.
    """

    def __init__(self) -> None:
        self.files = [TapeFile(0)]
        self.end = 0
        self.damage = ""
        self.later: list[tuple[int, int]] = []

    @property
    def marks(self) -> int:
        return len(self.files) - 1

    @property
    def last(self) -> TapeFile:
        return self.files[-1]

    def append_records(self, word: int, count: int, sums: "array[int]") -> None:
        """Records with these checksums were written at the end."""
        self.last.append(self.end, word, count, sums)
        self.end += count * extent(word)

    def append_marks(self, count: int) -> None:
        """Filemarks were written at the end."""
        for _ in range(count):
            self.end += 4
            self.files.append(TapeFile(self.end))

    def before(self, file_num: int, block: int) -> "TapeMap":
        """The map of what lies before this position, for reading only: it shares tape files with this one."""
        tape = TapeMap()
        last = TapeFile.restore(*self.files[file_num].dump())
        tape.files = [*self.files[:file_num], last]
        tape.later = list(self.later)
        tape.truncate(file_num, block)
        return tape

    def truncate(self, file_num: int, block: int) -> None:
        """Forget everything behind this position; what was damaged there is gone with it."""
        file = self.files[file_num]
        self.end = file.offset(block)
        file.truncate(block)
        del self.files[file_num + 1 :]
        self.damage = ""
        self._keep_later(self.end)

    def take_sums(self, other: "TapeMap") -> None:
        """Take the checksums of another map, of records that lie in the same places, up to the first difference."""
        end = 0
        for mine, its in zip(self.files, other.files, strict=False):
            same = mine.common(its)
            mine.sums[:same] = its.sums[:same]
            end = mine.offset(same)
            if not same == mine.records == its.records:
                break
        self.later = list(other.later)
        self._keep_later(end)

    def _keep_later(self, end: int) -> None:
        self.later = [(begin, min(until, end)) for begin, until in self.later if begin < end]

    def note_later(self, begin: int, end: int) -> None:
        """The checksums of what lies here were made by a reading."""
        if self.later and self.later[-1][1] == begin:
            begin = self.later.pop()[0]
        self.later.append((begin, end))

    def is_later(self, offset: int) -> bool:
        """Whether the checksum of the record here is of a later reading."""
        return any(begin <= offset < end for begin, end in self.later)

    def at_end(self, file_num: int, block: int) -> bool:
        return file_num == self.marks and block == self.last.records
