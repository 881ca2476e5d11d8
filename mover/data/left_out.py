"""Which inodes a backup could not read: a note in its END headers, so that a recover does not take them for lost.

The maps and directories at the head of a dump name every inode that the scan has found; what cannot be read later just
does not come. The note stands where other readers expect nothing, in c_addr of as many END headers as it needs:

| bytes | what |
| ---: | --- |
| 8 | ``_MARK`` |
| 4 | how many inodes were left out |
| 4 | how many of them earlier END headers name |
| 496 | numbers of inodes, 0 behind the last |

restore(8) takes END's c_addr for a table of first inodes by volume and believes it when its second word is 2, the root:
the second half of the mark is not.
"""

import struct
from array import array
from typing import Final

from mover.data.dump_format import Header, RecordType
from mover.data.recover_stream import RecordReader
from mover.data.stream_blocks import StreamBroken

NAMED_MAX: Final = 124 * 512  # half a MiB of END headers; what is beyond is counted only
_MARK: Final = b"moverlo1"
_NOTE: Final = struct.Struct("<8sII124I")
_PER_HEADER: Final = 124
assert _NOTE.size == 512


class LeftOut:
    """The inodes that were left out.

    Attributes:
        total: how many.
        numbers: of the first NAMED_MAX of them.
    """

    def __init__(self) -> None:
        self.total = 0
        self.numbers: array[int] = array("I")

    def add(self, inumber: int) -> None:
        """One more."""
        self.total += 1
        if len(self.numbers) < NAMED_MAX:
            self.numbers.append(inumber)

    def notes(self) -> list[bytes]:
        """What each of the first END headers has in c_addr; one with nothing where nothing was left out."""
        if not self.total:
            return [b""]
        notes = []
        for first in range(0, len(self.numbers), _PER_HEADER):
            named = self.numbers[first : first + _PER_HEADER]
            notes.append(_NOTE.pack(_MARK, self.total, first, *named, *bytes(_PER_HEADER - len(named))))
        return notes

    def explains(self, missing: set[int]) -> set[int]:
        """Those of the inodes that did not come which were left out, as far as that is certain.

        The ones beyond NAMED_MAX are known by their number alone: when exactly so many are missing, it is them.
        """
        named = missing.intersection(self.numbers)
        unnamed = self.total - len(self.numbers)
        return missing if unnamed and len(missing) - len(named) == unnamed else named


def read_left_out(reader: RecordReader, end: Header) -> LeftOut:
    """The note that begins in ``end``, the first END header, which has just been read; empty where there is none."""
    found = LeftOut()
    header = end
    while header.type == RecordType.END and header.little_endian:
        mark, total, first, *numbers = _NOTE.unpack(header.addr)
        if mark != _MARK or first != len(found.numbers) or (first and total != found.total):
            break
        found.total = total
        found.numbers.extend(numbers[: min(total, NAMED_MAX) - first])
        if len(found.numbers) >= min(total, NAMED_MAX):
            break
        try:
            header = reader.header()
        except StreamBroken:
            break  # the rest of the note is lost, so what it named counts as lost too
    return found
