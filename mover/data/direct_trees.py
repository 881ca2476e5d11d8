"""Directories with all they hold, by direct access: the head of a dump says which inodes, a search where they lie.

Theory of operation. A file history gives a directory's own offset and no more, so the dump's maps and directories are
read, as in every recover. Behind them inodes come in ascending order, and every header holds its own position: a look
at any place of the stream finds, within the 513 records that may lie between two headers, which inode is there. So
the first of a run of wanted inodes is found by halving what lies between the last run and the nearest place where a
higher inode was seen; what is near is read over. A stream whose headers do not hold their positions is read in order.
"""

from bisect import bisect_left, insort
from typing import Final

from mover.data.dump_format import HEADER_RECORDS_MAX, RECORD_BYTES, FormatError, Header, RecordType, parse_header
from mover.data.pieces import Pieces
from mover.data.recover_catalogue import Catalogue
from mover.data.recover_files import FileRecoverer
from mover.data.recover_plan import BEYOND, Plan
from mover.data.recover_report import RecoverReport
from mover.data.recover_stream import RecordReader, is_map
from mover.data.tree_writer import TreeWriter

NEAR_BYTES: Final = 1 << 20  # nearer than this reading on is as quick as looking
_GAP_MAX: Final = 32  # inodes that are looked at one by one, which is quicker than a look at the stream
_RECORDS_BETWEEN_HEADERS: Final = HEADER_RECORDS_MAX + 1


class DirectTrees:
    """Makes what a plan wants out of pieces of a stream of known length.

    Args:
        reader: of ``pieces``, at the first header behind the directories.
    """

    def __init__(
        self,
        pieces: Pieces,
        reader: RecordReader,
        catalogue: Catalogue,
        plan: Plan,
        writer: TreeWriter,
        report: RecoverReport,
    ) -> None:
        assert pieces.end is not None
        self._pieces = pieces
        self._reader = reader
        self._plan = plan
        self._writer = writer
        self._report = report
        self._catalogue = catalogue
        self._first = catalogue.first
        self._low = reader.offset  # a header that lies before everything wanted from here on
        self._end = pieces.end
        self._seen = [(BEYOND, pieces.end)]  # (inode, offset): no header of a lower inode lies behind it
        self._recoverer: FileRecoverer | None = None

    def path_at_hand(self) -> bytes:
        """The path made last; b"" before the first."""
        return self._recoverer.path_at_hand() if self._recoverer is not None else b""

    def run(self) -> list[int]:
        """Make everything.

        Returns:
            The plan's entries that never came.

        Raises:
            StreamBroken, StreamRefused, DestinationLost: as FileRecoverer.run; call ``abandon`` then.
        """
        missing: list[int] = []
        for first, last in self._runs():
            self._low = self._find(self._plan.inumbers[first])
            self._pieces.go_to(self._reader, self._low)
            recoverer = FileRecoverer(
                self._reader, self._plan.part(first, last), self._writer, self._report, ascending=True
            )
            self._recoverer = recoverer
            recoverer.run()
            missing += [first + at for at in recoverer.missing()]
            if recoverer.end is not None:
                missing += range(last, len(self._plan.names) - 1)
                break
            self._low = self._reader.offset
        return missing

    def abandon(self) -> None:
        """The stream ended too early: what was being made is incomplete."""
        if self._recoverer is not None:
            self._recoverer.abandon()

    def find_end(self) -> Header:
        """The dump's first END header, which has just been read.

        Raises:
            StreamBroken, StreamRefused: as the reader does.
        """
        reader = self._reader
        self._pieces.go_to(reader, self._find(BEYOND - 1))
        while (header := reader.header()).type != RecordType.END:
            reader.skip(header.records if is_map(header) else header.data_records)
        return header

    def _runs(self) -> list[tuple[int, int]]:
        """Entries [first, last) with nothing else between them in the stream, as far as its map tells."""
        inumbers = self._plan.inumbers
        runs: list[tuple[int, int]] = []
        first = 0
        for at in range(1, len(inumbers)):
            if self._lies_between(inumbers[at - 1], inumbers[at]):
                runs.append((first, at))
                first = at
        return runs  # the sentinel follows nothing

    def _lies_between(self, inumber: int, following: int) -> bool:
        """Whether there may be an object of another inode between two; directories lie in front of all of them."""
        if following - inumber > _GAP_MAX:
            return True
        catalogue = self._catalogue
        return any(
            each not in catalogue.directories and catalogue.contains(each) for each in range(inumber + 1, following)
        )

    def _find(self, inumber: int) -> int:
        """Offset of a header that lies before this inode's or is it, and is not far."""
        low, high = self._low, self._seen[bisect_left(self._seen, (inumber, 0))][1]
        middle = low + NEAR_BYTES  # mostly it is not far
        while high - low > NEAR_BYTES:
            found = self._look(middle)
            if found is None:
                return low
            at, there = found
            if there < inumber:
                low = at
            else:
                high = middle
                insort(self._seen, (there, middle))
            middle = (low + high) // 2 // RECORD_BYTES * RECORD_BYTES
        return low

    def _look(self, offset: int) -> tuple[int, int] | None:
        """The first header at or behind an offset, and its inode; None = there is none where one should be."""
        reader = self._reader
        self._pieces.go_to(reader, offset)
        for _ in range(_RECORDS_BETWEEN_HEADERS):
            at = reader.offset
            if at >= self._end:
                return at, BEYOND
            with reader.take(1) as record:
                try:
                    header = parse_header(record)
                except FormatError:
                    continue  # content of a file
            if header.tapea != at // RECORD_BYTES & 0xFFFF_FFFF:
                continue  # a dump that is a file of this one
            if (header.date, header.label) != (self._first.date, self._first.label):
                continue  # or a file that was made to look like more of it
            if header.type in {RecordType.INODE, RecordType.ADDR}:
                return at, header.inumber
            if header.type == RecordType.END:
                return at, BEYOND
        return None
