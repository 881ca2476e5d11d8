"""Maps of sparse files in a tar stream: GNU's four forms, each checked before anything is written by it.

A map is an array of offset and length, range after range, as the ranges' bytes follow each other in the stream.

Source: GNU tar manual, "Storing Sparse Files".
"""

import re
from array import array
from typing import Final

from mover.data.tar_format import BLOCK_BYTES, FormatError
from mover.data.tar_headers import SIZE_MAX, number

SEGMENTS_MAX: Final = 1 << 21
_OLD_AT: Final = 386
_OLD_ENTRIES: Final = 4
_OLD_EXTENDED: Final = 482
_OLD_SIZE: Final = slice(483, 495)
_MORE_ENTRIES: Final = 21
_MORE_EXTENDED: Final = 504
_FIELD_BYTES: Final = 12
_NUMBERS: Final = re.compile(rb"[0-9]{1,20}(?:,[0-9]{1,20})*")


def checked(segments: "array[int]", size: int, stored: int) -> "array[int]":
    """The same map, if it can be one of a file of ``size`` bytes with ``stored`` bytes in the stream.

    Raises:
        FormatError: ranges that overlap, run backwards, lie outside or are another number of bytes.
    """
    end = total = 0
    for at in range(0, len(segments) - 1, 2):
        offset, length = segments[at], segments[at + 1]
        if offset < end:
            raise FormatError("a map of holes whose ranges overlap or are out of order")
        end = offset + length
        total += length
    if len(segments) % 2 or end > size:
        raise FormatError("a map of holes that leads out of the file")
    if total != stored:
        raise FormatError(f"a map of holes for {total} bytes of content where {stored} are")
    return segments


def _add(segments: "array[int]", *values: int) -> None:
    if len(segments) >= 2 * SEGMENTS_MAX:
        raise FormatError(f"a map of more than {SEGMENTS_MAX} ranges")
    if not all(0 <= value <= SIZE_MAX for value in values):
        raise FormatError("a map of holes with a number that is too large")
    segments.extend(values)


def _add_old(segments: "array[int]", block: bytes, at: int, entries: int) -> None:
    for entry in range(at, at + entries * 2 * _FIELD_BYTES, 2 * _FIELD_BYTES):
        middle, end = entry + _FIELD_BYTES, entry + 2 * _FIELD_BYTES
        if not block[middle]:  # a length that is not there: the end of the list
            return
        _add(segments, number(block[entry:middle], "map of holes"), number(block[middle:end], "map of holes"))


def old_map(segments: "array[int]", block: bytes) -> int:
    """Add what the header of a GNU sparse member holds; its real size."""
    size = number(block[_OLD_SIZE], "real size")
    if not 0 <= size <= SIZE_MAX:
        raise FormatError(f"a real size of {size} bytes")
    _add_old(segments, block, _OLD_AT, _OLD_ENTRIES)
    return size


def more_of_old_map(segments: "array[int]", block: bytes) -> None:
    """Add what a further block of such a map holds."""
    _add_old(segments, block, 0, _MORE_ENTRIES)


def is_continued(block: bytes, *, header: bool) -> bool:
    """Whether another block of an old map follows a header, or one of the further blocks."""
    return block[_OLD_EXTENDED if header else _MORE_EXTENDED] not in {0, 0x30}


def add_record(segments: "array[int]", value: bytes) -> None:
    """Add a GNU.sparse.offset or GNU.sparse.numbytes of format 0.0."""
    if not _NUMBERS.fullmatch(value) or b"," in value:
        raise FormatError(f"{value[:40]!r} in a map of holes")
    _add(segments, int(value))


def map_of_text(value: bytes) -> "array[int]":
    """A GNU.sparse.map of format 0.1."""
    segments: array[int] = array("Q")
    if not value:
        return segments
    if value.count(b",") >= 2 * SEGMENTS_MAX or not _NUMBERS.fullmatch(value):
        raise FormatError("a map of holes that is none")
    numbers = [int(text) for text in value.split(b",")]
    _add(segments, *numbers)
    return segments


class LeadingMap:
    """A map of format 1.0, which precedes the content: lines of decimal numbers, block by block.

    Attributes:
        segments: what has come so far.
    """

    def __init__(self) -> None:
        self.segments: array[int] = array("Q")
        self._left = -1  # numbers still to come; -1 = their count comes first
        self._rest = b""

    def feed(self, block: bytes) -> bool:
        """Take a block; True when a further one is needed.

        Raises:
            FormatError: what cannot be a map.
        """
        assert len(block) == BLOCK_BYTES
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if not self._left:
                break  # padding
            if not line.isdigit() or len(line) > 20:
                raise FormatError("a map of holes that is none")
            if self._left < 0:
                self._left = 2 * int(line)
                if self._left > 2 * SEGMENTS_MAX:
                    raise FormatError(f"a map of {int(line)} ranges")
            else:
                _add(self.segments, int(line))
                self._left -= 1
        if self._left and len(self._rest) > 20:
            raise FormatError("a map of holes that is none")
        return self._left != 0
