"""The three blocks in front of a usual small file in a stream of ours, read at a glance.

They are the extended header, which is the same for all of them, its records, which are three times and nothing else,
and the header proper, of which all behind the checksum is the same within a directory. What is not exactly like that
is left to :class:`MemberReader`, which is complete by itself.
"""

from typing import Final, NamedTuple
from zlib import adler32

from mover.data.tar_format import (
    BLOCK_BYTES,
    MAGIC,
    NAME_BYTES,
    OFFSET_LINK,
    OFFSET_MAGIC,
    OFFSET_PREFIX,
    OFFSET_TYPE,
    PREFIX_BYTES,
    REGULAR,
)

HEAD_BYTES: Final = 3 * BLOCK_BYTES
TIMES_BYTES: Final = 90  # of records: "30 mtime=SSSSSSSSSS.NNNNNNNNN\n", the same with atime and ctime
_HEADER: Final = 2 * BLOCK_BYTES
_TAIL: Final = _HEADER + OFFSET_TYPE
_LINK: Final = slice(OFFSET_LINK - OFFSET_TYPE, OFFSET_MAGIC - OFFSET_TYPE)
_MAGIC: Final = slice(OFFSET_MAGIC - OFFSET_TYPE, OFFSET_MAGIC - OFFSET_TYPE + len(MAGIC))
_DEVICE: Final = slice(329 - OFFSET_TYPE, OFFSET_PREFIX - OFFSET_TYPE)
_PREFIX: Final = slice(OFFSET_PREFIX - OFFSET_TYPE, OFFSET_PREFIX - OFFSET_TYPE + PREFIX_BYTES)
_NO_DEVICE: Final = b"0000000\0" * 2
_BLANKS: Final = 8 * 0x20  # for which the checksum counts itself
_SPECIAL_NAMES: Final = frozenset({b"", b".", b".."})


class SmallFile(NamedTuple):
    """What is different from file to file."""

    name: bytes  # one component
    size: int
    atime_ns: int
    mtime_ns: int


class SmallHeads:
    """Reads heads; what most of them share is remembered.

    Attributes:
        prefix: path of the directory of the file read last.
        mode, uid, gid: of that file.
    """

    def __init__(self) -> None:
        self.prefix = b""
        self.mode = self.uid = self.gid = 0
        self._tail = b""
        self._tail_sum = 0
        self._is_plain = False
        self._owner = b""

    def read(self, view: memoryview, at: int, extended: bytes) -> SmallFile | None:
        """The head at a place; None = another kind of member, or a damaged one.

        Args:
            extended: the block with which such a head begins, of a checksum that was seen to be good.
        """
        blocks = bytes(view[at : at + HEAD_BYTES])
        if not blocks.startswith(extended):
            return None
        tail = blocks[_TAIL:]
        if tail != self._tail:
            self._look_at(tail)
        if not self._is_plain:
            return None
        numbers = blocks[_HEADER + NAME_BYTES : _HEADER + 148]
        name = blocks[_HEADER : _HEADER + NAME_BYTES].rstrip(b"\0")
        try:
            # Adler's first half is one more than the sum of the bytes, as long as that is below 65,520: here it is.
            total = (adler32(blocks[_HEADER : _HEADER + 148]) & 0xFFFF) - 1 + _BLANKS + self._tail_sum
            if total != int(blocks[_HEADER + 148 : _HEADER + 154], 8):
                return None
            if numbers[:24] != self._owner:
                self.mode, self.uid, self.gid = int(numbers[:7], 8), int(numbers[8:15], 8), int(numbers[16:23], 8)
                self._owner = numbers[:24]
            if (
                blocks[512:521] != b"30 mtime="
                or blocks[542:551] != b"30 atime="
                or blocks[572:581] != b"30 ctime="
                or b"/" in name
                or b"\0" in name
                or name in _SPECIAL_NAMES
            ):
                return None
            return SmallFile(
                name,
                int(numbers[24:35], 8),
                int(blocks[551:561] + blocks[562:571]),
                int(blocks[521:531] + blocks[532:541]),
            )
        except ValueError:
            return None

    def _look_at(self, tail: bytes) -> None:
        self._tail = tail
        self._tail_sum = sum(tail)
        self.prefix = tail[_PREFIX].rstrip(b"\0")
        self._is_plain = (
            tail[:1] == REGULAR
            and not any(tail[_LINK])
            and tail[_MAGIC] == MAGIC
            and tail[_DEVICE] == _NO_DEVICE  # a device, or a file of several names
            and bool(self.prefix)
            and b"\0" not in self.prefix
        )
